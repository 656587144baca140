//! Following a download through callbacks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::driver::guard::{self, Panicked, Part};
use crate::model::event::{DownloadId, Event, Progress};

/// Is told what happens to a download, as it happens; see
/// [`crate::DownloadBuilder::observe`].
///
/// [`crate::Download::events`] is one of these: a queue for a listener that
/// reads it when it has time. Any other observer misses nothing, but must be
/// quick.
///
/// # Contract
/// - The calls come one at a time, in the order in which things happen, from the
///   task that runs the download, on the runtime that it was started on. That task
///   waits meanwhile: to block is to stop the download. An observer with long work
///   queues it for a task of its own.
/// - Observers are called in the order in which they were added, before the event is available from
///   [`crate::Download::events`]. They never see [`Event::Lagged`].
/// - The last call is [`Event::Completed`] or [`Event::Failed`], before [`crate::Download::wait`]
///   returns; also for a download that is dropped. If its runtime is shut down, that call comes
///   from the thread that does so.
/// - A panic ends the download as [`crate::ErrorKind::Callback`], with a message that
///   names the observer as its cause; what was stored can be continued. The observer is
///   not called again, the others are. A panic in the last call changes nothing, since
///   the download has ended.
///
/// Any `Fn(&Event)` is an observer of events. One observer may serve several downloads,
/// whose calls it tells apart by their id ([`crate::Download::id`]).
pub trait Observer: Send + Sync {
    /// Something happened to the download `id`.
    fn event(&self, id: DownloadId, event: &Event);

    /// The progress of the download `id`, ten times a second while it runs.
    fn progress(&self, id: DownloadId, progress: &Progress) {
        let _ = (id, progress);
    }
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn event(&self, _: DownloadId, event: &Event) {
        self(event);
    }
}

impl<T: Observer + ?Sized> Observer for Arc<T> {
    fn event(&self, id: DownloadId, event: &Event) {
        (**self).event(id, event);
    }

    fn progress(&self, id: DownloadId, progress: &Progress) {
        (**self).progress(id, progress);
    }
}

/// Tells a closure of the progress.
pub(crate) struct OnProgress<F>(pub(crate) F);

impl<F: Fn(&Progress) + Send + Sync> Observer for OnProgress<F> {
    fn event(&self, _: DownloadId, _: &Event) {}

    fn progress(&self, _: DownloadId, progress: &Progress) {
        (self.0)(progress);
    }
}

/// The observers of one download.
#[derive(Clone, Default)]
pub(crate) struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    pub(crate) fn add(&mut self, observer: Arc<dyn Observer>) {
        self.0.push(observer);
    }

    /// Makes them ready to be called for one download.
    pub(crate) fn watch(self) -> Watchers {
        let watcher = |observer| Watcher { observer, panicked: AtomicBool::new(false) };
        Watchers(self.0.into_iter().map(watcher).collect())
    }
}

/// The observers of a download that runs.
pub(crate) struct Watchers(Vec<Watcher>);

struct Watcher {
    observer: Arc<dyn Observer>,
    /// It is not called again.
    panicked: AtomicBool,
}

impl Watchers {
    /// # Errors
    /// When one of them panics; the others are told all the same.
    pub(crate) fn event(&self, id: DownloadId, event: &Event) -> Result<(), Panicked> {
        self.tell(|observer| observer.event(id, event))
    }

    /// # Errors
    /// As [`Self::event`].
    pub(crate) fn progress(
        &self,
        id: DownloadId,
        progress: impl FnOnce() -> Progress,
    ) -> Result<(), Panicked> {
        if self.0.is_empty() {
            return Ok(());
        }
        let progress = progress();
        self.tell(|observer| observer.progress(id, &progress))
    }

    fn tell(&self, of: impl Fn(&dyn Observer)) -> Result<(), Panicked> {
        let mut told = Ok(());
        for Watcher { observer, panicked } in &self.0 {
            if panicked.load(Ordering::Relaxed) {
                continue;
            }
            if let Err(why) = guard::call(Part::Observer, || of(&**observer)) {
                panicked.store(true, Ordering::Relaxed);
                told = Err(why);
            }
        }
        told
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} observers", self.0.len())
    }
}
