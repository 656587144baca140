//! The planner: the state machine that decides what is fetched by whom.
//!
//! Inputs go in by `on_*` and [`Planner::tick`], each with the time `now`;
//! decisions come out of [`Planner::poll_action`]. The planner alone owns
//! segment state. It never sees a socket: a fetcher is a [`LeaseId`], a response
//! is a [`Verdict`].
//!
//! A download runs through these phases: *opening* (one request, which is the
//! first lease already, and may carry the whole object: see [`holder`]), *preparing* (the driver opens the output for what the
//! response told), *running*, and, when everything stored must be given up,
//! *draining* (all leases are cancelled and acknowledged) before it opens again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::concurrency::{Bound, Concurrency, Learned};
use super::range::ByteRange;
use super::rate::RateEstimator;
use super::resource::Resource;
use super::retry::Backoff;
use super::segment::{SegmentMap, SegmentState};
use super::validator::Validator;
use crate::model::error::ErrorKind;
use crate::model::event::{LimitedBy, MapCell};

mod action;
mod failing;
mod holder;
mod judge;
mod known_end;
mod prelude;
mod refusals;
mod relief;
mod schedule;
mod sources;
mod speed;
mod steering;
mod streaming;
mod wanted;

pub use self::action::{Action, Failure, LeaseEnd, Restored, Settings};
use self::holder::Holder;
use self::known_end::KnownEnd;
use self::prelude::Prelude;
use self::refusals::{Ask, Ranges, Refusals};
use self::sources::Sources;
pub use self::sources::{MAX_SOURCES, PlaceId, PlaceNeed, SourceId};
use self::speed::Speeds;
pub use self::streaming::Reach;
pub use self::wanted::Want;
pub use super::segment::LeaseId;

/// The usual [`Settings::first_range_bytes`].
pub const FIRST_RANGE_BYTES: u64 = 4 << 20;

/// A shorter download says nothing of what its speed is limited by.
const TELLING: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Preparing(LeaseId),
    Running,
    /// All leases are being cancelled; then everything is forgotten.
    Draining {
        forget_identity: bool,
    },
    Ended,
}

#[derive(Debug)]
struct Lease {
    source: SourceId,
    /// The host that its connection goes to.
    place: PlaceId,
    range: ByteRange,
    /// Where the response ends: beyond the range, where that was shrunk.
    asked_end: u64,
    position: u64,
    start: u64,
    issued_at: Duration,
    head_at: Option<Duration>,
    last_byte_at: Duration,
    /// The mean time between bytes.
    pause: Duration,
    rate: RateEstimator,
    /// The speed of its connection before, where a kept one was expected.
    expected: Option<f64>,
    /// A shrink or cancel is on its way.
    leaving: bool,
    /// It is a shrink, so that others fetch what a reader reads next.
    shared: bool,
    /// It is a cancel: whatever comes of the connection is nobody's fault.
    cancelled: bool,
    cancelled_for: Option<Failure>,
    conditional: bool,
    in_doubt: bool,
    /// What its response has, while its bytes may still come by the first response.
    parked: Option<ByteRange>,
}

