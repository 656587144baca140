//! Which files are ours: rows 107 to 110. What somebody else made is never changed,
//! believed or removed, and odd file systems are no reason to fail.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use haul_tests::prelude::*;

const SIZE: u64 = 12 * MIB + 4321;
const OWN: &[u8] = b"my own notes, of more than one line\n";

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file"]).arg(origin.url("/file"))
}

fn in_place(sandbox: &Sandbox, origin: &Origin) -> Haul {
    command(sandbox, origin).arg("--no-part")
}

/// What `run` leaves of [`object`] when it is interrupted, and the origin at full speed.
fn interrupted(sandbox: &Sandbox, run: impl Fn(&Sandbox, &Origin) -> Haul) -> Origin {
    let throttle = Throttle::new(4 * MIB).crawling_after(6 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    interrupt(run(sandbox, &origin), 4 * MIB);
    throttle.lift();
    origin
}

/// What is in each file of the working directory.
fn contents(sandbox: &Sandbox) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| (name.clone(), fs::read(sandbox.path(&name)).unwrap());
    sandbox.files().into_iter().map(read).collect()
}

/// It ends with exit 3, words about `name`, and every file as it was.
#[track_caller]
fn assert_refused(sandbox: &Sandbox, haul: Haul, name: &str) -> Outcome {
    let before = contents(sandbox);
    let outcome = haul.run();
    outcome.expect(3).expect_message(name);
    assert!(contents(sandbox) == before, "{:?} changed\n{outcome}", sandbox.files());
    outcome
}

/// Puts another file, with another number, in the place of one.
fn put_in_place(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(beside, path).unwrap();
}

