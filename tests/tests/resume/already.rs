//! A file that is there already: complete where it is provably the object, else left as it is.

use std::fs::{self, File};
use std::time::{Duration, UNIX_EPOCH};

use haul_tests::prelude::*;

const SIZE: u64 = 5 * MIB + 7;
const MODIFIED: u64 = 1_600_000_000;

fn object() -> Object {
    Object::new(1, SIZE).with_etag(Some("\"one\"")).with_last_modified(Some(MODIFIED))
}

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-o", "big.iso"]).arg(origin.url("/big.iso"))
}

/// Writes `big.iso` with what is in the object, and this time.
fn put(sandbox: &Sandbox, object: &Object, modified: Option<u64>) {
    sandbox.write("big.iso", object.bytes(0..object.size_bytes()));
    if let Some(seconds) = modified {
        let file = File::options().write(true).open(sandbox.path("big.iso")).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }
}

#[track_caller]
fn assert_already(outcome: &Outcome) {
    outcome.expect(0);
    let complete = outcome.event("complete");
    assert_eq!((&complete["unchanged"], &complete["bytes"]), (&true.into(), &SIZE.into()));
    assert!(outcome.all("start").next().is_none(), "{outcome}");
}

#[track_caller]
fn assert_left(outcome: &Outcome, sandbox: &Sandbox, was: &[u8]) {
    outcome.expect(3).expect_message("big.iso");
    assert_eq!(outcome.event("error")["code"], "output-exists");
    assert!(fs::read(sandbox.path("big.iso")).unwrap() == was, "it was changed\n{outcome}");
    assert_eq!(sandbox.files(), ["big.iso"]);
}

fn has_attributes(sandbox: &Sandbox) -> bool {
    let file = File::create(sandbox.path("probe")).unwrap();
    let set = rustix::fs::fsetxattr(&file, "user.probe", b"1", rustix::fs::XattrFlags::empty());
    fs::remove_file(sandbox.path("probe")).unwrap();
    set.is_ok()
}

#[test]
fn the_same_command_again_asks_once_and_is_done() {
    for named in [true, false] {
        let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
        let run = |haul: Haul| match named {
            true => haul.args(["-o", "big.iso"]).arg(origin.url("/big.iso")).run(),
            false => haul.arg(origin.url("/big.iso")).run(),
        };
        run(haul!(sandbox)).expect(0);
        let (asked, sent) = (origin.requests().len(), origin.sent_bytes());
        let again = run(haul!(sandbox));
        assert_already(&again);
        assert_eq!(origin.requests().len(), asked + 1);
        assert!(origin.sent_bytes() <= sent + 1, "one byte tells as much as all of them");
        sandbox.assert_published("big.iso", &object());
        let plain = run(haul!(sandbox, bare));
        plain.expect(0);
        assert!(plain.text().contains("big.iso is already complete (5 MiB)"), "{plain}");
    }
}

#[test]
fn each_proof_is_enough_and_the_size_alone_is_none() {
    let without_time = object().with_last_modified(None);
    let tagless = object().with_etag(None);
    let weak = object().with_etag(Some("W/\"one\"")).with_last_modified(None);
    let none = tagless.clone().with_last_modified(None);
    for (name, served, noted, expected) in [
        ("the time", &tagless, false, true),
        ("a strong tag", &without_time, true, true),
        ("a weak tag", &weak, true, false),
        ("the size", &none, true, false),
        ("the size of another time's file", &object(), false, false),
    ] {
        let (origin, sandbox) = (Origin::serving(served), Sandbox::new());
        if noted && expected && !has_attributes(&sandbox) {
            continue;
        }
        command(&sandbox, &origin).run().expect(0);
        if name.contains("another") {
            put(&sandbox, served, Some(MODIFIED + 1));
        }
        let was = fs::read(sandbox.path("big.iso")).unwrap();
        let again = command(&sandbox, &origin).run();
        match expected {
            true => assert_already(&again),
            false => assert_left(&again, &sandbox, &was),
        }
    }
}

#[test]
fn a_file_of_another_program_with_the_servers_time_is_complete() {
    let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
    put(&sandbox, &object(), Some(MODIFIED));
    assert_already(&command(&sandbox, &origin).run());
}

#[test]
fn another_object_in_its_place_is_left_alone() {
    let newer = Object::new(2, SIZE).with_etag(Some("\"two\"")).with_last_modified(Some(MODIFIED));
    let longer = Object::new(1, SIZE + 1).with_last_modified(Some(MODIFIED));
    for served in [&newer, &longer] {
        let sandbox = Sandbox::new();
        command(&sandbox, &Origin::serving(&object())).run().expect(0);
        let was = fs::read(sandbox.path("big.iso")).unwrap();
        // Two versions with one time: only the tag that was recorded tells.
        if served.size_bytes() == SIZE && !has_attributes(&sandbox) {
            continue;
        }
        assert_left(&command(&sandbox, &Origin::serving(served)).run(), &sandbox, &was);
    }
}

#[test]
fn a_digest_that_was_given_decides_alone() {
    let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
    put(&sandbox, &object(), None);
    let right = format!("blake3={}", object().blake3_hex());
    let again = command(&sandbox, &origin).args(["--checksum", &right]).run();
    assert_already(&again);
    assert_eq!(again.event("complete")["blake3"], object().blake3_hex());
    // It counts more than the time.
    put(&sandbox, &Object::new(9, SIZE), Some(MODIFIED));
    let was = fs::read(sandbox.path("big.iso")).unwrap();
    let again = command(&sandbox, &origin).args(["--checksum", &right]).run();
    assert_left(&again, &sandbox, &was);
    again.expect_message("blake3=");
}

