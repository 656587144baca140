//! Samples of what is stored, by which a URL shows that it has the same object.
//!
//! Files that differ often begin alike, so the last complete segment is always one of the
//! samples, and another is chosen at random. If no segment is complete, the stored bytes
//! of begun ones must do.

use std::io;

use bytes::Bytes;

use super::checkpoint::{Checkpoint, SegmentRecord};
use super::digest_tree::SegmentHasher;
use super::range::ByteRange;

/// At most this many bytes without a hash are compared.
const MOST_BYTES: u64 = 1 << 20;

/// Less of an incomplete segment shows nothing: files that differ begin alike.
const LEAST_BYTES: u64 = 64 << 10;

/// What bytes must be to match the stored ones.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// A segment with this hash, which may be all of the object.
    Hash { hash: [u8; 32], whole: bool },
    /// These bytes.
    Bytes(Bytes),
}

/// Bytes that are to be fetched again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) range: ByteRange,
    content: Content,
}

/// What is to be fetched again, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    samples: Vec<Sample>,
}

impl Proof {
    /// A proof from what `checkpoint` says is complete; `None` when nothing is. `read`
    /// gives stored bytes, for segments that were not hashed.
    pub(crate) fn of(
        checkpoint: &Checkpoint,
        seed: u64,
        read: impl Fn(ByteRange) -> Option<Bytes>,
    ) -> Option<Self> {
        let total = checkpoint.total?;
        let size = checkpoint.segment_size_bytes;
        let whole = checkpoint.segments.len() == 1;
        let of = |hashed: bool| -> Vec<(ByteRange, Option<[u8; 32]>)> {
            let complete = |(index, record): (usize, &SegmentRecord)| {
                let (SegmentRecord::Complete(hash) | SegmentRecord::Durable(hash)) = record else {
                    return None;
                };
                let start = index as u64 * size;
                let range = ByteRange::new(start, (start + size).min(total));
                (hash.is_some() == hashed).then_some((range, *hash))
            };
            checkpoint.segments.iter().enumerate().filter_map(complete).collect()
        };
        let hashed = of(true);
        if !hashed.is_empty() {
            let sample = |(range, hash): (ByteRange, Option<[u8; 32]>)| {
                let content = Content::Hash { hash: hash?, whole };
                Some(Sample { range, content })
            };
            return Self::from(last_and_another(&hashed, seed).filter_map(sample));
        }
        let ranges: Vec<ByteRange> = of(false).into_iter().map(|(range, _)| range).collect();
        Self::of_stored(&ranges, seed, read)
    }

    /// A proof from stored bytes, where no segment is complete.
    pub(crate) fn of_begun(
        begun: impl Iterator<Item = ByteRange>,
        seed: u64,
        read: impl Fn(ByteRange) -> Option<Bytes>,
    ) -> Option<Self> {
        let ranges: Vec<ByteRange> = begun.filter(|range| range.len() >= LEAST_BYTES).collect();
        Self::of_stored(&ranges, seed, read)
    }

    fn of_stored(
        ranges: &[ByteRange],
        seed: u64,
        read: impl Fn(ByteRange) -> Option<Bytes>,
    ) -> Option<Self> {
        let sample = |range: ByteRange| {
            let range = ByteRange::new(range.start(), range.end().min(range.start() + MOST_BYTES));
            read(range).map(|bytes| (range.start(), bytes))
        };
        Self::of_bytes(last_and_another(ranges, seed).filter_map(sample))
    }

    /// A proof from these bytes, each piece with its offset.
    pub(crate) fn of_bytes(samples: impl Iterator<Item = (u64, Bytes)>) -> Option<Self> {
        Self::from(samples.map(|(start, bytes)| Sample {
            range: ByteRange::new(start, start + bytes.len() as u64),
            content: Content::Bytes(bytes),
        }))
    }

    fn from(samples: impl Iterator<Item = Sample>) -> Option<Self> {
        let samples: Vec<Sample> = samples.filter(|sample| !sample.range.is_empty()).collect();
        (!samples.is_empty()).then_some(Self { samples })
    }

    /// The bytes to fetch again.
    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

/// These stored bytes; `None` when they cannot be read.
pub(crate) fn read(
    range: ByteRange,
    read_at: impl Fn(u64, &mut [u8]) -> io::Result<usize>,
) -> Option<Bytes> {
    let mut bytes = vec![0; usize::try_from(range.len()).ok()?];
    let mut filled = 0;
    while filled < bytes.len() {
        match read_at(range.start() + filled as u64, &mut bytes[filled..]) {
            Ok(0) | Err(_) => return None,
            Ok(got) => filled += got,
        }
    }
    Some(bytes.into())
}

/// The last of `all`, and another one.
fn last_and_another<T: Copy>(all: &[T], seed: u64) -> impl Iterator<Item = T> {
    let others = all.len().saturating_sub(1);
    let another = (others > 0).then(|| fastrand::Rng::with_seed(seed).usize(..others));
    all.last().copied().into_iter().chain(another.map(|index| all[index]))
}

/// Compares arriving bytes with a sample.
pub(crate) struct Check<'a> {
    left: &'a [u8],
    hashing: Option<(SegmentHasher, [u8; 32])>,
    differs: bool,
}

impl<'a> Check<'a> {
    pub(crate) fn of(sample: &'a Sample) -> Self {
        let (left, hashing) = match &sample.content {
            Content::Bytes(bytes) => (&bytes[..], None),
            Content::Hash { hash, whole } => {
                (&[][..], Some((SegmentHasher::new(sample.range.start(), *whole), *hash)))
            }
        };
        Self { left, hashing, differs: false }
    }

    /// False when nothing more has to be fetched.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> bool {
        if let Some((hasher, _)) = &mut self.hashing {
            hasher.update(bytes);
        } else if let Some(left) = self.left.strip_prefix(bytes) {
            self.left = left;
        } else {
            self.differs = true;
        }
        !self.differs
    }

    /// Whether any byte differed from what is stored.
    pub(crate) fn differs(&self) -> bool {
        self.differs
    }

    /// Whether everything that arrived matches what is stored.
    pub(crate) fn holds(&self) -> bool {
        !self.differs && self.hashing.as_ref().is_none_or(|(hasher, hash)| hasher.finish() == *hash)
    }
}
