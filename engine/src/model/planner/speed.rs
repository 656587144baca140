//! How fast connections are, and what follows for the length of leases.

use std::time::Duration;

use super::{Lease, Planner, SourceId};
use crate::model::rate::RateEstimator;

/// A lease of unknown speed is at most this long.
const PROBE_LEASE_BYTES: u64 = 16 << 20;
/// The same with several sources: a connection to a slow one is soon free for
/// another.
const SHORT_PROBE_BYTES: u64 = 4 << 20;
/// A share of what is missing is at least this part of what the first request
/// asks for.
const MIN_SHARE: u64 = 4;
/// All leases together stay within about this much of the file, unless requests
/// are so dear that this would make too many.
const FRONTIER_BYTES: u64 = 256 << 20;
/// A lease should last this long at the measured speed.
const LEASE_TIME_S: f64 = 4.0;
/// A request's latency may cost at most one part in this many of its lease.
const LATENCY_SHARE: f64 = 50.0;
/// A shorter lease says little of its connection's speed.
const TELLING_BYTES: u64 = 256 << 10;
/// A response is judged by its own speed after this long.
pub(super) const TELLING_TIME: Duration = Duration::from_millis(100);
/// Silence means nothing before this.
const QUIET: Duration = Duration::from_millis(300);
/// Nor before this many of the connection's own pauses.
const QUIET_PAUSES: u32 = 8;

/// What is known of connections and their speed, in bytes a second.
#[derive(Debug, Default)]
pub(super) struct Speeds {
    /// Of the connections that wait for their next request, in ascending
    /// order, and whose they are: of a source, the pool takes the fastest first.
    idle: Vec<(f64, SourceId)>,
    /// The mean of the leases that ended.
    pub(super) typical: f64,
    /// Seconds to a response on a new connection, and on one that was kept.
    fresh_latency_s: Option<f64>,
    kept_latency_s: Option<f64>,
}

impl Speeds {
    /// The speed of the kept connection that would be used next.
    pub(super) fn next_idle(&self) -> Option<f64> {
        self.idle.last().map(|idle| idle.0)
    }

    /// The same, of one source.
    pub(super) fn next_idle_of(&self, source: SourceId) -> Option<f64> {
        self.idle.iter().rev().find(|idle| idle.1 == source).map(|idle| idle.0)
    }

    /// Whose the fastest kept connection is, of the sources that are `wanted`.
    pub(super) fn fastest_idle(&self, wanted: impl Fn(SourceId) -> bool) -> Option<SourceId> {
        self.idle.iter().rev().map(|idle| idle.1).find(|source| wanted(*source))
    }

    /// The speed of the kept connection that is used after `taken` faster ones.
    pub(super) fn idle_after(&self, taken: usize) -> Option<f64> {
        self.idle.iter().rev().nth(taken).map(|idle| idle.0)
    }

    pub(super) fn take_idle(&mut self, source: SourceId) -> Option<f64> {
        let at = self.idle.iter().rposition(|idle| idle.1 == source)?;
        Some(self.idle.remove(at).0)
    }

    /// Nothing more is asked of `source`.
    pub(super) fn forget(&mut self, source: SourceId) {
        self.idle.retain(|idle| idle.1 != source);
    }

    fn keep_idle(&mut self, speed: f64, source: SourceId) {
        let at = self.idle.partition_point(|idle| idle.0 < speed);
        self.idle.insert(at, (speed, source));
        if self.idle.len() > 64 {
            self.idle.remove(0);
        }
    }

    /// A response began after `latency_s` seconds.
    pub(super) fn answered(&mut self, latency_s: f64, kept: bool) {
        let of = if kept { &mut self.kept_latency_s } else { &mut self.fresh_latency_s };
        *of = Some(of.map_or(latency_s, |old| old * 0.8 + latency_s * 0.2));
    }

    /// A lease ended; `kept` when its connection can take another request.
    pub(super) fn ended(&mut self, lease: &Lease, kept: bool, now: Duration) {
        let bytes = lease.position - lease.start;
        let mean = lease.mean_rate(now);
        // The mean of a short lease is too low, so it may only raise.
        if bytes >= TELLING_BYTES || mean > self.typical {
            self.typical = if self.typical == 0.0 { mean } else { self.typical * 0.7 + mean * 0.3 };
        }
        if kept && bytes > 0 {
            let telling = bytes >= TELLING_BYTES && lease.is_telling(now);
            self.keep_idle(lease.expected.filter(|_| !telling).unwrap_or(mean), lease.source);
        }
    }

