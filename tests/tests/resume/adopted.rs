//! Files that another program began (`-c=always`): continued where they are shown to be of
//! the object, and otherwise left, or given back, byte by byte.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use haul_tests::prelude::*;

const SIZE: u64 = 9 * MIB + 4321;
/// What is fetched again to compare, at most, with the byte that tells what the object is.
const SAMPLES: u64 = 3 * MIB + 1;
const KILLED: i32 = 137;

fn plain(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file.iso"]).arg(origin.url("/file.iso"))
}

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    plain(sandbox, origin).arg("-c=always")
}

fn digest(object: &Object) -> String {
    format!("--checksum=blake3={}", object.blake3_hex())
}

/// Everything of a file that its owner may miss.
#[derive(Debug, PartialEq, Eq)]
struct State {
    name: String,
    bytes: Vec<u8>,
    mode: u32,
    modified: SystemTime,
    number: u64,
}

fn states(sandbox: &Sandbox) -> Vec<State> {
    let state = |name: String| {
        let path = sandbox.path(&name);
        let found = fs::metadata(&path).unwrap();
        State {
            bytes: fs::read(&path).unwrap(),
            mode: found.mode() & 0o7777,
            modified: found.modified().unwrap(),
            number: found.ino(),
            name,
        }
    };
    sandbox.files().into_iter().map(state).collect()
}

#[track_caller]
fn assert_same(before: &[State], sandbox: &Sandbox, outcome: &Outcome) {
    let after = states(sandbox);
    let names = |of: &[State]| of.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(before), names(&after), "{outcome}");
    for (one, other) in before.iter().zip(&after) {
        assert!(one == other, "{} is not as it was\n{outcome}", one.name);
    }
}

/// Exit 3, words, and every file as it was.
#[track_caller]
fn assert_left(sandbox: &Sandbox, haul: Haul, words: &str) -> Outcome {
    let before = states(sandbox);
    let outcome = haul.run();
    outcome.expect(3);
    assert!(outcome.text().contains(words), "{words:?} is not in {outcome}");
    assert!(outcome.text().contains("hint"), "{outcome}");
    assert_same(&before, sandbox, &outcome);
    outcome
}

/// The object is there and nothing else, and no more was fetched than what was missing, and
/// the samples.
#[track_caller]
fn assert_continued(outcome: &Outcome, sandbox: &Sandbox, had: u64) {
    outcome.expect(0).expect_notice("adopted");
    sandbox.assert_published("file.iso", &object(SIZE));
    assert_eq!(outcome.event("complete")["blake3"], object(SIZE).blake3_hex());
    assert!(outcome.resumed_bytes() + MIB > had, "{} of {had}\n{outcome}", outcome.resumed_bytes());
    let most = SIZE - outcome.resumed_bytes() + SAMPLES.min(had + 1) + MIB / 2;
    assert!(outcome.fetched_bytes() <= most, "{} > {most}\n{outcome}", outcome.fetched_bytes());
}

fn prefix(len: u64) -> Vec<u8> {
    object(SIZE).bytes(0..len)
}

/// With one wrong byte.
fn wrong(len: u64, at: u64) -> Vec<u8> {
    let mut bytes = prefix(len);
    bytes[at as usize] ^= 1;
    bytes
}

// ---- curl, wget ----

#[test]
fn a_prefix_is_continued_where_it_ends() {
    for len in [1, 1000, MIB, 3 * MIB, 3 * MIB + 1, 7 * MIB + 123, SIZE - 1] {
        let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
        sandbox.write("file.iso", prefix(len));
        let outcome = command(&sandbox, &origin).run();
        assert_continued(&outcome, &sandbox, len);
        assert_eq!(outcome.resumed_bytes(), len, "{outcome}");
        assert_well_asked(&origin);
        let mode = fs::metadata(sandbox.path("file.iso")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644 & !umask(), "the usual mode of a file");
    }
}

fn umask() -> u32 {
    let probe = tempfile::tempdir().unwrap();
    let file = File::create(probe.path().join("probe")).unwrap();
    !file.metadata().unwrap().mode() & 0o777
}

