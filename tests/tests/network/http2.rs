//! HTTP/2: where it is spoken, and its own ways to fail (section D of the
//! faults).

use std::cell::Cell;
use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use haul_tests::harness::Running;
use haul_tests::http2::{Context, Deal, Http2Origin};
use haul_tests::origin::Raw;
use haul_tests::prelude::*;

const SIZE: u64 = 24 * MIB + 4321;

fn command(sandbox: &Sandbox) -> Haul {
    haul!(sandbox).args(["-x", "8", "-o", "file", "--segment-size", "1M"])
}

fn run(sandbox: &Sandbox, origin: &Http2Origin) -> Outcome {
    command(sandbox).args(["--http2", "--insecure"]).arg(origin.url("/file")).run()
}

fn no_round_of_retrying(outcome: &Outcome) {
    outcome.expect(0);
    assert_eq!(outcome.all("retry").count(), 0, "{outcome}");
}

/// Waits until so many bytes are here, and tells the most memory that it had until then,
/// as was last seen while it ran.
fn peak_kib_until(haul: &mut Running, bytes: u64) -> u64 {
    let peak = Cell::new(0);
    haul.wait_until("most of it is there", |haul| {
        let status = fs::read_to_string(format!("/proc/{}/status", haul.pid()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let seen = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak.set(seen.unwrap_or(peak.get()));
        haul.bytes() > bytes
    });
    peak.get()
}

#[test]
fn segments_are_streams_over_a_few_connections() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"], Validity::Current);
    for builder in [Http2Origin::builder(), Http2Origin::builder().tls(&identity)] {
        let origin = builder.start(&object(SIZE), |_| Deal::Serve);
        let sandbox = Sandbox::new();
        no_round_of_retrying(&run(&sandbox, &origin));
        sandbox.assert_published("file", &object(SIZE));
        let streams = origin.streams();
        assert!(streams.iter().any(|stream| stream.at_once > 1), "one stream at a time");
        // The origin learns late that the first response was cut: it may count one more.
        assert!(streams.iter().all(|stream| stream.at_once <= 5), "too many on a connection");
        for stream in &streams {
            let head = &stream.head;
            assert_eq!(head.method(), "GET");
            assert_eq!(head.headers().get("host"), None, ":authority is in its place");
            assert!(origin.url("").ends_with(head.uri().authority().unwrap().as_str()));
            assert_eq!(head.headers()["accept-encoding"], "identity");
        }
    }
}

#[test]
fn a_server_with_one_stream_at_a_time_gets_connections() {
    let origin = Http2Origin::builder().max_streams(1).start(&object(SIZE), |_| Deal::Serve);
    let sandbox = Sandbox::new();
    no_round_of_retrying(&run(&sandbox, &origin));
    sandbox.assert_published("file", &object(SIZE));
    assert!(origin.connections() > 1, "it went on over one");
}

#[test]
fn servers_choose_in_tls_and_flags_force() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"], Validity::Current);
    let serve = |identity: &haul_tests::origin::ServerIdentity| {
        Origin::builder().tls(identity).start(|request, _| standard(&object(SIZE), request))
    };

    // HTTP/1.1 is what it speaks to a server with both, or without a choice.
    let either = serve(&identity.with_protocols(&["h2", "http/1.1"]));
    let silent = serve(&identity);
    for (origin, flags) in [
        (&either, &["--insecure"][..]),
        (&either, &["--insecure", "--http1.1"]),
        (&silent, &["--insecure"]),
        (&silent, &["--insecure", "--http2"]),
    ] {
        let sandbox = Sandbox::new();
        command(&sandbox).args(flags).arg(origin.url("/file")).run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }

    // One with HTTP/2 only gets it, unless that is forbidden.
    let only = Http2Origin::builder().tls(&identity).start(&object(SIZE), |_| Deal::Serve);
    let sandbox = Sandbox::new();
    let url = only.url("/file");
    no_round_of_retrying(&command(&sandbox).arg("--insecure").arg(&url).run());
    sandbox.assert_published("file", &object(SIZE));
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox).args(["--insecure", "--http1.1"]).arg(&url).run();
    outcome.expect(5).expect_message("no version of HTTP");
    sandbox.assert_nothing_left();
}

/// Downloads so many small files, named by their numbers, without being told a version.
fn many_small(count: usize, url: impl Fn(&str) -> String) {
    let sandbox = Sandbox::new();
    let urls = (0..count).map(|number| url(&format!("/small{number}")));
    let outcome = haul!(sandbox).arg("--insecure").args(urls).run();
    no_round_of_retrying(&outcome);
    let names: Vec<_> = (0..count).map(|number| format!("small{number}")).collect();
    let small = object(64 << 10);
    let expected: Vec<_> = names.iter().map(|name| (name.as_str(), &small)).collect();
    sandbox.assert_only(&expected);
}

