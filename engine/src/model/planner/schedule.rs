//! Who fetches what next.

use std::time::Duration;

use super::speed::estimator;
use super::{Action, Ask, Lease, Phase, Planner, SourceId};
use crate::model::concurrency::Flow;
use crate::model::range::ByteRange;

impl Planner {
    pub(super) fn schedule(&mut self, now: Duration) {
        if let Phase::Draining { forget_identity } = self.phase
            && self.leases.is_empty()
        {
            self.phase = Phase::Opening;
            self.map = None;
            self.opening_range = ByteRange::open(0);
            self.sources.begin_again();
            self.stream_ended_at = None;
            self.actions.push_back(Action::Reset { forget_identity });
        }
        if self.paused || now < self.wait_until.max(self.pause_until) {
            return self.finish_if_complete();
        }
        match self.phase {
            Phase::Opening if self.leases.is_empty() && self.allowed > 0 => {
                let Some(source) = self.pick(now) else { return };
                let plain = self.whole || self.refusals.ask == Ask::Plain;
                let range = (!plain).then_some(self.opening_range);
                self.issue(source, range.unwrap_or(ByteRange::new(0, u64::MAX)), range, now);
            }
            Phase::Running if self.dying.is_some() => {
                self.finish_if_complete();
                let incomplete = self.map.as_ref().is_none_or(|map| map.missing_bytes() > 0);
                if self.leases.is_empty()
                    && incomplete
                    && let Some(failure) = self.dying.take()
                {
                    self.fail(failure);
                }
            }
            Phase::Running => {
                self.finish_if_complete();
                if self.phase == Phase::Running && !self.whole && !self.ask_behind(now) {
                    self.lease_out(now);
                }
            }
            _ => {}
        }
    }

    pub(super) fn finish_if_complete(&mut self) {
        if self.phase != Phase::Running || !self.leases.is_empty() {
            return;
        }
        let complete = match &self.map {
            Some(map) => map.is_complete() && !self.known_end.is_doubtful(),
            None => self.stream_ended_at.is_some(),
        };
        if complete {
            self.phase = Phase::Ended;
            self.actions.push_back(Action::Finish);
        }
    }

    pub(super) fn lease_out(&mut self, now: Duration) {
        // In doubt about the identity, one question is asked at a time.
        let limit = if self.doubt { 1.min(self.allowed) } else { self.places() };
        let limit = self.limit_beside_holder(limit);
        while self.leases.len() < limit {
            if self.too_late_for_new(now) || self.is_sharing() {
                return;
            }
            let Some(source) = self.pick(now) else { return };
            let want = self.lease_bytes(self.speeds.next_idle_of(source), now);
            let want = self.refusals.most_bytes(want.max(self.settings.min_split_bytes));
            let wanted = self.wanted_run(now);
            if wanted.is_none() && !self.may_begin(None) {
                return;
            }
            let Some(run) = wanted.map(|it| it.run).or_else(|| self.next_run(want)) else {
                if self.relieve(now) {
                    continue;
                }
                return;
            };
            let run = self.refusals.within_limit(run);
            self.issue(source, run, Some(run), now);
            if let Some(map) = &mut self.map {
                map.lease(run, self.next_lease - 1);
            }
        }
    }

    pub(super) fn issue(
        &mut self,
        source: SourceId,
        range: ByteRange,
        ask: Option<ByteRange>,
        now: Duration,
    ) {
        let lease = self.next_lease;
        self.next_lease += 1;
        let known = self.phase == Phase::Running || self.claimed.is_some();
        let conditional = self.sources.conditional(source) && known && ask.is_some();
        self.leases.insert(
            lease,
            Lease {
                source,
                place: self.sources.place(source),
                range,
                asked_end: range.end(),
                position: range.start(),
                start: range.start(),
                issued_at: now,
                head_at: None,
                last_byte_at: now,
                pause: Duration::ZERO,
                rate: estimator(),
                expected: self.speeds.take_idle(source),
                leaving: false,
                shared: false,
                cancelled: false,
                cancelled_for: None,
                conditional,
                in_doubt: self.doubt,
                parked: None,
            },
        );
        self.actions.push_back(Action::Fetch { lease, source, range: ask, conditional });
    }

    pub(super) fn observe(&mut self, now: Duration) {
        let flowing = self.leases.values().filter(|lease| lease.position > lease.start);
        let flow = Flow {
            received_bytes: self.received_bytes,
            active: self.leases.len(),
            flowing: flowing.count(),
            round_trip_s: self.speeds.kept_latency_s(),
            left_s: self.time_left_s(0.0, now),
        };
        self.concurrency.observe(flow, now);
    }
}
