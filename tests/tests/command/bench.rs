//! `haul bench` through the command: what it measures, says and leaves.

use std::fs;
use std::time::Duration;

use haul_tests::prelude::*;
use serde_json::Value;

fn report(outcome: &Outcome) -> Value {
    serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"))
}

fn counts(points: &Value) -> Vec<u64> {
    let points = points.as_array().expect("points");
    points.iter().map(|point| point["connections"].as_u64().expect("a number")).collect()
}

fn kinds(points: &Value) -> Vec<&str> {
    let points = points.as_array().expect("points");
    points.iter().map(|point| point["storage"].as_str().expect("a storage")).collect()
}

#[test]
fn own_origin_is_measured_by_connections_and_by_storage() {
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare)
        .args(["bench", "--size", "8M", "--rounds", "2", "--json"])
        .args(["--export-markdown", "speed.md", "--export-svg", "speed.svg"])
        .run();
    outcome.expect(0);
    let report = report(&outcome);
    assert_eq!(counts(&report["runs"]), [1, 2, 4, 8, 16], "{report}");
    assert_eq!(kinds(&report["runs"]), ["null"; 5], "{report}");
    assert_eq!(kinds(&report["storages"])[..2], ["null", "pwrite"], "{report}");
    assert_eq!(report["storages"].as_array().map(Vec::len), Some(3), "{report}");
    assert_eq!((&report["blake3_ok"], &report["bytes"]), (&true.into(), &(8 * MIB).into()));
    assert!(report["recommended_because"].as_str().is_some_and(|why| !why.is_empty()), "{report}");
    for point in report["runs"].as_array().into_iter().flatten() {
        assert_eq!(point["bytes"], 8 * MIB, "{point}");
        let rounds: Vec<f64> = point["rounds_bytes_per_second"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_f64)
            .collect();
        assert_eq!(rounds.len(), 2, "{point}");
        let least = point["min_bytes_per_second"].as_f64();
        assert_eq!(point["bytes_per_second"].as_f64(), least, "the slower one of two: {point}");
    }
    let markdown = fs::read_to_string(sandbox.path("speed.md")).unwrap();
    for count in [1, 2, 4, 8, 16] {
        assert!(markdown.contains(&format!("| {count} | null | ")), "{markdown}");
    }
    assert!(markdown.contains("recommended: -x "), "{markdown}");
    well_formed(&fs::read_to_string(sandbox.path("speed.svg")).unwrap());
    assert_eq!(sandbox.files(), ["speed.md", "speed.svg"]);
}

/// Every element that is opened is closed, in order, and every `&` is a
/// reference: what a browser refuses otherwise.
fn well_formed(svg: &str) {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("a tag has an end");
        let name = tag.split([' ', '\n', '/']).find(|name| !name.is_empty()).unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{tag}");
        } else if !tag.ends_with('/') {
            open.push(name.to_owned());
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        for reference in text.split('&').skip(1) {
            let end = reference.split(';').next().unwrap_or_default();
            assert!(["amp", "lt", "gt", "quot"].contains(&end), "{text}");
        }
    }
    assert!(open.is_empty(), "{open:?} is not closed");
}

#[test]
fn cap_of_each_connection_is_found_and_little_is_fetched() {
    const CAP: f64 = 512.0 * 1024.0;
    let object = Object::new(21, 64 * MIB);
    let origin = Origin::throttled(&object, &Throttle::new(CAP as u64));
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare)
        .args(["bench", "-x", "1,2,4", "--rounds", "3", "--time", "1s", "--size", "4M", "--json"])
        .arg(origin.url("/file"))
        .run();
    outcome.expect(0);
    let report = report(&outcome);
    let each = report["per_connection"]["bytes_per_second"].as_f64().expect("a cap");
    assert!((0.7..1.4).contains(&(each / CAP)), "{each}: {report}");
    assert_eq!(report["per_connection"]["up_to"], 4, "{report}");
    assert_eq!(report["recommended_connections"], 4, "{report}");
    assert_eq!(report["limited_by"], "connection", "{report}");
    assert_eq!(report["blake3_ok"], Value::Null, "no run had the whole object: {report}");
    // Ten runs of a second, and what was in the sockets when they ended.
    assert!(origin.sent_bytes() < 32 * MIB, "{}", origin.sent_bytes());
    sandbox.assert_nothing_left();
}

