//! The simulated network and server: bytes over an in-memory stream, in
//! simulated time.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use sha2::Digest as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep};

use super::faults::Fault;
use super::world::{Shared, Version, lock};
use crate::io::connect::{Connect, Connected, Connecting, Origin};
use crate::io::connector::{FetchError, FetchErrorKind};

/// What the kernel would hold of a connection.
const BUFFER_BYTES: usize = 16 << 10;
/// A body goes out in pieces of at most this.
const PIECE_BYTES: usize = 8 << 10;
/// More at once than this is refused under [`Fault::ConnectionLimit`].
const MOST_BUSY: usize = 2;

/// The network that leads to a [`super::world::World`].
#[derive(Debug)]
pub(super) struct Network(pub(super) Shared);

impl Connect for Network {
    fn connect<'a>(&'a self, origin: &'a Origin) -> Connecting<'a> {
        Box::pin(async move {
            let latency = lock(&self.0).link.latency;
            sleep(latency).await;
            {
                let mut world = lock(&self.0);
                if world.is_down() {
                    return Err(FetchError {
                        kind: FetchErrorKind::Connect,
                        message: format!("cannot connect to {origin}: connection refused"),
                    });
                }
                // A certificate is seen before any request.
                let hit = world.faults.iter_mut().find(|injected| {
                    injected.fault == Fault::BadCertificate && injected.fired == 0
                });
                if let Some(hit) = hit {
                    hit.fired += 1;
                    return Err(FetchError {
                        kind: FetchErrorKind::Tls,
                        message: format!("the TLS handshake with {origin} failed: expired"),
                    });
                }
            }
            let (near, far) = tokio::io::duplex(BUFFER_BYTES);
            let reset = Arc::new(AtomicBool::new(false));
            tokio::spawn(serve(far, Arc::clone(&self.0), Arc::clone(&reset)));
            Ok(Connected::http1(Box::new(Near { io: TokioIo::new(near), reset })))
        })
    }
}

/// The engine's end of a connection, which can end by a reset.
struct Near {
    io: TokioIo<DuplexStream>,
    reset: Arc<AtomicBool>,
}

impl Read for Near {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        // A cursor cannot say how much was put into it through a reborrow, so
        // the bytes take a way over a buffer of our own.
        let mut own = vec![0; room.min(BUFFER_BYTES)];
        let mut own = hyper::rt::ReadBuf::new(&mut own);
        match Pin::new(&mut self.io).poll_read(cx, own.unfilled()) {
            Poll::Ready(Ok(())) if own.filled().is_empty() && room > 0 => {
                if self.reset.load(Ordering::Relaxed) {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(())) => {
                buf.put_slice(own.filled());
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl Write for Near {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What a request says.
#[derive(Debug, Default)]
struct Asked {
    path: String,
    /// First byte, and the one after the last.
    range: Option<(u64, u64)>,
    conditional: bool,
    if_match: Option<String>,
    if_unmodified_since: Option<String>,
}

/// How a body ends before its time, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All of it, and the connection stays.
    Whole,
    /// All of it, then the connection closes.
    Close,
    /// So many bytes, then a clean close, a reset or silence.
    Cut(u64),
    Reset(u64),
    Silence(u64),
    /// So many bytes, then a few a second.
    Crawl(u64),
}

/// A response, ready to be sent.
struct Reply {
    head: String,
    body: Vec<u8>,
    chunked: bool,
    end: End,
}

async fn serve(mut far: DuplexStream, world: Shared, reset: Arc<AtomicBool>) {
    let rate = lock(&world).rate();
    while let Some(asked) = read_request(&mut far).await {
        let latency = lock(&world).link.latency;
        sleep(latency).await;
        let reply = {
            let mut world = lock(&world);
            if world.is_down() {
                None
            } else {
                world.busy += 1;
                Some(answer(&asked, &mut world))
            }
        };
        let Some(reply) = reply else {
            reset.store(true, Ordering::Relaxed);
            return;
        };
        let goes_on = send(&mut far, &world, &reset, reply, rate).await;
        lock(&world).busy -= 1;
        if !goes_on {
            return;
        }
    }
}

async fn read_request(far: &mut DuplexStream) -> Option<Asked> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match far.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => head.extend_from_slice(&buffer[..read]),
        }
    }
    let head = String::from_utf8(head).expect("haul sends ASCII");
    let mut lines = head.lines();
    let request = lines.next().expect("a request line");
    let (method, rest) = request.split_once(' ').expect("a method");
    assert_eq!(method, "GET", "haul only ever gets (fault 32)");
    let mut asked = Asked { path: rest.split(' ').next().unwrap().to_owned(), ..Asked::default() };
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a field");
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (first, last) =
                    value.strip_prefix("bytes=").unwrap().split_once('-').expect("one range");
                let last = last.parse::<u64>().expect("a last byte");
                asked.range = Some((first.parse().expect("a first byte"), last + 1));
            }
            "if-match" => {
                assert!(!value.contains("W/"), "a weak tag in If-Match (fault 22): {value}");
                asked.if_match = Some(value.to_owned());
            }
            "if-unmodified-since" => asked.if_unmodified_since = Some(value.to_owned()),
            "if-range" => panic!("haul sends no If-Range"),
            _ => {}
        }
    }
    asked.conditional = asked.if_match.is_some() || asked.if_unmodified_since.is_some();
    Some(asked)
}

