//! Readers: where they stand, how far leases may run ahead of them, and what is fetched
//! first because of them.
//!
//! The segment that a reader waits for is fetched next, if need be by a
//! connection taken from elsewhere; what follows it is fetched in short leases,
//! so that all connections work on the front that the reader moves along.
//!
//! Leases may be bound to stay near the front: for a digest that needs the bytes in order,
//! and for a reader that takes them from memory and passes them on. Bytes that were given
//! out cannot be taken back: from then on no other version of the object will do.

use std::time::Duration;

use super::holding::Holding;
use super::lease::Lease;
use super::leases::Leases;
use super::prelude::Prelude;
use crate::model::range::ByteRange;
use crate::model::segment::{LeaseId, SegmentMap, SegmentState};

/// How far ahead of a reader its order is kept.
const AHEAD_BYTES: u64 = 32 << 20;
/// No lease ahead of a reader is longer, so that others begin behind it.
const MAX_AHEAD_LEASE_BYTES: u64 = AHEAD_BYTES / 4;
/// A request's latency may cost at most one part in this many of a lease ahead of a reader.
const LATENCY_SHARE: f64 = 8.0;
/// A connection is taken from elsewhere only when that saves at least this, and
/// the time of two requests.
const WORTHWHILE_S: f64 = 0.25;
/// A connection that others wait for is relieved when that saves this much:
/// relieving it closes it, and another one is needed again for the next bytes.
const WORTH_RELIEVING_S: f64 = 0.5;
/// The longest first share while connections are few, for all of them together.
const FRONTIER_BYTES: u64 = 256 << 20;

/// How far leases may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This many bytes beyond the first missing byte: a multiple of the segment size,
    /// raised where connections would have no segment of their own.
    Frontier(u64),
    /// This many bytes beyond what was given out, and never more: they are in memory.
    Window {
        /// The size of the window.
        bytes: u64,
        /// The first byte that was not given out.
        given: u64,
    },
}

/// Where a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The offset of the byte that it reads next.
    pub position: u64,
    /// Set while it waits for that byte: its rank in the order in which the
    /// readers began to wait. The lowest comes first.
    pub waiting: Option<u64>,
}

/// What is at work, and how much more may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) leases: &'a Leases,
    pub(super) holding: &'a Holding,
    /// The most leases that may exist now.
    pub(super) places: usize,
    /// Whether the first response may be left for bytes that a reader waits for. Otherwise no
    /// waiting reader ends it, since the link may be good for that response only.
    pub(super) leaves_holder: bool,
}

impl Work<'_> {
    fn is_full(&self) -> bool {
        self.leases.len() >= self.places
    }

    fn holds_on_to(&self, id: LeaseId) -> bool {
        self.holding.is_holder(id) && !self.leaves_holder
    }
}

/// What makes room for a reader.
#[derive(Debug, Clone, Copy)]
pub(super) enum MakeRoom {
    /// This lease is given up.
    Cancel(LeaseId),
    /// This lease stops early; `shared` when the reader waits for what it brings.
    Shorten { lease: LeaseId, end: u64, shared: bool },
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Readers {
    wants: Vec<Want>,
    reach: Option<Reach>,
    /// Bytes were given out and cannot be taken back.
    given_out: bool,
    prelude: Option<Prelude>,
}

impl Readers {
    /// Where all readers stand from now on.
    pub(super) fn want(&mut self, wants: Vec<Want>) {
        self.wants = wants;
    }

    /// How far leases may go; `None` for no bound.
    pub(super) fn stay_within(&mut self, reach: Option<Reach>) {
        self.reach = reach;
    }

    /// All bytes before the offset `given` were given out. Returns whether that is news.
    pub(super) fn give(&mut self, given: u64) -> bool {
        match &mut self.reach {
            Some(Reach::Window { given: known, .. }) if *known != given => {
                *known = given;
                self.given_out = true;
                true
            }
            _ => false,
        }
    }

    pub(super) fn has_given_out(&self) -> bool {
        self.given_out
    }

    pub(super) fn somebody_waits(&self) -> bool {
        self.wants.iter().any(|want| want.waiting.is_some())
    }

    /// The positions of the readers that wait, the first in order first.
    pub(super) fn waiting(&self) -> Vec<u64> {
        let waits = |want: &Want| Some((want.waiting?, want.position));
        let mut waiting: Vec<(u64, u64)> = self.wants.iter().filter_map(waits).collect();
        waiting.sort_by_key(|want| want.0);
        waiting.into_iter().map(|want| want.1).collect()
    }

