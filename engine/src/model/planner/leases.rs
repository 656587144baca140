//! The leases and the map of segments: which lease owns which bytes, and how long the next
//! lease should be.
//!
//! A lease is *issued*, then *leaving* once it was told to stop early, and *removed* by its
//! last event. While the output is open there is a map, and a segment of it has one owner at
//! any time: a lease gives segments back before another one can own them. A segment that the
//! end of a lease cuts stays its own until all before that end is handed over, because
//! inside a segment bytes go to the writers in order.

use std::collections::{BTreeMap, btree_map};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::action::{Action, Failure, Restored, SourceId};
use super::lease::{Lease, Request};
use super::speed::Speeds;
use crate::model::event::MapCell;
use crate::model::range::ByteRange;
use crate::model::segment::{LeaseId, SegmentMap, SegmentState};

/// A lease of unknown speed is at most this long.
const PROBE_LEASE_BYTES: u64 = 16 << 20;
/// The same with several sources: a connection to a slow one is soon free for
/// another.
const SHORT_PROBE_BYTES: u64 = 4 << 20;
/// A share of what is missing is at least this part of what the first request
/// asks for.
const MIN_SHARE: u64 = 4;
/// All leases together stay within about this much of the file, unless requests
/// are so dear that this would make too many.
const FRONTIER_BYTES: u64 = 256 << 20;
/// A lease should last this long at the measured speed.
const LEASE_TIME_S: f64 = 4.0;
/// A request's latency may cost at most one part in this many of its lease.
const LATENCY_SHARE: f64 = 50.0;

/// What the length of the next lease depends on beside the leases.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    /// Connections that there may be now, and in a moment.
    pub(super) limit: usize,
    pub(super) prospect: usize,
    /// Whether several sources are used at once.
    pub(super) together: bool,
    pub(super) first_range_bytes: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Leases {
    map: Option<SegmentMap>,
    all: BTreeMap<LeaseId, Lease>,
    /// The last one that was issued; they begin at 1.
    last: LeaseId,
    speeds: Speeds,
}

impl Leases {
    pub(super) fn map(&self) -> Option<&SegmentMap> {
        self.map.as_ref()
    }

    pub(super) fn speeds(&self) -> &Speeds {
        &self.speeds
    }