/// Sends a response; whether the connection takes another request.
async fn send(
    far: &mut DuplexStream,
    world: &Shared,
    reset: &AtomicBool,
    reply: Reply,
    rate: u64,
) -> bool {
    if far.write_all(reply.head.as_bytes()).await.is_err() {
        return false;
    }
    let (limit, crawl) = match reply.end {
        End::Whole | End::Close => (u64::MAX, false),
        End::Cut(at) | End::Reset(at) | End::Silence(at) => (at, false),
        End::Crawl(at) => (at, true),
    };
    let mut sent = 0;
    for piece in reply.body.chunks(PIECE_BYTES) {
        let piece = &piece[..piece.len().min((limit - sent) as usize)];
        if reply.chunked
            && far.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.is_err()
        {
            return false;
        }
        let written = far.write_all(piece).await;
        if written.is_err() || (reply.chunked && far.write_all(b"\r\n").await.is_err()) {
            return false;
        }
        sent += piece.len() as u64;
        if sent == limit {
            break;
        }
        sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64)).await;
        let (lost, down) = {
            let mut world = lock(world);
            let loss = world.link.loss;
            (loss > 0 && world.random.u64(0..loss) == 0, world.is_down())
        };
        if lost || down {
            reset.store(true, Ordering::Relaxed);
            return false;
        }
    }
    if crawl {
        for bytes in reply.body[sent as usize..].chunks(40) {
            sleep(Duration::from_secs(1)).await;
            if far.write_all(bytes).await.is_err() {
                return false;
            }
        }
    }
    if reply.chunked && far.write_all(b"0\r\n\r\n").await.is_err() {
        return false;
    }
    match reply.end {
        End::Whole | End::Crawl(_) => true,
        End::Close | End::Cut(_) => false,
        End::Reset(_) => {
            reset.store(true, Ordering::Relaxed);
            false
        }
        End::Silence(_) => {
            // Until the engine closes it.
            let _ = far.read(&mut [0]).await;
            false
        }
    }
}

fn answer(asked: &Asked, world: &mut super::world::World) -> Reply {
    let first = world.requests == 0;
    world.requests += 1;
    world.all_requests += 1;
    let fault = match asked.range {
        Some((start, end)) => world.strike(start, Some(end), first),
        None => world.strike(0, None, first),
    };
    let line = format!("#{} {:?} {fault:?}", world.all_requests, asked);
    world.log.push(line);
    match fault {
        Some(Fault::Changes) => world.change(),
        Some(Fault::TwoMinutesGone) => gone(world, 120),
        Some(Fault::Restarts) => gone(world, 3),
        _ => {}
    }
    let mut version = world.current().clone();
    if fault == Some(Fault::OtherTag)
        && let Some(etag) = &mut version.etag
    {
        // An edge compares with its own tags, too.
        *etag = etag.replace("\"v", "\"edge-v");
    }
    if let Some(reply) = fault.and_then(|fault| refusal(fault, asked, &version, world)) {
        return reply;
    }
    let weak_or_none = version.etag.as_ref().is_none_or(|etag| etag.starts_with("W/"));
    let changed = asked.if_match.as_ref().is_some_and(|tag| Some(tag) != version.etag.as_ref())
        || (weak_or_none
            && asked
                .if_unmodified_since
                .as_ref()
                .is_some_and(|date| Some(date.as_str()) != version.last_modified));
    if changed {
        return status(412, "");
    }
    match asked.range {
        Some(range) => partial(fault, range, &version, world),
        None => whole(fault, &version, world),
    }
}

