//! Rows 55 to 58: disks that are full, fail, or cannot reserve blocks.
//!
//! Errors are made by [`HAUL_FAIL_AT`], which needs nothing, and by real small
//! disks, which need root; see [`haul_tests::disk`].
//!
//! [`HAUL_FAIL_AT`]: the engine's `fault_point`

use haul_tests::disk::{Disk, Format};
use haul_tests::prelude::*;

use crate::{STORAGES, command};

const SIZE: u64 = 12 * MIB + 4321;
/// Of each of the four connections; a checkpoint with data in it is then written midway.
const RATE: u64 = MIB;
/// A run that failed midway for want of space: message, exit 11, partial and
/// checkpoint kept. The same command completes and does not start over.
#[track_caller]
fn assert_kept_and_completes(sandbox: &Sandbox, failed: &Outcome, again: Haul) -> Outcome {
    failed.expect(11).expect_message("");
    sandbox.assert_kept("file");
    let next = again.run();
    next.expect(0);
    // Where not even a checkpoint had room, nothing is known of what is kept.
    let resumable = next.resumed_bytes() > 0;
    assert_eq!(failed.event("error")["resumable"], resumable, "{failed}\n{next}");
    assert!(!next.has_notice("restarted"), "{next}");
    sandbox.assert_published("file", &object(SIZE));
    next
}

// --- 55: no space at the reservation

#[test]
fn fault_055_no_space_at_the_reservation_leaves_nothing() {
    for failure in [
        "reserve@1=ENOSPC",
        "reserve@1=EDQUOT",
        "stage-checkpoint@1=ENOSPC",
        "create-partial@1=ENOSPC",
    ] {
        for storage in STORAGES {
            let origin = Origin::serving(&object(SIZE));
            let sandbox = Sandbox::new();
            let outcome = command(&sandbox, &origin, storage).env("HAUL_FAIL_AT", failure).run();
            outcome.expect(11).expect_message("file");
            sandbox.assert_nothing_left();
        }
    }
}

#[test]
fn fault_055_object_larger_than_the_disk_leaves_nothing() {
    for format in [Format::Tmpfs, Format::Ext2, Format::Ext4Ordered, Format::Xfs, Format::Btrfs] {
        let Some(disk) = Disk::new(format, format.least_bytes()) else { continue };
        let large = Object::new(1, format.least_bytes() + MIB);
        for storage in STORAGES {
            let origin = Origin::serving(&large);
            let sandbox = disk.sandbox();
            let before = disk.free_bytes();
            let outcome = command(&sandbox, &origin, storage).run();
            outcome.expect(11).expect_message("cannot reserve");
            sandbox.assert_nothing_left();
            assert!(disk.free_bytes() + MIB >= before, "{format:?}: space stays taken");
        }
    }
}

// --- 56: full midway

#[test]
fn fault_056_no_space_midway_is_kept_and_goes_on() {
    for failure in [
        "write@20=ENOSPC",
        "write@20=EDQUOT",
        "write@1=ENOSPC",
        "sync-data@1=ENOSPC",
        "publish@1=ENOSPC",
    ] {
        for storage in STORAGES {
            let origin = Origin::serving(&object(SIZE));
            let sandbox = Sandbox::new();
            let failed = command(&sandbox, &origin, storage).env("HAUL_FAIL_AT", failure).run();
            let again = command(&sandbox, &origin, storage);
            assert_kept_and_completes(&sandbox, &failed, again);
        }
    }
}

#[test]
fn fault_056_no_space_for_the_checkpoint_keeps_the_last_one() {
    for failure in
        ["stage-checkpoint@2=ENOSPC", "sync-checkpoint@2=EDQUOT", "rename-checkpoint@2=ENOSPC"]
    {
        let throttle = Throttle::new(RATE);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let failed = command(&sandbox, &origin, "auto").env("HAUL_FAIL_AT", failure).run();
        throttle.lift();
        assert_kept_and_completes(&sandbox, &failed, command(&sandbox, &origin, "auto"));
    }
}

