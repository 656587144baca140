//! Room for files: the kind of file system, the space it has left, and reserving it.

use std::fs::File;
use std::io;

pub(crate) use super::kernel::{FileSystem, reserve};
pub(crate) use crate::os::terms::Space;

/// The space of the file system that holds `file`.
pub(crate) fn around(file: &File) -> io::Result<Space> {
    let stat = rustix::fs::fstatvfs(file)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space {
        total_bytes: bytes(stat.f_blocks),
        free_bytes: bytes(stat.f_bfree),
        available_bytes: bytes(stat.f_bavail),
    })
}

/// Sets the length of a file, whose new bytes take no space until they are written.
///
/// # Errors
/// When the file system has no files of that length.
pub(crate) fn lengthen(file: &File, total_bytes: u64) -> io::Result<()> {
    file.set_len(total_bytes)
}

/// The largest file that this process may write, in bytes (RLIMIT_FSIZE). A write beyond it does
/// not fail but kills the process with SIGXFSZ, so every length is compared with it first.
pub(crate) fn file_size_limit_bytes() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}
