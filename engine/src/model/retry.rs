//! How long to leave a server alone after a failure, and when to give up.
//!
//! One attempt is one round of the whole download without any progress: sixteen
//! connections that fail together count as one, and a single byte that was not
//! held before starts the count again.

use std::time::Duration;

use crate::model::config::RetryPolicy;

/// One round of backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Which round without progress this is, from 1.
    pub attempt: u32,
    /// How long to wait before the next request.
    pub wait: Duration,
}

/// Counts the rounds of one download and spaces them out.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: RetryPolicy,
    random: fastrand::Rng,
    attempts: u32,
    total_rounds: u32,
    /// When the first round since the last progress began.
    failing_since: Option<Duration>,
}

impl Backoff {
    /// A backoff without failures yet. Equal seeds give equal waits.
    #[must_use]
    pub fn new(policy: RetryPolicy, seed: u64) -> Self {
        Self {
            policy,
            random: fastrand::Rng::with_seed(seed),
            attempts: 0,
            total_rounds: 0,
            failing_since: None,
        }
    }

    /// The next round, or `None` when `max_attempts` rounds went by without progress, or
    /// when the rounds including this one would take longer than `max_time`.
    ///
    /// The wait doubles from `base` up to `max_backoff`, of which 75 to 100 %
    /// are taken, so that many clients of one server do not come back in step.
    /// It is never shorter than `retry_after`, capped at `max_retry_after`.
    pub fn fail(&mut self, retry_after: Option<Duration>, now: Duration) -> Option<Round> {
        if self.attempts >= self.policy.max_attempts {
            return None;
        }
        let doublings = self.attempts.min(31);
        let full = self.policy.base.saturating_mul(1 << doublings).min(self.policy.max_backoff);
        let jittered = full.mul_f64(0.75 + 0.25 * self.random.f64()).min(full);
        let asked = retry_after.unwrap_or_default().min(self.policy.max_retry_after);
        let wait = jittered.max(asked);
        let since = *self.failing_since.get_or_insert(now);
        let ends = now.saturating_sub(since).saturating_add(wait);
        if self.policy.max_time.is_some_and(|most| ends > most) {
            return None;
        }
        self.attempts += 1;
        self.total_rounds = self.total_rounds.saturating_add(1);
        Some(Round { attempt: self.attempts, wait })
    }

    /// A byte that was not held before arrived: the count starts again.
    pub fn progress(&mut self) {
        self.attempts = 0;
        self.failing_since = None;
    }

    /// Rounds since the last progress.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Rounds of the whole download.
    #[must_use]
    pub fn total_rounds(&self) -> u32 {
        self.total_rounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy::default()
    }

    #[test]
    fn waits_double_up_to_the_cap_and_end() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(policy(), seed);
            let mut whole = Duration::ZERO;
            for (index, full) in [1, 2, 4, 8, 16, 30, 30, 30, 30, 30].into_iter().enumerate() {
                let round = backoff.fail(None, Duration::ZERO).unwrap();
                let full = Duration::from_secs(full);
                assert_eq!(round.attempt as usize, index + 1);
                assert!(round.wait <= full && round.wait >= full.mul_f64(0.75), "{round:?}");
                whole += round.wait;
            }
            assert_eq!(backoff.fail(None, Duration::ZERO), None);
            assert_eq!(backoff.fail(Some(Duration::from_secs(1)), Duration::ZERO), None);
            assert_eq!((backoff.attempts(), backoff.total_rounds()), (10, 10));
            // A network that is away for two minutes is waited for (fault 53).
            assert!(whole > Duration::from_secs(120));
        }
    }

    #[test]
    fn seeds_decide_the_jitter() {
        let waits = |seed| {
            let mut backoff = Backoff::new(policy(), seed);
            std::iter::from_fn(move || backoff.fail(None, Duration::ZERO))
                .map(|r| r.wait)
                .collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn retry_after_is_honoured_and_capped() {
        let mut backoff = Backoff::new(policy(), 7);
        let mut wait = |seconds| {
            backoff.fail(Some(Duration::from_secs(seconds)), Duration::ZERO).unwrap().wait
        };
        assert_eq!(wait(60), Duration::from_secs(60));
        assert!(wait(0) >= Duration::from_millis(1500));
        assert_eq!(wait(u64::MAX), Duration::from_secs(120));
    }

    #[test]
    fn progress_starts_the_count_again() {
        let mut backoff = Backoff::new(policy(), 7);
        for _ in 0..9 {
            backoff.fail(None, Duration::ZERO);
        }
        backoff.progress();
        let round = backoff.fail(None, Duration::ZERO).unwrap();
        assert_eq!(round.attempt, 1);
        assert!(round.wait <= Duration::from_secs(1));
        assert_eq!((backoff.attempts(), backoff.total_rounds()), (1, 10));
    }

    #[test]
    fn rounds_without_progress_end_with_their_time() {
        let at = Duration::from_secs;
        let mut policy = policy();
        policy.max_time = Some(at(10));
        let mut backoff = Backoff::new(policy, 7);
        assert!(backoff.fail(None, at(1000)).is_some());
        assert!(backoff.fail(None, at(1005)).is_some(), "7 s of 10");
        assert_eq!(backoff.fail(None, at(1009)), None, "a wait of 3 s or more ends too late");
        backoff.progress();
        assert!(backoff.fail(None, at(1009)).is_some(), "progress starts the time again");
        assert_eq!(backoff.fail(Some(at(60)), at(1010)), None, "longer than all of it");
    }

    #[test]
    fn extreme_policies_do_not_overflow() {
        let mut policy = policy();
        policy.max_attempts = 100;
        policy.base = Duration::MAX;
        policy.max_backoff = Duration::MAX;
        policy.max_retry_after = Duration::MAX;
        let mut backoff = Backoff::new(policy, 7);
        while backoff.fail(Some(Duration::MAX), Duration::ZERO).is_some() {}
        assert_eq!(backoff.total_rounds(), 100);
        policy.max_attempts = 0;
        assert_eq!(Backoff::new(policy, 7).fail(None, Duration::ZERO), None);
    }
}
