//! `haul demo` through the command: what it shows, what it does not depend on, what it leaves.

use std::fs;
use std::thread;
use std::time::Duration;

use haul_tests::prelude::*;
use serde_json::Value;

/// The promise is five seconds, and eight on a slow machine; the rest is for other tests.
const LONGEST: Duration = Duration::from_secs(16);

fn demo(sandbox: &Sandbox) -> Haul {
    haul!(sandbox, bare).arg("demo")
}

/// No file is left and no directory, and nothing is remembered of its origin.
#[track_caller]
fn assert_untouched(sandbox: &Sandbox) {
    sandbox.assert_nothing_left();
    for name in ["work", "home", "tmp"] {
        let left: Vec<_> = fs::read_dir(sandbox.root().join(name)).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The line that begins with this word.
#[track_caller]
fn line<'a>(said: &'a str, word: &str) -> &'a str {
    let mut lines = said.lines().filter(|line| line.starts_with(word));
    lines.next().unwrap_or_else(|| panic!("no {word:?} in\n{said}"))
}

/// What `--json` printed, which is all there was.
#[track_caller]
fn report(outcome: &Outcome) -> Value {
    outcome.expect(0);
    assert!(outcome.stderr.is_empty(), "{outcome}");
    serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"))
}

#[test]
fn visitor_sees_a_kill_a_continuation_and_a_proof() {
    let sandbox = Sandbox::new();
    let outcome = demo(&sandbox).run();
    outcome.expect(0);
    outcome.assert_harmless();
    assert!(outcome.elapsed < LONGEST, "{outcome}");
    assert!(outcome.stdout.is_empty(), "{outcome}");
    let said = outcome.text();
    // In this order.
    let mut rest = said.as_str();
    for part in [
        "One connection would take 56 s for these 56 MiB.",
        "$ haul --no-config http://127.0.0.1:",
        "demo.bin: 56 MiB\n",
        "killed: ",
        "$ haul --no-config http://127.0.0.1:",
        "demo.bin: 56 MiB, ",
        "demo.bin: complete, 56 MiB in ",
        "continued: ",
        "verified: ",
        "faster: both runs together took ",
        " is removed, and nothing is left",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part:?} there\n{outcome}"));
        rest = &rest[at + part.len()..];
    }
    // The demo and the run say the same of what was kept.
    let kept = line(&said, "continued: ").split(" were kept").next().unwrap();
    let kept = kept.trim_start_matches("continued: ");
    assert!(kept != "0 B", "{outcome}");
    assert!(said.contains(&format!("demo.bin: 56 MiB, {kept} already here\n")), "{outcome}");
    // The second run is the same command.
    let commands: Vec<&str> = said.lines().filter(|line| line.starts_with("$ ")).collect();
    assert!(commands.len() == 2 && commands[0] == commands[1], "{outcome}");
    assert_untouched(&sandbox);
}

#[test]
fn programs_get_the_numbers() {
    let sandbox = Sandbox::new();
    let report = report(&demo(&sandbox).arg("--json").run());
    let number = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("{name}: {report}"));
    assert_eq!((&report["bytes"], &report["blake3_ok"]), (&(56 * MIB).into(), &true.into()));
    let (kept, again) = (number("kept_bytes"), number("fetched_again_bytes"));
    let (whole, killed_at) = (number("bytes"), 0.6 * number("bytes"));
    // Between the kill's order and the kill some more may come.
    assert!(kept > 0.0 && again > 0.0, "{report}");
    assert!((killed_at..0.9 * whole).contains(&(kept + again)), "{report}");
    assert_eq!(number("one_connection_seconds"), 56.0, "{report}");
    assert!(number("seconds") < 12.0, "many connections are faster: {report}");
    assert_untouched(&sandbox);
}

#[test]
fn nothing_around_it_matters() {
    let sandbox = Sandbox::new();
    let settings = sandbox.root().join("home/.config/haul");
    fs::create_dir_all(&settings).unwrap();
    fs::write(settings.join("config.toml"), "connections = 1\n").unwrap();
    // In /proc nobody can make a file, not even root.
    let outcome = demo(&sandbox)
        .arg("--json")
        .within("/proc")
        .env("http_proxy", "http://127.0.0.1:1")
        .env("ALL_PROXY", "socks5://127.0.0.1:1")
        .env("HAUL_LIMIT_RATE", "1M")
        .run();
    assert_eq!(report(&outcome)["blake3_ok"], true);
    assert_eq!(sandbox.files(), ["../home/.config/haul/config.toml"]);
}

/// Whether a run has a partial.
fn has_begun(sandbox: &Sandbox) -> bool {
    sandbox.files().iter().any(|file| file.ends_with("/demo.bin.part"))
}

#[test]
fn interrupted_demo_leaves_nothing() {
    let sandbox = Sandbox::new();
    let mut running = demo(&sandbox).start();
    running.wait_until("it has begun", |_| has_begun(&sandbox));
    running.signal(Signal::INT);
    let outcome = running.finish();
    outcome.expect(130);
    assert_untouched(&sandbox);
    // The run that was stopped does not speak.
    assert_eq!(outcome.text().matches("interrupted:").count(), 1, "{outcome}");
    assert!(line(&outcome.text(), "interrupted:").ends_with("nothing is left"), "{outcome}");

    let mut running = demo(&sandbox).start();
    running.wait_until("it continues", |running| running.stderr().contains(" already here\n"));
    running.signal(Signal::TERM);
    running.finish().expect(143);
    assert_untouched(&sandbox);
}

#[test]
fn impatience_leaves_nothing_either() {
    let sandbox = Sandbox::new();
    let mut running = demo(&sandbox).start();
    running.wait_until("it has begun", |_| has_begun(&sandbox));
    while !running.has_ended() {
        running.signal(Signal::INT);
        thread::sleep(Duration::from_millis(1));
    }
    running.finish().expect(130);
    assert_untouched(&sandbox);
}

#[test]
fn failures_are_told_and_tidied_up() {
    // The runs may write no file of that size.
    let sandbox = Sandbox::new();
    let outcome = Haul::new("/bin/sh", &sandbox)
        .args(["-c", "ulimit -f 1000; exec \"$0\" demo", env!("CARGO_BIN_EXE_haul-under-test")])
        .run();
    outcome.expect(11);
    assert!(line(&outcome.text(), "error: the download of the demo").contains("11"), "{outcome}");
    assert_untouched(&sandbox);

    // A temporary directory that is not there is not made.
    let missing = sandbox.root().join("missing");
    let outcome = demo(&sandbox).env("TMPDIR", &missing).run();
    outcome.expect(3).expect_message("no temporary directory");
    assert!(outcome.text().contains("TMPDIR") && !missing.exists(), "{outcome}");
    assert_untouched(&sandbox);
}

#[test]
fn help_says_what_it_does() {
    let sandbox = Sandbox::new();
    for flag in ["-h", "--help-all"] {
        let outcome = demo(&sandbox).arg(flag).env("COLUMNS", "80").run();
        outcome.expect(0);
        let help = String::from_utf8_lossy(&outcome.stdout).into_owned();
        assert!(help.contains("killed") && help.contains("--json"), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    }
    assert!(haul!(sandbox, bare).arg("--help").run().text().contains("haul demo"));
    assert!(haul!(sandbox, bare).args(["man", "demo"]).run().text().contains("SIGKILL"));
}
