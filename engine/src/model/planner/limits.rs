//! How many leases may be at work: what measuring shows to help and the server tolerates
//! ([`Concurrency`]), and what the caller leaves of that to this download.
//!
//! A connection that is refused raises a *suspicion*. It is confirmed, and the limit falls to
//! what worked then, only if others still deliver a while later: a server or a network that
//! goes away refuses as well. Connections that were just closed still count, because the
//! server may not know it yet.

use std::time::Duration;

use super::action::{LeaseEnd, PlaceId};
use super::holding::Holding;
use super::lease::Lease;
use super::leases::Leases;
use crate::model::concurrency::{Concurrency, Flow, Learned};
use crate::model::config::Connections;
use crate::model::segment::LeaseId;

/// What comes over other connections so long after a refusal was not on its way
/// already: the server is there, and refuses.
const SUSPICION: Duration = Duration::from_millis(300);
/// A server may count a connection for so long after it was closed.
const LINGERS: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Limits {
    concurrency: Concurrency,
    /// So many of them are left to this download, and so many at each host.
    allowed: usize,
    rooms: Option<Vec<usize>>,
    /// The caller wants none for now.
    paused: bool,
    /// A connection was refused, while so many others worked, at this time.
    suspicion: Option<(usize, Duration)>,
    /// When responses were left before their end, of late.
    closed_early: Vec<Duration>,
}

impl Limits {
    pub(super) fn new(connections: Connections) -> Self {
        Self {
            concurrency: Concurrency::new(connections),
            allowed: usize::MAX,
            rooms: None,
            paused: false,
            suspicion: None,
            closed_early: Vec::new(),
        }
    }

    /// Another number of connections; what a server refused before may be tried again.
    pub(super) fn set_connections(&mut self, connections: Connections) {
        self.concurrency = Concurrency::new(connections);
    }

    pub(super) fn remember(&mut self, learned: Learned) {
        self.concurrency.remember(learned);
    }

    /// What measuring has shown.
    pub(super) fn concurrency(&self) -> &Concurrency {
        &self.concurrency
    }

    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    /// Whether there is to be one connection, now and later.
    pub(super) fn is_one(&self) -> bool {
        self.concurrency.at_most().min(self.allowed) == 1
    }

    /// So many are left to this download. Whether that may be room for more.
    pub(super) fn allow(&mut self, connections: usize, rooms: Option<Vec<usize>>) -> bool {
        let other_rooms = rooms.is_some() && self.rooms != rooms;
        self.rooms = rooms;
        std::mem::replace(&mut self.allowed, connections) < connections || other_rooms
    }

    /// Whether the bound of the host `place` allows one more beside so many.
    pub(super) fn has_room(&self, place: PlaceId, in_use: impl Fn() -> usize) -> bool {
        let has = |rooms: &Vec<usize>| rooms.get(place).is_some_and(|most| in_use() < *most);
        self.rooms.as_ref().is_none_or(has)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// What it was before.
    pub(super) fn set_paused(&mut self, paused: bool) -> bool {
        std::mem::replace(&mut self.paused, paused)
    }

    /// Looks at what comes, of which so many bytes are here.
    pub(super) fn observe(&mut self, received_bytes: u64, leases: &Leases, now: Duration) {
        let flow = Flow {
            received_bytes,
            active: leases.len(),
            flowing: leases.values().filter(|lease| lease.has_progressed()).count(),
            round_trip_s: leases.speeds().kept_latency_s(),
            left_s: leases.time_left_s(0.0, now),
        };
        self.concurrency.observe(flow, now);
    }

    /// The server refused a connection beside `active` others: the limit, where it fell.
    pub(super) fn refused(&mut self, active: usize, now: Duration) -> Option<usize> {
        let fell = active > 0 && self.concurrency.refused(active, now);
        fell.then(|| self.concurrency.limit())
    }

    /// A connection was refused while so many others worked.
    pub(super) fn suspect(&mut self, active: impl FnOnce(&Self) -> usize, now: Duration) {
        if self.suspicion.is_none() {
            self.suspicion = Some((active(self), now));
        }
    }

    /// Nothing works any more.
    pub(super) fn forget_suspicion(&mut self) {
        self.suspicion = None;
    }

    /// Something comes: so many connections worked when one was refused, if that is long ago.
    pub(super) fn confirm_suspicion(&mut self, now: Duration) -> Option<usize> {
        let (active, _) = self.suspicion.filter(|it| now.saturating_sub(it.1) >= SUSPICION)?;
        self.suspicion = None;
        Some(active)
    }

    /// Leases that the server serves, the first response while it is cut among them, and
    /// connections that it may not yet know to be closed.
    pub(super) fn at_work(&self, leases: &Leases, holding: &Holding, now: Duration) -> usize {
        let works = |(id, lease): &(&LeaseId, &Lease)| {
            !lease.leaving || !lease.cancelled && holding.is_holder(**id)
        };
        let lingers = |closed_at: &&Duration| now.saturating_sub(**closed_at) < LINGERS;
        leases.iter().filter(works).count() + self.closed_early.iter().filter(lingers).count()
    }

    /// `lease` is over. Where its response was left before its end, that closed its connection.
    pub(super) fn ended(&mut self, lease: &Lease, end: &LeaseEnd, now: Duration) {
        let cut = *end == LeaseEnd::Complete && lease.range.end() < lease.asked_end;
        if lease.has_progressed() && (cut || *end == LeaseEnd::Dropped) {
            self.closed_early.retain(|closed_at| now.saturating_sub(*closed_at) < LINGERS);
            self.closed_early.push(now);
        }
    }
}
