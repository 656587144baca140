//! `haul status` and `haul clean`: what lies here, and what goes.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use haul_tests::prelude::*;

const SIZE: u64 = 12 * MIB + 4321;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn download(sandbox: &Sandbox, origin: &Origin, name: &str) -> Haul {
    haul!(sandbox).args(["-x", "2", "--segment-size", "1M", "-o", name]).arg(origin.url("/film"))
}

/// Leaves a partial of this name with 4 MiB or more in it.
fn leave_partial(sandbox: &Sandbox, name: &str) {
    let throttle = Throttle::new(4 * MIB).crawling_after(6 * MIB);
    let origin = Origin::throttled(&Object::new(1, SIZE), &throttle);
    interrupt(download(sandbox, &origin, name), 4 * MIB);
    assert!(sandbox.part(name).exists() && sandbox.checkpoint(name).exists());
}

/// Sets the time at which the files of a partial were written last.
fn written_ago(sandbox: &Sandbox, name: &str, ago: Duration) {
    for path in [sandbox.part(name), sandbox.checkpoint(name)] {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(SystemTime::now() - ago)
            .unwrap();
    }
}

fn run(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    haul!(sandbox, bare).args(args).run()
}

fn stdout(outcome: &Outcome) -> String {
    String::from_utf8(outcome.stdout.clone()).unwrap()
}

/// What is left in the directory, without the files that clean does not know.
fn partials(sandbox: &Sandbox) -> Vec<String> {
    let files = sandbox.files().into_iter();
    files.filter_map(|name| name.strip_suffix(".part").map(str::to_owned)).collect()
}

#[test]
fn a_checkpoint_that_never_got_its_name_goes() {
    let sandbox = Sandbox::new();
    for name in ["a", "b"] {
        leave_partial(&sandbox, name);
        fs::remove_file(sandbox.part(name)).unwrap();
    }
    fs::rename(sandbox.checkpoint("a"), sandbox.path("a.hau~")).unwrap();
    fs::rename(sandbox.checkpoint("b"), sandbox.path("b.ha~1")).unwrap();
    sandbox.write("b.hau~", "another program's");
    // Beside data they tell nothing, and that is nobody's then.
    leave_partial(&sandbox, "c");
    fs::rename(sandbox.checkpoint("c"), sandbox.path("c.hau~")).unwrap();
    let status = run(&sandbox, &["status"]);
    let told = stdout(&status);
    assert!(told.contains("a: only its checkpoint") && told.contains("b: only"), "{status}");
    let clean = run(&sandbox, &["clean", "--older-than", "1d"]);
    assert!(stdout(&clean).contains("2 partials left"), "{clean}");
    let clean = run(&sandbox, &["clean", "--older-than", "0"]);
    clean.expect(0);
    let told = stdout(&clean);
    assert!(told.contains("removed a.hau~: ") && told.contains("removed b.ha~1: "), "{clean}");
    assert_eq!(sandbox.files(), ["b.hau~", "c.hau~", "c.part"]);
}

#[test]
fn status_tells_what_is_here_and_how_far_it_is() {
    let sandbox = Sandbox::new();
    let empty = run(&sandbox, &["status"]);
    empty.expect(0);
    assert!(stdout(&empty).contains("no partial downloads"), "{empty}");

    leave_partial(&sandbox, "film.mp4");
    written_ago(&sandbox, "film.mp4", 3 * DAY);
    sandbox.write("other.part", "of another program");
    sandbox.write("film.txt", "no partial");
    for args in [&["status"][..], &["status", "film.mp4"], &["status", "film.mp4.part"]] {
        let outcome = run(&sandbox, args);
        outcome.expect(0);
        let told = stdout(&outcome);
        assert_eq!(told.lines().count(), 1, "{outcome}");
        for part in ["film.mp4: ", "of 12 MiB", "from 127.0.0.1", "strong ETag", "3d00h ago"] {
            assert!(told.contains(part), "{part} is missing\n{outcome}");
        }
    }

    let outcome = run(&sandbox, &["status", "--json"]);
    let record: serde_json::Value = serde_json::from_str(stdout(&outcome).trim()).unwrap();
    assert_eq!(record["event"], "partial");
    assert_eq!((&record["total"], &record["running"]), (&SIZE.into(), &false.into()));
    assert!(record["stored_bytes"].as_u64().unwrap() >= 4 * MIB, "{outcome}");
    assert_eq!(
        (&record["validator"], &record["host"]),
        (&"strong-etag".into(), &"127.0.0.1".into())
    );

    run(&sandbox, &["status", "nothing-here"]).expect(3);
}

#[test]
fn status_tells_of_damage_and_of_what_runs() {
    let sandbox = Sandbox::new();
    leave_partial(&sandbox, "torn");
    let checkpoint = fs::read(sandbox.checkpoint("torn")).unwrap();
    fs::write(sandbox.checkpoint("torn"), &checkpoint[..checkpoint.len() - 1]).unwrap();
    let throttle = Throttle::new(2 * MIB).crawling_after(2 * MIB);
    let origin = Origin::throttled(&Object::new(1, SIZE), &throttle);
    let mut running = download(&sandbox, &origin, "alive").start();
    running.wait_until("it is under way", |running| running.bytes() > 0);

    let outcome = run(&sandbox, &["status"]);
    outcome.expect(0);
    let told = stdout(&outcome);
    assert!(told.lines().any(|line| line.starts_with("alive: ") && line.contains("running now")));
    assert!(told.lines().any(|line| line.starts_with("torn: ") && line.contains("is damaged")));

    // Everything is old enough, and the one that runs stays all the same.
    run(&sandbox, &["clean", "--older-than", "0"]).expect(0);
    assert_eq!(partials(&sandbox), ["alive"]);
    throttle.lift();
    running.finish().expect(0);
    sandbox.assert_published("alive", &Object::new(1, SIZE));
}

