//! Connections, made when needed and kept for the next request to the same
//! origin: of HTTP/1.1 here, of HTTP/2 in [`streams`].
//!
//! Each is a `hyper::client::conn` of its own, so that the engine counts, keeps
//! and closes them itself.
//!
//! A [`Connection`] has one owner: the pool while idle, a fetcher while used.
//! Dropping it closes it; only [`Pool::checkin`] keeps it. With HTTP/2 it is one
//! stream; the connection below it is closed with the last.

mod gates;
#[cfg(feature = "http2")]
mod streams;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
#[cfg(feature = "http2")]
use http::header::HOST;
use http::header::PROXY_AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

#[cfg(feature = "http2")]
use super::causes::chain;
use super::connect::{Connect, Connected, Forward, Origin};
use super::failures::{FetchError, FetchErrorKind};
use super::heads::Heads;
use super::limiter::batch_of;
#[cfg(feature = "proxy")]
use super::proxy::login_refused;
use crate::model::config::EngineConfig;
#[cfg(feature = "http2")]
use crate::model::config::HttpVersion;
use crate::model::error::NetworkCause;

/// What hyper may hold of one connection, in bytes. It bounds a response's
/// head and the largest body frame.
pub(crate) const MAX_BUF_BYTES: usize = 256 << 10;

/// The least that is read at once under a speed limit. More is what is let through at once:
/// a frame is received whole, so it must not take too many seconds' worth of a small limit.
const LEAST_READ_LIMITED_BYTES: u64 = 32 << 10;

/// More fields than this in one response head is an attack or a defect.
const MAX_HEADERS: usize = 256;

/// Idle connections kept, of all origins together.
const MAX_IDLE: usize = 64;

/// How long a connection whose body was read to its end may take to be ready
/// again. It needs one turn of its own task; a new connection costs more.
const READY_WITHIN: Duration = Duration::from_millis(50);

/// A connection, or a stream on one, and the way back to its place in the pool.
#[derive(Debug)]
pub(crate) struct Connection {
    /// What its responses brought in bytes a second, as far as that is known:
    /// the fastest idle connection is used first.
    pub(crate) speed: f64,
    origin: Origin,
    way: Way,
}

/// How requests are sent.
#[derive(Debug)]
enum Way {
    Http1 {
        /// Takes one request at a time.
        sender: SendRequest<Empty<Bytes>>,
        /// Whether a request was answered on it before: the server may have
        /// closed it meanwhile, which then says nothing about the server.
        reused: bool,
        forward: Option<Forward>,
        _driver: ConnectionTask,
    },
    #[cfg(feature = "http2")]
    Http2(streams::StreamPlace),
}

/// Why a request was not answered.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The connection was in use before and ended before it answered: the server
    /// closed it while it was idle, most likely.
    Stale,
    /// The server says that it did nothing with the request (RFC 9113 section
    /// 8.7).
    #[cfg_attr(not(feature = "http2"), expect(dead_code, reason = "HTTP/1.1 cannot say so"))]
    Unprocessed(FetchError),
    /// Anything else.
    Failed(FetchError),
}

