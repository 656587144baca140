//! How many connections the server tolerates.

use std::time::Duration;

/// How long after a refusal one more connection is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// The bounds of that time: it falls while attempts succeed and grows while they fail.
const RETRY_BOUNDS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// How far apart requests go to a server that refused one: it may count requests.
const APART: Duration = Duration::from_millis(250);

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Refusals {
    tolerated: usize,
    /// How many worked beside the last refusal.
    worked: usize,
    refused_at: Option<Duration>,
    /// When one more was allowed again.
    raised_at: Option<Duration>,
    next: Duration,
    every: Duration,
    confirmed: bool,
}

impl Refusals {
    pub(super) fn none(most: usize) -> Self {
        Self {
            tolerated: most,
            worked: 0,
            refused_at: None,
            raised_at: None,
            next: Duration::MAX,
            every: RETRY,
            confirmed: false,
        }
    }

    pub(super) fn tolerated(&self) -> usize {
        self.tolerated
    }

    pub(super) fn any(&self) -> bool {
        self.refused_at.is_some()
    }

    /// How many worked when one more connection was refused, again.
    pub(super) fn confirmed(&self) -> Option<usize> {
        self.confirmed.then_some(self.worked)
    }

    pub(super) fn apart(&self) -> Duration {
        if self.any() { APART } else { Duration::ZERO }
    }

    /// One connection was refused beside `active` others.
    pub(super) fn refused(&mut self, active: usize, now: Duration) {
        if self.raised_at.is_some_and(|raised| self.refused_at.is_some_and(|at| raised > at)) {
            self.every = (2 * self.every).clamp(RETRY, RETRY_BOUNDS.1);
            self.confirmed = true;
        }
        self.tolerated = self.tolerated.min(active.max(1));
        self.worked = self.tolerated;
        self.refused_at = Some(now);
        self.next = now + self.every;
    }

    /// Time passes: where more than are tolerated are `wanted`, one more may be tried. Returns
    /// whether that is so now. While no more are wanted, the try stays due: if it were put off
    /// each time, a download of half a minute would end before it confirms a refusal.
    pub(super) fn tick(&mut self, wanted: bool, now: Duration) -> bool {
        if !wanted || now < self.next {
            return false;
        }
        if self.raised_at > self.refused_at {
            // The last one was taken.
            self.every = (self.every / 2).max(RETRY_BOUNDS.0);
            self.confirmed = false;
        }
        self.tolerated += 1;
        self.raised_at = Some(now);
        self.next = now + self.every;
        true
    }
}
