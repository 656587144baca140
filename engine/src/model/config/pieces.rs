//! Digests of the parts of an object.

use std::fmt;

use super::DigestAlgorithm;
use crate::model::error::{Error, ErrorKind};
use crate::model::range::ByteRange;
use crate::model::size::differing;

/// Smaller pieces are refused, in bytes: their digests would be large beside the
/// data that they prove.
const MIN_PIECE_BYTES: u64 = 4 << 10;
/// More pieces than these are refused.
const MAX_PIECES: usize = 1 << 20;

/// Digests of consecutive pieces of an object, all of one length but the last,
/// as Metalink (RFC 5854 section 4.2.13) has them.
///
/// With them bad bytes are found as soon as their piece is here, and only that
/// piece is fetched again, from another source if there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Pieces {
    algorithm: DigestAlgorithm,
    piece_bytes: u64,
    /// One after another.
    digests: Vec<u8>,
}

impl Pieces {
    /// Digests of pieces of `piece_bytes` (4 KiB or more), in the object's order;
    /// at most 1,048,576.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for other numbers, and for a digest that
    /// does not have the algorithm's length.
    pub fn new<D: AsRef<[u8]>>(
        algorithm: DigestAlgorithm,
        piece_bytes: u64,
        digests: impl IntoIterator<Item = D>,
    ) -> Result<Self, Error> {
        let invalid = |why: String| Error::new(ErrorKind::InvalidInput, why);
        if piece_bytes < MIN_PIECE_BYTES {
            let (given, least) = differing(piece_bytes, MIN_PIECE_BYTES);
            return Err(invalid(format!("pieces of {given} are too small: {least} is the least")));
        }
        let mut all = Vec::new();
        for (number, digest) in digests.into_iter().enumerate() {
            let digest = digest.as_ref();
            if digest.len() != algorithm.digest_bytes() {
                return Err(invalid(format!(
                    "the digest of piece {number} has {} bytes, one of {algorithm} has {}",
                    digest.len(),
                    algorithm.digest_bytes()
                )));
            }
            if number >= MAX_PIECES {
                return Err(invalid(format!("there are more than {MAX_PIECES} pieces")));
            }
            all.extend_from_slice(digest);
        }
        if all.is_empty() {
            return Err(invalid("there is no digest of any piece".to_owned()));
        }
        Ok(Self { algorithm, piece_bytes, digests: all })
    }

    /// The digests' algorithm.
    #[must_use]
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// The length of every piece but the last, in bytes.
    #[must_use]
    pub fn piece_bytes(&self) -> u64 {
        self.piece_bytes
    }

    /// How many pieces there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.digests.len() / self.algorithm.digest_bytes()
    }

    /// Whether an object of `total_bytes` has this many pieces.
    pub(crate) fn fit(&self, total_bytes: u64) -> bool {
        total_bytes.div_ceil(self.piece_bytes) == self.count() as u64
    }

    /// The digest of the piece `index`.
    pub(crate) fn digest(&self, index: usize) -> &[u8] {
        let len = self.algorithm.digest_bytes();
        &self.digests[index * len..(index + 1) * len]
    }

    /// The bytes of the piece `index` of an object of `total_bytes`.
    pub(crate) fn range(&self, index: usize, total_bytes: u64) -> ByteRange {
        let start = index as u64 * self.piece_bytes;
        ByteRange::new(start, (start + self.piece_bytes).min(total_bytes))
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, piece_bytes, .. } = self;
        write!(f, "Pieces({} of {piece_bytes} bytes, {algorithm})", self.count())
    }
}
