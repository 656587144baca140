//! The handle of a running download.

use std::fmt;
use std::future::Future;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::watch;

use crate::api::reader::Reader;
use crate::api::stream::ByteStream;
use crate::disk::resume::taking::remove_earlier;
use crate::disk::storage::window::Window;
use crate::driver::control::Stop;
use crate::driver::downloads::Stopper;
use crate::driver::engine::EngineInner;
use crate::driver::options::Options;
use crate::driver::shared::Shared;
use crate::driver::{Driver, Outcome};
use crate::model::config::Connections;
use crate::model::error::{Error, ErrorKind};
use crate::model::event::{DownloadId, Event, Metadata, Progress, Summary};

/// Runs a download on the current runtime.
pub(crate) fn launch(engine: Arc<EngineInner>, options: Options) -> Result<Download, Error> {
    let (stopper, stopped) = Stopper::new();
    let entry = engine.downloads.enter(&stopper)?;
    let (rate, observers) = (options.limit_rate_bytes_per_second, options.observers.clone());
    let shared = Arc::new(Shared::new(entry.id, rate, observers));
    let in_place = options.in_place;
    let (end, ended) = watch::channel(None);
    let driver = Driver::new(engine, options, Arc::clone(&shared));
    let told = Arc::clone(&shared);
    let lost_runtime = LostRuntime(Arc::clone(&shared));
    tokio::spawn(async move {
        let _entry = entry;
        let _lost_runtime = lost_runtime;
        let result = driver.run(stopped).await.and_then(|outcome| match outcome {
            Outcome::Completed(summary) => Ok(*summary),
            Outcome::Planned(_) => Err(Error::lost()),
        });
        match &result {
            Ok(summary) => told.end(&Event::Completed(summary.clone())),
            Err(error) => failed(&told, error),
        }
        // The handles may be gone; the events and the checkpoint tell it all.
        end.send_replace(Some(Box::new(result)));
    });
    let task = Task { shared, stopper, ended, events_taken: AtomicBool::new(false), in_place };
    Ok(Download { control: Control(Arc::new(task)) })
}

/// As `launch`, for a download whose bytes are taken from `window`.
pub(crate) fn launch_stream(
    engine: Arc<EngineInner>,
    options: Options,
    window: Arc<Window>,
) -> Result<(Download, ByteStream), Error> {
    let download = launch(engine, options)?;
    let stream = ByteStream::new(Arc::clone(&download.control.0.shared), window);
    Ok((download, stream))
}

/// Tells readers and the listener how the download ended.
fn failed(shared: &Shared, error: &Error) {
    shared.leave();
    shared.contents.end(error);
    shared.end(&Event::Failed {
        kind: error.kind(),
        message: error.to_string(),
        resumable: error.is_resumable(),
    });
}

/// Ends the waits of readers and of the listener when a download's task is
/// dropped: nothing else will.
struct LostRuntime(Arc<Shared>);

impl Drop for LostRuntime {
    fn drop(&mut self) {
        let error = if std::thread::panicking() {
            Error::new(ErrorKind::Internal, "a defect of haul: the download's task panicked")
                .with_hint("what was stored is kept; please report the panic's message")
        } else {
            Error::lost()
        };
        failed(&self.0, &error);
    }
}

/// A download's task as its handles know it.
struct Task {
    shared: Arc<Shared>,
    stopper: Arc<Stopper>,
    ended: watch::Receiver<Option<Box<Result<Summary, Error>>>>,
    events_taken: AtomicBool,
    in_place: bool,
}

impl Task {
    /// Stops the download. True if it was still running, so that its end answers this call.
    fn stop(&self, how: Stop) -> bool {
        self.shared.leave();
        self.stopper.stop(how)
    }

    async fn wait(&self) -> Result<Summary, Error> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(result)) => (**result).clone(),
            _ => match self.shared.contents.ended() {
                Some(Err(error)) => Err(error),
                _ => Err(Error::lost()),
            },
        }
    }
}

/// A running download: follow it, steer it, read from it.
///
/// Dropping it stops the work and leaves a state that the same download continues from, like
/// [`Download::cancel`] but without waiting. The same engine may start the next download to the
/// same output at once: that one waits, 10 s at most, until this one has recorded its state.
///
/// One task awaits [`Self::wait`], or the download itself, while others steer and cancel it
/// through a [`Control`]:
///
/// ```no_run
/// use std::num::NonZeroU64;
///
/// use haul_engine::{Connections, Engine, EngineConfig};
///
/// # async fn interrupted() {}
/// # async fn example() -> Result<(), haul_engine::Error> {
/// let engine = Engine::new(EngineConfig::default())?;
/// let download = engine.download("https://example.org/film.mp4").start()?;
/// let object = download.opened().await?;
/// println!("{}: {:?} bytes", object.name, object.total_bytes);
///
/// let control = download.control();
/// tokio::spawn(async move {
///     control.set_connections(Connections::Fixed(2));
///     control.limit_rate(NonZeroU64::new(500_000));
///     interrupted().await;
///     control.stop();
/// });
/// if let Err(error) = download.await {
///     // Another process continues from this checkpoint, even days later.
///     println!("{error}; resumable: {}, {:?}", error.is_resumable(), error.checkpoint());
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a download stops when its handle is dropped"]
pub struct Download {
    control: Control,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

impl Download {
    fn task(&self) -> &Task {
        &self.control.0
    }

