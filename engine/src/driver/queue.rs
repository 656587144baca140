//! The download's place among those of its engine, and its pause.
//!
//! An engine shares out connections; [`Turn`] is the download's side of that. Each time the planner
//! has nothing more to do, the driver asks the queue for what could be used now, and hands the
//! grant to the planner. A download whose turn has not come yet holds and reads nothing:
//! [`Granted::begins`] says when to look at what an earlier run left. A pause gives all connections
//! back and, when it ends, takes another turn.

use crate::driver::turns::Turn;
use crate::model::admission::{HostNeed, Need};
use crate::model::planner::PlaceNeed;

pub(super) struct Queue {
    turn: Turn,
    /// Its turn has come before: what an earlier run left is known.
    begun: bool,
    /// Its turn came since it was started or resumed.
    served: bool,
    waiting: bool,
    told_waiting: bool,
    paused: bool,
    told_pause: bool,
}

/// What the download may do now.
pub(super) struct Granted {
    pub(super) connections: usize,
    /// How many of them at each host, where hosts have a bound.
    pub(super) rooms: Option<Vec<usize>>,
    /// This is its first turn.
    pub(super) begins: bool,
    /// It has begun or ceased to wait.
    pub(super) changed: bool,
    /// Its waiting is to be reported.
    pub(super) queued: bool,
}

/// The result of a wish to pause or to go on.
pub(super) enum Pausing {
    Unchanged,
    Begins,
    /// Whether the beginning of the pause was reported.
    Ends {
        told: bool,
    },
}

impl Queue {
    pub(super) fn new(turn: Turn) -> Self {
        Self {
            turn,
            begun: false,
            served: false,
            waiting: false,
            told_waiting: false,
            paused: false,
            told_pause: false,
        }
    }

    /// Whether hosts have a bound of their own.
    pub(super) fn is_bound_by_host(&self) -> bool {
        self.turn.is_bound_by_host()
    }

    /// Waits until [`Self::ask`] should be called again.
    pub(super) async fn comes(&mut self) {
        self.turn.comes().await;
    }

    /// How many connections are unused, and whether the engine has no other download.
    pub(super) fn spare(&self) -> (usize, bool) {
        self.turn.spare()
    }

    pub(super) fn set_priority(&mut self, priority: i32) {
        self.turn.set_priority(priority);
    }

    /// Asks for what could be used now, at `places`, which index `hosts`.
    pub(super) fn ask(&mut self, need: Need, places: &[PlaceNeed], hosts: &[String]) -> Granted {
        let by_host = self.turn.is_bound_by_host();
        let at_host = |it: &PlaceNeed| HostNeed {
            host: hosts[it.place].clone(),
            in_use: it.in_use,
            limit: it.limit,
        };
        let (grant, allowed) = self.turn.ask(need, places.iter().map(at_host).collect());
        let rooms = by_host.then(|| {
            let mut rooms = vec![0; hosts.len()];
            for (PlaceNeed { place, .. }, allowed) in places.iter().zip(allowed) {
                rooms[*place] = if grant.active { *allowed } else { 0 };
            }
            rooms
        });
        let turn = grant.active && grant.connections > 0;
        self.served |= turn;
        let waiting = need.live && need.limit > 0 && !turn;
        let untold = waiting && !self.served && !self.told_waiting;
        self.told_waiting |= untold;
        Granted {
            connections: if grant.active { grant.allowed } else { 0 },
            rooms,
            begins: turn && self.begins(),
            changed: std::mem::replace(&mut self.waiting, waiting) != waiting,
            queued: untold,
        }
    }

    /// Gives all connections back: the rest of the work needs none.
    pub(super) fn give_back(&mut self) {
        self.turn.ask(Need { live: true, ..Need::default() }, Vec::new());
    }

    /// Begins the download; true if it had not begun before.
    pub(super) fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn set_paused(&mut self, paused: bool) -> Pausing {
        match (std::mem::replace(&mut self.paused, paused), paused) {
            (false, true) => Pausing::Begins,
            (true, false) => {
                (self.served, self.told_waiting) = (false, false);
                Pausing::Ends { told: std::mem::take(&mut self.told_pause) }
            }
            _ => Pausing::Unchanged,
        }
    }

    /// Whether a pause is to be reported now: when nothing more can come.
    pub(super) fn tells_pause(&mut self, idle: bool) -> bool {
        self.paused && idle && !std::mem::replace(&mut self.told_pause, true)
    }
}
