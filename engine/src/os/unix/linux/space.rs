//! The kinds of file systems that Linux has, and reserving room on them.

use std::fmt;
use std::fs::File;
use std::io;

use rustix::fs::FallocateFlags;
use rustix::io::retry_on_intr;

/// What kind of file system a file is on, as statfs(2) numbers them in `f_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileSystem(u32);

/// File systems that report as free space exactly what a reservation can have.
const EXACT: [FileSystem; 3] = [FileSystem::EXT, FileSystem::XFS, FileSystem::TMPFS];

/// Local file systems on which reserving a block promises nothing to a mapping: each write goes to
/// another place (copy on write, logs).
const MOVING: [(u32, &str); 8] = [
    (0x9123_683E, "btrfs"),
    (0xCA45_1A4E, "bcachefs"),
    (0x2FC1_2FC1, "ZFS"),
    (0xF2F5_2010, "F2FS"),
    (0x3434, "NILFS2"),
    (0x4D44, "FAT"),
    (0x2011_BAB0, "exFAT"),
    (0xF15F, "eCryptfs"),
];

/// File systems whose blocks belong to another machine or program, which may fail, or change the
/// file, at any time: nothing there is mapped, not even for reading.
const REMOTE: [(u32, &str); 14] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "SMB"),
    (0xFE53_4D42, "SMB"),
    (0x517B, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x0BD0_0BD0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x786F_4256, "a folder of VirtualBox"),
    (0xBACB_ACBC, "a folder of VMware"),
];

impl FileSystem {
    const EXT: Self = Self(0xEF53);
    #[cfg(test)]
    pub(crate) const THAT_RESERVES: Self = Self::EXT;
    const XFS: Self = Self(0x5846_5342);
    const TMPFS: Self = Self(0x0102_1994);
    const OVERLAY: Self = Self(0x794C_7630);

    /// The file system that holds `file`.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        // All numbers have 32 bits; the field is wider, and signed on some machines.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(Self(rustix::fs::fstatfs(file)?.f_type as u32))
    }

    /// Whether files live in memory, so that a page of a mapping that was brought in stays.
    pub(crate) fn is_memory(self) -> bool {
        self == Self::TMPFS
    }

    /// Whether storing into reserved space takes longer than into a sparse file. Reserving memory
    /// takes as long as filling it, one page after the other while the network waits: 0.11 s of
    /// 0.66 s for 1 GiB into tmpfs. A page that a mapping brings in stays.
    pub(crate) fn is_slower_reserved(self) -> bool {
        self.is_memory()
    }

    /// Whether it reports as free space exactly what a reservation can have.
    pub(crate) fn reports_exactly(self) -> bool {
        EXACT.contains(&self)
    }

    /// Whether its blocks belong to another machine or program.
    pub(crate) fn is_remote(self) -> bool {
        REMOTE.iter().any(|(of, _)| *of == self.0)
    }

    /// Whether reserving a block promises nothing about a store into a mapping.
    pub(crate) fn promises_mappings_nothing(self) -> bool {
        self.is_remote() || MOVING.iter().any(|(of, _)| *of == self.0)
    }

    #[cfg(test)]
    pub(crate) fn that_promise_mappings_nothing() -> impl Iterator<Item = Self> {
        MOVING.iter().chain(&REMOTE).map(|(number, _)| Self(*number))
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::EXT => "ext4",
            Self::XFS => "xfs",
            Self::TMPFS => "tmpfs",
            Self::OVERLAY => "overlayfs",
            Self(number) => match MOVING.iter().chain(&REMOTE).find(|(of, _)| *of == number) {
                Some((_, name)) => name,
                None => return write!(f, "this file system (type {number:#x})"),
            },
        })
    }
}

/// Reserves blocks for the first `total_bytes` of a file and sets its length.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`], [`io::ErrorKind::QuotaExceeded`],
/// [`io::ErrorKind::FileTooLarge`], or one that [`super::error::is_unsupported`] where the file
/// system cannot reserve. The file may be longer than before.
pub(crate) fn reserve(file: &File, total_bytes: u64) -> io::Result<()> {
    // On some file systems (tmpfs) a signal undoes the work, so the reservation starts again.
    let allocate = || rustix::fs::fallocate(file, FallocateFlags::empty(), 0, total_bytes);
    Ok(retry_on_intr(allocate)?)
}
