//! One lease: a run of bytes that one request is to bring, and its progress.
//!
//! A lease waits for its response, then its bytes come in order from `start` up to `range.end()`.
//! It is *leaving* once it was told to stop early, until its fetcher has answered. Only
//! [`Leases`](super::leases::Leases) changes a lease; everything else reads it.

use std::time::Duration;

use super::action::{Failure, PlaceId, SourceId};
use crate::model::range::ByteRange;
use crate::model::rate::RateEstimator;

/// A response is judged by its own speed after this long.
const TELLING_TIME: Duration = Duration::from_millis(100);
/// Silence that is shorter means nothing.
const QUIET: Duration = Duration::from_millis(300);
/// Nor does silence shorter than this many of the connection's own pauses.
const QUIET_PAUSES: u32 = 8;
/// Shorter pauses are the network's.
const CHUNK_PAUSE: Duration = Duration::from_millis(40);
/// Less between two pauses is a record of TLS or a few segments, of a slow way.
const CHUNK_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) source: SourceId,
    /// The host that its connection goes to.
    pub(super) place: PlaceId,
    pub(super) range: ByteRange,
    /// Where the response ends: beyond the range, if that was shrunk.
    pub(super) asked_end: u64,
    pub(super) position: u64,
    pub(super) start: u64,
    pub(super) issued_at: Duration,
    pub(super) head_at: Option<Duration>,
    pub(super) last_byte_at: Duration,
    /// The mean time between bytes.
    pub(super) pause: Duration,
    /// The mean of the pauses that separate chunks, zero if there was none yet.
    pub(super) chunk_pause: Duration,
    /// How much came since the last of them.
    pub(super) chunk_bytes: u64,
    pub(super) rate: RateEstimator,
    /// The earlier speed of its connection, where a kept one was expected.
    pub(super) expected: Option<f64>,
    /// A shrink or cancel is on its way.
    pub(super) leaving: bool,
    /// A shrink is on its way, so that others fetch what a reader reads next.
    pub(super) shared: bool,
    /// A cancel is on its way: whatever happens on the connection is nobody's fault.
    pub(super) cancelled: bool,
    pub(super) cancelled_for: Option<Failure>,
    pub(super) conditional: bool,
    pub(super) in_doubt: bool,
    /// The range of its response, while its bytes may still come by the first response.
    pub(super) parked: Option<ByteRange>,
}

impl Lease {
    /// A lease that is to bring `range` by a request that is sent at `now`.
    pub(super) fn new(source: SourceId, place: PlaceId, range: ByteRange, now: Duration) -> Self {
        Self {
            source,
            place,
            range,
            asked_end: range.end(),
            position: range.start(),
            start: range.start(),
            issued_at: now,
            head_at: None,
            last_byte_at: now,
            pause: Duration::ZERO,
            chunk_pause: Duration::ZERO,
            chunk_bytes: 0,
            rate: RateEstimator::new(Duration::from_secs(2)),
            expected: None,
            leaving: false,
            shared: false,
            cancelled: false,
            cancelled_for: None,
            conditional: false,
            in_doubt: false,
            parked: None,
        }
    }

    /// Its response begins.
    pub(super) fn answered(&mut self, now: Duration) {
        self.head_at = Some(now);
        self.last_byte_at = now;
        self.rate.record(0, now);
    }

    pub(super) fn rest_bytes(&self) -> u64 {
        self.range.end().saturating_sub(self.position)
    }

    pub(super) fn has_progressed(&self) -> bool {
        self.position > self.start
    }

    /// Its fetcher handed `bytes` on.
    pub(super) fn advance(&mut self, bytes: u64, now: Duration) {
        self.position += bytes;
        let pause = now.saturating_sub(self.last_byte_at);
        self.pause = (self.pause * 7 + pause) / 8;
        if pause >= CHUNK_PAUSE && std::mem::take(&mut self.chunk_bytes) >= CHUNK_BYTES {
            self.chunk_pause = match self.chunk_pause.is_zero() {
                true => pause,
                false => (self.chunk_pause * 3 + pause) / 4,
            };
        }
        self.chunk_bytes += bytes;
        self.last_byte_at = now;
        self.rate.record(bytes, now);
    }

    /// Bytes a second since the response began; rather too low over a short time.
    pub(super) fn mean_rate(&self, now: Duration) -> f64 {
        let since = self.head_at.map_or(Duration::MAX, |head_at| now.saturating_sub(head_at));
        (self.position - self.start) as f64 / since.as_secs_f64().max(0.05)
    }

    /// Whether this response's own speed is meaningful yet.
    pub(super) fn is_telling(&self, now: Duration) -> bool {
        self.has_progressed()
            && self.head_at.is_some_and(|at| now.saturating_sub(at) >= TELLING_TIME)
    }

    /// Whether nothing has arrived for much longer than usual. Silence before
    /// `since` is not counted.
    pub(super) fn is_silent(&self, since: Duration, latency_s: f64, now: Duration) -> bool {
        let patience = QUIET.max(self.pause * QUIET_PAUSES);
        let patience = patience.as_secs_f64().max(latency_s * 3.0);
        now.saturating_sub(self.last_byte_at.max(since)).as_secs_f64() > patience
    }

    /// The speed to reckon with, in bytes a second, where anything shows it.
    pub(super) fn speed(&self, now: Duration) -> Option<f64> {
        let measured = self.rate.rate(now);
        if self.is_telling(now) {
            return Some(measured);
        }
        self.expected.or((measured > 0.0).then_some(measured))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pause between chunks after 20 times `bytes`, each after `milliseconds`.
    fn chunk_pause(bytes: u64, milliseconds: u64) -> Duration {
        let mut lease = Lease::new(0, 0, ByteRange::new(7, 1 << 40), Duration::ZERO);
        lease.answered(Duration::ZERO);
        for step in 1..=20 {
            lease.advance(bytes, Duration::from_millis(milliseconds) * step);
        }
        lease.chunk_pause
    }

    #[test]
    fn only_what_a_server_sends_at_once_is_a_chunk() {
        assert_eq!(chunk_pause(2 << 20, 500), Duration::from_millis(500));
        assert_eq!(chunk_pause(128 << 10, 250), Duration::from_millis(250));
        assert_eq!(chunk_pause(16 << 10, 60), Duration::ZERO, "records of TLS on a slow way");
        assert_eq!(chunk_pause(2 << 20, 20), Duration::ZERO, "a fast way");
    }
}
