//! One lease: a run of bytes that one request is to bring, and how that gets on.
//!
//! It waits for its response, then its bytes come in order from `start` up to `range.end()`.
//! It is *leaving* once it was told to stop early, until its fetcher has answered. Only
//! [`Leases`](super::leases::Leases) changes a lease; everything else reads it.

use std::time::Duration;

use super::action::{Failure, PlaceId, SourceId};
use crate::model::range::ByteRange;
use crate::model::rate::RateEstimator;

/// A response is judged by its own speed after this long.
const TELLING_TIME: Duration = Duration::from_millis(100);
/// Silence means nothing before this.
const QUIET: Duration = Duration::from_millis(300);
/// Nor before this many of the connection's own pauses.
const QUIET_PAUSES: u32 = 8;

/// The request that a lease begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) source: SourceId,
    pub(super) place: PlaceId,
    /// What it is to bring.
    pub(super) range: ByteRange,
    /// What is asked for: `None` for a plain request.
    pub(super) ask: Option<ByteRange>,
    pub(super) conditional: bool,
    pub(super) in_doubt: bool,
}

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) source: SourceId,
    /// The host that its connection goes to.
    pub(super) place: PlaceId,
    pub(super) range: ByteRange,
    /// Where the response ends: beyond the range, where that was shrunk.
    pub(super) asked_end: u64,
    pub(super) position: u64,
    pub(super) start: u64,
    pub(super) issued_at: Duration,
    pub(super) head_at: Option<Duration>,
    pub(super) last_byte_at: Duration,
    /// The mean time between bytes.
    pause: Duration,
    pub(super) rate: RateEstimator,
    /// The speed of its connection before, where a kept one was expected.
    pub(super) expected: Option<f64>,
    /// A shrink or cancel is on its way.
    pub(super) leaving: bool,
    /// It is a shrink, so that others fetch what a reader reads next.
    pub(super) shared: bool,
    /// It is a cancel: whatever comes of the connection is nobody's fault.
    pub(super) cancelled: bool,
    pub(super) cancelled_for: Option<Failure>,
    pub(super) conditional: bool,
    pub(super) in_doubt: bool,
    /// What its response has, while its bytes may still come by the first response.
    pub(super) parked: Option<ByteRange>,
}

impl Lease {
    /// Sent at `now`, on a connection that had the speed `expected`.
    pub(super) fn new(request: Request, expected: Option<f64>, now: Duration) -> Self {
        Self {
            source: request.source,
            place: request.place,
            range: request.range,
            asked_end: request.range.end(),
            position: request.range.start(),
            start: request.range.start(),
            issued_at: now,
            head_at: None,
            last_byte_at: now,
            pause: Duration::ZERO,
            rate: RateEstimator::new(Duration::from_secs(2)),
            expected,
            leaving: false,
            shared: false,
            cancelled: false,
            cancelled_for: None,
            conditional: request.conditional,
            in_doubt: request.in_doubt,
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
        self.last_byte_at = now;
        self.rate.record(bytes, now);
    }

    /// Bytes a second since the response began; of a short time rather too low.
    pub(super) fn mean_rate(&self, now: Duration) -> f64 {
        let since = self.head_at.map_or(Duration::MAX, |head_at| now.saturating_sub(head_at));
        (self.position - self.start) as f64 / since.as_secs_f64().max(0.05)
    }

    /// Whether this response's own speed says something.
    pub(super) fn is_telling(&self, now: Duration) -> bool {
        self.has_progressed()
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
