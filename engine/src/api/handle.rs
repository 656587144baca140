//! The handle of a running download.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::api::reader::Reader;
use crate::api::stream::ByteStream;
use crate::disk::partial;
use crate::disk::storage::window::Window;
use crate::driver::control::Stop;
use crate::driver::engine::EngineInner;
use crate::driver::options::Options;
use crate::driver::shared::Shared;
use crate::driver::{Driver, Outcome};
use crate::model::config::Connections;
use crate::model::error::{Error, ErrorKind};
use crate::model::event::{Event, Metadata, Progress, Summary};

/// Runs a download on the current runtime.
pub(crate) fn launch(engine: Arc<EngineInner>, options: Options) -> Download {
    let shared =
        Arc::new(Shared::new(options.limit_rate_bytes_per_second, options.observers.clone()));
    let in_place = options.in_place;
    let (stop, stopped) = oneshot::channel();
    let (done, outcome) = oneshot::channel();
    let driver = Driver::new(engine, options, Arc::clone(&shared), false);
    let told = Arc::clone(&shared);
    let lost_runtime = LostRuntime(Arc::clone(&shared));
    tokio::spawn(async move {
        let _lost_runtime = lost_runtime;
        let result = driver.run(stopped).await.and_then(|outcome| match outcome {
            Outcome::Completed(summary) => Ok(*summary),
            Outcome::Planned(_) => Err(Error::lost()),
        });
        match &result {
            Ok(summary) => told.end(&Event::Completed(summary.clone())),
            Err(error) => failed(&told, error),
        }
        // The handle may be gone; the events and the checkpoint tell it all.
        let _ = done.send(result);
    });
    Download {
        shared,
        stop: Some(stop),
        outcome: Some(outcome),
        ended: None,
        events_taken: false,
        in_place,
    }
}

/// The same of one whose bytes are taken from `window`.
pub(crate) fn launch_stream(
    engine: Arc<EngineInner>,
    options: Options,
    window: Arc<Window>,
) -> (Download, ByteStream) {
    let download = launch(engine, options);
    let stream = ByteStream::new(Arc::clone(&download.shared), window);
    (download, stream)
}

/// Tells readers and the listener how it ended.
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

/// A running download: follow it, steer it, read from it.
///
/// Dropping it stops the work and leaves a state that the same download
/// continues from, as [`Download::cancel`] does without waiting. The same engine may
/// start the next download to the same output at once: it waits, 10 s at most, until
/// this one has recorded its state.
///
/// ```no_run
/// use haul_engine::{Connections, Engine, EngineConfig, Event};
///
/// # async fn example() -> Result<(), haul_engine::Error> {
/// let engine = Engine::new(EngineConfig::default())?;
/// let mut download = engine.download("https://example.org/film.mp4").start()?;
/// let mut events = download.events();
/// if let Some(object) = download.opened().await {
///     println!("{}: {:?} bytes", object.name, object.total_bytes);
/// }
/// download.set_connections(Connections::Fixed(2));
/// download.set_rate(Some(500_000));
/// download.pause();
/// while let Some(event) = events.next().await {
///     if let Event::Paused = event {
///         break; // nothing is received from here on
///     }
/// }
/// download.set_rate(None);
/// download.resume();
/// if let Err(error) = download.wait().await {
///     // Where the state is that another process continues from, days later.
///     println!("{error}; resumable: {}, {:?}", error.is_resumable(), error.checkpoint());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Download {
    shared: Arc<Shared>,
    /// Fires, or is dropped, to stop.
    stop: Option<oneshot::Sender<Stop>>,
    outcome: Option<oneshot::Receiver<Result<Summary, Error>>>,
    /// What came of it, once that was waited for.
    ended: Option<Box<Result<Summary, Error>>>,
    events_taken: bool,
    in_place: bool,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

