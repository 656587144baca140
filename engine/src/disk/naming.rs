//! Giving a file a name that must not exist, on file systems of all kinds.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::fault_point::{self, Call};
use crate::os;
use crate::os::file::Facts;

/// How a name was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Named {
    /// In one step that fails where the name exists.
    #[default]
    AtOnce,
    /// After a look showed that the name was free: the file system has no better way.
    AfterLook,
    /// Not at all: somebody else's file with the same bytes has it already.
    ToAnother,
}

/// Renames a file to a name that must not exist.
///
/// NFS and many FUSE file systems have no such rename. A link also fails where the name
/// exists, but FAT, exFAT, SMB and some of FUSE have no links. Where there is neither,
/// the name is looked up right before an ordinary rename.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where the name exists.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<Named> {
    fault_point::take_name(to)?;
    let renamed = fault_point::pass(Call::RenameNew)
        .and_then(|()| os::name::rename_without_replacing(from, to));
    match renamed {
        Ok(()) => return Ok(Named::AtOnce),
        Err(error) if os::error::is_unsupported(&error) => {}
        Err(error) => return Err(error),
    }
    match link_and_unlink(from, to) {
        Ok(()) => return Ok(Named::AtOnce),
        Err(error) if os::name::has_no_links(&error) => {}
        Err(error) => return Err(error),
    }
    if Facts::at(to)?.is_some() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    os::name::rename_replacing(from, to)?;
    Ok(Named::AfterLook)
}

fn link_and_unlink(from: &Path, to: &Path) -> io::Result<()> {
    fault_point::pass(Call::Link)?;
    os::name::link(from, to)?;
    // The file has its name now; [`super::partial`] knows what a kill here leaves.
    if let Err(error) = os::name::remove(from) {
        tracing::warn!(path = ?from, %error, "cannot remove the former name");
    }
    Ok(())
}

/// Gives a name, which must not exist, to a file without one.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where the name exists.
pub(super) fn name(file: &File, path: &Path) -> io::Result<()> {
    fault_point::take_name(path)?;
    fault_point::pass(Call::Link)?;
    os::name::name_unnamed(file, path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const EXISTS: io::ErrorKind = io::ErrorKind::AlreadyExists;

    #[test]
    fn no_way_of_naming_replaces_anything() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "older").unwrap();
        assert_eq!(rename_new(&from, &to).unwrap_err().kind(), EXISTS);
        assert_eq!(link_and_unlink(&from, &to).unwrap_err().kind(), EXISTS);
        let unnamed = os::name::create_unnamed(dir.path(), 0o600).ok();
        assert_eq!(unnamed.is_some(), os::name::can_name_unnamed());
        if let Some(unnamed) = &unnamed {
            assert_eq!(name(unnamed, &to).unwrap_err().kind(), EXISTS);
        }
        assert_eq!(fs::read(&to).unwrap(), b"older");
        fs::remove_file(&to).unwrap();
        link_and_unlink(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        assert!(!from.exists());
        assert_eq!(rename_new(&to, &from).unwrap(), Named::AtOnce);
        if let Some(unnamed) = &unnamed {
            name(unnamed, &to).unwrap();
            assert_eq!(fs::read(&to).unwrap(), b"");
        }
    }
}
