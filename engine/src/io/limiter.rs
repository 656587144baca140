//! Speed limits: one of the engine, and one of each download beside it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::rate::TokenBucket;

/// The batch under a speed limit, so that waits are short and many.
pub(super) const LIMITED_BATCH_BYTES: u64 = 32 << 10;

/// A speed limit that many connections share, and that can change or end while
/// they wait for it.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// `None` while there is no limit.
    bucket: Mutex<Option<TokenBucket>>,
    changed: Notify,
    epoch: Instant,
}

impl Limiter {
    /// A limit in bytes a second, with one batch that may come at once; `None`
    /// limits nothing.
    pub(crate) fn new(rate_bytes_per_second: Option<u64>) -> Self {
        let limiter =
            Self { bucket: Mutex::default(), changed: Notify::new(), epoch: Instant::now() };
        limiter.set_rate(rate_bytes_per_second);
        limiter
    }

    /// Another limit from now on, also for those who wait already.
    pub(crate) fn set_rate(&self, rate_bytes_per_second: Option<u64>) {
        let now = self.epoch.elapsed();
        let mut bucket = self.bucket();
        *bucket = rate_bytes_per_second.map(|rate| {
            let fresh = || TokenBucket::new(rate, rate.min(LIMITED_BATCH_BYTES), now);
            let mut bucket = bucket.take().unwrap_or_else(fresh);
            bucket.set_rate(rate, now);
            bucket
        });
        drop(bucket);
        self.changed.notify_waiters();
    }

    /// Whether there is a limit now.
    pub(crate) fn is_limiting(&self) -> bool {
        self.bucket().is_some()
    }

    /// Counts `bytes` that came, at the first poll, and waits until the next may.
    async fn take(&self, mut bytes: u64) {
        if !self.is_limiting() {
            return;
        }
        loop {
            // Listening before looking: no change is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = self.epoch.elapsed();
            let wait = self.bucket().as_mut().map(|bucket| bucket.take(bytes, now));
            let wait = wait.unwrap_or_default();
            if wait.is_zero() {
                return;
            }
            bytes = 0;
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep(wait) => return,
            }
        }
    }

    fn bucket(&self) -> MutexGuard<'_, Option<TokenBucket>> {
        // Plain data that is whole between any two statements.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limits that one download is under.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Of all downloads of the engine together.
    pub(crate) engine: Arc<Limiter>,
    /// Of this download.
    pub(crate) own: Arc<Limiter>,
}

impl Limits {
    /// Whether any of them limits now.
    pub(super) fn are_limiting(&self) -> bool {
        self.engine.is_limiting() || self.own.is_limiting()
    }

    /// Counts `bytes` that came with both, at the first poll, and waits until the
    /// next may.
    pub(super) async fn take(&self, bytes: u64) {
        tokio::join!(biased; self.engine.take(bytes), self.own.take(bytes));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn both_limits_hold_and_the_lower_one_counts() {
        let engine = Arc::new(Limiter::new(Some(100_000)));
        let own = Arc::new(Limiter::new(Some(50_000)));
        let limits = Limits { engine, own };
        let start = Instant::now();
        limits.take(32 << 10).await;
        limits.take(100_000).await;
        let waited = start.elapsed();
        assert!((1990..=2010).contains(&waited.as_millis()), "{waited:?}");
        limits.own.set_rate(None);
        assert!(limits.are_limiting());
        limits.engine.set_rate(None);
        assert!(!limits.are_limiting());
        limits.take(u64::MAX).await;
        assert!(start.elapsed() <= waited + SHORT);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_let_go_by_a_higher_limit() {
        let limiter = Arc::new(Limiter::new(Some(1)));
        let waiting = {
            let limiter = Arc::clone(&limiter);
            tokio::spawn(async move {
                let start = Instant::now();
                limiter.take(1_000_000).await;
                start.elapsed()
            })
        };
        tokio::time::sleep(Duration::from_secs(10)).await;
        limiter.set_rate(Some(1_000_000));
        let waited = waiting.await.unwrap();
        assert!((10..12).contains(&waited.as_secs()), "{waited:?}");
    }
}
