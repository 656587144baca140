//! Connections, made when needed and kept for the next request to the same origin:
//! HTTP/1.1 here, HTTP/2 in [`streams`].
//!
//! Each is a `hyper::client::conn` of its own, so that the engine counts, keeps
//! and closes them itself.
//!
//! A [`Connection`] has one owner: the pool while idle, a fetcher while used.
//! Dropping it closes it; only [`Pool::checkin`] keeps it. With HTTP/2 it is a
//! single stream, and the underlying connection closes with its last stream.

mod ahead;
mod gates;
#[cfg(feature = "http2")]
mod streams;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
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
use super::transport::Lane;
use super::vitals::Vitals;
use crate::lock::Lock;
use crate::model::config::EngineConfig;
use crate::model::error::NetworkCause;

/// How much hyper may buffer for one connection, in bytes. It bounds a response's
/// head and the largest body frame.
pub(crate) const MAX_BUF_BYTES: usize = 256 << 10;

/// The least that is read at once under a speed limit; more where more is let through at once.
/// A frame is received whole, so it must not take too many seconds' worth of a small limit.
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
    /// The measured speed of its responses in bytes per second, as far as that is
    /// known: the fastest idle connection is used first.
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
        /// Whether a request was answered on it before. The server may have closed
        /// it since then, which says nothing about the server.
        reused: bool,
        forward: Option<Forward>,
        vitals: Option<Arc<Vitals>>,
        _driver: ConnectionTask,
    },
    #[cfg(feature = "http2")]
    Http2(streams::StreamPlace),
}

/// Why a request was not answered.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The connection had been used before and ended before it answered: most
    /// likely the server closed it while it was idle.
    Stale,
    /// The server says that it did nothing with the request (RFC 9113 section
    /// 8.7), or it turned out not to speak the HTTP/2 that it had chosen.
    #[cfg_attr(not(feature = "http2"), expect(dead_code, reason = "HTTP/1.1 cannot say so"))]
    Unprocessed(FetchError),
    /// Anything else.
    Failed(FetchError),
}

impl Connection {
    /// Sends a request to the connection's origin. It is given in origin form with
    /// `Host`, and rewritten to the form that this connection needs.
    ///
    /// # Errors
    /// When no response begins.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let Self { origin, way, .. } = self;
        // A proxy's credential must not reach origins, however it got into the request.
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
                        let direct = forward.is_none();
                        Err(Unanswered::Failed(FetchError::unanswered(origin, error, direct)))
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
                        let unprocessed = is_unprocessed(&error) || place.gives_up_http2();
                        let failed = FetchError::unanswered(origin, error, false);
                        Err(if unprocessed {
                            // Refused before it was read, so not because of what it asks for.
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

    /// What TCP shows of the connection while it serves this request alone.
    pub(crate) fn vitals(&self) -> Option<Arc<Vitals>> {
        match &self.way {
            Way::Http1 { vitals, .. } => vitals.clone(),
            #[cfg(feature = "http2")]
            Way::Http2(_) => None,
        }
    }

    /// Whether a connection that was idle can take another request.
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

/// The origin as URLs write it: without the port that the scheme implies.
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

/// Whether the server did nothing with the request, as far as it says: the stream
/// was refused, was not among those that a closing connection still serves, or was
/// never sent.
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

/// From this many bytes and this much time on, a response tells its connection's speed.
const TELLING: (u64, Duration) = (256 << 10, Duration::from_millis(100));

impl Connection {
    /// Notes that a response brought `bytes` in `time`. One that is too short to
    /// tell counts only where nothing else is known.
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
    idle: Lock<HashMap<Origin, Vec<Connection>>>,
    ahead: ahead::Ahead,
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
            idle: Lock::new(HashMap::new()),
            ahead: ahead::Ahead::default(),
            #[cfg(feature = "http2")]
            streams: streams::Streams::new(config.http_version, config.max_connections_per_host),
            #[cfg(feature = "http2")]
            limited: config.limit_rate_bytes_per_second.is_some(),
        }
    }

    /// A connection to `origin`: the fastest of the idle ones, or a new one when
    /// there is none or `fresh` asks for it. With HTTP/2 it is a stream, on a
    /// connection that has room or on a new one.
    ///
    /// # Errors
    /// When a new connection cannot be made.
    pub(crate) async fn checkout(
        &self,
        origin: &Origin,
        #[cfg_attr(not(feature = "http2"), expect(unused_variables))] lane: Lane,
        fresh: bool,
    ) -> Result<Connection, FetchError> {
        #[cfg(feature = "http2")]
        if self.streams.has(origin, lane) {
            let stream = Box::pin(self.checkout_stream(origin, lane, fresh));
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
                if self.ahead.comes(origin).await {
                    continue;
                }
            }
            if let Ok(permit) = self.pass_gate(origin).await {
                break permit;
            }
        };
        // On the heap: most requests find a connection, and need no room for this future.
        // What may be spoken in streams has taken the way above.
        let connecting = Box::pin(self.connect(origin, Lane::Bulk, permit));
        match self.in_time(origin, connecting).await? {
            Made::Http1(connection) => Ok(connection),
            #[cfg(feature = "http2")]
            Made::Http2(opened) => {
                let place = self.streams.adopt(origin, opened);
                Ok(Connection { speed: 0.0, origin: origin.clone(), way: Way::Http2(place) })
            }
        }
    }

