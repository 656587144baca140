//! The crew of the planner's simulations: simulated fetchers, which do what the planner
//! decides, in simulated time.
//!
//! Whatever the planner does, a byte comes once, and those of a segment come in order, until
//! everything is given up. What a network does with requests is each simulation's own.

use super::*;
use crate::model::config::{Connections, RetryPolicy};
use crate::model::error::ErrorKind;
use crate::model::validator::{EntityTag, Validator};

pub(super) fn tagged(tag: &str) -> Validator {
    let etag = EntityTag { weak: false, opaque: tag.into() };
    Validator { etag: Some(etag), last_modified: None }
}

pub(super) fn resource(total: u64, tag: &str) -> Resource {
    Resource {
        total: Some(total),
        validator: tagged(tag),
        ranges: true,
        encoding: None,
        content_type: None,
        content_disposition: None,
    }
}

pub(super) fn settings(connections: Connections) -> Settings {
    Settings {
        connections,
        stall_timeout: Duration::from_secs(5),
        retry: RetryPolicy::default(),
        first_byte_timeout: Duration::from_secs(300),
        first_range_bytes: FIRST_RANGE_BYTES,
        min_split_bytes: 0,
        speed_limited: false,
        ranges_only: false,
        refreshes: false,
        seed: 7,
    }
}

/// One simulated request at work for one lease, by a `wire` of the network.
pub(super) struct Fetch<W> {
    pub(super) lease: LeaseId,
    pub(super) source: SourceId,
    pub(super) range: ByteRange,
    /// Where the response ends; the lease may end before that.
    pub(super) asked_end: u64,
    pub(super) position: u64,
    /// When its bytes were first wanted.
    pub(super) storing: Option<Duration>,
    pub(super) wire: W,
}

/// What the network has to do.
pub(super) enum Task<W> {
    /// Bring bytes, those up to the object's end if it is an open range.
    Fetch { lease: LeaseId, source: SourceId, range: Option<ByteRange> },
    /// Close the connection of this one, which is over.
    Close(Fetch<W>),
    /// Find out the URL.
    Resolve { source: SourceId, refused: Option<Failure>, again: bool },
}

/// See the module's documentation.
pub(super) struct Crew<W> {
    pub(super) planner: Planner,
    pub(super) now: Duration,
    pub(super) total: u64,
    segment: u64,
    pub(super) fetches: Vec<Fetch<W>>,
    /// Bytes that are here of each segment, from its start.
    held: Vec<u64>,
    pub(super) resets: u32,
    pub(super) lost: Vec<(SourceId, bool)>,
    pub(super) finished: bool,
    pub(super) failed: Option<Failure>,
}

