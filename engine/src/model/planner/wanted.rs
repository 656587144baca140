//! What readers wait for comes first.
//!
//! A reader that waits has its segment fetched next, if need be by a connection
//! that is taken from elsewhere; what follows it is fetched in short leases, so
//! that all connections work on the front that it reads along.

use std::time::Duration;

use super::{Lease, LeaseId, Phase, Planner, Ranges};
use crate::model::range::ByteRange;
use crate::model::segment::{SegmentMap, SegmentState};

/// So far ahead of a reader its order is kept.
const AHEAD_BYTES: u64 = 32 << 20;
/// No lease ahead of a reader is longer: the others begin behind it.
const MAX_AHEAD_LEASE_BYTES: u64 = AHEAD_BYTES / 4;
/// A request's latency may cost at most one part in this many of its lease there.
const LATENCY_SHARE: f64 = 8.0;
/// A connection is taken from elsewhere only when that saves at least this, and
/// the time of two requests.
const WORTHWHILE_S: f64 = 0.25;

/// Where a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The offset of the byte that it reads next.
    pub position: u64,
    /// Set while it waits for that byte: since which time, in the order of all
    /// that wait. The lowest comes first.
    pub waiting: Option<u64>,
}

/// A run of missing bytes, and the reader that has it fetched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) run: ByteRange,
    /// How far the reader is from it.
    pub(super) ahead_bytes: u64,
    /// Whether that one waits.
    pub(super) waits: bool,
}

impl Planner {
    /// Where all readers stand from now on.
    pub fn want(&mut self, wants: Vec<Want>, now: Duration) {
        self.wants = wants;
        self.watch_prelude(now);
        self.make_room(now);
        self.schedule(now);
    }

    /// The missing run that is read first, if any reader is near one.
    pub(super) fn wanted_run(&self, now: Duration) -> Option<Wanted> {
        let map = self.map.as_ref()?;
        let first = |want: &Want| {
            let run = missing_run(map, want.position, self.ahead_lease_bytes(now))?;
            let ahead_bytes = run.start().saturating_sub(want.position);
            let here = map.index_of(run.start()) == map.index_of(want.position);
            let found = Wanted { run, ahead_bytes, waits: want.waiting.is_some() };
            let urgent = want.waiting.filter(|_| here).unwrap_or(u64::MAX);
            self.may_begin(Some(found)).then_some((urgent, ahead_bytes, found))
        };
        let first = self.wants.iter().filter_map(first).min_by_key(|found| (found.0, found.1));
        first.map(|(_, _, found)| found)
    }

    /// Long enough that the request costs little, short enough that the reader
    /// gets on: all connections bring their leases at about the same time.
    fn ahead_lease_bytes(&self, now: Duration) -> u64 {
        // Of one more, which may only share a line with those there are.
        let sum: f64 = self.leases.values().filter_map(|lease| lease.speed(now)).sum();
        let mean = sum / (self.leases.len() + 1) as f64;
        let speed = if mean > 0.0 { mean } else { self.speeds.typical };
        let floor = speed * self.speeds.kept_latency_s() * LATENCY_SHARE;
        (floor as u64).clamp(1, MAX_AHEAD_LEASE_BYTES)
    }

    /// Takes a connection from elsewhere for each reader whose segment nobody
    /// fetches, or will come to only later.
    pub(super) fn make_room(&mut self, now: Duration) {
        let able = self.phase == Phase::Running && self.dying.is_none() && now >= self.wait_until;
        // What is at work may be all that an expired link still brings.
        let able = able && !self.has_expired();
        if self.wants.is_empty() || !able || self.whole || self.doubt || self.paused {
            return;
        }
        let mut waiting: Vec<Want> =
            self.wants.iter().copied().filter(|want| want.waiting.is_some()).collect();
        waiting.sort_by_key(|want| want.waiting);
        for want in waiting {
            // One at a time: what comes free is given out first.
            if self.leases.values().any(|lease| lease.leaving) {
                return;
            }
            self.make_room_for(want.position, now);
        }
    }

    fn make_room_for(&mut self, position: u64, now: Duration) {
        let Some(map) = self.map.as_ref().filter(|map| position < map.total_bytes()) else {
            return;
        };
        let index = map.index_of(position);
        let full = self.leases.len() >= self.places();
        let worthwhile = WORTHWHILE_S + 2.0 * self.speeds.fresh_latency_s();
        match map.state(index) {
            SegmentState::Missing { .. } if full => {
                if let Some(victim) = self.victim(worthwhile, now) {
                    self.cancel(victim, None);
                }
            }
            SegmentState::Leased(id) => {
                let start = map.range(index).start();
                let Some(lease) = self.leases.get(&id) else { return };
                // Its fetcher is in this very segment, or about to be.
                if lease.position >= start {
                    return self.share(id, now);
                }
                let gap = ByteRange::new(lease.position, start).len();
                if seconds(gap, lease, now) <= worthwhile {
                    return;
                }
                if full && !self.holds_on_to(id) {
                    self.cancel(id, None);
                } else {
                    self.shorten(id, start, false);
                }
            }
            _ => {}
        }
    }

    /// A reader waits for what `id` brings. Of all that it is to bring, others
    /// that are free bring what comes later.
    fn share(&mut self, id: LeaseId, now: Duration) {
        let worthwhile = WORTHWHILE_S + 2.0 * self.speeds.fresh_latency_s();
        let least = self.ahead_lease_bytes(now);
        let free = self.leases.len() < self.places() && self.prelude.is_none();
        let (Some(map), Some(lease)) = (&self.map, self.leases.get(&id)) else { return };
        let end = map.first_segment_boundary_after(lease.position + least);
        let long = seconds(lease.rest_bytes(), lease, now) > 2.0 * worthwhile;
        if free && long && !lease.leaving && end < lease.range.end() {
            self.shorten(id, end, true);
        }
    }

    /// Whether a lease is about to give a part away that a reader has fetched next.
    pub(super) fn is_sharing(&self) -> bool {
        self.leases.values().any(|lease| lease.shared)
    }

    /// Whether `id` is the first response, which nobody's waiting ends, since it may be the
    /// only one that the link is good for. Where there is to be one connection, nothing can
    /// show beside it that there are others, and a reader would wait for all that it brings.
    fn holds_on_to(&self, id: LeaseId) -> bool {
        let one = self.concurrency.at_most().min(self.allowed) == 1;
        self.is_holder(id) && !(one && self.refusals.ranges == Ranges::Undoubted)
    }

    /// The lease that readers come to last, and of those that they do not come to
    /// the one with the most before it. None when one ends soon.
    fn victim(&self, worthwhile: f64, now: Duration) -> Option<LeaseId> {
        let map = self.map.as_ref()?;
        let mut victim: Option<(u64, u64, LeaseId)> = None;
        for (id, lease) in &self.leases {
            if seconds(lease.rest_bytes(), lease, now) <= worthwhile {
                return None;
            }
            let at = map.index_of(lease.position);
            let serves = |want: &Want| want.waiting.is_some() && map.index_of(want.position) == at;
            if !self.wants.iter().any(serves) && !self.holds_on_to(*id) {
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

/// How long the lease needs for `bytes`; very long while nothing came.
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
