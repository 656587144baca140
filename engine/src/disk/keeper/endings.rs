//! The small downloads of an engine that end at the same time, and the threads that do it.
//!
//! A thread ends a group of them; its next group is whatever arrived in that time. Where many
//! arrive, others help, since everyone who waits for a disk can share one flush.

use std::sync::Arc;

use super::Keeper;
use super::ending::{End, Ending, run};
use super::gathered::Gathered;
use crate::disk::crew::Crew;
use crate::disk::writer::Writers;
use crate::lock::Lock;

/// Another thread joins for each group of this size that waits. Where a sync is quick, one thread
/// keeps the groups few with the least CPU time; where each is a flush, several share one.
const FOR_ANOTHER: usize = 8;
const MOST_LEADS: usize = 8;

/// The downloads of an engine that wait to be ended.
#[derive(Default)]
pub(crate) struct Endings(Lock<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Ending>,
    /// How many threads are at work; they take what is added before they leave.
    leads: usize,
}

impl Endings {
    /// Starts ending a download whose keeper has no thread; see [`super::ending`]. Blocks nobody.
    pub(super) fn begin(self: &Arc<Self>, keeper: Keeper, end: End) {
        if let End::Abandon { .. } = end {
            return keeper.end(end);
        }
        let writers = keeper.writers.clone();
        // No bytes are in flight, and this leaves less to do for whoever ends it.
        writers.let_go(&keeper.epoch);
        self.run(&writers, Ending::Kept { keeper: Box::new(keeper), end });
    }

    /// Publishes an object of which all bytes are here. Blocks nobody.
    pub(crate) fn publish(self: &Arc<Self>, writers: &Writers, gathered: Gathered) {
        self.run(writers, Ending::Whole(gathered));
    }

    fn run(self: &Arc<Self>, writers: &Writers, ending: Ending) {
        if ending.syncs() {
            self.add(writers.crew(), ending);
        } else {
            // A writer that is gone drops the reply.
            let _ = writers.run(move || run(vec![ending]));
        }
    }

    fn add(self: &Arc<Self>, crew: Crew, ending: Ending) {
        let mut state = self.0.lock();
        state.waiting.push(ending);
        if state.leads < MOST_LEADS && state.waiting.len() >= state.leads * FOR_ANOTHER {
            state.leads += 1;
            drop(state);
            let lead = Lead { endings: Arc::clone(self), ended: false };
            crew.begin(move || lead.run());
        }
    }
}

/// One thread at work. If it panics, or is dropped with its runtime before it began, another can
/// take its place.
struct Lead {
    endings: Arc<Endings>,
    ended: bool,
}

impl Lead {
    fn run(mut self) {
        loop {
            let mut state = self.endings.0.lock();
            let group = std::mem::take(&mut state.waiting);
            if group.is_empty() {
                state.leads -= 1;
                self.ended = true;
                return;
            }
            drop(state);
            run(group);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut state = self.endings.0.lock();
        state.leads -= 1;
        let alone = state.leads == 0;
        let left = if alone { std::mem::take(&mut state.waiting) } else { Vec::new() };
        drop(state);
        // Anyone who waits for them sees that nobody replies.
        drop(left);
    }
}