impl Connection {
    /// Sends a request in origin form with `Host`, for the connection's origin,
    /// in the form that this way has.
    ///
    /// # Errors
    /// When no response begins.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let Self { origin, way, .. } = self;
        // A proxy's credential is not for origins, however it came here.
        let to_proxy = matches!(way, Way::Http1 { forward: Some(_), .. });
        if !to_proxy {
            request.headers_mut().remove(PROXY_AUTHORIZATION);
        }
        match way {
            Way::Http1 { sender, reused, forward, .. } => {
                if let Some(forward) = &*forward {
                    set_absolute(&mut request, origin, request_authority(origin))?;
                    if let Some(authorization) = &forward.authorization {
                        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
                    }
                }
                match (sender.send_request(request).await, forward) {
                    #[cfg(feature = "proxy")]
                    (Ok(response), Some(forward))
                        if response.status() == http::StatusCode::PROXY_AUTHENTICATION_REQUIRED =>
                    {
                        let has_login = forward.authorization.is_some();
                        let refused = login_refused(&forward.name, has_login, response.headers());
                        Err(Unanswered::Failed(refused))
                    }
                    (Ok(response), _) => Ok(response),
                    (Err(_), _) if *reused => Err(Unanswered::Stale),
                    (Err(error), forward) => {
                        // Of a proxy that says nothing, nobody knows what the origin speaks.
                        let silent = match forward {
                            None => FetchError::without_a_byte(origin, &error),
                            Some(_) => None,
                        };
                        let failed =
                            silent.unwrap_or_else(|| FetchError::before_head(origin, &error));
                        Err(Unanswered::Failed(failed))
                    }
                }
            }
            #[cfg(feature = "http2")]
            Way::Http2(place) => {
                let host = request.headers_mut().remove(HOST);
                let host = host.and_then(|host| host.to_str().map(str::to_owned).ok());
                set_absolute(&mut request, origin, host.unwrap_or_default())?;
                let reused = place.was_answered();
                let answered = match place.sender() {
                    Some(mut sender) => sender.send_request(request).await,
                    None => return Err(Unanswered::Stale),
                };
                match answered {
                    Ok(response) => {
                        place.set_answered();
                        Ok(response)
                    }
                    Err(error) => {
                        let failed = FetchError::before_head(origin, &error);
                        Err(if is_unprocessed(&error) {
                            // Refused before it was read: not for what it asks for.
                            let kind = FetchErrorKind::Connect;
                            Unanswered::Unprocessed(FetchError { kind, ..failed })
                        } else if reused {
                            Unanswered::Stale
                        } else {
                            Unanswered::Failed(failed)
                        })
                    }
                }
            }
        }
    }

    /// Whether a connection that was idle takes another request.
    async fn is_ready_again(&mut self) -> bool {
        match &mut self.way {
            Way::Http1 { sender, reused, .. } => {
                *reused = true;
                matches!(tokio::time::timeout(READY_WITHIN, sender.ready()).await, Ok(Ok(())))
            }
            #[cfg(feature = "http2")]
            Way::Http2(_) => false,
        }
    }

    fn is_closed(&self) -> bool {
        match &self.way {
            Way::Http1 { sender, .. } => sender.is_closed(),
            #[cfg(feature = "http2")]
            Way::Http2(_) => false,
        }
    }

    /// Whether a body may be dropped at any time without harm to the connection.
    pub(crate) fn is_stream(&self) -> bool {
        match self.way {
            Way::Http1 { .. } => false,
            #[cfg(feature = "http2")]
            Way::Http2(_) => true,
        }
    }
}

/// The origin as URLs have it: without the port that the scheme implies.
fn request_authority(origin: &Origin) -> String {
    match (origin.https, origin.port) {
        (false, 80) | (true, 443) => origin.host.clone(),
        _ => origin.to_string(),
    }
}

fn set_absolute(
    request: &mut Request<Empty<Bytes>>,
    origin: &Origin,
    authority: String,
) -> Result<(), Unanswered> {
    let target = request.uri().path_and_query().cloned();
    let absolute = Uri::builder()
        .scheme(if origin.https { "https" } else { "http" })
        .authority(authority)
        .path_and_query(target.unwrap_or_else(|| PathAndQuery::from_static("/")))
        .build();
    *request.uri_mut() = absolute.map_err(|_| {
        Unanswered::Failed(FetchError::new(
            FetchErrorKind::Protocol,
            format!("no request can be sent to {origin}: its host is not valid"),
        ))
    })?;
    Ok(())
}

/// Whether the server did nothing with the request, for all that it says: the
/// stream was refused, or was none of those that a closing connection still
/// serves, or was never sent.
#[cfg(feature = "http2")]
fn is_unprocessed(error: &hyper::Error) -> bool {
    let said = chain(error).find_map(|error| error.downcast_ref::<h2::Error>());
    said.is_some_and(|error| {
        error.is_remote()
            && match error.reason() {
                Some(h2::Reason::REFUSED_STREAM) => true,
                Some(h2::Reason::NO_ERROR) => error.is_go_away(),
                _ => false,
            }
    }) || error.is_canceled()
}

/// A response says how fast its connection is from so many bytes and so much
/// time on.
const TELLING: (u64, Duration) = (256 << 10, Duration::from_millis(100));

