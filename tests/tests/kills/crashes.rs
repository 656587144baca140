//! SIGKILL, at every call that changes what is on disk and at random instants
//! (fault 68). `HAUL_KILLS=N` asks for N kills; without it there are 50,
//! and ten times as many with `HAUL_THOROUGH=10`.
//!
//! After each kill the final name holds one complete version or is absent, and
//! the same command ends with the right file. Between the rename of NAME.part
//! to NAME and the removal of NAME.haul the file is complete: the same command
//! then says so and removes the checkpoint that was left, which harms no later
//! download to the name either.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use haul_tests::harness::age_of;
use haul_tests::prelude::*;

/// Threads that run the command: most of the time it waits for the disk.
const WORKERS: usize = 4;

/// The exit code after SIGKILL.
const KILLED: i32 = 137;

/// Kills in this file, half of them at calls and half at random instants.
fn wanted_kills() -> usize {
    let wanted = std::env::var("HAUL_KILLS").ok();
    wanted.map_or(rounds(500) as usize, |wanted| wanted.parse().expect("HAUL_KILLS is a number"))
}

/// What is there before the command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Nothing, and it is of a list, where a small object is all or nothing.
    Listed,
    /// A file at the name, which is to be replaced.
    OldFile,
    /// The partial of an interrupted run.
    Partial,
    /// The checkpoint of a published file that was moved away since.
    StaleCheckpoint,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    size_bytes: u64,
    args: &'static [&'static str],
    checksum: bool,
    before: Before,
}

const TINY: u64 = 60_001;
const SMALL: u64 = 300_001;
const LARGE: u64 = 3 * MIB + 4321;
/// Several segments and several connections.
const SPLIT: [&str; 6] = ["-x", "3", "--segment-size", "1M", "--storage", "pwrite"];
/// With the usual storage, the mapped file.
const SPLIT_MAPPED: [&str; 4] = ["-x", "3", "--segment-size", "1M"];
const SPLIT_UNSYNCED: [&str; 5] = ["-x", "3", "--segment-size", "1M", "--no-sync"];

const SHAPES: [Shape; 13] = [
    Shape { size_bytes: TINY, args: &[], checksum: true, before: Before::Nothing },
    Shape { size_bytes: TINY, args: &[], checksum: false, before: Before::Listed },
    Shape { size_bytes: SMALL, args: &[], checksum: false, before: Before::Nothing },
    Shape { size_bytes: SMALL, args: &["--no-sync"], checksum: false, before: Before::Nothing },
    Shape { size_bytes: 0, args: &[], checksum: false, before: Before::Nothing },
    Shape { size_bytes: LARGE, args: &SPLIT, checksum: false, before: Before::Nothing },
    Shape { size_bytes: LARGE, args: &SPLIT_MAPPED, checksum: true, before: Before::Nothing },
    Shape { size_bytes: LARGE, args: &SPLIT_UNSYNCED, checksum: false, before: Before::Nothing },
    Shape { size_bytes: LARGE, args: &SPLIT, checksum: true, before: Before::Partial },
    Shape { size_bytes: LARGE, args: &SPLIT_MAPPED, checksum: false, before: Before::Partial },
    Shape { size_bytes: LARGE, args: &SPLIT_UNSYNCED, checksum: false, before: Before::Partial },
    Shape { size_bytes: SMALL, args: &["--overwrite"], checksum: true, before: Before::OldFile },
    Shape { size_bytes: LARGE, args: &SPLIT, checksum: false, before: Before::StaleCheckpoint },
];

/// A shape with its origin and what it needs to begin.
struct Scene {
    shape: Shape,
    object: Object,
    old: Object,
    origin: Origin,
    /// NAME.part and NAME.haul to begin with, and how much of the object is in
    /// them.
    partial: Option<Vec<u8>>,
    checkpoint: Option<Vec<u8>>,
    had_bytes: u64,
    list: tempfile::NamedTempFile,
}