impl Lease {
    fn rest_bytes(&self) -> u64 {
        self.range.end().saturating_sub(self.position)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Planner {
    settings: Settings,
    phase: Phase,
    /// One plain stream instead of ranges.
    whole: bool,
    opening_range: ByteRange,
    resource: Option<Resource>,
    map: Option<SegmentMap>,
    /// See [`Planner::stay_within`].
    reach: Option<Reach>,
    /// Bytes of it were given out and cannot be taken back.
    given_out: bool,
    stream_ended_at: Option<u64>,
    known_end: KnownEnd,
    leases: BTreeMap<LeaseId, Lease>,
    next_lease: LeaseId,
    concurrency: Concurrency,
    backoff: Backoff,
    wait_until: Duration,
    pause_until: Duration,
    failures_in_a_row: u32,
    /// Leases taken from a connection that had brought nothing, since the last byte.
    reliefs_in_a_row: u32,
    /// A connection was refused, while so many others worked, at this time.
    suspicion: Option<(usize, Duration)>,
    lies_in_a_row: u32,
    /// Whether the last of them was a content coding that is not ours.
    other_coding: bool,
    /// The validator of a version that may have replaced ours.
    doubt: bool,
    /// Versions given up for another of the same size: one that comes back did
    /// not change.
    abandoned: Vec<(Option<u64>, Validator)>,
    /// Every version that a restart gave up.
    given_up: Vec<Resource>,
    /// What an earlier run claims to hold of the object.
    claimed: Option<Resource>,
    /// Leases that still stream may end before the download fails with this.
    dying: Option<Failure>,
    sources: Sources,
    /// How often the segments from this one on were stored and not as a piece of
    /// the object must be.
    bad: BTreeMap<usize, usize>,
    speeds: Speeds,
    /// Over all leases.
    received_bytes: u64,
    /// When received bytes last waited for the storage: silence since then is
    /// not the server's.
    storage_busy_at: Option<Duration>,
    storage_busy_ticks: u32,
    ticks: u32,
    /// When the output was first open.
    running_since: Option<Duration>,
    changes: u32,
    /// Whether everything was fetched again because of a digest.
    refetched: bool,
    paused: bool,
    /// See [`Planner::allow`].
    allowed: usize,
    rooms: Option<Vec<usize>>,
    /// Where readers stand.
    wants: Vec<Want>,
    prelude: Option<Prelude>,
    /// The first response, while nothing else has been shown to deliver.
    holder: Option<Holder>,
    refusals: Refusals,
    /// When responses were left before their end, of late.
    closed_early: Vec<Duration>,
    high_water: u64,
    actions: VecDeque<Action>,
}

impl Planner {
    /// A planner of a download that nothing is known of.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            concurrency: Concurrency::new(settings.connections),
            backoff: Backoff::new(settings.retry, settings.seed),
            phase: Phase::Opening,
            whole: false,
            opening_range: ByteRange::open(0),
            settings,
            resource: None,
            map: None,
            reach: None,
            given_out: false,
            stream_ended_at: None,
            known_end: KnownEnd::default(),
            leases: BTreeMap::new(),
            next_lease: 1,
            wait_until: Duration::ZERO,
            pause_until: Duration::ZERO,
            failures_in_a_row: 0,
            reliefs_in_a_row: 0,
            suspicion: None,
            lies_in_a_row: 0,
            other_coding: false,
            doubt: false,
            abandoned: Vec::new(),
            given_up: Vec::new(),
            claimed: None,
            dying: None,
            sources: Sources::default(),
            bad: BTreeMap::new(),
            speeds: Speeds::default(),
            received_bytes: 0,
            storage_busy_at: None,
            storage_busy_ticks: 0,
            ticks: 0,
            running_since: None,
            changes: 0,
            refetched: false,
            paused: false,
            allowed: usize::MAX,
            rooms: None,
            wants: Vec::new(),
            prelude: None,
            holder: None,
            refusals: Refusals::default(),
            closed_early: Vec::new(),
            high_water: 0,
            actions: VecDeque::new(),
        }
    }

    /// An earlier run holds parts of this object: the first request carries its
    /// validator as a precondition, and asks for `opening_range`.
    pub fn claim(&mut self, resource: Resource, opening_range: ByteRange) {
        self.claimed = Some(resource);
        self.refusals.has_partial = true;
        self.opening_range = opening_range;
    }

    /// Nothing of the object is wanted, as far as is known: the first request asks for one
    /// byte, to learn what it is.
    pub fn probe(&mut self) {
        self.opening_range = ByteRange::new(0, 1);
    }

    /// How far leases may go; `None` for no bound.
    pub fn stay_within(&mut self, reach: Option<Reach>) {
        self.reach = reach;
    }

