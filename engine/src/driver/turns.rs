//! The downloads of an engine and their turns at its connections; [`Admission`]
//! decides which of them gets what.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::lock::Lock;
use crate::model::admission::{Admission, Bounds, Grant, HostNeed, MemberId, Need};

#[derive(Debug)]
struct State {
    admission: Admission,
    bells: HashMap<MemberId, Arc<Notify>>,
}

/// The downloads of one engine.
#[derive(Debug)]
pub(crate) struct Scheduler(Lock<State>);

impl Scheduler {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let admission = Admission::new(bounds);
        Self(Lock::new(State { admission, bells: HashMap::new() }))
    }

    /// How many connections all downloads use.
    pub(crate) fn connections_in_use(&self) -> usize {
        self.0.lock().admission.in_use()
    }

    /// A download enters. Unless it is `counted`, the bound on active downloads does not apply to
    /// it.
    pub(crate) fn enter(self: &Arc<Self>, priority: i32, counted: bool) -> Turn {
        let bell = Arc::new(Notify::new());
        let mut state = self.0.lock();
        let id = state.admission.enter(priority, counted);
        let by_host = state.admission.is_bound_by_host();
        state.bells.insert(id, Arc::clone(&bell));
        drop(state);
        let last = Some(Answer::default());
        Turn { turns: Arc::clone(self), id, priority, by_host, bell, last }
    }

    /// Makes a change, and wakes the downloads that it concerns.
    fn change<T>(&self, change: impl FnOnce(&mut Admission) -> T) -> T {
        let mut state = self.0.lock();
        let result = change(&mut state.admission);
        for id in state.admission.take_wake() {
            if let Some(bell) = state.bells.get(&id) {
                bell.notify_one();
            }
        }
        result
    }
}

/// What was last asked for, and granted.
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
    /// Whether hosts have a bound of their own: then [`Self::ask`] needs them.
    pub(crate) fn is_bound_by_host(&self) -> bool {
        self.by_host
    }

    /// What is granted to a download that needs this at these hosts: in total, and at each of them.
    /// Cheap while nothing changes.
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

    /// How many connections are unused, and whether the engine has no other download.
    pub(crate) fn spare(&self) -> (usize, bool) {
        let state = self.turns.0.lock();
        (state.admission.spare(), state.admission.is_alone())
    }

    /// Changes the priority from now on.
    pub(crate) fn set_priority(&mut self, priority: i32) {
        if std::mem::replace(&mut self.priority, priority) != priority {
            self.turns.change(|admission| admission.set_priority(self.id, priority));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.change(|admission| admission.leave(self.id));
        self.turns.0.lock().bells.remove(&self.id);
    }
}
