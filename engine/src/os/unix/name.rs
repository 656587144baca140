//! Names: which ones a file system accepts, and giving them to files.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use super::error::{is_any, is_unsupported};
pub(crate) use super::kernel::{can_name_unnamed, create_unnamed, name_unnamed};
pub(crate) use crate::os::terms::Misfit;

/// The name made of these bytes, which came from another name or pieces of it.
pub(crate) fn of_bytes(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}

/// Whether no file system here takes this character in a name: some do.
pub(crate) fn is_refused(_: char) -> bool {
    false
}

/// Why no file here can have this name, which is one component of a path.
pub(crate) fn why_refused(_: &OsStr) -> Option<String> {
    None
}

/// What this error says about the name of a file that was to be created.
pub(crate) fn misfit(error: &io::Error, _: &OsStr) -> Option<Misfit> {
    match Errno::from_io_error(error)? {
        Errno::NAMETOOLONG => Some(Misfit::TooLong),
        Errno::INVAL | Errno::ILSEQ => Some(Misfit::Refused),
        _ => None,
    }
}

/// Renames a file in one step that fails where the new name exists.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where the new name exists, and one that [`is_unsupported`]
/// where the file system has no such operation.
pub(crate) fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

/// Renames a file in one step; what has the new name already is gone.
///
/// # Errors
/// The old name is in place then.
pub(crate) fn rename_replacing(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

/// Removes a file by its name.
///
/// # Errors
/// The file is as it was then.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}

/// Whether this error from [`rename_replacing`] means that a file which is open cannot be replaced.
pub(crate) fn cannot_replace_open(_: &io::Error) -> bool {
    false
}

/// As [`rename_replacing`], which never waits for anybody.
///
/// # Errors
/// As for [`rename_replacing`].
pub(crate) fn rename_replacing_in_time(from: &Path, to: &Path) -> io::Result<()> {
    rename_replacing(from, to)
}

/// Gives a file a second name, which must not exist.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where it exists, and one that [`has_no_links`] where a file can
/// have only one name. A symbolic link is not followed.
pub(crate) fn link(file: &Path, name: &Path) -> io::Result<()> {
    Ok(rustix::fs::linkat(CWD, file, CWD, name, AtFlags::empty())?)
}

/// Whether this error means that the file system has no links, or allows this file no more.
pub(crate) fn has_no_links(error: &io::Error) -> bool {
    is_unsupported(error) || is_any(error, &[Errno::PERM, Errno::ACCESS, Errno::MLINK, Errno::XDEV])
}

/// Makes the names in `directory` durable: without it a power cut can undo a rename. A file system
/// that cannot sync a directory (some FUSE and SMB) is left to its own promises.
///
/// # Errors
/// When they are not durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = File::open(directory)?;
    match directory.sync_all() {
        Err(error) if is_unsupported(&error) => {}
        other => other?,
    }
    // An XFS that has shut itself down, as it does when its disk goes away, syncs a directory
    // without an error: it has forgotten what it had not written, so nothing is left to write. But
    // it returns no metadata any more, and it stopped doing so before it forgot.
    directory.metadata().map(drop)
}
