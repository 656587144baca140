//! What a running download and its handle share: wishes, what can be read, the
//! snapshot and the events.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::contents::Contents;
use crate::control::Control;
use crate::event::{Event, Progress};
use crate::io::limiter::Limiter;

/// So many events wait for a slow listener; older ones are dropped and counted.
const MAX_WAITING: usize = 256;

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    lost: u64,
    closed: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What the handle asks.
    pub(crate) control: Control,
    /// What can be read.
    pub(crate) contents: Contents,
    /// The download's own speed limit.
    pub(crate) limiter: Arc<Limiter>,
    progress: Mutex<Progress>,
    queue: Mutex<Queue>,
    changed: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Both hold plain data that is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(rate_bytes_per_second: Option<u64>) -> Self {
        Self {
            control: Control::default(),
            contents: Contents::default(),
            limiter: Arc::new(Limiter::new(rate_bytes_per_second)),
            progress: Mutex::default(),
            queue: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }

    pub(crate) fn set_progress(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut lock(&self.progress));
    }

    /// Queues an event; when the listener is slow the oldest one is lost, never the newest.
    pub(crate) fn send(&self, event: Event) {
        let mut queue = lock(&self.queue);
        if queue.events.len() == MAX_WAITING {
            queue.events.pop_front();
            queue.lost += 1;
        }
        queue.events.push_back(event);
        drop(queue);
        self.changed.notify_one();
    }

    /// Queues the last event, unless there was one.
    pub(crate) fn end(&self, last: Event) {
        if !lock(&self.queue).closed {
            self.send(last);
            lock(&self.queue).closed = true;
            self.changed.notify_one();
        }
    }

    pub(crate) async fn next(&self) -> Option<Event> {
        loop {
            {
                let mut queue = lock(&self.queue);
                if queue.lost > 0 {
                    return Some(Event::Lagged(std::mem::take(&mut queue.lost)));
                }
                if let Some(event) = queue.events.pop_front() {
                    return Some(event);
                }
                if queue.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}
