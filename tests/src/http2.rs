//! A scripted HTTP/2 origin on loopback, in the clear or inside TLS, that
//! serves one object and can refuse streams and close connections in every
//! way that RFC 9113 knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response, StatusCode};

use crate::loopback::{self, Loopback};
use crate::object::Object;
use crate::origin::ServerIdentity;

/// The largest piece that is made at once.
const PIECE_BYTES: usize = 64 << 10;

/// What becomes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deal {
    /// It gets what it asks for.
    Serve,
    /// It is reset with REFUSED_STREAM.
    Refuse,
    /// It and those before it are served, then the connection ends: GOAWAY with
    /// NO_ERROR, and no stream after it is served.
    LastOfConnection,
    /// The whole connection is ended in the middle of everything.
    Drop,
}

/// A stream in the log.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The number of its connection, from 0.
    pub connection: usize,
    /// The request's head.
    pub head: Arc<Request<()>>,
    /// Streams that were served on the connection at its beginning, itself included.
    pub at_once: usize,
    /// What it got.
    pub deal: Deal,
}

/// What a script may want to know of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Its number at this origin, from 0.
    pub index: usize,
    /// The number of its connection, from 0.
    pub connection: usize,
    /// Its number on the connection, from 0.
    pub on_connection: usize,
}

type Script = dyn Fn(Context) -> Deal + Send + Sync;

/// How an origin is set up before it starts.
#[derive(Debug, Default)]
pub struct Http2Builder {
    identity: Option<ServerIdentity>,
    max_streams: Option<u32>,
}

impl Http2Builder {
    /// Speaks TLS under this identity, and HTTP/2 only.
    #[must_use]
    pub fn tls(mut self, identity: &ServerIdentity) -> Self {
        self.identity = Some(identity.with_protocols(&["h2"]));
        self
    }

    /// Speaks TLS under this identity, and accepts both versions, of which it speaks HTTP/2 only:
    /// to ask it in HTTP/1.1 is a mistake that shows.
    #[must_use]
    pub fn tls_with_either(mut self, identity: &ServerIdentity) -> Self {
        self.identity = Some(identity.with_protocols(&["h2", "http/1.1"]));
        self
    }

    /// Allows so many streams at once on a connection.
    #[must_use]
    pub fn max_streams(mut self, count: u32) -> Self {
        self.max_streams = Some(count);
        self
    }

    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When no socket can be had.
    #[must_use]
    pub fn start(
        self,
        object: &Object,
        script: impl Fn(Context) -> Deal + Send + Sync + 'static,
    ) -> Http2Origin {
        let shared = Arc::new(Shared {
            object: object.clone(),
            script: Box::new(script),
            max_streams: self.max_streams,
            log: Mutex::default(),
            active: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let server = Loopback::start(self.identity.as_ref(), move |socket, number| {
            let shared = Arc::clone(&serving);
            async move {
                // An error is the peer's going, or a protocol it does not speak.
                let _ = shared.serve(socket, number).await;
            }
        });
        let scheme = if self.identity.is_some() { "https" } else { "http" };
        Http2Origin { scheme, server, shared }
    }
}

/// A running origin; dropping it ends it with all its connections.
#[derive(Debug)]
pub struct Http2Origin {
    scheme: &'static str,
    server: Loopback,
    shared: Arc<Shared>,
}

impl Http2Origin {
    /// An origin to set up.
    #[must_use]
    pub fn builder() -> Http2Builder {
        Http2Builder::default()
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.server.address)
    }

    /// All streams so far, in their order.
    #[must_use]
    pub fn streams(&self) -> Vec<Stream> {
        lock(&self.shared.log).clone()
    }

    /// How many connections had streams.
    #[must_use]
    pub fn connections(&self) -> usize {
        let mut numbers: Vec<_> = self.streams().iter().map(|stream| stream.connection).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len()
    }
}

struct Shared {
    object: Object,
    script: Box<Script>,
    max_streams: Option<u32>,
    log: Mutex<Vec<Stream>>,
    /// Streams being served, by connection.
    active: Mutex<HashMap<usize, usize>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    async fn serve(
        self: &Arc<Self>,
        io: loopback::Connection,
        number: usize,
    ) -> Result<(), h2::Error> {
        let mut builder = h2::server::Builder::new();
        if let Some(max) = self.max_streams {
            builder.max_concurrent_streams(max);
        }
        let mut connection: Connection<_, Bytes> = builder.handshake(io).await?;
        let mut on_connection = 0;
        while let Some(stream) = connection.accept().await {
            // Those whose streams were cancelled before this one began come to their ends
            // first, and are not counted beside it.
            tokio::task::yield_now().await;
            let (request, respond): (Request<RecvStream>, _) = stream?;
            let context = {
                let mut log = lock(&self.log);
                let mut active = lock(&self.active);
                let active = active.entry(number).or_default();
                let context = Context { index: log.len(), connection: number, on_connection };
                let deal = (self.script)(context);
                if deal != Deal::Refuse {
                    *active += 1;
                }
                log.push(Stream {
                    connection: number,
                    head: Arc::new(request.map(drop)),
                    at_once: *active,
                    deal,
                });
                context
            };
            on_connection += 1;
            let logged = lock(&self.log)[context.index].clone();
            match logged.deal {
                Deal::Refuse => {
                    let mut respond = respond;
                    respond.send_reset(Reason::REFUSED_STREAM);
                    continue;
                }
                Deal::LastOfConnection => connection.graceful_shutdown(),
                Deal::Drop => return Ok(()),
                Deal::Serve => {}
            }
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                // An error is the stream's cancelling.
                let _ = shared.answer(&logged.head, respond).await;
                *lock(&shared.active).entry(number).or_default() -= 1;
            });
        }
        Ok(())
    }

    async fn answer(
        &self,
        request: &Request<()>,
        mut respond: SendResponse<Bytes>,
    ) -> Result<(), h2::Error> {
        let size = self.object.size_bytes();
        let range = request.headers().get(http::header::RANGE).map(|value| {
            let spec = value.to_str().ok().and_then(|value| value.strip_prefix("bytes="));
            let (first, last) = spec.and_then(|spec| spec.split_once('-')).expect("one range");
            let end = last.parse().map_or(size, |last: u64| (last + 1).min(size));
            first.parse::<u64>().expect("a first byte")..end
        });
        let mut response = Response::builder()
            .header("etag", self.object.etag().unwrap_or("\"none\""))
            .header("accept-ranges", "bytes");
        if let Some(range) = &range {
            let value = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            response = response.status(StatusCode::PARTIAL_CONTENT).header("content-range", value);
        }
        let range = range.unwrap_or(0..size);
        response = response.header("content-length", range.end - range.start);
        let response = response.body(()).expect("fields that are valid");
        let mut body = respond.send_response(response, range.is_empty())?;
        let mut at = range.start;
        while at < range.end {
            let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
            body.reserve_capacity(wanted);
            let granted = capacity(&mut body).await?.min(wanted);
            let end = at + granted as u64;
            body.send_data(self.object.bytes(at..end).into(), end == range.end)?;
            at = end;
        }
        Ok(())
    }
}

async fn capacity(body: &mut SendStream<Bytes>) -> Result<usize, h2::Error> {
    let granted = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
    granted.unwrap_or_else(|| Err(Reason::CANCEL.into()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