impl Scene {
    fn new(shape: Shape) -> Self {
        let object = Object::new(1, shape.size_bytes);
        let throttle = Throttle::new(MIB / 2).crawling_after(3 * MIB / 2);
        let origin = Origin::throttled(&object, &throttle);
        let old = Object::new(9, 5000);
        let list = tempfile::NamedTempFile::new().unwrap();
        fs::write(list.path(), format!("{}\n out=file\n", origin.url("/file"))).unwrap();
        let (partial, checkpoint, had_bytes) = (None, None, 0);
        let mut scene = Self { shape, object, old, origin, partial, checkpoint, had_bytes, list };
        match shape.before {
            Before::Nothing | Before::Listed | Before::OldFile => throttle.lift(),
            Before::Partial => {
                let sandbox = Sandbox::new();
                interrupt(scene.command(&sandbox), MIB);
                scene.partial = Some(fs::read(sandbox.part("file")).unwrap());
                scene.checkpoint = Some(fs::read(sandbox.checkpoint("file")).unwrap());
                throttle.lift();
                let outcome = scene.command(&sandbox).run();
                scene.had_bytes = outcome.expect(0).resumed_bytes();
                assert!(scene.had_bytes >= MIB, "{outcome}");
            }
            Before::StaleCheckpoint => {
                throttle.lift();
                scene.checkpoint = Some(scene.checkpoint_of_a_published_file());
            }
        }
        scene
    }

    /// A kill after the rename leaves it: it says that every segment is there.
    fn checkpoint_of_a_published_file(&self) -> Vec<u8> {
        // Runs differ in their number of calls, so one series may miss the place.
        for nth in (1..=100).cycle().take(2000) {
            let sandbox = Sandbox::new();
            let outcome = self.command(&sandbox).env("HAUL_KILL_AT", nth.to_string()).run();
            if outcome.code == KILLED && sandbox.path("file").exists() {
                return fs::read(sandbox.checkpoint("file")).unwrap();
            }
        }
        panic!("no kill leaves the checkpoint of a published file");
    }

    fn all_or_nothing(&self) -> bool {
        self.shape.before == Before::Listed
    }

    fn command(&self, sandbox: &Sandbox) -> Haul {
        if self.shape.before == Before::Listed {
            return haul!(sandbox).args(self.shape.args).arg("-i").arg(self.list.path());
        }
        let haul = haul!(sandbox).args(["-o", "file"]).args(self.shape.args);
        let digest = format!("blake3={}", self.object.blake3_hex());
        let checksum = self.shape.checksum.then(|| ["--checksum".to_owned(), digest]);
        haul.args(checksum.into_iter().flatten()).arg(self.origin.url("/file"))
    }

