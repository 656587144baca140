//! Section F of the faults: hostile servers, hostile names, and secrets.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;

use haul_tests::harness::make_fifo;
use haul_tests::origin::closed_port;
use haul_tests::prelude::*;

const SIZE: u64 = 8 * MIB + 4321;

fn small() -> Object {
    Object::new(1, 1000)
}

fn named(disposition: &'static [u8]) -> Origin {
    Origin::start(move |request, _| {
        standard(&small(), request).raw_header("Content-Disposition", disposition)
    })
}

/// One file, directly in the working directory, with the object in it.
#[track_caller]
fn assert_one_safe_file(sandbox: &Sandbox) -> String {
    let files = sandbox.files();
    assert!(files.len() == 1 && !files[0].contains('/'), "{files:?}");
    sandbox.assert_published(&files[0], &small());
    files[0].clone()
}

#[test]
fn fault_076_names_cannot_leave_the_directory() {
    for disposition in [
        &b"attachment; filename=\"../evil\""[..],
        b"attachment; filename=\"/nonexistent-haul/evil\"",
        b"attachment; filename=\"..\\\\..\\\\evil\"",
        b"attachment; filename=\"C:\\\\evil\"",
        b"attachment; filename*=UTF-8''..%2Fevil",
        b"attachment; filename*=UTF-8''%2Fnonexistent-haul%2Fevil",
        b"attachment; filename=\"..\"",
        b"attachment; filename=\"\"",
        b"attachment; filename=\"a/\"",
    ] {
        let origin = named(disposition);
        let sandbox = Sandbox::new();
        haul!(sandbox).arg(origin.url("/file")).run().expect(0);
        assert_one_safe_file(&sandbox);
    }
    let origin = Origin::serving(&small());
    for path in ["/..%2Fevil", "/a/..%5C..%5Cevil", "/%2e%2e", "/%2Fnonexistent-haul%2Fevil", "/"] {
        let sandbox = Sandbox::new();
        haul!(sandbox).arg(origin.url(path)).run().expect(0);
        assert_one_safe_file(&sandbox);
    }
}

#[test]
fn fault_077_leading_dots_and_hyphens_are_prefixed() {
    for (disposition, start) in [
        (&b"attachment; filename=\".bashrc\""[..], "_"),
        (b"attachment; filename=\"-rf\"", "_"),
        (b"attachment; filename*=UTF-8''.profile", "_"),
        (b"attachment; filename=\"plain.bin\"", "plain.bin"),
    ] {
        let origin = named(disposition);
        let sandbox = Sandbox::new();
        haul!(sandbox).arg(origin.url("/file")).run().expect(0);
        let name = assert_one_safe_file(&sandbox);
        assert!(name.starts_with(start), "{name}");
    }
}

#[test]
fn fault_078_links_and_pipes_are_not_followed() {
    let link = |path: &Path, target: &Path| symlink(target, path).unwrap();
    let dangling = |path: &Path, _: &Path| symlink(path.with_extension("none"), path).unwrap();
    let pipe = |path: &Path, _: &Path| make_fifo(path);
    type Plant = fn(&Path, &Path);
    let plants: [Plant; 3] = [link, dangling, pipe];
    for plant in plants {
        for suffix in ["part", "haul"] {
            // In the way of a new download, and in place of an own file.
            for own_first in [false, true] {
                let throttle = Throttle::new(4 * MIB).crawling_after(3 * MIB);
                let origin = Origin::throttled(&object(SIZE), &throttle);
                let sandbox = Sandbox::new();
                let command = || haul!(sandbox).args(["-o", "file"]).arg(origin.url("/file"));
                let planted = sandbox.path(&format!("file.{suffix}"));
                if own_first {
                    interrupt(command(), 2 * MIB);
                    fs::remove_file(&planted).unwrap();
                }
                throttle.lift();
                let elsewhere = tempfile::tempdir().unwrap();
                let target = elsewhere.path().join("target");
                fs::write(&target, "precious").unwrap();
                plant(&planted, &target);
                let outcome = command().run();
                outcome.expect(3);
                assert_eq!(fs::read(&target).unwrap(), b"precious", "{outcome}");
                assert!(!sandbox.path("file").exists(), "{outcome}");
                assert!(fs::symlink_metadata(&planted).is_ok(), "it was removed\n{outcome}");
            }
        }
    }
}

