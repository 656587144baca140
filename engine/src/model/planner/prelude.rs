//! The beginning of a download that somebody reads: what readers wait for has
//! the line.
//!
//! A player needs the film's start, or an index at its end, before it shows
//! anything. Connections that fetch what is needed later would take their shares
//! of the line meanwhile. So they wait, until the first response is used up or
//! silent, or nobody waits any more; or until it turns out that they take
//! nothing: where the first connection goes on as fast beside others as it did
//! alone, each is slow by itself, and all of them are wanted. One more is begun
//! to find that out.

use std::time::Duration;

use super::wanted::Wanted;
use super::{Lease, LeaseId, Phase, Planner};
use crate::model::concurrency::Bound;

/// It is never longer.
const AT_MOST: Duration = Duration::from_secs(5);
/// Nobody has waited for so long, in which a player starts: what comes first is here.
const SATISFIED: Duration = Duration::from_secs(1);
/// The first connection has brought nothing for so long: others may.
const SILENT: Duration = Duration::from_secs(1);
/// While it lasts no lease begins further ahead of a reader that waits.
const NEAR_BYTES: u64 = 1 << 20;
/// The speed of the first connection is known after so long alone.
const ALONE: Duration = Duration::from_millis(150);
/// Alone for so long, one more is begun.
const ALONE_AT_MOST: Duration = Duration::from_millis(500);
/// And after so long beside others.
const BESIDE: Duration = Duration::from_millis(250);
/// It keeps at least this part of its speed where others take nothing from it.
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
    /// There its share of the object ends, although its response may go on.
    used_up_at: u64,
    /// When somebody was last seen waiting.
    waited_at: Duration,
    /// Up to here the first connection was looked at: when, and its position.
    looked: (Duration, u64),
    alone: Got,
    beside: Got,
}

impl Planner {
    /// The output is open, and `first` goes on.
    pub(super) fn begin_prelude(&mut self, first: LeaseId, now: Duration) {
        let waits = self.somebody_waits();
        let capped = self.concurrency.is_known_for() == Some(Bound::Connection);
        let lease = self.leases.get(&first).filter(|_| waits && !capped && !self.whole);
        self.prelude = lease.map(|lease| Prelude {
            first,
            until: now + AT_MOST,
            used_up_at: lease.range.end(),
            waited_at: now,
            looked: (now, lease.position),
            alone: Got::default(),
            beside: Got::default(),
        });
    }

    /// Whether the beginning still lasts. To be asked whenever something came.
    pub(super) fn watch_prelude(&mut self, now: Duration) {
        let waits = self.somebody_waits();
        let Some(prelude) = &mut self.prelude else { return };
        if waits {
            prelude.waited_at = now;
        }
        let satisfied = now.saturating_sub(prelude.waited_at) > SATISFIED;
        let over = satisfied || now >= prelude.until || self.phase != Phase::Running;
        let goes_on = |lease: &&Lease| {
            !over
                && !lease.leaving
                && lease.position < prelude.used_up_at
                && now.saturating_sub(lease.last_byte_at) <= SILENT
        };
        let Some(first) = self.leases.get(&prelude.first).filter(goes_on) else {
            self.prelude = None;
            return;
        };
        let others = self.leases.iter().filter(|(id, _)| **id != prelude.first);
        let disturbed = others.clone().any(|(_, lease)| lease.position > lease.start);
        let got = if disturbed { &mut prelude.beside } else { &mut prelude.alone };
        got.time += now.saturating_sub(prelude.looked.0);
        got.bytes += first.position.saturating_sub(prelude.looked.1);
        prelude.looked = (now, first.position);
        let judged = prelude.alone.time >= ALONE && prelude.beside.time >= BESIDE;
        if judged && prelude.beside.rate() >= prelude.alone.rate() * UNDISTURBED {
            self.prelude = None;
        }
    }

    fn somebody_waits(&self) -> bool {
        self.wants.iter().any(|want| want.waiting.is_some())
    }

    /// Whether a lease may begin now: of what a reader has fetched, or of the rest.
    pub(super) fn may_begin(&self, wanted: Option<Wanted>) -> bool {
        let Some(prelude) = &self.prelude else { return true };
        let near = wanted.is_some_and(|it| it.waits && it.ahead_bytes <= NEAR_BYTES);
        let to_find_out = self.leases.len() <= 1
            && prelude.alone.time >= ALONE_AT_MOST
            && prelude.beside.time < BESIDE;
        near || to_find_out
    }
}