    /// The next decision to carry out, if there is one.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Connections at work.
    #[must_use]
    pub fn active(&self) -> usize {
        self.leases.len()
    }

    /// The most connections that this download is to have.
    #[must_use]
    pub fn limit(&self) -> usize {
        if self.whole { 1 } else { self.concurrency.limit() }
    }

    /// An earlier download has shown this of the server that answers now.
    pub fn remember(&mut self, learned: Learned) {
        self.concurrency.remember(learned);
    }

    /// What this download has shown of the server.
    #[must_use]
    pub fn learned(&self) -> Option<Learned> {
        let learned = self.concurrency.learned().filter(|_| !self.whole)?;
        // Where something here held the speed, only a refusal was the server's.
        let ours = self.limited_here().is_some();
        (!ours || learned.why == Bound::Server).then_some(learned)
    }

    /// What kept the download from being faster, where that was measured.
    #[must_use]
    pub fn limited_by(&self, now: Duration) -> Option<LimitedBy> {
        let found = || self.concurrency.shown().filter(|_| !self.whole);
        self.limited_here().or_else(|| found().filter(|found| self.was_so_throughout(*found, now)))
    }

    /// Whether what a moment has shown fits all of the download, which must have been long
    /// enough to tell.
    fn was_so_throughout(&self, found: LimitedBy, now: Duration) -> bool {
        let whole = match found {
            LimitedBy::Connection { bytes_per_second } => {
                bytes_per_second.saturating_mul(self.limit() as u64)
            }
            LimitedBy::Link { bytes_per_second } => bytes_per_second,
            // That is no measure: it was refused.
            _ => return true,
        };
        let Some(since) = self.running_since else { return false };
        let time = now.saturating_sub(since);
        let mean = self.received_bytes as f64 / time.as_secs_f64().max(1e-3);
        time >= TELLING && (0.5..2.0).contains(&(mean / whole.max(1) as f64))
    }

    /// What of this side kept it.
    fn limited_here(&self) -> Option<LimitedBy> {
        if self.settings.speed_limited {
            return Some(LimitedBy::SpeedLimit);
        }
        // A few ticks are no measure.
        if self.ticks >= 4 && self.storage_busy_ticks * 2 > self.ticks {
            return Some(LimitedBy::Disk);
        }
        None
    }

