//! The engine for programs without an asynchronous runtime.
//!
//! ```no_run
//! use haul_engine::{Connections, EngineConfig, blocking::Engine};
//!
//! # fn main() -> Result<(), haul_engine::Error> {
//! let engine = Engine::new(EngineConfig::default())?;
//! let download = engine
//!     .download("https://example.org/film.mp4")
//!     .directory("films")
//!     .connections(Connections::Fixed(8))
//!     .start()?;
//! let summary = download.wait()?;
//! println!("{} bytes in {:?}", summary.bytes, summary.elapsed);
//! # Ok(())
//! # }
//! ```
//!
//! It is the same engine: an [`Engine`] of this module has a thread with a
//! runtime of its own, on which its downloads run. All calls may be made from
//! any thread, and threads may share a [`Download`]: one waits, another shows
//! the progress, a third cancels.
//!
//! # Inside an asynchronous runtime
//!
//! Calls that wait panic on a thread that drives asynchronous tasks, such as in
//! an `async fn` or in one of the engine's callbacks, since they would hold up
//! every other task there. Use the engine itself, [`crate::Engine`], or make
//! the calls inside tokio's `spawn_blocking`. Creating and dropping the types
//! of this module is allowed everywhere.
//!
//! # The end
//!
//! When an engine and all its downloads are dropped, the last drop waits, 5 s
//! at most, until the downloads that were still running have recorded what they
//! had. The same downloads can be started again right afterwards.

use std::fmt;
use std::future::{poll_fn, ready};
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::task::Context;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncSeek as _, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::api::handle::{self, Control};
use crate::api::reader::BlockingReader;
use crate::api::setters::setters;
use crate::api::stream;
use crate::model::config::{Connections, EngineConfig};
use crate::model::error::{Error, ErrorKind};
use crate::model::event::{DownloadId, Event, Metadata, Plan, Progress, Summary};
use crate::model::options::DownloadOptions;
use crate::net::transport::Transport;

/// How long stopped downloads may take to record what they had, at the end of
/// their runtime.
const LAST_WORK: Duration = Duration::from_secs(5);

/// A thread that drives the downloads of one engine.
struct Runtime {
    handle: Handle,
    /// Dropped to shut the engine down and end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    fn start(engine: crate::Engine) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("haul-runtime".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let _ = stopped.await;
                let _ = tokio::time::timeout(LAST_WORK, engine.shutdown()).await;
            });
            // Name lookups may take long, and nobody waits for them any more.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Panics on a thread that drives tasks: waiting there would hold them up.
    #[track_caller]
    fn may_wait(&self) {
        self.handle.block_on(ready(()));
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // The thread cannot wait for itself when a callback dropped the last handle.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// As [`crate::Engine`], with a runtime. Cheap to clone; all clones share both.
#[derive(Debug, Clone)]
pub struct Engine {
    engine: crate::Engine,
    runtime: Arc<Runtime>,
}

impl Engine {
    /// An engine with these settings, and its thread.
    ///
    /// # Errors
    /// As [`crate::Engine::new`]; [`ErrorKind::Internal`] when the system gives
    /// no thread or no descriptors for a runtime.
    pub fn new(config: EngineConfig) -> Result<Self, Error> {
        Self::on(crate::Engine::new(config)?)
    }

    /// As [`crate::Engine::with_transport`]; the transport is called on the
    /// engine's thread.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_transport(
        config: EngineConfig,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, Error> {
        Self::on(crate::Engine::with_transport(config, transport)?)
    }

    fn on(engine: crate::Engine) -> Result<Self, Error> {
        let runtime = Runtime::start(engine.clone()).map_err(|error| {
            Error::new(ErrorKind::Internal, format!("the runtime cannot be started: {error}"))
                .with_source(error)
        })?;
        Ok(Self { engine, runtime: Arc::new(runtime) })
    }

    /// As [`crate::Engine::builder`]; [`crate::EngineBuilder::build_blocking`] makes the engine.
    pub fn builder() -> crate::EngineBuilder {
        crate::Engine::builder()
    }

    /// As [`crate::Engine::shutdown`].
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    #[track_caller]
    pub fn shutdown(&self) {
        self.runtime.handle.block_on(self.engine.shutdown());
    }

    /// What it shares with downloads, without the runtime. For haul's own tests.
    #[cfg(feature = "fault-points")]
    #[doc(hidden)]
    #[must_use]
    pub fn shared(&self) -> &crate::Engine {
        &self.engine
    }

    /// A download of `url`; nothing happens until [`DownloadBuilder::start`] or
    /// [`DownloadBuilder::plan`].
    pub fn download(&self, url: &str) -> DownloadBuilder {
        self.download_with(url, DownloadOptions::default())
    }

    /// As [`crate::Engine::open`].
    ///
    /// # Errors
    /// As [`crate::DownloadBuilder::open`].
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    pub fn open(&self, url: &str) -> Result<RemoteReader, Error> {
        self.download(url).open()
    }

    /// As [`Self::download`], with options that are already set.
    pub fn download_with(&self, url: &str, options: DownloadOptions) -> DownloadBuilder {
        let builder = self.engine.download_with(url, options);
        DownloadBuilder { builder, runtime: Arc::clone(&self.runtime) }
    }
}

impl crate::EngineBuilder {
    /// Makes an engine for a program without a runtime.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn build_blocking(self) -> Result<Engine, Error> {
        Engine::on(self.build()?)
    }
}

