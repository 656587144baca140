//! The library's own word: options that count wherever they are given, no secret in any
//! `Debug`, a result for whoever waits for one, and the blame where it belongs.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use haul_engine::storage::{ByteRange, Checkpoints, MemoryStorage, SegmentWriter, Storage};
use haul_engine::transport::bytes::Bytes;
use haul_engine::transport::http::Request;
use haul_engine::transport::{Answering, Body, HttpTransport, Transport, TransportError};
use haul_engine::{
    Connections, CookieJar, DownloadBuilder, DownloadId, Engine, EngineConfig, Error, ErrorKind,
    Event, HostCredential, MetalinkFile, Observer, Progress, Proxies, Reader, RetryPolicy,
    Selection, StorageKind, Summary,
};
use haul_tests::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

const SIZE: u64 = 8 * MIB + 4321;
/// Part of everything that nobody may be shown.
const SECRET: &str = "canary";

fn document() -> Object {
    Object::new(7, 5000)
}

fn over(transport: impl Transport + 'static) -> Engine {
    let engine = Engine::with_transport(EngineConfig::default(), Arc::new(transport));
    leaks::watched(engine.expect("defaults are valid"))
}

fn impatient() -> RetryPolicy {
    RetryPolicy { max_attempts: 1, base: Duration::from_millis(1), ..RetryPolicy::default() }
}

/// Waits for something that would take for ever if nothing came.
async fn soon<T>(what: &str, of: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), of)
        .await
        .unwrap_or_else(|_| panic!("nothing came of {what}"))
}

fn sha256(bytes: &[u8]) -> haul_engine::Checksum {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    haul_engine::Checksum::new(haul_engine::DigestAlgorithm::Sha256, digest.to_vec()).unwrap()
}

/// The engine's error in what a reader returned.
fn inner(error: &io::Error) -> &Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    inner.unwrap_or_else(|| panic!("not an error of the engine: {error:?}"))
}

// What is given out instead of kept.

#[test]
fn bytes_are_compared_with_every_digest_and_size_that_was_given() {
    leaks::checked(async {
        let object = document();
        let all = object.bytes(0..5000);
        let origin = Origin::serving(&object);
        let engine = engine();
        let ask = || engine.download(&origin.url("/list?signature=1"));
        let wrong = sha256(b"something else");
        let error = ask().checksum(wrong.clone()).bytes(1 << 20).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error}");
        let blake3: haul_engine::Checksum = format!("blake3={}", "0".repeat(64)).parse().unwrap();
        let error = ask().checksum(blake3).bytes(1 << 20).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error}");
        let got = ask().checksum(sha256(&all)).bytes(1 << 20).await.unwrap();
        assert!(got == all);

        for refused in [ask().expected_size_bytes(4999), ask().max_size_bytes(4999)] {
            let error = refused.bytes(1 << 20).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
        }
        let exact = ask().expected_size_bytes(5000).max_size_bytes(5000);
        assert!(exact.bytes(5000).await.unwrap() == all);
        let error = ask().max_size_bytes(1 << 20).bytes(4999).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
        assert!(!error.to_string().contains("signature"), "{error}");
        let before = origin.requests().len();
        ask().bytes(5000).await.unwrap();
        assert_eq!(origin.requests().len(), before + 1, "a small document is one request");
    });
}

#[test]
fn bytes_are_the_range_that_was_asked_for_and_come_from_mirrors_too() {
    leaks::checked(async {
        let object = document();
        let origin = Origin::serving(&object);
        let engine = engine();
        let part: Selection = "100-199,4000-".parse().unwrap();
        let got = engine.download(&origin.url("/list")).range(part).bytes(1 << 20).await.unwrap();
        assert!(got == [object.bytes(100..200), object.bytes(4000..5000)].concat());

        let gone = Origin::start(|_, _| Response::empty(404));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let watched = Arc::clone(&seen);
        let got = engine
            .download(&gone.url("/list"))
            .mirror(&origin.url("/list"))
            .retry(impatient())
            .observe(move |event: &Event| {
                let completed = matches!(event, Event::Completed(_));
                watched.lock().unwrap().push(completed);
            })
            .bytes(1 << 20)
            .await
            .unwrap();
        assert!(got == object.bytes(0..5000));
        assert_eq!(seen.lock().unwrap().last(), Some(&true), "observers are told of it");
    });
}

#[test]
fn bytes_of_an_unknown_size_stop_at_the_bound_and_codings_are_refused() {
    leaks::checked(async {
        let large = object(SIZE);
        let origin = Origin::start(move |request, _| match request.path() {
            "/coded" => Response::full(&document()).header("Content-Encoding", "gzip"),
            "/empty" => Response::text(200, "text/plain", ""),
            _ => Response::full(&large).chunked(true),
        });
        let engine = engine();
        let error = engine.download(&origin.url("/large")).bytes(100_000).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
        let error = engine.download(&origin.url("/coded")).bytes(100_000).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains("gzip"), "{error}");
        assert!(engine.download(&origin.url("/empty")).bytes(0).await.unwrap().is_empty());
    });
}

