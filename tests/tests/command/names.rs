//! Names, lists and digests in the forms that servers and people have, and files
//! that are not what their name promises.

use std::fs;

use haul_tests::prelude::*;
use sha2::{Digest as _, Sha256};

const SIZE: u64 = 30_000;

fn honest(request: &Request) -> Response {
    standard(&object(SIZE), request)
}

fn hex() -> String {
    let digest = Sha256::digest(object(SIZE).bytes(0..SIZE));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An origin whose object has this `Content-Disposition`.
fn naming(field: &[u8]) -> Origin {
    let field = field.to_owned();
    Origin::start(move |request, _| honest(request).raw_header("Content-Disposition", &field))
}

fn utf_16(text: &str) -> Vec<u8> {
    let text = format!("\u{feff}{text}");
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn said(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.stderr).into_owned()
}

#[test]
fn fault_105_a_name_is_what_a_browser_would_give() {
    for (field, name) in [
        (&b"attachment; filename=\"=?UTF-8?B?w5xiZXIucGRm?=\""[..], "Über.pdf"),
        (b"attachment; filename=\"=?iso-8859-1?Q?=DCber_uns.pdf?=\"", "Über uns.pdf"),
        (b"attachment; filename=%E5%A4%A9.mkv", "天.mkv"),
        (b"attachment; filename=\"100% sure.mp4\"", "100% sure.mp4"),
        (b"attachment; filename*=GBK''%BC%BE%B6%C8.zip", "季度.zip"),
        (b"attachment; filename=\"R\xe9sum\xe9.zip\"", "Résumé.zip"),
        ("attachment; filename=\"季度.zip\"".as_bytes(), "季度.zip"),
        (br#"attachment; filename="C:\Users\me\film.mkv""#, "film.mkv"),
        (b"attachment filename=\"film.mkv\"", "film.mkv"),
        (b"attachment; filename*0=\"a long \"; filename*1=\"name.mkv\"", "a long name.mkv"),
        // Decoded first, then made safe.
        (b"attachment; filename=\"..%2f..%2f.bashrc\"", "_.bashrc"),
        (b"attachment; filename=\"=?utf-8?Q?../=2Ebashrc?=\"", "_.bashrc"),
        (b"attachment; filename=x.haul", "x.haul_"),
        (b"attachment; filename=x.hau~", "x.hau~_"),
    ] {
        let (sandbox, origin) = (Sandbox::new(), naming(field));
        haul!(sandbox).arg(origin.url("/get.php?id=7")).run().expect(0);
        assert_eq!(sandbox.files(), [name], "{}", String::from_utf8_lossy(field));
        sandbox.assert_published(name, &object(SIZE));
    }
}

#[test]
fn fault_105_after_a_redirect_the_target_names_what_the_url_does_not() {
    for (path, name) in [
        ("/projects/tool/download", "tool-1.2.tar.gz"),
        ("/dl.php?id=7", "tool-1.2.tar.gz"),
        ("/latest/", "tool-1.2.tar.gz"),
        ("/mine.tar.gz", "mine.tar.gz"),
    ] {
        let sandbox = Sandbox::new();
        let origin = Origin::start(|request, _| match request.path() {
            "/mirror/tool-1.2.tar.gz" => honest(request),
            _ => Response::redirect(302, "/mirror/tool-1.2.tar.gz?ts=1"),
        });
        haul!(sandbox).arg(origin.url(path)).run().expect(0);
        assert_eq!(sandbox.files(), [name], "{path}");
    }
}

#[test]
fn fault_105_what_was_interrupted_is_found_under_its_name() {
    let large = Object::new(1, 16 * MIB);
    for redirects in [false, true] {
        let throttle = Throttle::new(4 * MIB).crawling_after(10 * MIB);
        let (pace, of) = (throttle.clone(), large.clone());
        let origin = Origin::start(move |request, _| match request.path() {
            "/get" if redirects => Response::redirect(302, "/%C3%9Cber.bin"),
            "/get" => {
                let field = "attachment; filename=\"=?utf-8?Q?=C3=9Cber.bin?=\"";
                pace.apply(standard(&of, request).header("Content-Disposition", field))
            }
            _ => pace.apply(standard(&of, request)),
        });
        let sandbox = Sandbox::new();
        interrupt(haul!(sandbox).json().arg(origin.url("/get")), 8 * MIB);
        sandbox.assert_partial("Über.bin");
        throttle.lift();
        let outcome = haul!(sandbox).json().arg(origin.url("/get")).run();
        outcome.expect(0);
        assert!(outcome.resumed_bytes() >= 4 * MIB, "{outcome}");
        assert_eq!(sandbox.files(), ["Über.bin"]);
    }
}

fn listed(sandbox: &Sandbox, list: &[u8]) -> Outcome {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), list).unwrap();
    haul!(sandbox, bare).arg("-i").arg(file.path()).run()
}

