//! `NAME.haul`: reading it, and replacing it as a whole.
//!
//! A reader sees either the old bytes or the new ones, never a mixture, because the new ones are
//! written to a separate file that is renamed over the old. What the bytes mean, and whether to
//! believe them, is decided in [`crate::model`].
//!
//! A file that does not begin like a checkpoint is somebody else's, whatever its name: it is never
//! changed or removed. So the new bytes are written into a file without a name, which gets one once
//! it holds all of them. Where the file system has no unnamed files, a kill between creating the
//! file and writing to it leaves an empty one that no later run takes for its own.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::naming::{name, rename_new};
use super::regular::open_regular;
use crate::fault_point::{self, Call};
use crate::model::checkpoint::MAGIC;
use crate::model::error::{Error, ErrorKind};
use crate::os;
use crate::os::file::{Access, Facts, PRIVATE_MODE};
use crate::os::name::has_no_links;
use crate::os::space::file_size_limit_bytes;

/// No checkpoint is larger: 16,384 segments of about 40 bytes each, and a header.
const MAX_BYTES: u64 = 4 << 20;

/// The bytes of the checkpoint at `path`, or `None` when there is none.
///
/// # Errors
/// [`ErrorKind::LocalFile`] when it cannot be read, is not a regular file (a
/// symlink is not followed), does not begin like a checkpoint or is larger than any.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    open_regular(path, Access::Read)?.map(|file| read_open(&file, path)).transpose()
}

/// The bytes of a checkpoint that is already open and was found at `path`.
///
/// # Errors
/// As for [`read`].
pub(super) fn read_open(file: &File, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut reader = ReadAt { file, at: 0 }.take(MAX_BYTES + 1);
    reader.read_to_end(&mut bytes).map_err(|error| Error::io("cannot read", path, error))?;
    let is_ours = bytes.starts_with(MAGIC) || fault_point::has_bug!(ForeignSideFiles);
    if bytes.len() as u64 > MAX_BYTES || !is_ours {
        return Err(Error::new(
            ErrorKind::LocalFile,
            format!(
                "{} does not begin like a checkpoint, so another program may have made it, or \
                 it was destroyed; it was left as it is",
                path.display()
            ),
        )
        .with_hint("move it away, with the .part file beside it, or choose another output"));
    }
    Ok(bytes)
}

/// Reads from the beginning, wherever the file's own position is.
struct ReadAt<'a> {
    file: &'a File,
    at: u64,
}

