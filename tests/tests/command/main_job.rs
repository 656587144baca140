//! The main job: one object, many connections, one correct file; and the
//! flags around it.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use haul_tests::prelude::*;

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-o", "file"]).arg(origin.url("/dir/file?query=1"))
}

#[test]
fn eight_connections_one_correct_file() {
    for storage in ["auto", "pwrite"] {
        let object = Object::new(1, 64 * MIB + 123);
        let served = object.clone();
        // A latency for each request, so that the connections overlap.
        let origin = Origin::start(move |request, _| {
            standard(&served, request).delay(Duration::from_millis(5)).rate(24 * MIB)
        });
        let sandbox = Sandbox::new();
        let outcome = command(&sandbox, &origin).args(["-x", "8", "--storage", storage]).run();
        outcome.expect(0);
        sandbox.assert_published("file", &object);
        assert_well_asked(&origin);
        assert_eq!(outcome.all("retry").count(), 0, "{outcome}");
        // The origin learns late that the first response was cut, and its connection closed.
        assert!((5..=9).contains(&origin.most_open()), "{} connections", origin.most_open());

        let requests = origin.requests();
        let first = requests[0].request.range();
        assert_eq!(first, Some(Asked::From { start: 0, end: None }), "everything is asked for");
        assert!(!requests[0].request.is_conditional());
        let reused = requests.iter().filter(|r| r.request_on_connection > 0).count();
        assert!(reused > 0, "no connection was used for a second request");
        for record in &requests[1..] {
            assert_eq!(record.request.header("If-Match"), object.etag(), "{record:?}");
        }
    }
}

#[test]
fn events_say_what_happened() {
    let object = Object::new(2, 20 * MIB + 1);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin).args(["-x", "4"]).run();
    outcome.expect(0);
    origin.wait_until("all requests are seen", |origin| {
        outcome.event("complete")["requests"] == origin.requests().len()
    });

    let start = outcome.event("start");
    assert_eq!(start["total"], object.size_bytes(), "{start}");
    assert_eq!(start["ranges"], true, "{start}");
    assert_eq!(start["validator"], "strong-etag", "{start}");
    assert_eq!(start["resumed_bytes"], 0, "{start}");
    let url = start["url"].as_str().expect("a URL");
    assert!(url.contains("/dir/file") && !url.contains("query=1"), "redacted: {url}");
    assert!(start["output"].as_str().is_some_and(|output| output.ends_with("file")), "{start}");
    assert!(start["connections"].is_u64(), "{start}");

    let complete = outcome.event("complete");
    assert_eq!(complete["bytes"], object.size_bytes(), "{complete}");
    assert_eq!(complete["blake3"], object.blake3_hex(), "{complete}");
    assert!(outcome.fetched_bytes() >= object.size_bytes(), "{complete}");
    assert!(complete["elapsed_s"].is_f64(), "{complete}");
    assert_eq!(outcome.events.last(), Some(complete), "complete is the last event");
    for progress in outcome.all("progress") {
        assert_eq!(progress["total"], object.size_bytes(), "{progress}");
        assert!(progress["bytes"].as_u64() <= Some(object.size_bytes()), "{progress}");
        assert!(progress["connections"].is_u64(), "{progress}");
    }
}

#[test]
fn small_file_costs_one_request() {
    for size in [1, 1024, 100_000, MIB] {
        let object = Object::new(3, size);
        let origin = Origin::serving(&object);
        let sandbox = Sandbox::new();
        // A name that says nothing would have others begun beside it where the answer takes long.
        let url = origin.url("/dir/file.txt?query=1");
        let outcome = haul!(sandbox).args(["-o", "file"]).arg(url).run();
        outcome.expect(0);
        sandbox.assert_published("file", &object);
        assert_well_asked(&origin);
        assert_eq!(origin.requests().len(), 1, "for {size} bytes");
        assert_eq!(origin.connections(), 1, "for {size} bytes");
        assert_eq!(outcome.event("complete")["blake3"], object.blake3_hex(), "{outcome}");
    }
}

#[test]
fn sizes_around_the_segments() {
    for size in [MIB - 1, MIB + 1, 2 * MIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 9 * MIB] {
        for connections in ["1", "3", "auto"] {
            let object = Object::new(size, size);
            let origin = Origin::serving(&object);
            let sandbox = Sandbox::new();
            let outcome = command(&sandbox, &origin).args(["-x", connections]).run();
            outcome.expect(0);
            sandbox.assert_published("file", &object);
            assert_eq!(outcome.event("complete")["blake3"], object.blake3_hex(), "{outcome}");
        }
    }
}

#[test]
fn large_object_at_full_speed() {
    let object = Object::new(4, 256 * MIB + 77);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin).args(["-x", "8", "--no-sync"]).run();
    outcome.expect(0);
    sandbox.assert_published("file", &object);
    assert_eq!(outcome.event("complete")["blake3"], object.blake3_hex(), "{outcome}");
    assert!(origin.requests().len() < 300, "{} requests", origin.requests().len());
}