#[test]
fn fault_106_lists_are_read_in_any_encoding_and_with_any_line_end() {
    let origin = Origin::start(|request, _| honest(request));
    let (a, b) = (origin.url("/a.bin"), origin.url("/b.bin"));
    let text = format!("{a}\r\n  out=\u{fc}.bin\r\n{b}\r\n");
    let narrow: Vec<u8> = text.chars().map(|c| c as u8).collect();
    for bytes in [
        text.clone().into_bytes(),
        format!("\u{feff}{text}").into_bytes(),
        text.replace("\r\n", "\r").into_bytes(),
        utf_16(&text),
        narrow,
    ] {
        let sandbox = Sandbox::new();
        listed(&sandbox, &bytes).expect(0);
        assert_eq!(sandbox.files(), ["b.bin", "ü.bin"], "{bytes:?}");
    }
}

#[test]
fn fault_106_digests_are_found_in_the_forms_that_projects_publish() {
    let (digits, upper) = (hex(), hex().to_uppercase());
    let other = "0".repeat(64);
    let grouped: Vec<&str> =
        upper.as_bytes().chunks(8).map(|it| std::str::from_utf8(it).unwrap()).collect();
    for text in [
        utf_16(&format!("{upper} *tool.tar.gz\r\n")),
        format!("{other}  b\ncaf\u{e9}: nonsense \u{0}\n{digits} *./tool.tar.gz\n").into_bytes(),
        format!("sha256:{digits}\n").into_bytes(),
        format!("SHA2-256(tool.tar.gz)= {digits}\n").into_bytes(),
        format!("tool.tar.gz: {}\n       {}\n", grouped[..4].join(" "), grouped[4..].join(" "))
            .into_bytes(),
        format!("{other} *dist\\b\r\n{digits} *dist\\tool.tar.gz\r\n").into_bytes(),
        format!("\r\nSHA256          {upper}       C:\\out\\tool.tar.gz\r\n").into_bytes(),
        format!("SHA256 hash of tool.tar.gz:\r\n{digits}\r\nCertUtil: done.\r\n").into_bytes(),
    ] {
        for (altered, code) in [(false, 0), (true, 9)] {
            // A list of wrong digests is understood just as well.
            let list = text.clone();
            let origin = Origin::start(move |request, _| match request.path() {
                "/sums" => {
                    let length = list.len().to_string();
                    Response::new(200).header("Content-Length", &length).bytes(list.clone())
                }
                _ if altered => standard(&Object::new(2, SIZE), request),
                _ => honest(request),
            });
            let sandbox = Sandbox::new();
            let haul = haul!(sandbox).args(["--checksum", &origin.url("/sums")]);
            haul.arg(origin.url("/tool.tar.gz")).run().expect(code);
            assert_eq!(sandbox.files().len(), usize::from(!altered), "{text:?}");
        }
    }
}

#[test]
fn fault_106_netrc_and_cookies_come_from_windows_too() {
    let origin = Origin::start(|request, _| honest(request));
    let sandbox = Sandbox::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let (netrc, cookies) = (elsewhere.path().join("netrc"), elsewhere.path().join("cookies"));
    let logins = "machine other login \"x password y\r\nmachine 127.0.0.1 login me password 1\r\n";
    fs::write(&netrc, utf_16(logins)).unwrap();
    let jar =
        "127.0.0.1\tFALSE\t/\tFALSE\t0\ta\tb\u{e9}\r\n127.0.0.1\tFALSE\t/\tFALSE\t0\tc\td\r\n";
    fs::write(&cookies, jar.chars().map(|c| c as u8).collect::<Vec<u8>>()).unwrap();
    let haul = haul!(sandbox, bare).arg("--netrc-file").arg(&netrc).arg("-b").arg(&cookies);
    let outcome = haul.arg(origin.url("/a.bin")).run();
    outcome.expect(0);
    assert!(said(&outcome).contains("line 1"), "{outcome}");
    let request = &origin.requests()[0].request;
    assert_eq!(request.header("Authorization"), Some("Basic bWU6MQ=="));
    let cookie = request.header("Cookie").unwrap();
    assert!(cookie.contains("c=d") && cookie.contains("a=b"), "{cookie}");
}