/// What four connections get at once is more than a run may usually fetch.
#[test]
fn burst_at_the_start_of_each_connection_does_not_count() {
    const CAP: f64 = 1024.0 * 1024.0;
    let object = Object::new(29, 512 * MIB);
    let origin = Origin::start(move |request, context| {
        let burst_bytes = if context.request_on_connection == 0 { 20 * MIB } else { 0 };
        let chunk_bytes = (CAP / 50.0) as usize;
        standard(&object, request).drip(burst_bytes, chunk_bytes, Duration::from_millis(20))
    });
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare)
        .args(["bench", "-x", "1,4", "--rounds", "1", "--json"])
        .arg(origin.url("/file"))
        .run();
    outcome.expect(0);
    let report = report(&outcome);
    for point in report["runs"].as_array().into_iter().flatten() {
        let speed = point["bytes_per_second"].as_f64().expect("a speed");
        let each = speed / point["connections"].as_f64().expect("a number");
        assert!((0.5..1.6).contains(&(each / CAP)), "{each}: {report}");
    }
    assert_eq!(counts(&report["runs"]), [1, 4], "{report}");
    assert_eq!(report["limited_by"], "connection", "{report}");
    sandbox.assert_nothing_left();
}

#[test]
fn server_that_refuses_connections_is_what_limits() {
    let object = Object::new(30, 64 * MIB);
    let throttle = Throttle::new(MIB / 2);
    let origin = Origin::builder()
        .limit(2, Refusal::Status(503))
        .start(move |request, _| throttle.apply(standard(&object, request)));
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare)
        .args(["bench", "-x", "1,2,8", "--rounds", "1", "--time", "1s"])
        .arg(origin.url("/file"))
        .run();
    outcome.expect(0);
    let text = outcome.text();
    assert!(text.contains("what limits: the server, which refused more than 2 conn"), "{outcome}");
    assert_eq!(text.matches("refused some connections").count(), 1, "told once: {outcome}");
    sandbox.assert_nothing_left();
}

#[test]
fn null_storage_takes_the_whole_object_and_keeps_nothing() {
    let object = Object::new(22, 20 * MIB);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare)
        .args(["bench", "--storage", "null", "-x", "4", "--json"])
        .arg(origin.url("/file"))
        .run();
    outcome.expect(0);
    let report = report(&outcome);
    assert_eq!((counts(&report["runs"]), kinds(&report["runs"])), (vec![4], vec!["null"]));
    assert_eq!((&report["bytes"], &report["blake3_ok"]), (&(20 * MIB).into(), &true.into()));
    assert_eq!(report["storages"], Value::Array(Vec::new()), "{report}");
    // What was on its way when the first response was cut is all that may come twice.
    let sent = origin.sent_bytes();
    assert!((20 * MIB..24 * MIB).contains(&sent), "once, and nothing twice: {sent}");
    sandbox.assert_nothing_left();
}

#[test]
fn named_storages_are_read_again_from_the_disk() {
    let object = Object::new(23, 6 * MIB);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare)
        .args(["bench", "--storage", "pwrite,null", "-x", "2", "--rounds", "2", "--json"])
        .arg(origin.url("/file"))
        .run();
    outcome.expect(0);
    let report = report(&outcome);
    assert_eq!(kinds(&report["runs"]), ["pwrite", "null"], "{report}");
    assert_eq!(report["blake3_ok"], true, "{report}");
    sandbox.assert_nothing_left();
}