#[test]
fn one_connection_at_most_means_one() {
    let object = Object::new(5, 12 * MIB);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).args(["-x", "1"]).run().expect(0);
    sandbox.assert_published("file", &object);
    assert_eq!(origin.connections(), 1, "it is used again for every lease");
}

#[test]
fn names_come_from_the_server_or_the_url() {
    let object = Object::new(6, 5000);
    for (disposition, path, name) in [
        (None, "/a/film%20one.mp4?x=y", "film one.mp4"),
        (Some("attachment; filename=\"from server.mp4\""), "/a/b", "from server.mp4"),
        (Some("attachment; filename*=UTF-8''%C3%A4.mp4; filename=\"a.mp4\""), "/a", "ä.mp4"),
        (Some("inline"), "/a/plain.bin", "plain.bin"),
    ] {
        let served = object.clone();
        let origin = Origin::start(move |request, _| {
            let honest = standard(&served, request);
            match disposition {
                Some(value) => honest.header("Content-Disposition", value),
                None => honest,
            }
        });
        let sandbox = Sandbox::new();
        haul!(sandbox).arg(origin.url(path)).run().expect(0);
        sandbox.assert_published(name, &object);
    }
}

#[test]
fn directory_is_created() {
    let object = Object::new(7, 5000);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    haul!(sandbox).args(["-d", "new/deep"]).arg(origin.url("/a.bin")).run().expect(0);
    haul!(sandbox).args(["-d", "new", "-o", "b.bin"]).arg(origin.url("/a.bin")).run().expect(0);
    sandbox.assert_only(&[("new/b.bin", &object), ("new/deep/a.bin", &object)]);
}

#[test]
fn several_urls_are_several_downloads() {
    let objects: Vec<Object> = (0..5).map(|n| Object::new(10 + n, (n + 1) * 1_500_000)).collect();
    let served = objects.clone();
    let origin = Origin::start(move |request, _| {
        let number = request.path().trim_start_matches("/f").parse::<usize>();
        match number.ok().and_then(|number| served.get(number)) {
            Some(object) => standard(object, request),
            None => Response::empty(404),
        }
    });
    let urls = || (0..5).map(|n| origin.url(&format!("/f{n}")));
    let expected: Vec<(String, &Object)> =
        objects.iter().enumerate().map(|(n, object)| (format!("f{n}"), object)).collect();
    let expected: Vec<(&str, &Object)> = expected.iter().map(|(n, o)| (n.as_str(), *o)).collect();

    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox).args(["-j", "2"]).args(urls()).run();
    outcome.expect(0);
    sandbox.assert_only(&expected);
    let mut ids: Vec<String> = outcome.all("complete").map(|e| e["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5, "each download has its id\n{outcome}");

    // One that fails does not keep the others.
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox).args(urls()).arg(origin.url("/missing")).run();
    assert_eq!(outcome.code, 8, "{outcome}");
    sandbox.assert_only(&expected);
}

