//! The planner: the state machine that decides what is fetched by whom.
//!
//! Inputs go in by `on_*` and [`Planner::tick`], each with the time `now`;
//! decisions come out of [`Planner::poll_action`]. The planner alone owns
//! segment state. It never sees a socket: a fetcher is a [`LeaseId`], a response
//! is a [`Verdict`].
//!
//! A download runs through these phases: *opening* (one request, which is the
//! first lease already), *preparing* (the driver opens the output for what the
//! response told), *running*, and, when everything stored must be given up,
//! *draining* (all leases are cancelled and acknowledged) before it opens again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::concurrency::Concurrency;
use super::range::ByteRange;
use super::rate::RateEstimator;
use super::resource::Resource;
use super::response::{Lie, Remedy, Verdict};
use super::retry::Backoff;
use super::segment::{SegmentMap, SegmentState};
use super::validator::Validator;
use crate::config::{Connections, RetryPolicy};
use crate::error::ErrorKind;
use crate::event::{MapCell, NoticeCode};

pub use super::segment::LeaseId;

/// The usual [`Settings::first_range_bytes`].
pub const FIRST_RANGE_BYTES: u64 = 4 << 20;
/// A lease of unknown speed is at most this long.
const PROBE_LEASE_BYTES: u64 = 16 << 20;
/// No lease is longer, so that leases stay near the frontier.
const MAX_LEASE_BYTES: u64 = 256 << 20;
/// A lease should last this long at the measured speed.
const LEASE_TIME_S: f64 = 4.0;
/// A request's latency may cost at most one part in this many of its lease.
const LATENCY_SHARE: f64 = 25.0;
/// A straggler is relieved only when that saves at least this.
const WORTHWHILE_S: f64 = 0.5;
/// A lease slower than this part of what its peers, or it itself before, had
/// is given up.
const CRAWL_SHARE: f64 = 0.05;
/// Leases shorter than this say little of a connection's speed.
const TYPICAL_LEASE_BYTES: u64 = 256 << 10;
/// A connection is judged by its speed only after this long.
const GRACE: Duration = Duration::from_secs(1);
/// What comes over other connections so long after a refusal was not on its way
/// already: the server is there, and refuses.
const SUSPICION: Duration = Duration::from_millis(300);
const CRAWL_AFTER: Duration = Duration::from_secs(8);

/// What the caller chose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many connections.
    pub connections: Connections,
    /// Without a byte for this long a lease is given up.
    pub stall_timeout: Duration,
    /// Bounds of retrying.
    pub retry: RetryPolicy,
    /// How much the first request asks for, before anything is known.
    pub first_range_bytes: u64,
    /// Seeds the jitter of the backoff.
    pub seed: u64,
}

/// Why a download cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What sort.
    pub kind: ErrorKind,
    /// The cause, in words.
    pub message: String,
    /// The HTTP status, where one caused it.
    pub status: Option<u16>,
}

impl Failure {
    /// A failure without a status.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None }
    }
}

/// How a lease ended, as its fetcher says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseEnd {
    /// Everything it was given is handed over.
    Complete,
    /// The body ended cleanly before that, or its end was unknown.
    BodyEnded,
    /// Cancelled, or its response was refused.
    Dropped,
    /// A connection failed; `refused` when no response had begun.
    Failed {
        /// What failed.
        failure: Failure,
        /// Whether it failed before the response.
        refused: bool,
    },
}