/// Builds one download, as [`crate::DownloadBuilder`] does.
#[derive(Debug, Clone)]
#[must_use = "nothing is downloaded before start() or plan()"]
pub struct DownloadBuilder {
    builder: crate::DownloadBuilder,
    runtime: Arc<Runtime>,
}

setters!(DownloadBuilder);

impl DownloadBuilder {
    fn inner(&mut self) -> &mut crate::DownloadBuilder {
        &mut self.builder
    }

    /// Starts the download on the engine's thread and returns at once.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a URL, header or size that cannot be
    /// used; in that case nothing was done.
    pub fn start(self) -> Result<Download, Error> {
        let inner = {
            let _inside = self.runtime.handle.enter();
            self.builder.start()?
        };
        Ok(Download { inner, runtime: self.runtime })
    }

    /// As [`crate::DownloadBuilder::stream`]: the object in order, from memory.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn stream(self) -> Result<(Download, ByteStream), Error> {
        let (inner, stream) = {
            let _inside = self.runtime.handle.enter();
            self.builder.stream()?
        };
        let handle = self.runtime.handle.clone();
        Ok((Download { inner, runtime: self.runtime }, ByteStream { stream, handle }))
    }

    /// Finds out what a download would do, with one request whose body is
    /// dropped. Nothing is written. Waits for the response.
    ///
    /// # Errors
    /// As [`Self::start`], and whatever the request meets.
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    pub fn plan(self) -> Result<Plan, Error> {
        self.runtime.may_wait();
        let plan = self.runtime.handle.spawn(self.builder.plan());
        self.runtime.handle.block_on(plan).unwrap_or_else(|_| Err(Error::lost()))
    }

    /// As [`crate::DownloadBuilder::open`].
    ///
    /// # Errors
    /// As [`crate::DownloadBuilder::open`].
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    pub fn open(self) -> Result<RemoteReader, Error> {
        let reader = self.runtime.handle.block_on(self.builder.open())?;
        Ok(RemoteReader { reader, runtime: self.runtime })
    }

    /// As [`crate::DownloadBuilder::bytes`]: the whole object into memory, for
    /// documents.
    ///
    /// # Errors
    /// As [`Self::start`], whatever the request meets, and
    /// [`ErrorKind::LimitReached`] for more than `most_bytes`.
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    pub fn bytes(self, most_bytes: usize) -> Result<Vec<u8>, Error> {
        Ok(self.bytes_and_metadata(most_bytes)?.0)
    }

    /// As [`crate::DownloadBuilder::bytes_and_metadata`].
    ///
    /// # Errors
    /// As [`Self::bytes`].
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    pub fn bytes_and_metadata(self, most_bytes: usize) -> Result<(Vec<u8>, Metadata), Error> {
        self.runtime.may_wait();
        let bytes = self.runtime.handle.spawn(self.builder.bytes_and_metadata(most_bytes));
        self.runtime.handle.block_on(bytes).unwrap_or_else(|_| Err(Error::lost()))
    }
}

/// A running download: follow it, steer it, read from it, from any threads.
///
/// Dropping it stops the work and leaves a state that the same download
/// continues from.
///
/// ```no_run
/// use std::time::Duration;
/// # fn example(engine: &haul_engine::blocking::Engine) -> Result<(), haul_engine::Error> {
/// let download = engine.download("https://example.org/film.mp4").start()?;
/// let summary = loop {
///     if let Some(result) = download.wait_timeout(Duration::from_millis(500)) {
///         break result?;
///     }
///     println!("{} bytes", download.progress().bytes);
/// };
/// println!("{}", summary.output.display());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a download stops when its handle is dropped"]
pub struct Download {
    inner: handle::Download,
    runtime: Arc<Runtime>,
}

impl Download {
    /// As [`crate::Download::id`].
    #[must_use]
    pub fn id(&self) -> DownloadId {
        self.inner.id()
    }

    /// As [`crate::Download::control`].
    #[must_use]
    pub fn control(&self) -> Control {
        self.inner.control()
    }

