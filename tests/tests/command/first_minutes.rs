//! What somebody sees who mistypes something: soon, with the cause and what to do about it.

use std::fs;
use std::time::{Duration, Instant};

use haul_tests::origin::{Raw, closed_port};
use haul_tests::prelude::*;

/// Two tries and the second between them, with room for a busy machine.
const SOON: Duration = Duration::from_secs(8);

/// As a user types it: with the retries that there are by themselves.
fn typed(sandbox: &Sandbox) -> Haul {
    haul!(sandbox, bare)
}

fn tries(outcome: &Outcome) -> usize {
    outcome.text().matches("retry: ").count() + 1
}

/// It ends soon, after two tries at most, with a cause and a hint.
#[track_caller]
fn ends_soon(haul: Haul, code: i32, cause: &str, hint: &str) {
    let began = Instant::now();
    let outcome = haul.run();
    let took = began.elapsed();
    outcome.expect(code);
    let text = outcome.text();
    assert!(text.contains(cause), "no cause {cause:?}\n{outcome}");
    assert!(
        text.lines().any(|line| line.starts_with("hint: ") && line.contains(hint)),
        "{outcome}"
    );
    assert!(tries(&outcome) <= 2, "{outcome}");
    assert!(took < SOON, "{took:?}\n{outcome}");
}

#[test]
fn what_will_not_pass_ends_after_two_tries() {
    let sandbox = Sandbox::new();
    let run = || typed(&sandbox);
    // Names do not begin with a hyphen: no lookup leaves the machine.
    ends_soon(
        run().arg("http://-mistyped/file"),
        4,
        "no host of this name",
        "spelling of -mistyped",
    );
    let closed = format!("http://127.0.0.1:{}/file", closed_port());
    ends_soon(run().arg(&closed), 4, "connection refused", "check the port");
    let http =
        Raw::saying(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec()).port();
    let url = format!("http://127.0.0.1:{http}/file");
    ends_soon(run().args(["--http2", &url]), 7, "asked in HTTP/2", "leave --http2 out");
    ends_soon(run().arg(format!("https://127.0.0.1:{http}/file")), 5, "not speak TLS", "http://");
    let silent = Raw::saying(Vec::new()).port();
    ends_soon(run().arg(format!("https://127.0.0.1:{silent}/file")), 4, "TLS", "http://");
    let tls = Raw::saying(b"\x15\x03\x03\x00\x02\x02\x46".to_vec()).port();
    ends_soon(run().arg(format!("http://127.0.0.1:{tls}/file")), 7, "speaks TLS", "https://");
    // What speaks TLS may as well close without a word.
    let plain = |port: u16| format!("http://127.0.0.1:{port}/file");
    ends_soon(run().arg(plain(silent)), 4, "before it answered", "try https://");
    let resets = Origin::start(|_, _| Response::hang_up(End::Reset));
    ends_soon(run().arg(plain(resets.port())), 4, "before it answered", "try https://");
    // Each of a list alike.
    let list = sandbox.write("list", format!("{closed}\n{closed}2\n"));
    ends_soon_all(run().arg("-i").arg(&list));
    std::fs::remove_file(list).unwrap();
    sandbox.assert_nothing_left();
}

#[track_caller]
fn ends_soon_all(haul: Haul) {
    let began = Instant::now();
    let outcome = haul.run();
    outcome.expect(4);
    assert!(began.elapsed() < SOON, "{outcome}");
}

#[test]
fn retries_that_were_asked_for_wait_for_a_server_to_come_up() {
    let port = closed_port();
    let object = Object::new(1, MIB);
    let sandbox = Sandbox::new();
    let url = format!("http://127.0.0.1:{port}/file");
    let mut running = typed(&sandbox).args(["--retry", "10", "-o", "file", &url]).start();
    running.wait_until("two tries are over", |it| it.stderr().matches("retry: ").count() >= 2);
    let served = object.clone();
    let _origin = Origin::builder().port(port).start(move |request, _| standard(&served, request));
    running.finish().expect(0);
    sandbox.assert_published("file", &object);
}