    /// The output is open, and `first` goes on: a reader may wait for what it brings.
    pub(super) fn begin(&mut self, first: LeaseId, leases: &Leases, now: Duration) {
        let first = leases.get(first).map(|lease| (first, lease));
        self.prelude = first.filter(|_| self.somebody_waits()).map(|it| Prelude::new(it, now));
    }

    /// What follows the first response goes on as usual.
    pub(super) fn end_prelude(&mut self) {
        self.prelude = None;
    }

    /// Whether the prelude still lasts. Called whenever bytes arrive.
    pub(super) fn watch(&mut self, leases: &Leases, now: Duration) {
        let waits = self.somebody_waits();
        if self.prelude.as_mut().is_some_and(|prelude| !prelude.lasts(waits, leases, now)) {
            self.prelude = None;
        }
    }

    /// Whether a lease may begin now for bytes that no reader has asked for.
    pub(super) fn may_begin(&self, leases: &Leases) -> bool {
        self.prelude.as_ref().is_none_or(|prelude| prelude.lets_begin(None, leases))
    }

    /// The longest share of the first response beside `connections` connections, in bytes.
    pub(super) fn first_share_bytes(&self, connections: u64) -> u64 {
        match self.reach {
            Some(Reach::Frontier(bytes)) => bytes / connections,
            Some(Reach::Window { bytes, .. }) => bytes / (2 * connections),
            None => FRONTIER_BYTES / connections,
        }
    }

    /// The next missing bytes to lease, about `want_bytes` of them, for one of
    /// `connections` connections.
    pub(super) fn next_run(
        &self,
        want_bytes: u64,
        connections: u64,
        leases: &mut Leases,
    ) -> Option<ByteRange> {
        let size = leases.map()?.segment_size_bytes();
        let (end, share, least) = match self.reach {
            None => return leases.next_run(want_bytes),
            Some(Reach::Frontier(bytes)) => {
                // Each connection gets two segments, however large they are.
                let bytes = bytes.max(2 * connections * size);
                (leases.frontier().saturating_add(bytes), bytes / connections, 1)
            }
            // Two leases per connection, so that one begins when another ends. Room that comes free
            // bit by bit is gathered until it is worth a request.
            Some(Reach::Window { bytes, given }) => {
                let share = bytes / (2 * connections);
                (given.saturating_add(bytes), share, (share / 2).max(1))
            }
        };
        let run = leases.next_run(want_bytes.min(share))?;
        if run.end() <= end {
            return Some(run);
        }
        // Whole segments, where that leaves enough. It never does where the reader waits
        // for the end of a segment as long as the window.
        let whole = Some(end / size * size).filter(|end| *end >= run.start() + least);
        let end = whole.unwrap_or(end);
        (run.start() < end && end - run.start() >= least).then(|| ByteRange::new(run.start(), end))
    }

    /// Whether a connection may take over from `lease` to save `saved_s` seconds. Inside a window
    /// most leases only wait for the reader, or for the first lease.
    pub(super) fn may_relieve(&self, lease: &Lease, saved_s: f64, leases: &Leases) -> bool {
        let (Some(Reach::Window { .. }), Some(map)) = (self.reach, leases.map()) else {
            return true;
        };
        let is_first = || leases.values().all(|other| lease.position <= other.position);
        map.missing_bytes() == 0 || saved_s > WORTH_RELIEVING_S && is_first()
    }

    /// The missing run that is read first, if any reader is near one.
    pub(super) fn wanted_run(&self, leases: &Leases, now: Duration) -> Option<ByteRange> {
        let map = leases.map()?;
        let first = |want: &Want| {
            let run = missing_run(map, want.position, ahead_lease_bytes(leases, now))?;
            let ahead_bytes = run.start().saturating_sub(want.position);
            let here = map.index_of(run.start()) == map.index_of(want.position);
            let urgent = want.waiting.filter(|_| here).unwrap_or(u64::MAX);
            let near = want.waiting.map(|_| ahead_bytes);
            let may = |prelude: &Prelude| prelude.lets_begin(near, leases);
            self.prelude.as_ref().is_none_or(may).then_some((urgent, ahead_bytes, run))
        };
        let first = self.wants.iter().filter_map(first).min_by_key(|found| (found.0, found.1));
        first.map(|(_, _, run)| run)
    }

