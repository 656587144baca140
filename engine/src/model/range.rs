//! Byte ranges and the codec of the `Range` and `Content-Range` fields.
//!
//! Everywhere in the engine a range is half-open: `[start, end)`. Only this
//! file knows the inclusive form of RFC 9110, so that off-by-one mistakes can
//! only be made, and are only tested, here.

use std::fmt;

/// The largest object, in bytes: file offsets are signed 64-bit numbers.
pub const MAX_OBJECT_BYTES: u64 = i64::MAX as u64;

/// The half-open range of bytes `[start, end)` of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// The range from `start` up to, not including, `end`.
    ///
    /// # Panics
    /// When `end` is smaller than `start`.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Self {
        assert!(start <= end, "a range cannot end before its start");
        Self { start, end }
    }

    /// Everything from `start` on: asked for without naming a last byte, so that
    /// one response can carry the rest of an object whose size is unknown.
    #[must_use]
    pub const fn open(start: u64) -> Self {
        Self::new(start, u64::MAX)
    }

    /// Whether the range has no end of its own, as [`Self::open`] makes it.
    #[must_use]
    pub const fn is_open(self) -> bool {
        self.end == u64::MAX
    }

    /// The offset of the first byte.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// The offset after the last byte.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// How many bytes the range spans.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether the range spans no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether the byte at `offset` is in the range.
    #[must_use]
    pub const fn contains(self, offset: u64) -> bool {
        self.start <= offset && offset < self.end
    }

    /// The bytes in both ranges, or `None` when they share none.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        (start < end).then_some(Self { start, end })
    }

    /// The value of a `Range` field that asks for these bytes, `bytes=a-b`
    /// with `b` the last byte's offset, or `bytes=a-` for an open range (RFC
    /// 9110 section 14.1.2).
    ///
    /// # Panics
    /// When the range is empty, which HTTP cannot express.
    #[must_use]
    pub fn to_header_value(self) -> String {
        assert!(!self.is_empty(), "an empty range cannot be asked for");
        if self.is_open() {
            return format!("bytes={}-", self.start);
        }
        format!("bytes={}-{}", self.start, self.end - 1)
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// What a `Content-Range` field says (RFC 9110 section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContentRange {
    /// The body holds `range`, never empty, of an object of `total` bytes.
    Satisfied {
        /// The bytes in the body.
        range: ByteRange,
        /// The object's size in bytes; `None` when the server wrote `*`.
        total: Option<u64>,
    },
    /// The body holds no part of the object: the form of a 416.
    Unsatisfied {
        /// The object's size in bytes; `None` for the `*/*` of some servers.
        total: Option<u64>,
    },
}

/// Why a `Content-Range` was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RangeError {
    /// Not of the form `bytes a-b/n`, `bytes a-b/*` or `bytes */n`.
    #[error("not of the form `bytes FIRST-LAST/TOTAL`")]
    Syntax,
    /// A unit other than bytes.
    #[error("its unit is not bytes")]
    Unit,
    /// A number above [`MAX_OBJECT_BYTES`].
    #[error("a number in it is larger than any file")]
    TooLarge,
    /// The last byte comes before the first.
    #[error("its last byte comes before its first")]
    Inverted,
    /// The last byte is not inside the total.
    #[error("its last byte is not inside its total")]
    BeyondTotal,
}

impl ContentRange {
    /// Reads the value of a `Content-Range` field (RFC 9110 section 14.4).
    ///
    /// The unit is compared without regard to case (section 14.1); white space
    /// is allowed around the whole value and as the one space after the unit,
    /// nowhere else; numbers are digits only.
    ///
    /// # Errors
    /// [`RangeError`] when the value has another form, a number does not fit
    /// an object or the numbers contradict each other.
    pub fn parse(value: &str) -> Result<Self, RangeError> {
        let value = value.trim_matches([' ', '\t']);
        let (unit, rest) = value.split_once(' ').ok_or(RangeError::Syntax)?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return Err(RangeError::Unit);
        }
        let (span, total) = rest.split_once('/').ok_or(RangeError::Syntax)?;
        let total = if total == "*" { None } else { Some(number(total)?) };
        if span == "*" {
            return Ok(Self::Unsatisfied { total });
        }
        let (first, last) = span.split_once('-').ok_or(RangeError::Syntax)?;
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(RangeError::Inverted);
        }
        if last >= MAX_OBJECT_BYTES {
            return Err(RangeError::TooLarge);
        }
        if total.is_some_and(|total| last >= total) {
            return Err(RangeError::BeyondTotal);
        }
        Ok(Self::Satisfied { range: ByteRange::new(first, last + 1), total })
    }
}

