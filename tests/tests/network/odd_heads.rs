//! Heads, places and logins as servers have them in the field, and as curl and browsers
//! take them.

use std::fmt::Write as _;
use std::net::TcpListener;

use haul_tests::origin::Raw;
use haul_tests::prelude::*;
use haul_tests::proxy::Proxy;
use md5::Digest as _;

const SIZE: u64 = 3 * MIB + 17;

fn command(sandbox: &Sandbox) -> Haul {
    haul!(*sandbox).args(["-x", "3", "-o", "file", "--segment-size", "1M", "-t", "1"])
}

/// The good answer to a request for a part, with another first line and with more lines.
fn part(head: &str, status: &[u8], more: &[u8]) -> Vec<u8> {
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
    let (first, last) = range.and_then(|range| range.trim().split_once('-')).unwrap_or(("0", ""));
    let total = object(SIZE).size_bytes();
    let first: u64 = first.parse().unwrap();
    let end = last.parse().map_or(total, |last: u64| (last + 1).min(total));
    let fields = format!(
        "ETag: \"v1\"\r\nContent-Range: bytes {first}-{}/{total}\r\nContent-Length: {}\r\n\r\n",
        end - 1,
        end - first
    );
    [status, b"\r\n", more, fields.as_bytes(), &object(SIZE).bytes(first..end)].concat()
}

fn right(what: &[u8], outcome: &Outcome, sandbox: &Sandbox) {
    assert!(outcome.code == 0, "{}: {outcome}", what.escape_ascii());
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_097_lines_that_are_no_fields_cost_nothing() {
    for more in [
        &b"X-Note: first\r\n  second\r\n\tthird\r\n"[..],
        b"Strict-Transport-Security: max-age=1;\r\npreload\r\n",
        b"PHP Warning: Unable to load x.so in Unknown on line 0\r\n goes on\r\n",
        b"Set-Cookie: a=b; domain=\x7fx\x7f\r\n",
        b"X-Frame-Options : DENY\r\nX Y: 1\r\n: nothing\r\n<!-- x -->\r\n",
        b"X-Id: a\x01b\r\nX-Place: M\xfcnchen\r\nX-Gr\xc3\xb6: 1\r\n",
        b"X-Bare: a\rb\r\r\nX-Line: only\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding:\r\n",
    ] {
        let origin = Raw::start(|head| part(head, b"HTTP/1.1 206 Partial Content", more));
        let sandbox = Sandbox::new();
        right(more, &command(&sandbox).arg(origin.url()).run(), &sandbox);
        // No request is sent twice.
        let mut asked = origin.asked();
        let requests = asked.len();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len(), requests, "{}", more.escape_ascii());
    }
}

#[test]
fn fault_097_a_name_in_a_folded_field_counts() {
    let more = b"Content-Disposition: attachment;\r\n\tfilename=\"film.bin\"\r\n";
    let origin = Raw::start(|head| part(head, b"HTTP/1.1 206 OK", more));
    let sandbox = Sandbox::new();
    haul!(sandbox).arg(origin.url()).run().expect(0);
    sandbox.assert_published("film.bin", &object(SIZE));
}

#[test]
fn fault_097_status_lines_are_read_as_others_read_them() {
    for status in [
        &b"HTTP/1.1 206"[..],
        b"http/1.1   206   Partial  Content  ",
        b"\r\n HTTP/1.1 206 Gr\xfc\x02n",
        b"HTTP/1.1 206OK",
        b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n y\r\n\r\nHTTP/1.1 206 OK",
    ] {
        let origin = Raw::start(|head| part(head, status, b""));
        let sandbox = Sandbox::new();
        right(status, &command(&sandbox).arg(origin.url()).run(), &sandbox);
    }
}

