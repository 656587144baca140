//! The mapped file, which is the usual storage: what goes through it, what does not, and
//! what is said of both.

use std::time::Duration;

use haul_tests::disk::{Disk, Format};
use haul_tests::prelude::*;

/// The last window of it is incomplete.
const SIZE: u64 = 20 * MIB + 4321;

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-o", "file"]).arg(origin.url("/file"))
}

/// What the command says at `-v` to a person.
fn said(sandbox: &Sandbox, origin: &Origin) -> String {
    let outcome = haul!(sandbox, bare).args(["-v", "-o", "file"]).arg(origin.url("/file")).run();
    outcome.expect(0);
    String::from_utf8_lossy(&outcome.stderr).into_owned()
}

#[track_caller]
fn mapped_bytes(outcome: &Outcome) -> u64 {
    outcome.event("complete")["mapped_bytes"].as_u64().expect("a number")
}

/// A disk on which the file is mapped, wherever the tests run.
fn mappable() -> Option<Disk> {
    Disk::new(Format::Tmpfs, 64 * MIB)
}

/// Each connection is much slower than the map.
fn slow(object: &Object) -> Origin {
    let served = object.clone();
    Origin::start(move |request, _| {
        standard(&served, request).delay(Duration::from_millis(5)).rate(2 * MIB)
    })
}

#[test]
fn every_byte_goes_through_the_map_where_blocks_are_reserved() {
    for (format, size) in
        [(Format::Tmpfs, 64 * MIB), (Format::Ext4Ordered, 96 * MIB), (Format::Xfs, 300 * MIB)]
    {
        let Some(disk) = Disk::new(format, size) else { continue };
        let sandbox = disk.sandbox();
        let outcome = command(&sandbox, &slow(&object(SIZE))).args(["-x", "4"]).run();
        outcome.expect(0);
        assert_eq!(mapped_bytes(&outcome), SIZE, "{format:?}\n{outcome}");
        assert_eq!(outcome.all("notice").count(), 0, "{outcome}");
        sandbox.assert_published("file", &object(SIZE));
    }
}

/// There are eight windows: a writer that gets none stores by positioned writes beside those that
/// have one.
#[test]
fn more_connections_than_windows_store_the_same_bytes() {
    let Some(disk) = mappable() else { return };
    let sandbox = disk.sandbox();
    let outcome = command(&sandbox, &slow(&object(SIZE))).args(["-x", "16"]).run();
    outcome.expect(0);
    assert!((1..SIZE).contains(&mapped_bytes(&outcome)), "{outcome}");
    assert_eq!(outcome.all("notice").count(), 0, "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn what_an_earlier_run_had_is_not_counted() {
    let Some(disk) = mappable() else { return };
    let sandbox = disk.sandbox();
    let throttle = Throttle::new(2 * MIB).crawling_after(10 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    interrupt(command(&sandbox, &origin).args(["-x", "4"]), 8 * MIB);
    throttle.allow(2 * SIZE);
    let outcome = command(&sandbox, &origin).args(["-x", "4"]).run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() >= 8 * MIB, "{outcome}");
    assert_eq!(mapped_bytes(&outcome), SIZE - outcome.resumed_bytes(), "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

/// However slow the disk is: the time in which a writer waits for it is no effort.
#[test]
fn a_slow_disk_is_no_reason_for_positioned_writes() {
    let Some(disk) = mappable() else { return };
    let large = Object::new(3, 44 * MIB + 4321);
    let (sandbox, origin) = (disk.sandbox(), Origin::serving(&large));
    let outcome =
        command(&sandbox, &origin).args(["-x", "4"]).env("HAUL_SLOW_WRITES", "10ms").run();
    outcome.expect(0);
    assert_eq!(mapped_bytes(&outcome), large.size_bytes(), "{outcome}");
    sandbox.assert_published("file", &large);
}

#[test]
fn positioned_writes_where_they_are_asked_for_or_no_block_is_sure() {
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &slow(&object(SIZE))).args(["--storage", "pwrite"]).run();
    outcome.expect(0);
    assert_eq!(mapped_bytes(&outcome), 0, "{outcome}");

    let sandbox = Sandbox::new();
    let sparse = ["--file-allocation", "none"];
    let outcome = command(&sandbox, &slow(&object(SIZE))).args(sparse).run();
    outcome.expect(0);
    assert_eq!(mapped_bytes(&outcome), 0, "{outcome}");
    assert_eq!(outcome.all("notice").count(), 0, "{outcome}");

    // A page is not worth a map of its own.
    let small = Object::new(2, MIB / 2);
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &Origin::serving(&small)).run();
    outcome.expect(0);
    assert_eq!(mapped_bytes(&outcome), 0, "{outcome}");

    let served = object(SIZE);
    let origin = Origin::start(move |_, _| Response::full(&served).chunked(true));
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin).run();
    outcome.expect(0);
    assert_eq!(mapped_bytes(&outcome), 0, "{outcome}");
}

/// A word for who asks, and no note for who does not.
#[test]
fn a_file_system_that_writes_elsewhere_is_not_mapped_and_v_says_so() {
    let Some(disk) = Disk::new(Format::Btrfs, 160 * MIB) else { return };
    let (sandbox, origin) = (disk.sandbox(), slow(&object(SIZE)));
    let outcome = command(&sandbox, &origin).run();
    outcome.expect(0);
    assert_eq!(mapped_bytes(&outcome), 0, "{outcome}");
    assert_eq!(outcome.all("notice").count(), 0, "{outcome}");
    std::fs::remove_file(sandbox.path("file")).unwrap();
    let said = said(&sandbox, &origin);
    assert!(said.contains("storage pwrite, not mapped: btrfs"), "{said}");
}

#[test]
fn v_says_how_many_bytes_were_mapped() {
    let Some(disk) = mappable() else { return };
    let said = said(&disk.sandbox(), &slow(&object(SIZE)));
    assert!(said.contains("storage mmap\n"), "{said}");
    assert!(said.contains(" through the mapped file\n"), "{said}");
}

/// A copy cannot be hit on purpose by a cut, so the signal itself is sent.
#[test]
fn fault_059_bus_error_says_so_and_keeps_the_checkpoint() {
    let throttle = Throttle::new(2 * MIB).crawling_after(4 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let mut running = command(&sandbox, &origin).args(["-x", "4"]).start();
    running.wait_until("some bytes are here", |running| running.bytes() >= MIB);
    running.signal(Signal::BUS);
    running.finish().expect(3).expect_message("truncated");
    sandbox.assert_kept("file");
    throttle.lift();
    command(&sandbox, &origin).args(["-x", "4"]).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}
