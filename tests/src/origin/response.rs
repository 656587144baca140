//! What a script answers: a correct response, or a precisely wrong one.
//!
//! A [`Response`] is a head, a body made of [`Part`]s, and things that happen
//! at positions of the body ([`Response::cut`], [`Response::stall`], ...).
//! Positions count body bytes, not chunk framing. No header is added behind
//! the script's back: what the head says and what the body does are apart, so
//! every lie can be told.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::date;
use crate::object::Object;

/// One piece of a body.
#[derive(Debug, Clone)]
pub enum Part {
    /// Bytes of a version of the object; the range may lie beyond its size.
    Object(Object, Range<u64>),
    /// These bytes.
    Bytes(Vec<u8>),
}

/// How a connection is treated after a response, or in the middle of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Kept for the next request, if the request allows it.
    KeepAlive,
    /// Closed in order (FIN; over TLS without close_notify).
    Close,
    /// Reset (RST).
    Reset,
}

/// Holds stalled responses back until it is opened. Clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everything that waits, now or later, go on.
    pub fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was opened.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A speed limit for each response, until it is lifted. Clones are the same.
#[derive(Debug, Clone)]
pub struct Throttle {
    bytes_per_second: u64,
    lifted: Gate,
    allowance: Allowance,
}

impl Throttle {
    /// Limits every response to this many bytes a second.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, lifted: Gate::new(), allowance: Allowance::endless() }
    }

    /// Once its responses together have sent so many bytes, they crawl until more is
    /// allowed or the limit is lifted: no download is complete before the test has seen
    /// it midway, however late its threads run, and none stalls meanwhile.
    #[must_use]
    pub fn crawling_after(self, bytes: u64) -> Self {
        self.allow(bytes);
        self
    }

    /// So many bytes from now on come at the limit's speed, and the rest crawls.
    pub fn allow(&self, bytes: u64) {
        self.allowance.0.store(bytes, Ordering::Release);
    }

    /// Nothing is limited any longer, responses under way included.
    pub fn lift(&self) {
        self.lifted.open();
    }

    /// The response, limited as long as the limit holds.
    #[must_use]
    pub fn apply(&self, response: Response) -> Response {
        response.paced(self.bytes_per_second, self.lifted.clone(), self.allowance.clone())
    }
}

/// How many bytes come at the speed of a [`Throttle`] before it crawls.
#[derive(Debug, Clone)]
pub(super) struct Allowance(Arc<AtomicU64>);

impl Allowance {
    fn endless() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

/// What happens when a position of the body is reached.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    End(End),
    Stall(Gate),
    Pause(Duration),
    Pace(Pace),
}

/// What a crawling response sends in each [`CRAWL_EVERY`].
const CRAWL_BYTES: usize = 256;
const CRAWL_EVERY: Duration = Duration::from_millis(20);

/// At most `chunk_bytes` in each `every`, until `lifted` opens.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    chunk_bytes: usize,
    every: Duration,
    allowance: Allowance,
    pub(super) lifted: Gate,
}

impl Pace {
    /// Takes the next chunk's size from the allowance, and tells how long it is for.
    pub(super) fn next_chunk(&self) -> (usize, Duration) {
        let chunk_bytes = self.chunk_bytes as u64;
        let taken = self.allowance.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
            if left == u64::MAX { Some(left) } else { left.checked_sub(chunk_bytes) }
        });
        if taken.is_ok() { (self.chunk_bytes, self.every) } else { (CRAWL_BYTES, CRAWL_EVERY) }
    }
}

/// The framing of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Identity,
    Chunked { terminated: bool },
}

/// One scripted answer.
#[derive(Debug, Clone)]
pub struct Response {
    pub(super) status: u16,
    pub(super) version: &'static str,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) interim: Vec<u8>,
    pub(super) delay: Duration,
    pub(super) body: Vec<Part>,
    pub(super) faults: Vec<(u64, Fault)>,
    pub(super) framing: Framing,
    pub(super) end: End,
    pub(super) silent: bool,
}

