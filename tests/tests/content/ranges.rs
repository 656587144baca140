//! `--range`: only these bytes of the object.

use std::time::Duration;

use haul_tests::prelude::*;

const SIZE: u64 = 24 * MIB + 4321;

fn command(sandbox: &Sandbox, origin: &Origin, range: &str) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file", "--range", range]).arg(origin.url("/file"))
}

/// The bytes of these half-open ranges, one after the other.
fn bytes(ranges: &[(u64, u64)]) -> Vec<u8> {
    ranges.iter().flat_map(|&(start, end)| object(SIZE).bytes(start..end)).collect()
}

#[track_caller]
fn assert_file(sandbox: &Sandbox, ranges: &[(u64, u64)]) {
    assert_eq!(sandbox.files(), ["file"]);
    let file = std::fs::read(sandbox.path("file")).unwrap();
    assert!(file == bytes(ranges), "{} bytes of {ranges:?}", file.len());
}

fn sent(origin: &Origin) -> u64 {
    origin.sent_bytes()
}

#[test]
fn only_the_bytes_asked_for_are_fetched_and_written() {
    for (range, parts) in [
        ("100-", vec![(100, SIZE)]),
        ("100-200", vec![(100, 201)]),
        ("0-0", vec![(0, 1)]),
        ("-100", vec![(SIZE - 100, SIZE)]),
        ("5000000-15000000", vec![(5_000_000, 15_000_001)]),
        ("0-100,200-300", vec![(0, 101), (200, 301)]),
        ("0-99,100-199", vec![(0, 200)]),
        ("-1000,0-9999999,77-78", vec![(SIZE - 1000, SIZE), (0, 10_000_000), (77, 79)]),
    ] {
        let origin = Origin::serving(&object(SIZE));
        let sandbox = Sandbox::new();
        let outcome = command(&sandbox, &origin, range).run();
        outcome.expect(0);
        assert_file(&sandbox, &parts);
        let len: u64 = parts.iter().map(|(start, end)| end - start).sum();
        assert_eq!(outcome.event("start")["total"], len, "{range}: {outcome}");
        let file = std::fs::read(sandbox.path("file")).unwrap();
        let hash = blake3_hex(&file);
        assert_eq!(outcome.event("complete")["blake3"], hash, "{range}: {outcome}");
        // What was sent and not taken is of responses that were cut short.
        assert!(sent(&origin) <= len + 4 * MIB, "{range}: {} of {len}", sent(&origin));
        assert!(outcome.fetched_bytes() <= len + 2 * MIB, "{range}: {outcome}");
        assert_well_asked(&origin);
    }
}

fn blake3_hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[test]
fn a_range_is_fetched_over_several_connections() {
    let served = object(SIZE);
    let origin = Origin::start(move |request, _| {
        standard(&served, request).delay(Duration::from_millis(5)).rate(6 * MIB)
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin, "1000000-").run().expect(0);
    assert_file(&sandbox, &[(1_000_000, SIZE)]);
    assert!(origin.most_open() >= 3, "{} connections", origin.most_open());
}

#[test]
fn a_range_goes_to_stdout_as_well() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare)
        .args(["-o", "-", "--range", "-5000000,10-19"])
        .arg(origin.url("/file"))
        .run();
    outcome.expect(0);
    assert!(outcome.stdout == bytes(&[(SIZE - 5_000_000, SIZE), (10, 20)]));
}