#[test]
fn fault_108_both_ways_of_keeping_the_data_have_one_lock() {
    type Way = fn(&Sandbox, &Origin) -> Haul;
    let ways: [(Way, Way); 2] = [(command, in_place), (in_place, command)];
    for (way, other) in ways {
        let throttle = Throttle::new(2 * MIB).crawling_after(3 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let mut first = way(&sandbox, &origin).start();
        first.wait_until("it is under way", |running| running.bytes() > MIB);
        let second = other(&sandbox, &origin).arg("--overwrite").run();
        second.expect(3).expect_message(&format!("(process {})", first.pid()));
        throttle.lift();
        first.finish().expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_108_killed_in_both_ways_it_ends_with_the_right_file() {
    let throttle = Throttle::new(2 * MIB).crawling_after(6 * MIB);
    let (limit, changed) = (throttle.clone(), Arc::new(AtomicBool::new(false)));
    let now = Arc::clone(&changed);
    let origin = Origin::start(move |request, _| {
        let seed = if now.load(Ordering::Acquire) { 1 } else { 2 };
        limit.apply(standard(&Object::new(seed, SIZE), request))
    });
    let sandbox = Sandbox::new();
    kill(in_place(&sandbox, &origin), 4 * MIB);
    changed.store(true, Ordering::Release);
    throttle.allow(6 * MIB);
    kill(command(&sandbox, &origin).arg("--overwrite"), 4 * MIB);
    // What is in place of the object is not what the checkpoint tells of now.
    assert_refused(&sandbox, in_place(&sandbox, &origin), "file");
    throttle.lift();
    command(&sandbox, &origin).arg("--overwrite").run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_108_own_file_in_the_place_of_a_partial_is_not_touched() {
    let own = Object::new(7, SIZE).bytes(0..SIZE);
    for bytes in [OWN, &own[..], &own[..SIZE as usize / 2]] {
        let sandbox = Sandbox::new();
        let origin = interrupted(&sandbox, command);
        put_in_place(&sandbox.part("file"), bytes);
        for more in [&[][..], &["--continue=never"], &["--checksum", &"ab".repeat(32)]] {
            let haul = command(&sandbox, &origin).args(more);
            assert_refused(&sandbox, haul, "file.part is not the file");
        }
        let clean = haul!(sandbox, bare).args(["clean", "--older-than", "0"]);
        assert_refused(&sandbox, clean, "file.part is not the file");
    }
}

#[test]
fn fault_108_partial_that_was_written_over_is_not_mixed_in() {
    let sandbox = Sandbox::new();
    let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    // Without hashes of its own the next run must look all the same.
    interrupt(command(&sandbox, &origin), 6 * MIB);
    throttle.lift();
    let number = fs::metadata(sandbox.part("file")).unwrap().ino();
    fs::write(sandbox.part("file"), Object::new(7, SIZE).bytes(0..SIZE)).unwrap();
    assert_eq!(fs::metadata(sandbox.part("file")).unwrap().ino(), number);
    command(&sandbox, &origin).run().expect(0).expect_notice("refetch");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_108_partial_that_was_moved_or_restored_goes_on() {
    for damaged in [false, true] {
        let sandbox = Sandbox::new();
        let origin = interrupted(&sandbox, command);
        let mut bytes = fs::read(sandbox.part("file")).unwrap();
        let had = bytes.len();
        if damaged {
            // Half of it was restored from somewhere else.
            let other = Object::new(7, SIZE).bytes(0..SIZE);
            bytes[..had / 4].copy_from_slice(&other[..had / 4]);
        }
        put_in_place(&sandbox.part("file"), &bytes);
        let before = origin.sent_bytes();
        let outcome = command(&sandbox, &origin).run();
        outcome.expect(0).expect_notice("refetch");
        sandbox.assert_published("file", &object(SIZE));
        if !damaged {
            assert!(origin.sent_bytes() - before <= SIZE - 3 * MIB, "{outcome}");
        }
    }
}

#[test]
fn fault_108_renamed_partial_goes_on_in_place() {
    let sandbox = Sandbox::new();
    let origin = interrupted(&sandbox, command);
    fs::rename(sandbox.part("file"), sandbox.path("file")).unwrap();
    let outcome = in_place(&sandbox, &origin).run();
    outcome.expect(0).expect_notice("refetch");
    assert!(outcome.fetched_bytes() <= SIZE - 3 * MIB, "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_108_leftover_checkpoint_lets_no_other_url_replace_the_file() {
    let other = Object::new(2, SIZE);
    for run in [command, in_place] {
        let sandbox = Sandbox::new();
        let origin = interrupted(&sandbox, run);
        let checkpoint = fs::read(sandbox.checkpoint("file")).unwrap();
        run(&sandbox, &origin).run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
        fs::write(sandbox.checkpoint("file"), checkpoint).unwrap();

        let elsewhere = Origin::serving(&other);
        let to_other = || haul!(sandbox).args(["-o", "file"]).arg(elsewhere.url("/other"));
        for haul in [to_other(), to_other().arg("--no-part")] {
            let outcome = haul.run();
            outcome.expect(3);
            object(SIZE).compare_file(&sandbox.path("file")).expect("the file is as it was");
        }
        to_other().args(["--no-part", "--overwrite"]).run().expect(0);
        sandbox.assert_published("file", &other);
    }
}

#[test]
fn fault_109_files_of_another_user_are_refused() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        let _ = writeln!(io::stderr(), "skipped: files of another user need root");
        return;
    }
    for name in ["file.part", "file.haul"] {
        let sandbox = Sandbox::new();
        let origin = interrupted(&sandbox, command);
        chown(sandbox.path(name), Some(4711), None).unwrap();
        let outcome = assert_refused(&sandbox, command(&sandbox, &origin), name);
        assert!(outcome.text().contains("user 4711"), "{outcome}");
        assert_eq!(fs::metadata(sandbox.path(name)).unwrap().uid(), 4711);
        let clean = haul!(sandbox, bare).args(["clean", "--older-than", "0"]);
        assert_refused(&sandbox, clean, name);
        chown(sandbox.path(name), Some(0), None).unwrap();
        command(&sandbox, &origin).run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_109_files_with_a_second_name_are_refused() {
    for name in ["file.part", "file.haul"] {
        let sandbox = Sandbox::new();
        let origin = interrupted(&sandbox, command);
        fs::hard_link(sandbox.path(name), sandbox.path("another")).unwrap();
        assert_refused(&sandbox, command(&sandbox, &origin), name);
        fs::remove_file(sandbox.path("another")).unwrap();
        command(&sandbox, &origin).run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_109_overwriting_in_place_leaves_the_other_name_alone() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    sandbox.write("file", OWN);
    fs::hard_link(sandbox.path("file"), sandbox.path("another")).unwrap();
    in_place(&sandbox, &origin).arg("--overwrite").run().expect(0);
    object(SIZE).compare_file(&sandbox.path("file")).expect("the object");
    assert_eq!(fs::read(sandbox.path("another")).unwrap(), OWN);
}

#[test]
fn fault_110_own_files_at_our_names_are_not_touched() {
    let origin = Origin::serving(&object(SIZE));
    let own: [&[(&str, &[u8])]; 6] = [
        &[("file.haul", OWN)],
        &[("file.haul", b"")],
        &[("file.part", OWN)],
        &[("file.part", b"")],
        &[("file.part", OWN), ("file.haul", OWN)],
        &[("file.part", b""), ("file.haul", b"HAULCKP")],
    ];
    for files in own {
        let sandbox = Sandbox::new();
        for (name, bytes) in files {
            sandbox.write(name, bytes);
        }
        for more in [&[][..], &["--overwrite"], &["--continue=never"]] {
            let last = files[files.len() - 1].0;
            assert_refused(&sandbox, command(&sandbox, &origin).args(more), last);
        }
        let in_place = in_place(&sandbox, &origin);
        if files.iter().any(|(name, _)| *name == "file.haul") {
            assert_refused(&sandbox, in_place, "file.haul");
        }
        let before = contents(&sandbox);
        let clean = haul!(sandbox, bare).args(["clean", "--older-than", "0"]).run();
        clean.expect(0);
        assert!(contents(&sandbox) == before, "{files:?}\n{clean}");
    }
}

#[test]
fn fault_110_own_file_at_the_name_of_a_new_checkpoint_stays() {
    let sandbox = Sandbox::new();
    sandbox.write("file.hau~", OWN);
    let origin = interrupted(&sandbox, command);
    assert_eq!(fs::read(sandbox.path("file.hau~")).unwrap(), OWN);
    command(&sandbox, &origin).run().expect(0);
    assert_eq!(sandbox.files(), ["file", "file.hau~"]);
    object(SIZE).compare_file(&sandbox.path("file")).expect("the object");
    assert_eq!(fs::read(sandbox.path("file.hau~")).unwrap(), OWN);
    let sandbox = Sandbox::new();
    sandbox.write("file.hau~", OWN);
    interrupted(&sandbox, command);
    haul!(sandbox, bare).args(["clean", "--older-than", "0"]).run().expect(0);
    assert_eq!(sandbox.files(), ["file.hau~"]);
    assert_eq!(fs::read(sandbox.path("file.hau~")).unwrap(), OWN);

    // One that begins like ours and has another name is somebody's too.
    let sandbox = Sandbox::new();
    sandbox.write("file.hau~", b"HAULCKPT");
    fs::hard_link(sandbox.path("file.hau~"), sandbox.path("another")).unwrap();
    let origin = interrupted(&sandbox, command);
    command(&sandbox, &origin).run().expect(0);
    assert_eq!(sandbox.files(), ["another", "file", "file.hau~"]);
}

#[test]
fn fault_110_list_whose_outputs_collide_is_refused_before_it_starts() {
    let origin = Origin::serving(&Object::new(1, 1000));
    for ending in ["haul", "part", "hau~"] {
        for names in
            [[format!("y.{ending}"), "y".to_owned()], ["y".to_owned(), format!("y.{ending}")]]
        {
            let [first, second] = &names;
            let url = origin.url("/y");
            let list = format!("{url}?1\n out=a\n{url}?2\n out={first}\n{url}?3\n out={second}\n");
            let sandbox = Sandbox::new();
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), list).unwrap();
            let outcome = haul!(sandbox).arg("-i").arg(file.path()).run();
            outcome.expect(2);
            let said = outcome.text();
            assert!(said.contains(&format!("`y.{ending}`")) && said.contains("`y`"), "{outcome}");
            assert!(sandbox.files().is_empty() && origin.requests().is_empty());
        }
    }
}

#[test]
fn fault_110_outputs_that_collide_as_they_come_spoil_nothing() {
    let small = Object::new(1, 1000);
    let origin = Origin::serving(&small);
    let sandbox = Sandbox::new();
    // Nothing tells before the second is opened.
    haul!(sandbox).args(["-o", "y.haul"]).arg(origin.url("/1")).run().expect(0);
    haul!(sandbox).args(["-o", "y"]).arg(origin.url("/2")).run().expect(3);
    sandbox.assert_published("y.haul", &small);

    let sandbox = Sandbox::new();
    let throttled = Throttle::new(4 * MIB).crawling_after(2 * MIB);
    let slow = Origin::throttled(&object(SIZE), &throttled);
    let mut running = command(&sandbox, &slow).start();
    running.wait_until("it is under way", |running| running.bytes() > MIB);
    for name in ["file.haul", "file.part"] {
        let haul = haul!(sandbox).args(["--overwrite", "-o", name]).arg(origin.url("/1"));
        haul.run().expect(3).expect_message(name);
    }
    throttled.lift();
    running.finish().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_107_without_locks_it_downloads_and_says_so() {
    for errno in ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL"] {
        let origin = Origin::serving(&object(SIZE));
        let sandbox = Sandbox::new();
        let failing = format!("lock@1={errno}");
        let outcome = command(&sandbox, &origin).env("HAUL_FAIL_AT", failing).run();
        outcome.expect(0).expect_notice("notice");
        assert!(outcome.text().contains("no locks"), "{outcome}");
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_107_without_renaming_and_links_it_is_published() {
    let renames = ["EINVAL", "ENOSYS", "EOPNOTSUPP"].map(|it| format!("rename-new@1={it}"));
    let links = ["EPERM", "EOPNOTSUPP", "ENOSYS", "EINVAL"].map(|it| format!(",link@1={it}"));
    let none = String::new();
    for rename in &renames {
        for link in links.iter().chain([&none]) {
            let origin = Origin::serving(&object(SIZE));
            let sandbox = Sandbox::new();
            let failing = format!("{rename}{link}");
            let outcome = command(&sandbox, &origin).env("HAUL_FAIL_AT", &failing).run();
            outcome.expect(0);
            sandbox.assert_published("file", &object(SIZE));
            assert_eq!(outcome.has_notice("notice"), !link.is_empty(), "{failing}\n{outcome}");

            // And yet nothing that exists is replaced.
            sandbox.write("file", OWN);
            command(&sandbox, &origin).env("HAUL_FAIL_AT", &failing).run().expect(3);
            assert_eq!(fs::read(sandbox.path("file")).unwrap(), OWN);
        }
    }
}

#[test]
fn fault_107_name_that_appears_meanwhile_is_not_replaced_without_such_calls() {
    let throttle = Throttle::new(2 * MIB).crawling_after(3 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let failing = "rename-new@1=EINVAL,link@1=EPERM";
    let mut running = command(&sandbox, &origin).env("HAUL_FAIL_AT", failing).start();
    running.wait_until("it is under way", |running| running.bytes() > MIB);
    sandbox.write("file", OWN);
    throttle.lift();
    running.finish().expect(3);
    assert_eq!(fs::read(sandbox.path("file")).unwrap(), OWN);
    fs::remove_file(sandbox.path("file")).unwrap();
    sandbox.assert_kept("file");
}

#[test]
fn fault_107_names_that_the_file_system_refuses_are_changed() {
    let small = Object::new(1, 1000);
    let long = format!("{}.mp4", "电".repeat(60));
    for (names, given, starts) in [
        ("143", long.as_str(), "电电"),
        ("plain", "Session 12:30:05.mp4", "Session 12_30_05"),
        ("plain", "Who is it?.mp4", "Who is it_"),
    ] {
        let (served, name) = (small.clone(), given.to_owned());
        let origin = Origin::start(move |request, _| {
            let field = format!("attachment; filename=\"{name}\"");
            standard(&served, request).raw_header("Content-Disposition", field.as_bytes())
        });
        let sandbox = Sandbox::new();
        let haul = haul!(sandbox).env("HAUL_NAMES", names).arg(origin.url("/get?id=1"));
        haul.run().expect(0).expect_notice("name-changed");
        let files = sandbox.files();
        let [file] = &files[..] else { panic!("{files:?}") };
        assert!(file.starts_with(starts) && file.ends_with(".mp4"), "{files:?}");
        sandbox.assert_published(file, &small);

        // A name that was typed is the user's to change.
        let sandbox = Sandbox::new();
        let haul = haul!(sandbox).env("HAUL_NAMES", names).args(["-o", given]);
        let outcome = haul.arg(origin.url("/get?id=1")).run();
        outcome.expect(3);
        assert!(outcome.text().contains("name"), "{outcome}");
        assert!(sandbox.files().is_empty(), "{:?}", sandbox.files());
    }
}

#[test]
fn overwriting_widens_no_permissions() {
    let origin = Origin::serving(&object(SIZE));
    for (mode, more) in [(0o600, &[][..]), (0o640, &[]), (0o600, &["--no-part"])] {
        let sandbox = Sandbox::new();
        sandbox.write("file", OWN);
        fs::set_permissions(sandbox.path("file"), fs::Permissions::from_mode(mode)).unwrap();
        command(&sandbox, &origin).arg("--overwrite").args(more).run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
        let found = fs::metadata(sandbox.path("file")).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode);
    }
}
