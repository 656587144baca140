//! The download's turn among those of its engine.

use super::*;
use crate::model::admission::Need;

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
    pub(super) fn take_turn(&mut self) {
        let now = self.now();
        let host = self.sources[self.opener].current.host_str().unwrap_or_default();
        let need = self.planner.need(now);
        let grant = self.turn.ask(host, need);
        let turn = grant.active && grant.connections > 0;
        self.queueing.served |= turn;
        if turn && !std::mem::replace(&mut self.queueing.begun, true) {
            // Before that, a download in a queue holds and reads nothing.
            if let Err(error) = self.look_for_earlier() {
                self.ended = Some(Err(error));
                return;
            }
        }
        self.planner.allow(if grant.active { grant.allowed } else { 0 }, now);
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
        let host = self.sources[self.opener].current.host_str().unwrap_or_default();
        self.turn.ask(host, Need { live: true, ..Need::default() });
    }

    /// What a stop needs to know of a download that was never begun.
    pub(super) fn know_earlier(&mut self) {
        if !std::mem::replace(&mut self.queueing.begun, true)
            && let Err(error) = self.look_for_earlier()
        {
            tracing::debug!(%error, "nothing is known of an earlier run");
        }
    }
}
