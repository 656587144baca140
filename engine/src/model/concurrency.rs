//! How many connections are worth having.

use std::time::Duration;

use crate::config::Connections;

const AUTO_START: usize = 4;
const AUTO_MAX: usize = 16;
/// A level is judged after this long.
const JUDGE_AFTER: Duration = Duration::from_millis(1000);
/// More connections must bring this much more speed to be kept growing.
const GAIN: f64 = 1.15;

/// The limit on connections of one download: what the caller allows, what
/// measuring shows to help, and what the server tolerates.
#[derive(Debug, Clone)]
pub struct Concurrency {
    max: usize,
    /// What measuring has reached so far; `max` when the caller fixed it.
    wanted: usize,
    /// What the server tolerates; lowered by refusals.
    tolerated: usize,
    growing: bool,
    judge_at: Duration,
    rate_before: f64,
    recover_at: Duration,
    recover_every: Duration,
}

impl Concurrency {
    /// The limit at the start of a download.
    #[must_use]
    pub fn new(connections: Connections) -> Self {
        let (max, wanted) = match connections {
            Connections::Auto => (AUTO_MAX, AUTO_START),
            Connections::Fixed(count) => (count.max(1), count.max(1)),
        };
        Self {
            max,
            wanted,
            tolerated: max,
            growing: wanted < max,
            judge_at: JUDGE_AFTER,
            rate_before: 0.0,
            recover_at: Duration::MAX,
            recover_every: Duration::from_secs(5),
        }
    }

    /// At most this many connections now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.wanted.min(self.tolerated)
    }

    /// The most that can ever be used.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// The server refused a connection while `active` others work. Returns
    /// whether the limit fell.
    pub fn refused(&mut self, active: usize, now: Duration) -> bool {
        let limit = active.max(1);
        self.growing = false;
        self.recover_at = now + self.recover_every;
        if limit >= self.limit() {
            return false;
        }
        self.tolerated = limit;
        // Each fall makes the next attempt to regain a connection rarer.
        self.recover_every = (self.recover_every * 2).min(Duration::from_secs(120));
        true
    }

    /// Looks at the total speed, in bytes a second, with all `active`
    /// connections at work.
    pub fn observe(&mut self, total_rate: f64, active: usize, now: Duration) {
        if now >= self.recover_at && self.tolerated < self.max {
            self.tolerated += 1;
            self.recover_at = now + self.recover_every;
        }
        if !self.growing || now < self.judge_at || active < self.limit() {
            return;
        }
        if total_rate > self.rate_before * GAIN {
            self.rate_before = total_rate;
            self.wanted = (self.wanted * 2).min(self.max);
            self.growing = self.wanted < self.max;
        } else {
            self.growing = false;
        }
        self.judge_at = now + JUDGE_AFTER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_grows_while_it_helps_and_stops_when_it_does_not() {
        let mut auto = Concurrency::new(Connections::Auto);
        assert_eq!(auto.limit(), 4);
        auto.observe(1e6, 4, Duration::from_secs(1));
        assert_eq!(auto.limit(), 8);
        auto.observe(1.05e6, 8, Duration::from_secs(2));
        auto.observe(9e9, 8, Duration::from_secs(9));
        assert_eq!(auto.limit(), 8, "no gain ends the growth");
    }

    #[test]
    fn refusals_lower_the_limit_to_what_works_and_it_recovers_slowly() {
        let mut fixed = Concurrency::new(Connections::Fixed(8));
        assert!(fixed.refused(4, Duration::ZERO));
        assert_eq!(fixed.limit(), 4);
        fixed.observe(1e6, 4, Duration::from_secs(1));
        assert_eq!(fixed.limit(), 4);
        fixed.observe(1e6, 4, Duration::from_secs(60));
        assert_eq!(fixed.limit(), 5);
        assert!(fixed.refused(0, Duration::from_secs(61)));
        assert_eq!(fixed.limit(), 1);
    }
}