#[test]
fn fault_097_old_servers_end_with_their_connection() {
    for (status, more) in [
        (&b"ICY 200 OK"[..], &b"icy-name:x\r\n"[..]),
        (b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked\r\n"),
    ] {
        let total = object(SIZE).size_bytes();
        let whole = object(SIZE).bytes(0..total);
        let body = if more.starts_with(b"Transfer") {
            let size = format!("{total:x}\r\n").into_bytes();
            [&size[..], &whole, b"\r\n0\r\n\r\n"].concat()
        } else {
            whole
        };
        let origin = Raw::saying([status, b"\r\n", more, b"\r\n", &body].concat());
        let sandbox = Sandbox::new();
        right(status, &command(&sandbox).arg(origin.url()).run(), &sandbox);
    }
}

#[test]
fn fault_097_a_damaged_framing_is_refused_and_nothing_stored() {
    for more in [
        &b"Transfer-Encoding: chunked\x01\r\n"[..],
        b"Content-Length: 1\r\n",
        b"Content-Encoding: gz\x7fip\r\n",
        b"X: a\0b\r\n",
    ] {
        let origin = Raw::start(|head| part(head, b"HTTP/1.1 206 OK", more));
        let sandbox = Sandbox::new();
        command(&sandbox).arg(origin.url()).run().expect(7);
        sandbox.assert_unpublished("file");
    }
}

#[test]
fn fault_097_a_large_head_is_read_under_a_speed_limit_too() {
    let more = format!("Content-Security-Policy: {}\r\n", "x".repeat(60_000)).into_bytes();
    let origin = Raw::start(move |head| part(head, b"HTTP/1.1 206 OK", &more));
    let sandbox = Sandbox::new();
    // A limit that reads less at once than the head has.
    right(b"limit", &command(&sandbox).args(["-r", "10M"]).arg(origin.url()).run(), &sandbox);
}

#[test]
fn fault_052_bombs_among_lines_that_are_no_fields_are_refused() {
    for more in [
        [&b"X: a\r\n"[..], &b" folded and folded\r\n".repeat(60_000)].concat(),
        b"no colon\r\n".repeat(100_000),
    ] {
        let origin = Raw::start(move |head| part(head, b"HTTP/1.1 206 OK", &more));
        let sandbox = Sandbox::new();
        command(&sandbox).arg(origin.url()).run().expect(7);
        sandbox.assert_unpublished("file");
    }
    // A blank line ends a head: what follows is a body, of which nothing tells the end.
    let origin = Raw::start(|head| part(head, b"HTTP/1.1 206 OK", &b"\n a\n".repeat(100_000)));
    let sandbox = Sandbox::new();
    command(&sandbox).arg(origin.url()).run().expect_one_of(&[4, 7]);
    sandbox.assert_unpublished("file");
}

#[test]
fn fault_097_connect_is_answered_in_odd_ways() {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost"], Validity::Current);
    let origin =
        Origin::builder().tls(&identity).start(|request, _| standard(&object(SIZE), request));
    for reply in [
        &b"HTTP/1.0 200\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"http/1.1  201  Created\n\n",
        b"HTTP/1.1 200 OK\r\nX-Info: a\r\n b\r\nno colon\r\nX-Id: \x01\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let proxy = Proxy::http().connected(reply).start();
        let sandbox = Sandbox::new();
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), authority.pem()).unwrap();
        let haul = command(&sandbox).arg(format!("--proxy=http://{}", proxy.authority()));
        let url = format!("https://localhost:{}/file", origin.port());
        right(reply, &haul.arg("--cacert").arg(ca.path()).arg(url).run(), &sandbox);
    }
}

