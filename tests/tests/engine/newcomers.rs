//! What a program's author reaches for first: reading an object where it is, steering from
//! another task, waiting twice, streams, progress, and an engine that is shut down.

use std::future::poll_fn;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_core::Stream;
use haul_engine::{Error, ErrorKind, Event, RetryPolicy};
use haul_tests::origin::closed_port;
use haul_tests::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

const SIZE: u64 = 16 * MIB + 4321;
const KIB: u64 = 1 << 10;

fn kind(error: &io::Error) -> Option<ErrorKind> {
    error.get_ref()?.downcast_ref::<Error>().map(Error::kind)
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

#[test]
fn of_an_object_that_is_opened_only_what_is_read_is_fetched() {
    leaks::checked(async {
        let object = object(SIZE);
        let origin = Origin::serving(&object);
        let mut reader = engine().open(&origin.url("/film?secret")).await.unwrap();
        assert_eq!(reader.total_bytes(), SIZE);
        assert_eq!(reader.metadata().etag.as_deref(), object.etag());
        assert_eq!(reader.metadata().total_bytes, Some(SIZE));

        let mut end = Vec::new();
        reader.seek(SeekFrom::End(-22)).await.unwrap();
        reader.read_to_end(&mut end).await.unwrap();
        assert_eq!(end, object.bytes(SIZE - 22..SIZE));
        assert_eq!(reader.position(), SIZE);
        assert!(reader.fetched_bytes() <= 2 * 64 * KIB, "{} bytes", reader.fetched_bytes());
        assert_eq!(reader.fetched_bytes(), origin.sent_bytes());

        // What was just read is read again without a request, here and by a clone.
        let asked = origin.requests().len();
        let mut other = reader.clone();
        for reader in [&mut reader, &mut other] {
            let mut again = [0; 100];
            reader.seek(SeekFrom::End(-1000)).await.unwrap();
            reader.read_exact(&mut again).await.unwrap();
            assert_eq!(again[..], object.bytes(SIZE - 1000..SIZE - 900));
        }
        assert_eq!(origin.requests().len(), asked);

        // In order, fewer and larger parts are fetched, and nothing twice.
        let before = reader.fetched_bytes();
        let mut middle = vec![0; 5 * MIB as usize];
        reader.seek(SeekFrom::Start(4 * MIB)).await.unwrap();
        reader.read_exact(&mut middle).await.unwrap();
        assert!(middle == object.bytes(4 * MIB..9 * MIB));
        let fetched = reader.fetched_bytes() - before;
        assert!(fetched < 6 * MIB, "{fetched} bytes for 5 MiB");
        assert!(origin.requests().len() - asked < 12, "{} requests", origin.requests().len());
    });
}

#[test]
fn an_opened_object_is_read_beyond_its_end_and_before_its_start_like_a_file() {
    leaks::checked(async {
        let object = object(100 * KIB);
        let origin = Origin::serving(&object);
        let mut reader = engine().open(&origin.url("/film")).await.unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        assert!(all == object.bytes(0..100 * KIB));
        reader.seek(SeekFrom::Start(200 * KIB)).await.unwrap();
        assert_eq!(reader.read(&mut [0; 10]).await.unwrap(), 0);
        let before = reader.seek(SeekFrom::End(-101 * KIB as i64)).await;
        assert_eq!(before.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn bytes_of_two_versions_are_never_read_from_an_opened_object() {
    leaks::checked(async {
        let changed = Arc::new(AtomicBool::new(false));
        let (old, new) = (Object::new(1, SIZE), Object::new(2, SIZE));
        let origin = {
            let changed = Arc::clone(&changed);
            Origin::start(move |request, _| {
                let now = if changed.load(Ordering::SeqCst) { &new } else { &old };
                standard(now, request)
            })
        };
        let mut reader = engine().open(&origin.url("/film")).await.unwrap();
        reader.read_exact(&mut [0; 100]).await.unwrap();
        changed.store(true, Ordering::SeqCst);
        reader.seek(SeekFrom::Start(8 * MIB)).await.unwrap();
        let failed = reader.read_exact(&mut [0; 100]).await.unwrap_err();
        assert_eq!(kind(&failed), Some(ErrorKind::ObjectChanged), "{failed}");
    });
}

#[test]
fn an_object_of_no_known_version_is_opened_only_if_one_response_has_all_of_it() {
    leaks::checked(async {
        for (size, opens) in [(SIZE, false), (10 * KIB, true)] {
            let object = Object::new(1, size).with_etag(None).with_last_modified(None);
            let origin = Origin::serving(&object);
            match engine().open(&origin.url("/film")).await {
                Ok(mut reader) if opens => {
                    let mut all = Vec::new();
                    reader.read_to_end(&mut all).await.unwrap();
                    assert!(all == object.bytes(0..size));
                }
                Err(error) if !opens => {
                    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
                    assert!(
                        error.hint().is_some_and(|hint| hint.to_string().contains("stream")),
                        "{error}"
                    );
                }
                other => panic!("{size} bytes: {other:?}"),
            }
        }
    });
}

#[test]
fn an_empty_object_is_opened_as_an_empty_reader() {
    leaks::checked(async {
        let origin = Origin::serving(&object(0));
        let mut reader = engine().open(&origin.url("/nothing")).await.unwrap();
        assert_eq!(reader.total_bytes(), 0);
        assert_eq!(reader.read(&mut [0; 10]).await.unwrap(), 0);
    });
}

#[test]
fn threads_open_an_object_too() {
    leaks::guarded(|| {
        let object = object(SIZE);
        let origin = Origin::serving(&object);
        let engine = haul_engine::blocking::Engine::new(haul_engine::EngineConfig::default());
        let mut reader = engine.unwrap().open(&origin.url("/film")).unwrap();
        let mut bytes = [0; 1000];
        reader.seek(SeekFrom::Start(7 * MIB)).unwrap();
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes[..], object.bytes(7 * MIB..7 * MIB + 1000));
        assert!(origin.sent_bytes() <= 2 * 64 * KIB, "{} bytes", origin.sent_bytes());
    });
}

#[test]
fn any_task_may_cancel_while_others_wait_and_all_hear_the_same_end() {
    leaks::checked(async {
        let throttle = Throttle::new(8 * MIB).crawling_after(6 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let engine = engine();
        let download = engine.download(&origin.url("/film")).output(sandbox.path("film"));
        let download = download.start().unwrap();
        until_bytes(&download, 4 * MIB).await;
        let control = download.control();
        let other = control.clone();
        let canceller = tokio::spawn(async move { other.cancel().await });
        let (first, second) = tokio::join!(download.wait(), download.wait());
        let (first, second) = (first.unwrap_err(), second.unwrap_err());
        assert_eq!(first.kind(), ErrorKind::Cancelled);
        assert_eq!(first.to_string(), second.to_string());
        let checkpoint = canceller.await.unwrap().unwrap();
        assert_eq!(checkpoint, Some(sandbox.checkpoint("film")));
        assert_eq!(first.checkpoint(), checkpoint.as_deref());
        // Later it is still the same, and nothing is there to cancel.
        assert_eq!(download.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(control.cancel().await.unwrap(), checkpoint);
    });
}

#[test]
fn a_control_does_not_keep_a_download_that_was_dropped_going() {
    leaks::checked(async {
        let throttle = Throttle::new(8 * MIB).crawling_after(6 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let download = engine().download(&origin.url("/film")).output(sandbox.path("film"));
        let download = download.start().unwrap();
        until_bytes(&download, MIB).await;
        let control = download.control();
        drop(download);
        // It waits for what the drop began, which records what is stored.
        assert_eq!(control.cancel().await.unwrap(), Some(sandbox.checkpoint("film")));
    });
}

#[test]
fn a_download_is_awaited_like_any_future_and_streams_like_any_stream() {
    leaks::checked(async {
        let object = object(SIZE);
        let origin = Origin::serving(&object);
        let sandbox = Sandbox::new();
        let engine = engine();
        let download = engine.download(&origin.url("/film")).output(sandbox.path("film"));
        let download = download.start().unwrap();
        let mut events = download.events();
        assert_eq!(download.await.unwrap().bytes, SIZE);
        sandbox.assert_published("film", &object);
        let mut last = None;
        while let Some(event) = next(&mut events).await {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::Completed(_))), "{last:?}");

        let (download, mut stream) = engine.download(&origin.url("/film")).stream().unwrap();
        let mut all = Vec::new();
        while let Some(bytes) = next(&mut stream).await {
            all.extend_from_slice(&bytes.unwrap());
        }
        assert!(all == object.bytes(0..SIZE));
        assert_eq!(download.await.unwrap().bytes, SIZE);
    });
}

#[test]
fn progress_and_events_say_which_download_they_are_of() {
    leaks::checked(async {
        let origin = Origin::throttled(&object(4 * MIB), &Throttle::new(16 * MIB));
        let sandbox = Sandbox::new();
        let engine = engine();
        let heard: Arc<Mutex<Vec<haul_engine::DownloadId>>> = Arc::default();
        let most = Arc::new(AtomicU64::new(0));
        struct Ids(Arc<Mutex<Vec<haul_engine::DownloadId>>>);
        impl haul_engine::Observer for Ids {
            fn event(&self, id: haul_engine::DownloadId, event: &Event) {
                if matches!(event, Event::Completed(_)) {
                    self.0.lock().unwrap().push(id);
                }
            }
        }
        let mut ids = Vec::new();
        for name in ["one", "two"] {
            let seen = Arc::clone(&most);
            let download = engine.download(&origin.url("/film")).output(sandbox.path(name));
            let download = download
                .observe(Ids(Arc::clone(&heard)))
                .on_progress(move |progress| {
                    seen.fetch_max(progress.bytes, Ordering::Relaxed);
                })
                .start()
                .unwrap();
            ids.push(download.id());
            download.wait().await.unwrap();
        }
        assert_ne!(ids[0], ids[1]);
        assert_eq!(*heard.lock().unwrap(), ids);
        assert!(most.load(Ordering::Relaxed) > 0);
    });
}

#[test]
fn an_engine_that_is_shut_down_records_what_runs_and_begins_nothing() {
    leaks::checked(async {
        let throttle = Throttle::new(16 * MIB).crawling_after(16 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let engine = engine();
        let start =
            |name: &str| engine.download(&origin.url("/film")).output(sandbox.path(name)).start();
        let running = [start("one").unwrap(), start("two").unwrap()];
        for download in &running {
            until_bytes(download, 2 * MIB).await;
        }
        engine.clone().shutdown().await;
        for (name, download) in ["one", "two"].into_iter().zip(running) {
            assert!(sandbox.checkpoint(name).exists(), "it is recorded by then");
            let error = download.wait().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cancelled);
            assert!(error.is_resumable());
        }
        assert_eq!(start("three").unwrap_err().kind(), ErrorKind::Cancelled);
        engine.shutdown().await;
    });
}

#[test]
fn failures_of_the_network_are_told_apart() {
    leaks::checked(async {
        let retry = RetryPolicy {
            max_attempts: 1,
            base: Duration::from_millis(1),
            ..RetryPolicy::default()
        };
        let sandbox = Sandbox::new();
        let engine = engine();
        let failure = async |url: &str| {
            let download = engine.download(url).output(sandbox.path("film")).retry(retry);
            let download = download.stall_timeout(Duration::from_millis(300)).start().unwrap();
            download.wait().await.unwrap_err()
        };
        let refused = failure(&format!("http://127.0.0.1:{}/film", closed_port())).await;
        assert!(refused.is_connect() && !refused.is_dns() && !refused.is_timeout(), "{refused}");

        let gate = Gate::new();
        let (object, held) = (object(SIZE), gate.clone());
        let silent = Origin::start(move |_, _| Response::full(&object).stall(MIB, &held));
        let stalled = failure(&silent.url("/film")).await;
        assert!(stalled.is_timeout() && !stalled.is_connect(), "{stalled}");
        gate.open();

        let missing = Origin::start(|_, _| Response::empty(404));
        let missing = failure(&missing.url("/film")).await;
        assert!(!missing.is_connect() && !missing.is_timeout() && !missing.is_dns(), "{missing}");
    });
}
