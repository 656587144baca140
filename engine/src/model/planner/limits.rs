//! How many leases may be at work: as many as measuring shows to help and the server
//! tolerates ([`Concurrency`]), within what the caller leaves to this download.
//!
//! A connection that is refused raises a *suspicion*. It is confirmed, and the limit falls to
//! those that worked then and still do, only if others still deliver a while later: a server or a
//! network that goes away refuses as well. Connections that were just closed still count,
//! because the server may not know it yet.

use std::time::Duration;

use super::action::{LeaseEnd, PlaceId};
use super::holding::Holding;
use super::lease::Lease;
use super::leases::Leases;
use crate::model::concurrency::{Concurrency, Flow, Learned, Path};
use crate::model::config::Connections;
use crate::model::segment::LeaseId;

/// Bytes that arrive over other connections this long after a refusal were not
/// on their way already: the server is there, and refuses.
const SUSPICION: Duration = Duration::from_millis(300);
/// A server may still count a connection for this long after it was closed.
const LINGERS: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Limits {
    concurrency: Concurrency,
    /// How many of them are left to this download, and how many at each host.
    allowed: usize,
    rooms: Option<Vec<usize>>,
    /// The caller wants none for now.
    paused: bool,
    /// When a connection was refused, and how many others worked then.
    suspicion: Option<(usize, Duration)>,
    /// When responses were recently left before their end.
    closed_early: Vec<Duration>,
    /// What TCP shows, where the system tells.
    path: Option<Path>,
    /// When the last request was sent.
    asked_at: Option<Duration>,
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
            path: None,
            asked_at: None,
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

    /// How many are left to this download. Returns whether that may be room for more.
    pub(super) fn allow(&mut self, connections: usize, rooms: Option<Vec<usize>>) -> bool {
        let other_rooms = rooms.is_some() && self.rooms != rooms;
        self.rooms = rooms;
        std::mem::replace(&mut self.allowed, connections) < connections || other_rooms
    }

    /// Whether the bound of the host `place` allows one more lease beside `in_use`.
    pub(super) fn has_room(&self, place: PlaceId, in_use: impl Fn() -> usize) -> bool {
        let has = |rooms: &Vec<usize>| rooms.get(place).is_some_and(|most| in_use() < *most);
        self.rooms.as_ref().is_none_or(has)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Returns the earlier value.
    pub(super) fn set_paused(&mut self, paused: bool) -> bool {
        std::mem::replace(&mut self.paused, paused)
    }

    /// What TCP shows now.
    pub(super) fn set_path(&mut self, path: Option<Path>) {
        self.path = path;
    }

    /// A request is sent.
    pub(super) fn asks(&mut self, now: Duration) {
        self.asked_at = Some(now);
    }

    /// Whether one more request may be sent now: few go out on new connections until those
    /// are answered, and they are spaced out once the server refused one.
    pub(super) fn may_ask(&self, leases: &Leases, now: Duration) -> bool {
        if !self.concurrency.is_measuring() {
            return true;
        }
        let apart = self.concurrency.apart();
        if self.asked_at.is_some_and(|at| now.saturating_sub(at) < apart) {
            return false;
        }
        let waits = |lease: &&Lease| !lease.has_progressed() && lease.expected.is_none();
        let waiting = leases.values().filter(waits).count();
        let delivering = leases.count_delivering();
        leases.speeds().next_idle().is_some() || waiting < self.concurrency.unanswered(delivering)
    }

    /// Looks at the flow, of which `received_bytes` are here.
    pub(super) fn observe(&mut self, received_bytes: u64, leases: &Leases, now: Duration) {
        let flow = Flow {
            received_bytes,
            active: leases.len(),
            flowing: leases.count_delivering(),
            round_trip_s: leases.speeds().kept_latency_s(),
            left_s: leases.time_left_s(0.0, now),
            pause_s: leases.pause_s(),
            path: self.path,
        };
        self.concurrency.observe(flow, now);
    }

    /// The server refused a connection beside `active` others. Returns the limit, if it fell.
    pub(super) fn refused(&mut self, active: usize, now: Duration) -> Option<usize> {
        let fell = active > 0 && self.concurrency.refused(active, now);
        fell.then(|| self.concurrency.limit())
    }

    /// A connection was refused while `active` others worked.
    pub(super) fn suspect(&mut self, active: impl FnOnce(&Self) -> usize, now: Duration) {
        if self.suspicion.is_none() {
            self.suspicion = Some((active(self), now));
        }
    }

    /// Nothing works any more.
    pub(super) fn forget_suspicion(&mut self) {
        self.suspicion = None;
    }

    /// Bytes arrive: how many connections worked when one was refused, if that was long ago. Of
    /// those that waited for an answer then, only the ones that were not refused since.
    pub(super) fn confirm_suspicion(&mut self, leases: &Leases, now: Duration) -> Option<usize> {
        let long_ago = |at: Duration| now.saturating_sub(at) >= SUSPICION;
        let (active, at) = self.suspicion.take_if(|it| long_ago(it.1))?;
        let works = |lease: &&Lease| {
            lease.issued_at <= at || lease.head_at.is_some() || lease.expected.is_some()
        };
        let working = leases.values().filter(works).count() + leases.speeds().count_idle();
        Some(active.min(working + self.count_lingering(at)))
    }

    /// The connections that were closed by `at` and that the server may have counted still.
    fn count_lingering(&self, at: Duration) -> usize {
        let lingers = |closed_at: &&Duration| **closed_at <= at && at - **closed_at < LINGERS;
        self.closed_early.iter().filter(lingers).count()
    }

    /// The leases that the server serves, including the first response while it is cut,
    /// and connections that it may not yet know to be closed.
    pub(super) fn at_work(&self, leases: &Leases, holding: &Holding, now: Duration) -> usize {
        let works = |(id, lease): &(&LeaseId, &Lease)| {
            !lease.leaving || !lease.cancelled && holding.is_holder(**id)
        };
        leases.iter().filter(works).count() + self.count_lingering(now)
    }

    /// `lease` is over. If its response was left before its end, its connection was closed.
    pub(super) fn ended(&mut self, lease: &Lease, end: &LeaseEnd, now: Duration) {
        let cut = *end == LeaseEnd::Complete && lease.range.end() < lease.asked_end;
        if lease.has_progressed() && (cut || *end == LeaseEnd::Dropped) {
            self.closed_early.retain(|closed_at| now.saturating_sub(*closed_at) < LINGERS);
            self.closed_early.push(now);
        }
    }
}
