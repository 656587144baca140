//! Attributes that a file carries beside its data, where the file system has them.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::XattrFlags;

/// The attribute that says which version of the object a published file is.
const VERSION: &str = "user.haul.version";

/// Reads the version recorded with the file at `path` into `buffer`; returns its length in bytes.
///
/// # Errors
/// Also where no version is recorded, or a longer one.
pub(crate) fn read_version(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::fs::getxattr(path, VERSION, buffer)?)
}

/// Records this version with a file.
///
/// # Errors
/// Also where the file system has no attributes.
pub(crate) fn write_version(file: &File, version: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, VERSION, version, XattrFlags::empty())?)
}
