//! Words planted wherever somebody else writes: none steers a terminal, none
//! that is secret is told, stored or sent on. `security.rs` has the plain cases.

use std::sync::OnceLock;
use std::thread;

use haul_tests::prelude::*;

/// A C1 control sequence and a bidirectional override, both allowed in a header.
const STEERING: &str = "x\u{9b}31my\u{202e}z";
/// What a server may say at most about one failed download, in bytes.
const LONGEST_TALK_BYTES: usize = 64 << 10;

const SIZE: u64 = 6 * MIB + 77;

/// Four ways to be told everything that can be told.
fn voices(sandbox: &Sandbox, json: bool, level: &str) -> Haul {
    let haul = haul!(sandbox, bare)
        .args(["-v", "--retry", "1", "--stall-timeout", "5s", "-x", "3"])
        .env("HAUL_LOG", level);
    if json { haul.json() } else { haul }
}

type Script = fn(&Request, &Context) -> Response;

/// Every place of a response that has text, with [`STEERING`] in it.
fn hostile_responses() -> Vec<(&'static str, Script)> {
    fn later(request: &Request, context: &Context, response: Response) -> Response {
        if context.index == 0 { standard(&object(SIZE), request) } else { response }
    }
    vec![
        ("an unknown field", |r, _| standard(&object(SIZE), r).header("X-Any", STEERING)),
        ("the entity tag", |r, _| {
            standard(&object(SIZE), r).set("ETag", &format!("\"{STEERING}\""))
        }),
        ("no entity tag", |r, _| standard(&object(SIZE), r).set("ETag", STEERING)),
        ("the date", |r, _| standard(&object(SIZE), r).set("Last-Modified", STEERING)),
        ("the type", |r, _| standard(&object(SIZE), r).set("Content-Type", STEERING)),
        ("the coding", |r, _| standard(&object(SIZE), r).header("Content-Encoding", STEERING)),
        ("the disposition", |r, _| {
            let value = format!("attachment; filename=\"{STEERING}\"");
            standard(&object(SIZE), r).header("Content-Disposition", &value)
        }),
        ("the range", |r, _| standard(&object(SIZE), r).set("Content-Range", STEERING)),
        ("the range's total", |r, _| {
            standard(&object(SIZE), r).set("Content-Range", &format!("bytes 0-1/{STEERING}"))
        }),
        ("a login page", |r, c| later(r, c, Response::text(200, STEERING, STEERING))),
        ("a long type", |r, c| later(r, c, Response::text(200, &STEERING.repeat(9000), "x"))),
        ("another coding", |r, c| {
            later(
                r,
                c,
                standard(&object(SIZE), r).header("Content-Encoding", &STEERING.repeat(9000)),
            )
        }),
        ("a long coding", |r, _| {
            standard(&object(SIZE), r).header("Content-Encoding", &STEERING.repeat(9000))
        }),
        ("an error", |_, _| Response::text(404, STEERING, STEERING).header("Server", STEERING)),
        ("a demand", |_, _| Response::empty(401).header("WWW-Authenticate", STEERING)),
        ("a pause", |_, _| Response::empty(503).header("Retry-After", STEERING)),
        ("a redirect", |_, _| Response::redirect(302, &format!("/{STEERING}?{STEERING}"))),
        ("a long redirect", |_, _| {
            Response::redirect(302, &format!("ftp://h/{}", STEERING.repeat(9000)))
        }),
        ("a redirect's host", |_, _| Response::redirect(302, &format!("http://{STEERING}/"))),
        ("a redirect's scheme", |_, _| Response::redirect(302, &format!("{STEERING}://h/"))),
        ("a redirect's port", |_, _| Response::redirect(302, &format!("http://h:{STEERING}/"))),
        ("a hint before", |r, _| {
            let hint = format!("HTTP/1.1 103 {STEERING}\r\nLink: {STEERING}\r\n\r\n");
            standard(&object(SIZE), r).interim(&hint)
        }),
        ("the reason", |_, _| {
            let head = format!("HTTP/1.1 404 {STEERING}\r\nContent-Length: 0\r\n\r\n");
            Response::empty(404).interim(&head).end(End::Close)
        }),
        ("a field's name", |_, _| Response::empty(200).header(STEERING, "x").close()),
        ("an escape in a field", |_, _| Response::empty(200).header("X", "\x1b[31m").close()),
        ("the length", |_, _| Response::new(200).header("Content-Length", STEERING).close()),
        ("the framing", |_, _| Response::new(200).header("Transfer-Encoding", STEERING).close()),
        ("a chunk", |_, _| {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            Response::empty(404).interim(&format!("{head}5;{STEERING}\r\n")).close()
        }),
        ("no HTTP", |_, _| Response::empty(404).interim(&format!("\x1b]0;{STEERING}\x07\r\n\r\n"))),
    ]
}

