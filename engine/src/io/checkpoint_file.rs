//! `NAME.haul`: reading it, and replacing it as a whole.
//!
//! A reader sees the old bytes or the new ones, never a mixture, because the
//! new ones are written beside it and renamed over it. What the bytes mean, and
//! whether they are believed, is decided in [`crate::model`].

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::partial::{PRIVATE_MODE, is_present, not_regular};
use super::storage::file_size_limit_bytes;
use crate::error::{Error, ErrorKind};
use crate::fault_point::{self, Bug, Call};

/// No checkpoint is larger: 16,384 segments of some 40 bytes, and a header.
const MAX_BYTES: u64 = 4 << 20;

/// The bytes of the checkpoint at `path`, or `None` when there is none.
///
/// # Errors
/// [`ErrorKind::LocalFile`] when it cannot be read, is not a regular file (a
/// symlink is not followed) or is larger than any checkpoint.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    // Looked at before it is opened: opening a device can have effects.
    if !is_present(path)? {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(Error::io("cannot open", path, error.into())),
    };
    let cannot_read = |error| Error::io("cannot read", path, error);
    let metadata = file.metadata().map_err(cannot_read)?;
    if !metadata.is_file() {
        return Err(not_regular(path, &metadata));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::new(
            ErrorKind::LocalFile,
            format!(
                "{} has more than {MAX_BYTES} bytes, so it is no checkpoint; it was left as it is",
                path.display()
            ),
        )
        .with_hint("move it away, or choose another output"));
    }
    Ok(Some(bytes))
}

/// Puts `bytes` in the place of the checkpoint at `path`, with mode 0600. After
/// a `durable` replacement a power cut does not bring the old one back; after
/// another one either may be found, or a torn one.
///
/// Only the holder of the partial's lock may call this: the file that is
/// written first, `NAME.hau~`, has a fixed name, of the same length as
/// `NAME.haul` so that it fits wherever that does. One left by a killed process
/// is overwritten.
///
/// # Errors
/// The old checkpoint is in place then, unless it is the final sync of the
/// directory that failed.
pub(crate) fn replace(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    if file_size_limit_bytes().is_some_and(|limit| bytes.len() as u64 > limit) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let staging = staging_path(path);
    remove_file(&staging)?;
    let staged = stage(&staging, bytes, durable).and_then(|()| {
        fault_point::pass(Call::RenameCheckpoint)?;
        fs::rename(&staging, path)
    });
    if let Err(error) = staged {
        let _ = fs::remove_file(&staging);
        return Err(error);
    }
    if !durable || fault_point::has(Bug::NoCheckpointDirectorySync) {
        return Ok(());
    }
    fault_point::pass(Call::SyncCheckpointDirectory)?;
    sync_directory_of(path)
}

fn stage(staging: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fault_point::pass(Call::StageCheckpoint)?;
    let mut file = File::from(rustix::fs::open(staging, flags, Mode::from_raw_mode(PRIVATE_MODE))?);
    file.write_all(bytes)?;
    if !durable {
        return Ok(());
    }
    fault_point::pass(Call::SyncCheckpoint)?;
    file.sync_data()
}

/// Unlinks the checkpoint at `path`, and what a killed process left of a newer
/// one. That there is none is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fault_point::pass(Call::RemoveCheckpoint)?;
    remove_file(&staging_path(path))?;
    remove_file(path)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn staging_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().as_bytes().to_owned();
    name.pop();
    name.push(b'~');
    path.with_file_name(std::ffi::OsString::from_vec(name))
}

/// Makes the names in the directory of `path` durable: a rename is lost in a
/// power cut without it. A file system that cannot sync a directory (some FUSE
/// and SMB) is left to its own promises.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    sync_directory(directory_of(path))
}

/// The directory that a path's name is in.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// See [`sync_directory_of`].
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.mp4.haul");
        (dir, path)
    }

    fn names(dir: &tempfile::TempDir) -> Vec<std::ffi::OsString> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn what_was_written_last_is_read() {
        let (dir, path) = scratch();
        assert_eq!(read(&path).unwrap(), None);
        for (bytes, durable) in [(&b"first, longer"[..], false), (b"second", true)] {
            replace(&path, bytes, durable).unwrap();
            assert_eq!(read(&path).unwrap().unwrap(), bytes);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(names(&dir), ["film.mp4.haul"]);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(names(&dir).is_empty());
    }

    #[test]
    fn concurrent_reader_sees_whole_checkpoints() {
        let (_dir, path) = scratch();
        replace(&path, &[0; 1000], false).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..=200_u8 {
                    let len = 1000 + usize::from(round) * 100;
                    replace(&path, &vec![round; len], false).unwrap();
                }
            });
            while !writer.is_finished() {
                let bytes = read(&path).unwrap().expect("there is always a checkpoint");
                assert!(bytes.iter().all(|&b| b == bytes[0]));
                assert_eq!(bytes.len(), 1000 + usize::from(bytes[0]) * 100);
            }
        });
    }

    #[test]
    fn leftover_of_a_killed_process_is_replaced_and_not_followed() {
        let (dir, path) = scratch();
        let target = dir.path().join("target");
        fs::write(&target, "untouched").unwrap();
        symlink(&target, staging_path(&path)).unwrap();
        replace(&path, b"new", false).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"new");
        assert_eq!(fs::read(&target).unwrap(), b"untouched");
    }

    #[test]
    fn failed_replacement_keeps_the_old_checkpoint() {
        let (_dir, path) = scratch();
        replace(&path, b"old", true).unwrap();
        fs::create_dir(staging_path(&path)).unwrap();
        replace(&path, b"new", true).unwrap_err();
        assert_eq!(read(&path).unwrap().unwrap(), b"old");
    }

    #[test]
    fn longest_name_has_room() {
        let (dir, _) = scratch();
        let path = dir.path().join(format!("{}.haul", "n".repeat(250)));
        replace(&path, b"x", true).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"x");
    }

    #[test]
    fn other_things_than_checkpoints_are_not_read() {
        let (dir, path) = scratch();
        File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::LocalFile);
        File::create(&path).unwrap().set_len(MAX_BYTES).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().len() as u64, MAX_BYTES);
        fs::remove_file(&path).unwrap();
        fs::write(dir.path().join("target"), "secret").unwrap();
        symlink("target", &path).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::LocalFile);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::LocalFile);
    }
}
