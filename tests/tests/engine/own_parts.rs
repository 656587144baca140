//! Storage, transport and observers of a program's own, and the examples of them.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use haul_engine::storage::{ByteRange, MemoryStorage, SegmentWriter, Storage};
use haul_engine::transport::bytes::Bytes;
use haul_engine::transport::http::{Request, Response};
use haul_engine::transport::{
    Answering, Body, HttpTransport, Transport, TransportError, TransportErrorKind, body_of,
};
use haul_engine::{
    Connections, DownloadBuilder, DownloadId, Engine, EngineConfig, ErrorKind, Event, Observer,
    Progress,
};
use haul_tests::origin::Response as Answer;
use haul_tests::prelude::*;
use tokio::io::AsyncReadExt as _;

#[path = "../../../engine/examples/observe.rs"]
#[allow(dead_code)]
mod observe;
#[path = "../../../engine/examples/own_storage.rs"]
#[allow(dead_code)]
mod own_storage;
#[path = "../../../engine/examples/own_transport.rs"]
#[allow(dead_code)]
mod own_transport;

const SIZE: u64 = 8 * MIB + 4321;

fn into_memory(engine: &Engine, origin: &Origin, memory: &Arc<dyn Storage>) -> DownloadBuilder {
    engine
        .download(&origin.url("/film.mp4?signature=secret"))
        .connections(Connections::Fixed(4))
        .store_in(Arc::clone(memory))
}

#[test]
fn the_example_of_a_storage_reads_the_object_back() {
    leaks::checked(async {
        let object = object(SIZE);
        let origin = Origin::serving(&object);
        let bytes = own_storage::run(&origin.url("/film.mp4")).await.unwrap();
        assert!(bytes == object.bytes(0..SIZE));
    });
}

#[test]
fn the_example_of_a_transport_needs_no_network_and_wraps_the_real_one() {
    leaks::checked(async {
        let bytes = own_transport::run_shelf(20_000_000).await.unwrap();
        assert_eq!(bytes.len(), 20_000_000);
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
        let origin = Origin::serving(&object(SIZE));
        let requests = own_transport::run_labelled(&origin.url("/film.mp4")).await.unwrap();
        origin.wait_until("all requests are seen", |origin| {
            origin.requests().len() as u64 == requests
        });
        let seen = origin.requests();
        assert!(seen.iter().all(|it| it.request.header("x-request-of") == Some("example")));
    });
}

#[test]
fn the_example_of_an_observer_logs_what_happened() {
    leaks::checked(async {
        let object = object(SIZE);
        let origin = Origin::serving(&object);
        let sandbox = Sandbox::new();
        let directory = sandbox.work().to_str().unwrap().to_owned();
        let log = observe::run(&origin.url("/film.mp4"), &directory).await.unwrap();
        let started = format!("started: Some({SIZE}) bytes, ");
        // Which storage it is depends on the file system.
        assert!(log.first().unwrap().starts_with(&started), "{log:?}");
        assert_eq!(log.last().unwrap(), &format!("complete: {SIZE} bytes"));
        sandbox.assert_published("film.mp4", &object);
    });
}

/// Counts what it is asked for.
#[derive(Debug)]
struct Counting {
    memory: MemoryStorage,
    begun: Mutex<Vec<Option<u64>>>,
    synced: AtomicUsize,
}

impl Counting {
    fn new() -> Arc<Self> {
        let memory = MemoryStorage::new(1 << 30);
        Arc::new(Self { memory, begun: Mutex::default(), synced: AtomicUsize::new(0) })
    }
}

impl Storage for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn begin(&self, total_bytes: Option<u64>) -> io::Result<()> {
        self.begun.lock().unwrap().push(total_bytes);
        self.memory.begin(total_bytes)
    }

    fn segment_writer(&self, segment: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        self.memory.segment_writer(segment)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.memory.read_at(offset, buf)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.synced.fetch_add(1, Ordering::Relaxed);
        self.memory.sync_data()
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.memory.set_len(len_bytes)
    }
}