    /// The id of this download within its engine, as passed to observers.
    #[must_use]
    pub fn id(&self) -> DownloadId {
        self.task().shared.id
    }

    /// A handle that steers and cancels the download from any task. It does not keep the
    /// download going.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// A snapshot of the progress, at most 100 ms old; cheap.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.task().shared.progress()
    }

    /// All events from the beginning, for one listener; a second call gives a
    /// stream that has ended. At most 256 wait for a slow listener; older ones
    /// are dropped and counted by [`Event::Lagged`]. The last event is never
    /// dropped.
    #[must_use]
    pub fn events(&self) -> Events {
        let first = !self.task().events_taken.swap(true, Ordering::Relaxed);
        Events { shared: first.then(|| Arc::clone(&self.task().shared)), next: None }
    }

    /// What is known about the object; `None` until the first response is
    /// accepted, while the download starts over, and after it failed.
    #[must_use]
    pub fn metadata(&self) -> Option<Metadata> {
        self.task().shared.contents.metadata()
    }

    /// Waits until the metadata is known, also for a file that turns out to be complete already.
    ///
    /// # Errors
    /// Whatever ended the download before.
    pub async fn opened(&self) -> Result<Metadata, Error> {
        self.task().shared.contents.opened().await
    }

    /// A reader at the object's start. Any number of them may read at once.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(&self.task().shared)
    }

    /// A view of the download for code that does not steer it.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor { shared: Arc::clone(&self.task().shared) }
    }

    /// As [`Control::pause`].
    pub fn pause(&self) {
        self.control.pause();
    }

    /// As [`Control::resume`].
    pub fn resume(&self) {
        self.control.resume();
    }

    /// As [`Control::limit_rate`].
    pub fn limit_rate(&self, bytes_per_second: Option<NonZeroU64>) {
        self.control.limit_rate(bytes_per_second);
    }

    /// As [`Control::set_connections`].
    pub fn set_connections(&self, connections: Connections) {
        self.control.set_connections(connections);
    }

    /// As [`Control::set_priority`].
    pub fn set_priority(&self, priority: i32) {
        self.control.set_priority(priority);
    }

    /// As [`Control::cancel`].
    ///
    /// # Errors
    /// As [`Control::cancel`].
    pub async fn cancel(self) -> Result<Option<PathBuf>, Error> {
        self.control.cancel().await
    }

    /// As [`Control::cancel_and_remove`].
    ///
    /// # Errors
    /// As [`Control::cancel_and_remove`].
    pub async fn cancel_and_remove(self) -> Result<(), Error> {
        self.control.cancel_and_remove().await
    }

    /// Waits for the end. Several tasks may call it, drop it and call it again, even after it
    /// returned: the result stays the same.
    ///
    /// # Errors
    /// Whatever ended the download; [`ErrorKind::Internal`] when the runtime went away.
    pub async fn wait(&self) -> Result<Summary, Error> {
        self.task().wait().await
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.control.stop();
    }
}

impl IntoFuture for Download {
    type Output = Result<Summary, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// [`Download::wait`]; dropping the future drops the download.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.wait().await })
    }
}

