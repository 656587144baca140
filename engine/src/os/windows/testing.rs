//! What tests do with files that programs have no need to.

use std::fs::File;
use std::path::Path;

use super::file::PRIVATE_MODE;

/// Whether files have modes.
pub(crate) const HAS_MODES: bool = false;

/// The mode of a file, which is that of all.
pub(crate) fn mode(_: &Path) -> u32 {
    PRIVATE_MODE
}

pub(crate) fn set_mode(_: &Path, _: u32) {}

/// Makes a symbolic link; false where nobody may: by default only administrators are allowed to.
pub(crate) fn symlink(target: impl AsRef<Path>, link: impl AsRef<Path>) -> bool {
    let link = link.as_ref();
    // Wine says that it has made one and has not.
    std::os::windows::fs::symlink_file(target, link).is_ok() && link.is_symlink()
}

/// Makes a FIFO, which do not lie beside files here.
pub(crate) fn make_fifo(_: &Path) -> bool {
    false
}

/// A file of no length that can be lengthened and not written.
pub(crate) fn unwritable() -> Option<File> {
    None
}

/// The errors by which a file system refuses a name.
pub(crate) const REFUSALS: [&str; 1] = ["EILSEQ"];

/// Whether the system tells who holds a lock.
pub(crate) fn tells_holders() -> bool {
    false
}

/// Whether a process can have a limit for the size of its files.
pub(crate) const HAS_FILE_SIZE_LIMIT: bool = false;

/// Whether a name in `directory` can be given to another file, and be removed, while its file is
/// open: on NTFS, and not on FAT or under Wine.
pub(crate) fn frees_open_names(directory: &Path) -> bool {
    let (one, other) = (directory.join("open"), directory.join("other"));
    let open = File::create(&one).unwrap();
    std::fs::write(&other, "").unwrap();
    let replaced = std::fs::rename(&other, &one).is_ok();
    drop(open);
    let _ = std::fs::remove_file(&other);
    std::fs::remove_file(&one).unwrap();
    replaced
}
