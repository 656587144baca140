//! The beginning of a download that somebody reads: bytes that readers wait for
//! have the line to themselves.
//!
//! A player needs the film's start, or an index at its end, before it shows
//! anything. Connections that fetch later bytes would take their shares of the
//! line meanwhile. So they wait until the first response is used up or silent,
//! or no reader waits any more, or until it turns out that they take nothing
//! away: where the first connection goes on as fast beside others as it did
//! alone, each is slow by itself, and all of them are wanted. One more
//! connection is begun to find that out.
//!
//! The prelude lasts from the opening of the output until it is over, once.

use std::time::Duration;

use super::lease::Lease;
use super::leases::Leases;
use crate::model::segment::LeaseId;

/// The prelude is never longer.
const AT_MOST: Duration = Duration::from_secs(5);
/// Nobody has waited for this long, in which a player starts: the first bytes are here.
const SATISFIED: Duration = Duration::from_secs(1);
/// The first connection has brought nothing for this long: others may begin.
const SILENT: Duration = Duration::from_secs(1);
/// During the prelude no lease begins further ahead of a reader that waits.
const NEAR_BYTES: u64 = 1 << 20;
/// The speed of the first connection is known after this long alone.
const ALONE: Duration = Duration::from_millis(150);
/// After this long alone, one more is begun.
const ALONE_AT_MOST: Duration = Duration::from_millis(500);
/// The speed beside others is known after this long.
const BESIDE: Duration = Duration::from_millis(250);
/// The first connection keeps at least this part of its speed where others take nothing from it.
const UNDISTURBED: f64 = 0.75;

/// How the first connection got on.
#[derive(Debug, Default, Clone, Copy)]
struct Got {
    time: Duration,
    bytes: u64,
}

impl Got {
    fn rate(self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64().max(1e-3)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Prelude {
    /// The lease of the first response.
    first: LeaseId,
    until: Duration,
    /// Where its share of the object ends, although its response may go on.
    used_up_at: u64,
    /// When somebody was last seen waiting.
    waited_at: Duration,
    /// When the first connection was last looked at, and its position then.
    looked: (Duration, u64),
    alone: Got,
    beside: Got,
}

impl Prelude {
    /// The output is open, and somebody waits while the first response goes on.
    pub(super) fn new((first, lease): (LeaseId, &Lease), now: Duration) -> Self {
        Self {
            first,
            until: now + AT_MOST,
            used_up_at: lease.range.end(),
            waited_at: now,
            looked: (now, lease.position),
            alone: Got::default(),
            beside: Got::default(),
        }
    }

    /// Whether the prelude goes on; `waits` when somebody waits now.
    pub(super) fn lasts(&mut self, waits: bool, leases: &Leases, now: Duration) -> bool {
        if waits {
            self.waited_at = now;
        }
        let satisfied = now.saturating_sub(self.waited_at) > SATISFIED;
        let goes_on = |lease: &&Lease| {
            !satisfied
                && now < self.until
                && !lease.leaving
                && lease.position < self.used_up_at
                && now.saturating_sub(lease.last_byte_at) <= SILENT
        };
        let Some(first) = leases.get(self.first).filter(goes_on) else { return false };
        let mut others = leases.iter().filter(|(id, _)| **id != self.first);
        let disturbed = others.any(|(_, lease)| lease.has_progressed());
        let got = if disturbed { &mut self.beside } else { &mut self.alone };
        got.time += now.saturating_sub(self.looked.0);
        got.bytes += first.position.saturating_sub(self.looked.1);
        self.looked = (now, first.position);
        let judged = self.alone.time >= ALONE && self.beside.time >= BESIDE;
        !judged || self.beside.rate() < self.alone.rate() * UNDISTURBED
    }

    /// Whether a lease may begin now: this far ahead of a reader that waits, if it is for one.
    pub(super) fn lets_begin(&self, ahead_bytes: Option<u64>, leases: &Leases) -> bool {
        let near = ahead_bytes.is_some_and(|ahead_bytes| ahead_bytes <= NEAR_BYTES);
        let to_find_out =
            leases.len() <= 1 && self.alone.time >= ALONE_AT_MOST && self.beside.time < BESIDE;
        near || to_find_out
    }
}
