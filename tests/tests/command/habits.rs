//! Words of curl, wget and aria2 that are typed by habit, a browser's "Copy as cURL", and
//! what is no URL.

use std::fs::{self, File};
use std::path::Path;

use haul_tests::habits::{self, HABITS, Habit, Outcome};
use haul_tests::prelude::*;

const SIZE: u64 = 300_000;

#[test]
fn page_is_what_the_tests_type() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/coming-from.md");
    if std::env::var_os("HAUL_REFRESH").is_some() {
        fs::write(&page, habits::page()).unwrap();
    }
    assert!(
        fs::read_to_string(&page).unwrap_or_default() == habits::page(),
        "docs/coming-from.md is not what tests/src/habits.rs says: \
         HAUL_REFRESH=1 cargo test -p haul-tests --test command habits"
    );
}

fn check(program: &str, habit: &Habit) {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    let words = habit.words().into_iter().map(|word| match word.as_str() {
        "URL" => origin.url("/file"),
        _ => word,
    });
    let outcome = haul!(sandbox, bare).args(words).run();
    let told = format!("{program} {}\n{outcome}", habit.typed);
    let (code, said) = match habit.outcome {
        Outcome::Refused(said) => (2, said),
        Outcome::Fails(code) => (code, ""),
        Outcome::Shown(said) => (0, said),
        _ => (0, ""),
    };
    assert_eq!(outcome.code, code, "{told}");
    assert!(outcome.text().contains(said), "{said:?} is not in {told}");
    let has = |name: &str| {
        assert_eq!(sandbox.files(), [name], "{told}");
        object(SIZE)
            .compare_file(&sandbox.path(name))
            .unwrap_or_else(|why| panic!("{why}\n{told}"));
    };
    match habit.outcome {
        Outcome::File(name) => has(name),
        Outcome::Quiet => {
            has("file");
            assert_eq!(outcome.text().trim(), "", "{told}");
        }
        Outcome::Sent(name, value) => {
            has("file");
            for record in origin.requests() {
                assert_eq!(record.request.header(name), Some(value), "{told}");
            }
        }
        Outcome::Stdout => {
            assert!(sandbox.files().is_empty(), "{told}");
            assert_eq!(outcome.stdout, object(SIZE).bytes(0..300_000), "{}", habit.typed);
        }
        Outcome::Refused(_) => {
            assert!(origin.requests().is_empty(), "asked the server all the same: {told}");
            assert!(sandbox.files().is_empty(), "{told}");
            assert!(outcome.text().contains("hint: "), "{told}");
        }
        // A part of the object, under its name, or nothing.
        Outcome::Shown("") => assert_eq!(fs::metadata(sandbox.path("file")).unwrap().len(), 100),
        Outcome::Shown(_) | Outcome::Fails(_) => assert!(sandbox.files().is_empty(), "{told}"),
    }
}

#[test]
fn every_habit_does_what_the_page_says() {
    for (program, habits) in HABITS {
        for habit in *habits {
            check(program, habit);
        }
    }
}

#[test]
fn only_https_is_only_https_wherever_a_url_comes_from() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    let url = origin.url("/file");
    let refused = |haul: Haul| {
        let outcome = haul.run();
        outcome.expect(2);
        let shown = url.split('?').next().unwrap();
        let told = outcome.text().replace("?…", "");
        assert!(told.contains(&format!("{shown} is not https")), "{outcome}");
        assert!(outcome.text().contains("hint: --proto =https"), "{outcome}");
    };
    let only = || haul!(sandbox, bare).args(["--proto", "=https"]);
    refused(only().arg(&url));
    refused(haul!(sandbox, bare).args(["play", "--proto", "=https"]).arg(&url));
    refused(only().args(["https://localhost:9/file", "--mirror"]).arg(&url));
    refused(only().args(["https://localhost:9/file", "--checksum"]).arg(&url));
    refused(only().arg("--metalink").arg(&url));
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(list.path(), format!("{url}\n")).unwrap();
    refused(only().arg("-i").arg(list.path()));
    assert!(origin.requests().is_empty());
    sandbox.assert_nothing_left();
}

/// A command copied from a browser, with a secret in each place that has one.
fn copied(url: &str) -> String {
    format!(
        "curl '{url}' \\\n  -H 'accept: */*' \\\n  -H 'authorization: Bearer {CANARY}' \\\n  \
         -H 'user-agent: Mozilla/5.0' \\\n  -H 'range: bytes=5-' \\\n  \
         -H 'if-none-match: \"x\"' \\\n  -b $'sid={CANARY}; mood=g\\'day' \\\n  --compressed"
    )
}

fn field(origin: &Origin, name: &str) -> Vec<Option<String>> {
    let records = origin.requests();
    records.iter().map(|record| record.request.header(name).map(str::to_owned)).collect()
}

