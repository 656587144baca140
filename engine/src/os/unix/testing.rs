//! What tests do with files that programs have no need to.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Whether files have modes.
pub(crate) const HAS_MODES: bool = true;

/// The mode of what `path` leads to, without its kind.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Makes a symbolic link; false where nobody may.
pub(crate) fn symlink(target: impl AsRef<Path>, link: impl AsRef<Path>) -> bool {
    std::os::unix::fs::symlink(target, link).unwrap();
    true
}

/// Makes a FIFO; false where there are none.
pub(crate) fn make_fifo(path: &Path) -> bool {
    super::kernel::make_fifo(path)
}

/// A file of no length that can be lengthened and not written; `None` where there is no such thing.
pub(crate) fn unwritable() -> Option<File> {
    super::kernel::unwritable()
}

/// The errors by which a file system refuses a name.
pub(crate) const REFUSALS: [&str; 2] = ["EINVAL", "EILSEQ"];

/// Whether the system tells who holds a lock.
pub(crate) fn tells_holders() -> bool {
    super::kernel::lists_locks()
}

/// Whether a process can have a limit for the size of its files.
pub(crate) const HAS_FILE_SIZE_LIMIT: bool = true;

/// Whether a name can be given to another file, and be removed, while its file is open.
pub(crate) fn frees_open_names(_: &Path) -> bool {
    true
}
