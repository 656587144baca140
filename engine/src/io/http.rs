//! The engine's own transport: HTTP over pooled connections.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use super::connect::{Connect, Origin};
use super::connector::{Connector, FetchError, FetchErrorKind};
use super::pool::{Connection, Pool, Unanswered};
use crate::config::EngineConfig;
use crate::error::Error;
use crate::transport::{Answering, Body, Sent, Transport};

/// Reused connections tried before a fresh one is made.
const REUSED_TRIES: u32 = 2;

/// How often a request is sent again that the server did nothing with.
const UNPROCESSED_TRIES: u32 = 6;

/// Half of the wait before the second of these; it doubles from there.
const UNPROCESSED_WAIT: Duration = Duration::from_millis(25);

/// A body of fewer bytes tells nothing of its connection's speed.
const TELLING_BYTES: u64 = 32 << 10;

/// The transport that an engine has by itself: HTTP/1.1, and HTTP/2 where that is
/// asked for, over connections that are kept and used again, with proxies and TLS as
/// an [`EngineConfig`] says.
///
/// For wrapping: a transport of yours passes requests on to it, changed or not.
///
/// Requests whose connection had been closed while it was idle, and those that the
/// server says it did nothing with, are sent again by itself (RFC 9112 section 9.3.1,
/// RFC 9113 section 8.7).
#[derive(Debug)]
pub struct HttpTransport {
    pool: Arc<Pool>,
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
        Self { pool: Arc::new(Pool::new(connect, config)) }
    }

    /// Sends the request. A reused connection that ends before it answers was
    /// closed by the server while idle: that is not reported, but the request,
    /// a GET, is sent again on another one. So is what the server says it did
    /// nothing with.
    async fn begin(&self, request: Request<()>) -> Result<(Connection, Taken), FetchError> {
        let (origin, request) = in_origin_form(request)?;
        let mut stale = 0;
        let mut unprocessed = 0;
        let mut sent = 0;
        loop {
            let fresh = stale >= REUSED_TRIES;
            let mut connection = self.pool.checkout(&origin, fresh).await?;
            sent += 1;
            match connection.send(request.clone()).await {
                Ok(response) => return Ok((connection, Taken { response, origin, sent })),
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

/// A response that came, and after how many requests.
struct Taken {
    response: Response<Incoming>,
    origin: Origin,
    sent: u64,
}

impl Transport for HttpTransport {
    fn send(&self, request: Request<()>) -> Answering<'_> {
        Box::pin(async move {
            let (connection, Taken { response, origin, sent }) = self.begin(request).await?;
            let (mut head, incoming) = response.into_parts();
            head.extensions.insert(Sent(sent));
            let pool = Arc::clone(&self.pool);
            let body =
                Pooled { incoming, connection, pool, origin, bytes: 0, began: None, ended: false };
            let body: Pin<Box<dyn Body>> = Box::pin(body);
            Ok(Response::from_parts(head, body))
        })
    }
}

/// The request as connections take it, and where it goes.
fn in_origin_form(request: Request<()>) -> Result<(Origin, Request<Empty<Bytes>>), FetchError> {
    let (mut head, ()) = request.into_parts();
    let unusable = || {
        let message = "the request's URI is not one of http or https with a host".to_owned();
        FetchError { kind: FetchErrorKind::Protocol, message }
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
