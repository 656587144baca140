//! The bytes of a checkpoint; see the module above for the layout.

use super::super::adoption::{Adopted, FormerName, is_salt};
use super::super::layout::segment_count;
use super::{
    ByteRange, Checkpoint, DataFile, EntityTag, LastModified, MAX_OBJECT_BYTES, MAX_SEGMENTS,
    MIN_SEGMENT_BYTES, Prefix, SegmentRecord, Selected, UrlIdentity, Validator,
};

/// What a checkpoint begins with.
pub(crate) const MAGIC: &[u8; 8] = b"HAULCKPT";
/// The newest version, which records what another program began; the usual one, which has
/// whole URLs and the data file; the one before, which has parts of an object; the one with
/// segments without a hash; and the first.
const VERSION: u16 = 5;
const USUAL_VERSION: u16 = 4;
const PARTS_VERSION: u16 = 3;
const UNHASHED_VERSION: u16 = 2;
const FIRST_VERSION: u16 = 1;
const TRAILER_BYTES: usize = 32;

/// Why bytes are not a checkpoint that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It does not begin like a checkpoint.
    #[error("it is not a checkpoint")]
    NotACheckpoint,
    /// A later version of the engine wrote it; it must be left as it is.
    #[error("it has format version {version}, this program reads up to version {}", VERSION)]
    Newer {
        /// The version it has.
        version: u16,
    },
    /// Torn, truncated or altered; the text says what does not fit.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

pub(super) fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(512 + checkpoint.segments.len() * 33));
    out.bytes(MAGIC);
    let unhashed = checkpoint.segments.contains(&SegmentRecord::Durable(None));
    // An old identity stays one of its format.
    let version = match (checkpoint.identity.answered, &checkpoint.selected, unhashed) {
        (Some(_), _, _) if checkpoint.adopted.is_some() => VERSION,
        (Some(_), _, _) => USUAL_VERSION,
        (None, Some(_), _) => PARTS_VERSION,
        (None, None, true) => UNHASHED_VERSION,
        (None, None, false) => FIRST_VERSION,
    };
    out.bytes(&version.to_le_bytes());
    out.bytes(&checkpoint.identity.salt);
    out.bytes(&checkpoint.identity.asked);
    if let Some(answered) = &checkpoint.identity.answered {
        out.bytes(answered);
    }
    out.text(if fits(&checkpoint.host) { &checkpoint.host } else { "" });
    out.optional(checkpoint.total, Writer::u64);
    let Validator { etag, last_modified } = &checkpoint.validator;
    out.optional(etag.as_ref().filter(|etag| fits(&etag.opaque)), |out, etag| {
        out.flag(etag.weak);
        out.text(&etag.opaque);
    });
    out.optional(last_modified.as_ref().filter(|date| fits(&date.text)), |out, date| {
        out.text(&date.text);
        out.u64(date.unix_seconds);
        out.flag(date.strong);
    });
    for text in [&checkpoint.encoding, &checkpoint.content_type] {
        out.optional(text.as_ref().filter(|text| fits(text)), |out, text| out.text(text));
    }
    out.u64(checkpoint.segment_size_bytes);
    out.count(checkpoint.segments.len());
    for segment in &checkpoint.segments {
        let (kind, hash) = match segment {
            SegmentRecord::Missing | SegmentRecord::Complete(None) => (0, None),
            SegmentRecord::Complete(Some(hash)) => (1, Some(hash)),
            SegmentRecord::Durable(Some(hash)) => (2, Some(hash)),
            SegmentRecord::Durable(None) => (3, None),
        };
        out.bytes(&[kind]);
        if let Some(hash) = hash {
            out.bytes(hash);
        }
    }
    out.count(checkpoint.prefixes.len());
    for prefix in &checkpoint.prefixes {
        out.bytes(&prefix.segment.to_le_bytes());
        out.u64(prefix.len_bytes);
        out.bytes(&prefix.hash);
    }
    out.bytes(&checkpoint.pid.to_le_bytes());
    match (&checkpoint.selected, version) {
        (selected, USUAL_VERSION..) => out.optional(selected.as_ref(), Writer::selected),
        (Some(selected), _) => out.selected(selected),
        (None, _) => {}
    }
    if version >= USUAL_VERSION {
        out.optional(checkpoint.data_file, |out, file| {
            out.flag(file.in_place);
            out.u64(file.device);
            out.u64(file.inode);
        });
        out.flag(checkpoint.mixed);
    }
    if let Some(adopted) = checkpoint.adopted.as_ref().filter(|_| version == VERSION) {
        out.adopted(adopted);
    }
    let trailer = blake3::hash(&out.0);
    out.bytes(trailer.as_bytes());
    out.0
}

