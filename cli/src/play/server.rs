//! The HTTP server of one object or film.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::guard::{self, Asked, Guard};
use super::page;
use super::served::{Facts, Served, Source};
use crate::exit::Failure;
use crate::origin::{Wanted, parse_range};

/// How many connections there may be at once. A player opens a few; idle ones give way to new ones.
const MAX_CONNECTIONS: usize = 64;

/// How soon a request's head must come, on a kept connection as well.
const HEAD_WITHIN: Duration = Duration::from_secs(15);

/// The largest piece of a body, and the most that waits for a slow player.
const FRAME_BYTES: usize = 64 << 10;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    port: u16,
    open: Arc<watch::Sender<Open>>,
}

/// How many connections are open, and whether there ever was one.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    now: usize,
    ever: bool,
}

/// Tells when nobody is connected.
#[derive(Debug)]
pub(crate) struct Idle(watch::Receiver<Open>);

impl Idle {
    /// Whether nobody has ever connected.
    pub(crate) fn has_had_nobody(&self) -> bool {
        !self.0.borrow().ever
    }

    /// Waits until somebody has connected.
    pub(crate) async fn for_the_first(&mut self) {
        // An error means that the server has ended.
        let _ = self.0.wait_for(|open| open.ever).await;
    }

    /// Waits until nobody has been connected for this time.
    pub(crate) async fn for_at_least(mut self, time: Duration) {
        loop {
            if self.0.wait_for(|open| open.now == 0).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(time) => return,
                changed = self.0.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Counts one connection for as long as its task lives.
struct Counted(Arc<watch::Sender<Open>>);

impl Counted {
    fn new(open: &Arc<watch::Sender<Open>>) -> Self {
        open.send_modify(|open| *open = Open { now: open.now + 1, ever: true });
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|open| open.now -= 1);
    }
}

impl Server {
    /// Listens on this port of 127.0.0.1; 0 is any free port.
    ///
    /// # Errors
    /// Exit 3 when the port is not available.
    pub(crate) async fn bind(port: u16) -> Result<Self, Failure> {
        let unusable = |error: io::Error| {
            Failure::local(format!("cannot serve on port {port} of 127.0.0.1: {error}"))
                .hint("choose another with --port, or leave it out for any free port")
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(unusable)?;
        let port = listener.local_addr().map_err(unusable)?.port();
        Ok(Self { listener, port, open: Arc::new(watch::channel(Open::default()).0) })
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Tells when nobody is connected.
    pub(crate) fn idle(&self) -> Idle {
        Idle(self.open.subscribe())
    }

    /// Answers requests until it is dropped.
    pub(super) async fn serve(self, guard: Arc<Guard>, served: Arc<Served>) {
        let player = Arc::new(Played { guard, served });
        let mut connections: Vec<Connection> = Vec::new();
        let mut tasks = tokio::task::JoinSet::new();
        let ended = Arc::new(Notify::new());
        loop {
            while tasks.try_join_next().is_some() {}
            connections.retain(|connection| !connection.task.is_finished());
            if connections.len() >= MAX_CONNECTIONS {
                // The oldest idle connection gives way. One that was already told to may take a
                // moment. When all are being answered, one of them has to end.
                let silent = connections.iter().position(Connection::is_silent);
                match silent {
                    Some(silent) => connections.swap_remove(silent).task.abort(),
                    None => ended.notified().await,
                }
                connections.sort_by_key(|connection| connection.number);
                continue;
            }
            let Ok((stream, _)) = self.listener.accept().await else {
                // No descriptors are left; those in use come back.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let answering = Arc::new(AtomicUsize::new(0));
            let number = connections.last().map_or(0, |last| last.number + 1);
            let counted = Counted::new(&self.open);
            let (player, busy) = (Arc::clone(&player), Arc::clone(&answering));
            let bell = Arc::clone(&ended);
            let task = tasks.spawn(async move {
                talk(stream, &player, &busy).await;
                drop(counted);
                bell.notify_one();
            });
            connections.push(Connection { number, task, answering });
        }
    }
}

struct Connection {
    number: u64,
    task: AbortHandle,
    /// Responses under way.
    answering: Arc<AtomicUsize>,
}

impl Connection {
    fn is_silent(&self) -> bool {
        self.answering.load(Ordering::Relaxed) == 0
    }
}

/// Counts a response under way.
struct Answering(Arc<AtomicUsize>);

impl Answering {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn talk(stream: TcpStream, played: &Arc<Played>, answering: &Arc<AtomicUsize>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let (played, answering) = (Arc::clone(played), Answering::new(answering));
        async move { Ok::<_, Infallible>(played.answer(&request, answering).await) }
    });
    // A player that seeks closes its connection, which is no failure.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(FRAME_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// What is served, and to whom.
struct Played {
    guard: Arc<Guard>,
    served: Arc<Served>,
}

impl Played {
    async fn answer<B>(&self, request: &Request<B>, answering: Answering) -> Response<Answer> {
        let head = *request.method() == Method::HEAD;
        let asked = self.guard.judge(request.method(), request.uri(), request.headers());
        // The object is being fetched again from its start.
        let not_now = || refused(StatusCode::SERVICE_UNAVAILABLE);
        let answer = match asked {
            Err(status) => refused(status),
            Ok(Asked::Page) => shown(),
            Ok(Asked::Status) => match self.served.status().await {
                Some(status) => text("application/json", status),
                None => not_now(),
            },
            Ok(Asked::Object) => match self.served.facts().await {
                Some(facts) => self.object(request.headers(), &facts),
                None => not_now(),
            },
            Ok(Asked::File(name)) => match self.served.file(&name).await {
                Ok((kind, bytes)) => text(kind, bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    refused(StatusCode::NOT_FOUND)
                }
                Err(_) => refused(StatusCode::BAD_GATEWAY),
            },
        };
        let (mut parts, mut body) = answer.into_parts();
        set(&mut parts.headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        set(&mut parts.headers, header::REFERRER_POLICY, "no-referrer");
        set(&mut parts.headers, header::CACHE_CONTROL, "no-store");
        let policy = HeaderName::from_static("cross-origin-resource-policy");
        set(&mut parts.headers, policy, "same-origin");
        if head {
            // A response without a body states the length of the one it would have.
            if let Some(length) = body.left() {
                set(&mut parts.headers, header::CONTENT_LENGTH, &length.to_string());
            }
            body = Answer::Text(None);
        }
        if let Answer::Object { guard, .. } = &mut body {
            *guard = Some(answering);
        }
        Response::from_parts(parts, body)
    }

    /// The object, or the requested part of it (RFC 9110 section 14).
    fn object(&self, asked: &HeaderMap, facts: &Facts) -> Response<Answer> {
        let mut response = Response::new(Answer::Text(None));
        let fields = response.headers_mut();
        set(fields, header::CONTENT_TYPE, &facts.content_type);
        // An object that its server calls a page must not act as one here, with its scripts and
        // links.
        set(fields, header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'");
        let etag = facts.strong_etag.as_deref();
        if let Some(etag) = etag {
            set(fields, header::ETAG, etag);
        }
        let Some(total) = facts.total_bytes else {
            set(fields, header::ACCEPT_RANGES, "none");
            *response.body_mut() = self.bytes(0..u64::MAX, None);
            return response;
        };
        set(fields, header::ACCEPT_RANGES, "bytes");
        let current = match asked.get(header::IF_RANGE) {
            Some(version) => etag.is_some_and(|etag| version.as_bytes() == etag.as_bytes()),
            None => true,
        };
        let range = asked.get(header::RANGE).filter(|_| current);
        let range = range.and_then(|range| parse_range(range.to_str().ok()?, total));
        match range {
            None => *response.body_mut() = self.bytes(0..total, Some(total)),
            Some(Wanted::Unsatisfiable) => {
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                set(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{total}"));
            }
            Some(Wanted::Part(range)) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let last = range.end - 1;
                let content_range = format!("bytes {}-{last}/{total}", range.start);
                set(response.headers_mut(), header::CONTENT_RANGE, &content_range);
                let length = range.end - range.start;
                *response.body_mut() = self.bytes(range, Some(length));
            }
        }
        response
    }

    fn bytes(&self, range: Range<u64>, length: Option<u64>) -> Answer {
        let source = self.served.bytes(&range);
        Answer::Object { source, left: range.end - range.start, length, guard: None }
    }
}

fn refused(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::Text(None));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    match status {
        StatusCode::METHOD_NOT_ALLOWED => set(fields, header::ALLOW, "GET, HEAD"),
        StatusCode::SERVICE_UNAVAILABLE => set(fields, header::RETRY_AFTER, "1"),
        // A client that asks for something else has no business with the connection.
        _ => set(fields, header::CONNECTION, "close"),
    }
    response
}

fn shown() -> Response<Answer> {
    let Ok(nonce) = guard::secret() else { return refused(StatusCode::INTERNAL_SERVER_ERROR) };
    let mut response = text("text/html; charset=utf-8", page::html(&nonce));
    set(response.headers_mut(), header::CONTENT_SECURITY_POLICY, &page::policy(&nonce));
    response
}

fn text(kind: &str, text: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::Text(Some(text.into())));
    set(response.headers_mut(), header::CONTENT_TYPE, kind);
    response
}

fn set(fields: &mut HeaderMap, name: HeaderName, value: &str) {
    // A value that cannot be in a field came from a server and is left out.
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

/// The body of an answer.
enum Answer {
    Text(Option<Bytes>),
    /// Bytes of what is served, as they arrive.
    Object {
        source: Source,
        left: u64,
        /// Where it is known.
        length: Option<u64>,
        guard: Option<Answering>,
    },
}

impl Answer {
    fn left(&self) -> Option<u64> {
        match self {
            Self::Text(text) => Some(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Object { left, length, .. } => length.map(|_| *left),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Object { left: 0, .. } => Poll::Ready(None),
            Self::Object { source, left, length, .. } => {
                let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(FRAME_BYTES);
                // If the version was given up or the download failed, the body ends before its
                // length, and the player sees that it is cut.
                let Some(mut piece) = ready!(source.poll_read(cx, wanted))? else {
                    let cut = length.is_some().then(|| Err(io::ErrorKind::UnexpectedEof.into()));
                    return Poll::Ready(cut);
                };
                piece.truncate(wanted);
                *left -= piece.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
