//! What the responses of one download claimed about the object's bytes, and
//! what follows when bytes do not hash as claimed.

use super::digest_fields::{FieldDigest, FieldDigests};
use super::range::ByteRange;

/// Bytes that do not hash as a field said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Altered {
    /// What the field said.
    pub claim: FieldDigest,
    /// The digest of what was received, by the claim's algorithm.
    pub found: Vec<u8>,
    /// Where the bytes are in the object.
    pub range: ByteRange,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Claims {
    object: Option<FieldDigest>,
    /// The digest in a document that the server named.
    described: Option<FieldDigest>,
    /// The first `Content-MD5` of a part, and where that part starts.
    md5: Option<(u64, FieldDigest)>,
    /// Whether it came again with a part that starts elsewhere.
    same_elsewhere: bool,
    /// Whether another value came.
    others: bool,
    /// The part that does not match `md5`, while nothing tells what that covers.
    doubtful: Option<Altered>,
}

impl Claims {
    /// The response that the object was opened with.
    pub fn opened(&mut self, digests: &FieldDigests) {
        self.object.clone_from(&digests.object);
    }

    /// A document that a response named tells the object's digest. False if the
    /// server itself says otherwise: then the document describes something else.
    pub fn described(&mut self, claim: FieldDigest) -> bool {
        let contradicts =
            self.object.as_ref().is_some_and(|object| object.checksum.contradicts(&claim.checksum));
        if !contradicts {
            self.described = Some(claim);
        }
        !contradicts
    }

    /// Everything is fetched anew. What a document said stands: mirrors are used
    /// on its word.
    pub fn begin_again(&mut self) {
        *self = Self { described: self.described.take(), ..Self::default() };
    }

    /// A response of a part that starts at `start`. Returns a part that is now
    /// known to be altered.
    pub fn on_part(&mut self, start: u64, digests: &FieldDigests) -> Option<Altered> {
        let md5 = digests.md5.as_ref()?;
        match &self.md5 {
            None => self.md5 = Some((start, md5.clone())),
            Some((first, known)) if known == md5 => self.same_elsewhere |= *first != start,
            Some(_) => self.others = true,
        }
        self.judge(self.doubtful.clone()?)
    }

    /// A received part does not match its response's digest. Returns it if it
    /// is known to be altered.
    ///
    /// A `Content-MD5` that several parts share belongs to the whole object.
    pub fn on_altered(&mut self, altered: Altered) -> Option<Altered> {
        let doubtful = self.md5.as_ref().is_some_and(|(_, md5)| *md5 == altered.claim);
        if doubtful { self.judge(altered) } else { Some(altered) }
    }

    fn judge(&mut self, altered: Altered) -> Option<Altered> {
        if !self.same_elsewhere && self.others {
            self.doubtful = None;
            return Some(altered);
        }
        self.doubtful = Some(altered);
        None
    }

    /// What all bytes together must hash to, at the end.
    #[must_use]
    pub fn of_object(&self) -> Vec<FieldDigest> {
        let doubtful = self.doubtful.as_ref().map(|altered| altered.claim.clone());
        let whole = [self.object.clone(), self.described.clone()];
        whole.into_iter().flatten().chain(doubtful).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{Checksum, DigestAlgorithm};

    fn md5(byte: u8) -> FieldDigests {
        let checksum = Checksum::new(DigestAlgorithm::Md5, vec![byte; 16]).unwrap();
        FieldDigests {
            md5: Some(FieldDigest { field: "Content-MD5", checksum }),
            ..FieldDigests::default()
        }
    }

    fn altered(start: u64, digests: &FieldDigests) -> Altered {
        Altered {
            claim: digests.md5.clone().unwrap(),
            found: vec![0; 16],
            range: ByteRange::new(start, start + 10),
        }
    }

    #[test]
    fn md5_that_differs_from_part_to_part_is_of_parts() {
        let mut claims = Claims::default();
        assert_eq!(claims.on_part(0, &md5(1)), None);
        assert_eq!(claims.on_part(10, &md5(2)), None);
        let first = altered(0, &md5(1));
        assert_eq!(claims.on_altered(first.clone()), Some(first));
        let second = altered(10, &md5(2));
        assert_eq!(claims.on_altered(second.clone()), Some(second));
        assert_eq!(claims.of_object(), []);
    }

    #[test]
    fn md5_that_parts_have_in_common_is_of_the_whole() {
        for heads_first in [true, false] {
            let mut claims = Claims::default();
            assert_eq!(claims.on_part(0, &md5(1)), None);
            if heads_first {
                assert_eq!(claims.on_part(10, &md5(1)), None);
            }
            assert_eq!(claims.on_altered(altered(0, &md5(1))), None);
            assert_eq!(claims.on_part(10, &md5(1)), None);
            assert_eq!(claims.on_altered(altered(10, &md5(1))), None);
            assert_eq!(claims.of_object(), [md5(1).md5.unwrap()]);
        }
    }

    #[test]
    fn altered_first_part_is_known_by_the_second_response() {
        let mut claims = Claims::default();
        assert_eq!(claims.on_part(0, &md5(1)), None);
        let first = altered(0, &md5(1));
        assert_eq!(claims.on_altered(first.clone()), None);
        assert_eq!(claims.of_object(), [md5(1).md5.unwrap()], "if no response comes any more");
        assert_eq!(claims.on_part(0, &md5(1)), None, "the same part tells nothing");
        assert_eq!(claims.on_part(10, &md5(2)), Some(first));
        assert_eq!(claims.of_object(), []);
    }

    #[test]
    fn content_digest_is_never_in_doubt() {
        let checksum = Checksum::new(DigestAlgorithm::Sha256, vec![1; 32]).unwrap();
        let claim = FieldDigest { field: "Content-Digest", checksum };
        let altered = Altered { claim, found: vec![0; 32], range: ByteRange::new(0, 10) };
        assert_eq!(Claims::default().on_altered(altered.clone()), Some(altered));
    }
}