#[test]
fn a_server_that_says_nothing_at_first_is_asked_again() {
    let object = Object::new(1, MIB);
    for end in [End::Close, End::Reset] {
        for silent in [1, 2] {
            let served = object.clone();
            let origin = Origin::start(move |request, context| match context.index {
                index if index < silent => Response::hang_up(end),
                _ => standard(&served, request),
            });
            let sandbox = Sandbox::new();
            let outcome = typed(&sandbox).args(["-o", "file"]).arg(origin.url("/file")).run();
            outcome.expect(0);
            sandbox.assert_published("file", &object);
        }
    }
}

/// Once it has answered it speaks the protocol, and is there: what it then does not answer is
/// waited for, and nothing is said of TLS.
#[test]
fn a_server_that_has_answered_is_no_server_of_tls() {
    let origin = Origin::start(|_, context| match context.index {
        0 => Response::redirect(302, "/elsewhere"),
        _ => Response::hang_up(End::Reset),
    });
    let sandbox = Sandbox::new();
    let mut running = typed(&sandbox).args(["-o", "file"]).arg(origin.url("/file")).start();
    running.wait_until("more than two tries are over", |it| {
        it.stderr().matches("retry: ").count() >= 3
    });
    assert!(!running.stderr().contains("https://"), "{}", running.stderr());
    running.signal(Signal::INT);
    running.finish().expect(130);
}

#[test]
fn a_server_that_goes_away_midway_is_waited_for_as_ever() {
    let object = Object::new(1, 8 * MIB);
    let served = object.clone();
    // The rest is waited for until it is gone.
    let origin = Origin::start(move |request, context| match context.index {
        0 => standard(&served, request).cut(2 * MIB, End::Close),
        _ => Response::empty(503).delay(Duration::from_secs(3600)),
    });
    let (port, url) = (origin.port(), origin.url("/file"));
    let sandbox = Sandbox::new();
    let mut running = typed(&sandbox).args(["--json", "-x", "1", "-o", "file", &url]).start();
    running.wait_until("some bytes are here", |it| it.stdout().contains("\"start\""));
    drop(origin);
    let retries = |it: &Running| it.stdout().matches("\"retry\"").count();
    running.wait_until("more than two tries are over", |it| retries(it) >= 3);
    let served = object.clone();
    let _origin = Origin::builder().port(port).start(move |request, _| standard(&served, request));
    running.finish().expect(0);
    sandbox.assert_published("file", &object);
}

#[test]
fn each_address_that_was_tried_is_told_to_who_asks() {
    let sandbox = Sandbox::new();
    let port = closed_port();
    let url = format!("http://name.example:{port}/file");
    let resolve = format!("name.example:{port}:127.0.0.1,127.0.0.2");
    let run = |more: &[&str]| {
        typed(&sandbox).args(["--retry", "0", "--resolve", &resolve]).args(more).arg(&url).run()
    };
    let told = run(&["-v"]).text();
    for address in ["127.0.0.1", "127.0.0.2"] {
        let line = format!("tried {address}:{port}: connection refused");
        assert!(told.contains(&line), "{line}\n{told}");
    }
    assert!(!run(&[]).text().contains("tried"));
}

