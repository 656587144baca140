//! The planner: the state machine that decides which lease fetches what, and from where.
//!
//! Inputs go in through `on_*` and [`Planner::tick`], each with the time `now`;
//! decisions come out of [`Planner::poll_action`]. Only the planner owns segment
//! state. It never sees a socket: a fetcher is a [`LeaseId`], a response is a
//! [`Verdict`](super::response::Verdict).
//!
//! A download runs through these phases: *opening* (one request, which is already the first
//! lease and may carry the whole object: see [`holding`]), *preparing* (the driver opens the
//! output as the response described it), *running*, and, when everything stored must be
//! given up, *draining* (all leases are cancelled and acknowledged) before it opens again.
//!
//! The planner is a sum of machines. Each decides one matter and keeps its state to itself:
//! [`leases`] who owns which bytes, [`holding`] how long the first response goes on, [`tail`]
//! who takes over at the end, [`readers`] what is fetched first, [`sources`] which source is
//! asked, [`limits`] how many leases may be at work, [`asking`] how the object is asked for,
//! [`identity`] which version it is, [`failures`] how long to wait and when to give up,
//! [`meter`] how much arrived. A machine knows nothing of the planner: it is shown what it
//! needs and answers. The consequences for the other machines are composed here and in the
//! `impl Planner` of [`judge`] (responses), [`ending`] (leases that end), [`losing`] (sources
//! that fail), [`restarting`] (giving everything up), [`schedule`] (what is next) and
//! [`steering`] (what the caller changes).

use std::collections::VecDeque;
use std::time::Duration;

use self::asking::Asking;
use self::failures::Failures;
use self::holding::Holding;
use self::identity::Identity;
use self::leases::Leases;
use self::limits::Limits;
use self::meter::Meter;
use self::readers::Readers;
use self::sources::Sources;
use super::concurrency::{Bound, Learned, Path};
use super::range::ByteRange;
use super::resource::Resource;
use super::retry::Backoff;
use super::segment::SegmentMap;
use crate::model::event::{LimitedBy, MapCell, NoticeCode};

mod action;
mod asking;
mod ending;
mod failures;
mod holding;
mod identity;
mod judge;
mod known_end;
mod lease;
mod leases;
mod limits;
mod losing;
mod meter;
mod prelude;
mod readers;
mod restarting;
mod schedule;
mod sources;
mod speed;
mod steering;
mod tail;

pub use self::action::{
    Action, Failure, LeaseEnd, PlaceId, PlaceNeed, Restored, Settings, SourceId,
};
pub use self::readers::{Reach, Want};
pub use self::sources::MAX_SOURCES;
pub use super::segment::LeaseId;

/// The usual [`Settings::first_range_bytes`].
pub const FIRST_RANGE_BYTES: u64 = 4 << 20;

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

/// See the module's documentation.
#[derive(Debug)]
pub struct Planner {
    settings: Settings,
    phase: Phase,
    leases: Leases,
    holding: Holding,
    readers: Readers,
    sources: Sources,
    limits: Limits,
    asking: Asking,
    identity: Identity,
    failures: Failures,
    meter: Meter,
    actions: VecDeque<Action>,
}