#[test]
fn a_copied_command_is_downloaded_with_its_session_and_shows_none_of_it() {
    let origin = Origin::serving(&object(SIZE));
    for from_stdin in [false, true] {
        let sandbox = Sandbox::new();
        let text = copied(&origin.url("/file"));
        let before = origin.requests().len();
        let haul = haul!(sandbox, bare).arg("--from-curl");
        // Outside of what the harness searches for secrets.
        let paste = tempfile::NamedTempFile::new().unwrap();
        fs::write(paste.path(), &text).unwrap();
        let haul: Haul = if from_stdin {
            haul.arg("-").stdin(File::open(paste.path()).unwrap())
        } else {
            haul.arg(&text)
        };
        haul.run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
        let sent = |name| field(&origin, name).into_iter().skip(before).collect::<Vec<_>>();
        assert!(!sent("Cookie").is_empty());
        for (name, value) in [
            ("Cookie", format!("sid={CANARY}; mood=g'day")),
            ("Authorization", format!("Bearer {CANARY}")),
            ("User-Agent", "Mozilla/5.0".to_owned()),
        ] {
            assert!(sent(name).iter().all(|it| it.as_ref() == Some(&value)), "{name}");
        }
        assert!(sent("If-None-Match").iter().all(Option::is_none));
        assert!(sent("Range").iter().all(|range| range.as_deref() != Some("bytes=5-")));
    }
}

#[test]
fn typed_and_copied_cookies_reach_no_other_origin() {
    // Another host, and another port of the same host.
    for host in ["localhost", "127.0.0.1"] {
        let target = Origin::serving(&object(SIZE));
        let location = format!("http://{host}:{}/file", target.port());
        let origin = Origin::start(move |_, _| Response::redirect(302, &location));
        let url = origin.url("/file?x=1");
        let cookie = format!("sid={CANARY}; x=2");
        for words in [
            vec!["-b".to_owned(), cookie.clone(), url.clone()],
            vec!["--from-curl".to_owned(), copied(&url)],
        ] {
            let sandbox = Sandbox::new();
            haul!(sandbox, bare).args(&words).run().expect(0);
            sandbox.assert_published("file", &object(SIZE));
        }
        assert!(field(&origin, "Cookie").iter().all(|sent| {
            sent.as_ref().is_some_and(|sent| sent.starts_with(&format!("sid={CANARY}; ")))
        }));
        for name in ["Cookie", "Authorization"] {
            assert!(field(&target, name).iter().all(Option::is_none), "{name} reached {host}");
        }
    }
}

#[test]
fn a_file_of_that_name_is_the_cookies() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    sandbox.write("a=b", "127.0.0.1\tFALSE\t/\tFALSE\t0\tof\tfile\n");
    let haul = haul!(sandbox, bare).args(["-b", "a=b", "-H", "Cookie: typed=1", "-o", "out"]);
    haul.arg(origin.url("/file")).run().expect(0);
    assert!(field(&origin, "Cookie").iter().all(|it| it.as_deref() == Some("typed=1; of=file")));
    let haul = haul!(sandbox, bare).args(["-b", "c=d", "-H", "Cookie: typed=1", "-o", "again"]);
    let before = origin.requests().len();
    haul.arg(origin.url("/file")).run().expect(0);
    let sent = field(&origin, "Cookie");
    assert!(sent[before..].iter().all(|it| it.as_deref() == Some("typed=1; c=d")), "{sent:?}");
}

#[test]
fn a_copied_command_that_posts_asks_nobody() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    for (more, said) in
        [("--data-raw 'a=1'", "only fetches"), ("--insecure", "--insecure"), ("--nope", "--nope")]
    {
        let text = format!("{} {more}", copied(&origin.url("/file")));
        let outcome = haul!(sandbox, bare).args(["--from-curl", &text]).run();
        outcome.expect(2);
        assert!(outcome.text().contains(said), "{outcome}");
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn the_head_is_shown_without_its_secrets() {
    let origin = Origin::start(|request, _| {
        standard(&object(SIZE), request)
            .header("Set-Cookie", &format!("sid={CANARY}; Path=/"))
            .header("Link", &format!("<https://h/?sig={CANARY}>; rel=\"x\""))
    });
    for json in [false, true] {
        let sandbox = Sandbox::new();
        let haul = if json { haul!(sandbox) } else { haul!(sandbox, bare) };
        let outcome = haul.arg("--head").arg(origin.url("/file")).run();
        outcome.expect(0);
        for said in ["HTTP 206 Partial Content", "set-cookie: …", "etag: "] {
            assert!(outcome.text().contains(said), "{said}: {outcome}");
        }
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_list_in_the_place_of_a_url_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write("list.txt", "http://127.0.0.1:9/\n");
    sandbox.write("film.torrent", "d8:announce");
    for (word, said) in
        [("list.txt", "haul -i list.txt"), ("film.torrent", "BitTorrent"), ("-", "haul -i -")]
    {
        let outcome = haul!(sandbox, bare).arg(word).run();
        outcome.expect(2);
        assert!(outcome.text().contains(said), "{outcome}");
    }
}

#[test]
fn quotes_around_a_url_are_taken_off_and_told() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    let outcome = haul!(sandbox, bare).arg(format!(" '{}' ", origin.url("/file"))).run();
    outcome.expect(0);
    assert!(outcome.text().contains("taken off"), "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}
