//! What is known of a partial download when the process that made it is gone.
//!
//! The format is written by hand, little endian, in this order: the magic
//! `HAULCKPT`, a `u16` version, the fields of [`Checkpoint`] as they are
//! declared, and the BLAKE3 hash of all bytes before it. Text is a `u16` length
//! and UTF-8; an optional value is a byte 0 or 1 and then the value. Every byte
//! is under the hash, so a torn or flipped checkpoint is never believed.
//!
//! The version is read before the hash is checked: a later version may end in something else,
//! and must be told apart from damage and left alone. Version 2 has durable segments without
//! a hash (state 3), version 3 parts of an object. These and version 1 know only the URL that
//! was asked, without its query; version 4 has both URLs whole, and the data file. Version 4
//! is written, except for data that another program began: version 5 records that as well.
//!
//! It reveals no secret: the URLs appear as a host and salted hashes, without
//! userinfo, and no request header is stored.

use url::Url;

use super::adoption::Adopted;
use super::layout::Layout;
use super::range::{ByteRange, MAX_OBJECT_BYTES};
use super::resource::Resource;
use super::selection::Selected;
use super::size::differing;
use super::validator::{Comparison, EntityTag, LastModified, Validator};

#[path = "checkpoint_codec.rs"]
mod codec;

pub use codec::CheckpointError;
pub(crate) use codec::MAGIC;

/// The most segments that an object is cut into.
pub const MAX_SEGMENTS: u64 = 16_384;

/// The smallest segment, in bytes: one chunk of BLAKE3.
pub const MIN_SEGMENT_BYTES: u64 = 1024;

/// Which URLs a download comes from, without revealing them: the one that was asked and
/// the one that answered, after redirects. Both count whole, with their queries
/// (`/dump?n=1` is another object than `/dump?n=2`), but without userinfo and fragment.
/// They are hashed with a salt of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlIdentity {
    /// Random, one for each download.
    pub salt: [u8; 16],
    /// The keyed hash of the URL asked.
    pub asked: [u8; 32],
    /// The keyed hash of the URL that answered. `None` in the formats before version
    /// 4, whose other hash covers only scheme, host, port and path.
    pub answered: Option<[u8; 32]>,
}

impl UrlIdentity {
    /// The identity of these URLs.
    #[must_use]
    pub fn new(salt: [u8; 16], asked: &Url, answered: &Url) -> Self {
        Self { salt, asked: hash_of(&salt, asked), answered: Some(hash_of(&salt, answered)) }
    }

    /// Whether it is the identity of these URLs. An identity of an older format never is.
    #[must_use]
    pub fn matches(&self, asked: &Url, answered: &Url) -> bool {
        *self == Self::new(self.salt, asked, answered)
    }

    /// Whether `asked` is the URL that was asked, as far as the format tells.
    #[must_use]
    pub fn is_of(&self, asked: &Url) -> bool {
        self.asked
            == match self.answered {
                Some(_) => hash_of(&self.salt, asked),
                None => hash_without_query(&self.salt, asked),
            }
    }
}

fn hash_of(salt: &[u8; 16], url: &Url) -> [u8; 32] {
    let key = blake3::derive_key("haul checkpoint: identity of a URL, version 2", salt);
    let mut url = url.clone();
    url.set_fragment(None);
    // A URL that cannot have userinfo has none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    blake3::keyed_hash(&key, url.as_str().as_bytes()).into()
}

