//! Several sources of one object: together under a digest, one after another
//! without, and what becomes of bad ones.

use std::net::TcpListener;

use haul_tests::prelude::*;

const SIZE: u64 = 16 * MIB + 4321;

fn honest(request: &Request) -> Response {
    standard(&object(SIZE), request)
}

/// Of the same size, under a tag of its own.
fn other() -> Object {
    Object::new(2, SIZE)
}

fn digest() -> String {
    format!("blake3={}", object(SIZE).blake3_hex())
}

fn slow() -> Origin {
    Origin::throttled(&object(SIZE), &Throttle::new(2_000_000))
}

/// One of several: it crawls before it has brought what the others are to bring.
fn crawling_after(bytes: u64) -> Origin {
    Origin::throttled(&object(SIZE), &Throttle::new(2_000_000).crawling_after(bytes))
}

/// Lets `throttle` go once a source was dropped.
fn when_dropped(haul: Haul, throttle: &Throttle) -> Outcome {
    let mut running = haul.start();
    running.wait_until("a source is dropped", |running| {
        running.events().iter().any(|event| event["code"] == "mirror")
    });
    throttle.lift();
    running.finish()
}

fn command(sandbox: &Sandbox, first: &Origin, mirrors: &[&Origin]) -> Haul {
    let haul = haul!(sandbox).json().args(["-x", "4", "-o", "file", "--retry", "2"]);
    let haul = mirrors
        .iter()
        .fold(haul, |haul, mirror| haul.arg("--mirror").arg(mirror.url("/mirror?sig=x")));
    haul.arg(first.url("/file"))
}

/// What the notices of dropped sources say.
fn dropped(outcome: &Outcome) -> Vec<String> {
    let notices = outcome.all("notice").filter(|event| event["code"] == "mirror");
    notices.map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect()
}

#[track_caller]
fn assert_dropped_alone(outcome: &Outcome, mirror: &Origin, why: &str) {
    let dropped = dropped(outcome);
    assert_eq!(dropped.len(), 1, "{dropped:?}\n{outcome}");
    assert!(dropped[0].contains(&mirror.url("/mirror")) && dropped[0].contains(why), "{dropped:?}");
    assert!(!dropped[0].contains("sig="), "{dropped:?}");
}

#[test]
fn under_a_digest_all_sources_are_used_at_once() {
    // Two of them do not bring everything.
    let [first, second, third] = [(); 3].map(|()| crawling_after(7 * MIB));
    let sandbox = Sandbox::new();
    let outcome =
        command(&sandbox, &first, &[&second, &third]).args(["--checksum", &digest()]).run();
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    for origin in [&first, &second, &third] {
        assert!(origin.sent_bytes() > SIZE / 8, "{} bytes of one", origin.sent_bytes());
        assert!(origin.most_open() <= 4);
    }
    assert!(outcome.fetched_bytes() < SIZE + MIB, "fetched twice\n{outcome}");
    assert_eq!(dropped(&outcome), [""; 0]);
}

#[test]
fn each_host_has_the_bound_on_connections_for_itself() {
    // The mirror is of another host, or leads to one.
    for mirror_is_there in [true, false] {
        let sandbox = Sandbox::new();
        let throttle = Throttle::new(300_000);
        let (there, full) = (throttle.clone(), throttle.clone());
        let elsewhere = TcpListener::bind("127.0.0.2:0").unwrap();
        let second = Origin::builder().listener(elsewhere);
        let second = second.start(move |request, _| there.apply(honest(request)));
        let target = second.url("/mirror");
        let first = Origin::start(move |request, _| match request.path() {
            "/away" => Response::redirect(302, &target),
            _ => throttle.apply(honest(request)),
        });
        let mirror = if mirror_is_there { second.url("/mirror") } else { first.url("/away") };
        let haul = haul!(sandbox).json().args(["-x", "8", "--per-host", "3", "-o", "file"]);
        let haul = haul.args(["--checksum", &digest(), "--mirror", &mirror]);
        let running = haul.arg(first.url("/file")).start();
        first.wait_until("all are there", |_| (first.most_open(), second.most_open()) == (3, 3));
        full.lift();
        running.finish().expect(0);
        sandbox.assert_published("file", &object(SIZE));
        assert_eq!((first.most_open(), second.most_open()), (3, 3), "{mirror}");
    }
}

#[test]
fn without_a_digest_a_mirror_is_not_asked() {
    let (first, second) = (Origin::serving(&object(SIZE)), Origin::serving(&object(SIZE)));
    let sandbox = Sandbox::new();
    command(&sandbox, &first, &[&second]).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert!(second.requests().is_empty());
}

