//! The map of segments: who owns which part of the object.
//!
//! A segment is in exactly one state: missing (with a prefix that is already
//! stored), leased to one fetcher, written (handed to the writers), verifying
//! (believed from an earlier run, its hash not yet checked), or complete. A
//! lease is a run of whole segments, except that it may begin after the prefix
//! of its first segment and, when a server grants less than was asked, end
//! inside its last one. So a segment is always a prefix plus one writer.

use std::collections::BTreeSet;

use super::checkpoint::MAX_SEGMENTS;
use super::range::ByteRange;

/// The smallest segment that is chosen for an object, in bytes.
pub const MIN_CHOSEN_SEGMENT_BYTES: u64 = 256 << 10;

/// Identifies a lease within one download; never used twice.
pub type LeaseId = u64;

/// The state of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentState {
    /// Nobody fetches it; its first `prefix_bytes` are stored.
    Missing {
        /// Stored bytes from the segment's start.
        prefix_bytes: u64,
    },
    /// Owned by the fetcher of this lease.
    Leased(LeaseId),
    /// All its bytes are with the writers.
    Written,
    /// Stored by an earlier run; being hashed again.
    Verifying,
    /// Stored and hashed.
    Complete,
}

/// As large as a mapped window, which is then brought in once rather than for
/// each part of it.
const WINDOW_BYTES: u64 = 2 << 20;

/// With this many segments, one of them is a small part of a download: however
/// they are dealt out to sixteen connections, these end nearly together.
const FINE_SEGMENTS: u64 = 1024;

/// The segment size for an object of `total_bytes`: a power of two, such that
/// there are about [`FINE_SEGMENTS`] of them, but at least 256 KiB and at most
/// 2 MiB, unless there would be more than [`MAX_SEGMENTS`].
#[must_use]
pub fn choose_segment_size(total_bytes: u64) -> u64 {
    let fine = total_bytes.div_ceil(FINE_SEGMENTS).next_power_of_two();
    let least = total_bytes.div_ceil(MAX_SEGMENTS).next_power_of_two();
    fine.clamp(MIN_CHOSEN_SEGMENT_BYTES, WINDOW_BYTES).max(least)
}

/// The size of the segments of an object of `total_bytes`: `wanted`, raised if
/// there would be more than [`MAX_SEGMENTS`], or the size chosen for it if none
/// is wanted.
#[must_use]
pub fn segment_size(total_bytes: u64, wanted: Option<u64>) -> u64 {
    match wanted {
        Some(wanted) => total_bytes.div_ceil(MAX_SEGMENTS).next_power_of_two().max(wanted),
        None => choose_segment_size(total_bytes),
    }
}

/// All segments of one object.
#[derive(Debug, Clone)]
pub struct SegmentMap {
    total_bytes: u64,
    segment_size_bytes: u64,
    states: Vec<SegmentState>,
    complete: usize,
    missing_bytes: u64,
    /// No segment before this one is missing: scans begin here.
    first_candidate: usize,
    /// No segment before this one is missing or leased.
    first_open: usize,
    /// What is stored of these was bad, and is not here again.
    doubted: BTreeSet<usize>,
}

impl SegmentMap {
    /// All segments missing.
    ///
    /// # Panics
    /// When the segment size is zero.
    #[must_use]
    pub fn new(total_bytes: u64, segment_size_bytes: u64) -> Self {
        assert!(segment_size_bytes > 0, "a segment has bytes");
        let count = total_bytes.div_ceil(segment_size_bytes) as usize;
        Self {
            total_bytes,
            segment_size_bytes,
            states: vec![SegmentState::Missing { prefix_bytes: 0 }; count],
            complete: 0,
            missing_bytes: total_bytes,
            first_candidate: 0,
            first_open: 0,
            doubted: BTreeSet::new(),
        }
    }

    /// The object's size in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The size of every segment but the last, in bytes.
    #[must_use]
    pub fn segment_size_bytes(&self) -> u64 {
        self.segment_size_bytes
    }

    /// The number of the segment that has the byte at `offset`.
    #[must_use]
    pub fn index_of(&self, offset: u64) -> usize {
        (offset / self.segment_size_bytes) as usize
    }