#[test]
fn certificates_are_refused_in_words() {
    const HOST: &str = "name.example";
    let known = Authority::new();
    let unknown = Authority::called("Example Corp");
    let sandbox = Sandbox::new();
    let ca = sandbox.write("ca.pem", known.pem());
    let cases = [
        (
            known.issue(&["a.example", "*.b.example"], Validity::Current),
            "it is for a.example and *.b.example, not for name.example",
        ),
        (known.issue(&[HOST], Validity::Expired), "it expired on Tue, 01 Jan 2002"),
        (
            unknown.issue(&[HOST], Validity::Current),
            "the authority `Example Corp` is not trusted here",
        ),
        (Authority::named(&[HOST], Validity::Current).identity(), "it is signed by itself"),
    ];
    for (identity, cause) in cases {
        let origin = Origin::builder().tls(&identity).start(|_, _| Response::empty(404));
        let url = format!("https://{HOST}:{}/file", origin.port());
        let resolve = format!("{HOST}:{}:127.0.0.1", origin.port());
        let haul = typed(&sandbox).args(["--resolve", &resolve, "--cacert"]).arg(&ca).arg(url);
        ends_soon(haul, 5, cause, "the last way is --insecure");
        assert!(origin.requests().is_empty());
    }
}

#[test]
fn an_error_of_a_proxy_names_who_chose_it() {
    let sandbox = Sandbox::new();
    let proxy = format!("http://127.0.0.1:{}", closed_port());
    let url = "http://host.example/file";
    let told = format!("the proxy {proxy} (from http_proxy): connection refused");
    ends_soon(typed(&sandbox).env("http_proxy", &proxy).arg(url), 4, &told, "correct http_proxy");
    let told = format!("the proxy {proxy} (from --proxy)");
    ends_soon(typed(&sandbox).args([&format!("--proxy={proxy}"), url]), 4, &told, "--no-proxy");
    // Of settings the place is named where they stand, and not the flag that nobody typed.
    let settings = sandbox.root().join("home/.config/haul/config.toml");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::write(&settings, format!("proxy = \"{proxy}\"\n")).unwrap();
    let place = format!("`proxy` in {}", settings.display());
    let told = format!("the proxy {proxy} (from {place}): connection refused");
    ends_soon(typed(&sandbox).arg(url), 4, &told, &format!("correct {place}, or"));
    let variable = typed(&sandbox).env("HAUL_PROXY", &proxy).arg(url);
    let told = "(from the variable HAUL_PROXY): connection refused";
    ends_soon(variable, 4, told, "correct the variable HAUL_PROXY");
    let again = typed(&sandbox).args([&format!("--proxy={proxy}"), url]);
    ends_soon(again, 4, "(from --proxy)", "correct --proxy");
    fs::write(&settings, "proxy = \"nope://h\"\n").unwrap();
    typed(&sandbox).arg(url).run().expect(2).expect_message(&place);
}

#[test]
fn statuses_have_a_hint_each() {
    let sandbox = Sandbox::new();
    for (status, code, hint) in [
        (400, 8, "https://"),
        (403, 6, "login"),
        (404, 8, "check the URL"),
        (500, 8, "the fault is the server's"),
    ] {
        let origin = Origin::start(move |_, _| Response::empty(status));
        let outcome = typed(&sandbox).arg(origin.url("/file")).run();
        outcome.expect(code);
        assert!(outcome.text().contains("hint: ") && outcome.text().contains(hint), "{outcome}");
    }
}

#[test]
fn an_empty_file_is_no_matter_of_ranges() {
    let origin = Origin::start(|_, _| Response::full(&Object::new(1, 0)));
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox).args(["-o", "file"]).arg(origin.url("/file")).run();
    outcome.expect(0);
    assert!(!outcome.has_notice("single-stream"), "{outcome}");
}

#[test]
fn what_limits_a_short_download_is_not_guessed() {
    let object = Object::new(1, 10 * MIB);
    // All connections together are slow, as a loaded server is; that more are no faster shows
    // long before the end.
    let origin = Origin::throttled(&object, &Throttle::new(8 * MIB));
    let sandbox = Sandbox::new();
    let outcome = typed(&sandbox).args(["-o", "file"]).arg(origin.url("/file")).run();
    outcome.expect(0);
    assert!(!outcome.text().contains("speed: "), "{outcome}");
    sandbox.assert_published("file", &object);
}
