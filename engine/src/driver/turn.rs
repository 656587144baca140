//! The download's turn among those of its engine.

use super::*;
use crate::model::admission::{HostNeed, Need};
use crate::model::planner::PlaceNeed;

/// How it stands in the queue.
#[derive(Debug, Default)]
pub(super) struct Queueing {
    /// It was its turn before: what an earlier run left is known.
    begun: bool,
    /// Since it was started or resumed, it was its turn.
    served: bool,
    /// It waits now.
    pub(super) waiting: bool,
    told: bool,
}

impl Queueing {
    /// It is resumed, and comes in line again.
    pub(super) fn again(&mut self) {
        (self.served, self.told) = (false, false);
    }
}

impl Driver {
    /// Asks for what could be used now, and has the planner use what is granted.
    pub(super) async fn take_turn(&mut self) {
        let now = self.now();
        let need = self.planner.need(now);
        let by_host = self.turn.is_bound_by_host();
        let places = if by_host { self.planner.need_by_place(need, now) } else { Vec::new() };
        let at_host = |it: &PlaceNeed| HostNeed {
            host: self.hosts[it.place].clone(),
            in_use: it.in_use,
            limit: it.limit,
        };
        let (grant, allowed) = self.turn.ask(need, places.iter().map(at_host).collect());
        let mut rooms = vec![0; if by_host { self.hosts.len() } else { 0 }];
        for (PlaceNeed { place, .. }, allowed) in places.iter().zip(allowed) {
            rooms[*place] = if grant.active { *allowed } else { 0 };
        }
        let turn = grant.active && grant.connections > 0;
        self.queueing.served |= turn;
        if turn && !std::mem::replace(&mut self.queueing.begun, true) {
            // Before that, a download in a queue holds and reads nothing.
            if let Err(error) = self.look_for_earlier().await {
                self.ended = Some(Err(error));
                return;
            }
        }
        let allowed = if grant.active { grant.allowed } else { 0 };
        self.planner.allow(allowed, by_host.then_some(rooms), now);
        let waiting = need.live && need.limit > 0 && !turn;
        if std::mem::replace(&mut self.queueing.waiting, waiting) != waiting {
            self.publish_progress(false);
        }
        if waiting && !self.queueing.served && !std::mem::replace(&mut self.queueing.told, true) {
            self.shared.send(&Event::Queued);
        }
    }

    /// Gives all connections back: what is left to do is done without.
    pub(super) fn give_connections_back(&mut self) {
        self.turn.ask(Need { live: true, ..Need::default() }, Vec::new());
    }

    /// Tells the planner at which host `source` is: that is where its connections
    /// count from now on.
    pub(super) fn locate(&mut self, source: SourceId) {
        if !self.turn.is_bound_by_host() {
            return;
        }
        let name = self.sources[source].current.host_str().unwrap_or_default();
        let place = self.hosts.iter().position(|host| host == name).unwrap_or_else(|| {
            self.hosts.push(name.to_owned());
            self.hosts.len() - 1
        });
        self.planner.set_place(source, place);
    }

    /// What a stop needs to know of a download that was never begun.
    pub(super) async fn know_earlier(&mut self) {
        if !std::mem::replace(&mut self.queueing.begun, true)
            && let Err(error) = self.look_for_earlier().await
        {
            tracing::debug!(%error, "nothing is known of an earlier run");
        }
    }
}