impl<W> Crew<W> {
    pub(super) fn new(planner: Planner, total: u64, segment: u64) -> Self {
        Self {
            planner,
            now: Duration::ZERO,
            total,
            segment,
            fetches: Vec::new(),
            held: vec![0; total.div_ceil(segment) as usize],
            resets: 0,
            lost: Vec::new(),
            finished: false,
            failed: None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.finished || self.failed.is_some()
    }

    pub(super) fn leases(&self) -> Vec<LeaseId> {
        self.fetches.iter().map(|fetch| fetch.lease).collect()
    }

    pub(super) fn find(&mut self, lease: LeaseId) -> Option<&mut Fetch<W>> {
        self.fetches.iter_mut().find(|fetch| fetch.lease == lease)
    }

    pub(super) fn take(&mut self, lease: LeaseId) -> Option<Fetch<W>> {
        let at = self.fetches.iter().position(|fetch| fetch.lease == lease)?;
        Some(self.fetches.swap_remove(at))
    }

    /// A request is sent, over `wire`.
    pub(super) fn send(
        &mut self,
        lease: LeaseId,
        source: SourceId,
        range: Option<ByteRange>,
        wire: W,
    ) -> ByteRange {
        let range = range.unwrap_or(ByteRange::open(0));
        let range = ByteRange::new(range.start(), range.end().min(self.total));
        let (asked_end, position) = (range.end(), range.start());
        let fetch = Fetch { lease, source, range, asked_end, position, storing: None, wire };
        self.fetches.push(fetch);
        range
    }

    fn size_of(&self, segment: usize) -> u64 {
        self.segment.min(self.total - segment as u64 * self.segment)
    }

    /// The segments that are here.
    pub(super) fn is_here(&self, segment: usize) -> bool {
        self.held[segment] == self.size_of(segment)
    }

    pub(super) fn all_is_here(&self) -> bool {
        (0..self.held.len()).all(|segment| self.is_here(segment))
    }

    /// Where the first segment starts that is not here, and the first byte of it that is not.
    pub(super) fn frontier(&self) -> (u64, u64) {
        match (0..self.held.len()).find(|segment| !self.is_here(*segment)) {
            None => (self.total, self.total),
            Some(first) => {
                let start = first as u64 * self.segment;
                (start, start + self.held[first])
            }
        }
    }

    /// The fetcher of `lease` hands so many bytes on: which segments that completes.
    pub(super) fn receive(&mut self, lease: LeaseId, bytes: u64) -> std::ops::Range<usize> {
        let fetch = self.find(lease).expect("at work");
        let from = fetch.position;
        fetch.position += bytes;
        let to = fetch.position;
        self.planner.on_received(lease, bytes, self.now);
        if bytes == 0 {
            return 0..0;
        }
        let (first, last) = (from / self.segment, (to - 1) / self.segment);
        for index in first as usize..=last as usize {
            let start = index as u64 * self.segment;
            let held = &mut self.held[index];
            assert_eq!(*held, from.max(start) - start, "bytes come once and in order");
            *held = to.min(start + self.segment) - start;
        }
        let end = if self.is_here(last as usize) { last + 1 } else { last };
        first as usize..end as usize
    }

    /// As [`Self::receive`], and what comes is stored.
    pub(super) fn store(&mut self, lease: LeaseId, bytes: u64) {
        for segment in self.receive(lease, bytes) {
            self.planner.on_stored(segment, self.now);
        }
    }

    /// What came of `segment` is not good.
    pub(super) fn is_bad(&mut self, segment: usize) {
        self.held[segment] = 0;
        let failure = Failure::new(ErrorKind::DigestMismatch, "wrong bytes");
        self.planner.on_bad_segments(segment..segment + 1, &failure, self.now);
    }

    /// Carries out what the planner has decided, up to the next task of the network.
    pub(super) fn next_task(&mut self) -> Option<Task<W>> {
        while let Some(action) = self.planner.poll_action() {
            match action {
                Action::Fetch { lease, source, range, .. } => {
                    return Some(Task::Fetch { lease, source, range });
                }
                Action::Open { .. } => {
                    self.planner.on_opened(self.segment, &Restored::default(), self.now);
                }
                Action::Store { lease, range } => {
                    let now = self.now;
                    let fetch = self.find(lease).expect("at work");
                    assert_eq!(fetch.position, range.start());
                    (fetch.range, fetch.storing) = (range, Some(now));
                }
                Action::Drop { lease } | Action::Cancel { lease } => {
                    if let Some(fetch) = self.take(lease) {
                        self.planner.on_ended(lease, LeaseEnd::Dropped, self.now);
                        return Some(Task::Close(fetch));
                    }
                }
                Action::Shrink { lease, end } => {
                    if let Some(fetch) = self.find(lease) {
                        let end = end.max(fetch.position).min(fetch.range.end());
                        fetch.range = ByteRange::new(fetch.range.start(), end);
                        self.planner.on_shrunk(lease, end, self.now);
                    }
                }
                Action::Reset { .. } => {
                    self.resets += 1;
                    self.held.fill(0);
                }
                Action::Lost { source, again, .. } => self.lost.push((source, again)),
                Action::Resolve { source, refused, again } => {
                    return Some(Task::Resolve { source, refused, again });
                }
                Action::Finish => self.finished = true,
                Action::Fail(failure) => self.failed = Some(failure),
                Action::Retry { .. } | Action::Notice(..) => {}
            }
        }
        None
    }
}
