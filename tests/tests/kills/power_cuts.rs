//! Row 69: the power goes, and writes that nobody waited for are lost, in an
//! order that nobody chose. No wrong byte is ever published.
//!
//! The cuts are real: the file system is shut down under the running command,
//! with or without its log flushed, and mounted again. That needs root; see
//! [`haul_tests::disk`]. `HAUL_POWER_CUTS=N` makes N random cuts; without it there are
//! 10, and ten times as many with `HAUL_THOROUGH=10`.

use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use haul_tests::disk::{Disk, Format};
use haul_tests::harness::make_fifo;
use haul_tests::prelude::*;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

const SIZE: u64 = 16 * MIB + 4321;
/// Of each of the four connections: the object then takes two seconds, and a
/// checkpoint is written after one.
const RATE: u64 = 2 * MIB;
/// What maps where that is possible, and what never does.
const STORAGES: [&str; 2] = ["auto", "pwrite"];

fn command(sandbox: &Sandbox, origin: &Origin, storage: &str) -> Haul {
    haul!(sandbox)
        .args(["-x", "4", "-o", "file", "--segment-size", "1M", "--storage", storage])
        .arg(origin.url("/file"))
}

/// A disk with room for two objects of this size.
fn disk(format: Format, size: u64) -> Option<Disk> {
    Disk::new(format, format.least_bytes().max(2 * size + 32 * MIB))
}

/// Runs `test` for each journaled file system at the same time: most of a cut
/// is waiting.
fn on_each(test: impl Fn(Format) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for format in Format::JOURNALED {
            scope.spawn(move || test(format));
        }
    });
}

/// What is left after a cut, and what the same command makes of it.
enum After {
    /// It had been published, rightly.
    Published,
    /// The same command went on.
    Continued(Outcome),
}

/// Judges what a run that ended with `outcome` left on the disk that came back,
/// and runs the same command again unless nothing is left to be done.
#[track_caller]
fn judge(
    sandbox: &Sandbox,
    object: &Object,
    outcome: &Outcome,
    again: impl FnOnce() -> Haul,
    what: &str,
) -> After {
    let path = sandbox.path("file");
    if path.exists() {
        object.compare_file(&path).unwrap_or_else(|wrong| {
            panic!("a wrong file was published: {wrong}; {what}\n{outcome}")
        });
        // The checkpoint goes last, so it may still be here.
        let others: Vec<_> = sandbox.files().into_iter().filter(|name| name != "file").collect();
        assert!(others.iter().all(|name| name.starts_with("file.ha")), "{others:?}; {what}");
        return After::Published;
    }
    assert_ne!(outcome.code, 0, "it said it was complete, and it is gone; {what}\n{outcome}");
    let next = again().run();
    assert_eq!(next.code, 0, "the same command does not go on; {what}\n{next}\nbefore:{outcome}");
    if let Err(wrong) = object.compare_file(&path) {
        panic!("a wrong file was published: {wrong}; {what}\n{next}\nbefore:{outcome}");
    }
    sandbox.assert_published("file", object);
    After::Continued(next)
}

/// When a cut comes.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after the start.
    Started(Duration),
    /// So long after the origin sent the last byte: the command then syncs,
    /// renames and cleans up.
    Sent(Duration),
}

impl Moment {
    fn random(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Sent(Duration::from_millis(random.below(80))),
            _ => Self::Started(Duration::from_millis(random.below(2400))),
        }
    }

    /// Waits for it, whatever the command does meanwhile.
    fn wait(self, origin: &Origin, object: &Object) {
        let delay = match self {
            Self::Started(delay) => delay,
            Self::Sent(delay) => {
                origin.wait_until("all is sent", |it| it.sent_bytes() >= object.size_bytes());
                delay
            }
        };
        let now = Instant::now();
        // The moment itself is the random choice: nothing is awaited by this.
        thread::sleep(delay.saturating_sub(now.elapsed()));
    }
}