fn gone(world: &mut super::world::World, seconds: u64) {
    world.down_until = Some(Instant::now() + Duration::from_secs(seconds));
}

fn status(code: u16, fields: &str) -> Reply {
    let head = format!("HTTP/1.1 {code} Said\r\n{fields}Content-Length: 0\r\n\r\n");
    Reply { head, body: Vec::new(), chunked: false, end: End::Whole }
}

/// A response that is not the object, nor a part of it.
fn refusal(
    fault: Fault,
    asked: &Asked,
    version: &Version,
    world: &mut super::world::World,
) -> Option<Reply> {
    Some(match fault {
        Fault::PreconditionFails if asked.conditional => status(412, ""),
        Fault::ConditionRefused if asked.conditional => status(403, ""),
        Fault::Expired => status([401, 403, 410][world.random.usize(0..3)], ""),
        Fault::Unauthorized => status(401, "WWW-Authenticate: Basic realm=\"x\"\r\n"),
        Fault::RedirectElsewhere if !asked.path.contains("edge") => {
            let edge = world.random.u32(0..4);
            status(302, &format!("Location: http://edge{edge}.test/edge?sig={edge}\r\n"))
        }
        Fault::RedirectLoop => status(302, "Location: /loop\r\n"),
        Fault::RetryAfter => {
            let code = [429, 503][world.random.usize(0..2)];
            status(code, "Retry-After: 7\r\n")
        }
        Fault::ConnectionLimit if world.busy > MOST_BUSY => status(503, ""),
        Fault::ServerError => status(500, ""),
        Fault::HeaderBomb => {
            let mut fields = String::new();
            for number in 0..10_000 {
                let _ = write!(fields, "X-{number}: y\r\n");
            }
            status(200, &fields)
        }
        Fault::SilentHead => {
            Reply { head: String::new(), body: Vec::new(), chunked: false, end: End::Silence(0) }
        }
        Fault::ResetAtOnce => {
            Reply { head: String::new(), body: Vec::new(), chunked: false, end: End::Reset(0) }
        }
        Fault::Page => {
            let body = format!("<html>please log in, {}</html>", version.seed).into_bytes();
            world.pages.push(body.clone());
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            Reply { head, body, chunked: false, end: End::Whole }
        }
        _ => return None,
    })
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(sha2::Sha256::digest(bytes)))
}

/// One bit of the middle is another, after the digests were made.
fn alter(fault: Option<Fault>, body: &mut [u8]) {
    let middle = body.len() / 2;
    if fault == Some(Fault::AlteredBody)
        && let Some(byte) = body.get_mut(middle)
    {
        *byte ^= 1;
    }
}

fn fields_of(version: &Version, fault: Option<Fault>, (start, end): (u64, u64)) -> String {
    let mut fields = format!(
        "Date: Sun, 01 Feb 2026 00:00:00 GMT\r\nContent-Type: {}\r\n",
        version.content_type
    );
    if let Some(etag) = &version.etag {
        let _ = write!(fields, "ETag: {etag}\r\n");
    }
    if let Some(date) = version.last_modified {
        let _ = write!(fields, "Last-Modified: {date}\r\n");
    }
    if fault == Some(Fault::EncodingDiffers) {
        fields.push_str("Content-Encoding: br\r\n");
    }
    if fault == Some(Fault::WrongDigest) {
        let _ = write!(fields, "Repr-Digest: {}\r\n", digest_of(b"another object"));
    } else if version.digests {
        let whole = version.bytes(0, version.len);
        let _ = write!(fields, "Repr-Digest: {}\r\n", digest_of(&whole));
        let part = &whole[start as usize..end as usize];
        let _ = write!(fields, "Content-Digest: {}\r\n", digest_of(part));
    }
    fields
}