#[test]
fn fault_082_text_of_a_server_steers_no_terminal() {
    // Most of the time is waiting before a retry, so all wait at once.
    thread::scope(|scope| {
        for (place, script) in hostile_responses() {
            scope.spawn(move || {
                for (json, level) in [(false, "trace"), (true, "trace"), (true, "off")] {
                    assert_steers_nothing(place, &Origin::start(script), json, level);
                }
            });
        }
    });
}

fn assert_steers_nothing(place: &str, origin: &Origin, json: bool, level: &str) {
    let sandbox = Sandbox::new();
    let outcome = voices(&sandbox, json, level).arg(origin.url("/f")).run();
    assert_ne!(outcome.code, 1, "{place}\n{outcome:?}");
    assert!(!outcome.text().contains("panicked"), "{place}\n{outcome:?}");
    outcome.assert_harmless();
    let said = outcome.text().len();
    assert!(said <= LONGEST_TALK_BYTES, "{place}: {said} bytes were said");
    for name in sandbox.files() {
        assert!(!name.contains(['\u{9b}', '\u{202e}']), "{place}: {name:?}");
    }
}

#[test]
fn fault_082_names_in_a_certificate_steer_no_terminal() {
    let authority = Authority::new();
    let cacert = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&cacert, authority.pem()).unwrap();
    // Names are ASCII in a certificate; DEL is what JSON would not escape.
    let names = ["x\x1b[31m.example", "y\x7f\x07\r.example"];
    let origin = Origin::builder()
        .tls(&authority.issue(&names, Validity::Current))
        .start(|request, _| standard(&object(SIZE), request));
    for json in [false, true] {
        let sandbox = Sandbox::new();
        let haul = voices(&sandbox, json, "trace").arg("--cacert").arg(cacert.path());
        let outcome = haul.arg(origin.url("/f")).run();
        outcome.expect(5).assert_harmless();
        assert!(outcome.text().contains("example"), "the names are not quoted\n{outcome:?}");
        sandbox.assert_nothing_left();
    }
}

/// Every request that was sent here was free of what only another origin may see.
#[track_caller]
fn assert_told_nothing(requests: &[Record]) {
    assert!(!requests.is_empty(), "it was never asked");
    for record in requests {
        let text = format!("{:?}", record.request);
        // As browsers do it, what a server sets counts for its host, on any port.
        let cookie = record.request.header("Cookie");
        assert!(cookie.is_none_or(|cookie| cookie == "sid=secret-word"), "{text}");
        for secret in ["canary", "Y2FuYXJ5", "Authorization", "Referer", "X-Api-Key"] {
            let found = text.to_lowercase().contains(&secret.to_lowercase());
            assert!(!found, "{secret} was sent on: {text}");
        }
    }
}

/// All secrets of a user: in the URL, in fields, in the login.
fn secretly(haul: Haul, url: &str) -> Haul {
    let url = url.replacen("http://", "http://canary1:canary2@", 1);
    haul.args(["-o", "file", "-H", "X-Api-Key: canary3", "-H", "Cookie: id=canary4"])
        .args(["-e", "http://page/?canary5"])
        .arg(format!("{url}?X-Amz-Signature=canary6&q=canary7#canary8"))
}

/// The login above as it goes over the wire.
fn login() -> &'static str {
    "Basic Y2FuYXJ5MTpjYW5hcnky"
}

#[track_caller]
fn assert_silent(outcome: &Outcome, sandbox: &Sandbox) {
    for secret in ["canary", "Y2FuYXJ5"] {
        outcome.assert_free_of(secret);
        sandbox.assert_free_of(secret);
    }
    assert!(!outcome.text().contains("panicked"), "{outcome}");
}

