//! Section B of the faults: what tells versions of an object apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use haul_tests::prelude::*;

use crate::{command, run};

const SIZE: u64 = 16 * MIB + 4321;

/// Answers as `standard`, but as if the request had no precondition.
fn ignoring_preconditions(object: &Object, request: &Request) -> Response {
    let mut request = request.clone();
    request.headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("if-"));
    standard(object, &request)
}

/// Interrupts a download of `object` and runs it again with `args`.
fn resumed(object: &Object, args: &[&str]) -> (Outcome, Origin) {
    let throttle = Throttle::new(4 * MIB).crawling_after(5 * MIB);
    let origin = Origin::throttled(object, &throttle);
    let sandbox = Sandbox::new();
    interrupt(command(&sandbox, &origin), 3 * MIB);
    sandbox.assert_kept("file");
    throttle.lift();
    let outcome = command(&sandbox, &origin).args(args).run();
    assert_well_asked(&origin);
    outcome.expect(0);
    sandbox.assert_published("file", object);
    (outcome, origin)
}

#[track_caller]
fn assert_continued(object: &Object, args: &[&str]) {
    let (outcome, _) = resumed(object, args);
    assert!(outcome.resumed_bytes() >= 2 * MIB, "it should have continued\n{outcome}");
    assert!(outcome.fetched_bytes() <= SIZE - 2 * MIB, "all was fetched again\n{outcome}");
}

#[track_caller]
fn assert_restarted(object: &Object, args: &[&str]) {
    let (outcome, _) = resumed(object, args);
    outcome.expect_notice("restarted");
    assert_eq!(outcome.resumed_bytes(), 0, "nothing proves the partial\n{outcome}");
}

#[test]
fn strong_etag_guards_every_later_request() {
    let object = Object::new(1, SIZE);
    let served = object.clone();
    let origin = Origin::start(move |request, context| match context.index {
        // So slow that others take over.
        0 => standard(&served, request).rate(MIB),
        _ => standard(&served, request),
    });
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &origin);
    outcome.expect(0);
    sandbox.assert_published("file", &object);
    assert_eq!(outcome.event("start")["validator"], "strong-etag", "{outcome}");
    let requests = origin.requests();
    assert!(requests.len() > 1, "one lease for {SIZE} bytes");
    assert!(!requests[0].request.is_conditional(), "nothing is known before the first");
    for record in &requests[1..] {
        assert_eq!(record.request.header("If-Match"), object.etag(), "{record:?}");
    }
}

#[test]
fn last_modified_guards_later_requests_where_there_is_no_tag() {
    let object = Object::new(1, SIZE).with_etag(None);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &origin);
    outcome.expect(0);
    assert_eq!(outcome.event("start")["validator"], "last-modified", "{outcome}");
    let expected = object.last_modified_unix().map(date::format);
    for record in &origin.requests()[1..] {
        let sent = record.request.header("If-Unmodified-Since").map(str::to_owned);
        assert_eq!(sent, expected, "{record:?}");
    }
}

#[test]
fn fault_022_weak_etag_alone_does_not_continue() {
    let weak = Object::new(1, SIZE).with_etag(Some("W/\"weak\""));
    let only_weak = weak.clone().with_last_modified(None);
    assert_restarted(&only_weak, &[]);
    assert_continued(&only_weak, &["-c=always"]);
    assert_continued(&only_weak, &["--checksum", &format!("blake3={}", only_weak.blake3_hex())]);
    assert_continued(&weak, &[]);
}

#[test]
fn fault_023_no_validator_restarts_unless_a_digest_is_given() {
    let bare = Object::new(1, SIZE).with_etag(None).with_last_modified(None);
    assert_restarted(&bare, &[]);
    assert_continued(&bare, &["--checksum", &format!("blake3={}", bare.blake3_hex())]);
}

#[test]
fn fault_024_fresh_last_modified_is_weak() {
    let modified = date::now_unix();
    let fresh = Object::new(1, SIZE).with_etag(None).with_last_modified(Some(modified));
    let throttle = Throttle::new(4 * MIB).crawling_after(5 * MIB);
    let (served, limit) = (fresh.clone(), throttle.clone());
    let origin = Origin::start(move |request, _| {
        limit.apply(standard(&served, request).set("Date", &date::format(modified)))
    });
    let sandbox = Sandbox::new();
    interrupt(command(&sandbox, &origin), 3 * MIB);
    throttle.lift();
    let outcome = run(&sandbox, &origin);
    outcome.expect(0).expect_notice("restarted");
    sandbox.assert_published("file", &fresh);
    for record in origin.requests() {
        assert!(!record.request.is_conditional(), "{record:?}");
    }
}

/// An origin that turns from one version to the other at its third request,
/// when bytes of the first version are on their way.
fn changing(before: &Object, after: &Object, answer: fn(&Object, &Request) -> Response) -> Origin {
    let (before, after) = (before.clone(), after.clone());
    Origin::start(move |request, context| match context.index {
        0 | 1 => answer(&before, request).rate(2 * MIB),
        _ => answer(&after, request).delay(Duration::from_millis(50)),
    })
}

#[track_caller]
fn assert_restarts_once_into(after: &Object, origin: &Origin) {
    let sandbox = Sandbox::new();
    run(&sandbox, origin).expect(0).expect_notice("restarted");
    sandbox.assert_published("file", after);
}

