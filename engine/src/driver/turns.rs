//! The downloads of an engine and their turns at its connections; who gets what
//! is decided in [`Admission`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::admission::{Admission, Bounds, Grant, HostNeed, MemberId, Need};

#[derive(Debug)]
struct State {
    admission: Admission,
    bells: HashMap<MemberId, Arc<Notify>>,
}

/// Those of one engine.
#[derive(Debug)]
pub(crate) struct Scheduler(Mutex<State>);

impl Scheduler {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let admission = Admission::new(bounds);
        Self(Mutex::new(State { admission, bells: HashMap::new() }))
    }

    /// Connections in use, of all downloads.
    pub(crate) fn connections_in_use(&self) -> usize {
        self.lock().admission.in_use()
    }

    /// A download enters. Unless it is `counted`, the bound on downloads at once is
    /// not for it.
    pub(crate) fn enter(self: &Arc<Self>, priority: i32, counted: bool) -> Turn {
        let bell = Arc::new(Notify::new());
        let mut state = self.lock();
        let id = state.admission.enter(priority, counted);
        let by_host = state.admission.is_bound_by_host();
        state.bells.insert(id, Arc::clone(&bell));
        drop(state);
        let last = Some(Answer::default());
        Turn { turns: Arc::clone(self), id, priority, by_host, bell, last }
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

/// What was asked last, and granted.
#[derive(Debug, Default)]
struct Answer {
    need: Need,
    hosts: Vec<HostNeed>,
    grant: Grant,
    allowed_at_hosts: Vec<usize>,
}

/// One download's place among the others, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Scheduler>,
    id: MemberId,
    priority: i32,
    by_host: bool,
    bell: Arc<Notify>,
    /// `None` when another answer is due.
    last: Option<Answer>,
}

impl Turn {
    /// Whether hosts have a bound of their own: then [`Self::ask`] is to be told of
    /// them.
    pub(crate) fn is_bound_by_host(&self) -> bool {
        self.by_host
    }

    /// What may be done by a download that needs this, at these hosts: all together,
    /// and at each of them. Cheap while nothing changes.
    pub(crate) fn ask(&mut self, need: Need, hosts: Vec<HostNeed>) -> (Grant, &[usize]) {
        let known = self.last.as_ref().is_some_and(|it| it.need == need && it.hosts == hosts);
        if !known {
            let (grant, allowed_at_hosts) = self.turns.change(|admission| {
                let grant = admission.ask(self.id, &hosts, need);
                (grant, admission.allowed_at_hosts(self.id).collect())
            });
            self.last = Some(Answer { need, hosts, grant, allowed_at_hosts });
        }
        let Answer { grant, allowed_at_hosts, .. } = self.last.get_or_insert_default();
        (*grant, allowed_at_hosts)
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
