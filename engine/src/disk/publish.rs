//! From `NAME.part` to `NAME`: the one place where the final name appears.
//!
//! The order makes it safe to be killed or to lose power at any instant: data and attributes are on
//! the disk before the name is, the name is on the disk before the checkpoint goes, and until the
//! rename nothing is given up.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::checkpoint_file;
use super::conditional::Note;
use super::directory_sync::DirectorySyncs;
use super::naming::{Named, rename_new};
use super::numbered::names;
use super::partial::{Partial, Paths, output_exists, replaced};
use super::resume::foreign;
use super::same::is_same;
use crate::fault_point::{self, Call};
use crate::model::config::Existing;
use crate::model::error::{Error, ErrorKind};
use crate::model::size::differing;
use crate::os;
use crate::os::file::{Facts, PRIVATE_MODE};

/// How [`publish`] does its work.
#[derive(Debug, Clone)]
pub(crate) struct PublishOptions {
    /// What to do with a file that has the final name.
    pub(crate) existing: Existing,
    /// Whether an empty file at that name counts as none.
    pub(crate) replaces_empty: bool,
    /// Make the data and the name durable.
    pub(crate) sync: bool,
    /// The modification time to set, in seconds since 1970.
    pub(crate) modified_unix: Option<u64>,
    /// The version to record with the file, for the next run.
    pub(crate) note: Option<Note>,
}

/// Gives the complete object in `partial`, of `len_bytes`, its final name and removes the
/// checkpoint; returns that name, and how it was given. Its data must already be synced, if it is
/// to be, and no writer may be left: a write after this call could change the published file and
/// its time.
///
/// The mode becomes what the umask gives, or that of the replaced file. Mode and time are left
/// alone on file systems that do not have them.
///
/// # Errors
/// [`ErrorKind::OutputExists`] when the output exists and must not be replaced (a file with the same
/// bytes will do where files that are there are compared);
/// [`ErrorKind::LocalFile`] when the partial was deleted, replaced or truncated, or an operation
/// failed; [`ErrorKind::DiskFull`] when the sync found no space. Partial and checkpoint are kept.
/// Only when the sync of the directory fails does the output exist, complete, and the checkpoint
/// with it.
pub(crate) fn publish(
    partial: &Partial,
    len_bytes: u64,
    options: &PublishOptions,
    directories: &DirectorySyncs,
) -> Result<(PathBuf, Named), Error> {
    let paths = partial.paths();
    let file = partial.file();
    let failed = |what: &'static str| move |error| Error::io(what, &paths.partial, error);
    if !partial.still_ours().map_err(failed("cannot examine"))? {
        return Err(replaced(&paths.partial, "nothing was published"));
    }

    let found_bytes = file.metadata().map_err(failed("cannot examine"))?.len();
    if found_bytes != len_bytes {
        let (found, all) = differing(found_bytes, len_bytes);
        return Err(Error::new(
            ErrorKind::LocalFile,
            format!(
                "{} was truncated or extended by another program: it has {found} instead of \
                 {all}; nothing was published",
                paths.partial.display()
            ),
        )
        .with_hint("start the download again"));
    }

    let mode = match options.existing {
        Existing::Replace if paths.are_in_place() => partial.replaced_mode(),
        // Anyone who could not read the old file must not read the new one.
        Existing::Replace => mode_of(&paths.output),
        Existing::Refuse | Existing::Verify | Existing::Rename => None,
    };
    fault_point::pass(Call::SetAttributes)
        .and_then(|()| set_attributes(file, mode, options))
        .map_err(failed("cannot set the attributes of"))?;
    let named = (|| {
        if options.sync && !fault_point::has_bug!(NoDataSync) {
            let synced = fault_point::pass(Call::SyncAttributes).and_then(|()| file.sync_all());
            synced.map_err(failed("cannot sync"))?;
        }
        if paths.are_in_place() {
            return Ok((paths.output.clone(), Named::AtOnce));
        }
        foreign::clear_away(partial, options.replaces_empty)?;
        match rename(&paths.partial, &paths.output, options.existing) {
            Err(error)
                if error.kind() == ErrorKind::OutputExists
                    && options.existing == Existing::Verify =>
            {
                // Another process may have published the same bytes meanwhile.
                let ours =
                    |at: usize, part: &mut [u8]| os::file::read_exact_at(file, part, at as u64);
                if !is_same(&paths.output, len_bytes, options.sync, ours)? {
                    return Err(error);
                }
                os::name::remove(&paths.partial).map_err(failed("cannot remove"))?;
                Ok((paths.output.clone(), Named::ToAnother))
            }
            other => other,
        }
    })();
    let (output, named) = match named {
        Ok(named) => named,
        Err(error) => {
            // The file is kept for the next run, and hidden from others until then.
            let _ = os::file::set_mode(file, PRIVATE_MODE);
            return Err(error);
        }
    };

    if options.sync && !fault_point::has_bug!(NoDirectorySync) {
        directories.sync_after_publishing(&output)?;
    }
    if let Err(error) = partial.remove_checkpoint() {
        // Without its partial the checkpoint is litter, and the object is published.
        tracing::warn!(path = ?paths.checkpoint, %error, "cannot remove the checkpoint");
    }
    Ok((output, named))
}