#[test]
fn a_part_of_an_object_is_proven_by_a_digest_only() {
    let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
    let part = || command(&sandbox, &origin).args(["--range", "100-"]);
    part().run().expect(0);
    let was = fs::read(sandbox.path("big.iso")).unwrap();
    assert_left(&part().run(), &sandbox, &was);
    let digest = format!("blake3={}", blake3::hash(&was).to_hex());
    part().args(["--checksum", &digest]).run().expect(0);
}

#[test]
fn nothing_is_run_on_what_was_complete_before() {
    let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
    let run = || command(&sandbox, &origin).args(["--exec", "sh -c 'echo ran >> log'"]).run();
    run().expect(0);
    assert_already(&run());
    assert_eq!(fs::read(sandbox.path("log")).unwrap(), b"ran\n");
}

#[test]
fn existing_says_in_one_flag_what_becomes_of_the_file() {
    let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
    command(&sandbox, &origin).run().expect(0);
    let was = fs::read(sandbox.path("big.iso")).unwrap();
    let asked = origin.requests().len();
    let with = |how: &str| command(&sandbox, &origin).args(["--existing", how]).run();
    assert_left(&with("error"), &sandbox, &was);
    with("skip").expect(0).expect_notice("skipped");
    assert_eq!(origin.requests().len(), asked, "neither takes a request");
    assert_already(&with("verify"));
    let outcome = with("overwrite");
    outcome.expect(0);
    assert!(outcome.event("complete")["unchanged"].is_null(), "{outcome}");
    sandbox.assert_published("big.iso", &object());
    for flag in ["--overwrite", "--no-clobber", "--skip-existing", "--auto-rename", "--if-changed"]
    {
        let both = command(&sandbox, &origin).args(["--existing=verify", flag]).run();
        both.expect(2);
        assert!(both.text().contains("--existing") && both.text().contains(flag), "{both}");
    }
}

/// Where the server names the file, the byte that was asked for is the first of the download.
#[test]
fn a_file_of_the_urls_name_is_not_asked_about_where_the_server_gives_another() {
    let sandbox = Sandbox::new();
    let origin = Origin::start(|request, _| {
        let name = "attachment; filename=other.iso";
        standard(&object(), request).header("Content-Disposition", name)
    });
    sandbox.write("big.iso", "mine");
    let run = || haul!(sandbox).arg(origin.url("/big.iso")).run();
    run().expect(0);
    object().compare_file(&sandbox.path("other.iso")).unwrap();
    assert_eq!(fs::read(sandbox.path("big.iso")).unwrap(), b"mine");
    assert_already(&run());
}

#[test]
fn without_a_part_a_finished_file_is_complete_too() {
    let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
    let run = || command(&sandbox, &origin).arg("--no-part").run();
    run().expect(0);
    assert_already(&run());
}

#[test]
fn a_dry_run_says_that_the_file_is_complete() {
    let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
    let dry = |args: &[&str]| command(&sandbox, &origin).arg("--dry-run").args(args).run();
    let is_complete = |args: &[&str]| {
        let outcome = dry(args);
        outcome.expect(0);
        outcome.event("plan")["unchanged"] == true
    };
    assert!(!is_complete(&[]), "there is no file");
    command(&sandbox, &origin).run().expect(0);
    assert!(is_complete(&[]) && is_complete(&["--if-changed"]));
    assert!(!is_complete(&["--overwrite"]), "it would be fetched again");
    assert!(!is_complete(&["--range", "0-9"]), "nothing tells of a part");
    let plan = haul!(sandbox, bare).args(["--dry-run", "-o", "big.iso"]).arg(origin.url("/")).run();
    let told = String::from_utf8(plan.stdout.clone()).unwrap();
    assert!(told.contains("big.iso, already complete\n"), "{plan}");
    sandbox.write("big.iso", "another");
    assert!(!is_complete(&[]));
    assert_eq!(sandbox.files(), ["big.iso"]);
}

#[test]
fn what_a_kill_left_beside_the_published_file_goes() {
    let (origin, sandbox) = (Origin::serving(&object()), Sandbox::new());
    // Runs differ in their number of calls, so one series may miss the place.
    let left = (1..=100).cycle().take(1000).any(|nth: usize| {
        for name in sandbox.files() {
            fs::remove_file(sandbox.path(&name)).unwrap();
        }
        command(&sandbox, &origin).env("HAUL_KILL_AT", nth.to_string()).run();
        sandbox.files() == ["big.iso", "big.iso.haul"]
    });
    assert!(left, "no kill leaves the checkpoint of a published file");
    assert_already(&command(&sandbox, &origin).run());
    sandbox.assert_published("big.iso", &object());
    // What another download is at, or another program made, stays.
    sandbox.write("big.iso.haul", "mine");
    assert_already(&command(&sandbox, &origin).run());
    assert_eq!(fs::read(sandbox.checkpoint("big.iso")).unwrap(), b"mine");
}

#[test]
fn another_haul_is_waited_for() {
    let throttle = Throttle::new(2 * MIB).crawling_after(MIB);
    let origin = Origin::throttled(&object(), &throttle);
    let sandbox = Sandbox::new();
    // Over one connection, which makes no further request meanwhile.
    let mut first = command(&sandbox, &origin).args(["-x", "1"]).start();
    first.wait_until("it has begun", |running| running.bytes() > 0);
    let asked = origin.requests().len();
    command(&sandbox, &origin).run().expect(3).expect_message("another haul");
    assert_eq!(origin.requests().len(), asked, "the lock tells without a request");
    let mut second = command(&sandbox, &origin).args(["--locked", "wait"]).start();
    second.wait_until("it waits", |running| {
        running.events().iter().any(|event| event["code"] == "locked")
    });
    throttle.lift();
    first.finish().expect(0);
    assert_already(&second.finish());
    sandbox.assert_published("big.iso", &object());
}
