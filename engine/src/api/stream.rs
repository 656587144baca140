//! Reading an object in order, from memory, while it downloads.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use crate::api::reader::block_on;
use crate::disk::storage::window::Window;
use crate::driver::shared::Shared;
use crate::model::error::Error;

/// The bytes of an object in order, from [`crate::DownloadBuilder::stream`]:
/// fetched over several connections, kept in memory only until they are taken,
/// and never on a disk.
///
/// A slow reader slows the download: at most
/// [`crate::DownloadBuilder::window_bytes`] are fetched ahead of it. Every byte
/// came in a validated response. The end comes only after the digests of the
/// whole object were compared. A digest that differs is an error instead of the
/// end, when the bytes are already out. So trust the bytes only once you have
/// seen the end.
///
/// Bytes that were given out cannot be taken back. If the download must start
/// over, it goes on only if the object is provably the same (a strong
/// validator, RFC 9110 section 8.8.1), and skips those bytes. Otherwise it
/// fails with [`ErrorKind::ObjectChanged`](crate::ErrorKind::ObjectChanged).
///
/// It is also an [`AsyncRead`] and a [`Stream`], so it can be the body of a response; the stream
/// ends after an error. Dropping it before the end stops the download with
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
///
/// ```no_run
/// # async fn example(engine: &haul_engine::Engine) -> Result<(), haul_engine::Error> {
/// # fn consume(_: &[u8]) {}
/// let (download, mut stream) = engine.download("https://example.org/film.tar").stream()?;
/// while let Some(bytes) = stream.next().await? {
///     consume(&bytes);
/// }
/// println!("{} bytes", download.wait().await?.bytes);
/// # Ok(())
/// # }
/// ```
pub struct ByteStream {
    shared: Arc<Shared>,
    window: Arc<Window>,
    /// For `AsyncRead`: what was taken but not yet read.
    rest: Bytes,
    next: Option<Pending>,
    /// For `Stream`: whether it gave out the error that ended the download.
    failed: bool,
}

type Pending = Pin<Box<dyn Future<Output = Result<Option<Bytes>, Error>> + Send + Sync>>;

impl std::fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByteStream").field("position", &self.position()).finish_non_exhaustive()
    }
}

impl ByteStream {
    pub(crate) fn new(shared: Arc<Shared>, window: Arc<Window>) -> Self {
        Self { shared, window, rest: Bytes::new(), next: None, failed: false }
    }

    /// How many bytes were given out.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.window.given() - self.rest.len() as u64
    }

    /// The next bytes, up to 256 KiB of those that are available; `None` at the
    /// end. May be dropped and called again.
    ///
    /// # Errors
    /// Whatever ended the download.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        self.next = None;
        next(&self.shared, &self.window).await
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        let pending = self.next.get_or_insert_with(|| {
            let (shared, window) = (Arc::clone(&self.shared), Arc::clone(&self.window));
            Box::pin(async move { next(&shared, &window).await })
        });
        let bytes = ready!(pending.as_mut().poll(cx));
        self.next = None;
        Poll::Ready(bytes)
    }

    /// As `next`, for code that is not asynchronous. It blocks: call it on a
    /// thread of its own, never on a thread of the runtime that downloads.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn next_blocking(&mut self) -> Result<Option<Bytes>, Error> {
        block_on(self.next())
    }
}

async fn next(shared: &Shared, window: &Window) -> Result<Option<Bytes>, Error> {
    let look = || match window.take() {
        Some(taken) => {
            if taken.step {
                shared.control.poke();
            }
            Some(Ok(Some(taken.bytes)))
        }
        None => shared.contents.ended().map(|ended| ended.map(|()| None)),
    };
    shared.contents.alarm().wait(look).await
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        self.window.abandon();
        self.shared.control.poke();
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.rest))));
        }
        if self.failed {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_bytes(cx)).transpose();
        self.failed = matches!(item, Some(Err(_)));
        Poll::Ready(item)
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.rest.is_empty() {
            let Some(bytes) = ready!(this.poll_bytes(cx)).map_err(io::Error::other)? else {
                return Poll::Ready(Ok(()));
            };
            this.rest = bytes;
        }
        let given = this.rest.split_to(this.rest.len().min(buffer.remaining()));
        buffer.put_slice(&given);
        Poll::Ready(Ok(()))
    }
}
