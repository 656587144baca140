//! The small downloads of an engine that end meanwhile, and who ends them together.
//!
//! A thread ends a group of them; its next group is whatever came in that time. Where more
//! come than that, others help, since a disk has one flush for all who wait for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ending::{End, Ending, run};
use crate::disk::crew::Crew;

/// Another thread comes for each so many that wait. Where a sync is quick, one keeps them
/// few with the least CPU time; where each is a flush, several share one.
const FOR_ANOTHER: usize = 8;
const MOST_LEADS: usize = 8;

/// The ends that wait, of an engine.
#[derive(Default)]
pub(crate) struct Endings(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Ending>,
    /// So many are at it, and take what is added before they go.
    leads: usize,
}

impl Endings {
    /// Begins with the end of a download whose keeper has no thread; see
    /// [`super::ending`]. Blocks nobody.
    pub(super) fn begin(self: &Arc<Self>, ending: Ending) {
        if let End::Abandon { .. } = ending.end {
            return run(vec![ending]);
        }
        let (writers, epoch) = (ending.keeper.writers.clone(), Arc::clone(&ending.keeper.epoch));
        // Nothing of it is on the way, and who ends it has the less to do.
        writers.let_go(&epoch);
        if ending.syncs() {
            self.add(writers.crew(), ending);
        } else {
            // A writer that is gone drops the reply.
            let _ = writers.run(&epoch, move || run(vec![ending]));
        }
    }

    fn add(self: &Arc<Self>, crew: Crew, ending: Ending) {
        let mut state = self.lock();
        state.waiting.push(ending);
        if state.leads < MOST_LEADS && state.waiting.len() >= state.leads * FOR_ANOTHER {
            state.leads += 1;
            drop(state);
            let lead = Lead { endings: Arc::clone(self), ended: false };
            crew.begin(move || lead.run());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever is at it. One that panics, or is dropped with its runtime before it began,
/// makes room for another.
struct Lead {
    endings: Arc<Endings>,
    ended: bool,
}

impl Lead {
    fn run(mut self) {
        loop {
            let mut state = self.endings.lock();
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
        let mut state = self.endings.lock();
        state.leads -= 1;
        let alone = state.leads == 0;
        let left = if alone { std::mem::take(&mut state.waiting) } else { Vec::new() };
        drop(state);
        // Who waits for them sees that nobody replies.
        drop(left);
    }
}
