//! The BLAKE3 hash of an object whose segments were hashed in any order.
//!
//! BLAKE3 is a tree over chunks of 1 KiB. A segment whose offset and length are
//! a power of two is a whole subtree; its chaining value depends on nothing
//! outside it, and the root follows from the values alone. The last segment may
//! be shorter. An object of one segment has no parent node and its hash is the
//! ordinary one, which differs from its chaining value: `whole` tells them
//! apart.

use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::layout::segment_count;

/// Hashes one segment, its bytes in order.
#[derive(Debug, Clone)]
pub struct SegmentHasher {
    hasher: blake3::Hasher,
    whole: bool,
    len_bytes: u64,
}

impl SegmentHasher {
    /// A hasher of the segment at `offset_bytes`. `whole` when the object is
    /// exactly this one segment, of any length, even one not known yet.
    ///
    /// # Panics
    /// When `offset_bytes` is no multiple of 1024, or is not 0 for a whole object.
    #[must_use]
    pub fn new(offset_bytes: u64, whole: bool) -> Self {
        assert!(!whole || offset_bytes == 0, "a whole object starts at offset 0");
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(offset_bytes);
        Self { hasher, whole, len_bytes: 0 }
    }

    /// Adds the next bytes of the segment.
    ///
    /// # Panics
    /// When the segment grows beyond the largest subtree at its offset.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.len_bytes += bytes.len() as u64;
    }

    /// The segment's chaining value, or the object's hash for a whole one, of
    /// the bytes so far.
    ///
    /// # Panics
    /// When nothing was added to a segment that is not the whole object: an
    /// empty subtree does not exist.
    #[must_use]
    pub fn finish(&self) -> [u8; 32] {
        if self.whole { self.hasher.finalize().into() } else { self.hasher.finalize_non_root() }
    }

    /// How many bytes were added.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len_bytes
    }
}

/// The object's BLAKE3 hash from the values of all its segments, in the order
/// of their offsets. For one segment that is its value itself; an empty object
/// has either no segment or a whole one without bytes.
///
/// # Panics
/// When the segment size is no power of two of at least 1024, or the number
/// of values is not that of the segments.
#[must_use]
pub fn root(total_bytes: u64, segment_size_bytes: u64, values: &[[u8; 32]]) -> [u8; 32] {
    assert!(
        segment_size_bytes >= 1024 && segment_size_bytes.is_power_of_two(),
        "a segment size of {segment_size_bytes} bytes makes no subtrees"
    );
    if total_bytes == 0 && values.is_empty() {
        return blake3::hash(&[]).into();
    }
    let expected = segment_count(total_bytes, segment_size_bytes).max(1);
    assert!(
        values.len() as u64 == expected,
        "{} values were given for {expected} segments",
        values.len()
    );
    let mut level = values.to_vec();
    while level.len() > 2 {
        // The last of an odd number has no sibling on this level: it moves up.
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
                alone => alone[0],
            })
            .collect();
    }
    match level.as_slice() {
        [left, right] => merge_subtrees_root(left, right, Mode::Hash).into(),
        alone => alone[0],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that differ from segment to segment, so that a misplaced one shows.
    fn object(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8 ^ (at / 1024) as u8).collect()
    }

    fn tree_hash(object: &[u8], segment_size: usize, seed: u64) -> [u8; 32] {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = object.len().div_ceil(segment_size);
        let mut order: Vec<usize> = (0..count).collect();
        random.shuffle(&mut order);
        let mut values = vec![[0; 32]; count];
        for index in order {
            let start = index * segment_size;
            let segment = &object[start..object.len().min(start + segment_size)];
            let mut hasher = SegmentHasher::new(start as u64, count == 1);
            assert_eq!(hasher.len(), 0);
            let cut = random.usize(0..=segment.len());
            hasher.update(&segment[..cut]);
            hasher.update(&segment[cut..]);
            assert_eq!(hasher.len(), segment.len() as u64);
            values[index] = hasher.finish();
        }
        root(object.len() as u64, segment_size as u64, &values)
    }

    #[test]
    fn the_edges_of_segments_hash_like_the_object() {
        for segment_size in [1024, 2048, 8192] {
            for segments in 0..=9 {
                for difference in [-1025i64, -1024, -1, 0, 1, 1024] {
                    let Ok(len) = usize::try_from(segments * segment_size as i64 + difference)
                    else {
                        continue;
                    };
                    let object = object(len);
                    let expected = blake3::hash(&object);
                    assert_eq!(
                        tree_hash(&object, segment_size, 1),
                        *expected.as_bytes(),
                        "{len} bytes in segments of {segment_size}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_object_of_unknown_length_is_one_whole_segment() {
        for len in [0, 1, 1024, 1025, 100_000] {
            let object = object(len);
            let mut hasher = SegmentHasher::new(0, true);
            object.chunks(1000).for_each(|piece| hasher.update(piece));
            let expected: [u8; 32] = blake3::hash(&object).into();
            assert_eq!(hasher.finish(), expected);
            assert_eq!(root(len as u64, 1 << 20, &[expected]), expected);
        }
    }

    #[test]
    #[should_panic(expected = "2 values were given for 3 segments")]
    fn a_missing_value_is_no_hash() {
        let _ = root(3000, 1024, &[[0; 32]; 2]);
    }

    #[test]
    #[should_panic(expected = "makes no subtrees")]
    fn a_segment_size_that_is_no_power_of_two_is_refused() {
        let _ = root(3000, 3072, &[[0; 32]]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn any_order_hashes_like_the_object(
            len in 0usize..300_000, power in 10u32..19, seed: u64,
        ) {
            let object = object(len);
            let expected = blake3::hash(&object);
            prop_assert_eq!(tree_hash(&object, 1 << power, seed), *expected.as_bytes());
        }

        #[test]
        fn swapped_segments_show(len in 3000usize..50_000) {
            let object = object(len);
            let mut swapped = object.clone();
            let (left, right) = swapped.split_at_mut(1024);
            left.swap_with_slice(&mut right[..1024]);
            prop_assert_ne!(tree_hash(&swapped, 1024, 1), tree_hash(&object, 1024, 1));
        }
    }
}
