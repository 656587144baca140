//! Hashing again what is stored: on a resume, and for who asks (`verify`).

use std::io;

use super::writer::Layout;
use crate::model::digest_tree::SegmentHasher;

/// How much is read at once, in bytes, to hash what is stored.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// The hasher after the first `len_bytes` of a segment, or all of it. `None`
/// when the object has no such bytes, or `read`, which is given an offset and a
/// buffer, says by a 0 that there are no more.
///
/// # Errors
/// Those of `read`.
pub(crate) fn rehash(
    layout: Layout,
    segment: u32,
    len_bytes: Option<u64>,
    buffer: &mut [u8],
    read: impl Fn(u64, &mut [u8]) -> io::Result<usize>,
) -> io::Result<Option<SegmentHasher>> {
    let Some(range) = layout.range(segment) else { return Ok(None) };
    let end = len_bytes.map_or(range.end(), |len| range.start() + len);
    if end > range.end() || end == range.start() {
        return Ok(None);
    }
    let mut hasher = SegmentHasher::new(range.start(), layout.whole());
    let mut at = range.start();
    while at < end {
        let want = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        let got = read(at, &mut buffer[..want])?;
        if got == 0 {
            return Ok(None);
        }
        hasher.update(&buffer[..got]);
        at += got as u64;
    }
    Ok(Some(hasher))
}