#[test]
fn fault_083_secrets_of_user_and_server_are_told_nowhere() {
    static FOREIGN: OnceLock<String> = OnceLock::new();
    let foreign = Origin::start(|request, context| match request.path() {
        "/gone" if context.repeat > 0 || request.start() > 0 => Response::empty(410),
        "/gone" => standard(&object(SIZE), request).cut(MIB / 2, End::Reset),
        "/never" => Response::empty(403).header("Set-Cookie", "sid=secret-word"),
        "/html" => Response::text(200, "text/html", "sign in: secret-word"),
        "/cut" => standard(&object(SIZE), request).cut(MIB / 2, End::Reset),
        "/reset" => Response::hang_up(End::Reset),
        _ => standard(&object(SIZE), request).header("Set-Cookie", "sid=secret-word"),
    });
    // Another host: cookies go by host, whatever the port.
    FOREIGN.set(foreign.url("").replace("127.0.0.1", "localhost")).unwrap();
    let origin = Origin::start(|request, _| {
        let to = |location: &str| {
            Response::redirect(302, location).header("Set-Cookie", "sid=secret-word")
        };
        let secret = "?X-Goog-Signature=secret-word&u=secret-word#secret-word";
        let foreign = FOREIGN.get().expect("set above");
        match request.path() {
            "/file" => standard(&object(SIZE), request),
            "/loop" => to(&format!("/loop{secret}")),
            "/nowhere" => to(&format!("http://secret-word:secret-word@127.0.0.1:1/f{secret}")),
            "/scheme" => to(&format!("ftp://secret-word@h/{secret}")),
            "/data" => to("data:text/plain,secret-word"),
            "/mail" => to("mailto:secret-word@example.org"),
            "/unreadable" => to(&format!("http://secret-word:secret-word@[h/{secret}")),
            "/port" => to(&format!("http://secret-word:secret-word@h:99999/{secret}")),
            "/tls" => to(&foreign.replace("http://", "https://")),
            "/chain" => to(&format!("/chain2{secret}")),
            "/chain2" => to(&format!("{foreign}/file{secret}")),
            path => to(&format!("{foreign}{path}{secret}")),
        }
    });
    for (path, codes) in [
        ("/file", &[0][..]),
        ("/loop", &[7]),
        ("/nowhere", &[4]),
        ("/scheme", &[7]),
        ("/data", &[7]),
        ("/mail", &[7]),
        ("/unreadable", &[7]),
        ("/port", &[7]),
        ("/tls", &[4, 5]),
        ("/chain", &[0]),
        ("/gone", &[6]),
        ("/never", &[6]),
        ("/html", &[0]),
        ("/cut", &[0, 4]),
        ("/reset", &[4]),
        ("/ok", &[0]),
    ] {
        for (json, level) in [(false, "trace"), (true, "off")] {
            let sandbox = Sandbox::new();
            let before = foreign.requests().len();
            let outcome = secretly(voices(&sandbox, json, level), &origin.url(path)).run();
            outcome.expect_one_of(codes);
            assert_silent(&outcome, &sandbox);
            outcome.assert_free_of("secret-word");
            // A page that a server serves in place of a file is that server's file.
            if path != "/html" {
                sandbox.assert_free_of("secret-word");
            }
            if path == "/chain" {
                assert_told_nothing(&foreign.requests()[before..]);
            }
        }
    }
    assert_told_nothing(&foreign.requests());
    for record in origin.requests() {
        assert_eq!(record.request.header("Authorization"), Some(login()), "{record:?}");
        let referer = record.request.header("Referer");
        assert_eq!(referer, Some("http://page/?canary5"), "the one that was given: {record:?}");
    }
}