const SENT_TO_ORIGIN: [&str; 3] = ["authorization", "cookie", "x-secret"];

/// Which of the three secret headers a request had.
fn secrets(record: &Record) -> Vec<&'static str> {
    SENT_TO_ORIGIN.into_iter().filter(|name| record.request.header(name).is_some()).collect()
}

fn with_secrets(sandbox: &Sandbox, url: &str) -> Haul {
    haul!(sandbox)
        .args(["-o", "file", "-u", "user:pass", "-H", "Cookie: a=b", "-H", "X-Secret: s"])
        .arg(url)
}

#[test]
fn fault_079_secrets_stay_at_their_origin() {
    let foreign = Origin::serving(&object(SIZE));
    let target = foreign.url("/file");
    let origin = Origin::start(move |request, _| match request.path() {
        "/away" => Response::redirect(302, &target),
        "/here" => Response::redirect(302, "/file"),
        _ => standard(&object(SIZE), request),
    });
    let sandbox = Sandbox::new();
    with_secrets(&sandbox, &origin.url("/away")).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert_eq!(secrets(&origin.requests()[0]), SENT_TO_ORIGIN);
    assert!(!foreign.requests().is_empty());
    for record in foreign.requests() {
        assert!(secrets(&record).is_empty(), "a foreign origin got {:?}", secrets(&record));
    }

    let sandbox = Sandbox::new();
    with_secrets(&sandbox, &origin.url("/here")).run().expect(0);
    for record in &origin.requests()[1..] {
        assert_eq!(secrets(record), SENT_TO_ORIGIN, "the same origin needs them");
    }
    let basic = origin.requests()[1].request.header("Authorization").map(str::to_owned);
    assert_eq!(basic.as_deref(), Some("Basic dXNlcjpwYXNz"));
}

#[test]
fn fault_081_line_breaks_are_refused() {
    let origin = Origin::serving(&object(SIZE));
    let url = origin.url("/file");
    let broken_url = format!("{url}\r\nX-Injected: 1");
    for args in [
        &[broken_url.as_str()][..],
        &["-H", "X: a\r\nX-Injected: 1", &url],
        &["-H", "X: a\nX-Injected: 1", &url],
        &["-H", "X\r\nX-Injected: 1", &url],
        &["-H", "no colon", &url],
    ] {
        let sandbox = Sandbox::new();
        let outcome = haul!(sandbox, bare).args(args).run();
        outcome.expect(2);
        sandbox.assert_nothing_left();
    }
    assert_eq!(origin.connections(), 0, "refused before anything is sent");
}

#[test]
fn fault_082_terminal_escapes_do_not_pass() {
    let by_name = named(b"attachment; filename*=UTF-8''a%1b%5b31mb%e2%80%aec.txt");
    let raw_name = named("attachment; filename=\"a\u{202e}txt.exe\"".as_bytes());
    let small_file = Origin::serving(&small());
    let location = Origin::start(|_, _| Response::redirect(302, "gopher://a\u{202e}b/%1b[31m"));
    let status = Origin::start(|_, _| {
        Response::text(404, "text/html\u{202e}", "\u{1b}[31mred").header("X", "\u{9b}31m")
    });
    for (origin, path) in [
        (by_name, "/file"),
        (raw_name, "/file"),
        (small_file, "/a%1b%5b31mb%e2%80%ae"),
        (location, "/x%1b%5b31m"),
        (status, "/x%1b%5b31m"),
    ] {
        let sandbox = Sandbox::new();
        haul!(sandbox).arg("-v").arg(origin.url(path)).run().assert_harmless();
        let sandbox_plain = Sandbox::new();
        haul!(sandbox_plain, bare)
            .args(["-v", "--retry", "1"])
            .arg(origin.url(path))
            .env("HAUL_LOG", "debug")
            .run()
            .assert_harmless();
        for name in sandbox.files().into_iter().chain(sandbox_plain.files()) {
            let bad = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
            assert!(!name.contains(bad), "{name:?}");
        }
    }
}