    /// Seconds to a response on a connection that was kept.
    pub(super) fn kept_latency_s(&self) -> f64 {
        // A new one needs a round trip more, at least.
        self.kept_latency_s.or(self.fresh_latency_s.map(|fresh| fresh / 2.0)).unwrap_or(0.0)
    }

    /// Seconds to a response on a new connection.
    pub(super) fn fresh_latency_s(&self) -> f64 {
        self.fresh_latency_s.or(self.kept_latency_s).unwrap_or(0.0)
    }
}

impl Lease {
    /// Bytes a second since the response began; of a short time rather too low.
    pub(super) fn mean_rate(&self, now: Duration) -> f64 {
        let since = self.head_at.map_or(Duration::MAX, |head_at| now.saturating_sub(head_at));
        (self.position - self.start) as f64 / since.as_secs_f64().max(0.05)
    }

    /// Whether this response's own speed says something.
    pub(super) fn is_telling(&self, now: Duration) -> bool {
        self.position > self.start
            && self.head_at.is_some_and(|at| now.saturating_sub(at) >= TELLING_TIME)
    }

    /// Whether nothing came for much longer than it usually takes.
    /// Silence before `since` is not counted.
    pub(super) fn is_silent(&self, since: Duration, latency_s: f64, now: Duration) -> bool {
        let patience = QUIET.max(self.pause * QUIET_PAUSES);
        let patience = patience.as_secs_f64().max(latency_s * 3.0);
        now.saturating_sub(self.last_byte_at.max(since)).as_secs_f64() > patience
    }

    /// The speed to reckon with, in bytes a second, where anything tells it.
    pub(super) fn speed(&self, now: Duration) -> Option<f64> {
        let measured = self.rate.rate(now);
        if self.is_telling(now) {
            return Some(measured);
        }
        self.expected.or((measured > 0.0).then_some(measured))
    }
}

/// The estimator of a lease's speed.
pub(super) fn estimator() -> RateEstimator {
    RateEstimator::new(Duration::from_secs(2))
}

impl Planner {
    /// How long the next lease should be, for a connection of `speed` bytes a
    /// second: long enough that its request costs little, short enough that
    /// all connections end together.
    pub(super) fn lease_bytes(&self, speed: Option<f64>, now: Duration) -> u64 {
        let Some(map) = &self.map else { return 0 };
        let known = speed.and_then(|speed| Some((speed, self.time_left_s(speed, now)?)));
        let Some((speed, left_s)) = known else {
            // Connections that may still be added want theirs, too.
            let share = map.missing_bytes() / self.concurrency.prospect() as u64;
            let least = (self.settings.first_range_bytes / MIN_SHARE).clamp(1, PROBE_LEASE_BYTES);
            let most = if self.are_together() { SHORT_PROBE_BYTES } else { PROBE_LEASE_BYTES };
            return share.clamp(least.min(most), most);
        };
        let frontier = (FRONTIER_BYTES / self.limit().max(1) as u64) as f64;
        let paid = speed * self.speeds.kept_latency_s() * LATENCY_SHARE;
        let target = (speed * LEASE_TIME_S).min(frontier).max(paid);
        let fair = speed * left_s;
        // A rest that is not worth a request of its own goes with it.
        let want = if fair < target * 1.5 { fair } else { target };
        want.clamp(1.0, FRONTIER_BYTES as f64) as u64
    }

    /// Seconds until everything is here, if all connections and one more of
    /// `joining` bytes a second went on as they do.
    pub(super) fn time_left_s(&self, joining: f64, now: Duration) -> Option<f64> {
        let map = self.map.as_ref()?;
        let mut left = map.missing_bytes();
        let mut speed = joining;
        let mut unknown = 0;
        for lease in self.leases.values() {
            left += lease.rest_bytes();
            match lease.speed(now) {
                Some(known) => speed += known,
                None => unknown += 1,
            }
        }
        let known = self.leases.len() - unknown + usize::from(joining > 0.0);
        let all = speed * (1.0 + unknown as f64 / known.max(1) as f64);
        (all > 0.0).then(|| left as f64 / all)
    }
}
