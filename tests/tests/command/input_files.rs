//! `--input-file`: what a list says is what is downloaded, and a bad line
//! starts nothing.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use haul_tests::prelude::*;

fn object(name: &str) -> Object {
    let seed = u64::from(name.as_bytes()[0]);
    Object::new(seed, 100_000 + seed)
}

/// Serves an object of its own under each one-letter path; `/missing` is not there.
fn origin() -> Origin {
    Origin::start(|request, _| match request.path().trim_start_matches('/') {
        "missing" => Response::empty(404),
        name => standard(&object(name), request),
    })
}

/// A list outside of the sandbox, which no secret may reach. `$O` in its text
/// is the origin, `$S` a secret.
struct List(tempfile::TempDir);

impl List {
    fn new(origin: &Origin, text: &str) -> Self {
        Self::of_bytes(filled(origin, text).as_bytes())
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let list = Self(tempfile::tempdir().unwrap());
        fs::write(list.path(), bytes).unwrap();
        list
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("list.txt")
    }
}

fn filled(origin: &Origin, text: &str) -> String {
    text.replace("$O", &origin.url("")).replace("$S", CANARY)
}

fn run(sandbox: &Sandbox, list: &List, more: &[&str]) -> Outcome {
    let outcome = command(sandbox, list).args(more).run();
    outcome.assert_free_of(CANARY);
    outcome.assert_harmless();
    outcome
}

fn command(sandbox: &Sandbox, list: &List) -> Haul {
    haul!(sandbox).arg("-i").arg(list.path()).json().args(["--retry", "0"])
}

/// The list is refused with this, and nothing was asked for or written.
#[track_caller]
fn refused(origin: &Origin, text: &str, told: &[&str]) {
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &List::new(origin, text), &[]);
    outcome.expect(2).expect_message("list.txt, line ");
    for told in told {
        assert!(outcome.text().contains(told), "{told:?} for {text:?}\n{outcome}");
    }
    assert!(outcome.text().contains("nothing was started"), "{outcome}");
    sandbox.assert_nothing_left();
    assert!(origin.requests().is_empty(), "{text:?}");
}

#[test]
fn each_line_is_a_download() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let list = List::new(&origin, "# films\n$O/a?sig=$S\n\n  \n$O/b\n# the last one\n$O/c");
    let outcome = run(&sandbox, &list, &["-j", "2"]);
    outcome.expect(0);
    sandbox.assert_only(&[("a", &object("a")), ("b", &object("b")), ("c", &object("c"))]);
    assert_well_asked(&origin);
    // Numbered as they are listed, whichever is first to end.
    for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
        for event in ["start", "complete"] {
            let output = |event: &serde_json::Value| event["output"].as_str().map(str::to_owned);
            let of: Vec<_> = outcome.all(event).filter(|event| event["id"] == id).collect();
            assert!(of.len() == 1 && output(of[0]).unwrap().ends_with(name), "{outcome}");
        }
    }
}

#[test]
fn urls_of_the_command_line_come_first() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let list = List::new(&origin, "$O/b\n");
    let url = origin.url("/a");
    run(&sandbox, &list, &["-j", "1", "-d", "films", &url]).expect(0);
    sandbox.assert_only(&[("films/a", &object("a")), ("films/b", &object("b"))]);
    let paths: Vec<_> =
        origin.requests().iter().map(|record| record.request.path().to_owned()).collect();
    assert_eq!(paths, ["/a", "/b"]);
}

#[test]
fn options_of_aria2_below_a_url_are_kept_to() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let digest = object("a").blake3_hex();
    let list = List::new(
        &origin,
        &format!(
            "$O/a\n  out=sub/film\n  dir=deep/er\n  header=X-One: 1\n  header=Cookie: $S\n  \
             referer=http://r/\n\tuser-agent=me\n  checksum=blake3={digest}\n  split=5\n$O/b\n"
        ),
    );
    let outcome = run(&sandbox, &list, &["-d", "top"]);
    outcome.expect(0);
    sandbox.assert_only(&[("top/deep/er/sub/film", &object("a")), ("top/b", &object("b"))]);
    let notices: Vec<_> = outcome.all("notice").collect();
    assert_eq!(notices.len(), 1, "{outcome}");
    assert!(notices[0]["message"].as_str().unwrap().contains("`split`"), "{outcome}");
    for record in origin.requests() {
        let ours = record.request.path() == "/a";
        let header = |name| record.request.header(name);
        assert_eq!(header("X-One"), ours.then_some("1"));
        assert_eq!(header("Cookie"), ours.then_some(CANARY));
        assert_eq!(header("Referer"), ours.then_some("http://r/"));
        assert_eq!(header("User-Agent") == Some("me"), ours);
    }
}

