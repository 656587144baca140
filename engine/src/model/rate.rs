//! Measuring and limiting speed, in bytes a second. Time is an argument: a
//! `Duration` since any fixed moment, the same for all calls on one value.
//! Time that goes backwards counts as no time.

use std::time::Duration;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// A smoothed speed that follows changes within about `tau` and falls towards
/// zero when nothing arrives.
///
/// The mean is weighted by `exp(-age / tau)` and divided by the weight that
/// was really observed, so that a young estimator does not start from zero. The
/// first record only marks when observation began: how long its bytes took is
/// not known.
#[derive(Debug, Clone)]
pub struct RateEstimator {
    tau_seconds: f64,
    first: Option<Duration>,
    last: Option<Duration>,
    /// Bytes a second, weighted, not yet divided by `weight`.
    sum: f64,
    /// How much of the infinite past was observed, 0.0 to 1.0.
    weight: f64,
}

impl RateEstimator {
    /// An estimator with the time constant `tau`; less than 1 ms counts as 1 ms.
    #[must_use]
    pub fn new(tau: Duration) -> Self {
        let tau_seconds = tau.as_secs_f64().max(0.001);
        Self { tau_seconds, first: None, last: None, sum: 0.0, weight: 0.0 }
    }

    /// Forgets everything if nothing arrived for `silence` before `now`: a mean over a
    /// silence and the bytes before it is the speed of neither.
    pub fn forget_after(&mut self, silence: Duration, now: Duration) {
        if self.last.is_some_and(|last| now.saturating_sub(last) >= silence) {
            *self = Self { first: None, last: None, sum: 0.0, weight: 0.0, ..*self };
        }
    }

    /// How long there has been something to measure.
    #[must_use]
    pub fn measured_for(&self, now: Duration) -> Duration {
        self.first.map_or(Duration::ZERO, |first| now.saturating_sub(first))
    }

    /// Counts `bytes` that arrived between the last record and `now`.
    pub fn record(&mut self, bytes: u64, now: Duration) {
        let Some(last) = self.last else {
            (self.first, self.last) = (Some(now), Some(now));
            return;
        };
        let elapsed = now.saturating_sub(last).as_secs_f64();
        self.last = Some(last.max(now));
        if elapsed > 0.0 {
            let kept = self.kept_after(elapsed);
            self.sum = self.sum * kept + (1.0 - kept) * (bytes as f64 / elapsed);
            self.weight = self.weight * kept + (1.0 - kept);
        } else if self.weight > 0.0 {
            // The limit of the above as the time vanishes.
            self.sum += bytes as f64 / self.tau_seconds;
        }
    }

    /// Bytes a second at `now`, assuming that nothing arrived since the last record.
    #[must_use]
    pub fn rate(&self, now: Duration) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let kept = self.kept_after(now.saturating_sub(last).as_secs_f64());
        let weight = self.weight * kept + (1.0 - kept);
        if weight > 0.0 { self.sum * kept / weight } else { 0.0 }
    }

    fn kept_after(&self, seconds: f64) -> f64 {
        (-seconds / self.tau_seconds).exp()
    }
}

/// A limit on bytes a second that lends instead of refusing.
///
/// A taker always gets its bytes and is told how long to wait before it may go
/// on; the balance is kept in whole byte-nanoseconds, so the long-run rate is
/// exact however the takers' pieces are cut.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate_bytes_per_second: i128,
    burst: i128,
    /// Bytes times nanoseconds a second; negative is debt.
    balance: i128,
    last: Duration,
}

impl TokenBucket {
    /// A full bucket. A rate of zero counts as one byte a second.
    #[must_use]
    pub fn new(rate_bytes_per_second: u64, burst_bytes: u64, now: Duration) -> Self {
        let burst = i128::from(burst_bytes) * NANOS_PER_SECOND;
        Self {
            rate_bytes_per_second: i128::from(rate_bytes_per_second.max(1)),
            burst,
            balance: burst,
            last: now,
        }
    }

    /// Takes `bytes` and returns how long the taker must wait before it goes
    /// on, zero as long as the burst lasts.
    pub fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        self.refill(now);
        self.balance = self.balance.saturating_sub(i128::from(bytes) * NANOS_PER_SECOND);
        if self.balance >= 0 {
            return Duration::ZERO;
        }
        let debt = self.balance.unsigned_abs();
        let nanos = debt.div_ceil(self.rate_bytes_per_second.unsigned_abs());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The rate in bytes a second.
    #[must_use]
    pub fn rate_bytes_per_second(&self) -> u64 {
        u64::try_from(self.rate_bytes_per_second).unwrap_or(u64::MAX)
    }

    /// Changes the rate from `now` on; what was lent before stays lent.
    pub fn set_rate(&mut self, rate_bytes_per_second: u64, now: Duration) {
        self.refill(now);
        self.rate_bytes_per_second = i128::from(rate_bytes_per_second.max(1));
    }

