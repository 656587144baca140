//! Following a download by being called.

use std::fmt;
use std::sync::Arc;

use crate::event::{Event, Progress};

/// Is told what happens to a download, as it happens; see
/// [`crate::DownloadBuilder::observe`].
///
/// [`crate::Download::events`] is one of these: a queue for a listener that comes
/// when it has time. An observer instead misses nothing, and must be quick.
///
/// # Contract
/// - The calls come one at a time, in the order in which things happen, from the
///   task that runs the download, on the runtime that it was started on. That task
///   waits meanwhile: to block is to stop the download. Who has more to do sends
///   itself a message.
/// - Observers are called in the order in which they were added, before the event can
///   be had from [`crate::Download::events`]. [`Event::Lagged`] is not among them.
/// - The last call is [`Event::Completed`] or [`Event::Failed`], before
///   [`crate::Download::wait`] returns; also of a download that is dropped. Where its
///   runtime is shut down, that call comes from whoever does so.
/// - A panic ends the download as [`crate::ErrorKind::Internal`]; what it stored can
///   be continued.
///
/// Any `Fn(&Event)` is an observer of events.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event);

    /// How it stands, ten times a second while it runs.
    fn progress(&self, progress: &Progress) {
        let _ = progress;
    }
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}

impl<T: Observer + ?Sized> Observer for Arc<T> {
    fn event(&self, event: &Event) {
        (**self).event(event);
    }

    fn progress(&self, progress: &Progress) {
        (**self).progress(progress);
    }
}

/// Those of one download.
#[derive(Clone, Default)]
pub(crate) struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    pub(crate) fn add(&mut self, observer: Arc<dyn Observer>) {
        self.0.push(observer);
    }

    pub(crate) fn event(&self, event: &Event) {
        self.0.iter().for_each(|observer| observer.event(event));
    }

    pub(crate) fn progress(&self, progress: impl FnOnce() -> Progress) {
        if !self.0.is_empty() {
            let progress = progress();
            self.0.iter().for_each(|observer| observer.progress(&progress));
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} observers", self.0.len())
    }
}
