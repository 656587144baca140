//! Which responses may be joined to bytes that are here, and where an object ends.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use haul_tests::killed::{self, Killed};
use haul_tests::prelude::*;

use crate::{command, run};

const SIZE: u64 = 16 * MIB + 4321;

fn object() -> Object {
    Object::new(1, SIZE).with_etag(Some("\"a\""))
}

/// Other bytes of the same size.
fn other() -> Object {
    Object::new(2, SIZE).with_last_modified(object().last_modified_unix())
}

fn honest(request: &Request) -> Response {
    standard(&object(), request)
}

/// What stdout got, and how it ended.
fn streamed(origin: &Origin) -> (Vec<u8>, Outcome) {
    let sandbox = Sandbox::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let haul = haul!(sandbox, bare)
        .args(["--retry", "2", "--stall-timeout", "5s", "-x", "4", "-o", "-"])
        .arg(origin.url("/file"));
    let running = haul.stdout(writer).start();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    (bytes, running.finish())
}

/// What is wrong with an answer.
type Distort = fn(Response) -> Response;

/// Ways not to show the tag `"a"`.
const UNSHOWN: &[(&str, Distort)] = &[
    ("nothing", |it| it.without("ETag").without("Last-Modified")),
    ("only a date", |it| it.without("ETag")),
    ("a weak tag", |it| it.set("ETag", "W/\"a\"")),
    ("a malformed tag", |it| it.set("ETag", "a")),
    ("two tags", |it| it.set("ETag", "\"a\"").header("ETag", "\"b\"")),
];

/// An origin of [`object`] whose parts after the first are of [`other`] and do not
/// show the tag, whatever the conditions, except that they may fail.
fn unshown(distort: Distort, fails_conditions: bool) -> Origin {
    Origin::start(move |request, context| {
        let mut plain = request.clone();
        plain.headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("if-"));
        if fails_conditions && request.is_conditional() {
            return Response::empty(412);
        }
        match request.range() {
            Some(_) if context.index > 0 => distort(standard(&other(), &plain)),
            // So slow that it does not bring everything before others are looked at.
            Some(_) => honest(&plain).rate(4 * MIB),
            None => honest(&plain),
        }
    })
}

#[test]
fn fault_089_only_the_same_strong_tag_joins() {
    for (what, distort) in UNSHOWN {
        for fails_conditions in [false, true] {
            let origin = unshown(*distort, fails_conditions);
            let sandbox = Sandbox::new();
            let outcome = run(&sandbox, &origin);
            assert_eq!(outcome.code, 0, "{what}: {outcome}");
            assert!(outcome.has_notice("single-stream"), "{what}: {outcome}");
            sandbox.assert_published("file", &object());
            assert!(origin.requests().len() < 30, "{what}: {}", origin.requests().len());
        }
    }
}

#[test]
fn fault_089_a_stream_that_has_given_bytes_out_ends() {
    for (what, distort) in UNSHOWN {
        for fails_conditions in [false, true] {
            let (got, outcome) = streamed(&unshown(*distort, fails_conditions));
            assert!(got == object().bytes(0..got.len() as u64), "{what}: mixed");
            // Before a byte was given out, one plain stream is as good.
            match got.len() as u64 {
                SIZE => outcome.expect(0),
                _ => outcome.expect(10),
            };
        }
    }
}

#[test]
fn fault_089_only_the_same_strong_date_joins() {
    let undated: Distort = |it| it.without("Last-Modified");
    let fresh: Distort = |it| {
        let modified = object().last_modified_unix().map(date::format).unwrap_or_default();
        it.set("Date", &modified)
    };
    for distort in [undated, fresh] {
        let dated = object().with_etag(None);
        let served = dated.clone();
        let origin = Origin::start(move |request, context| match request.range() {
            Some(_) if context.index > 0 => distort(standard(&other().with_etag(None), request)),
            _ => standard(&served, request).rate(24 * MIB),
        });
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(0);
        sandbox.assert_published("file", &dated);
    }
}

#[test]
fn fault_089_a_tag_that_comes_back_costs_nothing() {
    // Some servers leave it out of what they answer to a condition.
    let origin = Origin::start(|request, _| {
        let answer = honest(request);
        if request.is_conditional() { answer.without("ETag") } else { answer }
    });
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &origin);
    outcome.expect(0);
    assert!(!outcome.has_notice("single-stream"), "{outcome}");
    sandbox.assert_published("file", &object());
}

#[test]
fn fault_089_a_part_of_the_object_is_not_joined_either() {
    let origin = unshown(|it| it.without("ETag"), false);
    let sandbox = Sandbox::new();
    let range = format!("5-{}", SIZE - 5);
    command(&sandbox, &origin).args(["--range", &range]).run().expect(7);
    sandbox.assert_unpublished("file");
}

