//! HTTP/2 connections (RFC 9113): a few per origin, each with a few requests at once.
//!
//! Memory and progress. Windows bound what a server may send unasked:
//! that of its [`Lane`] per stream, and for a connection the sum over all its
//! streams. So a stream whose body is not polled, because the budget is used up or
//! the disk is slow, never takes another one's window: the streams that hold budget
//! receive, and give it back.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
use crate::lock::Lock;
use crate::model::config::HttpVersion;
use crate::net::connect::Stream;
use crate::net::transport::Lane;

/// How much of a stream is received before it is polled. At 100 ms it allows
/// 10 MiB/s, more than a connection's share on such a path.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The same where small responses are expected: most of them fit. It is as small as a large
/// response can bear that was taken for a small one, and whose server knows no ranges.
const SMALL_WINDOW_BYTES: u32 = 512 << 10;

/// The same under a speed limit. The limit counts what is polled, while the windows
/// are filled at any speed.
const LIMITED_WINDOW_BYTES: u32 = 64 << 10;

impl Lane {
    /// The most streams on one connection. Where many bytes come they are few, since they share
    /// its congestion window.
    const fn max_streams(self) -> u32 {
        match self {
            Self::Bulk => 4,
            Self::Small => 16,
        }
    }

    /// How many connections are opened before one is given a second stream. Several slow starts
    /// bring small responses sooner than one, and an origin without HTTP/2 has that many
    /// connections of HTTP/1.1 at once.
    const fn connections_before_sharing(self) -> usize {
        match self {
            Self::Bulk => 1,
            Self::Small => 4,
        }
    }

    const fn window_bytes(self, limited: bool) -> u32 {
        match self {
            _ if limited => LIMITED_WINDOW_BYTES,
            Self::Bulk => STREAM_WINDOW_BYTES,
            Self::Small => SMALL_WINDOW_BYTES,
        }
    }
}

/// A larger response head is an attack or a defect.
const MAX_HEADER_LIST_BYTES: u32 = 64 << 10;

/// Pings find a connection whose path is gone sooner than its streams are given up
/// as stalled.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Idle connections kept, of all origins together.
const MAX_IDLE: usize = 16;

/// How many origins are remembered.
const MAX_ORIGINS: usize = 1024;

/// Starts hyper's tasks, and aborts them: left alone they would wait for the server.
#[derive(Debug, Clone, Default)]
struct Tasks(Arc<Lock<Vec<AbortHandle>>>);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let task = tokio::spawn(future).abort_handle();
        let mut tasks = self.0.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }
}

/// An HTTP/2 connection; dropping it closes it.
pub(super) struct Opened {
    sender: SendRequest<Empty<Bytes>>,
    /// Driven by a task, which drops it at its end so that unsent requests fail.
    /// Shared so that it can be asked meanwhile.
    connection: Arc<Lock<Option<Connection>>>,
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
        self.tasks.0.lock().iter().for_each(AbortHandle::abort);
    }
}

impl Opened {
    /// Speaks HTTP/2 over `stream`.
    pub(super) async fn over(
        stream: Box<dyn Stream>,
        lane: Lane,
        limited: bool,
    ) -> hyper::Result<Self> {
        let window = lane.window_bytes(limited);
        let tasks = Tasks::default();
        let (sender, connection) = http2::Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(window * lane.max_streams())
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .handshake(stream)
            .await?;
        let connection = Arc::new(Lock::new(Some(connection)));
        let driven = Arc::clone(&connection);
        tasks.execute(poll_fn(move |cx| {
            let mut driven = driven.lock();
            let Some(connection) = driven.as_mut() else { return Poll::Ready(()) };
            let ended = ready!(Pin::new(connection).poll(cx));
            *driven = None;
            // The requests and bodies that the error hit report it.
            if let Err(error) = ended {
                tracing::trace!(%error, "HTTP/2 connection ended");
            }
            Poll::Ready(())
        }));
        Ok(Self { sender, connection, answered: AtomicBool::new(false), tasks })
    }

    /// How many streams at once the server allows.
    fn allowed_streams(&self) -> usize {
        self.connection.lock().as_ref().map_or(0, Connection::current_max_send_streams)
    }
}

