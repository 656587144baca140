//! Files: opening them without surprises, and what the system knows of them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use windows_sys::Win32::Foundation::ERROR_CANT_ACCESS_FILE;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_ATTRIBUTE_DIRECTORY, FILE_ATTRIBUTE_REPARSE_POINT, FILE_ATTRIBUTE_SPARSE_FILE,
    FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT,
};

use super::calls::{self, joined};
use super::error::{is_unsupported, number};
use super::name::patiently;
pub(crate) use super::rights::open_to_others;
use crate::model::range::ByteRange;
pub(crate) use crate::os::absent::{begin_write_back, writer_of};
pub(crate) use crate::os::terms::{Access, Identity, Kind};

/// The mode of a file that its owner alone may read and write. Files have no modes here: what they
/// inherit from the directory decides.
pub(crate) const PRIVATE_MODE: u32 = 0o600;

/// The mode of a file that everybody may read and write.
pub(crate) const OPEN_MODE: u32 = 0o666;

/// Between the beginning of the system's time, in 1601, and 1970.
const BEFORE_1970: Duration = Duration::from_secs(11_644_473_600);

/// Opens the file at `path` without following a link there; `None` where nothing is there.
///
/// # Errors
/// Also where `path` is a link.
pub(crate) fn open(path: &Path, access: Access) -> io::Result<Option<File>> {
    match patiently(|| options(access, FILE_FLAG_OPEN_REPARSE_POINT).open(path)) {
        Ok(file) => {
            let found = file.metadata()?;
            if found.is_symlink() {
                return Err(io::Error::from_raw_os_error(number(ERROR_CANT_ACCESS_FILE)));
            }
            // Other reparse points are files all the same, such as those that are kept in a cloud,
            // but their bytes come only when they are opened as such.
            if found.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT == 0 {
                return Ok(Some(file));
            }
            patiently(|| options(access, 0).open(path)).map(Some)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Syncs the file at `path`, which is open for reading alone. Only a handle for writing can be
/// synced, so one that may not be written is left to whoever wrote it.
///
/// # Errors
/// When it cannot be synced, or is gone.
pub(crate) fn sync_read(_: &File, path: &Path) -> io::Result<()> {
    match open(path, Access::ReadWrite) {
        Ok(Some(file)) => file.sync_all(),
        Ok(None) => Err(io::ErrorKind::NotFound.into()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens for reading whatever `path` leads to.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn open_followed(path: &Path) -> io::Result<File> {
    patiently(|| options(Access::Read, 0).open(path))
}

fn options(access: Access, flags: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::ReadWrite);
    // A directory can be opened, too, as elsewhere.
    options.custom_flags(flags | FILE_FLAG_BACKUP_SEMANTICS);
    options
}

/// Creates a file, open for reading and writing. Who else may is inherited from the directory.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where something is at `path`, even a dangling link.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Creates a directory and any missing parents.
///
/// # Errors
/// When it cannot be created.
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// What was known of a file at one moment.
#[derive(Debug)]
pub(crate) struct Facts {
    kind: Kind,
    len_bytes: u64,
    disk_bytes: u64,
    identity: Identity,
    names: u64,
    modified: SystemTime,
}

impl Facts {
    /// The facts of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let told = calls::information(file)?;
        let len_bytes = joined(told.nFileSizeHigh, told.nFileSizeLow);
        let kind = match file.metadata()?.file_type() {
            found if found.is_symlink() => Kind::Link,
            _ if calls::is_pipe(file) => Kind::Fifo,
            _ if told.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY != 0 => Kind::Directory,
            found if found.is_file() => Kind::File,
            _ => Kind::Other,
        };
        let written = told.ftLastWriteTime;
        let since_1601 = joined(written.dwHighDateTime, written.dwLowDateTime);
        let since_1601 = Duration::from_nanos(since_1601.saturating_mul(100));
        // Of the long one, file systems other than ReFS use the lower half alone.
        let short = joined(told.nFileIndexHigh, told.nFileIndexLow);
        let inode = calls::long_id(file).map_or(short, folded);
        Ok(Self {
            kind,
            len_bytes,
            disk_bytes: calls::allocated_bytes(file).unwrap_or(len_bytes),
            identity: Identity { device: told.dwVolumeSerialNumber.into(), inode },
            names: told.nNumberOfLinks.into(),
            modified: SystemTime::UNIX_EPOCH + since_1601.saturating_sub(BEFORE_1970),
        })
    }

    /// The facts of what is at `path`, without following a link; `None` where nothing is there.
    pub(crate) fn at(path: &Path) -> io::Result<Option<Self>> {
        match looked_at(path, FILE_FLAG_OPEN_REPARSE_POINT) {
            Ok(facts) => Ok(Some(facts)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The facts of what `path` leads to.
    pub(crate) fn behind(path: &Path) -> io::Result<Self> {
        looked_at(path, 0)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is a regular file.
    pub(crate) fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// Its length in bytes.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// How much disk space it occupies, in bytes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// Whether both describe the same file. A volume without a number may be any: Wine forgets the
    /// one of an open file that was renamed.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (one, other) = (self.identity, other.identity);
        let volumes = [one.device, other.device];
        one.inode == other.inode && (volumes[0] == volumes[1] || volumes.contains(&0))
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// How many names it has.
    pub(crate) fn names(&self) -> u64 {
        self.names
    }

    /// The numeric id of the user who owns it: there are none here.
    pub(crate) fn owner(&self) -> u32 {
        0
    }

    /// Its mode, of which the lowest nine bits are permissions.
    pub(crate) fn mode(&self) -> u32 {
        PRIVATE_MODE
    }

    /// The permissions alone.
    pub(crate) fn permissions(&self) -> u32 {
        self.mode() & 0o777
    }

    /// Whether only its owner can read or write it, as far as its mode tells: never here.
    #[expect(clippy::unused_self, reason = "files of other systems tell")]
    pub(crate) fn is_private(&self) -> bool {
        false
    }

    /// When it was written last: seconds since 1970, and nanoseconds.
    pub(crate) fn modified(&self) -> (i64, u32) {
        let since = self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        (i64::try_from(since.as_secs()).unwrap_or(0), since.subsec_nanos())
    }

    /// The same time, in a form that can be compared.
    pub(crate) fn modified_time(&self) -> SystemTime {
        self.modified
    }
}

/// The 64 bits that stand for a number of 128: where the upper half is zero, the lower one.
fn folded(id: [u8; 16]) -> u64 {
    let id = u128::from_le_bytes(id);
    (id >> 64) as u64 ^ id as u64
}

/// Opens what is at `path` without asking to read it, which may not be allowed.
fn looked_at(path: &Path, flags: u32) -> io::Result<Facts> {
    let mut options = OpenOptions::new();
    options.access_mode(0).custom_flags(flags | FILE_FLAG_BACKUP_SEMANTICS);
    Facts::of(&options.open(path)?)
}

/// The length of an open file in bytes.
pub(crate) fn len_bytes(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}

/// Reads up to `buffer.len()` bytes at `offset`. It moves the file's own position, which nobody
/// uses.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(buffer, offset)
}

/// Fills `buffer` with the bytes at `offset`.
///
/// # Errors
/// Also where the file ends earlier.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.seek_read(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.seek_write(&bytes[written..], offset + written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The mode that this process gives a new file.
pub(crate) fn usual_mode() -> u32 {
    OPEN_MODE
}

/// Sets the mode of a file, where files have modes: not here.
///
/// # Errors
/// Never.
pub(crate) fn set_mode(_: &File, _: u32) -> io::Result<()> {
    Ok(())
}

/// Sets the time at which a file was written last, where files have such times.
///
/// # Errors
/// When it cannot be set.
pub(crate) fn set_modified(file: &File, time: SystemTime) -> io::Result<()> {
    match file.set_modified(time) {
        Err(error) if is_unsupported(&error) => Ok(()),
        result => result,
    }
}

/// Whether part of `range` was never written, as far as the file system tells.
pub(crate) fn has_hole(file: &File, range: ByteRange) -> bool {
    let is_sparse = |found: fs::Metadata| found.file_attributes() & FILE_ATTRIBUTE_SPARSE_FILE != 0;
    file.metadata().is_ok_and(is_sparse)
        && calls::has_unallocated(file, range.start(), range.end()).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_id_that_is_short_stays_and_both_halves_of_another_count() {
        let id =
            |high: u64, low: u64| folded((u128::from(high) << 64 | u128::from(low)).to_le_bytes());
        assert_eq!(id(0, 7 << 48 | 5), 7 << 48 | 5);
        assert_ne!(id(1, 5), id(2, 5));
        assert_ne!(id(1, 5), id(1, 6));
    }

    #[test]
    fn the_long_id_of_a_file_with_a_short_one_is_the_same_number() {
        let file = tempfile::tempfile().unwrap();
        let told = calls::information(&file).unwrap();
        let Ok(long) = calls::long_id(&file) else { return };
        if long[8..].iter().all(|byte| *byte == 0) {
            assert_eq!(folded(long), joined(told.nFileIndexHigh, told.nFileIndexLow));
        }
    }
}
