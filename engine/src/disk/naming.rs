//! Giving a file a name that must not exist, on file systems of all kinds.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::LazyLock;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::checkpoint_file::directory_of;
use crate::fault_point::{self, Call};

/// Where each open file of this process can be found.
const OPEN_FILES: &str = "/proc/self/fd";

/// Whether files without a name can be given one here.
pub(super) fn has_open_files() -> bool {
    static HAS_OPEN_FILES: LazyLock<bool> = LazyLock::new(|| Path::new(OPEN_FILES).exists());
    *HAS_OPEN_FILES
}

/// How a name was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Named {
    /// In one step that fails where the name exists.
    #[default]
    AtOnce,
    /// After a look showed that the name is free: the file system knows nothing better.
    AfterLook,
}

/// Renames a file to a name that must not exist.
///
/// NFS and many file systems of FUSE know no such rename. A link fails where the name
/// exists as well, but FAT, exFAT, SMB and some of FUSE have no links. For those that
/// have neither the name is looked up right before an ordinary rename.
///
/// # Errors
/// [`Errno::EXIST`] where the name exists.
pub(super) fn rename_new(from: &Path, to: &Path) -> Result<Named, Errno> {
    fault_point::take_name(to)?;
    let renamed = passed(Call::RenameNew)
        .and_then(|()| rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE));
    match renamed {
        Ok(()) => return Ok(Named::AtOnce),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error),
    }
    match link_and_unlink(from, to) {
        Ok(()) => return Ok(Named::AtOnce),
        Err(Errno::EXIST) => return Err(Errno::EXIST),
        Err(error) if has_no_links(error) => {}
        Err(error) => return Err(error),
    }
    match fs::symlink_metadata(to) {
        Ok(_) => Err(Errno::EXIST),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            rustix::fs::rename(from, to)?;
            Ok(Named::AfterLook)
        }
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

fn passed(call: Call) -> Result<(), Errno> {
    fault_point::pass(call).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// What file systems without links say, or one that counts no more of them.
pub(super) fn has_no_links(error: Errno) -> bool {
    matches!(
        error,
        Errno::PERM
            | Errno::ACCESS
            | Errno::INVAL
            | Errno::NOSYS
            | Errno::OPNOTSUPP
            | Errno::MLINK
            | Errno::XDEV
    )
}

fn link_and_unlink(from: &Path, to: &Path) -> Result<(), Errno> {
    passed(Call::Link)?;
    rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())?;
    // The file has its name now; [`super::partial`] knows what a kill here leaves.
    if let Err(error) = fs::remove_file(from) {
        tracing::warn!(path = ?from, %error, "cannot remove the former name");
    }
    Ok(())
}

/// A new file without a name in the directory of `path`.
///
/// # Errors
/// Also where the file system has no such files, or no way to name them.
pub(super) fn create_unnamed(path: &Path, mode: u32) -> io::Result<File> {
    if !has_open_files() {
        return Err(Errno::OPNOTSUPP.into());
    }
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory_of(path), flags, Mode::from_raw_mode(mode))?.into())
}

/// Gives a file without a name one, which must not exist.
///
/// # Errors
/// [`Errno::EXIST`] where the name exists.
pub(super) fn name(file: &File, path: &Path) -> Result<(), Errno> {
    fault_point::take_name(path)?;
    passed(Call::Link)?;
    let open = format!("{OPEN_FILES}/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_of_naming_replaces_anything() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "older").unwrap();
        assert_eq!(rename_new(&from, &to), Err(Errno::EXIST));
        assert_eq!(link_and_unlink(&from, &to), Err(Errno::EXIST));
        let unnamed = create_unnamed(&to, 0o600).unwrap();
        assert_eq!(name(&unnamed, &to), Err(Errno::EXIST));
        assert_eq!(fs::read(&to).unwrap(), b"older");
        fs::remove_file(&to).unwrap();
        link_and_unlink(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert!(!from.exists());
        assert_eq!(rename_new(&to, &from), Ok(Named::AtOnce));
        name(&unnamed, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"");
    }
}
