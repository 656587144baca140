//! The bodies of the embedded origin's responses, sent as fast as they are read or at the pace of
//! their connection.

use std::convert::Infallible;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::object::Object;

/// The size of the pieces of a paced body. They are small, so that many go out per second and the
/// speed is smooth.
const PACED_BYTES: usize = 16 << 10;

/// How often a paced body looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

/// How much lost time a connection may make up for when a timer was late or nothing was requested.
const CATCH_UP: Duration = Duration::from_millis(50);

/// What all bodies of an origin have sent, and may send.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Bytes sent twice count twice.
    pub(super) sent_bytes: AtomicU64,
    /// Paced bodies rest once this much was sent in all.
    pub(super) most_bytes: AtomicU64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { sent_bytes: AtomicU64::new(0), most_bytes: AtomicU64::new(u64::MAX) }
    }
}

impl Traffic {
    fn rests(&self) -> bool {
        self.sent_bytes.load(Ordering::Relaxed) >= self.most_bytes.load(Ordering::Relaxed)
    }
}

/// The pace of one connection, shared by the responses on it.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// Elapses when the next piece may be sent.
    timer: Arc<Mutex<Pin<Box<Sleep>>>>,
}

impl Pace {
    /// The pace of a connection that begins now. Needs a runtime.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        let timer = tokio::time::sleep_until(Instant::now());
        Self { bytes_per_second, timer: Arc::new(Mutex::new(Box::pin(timer))) }
    }

    /// Returns ready once `bytes` were taken from the connection's time, and not while the origin
    /// `rests`.
    fn poll_take(
        &self,
        bytes: usize,
        rests: impl Fn() -> bool,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        ready!(timer.as_mut().poll(context));
        while rests() {
            timer.as_mut().reset(Instant::now() + LOOK);
            ready!(timer.as_mut().poll(context));
        }
        let due = next_due(timer.deadline(), Instant::now(), bytes, self.bytes_per_second);
        timer.as_mut().reset(due);
        Poll::Ready(())
    }
}

/// When the next piece may be sent after one of `bytes` that was due at `due` and is sent now.
fn next_due(due: Instant, now: Instant, bytes: usize, bytes_per_second: u64) -> Instant {
    let from = now.checked_sub(CATCH_UP).map_or(due, |earliest| due.max(earliest));
    from + Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64)
}

/// A body that hands out the object's pieces without copying them.
#[derive(Debug)]
pub(super) struct Pieces {
    pub(super) object: Object,
    /// What remains to be sent.
    pub(super) range: Range<u64>,
    /// Without a pace, the body is as fast as its reader.
    pub(super) pace: Option<Pace>,
    pub(super) traffic: Arc<Traffic>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.range.is_empty() {
            return Poll::Ready(None);
        }
        let mut piece = self.object.piece(self.range.start);
        let left = self.range.end - self.range.start;
        if piece.len() as u64 > left {
            piece.truncate(left as usize);
        }
        if let Some(pace) = &self.pace {
            piece.truncate(PACED_BYTES);
            ready!(pace.poll_take(piece.len(), || self.traffic.rests(), context));
        }
        self.range.start += piece.len() as u64;
        self.traffic.sent_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.range.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.range.end - self.range.start)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_late_timer_is_made_up_for_and_an_idle_time_is_not() {
        let (start, rate) = (Instant::now() + Duration::from_secs(3600), 1000);
        let millis = |count| start + Duration::from_millis(count);
        assert_eq!(next_due(start, start, 100, rate), millis(100), "in time");
        assert_eq!(next_due(start, millis(20), 100, rate), millis(100), "late");
        assert_eq!(next_due(start, millis(5050), 100, rate), millis(5100), "idle");
    }

    #[test]
    fn responses_of_a_connection_share_its_pace() {
        let object = Object::new(1 << 20);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (begun, traffic) = (Instant::now(), Arc::new(Traffic::default()));
            let pace = Pace::new(1 << 20);
            for range in [0..100_000, 300_000..400_000] {
                let (object, pace) = (object.clone(), Some(pace.clone()));
                let pieces = Pieces { object, range, pace, traffic: Arc::clone(&traffic) };
                assert_eq!(pieces.collect().await.unwrap().to_bytes().len(), 100_000);
            }
            assert_eq!(traffic.sent_bytes.load(Ordering::Relaxed), 200_000);
            // The first piece need not wait, and a little lost time is made up for.
            let least = Duration::from_secs_f64((200_000.0 - 16_384.0) / f64::from(1 << 20));
            assert!(begun.elapsed() + CATCH_UP >= least, "{:?}", begun.elapsed());
        });
    }
    #[test]
    fn paced_bodies_rest_at_the_bound_and_go_on_without_it() {
        let object = Object::new(1 << 20);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let traffic = Arc::new(Traffic::default());
            traffic.most_bytes.store(100_000, Ordering::Relaxed);
            let (range, pace) = (0..400_000, Some(Pace::new(1 << 30)));
            let pieces = Pieces { object, range, pace, traffic: Arc::clone(&traffic) };
            let all = tokio::spawn(pieces.collect());
            let sent = || traffic.sent_bytes.load(Ordering::Relaxed);
            while sent() < 100_000 {
                tokio::time::sleep(LOOK).await;
            }
            tokio::time::sleep(10 * LOOK).await;
            assert!(sent() < 100_000 + PACED_BYTES as u64 && !all.is_finished());
            traffic.most_bytes.store(u64::MAX, Ordering::Relaxed);
            assert_eq!(all.await.unwrap().unwrap().to_bytes().len(), 400_000);
        });
    }
}