/// What an earlier run left, segment by segment.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Segments whose bytes are believed as they are.
    pub durable: Vec<usize>,
    /// Segments and prefixes that are being hashed again.
    pub verifying: Vec<usize>,
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send a request for `range` (`None`: a plain GET) and run it as `lease`.
    Fetch {
        /// The new lease.
        lease: LeaseId,
        /// What to ask for.
        range: Option<ByteRange>,
        /// Whether to send If-Match or If-Unmodified-Since.
        conditional: bool,
    },
    /// The response of `lease` is the first valid one: open the output, then
    /// call [`Planner::on_opened`].
    Open {
        /// The lease that waits for its decision.
        lease: LeaseId,
        /// What the response said.
        resource: Resource,
    },
    /// Store the body of `lease`: bytes from `range.start` up to `range.end`.
    Store {
        /// The lease.
        lease: LeaseId,
        /// Where its bytes belong; the end is `u64::MAX` where it is unknown.
        range: ByteRange,
    },
    /// Refuse the response of `lease`.
    Drop {
        /// The lease.
        lease: LeaseId,
    },
    /// Ask the fetcher of `lease` to stop at `end`; it answers where it will.
    Shrink {
        /// The victim.
        lease: LeaseId,
        /// Where it should stop.
        end: u64,
    },
    /// Give `lease` up; its fetcher answers where it stopped.
    Cancel {
        /// The lease.
        lease: LeaseId,
    },
    /// Forget everything stored; nothing is being fetched.
    Reset {
        /// Whether the identity of the object is forgotten as well.
        forget_identity: bool,
    },
    /// Resolve the original URL again before the next request.
    Resolve,
    /// Tell the user that a round of backoff begins.
    Retry {
        /// Why.
        reason: String,
        /// Which round.
        attempt: u32,
        /// How long.
        wait: Duration,
    },
    /// Tell the user something.
    Notice(NoticeCode, String),
    /// Everything is stored: publish.
    Finish,
    /// Give up.
    Fail(Failure),
}

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
    range: ByteRange,
    position: u64,
    start: u64,
    issued_at: Duration,
    head_at: Option<Duration>,
    last_byte_at: Duration,
    rate: RateEstimator,
    /// A shrink or cancel is on its way.
    leaving: bool,
    cancelled_for: Option<Failure>,
    conditional: bool,
    in_doubt: bool,
}

impl Lease {
    fn rest_bytes(&self) -> u64 {
        self.range.end().saturating_sub(self.position)
    }