#[test]
fn fault_083_interrupted_and_planned_downloads_tell_no_secret() {
    let throttle = Throttle::new(MIB);
    let slow = Origin::throttled(&object(SIZE), &throttle);
    let target = slow.url("/film?X-Goog-Signature=secret-word");
    let origin = Origin::start(move |_, _| Response::redirect(302, &target));
    for signal in [Signal::INT, Signal::KILL] {
        throttle.allow(MIB);
        let sandbox = Sandbox::new();
        let mut running = secretly(voices(&sandbox, true, "trace"), &origin.url("/f")).start();
        running.wait_until("some bytes are here", |running| running.bytes() >= MIB / 2);
        running.signal(signal);
        let outcome = running.finish();
        assert_silent(&outcome, &sandbox);
        outcome.assert_free_of("secret-word");
        sandbox.assert_free_of("secret-word");
        sandbox.assert_unpublished_at_once("file");
        sandbox.assert_partial("file");
    }
    throttle.lift();
    for json in [false, true] {
        let sandbox = Sandbox::new();
        let haul = secretly(voices(&sandbox, json, "trace"), &origin.url("/f"));
        let outcome = haul.arg("--dry-run").run();
        outcome.expect_one_of(&[0]);
        assert_silent(&outcome, &sandbox);
        outcome.assert_free_of("secret-word");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn fault_083_command_lines_that_cannot_be_used_are_not_quoted() {
    for args in [
        &["h/f?sig=canary"][..],
        &["user:canary@h/f"],
        &["http://user:canary#x@h/f"],
        &["ftp://user:canary@h/f?canary#canary"],
        &["h/?next=http://canary&sig=canary"],
        &["bench", "h/f?canary"],
        &["bench", "http://h/f", "http://u:canary@h/f?canary"],
        &["--segment-size", "https://h/SHA256SUMS?canary", "http://h/f"],
        &["-H", "canary", "http://h/f"],
        &["-H", "X: canary\x01", "http://h/f"],
        &["-u", "canary", "http://h/f"],
        &["-A", "canary\n", "http://h/f"],
        &["-e", "http://h/?canary\r", "http://h/f"],
    ] {
        let sandbox = Sandbox::new();
        let outcome = haul!(sandbox, bare).args(args).env("HAUL_LOG", "trace").run();
        outcome.expect(2).assert_free_of("canary");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn fault_082_text_of_a_user_steers_no_terminal() {
    let origin = Origin::serving(&object(SIZE));
    let url = origin.url("/f");
    let nowhere = format!("/proc/{STEERING}/\x1b[31m");
    for args in [
        &["--checksum", STEERING, &url][..],
        &["-x", STEERING, &url],
        &[&format!("--{STEERING}")],
        &["-H", &format!("{STEERING}: x"), &url],
        &["--cacert", STEERING, &url],
        &["-o", &format!("{STEERING}/"), &url],
        &["-d", &nowhere, &url],
        &["-o", &nowhere, &url],
        &["-o", &format!("\x1b[31m{STEERING}"), "-v", &url],
        &["http://127.0.0.1:1/\u{202e}?\u{9b}", "--retry", "0"],
        &[&format!("http://{STEERING}/")],
    ] {
        let sandbox = Sandbox::new();
        haul!(sandbox, bare).args(args).env("HAUL_LOG", "trace").run().assert_harmless();
    }
    let sandbox = Sandbox::new();
    haul!(sandbox, bare)
        .args(["--retry", "0", &url])
        .env("HAUL_LOG", STEERING)
        .run()
        .assert_harmless();
}

#[test]
fn fault_079_secrets_come_back_with_a_redirect_to_their_origin_only() {
    static HOME: OnceLock<String> = OnceLock::new();
    let foreign = Origin::start(|_, _| {
        let home = HOME.get().expect("set below").replacen("http://", "http://mallory:x@", 1);
        Response::redirect(307, &format!("{home}/back"))
    });
    let away = foreign.url("/hop");
    let origin = Origin::start(move |request, _| match request.path() {
        "/start" => Response::redirect(301, &away),
        _ => standard(&object(SIZE), request),
    });
    HOME.set(origin.url("")).unwrap();
    let sandbox = Sandbox::new();
    let outcome = secretly(voices(&sandbox, true, "trace"), &origin.url("/start")).run();
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert_silent(&outcome, &sandbox);
    assert_told_nothing(&foreign.requests());
    for record in origin.requests() {
        // What the server in between put into its Location is not a login of ours.
        assert_eq!(record.request.header("Authorization"), Some(login()), "{record:?}");
        assert_eq!(record.request.header("X-Api-Key"), Some("canary3"), "{record:?}");
    }
    assert!(origin.requests().iter().any(|record| record.request.path() == "/back"));
}

#[test]
fn fault_079_another_name_for_the_same_server_is_another_origin() {
    static PORT: OnceLock<u16> = OnceLock::new();
    let origin = Origin::start(|request, _| match request.path() {
        "/start" => {
            let port = PORT.get().expect("set below");
            Response::redirect(302, &format!("http://localhost:{port}/file"))
        }
        _ => standard(&object(SIZE), request),
    });
    PORT.set(origin.port()).unwrap();
    let sandbox = Sandbox::new();
    let haul = secretly(voices(&sandbox, true, "off"), &origin.url("/start"));
    haul.args(["-H", "Host: canary.example"]).run().expect(0);
    let requests = origin.requests();
    assert_eq!(requests[0].request.header("Host"), Some("canary.example"));
    assert_told_nothing(&requests[1..]);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_079_another_scheme_is_another_origin() {
    let plain = Origin::serving(&object(SIZE));
    let target = plain.url("/file");
    let authority = Authority::new();
    let tls = Origin::builder()
        .tls(&authority.issue(&["127.0.0.1"], Validity::Current))
        .start(move |_, _| Response::redirect(302, &target));
    let sandbox = Sandbox::new();
    let cacert = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&cacert, authority.pem()).unwrap();
    let haul = secretly(voices(&sandbox, true, "trace"), &tls.url("/file"));
    let haul = haul.arg("--cacert").arg(cacert.path()).args(["-u", "canary1:canary2"]);
    let outcome = haul.arg("--allow-downgrade").run();
    outcome.expect(0);
    assert_silent(&outcome, &sandbox);
    assert_eq!(tls.requests()[0].request.header("Authorization"), Some(login()));
    assert_told_nothing(&plain.requests());
}