impl Response {
    /// A response without any header or body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            version: "HTTP/1.1",
            headers: Vec::new(),
            interim: Vec::new(),
            delay: Duration::ZERO,
            body: Vec::new(),
            faults: Vec::new(),
            framing: Framing::Identity,
            end: End::KeepAlive,
            silent: false,
        }
    }

    /// A response with Content-Length 0.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self::new(status).header("Content-Length", "0")
    }

    /// A small complete response.
    #[must_use]
    pub fn text(status: u16, content_type: &str, text: &str) -> Self {
        Self::new(status)
            .header("Content-Type", content_type)
            .header("Content-Length", &text.len().to_string())
            .bytes(text.as_bytes().to_vec())
    }

    /// 200 with the whole object.
    #[must_use]
    pub fn full(object: &Object) -> Self {
        Self::new(200)
            .described(object)
            .header("Content-Length", &object.size_bytes().to_string())
            .object(object, 0..object.size_bytes())
    }

    /// 206 with these bytes of the object, honestly described.
    #[must_use]
    pub fn partial(object: &Object, range: Range<u64>) -> Self {
        Self::new(206)
            .described(object)
            .header("Content-Length", &(range.end - range.start).to_string())
            .content_range(&range, &object.size_bytes().to_string())
            .object(object, range)
    }

    /// 416 for an object of this size.
    #[must_use]
    pub fn unsatisfiable(size_bytes: u64) -> Self {
        Self::empty(416).header("Content-Range", &format!("bytes */{size_bytes}"))
    }

    /// A redirect.
    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::empty(status).header("Location", location)
    }

    /// No answer at all: the connection ends like this.
    #[must_use]
    pub fn hang_up(end: End) -> Self {
        Self { silent: true, end, ..Self::new(0) }
    }

    /// Adds a header; one of the same name may be there already.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.raw_header(name, value.as_bytes())
    }

    /// Adds a header whose value may be any bytes.
    #[must_use]
    pub fn raw_header(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    /// Removes all headers of this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
        self
    }

    /// Replaces all headers of this name by one.
    #[must_use]
    pub fn set(self, name: &str, value: &str) -> Self {
        self.without(name).header(name, value)
    }

    /// Sets Content-Range to the half-open `range` and the given total.
    #[must_use]
    pub fn content_range(self, range: &Range<u64>, total: &str) -> Self {
        let value = format!("bytes {}-{}/{total}", range.start, range.end - 1);
        self.set("Content-Range", &value)
    }

    /// Appends bytes of an object to the body; no header is touched.
    #[must_use]
    pub fn object(mut self, object: &Object, range: Range<u64>) -> Self {
        self.body.push(Part::Object(object.clone(), range));
        self
    }

    /// Appends bytes to the body; no header is touched.
    #[must_use]
    pub fn bytes(mut self, bytes: Vec<u8>) -> Self {
        self.body.push(Part::Bytes(bytes));
        self
    }

    /// Drops the body, keeps the headers.
    #[must_use]
    pub fn no_body(mut self) -> Self {
        self.body.clear();
        self
    }

    /// Another status with everything else as it is.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Says HTTP/1.0.
    #[must_use]
    pub fn http_1_0(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// Sent as it is before the head, for 1xx responses.
    #[must_use]
    pub fn interim(mut self, raw: &str) -> Self {
        self.interim.extend_from_slice(raw.as_bytes());
        self
    }

    /// Waits before the head.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Uses the chunked coding instead of Content-Length; without `terminated`
    /// the last chunk is left out and the connection closed.
    #[must_use]
    pub fn chunked(mut self, terminated: bool) -> Self {
        self = self.without("Content-Length").set("Transfer-Encoding", "chunked");
        self.framing = Framing::Chunked { terminated };
        if terminated { self } else { self.end(End::Close) }
    }

    /// What happens to the connection after the body.
    #[must_use]
    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// Says `Connection: close` and does it.
    #[must_use]
    pub fn close(self) -> Self {
        self.set("Connection", "close").end(End::Close)
    }

    /// Ends the connection once `after_bytes` of the body were sent.
    #[must_use]
    pub fn cut(self, after_bytes: u64, end: End) -> Self {
        self.fault(after_bytes, Fault::End(end))
    }

    /// Sends nothing more after `after_bytes` of the body until the gate opens,
    /// the peer goes or the origin stops.
    #[must_use]
    pub fn stall(self, after_bytes: u64, gate: &Gate) -> Self {
        self.fault(after_bytes, Fault::Stall(gate.clone()))
    }

    /// Sends nothing for a while once `after_bytes` of the body were sent.
    #[must_use]
    pub fn pause(self, after_bytes: u64, pause: Duration) -> Self {
        self.fault(after_bytes, Fault::Pause(pause))
    }

    /// From `after_bytes` on sends `chunk_bytes` in each interval.
    #[must_use]
    pub fn drip(self, after_bytes: u64, chunk_bytes: usize, every: Duration) -> Self {
        let (allowance, lifted) = (Allowance::endless(), Gate::new());
        self.fault(after_bytes, Fault::Pace(Pace { chunk_bytes, every, allowance, lifted }))
    }

    /// Sends the whole body at this many bytes a second.
    #[must_use]
    pub fn rate(self, bytes_per_second: u64) -> Self {
        self.paced(bytes_per_second, Gate::new(), Allowance::endless())
    }

    fn paced(self, bytes_per_second: u64, lifted: Gate, allowance: Allowance) -> Self {
        let chunk_bytes = (bytes_per_second / 50).clamp(1, 64 << 10) as usize;
        let every = Duration::from_secs_f64(chunk_bytes as f64 / bytes_per_second as f64);
        self.fault(0, Fault::Pace(Pace { chunk_bytes, every, allowance, lifted }))
    }

    fn fault(mut self, at: u64, fault: Fault) -> Self {
        self.faults.push((at, fault));
        self.faults.sort_by_key(|(at, _)| *at);
        self
    }

    /// The headers that describe a version of an object.
    fn described(mut self, object: &Object) -> Self {
        self = self
            .header("Date", &date::format(date::now_unix()))
            .header("Content-Type", object.content_type())
            .header("Accept-Ranges", "bytes");
        if let Some(etag) = object.etag() {
            self = self.header("ETag", etag);
        }
        if let Some(unix) = object.last_modified_unix() {
            self = self.header("Last-Modified", &date::format(unix));
        }
        self
    }

    /// Status line and headers as they go over the wire.
    pub(super) fn head(&self) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            206 => "Partial Content",
            _ => "Scripted",
        };
        let mut head = format!("{} {} {reason}\r\n", self.version, self.status).into_bytes();
        for (name, value) in &self.headers {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_say_what_they_were_told_and_nothing_else() {
        assert_eq!(Response::new(599).head(), b"HTTP/1.1 599 Scripted\r\n\r\n");
        let twice = Response::empty(200).http_1_0().header("A", "1").header("A", "2");
        let head = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nA: 1\r\nA: 2\r\n\r\n";
        assert_eq!(twice.clone().head(), head);
        assert_eq!(twice.without("a").set("content-length", "7").headers.len(), 1);
    }

    #[test]
    fn partial_describes_its_range_inclusively() {
        let head = Response::partial(&Object::new(1, 100), 10..20).head();
        let head = String::from_utf8(head).unwrap();
        assert!(head.contains("\r\nContent-Range: bytes 10-19/100\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Length: 10\r\n"), "{head}");
        assert!(head.contains("\r\nETag: \"v1-64\"\r\n"), "{head}");
    }

    #[test]
    fn faults_are_kept_in_the_order_of_their_positions() {
        let response = Response::new(200)
            .cut(30, End::Reset)
            .pause(10, Duration::ZERO)
            .stall(20, &Gate::new());
        let positions: Vec<u64> = response.faults.iter().map(|(at, _)| *at).collect();
        assert_eq!(positions, [10, 20, 30]);
    }
}