#[test]
fn fault_089_unshown_tag_on_a_resume_joins_nothing() {
    for (what, distort) in UNSHOWN {
        let first = Object::new(1, killed::SIZE).with_etag(Some("\"a\""));
        let then = Object::new(2, killed::SIZE).with_last_modified(first.last_modified_unix());
        let killed = Killed::new(env!("CARGO_BIN_EXE_haul-under-test"), &first);
        let (served, distort) = (then.clone(), *distort);
        let (outcome, _) = killed.meets(move |request, _| {
            let mut plain = request.clone();
            plain.headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("if-"));
            distort(standard(&served, &plain))
        });
        assert_eq!(outcome.code, 0, "{what}: {outcome}");
        killed.sandbox.assert_published("file", &then);
    }
}

#[test]
fn fault_090_coded_parts_are_never_stored() {
    // Coded bytes, as many as the part has.
    for coding in ["gzip, chunked", "deflate, chunked"] {
        let origin = Origin::start(move |request, context| match request.range() {
            Some(_) if context.index > 0 => {
                let coded = other().with_etag(object().etag());
                standard(&coded, request).chunked(true).set("Transfer-Encoding", coding)
            }
            // The rest has to come by another response.
            Some(_) => honest(request).cut(3 * MIB, End::Close),
            _ => honest(request),
        });
        let sandbox = Sandbox::new();
        let outcome = run(&sandbox, &origin);
        outcome.expect(0).expect_notice("single-stream");
        sandbox.assert_published("file", &object());
    }
}

#[test]
fn fault_090_an_object_that_is_always_coded_is_refused() {
    for coding in ["gzip, chunked", "gzip", "xchunked", "chunked, gzip"] {
        let origin = Origin::start(move |_, _| {
            let coded = Response::full(&object()).chunked(true);
            coded.set("Transfer-Encoding", coding).close()
        });
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(7).expect_message("transfer coding");
        sandbox.assert_unpublished("file");
    }
}

#[test]
fn fault_090_identity_counts_as_absent() {
    for coding in ["identity", "", "Identity"] {
        // The connection stays open: the length has to end the body.
        let origin =
            Origin::start(move |request, _| honest(request).header("Transfer-Encoding", coding));
        let sandbox = Sandbox::new();
        let outcome = run(&sandbox, &origin);
        outcome.expect(0);
        sandbox.assert_published("file", &object());
        assert!(outcome.elapsed < Duration::from_secs(10), "{outcome}");
    }
}

/// An origin that tells the end of the part as the total, and may refuse open ranges.
fn totals_of_parts(object: &Object, refusal: Option<u16>) -> Origin {
    let object = object.clone();
    Origin::start(move |request, _| {
        let size = object.size_bytes();
        if let (Some(status), Some(Asked::From { end: None, .. })) = (refusal, request.range()) {
            return Response::empty(status);
        }
        match request.range().and_then(|asked| asked.within(size)) {
            Some(range) => {
                let total = range.end.to_string();
                Response::partial(&object, range.clone()).content_range(&range, &total)
            }
            None if request.range().is_some() => Response::empty(416),
            None => Response::full(&object),
        }
    })
}

#[test]
fn fault_091_the_end_of_a_part_is_not_the_objects() {
    let bare = object().with_etag(None).with_last_modified(None);
    for object in [object(), bare, Object::new(3, MIB), Object::new(3, MIB - 1)] {
        // Where the open range is refused, a part with an end of its own is the first.
        for refusal in [None, Some(403), Some(413)] {
            let origin = totals_of_parts(&object, refusal);
            let sandbox = Sandbox::new();
            run(&sandbox, &origin).expect(0);
            sandbox.assert_published("file", &object);
            assert!(origin.requests().len() < 20, "{} requests", origin.requests().len());
        }
    }
}

#[test]
fn fault_091_a_small_object_is_one_request() {
    for size in [1, 1024, MIB, 4 * MIB - 1] {
        let object = Object::new(3, size);
        let origin = Origin::serving(&object);
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(0);
        sandbox.assert_published("file", &object);
        assert_eq!(origin.requests().len(), 1, "{size} bytes");
    }
}