#[test]
fn object_that_differs_between_runs_is_exit_9() {
    let (a, b) = (Object::new(24, MIB), Object::new(25, MIB));
    let origin = Origin::start(move |request, context| {
        standard(if context.index.is_multiple_of(2) { &a } else { &b }, request)
    });
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare)
        .args(["bench", "-x", "1", "--rounds", "2", "--json"])
        .arg(origin.url("/file"))
        .run();
    outcome.expect(9);
    assert_eq!(report(&outcome)["blake3_ok"], false, "{outcome}");
    assert!(outcome.text().contains("BLAKE3 differs"), "{outcome}");
    sandbox.assert_nothing_left();
}

#[test]
fn server_without_ranges_is_measured_with_one_connection() {
    let object = Object::new(26, 2 * MIB);
    let origin = Origin::start(move |_, _| Response::full(&object).without("Accept-Ranges"));
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare)
        .args(["bench", "--rounds", "1", "--json"])
        .arg(origin.url("/file"))
        .run();
    outcome.expect(0);
    let report = report(&outcome);
    assert_eq!(counts(&report["runs"]), [1], "{report}");
    let why = report["recommended_because"].as_str().unwrap_or_default();
    assert!(why.contains("no byte ranges"), "{report}");
    sandbox.assert_nothing_left();
}

#[test]
fn person_is_told_what_will_be_fetched_and_what_follows() {
    let origin = Origin::serving(&Object::new(27, 2 * MIB));
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare)
        .args(["bench", "-x1,2", "--rounds", "2", "--size", "1M", "--no-sync"])
        .arg(origin.url("/file?sig=secret"))
        .run();
    outcome.expect(0);
    let (out, said) =
        (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
    assert!(said.contains("5 runs, at most 1 MiB or 5.0 s each, 5 MiB in all"), "{outcome}");
    assert!(out.contains("recommended: -x ") && out.contains("first byte"), "{outcome}");
    assert!(out.contains("storing a GiB costs") && out.contains("what limits: "), "{outcome}");
    assert!(!outcome.text().contains("secret"), "{outcome}");
    sandbox.assert_nothing_left();
}

#[test]
fn interrupted_measurement_ends_as_such_and_leaves_nothing() {
    let origin = Origin::throttled(&Object::new(28, 64 * MIB), &Throttle::new(MIB));
    let sandbox = Sandbox::new();
    let running = haul!(sandbox, bare)
        .args(["bench", "--storage", "pwrite", "-x", "2"])
        .arg(origin.url("/file"))
        .start();
    origin.wait_until("bytes are on their way", |origin| origin.sent_bytes() > MIB / 4);
    running.signal(Signal::INT);
    let outcome = running.finish();
    outcome.expect(130);
    assert!(outcome.text().contains("incomplete"), "{outcome}");
    sandbox.assert_nothing_left();
}

#[test]
fn failures_have_their_exit_codes() {
    let origin = Origin::start(|_, _| Response::empty(404));
    for (args, code) in [
        (&["bench", "--rounds", "0"][..], 2),
        (&["bench", "-x", "0"], 2),
        (&["bench", "--storage", "disk"], 2),
        (&["bench", "--size", "1M", "--rounds", "1", "-x1", "--export-svg", "no/such/dir"], 3),
        (&["bench", "-d", "/dev/null/no"], 3),
    ] {
        let sandbox = Sandbox::new();
        haul!(sandbox, bare).args(args).run().expect(code);
        sandbox.assert_nothing_left();
    }
    let sandbox = Sandbox::new();
    haul!(sandbox, bare).arg("bench").arg(origin.url("/file")).run().expect(8);
    sandbox.assert_nothing_left();
}

#[test]
fn help_fits_a_screen() {
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare).args(["bench", "-h"]).env("COLUMNS", "80").run();
    outcome.expect(0);
    let help = String::from_utf8_lossy(&outcome.stdout);
    assert!((15..=40).contains(&help.lines().count()), "{help}");
    assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
}
