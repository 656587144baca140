//! The first request, and what is refused beside it or in its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use haul_tests::prelude::*;

const SIZE: u64 = 12 * MIB + 4321;

fn honest(request: &Request) -> Response {
    standard(&object(SIZE), request)
}

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file"]).arg(origin.url("/file"))
}

/// How many bytes the request asks for.
fn asked_bytes(request: &Request) -> u64 {
    let range = request.range().and_then(|asked| asked.within(SIZE));
    range.map_or(0, |range| range.end - range.start)
}

#[test]
fn the_first_request_asks_for_everything_and_others_take_over() {
    let origin = Origin::start(|request, context| match context.index {
        // The others are done long before it could bring everything.
        0 => honest(request).rate(MIB),
        _ => honest(request).rate(8 * MIB),
    });
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin).run();
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    let requests = origin.requests();
    let first = requests[0].request.range();
    assert_eq!(first, Some(Asked::From { start: 0, end: None }), "{requests:?}");
    assert!(requests.len() >= 4, "others took over: {} requests", requests.len());
    assert!(!requests[0].is_finished(), "the first response was cut");
    assert!(outcome.fetched_bytes() < SIZE + MIB, "{outcome}");
}

#[test]
fn a_small_file_is_one_request() {
    let small = Object::new(2, 1024);
    let origin = Origin::serving(&small);
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).run().expect(0);
    sandbox.assert_published("file", &small);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn fault_093_where_ranges_are_refused_one_plain_request_brings_the_object() {
    let statuses = [400, 403, 404, 405, 406, 410, 412, 413, 416, 500, 501, 503];
    // Those that may pass are asked again after a second, so all wait at once.
    thread::scope(|scope| {
        for status in statuses.map(Some).into_iter().chain([None]) {
            scope.spawn(move || {
                let origin = Origin::start(move |request, _| match (request.range(), status) {
                    (None, _) => Response::full(&object(SIZE)).without("Accept-Ranges"),
                    (Some(_), Some(status)) => Response::empty(status),
                    (Some(_), None) => Response::hang_up(End::Close),
                });
                let sandbox = Sandbox::new();
                let outcome = command(&sandbox, &origin).run();
                outcome.expect(0).expect_notice("single-stream");
                sandbox.assert_published("file", &object(SIZE));
                let requests = origin.requests();
                let plain: Vec<_> =
                    requests.iter().filter(|record| record.request.range().is_none()).collect();
                assert_eq!(plain.len(), 1, "{status:?}: {} requests", requests.len());
                assert!(!plain[0].request.is_conditional());
            });
        }
    });
}

#[test]
fn fault_093_a_refusal_of_everything_ends_at_once() {
    for (status, code) in [(400, 8), (403, 6), (404, 8), (405, 8), (410, 6), (451, 8), (501, 8)] {
        let origin = Origin::start(move |_, _| Response::empty(status));
        let sandbox = Sandbox::new();
        let began = Instant::now();
        command(&sandbox, &origin).run().expect(code).expect_message(&status.to_string());
        assert!(began.elapsed() < Duration::from_secs(5), "{status}: {:?}", began.elapsed());
        assert!(origin.requests().len() <= 3, "{status}: {} requests", origin.requests().len());
        sandbox.assert_nothing_left();
    }
}

#[test]
fn fault_093_an_answer_that_does_not_change_ends_within_ten_seconds() {
    type Answer = fn(&Request) -> Response;
    let answers: [(Answer, i32); 4] = [
        (|_| Response::empty(500), 8),
        (|_| Response::empty(502), 8),
        (|_| Response::empty(204), 7),
        (|_| Response::partial(&object(SIZE), 5..MIB), 7),
    ];
    thread::scope(|scope| {
        for (answer, code) in answers {
            scope.spawn(move || {
                let origin = Origin::start(move |request, _| answer(request));
                let sandbox = Sandbox::new();
                let began = Instant::now();
                command(&sandbox, &origin).args(["--retry", "10"]).run().expect(code);
                let took = began.elapsed();
                assert!(took < Duration::from_secs(10), "{took:?} for exit {code}");
                sandbox.assert_nothing_left();
            });
        }
    });
}

#[test]
fn fault_094_parts_that_are_too_long_are_halved_and_remembered() {
    for status in [403, 413, 416] {
        let origin = Origin::start(move |request, _| match asked_bytes(request) {
            1..=3_000_000 => honest(request),
            _ => Response::empty(status),
        });
        let sandbox = Sandbox::new();
        let run = |name: &str| {
            haul!(sandbox).args(["-x", "4", "-o", name]).arg(origin.url("/file")).run()
        };
        let outcome = run("first");
        outcome.expect(0);
        assert_eq!(outcome.all("retry").count(), 0, "{status}: {outcome}");
        let refused = |from: usize| {
            let requests = origin.requests();
            requests[from..].iter().filter(|record| record.status() == Some(status)).count()
        };
        assert!(refused(0) <= 12, "{status}: {} refused", refused(0));
        let before = origin.requests().len();
        run("second").expect(0);
        assert!(refused(before) <= 1, "{status}: {} refused again", refused(before));
        sandbox.assert_only(&[("first", &object(SIZE)), ("second", &object(SIZE))]);
    }
}