#[test]
fn each_way_of_asking_for_it_does_it() {
    for words in [&["-C", "-"][..], &["--continue=always"], &["-c=foreign"]] {
        let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
        sandbox.write("file.iso", prefix(5 * MIB));
        // Named by the URL alone.
        let outcome = haul!(sandbox).args(words).arg(origin.url("/file.iso")).run();
        assert_continued(&outcome, &sandbox, 5 * MIB);
    }
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    sandbox.write("file.iso", prefix(5 * MIB));
    for words in [&[][..], &["-c"], &["-c=auto"], &["-c=never"]] {
        let haul = plain(&sandbox, &origin).args(words);
        let outcome = assert_left(&sandbox, haul, "file.iso");
        assert!(outcome.text().contains("-c=always"), "{words:?}: it says how\n{outcome}");
    }
    let haul = plain(&sandbox, &origin).args(["-c=always", "--existing=error"]);
    assert_left(&sandbox, haul, "file.iso");
    let before = states(&sandbox);
    let outcome = command(&sandbox, &origin).arg("--dry-run").run();
    assert_same(&before, &sandbox, outcome.expect(0));
}

#[test]
fn a_byte_that_differs_where_it_is_compared_leaves_everything() {
    let len = 8 * MIB;
    for at in [0, MIB - 1, len - MIB, len - 1] {
        let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
        let path = sandbox.write("file.iso", wrong(len, at));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let outcome = assert_left(&sandbox, command(&sandbox, &origin), "is not the same");
        outcome.expect_message("file.iso");
        assert_eq!(outcome.event("error")["code"], "output-exists");
        // A digest makes it no better.
        let haul = command(&sandbox, &origin).arg(digest(&object(SIZE)));
        assert_left(&sandbox, haul, "is not the same");
    }
    // What may be replaced is.
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    sandbox.write("file.iso", wrong(len, 0));
    let outcome = command(&sandbox, &origin).arg("--overwrite").run();
    outcome.expect(0).expect_notice("restarted");
    sandbox.assert_published("file.iso", &object(SIZE));
}

/// One byte in eight MiB may be missed by the samples: a digest finds it.
#[test]
fn a_digest_that_differs_in_the_end_gives_the_file_back() {
    let other = Object::new(2, SIZE);
    for name in ["file.iso", "file.iso.crdownload", "file.iso.part"] {
        let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
        let path = sandbox.write(name, prefix(8 * MIB));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let before = states(&sandbox);
        let outcome = command(&sandbox, &origin).arg(digest(&other)).run();
        // Where the file is in nobody's way, all of the object is fetched before the end.
        outcome.expect(9).expect_message("file.iso").expect_notice("adopted");
        assert!(outcome.text().contains("as it was before"), "{outcome}");
        assert_same(&before, &sandbox, &outcome);
        let right = command(&sandbox, &origin).arg(digest(&object(SIZE))).run();
        assert_continued(&right, &sandbox, 8 * MIB);
    }
    for _ in 0..3 {
        let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
        sandbox.write("file.iso", wrong(8 * MIB, 4 * MIB));
        let before = states(&sandbox);
        let outcome = command(&sandbox, &origin).arg(digest(&object(SIZE))).run();
        outcome.expect_one_of(&[3, 9]);
        assert_same(&before, &sandbox, &outcome);

        let sandbox = Sandbox::new();
        sandbox.write("file.iso.crdownload", wrong(8 * MIB, 4 * MIB));
        let outcome = command(&sandbox, &origin).arg(digest(&object(SIZE))).run();
        if outcome.expect_one_of(&[0, 3]).code == 0 {
            assert_eq!(sandbox.files(), ["file.iso", "file.iso.crdownload"], "{outcome}");
            object(SIZE).compare_file(&sandbox.path("file.iso")).unwrap();
        }
        let left = fs::read(sandbox.path("file.iso.crdownload")).unwrap();
        assert!(left == wrong(8 * MIB, 4 * MIB), "{outcome}");
    }
}

#[test]
fn a_file_with_a_hole_was_not_written_in_order() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    let file = File::create(sandbox.path("file.iso")).unwrap();
    // So little that the samples mostly miss it.
    file.write_all_at(&prefix(4 * MIB), 0).unwrap();
    let after = 4 * MIB + 65_536;
    file.write_all_at(&object(SIZE).bytes(after..8 * MIB), after).unwrap();
    drop(file);
    assert_left(&sandbox, command(&sandbox, &origin), "was not written in order");
}