#[test]
fn many_small_files_are_streams_of_a_few_connections() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"], Validity::Current);
    let origin = Http2Origin::builder().tls_with_either(&identity);
    let origin = origin.start(&object(64 << 10), |_| Deal::Serve);
    many_small(80, |path| origin.url(path));
    assert_eq!(origin.streams().len(), 80);
    // Four for the first requests, and four that are begun beside them if those take long.
    assert!(origin.connections() <= 8, "{} connections", origin.connections());
}

#[test]
fn many_small_files_of_a_server_without_http2_waste_no_connection() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"], Validity::Current);
    for protocols in [&["http/1.1"][..], &[]] {
        let origin = Origin::builder()
            .tls(&identity.with_protocols(protocols))
            .start(|request, _| standard(&object(64 << 10), request));
        many_small(40, |path| origin.url(path));
        let used: HashSet<_> = origin.requests().iter().map(|it| it.connection).collect();
        // If the first requests take long, four are begun that may come too late; and one that comes
        // free may take the request for which another is being made.
        let (made, used) = (origin.connections(), used.len());
        assert!(made <= used + 8, "{made} connections, of which {used} were used");
        assert_eq!(origin.requests().len(), 40);
        assert!(used <= 32, "{used} connections");
    }
}

#[test]
fn many_small_files_come_over_http1_if_the_http2_that_was_chosen_is_not_spoken() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"], Validity::Current);
    let origin = Origin::builder()
        .tls(&identity.with_protocols(&["h2", "http/1.1"]))
        .start(|request, _| standard(&object(64 << 10), request));
    many_small(20, |path| origin.url(path));
}

#[test]
fn without_tls_http2_is_forced_only() {
    let http1 = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox).args(["--http2", "--retry", "0"]).arg(http1.url("/f")).run();
    outcome.expect_one_of(&[4, 7]);
    sandbox.assert_nothing_left();
    // One that says something is told apart from a network that breaks.
    let bad_request = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let url = Raw::saying(bad_request.to_vec()).url();
    let outcome = command(&sandbox).args(["--http2", "--retry", "0"]).arg(&url).run();
    outcome.expect(7).expect_message("asked in HTTP/2");
    sandbox.assert_nothing_left();
}

#[test]
fn continues_after_a_stop() {
    let origin = Http2Origin::builder().start(&object(SIZE), |_| Deal::Serve);
    let sandbox = Sandbox::new();
    let url = origin.url("/file");
    let haul = command(&sandbox).args(["--http2", "-r", "3M"]).arg(&url);
    haul_tests::harness::kill(haul, 3 * MIB);
    sandbox.assert_kept("file");
    let outcome = command(&sandbox).arg("--http2").arg(&url).run();
    no_round_of_retrying(&outcome);
    assert!(outcome.resumed_bytes() > 0, "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_047_refused_streams_are_sent_again_and_not_counted() {
    for refused in [
        |context: Context| context.index == 0,
        |context: Context| context.index % 3 == 1,
        |context: Context| context.on_connection >= 2,
    ] {
        let origin = Http2Origin::builder().start(&object(SIZE), move |context| {
            if refused(context) { Deal::Refuse } else { Deal::Serve }
        });
        let sandbox = Sandbox::new();
        no_round_of_retrying(&run(&sandbox, &origin));
        sandbox.assert_published("file", &object(SIZE));
        assert!(origin.streams().iter().any(|stream| stream.deal == Deal::Refuse));
    }
}

#[test]
fn fault_047_goaway_is_followed_and_not_counted() {
    for count in [1, 2, 3] {
        let origin = Http2Origin::builder().start(&object(SIZE), move |context| {
            if context.on_connection + 1 == count { Deal::LastOfConnection } else { Deal::Serve }
        });
        let sandbox = Sandbox::new();
        let outcome = run(&sandbox, &origin);
        no_round_of_retrying(&outcome);
        sandbox.assert_published("file", &object(SIZE));
        let last = |stream: &haul_tests::http2::Stream| stream.deal == Deal::LastOfConnection;
        assert!(origin.streams().iter().any(last), "no connection came to its end");
        assert!(origin.connections() > 1, "after GOAWAY there is another connection");
        // Streams before it were served to their ends: nothing came twice but
        // what stealing costs.
        assert!(outcome.fetched_bytes() < SIZE + 8 * MIB, "{outcome}");
    }
}

#[test]
fn fault_047_server_that_refuses_everything_is_left_in_the_end() {
    let origin = Http2Origin::builder().start(&object(SIZE), |_| Deal::Refuse);
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox).args(["--http2", "--retry", "0"]).arg(origin.url("/f")).run();
    outcome.expect(4);
    sandbox.assert_nothing_left();
    assert!(origin.streams().len() <= 10, "{} streams", origin.streams().len());
}

