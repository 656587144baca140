//! The embedded origin: an HTTP server on loopback with one [`Object`].
//!
//! `haul bench` measures with it, so it is as fast as possible. `haul demo` has it cap each
//! connection, so that many connections are visibly faster than one.

mod body;
mod object;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use self::body::{Pace, Pieces, Traffic};
pub(crate) use self::object::Object;
use crate::exit::Failure;

/// A running origin, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    served: Served,
    thread: Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
}

/// What each connection of an origin needs.
#[derive(Debug, Clone)]
struct Served {
    object: Object,
    /// The rate cap of each connection.
    bytes_per_second: Option<u64>,
    traffic: Arc<Traffic>,
}

impl Origin {
    /// Serves an object of `size_bytes` on a free port of 127.0.0.1. It has a thread and a runtime
    /// of its own, so it takes no time from the runtime that downloads.
    ///
    /// # Errors
    /// A failure that names what is lacking: a port or a thread.
    pub(crate) fn start(size_bytes: u64) -> Result<Self, Failure> {
        Self::serving(Object::new(size_bytes), None)
    }

    /// Does the same, with each connection capped at this rate.
    ///
    /// # Errors
    /// As [`Origin::start`].
    pub(crate) fn start_slow(size_bytes: u64, bytes_per_second: u64) -> Result<Self, Failure> {
        Self::serving(Object::new(size_bytes), Some(bytes_per_second))
    }

    fn serving(object: Object, bytes_per_second: Option<u64>) -> Result<Self, Failure> {
        let served = Served { object, bytes_per_second, traffic: Arc::default() };
        Self::listen(served).map_err(|error| {
            Failure::internal(format!("the embedded origin cannot listen on 127.0.0.1: {error}"))
        })
    }

    fn listen(served: Served) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let serving = served.clone();
        let handle = thread::Builder::new().name("haul-origin".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, serving) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, served, thread: Some((stop, handle)) })
    }

    /// The URL of the object, which answers to any name.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// The object that it serves.
    pub(crate) fn object(&self) -> &Object {
        &self.served.object
    }

    /// How many bytes of bodies it has sent so far; bytes sent twice count twice.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.served.traffic.sent_bytes.load(Ordering::Relaxed)
    }

    /// Has capped connections rest once so many bytes of bodies were sent in all.
    pub(crate) fn rest_at(&self, bytes: u64) {
        self.served.traffic.most_bytes.store(bytes, Ordering::Relaxed);
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

async fn accept(listener: TcpListener, served: Served) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, served.clone()));
            }
            // No descriptors are left; those in use come back when a run ends.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

async fn serve(stream: TcpStream, served: Served) {
    let _ = stream.set_nodelay(true);
    let Served { object, bytes_per_second, traffic } = served;
    let pace = bytes_per_second.map(Pace::new);
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &object).map(|range| Pieces {
            object: object.clone(),
            range,
            pace: pace.clone(),
            traffic: Arc::clone(&traffic),
        });
        async move { Ok::<_, Infallible>(response) }
    });
    // A client closes early when a lease is stolen, which is no failure.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The head of a response, and the bytes of the object that are its body.
fn respond<B>(request: &Request<B>, object: &Object) -> Response<Range<u64>> {
    let (headers, size, etag) = (request.headers(), object.size_bytes(), object.etag());
    let mut response = Response::new(0..0);
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
            *response.body_mut() = range;
        }
    }
    response
}

/// Whether a list of entity tags contains `etag` or is `*`.
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
    /// Bytes that the object does not have.
    Unsatisfiable,
}

/// One byte range of an object (RFC 9110 section 14.1.2); `None` for fields that a server may
/// ignore: other units, several ranges, and malformed ones.
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt as _;

    use super::object::BLOCK_BYTES;
    use super::*;

    fn ask(object: &Object, headers: &[(&str, &str)]) -> Response<Pieces> {
        let mut request = Request::get("/object.bin");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        respond(&request.body(()).unwrap(), object).map(|range| Pieces {
            object: object.clone(),
            range,
            pace: None,
            traffic: Arc::default(),
        })
    }

    fn body(response: Response<Pieces>) -> Bytes {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(response.into_body().collect()).unwrap().to_bytes()
    }

    #[test]
    fn ranges_are_pieces_of_the_one_object() {
        let object = Object::new(5 * BLOCK_BYTES + 123);
        let whole = body(ask(&object, &[]));
        assert_eq!(whole.len() as u64, object.size_bytes());
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