#[test]
fn what_is_larger_or_of_the_same_size_is_judged_as_ever() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    sandbox.write("file.iso", [prefix(SIZE), vec![0]].concat());
    assert_left(&sandbox, command(&sandbox, &origin), "file.iso exists");
    sandbox.write("file.iso", prefix(SIZE));
    let outcome = command(&sandbox, &origin).arg(digest(&object(SIZE))).run();
    outcome.expect(0);
    assert_eq!(outcome.event("complete")["unchanged"], true);
}

#[test]
fn a_server_without_ranges_or_size_leaves_it() {
    type Answer = fn() -> Response;
    let answers: [(&str, Answer); 2] = [
        ("no byte ranges", || Response::full(&object(SIZE)).without("Accept-Ranges")),
        ("does not tell the size", || {
            Response::full(&object(SIZE)).without("Content-Length").chunked(true)
        }),
    ];
    for (words, answer) in answers {
        let origin = Origin::start(move |_, _| answer());
        let sandbox = Sandbox::new();
        sandbox.write("file.iso", prefix(5 * MIB));
        assert_left(&sandbox, command(&sandbox, &origin), words);
        command(&sandbox, &origin).arg("--overwrite").run().expect(0);
        sandbox.assert_published("file.iso", &object(SIZE));
    }
}

#[test]
fn an_object_without_validators_is_continued_where_its_size_is_enough() {
    let bare = object(SIZE).with_etag(None).with_last_modified(None);
    let (origin, sandbox) = (Origin::serving(&bare), Sandbox::new());
    sandbox.write("file.iso", prefix(5 * MIB));
    // A later run would have to begin anew, over what was here.
    let haul = plain(&sandbox, &origin).arg("-c=foreign");
    assert_left(&sandbox, haul, "a later run could not go on");
    assert_continued(&command(&sandbox, &origin).run(), &sandbox, 5 * MIB);
}

#[test]
fn small_files_of_a_list_are_continued_too() {
    let small = Object::new(3, 100_000);
    let (origin, sandbox) = (Origin::serving(&small), Sandbox::new());
    sandbox.write("a", small.bytes(0..60_000));
    let list = tempfile::NamedTempFile::new().unwrap();
    let url = origin.url("/x");
    fs::write(list.path(), format!("{url}\n out=a\n{url}\n out=b\n")).unwrap();
    let outcome = haul!(sandbox).arg("-c=always").arg("-i").arg(list.path()).run();
    outcome.expect(0).expect_notice("adopted");
    sandbox.assert_only(&[("a", &small), ("b", &small)]);
}

// ---- interrupted, changed ----

#[test]
fn interrupted_it_goes_on_and_a_changed_object_gives_it_back() {
    let served = Arc::new(Mutex::new(object(SIZE)));
    for end in [interrupt, kill] {
        for changes in [false, true] {
            let limited = Throttle::new(2 * MIB).crawling_after(6 * MIB);
            let (current, limit) = (served.clone(), limited.clone());
            let slow = Origin::start(move |request, _| {
                limit.apply(standard(&current.lock().unwrap(), request))
            });
            *served.lock().unwrap() = object(SIZE);
            let sandbox = Sandbox::new();
            sandbox.write("file.iso", prefix(4 * MIB));
            let before = states(&sandbox);
            end(command(&sandbox, &slow), 6 * MIB);
            assert!(!sandbox.path("file.iso").exists());
            sandbox.assert_partial("file.iso");
            limited.lift();
            if changes {
                *served.lock().unwrap() = Object::new(2, SIZE);
                let outcome = command(&sandbox, &slow).run();
                outcome.expect(3).expect_message("file.iso");
                assert!(outcome.text().contains("as it was before"), "{outcome}");
                assert_same(&before, &sandbox, &outcome);
                // And still it is only compared, and left.
                assert_left(&sandbox, command(&sandbox, &slow), "is not the same");
            } else {
                let outcome = command(&sandbox, &slow).run();
                assert!(outcome.expect(0).resumed_bytes() >= 4 * MIB, "{outcome}");
                sandbox.assert_published("file.iso", &object(SIZE));
            }
        }
    }
}

// ---- Firefox ----

