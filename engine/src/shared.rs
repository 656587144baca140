//! What a running download and its handle share: the snapshot and the events.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::event::{Event, Progress};

/// So many events wait for a slow listener; older ones are dropped and counted.
const MAX_WAITING: usize = 256;

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    lost: u64,
    closed: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    progress: Mutex<Progress>,
    queue: Mutex<Queue>,
    changed: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Both hold plain data that is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
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

    /// No event follows.
    pub(crate) fn close(&self) {
        lock(&self.queue).closed = true;
        self.changed.notify_one();
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
