//! Steering a running download.

use std::num::NonZeroU64;
use std::time::Duration;

use haul_engine::{Connections, DownloadBuilder, Event, Events, ValidatorKind};
use haul_tests::prelude::*;

const SIZE: u64 = 16 * MIB + 4321;

fn object() -> Object {
    Object::new(1, SIZE).with_content_type("video/mp4")
}

fn download(origin: &Origin, sandbox: &Sandbox) -> DownloadBuilder {
    engine()
        .download(&origin.url("/film.mp4?signature=secret"))
        .directory(sandbox.work())
        .output("film.mp4")
        .connections(Connections::Fixed(4))
}

async fn until_event(events: &mut Events, what: impl Fn(&Event) -> bool) {
    while let Some(event) = events.next().await {
        if what(&event) {
            return;
        }
    }
    panic!("the download ended first");
}

#[test]
fn paused_nothing_is_received_and_resumed_it_goes_on() {
    leaks::checked(async {
        let object = object();
        let throttle = Throttle::new(2 * MIB).crawling_after(7 * MIB);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox).start().unwrap();
        let mut events = running.events();
        until_bytes(&running, 5 * MIB).await;
        running.pause();
        until_event(&mut events, |event| matches!(event, Event::Paused)).await;
        let (progress, requests) = (running.progress(), origin.requests().len());
        assert!(progress.paused);
        assert_eq!((progress.connections, progress.bytes_per_second), (0, 0.0));
        // What came is recorded: another process could go on with a copy of it.
        let recorded = || haul_engine::verify_partial(&sandbox.path("copy"), false);
        loop {
            std::fs::copy(sandbox.part("film.mp4"), sandbox.part("copy")).unwrap();
            std::fs::copy(sandbox.checkpoint("film.mp4"), sandbox.checkpoint("copy")).unwrap();
            let report = recorded().unwrap();
            assert!(report.bad.is_empty());
            if report.claimed_bytes == progress.bytes {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for name in [sandbox.part("copy"), sandbox.checkpoint("copy")] {
            std::fs::remove_file(name).unwrap();
        }
        assert_eq!(origin.requests().len(), requests, "nothing was asked for meanwhile");
        assert_eq!(running.progress().bytes, progress.bytes, "and nothing came");

        throttle.lift();
        running.resume();
        until_event(&mut events, |event| matches!(event, Event::Resumed)).await;
        let summary = running.wait().await.unwrap();
        sandbox.assert_published("film.mp4", &object);
        assert_eq!(summary.retries, 0, "a pause is no failure");
        // Each of four connections may have had some bytes in the socket.
        assert!(summary.fetched_bytes < SIZE + 4 * MIB, "{} bytes", summary.fetched_bytes);
    });
}

#[test]
fn a_download_may_be_paused_before_it_begins_and_dropped_while_it_is() {
    leaks::checked(async {
        let object = object();
        let origin = Origin::serving(&object);
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox).start().unwrap();
        let mut events = running.events();
        running.pause();
        until_event(&mut events, |event| matches!(event, Event::Paused)).await;
        running.resume();
        running.wait().await.unwrap();
        sandbox.assert_published("film.mp4", &object);

        let sandbox = Sandbox::new();
        let throttle = Throttle::new(2 * MIB).crawling_after(4 * MIB);
        let origin = Origin::throttled(&object, &throttle);
        let running = download(&origin, &sandbox).start().unwrap();
        let mut events = running.events();
        until_bytes(&running, 2 * MIB).await;
        running.pause();
        until_event(&mut events, |event| matches!(event, Event::Paused)).await;
        let had = running.progress().bytes;
        assert_eq!(running.cancel().await.unwrap(), Some(sandbox.checkpoint("film.mp4")));
        throttle.lift();
        let summary = download(&origin, &sandbox).start().unwrap().wait().await.unwrap();
        assert_eq!(summary.resumed_bytes, had);
    });
}

#[test]
fn a_plain_stream_that_was_paused_begins_again() {
    leaks::checked(async {
        let object = object();
        let gate = Gate::new();
        let origin = {
            let (object, gate) = (object.clone(), gate.clone());
            Origin::start(move |_, _| {
                Response::full(&object).without("Accept-Ranges").stall(3 * MIB, &gate)
            })
        };
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox).start().unwrap();
        let mut events = running.events();
        until_bytes(&running, 2 * MIB).await;
        running.pause();
        until_event(&mut events, |event| matches!(event, Event::Paused)).await;
        gate.open();
        running.resume();
        running.wait().await.unwrap();
        sandbox.assert_published("film.mp4", &object);
    });
}

