use tempfile::TempDir;

use super::*;
use crate::os::testing::symlink;

const WANTED: Wanted = Wanted { total_bytes: 100, obstacle: None, has_digest: false, seed: 1 };

fn scratch(files: &[(&str, &str)]) -> (TempDir, Paths) {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let paths = Paths::of(&dir.path().join("film.mp4"));
    (dir, paths)
}

fn found(files: &[(&str, &str)]) -> Option<FormerName> {
    let (dir, paths) = scratch(files);
    let found = find(&paths).unwrap()?;
    assert_eq!(found.path, former_path(&paths, found.former));
    assert!(found.path.starts_with(&dir) && found.path.is_file(), "{found:?}");
    Some(found.former)
}

#[test]
fn names_tell_whose_file_it_is() {
    let data = "data";
    for (files, former) in [
        (&[("film.mp4", data)][..], Some(FormerName::Output)),
        (&[("film.mp4", data), ("film.mp4.aria2", "")], Some(FormerName::Controlled)),
        (&[("film.mp4.part", data)], Some(FormerName::Part)),
        (&[("film.mp4", ""), ("film.mp4.part", data)], Some(FormerName::Part)),
        (&[("film.mp4.crdownload", data)], Some(FormerName::Chromium)),
        (
            &[("film.mp4", ""), ("film.GhX_TAdl.mp4.part", data)],
            Some(FormerName::Salted(*b"GhX_TAdl")),
        ),
        (&[("film.GhX_TAdl.mp4.part", data)], None),
        (&[("film.mp4", ""), ("film.GhX.TAdl.mp4.part", data)], None),
        (&[("film.mp4", ""), ("film.GhX_TAdl.mkv.part", data)], None),
        (&[("film.mp4", "")], None),
        (&[("film.mp4.aria2", data)], None),
        (&[("film.mp4", data), ("film.mp4.haul", "HAULCKPT")], None),
        (&[("film.mp4.part", data), ("film.mp4.haul", "")], None),
        (&[], None),
    ] {
        assert_eq!(found(files), former, "{files:?}");
    }
}

#[test]
fn names_without_an_extension_have_random_characters_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("film"), "").unwrap();
    fs::write(dir.path().join("film.GhX_TAdl.part"), "data").unwrap();
    let paths = Paths::of(&dir.path().join("film"));
    assert_eq!(find(&paths).unwrap().unwrap().former, FormerName::Salted(*b"GhX_TAdl"));
}

#[test]
fn what_is_no_regular_file_is_nobodys() {
    let (dir, paths) = scratch(&[("target", "data")]);
    if symlink("target", &paths.output) {
        assert_eq!(find(&paths).unwrap(), None);
        fs::remove_file(&paths.output).unwrap();
    }
    fs::create_dir(dir.path().join("film.mp4")).unwrap();
    assert_eq!(find(&paths).unwrap(), None);
}

#[test]
fn a_file_is_looked_into_and_left_as_it_was() {
    let (_dir, paths) = scratch(&[("film.mp4", "0123456789")]);
    let look = |wanted| find(&paths).unwrap().unwrap().look_into(&paths, wanted);
    let leftover = look(WANTED).unwrap().unwrap();
    assert_eq!(leftover.have, [ByteRange::new(0, 10)]);
    assert_eq!(leftover.samples, [(0, Bytes::from("0123456789"))]);
    assert_eq!((leftover.adopted.len_bytes, leftover.piece_bytes), (10, None));
    // Another haul, or any program that heeds locks.
    let error = look(WANTED).unwrap_err();
    assert!(error.to_string().contains("locked"), "{error}");
    drop(leftover);
    assert!(look(Wanted { total_bytes: 10, ..WANTED }).unwrap().is_none(), "it may be the object");
    assert!(look(Wanted { total_bytes: 9, ..WANTED }).unwrap().is_none());
    assert_eq!(fs::read(&paths.output).unwrap(), b"0123456789");
}

#[test]
fn only_a_digest_shows_that_nothing_is_missing_of_what_may_have_holes() {
    for (files, unsure) in [
        (&[("film.mp4.part", "data")][..], true),
        (&[("film.mp4.crdownload", "data")], true),
        (&[("film.mp4.part", "data"), ("film.mp4", "")], false),
    ] {
        let (_dir, paths) = scratch(files);
        let look = |has_digest| {
            let wanted = Wanted { has_digest, ..WANTED };
            find(&paths).unwrap().unwrap().look_into(&paths, wanted)
        };
        assert!(look(true).unwrap().is_some(), "{files:?}");
        assert_eq!(look(false).is_err(), unsure, "{files:?}");
        if let Err(error) = look(false) {
            assert_eq!(error.hint(), Some(&DIGEST_HINT), "{error}");
        }
    }
}

#[test]
fn what_kept_the_name_goes_before_the_object_gets_it() {
    let (_dir, paths) = scratch(&[]);
    let partial = Partial::acquire_alone(paths.clone()).unwrap();
    fs::write(&paths.output, "").unwrap();
    clear_away(&partial, false).unwrap();
    assert!(paths.output.exists());
    clear_away(&partial, true).unwrap();
    assert!(!paths.output.exists());
    fs::write(&paths.output, "mine").unwrap();
    fs::write(control_path(&paths), "of nobody here").unwrap();
    clear_away(&partial, true).unwrap();
    assert!(paths.output.exists() && control_path(&paths).exists());
}
