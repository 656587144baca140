//! Reading stored bytes through mapped pieces, to hash them without a copy.
//!
//! The pages of a piece are brought in by a call that returns an error where a load
//! would raise SIGBUS: beyond the end of a file that somebody cut, or where the device
//! fails. What remains is a cut between that call and the end of the hashing, a fraction
//! of a millisecond. The caller must read a piece that cannot be had that way.

use std::fs::File;

use memmap2::MmapOptions;

use crate::os;

/// Calls `each` with `len` bytes of `file` at `offset`; false, without calling it, when
/// they cannot be mapped or brought in.
///
/// Nobody in this process may write these bytes meanwhile.
pub(in crate::disk) fn with_mapped(
    file: &File,
    offset: u64,
    len: usize,
    each: impl FnOnce(&[u8]),
) -> bool {
    // SAFETY: `Mmap::map` asks that nobody changes the bytes while they are borrowed.
    // This process does not: the callers read segments that no writer has, and files
    // at rest, and other bytes of the same pages, which writers may store meanwhile,
    // are not in the slice. Another process can, at any time, and a lock would not
    // keep it from it. A byte has no invalid values, and what is borrowed is only
    // hashed: BLAKE3 and the other digests read each byte and take no branch and no
    // index from it, so the worst is a digest of bytes that never stood side by side,
    // which is what a positioned read of a changing file gives as well. The slice ends
    // with the map, before this function returns. A page that is gone is a SIGBUS, see
    // the head of this file.
    let map = unsafe { MmapOptions::new().offset(offset).len(len).map(file) };
    let Ok(map) = map else { return false };
    if os::map::bring_in_to_read(&map).is_err() {
        return false;
    }
    each(&map);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_file_and_a_missing_page_is_no_signal() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..40_000_u32).map(|i| (i % 251) as u8).collect();
        os::file::write_all_at(&file, &bytes, 0).unwrap();
        for (offset, len) in [(0, 40_000), (1, 1), (4095, 2), (39_999, 1)] {
            let mut seen = Vec::new();
            let mapped = with_mapped(&file, offset, len, |piece| seen.extend_from_slice(piece));
            assert_eq!(mapped, os::map::can_bring_in());
            if mapped {
                assert_eq!(seen, bytes[offset as usize..][..len]);
            }
        }
        file.set_len(5000).unwrap();
        assert!(!with_mapped(&file, 0, 40_000, |_| panic!("pages are missing")));
    }
}
