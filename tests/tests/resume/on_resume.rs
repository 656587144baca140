//! Sections A and B of the faults, met by a resume: the first run was killed
//! midway at a good origin, the second one meets the fault.

use haul_tests::killed::{Killed, SIZE, STORED};
use haul_tests::prelude::*;

/// Another version of the same size.
fn changed() -> Object {
    Object::new(2, SIZE)
}

fn killed() -> Killed {
    Killed::new(env!("CARGO_BIN_EXE_haul-under-test"), &object(SIZE))
}

/// The honest answer to a request for [`object`].
fn honest(request: &Request) -> Response {
    standard(&object(SIZE), request)
}

/// What is asked for, as a half-open range.
fn asked(request: &Request) -> std::ops::Range<u64> {
    request.range().and_then(|asked| asked.within(SIZE)).expect("a range of the object")
}

/// Answers requests with a Range by `lie` and all others honestly.
fn lying(
    lie: impl Fn(&Request, &Context) -> Response + Send + Sync,
) -> impl Fn(&Request, &Context) -> Response + Send + Sync {
    move |request, context| {
        if request.range().is_some() { lie(request, context) } else { honest(request) }
    }
}

fn plain_requests(requests: &[Record]) -> usize {
    requests.iter().filter(|record| record.request.range().is_none()).count()
}

#[track_caller]
fn assert_bounded(requests: &[Record]) {
    assert!(requests.len() < 100, "{} requests", requests.len());
}

/// The resume ends well, as one plain stream, and says so.
#[track_caller]
fn goes_sequential(script: impl Fn(&Request, &Context) -> Response + Send + Sync + 'static) {
    let killed = killed();
    let (outcome, requests) = killed.meets(script);
    outcome.expect(0).expect_notice("single-stream");
    killed.sandbox.assert_published("file", &object(SIZE));
    assert!(plain_requests(&requests) <= 1, "one plain stream is enough");
    assert_bounded(&requests);
}

/// The resume ends well without giving up what was stored.
#[track_caller]
fn continues(script: impl Fn(&Request, &Context) -> Response + Send + Sync + 'static) -> Outcome {
    let killed = killed();
    let (outcome, requests) = killed.meets(script);
    outcome.expect(0);
    killed.sandbox.assert_published("file", &object(SIZE));
    assert!(outcome.resumed_bytes() >= STORED, "{outcome}");
    assert!(outcome.fetched_bytes() <= SIZE - STORED + 4 * MIB, "too much was fetched\n{outcome}");
    assert_eq!(plain_requests(&requests), 0, "all of it was asked for");
    assert_bounded(&requests);
    outcome
}

/// The resume is given up with `code`, and what was stored survives it.
#[track_caller]
fn is_given_up(
    code: i32,
    script: impl Fn(&Request, &Context) -> Response + Send + Sync + 'static,
) -> Outcome {
    let killed = killed();
    let (outcome, requests) = killed.meets(script);
    outcome.expect(code);
    assert_eq!(outcome.event("error")["resumable"], true, "{outcome}");
    assert_bounded(&requests);
    killed.assert_continues(&object(SIZE));
    outcome
}

/// The resume starts over, once, and ends with the other version.
#[track_caller]
fn restarts_into(
    after: &Object,
    script: impl Fn(&Request, &Context) -> Response + Send + Sync + 'static,
) {
    let killed = killed();
    let (outcome, requests) = killed.meets(script);
    outcome.expect(0).expect_notice("restarted");
    killed.sandbox.assert_published("file", after);
    assert_bounded(&requests);
}

/// The object never stays the same: given up after one restart.
#[track_caller]
fn is_given_up_as_changed(script: impl Fn(&Request, &Context) -> Response + Send + Sync + 'static) {
    let killed = killed();
    let (outcome, requests) = killed.meets(script);
    outcome.expect(10).expect_notice("restarted");
    assert_bounded(&requests);
    killed.sandbox.assert_unpublished("file");
    killed.assert_completes(&object(SIZE));
}