#[test]
fn what_cannot_count_is_refused_and_not_passed_over() {
    leaks::checked(async {
        let origin = Origin::serving(&object(SIZE));
        let engine = engine();
        let ask = || engine.download(&origin.url("/film"));
        let memory = || -> Arc<dyn Storage> { Arc::new(MemoryStorage::new(1 << 20)) };
        let part = || "0-9".parse::<Selection>().unwrap();
        let refused = [
            ask().if_changed(true).bytes(10).await.map(drop),
            ask().store_in(memory()).bytes(10).await.map(drop),
            ask().if_changed(true).stream().map(drop),
            ask().store_in(memory()).stream().map(drop),
            ask().if_changed(true).store_in(memory()).start().map(drop),
            ask().if_changed(true).storage(StorageKind::Null).start().map(drop),
            ask().if_changed(true).range(part()).start().map(drop),
            ask().if_changed(true).in_place(true).start().map(drop),
        ];
        for (number, refused) in refused.into_iter().enumerate() {
            let error = refused.expect_err("it cannot be done");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{number}: {error}");
        }
        assert!(origin.requests().is_empty(), "nothing was done");
        // A stream compares whatever digest was given, wherever a file would have gone.
        let digest = sha256(&object(SIZE).bytes(0..SIZE));
        let streaming = ask().storage(StorageKind::Null).checksum(digest).stream();
        let (download, mut stream) = streaming.unwrap();
        while stream.next().await.unwrap().is_some() {}
        assert!(download.wait().await.unwrap().verified.is_some());
    });
}

#[test]
fn what_the_program_gives_counts_beside_a_metalink() {
    leaks::checked(async {
        let object = document();
        let origin = Origin::serving(&object);
        let url = origin.url("/list");
        let text = format!(
            "<metalink xmlns='urn:ietf:params:xml:ns:metalink'><file name='theirs'><url>{url}</url>\
             </file></metalink>"
        );
        let file = MetalinkFile::parse(text.as_bytes()).unwrap().remove(0);
        let sandbox = Sandbox::new();
        let wrong = sha256(b"something else");
        let ask = || engine().download(&url).directory(sandbox.work());
        for download in [
            ask().checksum(wrong.clone()).expected_size_bytes(5000).output("mine").metalink(&file),
            ask().metalink(&file).checksum(wrong.clone()).expected_size_bytes(5000).output("mine"),
        ] {
            let error = download.start().unwrap().wait().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error}");
            assert!(error.to_string().contains("mine"), "{error}");
        }
        sandbox.assert_nothing_left();
    });
}

// No secret in any `Debug`.

/// Shows its secret to whoever formats it.
#[derive(Debug)]
struct Telling(#[allow(dead_code)] String, HttpTransport, MemoryStorage);

impl Telling {
    fn new() -> Self {
        let http = HttpTransport::new(&EngineConfig::default()).unwrap();
        Self(format!("{SECRET}-of-the-program"), http, MemoryStorage::new(1 << 30))
    }
}

impl Transport for Telling {
    fn send(&self, request: Request<()>) -> Answering<'_> {
        self.1.send(request)
    }
}

impl CookieJar for Telling {
    fn cookies(&self, _: &str) -> Option<String> {
        Some(self.0.clone())
    }

    fn set_cookie(&self, _: &str, _: &str) {}
}

impl Observer for Telling {
    fn event(&self, _: DownloadId, _: &Event) {}
}

impl Storage for Telling {
    fn name(&self) -> &'static str {
        "telling"
    }

    fn begin(&self, total_bytes: Option<u64>) -> io::Result<()> {
        self.2.begin(total_bytes)
    }

    fn segment_writer(&self, segment: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        self.2.segment_writer(segment)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.2.read_at(offset, buf)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.2.set_len(len_bytes)
    }
}

#[track_caller]
fn shows_no_secret(value: &dyn Debug) {
    for shown in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!shown.to_lowercase().contains(SECRET), "{shown}");
        assert!(shown.len() < 20_000, "{} characters: the object's bytes?", shown.len());
    }
}

fn url_with_secrets(origin: &Origin, path: &str) -> String {
    let url = origin.url(&format!("{path}?X-Amz-Signature={SECRET}#{SECRET}"));
    url.replacen("http://", &format!("http://{SECRET}-user:{SECRET}-password@"), 1)
}

/// With a secret wherever one has a place.
fn with_secrets(builder: DownloadBuilder, mirror: &str) -> DownloadBuilder {
    builder
        .mirror(mirror)
        .header("Authorization", &format!("Bearer {SECRET}"))
        .header("X-Api-Key", SECRET)
        .basic_auth(&format!("{SECRET}-name"), &format!("{SECRET}-password"))
        .host_credentials(vec![credential()])
        .cookies(Arc::new(Telling::new()))
        .observe(Telling::new())
        .refresh(|url: String| async move { Ok::<_, io::Error>(url) })
}

