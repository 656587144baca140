//! Who fetches what next.

use std::time::Duration;

use super::{Action, Lease, Phase, Planner};
use crate::model::range::ByteRange;
use crate::model::rate::RateEstimator;

/// A lease of unknown speed is at most this long.
const PROBE_LEASE_BYTES: u64 = 16 << 20;
/// No lease is longer, so that leases stay near the frontier.
const MAX_LEASE_BYTES: u64 = 256 << 20;
/// A lease should last this long at the measured speed.
const LEASE_TIME_S: f64 = 4.0;
/// A request's latency may cost at most one part in this many of its lease.
pub(super) const LATENCY_SHARE: f64 = 25.0;
/// A straggler is relieved only when that saves at least this.
const WORTHWHILE_S: f64 = 0.5;
/// A connection is judged by its speed only after this long.
const GRACE: Duration = Duration::from_secs(1);

impl Planner {
    pub(super) fn schedule(&mut self, now: Duration) {
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
        if self.paused || now < self.wait_until.max(self.pause_until) {
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

    pub(super) fn finish_if_complete(&mut self) {
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

    pub(super) fn lease_out(&mut self, now: Duration) {
        // In doubt about the identity, one question is asked at a time.
        let limit = if self.doubt { 1 } else { self.concurrency.limit() };
        while self.leases.len() < limit {
            let want = self.lease_bytes(now);
            let wanted = self.wanted_run(now);
            let next = || self.map.as_mut().and_then(|map| map.next_run(want));
            let Some(run) = wanted.or_else(next) else {
                return self.relieve_slowest(now);
            };
            self.issue(run, Some(run), now);
            if let Some(map) = &mut self.map {
                map.lease(run, self.next_lease - 1);
            }
        }
    }

    pub(super) fn issue(&mut self, range: ByteRange, ask: Option<ByteRange>, now: Duration) {
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
    pub(super) fn lease_bytes(&self, now: Duration) -> u64 {
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

    pub(super) fn mean_rate(&self, now: Duration) -> f64 {
        let rates: Vec<f64> =
            self.leases.values().map(|lease| lease.rate.rate(now)).filter(|r| *r > 0.0).collect();
        if rates.is_empty() { 0.0 } else { rates.iter().sum::<f64>() / rates.len() as f64 }
    }

    /// A connection is idle and nothing is missing: take the tail of the lease
    /// that would end last, or, inside its last segment, all that is left of it.
    pub(super) fn relieve_slowest(&mut self, now: Duration) {
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