/// Answers as `standard`, but as if the request had no precondition.
fn ignoring_preconditions(object: &Object, request: &Request) -> Response {
    let mut request = request.clone();
    request.headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("if-"));
    standard(object, &request)
}

#[test]
fn fault_001_range_ignored_on_resume() {
    goes_sequential(|_, _| Response::full(&object(SIZE)).without("Accept-Ranges"));
}

#[test]
fn fault_002_some_ranges_ignored_on_resume() {
    goes_sequential(lying(|request, context| match context.index {
        // The rest does not come before another response is looked at.
        0 => honest(request).rate(2 * MIB),
        _ => Response::full(&object(SIZE)),
    }));
}

#[test]
fn fault_003_slice_posing_as_200_on_resume() {
    for from in [0, 1] {
        goes_sequential(lying(move |request, context| match context.index >= from {
            true => honest(request).status(200),
            false => honest(request).rate(2 * MIB),
        }));
    }
}

#[test]
fn fault_004_range_that_starts_elsewhere_on_resume() {
    is_given_up(7, |request, _| {
        let start = request.start() + 1;
        Response::partial(&object(SIZE), start..(start + MIB).min(SIZE))
    });
}

#[test]
fn fault_005_range_that_ends_beyond_the_asked_on_resume() {
    // Bytes of another version beyond what was asked: storing one shows.
    let killed = killed();
    let (outcome, requests) = killed.meets(lying(|request, _| {
        let range = asked(request);
        let end = (range.end + 2 * MIB).min(SIZE);
        Response::partial(&object(SIZE), range.start..end)
            .no_body()
            .object(&object(SIZE), range.clone())
            .object(&changed(), range.end..end)
    }));
    outcome.expect_one_of(&[0, 7]);
    assert_bounded(&requests);
    match outcome.code {
        0 => killed.sandbox.assert_published("file", &object(SIZE)),
        _ => killed.assert_continues(&object(SIZE)),
    }
}

#[test]
fn fault_006_206_without_content_range_on_resume() {
    goes_sequential(lying(|request, _| honest(request).without("Content-Range")));
}

#[test]
fn fault_007_early_close_on_resume() {
    continues(lying(|request, context| match context.index {
        0..=2 => honest(request).cut(700_001, End::Close),
        _ => honest(request),
    }));
}

#[test]
fn fault_008_longer_body_on_resume() {
    continues(lying(|request, _| {
        let end = asked(request).end;
        honest(request).object(&changed(), end..end + MIB)
    }));
    // A chunk that reaches over the boundary, where no length ends the body.
    continues(lying(|request, _| {
        let range = asked(request);
        let own = range.end - 1000.min(range.end - range.start);
        let mut last = object(SIZE).bytes(own..range.end);
        last.extend(changed().bytes(range.end..range.end + 50_000));
        let body = honest(request).no_body().object(&object(SIZE), range.start..own);
        body.bytes(last).chunked(true)
    }));
}

#[test]
fn fault_009_multipart_for_one_range_on_resume() {
    goes_sequential(lying(|request, _| {
        let range = asked(request);
        let head = format!(
            "\r\n--sep\r\nContent-Range: bytes {}-{}/{SIZE}\r\n\r\n",
            range.start,
            range.end - 1
        );
        let length = head.len() as u64 + (range.end - range.start) + 11;
        Response::partial(&object(SIZE), range.clone())
            .without("Content-Range")
            .set("Content-Type", "multipart/byteranges; boundary=sep")
            .set("Content-Length", &length.to_string())
            .no_body()
            .bytes(head.into_bytes())
            .object(&object(SIZE), range)
            .bytes(b"\r\n--sep--\r\n".to_vec())
    }));
}

