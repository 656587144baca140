//! Reading an object while it downloads.

use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::thread::{self, Thread};

use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use crate::driver::contents::Found;
use crate::driver::shared::Shared;
use crate::model::error::Error;

/// How much each reader reads from the file at once, and holds.
const PIECE_BYTES: u64 = 128 << 10;

/// Reads the object of a download, from [`crate::Download::reader`], while it is
/// being fetched and afterwards.
///
/// A byte can be read once it came in a validated response and is stored in the
/// file. Reading a missing byte waits for it and has it fetched before
/// everything else; what follows it comes next, in order. So the download
/// follows a reader that seeks, and all of several readers. The rest is fetched
/// over the connections that readers leave free.
///
/// Each reader holds at most 128 KiB. It does not keep the download going: when
/// the download is dropped or cancelled, or fails, reads fail with its error
/// ([`Error`](crate::Error) as the source of the [`io::Error`]). Once the file
/// is published, readers go on even without the [`crate::Download`].
///
/// When the object changes on the server and the download starts over, a reader
/// that had read anything fails with
/// [`ErrorKind::ObjectChanged`](crate::ErrorKind::ObjectChanged): it never mixes
/// two versions.
/// What was read of an incomplete download was proven part by part, not as a
/// whole: a digest of the whole is compared at the end, and
/// [`crate::Download::wait`] says whether it matched.
///
/// While a download is paused, reads of missing bytes wait. If the server has
/// no ranges, or does not tell the size, bytes come in order only.
///
/// ```no_run
/// use std::io::SeekFrom;
/// use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
///
/// # async fn example(engine: &haul_engine::Engine) -> Result<(), Box<dyn std::error::Error>> {
/// let download = engine.download("https://example.org/film.mp4").start()?;
/// let mut reader = download.reader();
/// let mut end = Vec::new();
/// reader.seek(SeekFrom::End(-1024)).await?;
/// reader.read_to_end(&mut end).await?; // long before the rest is here
/// download.wait().await?;
/// # Ok(())
/// # }
/// ```
///
/// A clone starts at the original's position and moves independently of it.
pub struct Reader {
    registration: Registration,
    /// The offset of the next byte to give out.
    position: u64,
    /// The version of the object that is read; set by the first piece.
    version: Option<u64>,
    piece: Vec<u8>,
    /// How many bytes of the piece were given out.
    taken: usize,
    next: Option<Pending<io::Result<Piece>>>,
    /// A seek from an end that is not known yet.
    seeking: Option<(i64, Pending<io::Result<u64>>)>,
    /// Whether the caller's thread may block.
    blocking: bool,
}

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;

/// Some bytes of a version; none at its end.
struct Piece {
    version: u64,
    bytes: Vec<u8>,
}

/// A reader as the driver knows it.
struct Registration {
    shared: Arc<Shared>,
    id: u64,
}

impl Registration {
    fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), id: shared.control.new_reader() }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.control.left(self.id);
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Clone for Reader {
    fn clone(&self) -> Self {
        Self {
            position: self.position,
            version: self.version,
            blocking: self.blocking,
            ..Self::new(&self.registration.shared)
        }
    }
}

impl Reader {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            registration: Registration::new(shared),
            position: 0,
            version: None,
            piece: Vec::new(),
            taken: 0,
            next: None,
            seeking: None,
            blocking: false,
        }
    }

    /// The offset of the next byte to read.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The same reader for code that is not asynchronous. Its calls block: use
    /// it on a thread of its own, never on a thread of the runtime that
    /// downloads.
    ///
    /// ```no_run
    /// use std::io::Read as _;
    ///
    /// # async fn example(engine: &haul_engine::Engine) -> Result<(), Box<dyn std::error::Error>> {
    /// let download = engine.download("https://example.org/film.mp4").start()?;
    /// let mut reader = download.reader().into_blocking();
    /// let first = std::thread::spawn(move || {
    ///     let mut magic = [0; 8];
    ///     reader.read_exact(&mut magic).map(|()| magic)
    /// });
    /// download.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn into_blocking(self) -> BlockingReader {
        BlockingReader(Self { blocking: true, next: None, seeking: None, ..self.clone() })
    }

    fn go_to(&mut self, position: u64) {
        let ahead = position.checked_sub(self.position).and_then(|by| usize::try_from(by).ok());
        match ahead.filter(|by| *by <= self.piece.len() - self.taken) {
            Some(by) => self.taken += by,
            None => {
                self.piece.clear();
                self.taken = 0;
                // The pending piece is no longer wanted.
                self.next = None;
            }
        }
        if position != self.position {
            self.next = None;
        }
        self.position = position;
    }

    fn next_piece(&mut self) -> Pending<io::Result<Piece>> {
        let mut buffer = std::mem::take(&mut self.piece);
        self.taken = 0;
        buffer.clear();
        let shared = Arc::clone(&self.registration.shared);
        let (id, version) = (self.registration.id, self.version);
        Box::pin(piece(shared, id, version, self.position, buffer, self.blocking))
    }
}