impl Connection {
    /// A response brought `bytes` in `time`. One that is too short to tell
    /// counts only where nothing else is known.
    pub(crate) fn measured(&mut self, bytes: u64, time: Duration) {
        if self.speed == 0.0 || bytes >= TELLING.0 && time >= TELLING.1 {
            self.speed = bytes as f64 / time.as_secs_f64().max(0.05);
        }
    }
}

/// Closes its connection when dropped.
///
/// hyper's own task can miss that a body was dropped while it waits for the
/// server, and would hold the socket for as long as the server is silent.
#[derive(Debug)]
struct ConnectionTask(AbortHandle);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes connections and keeps idle ones.
#[derive(Debug)]
pub(crate) struct Pool {
    connect: Box<dyn Connect>,
    connect_timeout: Duration,
    max_read_bytes: Option<usize>,
    gates: gates::Gates,
    idle: Mutex<HashMap<Origin, Vec<Connection>>>,
    #[cfg(feature = "http2")]
    streams: streams::Streams,
    #[cfg(feature = "http2")]
    limited: bool,
}

/// A connection that was made.
enum Made {
    Http1(Connection),
    #[cfg(feature = "http2")]
    Http2(streams::Opened),
}

/// A connection became idle while another one was to be made.
struct Idle;

/// Why there is no HTTP/2 connection.
#[cfg(feature = "http2")]
enum NoStreams {
    /// HTTP/1.1 was chosen.
    Http1,
    Failed(FetchError),
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new(connect: Box<dyn Connect>, config: &EngineConfig) -> Self {
        let at_once =
            |rate| batch_of(rate).clamp(LEAST_READ_LIMITED_BYTES, MAX_BUF_BYTES as u64) as usize;
        let max_read_bytes = config.limit_rate_bytes_per_second.map(at_once);
        Self {
            connect,
            connect_timeout: config.connect_timeout,
            max_read_bytes,
            gates: gates::Gates::new(config.max_connections_per_host),
            idle: Mutex::new(HashMap::new()),
            #[cfg(feature = "http2")]
            streams: streams::Streams::new(config.http_version == HttpVersion::Http2),
            #[cfg(feature = "http2")]
            limited: config.limit_rate_bytes_per_second.is_some(),
        }
    }

    /// A connection to `origin`: the fastest of the idle ones, or a new one when
    /// there is none or `fresh` asks for it. With HTTP/2 a stream on one that has
    /// room, or on a new one.
    ///
    /// # Errors
    /// When a new connection cannot be made.
    pub(crate) async fn checkout(
        &self,
        origin: &Origin,
        fresh: bool,
    ) -> Result<Connection, FetchError> {
        #[cfg(feature = "http2")]
        if self.streams.has(origin) {
            let stream = Box::pin(self.checkout_stream(origin, fresh));
            if let Some(connection) = self.in_time(origin, stream).await? {
                return Ok(connection);
            }
        }
        let permit = loop {
            if !fresh {
                while let Some(mut connection) = self.pop(origin) {
                    if connection.is_ready_again().await {
                        return Ok(connection);
                    }
                }
            }
            if let Ok(permit) = self.pass_gate(origin).await {
                break permit;
            }
        };
        // On the heap: most requests find a connection, and need no room for this.
        let connecting = Box::pin(self.connect(origin, permit));
        match self.in_time(origin, connecting).await? {
            Made::Http1(connection) => Ok(connection),
            #[cfg(feature = "http2")]
            Made::Http2(opened) => {
                let place = self.streams.adopt(origin, opened);
                Ok(Connection { speed: 0.0, origin: origin.clone(), way: Way::Http2(place) })
            }
        }
    }

    /// `None` when the origin chose HTTP/1.1; the connection is idle then.
    #[cfg(feature = "http2")]
    async fn checkout_stream(
        &self,
        origin: &Origin,
        fresh: bool,
    ) -> Result<Option<Connection>, FetchError> {
        let place = self.streams.place(origin, fresh);
        let opened = place.open(|| async {
            let permit = loop {
                if let Ok(permit) = self.pass_gate(origin).await {
                    break permit;
                }
            };
            match self.connect(origin, permit).await {
                Ok(Made::Http2(opened)) => Ok(opened),
                Ok(Made::Http1(connection)) => {
                    self.streams.set_http1(origin);
                    self.checkin(connection);
                    Err(NoStreams::Http1)
                }
                Err(error) => Err(NoStreams::Failed(error)),
            }
        });
        match opened.await {
            Ok(()) => {
                Ok(Some(Connection { speed: 0.0, origin: origin.clone(), way: Way::Http2(place) }))
            }
            Err(NoStreams::Http1) => Ok(None),
            Err(NoStreams::Failed(error)) => Err(error),
        }
    }