#[test]
fn fault_011_another_total_on_resume() {
    let other_total = |request: &Request| {
        let larger = honest(request).set("ETag", "\"larger\"");
        larger.content_range(&asked(request), &(SIZE + 1).to_string())
    };
    restarts_into(
        &object(SIZE),
        lying(move |request, context| match context.index {
            0 => other_total(request),
            _ => honest(request),
        }),
    );
    is_given_up_as_changed(lying(move |request, _| match request.start() {
        0 => honest(request).rate(2 * MIB),
        _ => other_total(request),
    }));
    is_given_up_as_changed(lying(|request, _| match request.start() {
        0 => honest(request).rate(2 * MIB),
        _ => Response::unsatisfiable(SIZE - 1),
    }));
}

#[test]
fn fault_012_capped_ranges_on_resume() {
    let outcome = continues(lying(|request, _| {
        let range = asked(request);
        Response::partial(&object(SIZE), range.start..range.end.min(range.start + 500_000))
    }));
    assert!(!outcome.has_notice("single-stream"), "{outcome}");
}

#[test]
fn fault_013_unknown_total_on_resume() {
    let killed = killed();
    let (outcome, requests) =
        killed.meets(lying(|request, _| honest(request).content_range(&asked(request), "*")));
    outcome.expect(0);
    killed.sandbox.assert_published("file", &object(SIZE));
    assert_bounded(&requests);
}

#[test]
fn fault_014_length_that_is_not_the_ranges_on_resume() {
    let killed = killed();
    let (outcome, requests) = killed.meets(lying(|request, _| {
        let range = asked(request);
        let short = range.end - range.start - 100;
        Response::partial(&object(SIZE), range.clone())
            .set("Content-Length", &short.to_string())
            .no_body()
            .object(&changed(), range.start..range.start + short)
    }));
    outcome.expect_one_of(&[0, 7]);
    assert_bounded(&requests);
    match outcome.code {
        0 => killed.sandbox.assert_published("file", &object(SIZE)),
        _ => killed.assert_continues(&object(SIZE)),
    }
}

#[test]
fn fault_015_chunked_without_a_length_on_resume() {
    goes_sequential(|_, _| Response::full(&object(SIZE)).without("Content-Length").chunked(true));
}

#[test]
fn fault_016_body_cut_short_on_resume() {
    // Each response to a range ends before its first byte.
    is_given_up(4, lying(|request, _| honest(request).cut(0, End::Close)));
    // The server gives no ranges any more, and never all of the object.
    let killed = killed();
    let (outcome, requests) =
        killed.meets(|_, _| Response::full(&object(SIZE)).cut(SIZE - 1, End::Close));
    outcome.expect(4);
    assert_bounded(&requests);
    killed.sandbox.assert_unpublished("file");
    killed.assert_completes(&object(SIZE));
}

#[test]
fn fault_016_body_without_a_length_on_resume() {
    for (end, code) in [(End::Reset, 4), (End::Close, 0)] {
        let killed = killed();
        let (outcome, requests) = killed.meets(move |_, _| {
            Response::full(&object(SIZE)).http_1_0().without("Content-Length").cut(SIZE, end)
        });
        outcome.expect(code);
        assert_bounded(&requests);
        match code {
            0 => killed.sandbox.assert_published("file", &object(SIZE)),
            _ => drop(killed.assert_completes(&object(SIZE))),
        }
    }
}

#[test]
fn fault_017_another_encoding_on_resume() {
    // The coded bytes are others than those that are here.
    let coded = |request: &Request| {
        let coded = changed().with_etag(object(SIZE).etag());
        standard(&coded, request).header("Content-Encoding", "gzip")
    };
    let killed = killed();
    let (outcome, requests) = killed.meets(lying(move |request, _| coded(request)));
    outcome.expect_one_of(&[0, 7]);
    assert_bounded(&requests);
    match outcome.code {
        0 => killed.sandbox.assert_published("file", &object(SIZE)),
        _ => killed.assert_continues(&object(SIZE)),
    }
}

