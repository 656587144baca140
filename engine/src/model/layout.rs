//! How an object is cut into segments.

use super::range::ByteRange;

/// How many segments an object of `total_bytes` has; an empty one has none.
///
/// # Panics
/// When `segment_size_bytes` is 0.
#[must_use]
pub fn segment_count(total_bytes: u64, segment_size_bytes: u64) -> u64 {
    total_bytes.div_ceil(segment_size_bytes)
}

/// The segments of one object, by number and by offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The object's size in bytes. Without one the object is one segment
    /// without an end.
    pub total: Option<u64>,
    /// The size of every segment but the last; a power of two.
    pub segment_size_bytes: u64,
}

impl Layout {
    /// How many segments there are.
    #[must_use]
    pub fn count(self) -> u64 {
        self.total.map_or(1, |total| segment_count(total, self.segment_size_bytes))
    }

    /// Whether the object is at most one segment, hashed as a whole.
    #[must_use]
    pub fn whole(self) -> bool {
        self.count() <= 1
    }

    /// The bytes of a segment; `None` when the object has no such segment.
    #[must_use]
    pub fn range(self, segment: u32) -> Option<ByteRange> {
        let Some(total) = self.total else {
            return (segment == 0).then(|| ByteRange::new(0, u64::MAX));
        };
        let start = u64::from(segment).checked_mul(self.segment_size_bytes)?;
        let end = start.saturating_add(self.segment_size_bytes).min(total);
        (start < end).then(|| ByteRange::new(start, end))
    }

    /// The number of the segment that has the byte at `offset`, and the offset
    /// after it, as if the object had no end.
    #[must_use]
    pub fn segment_at(self, offset: u64) -> (u32, u64) {
        if self.total.is_none() {
            return (0, u64::MAX);
        }
        let number = offset / self.segment_size_bytes;
        let end = (number + 1).saturating_mul(self.segment_size_bytes);
        (u32::try_from(number).unwrap_or(u32::MAX), end)
    }
}
