//! The handle of a running download.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::Connections;
use crate::control::Stop;
use crate::driver::{Driver, Options, Outcome};
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Metadata, Progress, Summary};
use crate::io::partial;
use crate::io::storage::window::Window;
use crate::reader::Reader;
use crate::shared::Shared;
use crate::stream::ByteStream;

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
            Outcome::Planned(_) => Err(lost()),
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
        events_taken: false,
        kept: None,
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
    shared.contents.end(error.kind(), &error.to_string());
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
        failed(&self.0, &lost());
    }
}

pub(crate) fn lost() -> Error {
    Error::new(ErrorKind::Internal, "the download ended without a result")
        .with_hint("the tokio runtime was shut down, or this is a defect of haul")
}

/// A running download: follow it, steer it, read from it.
///
/// Dropping it stops the work and leaves a state that the same download
/// continues from, as [`Download::cancel`] does without waiting.
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
#[derive(Debug)]
pub struct Download {
    shared: Arc<Shared>,
    /// Fires, or is dropped, to stop.
    stop: Option<oneshot::Sender<Stop>>,
    outcome: Option<oneshot::Receiver<Result<Summary, Error>>>,
    events_taken: bool,
    /// The checkpoint of a download that failed.
    kept: Option<PathBuf>,
    in_place: bool,
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
    /// there was anything to keep. A download that ended before is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the runtime went away.
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
        self.send_stop(Stop::Remove);
        let ended = match self.outcome {
            Some(_) => self.wait().await.map(drop),
            None => Ok(()),
        };
        let (kept, in_place) = (self.kept.take(), self.in_place);
        let removed =
            tokio::task::spawn_blocking(move || remove_what_is_left(ended, kept, in_place));
        removed.await.unwrap_or_else(|_| Err(lost()))
    }

    #[cfg(feature = "blocking")]
    /// Whether its data has the final name from the start.
    #[cfg(feature = "blocking")]
    pub(crate) fn is_in_place(&self) -> bool {
        self.in_place
    }

    pub(crate) fn send_stop(&mut self, how: Stop) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(how);
        }
    }

    /// Its end, for somebody who waits in another way; [`Self::wait`] is of no
    /// use then.
    #[cfg(feature = "blocking")]
    pub(crate) fn take_outcome(&mut self) -> Option<oneshot::Receiver<Result<Summary, Error>>> {
        self.outcome.take()
    }

    /// Waits for the end. May be dropped and called again before it returned.
    ///
    /// # Errors
    /// Whatever ended the download; [`ErrorKind::Internal`] on a second call
    /// after it returned, or when the runtime went away.
    pub async fn wait(&mut self) -> Result<Summary, Error> {
        let Some(outcome) = self.outcome.as_mut() else { return Err(lost()) };
        let result = outcome.await.unwrap_or_else(|_| Err(lost()));
        self.outcome = None;
        self.kept = result.as_ref().err().and_then(Error::checkpoint).map(Path::to_owned);
        result
    }
}

/// After [`Stop::Remove`]: a download that failed by itself, just now or long
/// ago, has kept its checkpoint. Blocks.
pub(crate) fn remove_what_is_left(
    ended: Result<(), Error>,
    kept: Option<PathBuf>,
    in_place: bool,
) -> Result<(), Error> {
    if let Some(checkpoint) = kept {
        return partial::remove_earlier(&checkpoint, in_place);
    }
    match ended {
        Err(error) if matches!(error.kind(), ErrorKind::Internal | ErrorKind::LocalFile) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// A view of a download for others than who steers it, from
/// [`Download::monitor`]. It does not keep the download going.
#[derive(Debug, Clone)]
pub struct Monitor {
    shared: Arc<Shared>,
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
}

/// The events of a download, from [`Download::events`].
#[derive(Debug)]
pub struct Events {
    shared: Option<Arc<Shared>>,
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