/// A connection, made or being made, and whether it takes further streams.
#[derive(Debug, Default)]
struct Slot {
    lane: Lane,
    opened: OnceCell<Opened>,
    /// No further stream begins on it.
    retired: AtomicBool,
}

impl Slot {
    fn is_usable(&self) -> bool {
        !self.retired.load(Ordering::Relaxed)
            && self.opened.get().is_none_or(|opened| !opened.sender.is_closed())
    }

    fn was_answered(&self) -> bool {
        self.opened.get().is_some_and(|opened| opened.answered.load(Ordering::Relaxed))
    }

    fn max_streams(&self) -> usize {
        let allowed = self.opened.get().map(Opened::allowed_streams);
        allowed.unwrap_or(usize::MAX).clamp(1, self.lane.max_streams() as usize)
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
    Http2 {
        connections: Vec<Used>,
        /// It speaks nothing else.
        only: bool,
    },
}

/// The HTTP/2 connections of a pool.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    known: Arc<Lock<HashMap<Origin, Known>>>,
    version: HttpVersion,
    /// The most connections to one host.
    per_host: usize,
}

impl Streams {
    pub(super) fn new(version: HttpVersion, per_host: Option<usize>) -> Self {
        Self { known: Arc::default(), version, per_host: per_host.unwrap_or(usize::MAX) }
    }

    /// Whether requests to `origin` begin as streams.
    pub(super) fn has(&self, origin: &Origin, lane: Lane) -> bool {
        let wanted = match self.version {
            HttpVersion::Http1 => false,
            HttpVersion::Http2 => true,
            HttpVersion::Auto => lane == Lane::Small && origin.https,
        };
        match self.known.lock().get(origin) {
            Some(Known::Http1) => false,
            Some(Known::Http2 { only, .. }) => *only || wanted,
            None => wanted,
        }
    }

    /// Whether `origin` is known to speak no HTTP/2.
    pub(super) fn is_http1(&self, origin: &Origin) -> bool {
        matches!(self.known.lock().get(origin), Some(Known::Http1))
    }

    /// A place on a connection to `origin`, which may have to be made: the one
    /// with the most room, or a new one when there is none or `fresh` asks for it.
    pub(super) fn place(&self, origin: &Origin, lane: Lane, fresh: bool) -> StreamPlace {
        let mut known = self.known.lock();
        let connections = connections_of(&mut known, origin);
        connections.retain(|used| used.streams > 0 || used.slot.is_usable());
        let usable = |used: &&mut Used| used.slot.lane == lane && used.slot.is_usable();
        let enough = lane.connections_before_sharing().min(self.per_host);
        let shares = connections.iter_mut().filter(usable).count() >= enough;
        let with_room = connections
            .iter_mut()
            .filter(usable)
            .filter(|used| used.streams < used.slot.max_streams())
            // One that is still being made would keep the request waiting.
            .min_by_key(|used| (used.slot.opened.get().is_none(), used.streams))
            .filter(|used| !fresh && (shares || used.streams == 0));
        let slot = match with_room {
            Some(used) => {
                used.streams += 1;
                Arc::clone(&used.slot)
            }
            None => {
                let slot = Arc::new(Slot { lane, ..Slot::default() });
                connections.push(Used { slot: Arc::clone(&slot), streams: 1 });
                slot
            }
        };
        StreamPlace { streams: self.clone(), origin: origin.clone(), slot, finished: false }
    }

    /// A place on a connection that is already made: HTTP/2 although HTTP/1.1 was wanted.
    pub(super) fn adopt(&self, origin: &Origin, opened: Opened) -> StreamPlace {
        let slot = Arc::new(Slot { opened: OnceCell::new_with(Some(opened)), ..Slot::default() });
        let mut known = self.known.lock();
        let used = Used { slot: Arc::clone(&slot), streams: 1 };
        connections_of(&mut known, origin).push(used);
        if let Some(Known::Http2 { only, .. }) = known.get_mut(origin) {
            *only = true;
        }
        StreamPlace { streams: self.clone(), origin: origin.clone(), slot, finished: false }
    }

    /// `origin` chose HTTP/1.1.
    pub(super) fn set_http1(&self, origin: &Origin) {
        let mut known = self.known.lock();
        forget_beyond_bounds(&mut known);
        known.insert(origin.clone(), Known::Http1);
    }

