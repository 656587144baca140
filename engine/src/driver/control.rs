//! What a handle and its readers ask of a running download.
//!
//! These are wishes, the last of which counts, and not a queue: however often a
//! caller changes its mind, nothing grows. The driver is woken and looks.

use std::collections::BTreeMap;

use tokio::sync::Notify;

use crate::lock::Lock;
use crate::model::config::Connections;
use crate::model::planner::Want;

/// How a download is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// What is stored is kept, to be continued.
    Keep,
    /// What is stored is removed.
    Remove,
}

#[derive(Debug, Default)]
struct Current {
    paused: bool,
    connections: Option<Connections>,
    priority: Option<i32>,
    readers: BTreeMap<u64, Want>,
    next_reader: u64,
    next_wait: u64,
}

/// What the driver finds.
#[derive(Debug)]
pub(crate) struct Steering {
    /// Whether nothing is to be fetched for now.
    pub(crate) paused: bool,
    /// A new number of connections, given once.
    pub(crate) connections: Option<Connections>,
    /// A new priority, given once.
    pub(crate) priority: Option<i32>,
    /// Where all readers stand.
    pub(crate) wants: Vec<Want>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    current: Lock<Current>,
    changed: Notify,
}

impl Wishes {
    pub(crate) fn set_paused(&self, paused: bool) {
        self.current.lock().paused = paused;
        self.changed.notify_one();
    }

    pub(crate) fn set_connections(&self, connections: Connections) {
        self.current.lock().connections = Some(connections);
        self.changed.notify_one();
    }

    pub(crate) fn set_priority(&self, priority: i32) {
        self.current.lock().priority = Some(priority);
        self.changed.notify_one();
    }

    /// Wakes the driver, which has something to look at.
    pub(crate) fn poke(&self) {
        self.changed.notify_one();
    }

    /// Waits until something urgent was wished.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn steering(&self) -> Steering {
        let mut wishes = self.current.lock();
        Steering {
            paused: wishes.paused,
            connections: wishes.connections.take(),
            priority: wishes.priority.take(),
            wants: wishes.readers.values().copied().collect(),
        }
    }

    /// The id of a new reader, which has no position yet.
    pub(crate) fn new_reader(&self) -> u64 {
        let mut wishes = self.current.lock();
        wishes.next_reader += 1;
        wishes.next_reader
    }

    /// A reader reads at `position`, and need not wait.
    pub(crate) fn reads(&self, reader: u64, position: u64) {
        self.current.lock().readers.insert(reader, Want { position, waiting: None });
    }

    /// A reader waits for the byte at `position`.
    pub(crate) fn waits(&self, reader: u64, position: u64) {
        let mut wishes = self.current.lock();
        wishes.next_wait += 1;
        let waiting = Some(wishes.next_wait);
        wishes.readers.insert(reader, Want { position, waiting });
        drop(wishes);
        self.changed.notify_one();
    }

    /// A reader is gone.
    pub(crate) fn left(&self, reader: u64) {
        self.current.lock().readers.remove(&reader);
    }
}