pub(super) fn decode(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    use CheckpointError::{Damaged, Newer, NotACheckpoint};
    let rest = bytes.strip_prefix(MAGIC).ok_or(NotACheckpoint)?;
    let (version, _) = rest.split_first_chunk().ok_or(Damaged("it ends too early"))?;
    let version = u16::from_le_bytes(*version);
    if version > VERSION {
        return Err(Newer { version });
    }
    if version < FIRST_VERSION {
        return Err(Damaged("its version never existed"));
    }
    let (body, trailer) =
        bytes.split_last_chunk::<TRAILER_BYTES>().ok_or(Damaged("it ends too early"))?;
    if blake3::hash(body) != *trailer {
        return Err(Damaged("its hash does not match"));
    }
    let body = body.get(MAGIC.len() + size_of::<u16>()..).ok_or(Damaged("it ends too early"))?;
    let mut input = Reader { rest: body, version };
    let checkpoint = input.checkpoint()?;
    if !input.rest.is_empty() {
        return Err(Damaged("it goes on after its end"));
    }
    consistent(&checkpoint)?;
    Ok(checkpoint)
}

/// The hash shows that the bytes are what some program wrote; this shows that
/// they make sense, so that no later code needs to doubt a number.
fn consistent(checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let damaged = |what| Err(CheckpointError::Damaged(what));
    let size = checkpoint.segment_size_bytes;
    if size < MIN_SEGMENT_BYTES || !size.is_power_of_two() {
        return damaged("its segment size is no power of two of at least 1024");
    }
    let total = checkpoint.total.unwrap_or(0);
    if total > MAX_OBJECT_BYTES {
        return damaged("its size is larger than any file");
    }
    if let Some(selected) = &checkpoint.selected
        && (selected.object_bytes > MAX_OBJECT_BYTES || selected.len_bytes() != checkpoint.total)
    {
        return damaged("its parts do not make its size");
    }
    // Their number was checked not to be too large before they were read.
    if checkpoint.segments.len() as u64 != segment_count(total, size) {
        return damaged("its number of segments does not fit its size");
    }
    if checkpoint.adopted.is_some() && checkpoint.data_file.is_none_or(|file| file.in_place) {
        return damaged("it is of no file that another program began");
    }
    let mut next = 0;
    for prefix in &checkpoint.prefixes {
        let number = u64::from(prefix.segment);
        let record = usize::try_from(number).ok().and_then(|at| checkpoint.segments.get(at));
        if number < next || record != Some(&SegmentRecord::Missing) {
            return damaged("a prefix belongs to no missing segment");
        }
        let segment_len = size.min(total - number * size);
        if prefix.len_bytes == 0 || prefix.len_bytes > segment_len {
            return damaged("a prefix is longer than its segment");
        }
        next = number + 1;
    }
    Ok(())
}

fn fits(text: &str) -> bool {
    text.len() <= usize::from(u16::MAX)
}

struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    fn flag(&mut self, value: bool) {
        self.bytes(&[u8::from(value)]);
    }

    /// Counts stay far below 2^32; a larger one fails to be read back.
    fn count(&mut self, value: usize) {
        self.bytes(&u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
    }

    /// The text must fit, see [`fits`].
    fn text(&mut self, text: &str) {
        self.bytes(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.bytes(text.as_bytes());
    }

    fn selected(&mut self, selected: &Selected) {
        self.u64(selected.object_bytes);
        self.count(selected.parts.len());
        for part in &selected.parts {
            self.u64(part.start());
            self.u64(part.end());
        }
    }

    fn adopted(&mut self, adopted: &Adopted) {
        let Adopted { former, len_bytes, modified: (seconds, nanoseconds), mode } = adopted;
        let kind = match former {
            FormerName::Output => 0,
            FormerName::Controlled => 1,
            FormerName::Part => 2,
            FormerName::Chromium => 3,
            FormerName::Salted(_) => 4,
        };
        self.bytes(&[kind]);
        if let FormerName::Salted(salt) = former {
            self.bytes(salt);
        }
        self.u64(*len_bytes);
        self.bytes(&seconds.to_le_bytes());
        self.bytes(&nanoseconds.to_le_bytes());
        self.bytes(&mode.to_le_bytes());
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    version: u16,
}

type Read<T> = Result<T, CheckpointError>;

impl Reader<'_> {
    fn checkpoint(&mut self) -> Read<Checkpoint> {
        Ok(Checkpoint {
            identity: UrlIdentity {
                salt: self.array()?,
                asked: self.array()?,
                answered: if self.version < USUAL_VERSION { None } else { Some(self.array()?) },
            },
            host: self.text()?,
            total: self.optional(Self::u64)?,
            validator: Validator {
                etag: self.optional(|input| {
                    Ok(EntityTag { weak: input.flag()?, opaque: input.text()?.into() })
                })?,
                last_modified: self.optional(|input| {
                    Ok(LastModified {
                        text: input.text()?.into(),
                        unix_seconds: input.u64()?,
                        strong: input.flag()?,
                        age_seconds: None,
                    })
                })?,
            },
            encoding: self.optional(Self::text)?,
            content_type: self.optional(Self::text)?,
            segment_size_bytes: self.u64()?,
            segments: self.list(Self::segment)?,
            prefixes: self.list(Self::prefix)?,
            pid: self.u32()?,
            selected: match self.version {
                USUAL_VERSION.. => self.optional(Self::selected)?,
                PARTS_VERSION => Some(self.selected()?),
                _ => None,
            },
            data_file: if self.version < USUAL_VERSION {
                None
            } else {
                self.optional(|input| {
                    Ok(DataFile {
                        in_place: input.flag()?,
                        device: input.u64()?,
                        inode: input.u64()?,
                    })
                })?
            },
            mixed: self.version >= USUAL_VERSION && self.flag()?,
            adopted: if self.version < VERSION { None } else { Some(self.adopted()?) },
        })
    }

    fn segment(&mut self) -> Read<SegmentRecord> {
        let [kind] = self.array()?;
        match kind {
            0 => Ok(SegmentRecord::Missing),
            1 => Ok(SegmentRecord::Complete(Some(self.array()?))),
            2 => Ok(SegmentRecord::Durable(Some(self.array()?))),
            3 if self.version > FIRST_VERSION => Ok(SegmentRecord::Durable(None)),
            _ => Err(CheckpointError::Damaged("a segment's state does not exist")),
        }
    }

    fn prefix(&mut self) -> Read<Prefix> {
        Ok(Prefix { segment: self.u32()?, len_bytes: self.u64()?, hash: self.array()? })
    }

    fn adopted(&mut self) -> Read<Adopted> {
        let former = match self.array()? {
            [0] => FormerName::Output,
            [1] => FormerName::Controlled,
            [2] => FormerName::Part,
            [3] => FormerName::Chromium,
            [4] => FormerName::Salted(self.array()?),
            _ => return Err(CheckpointError::Damaged("a former name does not exist")),
        };
        if let FormerName::Salted(salt) = former
            && !salt.iter().all(|byte| is_salt(*byte))
        {
            return Err(CheckpointError::Damaged("a former name does not exist"));
        }
        let len_bytes = self.u64()?;
        let modified = (self.array().map(i64::from_le_bytes)?, self.u32()?);
        Ok(Adopted { former, len_bytes, modified, mode: self.u32()? })
    }

    fn selected(&mut self) -> Read<Selected> {
        let object_bytes = self.u64()?;
        let parts = self.list(|input| {
            let (start, end) = (input.u64()?, input.u64()?);
            if start >= end || end > object_bytes {
                return Err(CheckpointError::Damaged("a part is not in its object"));
            }
            Ok(ByteRange::new(start, end))
        })?;
        Ok(Selected { object_bytes, parts })
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (array, rest) =
            self.rest.split_first_chunk().ok_or(CheckpointError::Damaged("it ends too early"))?;
        self.rest = rest;
        Ok(*array)
    }

    fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Read<bool> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(CheckpointError::Damaged("a flag is neither 0 nor 1")),
        }
    }

    fn text(&mut self) -> Read<String> {
        let len = usize::from(self.array().map(u16::from_le_bytes)?);
        let (text, rest) =
            self.rest.split_at_checked(len).ok_or(CheckpointError::Damaged("it ends too early"))?;
        self.rest = rest;
        let text = std::str::from_utf8(text);
        text.map(str::to_owned).map_err(|_| CheckpointError::Damaged("a text is not UTF-8"))
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// Memory is taken only for entries that were really read: a count is no promise.
    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.u32()?;
        if u64::from(count) > MAX_SEGMENTS {
            return Err(CheckpointError::Damaged("it counts more segments than there can be"));
        }
        (0..count).map(|_| read(self)).collect()
    }
}
