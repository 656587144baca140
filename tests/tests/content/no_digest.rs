//! `--no-digest`: nothing is hashed, and what that leaves for a later run.

use std::fs;

use haul_tests::prelude::*;
use serde_json::Value;

const SIZE: u64 = 24 * MIB + 4321;

fn with_digest(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file"]).arg(origin.url("/file"))
}

fn without(sandbox: &Sandbox, origin: &Origin) -> Haul {
    with_digest(sandbox, origin).arg("--no-digest")
}

/// A run without a digest that was interrupted after 12 MiB, and an origin that is fast now.
fn interrupted(sandbox: &Sandbox) -> Origin {
    let throttle = Throttle::new(4 * MIB).crawling_after(14 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    interrupt(without(sandbox, &origin), 12 * MIB);
    sandbox.assert_kept("file");
    throttle.lift();
    origin
}

#[track_caller]
fn assert_complete(outcome: &Outcome, sandbox: &Sandbox, blake3: impl Into<Value>) {
    outcome.expect(0);
    assert_eq!(outcome.event("complete")["blake3"], blake3.into(), "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn complete_has_no_blake3() {
    let sandbox = Sandbox::new();
    let outcome = without(&sandbox, &Origin::serving(&object(SIZE))).run();
    assert_complete(&outcome, &sandbox, Value::Null);
}

#[test]
fn blake3_that_is_asked_for_is_computed_all_the_same() {
    let origin = Origin::serving(&object(SIZE));
    for (digits, code) in [(object(SIZE).blake3_hex(), 0), ("0".repeat(64), 9)] {
        let sandbox = Sandbox::new();
        let checksum = format!("blake3={digits}");
        without(&sandbox, &origin).args(["--checksum", &checksum]).run().expect(code);
    }
}

#[test]
fn interrupted_run_is_continued_with_and_without_a_digest() {
    for sync in [&[][..], &["--no-sync"]] {
        for digest in [false, true] {
            let sandbox = Sandbox::new();
            let origin = interrupted(&sandbox);
            let again = if digest { with_digest } else { without };
            let outcome = again(&sandbox, &origin).args(sync).run();
            // A segment of each connection was begun, and has no hash to be believed by.
            let resumed = outcome.resumed_bytes();
            assert!(resumed >= 8 * MIB, "{resumed} bytes were kept\n{outcome}");
            assert!(outcome.fetched_bytes() <= SIZE - resumed + 4 * MIB, "{outcome}");
            // Those of the first run are read for the digest of the whole.
            let blake3 = if digest { Value::from(object(SIZE).blake3_hex()) } else { Value::Null };
            assert_complete(&outcome, &sandbox, blake3);
        }
    }
}

#[test]
fn what_was_hashed_is_continued_without_a_digest() {
    let sandbox = Sandbox::new();
    let throttle = Throttle::new(4 * MIB).crawling_after(10 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    interrupt(with_digest(&sandbox, &origin), 8 * MIB);
    throttle.lift();
    let outcome = without(&sandbox, &origin).run();
    assert!(outcome.resumed_bytes() >= 8 * MIB, "{outcome}");
    assert_complete(&outcome, &sandbox, Value::Null);
}

#[test]
fn after_a_kill_nothing_counts_that_was_not_synced() {
    let sandbox = Sandbox::new();
    let throttle = Throttle::new(4 * MIB).crawling_after(10 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    kill(without(&sandbox, &origin), 8 * MIB);
    // As a power cut leaves it.
    let part = sandbox.part("file");
    let len = fs::metadata(&part).unwrap().len();
    fs::write(&part, vec![0; usize::try_from(len).unwrap()]).unwrap();
    throttle.lift();
    let outcome = without(&sandbox, &origin).run();
    assert_eq!(outcome.resumed_bytes(), 0, "{outcome}");
    assert_complete(&outcome, &sandbox, Value::Null);
}

#[test]
fn verify_tells_what_it_cannot_check() {
    let sandbox = Sandbox::new();
    let _origin = interrupted(&sandbox);
    let outcome = haul!(sandbox, bare).arg("verify").json().arg("file").run();
    outcome.expect(0);
    let event = outcome.event("partial");
    assert_eq!(event["claimed_bytes"], 0, "{outcome}");
    assert!(event["unhashed_bytes"].as_u64().unwrap() >= 8 * MIB, "{outcome}");
    let outcome = haul!(sandbox, bare).args(["verify", "file"]).run();
    outcome.expect(0);
    assert!(outcome.text().contains("cannot be checked"), "{outcome}");
}