#[test]
fn fault_104_locations_are_followed_as_browsers_follow_them() {
    for (location, target) in [
        (&b"/a\xe9b"[..], "/a%E9b"),
        ("/gr\u{fc}n".as_bytes(), "/gr%C3%BCn"),
        (b" \t/a b?c d \t", "/a%20b?c%20d"),
        (b"\\a\\b", "/a/b"),
        (b"http:/a/b", "/a/b"),
        (b"?x=1", "/start?x=1"),
        (b"b#part", "/b"),
        (b"//127.0.0.1:PORT/a", "/a"),
        (b"http:\\\\127.0.0.1:PORT\\a", "/a"),
        (b"http:///127.0.0.1:PORT/a", "/a"),
        (b"HTTP://127.0.0.1:PORT", "/"),
        (b"/100%/%zz", "/100%/%zz"),
        (b"/a\x7fb", "/a%7Fb"),
        (b"/a\r\n b", "/a%20b"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let text: Vec<u8> = location.to_vec();
        let at = text.windows(4).position(|part| part == b"PORT");
        let text = match at {
            Some(at) => [&text[..at], port.as_bytes(), &text[at + 4..]].concat(),
            None => text,
        };
        let origin = Origin::builder().listener(listener);
        let origin = origin.start(move |request: &Request, _| match &*request.target {
            "/start" => Response::empty(302).raw_header("Location", &text),
            _ => standard(&object(SIZE), request),
        });
        let sandbox = Sandbox::new();
        let outcome = command(&sandbox).arg(origin.url("/start")).run();
        right(location, &outcome, &sandbox);
        let asked = origin.requests();
        assert_eq!(asked[1].request.target, target, "{}", location.escape_ascii());
    }
}

#[test]
fn fault_104_an_empty_location_is_no_endless_way() {
    let origin = Origin::start(|_, _| Response::empty(302).raw_header("Location", b" "));
    let sandbox = Sandbox::new();
    command(&sandbox).arg(origin.url("/file")).run().expect(7);
    assert!(origin.requests().len() < 3);
}

/// Whether the login is by Digest, MD5, and of this password.
fn is_let_in(request: &Request, nonce: &str, password: &str) -> bool {
    let hex = |text: String| {
        md5::Md5::digest(text).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    };
    let Some(login) = request.header("Authorization") else { return false };
    let Some(login) = login.strip_prefix("Digest ") else { return false };
    let get = |name: &str| {
        let found = login.split(", ").find_map(|it| it.strip_prefix(&format!("{name}=")));
        found.unwrap_or_default().trim_matches('"').to_owned()
    };
    let secret = hex(format!("ann:cam:{password}"));
    // The harness has a query of its own at each URL.
    let asked = get("uri");
    if asked.split('?').next() != Some(request.path()) {
        return false;
    }
    let asked = hex(format!("GET:{asked}"));
    let (count, ours) = (get("nc"), get("cnonce"));
    get("response") == hex(format!("{secret}:{nonce}:{count}:{ours}:auth:{asked}"))
}

fn challenge(nonce: &str, more: &str) -> Response {
    let field = format!("Digest realm=\"cam\", nonce=\"{nonce}\", qop=\"auth\"{more}");
    Response::text(401, "text/plain", "no\n")
        .header("WWW-Authenticate", "Basic realm=\"cam\"")
        .header("WWW-Authenticate", &field)
}

#[test]
fn logins_by_digest_are_made_for_each_request() {
    let origin = Origin::start(|request, _| {
        if is_let_in(request, "n1", CANARY) {
            standard(&object(SIZE), request)
        } else {
            challenge("n1", "")
        }
    });
    let sandbox = Sandbox::new();
    let outcome =
        command(&sandbox).args(["-u", &format!("ann:{CANARY}")]).arg(origin.url("/file")).run();
    right(b"digest", &outcome, &sandbox);
    outcome.assert_free_of(CANARY);
    let logins: Vec<String> = origin
        .requests()
        .iter()
        .filter_map(|it| it.request.header("Authorization").map(str::to_owned))
        .collect();
    assert!(logins[0].starts_with("Basic "));
    assert!(logins.len() > 1 && logins[1..].iter().all(|it| it.starts_with("Digest ")));
    let mut counts: Vec<&str> =
        logins[1..].iter().map(|it| &it[it.find("nc=").unwrap()..][..11]).collect();
    counts.sort_unstable();
    counts.dedup();
    assert_eq!(counts.len(), logins.len() - 1, "each has a count of its own");
    // A wrong password is one, in words, and not tried for long.
    let before = origin.requests().len();
    let outcome = command(&Sandbox::new()).args(["-u", "ann:no"]).arg(origin.url("/file")).run();
    outcome.expect(6).expect_message("refuses the login that it was given");
    assert_eq!(origin.requests().len() - before, 2);
}

#[test]
fn digest_logins_reach_no_other_origin() {
    let target = Origin::start(|_, _| challenge("n2", ""));
    let location = target.url("/file");
    let origin = Origin::start(move |request, _| {
        if is_let_in(request, "n1", CANARY) {
            Response::redirect(302, &location)
        } else {
            challenge("n1", "")
        }
    });
    let sandbox = Sandbox::new();
    let outcome =
        command(&sandbox).args(["-u", &format!("ann:{CANARY}")]).arg(origin.url("/file")).run();
    outcome.expect(6);
    outcome.assert_free_of(CANARY);
    let there = target.requests();
    assert!(!there.is_empty());
    assert!(there.iter().all(|it| it.request.header("Authorization").is_none()));
}

#[test]
fn a_login_that_haul_does_not_do_is_named() {
    let origin = Origin::start(|_, _| {
        Response::empty(401)
            .header("WWW-Authenticate", "Negotiate")
            .header("WWW-Authenticate", "NTLM")
    });
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox).args(["-u", "a:b"]).arg(origin.url("/file")).run();
    outcome.expect(6).expect_message("a login by Negotiate, NTLM, which haul does not do");
}

