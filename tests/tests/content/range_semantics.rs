//! Section A of the faults: servers that answer ranges wrongly.

use haul_tests::prelude::*;

use crate::{command, run};

/// Large enough for several leases, with a last segment that is not full.
const SIZE: u64 = 16 * MIB + 4321;

/// The honest answer to a request for [`object`].
fn honest(request: &Request) -> Response {
    standard(&object(SIZE), request)
}

/// Answers requests with a Range by `lie` and all others honestly.
fn lying(lie: impl Fn(&Request, &Context) -> Response + Send + Sync + 'static) -> Origin {
    Origin::start(
        move |request, context| {
            if request.range().is_some() { lie(request, context) } else { honest(request) }
        },
    )
}

fn plain_requests(origin: &Origin) -> usize {
    origin.requests().iter().filter(|record| record.request.range().is_none()).count()
}

/// The download must end well, as one plain stream, and say so.
#[track_caller]
fn assert_sequential(origin: &Origin) {
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, origin);
    outcome.expect(0).expect_notice("single-stream");
    sandbox.assert_published("file", &object(SIZE));
    let mut requests = origin.requests();
    // By the order in which it connected, whichever request was read first.
    requests.sort_by_key(|it| (it.connection, it.request_on_connection));
    let last = requests.last().expect("there were requests");
    assert!(last.request.range().is_none(), "the last request has a Range: {last:?}");
    assert_eq!(plain_requests(origin), 1, "one plain stream is enough");
}

#[test]
fn fault_001_range_ignored_is_one_stream() {
    let origin = Origin::start(|_, _| Response::full(&object(SIZE)).without("Accept-Ranges"));
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0).expect_notice("single-stream");
    sandbox.assert_published("file", &object(SIZE));
    assert_eq!(origin.requests().len(), 1, "the first response is already the stream");
}

#[test]
fn fault_002_some_ranges_ignored_goes_sequential() {
    let gate = Gate::new();
    let origin = Origin::start(move |request, _| match request.range() {
        None => {
            gate.open();
            honest(request)
        }
        Some(_) if request.start() >= 6 * MIB => Response::full(&object(SIZE)),
        // Or it would bring everything before another response is looked at.
        Some(_) => honest(request).stall(5 * MIB, &gate),
    });
    assert_sequential(&origin);
}

