//! The downloads of an engine and their turns at its connections; who gets what
//! is decided in [`Admission`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::admission::{Admission, Bounds, Grant, MemberId, Need};

#[derive(Debug)]
struct State {
    admission: Admission,
    bells: HashMap<MemberId, Arc<Notify>>,
}

/// Those of one engine.
#[derive(Debug)]
pub(crate) struct Turns(Mutex<State>);

impl Turns {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let admission = Admission::new(bounds);
        Self(Mutex::new(State { admission, bells: HashMap::new() }))
    }

    /// Connections in use, of all downloads.
    pub(crate) fn connections_in_use(&self) -> usize {
        self.lock().admission.in_use()
    }

    /// A download enters whose connections go to `host` at first. Unless it is
    /// `counted`, the bound on downloads at once is not for it.
    pub(crate) fn enter(self: &Arc<Self>, host: &str, priority: i32, counted: bool) -> Turn {
        let bell = Arc::new(Notify::new());
        let mut state = self.lock();
        let id = state.admission.enter(host, priority, counted);
        state.bells.insert(id, Arc::clone(&bell));
        drop(state);
        let last = (host.to_owned(), Need::default(), Grant::default());
        Turn { turns: Arc::clone(self), id, priority, bell, last: Some(last) }
    }

    /// Changes something, and wakes whom it concerns.
    fn change<T>(&self, change: impl FnOnce(&mut Admission) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state.admission);
        for id in state.admission.take_wake() {
            if let Some(bell) = state.bells.get(&id) {
                bell.notify_one();
            }
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in there would be a defect of the reckoning; what it leaves are
        // numbers, none of which is of use to memory or files.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One download's place among the others, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    id: MemberId,
    priority: i32,
    bell: Arc<Notify>,
    /// What was asked last and granted; `None` when another answer is due.
    last: Option<(String, Need, Grant)>,
}

impl Turn {
    /// What may be done by a download that needs this. Cheap while nothing changes.
    pub(crate) fn ask(&mut self, host: &str, need: Need) -> Grant {
        if let Some((last_host, last_need, grant)) = &self.last
            && *last_need == need
            && last_host == host
        {
            return *grant;
        }
        let grant = self.turns.change(|admission| admission.ask(self.id, host, need));
        match &mut self.last {
            Some((last_host, last_need, last_grant)) if last_host == host => {
                (*last_need, *last_grant) = (need, grant);
            }
            last => *last = Some((host.to_owned(), need, grant)),
        }
        grant
    }

    /// Waits until [`Self::ask`] should be called again.
    pub(crate) async fn comes(&mut self) {
        self.bell.notified().await;
        self.last = None;
    }

    /// Another priority from now on.
    pub(crate) fn set_priority(&mut self, priority: i32) {
        if std::mem::replace(&mut self.priority, priority) != priority {
            self.turns.change(|admission| admission.set_priority(self.id, priority));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.change(|admission| admission.leave(self.id));
        self.turns.lock().bells.remove(&self.id);
    }
}