/// Digits only, at most [`MAX_OBJECT_BYTES`].
pub(super) fn number(text: &str) -> Result<u64, RangeError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RangeError::Syntax);
    }
    match text.parse() {
        Ok(value) if value <= MAX_OBJECT_BYTES => Ok(value),
        _ => Err(RangeError::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_open_arithmetic() {
        let range = ByteRange::new(10, 20);
        assert_eq!(range.len(), 10);
        assert!(range.contains(10) && range.contains(19));
        assert!(!range.contains(9) && !range.contains(20));
        assert_eq!(range.intersection(ByteRange::new(15, 30)), Some(ByteRange::new(15, 20)));
        assert_eq!(range.intersection(ByteRange::new(20, 30)), None);
        assert!(ByteRange::new(5, 5).is_empty());
        assert_eq!(range.to_string(), "[10, 20)");
    }

    #[test]
    fn asking_is_inclusive() {
        assert_eq!(ByteRange::new(0, 1).to_header_value(), "bytes=0-0");
        assert_eq!(ByteRange::open(0).to_header_value(), "bytes=0-");
        assert_eq!(ByteRange::open(7).to_header_value(), "bytes=7-");
        let last = ByteRange::new(MAX_OBJECT_BYTES - 1, MAX_OBJECT_BYTES);
        assert_eq!(last.to_header_value(), "bytes=9223372036854775806-9223372036854775806");
    }

    #[test]
    #[should_panic(expected = "empty range")]
    fn an_empty_range_cannot_be_asked_for() {
        let _ = ByteRange::new(7, 7).to_header_value();
    }

    #[test]
    #[should_panic(expected = "end before its start")]
    fn an_inverted_range_cannot_be_made() {
        let _ = ByteRange::new(8, 7);
    }

    #[test]
    fn content_range_is_read() {
        for value in ["bytes 0-499/1234", "BYTES 0-499/1234", " bytes 0-499/1234\t"] {
            let parsed = ContentRange::parse(value).unwrap();
            let range = ByteRange::new(0, 500);
            assert_eq!(parsed, ContentRange::Satisfied { range, total: Some(1234) }, "{value:?}");
        }
        assert_eq!(
            ContentRange::parse("bytes 5-5/*"),
            Ok(ContentRange::Satisfied { range: ByteRange::new(5, 6), total: None })
        );
        assert_eq!(
            ContentRange::parse("bytes */0"),
            Ok(ContentRange::Unsatisfied { total: Some(0) })
        );
        assert_eq!(
            ContentRange::parse(
                "bytes 9223372036854775806-9223372036854775806/9223372036854775807"
            ),
            Ok(ContentRange::Satisfied {
                range: ByteRange::new(MAX_OBJECT_BYTES - 1, MAX_OBJECT_BYTES),
                total: Some(MAX_OBJECT_BYTES),
            })
        );
    }

    #[test]
    fn content_range_that_lies_is_refused() {
        use RangeError::{BeyondTotal, Inverted, Syntax, TooLarge, Unit};
        for (value, error) in [
            ("", Syntax),
            ("bytes", Syntax),
            ("bytes 0-1", Syntax),
            ("bytes=0-1/2", Syntax),
            ("bytes  0-1/2", Syntax),
            ("bytes 0 -1/2", Syntax),
            ("bytes 0-1 /2", Syntax),
            ("bytes 0-1/ 2", Syntax),
            ("bytes +0-1/2", Syntax),
            ("bytes 0-+1/2", Syntax),
            ("bytes -1-1/2", Syntax),
            ("bytes 0-/2", Syntax),
            ("bytes -1/2", Syntax),
            ("bytes 0-1/", Syntax),
            ("bytes 0x0-1/2", Syntax),
            ("bytes ٠-1/2", Syntax),
            ("bytes 0-1/2, 4-5/6", Syntax),
            ("items 0-1/2", Unit),
            ("bytes 1-0/2", Inverted),
            ("bytes 0-2/2", BeyondTotal),
            ("bytes 0-0/0", BeyondTotal),
            ("bytes 0-1/9223372036854775808", TooLarge),
            ("bytes 0-9223372036854775807/*", TooLarge),
            ("bytes 0-1/18446744073709551616", TooLarge),
            ("bytes 0-18446744073709551615/*", TooLarge),
            ("bytes 18446744073709551617-18446744073709551618/*", TooLarge),
            ("bytes */99999999999999999999", TooLarge),
        ] {
            assert_eq!(ContentRange::parse(value), Err(error), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_asked_comes_back(start in 0..MAX_OBJECT_BYTES, len in 1..=1u64 << 40) {
            let range = ByteRange::new(start, (start + len).min(MAX_OBJECT_BYTES));
            let asked = range.to_header_value();
            let echoed = format!("bytes {}/*", asked.strip_prefix("bytes=").unwrap());
            prop_assert_eq!(
                ContentRange::parse(&echoed),
                Ok(ContentRange::Satisfied { range, total: None })
            );
        }

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,40}|bytes [0-9*/ -]{0,30}") {
            if let Ok(ContentRange::Satisfied { range, total }) = ContentRange::parse(&text) {
                prop_assert!(!range.is_empty() && range.end() <= MAX_OBJECT_BYTES);
                prop_assert!(total.is_none_or(|total| range.end() <= total));
            }
        }
    }
}
