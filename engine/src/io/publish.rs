//! From `NAME.part` to `NAME`: the one place where the final name appears.
//!
//! The order makes every instant safe to be killed at, or to lose power at:
//! data and attributes are on the disk before the name is, the name is on the
//! disk before the checkpoint goes, and until the rename nothing is given up.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use super::directory_sync::DirectorySyncs;
use super::numbered::names;
use super::partial::{PRIVATE_MODE, Partial, Paths, output_exists, remove_checkpoint};
use crate::config::Existing;
use crate::error::{Error, ErrorKind};
use crate::fault_point::{self, Bug, Call};

/// How [`publish`] does its work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublishOptions {
    /// What becomes of a file that is at the final name.
    pub(crate) existing: Existing,
    /// Make the data and the name durable.
    pub(crate) sync: bool,
    /// The modification time to set, in seconds since 1970.
    pub(crate) modified_unix: Option<u64>,
}

/// Gives the complete object in `partial`, of `len_bytes`, its final name and removes the
/// checkpoint; returns that name. Its data is synced, if it is to be, and no writer is left: a
/// write after this call could change the published file and its time.
///
/// The mode becomes what the umask gives. Mode and time are left as they are
/// on file systems that do not have them.
///
/// # Errors
/// [`ErrorKind::OutputExists`] when the output exists and is not to be
/// replaced; [`ErrorKind::LocalFile`] when the partial was deleted, replaced or
/// truncated, or an operation failed; [`ErrorKind::DiskFull`] when the sync found no
/// space. Partial and checkpoint are kept. Only when the sync of the directory
/// fails does the output exist, complete, and the checkpoint with it.
pub(crate) fn publish(
    partial: &Partial,
    len_bytes: u64,
    options: &PublishOptions,
    directories: &DirectorySyncs,
) -> Result<PathBuf, Error> {
    let paths = partial.paths();
    let file = partial.file();
    let failed = |what: &'static str| move |error| Error::io(what, &paths.partial, error);
    if !partial.still_ours().map_err(failed("cannot examine"))? {
        return Err(Error::new(
            ErrorKind::LocalFile,
            format!(
                "{} was deleted or replaced by another program while it was downloaded; nothing \
                 was published",
                paths.partial.display()
            ),
        )
        .with_hint("start the download again"));
    }

    let found_bytes = file.metadata().map_err(failed("cannot examine"))?.len();
    if found_bytes != len_bytes {
        return Err(Error::new(
            ErrorKind::LocalFile,
            format!(
                "{} was truncated or extended by another program: it has {found_bytes} bytes \
                 instead of {len_bytes}; \
                 nothing was published",
                paths.partial.display()
            ),
        )
        .with_hint("start the download again"));
    }

    fault_point::pass(Call::SetAttributes)
        .and_then(|()| set_attributes(file, options.modified_unix))
        .map_err(failed("cannot set the attributes of"))?;
    let named = (|| {
        if options.sync && !fault_point::has(Bug::NoDataSync) {
            let synced = fault_point::pass(Call::SyncAttributes).and_then(|()| file.sync_all());
            synced.map_err(failed("cannot sync"))?;
        }
        if paths.are_in_place() {
            return Ok(paths.output.clone());
        }
        rename(&paths.partial, &paths.output, options.existing)
    })();
    let output = match named {
        Ok(output) => output,
        Err(error) => {
            // Kept for the next run, and until then for nobody else's eyes.
            let _ = file.set_permissions(Permissions::from_mode(PRIVATE_MODE));
            return Err(error);
        }
    };

    if options.sync && !fault_point::has(Bug::NoDirectorySync) {
        directories.sync_after_publishing(&output)?;
    }
    if let Err(error) = remove_checkpoint(paths) {
        // Without its partial it is litter, and the object is published.
        tracing::warn!(path = ?paths.checkpoint, %error, "cannot remove the checkpoint");
    }
    Ok(output)
}

fn set_attributes(file: &File, modified_unix: Option<u64>) -> io::Result<()> {
    unless_unsupported(file.set_permissions(Permissions::from_mode(0o666 & !umask())))?;
    set_modified(file, modified_unix)
}

/// Sets the file's time, in seconds since 1970, where it can have that.
pub(super) fn set_modified(file: &File, modified_unix: Option<u64>) -> io::Result<()> {
    let modified = modified_unix
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    modified.map_or(Ok(()), |time| unless_unsupported(file.set_modified(time)))
}

/// FAT and some network file systems have no modes, or no such times. That is
/// no reason to withhold a complete file.
fn unless_unsupported(result: io::Result<()>) -> io::Result<()> {
    match result.as_ref().err().and_then(Errno::from_io_error) {
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        _ => result,
    }
}

/// The umask of the process. umask(2) can only read it by changing it, for a
/// moment, for every thread; /proc shows it.
fn umask() -> u32 {
    const USUAL: u32 = 0o022;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok())
        .unwrap_or(USUAL)
}