#[test]
fn what_firefox_left_is_continued() {
    for name in ["file.iso.part", "file.GhX_TAdl.iso.part"] {
        let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
        sandbox.write("file.iso", "");
        sandbox.write(name, prefix(5 * MIB));
        assert_continued(&command(&sandbox, &origin).run(), &sandbox, 5 * MIB);

        let sandbox = Sandbox::new();
        sandbox.write("file.iso", "");
        sandbox.write(name, wrong(5 * MIB, 0));
        assert_left(&sandbox, command(&sandbox, &origin), "is not the same");
        let outcome = command(&sandbox, &origin).arg(digest(&Object::new(2, SIZE))).run();
        outcome.expect(3);

        // Interrupted, the empty file is there still.
        let sandbox = Sandbox::new();
        sandbox.write("file.iso", "");
        sandbox.write(name, prefix(5 * MIB));
        let throttle = Throttle::new(MIB / 2).crawling_after(5 * MIB);
        let slow = Origin::throttled(&object(SIZE), &throttle);
        kill(command(&sandbox, &slow), 5 * MIB + 300_000);
        throttle.lift();
        let outcome = command(&sandbox, &slow).run();
        assert!(outcome.expect(0).resumed_bytes() >= 5 * MIB, "{outcome}");
        sandbox.assert_published("file.iso", &object(SIZE));
    }
    // Two of them: nobody knows which.
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    sandbox.write("file.iso", "");
    sandbox.write("file.GhX_TAdl.iso.part", prefix(5 * MIB));
    sandbox.write("file.AAAABBBB.iso.part", prefix(4 * MIB));
    assert_left(&sandbox, command(&sandbox, &origin), "may both be");
    // Other names are nobody's.
    let sandbox = Sandbox::new();
    sandbox.write("file.iso", "");
    sandbox.write("file.nine-char.iso.part", prefix(5 * MIB));
    command(&sandbox, &origin).run().expect(0);
    assert_eq!(sandbox.files(), ["file.iso", "file.nine-char.iso.part"]);
}

// ---- others ----

#[test]
fn what_may_have_holes_takes_a_digest() {
    for name in ["file.iso.crdownload", "file.iso.part"] {
        let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
        sandbox.write(name, prefix(5 * MIB));
        let outcome = assert_left(&sandbox, command(&sandbox, &origin), "--checksum");
        outcome.expect_message(name);
        assert!(origin.sent_bytes() <= 1, "nothing is fetched for it");
        let outcome = command(&sandbox, &origin).arg(digest(&object(SIZE))).run();
        assert_continued(&outcome, &sandbox, 5 * MIB);
        assert_eq!(outcome.event("complete")["blake3"], object(SIZE).blake3_hex());
    }
}

// ---- aria2 ----

const PIECE: u64 = MIB;

/// What aria2 leaves, by its manual: these pieces, and anything where others are to be.
fn aria2(sandbox: &Sandbox, set: impl Fn(u64) -> bool) -> u64 {
    let count = SIZE.div_ceil(PIECE);
    let mut bits = vec![0_u8; count.div_ceil(8) as usize];
    let mut data = vec![0xaa; SIZE as usize];
    let mut had = 0;
    for piece in (0..count).filter(|piece| set(*piece)) {
        let range = piece * PIECE..SIZE.min((piece + 1) * PIECE);
        had += range.end - range.start;
        bits[(piece / 8) as usize] |= 0x80 >> (piece % 8);
        let bytes = object(SIZE).bytes(range.clone());
        data[range.start as usize..range.end as usize].copy_from_slice(&bytes);
    }
    sandbox.write("file.iso", data);
    let mut control = vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    control.extend((PIECE as u32).to_be_bytes());
    control.extend(SIZE.to_be_bytes());
    control.extend([0; 8]);
    control.extend((bits.len() as u32).to_be_bytes());
    control.extend(&bits);
    control.extend([0; 4]);
    sandbox.write("file.iso.aria2", control);
    had
}