#[test]
fn a_connection_that_breaks_takes_only_its_streams() {
    let origin = Http2Origin::builder()
        .start(&object(SIZE), |context| if context.index == 5 { Deal::Drop } else { Deal::Serve });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

/// More streams than the budget has reservations for, on a disk that is slower
/// than the network: those without a reservation must not hold the window that
/// those with one wait for.
#[test]
fn fault_048_slow_disk_stops_no_stream_for_good() {
    let large = Object::new(1, 128 * MIB);
    let origin = Http2Origin::builder().start(&large, |_| Deal::Serve);
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox)
        .args(["--http2", "-x", "128", "--storage", "pwrite", "--stall-timeout", "20s"])
        .deadline(Duration::from_secs(90))
        .env("HAUL_SLOW_WRITES", "1ms")
        .arg(origin.url("/file"))
        .run();
    no_round_of_retrying(&outcome);
    sandbox.assert_published("file", &large);
}

#[test]
fn fault_048_slow_disk_does_not_fill_the_memory() {
    let large = Object::new(1, 96 * MIB);
    let origin = Http2Origin::builder().start(&large, |_| Deal::Serve);
    let sandbox = Sandbox::new();
    let mut haul = command(&sandbox)
        .args(["--http2", "-x", "16", "--storage", "pwrite"])
        .env("HAUL_SLOW_WRITES", "1ms")
        .arg(origin.url("/file"))
        .start();
    let peak_kib = peak_kib_until(&mut haul, 72 * MIB);
    // The formula of docs/decisions/052-peak-memory.md: 16 of budget, 16 of windows, 2, 10; and
    // what an unoptimised build and its allocator add.
    assert!(peak_kib < 64 << 10, "{peak_kib} KiB");
    haul.finish().expect(0);
    sandbox.assert_published("file", &large);
}

/// An origin that is good until a download of `object` was killed there midway,
/// and deals with streams by `deal` from then on.
fn killed_before(
    object: &Object,
    sandbox: &Sandbox,
    deal: impl Fn(Context) -> Deal + Send + Sync + 'static,
) -> Http2Origin {
    let killed = Arc::new(AtomicBool::new(false));
    let serves = Arc::clone(&killed);
    let origin = Http2Origin::builder().start(object, move |context| {
        if serves.load(Ordering::SeqCst) { deal(context) } else { Deal::Serve }
    });
    let haul = command(sandbox).args(["--http2", "-r", "3M"]).arg(origin.url("/file"));
    haul_tests::harness::kill(haul, 3 * MIB);
    sandbox.assert_kept("file");
    killed.store(true, Ordering::SeqCst);
    origin
}

#[test]
fn fault_047_refused_streams_and_goaway_on_resume() {
    for deal in [
        |context: Context| if context.index % 3 == 1 { Deal::Refuse } else { Deal::Serve },
        |context: Context| if context.on_connection >= 1 { Deal::Refuse } else { Deal::Serve },
        |context: Context| match context.on_connection {
            1 => Deal::LastOfConnection,
            _ => Deal::Serve,
        },
    ] {
        let sandbox = Sandbox::new();
        let origin = killed_before(&object(SIZE), &sandbox, deal);
        let outcome = run(&sandbox, &origin);
        no_round_of_retrying(&outcome);
        assert!(outcome.resumed_bytes() > 0, "{outcome}");
        sandbox.assert_published("file", &object(SIZE));
        assert!(origin.streams().iter().any(|stream| stream.deal != Deal::Serve));
    }
}

#[test]
fn fault_047_server_that_refuses_everything_on_resume_keeps_the_partial() {
    let sandbox = Sandbox::new();
    let origin = killed_before(&object(SIZE), &sandbox, |_| Deal::Refuse);
    let outcome =
        command(&sandbox).args(["--http2", "--retry", "0"]).arg(origin.url("/file")).run();
    outcome.expect(4);
    sandbox.assert_kept("file");
}

#[test]
fn fault_048_slow_disk_on_resume() {
    let large = Object::new(1, 96 * MIB);
    let sandbox = Sandbox::new();
    let origin = killed_before(&large, &sandbox, |_| Deal::Serve);
    let mut haul = command(&sandbox)
        .args(["--http2", "-x", "64", "--storage", "pwrite", "--stall-timeout", "10s"])
        .env("HAUL_SLOW_WRITES", "1ms")
        .arg(origin.url("/file"))
        .start();
    // 48 more streams than where 64 MiB are allowed, with a window each.
    let peak_kib = peak_kib_until(&mut haul, 72 * MIB);
    assert!(peak_kib < 112 << 10, "{peak_kib} KiB");
    let outcome = haul.finish();
    no_round_of_retrying(&outcome);
    assert!(outcome.resumed_bytes() > 0, "{outcome}");
    sandbox.assert_published("file", &large);
}