#[test]
fn connections_can_be_changed() {
    leaks::checked(async {
        let object = Object::new(1, 64 * MIB);
        let throttle = Throttle::new(MIB / 4);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox).start().unwrap();
        let until = async |connections: usize| {
            while running.progress().connections != connections {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        until(4).await;
        running.set_connections(Connections::Fixed(1));
        until(1).await;
        running.set_connections(Connections::Fixed(9));
        until(9).await;
        throttle.lift();
        let summary = running.wait().await.unwrap();
        assert_eq!(summary.connections, 9);
        sandbox.assert_published("film.mp4", &object);
    });
}

#[test]
fn the_rate_can_be_changed() {
    leaks::checked(async {
        let object = object();
        let origin = Origin::serving(&object);
        let sandbox = Sandbox::new();
        let start = std::time::Instant::now();
        let running = download(&origin, &sandbox).limit_rate(2 * MIB).start().unwrap();
        until_bytes(&running, 2 * MIB).await;
        // Each connection has one batch in hand; the bucket lends a little as well.
        assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
        // Connections wait for hours at this rate, and still go on when it is lifted.
        running.limit_rate(NonZeroU64::new(1));
        running.limit_rate(None);
        running.wait().await.unwrap();
        sandbox.assert_published("film.mp4", &object);
    });
}

#[test]
fn cancelled_and_removed_nothing_is_left() {
    leaks::checked(async {
        let object = object();
        let throttle = Throttle::new(2 * MIB).crawling_after(4 * MIB);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox).start().unwrap();
        until_bytes(&running, 2 * MIB).await;
        running.cancel_and_remove().await.unwrap();
        sandbox.assert_nothing_left();

        // Of an earlier run as well, before the server has answered this one.
        throttle.allow(4 * MIB);
        let running = download(&origin, &sandbox).start().unwrap();
        until_bytes(&running, 2 * MIB).await;
        running.cancel().await.unwrap().expect("a checkpoint");
        sandbox.assert_kept("film.mp4");
        let silent = Origin::start(|_, _| Response::empty(200).delay(Duration::from_secs(3600)));
        let running = download(&silent, &sandbox).start().unwrap();
        while silent.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.cancel_and_remove().await.unwrap();
        sandbox.assert_nothing_left();

        // What is complete stays.
        throttle.lift();
        let running = download(&origin, &sandbox).start().unwrap();
        running.wait().await.unwrap();
        running.cancel_and_remove().await.unwrap();
        sandbox.assert_published("film.mp4", &object);
    });
}

#[test]
fn a_failed_download_can_be_removed_too() {
    leaks::checked(async {
        let object = object();
        let origin = {
            let object = object.clone();
            Origin::start(move |request, context| match context.index {
                0 => standard(&object, request).cut(4 * MIB, End::Close),
                _ => Response::empty(404),
            })
        };
        let sandbox = Sandbox::new();
        let running =
            download(&origin, &sandbox).connections(Connections::Fixed(1)).start().unwrap();
        let error = running.wait().await.unwrap_err();
        assert_eq!(error.http_status(), Some(404));
        assert!(error.is_resumable());
        assert_eq!(error.checkpoint(), Some(&*sandbox.checkpoint("film.mp4")));
        running.cancel_and_remove().await.unwrap();
        sandbox.assert_nothing_left();
    });
}

#[test]
fn metadata_tells_of_the_object_and_no_secret() {
    leaks::checked(async {
        let object = object();
        let origin = Origin::serving(&object);
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox).start().unwrap();
        assert!(running.metadata().is_none(), "nothing was asked yet");
        let metadata = running.opened().await.expect("the server answers");
        assert_eq!(metadata.name, "film.mp4");
        assert_eq!(metadata.output, sandbox.path("film.mp4"));
        assert_eq!(metadata.total_bytes, Some(SIZE));
        assert_eq!(metadata.content_type.as_deref(), Some("video/mp4"));
        assert_eq!(metadata.etag.as_deref(), object.etag());
        assert_eq!(metadata.validator, ValidatorKind::StrongEtag);
        assert!(metadata.ranges);
        assert_eq!(metadata.url, format!("{}?…", origin.url("/film.mp4")), "without its query");
        running.wait().await.unwrap();
        assert!(running.metadata().is_some(), "also when it is complete");

        let gone = Origin::start(|_, _| Response::empty(404));
        let running = download(&gone, &Sandbox::new()).start().unwrap();
        assert!(running.opened().await.is_err());
    });
}

#[test]
fn the_last_event_is_not_lost_when_nobody_listens_for_long() {
    leaks::checked(async {
        let origin = Origin::throttled(&object(), &Throttle::new(MIB / 16));
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox).start().unwrap();
        let mut events = running.events();
        for _ in 0..200 {
            running.pause();
            while !running.progress().paused {
                tokio::task::yield_now().await;
            }
            running.resume();
            while running.progress().paused {
                tokio::task::yield_now().await;
            }
        }
        let _ = running.cancel().await;
        let last = last_event(&mut events).await;
        assert!(matches!(last, Some(Event::Failed { .. })), "{last:?}");
    });
}