fn credential() -> HostCredential {
    HostCredential { host: None, user: format!("{SECRET}-user"), password: SECRET.to_owned() }
}

#[test]
fn no_debug_shows_a_secret() {
    leaks::checked(async {
        let object = object(SIZE);
        let gate = Gate::new();
        let origin = {
            let (object, gate) = (object.clone(), gate.clone());
            Origin::start(move |request, _| match request.path() {
                "/refused" | "/refused-mirror" => Response::empty(403),
                "/slow" => standard(&object, request).stall(2 * MIB, &gate),
                _ => standard(&object, request),
            })
        };
        let sandbox = Sandbox::new();
        let proxy = format!("http://{SECRET}:{SECRET}@127.0.0.1:9");
        let mut config = EngineConfig::default();
        config.proxies = Proxies::all(proxy.parse().unwrap()).bypassing("127.0.0.1");
        shows_no_secret(&config);
        shows_no_secret(&config.proxies);
        shows_no_secret(&credential());
        shows_no_secret(&proxy.parse::<haul_engine::Proxy>());
        shows_no_secret(&format!("ftp://{SECRET}:{SECRET}@proxy").parse::<haul_engine::Proxy>());
        let engine = leaks::watched(
            Engine::with_transport(config, Arc::new(Telling::new())).expect("a configuration"),
        );
        shows_no_secret(&engine);

        let url = url_with_secrets(&origin, "/film");
        let metalink = format!(
            "<metalink xmlns='urn:ietf:params:xml:ns:metalink'><file name='film'><url>{url}</url>\
             </file></metalink>"
        );
        shows_no_secret(&MetalinkFile::parse(metalink.as_bytes()).unwrap());

        let ask = |path: &str| {
            let mirror = url_with_secrets(&origin, &format!("{path}-mirror"));
            with_secrets(engine.download(&url_with_secrets(&origin, path)), &mirror)
                .directory(sandbox.work())
                .connections(Connections::Fixed(2))
                .retry(impatient())
        };
        shows_no_secret(&ask("/film"));
        shows_no_secret(&ask("/film").store_in(Arc::new(Telling::new())));
        shows_no_secret(&engine.download(&format!("https//u:{SECRET}@h/x?{SECRET}")).start());
        shows_no_secret(
            &engine.download("http://h/").header(SECRET, "\n").start().map(drop).is_err(),
        );
        shows_no_secret(&engine.download("http://h/").header("a", &format!("{SECRET}\n")).start());
        shows_no_secret(&ask("/film").plan().await);

        let running = ask("/slow").start().unwrap();
        let mut events = running.events();
        let mut reader = running.reader();
        reader.read_exact(&mut [0; 10]).await.unwrap();
        shows_no_secret(&running.metadata());
        shows_no_secret(&running.monitor());
        shows_no_secret(&running.progress());
        shows_no_secret(&running);
        shows_no_secret(&reader);
        shows_no_secret(&reader.clone().into_blocking());
        shows_no_secret(&events);
        gate.open();
        shows_no_secret(&running.wait().await.unwrap());
        shows_no_secret(&running);
        while let Some(event) = events.next().await {
            shows_no_secret(&event);
        }
        let telling = Arc::new(Telling::new());
        let stored = ask("/film").store_in(telling.clone()).start().unwrap();
        stored.wait().await.unwrap();
        shows_no_secret(&stored);
        shows_no_secret(&telling.2);
        let (download, stream) = ask("/film").stream().unwrap();
        shows_no_secret(&(&download, &stream));
        drop((download, stream));

        let refused = ask("/refused").start().unwrap();
        let mut refused_reader = refused.reader();
        shows_no_secret(&refused.wait().await.unwrap_err());
        shows_no_secret(&refused_reader.read(&mut [0; 10]).await.unwrap_err());
        shows_no_secret(&ask("/refused").plan().await.unwrap_err());
        shows_no_secret(&ask("/refused").bytes(10).await.unwrap_err());
    });
}

#[test]
fn no_debug_of_the_blocking_engine_shows_a_secret() {
    leaks::guarded(|| {
        let object = object(SIZE);
        let origin = Origin::serving(&object);
        let sandbox = Sandbox::new();
        let engine = haul_engine::blocking::Engine::with_transport(
            EngineConfig::default(),
            Arc::new(Telling::new()),
        );
        let engine = leaks::watched_blocking(engine.unwrap());
        shows_no_secret(&engine);
        let builder = engine
            .download(&url_with_secrets(&origin, "/film"))
            .header("Authorization", &format!("Bearer {SECRET}"))
            .mirror(&url_with_secrets(&origin, "/other"))
            .cookies(Arc::new(Telling::new()))
            .directory(sandbox.work());
        shows_no_secret(&builder);
        let running = builder.start().unwrap();
        let (events, reader) = (running.events(), running.reader());
        shows_no_secret(&(&running, &events, &reader));
        running.wait().unwrap();
        shows_no_secret(&running);
    });
}