#[test]
fn of_what_aria2_left_the_pieces_that_it_has_are_kept() {
    let patterns: [fn(u64) -> bool; 4] =
        [|piece| piece % 2 == 0, |piece| piece % 3 == 1, |piece| piece > 7, |_| true];
    for pattern in patterns {
        let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
        let had = aria2(&sandbox, pattern);
        let outcome = command(&sandbox, &origin).run();
        assert_continued(&outcome, &sandbox, had);
        assert_eq!(outcome.resumed_bytes(), had, "{outcome}");
    }
    // The words of aria2 itself.
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    let had = aria2(&sandbox, |piece| piece % 2 == 0);
    Haul::new(env!("CARGO_BIN_EXE_haul-aria2c-under-test"), &sandbox)
        .args(["-c", "-x4", "-o", "file.iso"])
        .arg(origin.url("/file.iso"))
        .run()
        .expect(0);
    sandbox.assert_published("file.iso", &object(SIZE));
    assert!(origin.sent_bytes() <= SIZE - had + SAMPLES + MIB, "{}", origin.sent_bytes());
}

#[test]
fn a_control_file_that_does_not_fit_is_not_believed() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 7] = [
        ("ends too early", |it| it.truncate(20)),
        ("ends too early", Vec::clear),
        ("goes on after", |it| it.push(0)),
        ("version", |it| it[1] = 7),
        ("torrent", |it| it[9] = 20),
        ("beyond the object", |it| it[35] = 0xff),
        ("is of", |it| it[21] ^= 1),
    ];
    for (words, change) in changes {
        let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
        aria2(&sandbox, |piece| piece % 2 == 0);
        let mut control = fs::read(sandbox.path("file.iso.aria2")).unwrap();
        change(&mut control);
        sandbox.write("file.iso.aria2", control);
        let outcome = assert_left(&sandbox, command(&sandbox, &origin), words);
        outcome.expect_message("file.iso.aria2");
    }
}

#[test]
fn a_control_file_that_lies_is_found_out() {
    // The bytes of a piece are others.
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    aria2(&sandbox, |piece| piece % 2 == 0);
    let file = OpenOptions::new().write(true).open(sandbox.path("file.iso")).unwrap();
    file.write_all_at(b"other", 8 * PIECE).unwrap();
    drop(file);
    assert_left(&sandbox, command(&sandbox, &origin), "is not the same");
    // Without a piece nothing is compared, so nothing may be written over.
    let sandbox = Sandbox::new();
    aria2(&sandbox, |_| false);
    assert_left(&sandbox, command(&sandbox, &origin), "no complete piece");
    // Nothing is where pieces are to be.
    for len in [SIZE, 5 * PIECE] {
        let sandbox = Sandbox::new();
        aria2(&sandbox, |_| true);
        let file = File::create(sandbox.path("file.iso")).unwrap();
        file.write_all_at(&prefix(3 * PIECE), 0).unwrap();
        file.set_len(len).unwrap();
        drop(file);
        assert_left(&sandbox, command(&sandbox, &origin), "lacks the pieces");
    }
    // A piece that no sample is of: only a digest tells, and everything is given back.
    let sandbox = Sandbox::new();
    aria2(&sandbox, |piece| piece != 4);
    let before = states(&sandbox);
    let outcome = command(&sandbox, &origin).arg(digest(&Object::new(2, SIZE))).run();
    outcome.expect(9);
    let kept: Vec<State> = before.into_iter().filter(|it| it.name != "file.iso").collect();
    let after = states(&sandbox);
    assert_eq!(after.len(), 2, "{outcome}");
    assert!(after.contains(&kept[0]), "the control file is as it was\n{outcome}");
    // What is in the missing piece is of no matter: this goes on.
    assert_continued(&command(&sandbox, &origin).run(), &sandbox, SIZE - PIECE);
}

// ---- whose it is ----