    /// How many segments there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.states.len()
    }

    /// The bytes of segment `index`.
    #[must_use]
    pub fn range(&self, index: usize) -> ByteRange {
        let start = index as u64 * self.segment_size_bytes;
        ByteRange::new(start, (start + self.segment_size_bytes).min(self.total_bytes))
    }

    /// The state of segment `index`.
    #[must_use]
    pub fn state(&self, index: usize) -> SegmentState {
        self.states[index]
    }

    /// Whether every segment is complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete == self.states.len()
    }

    /// Bytes that nobody fetches and that are not stored.
    #[must_use]
    pub fn missing_bytes(&self) -> u64 {
        self.missing_bytes
    }

    /// How much segment `index` adds to the missing bytes in `state`.
    fn missing_in(&self, index: usize, state: SegmentState) -> u64 {
        match state {
            SegmentState::Missing { prefix_bytes } => self.range(index).len() - prefix_bytes,
            _ => 0,
        }
    }

    /// Sets what an earlier run left; only before the first lease of the segment.
    pub fn restore(&mut self, index: usize, state: SegmentState) {
        debug_assert!(!matches!(self.states[index], SegmentState::Leased(_)));
        self.set(index, state);
    }

    fn set(&mut self, index: usize, state: SegmentState) {
        let was = std::mem::replace(&mut self.states[index], state);
        self.complete -= usize::from(was == SegmentState::Complete);
        self.complete += usize::from(state == SegmentState::Complete);
        self.missing_bytes -= self.missing_in(index, was);
        self.missing_bytes += self.missing_in(index, state);
        if matches!(state, SegmentState::Missing { .. }) {
            self.first_candidate = self.first_candidate.min(index);
        }
        if matches!(state, SegmentState::Missing { .. } | SegmentState::Leased(_)) {
            self.first_open = self.first_open.min(index);
        }
    }

    /// The first run of missing bytes, of about `want_bytes`, rounded up to
    /// whole segments; never past a segment that has a prefix of its own. What was bad is fetched
    /// apart from what was not, so that a response brings nothing but its replacement.
    pub fn next_run(&mut self, want_bytes: u64) -> Option<ByteRange> {
        while let Some(state) = self.states.get(self.first_candidate) {
            if matches!(state, SegmentState::Missing { .. }) {
                break;
            }
            self.first_candidate += 1;
        }
        self.run_at(self.first_candidate, want_bytes)
    }

    /// The run of missing bytes that begins in segment `first`, as [`Self::next_run`].
    #[must_use]
    pub fn run_at(&self, first: usize, want_bytes: u64) -> Option<ByteRange> {
        let SegmentState::Missing { prefix_bytes } = *self.states.get(first)? else { return None };
        let start = self.range(first).start() + prefix_bytes;
        let mut last = first;
        let is_doubted = |index| self.doubted.contains(&index);
        while self.range(last).end() - start < want_bytes
            && matches!(self.states.get(last + 1), Some(SegmentState::Missing { prefix_bytes: 0 }))
            && is_doubted(last + 1) == is_doubted(first)
        {
            last += 1;
        }
        Some(ByteRange::new(start, self.range(last).end()))
    }

    /// The start of the first segment that is not all here; the object's end if
    /// there is none.
    pub fn frontier(&mut self) -> u64 {
        while let Some(state) = self.states.get(self.first_open) {
            if matches!(state, SegmentState::Missing { .. } | SegmentState::Leased(_)) {
                break;
            }
            self.first_open += 1;
        }
        (self.first_open as u64 * self.segment_size_bytes).min(self.total_bytes)
    }

    /// Gives every missing segment that `range` touches to `lease`. Segments in
    /// another state are left alone, which the caller must not rely on.
    pub fn lease(&mut self, range: ByteRange, lease: LeaseId) {
        for index in self.touched(range) {
            debug_assert!(
                matches!(self.states[index], SegmentState::Missing { .. }),
                "segment {index} is leased twice"
            );
            self.set(index, SegmentState::Leased(lease));
        }
    }

    /// The fetcher of `lease` handed over the bytes from `from` to `to`.
    pub fn received(&mut self, lease: LeaseId, from: u64, to: u64) {
        if from == to {
            return;
        }
        for index in self.touched(ByteRange::new(from, to)) {
            if self.range(index).end() <= to && self.states[index] == SegmentState::Leased(lease) {
                self.set(index, SegmentState::Written);
            }
        }
    }

    /// The part of `range` that `lease` still owns becomes missing; `position`
    /// is the first byte that it did not hand over.
    pub fn release(&mut self, lease: LeaseId, range: ByteRange, position: u64) {
        for index in self.touched(range) {
            if self.states[index] == SegmentState::Leased(lease) {
                let prefix_bytes = position.saturating_sub(self.range(index).start());
                self.set(index, SegmentState::Missing { prefix_bytes });
            }
        }
    }

    /// The writers hold all of segment `index`.
    pub fn complete(&mut self, index: usize) {
        self.set(index, SegmentState::Complete);
        self.doubted.remove(&index);
    }

    /// The stored bytes of segment `index` are bad: all of it is missing.
    /// Segments that are being fetched are left alone.
    pub fn forget(&mut self, index: usize) {
        if !matches!(self.states.get(index), None | Some(SegmentState::Leased(_))) {
            self.set(index, SegmentState::Missing { prefix_bytes: 0 });
            self.doubted.insert(index);
        }
    }

    /// The first byte of the first incomplete segment, where a stream in order stands.
    #[must_use]
    pub fn first_segment_boundary_after(&self, position: u64) -> u64 {
        (position / self.segment_size_bytes + 1)
            .saturating_mul(self.segment_size_bytes)
            .min(self.total_bytes)
    }

    fn touched(&self, range: ByteRange) -> std::ops::Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        let first = (range.start() / self.segment_size_bytes) as usize;
        let last = range.end().min(self.total_bytes).div_ceil(self.segment_size_bytes) as usize;
        first..last.max(first).min(self.states.len())
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