// A result for everybody who waits, whatever was called before.

#[test]
fn a_complete_download_bears_every_call_in_every_order() {
    leaks::checked(async {
        let object = object(SIZE);
        let origin = Origin::serving(&object);
        let sandbox = Sandbox::new();
        let engine = engine();
        let start = |name: &str| {
            engine.download(&origin.url("/film")).output(sandbox.path(name)).start().unwrap()
        };
        let running = start("a");
        let first = soon("waiting", running.wait()).await.unwrap();
        let again = soon("waiting again", running.wait()).await.unwrap();
        assert_eq!((first.bytes, first.blake3), (again.bytes, again.blake3));
        // Nothing of this has an effect any more, and nothing waits for ever.
        running.pause();
        running.limit_rate(NonZeroU64::new(1));
        running.set_connections(Connections::Fixed(1));
        running.set_priority(3);
        running.resume();
        assert!(soon("metadata", running.opened()).await.is_ok());
        let mut late = running.reader();
        let mut bytes = Vec::new();
        soon("a late reader", late.read_to_end(&mut bytes)).await.unwrap();
        assert!(bytes == object.bytes(0..SIZE));
        assert!(matches!(last_event(&mut running.events()).await, Some(Event::Completed(_))));
        assert!(running.events().next().await.is_none(), "one listener only");
        assert!(running.wait().await.is_ok(), "the third time");
        assert_eq!(soon("cancelling", running.cancel()).await.unwrap(), None);

        let running = start("b");
        running.wait().await.unwrap();
        soon("removing", running.cancel_and_remove()).await.unwrap();
        let running = start("c");
        let mut events = running.events();
        while !matches!(events.next().await, Some(Event::Completed(_))) {}
        assert_eq!(running.cancel().await.unwrap(), None, "it was not waited for");
        for name in ["a", "b", "c"] {
            object.compare_file(&sandbox.path(name)).unwrap();
        }
    });
}

#[test]
fn a_failed_download_bears_every_call_in_every_order() {
    leaks::checked(async {
        let object = object(SIZE);
        let origin = {
            let object = object.clone();
            Origin::start(move |request, context| match (request.path(), context.index) {
                ("/film", 0) => standard(&object, request).cut(3 * MIB, End::Reset),
                _ => Response::empty(410),
            })
        };
        let sandbox = Sandbox::new();
        let engine = engine();
        let ask = || {
            let download = engine.download(&origin.url("/film")).output(sandbox.path("film"));
            download.connections(Connections::Fixed(1)).start().unwrap()
        };
        let running = ask();
        let mut reader = running.reader();
        let error = soon("waiting", running.wait()).await.unwrap_err();
        assert_eq!((error.kind(), error.http_status()), (ErrorKind::AccessDenied, Some(410)));
        let again = soon("waiting again", running.wait()).await.unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
        assert_eq!(again.http_status(), Some(410));
        running.pause();
        running.resume();
        assert!(soon("metadata", running.opened()).await.is_err());
        for reader in [&mut reader, &mut running.reader()] {
            reader.seek(io::SeekFrom::Start(SIZE - 10)).await.unwrap();
            let failed = soon("a reader", reader.read(&mut [0; 10])).await.unwrap_err();
            let told = inner(&failed);
            assert_eq!((told.kind(), told.http_status()), (ErrorKind::AccessDenied, Some(410)));
            assert_eq!((told.hint(), told.checkpoint()), (error.hint(), error.checkpoint()));
            let failed = soon("a seek", reader.seek(io::SeekFrom::End(0))).await.unwrap_err();
            assert_eq!(inner(&failed).http_status(), Some(410));
        }
        let kept = soon("cancelling", running.cancel()).await.unwrap();
        assert_eq!(kept, Some(sandbox.checkpoint("film")));
        sandbox.assert_kept("film");

        // It ended before anybody asked for the removal.
        let running = ask();
        assert_eq!(running.wait().await.unwrap_err().http_status(), Some(410));
        sandbox.assert_kept("film");
        soon("removing", running.cancel_and_remove()).await.unwrap();
        sandbox.assert_nothing_left();
    });
}