/// What all cuts came to.
#[derive(Debug, Default)]
struct Tally {
    cuts: u32,
    /// Of runs that had not ended by themselves.
    midway: u32,
    /// The file was there when the disk came back.
    published: u32,
    /// The second run believed something of the first.
    resumed: u32,
    /// The second run found a lost segment by its hash.
    refetched: u32,
}

impl Tally {
    fn add(&mut self, midway: bool, after: &After) {
        self.cuts += 1;
        self.midway += u32::from(midway);
        match after {
            After::Published => self.published += 1,
            After::Continued(outcome) => {
                self.resumed += u32::from(outcome.resumed_bytes() > 0);
                self.refetched += u32::from(outcome.has_notice("refetch"));
            }
        }
    }
}

/// A throttled download, its disk shut down under it at `moment`, the disk
/// mounted again, and the same command once more.
fn cut(
    disk: &mut Disk,
    object: &Object,
    random: &mut Random,
    moment: Moment,
    tally: &Mutex<Tally>,
) {
    let (storage, flush, kill) =
        (STORAGES[random.below(2) as usize], (random.below(2) == 0), (random.below(2) == 0));
    let what = format!(
        "{:?} {storage}, cut {moment:?}, log flush {flush}, killed {kill}, {random:?}",
        disk.format()
    );
    let throttle = Throttle::new(RATE);
    let origin = Origin::throttled(object, &throttle);
    let sandbox = disk.sandbox();
    let running = command(&sandbox, &origin, storage).start();
    moment.wait(&origin, object);
    disk.shutdown(flush);
    if kill {
        running.signal(Signal::KILL);
    }
    // A run that lives on sees a disk that fails.
    let outcome = running.finish();
    assert!([0, 3, 137].contains(&outcome.code), "{what}\n{outcome}");
    disk.remount();
    throttle.lift();
    let after = judge(&sandbox, object, &outcome, || command(&sandbox, &origin, storage), &what);
    tally.lock().expect("nobody panics with it").add(outcome.code != 0, &after);
}

#[test]
fn fault_069_cuts_at_random_instants_never_publish_a_wrong_byte() {
    let cuts: u64 = std::env::var("HAUL_POWER_CUTS")
        .map_or(rounds(100), |number| number.parse().expect("HAUL_POWER_CUTS is a number"));
    let (random, tally) = (Random::new(), Mutex::new(Tally::default()));
    on_each(|format| {
        let Some(mut disk) = disk(format, SIZE) else { return };
        let mut random = random.part(format as u64);
        for number in 0..cuts.div_ceil(4) {
            let moment = Moment::random(&mut random);
            cut(&mut disk, &Object::new(number, SIZE), &mut random, moment, &tally);
        }
    });
    let tally = tally.into_inner().expect("nobody panics with it");
    if tally.cuts > 0 {
        let told = format!("power cuts: {tally:?}, {random:?}\n");
        let _ = std::io::stderr().write_all(told.as_bytes());
    }
    if tally.cuts >= 40 {
        assert!(tally.midway >= tally.cuts / 2, "most came too late: {tally:?}");
        assert!(tally.refetched > 0, "no cut lost what a checkpoint had: {tally:?}");
    }
}

/// Segments that a checkpoint calls complete but that were not synced come back
/// as zeros: only their hash tells.
#[test]
fn fault_069_lost_segments_are_found_by_their_hash() {
    on_each(|format| {
        let Some(mut disk) = disk(format, SIZE) else { return };
        let object = Object::new(1, SIZE);
        // It crawls to the end, so that a run meets three checkpoints for sure.
        let throttle = Throttle::new(RATE).crawling_after(12 * MIB);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = disk.sandbox();
        // The checkpoint of the second second is not written: it ends there.
        let first =
            command(&sandbox, &origin, "auto").env("HAUL_FAIL_AT", "stage-checkpoint@3=EIO").run();
        first.expect(3);
        let written = fs::read(sandbox.checkpoint("file")).expect("it is kept");
        disk.shutdown(false);
        disk.remount();
        let survived = fs::read(sandbox.checkpoint("file")).ok();
        throttle.lift();
        let next = command(&sandbox, &origin, "auto").run();
        next.expect(0);
        let resumed = next.resumed_bytes();
        assert!(resumed >= MIB, "{format:?}: a second of work is forgotten\n{next}\n{first}");
        assert_eq!(survived, Some(written), "{format:?}: an older checkpoint came back\n{first}");
        // A journal for data takes the data before a checkpoint to the disk with it.
        if format != Format::Ext4Journal {
            next.expect_notice("refetch");
        }
        sandbox.assert_published("file", &object);
    });
}