impl Planner {
    /// A planner for a download of which nothing is known yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            phase: Phase::Opening,
            leases: Leases::default(),
            holding: Holding::default(),
            readers: Readers::default(),
            sources: Sources::default(),
            limits: Limits::new(settings.connections),
            asking: Asking::default(),
            identity: Identity::default(),
            failures: Failures::new(Backoff::new(settings.retry, settings.seed)),
            meter: Meter::default(),
            actions: VecDeque::new(),
            settings,
        }
    }

    /// An earlier run holds parts of this object: the first request carries its
    /// validator as a precondition, and asks for `opening_range`.
    pub fn claim(&mut self, resource: Resource, opening_range: ByteRange) {
        self.identity.claim(resource);
        self.asking.continue_with(opening_range);
    }

    /// No bytes of the object are wanted, as far as is known: the first request asks for
    /// one byte, to learn what the object is.
    pub fn probe(&mut self) {
        self.asking.open_with(ByteRange::new(0, 1));
    }

    /// How far leases may go; `None` for no bound.
    pub fn stay_within(&mut self, reach: Option<Reach>) {
        self.readers.stay_within(reach);
    }

    /// The next decision to carry out, if there is one.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Connections at work.
    #[cfg(test)]
    pub fn active(&self) -> usize {
        self.leases.len()
    }

    /// The most connections that this download should have.
    #[must_use]
    pub fn limit(&self) -> usize {
        if self.asking.is_whole() { 1 } else { self.limits.concurrency().limit() }
    }

    /// The most leases that may exist now.
    fn places(&self) -> usize {
        self.limit().min(self.limits.allowed())
    }

    /// Whether what is stored needs no more decisions.
    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. } | Phase::Ended)
    }

    /// An earlier download learned this about the server that answers now.
    pub fn remember(&mut self, learned: Learned) {
        self.limits.remember(learned);
    }

    /// What this download has learned about the server.
    #[must_use]
    pub fn learned(&self) -> Option<Learned> {
        let learned = self.limits.concurrency().learned().filter(|_| !self.asking.is_whole())?;
        // Where this side limited the speed, only a refusal tells something about the server.
        let ours = self.limited_here().is_some();
        (!ours || learned.why == Bound::Server).then_some(learned)
    }

    /// What kept the download from being faster, where that was measured.
    #[must_use]
    pub fn limited_by(&self, now: Duration) -> Option<LimitedBy> {
        let found = || self.limits.concurrency().shown().filter(|_| !self.asking.is_whole());
        self.limited_here().or_else(|| found().filter(|found| self.was_so_throughout(*found, now)))
    }

    /// Whether what was measured for a moment fits the whole download.
    fn was_so_throughout(&self, found: LimitedBy, now: Duration) -> bool {
        let whole = match found {
            LimitedBy::Connection { bytes_per_second } => {
                bytes_per_second.saturating_mul(self.limit() as u64)
            }
            LimitedBy::Link { bytes_per_second } => bytes_per_second,
            // Nothing was measured here: the server refused.
            _ => return true,
        };
        self.meter.was_throughout(whole, now)
    }

    /// What on this side limited the speed.
    fn limited_here(&self) -> Option<LimitedBy> {
        if self.settings.speed_limited {
            return Some(LimitedBy::SpeedLimit);
        }
        self.meter.is_storage_bound().then_some(LimitedBy::Disk)
    }

    /// The number of connections that a large object begins with.
    #[must_use]
    pub fn connections_at_first(&self) -> usize {
        self.limits.concurrency().limit()
    }

    /// The longest part that the server grants, where it refused longer ones.
    #[must_use]
    pub fn part_limit_bytes(&self) -> Option<u64> {
        self.asking.limit_bytes()
    }

    /// An earlier download has shown that longer parts are refused.
    pub fn limit_parts(&mut self, most_bytes: u64) {
        self.asking.limit(most_bytes);
    }

    /// Rounds of backoff so far.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        self.failures.rounds()
    }

    /// The object's bytes in at most 256 equal cells.
    #[must_use]
    pub fn map_cells(&self) -> Vec<MapCell> {
        self.leases.cells()
    }

    /// Time passes: starts what may start and gives up leases that stall. Call
    /// it at least every 100 ms.
    pub fn tick(&mut self, now: Duration) {
        self.give_up_stalled(now);
        if self.phase == Phase::Running {
            self.meter.tick();
        }
        self.observe(now);
        self.tell_of_waiting(now);
        self.watch_prelude(now);
        self.make_room(now);
        self.schedule(now);
    }

    /// The machine's addresses or routes changed, or it slept: leases that stay silent for a
    /// moment after that are asked for anew, and waits because of failures are over.
    pub fn on_path_changed(&mut self, now: Duration) {
        self.meter.path_changed(now);
        self.failures.wait_no_longer();
        self.schedule(now);
    }

    /// What TCP shows of the connections, where the system tells. Call it at each tick.
    pub fn on_path(&mut self, path: Option<Path>) {
        self.limits.set_path(path);
    }

    /// Received bytes wait for the storage. Call it at each tick where they do.
    pub fn on_storage_busy(&mut self, now: Duration) {
        self.meter.storage_busy(now);
    }

    /// The driver followed a redirect: the request is sent again at once.
    pub fn on_redirected(&mut self, id: LeaseId, now: Duration) {
        self.leases.remove(id);
        self.actions.push_back(Action::Drop { lease: id });
        self.schedule(now);
    }

    /// The output is open as the first response described it.
    pub fn on_opened(&mut self, segment_size_bytes: u64, restored: &Restored, now: Duration) {
        let Phase::Preparing(id) = self.phase else { return };
        self.phase = Phase::Running;
        self.meter.opened(now);
        self.leases.open(self.identity.total(), segment_size_bytes);
        self.leases.restore(restored);
        let Some(granted) = self.leases.get(id).map(|lease| lease.range) else {
            return self.schedule(now);
        };
        if self.leases.map().is_none() {
            let range = ByteRange::new(0, u64::MAX);
            self.leases.set_range(id, range);
            self.actions.push_back(Action::Store { lease: id, range });
            return;
        }
        // The response at hand is used as far as its bytes are missing, if it
        // begins where a segment, or the prefix of one, is to be continued.
        let run = self.leases.next_run(granted.len().max(1));
        match run.filter(|run| run.start() == granted.start() && !granted.is_empty()) {
            Some(run) => {
                let range = ByteRange::new(run.start(), run.end().min(granted.end()));
                let share_bytes = self.first_share_bytes(range);
                self.holding.begin(id, range, share_bytes, &mut self.leases);
                self.actions.push_back(Action::Store { lease: id, range });
            }
            None => self.drop_response(id),
        }
        if self.asking.is_whole()
            || self.limits.concurrency().is_known_for() == Some(Bound::Connection)
        {
            self.readers.end_prelude();
        } else {
            self.readers.begin(id, &self.leases, now);
        }
        self.schedule(now);
    }

    /// How much of the first response, which has all of `granted`, is its own share among the
    /// connections that may follow.
    fn first_share_bytes(&self, granted: ByteRange) -> u64 {
        if self.asking.is_whole() {
            return granted.len().max(1);
        }
        let least = self.settings.first_range_bytes.max(1);
        if self.readers.somebody_waits() || self.are_together() {
            return least;
        }
        let connections = self.limits.concurrency().prospect().max(1) as u64;
        let most = self.readers.first_share_bytes(self.limit().max(1) as u64);
        let missing = self.leases.map().map_or(0, SegmentMap::missing_bytes);
        (missing / connections).min(most).max(least)
    }

    /// The fetcher of `id` handed `bytes` to the writers.
    pub fn on_received(&mut self, id: LeaseId, bytes: u64, now: Duration) {
        let answered = self.leases.get(id).is_some_and(|lease| !lease.has_progressed());
        let Some((came, source)) = self.leases.advance(id, bytes, now) else { return };
        self.meter.received(bytes);
        let step_bytes = self.settings.first_range_bytes;
        let taken_back = self.holding.advanced(id, came.end(), step_bytes, &mut self.leases);
        self.actions.extend(taken_back);
        if let Some(segments) = self.leases.written(id, came) {
            self.sources.received(source, id, segments);
        }
        let whole = self.asking.is_whole();
        if whole && self.leases.map().is_none() {
            self.identity.end.came(came.end());
        }
        if let Some(active) = self.limits.confirm_suspicion(&self.leases, now) {
            self.refused(active, now);
        }
        self.watch_prelude(now);
        if self.limits.concurrency().is_due(now) && self.phase == Phase::Running {
            self.observe(now);
        }
        if self.failures.progress(whole, came.end()) {
            self.asking.progress();
        }
        if answered {
            // Others may have waited for this response.
            self.schedule(now);
        }
    }

    /// The fetcher of `id` will stop at `end`.
    pub fn on_shrunk(&mut self, id: LeaseId, end: u64, now: Duration) {
        if !self.leases.has_shrunk(id) {
            return;
        }
        if self.holding.is_holder(id) {
            let released = self.holding.has_shrunk(end, &mut self.leases);
            self.actions.extend(released);
        } else if self.leases.get(id).is_some_and(|lease| end < lease.range.end()) {
            self.leases.cut(id, end);
        } else {
            return;
        }
        self.schedule(now);
    }

    /// The writers hold all of segment `index`.
    pub fn on_stored(&mut self, index: usize, now: Duration) {
        self.leases.complete(index);
        self.schedule(now);
    }

    /// A segment of an earlier run was hashed again: wholly good, or good for
    /// its first `prefix_bytes`.
    pub fn on_verified(&mut self, index: usize, good: bool, prefix_bytes: u64, now: Duration) {
        if good {
            self.leases.complete(index);
        } else {
            self.leases.restore_prefix(index, prefix_bytes);
        }
        self.schedule(now);
    }

    fn observe(&mut self, now: Duration) {
        self.limits.observe(self.meter.received_bytes(), &self.leases, now);
        self.shed(now);
    }

    /// Called whenever bytes arrive.
    fn watch_prelude(&mut self, now: Duration) {
        match self.phase {
            Phase::Running => self.readers.watch(&self.leases, now),
            _ => self.readers.end_prelude(),
        }
    }

    fn notice(&mut self, code: NoticeCode, message: String) {
        self.actions.push_back(Action::Notice(code, message));
    }

    fn drop_response(&mut self, id: LeaseId) {
        let action = self.leases.drop_response(id);
        self.actions.push_back(action);
    }

    fn cancel(&mut self, id: LeaseId, failure: Option<Failure>) {
        self.actions.extend(self.leases.cancel(id, failure));
    }

    fn cancel_all(&mut self, ids: Vec<LeaseId>) {
        self.actions.extend(self.leases.cancel_all(ids));
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "planner_network_tests.rs"]
mod network_tests;

#[cfg(test)]
#[path = "planner/sources_tests.rs"]
mod sources_tests;

#[cfg(test)]
#[path = "planner/crew_tests.rs"]
mod crew;