#[test]
fn fault_092_the_same_tag_with_another_total_is_no_version() {
    // A shorter object under the same tag, in parts and as a whole.
    let shorter = Object::new(2, 5 * MIB).with_etag(object().etag());
    let origin = Origin::start(move |request, context| match context.index {
        0 => honest(request).rate(4 * MIB),
        _ => standard(&shorter, request),
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(7);
    sandbox.assert_unpublished("file");
}

#[test]
fn fault_092_on_a_resume_nothing_is_given_up() {
    let first = Object::new(1, killed::SIZE);
    let killed = Killed::new(env!("CARGO_BIN_EXE_haul-under-test"), &first);
    let shorter = Object::new(2, 5 * MIB).with_etag(first.etag());
    let (outcome, _) = killed.meets(move |request, _| standard(&shorter, request));
    outcome.expect(7);
    killed.assert_continues(&first);
}

#[test]
fn fault_096_a_200_that_says_it_is_the_whole_is_taken() {
    let last = SIZE - 1;
    for range in [
        format!("bytes 0-{last}/{SIZE}"),
        format!("bytes=0-{last}/{SIZE}"),
        format!("bytes 0-{last}/*"),
        format!("bytes */{SIZE}"),
        "bytes".to_owned(),
    ] {
        let origin =
            Origin::start(move |_, _| Response::full(&object()).header("Content-Range", &range));
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(0);
        sandbox.assert_published("file", &object());
        // One or two more show that the server has no ranges, whatever it says of itself:
        // the second where a first answer is late.
        assert!(origin.requests().len() <= 3, "{} requests", origin.requests().len());
    }
}

#[test]
fn fault_096_a_206_without_a_range_to_a_plain_request_is_taken() {
    let origin = Origin::start(|_, _| Response::full(&object()).status(206));
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object());
}

#[test]
fn fault_096_a_part_is_never_the_whole() {
    // As long as the part that was asked for, without a word of it.
    let unsaid = |request: &Request, _: &Context| {
        let answer = honest(request);
        match request.range() {
            Some(_) => answer.status(200).without("Content-Range"),
            None => answer,
        }
    };
    let origin = Origin::start(unsaid);
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object());

    // The same where the open range is refused, so that the part is the first answer.
    let origin = Origin::start(move |request, context| match request.range() {
        Some(Asked::From { end: None, .. }) => Response::empty(413),
        _ => unsaid(request, context),
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object());

    let part = |_: &Request, _: &Context| Response::partial(&object(), 0..5 * MIB);
    for status in [200, 206] {
        let origin = Origin::start(move |request, context| part(request, context).status(status));
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(7);
        sandbox.assert_unpublished("file");
    }
}

#[test]
fn fault_100_a_date_that_is_always_now_contradicts_nothing() {
    let bare = object().with_etag(None).with_last_modified(None);
    for lag in [0, 1] {
        let served = bare.clone();
        let time = Arc::new(AtomicUsize::new(0));
        let origin = Origin::start(move |request, _| {
            // Each response is of another second.
            let now = date::now_unix() + time.fetch_add(1, Ordering::Relaxed) as u64;
            let conditional = request.is_conditional();
            let answer =
                if conditional { Response::empty(412) } else { standard(&served, request) };
            let answer = answer.set("Date", &date::format(now)).rate(24 * MIB);
            answer.set("Last-Modified", &date::format(now - lag))
        });
        let sandbox = Sandbox::new();
        let outcome = run(&sandbox, &origin);
        outcome.expect(0);
        assert!(!outcome.has_notice("restarted"), "{outcome}");
        // The time of the response itself is as good as none.
        assert!(lag > 0 || !outcome.has_notice("single-stream"), "{outcome}");
        sandbox.assert_published("file", &bare);
    }
}

#[test]
fn fault_101_a_malformed_tag_is_worth_a_proof() {
    for tag in ["0x8D8117F40DD72AC", "\"a b\"", "\"half"] {
        let tagged =
            |seed| Object::new(seed, killed::SIZE).with_etag(Some(tag)).with_last_modified(None);
        let killed = Killed::new(env!("CARGO_BIN_EXE_haul-under-test"), &tagged(1));
        let served = tagged(1);
        let (outcome, _) = killed.meets(move |request, _| standard(&served, request));
        outcome.expect(0);
        killed.sandbox.assert_published("file", &tagged(1));
        assert!(outcome.resumed_bytes() >= killed::STORED, "{outcome}");

        // Other bytes under the same tag are found by the proof.
        let killed = Killed::new(env!("CARGO_BIN_EXE_haul-under-test"), &tagged(1));
        let served = tagged(2);
        let (outcome, _) = killed.meets(move |request, _| standard(&served, request));
        outcome.expect(0).expect_notice("restarted");
        killed.sandbox.assert_published("file", &tagged(2));
    }
}

/// An origin without ranges whose first answer breaks after 5 MiB, and then answers
/// by `repeat`.
fn breaking(first: fn() -> Response, repeat: fn() -> Response) -> Origin {
    Origin::start(move |_, context| match context.index {
        0 => first().cut(5 * MIB, End::Reset).rate(24 * MIB),
        _ => repeat(),
    })
}

fn chunked() -> Response {
    Response::full(&object()).without("Accept-Ranges").chunked(true)
}

fn with_length() -> Response {
    Response::full(&object()).without("Accept-Ranges")
}

/// A response by the name of its oddity.
type Named = (&'static str, fn() -> Response);

/// Ways to end after 3 MiB under the same tag.
const REPEATS: &[Named] = &[
    ("in chunks", || {
        let empty = Response::full(&object()).without("Accept-Ranges").no_body();
        empty.object(&object(), 0..3 * MIB).chunked(true)
    }),
    ("with the connection", || {
        let tagged = Response::new(200).header("ETag", "\"a\"");
        tagged.object(&object(), 0..3 * MIB).end(End::Close)
    }),
];

#[test]
fn fault_112_a_repeat_that_ends_early_is_not_the_object() {
    for first in [chunked as fn() -> Response, with_length] {
        for (what, repeat) in REPEATS {
            let sandbox = Sandbox::new();
            let outcome = run(&sandbox, &breaking(first, *repeat));
            assert!(outcome.code == 7, "{what}: {outcome}");
            sandbox.assert_unpublished("file");

            let (got, outcome) = streamed(&breaking(first, *repeat));
            assert!(got == object().bytes(0..got.len() as u64), "{what}");
            assert!(matches!(outcome.code, 7 | 10), "{what}: {outcome}");
        }
    }
}

/// Nothing says that another length is another version, so it may be a part.
#[test]
fn fault_112_a_whole_of_another_length_is_not_the_object() {
    let bare = || object().with_etag(None).with_last_modified(None);
    let dated = || object().with_etag(None);
    let weak = || object().with_etag(Some("W/\"a\""));
    for (what, of) in [("bare", bare as fn() -> Object), ("dated", dated), ("weak", weak)] {
        for len in [3 * MIB, SIZE + MIB] {
            let origin = Origin::start(move |_, context| {
                let whole = Response::full(&of()).without("Accept-Ranges");
                if context.index == 0 {
                    return whole.cut(5 * MIB, End::Reset).rate(24 * MIB);
                }
                let larger = Object::new(1, SIZE + MIB);
                whole.no_body().set("Content-Length", &len.to_string()).object(&larger, 0..len)
            });
            let sandbox = Sandbox::new();
            let outcome = run(&sandbox, &origin);
            assert!(outcome.code == 7, "{what}, {len} bytes: {outcome}");
            sandbox.assert_unpublished("file");
        }
    }
}

/// What a checkpoint knows of the object counts as what this run knows of it.
#[test]
fn fault_112_on_a_resume_the_stream_has_the_recorded_length() {
    // In the end the refusals of a length that is told lead to one plain stream.
    for (etag, told) in
        [(Some("\"a\""), 0), (Some("W/\"a\""), 0), (None, 0), (Some("\"a\""), 3), (None, 3)]
    {
        let object = Object::new(1, killed::SIZE).with_etag(etag);
        let killed = Killed::new(env!("CARGO_BIN_EXE_haul-under-test"), &object);
        // The server has lost its ranges, and the end of the object.
        let (outcome, _) = killed.meets(move |_, context| {
            let short = Response::full(&object).without("Accept-Ranges").no_body();
            let short = match context.index < told {
                true => short.set("Content-Length", &(3 * MIB).to_string()),
                false => short.chunked(true),
            };
            short.object(&object, 0..3 * MIB)
        });
        assert_eq!(outcome.code, 7, "{etag:?}, {told}: {outcome}");
        killed.sandbox.assert_unpublished("file");
    }
}

#[test]
fn fault_112_a_repeat_that_ends_late_is_not_the_object() {
    let longer = || {
        let larger = Object::new(1, SIZE + MIB).with_etag(object().etag());
        Response::full(&larger).without("Accept-Ranges").chunked(true)
    };
    let sandbox = Sandbox::new();
    run(&sandbox, &breaking(with_length, longer)).expect(7);
    sandbox.assert_unpublished("file");
    let (_, outcome) = streamed(&breaking(with_length, longer));
    outcome.expect(7);
}

#[test]
fn fault_112_a_repeat_of_other_bytes_is_not_the_object() {
    // The tag is the same: only the bytes that were given out tell.
    let foreign = || {
        let foreign = other().with_etag(object().etag());
        Response::full(&foreign).without("Accept-Ranges")
    };
    let (got, outcome) = streamed(&breaking(with_length, foreign));
    outcome.expect(10);
    assert!(got == object().bytes(0..got.len() as u64) && got.len() as u64 <= 5 * MIB);
}

#[test]
fn fault_112_a_right_repeat_goes_on() {
    for (first, repeat) in [
        (chunked as fn() -> Response, chunked as fn() -> Response),
        (with_length, chunked),
        (chunked, with_length),
    ] {
        let sandbox = Sandbox::new();
        run(&sandbox, &breaking(first, repeat)).expect(0);
        sandbox.assert_published("file", &object());
        let (got, outcome) = streamed(&breaking(first, repeat));
        outcome.expect(0);
        assert!(got == object().bytes(0..SIZE));
    }
}