#[test]
fn a_cancelled_download_tells_that_to_everybody_and_is_removed_afterwards() {
    leaks::checked(async {
        let throttle = Throttle::new(2 * MIB).crawling_after(3 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let engine = engine();
        let start = || engine.download(&origin.url("/film")).output(sandbox.path("film")).start();
        let running = start().unwrap();
        until_bytes(&running, MIB).await;
        let (monitor, mut reader) = (running.monitor(), running.reader());
        running.pause();
        reader.seek(io::SeekFrom::End(-10)).await.unwrap();
        let reading = tokio::spawn(async move { reader.read(&mut [0; 10]).await });
        assert_eq!(running.cancel().await.unwrap(), Some(sandbox.checkpoint("film")));
        let failed = soon("a reader that waited", reading).await.unwrap().unwrap_err();
        assert_eq!(inner(&failed).kind(), ErrorKind::Cancelled);
        assert!(soon("metadata", monitor.opened()).await.is_err());

        // A future that is dropped while it waits has no effect.
        throttle.allow(3 * MIB);
        let running = start().unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), running.wait()).await.is_err());
        until_bytes(&running, 2 * MIB).await;
        running.cancel_and_remove().await.unwrap();
        sandbox.assert_nothing_left();
    });
}

#[test]
fn a_stream_that_fails_tells_the_status() {
    leaks::checked(async {
        let origin = Origin::start(|_, _| Response::empty(404));
        let (download, mut stream) = engine().download(&origin.url("/film")).stream().unwrap();
        let error = soon("a stream", stream.next()).await.unwrap_err();
        assert_eq!((error.kind(), error.http_status()), (ErrorKind::HttpStatus, Some(404)));
        let failed = soon("reading", stream.read(&mut [0; 10])).await.unwrap_err();
        assert_eq!(inner(&failed).http_status(), Some(404));
        assert!(soon("metadata", download.opened()).await.is_err());
        download.wait().await.unwrap_err();
    });
}

#[test]
fn a_runtime_that_went_away_is_told_as_that() {
    leaks::guarded(|| {
        let throttle = Throttle::new(2 * MIB).crawling_after(3 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let engine = engine();
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let first = runtime().unwrap();
        let running = first.block_on(async {
            let running = engine.download(&origin.url("/film")).output(sandbox.path("film"));
            let running = running.start().unwrap();
            until_bytes(&running, MIB).await;
            running
        });
        let mut reader = running.reader();
        drop(first);
        runtime().unwrap().block_on(async {
            reader.seek(io::SeekFrom::Start(SIZE - 10)).await.unwrap();
            let failed = soon("a reader", reader.read(&mut [0; 10])).await.unwrap_err();
            let told = inner(&failed);
            assert_eq!(told.kind(), ErrorKind::Internal);
            assert!(
                told.hint().is_some_and(|hint| hint.to_string().contains("runtime")),
                "{told:?}"
            );
            for _ in 0..2 {
                let error = soon("waiting", running.wait()).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Internal);
                assert!(
                    error.hint().is_some_and(|hint| hint.to_string().contains("runtime")),
                    "{error:?}"
                );
            }
            let error = soon("cancelling", running.cancel()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
        });
    });
}

// A file that is the object already.

/// Serves the object; conditions are heeded or not.
fn conditional(object: &Object, heeded: bool) -> Origin {
    let object = object.clone();
    Origin::start(move |request, _| match request.range().and_then(|it| it.within(SIZE)) {
        Some(range) if !heeded => Response::partial(&object, range),
        _ => standard(&object, request),
    })
}

async fn read_all(mut reader: Reader) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    soon("a reader", reader.read_to_end(&mut bytes)).await?;
    Ok(bytes)
}

#[test]
fn an_unchanged_file_has_metadata_and_readers() {
    leaks::checked(async {
        let object = object(SIZE).with_last_modified(Some(1_600_000_000));
        for heeded in [true, false] {
            let origin = conditional(&object, heeded);
            let sandbox = Sandbox::new();
            let engine = engine();
            let ask = || {
                let download = engine.download(&origin.url("/film")).output(sandbox.path("film"));
                download.if_changed(true).start().unwrap()
            };
            assert!(!ask().wait().await.unwrap().unchanged);

            let running = ask();
            let mut early = running.reader();
            let blocking = running.reader().into_blocking();
            let metadata = soon("metadata", running.opened()).await.expect("the object is known");
            assert_eq!((metadata.total_bytes, &*metadata.name), (Some(SIZE), "film"));
            assert_eq!(metadata.output, sandbox.path("film"));
            let date = std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
            assert_eq!(metadata.last_modified, Some(date));
            let summary: Summary = running.wait().await.unwrap();
            assert!(summary.unchanged, "heeded: {heeded}");
            assert!(running.metadata().is_some() && running.monitor().metadata().is_some());
            assert_eq!(running.progress().total_bytes, Some(SIZE));
            assert_eq!(early.seek(io::SeekFrom::End(-7)).await.unwrap(), SIZE - 7);
            assert!(read_all(early).await.unwrap() == object.bytes(SIZE - 7..SIZE));
            assert!(read_all(running.reader()).await.unwrap() == object.bytes(0..SIZE));
            let read = tokio::task::spawn_blocking(move || {
                let (mut blocking, mut bytes) = (blocking, Vec::new());
                io::Read::read_to_end(&mut blocking, &mut bytes).map(|_| bytes)
            });
            let read = soon("a blocking reader", read).await.unwrap();
            assert!(read.unwrap() == object.bytes(0..SIZE));
            sandbox.assert_published("film", &object);

            // What somebody did to the file since is not given out as the object.
            let running = ask();
            assert!(running.wait().await.unwrap().unchanged);
            let mut never_read = running.reader();
            std::fs::write(sandbox.path("film"), "something else").unwrap();
            let error = never_read.read(&mut [0; 10]).await.unwrap_err();
            assert!(error.to_string().contains("changed"), "{error}");
        }
    });
}

