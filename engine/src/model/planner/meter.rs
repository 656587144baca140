//! How much arrived so far, and whether the storage held it up.
//!
//! Silence while received bytes wait for the storage is not the server's fault: it
//! counts from [`Meter::silence_begins`] on.

use std::time::Duration;

/// A shorter download says nothing about what limits its speed.
const TELLING: Duration = Duration::from_secs(2);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Over all leases.
    received_bytes: u64,
    /// When received bytes last waited for the storage.
    storage_busy_at: Option<Duration>,
    storage_busy_ticks: u32,
    ticks: u32,
    /// When the machine's addresses or routes changed last.
    path_changed_at: Option<Duration>,
    /// When the output was first open.
    running_since: Option<Duration>,
}

impl Meter {
    pub(super) fn received(&mut self, bytes: u64) {
        self.received_bytes += bytes;
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The output is open.
    pub(super) fn opened(&mut self, now: Duration) {
        self.running_since.get_or_insert(now);
    }

    /// A tick passed while the output was open.
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
    }

    /// Received bytes wait for the storage at this tick.
    pub(super) fn storage_busy(&mut self, now: Duration) {
        self.storage_busy_at = Some(now);
        self.storage_busy_ticks += 1;
    }

    /// The machine's addresses or routes changed.
    pub(super) fn path_changed(&mut self, now: Duration) {
        self.path_changed_at = Some(now);
    }

    /// Connections that have been silent since then may be dead.
    pub(super) fn path_changed_at(&self) -> Option<Duration> {
        self.path_changed_at
    }

    /// Silence before this is nobody's fault.
    pub(super) fn silence_begins(&self) -> Duration {
        self.storage_busy_at.unwrap_or_default()
    }

    /// Whether the storage kept the download from being faster.
    pub(super) fn is_storage_bound(&self) -> bool {
        // A few ticks are no measure.
        self.ticks >= 4 && self.storage_busy_ticks * 2 > self.ticks
    }

    /// Whether a rate of `bytes_per_second`, measured for a moment, fits the whole
    /// download, which must have been long enough to tell.
    pub(super) fn was_throughout(&self, bytes_per_second: u64, now: Duration) -> bool {
        let Some(since) = self.running_since else { return false };
        let time = now.saturating_sub(since);
        let mean = self.received_bytes as f64 / time.as_secs_f64().max(1e-3);
        time >= TELLING && (0.5..2.0).contains(&(mean / bytes_per_second.max(1) as f64))
    }
}