    fn refill(&mut self, now: Duration) {
        let nanos = now.saturating_sub(self.last).as_nanos();
        self.last = self.last.max(now);
        let earned =
            i128::try_from(nanos).unwrap_or(i128::MAX).saturating_mul(self.rate_bytes_per_second);
        // The excess of rounded-up waits is kept, even without a burst.
        let most = self.burst.max(self.rate_bytes_per_second);
        self.balance = self.balance.saturating_add(earned).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn assert_near(value: f64, expected: f64, tolerance: f64) {
        assert!((value - expected).abs() <= tolerance, "{value} is not near {expected}");
    }

    #[test]
    fn a_young_estimator_tells_the_true_rate() {
        let mut estimator = RateEstimator::new(ms(5000));
        assert_eq!(estimator.rate(ms(100)), 0.0);
        estimator.record(0, ms(1000));
        assert_eq!(estimator.rate(ms(1000)), 0.0);
        estimator.record(10_000, ms(1100));
        assert_near(estimator.rate(ms(1100)), 100_000.0, 1.0);
        for step in 2..400 {
            estimator.record(10_000, ms(1000 + step * 100));
            assert_near(estimator.rate(ms(1000 + step * 100)), 100_000.0, 1.0);
        }
    }

    #[test]
    fn uneven_pieces_do_not_bend_the_rate() {
        let mut estimator = RateEstimator::new(ms(1000));
        let mut now = Duration::ZERO;
        estimator.record(0, now);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..5000 {
            let gap = random.u64(1..20);
            now += ms(gap);
            estimator.record(gap * 500, now);
            estimator.record(gap * 500, now);
        }
        assert_near(estimator.rate(now), 1_000_000.0, 30_000.0);
    }

    #[test]
    fn silence_decays_and_change_is_followed() {
        let mut estimator = RateEstimator::new(ms(1000));
        for step in 0..=100 {
            estimator.record(1000, ms(step * 10));
        }
        let fresh = estimator.rate(ms(1000));
        assert_near(fresh, 100_000.0, 10.0);
        let mut before = fresh;
        for later in 1..20 {
            let rate = estimator.rate(ms(1000 + later * 500));
            assert!(rate < before);
            before = rate;
        }
        assert!(before < fresh / 1000.0);
        for step in 1..=1000 {
            estimator.record(3000, ms(11_000 + step * 10));
        }
        assert_near(estimator.rate(ms(21_000)), 300_000.0, 100.0);
    }

    #[test]
    fn what_comes_after_a_silence_has_a_speed_of_its_own() {
        let mut estimator = RateEstimator::new(ms(3000));
        let mut now = ms(0);
        for _ in 0..50 {
            estimator.record(100_000, now);
            now += ms(100);
        }
        assert_eq!(estimator.measured_for(now), ms(5000));
        now += ms(20_000);
        for _ in 0..=10 {
            estimator.forget_after(ms(2000), now);
            estimator.record(100_000, now);
            now += ms(100);
        }
        assert_near(estimator.rate(now - ms(100)), 1_000_000.0, 1000.0);
        assert_eq!(estimator.measured_for(now), ms(1100));
    }

    #[test]
    fn time_going_backwards_changes_nothing_bad() {
        let mut estimator = RateEstimator::new(ms(1000));
        estimator.record(1, ms(5000));
        estimator.record(1000, ms(4000));
        estimator.record(1000, ms(6000));
        assert_near(estimator.rate(ms(3000)), 1000.0, 1.0);
        assert!(estimator.rate(Duration::MAX).is_finite());
    }

    #[test]
    fn the_long_run_rate_is_exact() {
        for rate in [1, 3, 1000, 1_234_567, 1 << 40] {
            let mut bucket = TokenBucket::new(rate, 0, Duration::ZERO);
            let mut random = fastrand::Rng::with_seed(rate);
            let (mut now, mut taken) = (Duration::ZERO, 0u64);
            for _ in 0..2000 {
                let bytes = random.u64(1..=65536);
                taken += bytes;
                now += bucket.take(bytes, now);
            }
            let ideal = u128::from(taken) * 1_000_000_000 / u128::from(rate);
            // Each wait is rounded up to a whole nanosecond, but not summed.
            assert!(now.as_nanos() >= ideal && now.as_nanos() <= ideal + 2, "{now:?} {ideal}");
        }
    }

    #[test]
    fn takers_together_share_the_rate() {
        let mut bucket = TokenBucket::new(1000, 0, ms(50));
        assert_eq!(bucket.take(1000, ms(50)), ms(1000));
        assert_eq!(bucket.take(1000, ms(50)), ms(2000));
        assert_eq!(bucket.take(0, ms(1050)), ms(1000));
    }

    #[test]
    fn a_burst_is_free_and_not_saved_beyond() {
        let mut bucket = TokenBucket::new(1000, 500, Duration::ZERO);
        assert_eq!(bucket.take(500, ms(0)), Duration::ZERO);
        assert_eq!(bucket.take(100, ms(0)), ms(100));
        assert_eq!(bucket.take(1500, ms(1_000_000)), ms(1000));
    }

    #[test]
    fn the_rate_can_change_and_extremes_do_not_overflow() {
        let mut bucket = TokenBucket::new(1000, 0, Duration::ZERO);
        assert_eq!(bucket.take(2000, ms(0)), ms(2000));
        bucket.set_rate(500, ms(1000));
        assert_eq!(bucket.take(0, ms(1000)), ms(2000));
        let mut bucket = TokenBucket::new(0, u64::MAX, Duration::ZERO);
        bucket.take(u64::MAX, Duration::ZERO);
        for _ in 0..100 {
            assert!(bucket.take(u64::MAX, Duration::ZERO) > ms(1));
        }
        bucket.set_rate(u64::MAX, Duration::MAX);
        assert!(bucket.take(u64::MAX, Duration::MAX) <= ms(110_000));
    }
}
