//! Row 31 of the faults: digests in the fields of responses.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use haul_tests::prelude::*;
use sha2::digest::Digest;

const SIZE: u64 = 8 * MIB + 4321;

fn other() -> Object {
    Object::new(2, SIZE)
}

fn command(sandbox: &Sandbox, origin: &Origin, connections: &str) -> Haul {
    haul!(sandbox).args(["-x", connections, "-o", "file", "--retry", "1"]).arg(origin.url("/file"))
}

fn run(sandbox: &Sandbox, origin: &Origin, connections: &str) -> Outcome {
    let outcome = command(sandbox, origin, connections).run();
    assert_well_asked(origin);
    outcome
}

fn restarts(outcome: &Outcome) -> usize {
    outcome.all("notice").filter(|event| event["code"] == "restarted").count()
}

/// Runs with `connections` until it is published without being fetched twice.
#[track_caller]
fn assert_taken_at_once(origin: &Origin, connections: &str) {
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, origin, connections);
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert_eq!(restarts(&outcome), 0, "{outcome}");
    assert!(outcome.fetched_bytes() < SIZE + MIB, "fetched twice\n{outcome}");
}

#[track_caller]
fn assert_fetched_again(origin: &Origin) -> Outcome {
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, origin, "1");
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert_eq!(restarts(&outcome), 1, "{outcome}");
    outcome
}

#[track_caller]
fn assert_refused(origin: &Origin, field: &str) {
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, origin, "1");
    outcome.expect(9);
    sandbox.assert_nothing_left();
    assert_eq!(restarts(&outcome), 1, "{outcome}");
    let message = outcome.event("error")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains(field), "{message}");
    let (_, digests) = message.split_once(" have ").or(message.split_once(" has ")).unwrap();
    assert_eq!(digests.matches('=').count(), 2, "found and expected are told: {message}");
    assert!(origin.requests().len() <= 8, "{} requests", origin.requests().len());
}

fn coded<D: Digest>(bytes: &[u8]) -> String {
    STANDARD.encode(D::digest(bytes))
}

/// A field, with the digest of these bytes.
type Field = fn(&[u8]) -> (&'static str, String);

/// Fields that are of the whole object, in any response.
const OF_OBJECT: [Field; 7] = [
    |bytes| ("Repr-Digest", format!("sha-256=:{}:", coded::<sha2::Sha256>(bytes))),
    |bytes| ("Repr-Digest", format!("md5=:AAAA:, sha-512=:{}:", coded::<sha2::Sha512>(bytes))),
    |bytes| ("Digest", format!("SHA-256={}", coded::<sha2::Sha256>(bytes))),
    |bytes| ("Digest", format!("adler32=1, md5={}", coded::<md5::Md5>(bytes))),
    |bytes| ("x-goog-hash", format!("crc32c=n03x6A==,md5={}", coded::<md5::Md5>(bytes))),
    |bytes| ("x-amz-checksum-sha256", coded::<sha2::Sha256>(bytes)),
    |bytes| ("x-amz-checksum-sha1", coded::<sha1::Sha1>(bytes)),
];

/// Fields that are of the response's own bytes.
const OF_CONTENT: [Field; 2] = [
    |bytes| ("Content-Digest", format!("sha-256=:{}:", coded::<sha2::Sha256>(bytes))),
    |bytes| ("Content-MD5", coded::<md5::Md5>(bytes)),
];

fn with(response: Response, (name, value): (&str, String)) -> Response {
    response.header(name, &value)
}

/// The bytes of `object` that a request asks for.
fn asked(object: &Object, request: &Request) -> Vec<u8> {
    let range = request.range().and_then(|range| range.within(object.size_bytes()));
    object.bytes(range.unwrap_or(0..object.size_bytes()))
}

/// An honest origin that tells `field` of the whole of what `of` picks.
fn telling(field: Field, of: impl Fn(&Context) -> Object + Send + Sync + 'static) -> Origin {
    Origin::start(move |request, context| {
        let digest = field(&of(context).bytes(0..SIZE));
        with(standard(&object(SIZE), request), digest)
    })
}

/// An origin that tells `field` of each part rightly, but sends another part
/// when `altered` says so.
fn altering(field: Field, altered: fn(&Context) -> bool) -> Origin {
    Origin::start(move |request, context| altered_part(field, request, altered(context)))
}

fn altered_part(field: Field, request: &Request, altered: bool) -> Response {
    let honest = with(standard(&object(SIZE), request), field(&asked(&object(SIZE), request)));
    if altered { honest.no_body().bytes(asked(&other(), request)) } else { honest }
}

/// An origin without ranges.
fn whole(response: impl Fn(&Context) -> Response + Send + Sync + 'static) -> Origin {
    Origin::start(move |_, context| response(context).without("Accept-Ranges"))
}

#[test]
fn fault_031_right_digests_of_the_object_are_taken() {
    for field in OF_OBJECT {
        assert_taken_at_once(&telling(field, |_| object(SIZE)), "4");
    }
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &telling(OF_OBJECT[0], |_| object(SIZE)), "4");
    let verified = &outcome.event("complete")["verified"];
    assert!(verified.is_null(), "only what the user gave is told: {verified}");
}

