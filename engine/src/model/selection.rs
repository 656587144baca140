//! Parts of an object: which of its bytes are wanted, and where these are in
//! what is downloaded, which is the parts one after the other.
//!
//! Everything else in the engine counts offsets in what is downloaded. They are
//! translated only here, where a request is made and its response is read.

use std::fmt;
use std::str::FromStr;

use super::range::{ByteRange, MAX_OBJECT_BYTES};
use super::size::exact_words;
use crate::model::error::{Error, ErrorKind};

/// More parts than anybody writes down by hand.
const MAX_PARTS: usize = 1024;

/// What `--range` takes, for errors.
const GRAMMAR: &str = "write FIRST-LAST, FIRST- or -COUNT, several with commas: 0-99 is the first \
    hundred bytes, 100- all after them, -100 the last hundred";

/// Which bytes of an object are wanted, from [`crate::DownloadBuilder::range`].
///
/// Parsed from what a `Range` field has after `bytes=` (RFC 9110 section 14.1.2):
/// `FIRST-LAST` with LAST included, `FIRST-`, or `-COUNT` for the last ones;
/// several with commas, which are written one after the other in this order.
///
/// ```
/// use haul_engine::Selection;
///
/// let head_and_tail: Selection = "0-1023,-1024".parse()?;
/// assert_eq!(head_and_tail.to_string(), "0-1023,-1024");
/// assert!("1023-0".parse::<Selection>().is_err());
/// # Ok::<(), haul_engine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(Vec<Part>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    From(u64),
    Between(ByteRange),
    Last(u64),
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.parse::<u64>().ok().filter(|_| plain)?;
            (number < MAX_OBJECT_BYTES).then_some(number)
        };
        match (first, last) {
            ("", count) => number(count).filter(|count| *count > 0).map(Self::Last),
            (first, "") => number(first).map(Self::From),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then(|| Self::Between(ByteRange::new(first, last + 1)))
            }
        }
    }

    /// These bytes of an object of `total` bytes; `None` when it has none of them.
    fn of(self, total: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Self::From(start) => (start, total),
            Self::Between(range) => (range.start(), range.end().min(total)),
            Self::Last(count) => (total.saturating_sub(count), total),
        };
        (start < end).then(|| ByteRange::new(start, end))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(start) => write!(f, "{start}-"),
            Self::Between(range) => write!(f, "{}-{}", range.start(), range.end() - 1),
            Self::Last(count) => write!(f, "-{count}"),
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, part) in self.0.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{part}")?;
        }
        Ok(())
    }
}

impl FromStr for Selection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
        let words: Vec<&str> = text.split(',').map(|word| word.trim_matches([' ', '\t'])).collect();
        if words.len() > MAX_PARTS {
            return Err(invalid(format!("{} ranges are more than {MAX_PARTS}", words.len())));
        }
        let parts = words.into_iter().map(|word| {
            let shown = super::name::brief(word);
            Part::parse(word).ok_or_else(|| {
                invalid(format!("`{shown}` is no range of bytes")).with_hint(GRAMMAR)
            })
        });
        parts.collect::<Result<_, _>>().map(Self)
    }
}

/// A part of which the object has no byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beyond {
    part: Part,
    total: u64,
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, total } = self;
        // Ranges count single bytes.
        let total = exact_words(*total);
        write!(f, "the range {part} is beyond the object's end: it has {total}")
    }
}

impl Selection {
    /// One range, which must not be empty; the object may end before it does.
    #[must_use]
    pub(crate) fn between(range: ByteRange) -> Self {
        Self(vec![Part::Between(range)])
    }

    /// What the first request asks for, before the object's size is known: about
    /// `want_bytes` of the first part. If its position depends on the size, one
    /// byte, to learn the size.
    #[must_use]
    pub fn opening(&self, want_bytes: u64) -> ByteRange {
        let want_bytes = want_bytes.max(1);
        match self.0.first() {
            Some(Part::From(start)) => ByteRange::new(*start, start.saturating_add(want_bytes)),
            Some(Part::Between(range)) => ByteRange::new(
                range.start(),
                range.end().min(range.start().saturating_add(want_bytes)),
            ),
            Some(Part::Last(_)) | None => ByteRange::new(0, 1),
        }
    }

    /// The wanted bytes of an object of `object_bytes`. A part that it has only
    /// partly is cut, as a server does.
    ///
    /// # Errors
    /// When the object has no byte of a part.
    pub fn of(&self, object_bytes: u64) -> Result<Selected, Beyond> {
        let mut parts: Vec<ByteRange> = Vec::with_capacity(self.0.len());
        for &part in &self.0 {
            let range = part.of(object_bytes).ok_or(Beyond { part, total: object_bytes })?;
            match parts.last_mut() {
                // One request for both.
                Some(last) if last.end() == range.start() => {
                    *last = ByteRange::new(last.start(), range.end());
                }
                _ => parts.push(range),
            }
        }
        Ok(Selected { object_bytes, parts })
    }

    /// The first part that an object of `object_bytes` does not have in full.
    #[must_use]
    pub fn cut_by(&self, object_bytes: u64) -> Option<String> {
        let cut = self.0.iter().find(|part| match part {
            Part::From(_) => false,
            Part::Between(range) => range.end() > object_bytes,
            Part::Last(count) => *count > object_bytes,
        });
        cut.map(ToString::to_string)
    }
}