/// The permission bits of the file at `path`, if there is one.
fn mode_of(path: &Path) -> Option<u32> {
    let found = Facts::behind(path).ok().filter(Facts::is_file)?;
    Some(found.permissions())
}

fn set_attributes(file: &File, mode: Option<u32>, options: &PublishOptions) -> io::Result<()> {
    os::file::set_mode(file, mode.unwrap_or_else(os::file::usual_mode))?;
    set_version(file, options)
}

/// Sets the file's time and records its version, where the file system can keep them.
pub(super) fn set_version(file: &File, options: &PublishOptions) -> io::Result<()> {
    let modified = options
        .modified_unix
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    modified.map_or(Ok(()), |time| os::file::set_modified(file, time))?;
    // The record is valid only for the time set above.
    if let Some(Err(error)) = options.note.as_ref().map(|note| note.write(file)) {
        tracing::debug!(%error, "the version cannot be recorded: time and size have to do");
    }
    Ok(())
}

/// Refuses to replace the checkpoint or the data of another download.
///
/// # Errors
/// [`ErrorKind::OutputExists`], or [`ErrorKind::LocalFile`] when a name cannot be looked up.
pub(super) fn refuse_side_file(output: &Path) -> Result<(), Error> {
    let checkpoint = match output.extension() {
        Some(extension) if extension == "part" => output.with_extension("haul"),
        _ => output.to_owned(),
    };
    match checkpoint_file::is_checkpoint(&checkpoint) {
        Ok(Some(true)) => Err(Error::new(
            ErrorKind::OutputExists,
            format!("{} belongs to another download, and was not replaced", output.display()),
        )
        .with_hint("choose another output, or end that download first")),
        Ok(_) => Ok(()),
        Err(error) => Err(Error::io("cannot examine", &checkpoint, error)),
    }
}

