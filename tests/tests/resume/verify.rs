//! `haul verify`: partials against their checkpoints, files against digests.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use haul_tests::prelude::*;
use sha2::{Digest as _, Sha256};

const SIZE: u64 = 12 * MIB + 4321;

fn sha256() -> String {
    sha256_of(&object(SIZE).bytes(0..SIZE))
}

fn sha256_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    format!("sha256={}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn download(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file", "--segment-size", "1M"]).arg(origin.url("/file"))
}

/// All of [`object`] is stored and synced, and only publishing it failed: every
/// segment is durable, which a resume does not read again.
fn durable(sandbox: &Sandbox) -> Origin {
    let origin = Origin::serving(&object(SIZE));
    download(sandbox, &origin).env("HAUL_FAIL_AT", "publish@1=EIO").run().expect(3);
    sandbox.assert_kept("file");
    origin
}

/// Interrupted midway: complete segments, and the beginnings of others.
fn interrupted(sandbox: &Sandbox) -> Origin {
    let throttle = Throttle::new(2 * MIB).crawling_after(7 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    interrupt(download(sandbox, &origin), 5 * MIB);
    throttle.lift();
    origin
}

fn verify(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    haul!(sandbox, bare).arg("verify").json().args(args).run()
}

/// Flips a bit of the byte at each of these offsets.
fn edit(path: &Path, offsets: &[u64]) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    for &at in offsets {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }
}

/// More than the cores take at once, on the last of which there are few bytes.
#[test]
fn every_digest_is_of_the_whole_file_however_it_is_cut() {
    for size in [1, 2 * MIB, 2 * MIB + 1, 83 * MIB + 1234] {
        let object = Object::new(4, size);
        let bytes = object.bytes(0..size);
        let sandbox = Sandbox::new();
        let file = sandbox.write("file", &bytes);
        for digest in [String::new(), sha256_of(&bytes)] {
            let checksum = [format!("--checksum={digest}")];
            let checksum = if digest.is_empty() { &[][..] } else { &checksum };
            let mut args = vec!["file"];
            args.extend(checksum.iter().map(String::as_str));
            let outcome = verify(&sandbox, &args);
            outcome.expect(0);
            let told = &outcome.events[0];
            assert_eq!(
                (&told["bytes"], &told["blake3"]),
                (&size.into(), &object.blake3_hex().into())
            );
        }
        edit(&file, &[size - 1]);
        verify(&sandbox, &["file", &format!("--checksum={}", sha256_of(&bytes))]).expect(9);
        verify(&sandbox, &["file", &format!("--checksum=blake3={}", object.blake3_hex())])
            .expect(9);
    }
}

/// The bad ranges that were told: segment, start, end.
#[track_caller]
fn bad(outcome: &Outcome) -> Vec<(u64, u64, u64)> {
    let field = |bad: &serde_json::Value, name: &str| bad[name].as_u64().expect("a number");
    let list = outcome.event("partial")["bad"].as_array().expect("a list").clone();
    list.iter().map(|bad| (field(bad, "segment"), field(bad, "start"), field(bad, "end"))).collect()
}

/// Partial and checkpoint, to see that nothing was changed.
fn state(sandbox: &Sandbox) -> (Vec<u8>, Vec<u8>) {
    (fs::read(sandbox.part("file")).unwrap(), fs::read(sandbox.checkpoint("file")).unwrap())
}