#[test]
fn what_is_not_like_a_file_of_ours_is_refused() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    sandbox.write("file.iso", prefix(5 * MIB));
    fs::hard_link(sandbox.path("file.iso"), sandbox.path("another")).unwrap();
    assert_left(&sandbox, command(&sandbox, &origin), "hard links");

    let sandbox = Sandbox::new();
    sandbox.write("target", prefix(5 * MIB));
    symlink("target", sandbox.path("file.iso")).unwrap();
    assert_left(&sandbox, command(&sandbox, &origin), "file.iso");
    assert!(fs::symlink_metadata(sandbox.path("file.iso")).unwrap().is_symlink());

    let sandbox = Sandbox::new();
    aria2(&sandbox, |piece| piece < 5);
    fs::rename(sandbox.path("file.iso.aria2"), sandbox.path("target")).unwrap();
    symlink("target", sandbox.path("file.iso.aria2")).unwrap();
    assert_left(&sandbox, command(&sandbox, &origin), "symbolic link");

    let sandbox = Sandbox::new();
    sandbox.write("file.iso", prefix(5 * MIB));
    sandbox.write("file.iso.part", "notes");
    assert_left(&sandbox, command(&sandbox, &origin), "file.iso.part is in the way");

    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        let _ = writeln!(io::stderr(), "skipped: files of another user need root");
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("file.iso", prefix(5 * MIB));
    chown(sandbox.path("file.iso"), Some(4711), None).unwrap();
    assert_left(&sandbox, command(&sandbox, &origin), "user 4711");
}

#[test]
fn a_file_that_a_program_has_open_for_writing_is_left_to_it() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    let path = sandbox.write("file.iso", prefix(5 * MIB));
    let open = OpenOptions::new().append(true).open(&path).unwrap();
    let mut writer = Command::new("sleep").arg("60").stdout(open).spawn().unwrap();
    let words = format!("process {} has it open for writing", writer.id());
    assert_left(&sandbox, command(&sandbox, &origin), &words);
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_continued(&command(&sandbox, &origin).run(), &sandbox, 5 * MIB);
}

#[test]
fn a_file_that_changes_while_it_is_compared_is_left_to_its_program() {
    let sandbox = Sandbox::new();
    let path = sandbox.write("file.iso", prefix(5 * MIB));
    let grown = path.clone();
    let origin = Origin::start(move |request, _| {
        // The last sample is asked for.
        if request.start() >= 4 * MIB {
            let file = OpenOptions::new().append(true).open(&grown).unwrap();
            (&file).write_all(b"more").unwrap();
        }
        standard(&object(SIZE), request)
    });
    let outcome = command(&sandbox, &origin).run();
    outcome.expect(3).expect_message("file.iso");
    assert!(outcome.text().contains("another program writes to it"), "{outcome}");
    assert_eq!(sandbox.files(), ["file.iso"]);
    assert!(fs::read(path).unwrap().starts_with(&prefix(5 * MIB)));
}

// ---- kills ----

/// What is there before, and what is to come of it.
struct Scene {
    name: &'static str,
    put: fn(&Sandbox),
    former: &'static str,
    had: u64,
    checksum: Option<fn() -> String>,
    code: i32,
}

const SCENES: [Scene; 6] = [
    Scene {
        name: "curl",
        put: |sandbox| drop(sandbox.write("file.iso", prefix(5 * MIB + 77))),
        former: "file.iso",
        had: 5 * MIB + 77,
        checksum: None,
        code: 0,
    },
    Scene {
        name: "aria2",
        put: |sandbox| {
            aria2(sandbox, |piece| piece % 2 == 0);
        },
        former: "file.iso",
        had: 5 * PIECE,
        checksum: None,
        code: 0,
    },
    Scene {
        name: "Firefox",
        put: |sandbox| {
            sandbox.write("file.iso", "");
            sandbox.write("file.GhX_TAdl.iso.part", prefix(5 * MIB));
        },
        former: "file.GhX_TAdl.iso.part",
        had: 5 * MIB,
        checksum: None,
        code: 0,
    },
    Scene {
        name: "Firefox of before",
        put: |sandbox| {
            sandbox.write("file.iso", "");
            sandbox.write("file.iso.part", prefix(5 * MIB));
        },
        former: "file.iso.part",
        had: 5 * MIB,
        checksum: None,
        code: 0,
    },
    Scene {
        name: "Chromium",
        put: |sandbox| drop(sandbox.write("file.iso.crdownload", prefix(5 * MIB))),
        former: "file.iso.crdownload",
        had: 5 * MIB,
        checksum: Some(|| digest(&object(SIZE))),
        code: 0,
    },
    Scene {
        name: "another digest",
        put: |sandbox| drop(sandbox.write("file.iso", prefix(5 * MIB))),
        former: "file.iso",
        had: 5 * MIB,
        checksum: Some(|| digest(&Object::new(2, SIZE))),
        code: 9,
    },
];

