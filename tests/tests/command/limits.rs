//! Limits that the user sets: sizes, times, the smallest part, where blocks are reserved.

use std::time::{Duration, Instant};

use haul_tests::prelude::*;

const SIZE: u64 = 6 * MIB + 99;

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-o", "file"]).arg(origin.url("/file"))
}

#[test]
fn an_object_of_another_size_than_expected_is_not_begun() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    let outcome = command(&sandbox, &origin).args(["--expect-size", "6M"]).run();
    outcome
        .expect(12)
        .expect_message("6 MiB (6291555 bytes), and 6 MiB (6291456 bytes) were expected");
    sandbox.assert_nothing_left();
    let outcome = command(&sandbox, &origin).args(["--expect-size", "6291555"]).run();
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn a_larger_object_than_allowed_is_not_begun() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    let outcome = command(&sandbox, &origin).args(["--max-filesize", "6291554"]).run();
    outcome.expect(12).expect_message("6 MiB (6291554 bytes) are allowed");
    assert_eq!(outcome.event("error")["code"], "limit-reached");
    sandbox.assert_nothing_left();
    command(&sandbox, &origin).args(["--max-filesize", "6291555"]).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn an_object_of_unknown_size_ends_where_it_becomes_too_large() {
    let origin = Origin::start(|_, _| {
        Response::full(&object(SIZE))
            .without("Content-Length")
            .without("Accept-Ranges")
            .chunked(true)
    });
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin).args(["--max-filesize", "1M"]).run();
    outcome.expect(12).expect_message("MiB or more, and 1 MiB");
    sandbox.assert_unpublished("file");
    assert_eq!(outcome.event("error")["resumable"], false);
    command(&sandbox, &origin).args(["--max-filesize", "7M", "--overwrite"]).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn a_download_ends_with_its_time_and_continues() {
    let throttle = Throttle::new(MIB).crawling_after(2 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let begun = Instant::now();
    let outcome = command(&sandbox, &origin).args(["-x1", "--max-time", "3500ms"]).run();
    outcome.expect(12).expect_message("not complete after 3.5 s");
    assert!(begun.elapsed() >= Duration::from_millis(3500));
    assert_eq!(outcome.event("error")["resumable"], true);
    sandbox.assert_kept("file");
    throttle.lift();
    let outcome = command(&sandbox, &origin).args(["--max-time", "100"]).run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() >= MIB / 2, "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn a_server_that_is_silent_is_left_with_the_time() {
    let sandbox = Sandbox::new();
    let origin = Origin::start(|_, _| Response::full(&object(SIZE)).delay(Duration::from_secs(60)));
    for arg in ["--no-config", "--dry-run"] {
        let haul = command(&sandbox, &origin).args(["--stall-timeout", "50", arg]);
        haul.args(["--max-time", "300ms"]).run().expect(12);
    }
    sandbox.assert_nothing_left();
}

#[test]
fn no_round_of_retrying_begins_after_its_time() {
    let sandbox = Sandbox::new();
    let origin = Origin::start(|_, _| Response::hang_up(End::Reset));
    let begun = Instant::now();
    let haul = command(&sandbox, &origin).args(["--retry", "1000", "--retry-max-time", "2"]);
    let outcome = haul.run();
    outcome.expect(4);
    let rounds = outcome.all("retry").count();
    assert!((1..=2).contains(&rounds), "{rounds} rounds in 2 s\n{outcome}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn no_part_is_smaller_than_asked_for() {
    let object = Object::new(1, 32 * MIB);
    let throttle = Throttle::new(4 * MIB);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = Sandbox::new();
    let haul = command(&sandbox, &origin).args(["-x", "8", "--min-split-size", "16M"]);
    let outcome = haul.run();
    outcome.expect(0);
    let starts: Vec<u64> = origin.requests().iter().map(|it| it.request.start()).collect();
    assert_eq!(starts, [0, 16 * MIB], "{outcome}");
    sandbox.assert_published("file", &object);
    assert_well_asked(&origin);
}

#[test]
fn blocks_are_reserved_as_asked_for() {
    use std::os::unix::fs::MetadataExt as _;
    for (how, reserved) in [("auto", true), ("falloc", true), ("none", false)] {
        let throttle = Throttle::new(MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let haul = command(&sandbox, &origin).args(["-x1", "--file-allocation", how]);
        let mut running = haul.start();
        running.wait_until("some bytes are here", |running| running.bytes() >= MIB / 4);
        let part = std::fs::metadata(sandbox.part("file")).unwrap();
        throttle.lift();
        running.finish().expect(0);
        assert_eq!(part.len(), SIZE, "{how}");
        assert_eq!(part.blocks() * 512 >= SIZE, reserved, "{how}: {} blocks", part.blocks());
        sandbox.assert_published("file", &object(SIZE));
    }
}
