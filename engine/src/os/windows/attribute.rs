//! What a file carries beside its data: on NTFS, in a stream of its own.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::calls;

/// The stream that says which version of the object a published file is.
const VERSION: &str = ":haul.version";

/// # Errors
/// When `path` is empty.
fn stream_of(path: &Path) -> io::Result<PathBuf> {
    // In a path of one letter the colon would follow the name of a drive.
    let mut name = std::path::absolute(path)?.into_os_string();
    name.push(VERSION);
    Ok(name.into())
}

/// Reads the version recorded with the file at `path` into `buffer`; returns its length in bytes.
///
/// # Errors
/// Also where no version is recorded, or a longer one.
pub(crate) fn read_version(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    let mut stream = File::open(stream_of(path)?)?;
    let len = usize::try_from(stream.metadata()?.len()).unwrap_or(usize::MAX);
    let room = buffer.get_mut(..len).ok_or(io::ErrorKind::InvalidData)?;
    stream.read_exact(room)?;
    Ok(len)
}

/// Records this version with a file, whose time stays as it is.
///
/// # Errors
/// Also where the file system has no streams.
pub(crate) fn write_version(file: &File, version: &[u8]) -> io::Result<()> {
    if !calls::file_system(file)?.1 {
        // The name of the stream would be that of another file, or none.
        return Err(io::ErrorKind::Unsupported.into());
    }
    // A write to the stream changes the time of the whole file.
    let modified = file.metadata()?.modified()?;
    std::fs::write(stream_of(&calls::path(file)?)?, version)?;
    file.set_modified(modified)
}
