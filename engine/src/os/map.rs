//! Bringing in the pages of a mapping with a call that returns an error where a load or store would
//! raise a signal.

use std::io;

use memmap2::{Mmap, MmapRaw};

/// Whether the system has such a call: Linux since 5.14.
pub(crate) fn can_bring_in() -> bool {
    #[cfg(target_os = "linux")]
    {
        static CAN: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
            let map = memmap2::MmapMut::map_anon(1);
            map.and_then(|map| map.advise(memmap2::Advice::PopulateWrite)).is_ok()
        });
        *CAN
    }
    #[cfg(not(target_os = "linux"))]
    {
        false
    }
}

/// Why there is none.
pub(crate) const CANNOT_BRING_IN: &str = if cfg!(target_os = "linux") {
    "this kernel is older than Linux 5.14"
} else {
    "this system brings in no pages of a mapping"
};

/// Makes the pages of `len` bytes, `skip` bytes into the mapping, present and writable.
///
/// # Errors
/// When one of them cannot be had; nothing is lost then.
pub(crate) fn bring_in_to_write(map: &MmapRaw, skip: usize, len: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        map.advise_range(memmap2::Advice::PopulateWrite, skip, len)
    }
    #[cfg(not(target_os = "linux"))]
    {
        Err(unsupported((map, skip, len)))
    }
}

/// Makes all pages of the mapping present.
///
/// # Errors
/// When one of them cannot be had.
pub(crate) fn bring_in_to_read(map: &Mmap) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        map.advise(memmap2::Advice::PopulateRead)
    }
    #[cfg(not(target_os = "linux"))]
    {
        Err(unsupported(map))
    }
}

/// Asks for large pages behind the mapping, where the system has them.
pub(crate) fn prefer_large_pages(map: &MmapRaw) {
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    #[cfg(not(target_os = "linux"))]
    let _ = map;
}

#[cfg(not(target_os = "linux"))]
fn unsupported<T>(_: T) -> io::Error {
    io::ErrorKind::Unsupported.into()
}