    /// Takes a connection from elsewhere for a reader that waits at `position`, where no
    /// lease fetches its segment, or one will come to it only later.
    pub(super) fn room_at(&self, position: u64, work: Work<'_>, now: Duration) -> Option<MakeRoom> {
        let map = work.leases.map().filter(|map| position < map.total_bytes())?;
        let index = map.index_of(position);
        let worthwhile = worthwhile_s(work.leases);
        match map.state(index) {
            SegmentState::Missing { .. } if work.is_full() => {
                self.victim(map, worthwhile, work, now).map(MakeRoom::Cancel)
            }
            SegmentState::Leased(id) => {
                let start = map.range(index).start();
                let lease = work.leases.get(id)?;
                // Its fetcher is in this very segment, or about to be.
                if lease.position >= start {
                    let end = self.shared_end(lease, map, work, now)?;
                    return Some(MakeRoom::Shorten { lease: id, end, shared: true });
                }
                let gap = ByteRange::new(lease.position, start).len();
                if seconds(gap, lease, now) <= worthwhile {
                    return None;
                }
                Some(match work.is_full() && !work.holds_on_to(id) {
                    true => MakeRoom::Cancel(id),
                    false => MakeRoom::Shorten { lease: id, end: start, shared: false },
                })
            }
            _ => None,
        }
    }

    /// A reader waits for what `lease` brings. Free connections can bring the
    /// later part of its range: returns where that part begins.
    fn shared_end(
        &self,
        lease: &Lease,
        map: &SegmentMap,
        work: Work<'_>,
        now: Duration,
    ) -> Option<u64> {
        let least = ahead_lease_bytes(work.leases, now);
        let free = !work.is_full() && self.prelude.is_none();
        let end = map.first_segment_boundary_after(lease.position + least);
        let long = seconds(lease.rest_bytes(), lease, now) > 2.0 * worthwhile_s(work.leases);
        (free && long && !lease.leaving && end < lease.range.end()).then_some(end)
    }

    /// The lease that readers come to last; among leases that no reader comes to,
    /// the one with the most left to bring. None if one ends soon.
    fn victim(
        &self,
        map: &SegmentMap,
        worthwhile: f64,
        work: Work<'_>,
        now: Duration,
    ) -> Option<LeaseId> {
        let mut victim: Option<(u64, u64, LeaseId)> = None;
        for (id, lease) in work.leases.iter() {
            if seconds(lease.rest_bytes(), lease, now) <= worthwhile {
                return None;
            }
            let at = map.index_of(lease.position);
            let serves = |want: &Want| want.waiting.is_some() && map.index_of(want.position) == at;
            if !self.wants.iter().any(serves) && !work.holds_on_to(*id) {
                let ahead = self.wants.iter().filter_map(|want| {
                    let ahead = lease.position.saturating_sub(want.position);
                    (want.position < lease.range.end() && ahead < AHEAD_BYTES).then_some(ahead)
                });
                let ahead = ahead.min().unwrap_or(u64::MAX);
                victim = victim.max(Some((ahead, lease.rest_bytes(), *id)));
            }
        }
        victim.map(|(.., id)| id)
    }
}

/// Long enough that the request costs little, short enough that the reader
/// makes progress: all connections bring their leases at about the same time.
fn ahead_lease_bytes(leases: &Leases, now: Duration) -> u64 {
    // The mean counts one more connection, which may only share the line with the others.
    let sum: f64 = leases.values().filter_map(|lease| lease.speed(now)).sum();
    let mean = sum / (leases.len() + 1) as f64;
    let speed = if mean > 0.0 { mean } else { leases.speeds().typical() };
    let floor = speed * leases.speeds().kept_latency_s() * LATENCY_SHARE;
    (floor as u64).clamp(1, MAX_AHEAD_LEASE_BYTES)
}

/// What must be saved for a connection to be taken from elsewhere, in seconds.
fn worthwhile_s(leases: &Leases) -> f64 {
    WORTHWHILE_S + 2.0 * leases.speeds().fresh_latency_s()
}

/// How long the lease needs for `bytes`; very long while nothing has arrived.
fn seconds(bytes: u64, lease: &Lease, now: Duration) -> f64 {
    bytes as f64 / lease.speed(now).unwrap_or(0.0).max(1.0)
}

/// The first run of missing bytes in or after the segment of `position` and not
/// far from it, of about `want_bytes`.
fn missing_run(map: &SegmentMap, position: u64, want_bytes: u64) -> Option<ByteRange> {
    if position >= map.total_bytes() {
        return None;
    }
    let last = (position + AHEAD_BYTES).min(map.total_bytes()) - 1;
    (map.index_of(position)..=map.index_of(last)).find_map(|index| map.run_at(index, want_bytes))
}