/// Steers and cancels a download from any task, from [`Download::control`].
///
/// It does not keep the download going, which ends when the [`Download`] is dropped. Calls after
/// the end have no effect.
#[derive(Clone)]
pub struct Control(Arc<Task>);

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// The id of this download within its engine, as passed to observers.
    #[must_use]
    pub fn id(&self) -> DownloadId {
        self.0.shared.id
    }

    /// Ends all requests and sends none until [`Self::resume`];
    /// [`Event::Paused`] is sent when nothing more is received. Received bytes
    /// are kept and recorded within a second, as when the download is stopped,
    /// but it keeps its lock. Without usable ranges ([`Metadata::ranges`]) they
    /// are discarded instead, and a resumed download begins again from zero.
    ///
    /// The download gives up its place among the engine's active downloads, and queues
    /// again with [`Self::resume`].
    ///
    /// A download paused before its end waits forever; one that already has
    /// every byte is published all the same.
    pub fn pause(&self) {
        self.0.shared.control.set_paused(true);
    }

    /// Continues after [`Self::pause`]. As always, every response is checked to
    /// be of the same object.
    pub fn resume(&self) {
        self.0.shared.control.set_paused(false);
    }

    /// Limits the download to this many bytes a second from now on, all of its connections
    /// together; with `None` only the engine's limit applies.
    pub fn limit_rate(&self, bytes_per_second: Option<NonZeroU64>) {
        self.0.shared.limiter.set_rate(bytes_per_second.map(NonZeroU64::get));
    }

    /// Uses this many connections from now on. If the number is lower, the connections beyond it
    /// end at once, and what they received is kept.
    pub fn set_connections(&self, connections: Connections) {
        self.0.shared.control.set_connections(connections);
    }

    /// Changes the priority; see [`crate::DownloadOptions::priority`].
    pub fn set_priority(&self, priority: i32) {
        self.0.shared.control.set_priority(priority);
    }

    /// Asks the download to stop and to record what is stored, and returns at once.
    /// [`Download::wait`] then returns [`ErrorKind::Cancelled`] with the checkpoint, unless
    /// the download ended before.
    pub fn stop(&self) {
        self.0.stop(Stop::Keep);
    }

    /// Stops the download, records what was stored, and returns the path of the checkpoint, if
    /// there was anything to keep. It is no error if the download has already ended, whether or not
    /// its end was awaited: one that failed returns the checkpoint that it left, one that is
    /// complete has none.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the runtime went away, or for a defect of the
    /// engine.
    pub async fn cancel(&self) -> Result<Option<PathBuf>, Error> {
        self.stop();
        match self.0.wait().await {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Internal => Err(error),
            Err(error) => Ok(error.checkpoint().map(Path::to_owned)),
        }
    }

    /// Stops the download and removes what is stored, including what an earlier
    /// run stored, and its checkpoint. A download that was already complete
    /// stays complete.
    ///
    /// # Errors
    /// When removing fails, or the runtime went away; [`ErrorKind::Locked`] when another download
    /// already continues from what is stored.
    pub async fn cancel_and_remove(&self) -> Result<(), Error> {
        let asked = self.0.stop(Stop::Remove);
        let ended = self.0.wait().await.map(drop);
        let in_place = self.0.in_place;
        let removed =
            tokio::task::spawn_blocking(move || remove_what_is_left(ended, asked, in_place));
        removed.await.unwrap_or_else(|_| Err(Error::lost()))
    }
}

/// Removes what is left after [`Stop::Remove`], which the end answers only if it was `asked` in
/// time: a download that failed by itself, just now or long ago, kept its checkpoint, unless
/// somebody removed that since. Blocks.
fn remove_what_is_left(ended: Result<(), Error>, asked: bool, in_place: bool) -> Result<(), Error> {
    let Err(error) = ended else { return Ok(()) };
    if let Some(checkpoint) = error.checkpoint() {
        return match checkpoint.exists() {
            true => remove_earlier(checkpoint, in_place),
            false => Ok(()),
        };
    }
    let refused = matches!(error.kind(), ErrorKind::Internal | ErrorKind::LocalFile);
    if asked && refused { Err(error) } else { Ok(()) }
}

/// A view of a download for code that does not steer it, from
/// [`Download::monitor`]. It does not keep the download going.
#[derive(Clone)]
pub struct Monitor {
    shared: Arc<Shared>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

impl Monitor {
    /// The id of this download within its engine, as passed to observers.
    #[must_use]
    pub fn id(&self) -> DownloadId {
        self.shared.id
    }

    /// As [`Download::progress`]; after the end, the last one.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.progress()
    }

    /// As [`Download::metadata`].
    #[must_use]
    pub fn metadata(&self) -> Option<Metadata> {
        self.shared.contents.metadata()
    }

    /// As [`Download::opened`].
    ///
    /// # Errors
    /// As [`Download::opened`].
    pub async fn opened(&self) -> Result<Metadata, Error> {
        self.shared.contents.opened().await
    }
}

/// The events of a download, from [`Download::events`]. Also a [`Stream`], for programs that
/// use its combinators.
pub struct Events {
    shared: Option<Arc<Shared>>,
    /// What the stream waits for.
    next: Option<Pin<Box<dyn Future<Output = Option<Event>> + Send + Sync>>>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// The next event; `None` after the last one, which is
    /// [`Event::Completed`] or [`Event::Failed`]. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Event> {
        // The pending future would take the wake-up.
        self.next = None;
        match &self.shared {
            Some(shared) => shared.next().await,
            None => None,
        }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        let Some(shared) = &this.shared else { return Poll::Ready(None) };
        let next = this.next.get_or_insert_with(|| {
            let shared = Arc::clone(shared);
            Box::pin(async move { shared.next().await })
        });
        let event = ready!(next.as_mut().poll(cx));
        this.next = None;
        Poll::Ready(event)
    }
}