/// Waits for the bytes at `position` and reads them.
async fn piece(
    shared: Arc<Shared>,
    id: u64,
    version: Option<u64>,
    position: u64,
    mut buffer: Vec<u8>,
    blocking: bool,
) -> io::Result<Piece> {
    loop {
        let found = match shared.contents.look(version, position) {
            Some(found) => found,
            None => {
                let _waits = Waits::new(&shared, id, position);
                shared.contents.alarm().wait(|| shared.contents.look(version, position)).await
            }
        };
        let (storage, crew, version, end) = match found.map_err(io_error)? {
            Found::End { version } => return Ok(Piece { version, bytes: Vec::new() }),
            Found::Bytes { storage, crew, version, end } => (storage, crew, version, end),
        };
        shared.control.reads(id, position);
        let wanted = (end - position).min(PIECE_BYTES) as usize;
        buffer.resize(wanted, 0);
        let read = move || {
            let read = storage.read_at(position, &mut buffer);
            (read, buffer)
        };
        let read = if blocking { Some(read()) } else { crew.blocking(read).await };
        let (read, mut bytes) = read.ok_or_else(|| io_error(Error::lost()))?;
        // Only now is it certain that no other version was stored there meanwhile.
        if shared.contents.still_is(version) {
            let read = read?;
            if read == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file was truncated by another program while it was downloaded",
                ));
            }
            bytes.truncate(read);
            return Ok(Piece { version, bytes });
        }
        buffer = bytes;
    }
}

/// The object's size, once it is known.
async fn total_bytes(shared: Arc<Shared>) -> io::Result<u64> {
    let object = shared.contents.opened().await.map_err(io_error)?;
    object.total_bytes.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "nothing can be found from the end of an object whose size is not known",
        )
    })
}

/// While this exists, the driver knows that a reader waits.
struct Waits<'a> {
    shared: &'a Shared,
    id: u64,
    position: u64,
}

impl<'a> Waits<'a> {
    fn new(shared: &'a Shared, id: u64, position: u64) -> Self {
        shared.control.waits(id, position);
        Self { shared, id, position }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.shared.control.reads(self.id, self.position);
    }
}

fn io_error(error: Error) -> io::Error {
    io::Error::other(error)
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.taken == this.piece.len() {
            let mut next = match this.next.take() {
                Some(next) => next,
                None => this.next_piece(),
            };
            let Poll::Ready(piece) = next.as_mut().poll(cx) else {
                this.next = Some(next);
                return Poll::Pending;
            };
            let piece = piece?;
            this.version = Some(piece.version);
            this.piece = piece.bytes;
            this.taken = 0;
        }
        let rest = &this.piece[this.taken..];
        let given = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..given]);
        this.taken += given;
        this.position += given as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for Reader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        self.seeking = None;
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => {
                self.seeking =
                    Some((by, Box::pin(total_bytes(Arc::clone(&self.registration.shared)))));
                return Ok(());
            }
        };
        self.go_to(position.ok_or_else(before_start)?);
        Ok(())
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        if let Some((by, total)) = &mut self.seeking {
            let by = *by;
            let total = ready!(total.as_mut().poll(cx));
            self.seeking = None;
            self.go_to(total?.checked_add_signed(by).ok_or_else(before_start)?);
        }
        Poll::Ready(Ok(self.position))
    }
}

pub(super) fn before_start() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a position before the start of the object")
}

/// A [`Reader`] for code that blocks, from [`Reader::into_blocking`].
#[derive(Debug, Clone)]
pub struct BlockingReader(Reader);

impl Read for BlockingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        let read = |cx: &mut Context<'_>| Pin::new(&mut self.0).poll_read(cx, &mut buffer);
        block_on(std::future::poll_fn(read))?;
        Ok(buffer.filled().len())
    }
}

impl Seek for BlockingReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        Pin::new(&mut self.0).start_seek(to)?;
        block_on(std::future::poll_fn(|cx| Pin::new(&mut self.0).poll_complete(cx)))
    }
}

/// Runs a future that needs no runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