    fn sandbox(&self) -> Sandbox {
        let sandbox = Sandbox::new();
        if self.shape.before == Before::OldFile {
            sandbox.write("file", self.old.bytes(0..self.old.size_bytes()));
        }
        for (path, bytes) in
            [(sandbox.part("file"), &self.partial), (sandbox.checkpoint("file"), &self.checkpoint)]
        {
            if let Some(bytes) = bytes {
                fs::write(&path, bytes).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
        sandbox
    }

    /// Judges what a kill left: whether the new file is published.
    fn published(&self, sandbox: &Sandbox, may_be_nothing: bool, why: &str) -> bool {
        let known = ["file", "file.part", "file.haul", "file.hau~"];
        let files = sandbox.files();
        assert!(files.iter().all(|file| known.contains(&file.as_str())), "{files:?}, {why}");

        let published = self.object.compare_file(&sandbox.path("file"));
        if self.shape.before == Before::OldFile {
            if let (Err(new), Err(old)) = (&published, self.old.compare_file(&sandbox.path("file")))
            {
                panic!("neither the old file nor the new one: {old}; {new}, {why}");
            }
        } else if sandbox.path("file").exists() {
            published.as_ref().unwrap_or_else(|difference| panic!("{difference}, {why}"));
        }
        if self.all_or_nothing() && published.is_err() {
            assert!(files.is_empty(), "a small object left {files:?}, {why}");
        }
        let part = fs::metadata(sandbox.part("file")).ok();
        match (&published, &part) {
            (Ok(()), Some(_)) => panic!("published, and a partial claims more to do: {why}"),
            (Err(_), None) if self.all_or_nothing() => {}
            (Err(_), None) => assert!(may_be_nothing, "neither file nor partial: {why}"),
            _ => {}
        }
        if let Some(part) = part {
            let mode = part.permissions().mode() & 0o777;
            // Publishing gives the complete file its mode before its name.
            let complete = || self.object.compare_file(&sandbox.part("file")).is_ok();
            assert!(mode == 0o600 || complete(), "mode {mode:o} of the partial, {why}");
            assert!(
                part.len() == 0 || sandbox.checkpoint("file").exists(),
                "the next run will take the partial for a foreign one: {why}"
            );
        }
        published.is_ok()
    }

    /// Runs the same command after a kill.
    fn continued(&self, sandbox: &Sandbox, published: bool, why: &str) {
        let run = || self.command(sandbox).run();
        if published && self.shape.before != Before::OldFile {
            let stale = fs::read(sandbox.checkpoint("file")).ok();
            let outcome = run();
            assert_eq!(outcome.code, 0, "{why}\n{outcome}");
            assert_eq!(outcome.event("complete")["unchanged"], true, "{why}\n{outcome}");
            assert_eq!(sandbox.files(), ["file"], "{why}\n{outcome}");
            self.object.compare_file(&sandbox.path("file")).unwrap();
            // The user moves the file away and wants it again.
            if let Some(stale) = stale {
                fs::remove_file(sandbox.path("file")).unwrap();
                fs::write(sandbox.checkpoint("file"), stale).unwrap();
                let outcome = run();
                self.assert_complete(sandbox, &outcome, why);
                assert_eq!(outcome.resumed_bytes(), 0, "a stale checkpoint: {why}\n{outcome}");
            }
        } else {
            let outcome = run();
            self.assert_complete(sandbox, &outcome, why);
            if !published {
                let resumed = outcome.resumed_bytes();
                assert!(resumed >= self.had_bytes, "{} before, {why}\n{outcome}", self.had_bytes);
            }
        }
    }

    fn assert_complete(&self, sandbox: &Sandbox, outcome: &Outcome, why: &str) {
        assert_eq!(outcome.code, 0, "{why}\n{outcome}");
        sandbox.assert_published("file", &self.object);
        assert_eq!(outcome.event("complete")["blake3"], self.object.blake3_hex(), "{why}");
    }

    /// Kills at the first call, then at the second, and so on, until a run ends
    /// by itself. Returns the number of kills, and of those after publishing.
    fn kill_at_every_call(&self) -> (usize, usize) {
        let mut after_publishing = 0;
        for nth in 1_usize.. {
            let sandbox = self.sandbox();
            let outcome = self.command(&sandbox).env("HAUL_KILL_AT", nth.to_string()).run();
            if outcome.code != KILLED {
                self.assert_complete(&sandbox, &outcome, "nothing killed it");
                assert_well_asked(&self.origin);
                return (nth - 1, after_publishing);
            }
            let why = format!("killed at call {nth}, {:?}", self.shape);
            // The first checkpoint comes before the partial.
            let may_be_nothing = nth <= 8 && self.shape.before != Before::Partial;
            let published = self.published(&sandbox, may_be_nothing, &why);
            after_publishing += usize::from(published);
            self.continued(&sandbox, published, &why);
        }
        unreachable!("the numbers do not end")
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "tells how many kills there were")]
fn fault_068_killed_at_every_call_that_changes_the_disk() {
    let next = AtomicUsize::new(0);
    let (kills, published) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let scenes: Vec<Scene> = SHAPES.into_iter().map(Scene::new).collect();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let again = number >= scenes.len();
                    if again && kills.load(Ordering::Relaxed) >= wanted_kills() / 2 {
                        break;
                    }
                    let scene = &scenes[number % scenes.len()];
                    let (done, after_publishing) = scene.kill_at_every_call();
                    println!("{done} kills of {:?}", scene.shape);
                    let few = if scene.all_or_nothing() { 5 } else { 8 };
                    assert!(done >= few, "few calls to be killed at: {:?}", scene.shape);
                    kills.fetch_add(done, Ordering::Relaxed);
                    published.fetch_add(after_publishing, Ordering::Relaxed);
                }
            });
        }
    });
    let (kills, published) = (kills.into_inner(), published.into_inner());
    println!("{kills} kills, {published} of them after publishing");
    assert!(published >= 5, "the instants after publishing were missed");
}

