//! What a running download and its handle share: wishes, what can be read, the
//! snapshot and the events.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::driver::contents::Contents;
use crate::driver::control::Wishes;
use crate::driver::guard::Panicked;
use crate::driver::observer::{Observers, Watchers};
use crate::lock::Lock;
use crate::model::event::{DownloadId, Event, Progress};
use crate::net::limiter::Limiter;

/// How many events wait for a slow listener; older ones are dropped and counted.
const MAX_WAITING: usize = 256;

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    lost: u64,
    closed: bool,
}

/// See the module's documentation.
pub(crate) struct Shared {
    pub(crate) id: DownloadId,
    /// What the handle asks for.
    pub(crate) control: Wishes,
    /// What can be read.
    pub(crate) contents: Contents,
    /// The download ends soon, and gives its output up.
    pub(crate) leaving: Arc<AtomicBool>,
    /// The download's own speed limit.
    pub(crate) limiter: Arc<Limiter>,
    progress: Lock<Progress>,
    observers: Watchers,
    /// A part of the program that panicked, for which the download is to end.
    panicked: OnceLock<Panicked>,
    queue: EventQueue,
}

impl Shared {
    pub(crate) fn new(
        id: DownloadId,
        rate_bytes_per_second: Option<u64>,
        observers: Observers,
    ) -> Self {
        Self {
            id,
            control: Wishes::default(),
            contents: Contents::default(),
            leaving: Arc::default(),
            limiter: Arc::new(Limiter::new(rate_bytes_per_second)),
            progress: Lock::default(),
            observers: observers.watch(),
            panicked: OnceLock::new(),
            queue: EventQueue::default(),
        }
    }

    /// The next download to the same output waits for this one from here on.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.lock().clone()
    }

    pub(crate) fn set_progress(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock());
        let told = self.observers.progress(self.id, || self.progress());
        told.unwrap_or_else(|panicked| self.blame(panicked));
    }

    /// A part of the program panicked: the driver must end the download.
    pub(crate) fn blame(&self, panicked: Panicked) {
        tracing::error!("{panicked}");
        let _ = self.panicked.set(panicked);
        self.control.poke();
    }

    /// The first part that was blamed.
    pub(crate) fn panicked(&self) -> Option<Panicked> {
        self.panicked.get().copied()
    }

    /// Tells all observers, the queue last.
    pub(crate) fn send(&self, event: &Event) {
        let told = self.observers.event(self.id, event);
        told.unwrap_or_else(|panicked| self.blame(panicked));
        self.queue.event(event);
    }

    /// Sends the last event, unless one was already sent.
    pub(crate) fn end(&self, last: &Event) {
        if !self.queue.waiting.lock().closed {
            self.send(last);
            self.queue.waiting.lock().closed = true;
            self.queue.changed.notify_one();
        }
    }

    /// The next event for the listener.
    pub(crate) async fn next(&self) -> Option<Event> {
        loop {
            {
                let mut waiting = self.queue.waiting.lock();
                if waiting.lost > 0 {
                    return Some(Event::Lagged(std::mem::take(&mut waiting.lost)));
                }
                if let Some(event) = waiting.events.pop_front() {
                    return Some(event);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.queue.changed.notified().await;
        }
    }
}

/// The observer that keeps events for a listener who comes when it has time.
#[derive(Debug, Default)]
struct EventQueue {
    waiting: Lock<Waiting>,
    changed: Notify,
}

impl EventQueue {
    /// When the listener is slow, the oldest event is lost, never the newest.
    fn event(&self, event: &Event) {
        let mut waiting = self.waiting.lock();
        if waiting.events.len() == MAX_WAITING {
            waiting.events.pop_front();
            waiting.lost += 1;
        }
        waiting.events.push_back(event.clone());
        drop(waiting);
        self.changed.notify_one();
    }
}
