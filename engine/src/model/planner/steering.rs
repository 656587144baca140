//! What the caller changes while a download runs.

use std::time::Duration;

use super::{LeaseId, Phase, Planner};
use crate::config::Connections;

impl Planner {
    /// Ends all leases and issues none until [`Self::resume`]. What they
    /// brought is kept, except of a plain stream, which begins again from zero.
    pub fn pause(&mut self, now: Duration) {
        if std::mem::replace(&mut self.paused, true) {
            return;
        }
        if self.whole && self.phase == Phase::Running && !self.leases.is_empty() {
            self.drain(false);
        }
        let ids: Vec<LeaseId> = self.leases.keys().copied().collect();
        for id in ids {
            self.cancel(id, None);
        }
        self.schedule(now);
    }

    /// Goes on after [`Self::pause`].
    pub fn resume(&mut self, now: Duration) {
        self.paused = false;
        self.schedule(now);
    }

    /// Whether the caller limits the speed: silence is not the server's then.
    pub fn set_speed_limited(&mut self, limited: bool) {
        self.settings.speed_limited = limited;
    }

    /// Another limit from now on. Leases beyond a lower number end at once; what
    /// a server refused before may be tried again.
    pub fn set_connections(&mut self, connections: Connections, now: Duration) {
        self.settings.connections = connections;
        self.concurrency = super::Concurrency::new(connections);
        if let Connections::Fixed(_) = connections {
            let staying = self.leases.iter().filter(|(_, lease)| !lease.leaving);
            let surplus: Vec<LeaseId> = staying.map(|(id, _)| *id).skip(self.limit()).collect();
            for id in surplus {
                self.cancel(id, None);
            }
        }
        self.schedule(now);
    }
}