/// How a body that is right as such ends under this fault.
fn end_of(fault: Option<Fault>, len: u64) -> End {
    match fault {
        Some(Fault::ShortBody) => End::Cut(len.div_ceil(2)),
        Some(Fault::ResetMidway | Fault::CloseDelimitedReset) => End::Reset(len.div_ceil(2)),
        Some(Fault::Stalls) => End::Silence(0),
        Some(Fault::Crawls) => End::Crawl(len / 2),
        Some(
            Fault::ClosesAfterwards
            | Fault::LongBody
            | Fault::CloseDelimited
            | Fault::InterimAndClose,
        ) => End::Close,
        _ => End::Whole,
    }
}

fn whole(fault: Option<Fault>, version: &Version, world: &mut super::world::World) -> Reply {
    let mut body = version.bytes(0, version.len);
    alter(fault, &mut body);
    let fields = fields_of(version, fault, (0, version.len));
    if fault == Some(Fault::EncodingDiffers) {
        // Without an identity to compare with, coded bytes are the object.
        world.pages.push(body.clone());
    }
    let close_delimited = matches!(fault, Some(Fault::CloseDelimited | Fault::CloseDelimitedReset));
    let chunked = fault == Some(Fault::Chunked);
    let interim = match fault {
        Some(Fault::InterimAndClose) => "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        _ => "",
    };
    let mut head = format!("{interim}HTTP/1.1 200 OK\r\n{fields}");
    if close_delimited {
        head.push_str("Connection: close\r\n\r\n");
    } else if chunked {
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
    } else if fault == Some(Fault::ImpossibleSize) {
        head.push_str("Content-Length: 99999999999999999999999\r\n\r\n");
    } else {
        let _ = write!(head, "Content-Length: {}\r\n\r\n", version.len);
    }
    Reply { head, body, chunked, end: end_of(fault, version.len) }
}

fn partial(
    fault: Option<Fault>,
    (start, end): (u64, u64),
    version: &Version,
    world: &mut super::world::World,
) -> Reply {
    let total = version.len;
    if matches!(
        fault,
        Some(
            Fault::RangeIgnored
                | Fault::Chunked
                | Fault::CloseDelimited
                | Fault::CloseDelimitedReset
        )
    ) {
        return whole(fault, version, world);
    }
    if start >= total {
        return status(416, &format!("Content-Range: bytes */{total}\r\n"));
    }
    let mut end = end.min(total);
    let mut start = start;
    let mut told_total = total.to_string();
    let mut code = "206 Partial Content";
    match fault {
        Some(Fault::Capped) => end = end.min(start + 10_000),
        // Of the length that was asked for, so that only the place tells.
        Some(Fault::StartsElsewhere) if start > 0 => (start, end) = (start - 1, end - 1),
        Some(Fault::StartsElsewhere) => (start, end) = (1.min(end - 1), (end + 1).min(total)),
        Some(Fault::EndsBeyond) => end = (end + 4096).min(total),
        Some(Fault::SlicePosing) => code = "200 OK",
        Some(Fault::OtherTotal) => told_total = (total + 1).to_string(),
        Some(Fault::UnknownTotal) => told_total = "*".to_owned(),
        Some(Fault::ImpossibleSize) => told_total = "99999999999999999999999".to_owned(),
        _ => {}
    }
    let mut body = version.bytes(start, end);
    alter(fault, &mut body);
    let mut length = body.len();
    match fault {
        Some(Fault::LengthMismatch) => {
            body.push(0);
            length += 1;
        }
        Some(Fault::LongBody) => body.extend_from_slice(b"beyond the end"),
        _ => {}
    }
    let mut fields = fields_of(version, fault, (start, end));
    if fault == Some(Fault::Multipart) {
        let date = fields.find("Content-Type").expect("it has one");
        fields.truncate(date);
        fields.push_str("Content-Type: multipart/byteranges; boundary=x\r\n");
    }
    let interim = match fault {
        Some(Fault::InterimAndClose) => "HTTP/1.1 100 Continue\r\n\r\n",
        _ => "",
    };
    // A length would end the body before what is beyond.
    let chunked = fault == Some(Fault::LongBody);
    let framing = if chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {length}")
    };
    let mut head = format!("{interim}HTTP/1.1 {code}\r\n{fields}{framing}\r\n");
    if fault != Some(Fault::NoContentRange) {
        let _ = write!(head, "Content-Range: bytes {start}-{}/{told_total}\r\n", end - 1);
    }
    if fault == Some(Fault::InterimAndClose) {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    let end = end_of(fault, body.len() as u64);
    Reply { head, body, chunked, end }
}