/// A URL and arguments full of secrets, all with the word `canary`.
fn with_canaries(sandbox: &Sandbox, origin: &Origin, path: &str) -> Haul {
    let url = origin.url(&format!("{path}?X-Amz-Signature=canary1&token=canary2"));
    haul!(sandbox, bare)
        .args(["-v", "-o", "file", "--retry", "1", "-x", "4"])
        .args(["-u", "user:canary3", "-H", "X-Api-Key: canary4", "-H", "Cookie: id=canary5"])
        .arg(url)
        .env("HAUL_LOG", "trace")
}

#[test]
fn fault_083_secrets_are_nowhere() {
    let throttle = Throttle::new(4 * MIB);
    let limit = throttle.clone();
    let origin = Origin::start(move |request, context| match request.path() {
        "/redirect" => Response::redirect(302, "/file?X-Goog-Signature=canary6"),
        "/bad-redirect" => Response::redirect(302, "ftp://user:canary7@host/x?canary8"),
        "/denied" => Response::empty(403),
        "/expired" if context.repeat > 0 || request.start() > 0 => Response::empty(403),
        "/expired" => standard(&object(SIZE), request).cut(MIB, End::Close),
        "/broken" => standard(&object(SIZE), request).content_range(&(5..10), "20"),
        // It is interrupted midway.
        "/file" if !request.target.contains("canary6") => {
            limit.apply(standard(&object(SIZE), request))
        }
        _ => standard(&object(SIZE), request),
    });
    for json in [false, true] {
        let prepare = |haul: Haul| if json { haul.json() } else { haul };
        throttle.allow(5 * MIB);
        // While it runs and when it is interrupted.
        let sandbox = Sandbox::new();
        let running = prepare(with_canaries(&sandbox, &origin, "/file")).start();
        let sent = origin.sent_bytes();
        origin.wait_until("it is under way", |origin| origin.sent_bytes() >= sent + 4 * MIB);
        sandbox.assert_free_of("canary");
        running.signal(Signal::INT);
        let outcome = running.finish();
        outcome.expect(130).assert_free_of("canary");
        sandbox.assert_kept("file");
        sandbox.assert_free_of("canary");

        for (path, codes) in [
            ("/denied", &[6][..]),
            ("/expired", &[6]),
            ("/bad-redirect", &[7]),
            ("/broken", &[7]),
            ("/redirect", &[0]),
        ] {
            let sandbox = Sandbox::new();
            let outcome = prepare(with_canaries(&sandbox, &origin, path)).run();
            outcome.expect_one_of(codes).assert_free_of("canary");
            sandbox.assert_free_of("canary");
        }
    }
    // Nobody answers; user and password in the URL itself.
    let port = closed_port();
    let sandbox = Sandbox::new();
    let url = format!("http://user:canary9@127.0.0.1:{port}/file?sig=canary10");
    let outcome = haul!(sandbox).args(["-v", "--retry", "1"]).arg(url).run();
    outcome.expect(4).assert_free_of("canary");
    sandbox.assert_free_of("canary");
}

#[test]
fn fault_083_every_command_of_the_tests_carries_a_secret() {
    // What the harness then looks for by itself.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    let sandbox = Sandbox::new();
    let running = haul!(sandbox, bare).arg(url).start();
    let (mut socket, _) = listener.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let canary = CANARY.to_lowercase();
    assert!(head.contains(&format!("/file?sig={canary} ")), "{head}");
    assert!(head.contains(&format!("x-canary: {canary}\r\n")), "{head}");
    drop(running);
}

#[test]
fn fault_085_redirects_to_other_schemes_are_refused() {
    for location in [
        "file:///etc/passwd",
        "data:text/plain,hello",
        "ftp://127.0.0.1/file",
        "javascript:alert(1)",
        "//",
        "http://",
    ] {
        let origin = Origin::start(move |_, _| Response::redirect(302, location));
        let sandbox = Sandbox::new();
        haul!(sandbox).args(["-o", "file"]).arg(origin.url("/file")).run().expect(7);
        sandbox.assert_nothing_left();
        assert_eq!(origin.requests().len(), 1, "{location}");
    }
}

#[test]
fn url_of_another_scheme_is_usage() {
    for url in ["file:///etc/passwd", "ftp://127.0.0.1/file", "not a url", ""] {
        let sandbox = Sandbox::new();
        haul!(sandbox, bare).arg(url).run().expect(2);
        sandbox.assert_nothing_left();
    }
}
