//! Objects of any size whose bytes derive from a seed and their position.
//!
//! No object is ever held in memory: the origin makes the bytes as it sends
//! them and the oracle makes them again as it compares. Every byte depends on
//! its absolute position, so a byte stored at the wrong place, or one of
//! another version of the object, shows.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

/// One mebibyte, the unit of most tests.
pub const MIB: u64 = 1 << 20;

/// Bytes made at once when an object is streamed.
const CHUNK_BYTES: usize = 1 << 20;

/// Fixed time of the default Last-Modified, in seconds since 1970: far enough
/// in the past to be a strong validator.
const LONG_AGO_UNIX: u64 = 1_600_000_000;

/// One version of an object: its bytes and what the origin says of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    seed: u64,
    size_bytes: u64,
    etag: Option<String>,
    last_modified_unix: Option<u64>,
    content_type: String,
}

/// The first version of an object of this size, which most tests serve.
#[must_use]
pub fn object(size_bytes: u64) -> Object {
    Object::new(1, size_bytes)
}

impl Object {
    /// A version with a strong ETag and a Last-Modified that derive from `seed`;
    /// versions of different seeds differ in about every byte.
    #[must_use]
    pub fn new(seed: u64, size_bytes: u64) -> Self {
        Self {
            seed,
            size_bytes,
            etag: Some(format!("\"v{seed}-{size_bytes:x}\"")),
            last_modified_unix: Some(LONG_AGO_UNIX + seed % 100_000),
            content_type: "application/octet-stream".to_owned(),
        }
    }

    /// The same bytes under another entity tag, quotes included; `None` sends none.
    #[must_use]
    pub fn with_etag(mut self, etag: Option<&str>) -> Self {
        self.etag = etag.map(str::to_owned);
        self
    }

    /// The same bytes with another Last-Modified, in seconds since 1970; `None` sends none.
    #[must_use]
    pub fn with_last_modified(mut self, unix: Option<u64>) -> Self {
        self.last_modified_unix = unix;
        self
    }