#[test]
fn fault_031_digest_that_was_wrong_once_is_fetched_again() {
    for field in OF_OBJECT {
        let wrong = |context: &Context| if context.index == 0 { other() } else { object(SIZE) };
        let outcome = assert_fetched_again(&telling(field, wrong));
        assert!(outcome.fetched_bytes() >= 2 * SIZE, "{outcome}");
    }
}

#[test]
fn fault_031_digest_that_is_always_wrong_publishes_nothing() {
    for field in OF_OBJECT {
        assert_refused(&telling(field, |_| other()), field(b"").0);
    }
}

#[test]
fn fault_031_digest_of_a_200_is_of_the_whole() {
    for field in OF_OBJECT.into_iter().chain(OF_CONTENT) {
        let (right, wrong) = (field(&object(SIZE).bytes(0..SIZE)), field(&other().bytes(0..SIZE)));
        let name = right.0;
        let told = right.clone();
        assert_taken_at_once(
            &whole(move |_| with(Response::full(&object(SIZE)), told.clone())),
            "4",
        );
        let told = right.clone();
        let streamed = move |_: &Context| with(Response::full(&object(SIZE)), told.clone());
        assert_taken_at_once(&whole(move |context| streamed(context).chunked(true)), "4");
        let once = wrong.clone();
        assert_fetched_again(&whole(move |context| {
            let told = if context.index == 0 { &once } else { &right };
            with(Response::full(&object(SIZE)), told.clone())
        }));
        assert_refused(
            &whole(move |_| with(Response::full(&object(SIZE)), wrong.clone()).chunked(true)),
            name,
        );
    }
}

#[test]
fn fault_031_right_digests_of_parts_are_taken() {
    for field in OF_CONTENT {
        for connections in ["1", "4"] {
            assert_taken_at_once(&altering(field, |_| false), connections);
        }
    }
}

#[test]
fn fault_031_altered_part_is_fetched_again() {
    for field in OF_CONTENT {
        assert_fetched_again(&altering(field, |context| context.index == 0));
        // The first response breaks off, so that the second one is a part.
        assert_fetched_again(&Origin::start(move |request, context| match context.index {
            0 => standard(&object(SIZE), request).cut(3 * MIB, End::Close),
            index => altered_part(field, request, index == 1),
        }));
    }
}

#[test]
fn fault_031_part_that_is_always_altered_publishes_nothing() {
    for field in OF_CONTENT {
        assert_refused(&altering(field, |_| true), field(b"").0);
    }
}

/// RFC 7231 appendix B: it was never agreed on what it is of in a 206.
#[test]
fn fault_031_content_md5_of_the_whole_in_each_part() {
    let md5 = OF_CONTENT[1];
    for connections in ["1", "4"] {
        assert_taken_at_once(&telling(md5, |_| object(SIZE)), connections);
    }
    assert_refused(&telling(md5, |_| other()), "Content-MD5");
}

#[test]
fn fault_031_altered_part_is_not_left_for_the_next_run() {
    let origin = Origin::start(|request, context| {
        let honest = standard(&object(SIZE), request);
        match context.index {
            0 => with(honest, OF_CONTENT[0](&asked(&other(), request))),
            _ => Response::hang_up(End::Reset),
        }
    });
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &origin, "1");
    outcome.expect(4).expect_notice("restarted");
    sandbox.assert_nothing_left();
}

