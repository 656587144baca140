//! Reading a remote object without downloading it.
//!
//! A read that no part in memory can answer fetches one: a small one after a seek, and larger ones
//! while reads are consecutive. Each part is a download of its own, with the usual retries and
//! checks, and must be of the version that was opened. The latest parts are kept, for formats whose
//! readers step back a little.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use crate::api::download::DownloadBuilder;
use crate::driver::observer::Observers;
use crate::driver::options::cannot_go_together;
use crate::model::config::Connections;
use crate::model::error::{Error, ErrorKind};
use crate::model::event::{Metadata, ValidatorKind};
use crate::model::range::ByteRange;
use crate::model::selection::Selection;

/// The least that is fetched, and the alignment of parts.
const MIN_PART_BYTES: u64 = 64 << 10;
/// The most that is fetched at once, when reads are consecutive.
const MAX_PART_BYTES: u64 = 1 << 20;
/// How many parts are kept.
const KEPT_PARTS: usize = 4;

/// Reads a remote object without downloading it, from [`crate::Engine::open`]: only the bytes that
/// are read are fetched, with a read-ahead of 64 KiB after a seek that grows to 1 MiB while reads
/// are consecutive. At most 4 MiB are held. Nothing is written.
///
/// All bytes are of one version of the object: if a later response shows another validator or size,
/// reading fails with [`ErrorKind::ObjectChanged`]. An error is the source of the [`io::Error`]
/// that a read returns.
///
/// ```no_run
/// use std::io::SeekFrom;
/// use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
///
/// # async fn example(engine: &haul_engine::Engine) -> Result<(), Box<dyn std::error::Error>> {
/// let mut archive = engine.open("https://example.org/films.zip").await?;
/// let mut end = Vec::new();
/// archive.seek(SeekFrom::End(-22)).await?;
/// archive.read_to_end(&mut end).await?;
/// println!("{} of {} bytes fetched", archive.fetched_bytes(), archive.total_bytes());
/// # Ok(())
/// # }
/// ```
///
/// A clone starts at the original's position and moves independently of it.
pub struct RemoteReader {
    object: Arc<Object>,
    /// The offset of the next byte to give out.
    position: u64,
    /// The latest parts, the newest at the end.
    parts: VecDeque<Part>,
    fetching: Option<(ByteRange, Fetching)>,
}

type Fetching = Pin<Box<dyn Future<Output = Result<Part, Error>> + Send + Sync>>;

struct Object {
    builder: DownloadBuilder,
    metadata: Metadata,
    total_bytes: u64,
    fetched_bytes: AtomicU64,
}

#[derive(Clone)]
struct Part {
    range: ByteRange,
    bytes: Arc<Vec<u8>>,
}

impl fmt::Debug for RemoteReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteReader")
            .field("position", &self.position)
            .field("total_bytes", &self.object.total_bytes)
            .finish_non_exhaustive()
    }
}

impl Clone for RemoteReader {
    fn clone(&self) -> Self {
        let (object, parts) = (Arc::clone(&self.object), self.parts.clone());
        Self { object, position: self.position, parts, fetching: None }
    }
}

impl DownloadBuilder {
    /// Opens the object for reading without downloading all of it: see [`RemoteReader`]. Waits for
    /// the first response, which may take several tries, as in every download. Options about files
    /// have no effect, and observers are told nothing.
    ///
    /// # Errors
    /// As [`DownloadBuilder::start`], and whatever the first request meets: a server without
    /// ranges, one that does not tell the size, or one that tells neither a strong entity tag nor a
    /// date by which parts could be compared, is [`crate::ErrorKind::Protocol`].
    /// [`crate::ErrorKind::InvalidInput`] with options that concern the whole object or a file:
    /// range, checksum, pieces, sizes, [`Self::if_changed`] and [`Self::store_in`].
    ///
    /// # Panics
    /// As [`DownloadBuilder::start`].
    pub async fn open(mut self) -> Result<RemoteReader, Error> {
        let options = &self.options;
        let of_the_whole = [
            ("range", options.range.is_some()),
            ("checksum", options.checksum.is_some()),
            ("pieces", options.pieces.is_some()),
            ("expected_size_bytes", options.expected_size_bytes.is_some()),
            ("max_size_bytes", options.max_size_bytes.is_some()),
            ("if_changed", options.if_changed),
            ("store_in", self.attached.storage.is_some()),
        ];
        if let Some((name, _)) = of_the_whole.iter().find(|(_, given)| *given) {
            return Err(cannot_go_together(name, "open, which reads parts of the object"));
        }
        self.attached.observers = Observers::default();
        RemoteReader::open(self).await
    }

    /// Fetches a part of the object, or all of it if `part` is `None`, with its metadata.
    async fn part(mut self, part: Option<Selection>) -> Result<(Vec<u8>, Metadata), Error> {
        self.options.range = part;
        self.bytes_and_metadata(usize::MAX).await
    }
}