    /// As [`crate::Download::progress`].
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.inner.progress()
    }

    /// As [`crate::Download::metadata`].
    #[must_use]
    pub fn metadata(&self) -> Option<Metadata> {
        self.inner.metadata()
    }

    /// As [`crate::Download::opened`].
    ///
    /// # Errors
    /// Whatever ended the download before.
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    pub fn opened(&self) -> Result<Metadata, Error> {
        self.runtime.handle.block_on(self.inner.opened())
    }

    /// As [`crate::Download::events`].
    #[must_use]
    pub fn events(&self) -> Events {
        Events { events: self.inner.events(), handle: self.runtime.handle.clone() }
    }

    /// As [`crate::Download::reader`].
    #[must_use]
    pub fn reader(&self) -> Reader {
        let reader = self.inner.reader().into_blocking();
        Reader { reader, handle: self.runtime.handle.clone() }
    }

    /// As [`crate::Download::pause`].
    pub fn pause(&self) {
        self.inner.pause();
    }

    /// As [`crate::Download::resume`].
    pub fn resume(&self) {
        self.inner.resume();
    }

    /// As [`crate::Download::limit_rate`].
    pub fn limit_rate(&self, bytes_per_second: Option<NonZeroU64>) {
        self.inner.limit_rate(bytes_per_second);
    }

    /// As [`crate::Download::set_connections`].
    pub fn set_connections(&self, connections: Connections) {
        self.inner.set_connections(connections);
    }

    /// As [`crate::Download::set_priority`].
    pub fn set_priority(&self, priority: i32) {
        self.inner.set_priority(priority);
    }

    /// Waits for the end. Any number of threads may call it, any number of times.
    ///
    /// # Errors
    /// Whatever ended the download.
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    #[track_caller]
    pub fn wait(&self) -> Result<Summary, Error> {
        self.runtime.handle.block_on(self.inner.wait())
    }

    /// Waits for the end, at most for `timeout`: `None` if the download still runs then.
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<Summary, Error>> {
        let wait = async { tokio::time::timeout(timeout, self.inner.wait()).await.ok() };
        self.runtime.handle.block_on(wait)
    }

    /// As [`Control::cancel`].
    ///
    /// # Errors
    /// As [`Control::cancel`].
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    #[track_caller]
    pub fn cancel(&self) -> Result<Option<PathBuf>, Error> {
        self.runtime.handle.block_on(self.control().cancel())
    }

    /// As [`Control::cancel_and_remove`].
    ///
    /// # Errors
    /// As [`Control::cancel_and_remove`].
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    #[track_caller]
    pub fn cancel_and_remove(&self) -> Result<(), Error> {
        self.runtime.handle.block_on(self.control().cancel_and_remove())
    }
}

/// The events of a download, from [`Download::events`]: each `next` waits for
/// one. The last one is [`Event::Completed`] or [`Event::Failed`].
///
/// # Panics
/// `next` does, on a thread that drives asynchronous tasks.
#[derive(Debug)]
pub struct Events {
    events: handle::Events,
    handle: Handle,
}

impl Events {
    /// Waits for the next event, at most for `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`] when none came in time, and
    /// [`RecvTimeoutError::Disconnected`] after the last one.
    ///
    /// # Panics
    /// On a thread that drives asynchronous tasks.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        let next = self.events.next();
        match self.handle.block_on(async { tokio::time::timeout(timeout, next).await }) {
            Ok(event) => event.ok_or(RecvTimeoutError::Disconnected),
            Err(_) => Err(RecvTimeoutError::Timeout),
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.handle.block_on(self.events.next())
    }
}

/// As [`crate::BlockingReader`], from [`Download::reader`]; a clone starts at
/// the original's position.
///
/// # Panics
/// Reading and seeking do, on a thread that drives asynchronous tasks.
#[derive(Debug, Clone)]
pub struct Reader {
    reader: BlockingReader,
    handle: Handle,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.handle.block_on(ready(()));
        self.reader.read(buffer)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.handle.block_on(ready(()));
        self.reader.seek(to)
    }
}

/// As [`crate::RemoteReader`], from [`Engine::open`]; a clone starts at the original's position.
///
/// # Panics
/// Reading does, on a thread that drives asynchronous tasks.
#[derive(Debug, Clone)]
pub struct RemoteReader {
    reader: crate::RemoteReader,
    runtime: Arc<Runtime>,
}

impl RemoteReader {
    /// As [`crate::RemoteReader::metadata`].
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.reader.metadata()
    }

    /// As [`crate::RemoteReader::total_bytes`].
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.reader.total_bytes()
    }

    /// As [`crate::RemoteReader::fetched_bytes`].
    #[must_use]
    pub fn fetched_bytes(&self) -> u64 {
        self.reader.fetched_bytes()
    }
}

impl Read for RemoteReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        let read = |cx: &mut Context<'_>| Pin::new(&mut self.reader).poll_read(cx, &mut buffer);
        self.runtime.handle.block_on(poll_fn(read))?;
        Ok(buffer.filled().len())
    }
}

impl Seek for RemoteReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        Pin::new(&mut self.reader).start_seek(to)?;
        Ok(self.reader.position())
    }
}

/// As [`crate::ByteStream`], from [`DownloadBuilder::stream`].
///
/// # Panics
/// Reading does, on a thread that drives asynchronous tasks.
#[derive(Debug)]
pub struct ByteStream {
    stream: stream::ByteStream,
    handle: Handle,
}

impl Read for ByteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        let read = |cx: &mut Context<'_>| Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        self.handle.block_on(poll_fn(read))?;
        Ok(buffer.filled().len())
    }
}
