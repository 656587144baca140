//! Continuing: what is fetched again, and what is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use haul_tests::harness::age_of;
use haul_tests::prelude::*;

const SIZE: u64 = 24 * MIB + 4321;

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file"]).arg(origin.url("/file"))
}

/// The second run asks for nothing that the first had stored. A steal near the
/// end may cost what the kernel held for a connection that was given up.
#[track_caller]
fn assert_only_the_rest_was_fetched(outcome: &Outcome, at_least_resumed: u64) {
    outcome.expect(0);
    let resumed = outcome.resumed_bytes();
    assert!(resumed >= at_least_resumed, "{resumed} of {at_least_resumed} bytes\n{outcome}");
    let fetched = outcome.fetched_bytes();
    assert!(fetched >= SIZE - resumed, "{fetched} bytes cannot be the rest\n{outcome}");
    assert!(fetched <= SIZE - resumed + 4 * MIB, "{fetched} bytes are too many\n{outcome}");
}

#[test]
fn interrupted_download_fetches_only_the_rest() {
    for storage in ["auto", "pwrite"] {
        let throttle = Throttle::new(4 * MIB).crawling_after(10 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let with_storage = || command(&sandbox, &origin).args(["--storage", storage]);
        interrupt(with_storage(), 8 * MIB);
        sandbox.assert_kept("file");
        let before = (origin.requests().len(), origin.sent_bytes());

        throttle.lift();
        let outcome = with_storage().run();
        assert_only_the_rest_was_fetched(&outcome, 8 * MIB);
        assert!(!outcome.has_notice("restarted"), "{outcome}");
        sandbox.assert_published("file", &object(SIZE));
        assert_well_asked(&origin);
        let sent = origin.sent_bytes() - before.1;
        assert!(sent <= SIZE - outcome.resumed_bytes() + 8 * MIB, "{sent} bytes were sent");
        for record in &origin.requests()[before.0..] {
            assert!(record.request.range().is_some(), "all of it was asked for: {record:?}");
            assert_eq!(record.request.header("If-Match"), object(SIZE).etag(), "{record:?}");
        }
        assert_eq!(outcome.event("complete")["blake3"], object(SIZE).blake3_hex(), "{outcome}");
    }
}

#[test]
fn many_interruptions_lose_nothing() {
    let throttle = Throttle::new(2 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    for step in 1..=4 {
        throttle.allow(5 * MIB);
        let outcome = interrupt(command(&sandbox, &origin), step * 4 * MIB);
        assert!(outcome.resumed_bytes() >= (step - 1) * 4 * MIB, "{outcome}");
    }
    throttle.lift();
    assert_only_the_rest_was_fetched(&command(&sandbox, &origin).run(), 16 * MIB);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn other_settings_continue_the_same_partial() {
    let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    interrupt(command(&sandbox, &origin).args(["--storage", "mmap"]), 6 * MIB);
    throttle.lift();
    let outcome = command(&sandbox, &origin).args(["-x", "1", "--storage", "pwrite"]).run();
    assert_only_the_rest_was_fetched(&outcome, 6 * MIB);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn continue_never_discards_the_partial() {
    let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    interrupt(command(&sandbox, &origin), 4 * MIB);
    throttle.lift();
    let outcome = command(&sandbox, &origin).arg("-c=never").run();
    outcome.expect(0);
    assert_eq!(outcome.resumed_bytes(), 0, "{outcome}");
    assert!(outcome.fetched_bytes() >= SIZE, "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn digest_is_checked_over_resumed_bytes_too() {
    let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let checksum = format!("blake3={}", object(SIZE).blake3_hex());
    let checked = || command(&sandbox, &origin).args(["--checksum", &checksum]);
    interrupt(checked(), 6 * MIB);
    throttle.lift();
    assert_only_the_rest_was_fetched(&checked().run(), 6 * MIB);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn partial_that_is_not_what_the_digest_says_is_fetched_again_once() {
    for (checksum, code) in [(object(SIZE).blake3_hex(), 0), ("0".repeat(64), 9)] {
        let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
        let (ahead, replaced) = (throttle.clone(), Arc::new(AtomicBool::new(false)));
        let now = Arc::clone(&replaced);
        // Another object of the same size, time and tag, as mirrors of nginx have them.
        let origin = Origin::start(move |request, _| {
            let seed = if now.load(Ordering::Relaxed) { 1 } else { 2 };
            ahead.apply(standard(&Object::new(seed, SIZE).with_etag(object(SIZE).etag()), request))
        });
        let sandbox = Sandbox::new();
        interrupt(command(&sandbox, &origin), 6 * MIB);
        let before = origin.sent_bytes();
        replaced.store(true, Ordering::Relaxed);
        throttle.lift();
        let outcome =
            command(&sandbox, &origin).args(["--checksum", &format!("blake3={checksum}")]).run();
        outcome.expect(code).expect_notice("restarted");
        assert!(origin.sent_bytes() - before < 2 * SIZE, "fetched again more than once\n{outcome}");
        match code {
            0 => sandbox.assert_published("file", &object(SIZE)),
            _ => sandbox.assert_nothing_left(),
        }
    }
}

/// A kill loses what came after the last checkpoint, which is at most a second
/// old, and what was in flight: for each connection the segment (1 MiB here)
/// that was not complete. Half a second more is allowed for a busy machine, and as much
/// as the last checkpoint is `late`, where the machine let nothing be written for longer.
fn lost_at_most(connections: u64, bytes_per_second: u64, late: Duration) -> u64 {
    let checkpoint_interval = bytes_per_second;
    let in_flight = connections * MIB;
    let busy_machine = bytes_per_second / 2;
    let more = (bytes_per_second as f64 * late.as_secs_f64()) as u64;
    checkpoint_interval + in_flight + busy_machine + more
}

#[test]
fn fault_068_kill_loses_at_most_a_checkpoint_interval_and_what_was_in_flight() {
    const RATE: u64 = 2 * MIB;
    let throttle = Throttle::new(RATE);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let two = || command(&sandbox, &origin).args(["-x", "2", "--segment-size", "1M"]);
    let mut running = two().start();
    running.wait_until("enough came", |_| origin.sent_bytes() >= 14 * MIB);
    running.signal(Signal::KILL);
    assert_eq!(running.finish().code, 137);
    let sent = origin.sent_bytes();
    let age = age_of(&sandbox.checkpoint("file"));
    throttle.lift();
    let bound = |late| lost_at_most(2, 2 * RATE, late);
    assert!(bound(Duration::ZERO) < 9 * MIB, "a bound that says something");
    let bound = bound(age.saturating_sub(Duration::from_millis(1500)));
    assert_only_the_rest_was_fetched(&two().run(), sent.saturating_sub(bound));
    sandbox.assert_published("file", &object(SIZE));
}