/// The name that it got.
fn rename(partial: &Path, output: &Path, existing: Existing) -> Result<PathBuf, Error> {
    fault_point::pass(Call::Publish)
        .map_err(|error| Error::io("the partial is kept: cannot create", output, error))?;
    let without_replacing = |output: &Path| match rustix::fs::renameat_with(
        CWD,
        partial,
        CWD,
        output,
        RenameFlags::NOREPLACE,
    ) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_and_unlink(partial, output),
        other => other,
    };
    let outcome = match existing {
        Existing::Replace => {
            return fs::rename(partial, output)
                .map(|()| output.to_owned())
                .map_err(|error| Error::io("the partial is kept: cannot replace", output, error));
        }
        Existing::Refuse => without_replacing(output),
        Existing::Rename => {
            // A name that another download is to have was told to its user.
            let is_theirs =
                |name: &Path| name != output && Paths::of(name).partial.symlink_metadata().is_ok();
            for name in names(output).filter(|name| !is_theirs(name)) {
                match without_replacing(&name) {
                    Ok(()) => return Ok(name),
                    Err(Errno::EXIST) => {}
                    Err(error) => {
                        let what = "the partial is kept: cannot create";
                        return Err(Error::io(what, &name, error.into()));
                    }
                }
            }
            Err(Errno::EXIST)
        }
    };
    match outcome {
        Ok(()) => Ok(output.to_owned()),
        Err(Errno::EXIST) => Err(output_exists(
            output,
            &format!("the complete download is kept as {}", partial.display()),
        )),
        Err(error) => Err(Error::io("the partial is kept: cannot create", output, error.into())),
    }
}

/// The same for file systems that cannot rename without replacing. A link
/// fails where the name exists.
fn link_and_unlink(partial: &Path, output: &Path) -> Result<(), Errno> {
    rustix::fs::linkat(CWD, partial, CWD, output, AtFlags::empty())?;
    // The object has its name now. A partial name that stays is harmless.
    if let Err(error) = fs::remove_file(partial) {
        tracing::warn!(path = ?partial, %error, "cannot remove the partial's name");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::Arc;

    use tempfile::TempDir;

    use super::*;
    use crate::config::{Allocation, StorageKind};
    use crate::io::checkpoint_file;
    use crate::io::storage;
    use crate::model::range::ByteRange;

    const OBJECT: &[u8] = b"the whole object";
    const LEN: u64 = OBJECT.len() as u64;
    const OPTIONS: PublishOptions = PublishOptions {
        existing: Existing::Refuse,
        sync: true,
        modified_unix: Some(1_000_000_000),
    };

    /// A complete download in a directory of its own.
    fn downloaded() -> (TempDir, Partial) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::of(&dir.path().join("film"));
        let partial = Partial::acquire(paths.clone(), &|_| None).unwrap();
        checkpoint_file::replace(&paths.checkpoint, b"checkpoint", false).unwrap();
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
            assert_eq!(names(&dir), ["film"]);
            let output = dir.path().join("film");
            assert_eq!(fs::read(&output).unwrap(), OBJECT);
            let metadata = fs::metadata(&output).unwrap();
            assert_eq!(metadata.mtime(), 1_000_000_000);
            let ordinary = dir.path().join("ordinary");
            fs::write(&ordinary, "").unwrap();
            assert_eq!(metadata.mode(), fs::metadata(&ordinary).unwrap().mode());
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
        let kept = fs::metadata(dir.path().join("film.part")).unwrap();
        assert_eq!(kept.mode() & 0o777, 0o600);

        publish(
            &partial,
            LEN,
            &PublishOptions { existing: Existing::Replace, ..OPTIONS },
            &DirectorySyncs::default(),
        )
        .unwrap();
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
        assert_eq!(output, dir.path().join("film (3)"));
        assert_eq!(fs::read(output).unwrap(), OBJECT);
        assert_eq!(fs::read(dir.path().join("film")).unwrap(), b"older");
        assert_eq!(names(&dir), ["film", "film (1)", "film (2).part", "film (3)"]);
    }

    #[test]
    fn linking_does_not_replace_either() {
        let (dir, partial) = downloaded();
        let (from, to) = (&partial.paths().partial, dir.path().join("film"));
        fs::write(&to, "older").unwrap();
        assert_eq!(link_and_unlink(from, &to), Err(Errno::EXIST));
        assert_eq!(fs::read(&to).unwrap(), b"older");
        fs::remove_file(&to).unwrap();
        link_and_unlink(from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), OBJECT);
        assert_eq!(names(&dir), ["film", "film.haul"]);
    }

    #[test]
    fn deleted_or_replaced_partial_publishes_nothing() {
        let (dir, partial) = downloaded();
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
