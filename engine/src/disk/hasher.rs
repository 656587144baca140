//! Any digest algorithm behind one type, fed with the bytes in order.

use sha2::digest::{Digest, DynDigest};

use crate::model::config::DigestAlgorithm;

/// A digest under way.
pub(crate) enum Hasher {
    /// BLAKE3, whose crate has traits of its own.
    Blake3(Box<blake3::Hasher>),
    /// All others.
    Serial(Box<dyn DynDigest + Send>),
}

impl Hasher {
    /// A digest of no bytes yet.
    pub(crate) fn new(algorithm: DigestAlgorithm) -> Self {
        Self::Serial(match algorithm {
            DigestAlgorithm::Blake3 => return Self::Blake3(Box::default()),
            DigestAlgorithm::Sha256 => Box::new(sha2::Sha256::new()),
            DigestAlgorithm::Sha512 => Box::new(sha2::Sha512::new()),
            DigestAlgorithm::Sha1 => Box::new(sha1::Sha1::new()),
            DigestAlgorithm::Md5 => Box::new(md5::Md5::new()),
            DigestAlgorithm::GitBlob { object_bytes } => {
                Box::new(sha1::Sha1::new_with_prefix(format!("blob {object_bytes}\0")))
            }
        })
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake3(hasher) => drop(hasher.update(bytes)),
            Self::Serial(hasher) => hasher.update(bytes),
        }
    }

    /// The BLAKE3 of the bytes taken so far; `None` for another algorithm.
    pub(crate) fn blake3_so_far(&self) -> Option<blake3::Hash> {
        match self {
            Self::Blake3(hasher) => Some(hasher.finalize()),
            Self::Serial(_) => None,
        }
    }

    /// The digest of all bytes taken.
    pub(crate) fn finish(self) -> Vec<u8> {
        match self {
            Self::Blake3(hasher) => hasher.finalize().as_bytes().to_vec(),
            Self::Serial(hasher) => hasher.finalize().into_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::hex;

    #[test]
    fn a_git_blob_has_the_name_that_git_gives_it() {
        let named = |object: &[u8]| {
            let object_bytes = object.len() as u64;
            let mut hasher = Hasher::new(DigestAlgorithm::GitBlob { object_bytes });
            hasher.update(object);
            hex(&hasher.finish())
        };
        // As `git hash-object` says.
        assert_eq!(named(b""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(named(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
