//! Which lease fetches what next.

use std::time::Duration;

use super::action::{Action, SourceId};
use super::asking::Ranges;
use super::lease::Lease;
use super::readers::{MakeRoom, Work};
use super::tail::Relief;
use super::{Phase, Planner};
use crate::model::range::ByteRange;
use crate::model::segment::LeaseId;

/// A lease of unknown speed is at most this long.
const PROBE_LEASE_BYTES: u64 = 16 << 20;
/// The same with several sources: a connection to a slow source is soon free
/// for another one.
const SHORT_PROBE_BYTES: u64 = 4 << 20;
/// A share of what is missing is at least one part in this many of what the
/// first request asks for.
const MIN_SHARE: u64 = 4;
/// All leases together stay within about this much of the file, unless requests
/// are so dear that this would make too many.
const FRONTIER_BYTES: u64 = 256 << 20;
/// A lease should last this long at the measured speed.
const LEASE_TIME_S: f64 = 4.0;
/// A request's latency may cost at most one part in this many of its lease.
const LATENCY_SHARE: f64 = 50.0;

impl Planner {
    pub(super) fn schedule(&mut self, now: Duration) {
        if let Phase::Draining { forget_identity } = self.phase
            && self.leases.is_empty()
        {
            self.phase = Phase::Opening;
            self.leases.close();
            self.asking.open_with(ByteRange::open(0));
            self.sources.begin_again();
            self.identity.end.begin_again();
            self.actions.push_back(Action::Reset { forget_identity });
        }
        if self.limits.is_paused() || self.failures.waits(now) {
            return self.finish_if_complete();
        }
        match self.phase {
            Phase::Opening if self.leases.is_empty() && self.limits.allowed() > 0 => {
                let Some(source) = self.pick(now) else { return };
                let ask = self.asking.opening_range();
                self.issue(source, ask.unwrap_or(ByteRange::new(0, u64::MAX)), ask, now);
            }
            Phase::Running if self.failures.is_dying() => {
                self.finish_if_complete();
                if self.leases.is_empty()
                    && self.leases.is_anything_missing()
                    && let Some(failure) = self.failures.take_death()
                {
                    self.fail(failure);
                }
            }
            Phase::Running => {
                self.finish_if_complete();
                let ranges = self.phase == Phase::Running && !self.asking.is_whole();
                if ranges && !self.ask_behind(now) {
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
        let end = &self.identity.end;
        let complete = match self.leases.map() {
            Some(map) => map.is_complete() && !end.is_doubtful(),
            None => end.has_ended(),
        };
        if complete {
            self.phase = Phase::Ended;
            self.actions.push_back(Action::Finish);
        }
    }

    /// Asks for the byte behind a doubtful end once everything else is here. Returns
    /// whether that is under way.
    fn ask_behind(&mut self, now: Duration) -> bool {
        let Some(behind) = self.identity.end.behind() else { return false };
        let asked_by = self.identity.end.asked_by();
        if asked_by.is_some_and(|id| self.leases.get(id).is_some()) {
            return true;
        }
        let busy = self.leases.is_anything_missing() || !self.leases.is_empty();
        if busy || self.limits.allowed() == 0 {
            return false;
        }
        let Some(source) = self.pick(now) else { return true };
        let id = self.issue(source, behind, Some(behind), now);
        self.identity.end.ask_by(id);
        true
    }

    fn lease_out(&mut self, now: Duration) {
        // While the identity is in doubt, one question is asked at a time.
        let limit = match self.identity.is_in_doubt() {
            true => 1.min(self.limits.allowed()),
            false => self.places(),
        };
        let limit = self.holding.limit_beside(limit, self.asking.ranges());
        while self.leases.len() < limit {
            // A lease may be about to give away a part that a reader wants next.
            let sharing = self.leases.values().any(|lease| lease.shared);
            if self.is_too_late_for_new(now) || sharing || !self.limits.may_ask(&self.leases, now) {
                return;
            }
            let Some(source) = self.pick(now) else { return };
            let is_new = self.leases.speeds().next_idle_of(source).is_none();
            if is_new && !self.leases.is_empty() && self.failures.holds_new(now) {
                return;
            }
            let wanted = self.readers.wanted_run(&self.leases, now);
            if wanted.is_none() && !self.readers.may_begin(&self.leases) {
                return;
            }
            let Some(run) = wanted.or_else(|| self.next_run(source, now)) else {
                if self.relieve(now) {
                    continue;
                }
                return;
            };
            let run = self.asking.within_limit(run);
            let id = self.issue(source, run, Some(run), now);
            self.leases.own(id, run);
        }
    }

    /// Closes at once the slowest connections beyond the number that is being measured: while
    /// they go on, nothing is learned about fewer connections.
    pub(super) fn shed(&mut self, now: Duration) {
        if self.phase != Phase::Running || !self.limits.concurrency().is_measuring() {
            return;
        }
        // Those that were told to go already are no surplus any more.
        let staying = self.leases.iter().filter(|(_, lease)| !lease.leaving);
        let surplus = staying.clone().count().saturating_sub(self.limit());
        if surplus == 0 {
            return;
        }
        let mut working: Vec<_> = staying
            .filter(|(id, _)| !self.holding.is_holder(**id))
            .map(|(id, lease)| (lease.rate.rate(now), *id))
            .collect();
        working.sort_by(|one, other| one.0.total_cmp(&other.0));
        for (_, id) in working.into_iter().take(surplus) {
            self.cancel(id, None);
        }
    }

    /// The missing bytes to ask `source` for next where no reader wants any.
    fn next_run(&mut self, source: SourceId, now: Duration) -> Option<ByteRange> {
        let speed = self.leases.speeds().next_idle_of(source);
        let want = self.lease_bytes(speed, now).max(self.settings.min_split_bytes);
        let connections = self.limits.concurrency().limit().max(1) as u64;
        self.readers.next_run(self.asking.most_bytes(want), connections, &mut self.leases)
    }

    /// How long the next lease should be, for a connection of `speed` bytes a
    /// second: long enough that its request costs little, short enough that
    /// all connections end together.
    fn lease_bytes(&self, speed: Option<f64>, now: Duration) -> u64 {
        let Some(map) = self.leases.map() else { return 0 };
        let known = speed.and_then(|speed| Some((speed, self.leases.time_left_s(speed, now)?)));
        let Some((speed, left_s)) = known else {
            // Connections that may still be added want theirs, too.
            let share = map.missing_bytes() / self.limits.concurrency().prospect() as u64;
            let least = (self.settings.first_range_bytes / MIN_SHARE).clamp(1, PROBE_LEASE_BYTES);
            let most = if self.are_together() { SHORT_PROBE_BYTES } else { PROBE_LEASE_BYTES };
            return share.clamp(least.min(most), most);
        };
        let frontier = (FRONTIER_BYTES / self.limit().max(1) as u64) as f64;
        let paid = speed * self.leases.speeds().kept_latency_s() * LATENCY_SHARE;
        let target = (speed * LEASE_TIME_S).min(frontier).max(paid);
        let fair = speed * left_s;
        // A rest that is not worth a request of its own is included.
        let want = if fair < target * 1.5 { fair } else { target };
        want.clamp(1.0, FRONTIER_BYTES as f64) as u64
    }

    fn issue(
        &mut self,
        source: SourceId,
        range: ByteRange,
        ask: Option<ByteRange>,
        now: Duration,
    ) -> LeaseId {
        let id = self.leases.next_id();
        let known = self.phase == Phase::Running || self.identity.claimed().is_some();
        let lease = Lease {
            conditional: self.sources.conditional(source) && known && ask.is_some(),
            in_doubt: self.identity.is_in_doubt(),
            ..Lease::new(source, self.sources.place(source), range, now)
        };
        let fetch = self.leases.issue(lease, ask);
        self.actions.push_back(fetch);
        self.limits.asks(now);
        id
    }

    /// Lets idle connections take over from slow ones. True if that makes bytes available
    /// at once.
    fn relieve(&mut self, now: Duration) -> bool {
        if self.asking.is_whole() {
            return false;
        }
        loop {
            match self.best_relief(now) {
                None => return false,
                Some((id, Relief::Split(end))) => {
                    if self.shorten(id, end, false) {
                        return true;
                    }
                }
                Some((id, Relief::TakeOver)) => {
                    if self.leases.get(id).is_some_and(|lease| !lease.has_progressed()) {
                        self.failures.relieved();
                    }
                    self.cancel(id, None);
                }
            }
        }
    }

    /// Makes `id` stop at `end`. True if the rest can be asked for at once, as it can from
    /// the first response's share.
    fn shorten(&mut self, id: LeaseId, end: u64, shared: bool) -> bool {
        let shrink = self.holding.shorten(id, end, shared, &mut self.leases);
        let at_once = shrink.is_none();
        self.actions.extend(shrink);
        at_once
    }

    /// Takes a connection from elsewhere for each reader whose segment no lease
    /// fetches, or will come to only later.
    pub(super) fn make_room(&mut self, now: Duration) {
        let able = self.phase == Phase::Running
            && !self.failures.is_dying()
            && !self.failures.backs_off(now)
            && !self.failures.holds_new(now)
            // The leases at work may be all that an expired link still brings.
            && !self.sources.have_expired();
        let ordinary =
            !self.asking.is_whole() && !self.identity.is_in_doubt() && !self.limits.is_paused();
        if !able || !ordinary {
            return;
        }
        for position in self.readers.waiting() {
            // One at a time: room that comes free is given out first.
            if self.leases.values().any(|lease| lease.leaving) {
                return;
            }
            let work = Work {
                leases: &self.leases,
                holding: &self.holding,
                places: self.places(),
                // With one connection only, nothing beside the first response can show that
                // there are ranges, and a reader would wait for everything that it brings.
                leaves_holder: self.limits.is_one() && self.asking.ranges() == Ranges::Undoubted,
            };
            match self.readers.room_at(position, work, now) {
                None => {}
                Some(MakeRoom::Cancel(id)) => self.cancel(id, None),
                Some(MakeRoom::Shorten { lease, end, shared }) => {
                    self.shorten(lease, end, shared);
                }
            }
        }
    }
}
