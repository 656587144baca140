//! The engine's own transport: HTTP over pooled connections.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout};

use super::connect::{Connect, Origin};
use super::connector::Connector;
use super::digest_login::{DigestLogins, Login};
use super::failures::{FetchError, FetchErrorKind};
use super::pool::{Connection, Pool, Unanswered};
use crate::model::config::EngineConfig;
use crate::model::error::Error;
use crate::net::transport::{Ahead, Answered, Answering, Body, Lane, PathChanges, Sent, Transport};
use crate::os::routes::Changes;

/// An answer that takes longer than this comes from a server far or busy enough that further
/// connections are worth beginning meanwhile. A nearby server answers sooner.
const AHEAD_AFTER: Duration = Duration::from_millis(20);

/// Reused connections tried before a fresh one is made.
const REUSED_TRIES: u32 = 2;

/// How often a request is sent again when the server did nothing with it.
const UNPROCESSED_TRIES: u32 = 6;

/// Half of the wait before the second of those tries; it doubles from there.
const UNPROCESSED_WAIT: Duration = Duration::from_millis(25);

/// A body with fewer bytes tells nothing about its connection's speed.
const TELLING_BYTES: u64 = 32 << 10;

/// How much of a refusal's body is read away to keep its connection, and how long.
const DRAIN_BYTES: u64 = 64 << 10;
const DRAIN_WITHIN: Duration = Duration::from_millis(500);

/// The engine's default transport: HTTP/1.1, or HTTP/2 on request, over connections
/// that are kept and reused, with proxies and TLS as an [`EngineConfig`] says.
///
/// Wrap it in a transport of your own that passes requests on to it, changed or not.
///
/// It resends requests whose connection had been closed while idle, and those that
/// the server says it did nothing with (RFC 9112 section 9.3.1, RFC 9113 section
/// 8.7). A Basic login is resent as Digest (RFC 7616) to a server that asks for
/// that, and from then on goes there as Digest at once.
#[derive(Debug)]
pub struct HttpTransport {
    pool: Arc<Pool>,
    logins: DigestLogins,
    /// Whether the connections are the machine's own, and depend on its addresses.
    listens: bool,
}

impl HttpTransport {
    /// A transport with those settings of `config` that concern connections. It
    /// opens nothing but the files that they name.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for a CA file that cannot be read or
    /// holds no certificate, and other settings that cannot be used.
    pub fn new(config: &EngineConfig) -> Result<Self, Error> {
        let over = Self::over(Box::new(Connector::new(config)?), config);
        Ok(Self { listens: true, ..over })
    }

    /// The same transport over connections made by `connect`.
    pub(crate) fn over(connect: Box<dyn Connect>, config: &EngineConfig) -> Self {
        let pool = Arc::new(Pool::new(connect, config));
        Self { pool, logins: DigestLogins::default(), listens: false }
    }

    /// Sends the request. A reused connection that ends before it answers was
    /// closed by the server while idle: the request, a GET, is then sent again on
    /// another one without a report. The same goes for a request that the server
    /// says it did nothing with.
    async fn begin(
        &self,
        origin: &Origin,
        lane: Lane,
        request: &Request<Empty<Bytes>>,
    ) -> Result<Taken, FetchError> {
        let mut stale = 0;
        let mut unprocessed = 0;
        let mut sent = 0;
        loop {
            let fresh = stale >= REUSED_TRIES;
            let mut connection = self.pool.checkout(origin, lane, fresh).await?;
            sent += 1;
            match connection.send(request.clone()).await {
                Ok(response) => return Ok(Taken { response, connection, sent }),
                Err(Unanswered::Stale) => stale += 1,
                Err(Unanswered::Unprocessed(_)) if unprocessed < UNPROCESSED_TRIES => {
                    drop(connection);
                    // The first retry goes out at once: a connection that closes in
                    // an orderly way is the ordinary case. A server that is full is
                    // given time.
                    if unprocessed > 0 {
                        tokio::time::sleep(UNPROCESSED_WAIT * 2u32.pow(unprocessed)).await;
                    }
                    unprocessed += 1;
                }
                Err(Unanswered::Unprocessed(error) | Unanswered::Failed(error)) => {
                    return Err(error);
                }
            }
        }
    }
}

/// A response, its connection, and the number of requests it took.
struct Taken {
    response: Response<Incoming>,
    connection: Connection,
    sent: u64,
}

impl HttpTransport {
    /// Like [`Self::begin`], and begins further connections while the answer is awaited.
    async fn begin_with_others(
        &self,
        origin: &Origin,
        lane: Lane,
        request: &Request<Empty<Bytes>>,
        Ahead(count): Ahead,
    ) -> Result<Taken, FetchError> {
        let mut answer = Box::pin(self.begin(origin, lane, request));
        if let Ok(answered) = timeout(AHEAD_AFTER, &mut answer).await {
            return answered;
        }
        self.pool.dial_ahead(origin, lane, count);
        answer.await
    }

