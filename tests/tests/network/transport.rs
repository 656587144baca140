//! Section D of the faults: connections that break, stall and lie about who
//! they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use haul_tests::origin::{Throttle, closed_port};
use haul_tests::prelude::*;

const SIZE: u64 = 16 * MIB + 4321;

fn honest(request: &Request) -> Response {
    standard(&object(SIZE), request)
}

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox)
        .args(["-x", "4", "-o", "file", "--retry", "1", "--stall-timeout", "5s"])
        .arg(origin.url("/file"))
}

fn run(sandbox: &Sandbox, origin: &Origin) -> Outcome {
    run_with(sandbox, origin, &[])
}

fn run_with(sandbox: &Sandbox, origin: &Origin, args: &[&str]) -> Outcome {
    let outcome = command(sandbox, origin).args(args).run();
    assert_well_asked(origin);
    outcome
}

/// Whoever says nothing for a second is left.
const IMPATIENT: [&str; 2] = ["--stall-timeout", "1s"];

#[test]
fn fault_043_stalled_connections_hand_over() {
    for stalled in [&[0][..], &[1], &[0, 1, 2]] {
        let origin = Origin::start(move |request, context| {
            let honest = honest(request);
            if stalled.contains(&context.index) {
                honest.stall(100_000, &Gate::new())
            } else {
                honest
            }
        });
        let sandbox = Sandbox::new();
        run_with(&sandbox, &origin, &IMPATIENT).expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_043_silence_before_the_head_counts_as_a_stall() {
    let origin = Origin::start(|request, context| match context.index {
        0 | 2 => honest(request).delay(Duration::from_secs(3600)),
        _ => honest(request),
    });
    let sandbox = Sandbox::new();
    run_with(&sandbox, &origin, &IMPATIENT).expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_043_server_that_only_stalls_is_given_up() {
    let origin = Origin::start(|request, context| match context.index {
        // It does not bring everything.
        0 => honest(request).cut(4 * MIB, End::Close),
        _ => honest(request).stall(0, &Gate::new()),
    });
    let sandbox = Sandbox::new();
    let outcome = run_with(&sandbox, &origin, &IMPATIENT);
    outcome.expect(4);
    sandbox.assert_kept("file");
}

#[test]
fn fault_044_crawling_connection_is_relieved() {
    let origin = Origin::start(|request, context| match context.index {
        1 => honest(request).drip(64 << 10, 1, Duration::from_millis(200)),
        _ => honest(request),
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_045_resets_keep_what_came() {
    for end in [End::Reset, End::Close] {
        let origin = Origin::start(move |request, context| match context.repeat {
            0 => honest(request).cut(1_300_000, end),
            _ => honest(request),
        });
        let sandbox = Sandbox::new();
        let outcome = run(&sandbox, &origin);
        outcome.expect(0);
        sandbox.assert_published("file", &object(SIZE));
        // A reset may lose what the kernel had not sent, a close may not.
        if end == End::Close {
            let wasted = outcome.fetched_bytes() - SIZE;
            assert!(wasted <= 4 * MIB, "{wasted} bytes were fetched twice");
        }
    }
}

#[test]
fn fault_045_resets_without_progress_are_bounded() {
    let origin = Origin::start(|request, context| match context.index {
        // It does not bring everything.
        0 => honest(request).cut(4 * MIB, End::Close),
        _ => honest(request).cut(0, End::Reset),
    });
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &origin);
    outcome.expect(4);
    assert_eq!(outcome.event("error")["resumable"], true, "{outcome}");
    sandbox.assert_kept("file");
    assert!(origin.requests().len() < 60, "{} requests", origin.requests().len());
}

#[test]
fn nobody_listens() {
    let url = format!("http://127.0.0.1:{}/file", closed_port());
    let sandbox = Sandbox::new();
    haul!(sandbox).args(["--retry", "1", "-o", "file"]).arg(url).run().expect(4);
    sandbox.assert_unpublished("file");
}

#[test]
fn fault_046_closed_pooled_connections_cost_no_retry() {
    // Every connection serves one request and drops the next as it comes.
    for end in [End::Close, End::Reset] {
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = dropped.clone();
        let origin = Origin::start(move |request, context| {
            if context.request_on_connection == 0 {
                // The first is so slow that the others have to ask again.
                let rate = if context.index == 0 { MIB } else { 64 * MIB };
                return honest(request).rate(rate);
            }
            count.fetch_add(1, Ordering::AcqRel);
            Response::hang_up(end)
        });
        let sandbox = Sandbox::new();
        let outcome = run(&sandbox, &origin);
        outcome.expect(0);
        sandbox.assert_published("file", &object(SIZE));
        assert!(dropped.load(Ordering::Acquire) > 0, "no connection was used twice");
        assert_eq!(outcome.all("retry").count(), 0, "{outcome}");
    }
}

fn secure(identity: &ServerIdentity) -> Origin {
    Origin::builder().tls(identity).start(|request, _| honest(request))
}

/// Runs with `--cacert` of this authority; the file lies outside of `work`.
fn run_trusting(sandbox: &Sandbox, authority: &Authority, origin: &Origin) -> Outcome {
    run_trusting_with(&[], sandbox, authority, origin)
}

fn run_trusting_with(
    arguments: &[&str],
    sandbox: &Sandbox,
    authority: &Authority,
    origin: &Origin,
) -> Outcome {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), authority.pem()).expect("it can be written");
    let command = command(sandbox, origin).args(["--retry", "3", "--cacert"]).arg(file.path());
    command.args(arguments).run()
}

#[test]
fn tls_under_an_own_authority() {
    let authority = Authority::new();
    let origin = secure(&authority.issue(&["127.0.0.1"], Validity::Current));
    let sandbox = Sandbox::new();
    run_trusting(&sandbox, &authority, &origin).expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert_well_asked(&origin);
}

#[test]
fn fault_049_tls_closed_without_close_notify() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"], Validity::Current);
    let origin = Origin::builder().tls(&identity).start(|request, _| honest(request).close());
    let sandbox = Sandbox::new();
    let outcome = run_trusting(&sandbox, &authority, &origin);
    outcome.expect(0);
    assert_eq!(outcome.all("retry").count(), 0, "the length decides\n{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_050_bad_certificates_are_never_retried() {
    let (known, unknown) = (Authority::new(), Authority::new());
    for (what, identity) in [
        ("unknown authority", unknown.issue(&["127.0.0.1"], Validity::Current)),
        ("expired", known.issue(&["127.0.0.1"], Validity::Expired)),
        ("wrong name", known.issue(&["other.example"], Validity::Current)),
    ] {
        let origin = secure(&identity);
        let sandbox = Sandbox::new();
        // A slow handshake would have others begun beside it.
        let outcome = run_trusting_with(&["-x", "1"], &sandbox, &known, &origin);
        outcome.expect(5);
        sandbox.assert_nothing_left();
        assert_eq!(origin.connections(), 1, "{what}");
        assert_eq!(origin.requests().len(), 0, "{what}");
    }
}

#[test]
fn unknown_authority_is_refused_without_flags_and_accepted_by_insecure() {
    let origin = secure(&Authority::new().issue(&["127.0.0.1"], Validity::Current));
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(5);
    sandbox.assert_nothing_left();
    command(&sandbox, &origin).arg("--insecure").run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_052_header_bombs_are_refused() {
    let large = Origin::start(|request, _| honest(request).header("X-Bomb", &"x".repeat(1 << 20)));
    let many = Origin::start(|request, _| {
        (0..10_000).fold(honest(request), |response, number| {
            response.header(&format!("X-Bomb-{number}"), "x")
        })
    });
    for origin in [large, many] {
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(7);
        sandbox.assert_unpublished("file");
        assert!(origin.requests().len() < 20, "{} requests", origin.requests().len());
    }
}

#[test]
fn not_http_at_all_is_a_broken_protocol() {
    let origin = Origin::start(|_, _| Response::empty(200).interim("SSH-2.0-OpenSSH_9.9\r\n"));
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(7);
    sandbox.assert_unpublished("file");
}

#[test]
fn fault_054_server_restarted_midway() {
    let throttle = Throttle::new(4 * MIB).crawling_after(5 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let port = origin.port();
    let sandbox = Sandbox::new();
    let mut running = command(&sandbox, &origin).args(["--retry", "5"]).start();
    running.wait_until("some bytes are here", |running| running.bytes() >= 2 * MIB);
    drop(origin);
    let seen_retry = |events: &[serde_json::Value]| events.iter().any(|e| e["event"] == "retry");
    running.wait_until("it noticed", |running| seen_retry(&running.events()));
    let _origin = Origin::builder().port(port).start(|request, _| honest(request));
    let outcome = running.finish();
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert!(outcome.fetched_bytes() <= SIZE + 4 * MIB, "it began again\n{outcome}");
}