#[test]
fn a_storage_begins_again_when_the_object_changed_and_holds_one_version() {
    leaks::checked(async {
        let (old, new) = (object(SIZE), Object::new(2, SIZE));
        let origin = {
            let (old, new) = (old.clone(), new.clone());
            Origin::start(move |request, context| match context.index {
                // So slow that the old version is not here before there is the new one.
                0 | 1 => standard(&old, request).rate(MIB),
                _ => standard(&new, request),
            })
        };
        let sandbox = Sandbox::new();
        let storage = Counting::new();
        let shared: Arc<dyn Storage> = storage.clone();
        let sha256 = {
            // Not BLAKE3: this one is computed by reading the storage.
            use sha2::Digest as _;
            let digest = sha2::Sha256::digest(new.bytes(0..SIZE));
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha256={hex}").parse().unwrap()
        };
        let download = into_memory(&engine(), &origin, &shared)
            .directory(sandbox.work())
            .checksum(sha256)
            .start()
            .unwrap();
        let mut reader = download.reader();
        let summary = download.wait().await.unwrap();
        assert_eq!(*storage.begun.lock().unwrap(), [Some(SIZE); 2]);
        assert_eq!((summary.bytes, summary.output.as_os_str().is_empty()), (SIZE, true));
        assert_eq!(summary.blake3_hex(), Some(new.blake3_hex()));
        assert!(summary.verified.is_some());
        assert!(storage.synced.load(Ordering::Relaxed) > 0);
        storage.memory.with(|bytes| assert!(bytes == new.bytes(0..SIZE)));
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        assert!(bytes == new.bytes(0..SIZE), "readers read it");
        sandbox.assert_nothing_left();
    });
}

#[test]
fn an_object_without_a_size_ends_where_its_bytes_do() {
    leaks::checked(async {
        let object = Object::new(3, MIB + 77);
        let origin = {
            let object = object.clone();
            Origin::start(move |_, _| Answer::full(&object).chunked(true))
        };
        let storage = Counting::new();
        let shared: Arc<dyn Storage> = storage.clone();
        let summary =
            into_memory(&engine(), &origin, &shared).start().unwrap().wait().await.unwrap();
        assert_eq!(summary.bytes, MIB + 77);
        assert_eq!(*storage.begun.lock().unwrap(), [None]);
        assert!(storage.memory.take() == object.bytes(0..MIB + 77));
    });
}

#[test]
fn what_a_storage_cannot_keep_is_an_error_of_the_storage() {
    leaks::checked(async {
        let origin = Origin::serving(&object(SIZE));
        let small: Arc<dyn Storage> = Arc::new(MemoryStorage::new(1000));
        let error =
            into_memory(&engine(), &origin, &small).start().unwrap().wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
        assert!(error.to_string().contains("memory") && !error.is_resumable(), "{error}");
        assert!(!error.to_string().contains("secret"));
    });
}

/// HTTP with bodies that break off: each after so many bytes.
#[derive(Debug)]
struct Flaky {
    http: HttpTransport,
    after_bytes: usize,
    finished: Arc<AtomicUsize>,
}

impl Flaky {
    fn new(after_bytes: usize) -> Self {
        let http = HttpTransport::new(&EngineConfig::default()).unwrap();
        Self { http, after_bytes, finished: Arc::default() }
    }
}

struct BreaksOff {
    body: Pin<Box<dyn Body>>,
    left_bytes: usize,
    finished: Arc<AtomicUsize>,
}

impl Body for BreaksOff {
    fn poll_data(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>> {
        if self.left_bytes == 0 {
            let error = TransportError::new(TransportErrorKind::Reset, "it broke off");
            return Poll::Ready(Some(Err(error)));
        }
        match self.body.as_mut().poll_data(context) {
            Poll::Ready(Some(Ok(mut data))) => {
                data.truncate(self.left_bytes);
                self.left_bytes -= data.len();
                Poll::Ready(Some(Ok(data)))
            }
            other => other,
        }
    }

    fn left_bytes(&self) -> Option<u64> {
        self.body.left_bytes()
    }

    fn finish(self: Pin<Box<Self>>) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        let Self { body, .. } = *Pin::into_inner(self);
        body.finish();
    }
}

impl Transport for Flaky {
    fn send(&self, request: Request<()>) -> Answering<'_> {
        Box::pin(async move {
            let response = self.http.send(request).await?;
            let (left_bytes, finished) = (self.after_bytes, Arc::clone(&self.finished));
            let wrap =
                |body| -> Pin<Box<dyn Body>> { Box::pin(BreaksOff { body, left_bytes, finished }) };
            Ok(response.map(wrap))
        })
    }
}

#[test]
fn bodies_of_a_transport_that_break_off_are_continued() {
    leaks::checked(async {
        let object = object(SIZE);
        let origin = Origin::serving(&object);
        let flaky = Arc::new(Flaky::new(300_000));
        let engine =
            leaks::watched(Engine::with_transport(EngineConfig::default(), flaky.clone()).unwrap());
        let memory = MemoryStorage::new(1 << 30);
        let shared: Arc<dyn Storage> = Arc::new(memory.clone());
        let summary = into_memory(&engine, &origin, &shared).start().unwrap().wait().await.unwrap();
        assert!(memory.take() == object.bytes(0..SIZE));
        assert!(summary.requests >= SIZE / 300_000, "{} requests", summary.requests);
        let finished = flaky.finished.load(Ordering::Relaxed) as u64;
        assert!(finished < summary.requests, "what broke off is not finished");
    });
}

