//! Metalinks: files with their sizes, digests, pieces and mirrors.

use haul_tests::prelude::*;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

const SIZE: u64 = 12 * MIB + 4321;
const PIECE: u64 = 512 << 10;

fn honest(request: &Request) -> Response {
    standard(&object(SIZE), request)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256() -> String {
    hex(&Sha256::digest(object(SIZE).bytes(0..SIZE)))
}

fn pieces() -> String {
    let digests = (0..SIZE.div_ceil(PIECE)).map(|number| {
        let start = number * PIECE;
        let bytes = object(SIZE).bytes(start..(start + PIECE).min(SIZE));
        format!("<hash>{}</hash>", hex(&Sha1::digest(bytes)))
    });
    format!("<pieces length=\"{PIECE}\" type=\"sha-1\">{}</pieces>", digests.collect::<String>())
}

fn url(origin: &Origin, path: &str, priority: u32) -> String {
    format!("<url priority=\"{priority}\">{}</url>", origin.url(path))
}

fn document(files: &str) -> String {
    format!("<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">{files}</metalink>")
}

/// One file called `film.bin`.
fn film(inside: &str) -> String {
    document(&format!("<file name=\"film.bin\"><size>{SIZE}</size>{inside}</file>"))
}

fn hash() -> String {
    format!("<hash type=\"sha-256\">{}</hash>", sha256())
}

fn slow() -> Origin {
    Origin::throttled(&object(SIZE), &Throttle::new(2_000_000))
}

/// One of two: it crawls before it has brought everything alone.
fn one_of_two() -> Origin {
    Origin::throttled(&object(SIZE), &Throttle::new(2_000_000).crawling_after(SIZE / 4 * 3))
}

/// The body is altered where `wrong` says so, in this request.
fn altered(request: &Request, wrong: impl Fn(u64) -> bool) -> Response {
    let range = request.range().and_then(|asked| asked.within(SIZE));
    let Some(range) = range else { return honest(request) };
    let mut bytes = object(SIZE).bytes(range.clone());
    for (at, byte) in (range.start..).zip(&mut bytes) {
        if wrong(at) {
            *byte ^= 1;
        }
    }
    Response::partial(&object(SIZE), range).no_body().bytes(bytes)
}

fn haul(sandbox: &Sandbox, text: &str) -> Haul {
    sandbox.write("it.meta4", text);
    haul!(sandbox).json().args(["-x", "4", "--retry", "2", "--metalink", "it.meta4"])
}

#[track_caller]
fn assert_whole(sandbox: &Sandbox, outcome: &Outcome) {
    outcome.expect(0);
    assert_eq!(object(SIZE).compare_file(&sandbox.path("film.bin")), Ok(()));
    assert!(!outcome.has_notice("restarted"), "{outcome}");
}

#[test]
fn all_that_a_metalink_says_is_used() {
    let (first, second) = (one_of_two(), one_of_two());
    let text =
        film(&format!("{}{}{}", hash(), url(&first, "/one?x=1", 1), url(&second, "/two?x=1", 2)));
    let sandbox = Sandbox::new();
    let outcome = haul(&sandbox, &text).run();
    assert_whole(&sandbox, &outcome);
    assert_eq!(outcome.event("complete")["sha256"], sha256());
    assert!(first.sent_bytes() > SIZE / 8 && second.sent_bytes() > SIZE / 8);
    // Another size than it says is no mirror.
    let smaller = Origin::serving(&Object::new(1, SIZE - 1));
    let text = film(&format!("{}{}", hash(), url(&smaller, "/one?x=1", 1)));
    let sandbox = Sandbox::new();
    haul(&sandbox, &text).run().expect(12);
    assert!(!sandbox.path("film.bin").exists());
}

#[test]
fn a_metalink_of_version_3_comes_from_a_server_too() {
    let origin = slow();
    let text = format!(
        "<metalink version=\"3.0\" xmlns=\"http://www.metalinker.org/\"><files>
         <file name=\"film.bin\"><verification>
         <hash type=\"sha256\">{}</hash></verification><resources>
         <url type=\"http\" preference=\"9\">{}</url></resources></file></files></metalink>",
        sha256(),
        origin.url("/film?x=1")
    );
    let server = Origin::start(move |_, _| Response::text(200, "application/metalink+xml", &text));
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox).json().args(["--metalink", &server.url("/it.metalink")]).run();
    assert_whole(&sandbox, &outcome);
    // What is for the server of the document is not for those that it names.
    for record in origin.requests() {
        assert!(!record.request.headers.iter().any(|(_, value)| value.contains(CANARY)));
    }
}

#[test]
fn fault_030_only_bad_pieces_are_fetched_again_from_another_source() {
    // The second source is wrong in one byte of each second MiB.
    let wrong = |at: u64| at % (2 * MIB) == MIB + 5;
    for whole in [String::new(), hash()] {
        let alone = Throttle::new(2_000_000).crawling_after(SIZE / 2);
        let first = Origin::throttled(&object(SIZE), &alone);
        let throttle = Throttle::new(2_000_000);
        let second = Origin::start(move |request, _| throttle.apply(altered(request, wrong)));
        let text = film(&format!(
            "{whole}{}{}{}",
            pieces(),
            url(&first, "/one?x=1", 1),
            url(&second, "/two?x=1", 2)
        ));
        let sandbox = Sandbox::new();
        let mut running = haul(&sandbox, &text).start();
        running.wait_until("the second brought a bad piece", |running| {
            running.events().iter().any(|event| event["code"] == "refetch")
        });
        alone.allow(2 * SIZE);
        let outcome = running.finish();
        assert_whole(&sandbox, &outcome);
        outcome.expect_notice("refetch");
        let notices: Vec<_> =
            outcome.all("notice").filter(|event| event["code"] == "mirror").collect();
        assert_eq!(notices.len(), 1, "{outcome}");
        assert!(notices[0]["message"].as_str().unwrap().contains(&second.url("/two")));
        assert!(outcome.fetched_bytes() < SIZE + 6 * MIB, "{outcome}");
    }
}

#[test]
fn a_piece_that_was_damaged_once_is_fetched_again_alone() {
    let (at, piece) = (7 * MIB + 3, 7 * MIB..7 * MIB + PIECE);
    // Which response brings the byte is not known before: all may be cut short.
    for (connections, twice_bytes) in [("1", 0), ("4", PIECE - 1)] {
        let alone = piece.clone();
        let origin = Origin::start(move |request, _| {
            let within = request.range().and_then(|asked| asked.within(SIZE));
            let damaged = within != Some(alone.clone());
            altered(request, |position| damaged && position == at)
        });
        let text = film(&format!("{}{}", pieces(), url(&origin, "/one?x=1", 1)));
        let sandbox = Sandbox::new();
        let outcome = haul(&sandbox, &text).args(["-x", connections]).run();
        assert_whole(&sandbox, &outcome);
        outcome.expect_notice("refetch");
        assert!(outcome.fetched_bytes() <= SIZE + PIECE + twice_bytes, "{outcome}");
    }
}

#[test]
fn what_stays_wrong_is_never_published_and_the_rest_kept() {
    let at = 7 * MIB + 3;
    let origin = Origin::start(move |request, _| altered(request, |position| position == at));
    let text = film(&format!("{}{}", pieces(), url(&origin, "/one?x=1", 1)));
    let sandbox = Sandbox::new();
    haul(&sandbox, &text).run().expect(9);
    assert!(!sandbox.path("film.bin").exists());
    assert!(origin.requests().len() < 40);
    // Another source has what is missing, and nothing else is asked of it.
    let good = Origin::serving(&object(SIZE));
    let text = film(&format!("{}{}", pieces(), url(&good, "/two?x=1", 1)));
    let outcome = haul(&sandbox, &text).run();
    assert_whole(&sandbox, &outcome);
    assert!(outcome.fetched_bytes() < SIZE / 2, "{outcome}");
}

#[test]
fn a_partial_that_was_edited_is_found_out_by_its_pieces() {
    // With BLAKE3 the bytes are believed by their hash, without by their sync. What was
    // edited is hashed last, when little is left to fetch: the end waits for it.
    for of_first_run in [None, Some("--no-digest")] {
        let throttle = Throttle::new(4_000_000).crawling_after(23 * MIB / 2);
        let pace = throttle.clone();
        let origin = Origin::start(move |request, _| pace.apply(honest(request)));
        let text = film(&format!("{}{}", pieces(), url(&origin, "/one?x=1", 1)));
        let sandbox = Sandbox::new();
        interrupt(haul(&sandbox, &text).args(["-x", "1"]).args(of_first_run), 11 * MIB);
        let part = sandbox.part("film.bin");
        let mut bytes = std::fs::read(&part).unwrap();
        bytes[10 << 20] ^= 1;
        std::fs::write(&part, bytes).unwrap();
        throttle.lift();
        let outcome = haul(&sandbox, &text).run();
        assert_whole(&sandbox, &outcome);
        assert!(outcome.resumed_bytes() >= 9 * MIB, "{outcome}");
    }
}

#[test]
fn a_metalink_of_several_files_fills_a_directory() {
    let origin = Origin::start(|request, _| match request.path() {
        "/one" => honest(request),
        _ => standard(&Object::new(2, MIB), request),
    });
    let text = document(&format!(
        "<file name=\"one.bin\">{}{}</file><file name=\"sub/two.bin\">{}</file>",
        hash(),
        url(&origin, "/one", 1),
        url(&origin, "/two", 1)
    ));
    let sandbox = Sandbox::new();
    haul(&sandbox, &text).args(["-d", "down"]).run().expect(0);
    assert_eq!(object(SIZE).compare_file(&sandbox.path("down/one.bin")), Ok(()));
    assert_eq!(Object::new(2, MIB).compare_file(&sandbox.path("down/sub/two.bin")), Ok(()));
    let outcome = haul(&sandbox, &text).args(["-o", "x"]).run();
    outcome.expect(2);
}

#[test]
fn fault_076_hostile_documents_are_refused_and_quoted() {
    let origin = slow();
    let file = |name: &str| {
        document(&format!("<file name=\"{name}\">{}</file>", url(&origin, "/x?x=1", 1)))
    };
    for (text, why) in [
        (file("../../etc/passwd"), "../../etc/passwd"),
        (file("/etc/passwd"), "/etc/passwd"),
        ("<html>login</html>".to_owned(), "root"),
        (document(""), "no file"),
        (document("<file name=\"a\"><url>ftp://h/a</url></file>"), "`a` has no http"),
        (
            "<!DOCTYPE a [<!ENTITY b \"c\">]><metalink>&b;</metalink>".to_owned(),
            "no usable Metalink",
        ),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("it.meta4", &text);
        let outcome = haul!(sandbox).args(["--metalink", "it.meta4"]).run();
        outcome.expect(2);
        let told = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert!(told.contains(why) && told.contains("it.meta4"), "{told}");
        let server = Origin::start(move |_, _| Response::text(200, "text/xml", &text));
        let haul = haul!(sandbox).args(["--metalink", &server.url("/it.meta4")]);
        haul.run().expect(7);
    }
    let sandbox = Sandbox::new();
    haul!(sandbox).args(["--metalink", "absent.meta4"]).run().expect(3);
    assert!(origin.requests().is_empty());
}

/// A slow origin whose responses name a Metalink that describes the object.
fn describing(metalink: &str) -> Origin {
    describing_and(metalink, &Throttle::new(2_000_000), |_| None)
}

/// The same, with other answers to some requests.
fn describing_and(
    metalink: &str,
    throttle: &Throttle,
    other: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static,
) -> Origin {
    let throttle = throttle.clone();
    let link = format!("<{metalink}>; rel=describedby; type=\"application/metalink4+xml\"");
    Origin::start(move |request, _| {
        let usual = || throttle.apply(honest(request).header("Link", &link));
        other(request).unwrap_or_else(usual)
    })
}

fn serving(text: String) -> Origin {
    Origin::start(move |_, _| Response::text(200, "application/metalink4+xml", &text))
}

fn fetch(sandbox: &Sandbox, origin: &Origin) -> Haul {
    let haul = haul!(sandbox).json().args(["-x", "4", "-o", "film.bin", "--retry", "2"]);
    haul.args(["-u", "you:yours", "-H", "X-Key: k"]).arg(origin.url("/film.bin"))
}

#[test]
fn a_metalink_that_the_server_names_brings_its_digest_and_mirrors() {
    let mirror = slow();
    let metalink = serving(film(&format!("{}{}", hash(), url(&mirror, "/two", 1))));
    // Its own origin is asked with what is for it, where that leads without.
    let to = metalink.url("/it.meta4");
    let throttle = Throttle::new(2_000_000).crawling_after(SIZE / 4 * 3);
    let origin = describing_and("/it.meta4", &throttle, move |request| {
        (request.path() == "/it.meta4").then(|| Response::redirect(302, &to))
    });
    let sandbox = Sandbox::new();
    assert_whole(&sandbox, &fetch(&sandbox, &origin).run());
    assert!(mirror.sent_bytes() > SIZE / 8, "{} bytes of the mirror", mirror.sent_bytes());
    assert_eq!(metalink.requests().len(), 1, "once for all connections");
    for record in metalink.requests().iter().chain(&mirror.requests()) {
        assert_eq!(record.request.header("Authorization"), None);
        assert_eq!(record.request.header("X-Key"), None);
    }
    // Its digest is a claim of the server's: what is not so is not published.
    let wrong = format!("<hash type=\"sha-256\">{}</hash>", "0".repeat(64));
    let metalink = serving(film(&format!("{wrong}{}", url(&mirror, "/two", 1))));
    let sandbox = Sandbox::new();
    let outcome = fetch(&sandbox, &describing(&metalink.url("/it.meta4"))).run();
    outcome.expect(9).expect_message("Metalink");
    assert!(!sandbox.path("film.bin").exists());
}

#[test]
fn a_metalink_that_the_server_names_is_left_out_where_it_does_not_fit() {
    let mirror = slow();
    let place = url(&mirror, "/two", 1);
    let file = |name: &str, size: u64| {
        format!("<file name=\"{name}\"><size>{size}</size>{}{place}</file>", hash())
    };
    let unsized_file = format!("<file name=\"film.bin\">{}{place}</file>", hash());
    for (text, why) in [
        (document(&file("film.bin", SIZE - 1)), "bytes"),
        (document(&unsized_file), "size"),
        (document(&(file("a", SIZE) + &file("b", SIZE))), "several"),
        (" ".repeat((1 << 20) + 1), "longer"),
        ("<html>".to_owned(), "Metalink"),
    ] {
        let metalink = serving(text);
        let sandbox = Sandbox::new();
        let throttle = Throttle::new(2_000_000).crawling_after(SIZE / 2);
        let origin = describing_and(&metalink.url("/it.meta4"), &throttle, |_| None);
        let mut running = fetch(&sandbox, &origin).start();
        running.wait_until("it is left out", |running| {
            running.events().iter().any(|event| event["code"] == "mirror")
        });
        throttle.lift();
        let outcome = running.finish();
        assert_whole(&sandbox, &outcome);
        let notices = outcome.all("notice").filter(|event| event["code"] == "mirror");
        let said: Vec<String> = notices.map(|it| it["message"].to_string()).collect();
        assert!(said.len() == 1 && said[0].contains(why), "{why}: {said:?}");
    }
    assert!(mirror.requests().is_empty());
    // Without a digest its mirrors would be joined unproven.
    let metalink = serving(film(&place));
    let sandbox = Sandbox::new();
    assert_whole(&sandbox, &fetch(&sandbox, &describing(&metalink.url("/it.meta4"))).run());
    assert!(mirror.requests().is_empty());
}