/// A run on a disk that somebody else fills midway.
fn filled_midway(disk: &Disk, sandbox: &Sandbox, storage: &str) -> (Outcome, Origin) {
    let throttle = Throttle::new(RATE).crawling_after(4 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let mut running: Running = command(sandbox, &origin, storage).start();
    running.wait_until("it is under way", |_| origin.sent_bytes() >= 2 * MIB);
    disk.fill();
    throttle.lift();
    let outcome = running.finish();
    disk.make_room();
    (outcome, origin)
}

/// Without reserved blocks the next write finds no space.
#[test]
fn fault_056_disk_that_cannot_reserve_fills_midway() {
    let Some(disk) = Disk::new(Format::Ext2, 64 * MIB) else { return };
    for storage in STORAGES {
        let sandbox = disk.sandbox();
        let (failed, origin) = filled_midway(&disk, &sandbox, storage);
        assert_kept_and_completes(&sandbox, &failed, command(&sandbox, &origin, storage));
    }
}

/// With reserved blocks at most the checkpoint finds no space. Either that ends
/// the run, kept, or the run does without.
#[test]
fn fault_056_disk_with_reserved_blocks_fills_midway() {
    for (format, size) in [
        (Format::Tmpfs, 32 * MIB),
        (Format::Ext4Ordered, 64 * MIB),
        (Format::Xfs, 300 * MIB),
        (Format::Btrfs, 128 * MIB),
    ] {
        let Some(disk) = Disk::new(format, size) else { continue };
        for storage in STORAGES {
            let sandbox = disk.sandbox();
            let (outcome, origin) = filled_midway(&disk, &sandbox, storage);
            outcome.expect_one_of(&[0, 11]);
            if outcome.code == 0 {
                sandbox.assert_published("file", &object(SIZE));
            } else {
                let again = command(&sandbox, &origin, storage);
                assert_kept_and_completes(&sandbox, &outcome, again);
            }
        }
    }
}

#[test]
fn fault_056_object_of_unknown_length_fills_the_disk() {
    for format in [Format::Tmpfs, Format::Ext2, Format::Ext4Ordered] {
        let size = format.least_bytes().max(8 * MIB);
        let large = Object::new(2, size + MIB);
        for storage in STORAGES {
            let Some(mut disk) = Disk::new(format, size) else { continue };
            let served = large.clone();
            let origin = Origin::start(move |_, _| Response::full(&served).chunked(true));
            let sandbox = disk.sandbox();
            let failed = command(&sandbox, &origin, storage).run();
            failed.expect(11).expect_message("file");
            sandbox.assert_kept("file");
            // What came without a length has to come again from its first byte.
            assert_eq!(failed.event("error")["resumable"], false, "{failed}");
            if format == Format::Tmpfs {
                disk.change("size=64m");
                command(&sandbox, &origin, storage).run().expect(0);
                sandbox.assert_published("file", &large);
            } else {
                drop(sandbox);
                disk.remount();
            }
        }
    }
}

// --- 57: write-back errors

#[test]
fn fault_057_failed_sync_makes_everything_missing_again() {
    for storage in STORAGES {
        let origin = Origin::serving(&object(SIZE));
        let sandbox = Sandbox::new();
        let failed =
            command(&sandbox, &origin, storage).env("HAUL_FAIL_AT", "sync-data@1=EIO").run();
        failed.expect(3).expect_message("sync");
        sandbox.assert_kept("file");
        let next = command(&sandbox, &origin, storage).run();
        next.expect(0);
        assert_eq!(next.resumed_bytes(), 0, "what a failed sync covers is believed\n{next}");
        assert!(next.fetched_bytes() >= SIZE, "{next}");
        sandbox.assert_published("file", &object(SIZE));
    }
}

/// The first sync in the background comes after ten seconds and succeeds; the
/// one at the end does not.
#[test]
fn fault_057_what_an_earlier_sync_covered_stays() {
    const LARGE: u64 = 36 * MIB + 99;
    let large = Object::new(3, LARGE);
    let throttle = Throttle::new(3 * MIB / 4);
    let origin = Origin::throttled(&large, &throttle);
    let sandbox = Sandbox::new();
    let failed = command(&sandbox, &origin, "auto").env("HAUL_FAIL_AT", "sync-data@2=EIO").run();
    failed.expect(3).expect_message("sync");
    sandbox.assert_kept("file");
    throttle.lift();
    let next = command(&sandbox, &origin, "auto").run();
    next.expect(0);
    let resumed = next.resumed_bytes();
    assert!(resumed >= 8 * MIB, "the good sync counts for nothing\n{next}");
    assert!(resumed < LARGE - MIB, "the failed sync is believed\n{next}");
    assert!(next.fetched_bytes() >= LARGE - resumed, "{next}");
    sandbox.assert_published("file", &large);
}

#[test]
fn fault_057_failed_sync_of_the_checkpoint_or_directory_is_told() {
    for failure in ["sync-checkpoint@2=EIO", "stage-checkpoint@2=EIO", "rename-checkpoint@2=EIO"] {
        let throttle = Throttle::new(RATE);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let failed = command(&sandbox, &origin, "auto").env("HAUL_FAIL_AT", failure).run();
        failed.expect(3).expect_message("checkpoint");
        sandbox.assert_kept("file");
        throttle.lift();
        command(&sandbox, &origin, "auto").run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let failed =
        command(&sandbox, &origin, "auto").env("HAUL_FAIL_AT", "sync-output-directory@1=EIO").run();
    failed.expect(3).expect_message("complete");
    // Complete under its name already, and said so.
    object(SIZE).compare_file(&sandbox.path("file")).expect("the whole object");
}

/// A disk that fails for good while the download runs.
#[test]
fn fault_057_disk_that_fails_midway() {
    for storage in STORAGES {
        let Some(mut disk) = Disk::new(Format::Ext4Ordered, 64 * MIB) else { return };
        let throttle = Throttle::new(RATE).crawling_after(11 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = disk.sandbox();
        let mut running = command(&sandbox, &origin, storage).start();
        running.wait_until("it is under way", |_| origin.sent_bytes() >= 10 * MIB);
        disk.shutdown(true);
        throttle.lift();
        let outcome = running.finish();
        outcome.expect(3).expect_message("");
        disk.remount();
        command(&sandbox, &origin, storage).run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
}

// --- 58: no fallocate

#[test]
fn fault_058_blocks_that_cannot_be_reserved_are_a_notice() {
    for storage in ["auto", "mmap", "pwrite"] {
        let origin = Origin::serving(&object(SIZE));
        let sandbox = Sandbox::new();
        let outcome =
            command(&sandbox, &origin, storage).env("HAUL_FAIL_AT", "reserve@1=EOPNOTSUPP").run();
        outcome.expect(0).expect_notice("storage-fallback");
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_058_ext2_reserves_nothing() {
    let Some(disk) = Disk::new(Format::Ext2, 64 * MIB) else { return };
    for storage in ["auto", "mmap"] {
        let origin = Origin::serving(&object(SIZE));
        let sandbox = disk.sandbox();
        let outcome = command(&sandbox, &origin, storage).run();
        outcome.expect(0).expect_notice("storage-fallback");
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn downloads_complete_on_every_disk() {
    for (format, size) in [
        (Format::Tmpfs, 32 * MIB),
        (Format::Ext4Ordered, 64 * MIB),
        (Format::Ext4Journal, 64 * MIB),
        (Format::Xfs, 300 * MIB),
        (Format::Btrfs, 128 * MIB),
    ] {
        let Some(disk) = Disk::new(format, size) else { continue };
        for storage in STORAGES {
            let origin = Origin::serving(&object(SIZE));
            let sandbox = disk.sandbox();
            command(&sandbox, &origin, storage).run().expect(0);
            sandbox.assert_published("file", &object(SIZE));
        }
    }
}
