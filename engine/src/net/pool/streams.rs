//! HTTP/2 connections (RFC 9113): a few to an origin, each with a few requests
//! at once.
//!
//! Memory and progress. What a server may send unasked is bounded by windows:
//! [`STREAM_WINDOW_BYTES`] a stream, and a connection's window is that of all
//! its streams together. So a stream whose body is not polled, because the
//! budget is used up or the disk is slow, never takes the window of another
//! one: the streams that hold budget receive, and give it back.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioTimer;
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;

use super::Origin;
use crate::net::connect::Stream;

/// What is received of a stream before it is polled. At 100 ms it lets 10 MiB
/// pass in a second, more than a connection's share on such a way.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The same under a speed limit, which counts what is polled: what the windows
/// hold is received at any speed.
const LIMITED_WINDOW_BYTES: u32 = 64 << 10;

/// Streams on one connection. Few, since they share its congestion window.
const MAX_STREAMS: u32 = 4;

/// A larger response head is an attack or a defect.
const MAX_HEADER_LIST_BYTES: u32 = 64 << 10;

/// A connection whose way is gone is found by pings, sooner than its streams
/// are given up as stalled.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Idle connections kept, of all origins together.
const MAX_IDLE: usize = 16;

/// So many origins are remembered.
const MAX_ORIGINS: usize = 1024;

/// Starts hyper's tasks, and ends them: they would wait for the server.
#[derive(Debug, Clone, Default)]
struct Tasks(Arc<Mutex<Vec<AbortHandle>>>);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let task = tokio::spawn(future).abort_handle();
        let mut tasks = lock(&self.0);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }
}

/// An HTTP/2 connection; dropping it closes it.
pub(super) struct Opened {
    sender: SendRequest<Empty<Bytes>>,
    /// Driven by a task, which drops it at its end: requests that were not sent
    /// then fail. Shared for what it knows meanwhile.
    connection: Arc<Mutex<Option<Connection>>>,
    answered: AtomicBool,
    tasks: Tasks,
}

type Connection = http2::Connection<Box<dyn Stream>, Empty<Bytes>, Tasks>;

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("answered", &self.answered).finish_non_exhaustive()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        lock(&self.tasks.0).iter().for_each(AbortHandle::abort);
    }
}

impl Opened {
    /// Speaks HTTP/2 over `stream`.
    pub(super) async fn over(stream: Box<dyn Stream>, limited: bool) -> hyper::Result<Self> {
        let window = if limited { LIMITED_WINDOW_BYTES } else { STREAM_WINDOW_BYTES };
        let tasks = Tasks::default();
        let (sender, connection) = http2::Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(window * MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .handshake(stream)
            .await?;
        let connection = Arc::new(Mutex::new(Some(connection)));
        let driven = Arc::clone(&connection);
        tasks.execute(poll_fn(move |cx| {
            let mut driven = lock(&driven);
            let Some(connection) = driven.as_mut() else { return Poll::Ready(()) };
            let ended = ready!(Pin::new(connection).poll(cx));
            *driven = None;
            // What went wrong is told to the requests and bodies that it hit.
            if let Err(error) = ended {
                tracing::trace!(%error, "HTTP/2 connection ended");
            }
            Poll::Ready(())
        }));
        Ok(Self { sender, connection, answered: AtomicBool::new(false), tasks })
    }

    /// How many streams at once the server allows.
    fn allowed_streams(&self) -> usize {
        lock(&self.connection).as_ref().map_or(0, Connection::current_max_send_streams)
    }
}

/// A connection, or one that is being made, and who uses it.
#[derive(Debug, Default)]
struct Slot {
    opened: OnceCell<Opened>,
    /// No further stream begins on it.
    retired: AtomicBool,
}

impl Slot {
    fn is_usable(&self) -> bool {
        !self.retired.load(Ordering::Relaxed)
            && self.opened.get().is_none_or(|opened| !opened.sender.is_closed())
    }

    fn max_streams(&self) -> usize {
        let allowed = self.opened.get().map(Opened::allowed_streams);
        allowed.unwrap_or(usize::MAX).clamp(1, MAX_STREAMS as usize)
    }
}

#[derive(Debug)]
struct Used {
    slot: Arc<Slot>,
    streams: usize,
}

/// What is known of an origin.
#[derive(Debug)]
enum Known {
    /// It does not speak HTTP/2.
    Http1,
    Http2(Vec<Used>),
}

/// The HTTP/2 connections of a pool.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    known: Arc<Mutex<HashMap<Origin, Known>>>,
    /// Of what is not known, HTTP/2 is expected.
    expected: bool,
}

impl Streams {
    pub(super) fn new(expected: bool) -> Self {
        Self { known: Arc::default(), expected }
    }

    /// Whether requests to `origin` begin as streams.
    pub(super) fn has(&self, origin: &Origin) -> bool {
        match lock(&self.known).get(origin) {
            Some(Known::Http2(_)) => true,
            Some(Known::Http1) => false,
            None => self.expected,
        }
    }

