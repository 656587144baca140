//! Compares what was received with the digests given for it.

use std::io;
use std::path::Path;

use bytes::Bytes;

use super::hasher::Hasher;
use super::rehash::READ_BYTES;
use super::storage::Storage;
use crate::model::config::{Checksum, DigestAlgorithm, Pieces, hex};
use crate::model::digest_claims::Altered;
use crate::model::digest_fields::FieldDigest;
use crate::model::error::{Error, ErrorKind};
use crate::model::hint::Hint;
use crate::model::range::ByteRange;
use crate::model::size::differing;

/// What a complete object is compared with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    /// The user's digest. With it, nothing that a server says counts.
    pub(crate) checksum: Option<Checksum>,
    /// Digests from fields of the server's responses.
    pub(crate) fields: Vec<FieldDigest>,
    /// The user's digests of parts; compared on arrival where the size is known.
    pub(crate) pieces: Option<Pieces>,
    /// The size that the user gave.
    pub(crate) size_bytes: Option<u64>,
}

/// What to do about an object of another size.
const SIZE_HINT: &str = "check the size that was given: the object may have changed";

/// Refuses an object whose size in bytes is not the one that the user gave.
///
/// # Errors
/// [`ErrorKind::LimitReached`].
pub(crate) fn refuse_size(expected: Option<u64>, found: u64) -> Result<(), Error> {
    match expected.filter(|expected| *expected != found) {
        None => Ok(()),
        Some(expected) => {
            let (found, expected) = differing(found, expected);
            Err(Error::new(
                ErrorKind::LimitReached,
                format!(
                    "the object has {found}, and {expected} were expected; nothing was published"
                ),
            )
            .with_hint(SIZE_HINT))
        }
    }
}

/// Refuses an object that is larger than the user allows, in bytes.
///
/// # Errors
/// [`ErrorKind::LimitReached`].
pub(crate) fn refuse_larger(most: Option<u64>, found: u64) -> Result<(), Error> {
    match most.filter(|most| found > *most) {
        None => Ok(()),
        Some(most) => {
            let (found, most) = differing(found, most);
            Err(Error::new(
                ErrorKind::LimitReached,
                format!(
                    "the object has {found} or more, and {most} are allowed; nothing was published"
                ),
            )
            .with_hint(Hint::TooLarge))
        }
    }
}

/// The digest that the user gave, as found, and an error if this or another
/// digest differs.
type Compared = (Option<(DigestAlgorithm, Vec<u8>)>, Option<Error>);

impl Expected {
    #[cfg(test)]
    pub(crate) fn given(checksum: Checksum) -> Self {
        Self { checksum: Some(checksum), ..Self::default() }
    }

    /// The digest to compare: of several, the one that is computed while the
    /// bytes come.
    pub(crate) fn algorithm(&self) -> Option<DigestAlgorithm> {
        let checksums = self.fields.iter().map(|of| &of.checksum);
        self.checksum.iter().chain(checksums).next().map(Checksum::algorithm)
    }

    /// Compares with the digests of the stored bytes that are already `known`, or
    /// else hashes the bytes. `output` is for the error; without one the bytes
    /// went elsewhere.
    ///
    /// # Errors
    /// When the storage cannot be read.
    pub(super) fn compare(
        &self,
        storage: &dyn Storage,
        known: &[(DigestAlgorithm, Vec<u8>)],
        output: Option<&Path>,
    ) -> io::Result<Compared> {
        let digest = |algorithm| match known.iter().find(|(of, _)| *of == algorithm) {
            Some((_, digest)) => Ok(digest.clone()),
            None => file_digest(algorithm, storage),
        };
        if let Some(checksum) = &self.checksum {
            let found = digest(checksum.algorithm())?;
            let said = format!("{checksum} was given");
            let mismatch = (found != checksum.digest()).then(|| {
                mismatch(output, checksum.algorithm(), &found, &said)
                    .with_hint("check the digest, or download from another place")
            });
            return Ok((Some((checksum.algorithm(), found)), mismatch));
        }
        for FieldDigest { field, checksum } in &self.fields {
            let found = digest(checksum.algorithm())?;
            if found != checksum.digest() {
                let said = format!("{checksum} is in the server's {field}");
                let mismatch = mismatch(output, checksum.algorithm(), &found, &said);
                return Ok((None, Some(mismatch.with_hint(Hint::Altered))));
            }
        }
        Ok((None, None))
    }
}

fn mismatch(output: Option<&Path>, algorithm: DigestAlgorithm, found: &[u8], said: &str) -> Error {
    let found = hex(found);
    let message = match output {
        Some(output) => format!(
            "what was downloaded for {} has {algorithm}={found}, but {said}; the data was \
             discarded and nothing was published",
            output.display()
        ),
        None => format!(
            "what was downloaded has {algorithm}={found}, but {said}; bytes that were given out \
             already are not to be trusted"
        ),
    };
    Error::new(ErrorKind::DigestMismatch, message)
}

/// The digest of the file, computed by reading it.
fn file_digest(algorithm: DigestAlgorithm, storage: &dyn Storage) -> io::Result<Vec<u8>> {
    let mut hasher = Hasher::new(algorithm);
    let (mut at, mut buffer) = (0, vec![0; READ_BYTES]);
    loop {
        match storage.read_at(at, &mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => {
                hasher.update(&buffer[..read]);
                at += read as u64;
            }
        }
    }
}

/// The hash of what a stream has given out. A repetition from the start is
/// compared with it: an equal entity tag is only the server's claim.
pub(crate) struct RepeatProof {
    /// How many of its bytes are still to come.
    left_bytes: u64,
    expected: blake3::Hash,
    hasher: Box<blake3::Hasher>,
}

impl RepeatProof {
    /// Expects the first `given_bytes` to have this hash.
    pub(super) fn new(given_bytes: u64, expected: blake3::Hash) -> Self {
        Self { left_bytes: given_bytes, expected, hasher: Box::default() }
    }

    /// Takes the next bytes; false once all have arrived and differ.
    pub(crate) fn agrees(&mut self, pieces: &[Bytes]) -> bool {
        if self.left_bytes == 0 {
            return true;
        }
        for piece in pieces {
            let known = usize::try_from(self.left_bytes).unwrap_or(usize::MAX).min(piece.len());
            self.hasher.update(&piece[..known]);
            self.left_bytes -= known as u64;
        }
        self.left_bytes > 0 || self.hasher.finalize() == self.expected
    }
}

/// A response's claim about its part, and the hash of what arrived of it.
pub(crate) struct PartProof {
    claim: FieldDigest,
    range: ByteRange,
    hasher: Hasher,
}

impl PartProof {
    /// A proof of all bytes of `range`.
    pub(crate) fn new(claim: FieldDigest, range: ByteRange) -> Self {
        let hasher = Hasher::new(claim.checksum.algorithm());
        Self { claim, range, hasher }
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// What differs, if all bytes up to `end` have come, the part ends there, and
    /// they are not what was claimed.
    pub(crate) fn finish(self, end: u64) -> Option<Altered> {
        if end != self.range.end() {
            return None;
        }
        let found = self.hasher.finish();
        let same = found == self.claim.checksum.digest();
        (!same).then_some(Altered { claim: self.claim, found, range: self.range })
    }
}