#[test]
fn fault_066_edited_durable_segments_are_found_and_fetched_again() {
    let sandbox = Sandbox::new();
    let origin = durable(&sandbox);
    let whole = verify(&sandbox, &["file"]);
    whole.expect(0);
    assert_eq!((bad(&whole), &whole.event("partial")["claimed_bytes"]), (vec![], &SIZE.into()));

    edit(&sandbox.part("file"), &[5 * MIB, 8 * MIB - 1, SIZE - 1]);
    let edited = state(&sandbox);
    let expected = [(5, 5 * MIB, 6 * MIB), (7, 7 * MIB, 8 * MIB), (12, 12 * MIB, SIZE)];
    for name in ["file", "file.part"] {
        let found = verify(&sandbox, &[name]);
        found.expect(9);
        assert_eq!(bad(&found), expected, "{found}");
        assert_eq!(found.event("error")["code"], "digest-mismatch");
        assert!(found.text().contains("verify --repair"), "the next step\n{found}");
        assert!(state(&sandbox) == edited, "a check changes nothing");
    }

    let repaired = verify(&sandbox, &["--repair", "file"]);
    repaired.expect(0);
    assert_eq!(bad(&repaired), expected, "{repaired}");
    assert_eq!(repaired.event("partial")["repaired"], true, "{repaired}");
    sandbox.assert_kept("file");
    assert!(state(&sandbox).0 == edited.0, "a repair leaves the data to the next run");
    let after = verify(&sandbox, &["file"]);
    after.expect(0);
    let lost = 2 * MIB + 4321;
    assert_eq!(after.event("partial")["claimed_bytes"], SIZE - lost, "{after}");

    let resumed = download(&sandbox, &origin).run();
    resumed.expect(0);
    assert_eq!(
        (resumed.resumed_bytes(), resumed.fetched_bytes()),
        (SIZE - lost, lost),
        "{resumed}"
    );
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_066_edited_durable_segments_do_not_pass_a_digest() {
    for digest in [sha256(), format!("blake3={}", object(SIZE).blake3_hex())] {
        // One segment is looked at by chance: it may be the edited one, which is then missing.
        let missed = (0..20).any(|_| {
            let sandbox = Sandbox::new();
            let origin = durable(&sandbox);
            edit(&sandbox.part("file"), &[5 * MIB]);
            let outcome = download(&sandbox, &origin).args(["--checksum", &digest]).run();
            outcome.expect(0);
            sandbox.assert_published("file", &object(SIZE));
            if !outcome.has_notice("restarted") {
                outcome.expect_notice("refetch");
                return false;
            }
            // The partial is at fault, not the server: it is fetched again, once.
            assert!(outcome.fetched_bytes() >= SIZE, "{outcome}");
            true
        });
        assert!(missed, "each time it was the edited one");
        // And unedited ones pass.
        let sandbox = Sandbox::new();
        let origin = durable(&sandbox);
        download(&sandbox, &origin).args(["--checksum", &digest]).run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_066_edited_beginnings_are_found_too() {
    let sandbox = Sandbox::new();
    let origin = interrupted(&sandbox);
    let good = verify(&sandbox, &["file"]);
    good.expect(0);
    let claimed = good.event("partial")["claimed_bytes"].as_u64().unwrap();
    assert!(claimed >= 5 * MIB, "{good}");

    let all: Vec<u64> = (0..SIZE).step_by(1024).collect();
    edit(&sandbox.part("file"), &all);
    let edited = verify(&sandbox, &["--repair", "file.part"]);
    edited.expect(0);
    assert_eq!(edited.event("partial")["bad_bytes"], claimed, "{edited}");
    let begun = bad(&edited).iter().filter(|(_, start, end)| end - start < MIB).count();
    assert!(begun > 0, "the interruption left no beginning of a segment\n{edited}");
    assert_eq!(verify(&sandbox, &["file"]).expect(0).event("partial")["claimed_bytes"], 0);

    let resumed = download(&sandbox, &origin).run();
    resumed.expect(0);
    assert_eq!(resumed.resumed_bytes(), 0, "{resumed}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_066_a_repair_that_is_killed_leaves_a_whole_checkpoint() {
    let sandbox = Sandbox::new();
    let origin = durable(&sandbox);
    edit(&sandbox.part("file"), &[3 * MIB]);
    let mut kills = 0;
    loop {
        let repair = haul!(sandbox, bare).args(["verify", "--repair", "file"]);
        let outcome = repair.env("HAUL_KILL_AT", (kills + 1).to_string()).run();
        // Either the old checkpoint is there or the new one.
        verify(&sandbox, &["file"]).expect_one_of(&[0, 9]);
        if outcome.code == 0 {
            break;
        }
        assert_eq!(outcome.code, 137, "{outcome}");
        kills += 1;
    }
    assert!(kills >= 3, "only {kills} calls were killed");
    verify(&sandbox, &["file"]).expect(0);
    download(&sandbox, &origin).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_065_what_a_short_partial_lacks_is_listed() {
    let sandbox = Sandbox::new();
    let origin = durable(&sandbox);
    fs::File::options()
        .write(true)
        .open(sandbox.part("file"))
        .unwrap()
        .set_len(11 * MIB + 1)
        .unwrap();
    let outcome = verify(&sandbox, &["--repair", "file"]);
    outcome.expect(0);
    assert_eq!(bad(&outcome), [(11, 11 * MIB, 12 * MIB), (12, 12 * MIB, SIZE)], "{outcome}");
    download(&sandbox, &origin).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_067_a_running_download_is_not_checked() {
    let throttle = Throttle::new(2 * MIB).crawling_after(2 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let mut running = download(&sandbox, &origin).start();
    running.wait_until("something is stored", |running| running.bytes() > MIB);
    for args in [&["file"][..], &["--repair", "file"], &["file.part"]] {
        let outcome = verify(&sandbox, args);
        outcome.expect(3);
        assert_eq!(outcome.event("error")["code"], "locked", "{outcome}");
        assert!(outcome.text().contains(&running.pid().to_string()), "who has it\n{outcome}");
    }
    throttle.lift();
    running.finish().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn finished_file_is_hashed_and_compared() {
    let sandbox = Sandbox::new();
    let path = sandbox.write("file", object(SIZE).bytes(0..SIZE));
    let blake3 = format!("blake3={}", object(SIZE).blake3_hex());

    let plain = haul!(sandbox, bare).args(["verify", "file"]).run();
    plain.expect(0);
    assert_eq!(plain.text(), format!("file: {SIZE} bytes (12 MiB), {blake3}\n"));
    let event = verify(&sandbox, &["file"]);
    let event = event.expect(0).event("file");
    assert_eq!((&event["bytes"], &event["matches"]), (&SIZE.into(), &serde_json::Value::Null));
    assert_eq!(event["blake3"], object(SIZE).blake3_hex());

    for right in [&sha256(), &blake3] {
        let outcome = verify(&sandbox, &["--checksum", right, "file"]);
        assert_eq!(outcome.expect(0).event("file")["matches"], true, "{outcome}");
        let algorithm = right.split('=').next().unwrap();
        let wrong = format!("{algorithm}={}", "0".repeat(64));
        for outcome in [
            verify(&sandbox, &["--checksum", &wrong, "file"]),
            haul!(sandbox, bare).args(["verify", "--checksum", &wrong, "file"]).run(),
        ] {
            outcome.expect(9);
            assert!(outcome.text().contains(right.as_str()), "what it has\n{outcome}");
            assert!(outcome.text().contains(&wrong), "what was asked for\n{outcome}");
        }
    }
    assert!(object(SIZE).compare_file(&path).is_ok(), "it was touched");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn finished_file_and_a_partial_of_the_same_name_are_told_apart() {
    let sandbox = Sandbox::new();
    drop(durable(&sandbox));
    sandbox.write("file", "an older one");
    assert_eq!(verify(&sandbox, &["file"]).expect(0).event("file")["bytes"], 12);
    assert_eq!(verify(&sandbox, &["file.part"]).expect(0).event("partial")["total"], SIZE);
    // And a finished file that is called like a partial.
    sandbox.write("other.part", "whole");
    assert_eq!(verify(&sandbox, &["other.part"]).expect(0).event("file")["bytes"], 5);
}

#[test]
fn what_cannot_be_checked_is_a_local_error() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("directory")).unwrap();
    for args in [&["none"][..], &["--repair", "none"], &["directory"], &["none/file"]] {
        let outcome = verify(&sandbox, args);
        outcome.expect(3);
        assert!(outcome.text().contains(args[args.len() - 1]), "{outcome}");
    }
    drop(durable(&sandbox));
    let good = state(&sandbox).1;
    let mut damaged = good.clone();
    damaged[100] ^= 1;
    let mut newer = good;
    newer[8] = 0xff;
    for checkpoint in [damaged, newer] {
        fs::write(sandbox.checkpoint("file"), &checkpoint).unwrap();
        let before = state(&sandbox);
        for args in [&["file"][..], &["--repair", "file"]] {
            verify(&sandbox, args).expect(3);
            assert!(state(&sandbox) == before, "it was changed");
        }
    }
}

#[test]
fn flags_that_do_not_fit_the_file_are_usage() {
    let sandbox = Sandbox::new();
    drop(durable(&sandbox));
    sandbox.write("finished", "whole");
    let before = state(&sandbox);
    for args in [
        &["--checksum", &sha256(), "--repair", "file"][..],
        &["--checksum", &sha256(), "file"],
        &["--checksum", &sha256(), "file.part"],
        &["--checksum", "crc=1", "finished"],
        &["--repair", "finished"],
        &["file", "finished"],
        &[],
    ] {
        haul!(sandbox, bare).arg("verify").args(args).run().expect(2);
    }
    assert!(state(&sandbox) == before, "it was changed");
}

#[test]
fn people_are_told_what_is_wrong_and_what_to_do() {
    let sandbox = Sandbox::new();
    drop(durable(&sandbox));
    edit(&sandbox.part("file"), &[2 * MIB]);
    let outcome = haul!(sandbox, bare).args(["verify", "file"]).run();
    let line = format!("segment 2: bytes {}-{} are not", 2 * MIB, 3 * MIB - 1);
    assert!(outcome.expect(9).text().contains(&line), "{outcome}");
    assert!(outcome.text().contains("haul verify --repair file"), "{outcome}");
    let outcome = haul!(sandbox, bare).args(["verify", "--repair", "file"]).run();
    assert!(outcome.expect(0).text().contains("run the download again"), "{outcome}");
}