    /// The same bytes with another Content-Type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: &str) -> Self {
        content_type.clone_into(&mut self.content_type);
        self
    }

    /// The size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The entity tag with its quotes, if the origin sends one.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// Last-Modified in seconds since 1970, if the origin sends one.
    #[must_use]
    pub fn last_modified_unix(&self) -> Option<u64> {
        self.last_modified_unix
    }

    /// The Content-Type.
    #[must_use]
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The byte at `position`; positions beyond the size have bytes too, which
    /// an origin that sends too much uses.
    #[must_use]
    pub fn byte_at(&self, position: u64) -> u8 {
        self.word(position / 8).to_le_bytes()[(position % 8) as usize]
    }

    /// Fills `buffer` with the bytes from `offset` on.
    pub fn fill(&self, offset: u64, buffer: &mut [u8]) {
        let lead = ((8 - offset % 8) % 8).min(buffer.len() as u64) as usize;
        let (head, rest) = buffer.split_at_mut(lead);
        for (at, byte) in (offset..).zip(head) {
            *byte = self.byte_at(at);
        }
        let mut index = (offset + lead as u64) / 8;
        let mut words = rest.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.word(index).to_le_bytes());
            index += 1;
        }
        for (at, byte) in (index * 8..).zip(words.into_remainder()) {
            *byte = self.byte_at(at);
        }
    }

    /// The bytes of `range`, for small pieces.
    #[must_use]
    pub fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.fill(range.start, &mut bytes);
        bytes
    }

    /// The BLAKE3 of the whole object in lower-case hexadecimal.
    #[must_use]
    pub fn blake3_hex(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        self.stream(|chunk| {
            hasher.update(chunk);
        });
        hasher.finalize().to_hex().to_string()
    }

    /// Hands the whole object to `sink`, a piece at a time.
    pub fn stream(&self, mut sink: impl FnMut(&[u8])) {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut offset = 0;
        while offset < self.size_bytes {
            let len = (self.size_bytes - offset).min(CHUNK_BYTES as u64) as usize;
            self.fill(offset, &mut buffer[..len]);
            sink(&buffer[..len]);
            offset += len as u64;
        }
    }

    /// Whether the file at `path` holds exactly this version.
    ///
    /// # Errors
    /// A sentence that names the first difference, or the I/O error.
    pub fn compare_file(&self, path: &Path) -> Result<(), String> {
        let told = |error: io::Error| format!("{}: {error}", path.display());
        let mut file = File::open(path).map_err(told)?;
        let size = file.metadata().map_err(told)?.len();
        if size != self.size_bytes {
            return Err(format!(
                "{} has {size} bytes, the object {}",
                path.display(),
                self.size_bytes
            ));
        }
        self.compare_reader(&mut file, 0..size)
            .map_err(told)?
            .map_or(Ok(()), |at| Err(format!("{} differs at byte {at}", path.display())))
    }

    /// Reads the bytes of `range` from `reader` and returns the position of the
    /// first that is not this object's.
    ///
    /// # Errors
    /// Those of `reader`, also when it ends early.
    pub fn compare_reader(
        &self,
        reader: &mut impl Read,
        range: Range<u64>,
    ) -> io::Result<Option<u64>> {
        let (mut have, mut want) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        let mut offset = range.start;
        while offset < range.end {
            let len = (range.end - offset).min(CHUNK_BYTES as u64) as usize;
            reader.read_exact(&mut have[..len])?;
            self.fill(offset, &mut want[..len]);
            if have[..len] != want[..len] {
                let at = have.iter().zip(&want).position(|(have, want)| have != want);
                return Ok(at.map(|at| offset + at as u64));
            }
            offset += len as u64;
        }
        Ok(None)
    }

    /// The finalizer of splitmix64 over the word's number: cheap, and every bit
    /// of the position changes about half the bits of the word.
    fn word(&self, index: u64) -> u64 {
        let mut z = index.wrapping_add(self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ self.seed.rotate_left(32) ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_agrees_with_byte_at_for_every_alignment() {
        let object = Object::new(7, 1 << 20);
        for offset in 0..17 {
            for len in 0..33 {
                let mut buffer = vec![0; len];
                object.fill(offset, &mut buffer);
                for (at, byte) in buffer.iter().enumerate() {
                    assert_eq!(*byte, object.byte_at(offset + at as u64), "{offset}+{at}");
                }
            }
        }
    }

    #[test]
    fn a_shift_or_another_version_shows() {
        let (a, b) = (Object::new(1, 4096), Object::new(2, 4096));
        let bytes = a.bytes(0..4096);
        for (what, other) in [
            ("shifted by a byte", a.bytes(1..4097)),
            ("shifted by a word", a.bytes(8..4104)),
            ("shifted by 1 MiB", a.bytes(1 << 20..(1 << 20) + 4096)),
            ("another version", b.bytes(0..4096)),
            ("another version, shifted by a word", b.bytes(8..4104)),
        ] {
            let same = bytes.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(same < 100, "{what}: {same} of 4096 bytes are the same");
        }
    }

    #[test]
    fn compare_names_the_first_difference() {
        let object = Object::new(3, 3 << 20);
        let mut bytes = object.bytes(0..3 << 20);
        assert_eq!(object.compare_reader(&mut &bytes[..], 0..3 << 20).unwrap(), None);
        bytes[2_000_001] ^= 1;
        assert_eq!(object.compare_reader(&mut &bytes[..], 0..3 << 20).unwrap(), Some(2_000_001));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("object");
        std::fs::write(&path, &bytes).unwrap();
        assert!(object.compare_file(&path).unwrap_err().contains("2000001"));
        std::fs::write(&path, &bytes[1..]).unwrap();
        assert!(object.compare_file(&path).unwrap_err().contains("3145727 bytes"));
    }

    #[test]
    fn digest_is_that_of_the_bytes() {
        let object = Object::new(5, (1 << 20) + 11);
        let whole = object.bytes(0..object.size_bytes());
        assert_eq!(object.blake3_hex(), blake3::hash(&whole).to_hex().as_str());
    }
}