#[test]
fn one_output_for_several_urls_is_usage() {
    let origin = Origin::serving(&Object::new(8, 1000));
    let sandbox = Sandbox::new();
    let outcome =
        haul!(sandbox, bare).args(["-o", "file"]).args([origin.url("/a"), origin.url("/b")]).run();
    outcome.expect(2);
    assert!(outcome.text().contains("-o"), "{outcome}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn checksum_decides_about_publishing() {
    use sha2::{Digest as _, Sha256};
    let object = Object::new(9, 9 * MIB + 5);
    let mut hasher = Sha256::new();
    object.stream(|bytes| hasher.update(bytes));
    let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let origin = Origin::serving(&object);

    for good in [format!("sha256={digest}"), format!("SHA-256={digest}"), digest.clone()] {
        let sandbox = Sandbox::new();
        command(&sandbox, &origin).args(["--checksum", &good]).run().expect(0);
        sandbox.assert_published("file", &object);
    }
    let sandbox = Sandbox::new();
    let bad = format!("sha256={}", "0123".repeat(16));
    let outcome = command(&sandbox, &origin).args(["--checksum", &bad]).run();
    outcome.expect(9);
    assert!(outcome.text().contains(&digest), "it says what the bytes have\n{outcome}");
    sandbox.assert_unpublished("file");

    let sandbox = Sandbox::new();
    command(&sandbox, &origin).args(["--checksum", "sha256=12"]).run().expect(2);
    sandbox.assert_nothing_left();
}

#[test]
fn dry_run_writes_nothing() {
    let object = Object::new(10, 50 * MIB);
    let origin = Origin::serving(&object);
    for json in [true, false] {
        let sandbox = Sandbox::new();
        let bare = haul!(sandbox, bare).args(["--dry-run", "-d", "new"]).arg(origin.url("/f.bin"));
        let before = (origin.requests().len(), origin.sent_bytes());
        let outcome = if json { bare.json() } else { bare }.run();
        outcome.expect(0);
        assert!(outcome.text().contains("f.bin"), "{outcome}");
        sandbox.assert_nothing_left();
        assert!(!sandbox.path("new").exists(), "not even the directory");
        assert_eq!(origin.requests().len() - before.0, 1);
        assert!(origin.sent_bytes() - before.1 <= 4 * MIB, "the body is not fetched");
    }
}

#[test]
fn headers_are_sent_as_given() {
    let object = Object::new(11, 6 * MIB);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    command(&sandbox, &origin)
        .args(["-H", "X-One: first value", "-H", "X-Two: 2", "-u", "user:pass"])
        .run()
        .expect(0);
    let agent = concat!("haul/", env!("CARGO_PKG_VERSION"));
    for record in origin.requests() {
        let header = |name| record.request.header(name);
        assert_eq!(header("X-One"), Some("first value"));
        assert_eq!(header("X-Two"), Some("2"));
        assert_eq!(header("Authorization"), Some("Basic dXNlcjpwYXNz"));
        assert_eq!(header("User-Agent"), Some(agent));
        assert_eq!(header("Host").map(str::to_owned), Some(format!("127.0.0.1:{}", origin.port())));
    }
}

#[test]
fn file_gets_the_time_of_the_object() {
    let object = Object::new(12, 3 * MIB).with_last_modified(Some(1_234_567_890));
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).run().expect(0);
    let modified = fs::metadata(sandbox.path("file")).unwrap().modified().unwrap();
    assert_eq!(modified, UNIX_EPOCH + Duration::from_secs(1_234_567_890));
}

#[test]
fn limited_rate_is_not_exceeded() {
    let object = Object::new(13, 6 * MIB);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin).args(["-x", "4", "-r", "4M"]).run();
    outcome.expect(0);
    sandbox.assert_published("file", &object);
    // 1.5 s at the limit; what a bucket gives at once is less than a quarter.
    assert!(outcome.elapsed >= Duration::from_millis(1100), "{:?}", outcome.elapsed);
}

#[test]
fn quiet_says_nothing_and_plain_keeps_stdout_clean() {
    let object = Object::new(14, 3 * MIB);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare).args(["-q", "-o", "a"]).arg(origin.url("/a")).run();
    outcome.expect(0);
    assert_eq!(outcome.text(), "");

    let outcome = haul!(sandbox, bare).args(["-v", "-o", "b"]).arg(origin.url("/b")).run();
    outcome.expect(0).assert_harmless();
    assert!(outcome.stdout.is_empty(), "talk goes to stderr\n{outcome}");
    assert!(outcome.text().contains(&object.blake3_hex()), "with -v it tells BLAKE3\n{outcome}");
    sandbox.assert_only(&[("a", &object), ("b", &object)]);
}

#[test]
fn errors_name_cause_and_next_step() {
    let origin = Origin::start(|_, _| Response::empty(403));
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare).args(["-o", "a"]).arg(origin.url("/secret")).run();
    outcome.expect(6);
    assert!(outcome.stdout.is_empty(), "{outcome}");
    let text = outcome.text();
    assert!(text.contains("403") && text.contains("127.0.0.1"), "{outcome}");
}

#[test]
fn flag_k_alone_is_not_assigned() {
    let (origin, sandbox) = (Origin::serving(&Object::new(15, 1000)), Sandbox::new());
    let outcome = haul!(sandbox, bare).arg("-k").arg(origin.url("/file")).run();
    outcome.expect(2);
    let text = outcome.text();
    assert!(text.contains("--insecure") && text.contains("--min-split-size"), "{outcome}");
    sandbox.assert_nothing_left();
    assert_eq!(origin.connections(), 0);
}

#[test]
fn bench_measures_its_own_origin() {
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox, bare).args(["bench", "--size", "32M", "--json"]).run();
    outcome.expect(0);
    let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("one object");
    assert_eq!(report["blake3_ok"], true, "{report}");
    assert_eq!(report["bytes"], 32 * MIB, "{report}");
    assert!(report["url"].is_string() && report["recommended_connections"].is_u64(), "{report}");
    let runs = report["runs"].as_array().expect("runs");
    assert!(!runs.is_empty());
    for run in runs {
        assert!(run["connections"].is_u64() && run["storage"].is_string(), "{run}");
        assert!(run["seconds"].as_f64() > Some(0.0), "{run}");
        assert!(run["bytes_per_second"].as_f64() > Some(0.0), "{run}");
        assert!(run["ttfb_s"].as_f64() > Some(0.0), "{run}");
    }
    sandbox.assert_nothing_left();
}
