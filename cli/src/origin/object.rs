//! The object of the embedded origin, whose bytes derive from their position.
//!
//! The origin has to be much faster than what it measures, so it computes no byte on request. The
//! object is cut into blocks of 64 KiB, and each block is a view into one table of random bytes.
//! For any 4096 blocks in a row, the views begin at different offsets modulo 4096; after those they
//! move on by a whole block. Two pieces at different multiples of 4 KiB are therefore never the
//! same stretch of the table (up to 32 GiB, where it begins again), and a piece in the wrong place
//! changes the object's hash.

use bytes::Bytes;

/// The size of a block, and of a frame of a body, in bytes.
pub(super) const BLOCK_BYTES: u64 = 64 << 10;

/// How many different offsets the views begin at before they move on by a block.
const RESIDUES: u64 = 4096;

/// How often the views move on before they begin again.
const LAPS: u64 = 128;

/// An object that is never stored.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    table: Bytes,
    size_bytes: u64,
}

impl Object {
    /// The object of this size.
    pub(crate) fn new(size_bytes: u64) -> Self {
        let laps = size_bytes.div_ceil(BLOCK_BYTES).div_ceil(RESIDUES).clamp(1, LAPS);
        let words = ((laps * BLOCK_BYTES) + RESIDUES) / 8;
        let table: Vec<u8> = (0..words).flat_map(|word| mix(word).to_le_bytes()).collect();
        Self { table: table.into(), size_bytes }
    }

    /// Its strong entity tag. The size alone determines the object.
    pub(super) fn etag(&self) -> String {
        format!("\"haul-1-{:x}\"", self.size_bytes)
    }

    /// Its size in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The bytes from `position` to the end of their block or of the object.
    pub(super) fn piece(&self, position: u64) -> Bytes {
        let block = position / BLOCK_BYTES;
        let end = ((block + 1) * BLOCK_BYTES).min(self.size_bytes);
        let start = view_start(block) + position % BLOCK_BYTES;
        let range = start..start + end.saturating_sub(position);
        // The table is at most 8 MiB, so its indices fit in a usize.
        self.table.slice(range.start as usize..range.end as usize)
    }

    /// The BLAKE3 hash of the whole object, computed from its definition and not from any download.
    pub(crate) fn blake3(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut position = 0;
        while position < self.size_bytes {
            let piece = self.piece(position);
            hasher.update(&piece);
            position += piece.len() as u64;
        }
        hasher.finalize().into()
    }
}

/// The offset in the table at which block `block` begins.
fn view_start(block: u64) -> u64 {
    // Multiplying by odd factors and xoring with the upper half permute the 4096 residues without
    // leaving a constant distance between neighbours.
    let mut residue = block % RESIDUES;
    residue = (residue * 2477) % RESIDUES;
    residue ^= residue >> 6;
    residue = (residue * 1501) % RESIDUES;
    residue + (block / RESIDUES % LAPS) * BLOCK_BYTES
}

/// The finaliser of SplitMix64, which is random enough and the same everywhere.
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_piece_is_like_another() {
        let object = Object::new(64 << 20);
        let mut seen = HashSet::new();
        for position in (0..object.size_bytes).step_by(4096) {
            let piece = object.piece(position).slice(..4096);
            assert!(seen.insert(*blake3::hash(&piece).as_bytes()), "{position}");
        }
        // Beyond the first lap the same holds for where the views begin.
        let starts: HashSet<u64> = (0..RESIDUES * LAPS).map(view_start).collect();
        assert_eq!(starts.len() as u64, RESIDUES * LAPS);
        let residues: HashSet<u64> = (0..RESIDUES).map(|block| view_start(block) % 4096).collect();
        assert_eq!(residues.len() as u64, RESIDUES);
    }
}