/// What was there is there still, under one of its two names, whole.
#[track_caller]
fn assert_still_there(sandbox: &Sandbox, was: &[u8], holes: bool, scene: &Scene, why: &str) {
    let at = |path: PathBuf| fs::read(path).ok();
    let same = |bytes: &Vec<u8>| {
        let pieces = || {
            let even = (0..SIZE.div_ceil(PIECE)).filter(|piece| piece % 2 == 0);
            even.map(|piece| piece * PIECE..SIZE.min((piece + 1) * PIECE)).all(|it| {
                bytes.get(it.start as usize..it.end as usize)
                    == was.get(it.start as usize..it.end as usize)
            })
        };
        if holes { pieces() } else { bytes.starts_with(was) }
    };
    let former = at(sandbox.path(scene.former)).filter(&same).is_some();
    let partial = at(sandbox.part("file.iso")).filter(&same).is_some()
        && sandbox.checkpoint("file.iso").exists();
    let published = object(SIZE).compare_file(&sandbox.path("file.iso")).is_ok();
    assert!(former || partial || published, "{:?} after {why}", sandbox.files());
}

/// A kill at each call that changes the disk, of all that leads from another program's file to
/// the object, or back.
#[test]
fn killed_at_every_call_the_same_command_ends_as_if_nothing_had_been() {
    for scene in &SCENES {
        let origin = Origin::serving(&object(SIZE));
        let run = |sandbox: &Sandbox| {
            command(sandbox, &origin).args(scene.checksum.map(|digest| digest()))
        };
        let holes = scene.name == "aria2";
        let mut kills = 0;
        for nth in 1_u32.. {
            let sandbox = Sandbox::new();
            (scene.put)(&sandbox);
            let was = fs::read(sandbox.path(scene.former)).unwrap();
            let outcome = run(&sandbox).env("HAUL_KILL_AT", nth.to_string()).run();
            let why = format!("{}: killed at call {nth}", scene.name);
            if outcome.code != KILLED {
                assert_eq!(outcome.code, scene.code, "{why}\n{outcome}");
                break;
            }
            kills += 1;
            assert_still_there(&sandbox, &was, holes, scene, &why);
            let published = sandbox.path("file.iso").exists()
                && object(SIZE).compare_file(&sandbox.path("file.iso")).is_ok();
            let again = run(&sandbox).run();
            assert_eq!(again.code, scene.code, "{why}\n{again}\n{outcome}");
            if published {
                // Its checkpoint may be left, as of any download that is killed then.
                let _ = fs::remove_file(sandbox.checkpoint("file.iso"));
            }
            if scene.code == 0 {
                sandbox.assert_published("file.iso", &object(SIZE));
                let most = SIZE - scene.had + SAMPLES + MIB;
                assert!(published || again.fetched_bytes() <= most, "{why}\n{again}");
            } else {
                assert_eq!(sandbox.files(), [scene.former], "{why}\n{again}");
                assert!(fs::read(sandbox.path(scene.former)).unwrap() == was, "{why}\n{again}");
            }
        }
        assert!(kills >= 12, "{}: {kills} calls to be killed at", scene.name);
    }
}

/// A kill before the file got its new name, and its program went on with it meanwhile.
#[test]
fn a_checkpoint_of_a_file_that_went_on_is_not_believed() {
    let origin = Origin::serving(&object(SIZE));
    for change in ["grown", "replaced", "gone"] {
        let mut seen = false;
        for nth in 1..30_u32 {
            let sandbox = Sandbox::new();
            let path = sandbox.write("file.iso", prefix(5 * MIB));
            let outcome = command(&sandbox, &origin).env("HAUL_KILL_AT", nth.to_string()).run();
            assert_eq!(outcome.code, KILLED, "{outcome}");
            if !path.exists() || !sandbox.checkpoint("file.iso").exists() {
                if path.exists() { continue } else { break }
            }
            seen = true;
            // Without the flag it is somebody's file, as ever.
            assert_left(&sandbox, plain(&sandbox, &origin), "file.iso");
            let had = match change {
                "grown" => {
                    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
                    file.write_all(&object(SIZE).bytes(5 * MIB..6 * MIB)).unwrap();
                    6 * MIB
                }
                "replaced" => {
                    fs::remove_file(&path).unwrap();
                    sandbox.write("file.iso", prefix(2 * MIB));
                    2 * MIB
                }
                _ => {
                    fs::remove_file(&path).unwrap();
                    0
                }
            };
            let outcome = command(&sandbox, &origin).run();
            assert_eq!(outcome.expect(0).resumed_bytes(), had, "{change}\n{outcome}");
            sandbox.assert_published("file.iso", &object(SIZE));
        }
        assert!(seen, "no kill came between the checkpoint and the new name");
    }
}