#[test]
fn fault_030_without_a_digest_mirrors_are_never_stitched() {
    // Same size, time and tag, as mirrors of one software have them.
    let twin = other().with_etag(object(SIZE).etag());
    let first = Origin::start(|request, _| match request.start() {
        // It breaks off, and the rest is not to be had there.
        0 => honest(request).cut(3 * MIB, End::Close),
        _ => Response::empty(404),
    });
    let second = Origin::serving(&twin);
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &first, &[&second]).run();
    outcome.expect(0).expect_notice("mirror");
    sandbox.assert_published("file", &twin);
}

#[test]
fn fault_030_mirror_with_other_bytes_never_gets_into_the_file() {
    let twin = other().with_etag(object(SIZE).etag());
    let alone = Throttle::new(2_000_000).crawling_after(SIZE / 2);
    let first = Origin::throttled(&object(SIZE), &alone);
    let second = Origin::throttled(&twin, &Throttle::new(2_000_000));
    let sandbox = Sandbox::new();
    let running = command(&sandbox, &first, &[&second]).args(["--checksum", &digest()]).start();
    second.wait_until("it takes part", |second| second.sent_bytes() >= SIZE / 4);
    alone.lift();
    let outcome = running.finish();
    outcome.expect(0).expect_notice("restarted");
    sandbox.assert_published("file", &object(SIZE));
    assert!(second.sent_bytes() > 0, "it took part");
    // Where none is right nothing is published, however many there are.
    let (first, second) = (Origin::serving(&twin), Origin::serving(&twin));
    let sandbox = Sandbox::new();
    command(&sandbox, &first, &[&second]).args(["--checksum", &digest()]).run().expect(9);
    sandbox.assert_nothing_left();
}

#[test]
fn mirror_with_another_size_is_dropped_and_named() {
    let throttle = Throttle::new(2_000_000).crawling_after(SIZE / 2);
    let first = Origin::throttled(&object(SIZE), &throttle);
    let second = Origin::serving(&Object::new(1, SIZE - 1));
    let sandbox = Sandbox::new();
    let haul = command(&sandbox, &first, &[&second]).args(["--checksum", &digest()]);
    let outcome = when_dropped(haul, &throttle);
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert_dropped_alone(&outcome, &second, "size");
    assert!(!outcome.has_notice("restarted"), "{outcome}");
}

#[test]
fn mirrors_that_do_not_answer_rightly_are_dropped_and_named() {
    type Answer = fn(&Request) -> Response;
    let answers: [(Answer, &str); 6] = [
        (|_| Response::empty(404), "404"),
        (|_| Response::empty(403), "403"),
        (|_| Response::hang_up(End::Reset), ""),
        (|_| Response::text(200, "text/html", "<html>"), ""),
        (|request| honest(request).without("Content-Range"), "Content-Range"),
        (|_| Response::redirect(302, "file:///etc/passwd"), "file"),
    ];
    for (answer, why) in answers {
        // A mirror is dropped at once, or after a few tries with growing rests.
        let throttle = Throttle::new(700_000).crawling_after(SIZE / 4 * 3);
        let first = Origin::throttled(&object(SIZE), &throttle);
        let second = Origin::start(move |request, _| answer(request));
        let sandbox = Sandbox::new();
        let haul = command(&sandbox, &first, &[&second]).args(["--checksum", &digest()]);
        let outcome = when_dropped(haul, &throttle);
        outcome.expect(0);
        sandbox.assert_published("file", &object(SIZE));
        assert_dropped_alone(&outcome, &second, why);
        assert!(second.requests().len() <= 12, "{} requests", second.requests().len());
    }
}

#[test]
fn what_the_first_url_does_not_have_its_mirrors_bring() {
    let first = Origin::start(|_, _| Response::empty(404));
    let (second, third) = (crawling_after(SIZE / 4 * 3), crawling_after(SIZE / 4 * 3));
    let sandbox = Sandbox::new();
    let outcome =
        command(&sandbox, &first, &[&second, &third]).args(["--checksum", &digest()]).run();
    outcome.expect(0).expect_notice("mirror");
    sandbox.assert_published("file", &object(SIZE));
    assert!(second.sent_bytes() > SIZE / 8 && third.sent_bytes() > SIZE / 8);
    // Nothing is given up for that without a digest either, before the first byte.
    let (first, second) = (Origin::start(|_, _| Response::empty(404)), slow());
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &first, &[&second]).run();
    outcome.expect(0).expect_notice("mirror");
    sandbox.assert_published("file", &object(SIZE));
    // All of them gone is the last one's failure.
    let gone = Origin::start(|_, _| Response::empty(410));
    command(&Sandbox::new(), &first, &[&gone]).run().expect(6);
}