// The blame.

/// Panics when it is asked for that, and does all else as memory does.
#[derive(Debug)]
struct Breaking {
    at: &'static str,
    memory: MemoryStorage,
}

impl Breaking {
    fn new(at: &'static str) -> Arc<Self> {
        Arc::new(Self { at, memory: MemoryStorage::new(1 << 30) })
    }

    fn pass(&self, at: &str) {
        assert!(self.at != at, "a defect of the program, on purpose");
    }
}

impl Storage for Breaking {
    fn name(&self) -> &'static str {
        self.pass("name");
        "breaking"
    }

    fn begin(&self, total_bytes: Option<u64>) -> io::Result<()> {
        self.pass("begin");
        self.memory.begin(total_bytes)
    }

    fn segment_writer(&self, segment: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        self.pass("segment_writer");
        Ok(Box::new(BreakingWriter(self.at, self.memory.segment_writer(segment)?)))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.pass("read_at");
        self.memory.read_at(offset, buf)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.pass("sync_data");
        self.memory.sync_data()
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.pass("set_len");
        self.memory.set_len(len_bytes)
    }

    fn checkpoints(&self) -> Option<&dyn Checkpoints> {
        self.pass("checkpoints");
        Some(self)
    }
}

impl Checkpoints for Breaking {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        self.pass("load");
        Ok(None)
    }

    fn save(&self, _: &[u8]) -> io::Result<()> {
        self.pass("save");
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        self.pass("remove");
        Ok(())
    }
}

struct BreakingWriter(&'static str, Box<dyn SegmentWriter>);

impl SegmentWriter for BreakingWriter {
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        assert!(self.0 != "write", "a defect of the program, on purpose");
        self.1.write(offset, data)
    }
}

impl Drop for BreakingWriter {
    fn drop(&mut self) {
        assert!(self.0 != "drop", "a defect of the program, on purpose");
    }
}

#[track_caller]
fn is_blamed(error: &Error, part: &str) {
    assert_eq!(error.kind(), ErrorKind::Callback, "{part}: {error}");
    assert!(error.to_string().contains(&format!("the program's own {part} panicked")), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.to_string().contains("panic")), "{error:?}");
}

#[test]
fn a_storage_that_panics_is_blamed_and_other_downloads_go_on() {
    leaks::checked(async {
        let object = object(SIZE);
        let origin = {
            let object = object.clone();
            Origin::start(move |request, _| match request.path() {
                "/chunked" => Response::full(&document()).chunked(true),
                _ => standard(&object, request),
            })
        };
        let engine = engine();
        let sandbox = Sandbox::new();
        let path = |at: &str| if at == "set_len" { "/chunked" } else { "/film" };
        for at in [
            "begin",
            "segment_writer",
            "write",
            "read_at",
            "sync_data",
            "set_len",
            "checkpoints",
            "load",
            "remove",
        ] {
            let storage = Breaking::new(at);
            let digest =
                if at == "set_len" { document().bytes(0..5000) } else { object.bytes(0..SIZE) };
            let download = engine.download(&origin.url(path(at))).checksum(sha256(&digest));
            let running = download.store_in(storage).start().unwrap();
            let error = soon(at, running.wait()).await.expect_err(at);
            is_blamed(&error, "storage");
        }
        for harmless in ["name", "drop", "none"] {
            let storage = Breaking::new(harmless);
            let running =
                engine.download(&origin.url("/film")).store_in(storage.clone()).start().unwrap();
            soon(harmless, running.wait()).await.unwrap();
            assert!(storage.memory.take() == object.bytes(0..SIZE), "{harmless}");
        }
        // Its threads are those of all downloads: they live.
        let film = engine.download(&origin.url("/film")).output(sandbox.path("film"));
        film.start().unwrap().wait().await.unwrap();
        sandbox.assert_published("film", &object);
    });
}

#[test]
fn a_reader_of_a_storage_that_panics_blames_the_storage() {
    leaks::checked(async {
        let origin = Origin::serving(&object(SIZE));
        let engine = engine();
        let download = engine.download(&origin.url("/film")).store_in(Breaking::new("read_at"));
        let running = download.start().unwrap();
        let error = soon("a reader", running.reader().read(&mut [0; 10])).await.unwrap_err();
        assert!(error.to_string().contains("program's own storage panicked"), "{error}");
        let _ = running.cancel().await;
    });
}