    pub(super) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.all.get(&id)
    }

    pub(super) fn iter(&self) -> btree_map::Iter<'_, LeaseId, Lease> {
        self.all.iter()
    }

    pub(super) fn values(&self) -> btree_map::Values<'_, LeaseId, Lease> {
        self.all.values()
    }

    /// Those that were issued before `id`.
    pub(super) fn before(&self, id: LeaseId) -> btree_map::Range<'_, LeaseId, Lease> {
        self.all.range(..id)
    }

    pub(super) fn ids(&self) -> Vec<LeaseId> {
        self.all.keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What the next lease is called.
    pub(super) fn next_id(&self) -> LeaseId {
        self.last + 1
    }

    /// Whether bytes are missing that nobody fetches, as far as is known.
    pub(super) fn is_anything_missing(&self) -> bool {
        self.map.as_ref().is_none_or(|map| map.missing_bytes() > 0)
    }

    /// The output is open for so many bytes, if that is known; all are missing.
    pub(super) fn open(&mut self, total: Option<u64>, segment_size_bytes: u64) {
        self.map = total.map(|total| SegmentMap::new(total, segment_size_bytes));
    }

    /// Nothing is stored any more.
    pub(super) fn close(&mut self) {
        self.map = None;
    }

    /// An earlier run left these segments.
    pub(super) fn restore(&mut self, restored: &Restored) {
        let Some(map) = &mut self.map else { return };
        for &index in &restored.durable {
            map.restore(index, SegmentState::Complete);
        }
        for &index in &restored.verifying {
            map.restore(index, SegmentState::Verifying);
        }
    }

    /// The writers hold all of segment `index`.
    pub(super) fn complete(&mut self, index: usize) {
        if let Some(map) = &mut self.map {
            map.complete(index);
        }
    }

    /// Of segment `index`, which was restored, only so much is good.
    pub(super) fn restore_prefix(&mut self, index: usize, prefix_bytes: u64) {
        if let Some(map) = &mut self.map {
            map.restore(index, SegmentState::Missing { prefix_bytes });
        }
    }

    /// What is stored of these segments is not good.
    pub(super) fn forget(&mut self, segments: Range<usize>) {
        if let Some(map) = &mut self.map {
            segments.for_each(|index| map.forget(index));
        }
    }

    /// The next missing bytes, about `want_bytes` of them.
    pub(super) fn next_run(&mut self, want_bytes: u64) -> Option<ByteRange> {
        self.map.as_mut()?.next_run(want_bytes)
    }

    /// Where the first segment starts of which not all bytes are here.
    pub(super) fn frontier(&mut self) -> u64 {
        self.map.as_mut().map_or(0, SegmentMap::frontier)
    }

    /// Begins a lease. It owns no segments yet.
    pub(super) fn issue(&mut self, request: Request, now: Duration) -> Action {
        let Request { source, ask: range, conditional, .. } = request;
        self.last += 1;
        let lease = self.last;
        let expected = self.speeds.take_idle(source);
        self.all.insert(lease, Lease::new(request, expected, now));
        Action::Fetch { lease, source, range, conditional }
    }

    /// The missing segments of `range` belong to `id` from now on.
    pub(super) fn own(&mut self, id: LeaseId, range: ByteRange) {
        if let Some(map) = &mut self.map {
            map.lease(range, id);
        }
    }

    /// The response of `id`, which owns nothing yet, has `range`.
    pub(super) fn granted(&mut self, id: LeaseId, range: ByteRange) {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.range = range;
            lease.asked_end = range.end();
        }
    }

    /// `id` is to bring the whole object from its first byte, however long it is.
    pub(super) fn streams(&mut self, id: LeaseId, total: Option<u64>) {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.range = ByteRange::new(0, total.unwrap_or(u64::MAX));
            lease.position = 0;
            lease.start = 0;
        }
    }

    /// Sets what `id` is to bring, without a change of what it owns.
    pub(super) fn set_range(&mut self, id: LeaseId, range: ByteRange) {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.range = range;
        }
    }

    /// The response of `id` begins.
    pub(super) fn answered(&mut self, id: LeaseId, now: Duration) -> Option<&Lease> {
        let lease = self.all.get_mut(&id)?;
        lease.answered(now);
        let latency_s = (now - lease.issued_at).as_secs_f64();
        self.speeds.answered(latency_s, lease.expected.is_some());
        Some(lease)
    }

    /// The response of `id`, which has `range`, is stored.
    pub(super) fn take_up(&mut self, id: LeaseId, range: ByteRange) -> Option<Action> {
        let lease = self.all.get_mut(&id).filter(|lease| !lease.cancelled)?;
        lease.asked_end = range.end();
        if range.end() < lease.range.end() {
            let old_end = lease.range.end();
            lease.range = range;
            self.release_tail(id, range.end(), old_end);
        }
        Some(Action::Store { lease: id, range })
    }

    /// The response of `id`, which has `range`, waits to be taken up.
    pub(super) fn park(&mut self, id: LeaseId, range: ByteRange) {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.parked = Some(range);
        }
    }

    /// Takes up all responses that wait for it.
    pub(super) fn unpark(&mut self) -> Vec<Action> {
        let parked = |(id, lease): (&LeaseId, &mut Lease)| Some((*id, lease.parked.take()?));
        let parked: Vec<(LeaseId, ByteRange)> = self.all.iter_mut().filter_map(parked).collect();
        parked.into_iter().filter_map(|(id, range)| self.take_up(id, range)).collect()
    }

    /// The fetcher of `id` handed over so many bytes: which ones, and of which source.
    pub(super) fn advance(
        &mut self,
        id: LeaseId,
        bytes: u64,
        now: Duration,
    ) -> Option<(ByteRange, SourceId)> {
        let lease = self.all.get_mut(&id)?;
        let from = lease.position;
        lease.advance(bytes, now);
        Some((ByteRange::new(from, lease.position), lease.source))
    }

    /// `id` is the owner of the bytes that came: the segments that they are of.
    pub(super) fn written(
        &mut self,
        id: LeaseId,
        came: ByteRange,
    ) -> Option<RangeInclusive<usize>> {
        let map = self.map.as_mut()?;
        map.received(id, came.start(), came.end());
        (!came.is_empty()).then(|| map.index_of(came.start())..=map.index_of(came.end() - 1))
    }

    /// Refuses the response of `id`.
    pub(super) fn drop_response(&mut self, id: LeaseId) -> Action {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.leaving = true;
        }
        Action::Drop { lease: id }
    }

    /// Gives `id` up, unless that was done already.
    pub(super) fn cancel(&mut self, id: LeaseId, failure: Option<Failure>) -> Option<Action> {
        let lease = self.all.get_mut(&id)?;
        if lease.leaving && lease.cancelled_for.is_some() {
            return None;
        }
        lease.leaving = true;
        lease.cancelled = true;
        lease.cancelled_for = failure;
        Some(Action::Cancel { lease: id })
    }

    /// Gives these up.
    pub(super) fn cancel_all(&mut self, ids: Vec<LeaseId>) -> Vec<Action> {
        ids.into_iter().filter_map(|id| self.cancel(id, None)).collect()
    }

    /// What `id` is left for is charged when it has ended.
    pub(super) fn charge(&mut self, id: LeaseId, failure: Failure) {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.cancelled_for = Some(failure);
        }
    }

    /// Asks the fetcher of `id` to stop at `end`; `shared` so that others fetch what a
    /// reader reads next.
    pub(super) fn shrink(&mut self, id: LeaseId, end: u64, shared: bool) -> Action {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.leaving = true;
            lease.shared = shared;
        }
        Action::Shrink { lease: id, end }
    }

    /// The fetcher of `id` has answered where it will stop; false when it is over.
    pub(super) fn has_shrunk(&mut self, id: LeaseId) -> bool {
        let Some(lease) = self.all.get_mut(&id) else { return false };
        lease.leaving = lease.cancelled;
        lease.shared = false;
        true
    }

    /// `id` will stop at `end`: the segments beyond are free at once.
    pub(super) fn cut(&mut self, id: LeaseId, end: u64) {
        let Some(lease) = self.all.get_mut(&id) else { return };
        let old_end = lease.range.end();
        lease.range = ByteRange::new(lease.range.start(), end);
        self.release_tail(id, end, old_end);
    }

    fn release_tail(&mut self, id: LeaseId, end: u64, old_end: u64) {
        let Some(map) = &mut self.map else { return };
        let from = map.first_segment_boundary_after(end.saturating_sub(1));
        if from < old_end {
            map.release(id, ByteRange::new(from, old_end), from);
        }
    }

    /// `id` goes on to `end`, whoever was to bring what is before that: those lose all that
    /// they own, and must have stored nothing of it.
    pub(super) fn extend(&mut self, id: LeaseId, end: u64) -> Vec<LeaseId> {
        let mut overtaken = Vec::new();
        let (Some(lease), Some(map)) = (self.all.get_mut(&id), &mut self.map) else {
            return overtaken;
        };
        let taken = ByteRange::new(lease.range.end(), end);
        lease.range = ByteRange::new(lease.range.start(), end);
        for (other, lease) in self.all.iter_mut().filter(|(other, _)| **other != id) {
            if lease.range.intersection(taken).is_some() {
                map.release(*other, lease.range, lease.start);
                lease.range = ByteRange::new(lease.start, lease.start);
                lease.parked = None;
                overtaken.push(*other);
            }
        }
        let from = map.first_segment_boundary_after(taken.start().saturating_sub(1));
        if from < end {
            map.lease(ByteRange::new(from, end), id);
        }
        overtaken
    }

    /// `id` is over: what it still owns is missing.
    pub(super) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.all.remove(&id)?;
        if let Some(map) = &mut self.map {
            let end = lease.range.end().min(map.total_bytes()).max(lease.start);
            map.release(id, ByteRange::new(lease.start, end), lease.position);
        }
        Some(lease)
    }

    /// How fast `lease` was, which is over; `kept` when its connection takes another request.
    pub(super) fn learn(&mut self, lease: &Lease, kept: bool, now: Duration) {
        self.speeds.ended(lease, kept, now);
    }

    /// Nothing more is asked of `source`.
    pub(super) fn forget_source(&mut self, source: SourceId) {
        self.speeds.forget(source);
    }

    /// How long the next lease should be, for a connection of `speed` bytes a
    /// second: long enough that its request costs little, short enough that
    /// all connections end together.
    pub(super) fn lease_bytes(&self, speed: Option<f64>, shares: Shares, now: Duration) -> u64 {
        let Some(map) = &self.map else { return 0 };
        let known = speed.and_then(|speed| Some((speed, self.time_left_s(speed, now)?)));
        let Some((speed, left_s)) = known else {
            // Connections that may still be added want theirs, too.
            let share = map.missing_bytes() / shares.prospect as u64;
            let least = (shares.first_range_bytes / MIN_SHARE).clamp(1, PROBE_LEASE_BYTES);
            let most = if shares.together { SHORT_PROBE_BYTES } else { PROBE_LEASE_BYTES };
            return share.clamp(least.min(most), most);
        };
        let frontier = (FRONTIER_BYTES / shares.limit.max(1) as u64) as f64;
        let paid = speed * self.speeds.kept_latency_s() * LATENCY_SHARE;
        let target = (speed * LEASE_TIME_S).min(frontier).max(paid);
        let fair = speed * left_s;
        // A rest that is not worth a request of its own goes with it.
        let want = if fair < target * 1.5 { fair } else { target };
        want.clamp(1.0, FRONTIER_BYTES as f64) as u64
    }

    /// Seconds until everything is here, if all connections and one more of
    /// `joining` bytes a second went on as they do.
    pub(super) fn time_left_s(&self, joining: f64, now: Duration) -> Option<f64> {
        let map = self.map.as_ref()?;
        let mut left = map.missing_bytes();
        let mut speed = joining;
        let mut unknown = 0;
        for lease in self.all.values() {
            left += lease.rest_bytes();
            match lease.speed(now) {
                Some(known) => speed += known,
                None => unknown += 1,
            }
        }
        let known = self.all.len() - unknown + usize::from(joining > 0.0);
        let all = speed * (1.0 + unknown as f64 / known.max(1) as f64);
        (all > 0.0).then(|| left as f64 / all)
    }

    /// The object's bytes in at most 256 equal cells.
    pub(super) fn cells(&self) -> Vec<MapCell> {
        let Some(map) = &self.map else { return Vec::new() };
        let cells = map.len().min(256);
        let cell_of = |segments: Range<usize>| {
            let (mut done, mut size, mut active) = (0, 0, false);
            for index in segments {
                let range = map.range(index);
                size += range.len();
                done += match map.state(index) {
                    SegmentState::Missing { prefix_bytes } => prefix_bytes,
                    SegmentState::Leased(lease) => {
                        let position = self.all.get(&lease).map(|lease| lease.position);
                        active |= position.is_some_and(|position| range.contains(position));
                        position.unwrap_or(0).saturating_sub(range.start()).min(range.len())
                    }
                    _ => range.len(),
                };
            }
            MapCell { done: done as f32 / size.max(1) as f32, active }
        };
        (0..cells)
            .map(|cell| {
                let from = |cell: usize| (cell * map.len()).div_ceil(cells);
                cell_of(from(cell)..from(cell + 1))
            })
            .collect()
    }
}
