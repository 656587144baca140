//! The engine in programs without a runtime, and what it does inside one.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use haul_engine::blocking::{Download, DownloadBuilder, Engine};
use haul_engine::{Connections, EngineConfig, ErrorKind, Event};
use haul_tests::prelude::*;

const SIZE: u64 = 16 * MIB + 4321;

fn engine() -> Engine {
    leaks::watched_blocking(Engine::new(EngineConfig::default()).expect("defaults are valid"))
}

fn download(engine: &Engine, origin: &Origin, sandbox: &Sandbox) -> DownloadBuilder {
    engine
        .download(&origin.url("/file"))
        .directory(sandbox.work())
        .output("file")
        .connections(Connections::Fixed(4))
}

fn until_bytes(download: &Download, bytes: u64) {
    while download.progress().bytes < bytes {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_download_is_followed_read_and_waited_for() {
    leaks::guarded(|| {
        let origin = Origin::serving(&object(SIZE));
        let sandbox = Sandbox::new();
        let running = download(&engine(), &origin, &sandbox).start().unwrap();
        assert_eq!(running.opened().unwrap().total_bytes, Some(SIZE));
        let mut reader = running.reader();
        let mut end = Vec::new();
        assert_eq!(reader.seek(SeekFrom::End(-1000)).unwrap(), SIZE - 1000);
        reader.read_to_end(&mut end).unwrap();
        assert_eq!(end, object(SIZE).bytes(SIZE - 1000..SIZE));

        let summary = running.wait().unwrap();
        assert_eq!(summary.blake3_hex(), Some(object(SIZE).blake3_hex()));
        assert_eq!(running.wait().unwrap().bytes, SIZE, "and again");
        sandbox.assert_published("file", &object(SIZE));
        assert_eq!(running.progress().bytes, SIZE);
        let events: Vec<Event> = running.events().collect();
        assert!(matches!(events.first(), Some(Event::Started(_))), "{events:?}");
        assert!(matches!(events.last(), Some(Event::Completed(_))), "{events:?}");

        // Readers of what is published need nothing but the file.
        drop(running);
        reader.rewind().unwrap();
        assert_eq!(object(SIZE).compare_reader(&mut reader, 0..SIZE).unwrap(), None);
    });
}

#[test]
fn an_object_is_streamed_in_order() {
    leaks::guarded(|| {
        let origin = Origin::serving(&object(SIZE));
        let sandbox = Sandbox::new();
        let (running, mut stream) = download(&engine(), &origin, &sandbox).stream().unwrap();
        assert_eq!(object(SIZE).compare_reader(&mut stream, 0..SIZE).unwrap(), None);
        assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0, "the end");
        assert_eq!(running.wait().unwrap().blake3_hex(), Some(object(SIZE).blake3_hex()));
        sandbox.assert_nothing_left();
    });
}

#[test]
fn one_thread_waits_while_others_steer_and_cancel() {
    leaks::guarded(|| {
        let throttle = Throttle::new(4 * MIB).crawling_after(4 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let engine = engine();
        let running = download(&engine, &origin, &sandbox).start().unwrap();
        thread::scope(|scope| {
            let waiting = [0, 1].map(|_| scope.spawn(|| running.wait().unwrap_err()));
            until_bytes(&running, 3 * MIB);
            running.pause();
            let paused = |event: Event| matches!(event, Event::Paused);
            assert!(running.events().any(paused), "it ended before");
            assert!(running.wait_timeout(Duration::from_millis(20)).is_none());
            assert!(running.wait_timeout(Duration::ZERO).is_none());
            let cancelled = scope.spawn(|| running.cancel().unwrap());
            assert_eq!(cancelled.join().unwrap(), Some(sandbox.checkpoint("file")));
            for error in waiting.map(|waiting| waiting.join().unwrap()) {
                assert_eq!(error.kind(), ErrorKind::Cancelled);
                assert_eq!(error.checkpoint(), Some(&*sandbox.checkpoint("file")));
            }
        });
        let ended = running.wait_timeout(Duration::MAX).expect("it has ended");
        assert!(ended.unwrap_err().is_resumable());

        throttle.lift();
        let summary = download(&engine, &origin, &sandbox).start().unwrap().wait().unwrap();
        assert!(summary.resumed_bytes >= 3 * MIB, "{} bytes", summary.resumed_bytes);
        sandbox.assert_published("file", &object(SIZE));
    });
}

#[test]
fn removed_twice_nothing_is_left_and_nothing_is_wrong() {
    leaks::guarded(|| {
        let throttle = Throttle::new(2 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let engine = engine();
        for cancelled_before in [false, true] {
            throttle.allow(4 * MIB);
            let running = download(&engine, &origin, &sandbox).start().unwrap();
            until_bytes(&running, 2 * MIB);
            if cancelled_before {
                running.cancel().unwrap().expect("a checkpoint");
                sandbox.assert_kept("file");
            }
            running.cancel_and_remove().unwrap();
            sandbox.assert_nothing_left();
            running.cancel_and_remove().unwrap();
        }
    });
}

#[test]
fn dropped_with_its_engine_a_download_goes_on_at_once_in_another() {
    leaks::guarded(|| {
        let throttle = Throttle::new(4 * MIB).crawling_after(7 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let engine = engine();
        let running = download(&engine, &origin, &sandbox).start().unwrap();
        let listener = {
            let events = running.events();
            thread::spawn(move || events.last())
        };
        until_bytes(&running, 5 * MIB);
        let had = running.progress().bytes;
        drop(engine);
        drop(running);
        throttle.lift();
        let summary = download(&self::engine(), &origin, &sandbox).start().unwrap().wait().unwrap();
        assert!(summary.resumed_bytes >= had, "{} of {had} bytes", summary.resumed_bytes);
        sandbox.assert_published("file", &object(SIZE));
        let last = listener.join().unwrap();
        assert!(matches!(last, Some(Event::Failed { resumable: true, .. })), "{last:?}");
    });
}

#[test]
fn errors_come_before_anything_is_done_or_from_waiting() {
    leaks::guarded(|| {
        let origin = Origin::start(|_, _| Response::empty(404));
        let sandbox = Sandbox::new();
        let engine = engine();
        let error = engine.download("ftp://127.0.0.1/x").start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let running = download(&engine, &origin, &sandbox).start().unwrap();
        assert!(running.opened().is_err());
        assert_eq!(running.wait().unwrap_err().http_status(), Some(404));
        let error = download(&engine, &origin, &sandbox).plan().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HttpStatus);
        sandbox.assert_nothing_left();

        let honest = Origin::serving(&object(SIZE));
        let error = download(&engine, &honest, &sandbox).bytes(1000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitReached);
        let small = Object::new(2, 1000);
        let bytes = download(&engine, &Origin::serving(&small), &sandbox).bytes(1000).unwrap();
        assert_eq!(bytes, small.bytes(0..1000));
        let plan = download(&engine, &honest, &sandbox).plan().unwrap();
        assert_eq!((plan.total_bytes, plan.ranges), (Some(SIZE), true));
    });
}

/// Waiting where tasks are driven is a panic, not a deadlock, and harms nothing.
async fn inside_a_runtime() {
    let throttle = Throttle::new(8 * MIB).crawling_after(2 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let engine = engine();
    let running = download(&engine, &origin, &sandbox).start().unwrap();
    let mut reader = running.reader();
    let panics: [&mut dyn FnMut(); 6] = [
        &mut || drop(running.wait()),
        &mut || drop(running.wait_timeout(Duration::ZERO)),
        &mut || drop(running.opened()),
        &mut || drop(running.events().next()),
        &mut || drop(reader.read(&mut [0; 10])),
        &mut || drop(download(&engine, &origin, &sandbox).plan()),
    ];
    for call in panics {
        let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        assert!(text.contains("within a runtime"), "{text}");
    }
    assert!(running.progress().bytes < SIZE, "nothing of this waits");
    throttle.lift();
    // On a thread that may block everything goes on as ever.
    let running = tokio::task::spawn_blocking(move || {
        running.wait().unwrap();
        running
    });
    let running = running.await.unwrap();
    sandbox.assert_published("file", &object(SIZE));
    // The last drop ends a runtime, inside a runtime.
    drop((engine, running));
}

#[test]
fn inside_a_current_thread_runtime_waiting_panics() {
    leaks::checked(inside_a_runtime());
}

#[test]
fn inside_a_multi_thread_runtime_waiting_panics() {
    leaks::checked_in_threads(inside_a_runtime());
}