/// What a kill may cost: what came after the last checkpoint, which is at most
/// a second old, for each connection the segment that was not complete, and
/// half a second for a busy machine, or as much longer as the checkpoint's `age` shows that
/// it let nothing be written.
fn lost_at_most(connections: u64, bytes_per_second: u64, age: Duration) -> u64 {
    let seconds = age.as_secs_f64().max(1.5);
    connections * MIB + (bytes_per_second as f64 * seconds) as u64
}

/// Kills one download after the other at random instants until `kills` ran out.
/// Throttled ones are killed several times each, and lose little each time.
fn kill_at_random(random: &mut Random, shape: Shape, throttled: bool, kills: &AtomicUsize) {
    const RATE: u64 = MIB;
    const CONNECTIONS: u64 = 3;
    // Of what was lost in the last kill.
    let mut bound = 0;
    loop {
        let mut scene = Scene::new(shape);
        let throttle = Throttle::new(RATE);
        if throttled {
            scene.origin = Origin::throttled(&scene.object, &throttle);
        }
        // A life is chosen from the time that an undisturbed run takes.
        let lives = if throttled {
            Duration::from_millis(2000)
        } else {
            let started = Instant::now();
            scene.command(&scene.sandbox()).run().expect(0);
            started.elapsed()
        };
        let sandbox = scene.sandbox();
        let mut had = scene.had_bytes;
        loop {
            let last = kills
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if last.is_err() {
                throttle.lift();
                scene.continued(&sandbox, false, "the last run");
                return;
            }
            let sent_before = scene.origin.sent_bytes();
            let life = Duration::from_micros(random.below(lives.as_micros() as u64));
            let running = scene.command(&sandbox).start();
            thread::sleep(life);
            running.signal(Signal::KILL);
            let outcome = running.finish();
            if outcome.code == 0 {
                scene.assert_complete(&sandbox, &outcome, "it was faster");
                break;
            }
            let why = format!("killed after {life:?}, {random:?}, {shape:?}");
            assert_eq!(outcome.code, KILLED, "{why}\n{outcome}");
            let age = age_of(&sandbox.checkpoint("file"));
            let may_be_nothing = outcome.all("start").count() == 0 && had == 0;
            if scene.published(&sandbox, may_be_nothing, &why) {
                scene.continued(&sandbox, true, &why);
                break;
            }
            // Killed before it said how much is there: nothing is known of this run.
            if let Some(start) = outcome.all("start").next() {
                let resumed = start["resumed_bytes"].as_u64().expect("bytes");
                assert!(resumed + bound >= had, "{resumed} of {had} are left, {why}\n{outcome}");
                had = resumed + scene.origin.sent_bytes() - sent_before;
                bound = lost_at_most(CONNECTIONS, CONNECTIONS * RATE, age);
            }
            if !throttled {
                scene.continued(&sandbox, false, &why);
                break;
            }
        }
    }
}

#[test]
fn fault_068_killed_at_random_instants() {
    const DOWNLOAD: u64 = 24 * MIB + 77;
    let random = Random::new();
    let kills = AtomicUsize::new(wanted_kills() / 2);
    thread::scope(|scope| {
        for worker in 0..2 * WORKERS {
            let (mut random, kills) = (random.part(worker as u64), &kills);
            // Fast ones are hit while they open and publish.
            let throttled = worker % 4 != 0;
            let shape = match (throttled, worker % 3) {
                (false, _) => SHAPES[3 + random.below(3) as usize],
                (true, 0) => Shape { size_bytes: DOWNLOAD, args: &SPLIT, ..SHAPES[3] },
                (true, 1) => Shape { size_bytes: DOWNLOAD, args: &SPLIT_MAPPED, ..SHAPES[3] },
                (true, _) => Shape { size_bytes: DOWNLOAD, args: &SPLIT_UNSYNCED, ..SHAPES[3] },
            };
            scope.spawn(move || kill_at_random(&mut random, shape, throttled, kills));
        }
    });
}