    /// Bytes a second since the response began; of a short time rather too low.
    fn mean_rate(&self, now: Duration) -> f64 {
        let since = self.head_at.map_or(Duration::MAX, |head_at| now.saturating_sub(head_at));
        (self.position - self.start) as f64 / since.as_secs_f64().max(0.05)
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
    stream_ended_at: Option<u64>,
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
    conditional: bool,
    /// The validator of a version that may have replaced ours.
    doubt: bool,
    /// Versions given up for another of the same size: one that comes back did
    /// not change.
    abandoned: Vec<(Option<u64>, Validator)>,
    /// What an earlier run claims to hold of the object.
    claimed: Option<Resource>,
    /// Leases that still stream may end before the download fails with this.
    dying: Option<Failure>,
    /// Mean speed of the leases that ended, in bytes a second.
    typical_rate: f64,
    changes: u32,
    /// Whether everything was fetched again because of a digest.
    refetched: bool,
    resolved_again: bool,
    latency_s: f64,
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
            opening_range: ByteRange::new(0, settings.first_range_bytes),
            settings,
            resource: None,
            map: None,
            stream_ended_at: None,
            leases: BTreeMap::new(),
            next_lease: 1,
            wait_until: Duration::ZERO,
            pause_until: Duration::ZERO,
            failures_in_a_row: 0,
            reliefs_in_a_row: 0,
            suspicion: None,
            lies_in_a_row: 0,
            other_coding: false,
            conditional: true,
            doubt: false,
            abandoned: Vec::new(),
            claimed: None,
            dying: None,
            typical_rate: 0.0,
            changes: 0,
            refetched: false,
            resolved_again: false,
            latency_s: 0.0,
            high_water: 0,
            actions: VecDeque::new(),
        }
    }

    /// An earlier run holds parts of this object: the first request carries its
    /// validator as a precondition, and asks for `opening_range`.
    pub fn claim(&mut self, resource: Resource, opening_range: ByteRange) {
        self.claimed = Some(resource);
        self.opening_range = opening_range;
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

    /// The most connections that may be used now.
    #[must_use]
    pub fn limit(&self) -> usize {
        if self.whole { 1 } else { self.concurrency.limit() }
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
        let mut done = vec![0u64; cells];
        let mut size = vec![0u64; cells];
        let mut active = vec![false; cells];
        for index in 0..map.len() {
            let cell = index * cells / map.len();
            let bytes = map.range(index).len();
            size[cell] += bytes;
            done[cell] += match map.state(index) {
                SegmentState::Missing { prefix_bytes } => prefix_bytes,
                SegmentState::Leased(lease) => {
                    let position = self.leases.get(&lease).map_or(0, |lease| lease.position);
                    active[cell] |=
                        self.leases.contains_key(&lease) && map.range(index).contains(position);
                    position.saturating_sub(map.range(index).start()).min(bytes)
                }
                _ => bytes,
            };
        }
        (0..cells)
            .map(|cell| MapCell {
                done: done[cell] as f32 / size[cell].max(1) as f32,
                active: active[cell],
            })
            .collect()
    }

    /// Time passes: starts what may start, gives up what stalls. Call it at
    /// least every 100 ms.
    pub fn tick(&mut self, now: Duration) {
        self.give_up_stalled(now);
        let total: f64 = self.leases.values().map(|lease| lease.rate.rate(now)).sum();
        self.concurrency.observe(total, self.leases.len(), now);
        self.schedule(now);
    }

    /// A response's head arrived and was classified.
    pub fn on_verdict(&mut self, id: LeaseId, verdict: Verdict, now: Duration) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        lease.head_at = Some(now);
        lease.last_byte_at = now;
        lease.rate.record(0, now);
        let latency = (now - lease.issued_at).as_secs_f64();
        self.latency_s =
            if self.latency_s == 0.0 { latency } else { self.latency_s * 0.8 + latency * 0.2 };
        if lease.leaving || matches!(self.phase, Phase::Draining { .. } | Phase::Ended) {
            return self.drop_response(id);
        }
        match verdict {
            Verdict::Partial { range, resource } => self.accept(id, range, resource),
            Verdict::Whole { resource } => self.accept_whole(id, resource),
            Verdict::Unsatisfied { total } => self.unsatisfied(id, total, now),
            Verdict::Redirect { .. } => self.drop_response(id),
            Verdict::Changed { seen } => self.changed(id, Some(&(seen.total, seen.validator))),
            Verdict::TagDiffers { seen } => self.doubt(id, &(seen.total, seen.validator)),
            Verdict::PreconditionFailed => self.precondition_failed(id),
            Verdict::Imposter { why } => {
                // Never sequential: without an identity the page would be the object.
                // A portal may have redirected here: ask where the object is again.
                self.drop_response(id);
                self.actions.push_back(Action::Resolve);
                self.failed(id, Failure::new(ErrorKind::Protocol, why), None, now);
            }
            Verdict::Lie(lie) => {
                let failure = Failure::new(ErrorKind::Protocol, lie.to_string());
                self.other_coding = matches!(lie, Lie::EncodingDiffers { .. });
                self.lied(id, failure, lie.remedy(), now);
            }
            Verdict::Throttled { status, retry_after } => {
                let failure = status_failure(status);
                self.drop_response(id);
                let others = self.leases.values().filter(|lease| !lease.leaving).count();
                self.refused(others, now);
                self.failed(id, failure, retry_after, now);
            }
            Verdict::Denied { status } => self.denied(id, status),
            Verdict::Status { status, transient: true, retry_after } => {
                self.drop_response(id);
                self.failed(id, status_failure(status), retry_after, now);
            }
            Verdict::Status { status, .. } => {
                self.drop_response(id);
                self.fail(status_failure(status));
            }
        }
        self.schedule(now);
    }

    /// The driver followed a redirect: the request is sent again at once.
    pub fn on_redirected(&mut self, id: LeaseId, now: Duration) {
        self.forget_lease(id);
        self.actions.push_back(Action::Drop { lease: id });
        self.schedule(now);
    }

    /// The driver met something that no planning helps against.
    pub fn give_up(&mut self, failure: Failure) {
        self.fail(failure);
    }

    /// The output is open for what the first response told.
    pub fn on_opened(&mut self, segment_size_bytes: u64, restored: &Restored, now: Duration) {
        let Phase::Preparing(id) = self.phase else { return };
        self.phase = Phase::Running;
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
                lease.range = range;
                map.lease(range, id);
                self.actions.push_back(Action::Store { lease: id, range });
            }
            None => self.drop_response(id),
        }
        self.schedule(now);
    }

    /// The fetcher of `id` handed `bytes` to the writers.
    pub fn on_received(&mut self, id: LeaseId, bytes: u64, now: Duration) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let from = lease.position;
        lease.position += bytes;
        lease.last_byte_at = now;
        lease.rate.record(bytes, now);
        if let Some(map) = &mut self.map {
            map.received(id, from, lease.position);
        }
        let whole = self.whole;
        let position = lease.position;
        self.confirm_suspicion(now);
        // A plain stream that starts over makes progress only where it passes
        // the furthest byte of the streams before it.
        if !whole || position > self.high_water {
            self.high_water = self.high_water.max(position);
            self.backoff.progress();
            self.failures_in_a_row = 0;
            self.reliefs_in_a_row = 0;
            self.lies_in_a_row = 0;
        }
    }

    /// The fetcher of `id` will stop at `end`.
    pub fn on_shrunk(&mut self, id: LeaseId, end: u64, now: Duration) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        lease.leaving = false;
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
        let progressed = lease.position > lease.start;
        let rate = lease.mean_rate(now);
        let old = self.typical_rate;
        // The mean of a short lease is too low, so it may only raise.
        if lease.position - lease.start >= TYPICAL_LEASE_BYTES || rate > old {
            self.typical_rate = if old == 0.0 { rate } else { old * 0.7 + rate * 0.3 };
        }
        match end {
            LeaseEnd::Complete => {}
            LeaseEnd::BodyEnded if self.whole && self.map.is_none() => {
                self.stream_ended_at = Some(lease.position);
            }
            LeaseEnd::BodyEnded => {
                let failure = Failure::new(ErrorKind::Network, "the response ended before its end");
                self.ended_badly(failure, progressed, false, now);
            }
            LeaseEnd::Dropped => {
                if let Some(failure) = lease.cancelled_for {
                    self.ended_badly(failure, progressed, false, now);
                }
            }
            LeaseEnd::Failed { failure, refused } => {
                self.ended_badly(failure, progressed, refused && lease.head_at.is_none(), now);
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
    /// was fetched again already.
    pub fn refetch(&mut self, why: &str, now: Duration) -> bool {
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

    fn drop_response(&mut self, id: LeaseId) {
        self.actions.push_back(Action::Drop { lease: id });
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.leaving = true;
        }
    }

    fn accept(&mut self, id: LeaseId, range: ByteRange, resource: Resource) {
        if self.phase == Phase::Opening
            && self.abandoned.contains(&(resource.total, resource.validator.clone()))
        {
            self.drop_response(id);
            return self.sequential_of_any_version("the version that was given up is served again");
        }
        let Some(lease) = self.leases.get_mut(&id) else { return };
        match self.phase {
            Phase::Opening => {
                lease.range = range;
                self.resource = Some(resource.clone());
                self.phase = Phase::Preparing(id);
                self.actions.push_back(Action::Open { lease: id, resource });
            }
            Phase::Running if lease.in_doubt => {
                // Our version is still served: the tags differ by edge or connection.
                self.sequential_of_any_version(
                    "the server's entity tags differ from connection to connection",
                );
            }
            Phase::Running => {
                if range.end() < lease.range.end() {
                    let old_end = lease.range.end();
                    lease.range = range;
                    self.release_tail(id, range.end(), old_end);
                }
                self.actions.push_back(Action::Store { lease: id, range });
            }
            _ => self.drop_response(id),
        }
    }

    fn accept_whole(&mut self, id: LeaseId, resource: Resource) {
        if self.phase != Phase::Opening {
            self.drop_response(id);
            self.sequential("the server answers some ranges with the whole object");
            return;
        }
        if let (Some(known), Some(total)) = (&self.resource, resource.total)
            && known.total.is_some_and(|known| known != total)
        {
            return self.changed(id, Some(&(resource.total, resource.validator)));
        }
        if !self.whole {
            let why = if resource.total.is_none() {
                "the server does not tell the size"
            } else {
                "the server ignores byte ranges"
            };
            self.notice(NoticeCode::SingleStream, format!("{why}: one connection, no resuming"));
        }
        self.whole = true;
        let Some(lease) = self.leases.get_mut(&id) else { return };
        lease.range = ByteRange::new(0, resource.total.unwrap_or(u64::MAX));
        lease.position = 0;
        lease.start = 0;
        self.resource = Some(resource.clone());
        self.phase = Phase::Preparing(id);
        self.actions.push_back(Action::Open { lease: id, resource });
    }

    fn unsatisfied(&mut self, id: LeaseId, total: Option<u64>, now: Duration) {
        let known = self.resource.as_ref().and_then(|resource| resource.total);
        match (self.phase, total) {
            (Phase::Opening, Some(0)) => {
                // RFC 9110 section 14.4: no range of an empty object can be satisfied.
                let resource = Resource {
                    total: Some(0),
                    validator: Validator::default(),
                    ranges: true,
                    encoding: None,
                    content_type: None,
                    content_disposition: None,
                };
                self.accept(id, ByteRange::new(0, 0), resource);
            }
            (Phase::Opening, Some(total))
                if self.opening_range.len() == 1
                    && self.claimed.as_ref().is_some_and(|c| c.total == Some(total)) =>
            {
                // Everything is here, and the size is still ours.
                if let Some(claimed) = self.claimed.clone() {
                    self.accept(id, ByteRange::new(0, 0), claimed);
                }
            }
            (Phase::Opening, Some(_)) if self.opening_range.start() > 0 => {
                self.drop_response(id);
                self.restart("the object is shorter than it was");
            }
            (Phase::Running, Some(total)) if known.is_some_and(|known| known != total) => {
                self.changed(id, None);
            }
            _ => {
                let failure = Failure {
                    kind: ErrorKind::Protocol,
                    message: "the server refused a range that the object has".to_owned(),
                    status: Some(416),
                };
                self.lied(id, failure, Remedy::Retry, now);
            }
        }
    }

    /// Another version is there. Once, the download starts from zero with it.
    fn changed(&mut self, id: LeaseId, seen: Option<&(Option<u64>, Validator)>) {
        self.drop_response(id);
        if matches!(self.phase, Phase::Draining { .. } | Phase::Ended) {
            return;
        }
        if !self.whole && seen.is_some_and(|seen| self.abandoned.contains(seen)) {
            return self.sequential_of_any_version("the server's validators alternate");
        }
        // What an earlier run claims may have changed long ago.
        if self.claimed.is_none() {
            self.changes += 1;
        }
        // Another size is another object; only tags can differ by edge.
        if let Some((ours, (total, _))) = self.resource.as_ref().zip(seen)
            && ours.total == *total
        {
            self.abandoned.push((ours.total, ours.validator.clone()));
        }
        if self.changes > 1 {
            return self.fail(Failure::new(
                ErrorKind::ObjectChanged,
                "the object changed again while it was downloaded",
            ));
        }
        self.restart("the object changed on the server");
    }

    /// The tag differs while the size is the same: ask once more,
    /// unconditionally, before believing in a change.
    fn doubt(&mut self, id: LeaseId, seen: &(Option<u64>, Validator)) {
        let in_doubt = self.leases.get(&id).is_some_and(|lease| lease.in_doubt);
        if self.phase == Phase::Opening || in_doubt {
            return self.changed(id, Some(seen));
        }
        self.drop_response(id);
        if self.phase == Phase::Running && !self.doubt {
            self.doubt = true;
            self.conditional = false;
        }
    }

    /// A 412 says that another version is there, but not which: another edge may
    /// have answered, with tags of its own. The same is asked without conditions,
    /// and the response's own validator judged.
    fn precondition_failed(&mut self, id: LeaseId) {
        let conditional = self.leases.get(&id).is_some_and(|lease| lease.conditional);
        if !conditional {
            return self.changed(id, None);
        }
        self.drop_response(id);
        self.conditional = false;
    }

    fn denied(&mut self, id: LeaseId, status: u16) {
        let conditional = self.leases.get(&id).is_some_and(|lease| lease.conditional);
        self.drop_response(id);
        if status == 403 && conditional {
            // Some signatures do not cover conditional headers.
            self.conditional = false;
        } else if self.phase != Phase::Running {
            self.fail(status_failure(status));
        } else if !self.resolved_again {
            self.resolved_again = true;
            self.actions.push_back(Action::Resolve);
        } else {
            // What streams already is allowed to end: it can be kept.
            self.dying = Some(status_failure(status));
        }
    }

    fn lied(&mut self, id: LeaseId, failure: Failure, remedy: Remedy, now: Duration) {
        self.drop_response(id);
        self.lies_in_a_row += 1;
        match remedy {
            Remedy::Fatal => self.fail(failure),
            Remedy::Sequential if !self.whole => self.sequential(&failure.message),
            Remedy::Retry if !self.whole && self.lies_in_a_row > 2 => {
                // The first response may have been the odd one.
                self.one_stream(&failure.message, self.other_coding);
            }
            _ => self.failed(id, failure, None, now),
        }
    }

    /// The lease is refused and its cause recorded: charged when it has ended.
    fn failed(&mut self, id: LeaseId, failure: Failure, after: Option<Duration>, now: Duration) {
        if let Some(after) = after {
            let after = after.min(self.settings.retry.max_retry_after);
            self.pause_until = self.pause_until.max(now + after);
        }
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.cancelled_for = Some(failure);
        }
    }

    fn ended_badly(&mut self, failure: Failure, progressed: bool, refused: bool, now: Duration) {
        if matches!(self.phase, Phase::Draining { .. } | Phase::Ended) {
            return;
        }
        if failure.kind == ErrorKind::Tls {
            return self.fail(failure);
        }
        if refused && self.suspicion.is_none() {
            self.suspicion = Some((self.leases.values().filter(|l| !l.leaving).count(), now));
        }
        if self.whole && self.phase == Phase::Running {
            // A plain stream cannot be continued: its bytes are fetched again.
            self.phase = Phase::Draining { forget_identity: false };
        }
        if progressed && !self.whole {
            return;
        }
        self.failures_in_a_row += 1;
        // Others may still bring something. But connections that fail one after
        // another, each while the next is tried, are a round all the same once
        // more of them failed than there are.
        if !self.leases.is_empty() && self.failures_in_a_row as usize <= self.limit() {
            let exponent = self.failures_in_a_row.min(5);
            let wait = Duration::from_millis(100) * 2u32.pow(exponent);
            self.wait_until = self.wait_until.max(now + wait);
            return;
        }
        self.failures_in_a_row = 0;
        self.suspicion = None;
        let pause = self.pause_until.saturating_sub(now);
        match self.backoff.fail((!pause.is_zero()).then_some(pause)) {
            Some(round) => {
                self.wait_until = now + round.wait;
                self.actions.push_back(Action::Retry {
                    reason: failure.message,
                    attempt: round.attempt,
                    wait: round.wait,
                });
            }
            None => self.fail(failure),
        }
    }

    /// A connection was refused. That is a limit of the server only if others
    /// still work; a server or a network that goes away refuses as well.
    fn confirm_suspicion(&mut self, now: Duration) {
        if let Some((active, since)) = self.suspicion
            && now.saturating_sub(since) >= SUSPICION
        {
            self.suspicion = None;
            self.refused(active, now);
        }
    }

    fn refused(&mut self, active: usize, now: Duration) {
        if active > 0 && self.concurrency.refused(active, now) {
            let limit = self.concurrency.limit();
            self.notice(
                NoticeCode::ConnectionLimit,
                format!("the server refuses more connections: going on with {limit}"),
            );
        }
    }

    fn notice(&mut self, code: NoticeCode, message: String) {
        self.actions.push_back(Action::Notice(code, message));
    }

    fn fail(&mut self, failure: Failure) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.actions.push_back(Action::Fail(failure));
        }
    }

    /// Everything stored is given up and ranges with it: one plain stream of the
    /// object that is known.
    fn sequential(&mut self, why: &str) {
        self.one_stream(why, false);
    }

    /// The same, of whatever version the one stream will have.
    fn sequential_of_any_version(&mut self, why: &str) {
        self.one_stream(why, true);
    }

    fn one_stream(&mut self, why: &str, forget_identity: bool) {
        if matches!(self.phase, Phase::Draining { .. } | Phase::Ended) || self.whole {
            return;
        }
        self.whole = true;
        if forget_identity {
            self.resource = None;
        }
        self.notice(NoticeCode::SingleStream, format!("{why}: one stream from the start"));
        self.drain(forget_identity);
    }

    fn restart(&mut self, why: &str) {
        self.notice(NoticeCode::Restarted, format!("{why}: starting from zero"));
        self.resource = None;
        self.drain(true);
    }

    fn drain(&mut self, forget_identity: bool) {
        self.phase = Phase::Draining { forget_identity };
        self.doubt = false;
        self.claimed = None;
        let ids: Vec<LeaseId> = self.leases.keys().copied().collect();
        for id in ids {
            self.cancel(id, None);
        }
    }

    fn cancel(&mut self, id: LeaseId, failure: Option<Failure>) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        if !lease.leaving || lease.cancelled_for.is_none() {
            lease.leaving = true;
            lease.cancelled_for = failure;
            self.actions.push_back(Action::Cancel { lease: id });
        }
    }

    fn give_up_stalled(&mut self, now: Duration) {
        if matches!(self.phase, Phase::Preparing(_)) {
            return;
        }
        let count = self.leases.len();
        let total: f64 = self.leases.values().map(|lease| lease.rate.rate(now)).sum();
        let mut victims = Vec::new();
        for (id, lease) in self.leases.iter().filter(|(_, lease)| !lease.leaving) {
            let silent = now.saturating_sub(lease.last_byte_at);
            let rate = lease.rate.rate(now);
            let peers = ((total - rate) / (count.max(2) - 1) as f64)
                .max(self.typical_rate)
                .max(lease.mean_rate(now));
            let old = now.saturating_sub(lease.issued_at) > CRAWL_AFTER;
            if silent >= self.settings.stall_timeout {
                victims.push((*id, format!("no byte for {} s", silent.as_secs())));
            } else if old && !self.whole && rate < peers * CRAWL_SHARE {
                victims.push((*id, "a connection crawls".to_owned()));
            }
        }
        for (id, why) in victims {
            self.cancel(id, Some(Failure::new(ErrorKind::Network, why)));
        }
    }

    fn schedule(&mut self, now: Duration) {
        if let Phase::Draining { forget_identity } = self.phase
            && self.leases.is_empty()
        {
            self.phase = Phase::Opening;
            self.map = None;
            self.opening_range = ByteRange::new(0, self.settings.first_range_bytes);
            self.conditional = true;
            self.stream_ended_at = None;
            self.actions.push_back(Action::Reset { forget_identity });
        }
        if now < self.wait_until.max(self.pause_until) {
            return self.finish_if_complete();
        }
        match self.phase {
            Phase::Opening if self.leases.is_empty() => {
                let range = (!self.whole).then_some(self.opening_range);
                self.issue(range.unwrap_or(ByteRange::new(0, u64::MAX)), range, now);
            }
            Phase::Running if self.dying.is_some() => {
                if self.leases.is_empty()
                    && let Some(failure) = self.dying.take()
                {
                    self.fail(failure);
                }
            }
            Phase::Running => {
                self.finish_if_complete();
                if self.phase == Phase::Running && !self.whole {
                    self.lease_out(now);
                }
            }
            _ => {}
        }
    }

    fn finish_if_complete(&mut self) {
        if self.phase != Phase::Running || !self.leases.is_empty() {
            return;
        }
        let complete = match &self.map {
            Some(map) => map.is_complete(),
            None => self.stream_ended_at.is_some(),
        };
        if complete {
            self.phase = Phase::Ended;
            self.actions.push_back(Action::Finish);
        }
    }

    fn lease_out(&mut self, now: Duration) {
        // In doubt about the identity, one question is asked at a time.
        let limit = if self.doubt { 1 } else { self.concurrency.limit() };
        while self.leases.len() < limit {
            let want = self.lease_bytes(now);
            let Some(run) = self.map.as_mut().and_then(|map| map.next_run(want)) else {
                return self.relieve_slowest(now);
            };
            self.issue(run, Some(run), now);
            if let Some(map) = &mut self.map {
                map.lease(run, self.next_lease - 1);
            }
        }
    }

    fn issue(&mut self, range: ByteRange, ask: Option<ByteRange>, now: Duration) {
        let lease = self.next_lease;
        self.next_lease += 1;
        let known = self.phase == Phase::Running || self.claimed.is_some();
        let conditional = self.conditional && known;
        self.leases.insert(
            lease,
            Lease {
                range,
                position: range.start(),
                start: range.start(),
                issued_at: now,
                head_at: None,
                last_byte_at: now,
                rate: RateEstimator::new(Duration::from_secs(2)),
                leaving: false,
                cancelled_for: None,
                conditional,
                in_doubt: self.doubt,
            },
        );
        self.actions.push_back(Action::Fetch { lease, range: ask, conditional });
    }

    /// How long the next lease should be: long enough that its request costs
    /// little, short enough that all connections end together.
    fn lease_bytes(&self, now: Duration) -> u64 {
        let Some(map) = &self.map else { return 0 };
        let share = map.missing_bytes() / self.concurrency.limit().max(1) as u64;
        let rate = self.mean_rate(now);
        if rate <= 0.0 {
            return share.clamp(1, PROBE_LEASE_BYTES);
        }
        let floor = (rate * self.latency_s * LATENCY_SHARE) as u64;
        let target = (rate * LEASE_TIME_S) as u64;
        share.min(target).max(floor).clamp(1, MAX_LEASE_BYTES)
    }

    fn mean_rate(&self, now: Duration) -> f64 {
        let rates: Vec<f64> =
            self.leases.values().map(|lease| lease.rate.rate(now)).filter(|r| *r > 0.0).collect();
        if rates.is_empty() { 0.0 } else { rates.iter().sum::<f64>() / rates.len() as f64 }
    }

    /// A connection is idle and nothing is missing: take the tail of the lease
    /// that would end last, or, inside its last segment, all that is left of it.
    fn relieve_slowest(&mut self, now: Duration) {
        let Some(map) = &self.map else { return };
        let rates = self.leases.values().map(|lease| lease.rate.rate(now));
        let best = rates.fold(self.typical_rate, f64::max).max(1.0);
        let overhead = self.latency_s * 2.0;
        let slowest = self
            .leases
            .iter()
            .filter(|(_, lease)| {
                let since = lease.head_at.unwrap_or(lease.issued_at);
                !lease.leaving && lease.rest_bytes() > 0 && now.saturating_sub(since) > GRACE
            })
            .map(|(id, lease)| {
                let left = lease.rest_bytes() as f64 / lease.rate.rate(now).max(1.0);
                // One that brought nothing yet is judged by its age.
                let age = (now - lease.issued_at).as_secs_f64();
                (*id, if lease.position > lease.start { left } else { age - overhead })
            })
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((id, left)) = slowest else { return };
        // One at a time: the idle connection takes what comes free first.
        if self.leases.values().any(|lease| lease.leaving) {
            return;
        }
        let lease = &self.leases[&id];
        if lease.position == lease.start {
            // Nothing came yet, so nothing is lost. But a server that needs its
            // time must get it: each relief without a byte waits for longer.
            if left > GRACE.as_secs_f64() * f64::from(1u32 << self.reliefs_in_a_row.min(16)) {
                self.reliefs_in_a_row += 1;
                self.cancel(id, None);
            }
            return;
        }
        let alone = lease.rest_bytes() as f64 / best + overhead;
        let boundary = map.first_segment_boundary_after(lease.position);
        // Both end together when the thief takes this share.
        let own = lease.rate.rate(now);
        let keep = (lease.rest_bytes() as f64 * own / (own + best)) as u64;
        let split = map.first_segment_boundary_after((lease.position + keep).max(boundary) - 1);
        if split < lease.range.end()
            && left * (1.0 - keep as f64 / lease.rest_bytes() as f64) > WORTHWHILE_S + overhead
        {
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.leaving = true;
            }
            self.actions.push_back(Action::Shrink { lease: id, end: split });
        } else if left > 3.0 * alone + WORTHWHILE_S {
            self.cancel(id, None);
        }
    }
}

fn status_failure(status: u16) -> Failure {
    let kind = match status {
        401 | 403 | 407 | 410 => ErrorKind::AccessDenied,
        _ => ErrorKind::HttpStatus,
    };
    Failure { kind, message: format!("the server answered {status}"), status: Some(status) }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
