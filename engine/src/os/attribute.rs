//! Attributes that a file carries beside its data, where the file system has them.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::XattrFlags;

/// The version of the object that a published file is.
const VERSION: &str = "user.haul.version";

/// Reads the version that the file at `path` carries into `buffer`, with its length in bytes.
///
/// # Errors
/// Also where it carries none, or a longer one.
pub(crate) fn read_version(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::fs::getxattr(path, VERSION, buffer)?)
}

/// Has a file carry this version.
///
/// # Errors
/// Also where the file system has no attributes.
pub(crate) fn write_version(file: &File, version: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, VERSION, version, XattrFlags::empty())?)
}
