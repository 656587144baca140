//! Who fetches what next.

use std::time::Duration;

use super::action::{Action, SourceId};
use super::asking::Ranges;
use super::lease::Request;
use super::leases::Shares;
use super::readers::{MakeRoom, Work};
use super::tail::{Relief, Tail, too_late_for_new};
use super::{Phase, Planner};
use crate::model::range::ByteRange;
use crate::model::segment::LeaseId;

impl Planner {
    pub(super) fn schedule(&mut self, now: Duration) {
        if let Phase::Draining { forget_identity } = self.phase
            && self.leases.is_empty()
        {
            self.phase = Phase::Opening;
            self.leases.close();
            self.asking.open_with(ByteRange::open(0));
            self.sources.begin_again();
            self.identity.end_mut().begin_again();
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
        let end = self.identity.end();
        let complete = match self.leases.map() {
            Some(map) => map.is_complete() && !end.is_doubtful(),
            None => end.has_ended(),
        };
        if complete {
            self.phase = Phase::Ended;
            self.actions.push_back(Action::Finish);
        }
    }

    /// Asks for the byte behind a doubtful end once everything else is here. Whether
    /// that is under way.
    fn ask_behind(&mut self, now: Duration) -> bool {
        let Some(behind) = self.identity.end().behind() else { return false };
        let asked_by = self.identity.end().asked_by();
        if asked_by.is_some_and(|id| self.leases.get(id).is_some()) {
            return true;
        }
        let busy = self.leases.is_anything_missing() || !self.leases.is_empty();
        if busy || self.limits.allowed() == 0 {
            return false;
        }
        let Some(source) = self.pick(now) else { return true };
        let id = self.issue(source, behind, Some(behind), now);
        self.identity.end_mut().ask_by(id);
        true
    }

    fn lease_out(&mut self, now: Duration) {
        // In doubt about the identity, one question is asked at a time.
        let limit = match self.identity.is_in_doubt() {
            true => 1.min(self.limits.allowed()),
            false => self.places(),
        };
        let limit = self.holding.limit_beside(limit, self.asking.ranges());
        while self.leases.len() < limit {
            // A lease may be about to give a part away that a reader has fetched next.
            let sharing = self.leases.values().any(|lease| lease.shared);
            if too_late_for_new(&self.leases, now) || sharing {
                return;
            }
            let Some(source) = self.pick(now) else { return };
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

    /// The missing bytes that `source` is asked for next where no reader wants any.
    fn next_run(&mut self, source: SourceId, now: Duration) -> Option<ByteRange> {
        let shares = Shares {
            limit: self.limit(),
            prospect: self.limits.concurrency().prospect(),
            together: self.are_together(),
            first_range_bytes: self.settings.first_range_bytes,
        };
        let speed = self.leases.speeds().next_idle_of(source);
        let want = self.leases.lease_bytes(speed, shares, now).max(self.settings.min_split_bytes);
        let connections = self.limits.concurrency().limit().max(1) as u64;
        self.readers.next_run(self.asking.most_bytes(want), connections, &mut self.leases)
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
        let request = Request {
            source,
            place: self.sources.place(source),
            range,
            ask,
            conditional: self.sources.conditional(source) && known && ask.is_some(),
            in_doubt: self.identity.is_in_doubt(),
        };
        let fetch = self.leases.issue(request, now);
        self.actions.push_back(fetch);
        id
    }

    /// Idle connections take over from slow ones. True when something is to be had at once
    /// because of it.
    fn relieve(&mut self, now: Duration) -> bool {
        if self.asking.is_whole() {
            return false;
        }
        loop {
            let tail = Tail {
                leases: &self.leases,
                holding: &self.holding,
                readers: &self.readers,
                places: self.places(),
                reliefs_in_a_row: self.failures.reliefs_in_a_row(),
                silence_begins: self.meter.silence_begins(),
                speed_limited: self.settings.speed_limited,
                min_split_bytes: self.settings.min_split_bytes,
            };
            match tail.best(now) {
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

    /// `id` is to stop at `end`. Of the first response's share the rest can be asked for at
    /// once: true then.
    fn shorten(&mut self, id: LeaseId, end: u64, shared: bool) -> bool {
        let shrink = self.holding.shorten(id, end, shared, &mut self.leases);
        let at_once = shrink.is_none();
        self.actions.extend(shrink);
        at_once
    }

    /// Takes a connection from elsewhere for each reader whose segment nobody
    /// fetches, or will come to only later.
    pub(super) fn make_room(&mut self, now: Duration) {
        let able = self.phase == Phase::Running
            && !self.failures.is_dying()
            && !self.failures.backs_off(now)
            // What is at work may be all that an expired link still brings.
            && !self.sources.have_expired();
        let ordinary =
            !self.asking.is_whole() && !self.identity.is_in_doubt() && !self.limits.is_paused();
        if !able || !ordinary {
            return;
        }
        for position in self.readers.waiting() {
            // One at a time: what comes free is given out first.
            if self.leases.values().any(|lease| lease.leaving) {
                return;
            }
            let work = Work {
                leases: &self.leases,
                holding: &self.holding,
                places: self.places(),
                // Where there is to be one connection, nothing can show beside the first that
                // there are others, and a reader would wait for all that it brings.
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
