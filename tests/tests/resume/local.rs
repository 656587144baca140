//! Section E of the faults: the files on this side.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use haul_tests::harness::kill;
use haul_tests::prelude::*;

const SIZE: u64 = 12 * MIB + 4321;

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file", "--retry", "1"]).arg(origin.url("/file"))
}

fn run(sandbox: &Sandbox, origin: &Origin) -> Outcome {
    let outcome = command(sandbox, origin).run();
    assert_well_asked(origin);
    outcome
}

/// A partial and a checkpoint of [`object`], and its origin at full speed.
fn partial(sandbox: &Sandbox) -> Origin {
    let throttle = Throttle::new(4 * MIB).crawling_after(6 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    interrupt(command(sandbox, &origin), 4 * MIB);
    sandbox.assert_kept("file");
    throttle.lift();
    origin
}

#[test]
fn fault_059_partial_truncated_underneath() {
    for storage in ["auto", "mmap", "pwrite"] {
        let throttle = Throttle::new(2 * MIB).crawling_after(3 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let mut running = command(&sandbox, &origin).args(["--storage", storage]).start();
        running.wait_until("some bytes are here", |running| running.bytes() >= MIB);
        fs::File::options().write(true).open(sandbox.part("file")).unwrap().set_len(0).unwrap();
        throttle.lift();
        running.finish().expect(3).expect_message("truncated");
        sandbox.assert_unpublished("file");
        assert!(sandbox.checkpoint("file").exists());
    }
}

#[test]
fn fault_060_partial_removed_or_replaced_underneath() {
    for replaced in [false, true] {
        let throttle = Throttle::new(2 * MIB).crawling_after(3 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let mut running = command(&sandbox, &origin).start();
        running.wait_until("some bytes are here", |running| running.bytes() >= MIB);
        fs::remove_file(sandbox.part("file")).unwrap();
        if replaced {
            sandbox.write("file.part", vec![0; SIZE as usize]);
        }
        throttle.lift();
        running.finish().expect(3);
        sandbox.assert_unpublished("file");
    }
}

#[test]
fn fault_061_directory_that_is_a_file() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    sandbox.write("occupied", "a file");
    command(&sandbox, &origin).args(["-d", "occupied"]).run().expect(3);
    assert_eq!(sandbox.files(), ["occupied"]);

    fs::create_dir(sandbox.path("file")).unwrap();
    run(&sandbox, &origin).expect(3);
    assert_eq!(sandbox.files(), ["occupied"]);
}

/// Runs on with a checkpoint that `damage` altered. `None` from it ends the series.
fn with_damaged_checkpoint(damage: impl Fn(usize, Vec<u8>) -> Option<Vec<u8>>) {
    let template = Sandbox::new();
    let origin = partial(&template);
    let (part, checkpoint) =
        (fs::read(template.part("file")).unwrap(), fs::read(template.checkpoint("file")).unwrap());
    let mut count = 0;
    while let Some(damaged) = damage(count, checkpoint.clone()) {
        let sandbox = Sandbox::new();
        for (path, bytes) in [(sandbox.part("file"), &part), (sandbox.checkpoint("file"), &damaged)]
        {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let outcome = run(&sandbox, &origin);
        count += 1;
        if !damaged.starts_with(b"HAULCKPT") {
            // Nothing tells it from another program's file.
            outcome.expect(3).expect_message("file.haul");
            assert!(fs::read(sandbox.checkpoint("file")).unwrap() == damaged);
            assert!(fs::read(sandbox.part("file")).unwrap() == part);
            continue;
        }
        outcome.expect(0);
        assert!(outcome.all("notice").count() > 0, "damage {count} without a notice\n{outcome}");
        sandbox.assert_published("file", &object(SIZE));
    }
    assert!(count > 0);
}

#[test]
fn fault_062_truncated_checkpoint_is_not_believed() {
    with_damaged_checkpoint(|count, mut bytes| {
        let len = *[0, 1, 9, 10, 100, bytes.len() / 2, bytes.len() - 1].get(count)?;
        bytes.truncate(len);
        Some(bytes)
    });
}

#[test]
fn fault_062_torn_checkpoint_is_not_believed() {
    with_damaged_checkpoint(|count, mut bytes| {
        let middle = bytes.len() / 2;
        match count {
            0 => bytes[middle..].fill(0),
            1 => bytes[..middle].fill(0),
            2 => bytes.extend_from_slice(b"more"),
            _ => return None,
        }
        Some(bytes)
    });
}

#[test]
fn fault_062_flipped_bits_are_not_believed() {
    // The version at 8 and 9 is apart: a newer one is left alone.
    with_damaged_checkpoint(|count, mut bytes| {
        let at = [0, 10, 40, 70, 100, 150, 200, bytes.len() - 40, bytes.len() - 1];
        *bytes.get_mut(*at.get(count)?).expect("a checkpoint is longer") ^= 1 << (count % 8);
        Some(bytes)
    });
}

#[test]
fn fault_063_checkpoint_of_a_newer_version_is_left_alone() {
    for newer in [6_u16, 0x0100, 0xffff] {
        let sandbox = Sandbox::new();
        let origin = partial(&sandbox);
        let mut bytes = fs::read(sandbox.checkpoint("file")).unwrap();
        assert_eq!(&bytes[..8], b"HAULCKPT");
        bytes[8..10].copy_from_slice(&newer.to_le_bytes());
        fs::write(sandbox.checkpoint("file"), &bytes).unwrap();
        let part = fs::read(sandbox.part("file")).unwrap();
        let outcome = run(&sandbox, &origin);
        outcome.expect(3);
        sandbox.assert_kept("file");
        assert!(fs::read(sandbox.checkpoint("file")).unwrap() == bytes, "it was rewritten");
        assert!(fs::read(sandbox.part("file")).unwrap() == part, "the data was touched");
    }
}

#[test]
fn fault_064_checkpoint_of_another_object_is_never_merged() {
    let larger = Object::new(2, SIZE + 3 * MIB);
    let same_size = Object::new(3, SIZE);
    let no_validator = Object::new(4, SIZE).with_etag(None).with_last_modified(None);
    for other in [larger, same_size, no_validator] {
        let sandbox = Sandbox::new();
        drop(partial(&sandbox));
        let origin = Origin::serving(&other);
        let outcome = haul!(sandbox).args(["-o", "file"]).arg(origin.url("/other")).run();
        outcome.expect(0).expect_notice("restarted");
        sandbox.assert_published("file", &other);
    }
}

#[test]
fn fault_064_same_tag_and_size_under_another_path_is_proven_first() {
    // Different files of equal size and time have equal tags at some servers.
    let twin = Object::new(2, SIZE)
        .with_etag(object(SIZE).etag())
        .with_last_modified(object(SIZE).last_modified_unix());
    let sandbox = Sandbox::new();
    drop(partial(&sandbox));
    let origin = Origin::serving(&twin);
    let outcome = haul!(sandbox).args(["-o", "file"]).arg(origin.url("/twin")).run();
    outcome.expect(0).expect_notice("restarted");
    sandbox.assert_published("file", &twin);
}

#[test]
fn fault_035_another_url_continues_once_a_segment_proved_the_same() {
    let sandbox = Sandbox::new();
    drop(partial(&sandbox));
    let origin = Origin::serving(&object(SIZE));
    let elsewhere = || haul!(sandbox).args(["-o", "file"]).arg(origin.url("/moved/elsewhere"));
    let outcome = elsewhere().run();
    outcome.expect(0);
    assert!(!outcome.has_notice("restarted"), "{outcome}");
    assert!(outcome.resumed_bytes() >= 4 * MIB, "{outcome}");
    let proof = 2 * MIB;
    assert!(outcome.fetched_bytes() <= SIZE - outcome.resumed_bytes() + proof, "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_035_proof_that_cannot_be_had_keeps_the_partial() {
    let sandbox = Sandbox::new();
    let first = partial(&sandbox);
    let broken = Origin::start(|request, context| match context.index {
        0 => standard(&object(SIZE), request),
        _ => Response::empty(500),
    });
    let outcome = haul!(sandbox).args(["-o", "file"]).arg(broken.url("/moved")).run();
    outcome.expect(7);
    sandbox.assert_kept("file");
    let outcome = command(&sandbox, &first).run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() >= 4 * MIB, "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_065_missing_or_short_partial_is_fetched_again() {
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let shorten = |path: &Path| {
        fs::File::options().write(true).open(path).unwrap().set_len(MIB + 1).unwrap();
    };
    for damage in [remove, shorten] {
        let sandbox = Sandbox::new();
        let origin = partial(&sandbox);
        damage(&sandbox.part("file"));
        run(&sandbox, &origin).expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_066_edited_partial_is_never_published_as_complete() {
    // Segments that were complete but not synced are hashed again on a resume;
    // a kill leaves such segments.
    let throttle = Throttle::new(2 * MIB).crawling_after(10 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    kill(command(&sandbox, &origin), 9 * MIB);
    let mut part = fs::read(sandbox.part("file")).unwrap();
    for byte in part.iter_mut().step_by(4096) {
        *byte ^= 0x55;
    }
    fs::write(sandbox.part("file"), part).unwrap();
    throttle.lift();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_067_of_two_hauls_one_goes_on() {
    let throttle = Throttle::new(2 * MIB).crawling_after(2 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let mut first = command(&sandbox, &origin).start();
    first.wait_until("it is under way", |running| running.bytes() > 0);
    let second = command(&sandbox, &origin).run();
    second.expect(3);
    assert!(second.text().contains(&first.pid().to_string()), "the holder is named\n{second}");
    throttle.lift();
    first.finish().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_067_foreign_part_is_not_touched() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    sandbox.write("file.part", "of another program");
    run(&sandbox, &origin).expect(3);
    assert_eq!(sandbox.files(), ["file.part"]);
    assert_eq!(fs::read(sandbox.part("file")).unwrap(), b"of another program");
    assert_eq!(origin.sent_bytes(), 0, "nothing needs to be fetched to see that");
}

#[test]
fn fault_071_existing_output_is_refused() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    sandbox.write("file", "precious");
    run(&sandbox, &origin).expect(3);
    assert_eq!(sandbox.files(), ["file"]);
    assert_eq!(fs::read(sandbox.path("file")).unwrap(), b"precious");

    command(&sandbox, &origin).arg("--overwrite").run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_071_output_that_appears_meanwhile_is_not_overwritten() {
    let throttle = Throttle::new(2 * MIB).crawling_after(2 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let mut running = command(&sandbox, &origin).start();
    running.wait_until("it is under way", |running| running.bytes() > 0);
    sandbox.write("file", "precious");
    throttle.lift();
    running.finish().expect(3);
    assert_eq!(fs::read(sandbox.path("file")).unwrap(), b"precious");
    fs::remove_file(sandbox.path("file")).unwrap();
    sandbox.assert_kept("file");

    let before = origin.sent_bytes();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object(SIZE));
    let again = origin.sent_bytes() - before;
    assert!(again <= 4 * MIB, "{again} bytes were fetched again");
}

#[test]
fn overwriting_keeps_the_old_file_until_the_new_is_complete() {
    let throttle = Throttle::new(4 * MIB).crawling_after(4 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    sandbox.write("file", "old");
    interrupt(command(&sandbox, &origin).arg("--overwrite"), 2 * MIB);
    assert_eq!(fs::read(sandbox.path("file")).unwrap(), b"old");
    throttle.lift();
    let outcome = command(&sandbox, &origin).arg("--overwrite").run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() >= MIB, "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_072_names_too_long_are_cut() {
    let small = Object::new(1, 1000);
    let served = small.clone();
    let origin = Origin::start(move |request, _| standard(&served, request));
    let sandbox = Sandbox::new();
    let url = origin.url(&format!("/{}.mp4", "x".repeat(300)));
    haul!(sandbox).arg(url).run().expect(0).expect_notice("name-changed");
    let files = sandbox.files();
    assert!(files.len() == 1 && files[0].len() <= 249, "{files:?}");
    sandbox.assert_published(&files[0], &small);
}

#[test]
fn fault_072_names_that_are_no_utf8_are_escaped() {
    let small = Object::new(1, 1000);
    let (plain, named) = (small.clone(), small.clone());
    let by_header = Origin::start(move |request, _| {
        let response: Response = standard(&named, request);
        response.raw_header("Content-Disposition", b"attachment; filename=\"a\xff\xfeb.bin\"")
    });
    let by_url = Origin::start(move |request, _| standard(&plain, request));
    for (origin, path) in [(by_header, "/f"), (by_url, "/a%ff%fe.bin")] {
        let sandbox = Sandbox::new();
        haul!(sandbox).arg(origin.url(path)).run().expect(0);
        let files = sandbox.files();
        assert!(files[0].ends_with(".bin"), "{files:?}");
        sandbox.assert_published(&files[0], &small);
    }
}

#[test]
fn fault_084_partial_is_private_and_the_file_is_not() {
    let sandbox = Sandbox::new();
    let origin = partial(&sandbox);
    // `assert_kept` in `partial` saw 0600.
    run(&sandbox, &origin).expect(0);
    let ordinary = tempfile::tempdir().unwrap();
    fs::write(ordinary.path().join("x"), "").unwrap();
    let expected = fs::metadata(ordinary.path().join("x")).unwrap().mode();
    assert_eq!(fs::metadata(sandbox.path("file")).unwrap().mode(), expected, "what umask gives");
}
