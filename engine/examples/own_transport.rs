//! Shows two transports of the program's own: one needs no network at all, the other adds
//! a header to each request and leaves the rest to the engine's HTTP.
//!
//!     cargo run -p haul-engine --example own_transport -- [URL]
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use haul_engine::storage::MemoryStorage;
use haul_engine::transport::bytes::Bytes;
use haul_engine::transport::http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue, RANGE,
};
use haul_engine::transport::http::{Request, Response, StatusCode};
use haul_engine::transport::{Answering, HttpTransport, Transport, body_of};
use haul_engine::{Connections, Engine, EngineConfig, Error};

/// Answers for `shelf://` URLs with one object, from memory.
#[derive(Debug)]
pub struct Shelf {
    object: Bytes,
}

impl Shelf {
    fn answer(&self, request: &Request<()>) -> Response<Bytes> {
        let whole = (0, self.object.len());
        let asked = request.headers().get(RANGE).and_then(|value| value.to_str().ok());
        let (start, end) =
            asked.map_or(Some(whole), |asked| range_of(asked, whole.1)).unwrap_or(whole);
        let mut response = Response::new(self.object.slice(start..end));
        let fields = response.headers_mut();
        // A strong tag lets a download continue, and shows that the object is still the same.
        fields.insert(ETAG, HeaderValue::from_static("\"first edition\""));
        fields.insert(CONTENT_LENGTH, HeaderValue::from(end - start));
        if asked.is_some() {
            let range = format!("bytes {start}-{}/{}", end - 1, self.object.len());
            fields.insert(CONTENT_RANGE, HeaderValue::from_str(&range).expect("digits"));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        response
    }
}

/// `bytes=a-b` as the engine writes it, cut at the object's end.
fn range_of(value: &str, size: usize) -> Option<(usize, usize)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (first < size).then(|| (first, size.min(last + 1)))
}

impl Transport for Shelf {
    fn send(&self, request: Request<()>) -> Answering<'_> {
        let response = self.answer(&request).map(body_of);
        Box::pin(async move { Ok(response) })
    }

    fn speaks(&self, scheme: &str) -> bool {
        scheme == "shelf"
    }
}

/// Adds a field to each request, and counts them.
#[derive(Debug)]
pub struct Labelled<T> {
    inner: T,
    /// So many were passed on.
    pub requests: AtomicU64,
}

impl<T: Transport> Transport for Labelled<T> {
    fn send(&self, mut request: Request<()>) -> Answering<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        request.headers_mut().insert("x-request-of", HeaderValue::from_static("example"));
        self.inner.send(request)
    }
}

/// "Downloads" an object of `size` bytes from a shelf into memory.
pub async fn run_shelf(size: usize) -> Result<Vec<u8>, Error> {
    let object: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    let shelf = Arc::new(Shelf { object: object.into() });
    let engine = Engine::with_transport(EngineConfig::default(), shelf)?;
    let memory = MemoryStorage::new(1 << 30);
    let download = engine
        .download("shelf://here/film.mp4")
        .connections(Connections::Fixed(4))
        .store_in(Arc::new(memory.clone()))
        .start()?;
    let summary = download.wait().await?;
    println!("{} bytes in {} requests", summary.bytes, summary.requests);
    Ok(memory.take())
}

/// Downloads `url` with a label on each request; gives their number.
pub async fn run_labelled(url: &str) -> Result<u64, Error> {
    let config = EngineConfig::default();
    let http = HttpTransport::new(&config)?;
    let labelled = Arc::new(Labelled { inner: http, requests: AtomicU64::new(0) });
    let engine = Engine::with_transport(config, labelled.clone())?;
    let memory = MemoryStorage::new(1 << 30);
    engine.download(url).store_in(Arc::new(memory)).start()?.wait().await?;
    Ok(labelled.requests.load(Ordering::Relaxed))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let object = run_shelf(20_000_000).await?;
    println!("from the shelf: {} bytes", object.len());
    if let Some(url) = std::env::args().nth(1) {
        println!("from {url}: {} labelled requests", run_labelled(&url).await?);
    }
    Ok(())
}
