//! A bound on the connections to one host, each counted from before it is made
//! until its socket is closed.
//!
//! A caller here already has its turn among the downloads, so no more of them ask
//! than there may be connections. One that finds none free waits for an idle
//! connection to give way, or for one that is being closed.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::lock::Lock;
use crate::net::connect::Stream;

/// The gates of all hosts; without a bound there are none.
#[derive(Debug)]
pub(super) struct Gates {
    per_host: Option<usize>,
    hosts: Lock<HashMap<String, Arc<Gate>>>,
}

/// The gate of one host.
#[derive(Debug)]
pub(super) struct Gate {
    permits: Arc<Semaphore>,
    /// A connection became idle.
    idle: Notify,
}

impl Gates {
    pub(super) fn new(per_host: Option<usize>) -> Self {
        Self { per_host: per_host.map(|most| most.max(1)), hosts: Lock::default() }
    }

    /// The gate of `host`, if there is a bound.
    pub(super) fn of(&self, host: &str) -> Option<Arc<Gate>> {
        let most = self.per_host?;
        let mut hosts = self.hosts.lock();
        if let Some(gate) = hosts.get(host) {
            return Some(Arc::clone(gate));
        }
        // Gates that nobody has a connection through, or waits at, are forgotten.
        hosts.retain(|_, gate| {
            Arc::strong_count(gate) > 1 || gate.permits.available_permits() < most
        });
        let gate = Gate { permits: Arc::new(Semaphore::new(most)), idle: Notify::new() };
        let gate = Arc::new(gate);
        hosts.insert(host.to_owned(), Arc::clone(&gate));
        Some(gate)
    }

    /// A connection to `host` became idle: wakes the tasks that wait for one.
    pub(super) fn idle(&self, host: &str) {
        if self.per_host.is_some()
            && let Some(gate) = self.of(host)
        {
            gate.idle.notify_waiters();
        }
    }
}

impl Gate {
    /// Permission to make a connection; `None` when there is none now.
    pub(super) fn try_pass(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Waits for permission; `None` when a connection became idle instead. `look`
    /// may find one that was idle before.
    pub(super) async fn pass(&self, look: impl FnOnce()) -> Option<OwnedSemaphorePermit> {
        let mut idle = std::pin::pin!(self.idle.notified());
        // Listening before looking, so that none is missed.
        idle.as_mut().enable();
        look();
        tokio::select! {
            biased;
            permit = Arc::clone(&self.permits).acquire_owned() => permit.ok(),
            () = idle => None,
        }
    }
}

/// A connection that counts for as long as its socket is open.
pub(super) struct Counted {
    stream: Box<dyn Stream>,
    _permit: OwnedSemaphorePermit,
}

impl Counted {
    pub(super) fn new(stream: Box<dyn Stream>, permit: OwnedSemaphorePermit) -> Self {
        Self { stream, _permit: permit }
    }
}

impl Read for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