#[test]
fn clean_removes_what_is_old_and_nothing_else() {
    let sandbox = Sandbox::new();
    for (name, days) in [("old", 10), ("new", 2)] {
        leave_partial(&sandbox, name);
        written_ago(&sandbox, name, days * DAY);
    }
    sandbox.write("foreign.part", "of another program");
    sandbox.write("film", "complete");
    let before = sandbox.files();

    let planned = run(&sandbox, &["clean", "--older-than", "7d", "--dry-run"]);
    planned.expect(0);
    assert!(stdout(&planned).contains("would remove old.part"), "{planned}");
    assert_eq!(sandbox.files(), before, "a dry run changes nothing");

    let outcome = run(&sandbox, &["clean", "--older-than", "7d"]);
    outcome.expect(0);
    assert!(stdout(&outcome).contains("removed old.part: 12 MiB"), "{outcome}");
    assert!(stdout(&outcome).contains("freed 12 MiB; 1 partial left"), "{outcome}");
    assert_eq!(sandbox.files(), ["film", "foreign.part", "new.haul", "new.part"]);
}

#[test]
fn clean_by_size_takes_the_oldest_first() {
    let sandbox = Sandbox::new();
    for (name, days) in [("b-oldest", 9), ("a-middle", 5), ("c-newest", 1)] {
        leave_partial(&sandbox, name);
        written_ago(&sandbox, name, days * DAY);
    }
    run(&sandbox, &["clean", "--max-total", "30M"]).expect(0);
    assert_eq!(partials(&sandbox), ["a-middle", "c-newest"]);
    run(&sandbox, &["clean", "--max-total", "30M"]).expect(0);
    assert_eq!(partials(&sandbox), ["a-middle", "c-newest"], "that is little enough");
    run(&sandbox, &["clean", "--max-total", "0"]).expect(0);
    assert!(sandbox.files().is_empty(), "{:?}", sandbox.files());
}

#[test]
fn clean_leaves_what_it_cannot_judge() {
    let sandbox = Sandbox::new();
    leave_partial(&sandbox, "newer");
    let mut checkpoint = fs::read(sandbox.checkpoint("newer")).unwrap();
    checkpoint[8..10].copy_from_slice(&u16::MAX.to_le_bytes());
    fs::write(sandbox.checkpoint("newer"), checkpoint).unwrap();
    // Nobody knows what these two are.
    sandbox.write("talk.part", "one program's");
    sandbox.write("talk.haul", "and another's");
    let outcome = run(&sandbox, &["clean", "--older-than", "0"]);
    outcome.expect(3).expect_message("newer.haul was left as it is");
    assert_eq!(sandbox.files(), ["newer.haul", "newer.part", "talk.haul", "talk.part"]);
}

#[test]
fn a_criterion_is_demanded() {
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &["clean", "."]);
    outcome.expect(2);
    assert!(outcome.text().contains("--older-than"), "{outcome}");
    let outcome = run(&sandbox, &["clean", "--older-than", "soon"]);
    outcome.expect(2);
    assert!(outcome.text().contains("12h, 7d"), "{outcome}");
    run(&sandbox, &["clean", "--older-than", "0", "no-such-directory"]).expect(3);
}

#[test]
fn completions_and_manual_know_every_command() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let outcome = run(&sandbox, &["completions", shell]);
        outcome.expect(0);
        for word in ["status", "older-than", "checksum", "netrc"] {
            assert!(stdout(&outcome).contains(word), "{shell} does not know {word}");
        }
    }
    // The shell itself takes what was made for it.
    let script = sandbox.write("completions", run(&sandbox, &["completions", "bash"]).stdout);
    let program = std::process::Command::new("bash")
        .args(["-c", "source \"$1\" && complete -p haul", "bash"])
        .arg(&script)
        .output()
        .unwrap();
    assert!(program.status.success(), "{program:?}");
    run(&sandbox, &["completions", "tcsh"]).expect(2);

    let page = stdout(&run(&sandbox, &["man"]));
    assert!(page.contains(".TH haul 1") && page.contains("\\-\\-checksum"), "{page}");
    assert!(stdout(&run(&sandbox, &["man", "clean"])).contains("\\-\\-max\\-total"));
    let page = stdout(&run(&sandbox, &["man", "aria2c"]));
    assert!(page.contains(".TH haul-aria2c 1") && page.contains("max\\-connection"), "{page}");
    let unknown = run(&sandbox, &["man", "nothing"]);
    unknown.expect(2);
    assert!(unknown.text().contains("verify"), "the commands are named\n{unknown}");
    assert!(!Path::new(&sandbox.path("haul.1")).exists());
}
