//! Damage to real checkpoints, bit by bit: fault 62 in depth. `local.rs` has
//! the damage that accidents make.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::fs::PermissionsExt as _;

use haul_engine::fuzzing::reencoded_checkpoint;
use haul_tests::prelude::*;

const SIZE: u64 = 4 * MIB + 321;
/// Where the version is; a later one than ours is another fault, 63.
const VERSION: std::ops::Range<usize> = 8..10;

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox)
        .args(["-x", "2", "-o", "file", "--segment-size", "1M", "--no-sync"])
        .arg(origin.url("/file"))
}

/// What an interrupted download left, and its origin at full speed.
struct Interrupted {
    origin: Origin,
    part: Vec<u8>,
    checkpoint: Vec<u8>,
}

impl Interrupted {
    fn new(signal: Signal) -> Self {
        let throttle = Throttle::new(MIB).crawling_after(7 * MIB / 2);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        if signal == Signal::INT {
            interrupt(command(&sandbox, &origin), 5 * MIB / 2);
        } else {
            let mut running = command(&sandbox, &origin).start();
            let of_a_running_one = || fs::read(sandbox.checkpoint("file")).unwrap_or_default();
            running.wait_until("enough is recorded", |running| {
                running.bytes() >= 3 * MIB && of_a_running_one().len() > 250
            });
            running.signal(signal);
            let _ = running.finish();
        }
        sandbox.assert_kept("file");
        throttle.lift();
        let (part, checkpoint) = (sandbox.part("file"), sandbox.checkpoint("file"));
        Self { origin, part: fs::read(part).unwrap(), checkpoint: fs::read(checkpoint).unwrap() }
    }

    /// Runs on with `damaged` in the checkpoint's place. It ends with the right
    /// file and a notice, or says that a newer haul wrote it, or perhaps another
    /// program, and leaves it.
    fn run_with(&self, damaged: &[u8], what: &str) -> Outcome {
        let sandbox = Sandbox::new();
        let (part, checkpoint) = (sandbox.part("file"), sandbox.checkpoint("file"));
        for (path, bytes) in [(&part, &self.part[..]), (&checkpoint, damaged)] {
            fs::write(path, bytes).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let outcome = command(&sandbox, &self.origin).run();
        assert!(!outcome.text().contains("panicked"), "{what}\n{outcome}");
        if outcome.code == 3 {
            let version = damaged.get(VERSION).map(|two| u16::from_le_bytes([two[0], two[1]]));
            if damaged.starts_with(b"HAULCKPT") {
                assert!(version > Some(4), "{what}\n{outcome}");
                assert!(outcome.text().contains("newer haul"), "{what}\n{outcome}");
            } else {
                // Nothing tells it from another program's file.
                assert!(outcome.text().contains("file.haul"), "{what}\n{outcome}");
            }
            sandbox.assert_kept("file");
            assert!(fs::read(&checkpoint).unwrap() == damaged, "{what}: it was rewritten");
            assert!(fs::read(&part).unwrap() == self.part, "{what}: the data was touched");
        } else {
            assert_eq!(outcome.code, 0, "{what}\n{outcome}");
            assert!(outcome.has_notice("restarted"), "{what} was believed\n{outcome}");
            assert_eq!(outcome.resumed_bytes(), 0, "{what} was believed\n{outcome}");
            sandbox.assert_published("file", &object(SIZE));
        }
        outcome
    }
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

#[test]
fn fault_062_no_truncation_and_no_flipped_bit_is_believed() {
    // After SIGINT all that is recorded is synced; after SIGKILL there are
    // complete segments that are not, and beginnings of segments.
    for signal in [Signal::INT, Signal::KILL] {
        let bytes = Interrupted::new(signal).checkpoint;
        assert!(bytes.len() > 250, "{} bytes are no real checkpoint", bytes.len());
        assert_eq!(reencoded_checkpoint(&bytes).as_deref(), Some(&bytes[..]), "the real one");
        for len in 0..bytes.len() {
            assert_eq!(reencoded_checkpoint(&bytes[..len]), None, "cut to {len} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            assert_eq!(reencoded_checkpoint(&flipped(&bytes, bit)), None, "bit {bit} flipped");
        }
        for byte in 0..=u8::MAX {
            let longer = [&bytes[..], &[byte]].concat();
            assert_eq!(reencoded_checkpoint(&longer), None, "{byte} at its end");
        }
    }
}

/// `count` numbers below `bound`, spread over it, the same for a seed.
fn spread(count: usize, bound: usize, seed: u64) -> impl Iterator<Item = usize> {
    let step = bound / count;
    (0..count).map(move |index| index * step + (seed >> (index % 32)) as usize % step)
}

#[test]
fn fault_062_download_with_a_flipped_bit_ends_with_the_right_file() {
    let interrupted = Interrupted::new(Signal::KILL);
    let bytes = &interrupted.checkpoint;
    let seed = RandomState::new().hash_one(62);
    for bit in spread(60, bytes.len() * 8, seed) {
        interrupted.run_with(&flipped(bytes, bit), &format!("bit {bit} flipped, seed {seed}"));
    }
    // Each bit of the version, whatever the seed.
    let told: Vec<i32> = (VERSION.start * 8..VERSION.end * 8)
        .map(|bit| interrupted.run_with(&flipped(bytes, bit), &format!("bit {bit} flipped")).code)
        .collect();
    assert_eq!([told[0], told[2]], [0, 0], "version 5 is known, and there was no version 0");
    let newer = |bit: usize| ![0, 2].contains(&bit);
    assert!((0..told.len()).filter(|bit| newer(*bit)).all(|bit| told[bit] == 3), "{told:?}");
}

#[test]
fn fault_062_download_with_a_truncated_checkpoint_ends_with_the_right_file() {
    let interrupted = Interrupted::new(Signal::KILL);
    let bytes = &interrupted.checkpoint;
    let seed = RandomState::new().hash_one(62);
    for len in spread(40, bytes.len(), seed) {
        interrupted.run_with(&bytes[..len], &format!("cut to {len} bytes, seed {seed}"));
    }
}
