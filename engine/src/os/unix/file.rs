//! Files: opening them without surprises, and what the system knows of them.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _,
};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

use super::error::{is_any, is_unsupported};
use super::kernel;
pub(crate) use super::kernel::{begin_write_back, writer_of};
use crate::model::range::ByteRange;
pub(crate) use crate::os::terms::{Access, Identity, Kind};

/// The mode of a file that its owner alone may read and write.
pub(crate) const PRIVATE_MODE: u32 = 0o600;

/// The mode of a file that everybody may read and write, as far as the umask allows.
pub(crate) const OPEN_MODE: u32 = 0o666;

/// Opens the file at `path` without following a link there and without waiting, as opening a FIFO
/// otherwise would; `None` where nothing is there.
///
/// # Errors
/// Also where `path` is a link.
pub(crate) fn open(path: &Path, access: Access) -> io::Result<Option<File>> {
    let options = options(access, OFlags::NOFOLLOW | OFlags::NONBLOCK);
    match options.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Syncs the file at `path`, which is open for reading alone.
///
/// # Errors
/// When it cannot be synced.
pub(crate) fn sync_read(file: &File, _: &Path) -> io::Result<()> {
    file.sync_all()
}

/// Opens for reading whatever `path` leads to, without waiting.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn open_followed(path: &Path) -> io::Result<File> {
    options(Access::Read, OFlags::NONBLOCK).open(path)
}

fn options(access: Access, flags: OFlags) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::ReadWrite);
    options.custom_flags(flags.bits().cast_signed());
    options
}

/// Creates a file that only its owner may read and write, open for both.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where something is at `path`, even a dangling link.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE_MODE).open(path)
}

/// Creates a directory that only its owner may look into, and any missing parents.
///
/// # Errors
/// When it cannot be created.
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What was known of a file at one moment.
#[derive(Debug)]
pub(crate) struct Facts(Metadata);

impl Facts {
    /// The facts of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(Self)
    }

    /// The facts of what is at `path`, without following a link; `None` where nothing is there.
    pub(crate) fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Self(metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The facts of what `path` leads to.
    pub(crate) fn behind(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(Self)
    }

    pub(crate) fn kind(&self) -> Kind {
        let found = self.0.file_type();
        if found.is_file() {
            Kind::File
        } else if found.is_symlink() {
            Kind::Link
        } else if found.is_dir() {
            Kind::Directory
        } else if found.is_fifo() {
            Kind::Fifo
        } else {
            Kind::Other
        }
    }

    /// Whether it is a regular file.
    pub(crate) fn is_file(&self) -> bool {
        self.0.is_file()
    }

    /// Its length in bytes.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.0.len()
    }

    /// How much disk space it occupies, in bytes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.0.blocks().saturating_mul(512)
    }

    /// Whether both describe the same file.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { device: self.0.dev(), inode: self.0.ino() }
    }

    /// How many names it has.
    pub(crate) fn names(&self) -> u64 {
        self.0.nlink()
    }

    /// The numeric id of the user who owns it.
    pub(crate) fn owner(&self) -> u32 {
        self.0.uid()
    }

    /// Its mode, of which the lowest nine bits are permissions.
    pub(crate) fn mode(&self) -> u32 {
        self.0.mode() & 0o7777
    }

    /// The permissions alone.
    pub(crate) fn permissions(&self) -> u32 {
        self.mode() & 0o777
    }

    /// Whether only its owner can read or write it, as far as its mode tells.
    pub(crate) fn is_private(&self) -> bool {
        self.mode() & 0o077 == 0
    }

    /// When it was written last: seconds since 1970, and nanoseconds.
    pub(crate) fn modified(&self) -> (i64, u32) {
        (self.0.mtime(), u32::try_from(self.0.mtime_nsec()).unwrap_or(0))
    }

    /// The same time, in a form that can be compared.
    pub(crate) fn modified_time(&self) -> SystemTime {
        self.0.modified().unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// The length of an open file in bytes, asked in the cheapest way there is.
pub(crate) fn len_bytes(file: &File) -> io::Result<u64> {
    Ok(u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0))
}

/// Reads up to `buffer.len()` bytes at `offset`, wherever the file's own position is.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

/// Fills `buffer` with the bytes at `offset`.
///
/// # Errors
/// Also where the file ends earlier.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

/// Writes all of `bytes` at `offset`, wherever the file's own position is.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// The mode that this process gives a new file.
pub(crate) fn usual_mode() -> u32 {
    OPEN_MODE & !kernel::umask()
}

/// Sets the mode of a file, where files have modes.
///
/// # Errors
/// When it cannot be set. FAT and some network file systems have no modes, which is no error.
pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    unless_unsupported(file.set_permissions(Permissions::from_mode(mode)))
}

/// The accounts and groups, beside its owner, that may read a file whatever its mode: there are none.
///
/// # Errors
/// Never.
pub(crate) fn open_to_others(_: &File) -> io::Result<Option<String>> {
    Ok(None)
}

/// Sets the time at which a file was written last, where files have such times.
///
/// # Errors
/// As for [`set_mode`].
pub(crate) fn set_modified(file: &File, time: SystemTime) -> io::Result<()> {
    unless_unsupported(file.set_modified(time))
}

fn unless_unsupported(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is_unsupported(&error) || is_any(&error, &[Errno::PERM]) => Ok(()),
        result => result,
    }
}

/// Whether part of `range` was never written, as far as the file system tells.
pub(crate) fn has_hole(file: &File, range: ByteRange) -> bool {
    // A file system that knows nothing of holes reports the end of the file.
    rustix::fs::seek(file, SeekFrom::Hole(range.start())).is_ok_and(|hole| hole < range.end())
}