#[test]
fn a_proxys_login_that_haul_does_not_do_is_named() {
    let refusing = Raw::start(|_| {
        b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let proxy = format!("--proxy=http://a:b@127.0.0.1:{}", refusing.port());
    for scheme in ["http", "https"] {
        let sandbox = Sandbox::new();
        let haul = command(&sandbox).arg(&proxy).arg(format!("{scheme}://127.0.0.1:9/file"));
        haul.run().expect(6).expect_message("wants a login by NTLM, which haul does not do");
    }
}

#[test]
fn a_certificate_that_was_given_is_trusted_as_it_is() {
    let run = |given: &Authority, serving: &Authority| {
        let origin = Origin::builder().tls(&serving.identity());
        let origin = origin.start(|request, _| standard(&object(SIZE), request));
        let sandbox = Sandbox::new();
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), given.pem()).unwrap();
        let haul = command(&sandbox).arg("--cacert").arg(ca.path());
        let outcome = haul.arg(origin.url("/file")).run();
        if outcome.code == 0 {
            sandbox.assert_published("file", &object(SIZE));
        } else {
            sandbox.assert_unpublished("file");
        }
        outcome
    };
    let own = Authority::named(&["127.0.0.1"], Validity::Current);
    run(&own, &own).expect(0);
    // Only byte for byte, under its own name, in its time.
    let twin = Authority::named(&["127.0.0.1"], Validity::Current);
    run(&twin, &own).expect(5);
    let elsewhere = Authority::named(&["other.example"], Validity::Current);
    run(&elsewhere, &elsewhere)
        .expect(5)
        .expect_message("it is for other.example, not for 127.0.0.1");
    let old = Authority::named(&["127.0.0.1"], Validity::Expired);
    run(&old, &old).expect(5).expect_message("expired");
}

#[test]
fn http_on_the_port_of_https_is_told_in_words() {
    let bad_request = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let origin = Raw::saying(bad_request.to_vec());
    let url = origin.url().replacen("http", "https", 1);
    let sandbox = Sandbox::new();
    command(&sandbox).arg(url).run().expect(5).expect_message("does not speak TLS");
    sandbox.assert_nothing_left();
}

#[test]
fn https_on_the_port_of_http_is_told_in_words() {
    let origin = Raw::start(|_| b"\x15\x03\x03\x00\x02\x02\x46".to_vec());
    let sandbox = Sandbox::new();
    command(&sandbox).arg(origin.url()).run().expect(7).expect_message("speaks TLS");
    sandbox.assert_nothing_left();
}