#[test]
fn json_lines_are_kept_to() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let digest = object("a").blake3_hex();
    let list = List::new(
        &origin,
        &format!(
            r#"{{"id":"one","url":"$O/a?sig=$S","out":"x/film","digest":"blake3:{digest}","headers":{{"Authorization":"$S"}}}}
{{"id":"two","urls":["$O/b"],"size":{}}}
"#,
            object("b").size_bytes()
        ),
    );
    run(&sandbox, &list, &[]).expect(0);
    sandbox.assert_only(&[("x/film", &object("a")), ("b", &object("b"))]);
    for record in origin.requests() {
        let sent = record.request.header("Authorization");
        assert_eq!(sent, (record.request.path() == "/a").then_some(CANARY));
    }
}

#[test]
fn a_wrong_digest_of_a_list_publishes_nothing() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let list = List::new(&origin, &format!("$O/a\n checksum=sha-256={}\n$O/b\n", "0".repeat(64)));
    run(&sandbox, &list, &[]).expect(9);
    assert!(!sandbox.path("a").exists());
    assert_eq!(object("b").compare_file(&sandbox.path("b")), Ok(()));
}

#[test]
fn a_mirror_replaces_what_failed_from_the_start() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let list = List::new(&origin, "$O/missing?sig=$S\t$O/a\t$O/b\n out=file\n");
    let outcome = run(&sandbox, &list, &[]);
    outcome.expect(0).expect_notice("mirror");
    assert_eq!(outcome.all("error").count(), 0);
    sandbox.assert_published("file", &object("a"));
}

#[test]
fn fault_030_mirrors_of_the_same_size_are_never_stitched() {
    let sandbox = Sandbox::new();
    let (first, second) = (Object::new(1, 8 << 20), Object::new(2, 8 << 20));
    let tag = first.etag().map(str::to_owned);
    let second = second.with_etag(tag.as_deref());
    let served = [first, second.clone()];
    // The first mirror breaks off for good after half of it.
    let origin = Origin::start(move |request, _| match (request.path(), request.range()) {
        ("/second", _) => standard(&served[1], request),
        (_, Some(_)) if request.start() == 0 => {
            standard(&served[0], request).cut(4 << 20, End::Close)
        }
        _ => Response::empty(404),
    });
    let list = List::new(&origin, "$O/first\t$O/second\n out=file\n");
    let outcome = run(&sandbox, &list, &["-x", "2", "--segment-size", "1M"]);
    outcome.expect(0).expect_notice("mirror");
    sandbox.assert_published("file", &second);
    assert_eq!(outcome.event("complete")["bytes"], second.size_bytes());
}

#[test]
fn a_mirror_is_not_asked_for_what_is_wrong_here() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    sandbox.write("file", "precious");
    let list = List::new(&origin, "$O/a\t$O/b\n out=file\n");
    run(&sandbox, &list, &[]).expect(3);
    assert_eq!(fs::read(sandbox.path("file")).unwrap(), b"precious");
    // Whether it is the object already was asked, of the first alone.
    let asked = origin.requests();
    assert!(matches!(&asked[..], [one] if one.request.path() == "/a"), "{asked:?}");
}

