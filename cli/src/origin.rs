//! The embedded origin: an HTTP server on loopback with one object, whose bytes
//! derive from their position.
//!
//! It has to be much faster than what it measures, so no byte is computed when
//! it is asked for. The object is cut into blocks of 64 KiB, and each block is
//! a view into one table of random bytes. Where the view begins is different
//! modulo 4096 for any 4096 blocks in a row, and after those the views move on
//! by a whole block. Two pieces at different multiples of 4 KiB are therefore
//! never the same stretch of the table (up to 32 GiB, where it begins again),
//! and a piece in the wrong place changes the object's hash.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// The size of a block, and of a frame of a body, in bytes.
const BLOCK_BYTES: u64 = 64 << 10;

/// Views begin at this many different places before they move on by a block.
const RESIDUES: u64 = 4096;

/// How often they move on before it begins again.
const LAPS: u64 = 128;

/// An object that is never stored.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    table: Bytes,
    size_bytes: u64,
}

impl Object {
    /// The object of this size.
    pub(crate) fn new(size_bytes: u64) -> Self {
        let laps = size_bytes.div_ceil(BLOCK_BYTES).div_ceil(RESIDUES).clamp(1, LAPS);
        let words = ((laps * BLOCK_BYTES) + RESIDUES) / 8;
        let table: Vec<u8> = (0..words).flat_map(|word| mix(word).to_le_bytes()).collect();
        Self { table: table.into(), size_bytes }
    }

    /// Its strong entity tag: the size tells everything about it.
    fn etag(&self) -> String {
        format!("\"haul-1-{:x}\"", self.size_bytes)
    }

    /// The bytes from `position` to the end of their block or of the object.
    fn piece(&self, position: u64) -> Bytes {
        let block = position / BLOCK_BYTES;
        let end = ((block + 1) * BLOCK_BYTES).min(self.size_bytes);
        let start = view_start(block) + position % BLOCK_BYTES;
        let range = start..start + end.saturating_sub(position);
        // The table is at most 8 MiB, so its indices fit in a usize.
        self.table.slice(range.start as usize..range.end as usize)
    }

    /// BLAKE3 of the whole object, from its definition and not from any download.
    pub(crate) fn blake3(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut position = 0;
        while position < self.size_bytes {
            let piece = self.piece(position);
            hasher.update(&piece);
            position += piece.len() as u64;
        }
        hasher.finalize().into()
    }
}

/// Where in the table block `block` begins.
fn view_start(block: u64) -> u64 {
    // Odd factors and a xor with the upper half are permutations of the 4096
    // residues, without a constant distance between neighbours.
    let mut residue = block % RESIDUES;
    residue = (residue * 2477) % RESIDUES;
    residue ^= residue >> 6;
    residue = (residue * 1501) % RESIDUES;
    residue + (block / RESIDUES % LAPS) * BLOCK_BYTES
}

/// The finaliser of SplitMix64: random enough, the same everywhere.
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A running origin; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    object: Object,
    thread: Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
}

impl Origin {
    /// Serves an object of `size_bytes` on a free port of 127.0.0.1, from a
    /// thread and a runtime of its own: it does not share the time of the
    /// runtime that downloads.
    ///
    /// # Errors
    /// When there is no port or no thread to be had.
    pub(crate) fn start(size_bytes: u64) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let object = Object::new(size_bytes);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let served = object.clone();
        let handle = thread::Builder::new().name("haul-origin".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, served) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, object, thread: Some((stop, handle)) })
    }

    /// The URL of the object.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/object.bin", self.address)
    }

    /// The object that it serves.
    pub(crate) fn object(&self) -> &Object {
        &self.object
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some((stop, handle)) = self.thread.take() {
            let _ = stop.send(());
            let _ = handle.join();
        }
    }
}

async fn accept(listener: TcpListener, object: Object) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, object.clone()));
            }
            // Out of descriptors: those in use come back when a run ends.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

async fn serve(stream: TcpStream, object: Object) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &object);
        async move { Ok::<_, Infallible>(response) }
    });
    // A client that closes early is how a stolen lease ends, not a failure.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn respond<B>(request: &Request<B>, object: &Object) -> Response<Piecewise> {
    let (headers, size, etag) = (request.headers(), object.size_bytes, object.etag());
    let mut response = Response::new(Piecewise { object: object.clone(), range: 0..0 });
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return response;
    }
    if headers.contains_key(header::IF_MATCH) && !lists(headers, header::IF_MATCH, &etag) {
        *response.status_mut() = StatusCode::PRECONDITION_FAILED;
        return response;
    }
    let whole = || Wanted::Part(0..size);
    let same = !headers.contains_key(header::IF_RANGE) || lists(headers, header::IF_RANGE, &etag);
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, wanted) = match asked.and_then(|asked| parse_range(asked, size)) {
        Some(wanted) if same => (StatusCode::PARTIAL_CONTENT, wanted),
        _ => (StatusCode::OK, whole()),
    };
    let answer = response.headers_mut();
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let mut text = |name, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            answer.insert(name, value);
        }
    };
    text(header::ETAG, etag);
    match wanted {
        Wanted::Unsatisfiable => {
            text(header::CONTENT_RANGE, format!("bytes */{size}"));
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
        }
        Wanted::Part(range) => {
            if status == StatusCode::PARTIAL_CONTENT {
                let last = range.end - 1;
                text(header::CONTENT_RANGE, format!("bytes {}-{last}/{size}", range.start));
            }
            *response.status_mut() = status;
            response.body_mut().range = range;
        }
    }
    response
}