    /// The response, once the login has the form that the server wants.
    async fn answer(&self, mut request: Request<()>) -> Answered {
        let mut ahead = request.extensions_mut().remove::<Ahead>();
        let lane = request.extensions_mut().remove().unwrap_or_default();
        let (origin, mut request) = in_origin_form(request)?;
        let mut login = Login::of(request.headers());
        let target = request.uri().to_string();
        if let Some(login) = &mut login {
            let value = self.logins.known(&origin, login, &target);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let mut sent_before = 0;
        loop {
            let taken = match ahead.take() {
                Some(ahead) => self.begin_with_others(&origin, lane, &request, ahead).await?,
                None => self.begin(&origin, lane, &request).await?,
            };
            let Taken { response, connection, sent } = taken;
            let (mut head, incoming) = response.into_parts();
            let again = match &mut login {
                Some(login) if head.status == StatusCode::UNAUTHORIZED => {
                    self.logins.after_refusal(&origin, login, &target, &head.headers)
                }
                _ => None,
            };
            let body = Pooled {
                incoming,
                connection,
                pool: Arc::clone(&self.pool),
                origin: origin.clone(),
                bytes: 0,
                began: None,
                ended: false,
            };
            let Some(value) = again else {
                head.extensions.insert(Sent(sent_before + sent));
                if let Some(vitals) = body.connection.vitals() {
                    head.extensions.insert(vitals);
                }
                let body: Pin<Box<dyn Body>> = Box::pin(body);
                return Ok(Response::from_parts(head, body));
            };
            sent_before += sent;
            drain(body).await;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
    }
}

/// Reads a small body away, and closes its connection where that does not go quickly.
async fn drain(body: Pooled) {
    let mut body = Box::pin(body);
    let ending = async {
        while let Some(Ok(_)) = poll_fn(|context| body.as_mut().poll_data(context)).await {
            if body.bytes > DRAIN_BYTES {
                break;
            }
        }
    };
    if timeout(DRAIN_WITHIN, ending).await.is_ok() {
        body.finish();
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: Request<()>) -> Answering<'_> {
        Box::pin(self.answer(request))
    }

    fn path_changes(&self) -> Option<PathChanges> {
        let changes = self.listens.then(Changes::listen)?;
        let changes = changes.inspect_err(|error| tracing::debug!(%error, "no news of routes"));
        Some(Box::pin(Watch { changes: changes.ok()?, pool: Arc::clone(&self.pool) }))
    }
}

/// News of the machine's routes, each of which makes idle connections worthless.
struct Watch {
    changes: Changes,
    pool: Arc<Pool>,
}

impl Stream for Watch {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<()>> {
        let told = ready!(self.changes.poll_next(context));
        self.pool.forget_idle();
        Poll::Ready(told.ok())
    }
}

/// The request in the form that connections take, and its origin.
fn in_origin_form(request: Request<()>) -> Result<(Origin, Request<Empty<Bytes>>), FetchError> {
    let (mut head, ()) = request.into_parts();
    let unusable = || {
        let message = "the request's URI is not one of http or https with a host".to_owned();
        FetchError::new(FetchErrorKind::Protocol, message)
    };
    let https = match head.uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(unusable()),
    };
    let host = head.uri.host().ok_or_else(unusable)?.to_owned();
    let port = head.uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let target = head.uri.path_and_query().cloned();
    head.uri = Uri::from(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Ok((Origin { https, host, port }, Request::from_parts(head, Empty::new())))
}

/// A body and the connection that it comes over. The connection goes back to the
/// pool when the body ends, and is closed if it does not.
struct Pooled {
    incoming: Incoming,
    connection: Connection,
    pool: Arc<Pool>,
    origin: Origin,
    bytes: u64,
    began: Option<Instant>,
    ended: bool,
}

impl Body for Pooled {
    fn poll_data(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, FetchError>>> {
        self.began.get_or_insert_with(Instant::now);
        loop {
            let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(context)) {
                None => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    let error = FetchError::in_body(&self.origin, error);
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => frame,
            };
            // Trailers mean nothing to a download.
            if let Ok(data) = frame.into_data() {
                self.bytes += data.len() as u64;
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }

    fn left_bytes(&self) -> Option<u64> {
        if self.incoming.is_end_stream() { Some(0) } else { self.incoming.size_hint().exact() }
    }

    fn finish(self: Pin<Box<Self>>) {
        let Self { incoming, mut connection, pool, bytes, began, ended, .. } =
            *Pin::into_inner(self);
        // Only a body that was read to its end leaves an HTTP/1.1 connection usable.
        let usable = ended || incoming.is_end_stream() || connection.is_stream();
        if let Some(began) = began.filter(|_| bytes >= TELLING_BYTES) {
            connection.measured(bytes, began.elapsed());
        }
        drop(incoming);
        if usable {
            pool.checkin(connection);
        }
    }
}
