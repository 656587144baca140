//! What of files only Linux has, where the system is another one.

use std::fs::File;
use std::io;
use std::path::Path;

/// Whether files without a name can be given one here: there are none.
pub(crate) fn can_name_unnamed() -> bool {
    false
}

/// A new file without a name, which the system does not have.
///
/// # Errors
/// Always.
pub(crate) fn create_unnamed(_: &Path, _: u32) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// See [`create_unnamed`].
///
/// # Errors
/// Always.
pub(crate) fn name_unnamed(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Starts writing a file's data to the disk, where the system can be asked to: a sync does all the
/// work here.
pub(crate) fn begin_write_back(_: &File) {}

/// Another process that has `file` open for writing: the system does not tell.
pub(crate) fn writer_of(_: &File) -> Option<u32> {
    None
}

/// The process that has the lock of `file`: the system does not tell.
pub(crate) fn holder(_: &File) -> Option<u32> {
    None
}

/// A directory in which names are claimed before they are there. Files get their names and their
/// locks at once here, so nobody needs that.
///
/// # Errors
/// Always.
pub(crate) fn open_for_claims(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// See [`open_for_claims`].
///
/// # Errors
/// Always.
pub(crate) fn claim(_: &File, _: u64) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

/// See [`open_for_claims`].
pub(crate) fn release(_: &File, _: u64) {}
