//! Room for files: the kind of file system, the space it has left, and reserving it.

use std::fmt;
use std::fs::File;
use std::io;

use super::calls;
use super::error::is_unsupported;
pub(crate) use crate::os::terms::Space;

/// What kind of file system a file is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ntfs,
    Refs,
    Fat,
    ExFat,
    Remote,
    Other,
}

impl FileSystem {
    #[cfg(test)]
    pub(crate) const THAT_RESERVES: Self = Self::Ntfs;

    /// The file system that holds `file`.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        if calls::is_remote(file) {
            return Ok(Self::Remote);
        }
        Ok(match calls::file_system(file)?.0.to_ascii_uppercase().as_str() {
            "NTFS" => Self::Ntfs,
            "REFS" => Self::Refs,
            "EXFAT" => Self::ExFat,
            name if name.starts_with("FAT") => Self::Fat,
            _ => Self::Other,
        })
    }

    /// Whether files live in memory, so that a page of a mapping that was brought in stays.
    pub(crate) fn is_memory(self) -> bool {
        false
    }

    /// Whether storing into reserved space takes longer than into a sparse file. NTFS fills the
    /// clusters before a write with zeros unless they were written, so that the first bytes of a
    /// connection that begins far ahead would wait for all that is before them.
    pub(crate) fn is_slower_reserved(self) -> bool {
        matches!(self, Self::Ntfs | Self::Refs)
    }

    /// Whether it reports as free space exactly what a reservation can have.
    pub(crate) fn reports_exactly(self) -> bool {
        self == Self::Ntfs
    }

    /// Whether its blocks belong to another machine or program.
    pub(crate) fn is_remote(self) -> bool {
        self == Self::Remote
    }

    /// Whether reserving a block promises nothing about a store into a mapping.
    pub(crate) fn promises_mappings_nothing(self) -> bool {
        self != Self::Ntfs
    }

    #[cfg(test)]
    pub(crate) fn that_promise_mappings_nothing() -> impl Iterator<Item = Self> {
        [Self::Refs, Self::Fat, Self::ExFat, Self::Remote, Self::Other].into_iter()
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::Ntfs => "NTFS",
            Self::Refs => "ReFS",
            Self::Fat => "FAT",
            Self::ExFat => "exFAT",
            Self::Remote => "a network drive",
            Self::Other => "this file system",
        })
    }
}

/// The space of the file system that holds `file`.
pub(crate) fn around(file: &File) -> io::Result<Space> {
    let path = calls::path(file)?;
    let (available_bytes, total_bytes, free_bytes) = calls::space(path.parent().unwrap_or(&path))?;
    Ok(Space { total_bytes, free_bytes, available_bytes })
}

/// Sets the length of a file, whose new bytes take no space until they are written, where the file
/// system has sparse files.
///
/// # Errors
/// When the file system has no files of that length, or no room where it has no sparse ones.
pub(crate) fn lengthen(file: &File, total_bytes: u64) -> io::Result<()> {
    match calls::make_sparse(file) {
        Err(error) if !is_unsupported(&error) => Err(error),
        _ => file.set_len(total_bytes),
    }
}

/// Reserves clusters for the first `total_bytes` of a file and sets its length.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`], [`io::ErrorKind::QuotaExceeded`],
/// [`io::ErrorKind::FileTooLarge`], or one that [`super::error::is_unsupported`] where the file
/// system cannot reserve. The file may be longer than before.
pub(crate) fn reserve(file: &File, total_bytes: u64) -> io::Result<()> {
    calls::allocate(file, total_bytes)?;
    file.set_len(total_bytes)
}

/// The largest file that this process may write: Windows has no such limit.
pub(crate) fn file_size_limit_bytes() -> Option<u64> {
    None
}