/// Whether a list of entity tags has `etag` or is `*`.
fn lists(headers: &HeaderMap, name: header::HeaderName, etag: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| matches!(tag.trim(), tag if tag == etag || tag == "*"))
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// These bytes, at least one.
    Part(Range<u64>),
    /// None that the object has.
    Unsatisfiable,
}

/// One byte range of an object (RFC 9110 section 14.1.2); `None` for what a
/// server may ignore: other units, several ranges, malformed ones.
pub(crate) fn parse_range(text: &str, size: u64) -> Option<Wanted> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.trim(), last.trim()) {
        ("", suffix) => size.saturating_sub(suffix.parse().ok()?)..size,
        (first, "") => first.parse().ok()?..size,
        (first, last) => {
            let (first, last) = (first.parse().ok()?, last.parse::<u64>().ok()?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some(if range.is_empty() { Wanted::Unsatisfiable } else { Wanted::Part(range) })
}

/// A body that gives the object's pieces out without copying them.
#[derive(Debug)]
struct Piecewise {
    object: Object,
    range: Range<u64>,
}

impl Body for Piecewise {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.range.is_empty() {
            return Poll::Ready(None);
        }
        let mut piece = self.object.piece(self.range.start);
        let left = self.range.end - self.range.start;
        if piece.len() as u64 > left {
            piece.truncate(left as usize);
        }
        self.range.start += piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.range.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.range.end - self.range.start)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http_body_util::BodyExt as _;

    use super::*;

    fn ask(object: &Object, headers: &[(&str, &str)]) -> Response<Piecewise> {
        let mut request = Request::get("/object.bin");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        respond(&request.body(()).unwrap(), object)
    }

    fn body(response: Response<Piecewise>) -> Bytes {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(response.into_body().collect()).unwrap().to_bytes()
    }

    #[test]
    fn ranges_are_pieces_of_the_one_object() {
        let object = Object::new(5 * BLOCK_BYTES + 123);
        let whole = body(ask(&object, &[]));
        assert_eq!(whole.len() as u64, object.size_bytes);
        assert_eq!(<[u8; 32]>::from(blake3::hash(&whole)), object.blake3());
        for (asked, range) in [
            ("bytes=0-0", 0..1),
            ("bytes=65530-65545", 65_530..65_546),
            ("bytes=100000-", 100_000..whole.len()),
            ("bytes=-10", whole.len() - 10..whole.len()),
            ("bytes=10-99999999", 10..whole.len()),
        ] {
            let response = ask(&object, &[("range", asked)]);
            assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT, "{asked}");
            let told = response.headers()[header::CONTENT_RANGE].to_str().unwrap();
            let expected = format!("bytes {}-{}/{}", range.start, range.end - 1, whole.len());
            assert_eq!(told, expected);
            assert_eq!(body(response), whole.slice(range), "{asked}");
        }
    }

    #[test]
    fn no_piece_is_like_another() {
        let object = Object::new(64 << 20);
        let mut seen = HashSet::new();
        for position in (0..object.size_bytes).step_by(4096) {
            let piece = object.piece(position).slice(..4096);
            assert!(seen.insert(*blake3::hash(&piece).as_bytes()), "{position}");
        }
        // The same beyond the first lap, by where the views begin.
        let starts: HashSet<u64> = (0..RESIDUES * LAPS).map(view_start).collect();
        assert_eq!(starts.len() as u64, RESIDUES * LAPS);
        let residues: HashSet<u64> = (0..RESIDUES).map(|block| view_start(block) % 4096).collect();
        assert_eq!(residues.len() as u64, RESIDUES);
    }

    #[test]
    fn conditions_are_judged_by_the_strong_tag() {
        let object = Object::new(1000);
        let etag = object.etag();
        let status = |headers: &[(&str, &str)]| ask(&object, headers).status();
        let range = ("range", "bytes=0-9");
        assert_eq!(status(&[range, ("if-match", &etag)]), StatusCode::PARTIAL_CONTENT);
        assert_eq!(status(&[range, ("if-match", "\"other\"")]), StatusCode::PRECONDITION_FAILED);
        assert_eq!(status(&[range, ("if-range", "\"other\"")]), StatusCode::OK);
        assert_eq!(status(&[range, ("if-range", &etag)]), StatusCode::PARTIAL_CONTENT);
        assert_eq!(status(&[("range", "bytes=1000-")]), StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(status(&[("range", "bytes=0-1,4-5")]), StatusCode::OK);
        assert_eq!(status(&[("range", "lines=0-1")]), StatusCode::OK);
    }

    #[test]
    fn an_empty_object_is_empty() {
        let object = Object::new(0);
        assert!(body(ask(&object, &[])).is_empty());
        assert_eq!(object.blake3(), <[u8; 32]>::from(blake3::hash(b"")));
        let response = ask(&object, &[("range", "bytes=0-")]);
        assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    }
}
