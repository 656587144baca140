//! What is known of a partial download when the process that made it is gone.
//!
//! The format is written by hand, little endian, in this order: the magic
//! `HAULCKPT`, a `u16` version, the fields of [`Checkpoint`] as they are
//! declared, and the BLAKE3 hash of all bytes before it. Text is a `u16` length
//! and UTF-8; an optional value is a byte 0 or 1 and then the value. Every byte
//! is under the hash, so a torn or flipped checkpoint is never believed.
//!
//! The version is read before the hash is checked: a later version may end in
//! something else, and must be told apart from damage and left alone. Version 2
//! has durable segments without a hash (state 3); without such a segment version
//! 1 is written, which older programs continue.
//!
//! Nothing secret is in it: of the URL the host and a salted hash, no query,
//! no userinfo, no header of a request.

use super::range::{ByteRange, MAX_OBJECT_BYTES};
use super::resource::Resource;
use super::selection::Selected;
use super::validator::{Comparison, EntityTag, LastModified, Validator};

#[path = "checkpoint_codec.rs"]
mod codec;

pub use codec::CheckpointError;

/// The most segments that an object is cut into.
pub const MAX_SEGMENTS: u64 = 16_384;

/// The smallest segment, in bytes: one chunk of BLAKE3.
pub const MIN_SEGMENT_BYTES: u64 = 1024;

/// Which URL a download is of, without telling it: scheme, host, port and path,
/// hashed with a salt of its own. The query is left out, since a fresh
/// signature is still the same object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlIdentity {
    /// Random, one for each download.
    pub salt: [u8; 16],
    /// The keyed hash.
    pub hash: [u8; 32],
}

impl UrlIdentity {
    /// The identity of a URL by its parts, scheme and host in any case.
    #[must_use]
    pub fn new(salt: [u8; 16], scheme: &str, host: &str, port: u16, path: &str) -> Self {
        let key = blake3::derive_key("haul checkpoint: identity of a URL, version 1", &salt);
        let mut hasher = blake3::Hasher::new_keyed(&key);
        for part in [&scheme.to_ascii_lowercase(), &host.to_ascii_lowercase(), path] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.update(&port.to_le_bytes());
        Self { salt, hash: hasher.finalize().into() }
    }

    /// Whether this is the identity of the URL with these parts.
    #[must_use]
    pub fn matches(&self, scheme: &str, host: &str, port: u16, path: &str) -> bool {
        *self == Self::new(self.salt, scheme, host, port, path)
    }
}

/// How one segment of the partial stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentRecord {
    /// Not wholly written.
    Missing,
    /// Wholly written, with its BLAKE3 value if it was hashed; not known to be on
    /// the disk. Without a value nothing could show on a resume that its bytes
    /// are there, so it is recorded as missing.
    Complete(Option<[u8; 32]>),
    /// Complete, and a sync of the data that began afterwards succeeded. That is
    /// believed without a value as well.
    Durable(Option<[u8; 32]>),
}

impl SegmentRecord {
    /// A complete segment was reached by a sync.
    pub fn make_durable(&mut self) {
        if let Self::Complete(hash) = *self {
            *self = Self::Durable(hash);
        }
    }
}

/// The synced beginning of a missing segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The segment's number, from 0.
    pub segment: u32,
    /// How many bytes from the segment's start; not 0.
    pub len_bytes: u64,
    /// The BLAKE3 value of these bytes.
    pub hash: [u8; 32],
}

/// A partial download as `NAME.haul` records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The URL that the user gave.
    pub identity: UrlIdentity,
    /// Its host, to name in messages.
    pub host: String,
    /// The object's size in bytes; `None` when it is not known.
    pub total: Option<u64>,
    /// What identifies the version of the object.
    pub validator: Validator,
    /// The content coding of the stored bytes, as in [`Resource::encoding`].
    pub encoding: Option<String>,
    /// The object's media type, to tell a page from it.
    pub content_type: Option<String>,
    /// A power of two of at least [`MIN_SEGMENT_BYTES`].
    pub segment_size_bytes: u64,
    /// One record for each of [`segment_count`] segments; none without a total.
    pub segments: Vec<SegmentRecord>,
    /// At most one for each missing segment, in ascending order.
    pub prefixes: Vec<Prefix>,
    /// The process that wrote it, to name as the holder of the lock.
    pub pid: u32,
    /// Which bytes of the object these are, where not all are wanted. Everything
    /// else counts these alone.
    pub selected: Option<Selected>,
}