/// Returns the name that the file got, and how.
fn rename(partial: &Path, output: &Path, existing: Existing) -> Result<(PathBuf, Named), Error> {
    fault_point::pass(Call::Publish)
        .map_err(|error| Error::io("the partial is kept: cannot create", output, error))?;
    let outcome = match existing {
        Existing::Replace => {
            refuse_side_file(output)?;
            return os::name::rename_replacing(partial, output)
                .map(|()| (output.to_owned(), Named::AtOnce))
                .map_err(|error| Error::io("the partial is kept: cannot replace", output, error));
        }
        Existing::Refuse | Existing::Verify => rename_new(partial, output),
        Existing::Rename => {
            // The user of another download was told the name that it is to have.
            let is_theirs =
                |name: &Path| name != output && Paths::of(name).partial.symlink_metadata().is_ok();
            for name in names(output).filter(|name| !is_theirs(name)) {
                match rename_new(partial, &name) {
                    Ok(named) => return Ok((name, named)),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => {
                        let what = "the partial is kept: cannot create";
                        return Err(Error::io(what, &name, error));
                    }
                }
            }
            Err(io::ErrorKind::AlreadyExists.into())
        }
    };
    match outcome {
        Ok(named) => Ok((output.to_owned(), named)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(output_exists(
            output,
            &format!("the complete download is kept as {}", partial.display()),
        )),
        Err(error) => Err(Error::io("the partial is kept: cannot create", output, error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use tempfile::TempDir;

    use super::*;
    use crate::disk::storage;
    use crate::model::config::{Allocation, StorageKind};
    use crate::model::range::ByteRange;
    use crate::os::testing::{HAS_MODES, frees_open_names, mode, set_mode};

    const OBJECT: &[u8] = b"the whole object";
    const LEN: u64 = OBJECT.len() as u64;
    const OPTIONS: PublishOptions = PublishOptions {
        existing: Existing::Refuse,
        replaces_empty: false,
        sync: true,
        modified_unix: Some(1_000_000_000),
        note: None,
    };

    /// A complete download in a directory of its own.
    fn downloaded() -> (TempDir, Partial) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::of(&dir.path().join("film"));
        let partial = Partial::acquire_alone(paths.clone()).unwrap();
        let file = Arc::clone(partial.file());
        let storage =
            storage::open(file, &paths.partial, Some(LEN), StorageKind::Auto, Allocation::Auto)
                .unwrap()
                .storage;
        storage.segment_writer(ByteRange::new(0, LEN)).unwrap().write(0, OBJECT).unwrap();
        (dir, partial)
    }

    fn names(dir: &TempDir) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_the_output_is_left_with_mode_and_time() {
        for sync in [false, true] {
            let (dir, partial) = downloaded();
            publish(&partial, LEN, &PublishOptions { sync, ..OPTIONS }, &DirectorySyncs::default())
                .unwrap();
            drop(partial);
            assert_eq!(names(&dir), ["film"]);
            let output = dir.path().join("film");
            assert_eq!(fs::read(&output).unwrap(), OBJECT);
            assert_eq!(Facts::behind(&output).unwrap().modified().0, 1_000_000_000);
            let ordinary = dir.path().join("ordinary");
            fs::write(&ordinary, "").unwrap();
            assert_eq!(mode(&output), mode(&ordinary));
        }
    }

    #[test]
    fn output_that_appeared_is_not_replaced_and_the_partial_is_kept() {
        let (dir, partial) = downloaded();
        let output = dir.path().join("film");
        fs::write(&output, "older").unwrap();
        let error = publish(&partial, LEN, &OPTIONS, &DirectorySyncs::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutputExists);
        assert!(error.to_string().contains("film.part"), "{error}");
        assert_eq!(fs::read(&output).unwrap(), b"older");
        assert_eq!(names(&dir), ["film", "film.haul", "film.part"]);
        assert_eq!(mode(&dir.path().join("film.part")), 0o600);

        publish(
            &partial,
            LEN,
            &PublishOptions { existing: Existing::Replace, ..OPTIONS },
            &DirectorySyncs::default(),
        )
        .unwrap();
        drop(partial);
        assert_eq!(fs::read(&output).unwrap(), OBJECT);
        assert_eq!(names(&dir), ["film"]);
    }

    #[test]
    fn renaming_takes_the_first_name_that_nobody_took_meanwhile() {
        let (dir, partial) = downloaded();
        for name in ["film", "film (1)", "film (2).part"] {
            fs::write(dir.path().join(name), "older").unwrap();
        }
        let options = PublishOptions { existing: Existing::Rename, ..OPTIONS };
        let output = publish(&partial, LEN, &options, &DirectorySyncs::default()).unwrap();
        drop(partial);
        assert_eq!(output, (dir.path().join("film (3)"), Named::AtOnce));
        assert_eq!(fs::read(output.0).unwrap(), OBJECT);
        assert_eq!(fs::read(dir.path().join("film")).unwrap(), b"older");
        assert_eq!(names(&dir), ["film", "film (1)", "film (2).part", "film (3)"]);
    }

    #[test]
    fn who_could_not_read_the_old_file_cannot_read_the_new_one() {
        for wanted in [0o600, 0o640, 0o755] {
            let (dir, partial) = downloaded();
            let output = dir.path().join("film");
            fs::write(&output, "older").unwrap();
            set_mode(&output, wanted);
            let options = PublishOptions { existing: Existing::Replace, ..OPTIONS };
            publish(&partial, LEN, &options, &DirectorySyncs::default()).unwrap();
            assert_eq!(fs::read(&output).unwrap(), OBJECT);
            assert!(mode(&output) == wanted || !HAS_MODES);
        }
    }

    #[test]
    fn deleted_or_replaced_partial_publishes_nothing() {
        let (dir, partial) = downloaded();
        if !frees_open_names(dir.path()) {
            return;
        }
        let path = &partial.paths().partial;
        fs::remove_file(path).unwrap();
        let error = publish(&partial, LEN, &OPTIONS, &DirectorySyncs::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LocalFile);
        fs::write(path, "something else").unwrap();
        publish(&partial, LEN, &OPTIONS, &DirectorySyncs::default()).unwrap_err();
        assert_eq!(names(&dir), ["film.haul", "film.part"]);
        assert_eq!(fs::read(path).unwrap(), b"something else");
    }

    #[test]
    fn truncated_partial_is_not_published() {
        let (dir, partial) = downloaded();
        partial.file().set_len(4).unwrap();
        let error = publish(&partial, LEN, &OPTIONS, &DirectorySyncs::default()).unwrap_err();
        assert!(error.to_string().contains("truncated or extended"), "{error}");
        assert_eq!(names(&dir), ["film.haul", "film.part"]);
    }

    #[test]
    fn directory_in_the_way_keeps_the_partial() {
        let (dir, partial) = downloaded();
        fs::create_dir(dir.path().join("film")).unwrap();
        for existing in [Existing::Refuse, Existing::Replace] {
            publish(
                &partial,
                LEN,
                &PublishOptions { existing, ..OPTIONS },
                &DirectorySyncs::default(),
            )
            .unwrap_err();
            assert_eq!(names(&dir), ["film", "film.haul", "film.part"]);
        }
    }
}
