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

/// How much lost time a connection may make up for when a timer was late or nothing was requested.
const CATCH_UP: Duration = Duration::from_millis(50);

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

    /// Returns ready once `bytes` were taken from the connection's time.
    fn poll_take(&self, bytes: usize, context: &mut Context<'_>) -> Poll<()> {
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        ready!(timer.as_mut().poll(context));
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
    /// Counts the bytes that all bodies have sent.
    pub(super) sent: Arc<AtomicU64>,
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
            ready!(pace.poll_take(piece.len(), context));
        }
        self.range.start += piece.len() as u64;
        self.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
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
            let (begun, sent) = (Instant::now(), Arc::new(AtomicU64::new(0)));
            let pace = Pace::new(1 << 20);
            for range in [0..100_000, 300_000..400_000] {
                let (object, pace) = (object.clone(), Some(pace.clone()));
                let pieces = Pieces { object, range, pace, sent: Arc::clone(&sent) };
                assert_eq!(pieces.collect().await.unwrap().to_bytes().len(), 100_000);
            }
            assert_eq!(sent.load(Ordering::Relaxed), 200_000);
            // The first piece need not wait, and a little lost time is made up for.
            let least = Duration::from_secs_f64((200_000.0 - 16_384.0) / f64::from(1 << 20));
            assert!(begun.elapsed() + CATCH_UP >= least, "{:?}", begun.elapsed());
        });
    }
}