#[test]
fn fault_079_headers_and_logins_do_not_go_to_mirrors_elsewhere() {
    let (first, second) = (slow(), slow());
    let own = second.url("/mirror").replace("http://", "http://me:own@");
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox)
        .json()
        .args(["-x", "4", "-o", "file", "-u", "you:yours", "-H", "X-Key: k", "--checksum"])
        .args([&digest(), "--mirror", &own])
        .arg(first.url("/file"))
        .run();
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    // Base64 of the two logins.
    for (origin, login) in [(&first, "eW91OnlvdXJz"), (&second, "bWU6b3du")] {
        let requests = origin.requests();
        assert!(!requests.is_empty());
        for request in requests.iter().map(|record| &record.request) {
            let sent = request.header("Authorization");
            assert_eq!(sent, Some(format!("Basic {login}").as_str()));
        }
    }
    for record in second.requests() {
        assert_eq!(record.request.header("X-Key"), None);
        let canary = record.request.headers.iter().any(|(_, value)| value.contains(CANARY));
        assert!(!canary, "{record:?}");
    }
}

#[test]
fn a_partial_is_continued_from_whatever_source_is_left() {
    let (first, second) = (crawling_after(4 * MIB), crawling_after(4 * MIB));
    let sandbox = Sandbox::new();
    let digest = digest();
    let with_digest = |first: &Origin, second: &Origin| {
        command(&sandbox, first, &[second]).args(["--checksum", &digest])
    };
    interrupt(with_digest(&first, &second), 6 * MIB);
    sandbox.assert_kept("file");
    let gone = Origin::start(|_, _| Response::empty(404));
    let rest = Origin::serving(&object(SIZE).with_etag(Some("\"another\"")));
    let outcome = with_digest(&gone, &rest).run();
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert!(outcome.resumed_bytes() >= 4 * MIB, "{outcome}");
}

#[test]
fn a_digest_of_the_server_lets_mirrors_take_part() {
    use base64::Engine as _;
    use sha2::Digest as _;

    let bytes = object(SIZE).bytes(0..SIZE);
    let sha256 = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(&bytes));
    let (second, third) = (crawling_after(7 * MIB), crawling_after(7 * MIB));
    // RFC 6249: the origin names the mirrors itself.
    let links = format!(
        "<{}>; rel=duplicate; pri=2; geo=de, <{}>; rel=\"duplicate\"; pri=1",
        second.url("/two"),
        third.url("/three")
    );
    let throttle = Throttle::new(2_000_000).crawling_after(7 * MIB);
    let first = Origin::start(move |request, _| {
        let honest = honest(request).header("Digest", &format!("SHA-256={sha256}"));
        throttle.apply(honest.header("Link", &links))
    });
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &first, &[]).run();
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    for (origin, path) in [(&second, "/two"), (&third, "/three")] {
        assert!(origin.sent_bytes() > SIZE / 8, "{} bytes of {path}", origin.sent_bytes());
        assert!(origin.requests().iter().all(|record| record.request.path() == path));
    }
}

#[test]
fn links_without_a_strong_digest_are_not_followed() {
    use base64::Engine as _;
    use md5::Digest as _;

    let md5 = md5::Md5::digest(object(SIZE).bytes(0..SIZE));
    let md5 = format!("MD5={}", base64::engine::general_purpose::STANDARD.encode(md5));
    for digest in [None, Some(md5)] {
        let second = slow();
        let link = format!("<{}>; rel=duplicate", second.url("/two"));
        let pace = Throttle::new(4_000_000);
        let first = Origin::start(move |request, _| {
            let response = pace.apply(honest(request).header("Link", &link));
            digest.iter().fold(response, |response, digest| response.header("Digest", digest))
        });
        let sandbox = Sandbox::new();
        command(&sandbox, &first, &[]).run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
        assert!(second.requests().is_empty());
    }
}

#[test]
fn mirrors_of_a_list_are_used_together_too() {
    let (first, second) = (crawling_after(SIZE / 4 * 3), crawling_after(SIZE / 4 * 3));
    let sandbox = Sandbox::new();
    let list = format!(
        "{{\"urls\":[\"{}\",\"{}\"],\"out\":\"file\",\"digest\":\"{}\"}}\n",
        first.url("/a"),
        second.url("/b"),
        digest()
    );
    sandbox.write("list", list);
    haul!(sandbox).json().args(["-x", "4", "-i", "list"]).run().expect(0);
    assert_eq!(object(SIZE).compare_file(&sandbox.path("file")), Ok(()));
    assert!(first.sent_bytes() > SIZE / 8 && second.sent_bytes() > SIZE / 8);
}

#[test]
fn mirrors_of_several_objects_are_refused_by_name() {
    let origin = slow();
    let sandbox = Sandbox::new();
    let url = |path: &str| origin.url(path);
    let outcome = haul!(sandbox).args(["--mirror", &url("/m"), &url("/a"), &url("/b")]).run();
    outcome.expect(2).expect_message("--mirror");
    let outcome = haul!(sandbox).args(["--mirror", "ftp://h/m?sig=s", &url("/a")]).run();
    outcome.expect(2).expect_message("ftp://h/m");
    assert!(origin.requests().is_empty());
}
