//! A stream whose response heads are mended before HTTP is read from it.
//!
//! A head is whatever arrives first after a request was sent. Each one is read whole and
//! passed on as RFC 9112 writes it; a body's bytes pass through, untouched and uncopied.

use std::fmt;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::connect::Stream;
use crate::model::head::{Reader, Reading};

/// The most that one read takes while a head is awaited, in bytes.
const READ_BYTES: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Heads<S> {
    stream: S,
    /// A longer head passes unchanged: its reader has a bound of its own.
    max_head_bytes: usize,
    /// The most that is read at once.
    max_read_bytes: Option<usize>,
    /// A head is expected.
    awaited: bool,
    /// No further head is expected after this one.
    once: bool,
    /// Part of a request was sent, but not all of it.
    sending: bool,
    /// The bytes of the head that have come so far.
    head: Vec<u8>,
    reader: Reader,
    /// Bytes to pass on before anything else is read.
    ready: Bytes,
    /// The error to report after those bytes.
    failed: Option<io::Error>,
}

impl<S: Stream> Heads<S> {
    /// Mends the heads of the responses to all requests.
    pub(super) fn new(stream: S, max_head_bytes: usize, max_read_bytes: Option<usize>) -> Self {
        Self {
            stream,
            max_head_bytes,
            max_read_bytes,
            awaited: false,
            once: false,
            sending: false,
            head: Vec::new(),
            reader: Reader::default(),
            ready: Bytes::new(),
            failed: None,
        }
    }

    /// Mends the head of one response; what follows it belongs to another protocol.
    #[cfg(feature = "proxy")]
    pub(super) fn once(stream: S, max_head_bytes: usize) -> Self {
        Self { awaited: true, once: true, ..Self::new(stream, max_head_bytes, None) }
    }

    /// Takes in the bytes that were read, until a head is complete or none can be expected.
    fn take_in(&mut self, bytes: &[u8]) {
        self.head.extend(bytes);
        loop {
            let (text, len) = match self.reader.read(&self.head) {
                Reading::Incomplete if bytes.is_empty() => (Vec::new(), 0),
                Reading::Incomplete if self.head.len() <= self.max_head_bytes => return,
                Reading::Incomplete | Reading::Unreadable => (Vec::new(), 0),
                Reading::Head { len, text, interim } => {
                    if interim {
                        // Nobody waits for an interim response.
                        self.head.drain(..len);
                        self.reader = Reader::default();
                        if self.head.is_empty() {
                            return;
                        }
                        continue;
                    }
                    (text, len)
                }
            };
            self.awaited = false;
            self.reader = Reader::default();
            let mut passed = text;
            passed.extend(&self.head[len..]);
            self.head = Vec::new();
            self.ready = passed.into();
            return;
        }
    }

    /// Notes that a request begins or goes on.
    fn sent(&mut self, bytes: usize) {
        if bytes > 0 && !self.sending && !self.once {
            self.sending = true;
            self.awaited = true;
        }
    }
}

/// A TLS record arrived where a head was awaited.
#[derive(Debug, thiserror::Error)]
#[error("what answers there speaks TLS")]
pub(super) struct SpeaksTls;

/// The connection ended, in order or not, before a single byte of an awaited head arrived.
#[derive(Debug)]
pub(super) struct SaidNothing(Option<io::Error>);

impl fmt::Display for SaidNothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(error) => error.fmt(f),
            None => f.write_str("closed without a byte"),
        }
    }
}

impl std::error::Error for SaidNothing {}

impl SaidNothing {
    /// The error that hyper is given when the stream ends.
    fn at_end(error: Option<io::Error>) -> io::Error {
        let kind = error.as_ref().map_or(io::ErrorKind::UnexpectedEof, io::Error::kind);
        io::Error::new(kind, Self(error))
    }

    /// Whether `error` says that the other end went away.
    fn is_end(error: &io::Error) -> bool {
        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted)
    }
}

/// Whether `bytes` begin with a TLS record, most likely an alert (RFC 8446 section 5.1).
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [21 | 22, 3, ..])
}

impl<S: Stream> Read for Heads<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.ready.is_empty() {
                let bytes = this.ready.len().min(buf.remaining());
                buf.put_slice(&this.ready[..bytes]);
                this.ready.advance(bytes);
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = this.failed.take() {
                return Poll::Ready(Err(error));
            }
            if !this.awaited {
                let Some(most) = this.max_read_bytes.filter(|most| *most < buf.remaining()) else {
                    return Pin::new(&mut this.stream).poll_read(cx, buf);
                };
                let mut part = vec![0; most];
                let mut part = ReadBuf::new(&mut part);
                ready!(Pin::new(&mut this.stream).poll_read(cx, part.unfilled()))?;
                buf.put_slice(part.filled());
                return Poll::Ready(Ok(()));
            }
            let mut part = [0; READ_BYTES];
            let mut part = ReadBuf::new(&mut part);
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, part.unfilled()));
            let nothing = this.head.is_empty() && part.filled().is_empty();
            match read {
                Err(error) if nothing && SaidNothing::is_end(&error) => {
                    return Poll::Ready(Err(SaidNothing::at_end(Some(error))));
                }
                Ok(()) if nothing => return Poll::Ready(Err(SaidNothing::at_end(None))),
                read => read?,
            }
            this.take_in(part.filled());
            if is_tls(&this.ready) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, SpeaksTls)));
            }
            if part.filled().is_empty() && this.ready.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let has_more = part.filled().len() == READ_BYTES && this.max_read_bytes.is_none();
            if has_more && !this.ready.is_empty() && this.ready.len() < buf.remaining() {
                // What follows joins the head here: hyper reads as much next time as it got this
                // time, and after a head alone it would read the body in small parts.
                buf.put_slice(&mem::take(&mut this.ready));
                if let Poll::Ready(Err(error)) = Pin::new(&mut this.stream).poll_read(cx, buf) {
                    this.failed = Some(error);
                }
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: Stream> Write for Heads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.sent(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // The whole request is out, since nobody flushes part of one.
        self.sending = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.sent(bytes);
        Poll::Ready(Ok(bytes))
    }
}