    async fn in_time<T>(
        &self,
        origin: &Origin,
        connecting: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(result) => result,
            Err(_) => {
                let within = self.connect_timeout;
                let message =
                    format!("cannot connect to {origin}: no connection within {within:?}");
                let error = FetchError::new(FetchErrorKind::Connect, message);
                Err(FetchError { cause: Some(NetworkCause::ConnectTimeout), ..error })
            }
        }
    }

    /// Leave to make a connection, where there is a bound on those to a host.
    ///
    /// # Errors
    /// When there is an idle connection instead, which may do.
    async fn pass_gate(&self, origin: &Origin) -> Result<Option<OwnedSemaphorePermit>, Idle> {
        let Some(gate) = self.gates.of(&origin.host) else { return Ok(None) };
        if let Some(permit) = gate.try_pass() {
            return Ok(Some(permit));
        }
        gate.pass(|| self.close_one_idle(&origin.host)).await.map(Some).ok_or(Idle)
    }

    /// Closes a connection to `host` that nobody uses, if there is one.
    fn close_one_idle(&self, host: &str) {
        let mut idle = self.lock();
        let origin = idle.keys().find(|origin| origin.host == host).cloned();
        let Some(origin) = origin else {
            drop(idle);
            #[cfg(feature = "http2")]
            self.streams.close_one_idle(host);
            return;
        };
        if let Some(kept) = idle.get_mut(&origin) {
            drop(kept.pop());
            if kept.is_empty() {
                idle.remove(&origin);
            }
        }
    }

    async fn connect(
        &self,
        origin: &Origin,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Made, FetchError> {
        let mut connected = self.connect.connect(origin).await?;
        if let Some(permit) = permit {
            connected.stream = Box::new(gates::Counted::new(connected.stream, permit));
        }
        #[cfg(feature = "http2")]
        if connected.http2 {
            let opened = streams::Opened::over(connected.stream, self.limited).await;
            return opened.map(Made::Http2).map_err(|e| FetchError::beginning(origin, &e));
        }
        let Connected { stream, forward, .. } = connected;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUF_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(Heads::new(stream, MAX_BUF_BYTES, self.max_read_bytes))
            .await
            .map_err(|error| FetchError::beginning(origin, &error))?;
        let task = tokio::spawn(async move {
            // What went wrong is told to the request or body that it hit.
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection ended");
            }
        });
        let driver = ConnectionTask(task.abort_handle());
        let way = Way::Http1 { sender, reused: false, forward, _driver: driver };
        Ok(Made::Http1(Connection { speed: 0.0, origin: origin.clone(), way }))
    }

    /// Keeps a connection whose last body was read to its end. Closed ones,
    /// and those beyond what is kept, are dropped.
    pub(crate) fn checkin(&self, connection: Connection) {
        let connection = match connection.way {
            #[cfg(feature = "http2")]
            Way::Http2(place) => {
                place.finish();
                return self.gates.idle(&connection.origin.host);
            }
            Way::Http1 { .. } => connection,
        };
        if connection.is_closed() {
            return;
        }
        let mut idle = self.lock();
        idle.retain(|_, kept| {
            kept.retain(|connection| !connection.is_closed());
            !kept.is_empty()
        });
        if idle.values().map(Vec::len).sum::<usize>() < MAX_IDLE {
            let origin = connection.origin.clone();
            idle.entry(origin.clone()).or_default().push(connection);
            drop(idle);
            self.gates.idle(&origin.host);
        }
    }

    fn pop(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.lock();
        let kept = idle.get_mut(origin)?;
        // Of equal ones, the one used last.
        let fastest = (0..kept.len()).max_by(|a, b| kept[*a].speed.total_cmp(&kept[*b].speed))?;
        let connection = Some(kept.remove(fastest));
        if kept.is_empty() {
            idle.remove(origin);
        }
        connection
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, Vec<Connection>>> {
        // No invariant spans a panic: each call leaves the map whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
