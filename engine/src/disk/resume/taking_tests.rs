use std::io::Write as _;

use tempfile::TempDir;

use super::*;
use crate::disk::resume::refusing::refuse_existing;
use crate::model::checkpoint::UrlIdentity;
use crate::model::hint::Hint;
use crate::model::segment::MIN_CHOSEN_SEGMENT_BYTES;
use crate::model::validator::Validator;
use crate::os::testing::{
    HAS_MODES, frees_open_names, make_fifo, mode, set_mode, symlink, tells_holders,
};

fn scratch() -> (TempDir, Paths) {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::of(&dir.path().join("film.mp4"));
    (dir, paths)
}

fn acquire(paths: &Paths) -> Result<Partial, Error> {
    Partial::acquire_alone(paths.clone())
}

/// The checkpoint of an object of which nothing is known.
fn nothing() -> Checkpoint {
    Checkpoint {
        identity: UrlIdentity { salt: [1; 16], asked: [2; 32], answered: None },
        host: "example.org".to_owned(),
        total: None,
        validator: Validator::default(),
        encoding: None,
        content_type: None,
        segment_size_bytes: MIN_CHOSEN_SEGMENT_BYTES,
        segments: Vec::new(),
        prefixes: Vec::new(),
        pid: 0,
        selected: None,
        data_file: None,
        mixed: false,
        adopted: None,
    }
}

/// What a killed run leaves.
fn leave(paths: &Paths, data: &[u8]) {
    fs::write(&paths.partial, data).unwrap();
    fs::write(&paths.checkpoint, "HAULCKPT").unwrap();
}

fn assert_refused(paths: &Paths) {
    let error = acquire(paths).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LocalFile, "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn new_partial_is_empty_and_private() {
    let (_dir, paths) = scratch();
    let partial = acquire(&paths).unwrap();
    assert!(partial.origin.created);
    assert_eq!(partial.origin.recorded, os::name::can_name_unnamed());
    assert!(partial.still_ours().unwrap());
    assert_eq!(partial.checkpoint().unwrap(), b"HAULCKPT");
    assert_eq!(fs::metadata(&paths.partial).unwrap().len(), 0);
    assert_eq!(mode(&paths.partial), 0o600);
}

#[test]
fn second_download_is_refused_and_names_the_holder() {
    let (_dir, paths) = scratch();
    let first = acquire(&paths).unwrap();
    let error = acquire(&paths).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    // What an earlier holder wrote counts only where the kernel tells nothing.
    first.record(&Checkpoint { pid: 4711, ..nothing() }.encode(), false).unwrap();
    let holder = os::lock::holder(&first.lock()).unwrap_or(4711);
    assert!(holder == std::process::id() || !tells_holders(), "{holder}");
    let error = acquire(&paths).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains(&format!("{holder})")), "{error}");
    drop(first);
    assert!(!acquire(&paths).unwrap().origin.created);
}

#[test]
fn lock_goes_with_the_checkpoint_that_replaces_another() {
    let (dir, paths) = scratch();
    if !frees_open_names(dir.path()) {
        return;
    }
    let first = acquire(&paths).unwrap();
    let identity = || Facts::behind(&paths.checkpoint).unwrap().identity();
    let old = identity();
    let opened = File::open(&paths.checkpoint).unwrap();
    for durable in [false, true] {
        first.record(b"HAULCKPT and more", durable).unwrap();
        assert_ne!(identity(), old);
        assert_eq!(acquire(&paths).unwrap_err().kind(), ErrorKind::Locked);
    }
    opened.try_lock().expect("who has the old one open finds that it is not the one");
    assert!(!is_named(&paths.checkpoint, &opened).unwrap());
    drop(first);
    acquire(&paths).unwrap();
}

#[test]
fn both_ways_of_keeping_the_data_have_one_lock() {
    let (dir, paths) = scratch();
    let in_place = Paths::in_place(&dir.path().join("film.mp4"));
    let first = acquire(&paths).unwrap();
    assert_eq!(acquire(&in_place).unwrap_err().kind(), ErrorKind::Locked);
    first.remove().unwrap();
    let _first = acquire(&in_place).unwrap();
    assert_eq!(acquire(&paths).unwrap_err().kind(), ErrorKind::Locked);
}

#[test]
fn of_many_at_once_exactly_one_proceeds() {
    let (_dir, paths) = scratch();
    let start = std::sync::Barrier::new(8);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    acquire(&paths)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    }
}

/// Each thread takes the lock and renames the file away, as publishing
/// does. Whoever then locks the old file has locked nothing.
#[test]
fn lock_is_always_on_the_file_that_the_name_means() {
    let (dir, paths) = scratch();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (dir, paths) = (&dir, &paths);
            scope.spawn(move || {
                for round in 0..300 {
                    match acquire(paths) {
                        Ok(partial) => {
                            assert!(partial.still_ours().unwrap());
                            let away = dir.path().join(format!("{thread}-{round}"));
                            fs::rename(&paths.partial, away).unwrap();
                            partial.remove_checkpoint().unwrap();
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Locked, "{error}"),
                    }
                }
            });
        }
    });
}

#[test]
fn partial_without_checkpoint_is_not_touched() {
    let (_dir, paths) = scratch();
    fs::write(&paths.partial, "precious").unwrap();
    set_mode(&paths.partial, 0o640);
    assert_refused(&paths);
    assert_eq!(fs::read(&paths.partial).unwrap(), b"precious");
    assert!(mode(&paths.partial) == 0o640 || !HAS_MODES);
    assert!(!paths.checkpoint.exists());
}

