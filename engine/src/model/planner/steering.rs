//! What the caller changes while a download runs.

use std::time::Duration;

use super::{LeaseId, Phase, Planner};
use crate::model::admission::Need;
use crate::model::config::Connections;

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

    /// At most so many leases at once from now on, whatever the limit: others have
    /// the rest. Those that are beyond it go on to their end. With `rooms`, so many
    /// at each host, in the order of their numbers; none beyond these.
    pub fn allow(&mut self, connections: usize, rooms: Option<Vec<usize>>, now: Duration) {
        let other_rooms = rooms.is_some() && self.rooms != rooms;
        self.rooms = rooms;
        if std::mem::replace(&mut self.allowed, connections) < connections || other_rooms {
            self.schedule(now);
        }
    }

    /// The most leases that may be now.
    pub(super) fn places(&self) -> usize {
        self.limit().min(self.allowed)
    }

    /// What could be used now.
    #[must_use]
    pub fn need(&self, now: Duration) -> Need {
        let in_use = self.leases.len();
        let live = !self.paused && self.phase != Phase::Ended;
        let waits = now < self.wait_until.max(self.pause_until) || self.dying.is_some();
        let (useful, limit) = match (&self.map, self.phase) {
            _ if !live || waits => (0, 0),
            (_, Phase::Opening) => (1, 1),
            (_, Phase::Draining { .. } | Phase::Ended) | (None, _) => (0, 0),
            (Some(_), _) if self.whole => (0, 0),
            (Some(map), _) => {
                let limit = if self.doubt { 1 } else { self.limit() };
                let pieces = map.missing_bytes().div_ceil(map.segment_size_bytes());
                // The byte behind a doubtful end is asked for as well.
                let pieces = pieces.max(u64::from(self.known_end.is_doubtful()));
                let pieces = usize::try_from(pieces).unwrap_or(usize::MAX);
                // In the tail, idle connections are there to take over.
                let limit = if pieces == 0 && in_use == 0 { 0 } else { limit };
                (in_use.saturating_add(pieces).min(limit), limit)
            }
        };
        Need { in_use, useful: useful.max(in_use), limit: limit.max(in_use), live }
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