/// Every range that does not begin at 0 is of yet another version.
fn never_the_same(answer: fn(&Object, &Request) -> Response, size_bytes: u64) -> Origin {
    Origin::start(move |request, context| {
        // So slow that no version is whole before the next one is seen.
        answer(&Object::new(100 + context.index as u64, size_bytes), request).rate(2 * MIB)
    })
}

#[track_caller]
fn assert_given_up_as_changed(origin: &Origin) {
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, origin);
    outcome.expect(10).expect_notice("restarted");
    assert_eq!(outcome.all("notice").filter(|event| event["code"] == "restarted").count(), 1);
    sandbox.assert_unpublished("file");
    assert!(origin.requests().len() < 40, "{} requests", origin.requests().len());
}

#[test]
fn fault_025_change_midway_restarts_once() {
    let before = Object::new(1, SIZE);
    for after in [Object::new(2, SIZE), Object::new(2, SIZE + 7 * MIB), Object::new(2, MIB)] {
        assert_restarts_once_into(&after, &changing(&before, &after, standard));
    }
}

#[test]
fn fault_025_change_without_end_is_given_up() {
    assert_given_up_as_changed(&never_the_same(standard, SIZE));
}

/// The version that took the object's place has nothing to tell it by, or it
/// has, and the first one had not: both are seen, and never joined.
#[test]
fn fault_023_validators_that_vanish_or_appear_are_a_change() {
    let bare = |seed| Object::new(seed, SIZE).with_etag(None).with_last_modified(None);
    let answer = |object: &Object, request: &Request| {
        let fails = request.is_conditional() && object.etag().is_none();
        if fails { Response::empty(412) } else { standard(object, request) }
    };
    for (before, after) in [(Object::new(1, SIZE), bare(2)), (bare(1), Object::new(2, SIZE))] {
        let sandbox = Sandbox::new();
        let origin = changing(&before, &after, answer);
        run(&sandbox, &origin).expect(0).expect_notice("single-stream");
        sandbox.assert_published("file", &after);
    }
}

#[test]
fn fault_026_412_is_a_change_and_never_a_loop() {
    // The response to the same request without a condition decides.
    assert_given_up_as_changed(&never_the_same(
        |object: &Object, request: &Request| {
            if request.is_conditional() { Response::empty(412) } else { standard(object, request) }
        },
        SIZE,
    ));
}

#[test]
fn fault_026_412_of_a_server_that_has_our_version_all_the_same() {
    let object = Object::new(1, SIZE);
    let served = object.clone();
    let origin = Origin::start(move |request, _| {
        if request.is_conditional() { Response::empty(412) } else { standard(&served, request) }
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object);
    assert!(origin.requests().len() < 40, "{} requests", origin.requests().len());
}

#[test]
fn fault_027_ignored_if_match_shows_in_the_206() {
    let before = Object::new(1, SIZE);
    let other_date = Object::new(2, SIZE);
    let same_date = Object::new(2, SIZE).with_last_modified(before.last_modified_unix());
    for after in [other_date, same_date] {
        assert_restarts_once_into(&after, &changing(&before, &after, ignoring_preconditions));
    }
    assert_given_up_as_changed(&never_the_same(ignoring_preconditions, SIZE));
}

#[test]
fn fault_028_tags_that_differ_by_edge_go_sequential() {
    let (here, there) = (Object::new(1, SIZE), Object::new(1, SIZE).with_etag(Some("\"edge-b\"")));
    // The other edge answers what is asked for the first time, so that asking
    // again meets the first edge.
    let edge = move |request: &Request, context: &Context| {
        let by_other = request.start() > 0 && context.repeat == 0;
        let response = ignoring_preconditions(if by_other { &there } else { &here }, request);
        // The first one brings not all, however fast it is.
        if context.index == 0 { response.cut(4 * MIB, End::Close) } else { response }
    };
    let origin = Origin::start(edge);
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0).expect_notice("single-stream");
    sandbox.assert_published("file", &Object::new(1, SIZE));
}

#[test]
fn fault_029_if_range_that_never_holds() {
    let object = Object::new(1, SIZE);
    let throttle = Throttle::new(4 * MIB).crawling_after(5 * MIB);
    let (served, limit) = (object.clone(), throttle.clone());
    let origin = Origin::start(move |request, _| {
        limit.apply(match request.header("If-Range") {
            Some(_) => Response::full(&served),
            None => standard(&served, request),
        })
    });
    let sandbox = Sandbox::new();
    interrupt(command(&sandbox, &origin), 3 * MIB);
    throttle.lift();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object);
}

#[test]
fn changed_object_restarts_the_resume_and_says_so() {
    let (before, after) = (Object::new(1, SIZE), Object::new(2, SIZE));
    let throttle = Throttle::new(4 * MIB).crawling_after(5 * MIB);
    let changed = Arc::new(AtomicBool::new(false));
    let (limit, flag, new) = (throttle.clone(), changed.clone(), after.clone());
    let origin = Origin::start(move |request, _| {
        let object = if flag.load(Ordering::Acquire) { &new } else { &before };
        limit.apply(standard(object, request))
    });
    let sandbox = Sandbox::new();
    interrupt(command(&sandbox, &origin), 3 * MIB);
    changed.store(true, Ordering::Release);
    throttle.lift();
    run(&sandbox, &origin).expect(0).expect_notice("restarted");
    sandbox.assert_published("file", &after);
}
