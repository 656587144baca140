//! Speed limits: one for the engine, and one for each download.

use std::future::Future as _;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::lock::Lock;
use crate::model::rate::TokenBucket;

/// A batch under a speed limit is at most this fraction of a second's bytes: a second passes at
/// most its own bytes, one batch that was saved up, and one that its beginning cut in two.
const BATCHES_A_SECOND: u64 = 32;
/// A batch also has at most this many bytes, so that waits are short and many.
const LONGEST_BATCH_BYTES: u64 = 32 << 10;
/// But it is no smaller than what comes in this fraction of a second, and that much may be saved
/// up: timers count milliseconds, and what nobody could take while waiting for one would be lost.
const SHORTEST_WAITS_A_SECOND: u64 = 500;

/// A speed limit that many connections share, and that can change or end while
/// they wait for it.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// `None` while there is no limit.
    bucket: Lock<Option<TokenBucket>>,
    changed: Notify,
    epoch: Instant,
}

impl Limiter {
    /// A limit in bytes per second, with one batch that may pass at once; `None`
    /// means no limit.
    pub(crate) fn new(rate_bytes_per_second: Option<u64>) -> Self {
        let limiter =
            Self { bucket: Lock::default(), changed: Notify::new(), epoch: Instant::now() };
        limiter.set_rate(rate_bytes_per_second);
        limiter
    }

    /// Changes the limit, also for the tasks that already wait for it.
    pub(crate) fn set_rate(&self, rate_bytes_per_second: Option<u64>) {
        let now = self.epoch.elapsed();
        let mut bucket = self.bucket.lock();
        *bucket = rate_bytes_per_second.map(|rate| {
            let fresh = || TokenBucket::new(rate, batch_of(rate), now);
            let mut bucket = bucket.take().unwrap_or_else(fresh);
            bucket.set_rate(rate, now);
            bucket
        });
        drop(bucket);
        self.changed.notify_waiters();
    }

    /// Whether there is a limit now.
    pub(crate) fn is_limiting(&self) -> bool {
        self.bucket.lock().is_some()
    }

    fn batch_bytes(&self) -> Option<u64> {
        self.bucket.lock().as_ref().map(|bucket| batch_of(bucket.rate_bytes_per_second()))
    }

    /// Counts `bytes` that arrived, at the first poll, and waits out the time they take.
    async fn take(&self, mut bytes: u64) {
        if !self.is_limiting() {
            return;
        }
        loop {
            // Listening before looking: no change is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = self.epoch.elapsed();
            let wait = self.bucket.lock().as_mut().map(|bucket| bucket.take(bytes, now));
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
}

/// The size of a batch under this limit in bytes per second.
pub(super) fn batch_of(rate_bytes_per_second: u64) -> u64 {
    let longest = LONGEST_BATCH_BYTES.max(rate_bytes_per_second / SHORTEST_WAITS_A_SECOND);
    (rate_bytes_per_second / BATCHES_A_SECOND).clamp(1, longest)
}

/// The limits that apply to one download: its own, its host's and the engine's.
#[derive(Debug, Clone)]
pub(crate) struct Limits(Vec<Arc<Limiter>>);

impl Limits {
    /// All of these.
    pub(crate) fn new(limiters: impl IntoIterator<Item = Arc<Limiter>>) -> Self {
        Self(limiters.into_iter().collect())
    }

    /// Whether any of them is limiting now.
    pub(crate) fn are_limiting(&self) -> bool {
        self.0.iter().any(|limiter| limiter.is_limiting())
    }

    /// The most bytes that are let through at once; `None` without a limit.
    pub(super) fn batch_bytes(&self) -> Option<u64> {
        self.0.iter().filter_map(|limiter| limiter.batch_bytes()).min()
    }

    /// Counts `bytes` with each limit, at the first poll, and waits out the time they
    /// take. A caller that passes them on only then is smooth: no second's speed is
    /// far from the limit, however many connections share it.
    pub(super) async fn take(&self, bytes: u64) {
        let mut waits: Vec<_> =
            self.0.iter().map(|limiter| Box::pin(limiter.take(bytes))).collect();
        // All are polled before any is waited for.
        std::future::poll_fn(|context| {
            waits.retain_mut(|wait| wait.as_mut().poll(context).is_pending());
            if waits.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::sync::Mutex;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn both_limits_hold_and_the_lower_one_counts() {
        let engine = Arc::new(Limiter::new(Some(100_000)));
        let own = Arc::new(Limiter::new(Some(50_000)));
        let limits = Limits::new([Arc::clone(&engine), Arc::clone(&own)]);
        let start = Instant::now();
        limits.take(50_000 / BATCHES_A_SECOND).await;
        limits.take(100_000).await;
        let waited = start.elapsed();
        assert!((1990..=2010).contains(&waited.as_millis()), "{waited:?}");
        own.set_rate(None);
        assert!(limits.are_limiting());
        engine.set_rate(None);
        assert!(!limits.are_limiting());
        limits.take(u64::MAX).await;
        assert!(start.elapsed() <= waited + SHORT);
    }

    /// Many connections that nearly always have data, with a pause now and then.
    #[tokio::test(start_paused = true)]
    async fn no_second_has_a_tenth_more_than_the_limit() {
        for rate in [3_000, 50_000, 1_000_000, 40_000_000, 500_000_000] {
            let limits = Limits::new([Arc::new(Limiter::new(Some(rate)))]);
            let start = Instant::now();
            let let_through = Arc::new(Mutex::new(Vec::new()));
            let mut connections = tokio::task::JoinSet::new();
            for connection in 0..16_u64 {
                let (limits, let_through) = (limits.clone(), Arc::clone(&let_through));
                connections.spawn(async move {
                    let mut random = fastrand::Rng::with_seed(connection);
                    while start.elapsed() < Duration::from_secs(20) {
                        let bytes = random.u64(1..=limits.batch_bytes().unwrap());
                        limits.take(bytes).await;
                        let_through.lock().unwrap().push((start.elapsed(), bytes));
                        if random.u32(..1000) == 0 {
                            tokio::time::sleep(Duration::from_millis(random.u64(..500))).await;
                        }
                    }
                });
            }
            connections.join_all().await;
            let events = std::mem::take(&mut *let_through.lock().unwrap());
            let sum = |from: Duration| -> u64 {
                let within = |at: Duration| at >= from && at < from + Duration::from_secs(1);
                events.iter().filter(|(at, _)| within(*at)).map(|(_, bytes)| bytes).sum()
            };
            for step in 0..190 {
                let bytes = sum(Duration::from_millis(100 * step));
                let bounds = rate * 9 / 10..=rate * 11 / 10;
                assert!(bounds.contains(&bytes), "{bytes} of {rate} in second {step}/10");
            }
        }
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