/// What speaks for continuing besides what the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The URL has the checkpoint's identity.
    pub same_url: bool,
    /// A digest was given, which will prove the result.
    pub digest: bool,
    /// The user asked to continue without proof.
    pub always: bool,
}

/// Whether a checkpoint belongs to an object that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It does: what it records is used.
    Same,
    /// It does if one completed segment, fetched again, hashes the same:
    /// different files of equal size and time can share an entity tag.
    Prove,
    /// It does not, or nothing shows that it does; the words say why.
    Different(String),
}

/// How many segments an object of `total_bytes` has; an empty one has none.
///
/// # Panics
/// When `segment_size_bytes` is 0.
#[must_use]
pub fn segment_count(total_bytes: u64, segment_size_bytes: u64) -> u64 {
    total_bytes.div_ceil(segment_size_bytes)
}

impl Checkpoint {
    /// The bytes of `NAME.haul`. Text longer than 65,535 bytes is left out,
    /// which can only make a later resume more careful, and a segment that is
    /// complete without a value is missing.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`Checkpoint::encode`] wrote.
    ///
    /// # Errors
    /// [`CheckpointError`] when it is something else, of a newer version,
    /// damaged, or contradicts itself.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        codec::decode(bytes)
    }

    /// Whether the partial can be continued with the object that `seen` tells of.
    ///
    /// Another size, coding or strong validator is always another object. A
    /// strong validator that is the same is enough for the same URL, and needs
    /// a proof for another one. Weak evidence needs an equal `Last-Modified`, older
    /// than its response, besides an equal weak tag; with less, only a digest or the user's word
    /// continues.
    #[must_use]
    pub fn matches(&self, seen: &Resource, claim: Claim) -> Match {
        let different = |why: &str| Match::Different(why.to_owned());
        match (self.total, seen.total) {
            (Some(ours), Some(theirs)) if ours == theirs => {}
            (Some(ours), Some(theirs)) => {
                return Match::Different(format!("its size was {ours} bytes and is now {theirs}"));
            }
            _ => return different("its size is not known"),
        }
        if self.encoding != seen.encoding {
            return different("its content coding is another one");
        }
        let comparison = self.validator.compare(&seen.validator);
        if comparison == Comparison::Different && strong_evidence(&self.validator, &seen.validator)
        {
            return different("its validator is another one");
        }
        if claim.digest || claim.always {
            return Match::Same;
        }
        match comparison {
            Comparison::Same if claim.same_url => Match::Same,
            Comparison::Same => Match::Prove,
            Comparison::Consistent if !claim.same_url => {
                different("the URL is another one and there is no strong validator")
            }
            Comparison::Consistent if tags_and_dates(&self.validator, &seen.validator) => {
                Match::Same
            }
            Comparison::Consistent => different("its validator is too weak to tell versions apart"),
            Comparison::Silent => different("the server gives nothing to tell versions apart by"),
            Comparison::Different => different("its validator is another one"),
        }
    }
}

/// Whether a difference between the two cannot come from weak validators.
fn strong_evidence(ours: &Validator, theirs: &Validator) -> bool {
    match (&ours.etag, &theirs.etag) {
        (Some(a), Some(b)) => !a.weak && !b.weak,
        (None, None) => {
            let strong = |v: &Validator| v.last_modified.as_ref().is_some_and(|date| date.strong);
            strong(ours) && strong(theirs)
        }
        _ => false,
    }
}

/// Whether both sides have a tag, and a date that no two versions share.
fn tags_and_dates(ours: &Validator, theirs: &Validator) -> bool {
    let has_both = |v: &&Validator| {
        v.etag.is_some() && v.last_modified.as_ref().is_some_and(|date| date.strong)
    };
    [ours, theirs].iter().all(has_both)
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
