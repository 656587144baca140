//! That each flag has a test through the binary, and those of the flags that are
//! nowhere else: who asks, how long, where from, how much is said, help.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use haul_tests::faults::files_below;
use haul_tests::harness::write_program;
use haul_tests::prelude::*;

const COMMANDS: [&str; 10] =
    ["get", "demo", "bench", "play", "page", "verify", "status", "clean", "completions", "man"];

fn object() -> Object {
    Object::new(1, 300_000).with_last_modified(Some(1_000_000_000))
}

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-o", "file"]).arg(origin.url("/file"))
}

/// The long flags that a help text lists; what it says of them is indented further.
fn flags_of(help: &str) -> BTreeSet<String> {
    let flags = help.lines().filter_map(|line| {
        let indented = line;
        let line = line.trim_start();
        if indented.len() - line.len() > 6 {
            return None;
        }
        let line =
            line.split_once(", ").filter(|(short, _)| short.len() == 2).map_or(line, |it| it.1);
        let flag = line.split([' ', '[', '=']).next()?;
        flag.starts_with("--").then(|| flag.to_owned())
    });
    flags.collect()
}

#[test]
fn every_flag_is_named_by_a_test() {
    let sandbox = Sandbox::new();
    let mut texts = String::new();
    for path in files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")) {
        let text = fs::read_to_string(path).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.for_each(|line| texts.extend([line, "\n"]));
    }
    let mut all = BTreeSet::new();
    for command in COMMANDS {
        let outcome = haul!(sandbox, bare).args([command, "--help-all"]).run();
        outcome.expect(0);
        let flags = flags_of(&outcome.text());
        assert!(flags.contains("--help"), "{command}: {flags:?}");
        all.extend(flags);
    }
    assert!(all.len() > 60, "{all:?}");
    let named = |flag: &String| {
        let begins = |before: &str| before.ends_with(['"', ' ']);
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
        texts
            .match_indices(flag.as_str())
            .any(|(at, _)| begins(&texts[..at]) && ends(&texts[at + flag.len()..]))
    };
    let unnamed: Vec<_> = all.iter().filter(|flag| !named(flag)).collect();
    assert!(unnamed.is_empty(), "no test gives {unnamed:?}");
}

#[test]
fn help_is_a_screen_and_help_all_has_everything() {
    let sandbox = Sandbox::new();
    let help = |args: &[&str]| {
        let outcome = haul!(sandbox, bare).env("COLUMNS", "80").args(args).run();
        outcome.expect(0);
        outcome.text()
    };
    let (short, all) = (help(&["--help"]), help(&["--help-all"]));
    assert_eq!(short, help(&["-h"]));
    assert!((24..=50).contains(&short.lines().count()), "{} lines", short.lines().count());
    assert!(flags_of(&short).is_subset(&flags_of(&all)));
    for flag in ["--max-filesize", "--auto-rename", "--exec", "--per-host", "--retry-max-time"] {
        assert!(all.contains(flag) && !short.contains(flag), "{flag}");
    }
}

fn field(origin: &Origin, name: &str) -> Option<String> {
    origin.requests().last().unwrap().request.header(name).map(str::to_owned)
}

#[test]
fn who_asks_is_said_as_told() {
    for flags in [
        ["--user-agent", "--referer", "--user"].as_slice(),
        &["-A", "-e", "-u"],
        &["-U", "-e", "-u"],
    ] {
        let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
        command(&sandbox, &origin).run().expect(0);
        assert!(field(&origin, "User-Agent").unwrap().starts_with("haul/"));
        assert_eq!((field(&origin, "Referer"), field(&origin, "Authorization")), (None, None));
        let haul = command(&sandbox, &origin).args(["--overwrite", flags[0], "an agent"]);
        let haul = haul.args([flags[1], "http://page/", flags[2], "me:secret"]);
        haul.run().expect(0);
        assert_eq!(field(&origin, "User-Agent").as_deref(), Some("an agent"));
        assert_eq!(field(&origin, "Referer").as_deref(), Some("http://page/"));
        assert_eq!(field(&origin, "Authorization").as_deref(), Some("Basic bWU6c2VjcmV0"));
    }
}

#[test]
fn redirects_are_followed_so_often() {
    let origin = Origin::start(|request, _| match request.path() {
        "/2" => Response::redirect(302, "/1"),
        "/1" => Response::redirect(302, "/0"),
        _ => standard(&object(), request),
    });
    for (start, most, code) in [("/2", "2", 0), ("/2", "1", 7), ("/1", "0", 7), ("/0", "0", 0)] {
        let sandbox = Sandbox::new();
        let haul = haul!(sandbox).args(["-o", "file", "--max-redirect", most]);
        haul.arg(origin.url(start)).run().expect(code);
    }
}

