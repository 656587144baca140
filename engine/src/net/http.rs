//! The engine's own transport: HTTP over pooled connections.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
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
use crate::net::transport::{Answered, Answering, Body, Sent, Transport};

/// Reused connections tried before a fresh one is made.
const REUSED_TRIES: u32 = 2;

/// How often a request is sent again that the server did nothing with.
const UNPROCESSED_TRIES: u32 = 6;

/// Half of the wait before the second of these; it doubles from there.
const UNPROCESSED_WAIT: Duration = Duration::from_millis(25);

/// A body of fewer bytes tells nothing of its connection's speed.
const TELLING_BYTES: u64 = 32 << 10;

/// How much of a refusal's body, and how long, is read away for the sake of its
/// connection.
const DRAIN_BYTES: u64 = 64 << 10;
const DRAIN_WITHIN: Duration = Duration::from_millis(500);

/// The transport that an engine has by itself: HTTP/1.1, and HTTP/2 where that is
/// asked for, over connections that are kept and used again, with proxies and TLS as
/// an [`EngineConfig`] says.
///
/// For wrapping: a transport of yours passes requests on to it, changed or not.
///
/// Requests whose connection had been closed while it was idle, and those that the
/// server says it did nothing with, are sent again by itself (RFC 9112 section 9.3.1,
/// RFC 9113 section 8.7). A login by Basic is sent again by Digest (RFC 7616) to a
/// server that asks for that, and so from the beginning from then on.
#[derive(Debug)]
pub struct HttpTransport {
    pool: Arc<Pool>,
    logins: DigestLogins,
}

impl HttpTransport {
    /// A transport with the settings of `config` that are about connections.
    /// Nothing is opened but the files that it names.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for a CA file that cannot be read or
    /// holds no certificate, and other settings that cannot be used.
    pub fn new(config: &EngineConfig) -> Result<Self, Error> {
        Ok(Self::over(Box::new(Connector::new(config)?), config))
    }

    /// The same over other connections.
    pub(crate) fn over(connect: Box<dyn Connect>, config: &EngineConfig) -> Self {
        Self { pool: Arc::new(Pool::new(connect, config)), logins: DigestLogins::default() }
    }

    /// Sends the request. A reused connection that ends before it answers was
    /// closed by the server while idle: that is not reported, but the request,
    /// a GET, is sent again on another one. So is what the server says it did
    /// nothing with.
    async fn begin(
        &self,
        origin: &Origin,
        request: &Request<Empty<Bytes>>,
    ) -> Result<Taken, FetchError> {
        let mut stale = 0;
        let mut unprocessed = 0;
        let mut sent = 0;
        loop {
            let fresh = stale >= REUSED_TRIES;
            let mut connection = self.pool.checkout(origin, fresh).await?;
            sent += 1;
            match connection.send(request.clone()).await {
                Ok(response) => return Ok(Taken { response, connection, sent }),
                Err(Unanswered::Stale) => stale += 1,
                Err(Unanswered::Unprocessed(_)) if unprocessed < UNPROCESSED_TRIES => {
                    drop(connection);
                    // The first goes out at once: a connection that closes in an
                    // orderly way is the ordinary case. A server that is full is
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

/// A response that came, over which connection, and after how many requests.
struct Taken {
    response: Response<Incoming>,
    connection: Connection,
    sent: u64,
}

impl HttpTransport {
    /// The response, once the login has the form that the server wants.
    async fn answer(&self, request: Request<()>) -> Answered {
        let (origin, mut request) = in_origin_form(request)?;
        let mut login = Login::of(request.headers());
        let target = request.uri().to_string();
        if let Some(login) = &mut login {
            let value = self.logins.known(&origin, login, &target);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let mut sent_before = 0;
        loop {
            let Taken { response, connection, sent } = self.begin(&origin, &request).await?;
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
}

/// The request as connections take it, and where it goes.
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

/// A body and the connection that it comes over: back to the pool with the one when
/// the other ends, closed where it does not.
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
                    let error = FetchError::in_body(&self.origin, &error);
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
        // Only what was read to its end leaves a connection of HTTP/1.1 usable.
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
