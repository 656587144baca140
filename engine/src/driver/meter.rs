//! The progress and the speed of the download.
//!
//! The meter counts bytes and time for people: the progress, the summary and the event that the
//! download started. The only decision that rests on it is whether a growing object exceeds its
//! size limit. The planner measures speeds for itself.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::event::Progress;
use crate::model::rate::RateEstimator;
use crate::os::clock;

/// A speed measured for less than this tells nothing about the time that is left.
const TELLING: Duration = Duration::from_secs(1);
/// After such a silence the speed is measured anew.
const SILENCE: Duration = Duration::from_secs(2);
/// A shorter sleep is no sleep, but two clocks read one after the other.
const SLEPT: Duration = Duration::from_secs(1);

pub(super) struct Meter {
    started: Instant,
    rate: RateEstimator,
    /// Received or restored.
    bytes: u64,
    resumed_bytes: u64,
    segment_size_bytes: u64,
    most_connections: usize,
    /// For how long the machine had slept at the last tick.
    slept: Option<Duration>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            rate: RateEstimator::new(Duration::from_secs(3)),
            bytes: 0,
            resumed_bytes: 0,
            segment_size_bytes: 1,
            most_connections: 0,
            slept: None,
        }
    }

    /// The time since the download was started, by which the planner counts.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether this is the first tick.
    pub(super) fn begins_to_watch(&mut self) -> bool {
        let first = self.slept.is_none();
        if first {
            self.slept = Some(clock::slept());
        }
        first
    }

    /// Whether the machine slept since the tick before.
    pub(super) fn has_slept(&mut self) -> bool {
        let slept = clock::slept();
        let before = self.slept.replace(slept).unwrap_or(slept);
        slept > before + SLEPT
    }

    /// How long after the start `at` was.
    pub(super) fn since_start(&self, at: Instant) -> Duration {
        at.duration_since(self.started)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn resumed_bytes(&self) -> u64 {
        self.resumed_bytes
    }

    pub(super) fn most_connections(&self) -> usize {
        self.most_connections
    }

    /// Notes how many connections are in use.
    pub(super) fn connected(&mut self, connections: usize) {
        self.most_connections = self.most_connections.max(connections);
    }

    pub(super) fn received(&mut self, bytes: u64, now: Duration) {
        self.bytes += bytes;
        self.rate.forget_after(SILENCE, now);
        self.rate.record(bytes, now);
    }

    /// Notes how many bytes are there, wherever they came from.
    pub(super) fn found(&mut self, bytes: u64) {
        self.bytes = bytes;
    }

    /// The output is open with what an earlier run left.
    pub(super) fn opened(&mut self, restored_bytes: u64, segment_size_bytes: u64) {
        self.bytes = restored_bytes;
        self.resumed_bytes = restored_bytes;
        self.segment_size_bytes = segment_size_bytes;
    }

    /// These segments are missing again.
    pub(super) fn lost(&mut self, segments: &std::ops::Range<usize>, total: Option<u64>) {
        let size = self.segment_size_bytes;
        let end = (segments.end as u64 * size).min(total.unwrap_or(0));
        self.bytes = self.bytes.saturating_sub(end - segments.start as u64 * size);
    }

    /// Everything is fetched again.
    pub(super) fn begin_again(&mut self) {
        (self.bytes, self.resumed_bytes) = (0, 0);
    }

    /// Fills in what is measured while this many connections are in use.
    pub(super) fn show(
        &self,
        progress: &mut Progress,
        total: Option<u64>,
        connections: usize,
        syncing: bool,
    ) {
        let now = self.now();
        let rate = if connections == 0 && !syncing { 0.0 } else { self.rate.rate(now) };
        let measured_for = self.rate.measured_for(now);
        let tells = rate > 1.0 && measured_for >= TELLING && !syncing;
        progress.bytes = total.map_or(self.bytes, |total| self.bytes.min(total));
        progress.total_bytes = total;
        progress.bytes_per_second = rate;
        progress.mean_bytes_per_second =
            self.bytes.saturating_sub(self.resumed_bytes) as f64 / now.as_secs_f64().max(1e-9);
        progress.measured_for = measured_for;
        progress.eta = total
            .filter(|_| tells)
            .map(|total| Duration::from_secs_f64(total.saturating_sub(self.bytes) as f64 / rate));
        progress.connections = connections;
        progress.syncing = syncing;
    }
}