/// HTTP that panics at one place.
#[derive(Debug)]
struct Fragile(&'static str, HttpTransport);

struct FragileBody(&'static str, Pin<Box<dyn Body>>);

impl Transport for Fragile {
    fn send(&self, request: Request<()>) -> Answering<'_> {
        assert!(self.0 != "send", "a defect of the program, on purpose");
        Box::pin(async move {
            assert!(self.0 != "answer", "a defect of the program, on purpose");
            let response = self.1.send(request).await?;
            Ok(response.map(|body| Box::pin(FragileBody(self.0, body)) as Pin<Box<dyn Body>>))
        })
    }
}

impl Body for FragileBody {
    fn poll_data(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>> {
        assert!(self.0 != "poll_data", "a defect of the program, on purpose");
        self.1.as_mut().poll_data(context)
    }

    fn left_bytes(&self) -> Option<u64> {
        assert!(self.0 != "left_bytes", "a defect of the program, on purpose");
        self.1.left_bytes()
    }

    fn finish(self: Pin<Box<Self>>) {
        assert!(self.0 != "finish", "a defect of the program, on purpose");
    }
}

impl Drop for FragileBody {
    fn drop(&mut self) {
        assert!(self.0 != "drop", "a defect of the program, on purpose");
    }
}

#[test]
fn a_transport_that_panics_is_blamed_and_nobody_waits_for_it() {
    leaks::checked(async {
        let object = object(SIZE);
        let origin = Origin::serving(&object);
        let fragile = |at| over(Fragile(at, HttpTransport::new(&EngineConfig::default()).unwrap()));
        for at in ["send", "answer", "poll_data"] {
            let engine = fragile(at);
            let url = origin.url("/film?signature=canary");
            let sandbox = Sandbox::new();
            let running = engine.download(&url).directory(sandbox.work()).start().unwrap();
            let error = soon(at, running.wait()).await.expect_err(at);
            is_blamed(&error, "transport");
            assert!(!error.to_string().contains(SECRET), "{error}");
            let error = soon(at, engine.download(&url).bytes(10 << 20)).await.expect_err(at);
            is_blamed(&error, "transport");
            let error = soon(at, engine.download(&url).plan()).await;
            if at != "poll_data" {
                is_blamed(&error.expect_err(at), "transport");
            }
        }
        for harmless in ["left_bytes", "finish", "drop"] {
            let engine = fragile(harmless);
            let sandbox = Sandbox::new();
            let film = engine.download(&origin.url("/film")).output(sandbox.path("film"));
            let running = film.start().unwrap();
            soon(harmless, running.wait()).await.unwrap();
            sandbox.assert_published("film", &object);
        }
    });
}

/// A jar that panics when cookies are asked for, or given.
#[derive(Debug)]
struct BrokenJar(bool);

impl CookieJar for BrokenJar {
    fn cookies(&self, _: &str) -> Option<String> {
        assert!(!self.0, "a defect of the program, on purpose");
        None
    }

    fn set_cookie(&self, _: &str, _: &str) {
        panic!("a defect of the program, on purpose");
    }
}

#[test]
fn a_cookie_jar_that_panics_is_blamed() {
    leaks::checked(async {
        let object = object(SIZE);
        let origin = {
            let object = object.clone();
            Origin::start(move |request, _| standard(&object, request).header("Set-Cookie", "a=b"))
        };
        for asked in [true, false] {
            let sandbox = Sandbox::new();
            let download =
                engine().download(&origin.url("/film")).cookies(Arc::new(BrokenJar(asked)));
            let running = download.output(sandbox.path("film")).start().unwrap();
            let error = soon("waiting", running.wait()).await.unwrap_err();
            is_blamed(&error, "cookie jar");
        }
    });
}

/// Panics at an event or at the first progress.
struct Bad {
    at: &'static str,
    /// Its calls, and how many of them there had been when it panicked.
    called: Arc<[AtomicUsize; 2]>,
}

impl Bad {
    fn is_called(&self, panics: bool) {
        let [calls, panicked_at] = &*self.called;
        let calls = calls.fetch_add(1, Ordering::Relaxed) + 1;
        if panics {
            panicked_at.store(calls, Ordering::Relaxed);
            panic!("a defect of the program, on purpose");
        }
    }
}

fn word(event: &Event) -> &'static str {
    match event {
        Event::Started(_) => "started",
        Event::Syncing => "syncing",
        Event::Completed(_) => "completed",
        Event::Failed { .. } => "failed",
        _ => "other",
    }
}

impl Observer for Bad {
    fn event(&self, _: DownloadId, event: &Event) {
        self.is_called(word(event) == self.at);
    }

    fn progress(&self, _: DownloadId, _: &Progress) {
        self.is_called(self.at == "progress");
    }
}

#[test]
fn an_observer_that_panics_is_blamed_and_the_download_continues_when_started_again() {
    leaks::checked(async {
        let object = object(SIZE);
        let origin = Origin::serving(&object);
        let engine = engine();
        for at in ["started", "progress", "syncing"] {
            let sandbox = Sandbox::new();
            let ask = || engine.download(&origin.url("/film")).output(sandbox.path("film"));
            let others = Arc::new(Mutex::new(Vec::new()));
            let told = Arc::clone(&others);
            let called = Arc::<[AtomicUsize; 2]>::default();
            let running = ask()
                .observe(Bad { at, called: Arc::clone(&called) })
                .observe(move |event: &Event| told.lock().unwrap().push(word(event)))
                .start()
                .unwrap();
            let mut events = running.events();
            let mut reader = running.reader();
            reader.seek(io::SeekFrom::End(-1)).await.unwrap_or_default();
            let error = soon(at, running.wait()).await.expect_err(at);
            is_blamed(&error, "observer");
            let last = last_event(&mut events).await;
            let Some(Event::Failed { kind: ErrorKind::Callback, resumable, .. }) = last else {
                panic!("{at}: {last:?}");
            };
            assert_eq!(resumable, error.is_resumable(), "{at}");
            {
                let others = others.lock().unwrap();
                assert_eq!(others.last(), Some(&"failed"), "{at}");
                let told = at == "progress" || others.contains(&at);
                assert!(told, "others are told at which it panicked: {others:?}");
            }
            assert!(!sandbox.path("film").exists(), "{at}: it is not published");
            // Once it panicked it is left alone, to the end.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let [calls, panicked_at] = called.each_ref().map(|it| it.load(Ordering::Relaxed));
            assert_eq!(calls, panicked_at, "{at}: called again");
            let summary = ask().start().unwrap().wait().await.unwrap();
            assert!(at != "syncing" || summary.resumed_bytes == SIZE, "{at}: {summary:?}");
            sandbox.assert_published("film", &object);
        }
        // Its last call, when all is done.
        let sandbox = Sandbox::new();
        let running = engine
            .download(&origin.url("/film"))
            .output(sandbox.path("film"))
            .observe(Bad { at: "completed", called: Arc::default() })
            .start()
            .unwrap();
        assert_eq!(running.wait().await.unwrap().bytes, SIZE);
        sandbox.assert_published("film", &object);
    });
}

// A name that is one's own.

/// Holds its download up once it is told to, and says so.
struct Slow(Arc<AtomicBool>, Arc<AtomicBool>);

impl Observer for Slow {
    fn event(&self, _: DownloadId, _: &Event) {}

    fn progress(&self, _: DownloadId, _: &Progress) {
        if self.0.swap(false, Ordering::Relaxed) {
            self.1.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

#[test]
fn a_dropped_download_can_be_started_again_at_once() {
    leaks::checked_in_threads(async {
        let object = object(SIZE);
        let throttle = Throttle::new(MIB).crawling_after(5 * MIB);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let engine = engine();
        let ask = || engine.download(&origin.url("/film")).output(sandbox.path("film"));
        for round in 1..=5 {
            let running = ask().start().unwrap();
            assert!(soon("metadata", running.opened()).await.is_ok(), "round {round}");
            until_bytes(&running, round * MIB / 2).await;
            drop(running);
        }
        // One that goes on keeps its name, and says whose it is.
        let running = ask().start().unwrap();
        until_bytes(&running, 3 * MIB).await;
        let error = ask().start().unwrap().wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(error.to_string().contains("of this process"), "{error}");
        drop(running);
        throttle.lift();
        let last = ask().start().unwrap();
        let summary = soon("the last one", last.wait()).await.unwrap();
        assert!(summary.resumed_bytes >= 2 * MIB, "{summary:?}");
        sandbox.assert_published("film", &object);
    });
}

#[test]
fn a_download_that_has_not_seen_that_it_was_dropped_is_waited_for() {
    leaks::checked_in_threads(async {
        let object = object(SIZE);
        let gate = Gate::new();
        let origin = {
            let (object, gate) = (object.clone(), gate.clone());
            Origin::start(move |request, _| standard(&object, request).stall(MIB, &gate))
        };
        let sandbox = Sandbox::new();
        let engine = engine();
        let ask = || engine.download(&origin.url("/film")).output(sandbox.path("film"));
        let [hold, held] = [(); 2].map(|()| Arc::<AtomicBool>::default());
        let slow = Slow(Arc::clone(&hold), Arc::clone(&held));
        let running = ask().observe(slow).start().unwrap();
        assert!(soon("metadata", running.opened()).await.is_ok());
        hold.store(true, Ordering::Relaxed);
        // Not by the runtime's clock: one of its threads is held up, and the other may sleep.
        while !held.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(running);
        gate.open();
        let next = ask().start().unwrap();
        soon("the next one", next.wait()).await.unwrap();
        sandbox.assert_published("film", &object);
    });
}
