//! The leases and the map of segments: which lease owns which bytes, and how long the next
//! lease should be.
//!
//! A lease is *issued*, then *leaving* once it was told to stop early, and *removed* by its
//! last event. While the output is open there is a map, and each segment of it has one owner
//! at any time: a lease gives segments back before another can own them. A segment that the
//! end of a lease cuts stays with that lease until everything before that end is handed
//! over, because inside a segment bytes go to the writers in order.

use std::collections::{BTreeMap, btree_map};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::action::{Action, Failure, Restored, SourceId};
use super::lease::Lease;
use super::speed::Speeds;
use crate::model::event::MapCell;
use crate::model::range::ByteRange;
use crate::model::segment::{LeaseId, SegmentMap, SegmentState};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Leases {
    map: Option<SegmentMap>,
    all: BTreeMap<LeaseId, Lease>,
    /// The lease that was issued last; they begin at 1.
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

    /// The leases that were issued before `id`.
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

    /// The id of the next lease.
    pub(super) fn next_id(&self) -> LeaseId {
        self.last + 1
    }

    /// Whether bytes are missing that no lease fetches, as far as is known.
    pub(super) fn is_anything_missing(&self) -> bool {
        self.map.as_ref().is_none_or(|map| map.missing_bytes() > 0)
    }

    /// The output is open for `total` bytes, if that is known; all are missing.
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

    /// Of the restored segment `index`, only the first `prefix_bytes` are good.
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

    /// Where the first segment starts that is not all here.
    pub(super) fn frontier(&mut self) -> u64 {
        self.map.as_mut().map_or(0, SegmentMap::frontier)
    }

    /// Begins a lease with a request for `range`, or with a plain one. It owns no segments yet.
    pub(super) fn issue(&mut self, mut lease: Lease, range: Option<ByteRange>) -> Action {
        let (source, conditional) = (lease.source, lease.conditional);
        lease.expected = self.speeds.take_idle(source);
        self.last += 1;
        self.all.insert(self.last, lease);
        Action::Fetch { lease: self.last, source, range, conditional }
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

    /// `id` is to bring the whole object from its first byte, however long that is.
    pub(super) fn streams(&mut self, id: LeaseId, total: Option<u64>) {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.range = ByteRange::new(0, total.unwrap_or(u64::MAX));
            lease.position = 0;
            lease.start = 0;
        }
    }

    /// Sets what `id` is to bring, without changing what it owns.
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

    /// Takes up all parked responses.
    pub(super) fn unpark(&mut self) -> Vec<Action> {
        let parked = |(id, lease): (&LeaseId, &mut Lease)| Some((*id, lease.parked.take()?));
        let parked: Vec<(LeaseId, ByteRange)> = self.all.iter_mut().filter_map(parked).collect();
        parked.into_iter().filter_map(|(id, range)| self.take_up(id, range)).collect()
    }

    /// The fetcher of `id` handed over `bytes`: which bytes these are, and of which source.
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

    /// `id` owns the bytes that arrived: the segments that they belong to.
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

    /// Cancels `id`, unless that was done already.
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

    /// Cancels these leases.
    pub(super) fn cancel_all(&mut self, ids: Vec<LeaseId>) -> Vec<Action> {
        ids.into_iter().filter_map(|id| self.cancel(id, None)).collect()
    }

    /// The failure that `id` is left for is charged when the lease has ended.
    pub(super) fn charge(&mut self, id: LeaseId, failure: Failure) {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.cancelled_for = Some(failure);
        }
    }

    /// Asks the fetcher of `id` to stop at `end`; `shared` so that other leases fetch
    /// what a reader reads next.
    pub(super) fn shrink(&mut self, id: LeaseId, end: u64, shared: bool) -> Action {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.leaving = true;
            lease.shared = shared;
        }
        Action::Shrink { lease: id, end }
    }

    /// The fetcher of `id` has answered where it will stop; false if the lease is over.
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

    /// `id` goes on to `end`, whichever leases were to bring the bytes before it: they lose
    /// all that they own, and must have stored nothing of it.
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

    /// `id` is over: whatever it still owns is missing again.
    pub(super) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.all.remove(&id)?;
        if let Some(map) = &mut self.map {
            let end = lease.range.end().min(map.total_bytes()).max(lease.start);
            map.release(id, ByteRange::new(lease.start, end), lease.position);
        }
        Some(lease)
    }

    /// Learns from `lease`, which is over; `kept` when its connection takes another request.
    pub(super) fn learn(&mut self, lease: &Lease, kept: bool, now: Duration) {
        self.speeds.ended(lease, kept, now);
    }

    /// Nothing more is asked of `source`.
    pub(super) fn forget_source(&mut self, source: SourceId) {
        self.speeds.forget(source);
    }

    /// Seconds until everything is here, if all connections kept their speed
    /// and one more of `joining` bytes a second joined them.
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

    /// How many leases have brought bytes.
    pub(super) fn count_delivering(&self) -> usize {
        self.all.values().filter(|lease| lease.has_progressed()).count()
    }

    /// Seconds for which a connection typically pauses between chunks; 0 if most never did.
    pub(super) fn pause_s(&self) -> f64 {
        let pauses = || self.all.values().map(|it| it.chunk_pause).filter(|it| !it.is_zero());
        let count = pauses().count();
        match 2 * count >= self.count_delivering().max(1) {
            true => pauses().sum::<Duration>().as_secs_f64() / count as f64,
            false => 0.0,
        }
    }

    /// The object's bytes in at most 256 equal cells.
    pub(super) fn cells(&self) -> Vec<MapCell> {
        let Some(map) = &self.map else { return Vec::new() };
        let cells = map.count().min(256);
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
                let from = |cell: usize| (cell * map.count()).div_ceil(cells);
                cell_of(from(cell)..from(cell + 1))
            })
            .collect()
    }
}