#[test]
fn nothing_without_our_beginning_is_touched() {
    for (data, checkpoint) in
        [("", None), ("notes", Some("notes")), ("", Some("")), ("notes", Some("HAULCKP"))]
    {
        let (dir, paths) = scratch();
        fs::write(&paths.partial, data).unwrap();
        if let Some(checkpoint) = checkpoint {
            fs::write(&paths.checkpoint, checkpoint).unwrap();
        }
        let before = fs::read_dir(&dir).unwrap().count();
        assert_refused(&paths);
        assert_eq!(fs::read(&paths.partial).unwrap(), data.as_bytes());
        if let Some(checkpoint) = checkpoint {
            assert_eq!(fs::read(&paths.checkpoint).unwrap(), checkpoint.as_bytes());
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), before);
    }
}

#[test]
fn files_with_a_second_name_are_refused() {
    for at_checkpoint in [false, true] {
        let (dir, paths) = scratch();
        leave(&paths, b"half");
        let linked = if at_checkpoint { &paths.checkpoint } else { &paths.partial };
        fs::hard_link(linked, dir.path().join("another name")).unwrap();
        assert_refused(&paths);
        assert_eq!(fs::read(&paths.partial).unwrap(), b"half");
    }
}

#[test]
fn data_that_was_published_halfway_is_begun_anew() {
    let (_dir, paths) = scratch();
    leave(&paths, b"whole");
    fs::hard_link(&paths.partial, &paths.output).unwrap();
    let partial = acquire(&paths).unwrap();
    assert!(partial.origin.created);
    partial.file().as_ref().write_all(b"other").unwrap();
    assert_eq!(fs::read(&paths.output).unwrap(), b"whole");
}

#[test]
fn own_partial_is_opened_with_its_bytes_and_made_private() {
    let (_dir, paths) = scratch();
    leave(&paths, b"half");
    set_mode(&paths.partial, 0o644);
    let partial = acquire(&paths).unwrap();
    assert!(!partial.origin.created && !partial.is_private());
    partial.make_private().unwrap();
    assert_eq!(fs::read(&paths.partial).unwrap(), b"half");
    assert_eq!(mode(&paths.partial), 0o600);
}

#[test]
fn symlink_is_not_followed() {
    for at_checkpoint in [false, true] {
        let (dir, paths) = scratch();
        let target = dir.path().join("target");
        fs::write(&target, "secret").unwrap();
        let link = if at_checkpoint { &paths.checkpoint } else { &paths.partial };
        if !symlink(&target, link) {
            return;
        }
        assert_refused(&paths);
        assert_eq!(fs::read(&target).unwrap(), b"secret");
        assert!(fs::symlink_metadata(link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing was created");
    }
}

#[test]
fn dangling_symlink_creates_nothing() {
    let (dir, paths) = scratch();
    let target = dir.path().join("target");
    if !symlink(&target, &paths.partial) {
        return;
    }
    assert_refused(&paths);
    assert!(!target.exists());
}

#[test]
fn fifo_and_directory_are_refused_without_waiting() {
    for name in ["part", "haul", ""] {
        let (_dir, paths) = scratch();
        let path = match name {
            "part" => &paths.partial,
            "haul" => &paths.checkpoint,
            _ => &paths.output,
        };
        if make_fifo(path) {
            assert_refused(&paths);
            fs::remove_file(path).unwrap();
        }
        fs::create_dir(path).unwrap();
        assert_refused(&paths);
        assert!(path.is_dir());
    }
}

#[test]
fn missing_directory_is_named() {
    let (dir, _) = scratch();
    let output = dir.path().join("a/b/film");
    let error = acquire(&Paths::of(&output)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LocalFile);
    assert!(error.to_string().contains("a/b/film"), "{error}");
    create_dir(output.parent().unwrap()).unwrap();
    acquire(&Paths::of(&output)).unwrap();
    create_dir(Path::new("")).unwrap();
    assert_eq!(create_dir(&Paths::of(&output).partial).unwrap_err().kind(), {
        ErrorKind::LocalFile
    });
}

#[test]
fn deleted_or_replaced_partial_is_noticed_and_left_alone() {
    let (dir, paths) = scratch();
    if !frees_open_names(dir.path()) {
        return;
    }
    let partial = acquire(&paths).unwrap();
    fs::remove_file(&paths.partial).unwrap();
    assert!(!partial.still_ours().unwrap());
    fs::write(&paths.partial, "someone else's").unwrap();
    assert!(!partial.still_ours().unwrap());
    fs::remove_file(&paths.checkpoint).unwrap();
    fs::write(&paths.checkpoint, "theirs").unwrap();
    assert_eq!(partial.record(b"HAULCKPT", false).unwrap_err().kind(), ErrorKind::LocalFile);
    assert_eq!(fs::read(&paths.checkpoint).unwrap(), b"theirs");
    partial.remove().unwrap();
    assert_eq!(fs::read(&paths.partial).unwrap(), b"someone else's");
    assert!(paths.checkpoint.exists());
}

#[test]
fn removing_leaves_nothing() {
    let (dir, paths) = scratch();
    let partial = acquire(&paths).unwrap();
    partial.file().as_ref().write_all(b"data").unwrap();
    partial.record(b"HAULCKPT1", false).unwrap();
    partial.remove().unwrap();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    acquire(&paths).unwrap().remove().unwrap();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn existing_output_is_quoted_with_the_next_step() {
    let (_dir, paths) = scratch();
    refuse_existing(&paths.output).unwrap();
    if !symlink("nowhere", &paths.output) {
        fs::write(&paths.output, "").unwrap();
    }
    let error = refuse_existing(&paths.output).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutputExists);
    assert!(error.to_string().contains("film.mp4"), "{error}");
    assert_eq!(error.hint(), Some(&Hint::OutputExists));
}
