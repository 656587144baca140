//! Failures in a row: how long to wait after them, and when to give up.
//!
//! Failures of single leases are counted. Only when more of them failed than there are
//! connections, or none is left, does that make a *round* of [`Backoff`], which has an end.
//! A byte that was not held before resets all counts. A download is *dying* when nothing
//! more can be fetched, and what still streams may end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::action::Failure;
use super::leases::Leases;
use crate::model::error::{ErrorKind, NetworkCause};
use crate::model::retry::{Backoff, Round};
use crate::model::segment::LeaseId;

/// A lease slower than this part of its peers' speed, or of its own earlier
/// speed, is given up.
const CRAWL_SHARE: f64 = 0.05;
const CRAWL_AFTER: Duration = Duration::from_secs(8);
/// This many lies of a server in a row may be odd ones.
const ODD_LIES: u32 = 2;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Failures {
    backoff: Backoff,
    /// Nothing is asked before these times: after failures, and because a server said so.
    wait_until: Duration,
    pause_until: Duration,
    /// No new connection is made before this time, while others work: some of them failed.
    new_from: Duration,
    in_a_row: u32,
    /// Leases taken from a connection that had brought nothing, since the last byte.
    reliefs_in_a_row: u32,
    lies_in_a_row: u32,
    /// Leases that still stream may end before the download fails with this.
    dying: Option<Failure>,
    /// How often the segments from this one on were stored and did not match the
    /// digest of their piece.
    bad: BTreeMap<usize, usize>,
    /// The furthest byte that any plain stream reached.
    high_water: u64,
}

impl Failures {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            wait_until: Duration::ZERO,
            pause_until: Duration::ZERO,
            new_from: Duration::ZERO,
            in_a_row: 0,
            reliefs_in_a_row: 0,
            lies_in_a_row: 0,
            dying: None,
            bad: BTreeMap::new(),
            high_water: 0,
        }
    }

    /// Rounds of backoff so far.
    pub(super) fn rounds(&self) -> u32 {
        self.backoff.total_rounds()
    }

    /// Bytes came up to `position`, of a plain stream if `whole`. Returns whether that is progress:
    /// a stream that starts over makes progress only past the furthest byte of those before it.
    pub(super) fn progress(&mut self, whole: bool, position: u64) -> bool {
        let progress = !whole || position > self.high_water;
        if progress {
            self.high_water = self.high_water.max(position);
            self.backoff.progress();
            self.in_a_row = 0;
            self.reliefs_in_a_row = 0;
            self.lies_in_a_row = 0;
        }
        progress
    }

    /// Getting the same bytes again is progress.
    pub(super) fn fetch_again(&mut self) {
        self.high_water = 0;
    }

    /// What one source did wrong says nothing about the next one.
    pub(super) fn begin_with_next(&mut self) {
        self.backoff.progress();
        self.in_a_row = 0;
        self.lies_in_a_row = 0;
        self.high_water = 0;
        self.wait_no_longer();
        self.pause_until = Duration::ZERO;
    }

    /// Whether nothing is asked at `now`.
    pub(super) fn waits(&self, now: Duration) -> bool {
        now < self.wait_until.max(self.pause_until)
    }

    /// The same, but only because of failures.
    pub(super) fn backs_off(&self, now: Duration) -> bool {
        now < self.wait_until
    }

    /// Whether no new connection is made at `now`. What is asked on those that work is no risk.
    pub(super) fn holds_new(&self, now: Duration) -> bool {
        now < self.new_from
    }

    /// The reason for the wait may be over already.
    pub(super) fn wait_no_longer(&mut self) {
        self.wait_until = Duration::ZERO;
        self.new_from = Duration::ZERO;
    }

    /// Nothing is asked until `then`.
    pub(super) fn wait_until(&mut self, then: Duration) {
        self.wait_until = self.wait_until.max(then);
    }

    /// A server asks for a pause until `then`.
    pub(super) fn pause_until(&mut self, then: Duration) {
        self.pause_until = self.pause_until.max(then);
    }

    /// A lease failed while `active` others work, of `limit`. Returns whether that makes a round.
    pub(super) fn count(&mut self, active: usize, limit: usize, now: Duration) -> bool {
        self.in_a_row += 1;
        // Others may still bring something. But connections that fail one after
        // another, each while the next is tried, make a round all the same once
        // more of them failed than there are.
        if active > 0 && self.in_a_row as usize <= limit {
            let wait = Duration::from_millis(100) * 2u32.pow(self.in_a_row.min(5));
            self.new_from = self.new_from.max(now + wait);
            return false;
        }
        self.in_a_row = 0;
        true
    }

    /// The next round, unless it is time to give up: after `most` rounds without progress,
    /// where no server asked for a pause.
    pub(super) fn round(&mut self, most: u32, now: Duration) -> Option<Round> {
        let pause = Some(self.pause_until.saturating_sub(now)).filter(|pause| !pause.is_zero());
        if pause.is_none() && self.backoff.attempts() >= most {
            return None;
        }
        let round = self.backoff.fail(pause, now)?;
        self.wait_until = now + round.wait;
        Some(round)
    }

    /// A response was a lie. Returns whether that may have been an odd one.
    pub(super) fn lied(&mut self) -> bool {
        self.lies_in_a_row += 1;
        self.lies_in_a_row <= ODD_LIES
    }

    /// A lease without a byte was given up for an idle connection.
    pub(super) fn relieved(&mut self) {
        self.reliefs_in_a_row += 1;
    }

    pub(super) fn reliefs_in_a_row(&self) -> u32 {
        self.reliefs_in_a_row
    }

    /// The leases at work may end, then the download fails.
    pub(super) fn die(&mut self, failure: Failure) {
        self.dying = Some(failure);
    }

    pub(super) fn is_dying(&self) -> bool {
        self.dying.is_some()
    }

    /// Why the download fails, now that nothing is at work.
    pub(super) fn take_death(&mut self) -> Option<Failure> {
        self.dying.take()
    }

    /// The segments from `first` on are bad. Returns whether they may be fetched once more,
    /// if that may happen `most` times.
    pub(super) fn may_mend(&mut self, first: usize, most: usize) -> bool {
        let tries = self.bad.entry(first).or_default();
        *tries += 1;
        *tries <= most
    }
}

/// The leases to give up, and why: nothing came for `patience`, not counting the time
/// before `since`, or they crawl where `may_crawl` lets that count.
pub(super) fn stalled(
    leases: &Leases,
    patience: Duration,
    since: Duration,
    may_crawl: impl Fn(LeaseId) -> bool,
    now: Duration,
) -> Vec<(LeaseId, Failure)> {
    let count = leases.len();
    let total: f64 = leases.values().map(|lease| lease.rate.rate(now)).sum();
    let mut victims = Vec::new();
    for (id, lease) in leases.iter().filter(|(_, lease)| !lease.leaving) {
        let silent = now.saturating_sub(lease.last_byte_at.max(since));
        let rate = lease.rate.rate(now);
        let peers = ((total - rate) / (count.max(2) - 1) as f64)
            .max(leases.speeds().typical())
            .max(lease.mean_rate(now));
        let old = now.saturating_sub(lease.issued_at.max(since)) > CRAWL_AFTER;
        if silent >= patience {
            let message = format!("no byte for {} s", silent.as_secs());
            let failure = Failure::new(ErrorKind::Network, message);
            victims.push((*id, Failure { cause: Some(NetworkCause::Stall), ..failure }));
        } else if old && may_crawl(*id) && rate < peers * CRAWL_SHARE {
            victims.push((*id, Failure::new(ErrorKind::Network, "a connection crawls")));
        }
    }
    victims
}