// ---- the programs themselves ----

fn is_installed(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).status();
    let is_here = version.is_ok_and(|status| status.success());
    if !is_here {
        let _ = writeln!(io::stderr(), "skipped: {program} is not here");
    }
    is_here
}

/// Runs `program`, and kills it once the origin sent so many bytes and `is_kept` says that
/// they are on the disk.
fn killed(
    program: &str,
    words: &[&str],
    sandbox: &Sandbox,
    origin: &Origin,
    sent: u64,
    is_kept: impl FnOnce(),
) {
    let quiet = || Stdio::null();
    let mut child: Child = Command::new(program)
        .args(words)
        .arg(origin.url("/file.iso"))
        .current_dir(sandbox.work())
        .env("HOME", sandbox.path("../home"))
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet())
        .spawn()
        .unwrap();
    origin.wait_until("it has got some of it", |origin| origin.sent_bytes() >= sent);
    is_kept();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn curl_and_wget_themselves_are_continued() {
    let curl: &[&str] = &["-s", "-o", "file.iso"];
    for (program, words) in [("curl", curl), ("wget", &["-q", "-O", "file.iso"])] {
        if !is_installed(program) {
            continue;
        }
        let throttle = Throttle::new(2 * MIB).crawling_after(3 * MIB);
        let (origin, sandbox) = (Origin::throttled(&object(SIZE), &throttle), Sandbox::new());
        let length = || fs::metadata(sandbox.path("file.iso")).map_or(0, |found| found.len());
        killed(program, words, &sandbox, &origin, 2 * MIB, || {
            origin.wait_until("it has stored some of it", |_| length() >= MIB);
        });
        let had = fs::metadata(sandbox.path("file.iso")).unwrap().len();
        assert!((MIB..SIZE).contains(&had), "{program} has {had} bytes");
        throttle.lift();
        let outcome = command(&sandbox, &origin).run();
        assert_continued(&outcome, &sandbox, had);
        assert_eq!(outcome.resumed_bytes(), had, "{program}\n{outcome}");
    }
}

/// Whether a bit is set in the field of complete pieces, which has its length at byte 30 and
/// follows that in a download over HTTP (aria2's manual, "Technical notes").
fn tells_of_a_piece(control: &[u8]) -> bool {
    control.get(34..).is_some_and(|rest| {
        let len = u32::from_be_bytes([control[30], control[31], control[32], control[33]]);
        rest.iter().take(len as usize).any(|bits| *bits != 0)
    })
}

#[test]
fn aria2_itself_is_continued() {
    if !is_installed("aria2c") {
        return;
    }
    for allocation in ["none", "prealloc", "falloc"] {
        let throttle = Throttle::new(MIB).crawling_after(6 * MIB);
        let (origin, sandbox) = (Origin::throttled(&object(SIZE), &throttle), Sandbox::new());
        let allocation = format!("--file-allocation={allocation}");
        let words = ["--no-conf", "-x4", "-s4", "-k1M", "--auto-save-interval=1", "-o", "file.iso"];
        let words = [&words[..], &[&allocation]].concat();
        // It writes this file anew each second.
        let control = || fs::read(sandbox.path("file.iso.aria2")).unwrap_or_default();
        killed("aria2c", &words, &sandbox, &origin, 4 * MIB, || {
            origin.wait_until("it has noted a piece", |_| tells_of_a_piece(&control()));
        });
        assert_eq!(sandbox.files(), ["file.iso", "file.iso.aria2"]);
        throttle.lift();
        let outcome = command(&sandbox, &origin).run();
        outcome.expect(0).expect_notice("adopted");
        sandbox.assert_published("file.iso", &object(SIZE));
        assert!(outcome.resumed_bytes() >= MIB, "{allocation}\n{outcome}");
    }
}