    /// Rounds of backoff so far.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        self.backoff.total_rounds()
    }

    /// The object's bytes in at most 256 equal cells.
    #[must_use]
    pub fn map_cells(&self) -> Vec<MapCell> {
        let Some(map) = &self.map else { return Vec::new() };
        let cells = map.len().min(256);
        let cell_of = |segments: std::ops::Range<usize>| {
            let (mut done, mut size, mut active) = (0, 0, false);
            for index in segments {
                let range = map.range(index);
                size += range.len();
                done += match map.state(index) {
                    SegmentState::Missing { prefix_bytes } => prefix_bytes,
                    SegmentState::Leased(lease) => {
                        let position = self.leases.get(&lease).map(|lease| lease.position);
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

    /// Time passes: starts what may start, gives up what stalls. Call it at
    /// least every 100 ms.
    pub fn tick(&mut self, now: Duration) {
        self.give_up_stalled(now);
        self.ticks += u32::from(self.phase == Phase::Running);
        self.observe(now);
        self.tell_of_waiting(now);
        self.watch_prelude(now);
        self.make_room(now);
        self.schedule(now);
    }

    /// Received bytes wait for the storage. To be told at each tick.
    pub fn on_storage_busy(&mut self, now: Duration) {
        self.storage_busy_at = Some(now);
        self.storage_busy_ticks += 1;
    }

    /// The driver followed a redirect: the request is sent again at once.
    pub fn on_redirected(&mut self, id: LeaseId, now: Duration) {
        self.forget_lease(id);
        self.actions.push_back(Action::Drop { lease: id });
        self.schedule(now);
    }

    /// The output is open for what the first response told.
    pub fn on_opened(&mut self, segment_size_bytes: u64, restored: &Restored, now: Duration) {
        let Phase::Preparing(id) = self.phase else { return };
        self.phase = Phase::Running;
        self.running_since.get_or_insert(now);
        let total = self.resource.as_ref().and_then(|resource| resource.total);
        self.map = total.map(|total| SegmentMap::new(total, segment_size_bytes));
        let Some(lease) = self.leases.get_mut(&id) else { return self.schedule(now) };
        let Some(map) = &mut self.map else {
            lease.range = ByteRange::new(0, u64::MAX);
            self.actions.push_back(Action::Store { lease: id, range: lease.range });
            return;
        };
        for &index in &restored.durable {
            map.restore(index, SegmentState::Complete);
        }
        for &index in &restored.verifying {
            map.restore(index, SegmentState::Verifying);
        }
        // The response at hand is used as far as its bytes are missing and it
        // begins where a segment, or the prefix of one, is to be continued.
        let usable = map
            .next_run(lease.range.len().max(1))
            .filter(|run| run.start() == lease.range.start() && !lease.range.is_empty());
        match usable {
            Some(run) => {
                let range = ByteRange::new(run.start(), run.end().min(lease.range.end()));
                self.begin_holding(id, range);
                self.actions.push_back(Action::Store { lease: id, range });
            }
            None => self.drop_response(id),
        }
        self.begin_prelude(id, now);
        self.schedule(now);
    }

    /// The fetcher of `id` handed `bytes` to the writers.
    pub fn on_received(&mut self, id: LeaseId, bytes: u64, now: Duration) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let from = lease.position;
        lease.position += bytes;
        let position = lease.position;
        let pause = now.saturating_sub(lease.last_byte_at);
        lease.pause = (lease.pause * 7 + pause) / 8;
        lease.last_byte_at = now;
        self.received_bytes += bytes;
        lease.rate.record(bytes, now);
        let source = lease.source;
        self.hold_on(id, position);
        if let Some(map) = &mut self.map {
            map.received(id, from, position);
            if from < position {
                let segments = map.index_of(from)..=map.index_of(position - 1);
                self.sources.received(source, id, segments);
            }
        }
        let whole = self.whole;
        if whole && self.map.is_none() {
            self.known_end.came(position);
        }
        self.confirm_suspicion(now);
        self.watch_prelude(now);
        if self.concurrency.is_judging() && self.phase == Phase::Running {
            self.observe(now);
        }
        // A plain stream that starts over makes progress only where it passes
        // the furthest byte of the streams before it.
        if !whole || position > self.high_water {
            self.high_water = self.high_water.max(position);
            self.backoff.progress();
            self.failures_in_a_row = 0;
            self.reliefs_in_a_row = 0;
            self.lies_in_a_row = 0;
            self.refusals.progress();
        }
    }

    /// The fetcher of `id` will stop at `end`.
    pub fn on_shrunk(&mut self, id: LeaseId, end: u64, now: Duration) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        lease.leaving = lease.cancelled;
        lease.shared = false;
        if self.is_holder(id) {
            self.release_hold(end);
            return self.schedule(now);
        }
        let Some(lease) = self.leases.get_mut(&id) else { return };
        if end >= lease.range.end() {
            return;
        }
        let old_end = lease.range.end();
        lease.range = ByteRange::new(lease.range.start(), end);
        self.release_tail(id, end, old_end);
        self.schedule(now);
    }

    /// The lease is over; its last event.
    pub fn on_ended(&mut self, id: LeaseId, end: LeaseEnd, now: Duration) {
        let Some(lease) = self.forget_lease(id) else { return self.schedule(now) };
        self.watch_prelude(now);
        if self.is_holder(id) {
            self.holder = None;
            self.unpark();
        }
        let progressed = lease.position > lease.start;
        let kept = end == LeaseEnd::Complete
            && lease.range.end() == lease.asked_end
            && !self.sources.is_gone(lease.source);
        self.speeds.ended(&lease, kept, now);
        self.closes_early(&lease, &end, now);
        if progressed {
            self.sources.ended(lease.source, lease.mean_rate(now));
        }
        let source = lease.source;
        match end {
            LeaseEnd::Complete => {}
            LeaseEnd::BodyEnded if self.whole && self.map.is_none() => {
                match self.known_end.contradiction(lease.position) {
                    None => self.stream_ended_at = Some(lease.position),
                    Some(failure) => self.ended_badly(source, failure, progressed, false, now),
                }
            }
            // Whatever it was may be over when the download goes on.
            _ if self.paused => {}
            LeaseEnd::BodyEnded => {
                let failure = Failure::new(ErrorKind::Network, "the response ended before its end");
                self.ended_badly(source, failure, progressed, false, now);
            }
            LeaseEnd::Failed { failure, refused } if !lease.cancelled => {
                let refused = refused && lease.head_at.is_none();
                self.ended_badly(source, failure, progressed, refused, now);
            }
            LeaseEnd::Unanswered(failure) if !lease.cancelled => {
                let refused = lease.head_at.is_none();
                self.refusals.unanswered = refused;
                self.ended_badly(source, failure, progressed, refused, now);
            }
            // What broke while it was being cancelled is no failure of the server's.
            LeaseEnd::Failed { .. } | LeaseEnd::Unanswered(_) | LeaseEnd::Dropped => {
                if let Some(failure) = lease.cancelled_for {
                    self.ended_badly(source, failure, progressed, false, now);
                }
            }
        }
        self.schedule(now);
    }

    /// Bytes are stored that are not what the server said of them. Everything is
    /// fetched again, once.
    pub fn on_altered(&mut self, failure: Failure, now: Duration) {
        let over = matches!(self.phase, Phase::Draining { .. } | Phase::Ended);
        if !over && !self.refetch(&failure.message, now) {
            self.fail(failure);
        }
    }

    /// As [`Self::on_altered`], after [`Action::Finish`]. False when everything
    /// was fetched again already, from each source that there is.
    pub fn refetch(&mut self, why: &str, now: Duration) -> bool {
        if self.given_out {
            return false;
        }
        if self.live_sources() > 1 {
            let again = self.refetch_from_one(why);
            self.schedule(now);
            return again;
        }
        if std::mem::replace(&mut self.refetched, true) {
            return false;
        }
        // To get the same bytes again is progress here.
        self.high_water = 0;
        self.restart(why);
        self.schedule(now);
        true
    }

    /// The writers hold all of segment `index`.
    pub fn on_stored(&mut self, index: usize, now: Duration) {
        if let Some(map) = &mut self.map {
            map.complete(index);
        }
        self.schedule(now);
    }

    /// A segment of an earlier run was hashed again: wholly good, or good for
    /// its first `prefix_bytes`.
    pub fn on_verified(&mut self, index: usize, good: bool, prefix_bytes: u64, now: Duration) {
        if let Some(map) = &mut self.map {
            if good {
                map.complete(index);
            } else {
                map.restore(index, SegmentState::Missing { prefix_bytes });
            }
        }
        self.schedule(now);
    }

    fn forget_lease(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        if let Some(map) = &mut self.map {
            let end = lease.range.end().min(map.total_bytes()).max(lease.start);
            map.release(id, ByteRange::new(lease.start, end), lease.position);
        }
        Some(lease)
    }

    /// `id` will stop at `end`: the segments beyond are free at once. The one
    /// that `end` cuts stays its own until it has handed over all before `end`:
    /// inside a segment, bytes go to the writers in order.
    fn release_tail(&mut self, id: LeaseId, end: u64, old_end: u64) {
        let Some(map) = &mut self.map else { return };
        let from = map.first_segment_boundary_after(end.saturating_sub(1));
        if from < old_end {
            map.release(id, ByteRange::new(from, old_end), from);
        }
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "planner_network_tests.rs"]
mod network_tests;
