//! What of files macOS has in its own way, or not at all.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::LazyLock;

use rustix::fs::Mode;
use rustix::process;

/// Whether files without a name can be given one here: macOS has none.
pub(crate) fn can_name_unnamed() -> bool {
    false
}

/// A new file without a name, which macOS does not have.
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

/// The permissions that a new file of this process does not have. Reading them changes them for a
/// moment, once, and so that what another thread creates then is private.
pub(crate) fn umask() -> u32 {
    static UMASK: LazyLock<u32> = LazyLock::new(|| {
        let umask = process::umask(Mode::RWXG | Mode::RWXO);
        process::umask(umask);
        umask.bits().into()
    });
    *UMASK
}

/// Starts writing a file's data to the disk, where the system can be asked to: a sync does all the
/// work here.
pub(crate) fn begin_write_back(_: &File) {}

/// Another process that has `file` open for writing: the system does not tell.
pub(crate) fn writer_of(_: &File) -> Option<u32> {
    None
}

/// Whether the system has a list of all locks.
pub(crate) fn lists_locks() -> bool {
    false
}

/// The process that has the lock of a file: the system does not tell.
pub(crate) fn holder(_: &File) -> Option<u32> {
    None
}

#[cfg(test)]
pub(crate) fn make_fifo(path: &Path) -> bool {
    std::process::Command::new("mkfifo").arg(path).status().unwrap().success()
}

#[cfg(test)]
pub(crate) fn unwritable() -> Option<File> {
    None
}