/// With a journal for data, a checkpoint takes the data before it to the disk.
#[test]
fn fault_069_a_cut_costs_no_more_than_what_came_after_the_last_checkpoint() {
    let Some(mut disk) = disk(Format::Ext4Journal, SIZE) else { return };
    let object = Object::new(1, SIZE);
    // It crawls to the end, so that a run meets three checkpoints for sure.
    let throttle = Throttle::new(RATE).crawling_after(12 * MIB);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = disk.sandbox();
    let run = || command(&sandbox, &origin, "pwrite");
    run().env("HAUL_FAIL_AT", "stage-checkpoint@3=EIO").run().expect(3);
    disk.shutdown(false);
    disk.remount();
    throttle.lift();
    let next = run().run();
    next.expect(0);
    let resumed = next.resumed_bytes();
    assert!(resumed >= MIB, "a checkpoint was lost with the power\n{next}");
    assert!(!next.has_notice("refetch"), "{next}");
    let fetched = next.fetched_bytes();
    assert!(fetched <= SIZE - resumed + 4 * MIB, "{fetched} bytes are too many\n{next}");
    sandbox.assert_published("file", &object);
}

/// The end of the process is the promise: what it published stays.
#[test]
fn fault_069_published_file_survives_a_cut_at_once() {
    on_each(|format| {
        let Some(mut disk) = disk(format, SIZE) else { return };
        for (number, storage) in STORAGES.into_iter().enumerate() {
            let object = Object::new(number as u64, SIZE);
            let origin = Origin::serving(&object);
            let sandbox = disk.sandbox();
            let outcome = command(&sandbox, &origin, storage).run();
            disk.shutdown(false);
            outcome.expect(0);
            disk.remount();
            let what = format!("{format:?} {storage}");
            assert_eq!(sandbox.files().first().map(String::as_str), Some("file"), "{what}");
            if let Err(wrong) = object.compare_file(&sandbox.path("file")) {
                panic!("{what}: {wrong}\n{outcome}");
            }
        }
    });
}

/// Every call that changes the disk, from the first to the last, is one before
/// which the power goes.
#[test]
fn fault_069_cut_before_each_persistence_call_of_a_small_download() {
    const MOST_CALLS: u32 = 200;
    on_each(|format| {
        let Some(mut disk) = disk(format, MIB) else { return };
        let object = Object::new(1, 300_000);
        let origin = Origin::serving(&object);
        let mut complete = 0;
        for call in 1.. {
            assert!(call < MOST_CALLS, "there is no end of it");
            let flush = call % 2 == 0;
            let sandbox = disk.sandbox();
            let run = || command(&sandbox, &origin, STORAGES[call as usize / 2 % 2]);
            let outcome = run().env("HAUL_KILL_AT", call.to_string()).run();
            outcome.expect_one_of(&[0, 137]);
            disk.shutdown(flush);
            disk.remount();
            let what = format!("{format:?}, killed before call {call}, log flush {flush}");
            judge(&sandbox, &object, &outcome, run, &what);
            // A run may have fewer calls than the one before: it reads in other pieces.
            complete += u32::from(outcome.code == 0);
            if complete == 3 {
                assert!(call > 12, "there are more calls than {call}");
                break;
            }
        }
    });
}