fn metalink(sandbox: &Sandbox, files: &str) -> Haul {
    let document =
        format!("<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">{files}</metalink>");
    let server = Origin::start(move |_, _| Response::text(200, "text/xml", &document));
    let haul = haul!(sandbox, bare).args(["--metalink", &server.url("/it.meta4")]);
    // It is asked once, while this runs.
    std::mem::forget(server);
    haul
}

#[test]
fn fault_111_a_document_of_a_server_writes_no_file_that_steers_others() {
    let origin = Origin::start(|request, _| honest(request));
    let url = format!("<url>{}</url>", origin.url("/x.bin"));
    for (name, stored) in [
        (".config/haul/config.toml", "_.config/haul/config.toml"),
        (".bash_profile", "_.bash_profile"),
        ("-rf", "_-rf"),
        ("f.bin.part", "f.bin.part_"),
        ("sub/f.bin.haul", "sub/f.bin.haul_"),
        ("gpj.\u{202e}exe", "gpj.exe"),
    ] {
        let sandbox = Sandbox::new();
        let outcome = metalink(&sandbox, &format!("<file name=\"{name}\">{url}</file>")).run();
        outcome.expect(0);
        assert_eq!(sandbox.files(), [stored]);
        assert!(said(&outcome).contains("was made safe"), "{outcome}");
    }
    let twins = format!("<file name=\"f.part\">{url}</file><file name=\"f.part_\">{url}</file>");
    let sandbox = Sandbox::new();
    metalink(&sandbox, &twins).run().expect(7);
    sandbox.assert_nothing_left();
}

#[test]
fn fault_111_a_hash_that_cannot_be_checked_is_told() {
    let origin = Origin::start(|request, _| honest(request));
    let url = format!("<url>{}</url>", origin.url("/x.bin"));
    let file = |hash: &str| format!("<file name=\"a.bin\">{hash}{url}</file>");
    let sandbox = Sandbox::new();
    let short = format!("<hash type=\"sha-256\">{}</hash>", &hex()[1..]);
    let outcome = metalink(&sandbox, &file(&short)).run();
    outcome.expect(7);
    assert!(said(&outcome).contains("no digest of sha256"), "{outcome}");
    sandbox.assert_nothing_left();
    let outcome = metalink(&sandbox, &file("<hash type=\"sha-384\">00</hash>")).run();
    outcome.expect(0);
    assert!(said(&outcome).contains("not verified"), "{outcome}");
    sandbox.assert_published("a.bin", &object(SIZE));
}

#[test]
fn fault_113_a_page_in_place_of_a_film_is_told() {
    let serving = |text: &'static str, kind: &'static str| {
        Origin::start(move |_, _| Response::text(200, kind, text))
    };
    for (text, path, word) in [
        ("<!DOCTYPE html><title>Login</title>", "/big.iso", "an HTML page"),
        ("<?xml version=\"1.0\"?><Error/>", "/film.mkv", "an XML document"),
        ("{\"error\":\"denied\"}", "/a.tar.gz", "JSON"),
    ] {
        let (sandbox, origin) = (Sandbox::new(), serving(text, "application/octet-stream"));
        let outcome = haul!(sandbox).json().arg(origin.url(path)).run();
        outcome.expect(0).expect_notice("other-content");
        let told = outcome.all("notice").any(|it| it["message"].to_string().contains(word));
        assert!(told, "{outcome}");
        assert_eq!(fs::read_to_string(sandbox.path(&path[1..])).unwrap(), text, "it is kept");
    }
    let (sandbox, origin) = (Sandbox::new(), serving("<html>", "video/mp4"));
    let outcome = haul!(sandbox).json().args(["-o", "it"]).arg(origin.url("/it")).run();
    outcome.expect(0).expect_notice("other-content");
    for (text, path) in [
        ("<!DOCTYPE html>", "/page.html"),
        ("<!DOCTYPE html>", "/page"),
        ("<?xml version=\"1.0\"?><svg/>", "/a.svg"),
        ("{}", "/a.json"),
        ("PK\u{3}\u{4}", "/a.zip"),
        ("", "/a.iso"),
    ] {
        let (sandbox, origin) = (Sandbox::new(), serving(text, "text/html"));
        let outcome = haul!(sandbox).json().arg(origin.url(path)).run();
        outcome.expect(0);
        assert!(!outcome.has_notice("other-content"), "{path}: {outcome}");
    }
}

#[test]
fn a_file_that_lost_its_end_is_not_unchanged() {
    let dated = object(SIZE).with_etag(None).with_last_modified(Some(1_600_000_000));
    let served = dated.clone();
    // As nginx: 304 for whatever is not older than the object.
    let origin = Origin::start(move |request, _| match request.header("If-Modified-Since") {
        Some(_) => Response::empty(304),
        None => standard(&served, request),
    });
    let sandbox = Sandbox::new();
    let run = || {
        let exec = ["--if-changed", "--exec", "true", "-o", "file"];
        let outcome = haul!(sandbox).json().args(exec).arg(origin.url("/file")).run();
        outcome.expect(0);
        outcome
    };
    // Nothing has noted what this file was: it came by other ways, or lost the note.
    for bytes in [10_000, 0] {
        sandbox.write("file", dated.bytes(0..bytes));
        let outcome = run();
        assert!(outcome.event("complete")["unchanged"].is_null(), "{bytes}: {outcome}");
        sandbox.assert_published("file", &dated);
        fs::remove_file(sandbox.path("file")).unwrap();
    }
    sandbox.write("file", dated.bytes(0..SIZE));
    assert_eq!(run().event("complete")["unchanged"], true);
    // Once it is noted, a 304 is enough.
    fs::remove_file(sandbox.path("file")).unwrap();
    run();
    assert_eq!(run().event("complete")["unchanged"], true);
}

#[test]
fn the_closest_section_of_a_host_counts_for_its_rate() {
    let origin = Origin::serving(&Object::new(1, 2 * MIB));
    let sandbox = Sandbox::new();
    let settings = sandbox.root().join("home/.config/haul");
    fs::create_dir_all(&settings).unwrap();
    // In the order of their names the wider section comes first.
    let text = "[host.\"*.test\"]\nlimit-rate = \"10k\"\n[host.\"a.test\"]\nconnections = 2\n";
    fs::write(settings.join("config.toml"), text).unwrap();
    let port = origin.port();
    let outcome = haul!(sandbox)
        .args(["--resolve", &format!("a.test:{port}:127.0.0.1"), "--max-time", "20"])
        .arg(format!("http://a.test:{port}/film.bin"))
        .run();
    outcome.expect(0);
}

fn aria2c(sandbox: &Sandbox) -> Haul {
    Haul::new(env!("CARGO_BIN_EXE_haul-aria2c-under-test"), sandbox)
}

#[test]
fn words_of_aria2_mean_what_they_mean_there() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object(SIZE)));
    let url = origin.url("/a.bin?x=1");
    let run = |args: &[&str]| {
        let outcome = aria2c(&sandbox).args(args).arg(&url).run();
        assert_eq!(outcome.code, 0, "{args:?}\n{outcome}");
        let requests = origin.requests();
        requests[requests.len() - 1].request.clone()
    };
    run(&["--dry-run", "-o", "a"]);
    sandbox.assert_nothing_left();
    let request = run(&["--stop=0", "--max-tries=0", "--referer=*", "--header=X: :b", "-o", "a"]);
    assert_eq!(request.header("Referer"), Some(&*url));
    assert_eq!(request.header("X"), Some(":b"));
    // A proxy that nobody has, for https alone, is not in the way of http.
    run(&["--https-proxy=http://127.0.0.1:1", "-o", "b"]);
    let args = ["--http-proxy=http://127.0.0.1:1", "-m1", "-o", "c"];
    let outcome = aria2c(&sandbox).args(args).arg(&url).run();
    assert_ne!(outcome.code, 0, "{outcome}");
    sandbox.assert_only(&[("a", &object(SIZE)), ("b", &object(SIZE))]);
}