#[test]
fn fault_095_a_link_that_is_good_for_one_request_brings_everything() {
    for connections in ["1", "4"] {
        for status in [Some(403), Some(404), Some(410), Some(503), Some(500), None] {
            let origin = Origin::start(move |request, context| match (context.index, status) {
                (0, _) => honest(request).rate(16 * MIB),
                (_, Some(status)) => Response::empty(status),
                (_, None) => Response::hang_up(End::Reset),
            });
            let sandbox = Sandbox::new();
            command(&sandbox, &origin).args(["-x", connections]).run().expect(0);
            sandbox.assert_published("file", &object(SIZE));
            let count = origin.requests().len();
            assert!(count <= 20, "{status:?} with -x {connections}: {count} requests");
        }
    }
}

#[test]
fn fault_095_a_server_with_one_connection_at_a_time_is_as_fast_as_that() {
    // Further requests are answered once the first response is through.
    let origin = Origin::start(|request, context| match context.index {
        0 => honest(request).rate(8 * MIB),
        _ => honest(request).delay(Duration::from_secs(20)),
    });
    let sandbox = Sandbox::new();
    let began = Instant::now();
    command(&sandbox, &origin).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn fault_098_one_refusal_midway_is_asked_again() {
    for status in [400, 403, 404, 405, 409, 410, 451, 500, 501, 509] {
        let origin = Origin::start(move |request, context| match context.index {
            2 => Response::empty(status),
            _ => honest(request).rate(16 * MIB),
        });
        let sandbox = Sandbox::new();
        command(&sandbox, &origin).run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_098_a_refused_condition_is_left_out() {
    for status in [400, 404, 405, 501] {
        let origin = Origin::start(move |request, context| match request.is_conditional() {
            true => Response::empty(status),
            // It does not bring everything before the others deliver.
            false if context.index == 0 => honest(request).rate(MIB),
            false => honest(request).rate(16 * MIB),
        });
        let sandbox = Sandbox::new();
        command(&sandbox, &origin).run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
        let delivered = origin.requests().iter().filter(|r| r.status() == Some(206)).count();
        assert!(delivered >= 4, "{status}: {delivered} connections delivered");
    }
}

#[test]
fn fault_098_one_whole_object_in_place_of_a_part_gives_nothing_up() {
    let origin = Origin::start(move |request, context| match context.index {
        3 => Response::full(&object(SIZE)),
        _ => honest(request).rate(16 * MIB),
    });
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin).run();
    outcome.expect(0);
    assert!(!outcome.has_notice("single-stream"), "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_099_whoever_asks_to_wait_is_asked_again_then() {
    for status in [403, 509, 530] {
        let origin = Origin::start(move |request, context| match context.index {
            0 => Response::empty(status).header("Retry-After", "2"),
            _ => honest(request),
        });
        let sandbox = Sandbox::new();
        let outcome = command(&sandbox, &origin).run();
        outcome.expect(0);
        sandbox.assert_published("file", &object(SIZE));
        let requests = origin.requests();
        let waited = requests[1].at.saturating_sub(requests[0].at);
        assert!(waited >= Duration::from_millis(1950), "{status}: asked after {waited:?}");
        assert!(requests[1].request.range().is_some(), "{status} is no refusal of ranges");
    }
}

#[test]
fn fault_102_the_first_byte_is_waited_for_with_words_and_without_a_second_request() {
    let origin = Origin::start(|request, _| honest(request).delay(Duration::from_secs(35)));
    let sandbox = Sandbox::new();
    let small = origin.url("/file");
    let outcome = haul!(sandbox, bare)
        .json()
        .args(["-x", "1", "-o", "file", "--retry", "0"])
        .arg(&small)
        .deadline(Duration::from_secs(100))
        .run();
    outcome.expect(0).expect_notice("first-byte");
    sandbox.assert_published("file", &object(SIZE));
    assert_eq!(origin.requests().len(), 1, "a second request would start the work again");
}

#[test]
fn fault_102_a_stall_timeout_of_the_users_own_counts_for_the_first_byte_too() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let origin = Origin::start(move |request, _| {
        let delay = if count.fetch_add(1, Ordering::SeqCst) == 0 { 60 } else { 0 };
        honest(request).delay(Duration::from_secs(delay))
    });
    let sandbox = Sandbox::new();
    let began = Instant::now();
    command(&sandbox, &origin).args(["--stall-timeout", "2s"]).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}