/// Refuses everything in one way.
#[derive(Debug)]
struct Refusing(TransportErrorKind);

impl Transport for Refusing {
    fn send(&self, _: Request<()>) -> Answering<'_> {
        let error = TransportError::new(self.0, "it will not");
        Box::pin(async move { Err(error) })
    }
}

#[test]
fn kinds_of_failures_of_a_transport_are_those_of_the_download() {
    leaks::checked(async {
        for (kind, expected) in [
            (TransportErrorKind::Tls, ErrorKind::Tls),
            (TransportErrorKind::ProxyRefused, ErrorKind::ProxyRefused),
            (TransportErrorKind::Connect, ErrorKind::Network),
            (TransportErrorKind::Unreachable, ErrorKind::Network),
            (TransportErrorKind::Reset, ErrorKind::Network),
            (TransportErrorKind::Protocol, ErrorKind::Protocol),
            (TransportErrorKind::WrongProtocol, ErrorKind::Protocol),
        ] {
            let refusing = Arc::new(Refusing(kind));
            let engine =
                leaks::watched(Engine::with_transport(EngineConfig::default(), refusing).unwrap());
            let retry = haul_engine::RetryPolicy {
                max_attempts: 2,
                base: std::time::Duration::from_millis(1),
                ..Default::default()
            };
            let download = engine.download("http://example.test/x").retry(retry).start().unwrap();
            let error = download.wait().await.unwrap_err();
            assert_eq!(error.kind(), expected, "{error}");
            assert!(error.to_string().contains("it will not"), "{error}");
        }
    });
}

#[test]
fn schemes_are_the_transports_and_no_server_leads_to_them() {
    leaks::checked(async {
        #[derive(Debug)]
        struct Both(HttpTransport);
        impl Transport for Both {
            fn send(&self, request: Request<()>) -> Answering<'_> {
                assert_ne!(request.uri().scheme_str(), Some("vault"), "nobody asked for that");
                self.0.send(request)
            }

            fn speaks(&self, scheme: &str) -> bool {
                matches!(scheme, "http" | "vault")
            }
        }
        let error = engine().download("shelf://here/x").start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let origin = Origin::start(|_, _| Answer::redirect(302, "vault://key/secret"));
        let both = Both(HttpTransport::new(&EngineConfig::default()).unwrap());
        let engine = leaks::watched(
            Engine::with_transport(EngineConfig::default(), Arc::new(both)).unwrap(),
        );
        let error = engine.download(&origin.url("/x")).start().unwrap().wait().await.unwrap_err();
        assert!(error.to_string().contains("scheme `vault`"), "{error}");
        assert!(engine.download("vault://key/secret").start().is_ok());
    });
}

#[test]
fn headers_and_logins_go_to_the_origin_of_a_scheme_of_the_programs_own() {
    leaks::checked(async {
        /// The host asked, and whether the request had header and login.
        #[derive(Debug, Default)]
        struct Noting(Mutex<Vec<(String, bool, bool)>>);
        impl Transport for Noting {
            fn send(&self, request: Request<()>) -> Answering<'_> {
                let host = request.uri().host().unwrap_or_default().to_owned();
                let has = |name| request.headers().contains_key(name);
                let noted = (host.clone(), has("x-mine"), has("authorization"));
                self.0.lock().unwrap().push(noted);
                let mut response = Response::builder().status(404);
                if host == "here" {
                    response = response.status(302).header("Location", "shelf://there/x");
                }
                Box::pin(async move { Ok(response.body(body_of("")).unwrap()) })
            }

            fn speaks(&self, scheme: &str) -> bool {
                scheme == "shelf"
            }
        }
        let noting = Arc::new(Noting::default());
        let transport: Arc<dyn Transport> = noting.clone();
        let engine =
            leaks::watched(Engine::with_transport(EngineConfig::default(), transport).unwrap());
        let download = engine.download("shelf://here/x").header("X-Mine", "1");
        let download = download.basic_auth("me", "secret").start().unwrap();
        download.wait().await.unwrap_err();
        let noted = noting.0.lock().unwrap();
        assert_eq!(noted[0], ("here".to_owned(), true, true));
        assert_eq!(noted[1], ("there".to_owned(), false, false));
    });
}