#[test]
fn a_connection_that_is_not_made_is_given_up_in_time() {
    // Nobody accepts, and the queue of those who wait is full.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300))
    {
        waiting.push(stream);
        assert!(waiting.len() < 100);
    }
    let sandbox = Sandbox::new();
    let begun = Instant::now();
    let haul = haul!(sandbox).args(["--retry", "0", "--connect-timeout", "400ms"]);
    haul.arg(format!("http://{address}/")).run().expect(4);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn only_the_family_asked_for_is_used() {
    let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
    for (flag, code) in [("--ipv4", 0), ("-4", 0), ("--ipv6", 4), ("-6", 4)] {
        let haul = command(&sandbox, &origin).args(["--overwrite", "--retry", "0", flag]);
        haul.run().expect(code);
    }
    let haul = command(&sandbox, &origin).args(["--overwrite", "--ipv6", "--ipv4"]);
    haul.run().expect(0);
}

#[test]
fn the_files_time_is_the_servers_unless_told_otherwise() {
    let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
    for (flags, remote) in [
        (&["--no-config"][..], true),
        (&["--no-remote-time"], false),
        (&["--no-remote-time", "--remote-time"], true),
    ] {
        command(&sandbox, &origin).arg("--overwrite").args(flags).run().expect(0);
        let time = fs::metadata(sandbox.path("file")).unwrap().mtime();
        assert_eq!(time == 1_000_000_000, remote, "{flags:?}: {time}");
    }
}

fn said(flags: &[&str]) -> Outcome {
    let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
    let haul = haul!(sandbox, bare).args(["-o", "file"]).args(flags).arg(origin.url("/file"));
    let outcome = haul.run();
    outcome.expect(0);
    outcome
}

#[test]
fn so_much_is_said() {
    assert_eq!(said(&["--quiet"]).text().trim(), "");
    let (usual, more) = (said(&[]).text(), said(&["--verbose"]).text());
    assert!(usual.contains("file: complete") && !usual.contains("storage"), "{usual}");
    assert!(more.contains("validator") && more.contains("fetched in 1 request"), "{more}");
}

#[test]
fn the_rate_and_the_connections_are_bounds() {
    let object = Object::new(2, 3 << 20);
    let (origin, sandbox) = (Origin::serving(&object), Sandbox::new());
    let begun = Instant::now();
    let haul = command(&sandbox, &origin).args(["--connections", "3", "--limit-rate", "1M"]);
    let outcome = haul.run();
    outcome.expect(0);
    assert!(begun.elapsed() >= Duration::from_millis(2800), "{:?}", begun.elapsed());
    assert!(origin.most_open() <= 3);
    sandbox.assert_published("file", &object);
}

#[test]
fn a_browser_is_opened_at_the_page() {
    let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
    let browser = sandbox.root().join("temporary browser");
    let browser = browser.with_file_name("browser");
    write_program(&browser, "echo \"$1\" > opened.new && mv opened.new opened");
    let haul = haul!(sandbox, bare).args(["play", "--open", "--port", "0", "-o", "file"]);
    let haul = haul.env("BROWSER", &browser).arg(origin.url("/file"));
    let mut running = haul.start();
    running.wait_until("the browser was started", |_| sandbox.path("opened").exists());
    running.wait_until("it said where", |running| running.stdout().contains('\n'));
    let page = fs::read_to_string(sandbox.path("opened")).unwrap();
    let endpoint = running.stdout();
    assert!(endpoint.starts_with(page.trim()), "{page} is the parent of {endpoint}");
    assert!(running.finish().text().contains("complete"));
}

#[test]
fn a_value_in_the_wrong_place_gets_the_grammar() {
    let sandbox = Sandbox::new();
    for (args, said) in [
        (&["-c", "never", "http://127.0.0.1:9/"][..], "--continue=never"),
        (&["--retry=-1", "http://127.0.0.1:9/"], "write a whole number"),
        (&["--max-redirect", "few", "http://127.0.0.1:9/"], "write a whole number"),
    ] {
        let outcome = haul!(sandbox, bare).args(args).run();
        outcome.expect(2);
        assert!(outcome.text().contains(said), "{outcome}");
    }
}