impl io::Read for ReadAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = os::file::read_at(self.file, buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// An attempt to take a lock.
pub(super) enum Lock {
    /// The lock is held as long as the file is open.
    Held,
    /// Another open file holds it.
    Elsewhere,
    /// The file system reports that it has no locks.
    Missing(io::Error),
}

/// Tries to take the lock of an open checkpoint.
///
/// # Errors
/// When locking fails for another reason than that there are no locks.
pub(super) fn lock(file: &File) -> io::Result<Lock> {
    let locked = fault_point::pass(Call::Lock).map_err(TryLockError::Error);
    match locked.and_then(|()| os::lock::try_lock(file)) {
        Ok(()) => Ok(Lock::Held),
        Err(TryLockError::WouldBlock) => Ok(Lock::Elsewhere),
        Err(TryLockError::Error(error)) if os::lock::has_no_locks(&error) => {
            Ok(Lock::Missing(error))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Puts `bytes` at `path`, where nothing may exist yet, with mode 0600, and returns the open file
/// with its lock; `None` where something is there. A `durable` creation survives a power cut.
///
/// # Errors
/// Nothing is at `path` then.
pub(super) fn create(path: &Path, bytes: &[u8], durable: bool) -> io::Result<Option<(File, Lock)>> {
    let mut staged = Staged::new(path, bytes, durable, true)?;
    fault_point::pass(Call::RenameCheckpoint)?;
    let give_name = |staged: &Staged| match &staged.name {
        None => name(&staged.file, path),
        Some(staging) => rename_new(&staging.0, path).map(drop),
    };
    let mut named = give_name(&staged);
    if named.as_ref().is_err_and(has_no_links) && staged.name.is_none() {
        staged = Staged::new(path, bytes, durable, false)?;
        named = give_name(&staged);
    }
    match named {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error),
    }
    match staged.take(path, durable) {
        Ok(taken) => Ok(Some(taken)),
        Err(error) => {
            let _ = os::name::remove(path);
            Err(error)
        }
    }
}

/// Replaces the checkpoint at `path`, which is open as `held`, with `bytes`, with mode 0600. The
/// open file becomes the new one with its lock: anyone who sees the new one finds it locked. After a
/// `durable` replacement a power cut cannot bring the old one back; otherwise either may be found,
/// or a torn one.
///
/// Only the holder of the lock may call this. The file first has a name of its own; see
/// [`staging_names`].
///
/// # Errors
/// The old checkpoint is in place then, unless it is the final sync of the directory that failed.
pub(super) fn replace(path: &Path, bytes: &[u8], durable: bool, held: &mut File) -> io::Result<()> {
    let mut staged = Staged::new(path, bytes, durable, true)?;
    let linked = staged.named(path).map(drop);
    if linked.as_ref().is_err_and(has_no_links) {
        staged = Staged::new(path, bytes, durable, false)?;
    } else {
        linked?;
    }
    let staging = staged.named(path)?;
    fault_point::pass(Call::RenameCheckpoint)?;
    match os::name::rename_replacing(staging, path) {
        Err(error) if os::name::cannot_replace_open(&error) => {
            let staging = staging.to_owned();
            // This closes the old one, and the lock is on the new one already.
            *held = staged.file.try_clone()?;
            os::name::rename_replacing_in_time(&staging, path)?;
        }
        other => other?,
    }
    *held = staged.take(path, durable)?.0;
    Ok(())
}

/// A checkpoint that is written, synced if asked for, and locked, but not yet in its place.
struct Staged {
    file: File,
    lock: Lock,
    name: Option<StagingName>,
}

/// A name that is unlinked when this value is dropped.
struct StagingName(PathBuf);

impl Drop for StagingName {
    fn drop(&mut self) {
        let _ = os::name::remove(&self.0);
    }
}

impl Staged {
    /// Leaves the file without a name, if that is allowed and possible.
    fn new(path: &Path, bytes: &[u8], durable: bool, unnamed: bool) -> io::Result<Self> {
        if file_size_limit_bytes().is_some_and(|limit| bytes.len() as u64 > limit) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        fault_point::pass(Call::StageCheckpoint)?;
        let file = unnamed.then(|| os::name::create_unnamed(directory_of(path), PRIVATE_MODE));
        let (mut file, name) = match file {
            Some(Ok(file)) => (file, None),
            // If something is wrong, this reports it where it matters.
            Some(Err(_)) | None => create_named(path).map(|(name, file)| (file, Some(name)))?,
        };
        // What is whole is locked for as long as somebody means to give it its final name.
        let lock = lock(&file)?;
        file.write_all(bytes)?;
        if durable {
            fault_point::pass(Call::SyncCheckpoint)?;
            file.sync_data()?;
        }
        Ok(Self { file, lock, name })
    }

    /// The name that the file has, or gets now.
    fn named<'a>(&'a mut self, path: &'a Path) -> io::Result<&'a Path> {
        if self.name.is_none() {
            fault_point::pass(Call::NameStaged)?;
            let (name, ()) = first_free(path, |free| name(&self.file, free))?;
            self.name = Some(StagingName(name));
        }
        Ok(self.name.as_ref().map_or(path, |name| &name.0))
    }

    /// The file, now that it is at `path`.
    fn take(self, path: &Path, durable: bool) -> io::Result<(File, Lock)> {
        let Self { file, lock, mut name } = self;
        // The renaming has removed the name. Its memory is freed all the same: a checkpoint is
        // written each second.
        drop(name.as_mut().map(|name| std::mem::take(&mut name.0)));
        std::mem::forget(name);
        if durable && !fault_point::has_bug!(NoCheckpointDirectorySync) {
            sync_directory(directory_of(path), Call::SyncCheckpointDirectory)?;
        }
        Ok((file, lock))
    }
}

/// Creates an empty file at a staging name.
fn create_named(path: &Path) -> io::Result<(StagingName, File)> {
    let create = |name: &Path| {
        fault_point::take_name(name)?;
        os::file::create_private(name)
    };
    first_free(path, create).map(|(name, file)| (StagingName(name), file))
}

/// Unlinks the checkpoint at `path`, and what a killed process left of a newer one. A missing
/// checkpoint is no error. Only the holder of its lock may call this.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    fault_point::pass(Call::RemoveCheckpoint)?;
    for staging in left_staged(path) {
        let staging = staging?;
        if !is_in_use(&staging) {
            remove_file(&staging)?;
        }
    }
    remove_file(path)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match os::name::remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The names that a checkpoint may have before its final one: just as long, so that they fit
/// wherever it does, and several, because other programs' files may have them.
fn staging_names(path: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    let stem = path.file_name().unwrap_or_default().as_encoded_bytes();
    let stem = stem.strip_suffix(b"ul").unwrap_or(stem);
    STAGING_ENDS
        .into_iter()
        .map(move |end| path.with_file_name(os::name::of_bytes([stem, end.as_bytes()].concat())))
}

/// How a staging name ends, in place of the checkpoint's last two letters.
const STAGING_ENDS: [&str; 10] = ["u~", "~1", "~2", "~3", "~4", "~5", "~6", "~7", "~8", "~9"];

/// The name of the output, where `name` is a staging name of its checkpoint.
pub(crate) fn staged_for(name: &[u8]) -> Option<&[u8]> {
    let stem = STAGING_ENDS.iter().find_map(|end| name.strip_suffix(end.as_bytes()))?;
    stem.strip_suffix(b".ha")
}

/// What killed processes left of checkpoints that were meant for `path`.
///
/// # Errors
/// When what is there cannot be examined.
pub(crate) fn left_staged(path: &Path) -> impl Iterator<Item = io::Result<PathBuf>> + '_ {
    let look = |name: PathBuf| match is_checkpoint(&name) {
        Ok(None) => None,
        Ok(Some(ours)) => Some(ours.then_some(Ok(name))),
        Err(error) => Some(Some(Err(error))),
    };
    staging_names(path).map_while(look).flatten()
}

/// Has `create` make something at a staging name: the first one that is free or holds what a killed
/// process left.
fn first_free<T>(path: &Path, create: impl Fn(&Path) -> io::Result<T>) -> io::Result<(PathBuf, T)> {
    for name in staging_names(path) {
        match create(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return Ok((name, other?)),
        }
        if is_checkpoint(&name)? == Some(true) && !is_in_use(&name) {
            remove_file(&name)?;
            match create(&name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return Ok((name, other?)),
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Whether somebody is about to give the staged checkpoint at `path` its final name.
fn is_in_use(path: &Path) -> bool {
    let found = os::file::open(path, Access::ReadWrite);
    found.ok().flatten().is_some_and(|file| os::lock::is_held(&file))
}

/// Whether the file at `path` is a checkpoint that we may have made: it begins like one
/// and has no other name. `None` where there is nothing.
pub(super) fn is_checkpoint(path: &Path) -> io::Result<Option<bool>> {
    match Facts::at(path)? {
        Some(found) if !found.is_file() || found.names() > 1 => return Ok(Some(false)),
        Some(_) => {}
        None => return Ok(None),
    }
    let file = match os::file::open(path, Access::Read) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(None),
        // A checkpoint of ours would be readable.
        Err(_) => return Ok(Some(false)),
    };
    let mut beginning = [0; MAGIC.len()];
    let whole = os::file::read_exact_at(&file, &mut beginning, 0).is_ok();
    Ok(Some(whole && beginning == *MAGIC || fault_point::has_bug!(ForeignSideFiles)))
}

/// The directory that contains the last component of `path`.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the names in `directory` durable, passing the fault point `call`.
pub(super) fn sync_directory(directory: &Path, call: Call) -> io::Result<()> {
    fault_point::pass(call)?;
    os::name::sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::os::testing::{frees_open_names, mode, symlink};

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.mp4.haul");
        (dir, path)
    }

    /// Returns the open file, as [`create`] does.
    fn replace(path: &Path, bytes: &[u8], durable: bool) -> io::Result<File> {
        let mut held = tempfile::tempfile()?;
        super::replace(path, bytes, durable, &mut held)?;
        Ok(held)
    }

    fn names(dir: &tempfile::TempDir) -> Vec<std::ffi::OsString> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn what_was_written_last_is_read() {
        let (dir, path) = scratch();
        assert_eq!(read(&path).unwrap(), None);
        if !frees_open_names(dir.path()) {
            return;
        }
        let (first, _) = create(&path, b"HAULCKPT first", true).unwrap().unwrap();
        assert!(create(&path, b"HAULCKPT another", true).unwrap().is_none());
        assert_eq!(read_open(&first, &path).unwrap(), b"HAULCKPT first");
        for (bytes, durable) in [(&b"HAULCKPT longer"[..], false), (b"HAULCKPT", true)] {
            let file = replace(&path, bytes, durable).unwrap();
            assert_eq!(read(&path).unwrap().unwrap(), bytes);
            assert_eq!(read_open(&file, &path).unwrap(), bytes);
            assert!(matches!(lock(&File::open(&path).unwrap()).unwrap(), Lock::Elsewhere));
            assert_eq!(mode(&path), 0o600);
        }
        assert_eq!(names(&dir), ["film.mp4.haul"]);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(names(&dir).is_empty());
    }

    #[test]
    fn concurrent_reader_sees_whole_checkpoints() {
        let (dir, path) = scratch();
        if !frees_open_names(dir.path()) {
            return;
        }
        let bytes =
            |round: u8| [&MAGIC[..], &vec![round; 1000 + usize::from(round) * 100]].concat();
        replace(&path, &bytes(0), false).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..=200_u8 {
                    replace(&path, &bytes(round), false).unwrap();
                }
            });
            while !writer.is_finished() {
                let found = read(&path).unwrap().expect("there is always a checkpoint");
                assert_eq!(found, bytes(found[8]));
            }
        });
    }

    #[test]
    fn leftover_of_a_killed_process_goes_and_nothing_else_does() {
        let (dir, path) = scratch();
        let at = |end: &str| dir.path().join(format!("film.mp4.ha{end}"));
        fs::write(at("u~"), "my own").unwrap();
        let linked = symlink(at("u~"), at("~1"));
        if !linked {
            fs::create_dir(at("~1")).unwrap();
        }
        fs::write(at("~2"), "HAULCKPT of a killed run").unwrap();
        replace(&path, b"HAULCKPT new", false).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"HAULCKPT new");
        assert!(!at("~2").exists());
        fs::write(at("~2"), "HAULCKPT of another killed run").unwrap();
        remove(&path).unwrap();
        assert!(!at("~2").exists() && !path.exists());
        assert_eq!(fs::read(at("u~")).unwrap(), b"my own");
        assert_eq!(at("~1").is_symlink(), linked);
    }

    #[test]
    fn without_files_without_names_it_is_the_same() {
        let (dir, path) = scratch();
        let staged = |bytes: &[u8]| {
            let (name, mut file) = create_named(&path).unwrap();
            file.write_all(bytes).unwrap();
            let lock = lock(&file).unwrap();
            Staged { file, lock, name: Some(name) }
        };
        drop(staged(b"HAULCKPT"));
        assert!(names(&dir).is_empty(), "what is not taken goes");
        let mut first = staged(b"HAULCKPT first");
        fs::rename(first.named(&path).unwrap(), &path).unwrap();
        first.take(&path, true).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"HAULCKPT first");
        assert_eq!(names(&dir), ["film.mp4.haul"]);
    }

    #[test]
    fn failed_replacement_keeps_the_old_checkpoint() {
        let (_dir, path) = scratch();
        replace(&path, b"HAULCKPT old", true).unwrap();
        for name in staging_names(&path) {
            fs::create_dir(name).unwrap();
        }
        replace(&path, b"HAULCKPT new", true).unwrap_err();
        assert_eq!(read(&path).unwrap().unwrap(), b"HAULCKPT old");
    }

    #[test]
    fn longest_name_has_room() {
        let (dir, _) = scratch();
        let path = dir.path().join(format!("{}.haul", "n".repeat(250)));
        replace(&path, MAGIC, true).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), MAGIC);
    }

    #[test]
    fn other_things_than_checkpoints_are_not_read() {
        let (dir, path) = scratch();
        for (beginning, len_bytes, counts) in [
            (&b"HAULCKPT"[..], MAX_BYTES, true),
            (b"HAULCKPT", MAX_BYTES + 1, false),
            (b"HAULCKPS", 1000, false),
            (b"", 0, false),
        ] {
            fs::write(&path, beginning).unwrap();
            File::options().append(true).open(&path).unwrap().set_len(len_bytes).unwrap();
            match read(&path) {
                Ok(found) => assert!(counts && found.unwrap().len() as u64 == len_bytes),
                Err(error) => assert!(!counts && error.kind() == ErrorKind::LocalFile),
            }
        }
        fs::remove_file(&path).unwrap();
        fs::write(dir.path().join("target"), "secret").unwrap();
        if symlink("target", &path) {
            assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::LocalFile);
            fs::remove_file(&path).unwrap();
        }
        fs::create_dir(&path).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::LocalFile);
    }
}
