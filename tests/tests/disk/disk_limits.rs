//! Rows 59 to 61: a partial that somebody else changes, limits of the process,
//! and directories that cannot be written.
//!
//! Real disks need root; see [`haul_tests::disk`].

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use haul_tests::disk::{Disk, Format};
use haul_tests::prelude::*;

use crate::{STORAGES, command};

const SIZE: u64 = 12 * MIB + 4321;
/// Of each of the four connections; a checkpoint with data in it is then
/// written midway.
const RATE: u64 = 2 * MIB;
// --- 61: limits and read-only directories

/// The command under a shell that sets a limit first.
fn limited(sandbox: &Sandbox, origin: &Origin, limit: &str, storage: &str) -> Haul {
    let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
    Haul::new("/bin/sh", sandbox)
        .args(["-c", &script, env!("CARGO_BIN_EXE_haul-under-test")])
        .json()
        .args(["--retry", "1", "-x", "4", "-o", "file", "--storage", storage])
        .arg(origin.url("/file"))
}

#[test]
fn fault_061_file_size_limit_is_checked_before_the_transfer() {
    for storage in STORAGES {
        let origin = Origin::serving(&object(SIZE));
        let sandbox = Sandbox::new();
        // In blocks of 512 bytes: 4 MiB.
        let outcome = limited(&sandbox, &origin, "-f 8192", storage).run();
        outcome.expect(11).expect_message("at most 4 MiB");
        sandbox.assert_nothing_left();

        let outcome = limited(&sandbox, &origin, "-f 32768", storage).run();
        outcome.expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_061_file_size_limit_is_no_signal_for_an_unknown_length() {
    let origin = Origin::start(|_, _| Response::full(&object(SIZE)).chunked(true));
    for limit in ["-f 8192", "-f 8193", "-f 1", "-f 0"] {
        let sandbox = Sandbox::new();
        let outcome = limited(&sandbox, &origin, limit, "pwrite").run();
        outcome.expect(11).expect_message("");
        sandbox.assert_unpublished("file");
    }
}

/// A resumed download whose limit was lowered meanwhile.
#[test]
fn fault_061_lowered_file_size_limit_keeps_the_partial() {
    let throttle = Throttle::new(RATE).crawling_after(5 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    interrupt(command(&sandbox, &origin, "auto"), 4 * MIB);
    throttle.lift();
    for limit in ["-f 8192", "-f 0"] {
        let outcome = limited(&sandbox, &origin, limit, "auto").run();
        outcome.expect(11).expect_message("");
        sandbox.assert_kept("file");
    }
    let next = command(&sandbox, &origin, "auto").run();
    next.expect(0);
    assert!(next.resumed_bytes() >= 4 * MIB, "{next}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_061_no_descriptors_left_is_told_before_the_transfer() {
    let mut completed = 0;
    // With fewer not even the loader of programs finds its files.
    for descriptors in 4..40 {
        let origin = Origin::serving(&object(SIZE));
        let sandbox = Sandbox::new();
        let outcome = limited(&sandbox, &origin, &format!("-n {descriptors}"), "auto").run();
        if outcome.code == 0 {
            completed += 1;
            sandbox.assert_published("file", &object(SIZE));
        } else {
            outcome.expect(3).expect_message("ulimit -n");
            sandbox.assert_nothing_left();
            assert_eq!((origin.requests().len(), completed), (0, 0), "{descriptors}\n{outcome}");
        }
    }
    assert!(completed > 0, "all of these are too few");
}

#[test]
fn fault_061_descriptors_that_run_out_at_the_partial() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let outcome =
        command(&sandbox, &origin, "auto").env("HAUL_FAIL_AT", "create-partial@1=EMFILE").run();
    outcome.expect(3).expect_message("file.part");
    sandbox.assert_nothing_left();
}

/// Nothing is fetched for a directory that cannot be written.
#[track_caller]
fn assert_refused_before_the_transfer(sandbox: &Sandbox, origin: &Origin) {
    let outcome = command(sandbox, origin, "auto").run();
    // The partial or the checkpoint, whichever is made first.
    outcome.expect(3).expect_message("./file.");
    sandbox.assert_nothing_left();
    // The body of the first response waits in buffers while the output is opened.
    assert!(origin.sent_bytes() <= 4 * MIB, "{} bytes were sent", origin.sent_bytes());
}

#[test]
fn fault_061_read_only_disk_is_refused() {
    for format in [Format::Tmpfs, Format::Ext4Ordered] {
        let Some(disk) = Disk::new(format, 64 * MIB) else { continue };
        let origin = Origin::serving(&object(SIZE));
        let sandbox = disk.sandbox();
        disk.change("ro");
        assert_refused_before_the_transfer(&sandbox, &origin);
        disk.change("rw");
        command(&sandbox, &origin, "auto").run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_061_read_only_directory_is_refused() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    fs::set_permissions(sandbox.work(), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(sandbox.path("probe"), "").is_ok() {
        // Root may write everywhere; see `fault_061_read_only_disk_is_refused`.
        let _ = writeln!(io::stderr(), "skipped: permissions do not bind this user");
        return;
    }
    assert_refused_before_the_transfer(&sandbox, &origin);
    fs::set_permissions(sandbox.work(), fs::Permissions::from_mode(0o755)).unwrap();
    command(&sandbox, &origin, "auto").run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

// --- 59, 60: the partial is changed underneath

/// A throttled run; `change` is done to the partial when some of it is there.
fn changed_underneath(
    sandbox: &Sandbox,
    storage: &str,
    change: impl FnOnce(&Sandbox),
) -> (Origin, Outcome) {
    let throttle = Throttle::new(RATE).crawling_after(10 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let mut running = command(sandbox, &origin, storage).start();
    // The second checkpoint is written then.
    running.wait_until("some bytes are here", |_| origin.sent_bytes() >= 9 * MIB);
    change(sandbox);
    throttle.lift();
    (origin, running.finish())
}

#[test]
fn fault_059_truncated_partial_on_every_disk() {
    for (format, size) in [
        (Format::Tmpfs, 32 * MIB),
        (Format::Ext4Ordered, 64 * MIB),
        (Format::Xfs, 300 * MIB),
        (Format::Btrfs, 128 * MIB),
    ] {
        let Some(disk) = Disk::new(format, size) else { continue };
        for (storage, len) in [("auto", 0), ("pwrite", 0), ("auto", SIZE / 2), ("pwrite", SIZE / 2)]
        {
            let sandbox = disk.sandbox();
            let (origin, outcome) = changed_underneath(&sandbox, storage, |sandbox| {
                let part = fs::File::options().write(true).open(sandbox.part("file")).unwrap();
                part.set_len(len).unwrap();
            });
            outcome.expect(3).expect_message("truncated");
            assert!(!sandbox.path("file").exists(), "{outcome}");
            assert!(sandbox.checkpoint("file").exists(), "{outcome}");
            // A cut in the middle of a copy into a mapping ends the process at once, as a
            // kill does: the next checkpoint may be half written, and goes with the next run.
            if storage == "pwrite" {
                sandbox.assert_unpublished("file");
            }
            command(&sandbox, &origin, storage).run().expect(0);
            sandbox.assert_published("file", &object(SIZE));
        }
    }
}

#[test]
fn fault_060_deleted_or_replaced_partial_with_either_storage() {
    for storage in STORAGES {
        for replaced in [false, true] {
            let sandbox = Sandbox::new();
            let (_, outcome) = changed_underneath(&sandbox, storage, |sandbox| {
                fs::remove_file(sandbox.part("file")).unwrap();
                if replaced {
                    sandbox.write("file.part", vec![7; SIZE as usize]);
                }
            });
            outcome.expect(3).expect_message("deleted or replaced");
            sandbox.assert_unpublished("file");
            if replaced {
                let now = fs::read(sandbox.part("file")).unwrap();
                assert!(now == vec![7; SIZE as usize], "somebody else's file was written to");
            }
        }
    }
}