#[test]
fn fault_031_unknown_malformed_and_composite_digests_are_ignored() {
    let wrong = coded::<sha2::Sha256>(b"another");
    let origin = Origin::start(move |request, _| {
        let mut response = standard(&object(SIZE), request);
        for (name, value) in [
            ("Repr-Digest", format!("sha-257=:{wrong}:, sha-512=:{wrong}:, sha-256={wrong}")),
            ("Content-Digest", "sha-256=:AAAA:".to_owned()),
            ("Digest", format!("sha3={wrong}, SHA-256=:{wrong}:,")),
            ("Content-MD5", wrong.clone()),
            ("x-goog-hash", "crc32c=AAAAAA==".to_owned()),
            ("x-amz-checksum-sha256", format!("{wrong}-4")),
        ] {
            response = response.header(name, &value);
        }
        response
    });
    assert_taken_at_once(&origin, "4");
    let wrong = coded::<sha2::Sha256>(b"another");
    let origin = Origin::start(move |request, _| {
        standard(&object(SIZE), request)
            .header("x-amz-checksum-sha256", &wrong)
            .header("x-amz-checksum-type", "COMPOSITE")
    });
    assert_taken_at_once(&origin, "4");
}

#[test]
fn fault_031_coded_bytes_are_held_to_the_digests_of_coded_bytes() {
    for (field, code) in [(OF_OBJECT[0], 9), (OF_OBJECT[4], 0), (OF_OBJECT[5], 0)] {
        let digest = field(&other().bytes(0..SIZE));
        let origin = Origin::start(move |request, _| {
            with(standard(&object(SIZE), request), digest.clone())
                .header("Content-Encoding", "gzip")
        });
        let sandbox = Sandbox::new();
        run(&sandbox, &origin, "4").expect(code);
    }
}

#[test]
fn fault_031_digest_of_the_user_counts_instead() {
    let checksum = format!("blake3={}", object(SIZE).blake3_hex());
    for origin in [telling(OF_OBJECT[0], |_| other()), telling(OF_CONTENT[0], |_| other())] {
        let sandbox = Sandbox::new();
        let outcome = command(&sandbox, &origin, "4").args(["--checksum", &checksum]).run();
        outcome.expect(0);
        sandbox.assert_published("file", &object(SIZE));
        assert_eq!(restarts(&outcome), 0, "{outcome}");
    }
}

/// The first run gets bytes of `stored` and no digest, the first response of the
/// second one has the digest of `told`, and all later ones are right.
fn resumed(told: Object, stored: Object) -> (Outcome, Sandbox) {
    let throttle = Throttle::new(4 * MIB).crawling_after(4 * MIB);
    let limit = throttle.clone();
    let seen = AtomicUsize::new(0);
    let origin = Origin::start(move |request, context| {
        let honest = limit.apply(standard(&object(SIZE), request));
        // By the request itself: one of the first run may be answered late.
        if request.header("x-run") != Some("second") {
            return match context.index {
                0 => honest.no_body().bytes(asked(&stored, request)),
                _ => honest,
            };
        }
        let first = seen.fetch_add(1, Ordering::AcqRel) == 0;
        let told = if first { told.clone() } else { object(SIZE) };
        with(honest, OF_OBJECT[0](&told.bytes(0..SIZE)))
    });
    let sandbox = Sandbox::new();
    interrupt(command(&sandbox, &origin, "1"), 3 * MIB);
    sandbox.assert_kept("file");
    throttle.lift();
    let outcome = command(&sandbox, &origin, "1").args(["-H", "X-Run: second"]).run();
    assert_well_asked(&origin);
    (outcome, sandbox)
}

#[test]
fn fault_031_resumed_download_is_checked_as_a_whole() {
    let (outcome, sandbox) = resumed(object(SIZE), object(SIZE));
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert!(outcome.resumed_bytes() >= 2 * MIB, "{outcome}");
    assert_eq!(restarts(&outcome), 0, "{outcome}");

    for (told, stored) in [(object(SIZE), other()), (other(), object(SIZE))] {
        let (outcome, sandbox) = resumed(told, stored);
        outcome.expect(0);
        sandbox.assert_published("file", &object(SIZE));
        assert_eq!(restarts(&outcome), 1, "{outcome}");
        let first = outcome.all("start").next().unwrap();
        assert!(first["resumed_bytes"].as_u64().unwrap() >= 2 * MIB, "{outcome}");
    }
}