impl RemoteReader {
    /// Fetches the first part, which tells what the object is.
    async fn open(mut builder: DownloadBuilder) -> Result<Self, Error> {
        builder.options.connections = Connections::Fixed(1);
        let first = Selection::between(ByteRange::new(0, MIN_PART_BYTES));
        let (bytes, metadata) = match builder.clone().part(Some(first)).await {
            // An empty object has no range.
            Err(error) if error.http_status() == Some(416) => {
                builder.clone().max_size_bytes(MIN_PART_BYTES).part(None).await?
            }
            first => first?,
        };
        let total_bytes = metadata.object_bytes.ok_or_else(|| {
            Error::new(ErrorKind::Protocol, "the server does not tell the size of the object")
                .with_hint("download it, or read it in order with stream()")
        })?;
        let first = Part::new(0, bytes);
        let is_told =
            matches!(metadata.validator, ValidatorKind::StrongEtag | ValidatorKind::LastModified);
        if first.range.len() < total_bytes && !is_told {
            let message = "the server tells no version of the object, neither by a strong ETag \
                           nor by a Last-Modified: its parts could be of different ones";
            return Err(Error::new(ErrorKind::Protocol, message)
                .with_hint("download it, or read it in order with stream()"));
        }
        let object = Object {
            builder,
            metadata: Metadata { total_bytes: Some(total_bytes), ..metadata },
            total_bytes,
            fetched_bytes: AtomicU64::new(first.range.len()),
        };
        let parts = VecDeque::from([first]);
        Ok(Self { object: Arc::new(object), position: 0, parts, fetching: None })
    }

    /// What is known about the object.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.object.metadata
    }

    /// The object's size in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.object.total_bytes
    }

    /// The offset of the next byte to read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes of the object were fetched, by this reader and its clones.
    #[must_use]
    pub fn fetched_bytes(&self) -> u64 {
        self.object.fetched_bytes.load(Ordering::Relaxed)
    }

    /// What to fetch for the byte at the position: twice as much as the part that ends there, or
    /// the minimum.
    fn missing(&self) -> ByteRange {
        let before = self.parts.iter().rfind(|part| part.range.end() == self.position);
        let (mut start, len) = match before {
            Some(part) => (self.position, (part.range.len() * 2).min(MAX_PART_BYTES)),
            None => (self.position - self.position % MIN_PART_BYTES, MIN_PART_BYTES),
        };
        let mut end = (start + len).min(self.object.total_bytes);
        for Part { range, .. } in &self.parts {
            if range.end() <= self.position {
                start = start.max(range.end());
            } else {
                end = end.min(range.start());
            }
        }
        ByteRange::new(start, end)
    }
}

impl Part {
    fn new(start: u64, bytes: Vec<u8>) -> Self {
        let range = ByteRange::new(start, start + bytes.len() as u64);
        Self { range, bytes: Arc::new(bytes) }
    }
}

async fn fetch(object: Arc<Object>, range: ByteRange) -> Result<Part, Error> {
    let selection = Selection::between(range);
    let (bytes, metadata) = object.builder.clone().part(Some(selection)).await?;
    let known = &object.metadata;
    let is_same_version = (metadata.validator, &metadata.etag, metadata.last_modified)
        == (known.validator, &known.etag, known.last_modified);
    if metadata.object_bytes != Some(object.total_bytes) || !is_same_version {
        let message = format!("{} changed while it was read", known.url);
        return Err(Error::new(ErrorKind::ObjectChanged, message).with_hint("open it again"));
    }
    let part = Part::new(range.start(), bytes);
    object.fetched_bytes.fetch_add(part.range.len(), Ordering::Relaxed);
    Ok(part)
}

impl AsyncRead for RemoteReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 || this.position >= this.object.total_bytes {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(part) = this.parts.iter().find(|part| part.range.contains(this.position)) {
                let rest = &part.bytes[(this.position - part.range.start()) as usize..];
                let given = rest.len().min(buffer.remaining());
                buffer.put_slice(&rest[..given]);
                this.position += given as u64;
                return Poll::Ready(Ok(()));
            }
            // A fetch for another position is no longer wanted.
            let position = this.position;
            let fetching = match this.fetching.take() {
                Some(fetching) if fetching.0.contains(position) => fetching,
                _ => {
                    let range = this.missing();
                    (range, Box::pin(fetch(Arc::clone(&this.object), range)) as Fetching)
                }
            };
            let part = ready!(this.fetching.insert(fetching).1.as_mut().poll(cx));
            this.fetching = None;
            let part = part.map_err(io::Error::other)?;
            if !part.range.contains(position) {
                let why = "the server sent fewer bytes than it told";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
            }
            if this.parts.len() == KEPT_PARTS {
                this.parts.pop_front();
            }
            this.parts.push_back(part);
        }
    }
}

impl AsyncSeek for RemoteReader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.object.total_bytes.checked_add_signed(by),
        };
        self.position = position.ok_or_else(super::reader::before_start)?;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}