#[test]
fn an_interrupted_range_continues_where_it_was() {
    const RANGES: &str = "1000-9999999,12000000-";
    let parts = [(1000, 10_000_000), (12_000_000, SIZE)];
    for killed in [false, true] {
        let throttle = Throttle::new(2 * MIB).crawling_after(10 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let first = command(&sandbox, &origin, RANGES);
        if killed {
            kill(first, 8 * MIB);
        } else {
            interrupt(first, 8 * MIB);
        }
        sandbox.assert_kept("file");
        throttle.lift();
        let outcome = command(&sandbox, &origin, RANGES).run();
        outcome.expect(0);
        assert_file(&sandbox, &parts);
        let resumed = outcome.resumed_bytes();
        assert!(resumed >= 4 * MIB, "killed {killed}: {outcome}");
        assert!(!outcome.has_notice("restarted"), "{outcome}");
        let total = outcome.event("start")["total"].as_u64().unwrap();
        assert!(outcome.fetched_bytes() <= total - resumed + 4 * MIB, "{outcome}");
    }
}

#[test]
fn a_partial_of_other_bytes_is_not_continued() {
    for (first, then, parts) in [
        (Some("1000-"), Some("2000-"), [(2000, SIZE)]),
        (None, Some("1000-"), [(1000, SIZE)]),
        (Some("1000-"), None, [(0, SIZE)]),
    ] {
        let throttle = Throttle::new(2 * MIB).crawling_after(10 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let with = |range: Option<&str>| {
            let haul = haul!(sandbox).args(["-x", "4", "-o", "file"]);
            haul.args(range.map(|range| format!("--range={range}"))).arg(origin.url("/file"))
        };
        interrupt(with(first), 8 * MIB);
        throttle.lift();
        let outcome = with(then).run();
        outcome.expect(0).expect_notice("restarted");
        assert_file(&sandbox, &parts);
    }
}

#[test]
fn what_is_no_range_is_quoted_with_the_grammar() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    for range in ["abc", "200-100", "", "-", "1-2-3", "0-1,x", "-0", "5"] {
        let outcome = haul!(sandbox, bare)
            .args(["-o", "file"])
            .arg(format!("--range={range}"))
            .arg(origin.url("/file"))
            .run();
        outcome.expect(2);
        let said = String::from_utf8_lossy(&outcome.stderr);
        let quoted = range.rsplit(',').next().unwrap();
        assert!(said.contains(&format!("`{quoted}`")), "{range}: {outcome}");
        assert!(said.contains("FIRST-LAST"), "{range}: {outcome}");
    }
    assert!(origin.requests().is_empty());
    sandbox.assert_nothing_left();
}

#[test]
fn a_range_beyond_the_end_is_an_error() {
    for range in [format!("{SIZE}-"), "0-9,99999999-99999999".to_owned()] {
        let origin = Origin::serving(&object(SIZE));
        let sandbox = Sandbox::new();
        let outcome = command(&sandbox, &origin, &range).run();
        outcome.expect(8).expect_message("beyond the object's end");
        assert!(outcome.text().contains(&SIZE.to_string()), "{outcome}");
        sandbox.assert_nothing_left();
    }
    let empty = Origin::serving(&Object::new(1, 0));
    let sandbox = Sandbox::new();
    command(&sandbox, &empty, "-5").run().expect(8);
    sandbox.assert_nothing_left();
}

#[test]
fn a_range_that_ends_beyond_the_end_is_cut_and_told() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin, "25000000-99999999").run();
    outcome.expect(0).expect_notice("range-cut");
    assert_file(&sandbox, &[(25_000_000, SIZE)]);
}

#[test]
fn a_server_without_ranges_gives_no_part() {
    let served = object(SIZE);
    let origin = Origin::start(move |_, _| Response::full(&served));
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin, "100-200").run();
    outcome.expect(7).expect_message("part of the object");
    sandbox.assert_nothing_left();

    // Also one that gives ranges at first.
    let served = object(SIZE);
    let origin = Origin::start(move |request, context| {
        match context.index {
            // So slow that they do not bring all of it before.
            0..3 => standard(&served, request).rate(2 * MIB),
            _ => Response::full(&served),
        }
    });
    let outcome = command(&sandbox, &origin, "100-").run();
    outcome.expect(7).expect_message("part of the object");
    sandbox.assert_unpublished("file");
}

#[test]
fn an_object_that_changes_midway_starts_over_with_its_new_size() {
    let (old, new) = (object(SIZE), Object::new(5, 20 * MIB).with_etag(Some("\"new\"")));
    let served = new.clone();
    let origin = Origin::start(move |request, context| match context.index {
        // So slow that it is not here before the new one is seen.
        0 | 1 => standard(&old, request).rate(2 * MIB),
        _ => standard(&served, request),
    });
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin, "-15000000").run();
    outcome.expect(0).expect_notice("restarted");
    let file = std::fs::read(sandbox.path("file")).unwrap();
    assert!(file == new.bytes(20 * MIB - 15_000_000..20 * MIB));
}

#[test]
fn digests_are_of_what_is_written() {
    let part = bytes(&[(0, 1000), (5_000_000, SIZE)]);
    let served = object(SIZE);
    let origin = Origin::start(move |request, _| {
        // Right, of the whole: to be left alone.
        standard(&served, request)
            .header("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==")
            .header("Repr-Digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:")
    });
    let checked = |digest: &str| -> Outcome {
        let sandbox = Sandbox::new();
        let haul = command(&sandbox, &origin, "0-999,5000000-");
        haul.args(["--checksum", digest]).run()
    };
    checked(&format!("blake3={}", blake3_hex(&part))).expect(0);
    checked(&format!("blake3={}", object(SIZE).blake3_hex())).expect(9);
    let sandbox = Sandbox::new();
    command(&sandbox, &origin, "0-999,5000000-").run().expect(0);
}