    /// A place on a connection to `origin`, which may have to be made: the one
    /// with the most room, or a new one when there is none or `fresh` asks for it.
    pub(super) fn place(&self, origin: &Origin, fresh: bool) -> StreamPlace {
        let mut known = lock(&self.known);
        let connections = connections_of(&mut known, origin);
        connections.retain(|used| used.streams > 0 || used.slot.is_usable());
        let with_room = connections
            .iter_mut()
            .filter(|used| used.slot.is_usable() && used.streams < used.slot.max_streams())
            .min_by_key(|used| used.streams)
            .filter(|_| !fresh);
        let slot = match with_room {
            Some(used) => {
                used.streams += 1;
                Arc::clone(&used.slot)
            }
            None => {
                let slot = Arc::new(Slot::default());
                connections.push(Used { slot: Arc::clone(&slot), streams: 1 });
                slot
            }
        };
        StreamPlace { streams: self.clone(), origin: origin.clone(), slot, finished: false }
    }

    /// A place on a connection that is there already.
    pub(super) fn adopt(&self, origin: &Origin, opened: Opened) -> StreamPlace {
        let slot = Arc::new(Slot { opened: OnceCell::new_with(Some(opened)), ..Slot::default() });
        let mut known = lock(&self.known);
        let used = Used { slot: Arc::clone(&slot), streams: 1 };
        connections_of(&mut known, origin).push(used);
        StreamPlace { streams: self.clone(), origin: origin.clone(), slot, finished: false }
    }

    /// `origin` chose HTTP/1.1.
    pub(super) fn set_http1(&self, origin: &Origin) {
        let mut known = lock(&self.known);
        forget_beyond_bounds(&mut known);
        known.insert(origin.clone(), Known::Http1);
    }

    /// Closes a connection to `host` that has no streams, if there is one.
    pub(super) fn close_one_idle(&self, host: &str) {
        let mut known = lock(&self.known);
        let here = known.iter_mut().filter(|(origin, _)| origin.host == host);
        for (_, known) in here {
            if let Known::Http2(connections) = known
                && let Some(at) = connections.iter().position(|used| used.streams == 0)
            {
                connections.remove(at);
                return;
            }
        }
    }

    fn release(&self, place: &StreamPlace) {
        let mut known = lock(&self.known);
        let Some(Known::Http2(connections)) = known.get_mut(&place.origin) else { return };
        let Some(at) = connections.iter().position(|used| Arc::ptr_eq(&used.slot, &place.slot))
        else {
            return;
        };
        connections[at].streams -= 1;
        let useless = place.slot.opened.get().is_none() || !place.slot.is_usable();
        if connections[at].streams > 0 {
            return;
        }
        if useless {
            connections.remove(at);
            return;
        }
        let idle = known.values().map(|known| match known {
            Known::Http1 => 0,
            Known::Http2(all) => all.iter().filter(|used| used.streams == 0).count(),
        });
        if idle.sum::<usize>() > MAX_IDLE
            && let Some(Known::Http2(connections)) = known.get_mut(&place.origin)
        {
            connections.remove(at);
        }
    }
}

fn connections_of<'a>(known: &'a mut HashMap<Origin, Known>, origin: &Origin) -> &'a mut Vec<Used> {
    forget_beyond_bounds(known);
    let entry = known.entry(origin.clone()).or_insert_with(|| Known::Http2(Vec::new()));
    if matches!(entry, Known::Http1) {
        *entry = Known::Http2(Vec::new());
    }
    match entry {
        Known::Http2(connections) => connections,
        Known::Http1 => unreachable!("it was replaced"),
    }
}

fn forget_beyond_bounds(known: &mut HashMap<Origin, Known>) {
    if known.len() >= MAX_ORIGINS {
        known.retain(|_, known| matches!(known, Known::Http2(all) if !all.is_empty()));
    }
}

/// A stream's place on a connection. Dropped unfinished, the connection gets no
/// further streams: it may be the reason.
#[derive(Debug)]
pub(super) struct StreamPlace {
    streams: Streams,
    origin: Origin,
    slot: Arc<Slot>,
    finished: bool,
}

impl StreamPlace {
    /// The connection, made by `open` if it is not there. Several places on it
    /// wait for one `open`; when it fails or is dropped the next one tries.
    pub(super) async fn open<E, F: Future<Output = Result<Opened, E>>>(
        &self,
        open: impl FnOnce() -> F,
    ) -> Result<(), E> {
        self.slot.opened.get_or_try_init(open).await.map(drop)
    }

    /// What sends requests; `None` before [`StreamPlace::open`].
    pub(super) fn sender(&self) -> Option<SendRequest<Empty<Bytes>>> {
        self.slot.opened.get().map(|opened| opened.sender.clone())
    }

    /// Whether a request was answered on the connection.
    pub(super) fn was_answered(&self) -> bool {
        self.slot.opened.get().is_some_and(|opened| opened.answered.load(Ordering::Relaxed))
    }

    /// A request was answered on it.
    pub(super) fn set_answered(&self) {
        if let Some(opened) = self.slot.opened.get() {
            opened.answered.store(true, Ordering::Relaxed);
        }
    }

    /// The connection is as good as before.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        if !self.finished {
            self.slot.retired.store(true, Ordering::Relaxed);
        }
        self.streams.release(self);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No invariant spans a panic: each use leaves the value whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