#[test]
fn fault_018_page_instead_of_the_object_on_resume() {
    let page = "<html><body>Please log in</body></html>".repeat(1000);
    is_given_up(7, move |_, _| Response::text(200, "text/html; charset=utf-8", &page));
    // A page with a coding, and without a length.
    is_given_up(7, |_, _| {
        Response::text(200, "text/html", "coded").header("Content-Encoding", "gzip")
    });
    is_given_up(7, |_, _| {
        let page = Response::text(200, "text/html", "coded").header("Content-Encoding", "gzip");
        page.chunked(true)
    });
    is_given_up(7, |_, _| Response::text(200, "text/html", "<p>log in").chunked(true));
    // A page that has the object's length.
    is_given_up(7, |_, _| {
        Response::text(200, "text/html", &"<p>log in</p>".repeat(2_000_000)[..SIZE as usize])
    });
}

#[test]
fn fault_020_impossible_sizes_on_resume() {
    for total in ["18446744073709551616", "9223372036854775808", "-1"] {
        is_given_up(7, move |request, _| match request.range() {
            Some(_) => honest(request).content_range(&asked(request), total),
            None => Response::new(200).header("Content-Length", total).bytes(vec![0; 100_000]),
        });
    }
}

#[test]
fn fault_021_interim_responses_and_a_connection_for_each_request_on_resume() {
    let outcome = continues(|request, _| {
        honest(request).interim("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").close()
    });
    assert_eq!(outcome.all("retry").count(), 0, "{outcome}");
}

#[test]
fn fault_025_changed_object_on_resume() {
    for after in [changed(), Object::new(2, SIZE + 7 * MIB), Object::new(2, MIB), Object::new(2, 9)]
    {
        let served = after.clone();
        restarts_into(&after, move |request, _| standard(&served, request));
    }
    is_given_up_as_changed(|request, context| {
        // So slow that no version is whole before the next one is seen.
        standard(&Object::new(100 + context.index as u64, SIZE), request).rate(2 * MIB)
    });
}

#[test]
fn fault_026_412_without_end_on_resume() {
    is_given_up_as_changed(|request, context| {
        let now = Object::new(100 + context.index as u64, SIZE);
        match request.is_conditional() {
            true => Response::empty(412),
            false => standard(&now, request).rate(2 * MIB),
        }
    });
}

#[test]
fn fault_027_ignored_if_match_on_resume() {
    let same_date = changed().with_last_modified(object(SIZE).last_modified_unix());
    for after in [changed(), same_date] {
        let served = after.clone();
        restarts_into(&after, move |request, _| ignoring_preconditions(&served, request));
    }
}

#[test]
fn fault_028_tags_that_differ_by_edge_on_resume() {
    // The other edge answers every other request, or what is asked for the
    // first time, so that asking again meets the first one.
    for by_turns in [true, false] {
        let killed = killed();
        let (outcome, requests) = killed.meets(move |request, context| {
            let (here, there) = (object(SIZE), object(SIZE).with_etag(Some("\"edge-b\"")));
            let first_time = request.range().is_some() && context.repeat == 0;
            let by_other = if by_turns { context.index % 2 == 0 } else { first_time };
            ignoring_preconditions(if by_other { &there } else { &here }, request)
        });
        outcome.expect(0);
        assert!(outcome.has_notice("single-stream") || outcome.has_notice("restarted"));
        killed.sandbox.assert_published("file", &object(SIZE));
        assert_bounded(&requests);
    }
}

#[test]
fn fault_029_if_range_that_never_holds_on_resume() {
    let killed = killed();
    let (outcome, _) = killed.meets(|request, _| match request.header("If-Range") {
        Some(_) => Response::full(&object(SIZE)),
        None => honest(request),
    });
    outcome.expect(0);
    killed.sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_022_weak_tag_alone_on_resume_after_a_kill() {
    let weak = object(SIZE).with_etag(Some("W/\"weak\"")).with_last_modified(None);
    let killed = Killed::new(env!("CARGO_BIN_EXE_haul-under-test"), &weak);
    let outcome = killed.assert_completes(&weak);
    outcome.expect_notice("restarted");
}
