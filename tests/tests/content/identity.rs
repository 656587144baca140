//! Links that lead elsewhere than before: fault 88. Nothing of what is there joins what is
//! stored before stored bytes, fetched from there again, were the same.

use std::fs;
use std::io::{PipeReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::haul;
use haul_tests::prelude::*;

const SIZE: u64 = 12 * MIB + 4321;
/// Segments are no larger.
const SEGMENT: u64 = 256 << 10;
/// What two of them cost at most.
const TWO_SEGMENTS: u64 = 2 * SEGMENT;

/// Other bytes of the same size, time and entity tag.
fn twin() -> Object {
    Object::new(2, SIZE)
        .with_etag(object(SIZE).etag())
        .with_last_modified(object(SIZE).last_modified_unix())
}

/// `/latest` and `/dump?n=..` lead to version 1, slowly; then to what `second` is.
struct Versions {
    origin: Origin,
    second: Arc<AtomicUsize>,
    throttle: Throttle,
}

impl Versions {
    fn new(second: Object) -> Self {
        Self::of(object(SIZE), second)
    }

    fn of(first: Object, second: Object) -> Self {
        let which = Arc::new(AtomicUsize::new(1));
        let (now, throttle) = (Arc::clone(&which), Throttle::new(MIB).crawling_after(7 * MIB));
        let slow = throttle.clone();
        let origin = Origin::start(move |request, _| {
            let number = now.load(Ordering::SeqCst);
            match request.target.as_str() {
                "/latest" => Response::redirect(302, &format!("/v{number}.bin")),
                "/v1.bin" | "/dump?n=v1" => slow.apply(standard(&first, request)),
                _ => standard(&second, request),
            }
        });
        Self { origin, second: which, throttle }
    }

    /// From now on the link leads to the second version.
    fn switch(&self) {
        self.second.store(2, Ordering::SeqCst);
        self.throttle.lift();
    }

    fn url(&self, path: &str) -> String {
        self.origin.url(path)
    }
}

#[track_caller]
fn assert_restarted(outcome: &Outcome, sandbox: &Sandbox, object: &Object) {
    outcome.expect(0).expect_notice("restarted");
    sandbox.assert_published("file", object);
}

/// It goes on with what was there, and what that costs is two segments at most.
#[track_caller]
fn assert_continued(outcome: &Outcome, sandbox: &Sandbox) {
    outcome.expect(0);
    assert!(!outcome.has_notice("restarted"), "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
    let (resumed, fetched) = (outcome.resumed_bytes(), outcome.fetched_bytes());
    assert!(resumed >= 2 * MIB, "{outcome}");
    // A connection that another takes over from, and the first response that is not
    // used, may have something on their way.
    let most = SIZE - resumed + TWO_SEGMENTS + 2 * MIB;
    assert!(fetched > SIZE - resumed && fetched <= most, "{fetched} of {most}\n{outcome}");
}

#[test]
fn fault_088_redirect_to_another_object_on_a_resume() {
    for (second, same) in [(twin(), false), (object(SIZE), true)] {
        let versions = Versions::new(second);
        let sandbox = Sandbox::new();
        interrupt(haul(&sandbox, &versions.url("/latest")), 5 * MIB);
        sandbox.assert_kept("file");
        versions.switch();
        let outcome = haul(&sandbox, &versions.url("/latest")).run();
        if same {
            assert_continued(&outcome, &sandbox);
        } else {
            assert_restarted(&outcome, &sandbox, &twin());
        }
    }
}

#[test]
fn fault_088_another_query_on_a_resume() {
    for (second, same) in [(twin(), false), (object(SIZE), true)] {
        let versions = Versions::new(second);
        let sandbox = Sandbox::new();
        interrupt(haul(&sandbox, &versions.url("/dump?n=v1")), 5 * MIB);
        versions.switch();
        let outcome = haul(&sandbox, &versions.url("/dump?n=v2")).run();
        if same {
            assert_continued(&outcome, &sandbox);
        } else {
            assert_restarted(&outcome, &sandbox, &twin());
        }
    }
}

/// With a weak tag and an old date only the proof tells.
#[test]
fn fault_088_another_query_under_weak_validators() {
    let weak = |object: Object| object.with_etag(Some("W/\"weak\""));
    for (second, same) in [(twin(), false), (object(SIZE), true)] {
        let versions = Versions::of(weak(object(SIZE)), weak(second));
        let sandbox = Sandbox::new();
        interrupt(haul(&sandbox, &versions.url("/dump?n=v1")), 5 * MIB);
        versions.switch();
        let outcome = haul(&sandbox, &versions.url("/dump?n=v2")).run();
        if same {
            assert_continued(&outcome, &sandbox);
        } else {
            assert_restarted(&outcome, &sandbox, &twin());
        }
    }
}

/// Nothing was hashed: the stored bytes themselves are compared.
#[test]
fn fault_088_without_hashes_stored_bytes_are_compared() {
    for (second, same) in [(twin(), false), (object(SIZE), true)] {
        let versions = Versions::new(second);
        let sandbox = Sandbox::new();
        let unhashed = |path| haul(&sandbox, &versions.url(path)).arg("--no-digest");
        interrupt(unhashed("/dump?n=v1"), 5 * MIB);
        versions.switch();
        let outcome = unhashed("/dump?n=v2").run();
        if same {
            assert_continued(&outcome, &sandbox);
        } else {
            assert_restarted(&outcome, &sandbox, &twin());
        }
    }
}

/// The parts of the object are compared where they are in it.
#[test]
fn fault_088_parts_of_an_object_are_compared() {
    let parts = ["--range", "100-3000000,5000000-"];
    let wanted = |object: &Object| -> Vec<u8> {
        [object.bytes(100..3_000_001), object.bytes(5_000_000..SIZE)].concat()
    };
    for (second, same) in [(twin(), false), (object(SIZE), true)] {
        let versions = Versions::new(second.clone());
        let sandbox = Sandbox::new();
        interrupt(haul(&sandbox, &versions.url("/dump?n=v1")).args(parts), 5 * MIB);
        versions.switch();
        let outcome = haul(&sandbox, &versions.url("/dump?n=v2")).args(parts).run();
        outcome.expect(0);
        assert_eq!(outcome.has_notice("restarted"), !same, "{outcome}");
        assert!(fs::read(sandbox.path("file")).unwrap() == wanted(&second));
    }
}

/// The first link is refused once so many MiB were served; asked anew, `/latest` leads
/// elsewhere.
fn expiring(second: Object, after: usize) -> Origin {
    let served = AtomicUsize::new(0);
    Origin::start(move |request, _| {
        let expired = served.load(Ordering::SeqCst) >= after;
        match request.path() {
            "/latest" if expired => Response::redirect(302, "/new?sig=2"),
            "/latest" => Response::redirect(302, "/old?sig=1"),
            "/old" if expired => Response::empty(403),
            "/old" => {
                // The first is so slow that the others cannot bring what it has left.
                let is_first = served.fetch_add(1, Ordering::SeqCst) == 0;
                standard(&object(SIZE), request).rate(if is_first { MIB / 2 } else { 4 * MIB })
            }
            _ => standard(&second, request),
        }
    })
}

#[test]
fn fault_088_link_resolved_again_leads_to_another_object() {
    for after in [1, 2, 4] {
        let origin = expiring(twin(), after);
        let sandbox = Sandbox::new();
        let outcome = haul(&sandbox, &origin.url("/latest")).run();
        assert_restarted(&outcome, &sandbox, &twin());
    }
}

#[test]
fn fault_088_link_resolved_again_with_a_fresh_signature_goes_on() {
    for (after, digest) in [(1, true), (2, true), (2, false)] {
        let origin = expiring(object(SIZE), after);
        let sandbox = Sandbox::new();
        let unhashed = (!digest).then_some("--no-digest");
        let outcome = haul(&sandbox, &origin.url("/latest")).args(unhashed).run();
        outcome.expect(0);
        assert!(!outcome.has_notice("restarted"), "{outcome}");
        sandbox.assert_published("file", &object(SIZE));
        let fetched = outcome.fetched_bytes();
        assert!(fetched > SIZE && fetched <= SIZE + TWO_SEGMENTS + MIB, "{fetched}\n{outcome}");
    }
}

/// Nothing is complete when the link is refused: it is waited for, or begun anew.
#[test]
fn fault_088_link_refused_before_anything_is_complete() {
    for second in [twin(), object(SIZE)] {
        let served = second.clone();
        let origin = Origin::start(move |request, context| match request.path() {
            "/latest" if context.index == 0 => Response::redirect(302, "/v1.bin"),
            "/latest" => Response::redirect(302, "/v2.bin"),
            "/v1.bin" if context.index == 1 => {
                standard(&object(SIZE), request).cut(1000, End::Reset)
            }
            "/v1.bin" => Response::empty(410),
            _ => standard(&served, request),
        });
        let sandbox = Sandbox::new();
        let outcome = haul(&sandbox, &origin.url("/latest")).run();
        assert_restarted(&outcome, &sandbox, &second);
    }
}

/// The caller's fresh link is another object: it is none, and nothing is lost.
#[test]
fn fault_088_fresh_link_with_another_query_is_proven_too() {
    for (second, same) in [(twin(), false), (object(SIZE), true)] {
        let served = second.clone();
        let origin = Origin::start(move |request, context| match request.target.as_str() {
            "/dump?n=v2" => standard(&served, request),
            // What it would not bring alone has to come from elsewhere.
            _ if context.index == 0 => {
                standard(&object(SIZE), request).rate(4 * MIB).cut(6 * MIB, End::Reset)
            }
            _ => Response::empty(403),
        });
        let sandbox = Sandbox::new();
        let command = format!("echo {}", origin.url("/dump?n=v2"));
        let outcome =
            haul(&sandbox, &origin.url("/dump?n=v1")).args(["--refresh-cmd", &command]).run();
        if same {
            outcome.expect(0);
            assert!(!outcome.has_notice("restarted"), "{outcome}");
            sandbox.assert_published("file", &object(SIZE));
        } else {
            outcome.expect(6).expect_message("other bytes");
            sandbox.assert_kept("file");
        }
    }
}

/// Starts it with a pipe for its stdout.
fn piped(sandbox: &Sandbox, url: &str) -> (haul_tests::harness::Running, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let haul = haul!(sandbox, bare)
        .args(["--retry", "2", "--stall-timeout", "5s", "-x", "4", "-o", "-"])
        .arg(url);
    (haul.stdout(writer).start(), reader)
}

/// What was given out cannot be taken back.
#[test]
fn fault_088_stream_goes_on_only_with_the_same_bytes() {
    for (second, same) in [(twin(), false), (object(SIZE), true)] {
        let origin = expiring(second, 2);
        let sandbox = Sandbox::new();
        let (running, mut reader) = piped(&sandbox, &origin.url("/latest"));
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        let outcome = running.finish();
        assert!(got == object(SIZE).bytes(0..got.len() as u64), "{} bytes", got.len());
        if same {
            outcome.expect(0);
            assert_eq!(got.len() as u64, SIZE);
        } else {
            outcome.expect(10);
            assert!((got.len() as u64) < SIZE);
        }
    }
}

/// A plain stream that begins again elsewhere cannot be compared.
#[test]
fn fault_088_plain_stream_does_not_begin_again_elsewhere() {
    let origin = Origin::start(|request, context| match (request.path(), context.index) {
        ("/latest", 0) => Response::redirect(302, "/v1.bin"),
        ("/latest", _) => Response::redirect(302, "/v2.bin"),
        ("/v1.bin", 1) => Response::full(&object(SIZE)).cut(5 * MIB, End::Reset),
        ("/v1.bin", _) => Response::redirect(302, "/v2.bin"),
        _ => Response::full(&twin()),
    });
    let sandbox = Sandbox::new();
    let (running, mut reader) = piped(&sandbox, &origin.url("/latest"));
    let mut got = Vec::new();
    reader.read_to_end(&mut got).unwrap();
    running.finish().expect(10);
    assert!(got == object(SIZE).bytes(0..got.len() as u64), "{} bytes", got.len());
}

/// As a program wrote it that knew no more of a URL than its path: it goes on after
/// the proof, and only then.
#[test]
fn fault_088_checkpoint_of_the_first_format_goes_on_after_a_proof() {
    for (second, same) in [(twin(), false), (object(SIZE), true)] {
        let versions = Versions::new(second);
        let sandbox = Sandbox::new();
        interrupt(haul(&sandbox, &versions.url("/dump?n=v1")), 5 * MIB);
        let path = sandbox.checkpoint("file");
        let old = first_format(&fs::read(&path).unwrap());
        assert_eq!(haul_engine::fuzzing::reencoded_checkpoint(&old), Some(old.clone()));
        fs::write(&path, old).unwrap();
        versions.switch();
        let outcome = haul(&sandbox, &versions.url("/dump?n=v2")).run();
        if same {
            assert_continued(&outcome, &sandbox);
        } else {
            assert_restarted(&outcome, &sandbox, &twin());
        }
    }
}

/// The same checkpoint without what the first format has not.
fn first_format(bytes: &[u8]) -> Vec<u8> {
    assert_eq!(&bytes[..10], b"HAULCKPT\x04\0");
    // Salt and hash of the URL asked stay; that of the one that answered goes, and at the
    // end no parts, the data file and a flag.
    let mut old = [b"HAULCKPT\x01\0", &bytes[10..58], &bytes[90..bytes.len() - 32 - 20]].concat();
    let trailer = blake3::hash(&old);
    old.extend_from_slice(trailer.as_bytes());
    old
}

/// What only a digest showed to be one object goes on under a digest alone.
#[test]
fn fault_088_bytes_of_several_links_go_on_under_a_digest_alone() {
    let paces = [(); 2].map(|()| Throttle::new(2 * MIB).crawling_after(4 * MIB));
    let first = Origin::throttled(&object(SIZE), &paces[0]);
    let second = Origin::throttled(&twin(), &paces[1]);
    let sandbox = Sandbox::new();
    let digest = format!("blake3={}", object(SIZE).blake3_hex());
    let url = first.url("/file");
    let mirror = second.url("/file");
    let running = haul(&sandbox, &url).args(["--mirror", &mirror, "--checksum", &digest]);
    let mut running = running.start();
    running.wait_until("both brought something", |running| {
        running.bytes() >= 4 * MIB && second.sent_bytes() >= 2 * MIB
    });
    running.signal(Signal::INT);
    running.finish().expect(130);
    sandbox.assert_kept("file");
    paces.iter().for_each(Throttle::lift);
    let outcome = haul(&sandbox, &url).run();
    assert_restarted(&outcome, &sandbox, &object(SIZE));
}

#[test]
fn fault_088_no_part_of_a_url_is_readable_in_a_checkpoint() {
    let throttle = Throttle::new(2 * MIB).crawling_after(3 * MIB);
    let origin = Origin::start(move |request, _| match request.path() {
        "/latest" => Response::redirect(302, "/there?sig=s3cr3t-there"),
        _ => throttle.apply(standard(&object(SIZE), request)),
    });
    let sandbox = Sandbox::new();
    interrupt(haul(&sandbox, &origin.url("/latest?token=s3cr3t-asked")), 2 * MIB);
    sandbox.assert_free_of("s3cr3t");
}