/// A process may outlive its disk, as one does whose disk is pulled: at each call that
/// changes it, the disk goes, and the command that goes on is complete only if that lasts.
#[test]
fn fault_069_what_outlives_its_disk_says_nothing_wrong() {
    const MOST_CALLS: u32 = 200;
    on_each(|format| {
        let Some(mut disk) = disk(format, MIB) else { return };
        let object = Object::new(1, 300_000);
        let origin = Origin::serving(&object);
        let elsewhere = Sandbox::new();
        let mut undisturbed = 0;
        for call in 1.. {
            assert!(call < MOST_CALLS, "there is no end of it");
            let sandbox = disk.sandbox();
            let run = || command(&sandbox, &origin, STORAGES[call as usize % 2]);
            let gate = Gate::new(elsewhere.path(&format!("gate-{call}")));
            let mut running =
                run().env("HAUL_WAIT_AT", format!("{call}={}", gate.path.display())).start();
            let waits = loop {
                if let Some(held) = gate.try_hold() {
                    break Some(held);
                }
                if running.has_ended() {
                    break None;
                }
                thread::sleep(Duration::from_millis(1));
            };
            disk.shutdown(false);
            undisturbed += u32::from(waits.is_none());
            drop(waits);
            let outcome = running.finish();
            outcome.expect_one_of(&[0, 3]);
            disk.remount();
            let what = format!("{format:?}, the disk goes before call {call}");
            judge(&sandbox, &object, &outcome, run, &what);
            // A run may have fewer calls than the one before: it reads in other pieces.
            if undisturbed == 3 {
                assert!(call > 12, "there are more calls than {call}");
                break;
            }
        }
    });
}

/// A FIFO at which a call of the command waits.
struct Gate {
    path: PathBuf,
}

impl Gate {
    fn new(path: PathBuf) -> Self {
        make_fifo(&path);
        Self { path }
    }

    /// Holds the call that waits, if one does, until what this returns is dropped.
    fn try_hold(&self) -> Option<OwnedFd> {
        match rustix::fs::open(&self.path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()) {
            Ok(held) => Some(held),
            Err(Errno::NXIO) => None,
            Err(error) => panic!("{}: {error}", self.path.display()),
        }
    }
}

/// What a background sync made durable is believed without hashing, so it must
/// be there. The first such sync comes after ten seconds.
#[test]
fn fault_069_synced_segments_survive_a_cut() {
    const LARGE: u64 = 48 * MIB + 77;
    const SLOWER: u64 = 3 * MIB / 4;
    let (random, fewest) = (Random::new(), Mutex::new(u64::MAX));
    on_each(|format| {
        let Some(mut disk) = disk(format, LARGE) else { return };
        let mut random = random.part(format as u64);
        let object = Object::new(1, LARGE);
        let throttle = Throttle::new(SLOWER).crawling_after(42 * MIB);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = disk.sandbox();
        let running = command(&sandbox, &origin, "pwrite").start();
        let moment = Moment::Started(Duration::from_millis(11_500 + random.below(1500)));
        moment.wait(&origin, &object);
        disk.shutdown(false);
        running.signal(Signal::KILL);
        let outcome = running.finish();
        disk.remount();
        throttle.lift();
        let what = format!("{format:?}, {moment:?}, {random:?}");
        let run = || command(&sandbox, &origin, "pwrite");
        let After::Continued(next) = judge(&sandbox, &object, &outcome, run, &what) else {
            panic!("it cannot have been published; {what}\n{outcome}");
        };
        if format != Format::Ext4Journal {
            let mut fewest = fewest.lock().expect("nobody panics with it");
            *fewest = (*fewest).min(next.fetched_bytes());
        }
    });
    let fewest = fewest.into_inner().expect("nobody panics with it");
    // Ten seconds of a busy machine bring 12 MiB at least.
    assert!(fewest == u64::MAX || fewest <= LARGE - 12 * MIB, "nothing was synced: {fewest}");
}