/// The wanted bytes of an object of known size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The object's size in bytes.
    pub object_bytes: u64,
    /// Their ranges in the object, in the order in which they are written. None is empty.
    pub parts: Vec<ByteRange>,
}

impl Selected {
    /// The number of bytes, all together; `None` if it does not fit.
    #[must_use]
    pub fn len_bytes(&self) -> Option<u64> {
        let sum = |sum: u64, part: &ByteRange| sum.checked_add(part.len());
        self.parts.iter().try_fold(0, sum).filter(|sum| *sum <= MAX_OBJECT_BYTES)
    }

    /// Where the first bytes of `wanted`, a range of what is downloaded, are in
    /// the object: as many as are consecutive there. `None` if it is beyond the
    /// end, or empty.
    #[must_use]
    pub fn in_object(&self, wanted: ByteRange) -> Option<ByteRange> {
        let mut before = 0;
        for part in &self.parts {
            let end = before + part.len();
            if wanted.start() < end {
                let start = part.start() + (wanted.start() - before);
                let len = wanted.end().min(end) - wanted.start();
                return (len > 0).then(|| ByteRange::new(start, start + len));
            }
            before = end;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selection(text: &str) -> Selection {
        text.parse().unwrap()
    }

    fn parts(text: &str, total: u64) -> Vec<(u64, u64)> {
        let selected = selection(text).of(total).unwrap();
        selected.parts.iter().map(|part| (part.start(), part.end())).collect()
    }

    #[test]
    fn the_grammar_is_that_of_the_field() {
        for text in ["0-0", "100-", "-5", "0-9,20-29", "5-9,0-3,-2"] {
            assert_eq!(selection(text).to_string(), text);
        }
        assert_eq!(selection(" 1-2 ,\t3-").to_string(), "1-2,3-");
        for text in [
            "",
            "-",
            "5",
            "a-b",
            "9-5",
            "-0",
            "1-2-3",
            "+1-2",
            "1-,",
            ",",
            "0x1-2",
            "1 - 2",
            "0-99999999999999999999",
            "bytes=0-1",
            "--1",
            "1.5-2",
        ] {
            let error = text.parse::<Selection>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}");
            assert!(
                error.hint().is_some_and(|hint| hint.to_string().contains("FIRST-LAST")),
                "{text:?}"
            );
        }
        let many = vec!["0-1"; MAX_PARTS + 1].join(",");
        assert!(many.parse::<Selection>().is_err());
        let error = "1-2,\u{1b}[31m".parse::<Selection>().unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn parts_are_those_that_the_object_has() {
        assert_eq!(parts("100-", 150), [(100, 150)]);
        assert_eq!(parts("100-199", 150), [(100, 150)]);
        assert_eq!(parts("-100", 150), [(50, 150)]);
        assert_eq!(parts("-200", 150), [(0, 150)]);
        assert_eq!(parts("0-9,20-29", 150), [(0, 10), (20, 30)]);
        assert_eq!(parts("0-9,10-29", 150), [(0, 30)], "these are one");
        assert_eq!(parts("20-29,0-9,5-6", 150), [(20, 30), (0, 10), (5, 7)]);
        let beyond = selection("0-9,150-").of(150).unwrap_err().to_string();
        assert!(beyond.contains("150-") && beyond.contains("150 B"), "{beyond}");
        assert!(selection("-5").of(0).is_err());
        assert_eq!(selection("0-9,100-199").cut_by(150).as_deref(), Some("100-199"));
        assert_eq!(selection("0-9,100-149").cut_by(150), None);
    }

    #[test]
    fn the_first_request_asks_for_the_first_part() {
        let opening = |text: &str| {
            let range = selection(text).opening(50);
            (range.start(), range.end())
        };
        assert_eq!(opening("100-"), (100, 150));
        assert_eq!(opening("100-120,500-"), (100, 121));
        assert_eq!(opening("-10"), (0, 1));
        let open = |text: &str| selection(text).opening(u64::MAX).to_header_value();
        assert_eq!((open("100-").as_str(), open("7-9").as_str()), ("bytes=100-", "bytes=7-9"));
    }

    proptest! {
        /// Taken piece by piece, what is downloaded is the parts one after the other.
        #[test]
        fn pieces_make_the_parts(
            total in 1u64..500,
            ranges in prop::collection::vec((0u64..500, 1u64..200), 1..8),
            step in 1u64..300,
        ) {
            let object: Vec<u64> = (0..total).collect();
            let text: Vec<String> = ranges
                .iter()
                .map(|(start, len)| format!("{}-{}", start % total, start % total + len - 1))
                .collect();
            let selected = selection(&text.join(",")).of(total).unwrap();
            let expected: Vec<u64> = ranges
                .iter()
                .flat_map(|(start, len)| {
                    let start = start % total;
                    (start..(start + len).min(total)).collect::<Vec<_>>()
                })
                .collect();
            let len = selected.len_bytes().unwrap();
            prop_assert_eq!(len, expected.len() as u64);
            let mut got = Vec::new();
            while (got.len() as u64) < len {
                let at = got.len() as u64;
                let piece = selected.in_object(ByteRange::new(at, (at + step).min(len))).unwrap();
                prop_assert!(!piece.is_empty() && piece.len() <= step);
                got.extend_from_slice(&object[piece.start() as usize..piece.end() as usize]);
            }
            prop_assert_eq!(got, expected);
            prop_assert_eq!(selected.in_object(ByteRange::new(len, len + 1)), None);
        }
    }
}
