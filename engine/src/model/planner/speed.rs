//! How fast connections are: those that wait for their next request, as their last
//! lease showed, and how long a lease and a response usually take.
//!
//! The kept connections are in ascending order of speed, as the pool gives out the
//! fastest first; more than 64 are not remembered.

use std::time::Duration;

use super::action::SourceId;
use super::lease::Lease;

/// A shorter lease says little about its connection's speed.
const TELLING_BYTES: u64 = 256 << 10;

/// What is known of connections and their speed, in bytes a second.
#[derive(Debug, Default)]
pub(super) struct Speeds {
    /// The speeds of the connections that wait for their next request, in ascending order, and
    /// their sources: of a source, the pool takes the fastest first.
    idle: Vec<(f64, SourceId)>,
    /// The mean of the leases that ended.
    typical: f64,
    /// Seconds to a response on a new connection, and on one that was kept.
    fresh_latency_s: Option<f64>,
    kept_latency_s: Option<f64>,
}

impl Speeds {
    /// How many kept connections wait for their next request.
    pub(super) fn count_idle(&self) -> usize {
        self.idle.len()
    }

    /// The speed of the kept connection that would be used next.
    pub(super) fn next_idle(&self) -> Option<f64> {
        self.idle.last().map(|idle| idle.0)
    }

    /// The same, for one source.
    pub(super) fn next_idle_of(&self, source: SourceId) -> Option<f64> {
        self.idle.iter().rev().find(|idle| idle.1 == source).map(|idle| idle.0)
    }

    /// The source of the fastest kept connection, among those that are `wanted`.
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
        // The mean of a short lease is too low, so it may only raise the value.
        if bytes >= TELLING_BYTES || mean > self.typical {
            self.typical = if self.typical == 0.0 { mean } else { self.typical * 0.7 + mean * 0.3 };
        }
        if kept && bytes > 0 {
            let telling = bytes >= TELLING_BYTES && lease.is_telling(now);
            self.keep_idle(lease.expected.filter(|_| !telling).unwrap_or(mean), lease.source);
        }
    }

    /// The mean speed of the leases that ended.
    pub(super) fn typical(&self) -> f64 {
        self.typical
    }

    /// Seconds to a response on a connection that was kept.
    pub(super) fn kept_latency_s(&self) -> f64 {
        // A new connection needs at least one round trip more.
        self.kept_latency_s.or(self.fresh_latency_s.map(|fresh| fresh / 2.0)).unwrap_or(0.0)
    }

    /// Seconds to a response on a new connection.
    pub(super) fn fresh_latency_s(&self) -> f64 {
        self.fresh_latency_s.or(self.kept_latency_s).unwrap_or(0.0)
    }
}