/// As in the formats before version 4.
fn hash_without_query(salt: &[u8; 16], url: &Url) -> [u8; 32] {
    let key = blake3::derive_key("haul checkpoint: identity of a URL, version 1", salt);
    let mut hasher = blake3::Hasher::new_keyed(&key);
    for part in [url.scheme(), url.host_str().unwrap_or_default(), url.path()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(&url.port_or_known_default().unwrap_or(0).to_le_bytes());
    hasher.finalize().into()
}

/// The file that a checkpoint describes, to tell it from another one at its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataFile {
    /// Whether it has the final name from the start.
    pub in_place: bool,
    /// The device that it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// The state of one segment of the partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentRecord {
    /// Not wholly written.
    Missing,
    /// Wholly written, with its BLAKE3 value if it was hashed; not known to be on
    /// the disk. Without a value nothing could show on a resume that its bytes
    /// are there, so it is recorded as missing.
    Complete(Option<[u8; 32]>),
    /// Complete, and a sync of the data that began afterwards succeeded. That is
    /// believed even without a value.
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
    /// The URL that the user gave, and the one that answered.
    pub identity: UrlIdentity,
    /// The host of the first URL, to name in messages.
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
    /// One record for each segment of the [layout](Self::layout); none without a total.
    pub segments: Vec<SegmentRecord>,
    /// At most one for each missing segment, in ascending order.
    pub prefixes: Vec<Prefix>,
    /// The process that wrote it, to name as the holder of the lock.
    pub pid: u32,
    /// Which bytes of the object these are, if not all are wanted. Everything
    /// else counts these alone.
    pub selected: Option<Selected>,
    /// The file with the data; `None` where a program keeps it, and in the formats
    /// before version 4.
    pub data_file: Option<DataFile>,
    /// Whether bytes from several URLs are here that only a digest, or the user's
    /// word, shows to be of one object.
    pub mixed: bool,
    /// What the data file was before haul took it over; set only with a data file, which it
    /// still is.
    pub adopted: Option<Adopted>,
}

/// The evidence for continuing, besides what the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The URLs asked and answering match the checkpoint's identity.
    pub same_url: bool,
    /// A digest was given, which will prove the result.
    pub digest: bool,
    /// The server told a digest, with which the result is compared.
    pub told: bool,
    /// The user asked to continue without proof.
    pub always: bool,
}

/// Whether a checkpoint belongs to an object that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It does: its records are used.
    Same,
    /// It does if the stored bytes, fetched again, are the same: different files of
    /// equal size and time can share an entity tag.
    Prove,
    /// It does not, or nothing shows that it does; the text says why.
    Different(String),
}

impl Checkpoint {
    /// How the object is cut into segments.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout { total: self.total, segment_size_bytes: self.segment_size_bytes }
    }

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

    /// Whether the partial can be continued with the object that `seen` describes.
    ///
    /// Another size, coding or strong validator always means another object. An equal strong
    /// validator is enough for the same URLs, and needs a proof for other ones. The same
    /// holds for weak evidence with an equal `Last-Modified`, older than its response,
    /// besides an equal weak tag. An equal malformed tag always needs the proof; with less,
    /// only a digest or the user's word continues. Nor does anything else continue bytes
    /// that only those ever showed to belong together.
    #[must_use]
    pub fn matches(&self, seen: &Resource, claim: Claim) -> Match {
        let different = |why: &str| Match::Different(why.to_owned());
        match (self.total, seen.total) {
            (Some(ours), Some(theirs)) if ours == theirs => {}
            (Some(ours), Some(theirs)) => {
                let (ours, theirs) = differing(ours, theirs);
                return Match::Different(format!("its size was {ours} and is now {theirs}"));
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
        if self.mixed && !claim.told {
            return different(
                "bytes of several URLs are here, which only a digest shows to be one object",
            );
        }
        let malformed =
            self.validator.has_malformed_tag() && self.validator.etag == seen.validator.etag;
        let tells = match comparison {
            Comparison::Same => true,
            Comparison::Consistent => tags_and_dates(&self.validator, &seen.validator),
            Comparison::Silent | Comparison::Different => false,
        };
        match comparison {
            Comparison::Consistent if malformed => Match::Prove,
            _ if tells && claim.same_url => Match::Same,
            _ if tells => Match::Prove,
            Comparison::Same | Comparison::Consistent => {
                different("its validator is too weak to tell versions apart")
            }
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

/// Whether both sides have the same tag, and a date that no two versions share.
fn tags_and_dates(ours: &Validator, theirs: &Validator) -> bool {
    let has_both = |v: &&Validator| {
        v.etag.is_some() && v.last_modified.as_ref().is_some_and(|date| date.strong)
    };
    [ours, theirs].iter().all(has_both) && ours.etag == theirs.etag
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