#[test]
fn fault_081_bad_lines_start_nothing_and_are_quoted_without_secrets() {
    let origin = origin();
    let bad: [(&str, &[&str]); 17] = [
        (
            "$O/a\n$O/b\nexample.org/c?sig=$S\n",
            &["line 3", "https://example.org/c", "a line is a URL"],
        ),
        ("$O/a\nftp://u:$S@h/c\n", &["line 2", "ftp://h/c"]),
        ("$O/a\tnonsense\n", &["line 1", "nonsense", "TABs"]),
        ("$O/a?sig=$S\0\n", &["line 1", "NUL", "/a"]),
        ("$O/a\n out=../../etc/passwd\n", &["line 2", "../../etc/passwd", "--dir"]),
        ("$O/a\n out=/etc/passwd\n", &["line 2", "/etc/passwd", "absolute"]),
        ("$O/a\n dir=..\n", &["line 2", "upwards", "--dir"]),
        ("$O/a\n header=Cookie $S\n", &["line 2", "header", "Name: value"]),
        ("$O/a\n checksum=sha-256=12\n", &["line 2", "64 digits", "sha512"]),
        (" out=a\n$O/a\n", &["line 1", "`out`", "no URL above"]),
        ("$O/a\n{\"url\":\"$O/b?sig=$S\"\n", &["line 2", "JSON", "column"]),
        (
            "{\"url\":\"$O/b\",\"headers\":{\"A\":\"$S\\r\\nB: c\"}}\n",
            &["line 1", "`A`", "line break"],
        ),
        ("{\"id\":1}\n", &["line 1", "no `url`", "`digest`"]),
        ("$O/a\n out=x\n$O/b\n out=./x\n", &["line 3", "`x`", "an output of its own"]),
        (
            "{\"id\":\"x\",\"url\":\"$O/a\"}\n{\"id\":\"x\",\"url\":\"$O/b\"}\n",
            &["line 2", "the id `x`", "twice"],
        ),
        ("$O/a?sig=$S\n$O/b\n$O/a?sig=$S\n", &["line 3", "twice", "id"]),
        ("$O/a\n out=\u{1b}[2Jx\n", &["line 2", "\\u{1b}[2Jx", "control"]),
    ];
    for (text, told) in bad {
        refused(&origin, text, told);
    }
}

#[test]
fn lines_that_are_no_text_are_refused() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let list = List::of_bytes(&[b'x'; 1 << 20]);
    run(&sandbox, &list, &[]).expect(2).expect_message("longer than 64 KiB");
    sandbox.assert_nothing_left();
    drop(origin);
}

#[test]
fn a_list_that_is_not_there_is_named() {
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox).args(["-i", "no\u{1b}where"]).run();
    outcome.expect(3).expect_message("cannot read the list no\\u{1b}where");
    haul!(sandbox).args(["-i", "."]).run().expect(3).expect_message("cannot read");
    sandbox.assert_nothing_left();
}

#[test]
fn flags_of_one_download_are_refused_with_a_list() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let list = List::new(&origin, "$O/a\n");
    for (flag, value) in [("--output", "file"), ("--checksum", &"0".repeat(64))] {
        let outcome = command(&sandbox, &list).args([flag, value]).run();
        outcome.expect(2).expect_message(flag).expect_message("--input-file");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn stdin_is_read_while_downloads_run() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut running = haul!(sandbox).args(["-i", "-", "--retry", "0"]).json().stdin(reader).start();
    writeln!(writer, "{}", filled(&origin, r#"{"url":"$O/a?sig=$S"}"#)).unwrap();
    running.wait_until("the first is complete", |running| {
        running.events().iter().any(|event| event["event"] == "complete")
    });
    writeln!(writer, "nonsense?sig={CANARY}\n{}", filled(&origin, "$O/b")).unwrap();
    drop(writer);
    let outcome = running.finish();
    // The bad line is a failed item, the others are here.
    outcome.expect(2).expect_message("standard input, line 2: not a URL: `nonsense/?…`");
    assert_eq!(outcome.event("error")["id"], 2);
    outcome.assert_free_of(CANARY);
    sandbox.assert_only(&[("a", &object("a")), ("b", &object("b"))]);
}

#[test]
fn an_empty_list_is_no_failure() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    run(&sandbox, &List::new(&origin, "# nothing yet\n"), &[]).expect(0);
    sandbox.assert_nothing_left();
}