impl Download {
    /// How it stands, at most 100 ms old; cheap.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.progress()
    }

    /// The events from the beginning, for one listener; a second call gives a
    /// stream that has ended. At most 256 wait for a slow listener: of those
    /// that are lost before them [`Event::Lagged`] tells the number, and the
    /// last event is never among them.
    pub fn events(&mut self) -> Events {
        let first = !std::mem::replace(&mut self.events_taken, true);
        Events { shared: first.then(|| Arc::clone(&self.shared)) }
    }

    /// What is known of the object; `None` before the first response was
    /// accepted, while the download starts over, and after it failed.
    #[must_use]
    pub fn metadata(&self) -> Option<Metadata> {
        self.shared.contents.metadata()
    }

    /// Waits until that is known; `None` when the download failed before.
    pub async fn opened(&self) -> Option<Metadata> {
        self.shared.contents.opened().await
    }

    /// A reader at the object's start. Any number of them may read at once.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(&self.shared)
    }

    /// A view of it that can be given away.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor { shared: Arc::clone(&self.shared) }
    }

    /// Ends all requests and sends none until [`Self::resume`];
    /// [`Event::Paused`] tells when nothing more is received. Bytes that came
    /// are kept and recorded within a second, like those of a download that is
    /// stopped; it keeps its lock. Without usable ranges
    /// ([`Metadata::ranges`]) what came is given up instead, and a resumed
    /// download begins again from zero.
    ///
    /// It gives up its place among the engine's active downloads, and comes in line
    /// again with [`Self::resume`].
    ///
    /// Paused before its end a download waits for ever; one that had every byte
    /// already is published all the same.
    pub fn pause(&self) {
        self.shared.control.set_paused(true);
    }

    /// Goes on after [`Self::pause`]. Whether the object is still the same is
    /// checked with every response, as always.
    pub fn resume(&self) {
        self.shared.control.set_paused(false);
    }

    /// At most so many bytes a second from now on, all connections of this
    /// download together; `None` is no limit but the engine's. A rate of 0
    /// counts as 1.
    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.shared.limiter.set_rate(bytes_per_second);
    }

    /// So many connections from now on. With a lower number those beyond it end
    /// at once, without loss of what they brought.
    pub fn set_connections(&self, connections: Connections) {
        self.shared.control.set_connections(connections);
    }

    /// Another priority from now on; see [`crate::DownloadBuilder::priority`].
    pub fn set_priority(&self, priority: i32) {
        self.shared.control.set_priority(priority);
    }

    /// Stops, records what was stored, and says where the checkpoint is, if
    /// there was anything to keep. A download that ended before is no error,
    /// whether or not its end was waited for: one that failed tells the checkpoint
    /// that it left, one that is complete has none.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the runtime went away, or for a defect of the
    /// engine.
    pub async fn cancel(mut self) -> Result<Option<PathBuf>, Error> {
        self.send_stop(Stop::Keep);
        match self.wait().await {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Internal => Err(error),
            Err(error) => Ok(error.checkpoint().map(Path::to_owned)),
        }
    }

    /// Stops and removes what is stored, also what an earlier run had stored,
    /// with its checkpoint. A download that was complete before stays complete.
    ///
    /// # Errors
    /// When it cannot be removed, or the runtime went away.
    pub async fn cancel_and_remove(mut self) -> Result<(), Error> {
        let asked = self.send_stop(Stop::Remove);
        let ended = self.wait().await.map(drop);
        let in_place = self.in_place;
        let removed =
            tokio::task::spawn_blocking(move || remove_what_is_left(ended, asked, in_place));
        removed.await.unwrap_or_else(|_| Err(Error::lost()))
    }

    /// Whether its data has the final name from the start.
    #[cfg(feature = "blocking")]
    pub(crate) fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// Whether it still ran, so that its end is in answer to this.
    pub(crate) fn send_stop(&mut self, how: Stop) -> bool {
        self.shared.leave();
        self.stop.take().is_some_and(|stop| stop.send(how).is_ok())
    }

    /// Its end, for somebody who waits in another way; [`Self::wait`] is of no
    /// use then.
    #[cfg(feature = "blocking")]
    pub(crate) fn take_outcome(&mut self) -> Option<oneshot::Receiver<Result<Summary, Error>>> {
        self.outcome.take()
    }

    /// Waits for the end. May be dropped and called again, before it returned and
    /// afterwards: the result stays the same.
    ///
    /// # Errors
    /// Whatever ended the download; [`ErrorKind::Internal`] when the runtime went away.
    pub async fn wait(&mut self) -> Result<Summary, Error> {
        if let Some(outcome) = self.outcome.as_mut() {
            let told = outcome.await;
            let result = told.unwrap_or_else(|_| match self.shared.contents.ended() {
                Some(Err(error)) => Err(error),
                _ => Err(Error::lost()),
            });
            self.outcome = None;
            self.ended = Some(Box::new(result));
        }
        self.ended.as_deref().cloned().unwrap_or_else(|| Err(Error::lost()))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

/// After [`Stop::Remove`], to which the end is the answer if it was `asked` in time: a
/// download that failed by itself, just now or long ago, has kept its checkpoint, unless
/// somebody removed that since. Blocks.
pub(crate) fn remove_what_is_left(
    ended: Result<(), Error>,
    asked: bool,
    in_place: bool,
) -> Result<(), Error> {
    let Err(error) = ended else { return Ok(()) };
    if let Some(checkpoint) = error.checkpoint() {
        return match checkpoint.exists() {
            true => partial::remove_earlier(checkpoint, in_place),
            false => Ok(()),
        };
    }
    let refused = matches!(error.kind(), ErrorKind::Internal | ErrorKind::LocalFile);
    if asked && refused { Err(error) } else { Ok(()) }
}

/// A view of a download for others than who steers it, from
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
    /// As [`Download::progress`]; the last one after the download ended.
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
    pub async fn opened(&self) -> Option<Metadata> {
        self.shared.contents.opened().await
    }

    /// How it ended, as its readers are told; `None` while it runs.
    #[cfg(feature = "blocking")]
    pub(crate) fn ended(&self) -> Option<Result<(), Error>> {
        self.shared.contents.ended()
    }
}

/// The events of a download, from [`Download::events`].
pub struct Events {
    shared: Option<Arc<Shared>>,
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
        match &self.shared {
            Some(shared) => shared.next().await,
            None => None,
        }
    }
}