#[test]
fn a_response_is_judged_whoever_brings_it() {
    leaks::checked(async {
        /// Says that it begins where it does not.
        #[derive(Debug)]
        struct Liar;
        impl Transport for Liar {
            fn send(&self, _: Request<()>) -> Answering<'_> {
                let response = Response::builder()
                    .status(206)
                    .header("content-range", "bytes 5-9/10")
                    .body(haul_engine::transport::body_of(&b"wrong"[..]));
                Box::pin(async move { Ok(response.unwrap()) })
            }
        }
        let engine = leaks::watched(
            Engine::with_transport(EngineConfig::default(), Arc::new(Liar)).unwrap(),
        );
        let memory = MemoryStorage::new(1000);
        let retry = haul_engine::RetryPolicy {
            max_attempts: 2,
            base: std::time::Duration::from_millis(1),
            ..Default::default()
        };
        let download = engine.download("http://example.test/x").retry(retry);
        let download = download.store_in(Arc::new(memory.clone()));
        download.start().unwrap().wait().await.unwrap_err();
        memory.with(|bytes| assert!(bytes.is_empty()));
    });
}

#[test]
fn observers_are_called_in_order_before_the_listener_and_the_last_event_before_the_end() {
    leaks::checked(async {
        struct Named(&'static str, Arc<Mutex<Vec<String>>>);
        impl Observer for Named {
            fn event(&self, _: DownloadId, event: &Event) {
                let word = match event {
                    Event::Started(_) => "started",
                    Event::Completed(_) => "completed",
                    _ => return,
                };
                self.1.lock().unwrap().push(format!("{} {word}", self.0));
            }

            fn progress(&self, _: DownloadId, progress: &Progress) {
                assert!(progress.total_bytes.is_none_or(|total| progress.bytes <= total));
                let mut calls = self.1.lock().unwrap();
                if !calls.iter().any(|call| call == "progress") {
                    calls.push("progress".to_owned());
                }
            }
        }
        let origin = Origin::serving(&object(SIZE));
        let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new(1 << 30));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let download = into_memory(&engine(), &origin, &memory)
            .observe(Named("first", Arc::clone(&calls)))
            .observe(Named("second", Arc::clone(&calls)))
            .start()
            .unwrap();
        download.wait().await.unwrap();
        let calls = std::mem::take(&mut *calls.lock().unwrap());
        assert!(calls.iter().any(|call| call == "progress"));
        let events: Vec<&String> = calls.iter().filter(|call| *call != "progress").collect();
        assert_eq!(
            events,
            ["first started", "second started", "first completed", "second completed"]
        );
    });
}

#[test]
fn an_observer_that_panics_ends_its_download_only() {
    leaks::checked(async {
        let object = object(SIZE);
        let origin = Origin::serving(&object);
        let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new(1 << 30));
        let engine = engine();
        let panics = |event: &Event| assert!(!matches!(event, Event::Started(_)), "as it is to");
        let download = into_memory(&engine, &origin, &memory).observe(panics).start().unwrap();
        let mut events = download.events();
        let error = download.wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Callback, "{error}");
        assert!(error.to_string().contains("the program's own observer panicked"), "{error}");
        let last = last_event(&mut events).await;
        assert!(matches!(last, Some(Event::Failed { .. })), "{last:?}");
        let sandbox = Sandbox::new();
        let again = engine.download(&origin.url("/file")).directory(sandbox.work());
        again.start().unwrap().wait().await.unwrap();
        sandbox.assert_published("file", &object);
    });
}

#[test]
fn a_refresh_that_panics_ends_its_download_and_keeps_what_is_here() {
    leaks::checked(async {
        let object = object(SIZE);
        // The link expires when the beginning of the object is here.
        let origin = Origin::start(move |request, context| match context.index {
            0 => standard(&object, request).cut(4 * MIB, End::Close),
            _ => Answer::empty(403),
        });
        let sandbox = Sandbox::new();
        let running = engine()
            .download(&origin.url("/film.mp4?signature=secret"))
            .directory(sandbox.work())
            .connections(Connections::Fixed(1))
            .refresh(|_: String| async {
                if std::hint::black_box(true) {
                    panic!("a defect of the program's refresh, on purpose");
                }
                Ok::<String, io::Error>(String::new())
            })
            .start()
            .unwrap();
        let error = running.wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Callback, "{error}");
        assert!(error.to_string().contains("own refresh function panicked"), "{error}");
        assert!(error.is_resumable(), "{error}");
        sandbox.assert_kept("film.mp4");
    });
}
