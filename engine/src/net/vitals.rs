//! What TCP shows of a connection in use: its round trips and losses. The task that reads its bytes
//! looks now and then, so that nothing else has to hold on to the socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::os::tcp;

/// How often the system is asked, at most; less often where a round trip takes longer.
const EVERY: Duration = Duration::from_millis(25);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    losses: AtomicU32,
    round_trip_us: AtomicU32,
    least_round_trip_us: AtomicU32,
}

impl Vitals {
    /// How often packets were lost since the connection was made, counted at most once per round
    /// trip: a sender slows down once for everything that it lost in one.
    pub(crate) fn losses(&self) -> u32 {
        self.losses.load(Ordering::Relaxed)
    }

    /// The recent round trip and the shortest one; `None` where the system does not tell.
    pub(crate) fn round_trips(&self) -> Option<(Duration, Duration)> {
        let time = |of: &AtomicU32| Duration::from_micros(of.load(Ordering::Relaxed).into());
        let (now, least) = (time(&self.round_trip_us), time(&self.least_round_trip_us));
        (!now.is_zero() && !least.is_zero()).then_some((now, least))
    }
}

/// A TCP connection whose [`Vitals`] are kept up to date.
pub(super) struct Watched {
    stream: TokioIo<TcpStream>,
    vitals: Arc<Vitals>,
    look_at: Instant,
    out_of_order_packets: u32,
}

impl Watched {
    pub(super) fn new(stream: TokioIo<TcpStream>) -> Self {
        let look_at = Instant::now() + EVERY;
        Self { stream, vitals: Arc::default(), look_at, out_of_order_packets: 0 }
    }

    pub(super) fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.vitals)
    }

    fn look(&mut self) {
        let now = Instant::now();
        if now < self.look_at {
            return;
        }
        self.look_at = now + EVERY;
        let Some(facts) = tcp::facts(self.stream.inner()) else { return };
        self.look_at = now + EVERY.max(facts.round_trip);
        let us = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.vitals.round_trip_us.store(us(facts.round_trip), Ordering::Relaxed);
        self.vitals.least_round_trip_us.store(us(facts.least_round_trip), Ordering::Relaxed);
        // With at most one look per round trip, a look sees at most one loss.
        if facts.out_of_order_packets != self.out_of_order_packets {
            self.vitals.losses.fetch_add(1, Ordering::Relaxed);
            self.out_of_order_packets = facts.out_of_order_packets;
        }
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.look();
        }
        read
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