    /// `None` when the origin chose HTTP/1.1; the new connection is then idle.
    #[cfg(feature = "http2")]
    async fn checkout_stream(
        &self,
        origin: &Origin,
        lane: Lane,
        fresh: bool,
    ) -> Result<Option<Connection>, FetchError> {
        let place = self.streams.place(origin, lane, fresh);
        let opened = place.open(|| async {
            // Who waited for another place's connection need not find out again.
            if self.streams.is_http1(origin) {
                return Err(NoStreams::Http1);
            }
            let permit = loop {
                if let Ok(permit) = self.pass_gate(origin).await {
                    break permit;
                }
            };
            match self.connect(origin, lane, permit).await {
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

    /// Permission to make a connection, where connections to the host are bounded.
    ///
    /// # Errors
    /// When an idle connection may do instead.
    async fn pass_gate(&self, origin: &Origin) -> Result<Option<OwnedSemaphorePermit>, Idle> {
        let Some(gate) = self.gates.of(&origin.host) else { return Ok(None) };
        if let Some(permit) = gate.try_pass() {
            return Ok(Some(permit));
        }
        gate.pass(|| self.close_one_idle(&origin.host)).await.map(Some).ok_or(Idle)
    }

    /// Closes an idle connection to `host`, if there is one.
    fn close_one_idle(&self, host: &str) {
        let mut idle = self.idle.lock();
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
        lane: Lane,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Made, FetchError> {
        let mut connected = self.connect.connect(origin, lane).await?;
        if let Some(permit) = permit {
            connected.stream = Box::new(gates::Counted::new(connected.stream, permit));
        }
        #[cfg(feature = "http2")]
        if connected.http2 {
            let opened = streams::Opened::over(connected.stream, lane, self.limited).await;
            return opened.map(Made::Http2).map_err(|error| FetchError::beginning(origin, error));
        }
        let Connected { stream, forward, vitals, .. } = connected;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUF_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(Heads::new(stream, MAX_BUF_BYTES, self.max_read_bytes))
            .await
            .map_err(|error| FetchError::beginning(origin, error))?;
        let task = tokio::spawn(async move {
            // The request or body that the error hit reports it.
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection ended");
            }
        });
        let driver = ConnectionTask(task.abort_handle());
        let way = Way::Http1 { sender, reused: false, forward, vitals, _driver: driver };
        Ok(Made::Http1(Connection { speed: 0.0, origin: origin.clone(), way }))
    }

    /// Keeps a connection whose last body was read to its end, unless it is closed
    /// or enough are kept already.
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
        let mut idle = self.idle.lock();
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

    /// Closes all idle connections.
    pub(crate) fn forget_idle(&self) {
        self.idle.lock().clear();
        #[cfg(feature = "http2")]
        self.streams.forget();
    }

    fn pop(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(origin)?;
        // Among equally fast ones, the one used last.
        let fastest = (0..kept.len()).max_by(|a, b| kept[*a].speed.total_cmp(&kept[*b].speed))?;
        let connection = Some(kept.remove(fastest));
        if kept.is_empty() {
            idle.remove(origin);
        }
        connection
    }
}
