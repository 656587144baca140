//! The kinds of file systems that macOS has, and reserving room on them.

use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::io;

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, retry_on_intr};

use super::super::file::Facts;

/// What kind of file system a file is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Apfs,
    Hfs,
    ExFat,
    Fat,
    Smb,
    Nfs,
    /// Of another program or machine.
    Remote,
    Other,
}

impl FileSystem {
    #[cfg(test)]
    pub(crate) const THAT_RESERVES: Self = Self::Hfs;

    /// The file system that holds `file`.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        /// MNT_LOCAL: its blocks are on this machine.
        const LOCAL: u32 = 0x1000;
        let stat = rustix::fs::fstatfs(file)?;
        let name: Vec<u8> = stat.f_fstypename.iter().map(|unit| unit.cast_unsigned()).collect();
        Ok(match CStr::from_bytes_until_nul(&name).unwrap_or_default().to_bytes() {
            b"apfs" => Self::Apfs,
            b"hfs" => Self::Hfs,
            b"exfat" => Self::ExFat,
            b"msdos" => Self::Fat,
            b"smbfs" => Self::Smb,
            b"nfs" => Self::Nfs,
            _ if stat.f_flags & LOCAL == 0 => Self::Remote,
            _ => Self::Other,
        })
    }

    /// Whether files live in memory, so that a page of a mapping that was brought in stays.
    pub(crate) fn is_memory(self) -> bool {
        false
    }

    /// Whether storing into reserved space takes longer than into a sparse file. HFS+ and FAT fill
    /// with zeros in any case; APFS never does.
    pub(crate) fn is_slower_reserved(self) -> bool {
        false
    }

    /// Whether it reports as free space exactly what a reservation can have: APFS can free more.
    pub(crate) fn reports_exactly(self) -> bool {
        self == Self::Hfs
    }

    /// Whether its blocks belong to another machine or program.
    pub(crate) fn is_remote(self) -> bool {
        matches!(self, Self::Smb | Self::Nfs | Self::Remote)
    }

    /// Whether reserving a block promises nothing about a store into a mapping: only HFS+ writes
    /// in place.
    pub(crate) fn promises_mappings_nothing(self) -> bool {
        self != Self::Hfs
    }

    #[cfg(test)]
    pub(crate) fn that_promise_mappings_nothing() -> impl Iterator<Item = Self> {
        [Self::Apfs, Self::ExFat, Self::Fat, Self::Smb, Self::Nfs, Self::Other].into_iter()
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::Apfs => "APFS",
            Self::Hfs => "HFS+",
            Self::ExFat => "exFAT",
            Self::Fat => "FAT",
            Self::Smb => "SMB",
            Self::Nfs => "NFS",
            Self::Remote => "a network drive",
            Self::Other => "this file system",
        })
    }
}

/// Reserves blocks for the first `total_bytes` of a file and sets its length.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`], [`io::ErrorKind::QuotaExceeded`],
/// [`io::ErrorKind::FileTooLarge`], or one that [`super::super::error::is_unsupported`] where the
/// file system cannot reserve. The file may be longer than before.
pub(crate) fn reserve(file: &File, total_bytes: u64) -> io::Result<()> {
    // F_PREALLOCATE counts from the end of what the file has: what an earlier run reserved would be
    // reserved again, and holes stay.
    match Facts::of(file)?.disk_bytes() {
        0 => {}
        owned if owned >= total_bytes => return file.set_len(total_bytes),
        _ => return Err(Errno::NOTSUP.into()),
    }
    let allocate = || rustix::fs::fallocate(file, FallocateFlags::empty(), 0, total_bytes);
    Ok(retry_on_intr(allocate)?)
}
