//! What the caller changes while a download runs, and what the download could use.

use std::time::Duration;

use super::readers::Want;
use super::{LeaseId, Phase, Planner};
use crate::model::admission::Need;
use crate::model::config::Connections;

impl Planner {
    /// Ends all leases and issues none until [`Self::resume`]. The bytes that they brought are
    /// kept, except those of a plain stream, which begins again from zero.
    pub fn pause(&mut self, now: Duration) {
        if self.limits.set_paused(true) {
            return;
        }
        let streams = self.asking.is_whole() && self.phase == Phase::Running;
        if streams && !self.leases.is_empty() {
            self.drain(false);
        }
        self.cancel_all(self.leases.ids());
        self.schedule(now);
    }

    /// Goes on after [`Self::pause`].
    pub fn resume(&mut self, now: Duration) {
        self.limits.set_paused(false);
        self.schedule(now);
    }

    /// Whether the caller limits the speed: then silence is not the server's fault.
    pub fn set_speed_limited(&mut self, limited: bool) {
        self.settings.speed_limited = limited;
    }

    /// At most `connections` leases at once from now on, whatever the limit: other downloads have
    /// the rest. Leases beyond that number go on to their end. With `rooms`, at most that many at
    /// each host, in the order of their numbers; none at hosts beyond the list.
    pub fn allow(&mut self, connections: usize, rooms: Option<Vec<usize>>, now: Duration) {
        if self.limits.allow(connections, rooms) {
            self.schedule(now);
        }
    }

    /// Where all readers stand from now on.
    pub fn want(&mut self, wants: Vec<Want>, now: Duration) {
        self.readers.want(wants);
        self.watch_prelude(now);
        self.make_room(now);
        self.schedule(now);
    }

    /// All bytes before the offset `given` were given out and cannot be taken
    /// back: from then on no other version of the object will do.
    pub fn on_given(&mut self, given: u64, now: Duration) {
        if self.readers.give(given) && self.phase == Phase::Running {
            self.schedule(now);
        }
    }

    /// What the download could use now.
    #[must_use]
    pub fn need(&self, now: Duration) -> Need {
        let in_use = self.leases.len();
        let live = !self.limits.is_paused() && self.phase != Phase::Ended;
        let waits = self.failures.waits(now) || self.failures.is_dying();
        let (useful, limit) = match (self.leases.map(), self.phase) {
            _ if !live || waits => (0, 0),
            (_, Phase::Opening) => (1, 1),
            (_, Phase::Draining { .. } | Phase::Ended) | (None, _) => (0, 0),
            (Some(_), _) if self.asking.is_whole() => (0, 0),
            (Some(map), _) => {
                let limit = if self.identity.is_in_doubt() { 1 } else { self.limit() };
                let pieces = map.missing_bytes().div_ceil(map.segment_size_bytes());
                // The byte behind a doubtful end is asked for as well.
                let pieces = pieces.max(u64::from(self.identity.end.is_doubtful()));
                let mut pieces = usize::try_from(pieces).unwrap_or(usize::MAX);
                if in_use > 0 && self.failures.holds_new(now) {
                    pieces = pieces.min(self.leases.speeds().count_idle());
                }
                // In the tail, idle connections wait to take over.
                let limit = if pieces == 0 && in_use == 0 { 0 } else { limit };
                (in_use.saturating_add(pieces).min(limit), limit)
            }
        };
        Need { in_use, useful: useful.max(in_use), limit: limit.max(in_use), live }
    }

    /// Another limit from now on. Leases beyond a lower number end at once; a
    /// number that a server refused before may be tried again.
    pub fn set_connections(&mut self, connections: Connections, now: Duration) {
        self.limits.set_connections(connections);
        if let Connections::Fixed(_) = connections {
            let staying = self.leases.iter().filter(|(_, lease)| !lease.leaving);
            let surplus: Vec<LeaseId> = staying.map(|(id, _)| *id).skip(self.limit()).collect();
            self.cancel_all(surplus);
        }
        self.schedule(now);
    }
}
