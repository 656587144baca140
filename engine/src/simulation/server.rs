//! The simulated network and its server: bytes over an in-memory stream, in
//! simulated time. Here it speaks HTTP/1.1.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::sleep;

use super::answer::{Asked, End, Reply, take_up};
use super::faults::Fault;
use super::http2;
use super::world::{Shared, lock};
use crate::net::connect::{Connect, Connected, Connecting, Origin};
use crate::net::failures::{FetchError, FetchErrorKind};
use crate::net::transport::Lane;

/// How much the kernel would buffer for a connection.
const BUFFER_BYTES: usize = 16 << 10;
/// The largest piece in which a body goes out.
pub(super) const PIECE_BYTES: usize = 8 << 10;

/// How the other end of a connection closes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Clean,
    Reset,
    /// Without the close_notify that TLS asks for.
    Unnotified,
}

/// What the engine's end will be told once it has read everything.
#[derive(Debug, Default)]
pub(super) struct Ending(AtomicU8);

impl Ending {
    pub(super) fn set(&self, how: How) {
        self.0.store(how as u8, Ordering::Relaxed);
    }

    fn as_error(&self) -> Option<io::Error> {
        let how = self.0.load(Ordering::Relaxed);
        let reset = (how == How::Reset as u8).then_some(io::ErrorKind::ConnectionReset);
        // As rustls reports it.
        let unnotified = (how == How::Unnotified as u8).then_some(io::ErrorKind::UnexpectedEof);
        reset.or(unnotified).map(io::Error::from)
    }
}

/// The network that leads to a [`super::world::World`].
#[derive(Debug)]
pub(super) struct Network(pub(super) Shared);

impl Connect for Network {
    fn connect<'a>(&'a self, origin: &'a Origin, _: Lane) -> Connecting<'a> {
        Box::pin(async move {
            let (latency, http2, struck) = {
                let mut world = lock(&self.0);
                (world.link.latency, world.http2, world.strike_connecting())
            };
            sleep(latency).await;
            let failed = |kind, message| Err(FetchError::new(kind, message));
            let unreachable = match struck {
                // A certificate is seen before any request.
                Some(Fault::BadCertificate) => {
                    let message = format!("the TLS handshake with {origin} failed: expired");
                    return failed(FetchErrorKind::Tls, message);
                }
                Some(Fault::DeadAddresses) => {
                    let more = lock(&self.0).random.u64(250..8000);
                    sleep(Duration::from_millis(more)).await;
                    false
                }
                Some(Fault::BlackHole) => std::future::pending().await,
                Some(Fault::Unreachable) => true,
                _ => false,
            };
            if unreachable || lock(&self.0).is_down() {
                let message = format!("cannot connect to {origin}: connection refused");
                return failed(FetchErrorKind::Connect, message);
            }
            let (near, far) = tokio::io::duplex(BUFFER_BYTES);
            let ending = Arc::new(Ending::default());
            let world = Arc::clone(&self.0);
            if http2 {
                tokio::spawn(http2::serve(far, world, Arc::clone(&ending)));
            } else {
                tokio::spawn(serve(far, world, Arc::clone(&ending)));
            }
            let stream = Box::new(Near { io: TokioIo::new(near), ending });
            Ok(Connected { http2, ..Connected::http1(stream) })
        })
    }
}

/// The engine's end of a connection, which can end in more ways than one.
struct Near {
    io: TokioIo<DuplexStream>,
    ending: Arc<Ending>,
}

impl Read for Near {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        // A cursor cannot say how much was put into it through a reborrow, so the
        // bytes go through a buffer of our own.
        let mut own = vec![0; room.min(BUFFER_BYTES)];
        let mut own = hyper::rt::ReadBuf::new(&mut own);
        match Pin::new(&mut self.io).poll_read(cx, own.unfilled()) {
            Poll::Ready(Ok(())) if own.filled().is_empty() && room > 0 => {
                Poll::Ready(self.ending.as_error().map_or(Ok(()), Err))
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

async fn serve(mut far: DuplexStream, world: Shared, ending: Arc<Ending>) {
    let rate = lock(&world).rate();
    let mut reused = false;
    while let Some(asked) = read_request(&mut far, reused).await {
        reused = true;
        let Some(reply) = take_up(&asked, &world).await else { return ending.set(How::Reset) };
        let ended = send(&mut far, &world, reply, rate).await;
        lock(&world).busy -= 1;
        if let Some(how) = ended {
            return ending.set(how);
        }
    }
}

async fn read_request(far: &mut DuplexStream, reused: bool) -> Option<Asked> {
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
    let mut asked = Asked::new(method, reused);
    asked.path = rest.split(' ').next().unwrap().to_owned();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a field");
        asked.take(name, value);
    }
    Some(asked)
}

/// Sends a response. Returns how the connection ends with it; `None` when it takes
/// another request.
async fn send(far: &mut DuplexStream, world: &Shared, reply: Reply, rate: u64) -> Option<How> {
    if far.write_all(reply.head.as_bytes()).await.is_err() {
        return Some(How::Clean);
    }
    let limit = reply.end.limit();
    let mut sent = 0;
    for piece in reply.body.chunks(PIECE_BYTES) {
        let piece = &piece[..piece.len().min((limit - sent) as usize)];
        if reply.chunked
            && far.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.is_err()
        {
            return Some(How::Clean);
        }
        let written = far.write_all(piece).await;
        if written.is_err() || (reply.chunked && far.write_all(b"\r\n").await.is_err()) {
            return Some(How::Clean);
        }
        sent += piece.len() as u64;
        lock(world).sent += piece.len() as u64;
        if sent == limit {
            break;
        }
        sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64)).await;
        if lock(world).loses() {
            return Some(How::Reset);
        }
    }
    if let End::Crawl(_) = reply.end {
        for bytes in reply.body[sent as usize..].chunks(40) {
            sleep(Duration::from_secs(1)).await;
            if far.write_all(bytes).await.is_err() {
                return Some(How::Clean);
            }
        }
    }
    let whole = sent == reply.body.len() as u64;
    if reply.chunked && whole && far.write_all(b"0\r\n\r\n").await.is_err() {
        return Some(How::Clean);
    }
    match reply.end {
        End::Whole | End::Crawl(_) => None,
        End::Close | End::Cut(_) | End::Hangup => Some(How::Clean),
        End::Reset(_) => Some(How::Reset),
        End::Unnotified(_) => Some(How::Unnotified),
        End::Silence(_) => {
            // Waits until the engine closes the connection.
            let _ = far.read(&mut [0]).await;
            Some(How::Clean)
        }
        End::Refused | End::Leaves | End::LeavesAtOnce(_) => {
            unreachable!("HTTP/1.1 has no such end")
        }
    }
}