    /// Closes a connection to `host` that has no streams, if there is one.
    pub(super) fn close_one_idle(&self, host: &str) {
        let mut known = self.known.lock();
        let here = known.iter_mut().filter(|(origin, _)| origin.host == host);
        for (_, known) in here {
            if let Known::Http2 { connections, .. } = known
                && let Some(at) = connections.iter().position(|used| used.streams == 0)
            {
                connections.remove(at);
                return;
            }
        }
    }

    /// Lets no further stream begin on any connection, and closes those without streams.
    pub(super) fn forget(&self) {
        for known in self.known.lock().values_mut() {
            if let Known::Http2 { connections, .. } = known {
                connections.iter().for_each(|it| it.slot.retired.store(true, Ordering::Relaxed));
                connections.retain(|it| it.streams > 0);
            }
        }
    }

    fn release(&self, place: &StreamPlace) {
        let mut known = self.known.lock();
        let Some(Known::Http2 { connections, .. }) = known.get_mut(&place.origin) else { return };
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
            Known::Http2 { connections, .. } => {
                connections.iter().filter(|used| used.streams == 0).count()
            }
        });
        if idle.sum::<usize>() > MAX_IDLE
            && let Some(Known::Http2 { connections, .. }) = known.get_mut(&place.origin)
        {
            connections.remove(at);
        }
    }
}

fn connections_of<'a>(known: &'a mut HashMap<Origin, Known>, origin: &Origin) -> &'a mut Vec<Used> {
    forget_beyond_bounds(known);
    let unused = || Known::Http2 { connections: Vec::new(), only: false };
    let entry = known.entry(origin.clone()).or_insert_with(unused);
    if matches!(entry, Known::Http1) {
        *entry = unused();
    }
    match entry {
        Known::Http2 { connections, .. } => connections,
        Known::Http1 => unreachable!("it was replaced"),
    }
}

fn forget_beyond_bounds(known: &mut HashMap<Origin, Known>) {
    if known.len() >= MAX_ORIGINS {
        known.retain(
            |_, known| matches!(known, Known::Http2 { connections, .. } if !connections.is_empty()),
        );
    }
}

/// A stream's place on a connection. If it is dropped unfinished, the connection
/// gets no further streams, since it may be the reason.
#[derive(Debug)]
pub(super) struct StreamPlace {
    streams: Streams,
    origin: Origin,
    slot: Arc<Slot>,
    finished: bool,
}

impl StreamPlace {
    /// Makes the connection with `open` if it is not there. Several places on it
    /// wait for one `open`; when that fails or is dropped, the next one tries.
    pub(super) async fn open<E, F: Future<Output = Result<Opened, E>>>(
        &self,
        open: impl FnOnce() -> F,
    ) -> Result<(), E> {
        self.slot.opened.get_or_try_init(open).await.map(drop)
    }

    /// The sender of requests; `None` before [`StreamPlace::open`].
    pub(super) fn sender(&self) -> Option<SendRequest<Empty<Bytes>>> {
        self.slot.opened.get().map(|opened| opened.sender.clone())
    }

    /// Whether a request was answered on the connection.
    pub(super) fn was_answered(&self) -> bool {
        self.slot.was_answered()
    }

    /// A request was answered on it.
    pub(super) fn set_answered(&self) {
        if let Some(opened) = self.slot.opened.get() {
            opened.answered.store(true, Ordering::Relaxed);
        }
    }

    /// After a failure: whether the origin, which was given the choice and chose HTTP/2, has never
    /// answered in it. From now on HTTP/1.1 is asked of it instead.
    pub(super) fn gives_up_http2(&self) -> bool {
        if self.streams.version != HttpVersion::Auto {
            return false;
        }
        let mut known = self.streams.known.lock();
        let doubtful = match known.get(&self.origin) {
            Some(Known::Http1) => true,
            Some(Known::Http2 { connections, only }) => {
                !only && !connections.iter().any(|used| used.slot.was_answered())
            }
            None => false,
        };
        if doubtful {
            known.insert(self.origin.clone(), Known::Http1);
        }
        doubtful
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

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