#[test]
fn fault_003_slice_posing_as_200_is_never_written_at_0() {
    // From the first request on, and only for ranges that do not begin at 0.
    for from in [0, 1] {
        let origin = lying(move |request, _| {
            let honest = honest(request);
            if request.start() >= from { honest.status(200) } else { honest }
        });
        // The first response has everything, whether it is called a part or the whole.
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_004_range_that_starts_elsewhere_is_refused() {
    // Even plain requests get it, so that there is no way to the object.
    let elsewhere = |request: &Request| {
        let start = request.start() + 1;
        Response::partial(&object(SIZE), start..(start + MIB).min(SIZE))
    };
    for from in [0, 1] {
        let origin = Origin::start(move |request, _| {
            if request.range().is_none() || request.start() >= from {
                elsewhere(request)
            } else {
                honest(request)
            }
        });
        let sandbox = Sandbox::new();
        let outcome = run(&sandbox, &origin);
        if from == 0 {
            outcome.expect(7);
            assert!(outcome.all("retry").count() >= 1, "it is tried again\n{outcome}");
            sandbox.assert_unpublished("file");
        } else {
            // The first response, which is right, has everything.
            outcome.expect(0);
            sandbox.assert_published("file", &object(SIZE));
        }
        assert!(origin.requests().len() < 100, "{} requests", origin.requests().len());
    }
}

#[test]
fn fault_004_range_that_starts_elsewhere_once_is_asked_again() {
    // Of the length that was asked for, so that nothing but its place tells.
    let origin = lying(|request, context| match context.index {
        1 => {
            let asked = request.range().and_then(|asked| asked.within(SIZE)).expect("a range");
            Response::partial(&object(SIZE), asked.start - 100..asked.end - 100)
        }
        _ => honest(request),
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_005_range_that_ends_beyond_the_asked_stores_nothing_beyond() {
    // Bytes of another version lie beyond what was asked: storing one shows.
    let beyond = |request: &Request| {
        let (asked, other) = (request.range().expect("a range"), Object::new(2, SIZE));
        let range = asked.within(SIZE).expect("it can be satisfied");
        let end = (range.end + 2 * MIB).min(SIZE);
        Response::partial(&object(SIZE), range.start..end)
            .no_body()
            .object(&object(SIZE), range.clone())
            .object(&other, range.end..end)
    };
    let once = lying(move |request, context| match context.index {
        1 => beyond(request),
        _ => honest(request),
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &once).expect(0);
    sandbox.assert_published("file", &object(SIZE));

    let always = lying(move |request, _| beyond(request));
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &always);
    outcome.expect_one_of(&[0, 7]);
    if outcome.code == 0 {
        sandbox.assert_published("file", &object(SIZE));
    } else {
        sandbox.assert_unpublished("file");
    }
}

#[test]
fn fault_006_206_without_content_range_goes_sequential() {
    assert_sequential(&lying(|request, _| honest(request).without("Content-Range")));
}

#[test]
fn fault_007_early_close_keeps_the_prefix() {
    const PREFIX: u64 = 700_001;
    let origin = lying(|request, context| match context.index {
        0 | 2 => honest(request).cut(PREFIX, End::Close),
        _ => honest(request),
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object(SIZE));
    let rests = origin.requests().iter().filter(|r| r.request.start() == PREFIX).count();
    assert!(rests > 0, "the rest of the first range is asked for");
    assert!(!origin.requests()[1..].iter().any(|r| r.request.start() == 0), "the prefix was kept");
}

#[test]
fn fault_008_longer_body_is_stopped_at_the_boundary() {
    let beyond = |request: &Request| {
        let range = request.range().and_then(|asked| asked.within(SIZE)).expect("a range");
        let other = Object::new(2, SIZE);
        honest(request).object(&other, range.end..range.end + MIB)
    };
    let announced = lying(move |request, _| beyond(request));
    // A chunk that reaches over the boundary, where no length ends the body.
    let chunked = lying(|request, _| {
        let range = request.range().and_then(|asked| asked.within(SIZE)).expect("a range");
        let own = range.end - 1000.min(range.end - range.start);
        let mut last = object(SIZE).bytes(own..range.end);
        last.extend(Object::new(2, SIZE).bytes(range.end..range.end + 50_000));
        let body = honest(request).no_body().object(&object(SIZE), range.start..own);
        body.bytes(last).chunked(true)
    });
    for origin in [announced, chunked] {
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_009_multipart_for_one_range_goes_sequential() {
    assert_sequential(&lying(|request, _| {
        let range = request.range().and_then(|asked| asked.within(SIZE)).expect("a range");
        let part = format!(
            "\r\n--sep\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {}-{}/{SIZE}\r\n\r\n",
            range.start,
            range.end - 1
        );
        let length = part.len() as u64 + (range.end - range.start) + 11;
        Response::partial(&object(SIZE), range.clone())
            .without("Content-Range")
            .set("Content-Type", "multipart/byteranges; boundary=sep")
            .set("Content-Length", &length.to_string())
            .no_body()
            .bytes(part.into_bytes())
            .object(&object(SIZE), range)
            .bytes(b"\r\n--sep--\r\n".to_vec())
    }));
}

#[test]
fn fault_010_416_with_our_size_when_all_is_here() {
    let throttle = Throttle::new(2 * MIB).crawling_after(MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    // Everything is fetched, but a foreign file at the name keeps it from being published.
    let mut running = command(&sandbox, &origin).start();
    running.wait_until("some bytes are here", |running| running.bytes() > 0);
    sandbox.write("file", "foreign");
    throttle.lift();
    running.finish().expect(3);
    std::fs::remove_file(sandbox.path("file")).unwrap();
    sandbox.assert_kept("file");
    let port = origin.port();
    drop(origin);

    let origin = Origin::builder().port(port).start(|request, _| match request.range() {
        Some(_) => Response::unsatisfiable(SIZE),
        None => Response::full(&object(SIZE)),
    });
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_011_another_total_is_a_change() {
    let other_total = |request: &Request| {
        let range = request.range().and_then(|asked| asked.within(SIZE)).expect("a range");
        honest(request).content_range(&range, &(SIZE + 1).to_string()).set("ETag", "\"larger\"")
    };
    // Once: one restart, then the truth. No other response brings everything before.
    let once = lying(move |request, context| match context.index {
        0 => honest(request).rate(2 * MIB),
        1 => other_total(request),
        _ => honest(request),
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &once).expect(0).expect_notice("restarted");
    sandbox.assert_published("file", &object(SIZE));

    // Always, in a 206 and in a 416: given up after one restart.
    let in_206 = lying(move |request, _| match request.start() {
        0 => honest(request).rate(2 * MIB),
        _ => other_total(request),
    });
    let in_416 = lying(|request, _| match request.start() {
        0 => honest(request).rate(2 * MIB),
        _ => Response::unsatisfiable(SIZE - 1),
    });
    for origin in [in_206, in_416] {
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(10);
        sandbox.assert_unpublished("file");
        assert!(origin.requests().len() < 40, "{} requests", origin.requests().len());
    }
}

#[test]
fn fault_012_capped_ranges_are_taken_as_they_come() {
    let origin = lying(|request, _| {
        let range = request.range().and_then(|asked| asked.within(SIZE)).expect("a range");
        Response::partial(&object(SIZE), range.start..range.end.min(range.start + 500_000))
    });
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &origin);
    outcome.expect(0);
    assert!(!outcome.has_notice("single-stream"), "ranges work\n{outcome}");
    sandbox.assert_published("file", &object(SIZE));
    assert_eq!(plain_requests(&origin), 0);
}

#[test]
fn fault_013_unknown_total_is_not_used_for_splitting() {
    let origin = lying(|request, _| {
        let range = request.range().and_then(|asked| asked.within(SIZE)).expect("a range");
        honest(request).content_range(&range, "*")
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_014_length_that_is_not_the_ranges_is_refused() {
    let origin = lying(|request, _| {
        let range = request.range().and_then(|asked| asked.within(SIZE)).expect("a range");
        let short = range.end - range.start - 100;
        Response::partial(&object(SIZE), range.clone())
            .set("Content-Length", &short.to_string())
            .no_body()
            .object(&Object::new(2, SIZE), range.start..range.start + short)
    });
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &origin);
    outcome.expect_one_of(&[0, 7]);
    if outcome.code == 0 {
        sandbox.assert_published("file", &object(SIZE));
        assert!(plain_requests(&origin) > 0, "only a plain request got the right bytes");
    } else {
        sandbox.assert_unpublished("file");
    }
}

#[test]
fn fault_015_chunked_without_length_ends_at_its_terminator() {
    let chunked = |terminated| {
        Origin::start(move |_, _| {
            Response::new(200).object(&object(SIZE), 0..SIZE).chunked(terminated)
        })
    };
    let origin = chunked(true);
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0).expect_notice("single-stream");
    sandbox.assert_published("file", &object(SIZE));
    assert_eq!(origin.requests().len(), 1);

    let sandbox = Sandbox::new();
    run(&sandbox, &chunked(false)).expect(4);
    sandbox.assert_unpublished("file");
}

#[test]
fn fault_016_short_body_with_a_length_is_not_the_object() {
    let origin = Origin::start(|_, _| Response::full(&object(SIZE)).cut(SIZE - 1, End::Close));
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(4);
    sandbox.assert_unpublished("file");
}

#[test]
fn fault_016_body_that_ends_with_its_connection() {
    let delimited_by = |end| {
        Origin::start(move |_, _| {
            Response::new(200).http_1_0().object(&object(SIZE), 0..SIZE).cut(SIZE, end)
        })
    };
    let sandbox = Sandbox::new();
    run(&sandbox, &delimited_by(End::Close)).expect(0).expect_notice("unproven-length");
    sandbox.assert_published("file", &object(SIZE));

    let sandbox = Sandbox::new();
    run(&sandbox, &delimited_by(End::Reset)).expect(4);
    sandbox.assert_unpublished("file");
}

#[test]
fn fault_017_content_encoding_is_stored_as_sent() {
    let origin = Origin::start(|request, _| honest(request).header("Content-Encoding", "gzip"));
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0).expect_notice("content-encoding");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_017_encodings_are_never_mixed() {
    // Ranges that do not begin at 0 come in another coding, of other bytes.
    let coded = Object::new(2, SIZE).with_etag(None).with_last_modified(None);
    let bare = object(SIZE).with_etag(None).with_last_modified(None);
    let (encoded, plain) = (coded.clone(), bare.clone());
    let origin = Origin::start(move |request, _| match request.start() {
        0 if request.range().is_some() => standard(&plain, request),
        _ => standard(&encoded, request).header("Content-Encoding", "gzip"),
    });
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &origin);
    outcome.expect_one_of(&[0, 7]);
    if outcome.code == 0 {
        // The first response may have brought all of it before another was asked for.
        let is = |object: &Object| object.compare_file(&sandbox.path("file")).is_ok();
        assert!(is(&coded) || is(&bare), "a mixture\n{outcome}");
    } else {
        sandbox.assert_unpublished("file");
    }
}

#[test]
fn fault_018_login_page_on_a_resume_is_never_spliced() {
    let throttle = Throttle::new(4 * MIB).crawling_after(4 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    interrupt(command(&sandbox, &origin), 3 * MIB);
    sandbox.assert_kept("file");
    let port = origin.port();
    drop(origin);

    let page = "<html><body>Please log in</body></html>".repeat(1000);
    let portal = Origin::builder()
        .port(port)
        .start(move |_, _| Response::text(200, "text/html; charset=utf-8", &page));
    run(&sandbox, &portal).expect(7);
    sandbox.assert_kept("file");
    drop(portal);

    let origin = Origin::builder().port(port).start(|request, _| honest(request));
    let outcome = run(&sandbox, &origin);
    outcome.expect(0);
    assert!(outcome.resumed_bytes() >= 2 * MIB, "the partial survived\n{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_019_empty_object_is_an_empty_file() {
    let empty = Object::new(1, 0);
    let unsatisfiable = Origin::serving(&empty);
    let of_length_0 = Origin::start(|_, _| Response::full(&Object::new(1, 0)));
    let chunked = Origin::start(|_, _| Response::new(200).chunked(true));
    for origin in [unsatisfiable, of_length_0, chunked] {
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(0);
        sandbox.assert_published("file", &empty);
    }
}

#[test]
fn fault_020_impossible_sizes_are_refused() {
    for total in [
        "18446744073709551615",
        "18446744073709551616",
        "9223372036854775808",
        "99999999999999999999999999999999",
    ] {
        let origin = lying(move |request, _| honest(request).content_range(&(0..4 * MIB), total));
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(7);
        sandbox.assert_unpublished("file");
    }
    for length in ["18446744073709551616", "9223372036854775808", "-1", "1e3"] {
        let origin = Origin::start(move |_, _| {
            Response::new(200).header("Content-Length", length).bytes(vec![0; 100_000])
        });
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(7);
        sandbox.assert_unpublished("file");
    }
    // The largest size that a file could have is more than any disk has.
    let origin = Origin::start(|request, _| {
        let largest = Object::new(1, i64::MAX as u64);
        let range = request.range().and_then(|asked| asked.within(largest.size_bytes()));
        Response::partial(&largest, range.unwrap_or(0..MIB))
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect_one_of(&[7, 11]);
    sandbox.assert_unpublished("file");
}

#[test]
fn fault_020_sizes_over_4_gib_are_counted() {
    const LARGE: u64 = (5 << 30) + 123;
    let origin = Origin::serving(&Object::new(1, LARGE));
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox).args(["--dry-run", "-o", "file"]).arg(origin.url("/f")).run();
    outcome.expect(0);
    assert!(outcome.text().contains(&LARGE.to_string()), "{outcome}");
    sandbox.assert_nothing_left();
}

#[test]
fn fault_021_interim_responses_and_a_connection_for_each_request() {
    let origin = Origin::start(|request, _| {
        honest(request)
            .interim("HTTP/1.1 100 Continue\r\n\r\n")
            .interim("HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n")
            .close()
    });
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &origin);
    outcome.expect(0);
    assert_eq!(outcome.all("retry").count(), 0, "an announced close is no failure\n{outcome}");
    sandbox.assert_published("file", &object(SIZE));
    assert!(origin.requests().iter().all(|record| record.request_on_connection == 0));
}
