//! What tells one version of an object from another: entity tags and dates
//! (RFC 9110 section 8.8), and the preconditions made of them (section 13.1).

use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use http::header::{self, HeaderMap, HeaderName};

use crate::model::event::ValidatorKind;

/// An entity tag (RFC 9110 section 8.8.3), or what a server sends in its place.
///
/// Some servers leave out the quotes or put spaces between them. Such a value is
/// still a string that can be equal, so it is kept, but it counts as weak.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntityTag {
    /// Whether the tag only promises equivalence, not equal bytes.
    pub weak: bool,
    /// The text between the quotes. For a malformed value it is a quote, which no
    /// well-formed tag can contain, and then the whole value.
    pub opaque: Arc<str>,
}

impl EntityTag {
    /// Reads `"opaque"` or `W/"opaque"`; `None` for any other form. The `W` is
    /// upper case only; quotes, spaces and controls cannot be in a tag.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim_matches([' ', '\t']);
        let (weak, quoted) = match value.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, value),
        };
        let opaque = quoted.strip_prefix('"')?.strip_suffix('"')?;
        let allowed = |byte: u8| byte == 0x21 || (0x23..=0x7e).contains(&byte) || byte >= 0x80;
        opaque.bytes().all(allowed).then(|| Self { weak, opaque: opaque.into() })
    }

    /// Reads any value of an `ETag` field; `None` only for an empty one.
    #[must_use]
    pub fn from_field(value: &str) -> Option<Self> {
        let raw = value.trim_matches([' ', '\t']);
        let malformed = || Self { weak: true, opaque: format!("\"{raw}").into() };
        (!raw.is_empty()).then(|| Self::parse(raw).unwrap_or_else(malformed))
    }

    /// Whether the value breaks the grammar of RFC 9110.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        self.opaque.starts_with('"')
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.opaque.strip_prefix('"') {
            Some(raw) => f.write_str(raw),
            None => write!(f, "{}\"{}\"", if self.weak { "W/" } else { "" }, self.opaque),
        }
    }
}

/// A `Last-Modified` date (RFC 9110 section 8.8.2). Equality ignores its age,
/// which depends on the response.
#[derive(Debug, Clone)]
pub struct LastModified {
    /// The date as the server wrote it, which is how it is sent back.
    pub text: Arc<str>,
    /// The same in seconds since 1970-01-01 00:00 UTC.
    pub unix_seconds: u64,
    /// Whether the date is at least one second before the response's `Date`,
    /// so that no second change can hide in the same second (section 8.8.2.2).
    pub strong: bool,
    /// How long before the response's `Date` it is, in seconds. `None` without a
    /// `Date`, and for a date from a checkpoint.
    pub age_seconds: Option<u64>,
}

/// Scripts that send the current time as `Last-Modified` read it some seconds
/// before the server reads the time for `Date`.
const MOVING_SECONDS: u64 = 5;

impl LastModified {
    /// Whether the date is the time of its response, and so says nothing.
    fn is_now(&self) -> bool {
        self.age_seconds == Some(0)
    }

    /// Whether the date may be the time of its response rather than of a change.
    fn may_be_now(&self) -> bool {
        self.age_seconds.map_or(!self.strong, |age| age <= MOVING_SECONDS)
    }
}

impl PartialEq for LastModified {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.unix_seconds, self.strong)
            == (&other.text, other.unix_seconds, other.strong)
    }
}

impl Eq for LastModified {}

/// What is known of an object's version; any part may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Validator {
    /// The entity tag, if a valid one was sent.
    pub etag: Option<EntityTag>,
    /// The date, if a valid one was sent.
    pub last_modified: Option<LastModified>,
}

/// How two validators of what should be one object relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Strong proof: equal strong entity tags, or equal strong dates where
    /// neither side has a tag.
    Same,
    /// Nothing differs, but the evidence is weak: equal weak tags, or equal dates.
    Consistent,
    /// Nothing that both sides have can be compared.
    Silent,
    /// Another version.
    Different,
}

impl Validator {
    /// The date, unless it may be that of the response.
    pub(crate) fn steady_date(&self) -> Option<&LastModified> {
        self.last_modified.as_ref().filter(|date| !date.may_be_now())
    }

    /// The validator in a response's header fields. A value that is not UTF-8, or
    /// was sent twice with different values, counts as not sent, and so does a
    /// malformed date.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let etag = single(headers, &header::ETAG).and_then(EntityTag::from_field);
        let last_modified = single(headers, &header::LAST_MODIFIED).and_then(|text| {
            let modified = unix_seconds(text)?;
            let sent = single(headers, &header::DATE).and_then(unix_seconds);
            let strong = sent.is_some_and(|sent| sent > modified);
            let age_seconds = sent.map(|sent| sent.saturating_sub(modified));
            Some(LastModified { text: text.into(), unix_seconds: modified, strong, age_seconds })
        });
        Self { etag, last_modified }
    }

    /// The best kind that this validator has.
    #[must_use]
    pub fn kind(&self) -> ValidatorKind {
        match (&self.etag, &self.last_modified) {
            (Some(EntityTag { weak: false, .. }), _) => ValidatorKind::StrongEtag,
            (Some(EntityTag { weak: true, .. }), _) => ValidatorKind::WeakEtag,
            (None, Some(_)) => ValidatorKind::LastModified,
            (None, None) => ValidatorKind::None,
        }
    }

    /// The field that makes a server answer 412 instead of sending another
    /// version: `If-Match` with a strong tag, else `If-Unmodified-Since` with a
    /// strong date. A weak tag never matches in `If-Match` (RFC 9110 section
    /// 13.1.1), and a weak date may be shared by two versions (section 13.1.4).
    #[must_use]
    pub fn precondition(&self) -> Option<(HeaderName, String)> {
        if let Some(etag) = self.strong_etag() {
            return Some((header::IF_MATCH, etag.to_string()));
        }
        let date = self.last_modified.as_ref().filter(|date| date.strong)?;
        Some((header::IF_UNMODIFIED_SINCE, date.text.to_string()))
    }

    /// How `self`, what is expected, relates to `other`, what was seen.
    ///
    /// Strong tags on both sides decide alone. Otherwise everything that both
    /// sides have must be equal, tags by the weak comparison of RFC 9110
    /// section 8.8.3.2, and the result is never more than [`Comparison::Consistent`]
    /// once a tag is involved. A malformed tag can only be compared with another
    /// one, and two dates that both may be the time of their response contradict
    /// nothing.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Comparison {
        if let (Some(ours), Some(theirs)) = (self.strong_etag(), other.strong_etag()) {
            return if ours == theirs { Comparison::Same } else { Comparison::Different };
        }
        let tags = self.comparable_tags(other).map(|(a, b)| a.opaque == b.opaque);
        let dates = self.comparable_dates(other);
        let equal_dates = dates.map(|(a, b)| a.unix_seconds == b.unix_seconds);
        match (tags, equal_dates) {
            (Some(false), _) | (_, Some(false)) => Comparison::Different,
            (None, None) => Comparison::Silent,
            (None, Some(true))
                if self.etag.is_none()
                    && other.etag.is_none()
                    && dates.is_some_and(|(a, b)| a.strong && b.strong) =>
            {
                Comparison::Same
            }
            _ => Comparison::Consistent,
        }
    }

    /// Whether a response that shows `other` may be joined to bytes that came
    /// under `self`. With a strong validator only the same strong validator may:
    /// a condition that was sent proves nothing, since servers ignore conditions.
    #[must_use]
    pub fn is_shown_by(&self, other: &Self) -> bool {
        if self.strong_etag().is_some() {
            return self.compare(other) == Comparison::Same;
        }
        let dates = both(&self.last_modified, &other.last_modified);
        if self.last_modified.as_ref().is_some_and(|date| date.strong) {
            let same = dates.is_some_and(|(a, b)| b.strong && a.unix_seconds == b.unix_seconds);
            return same && self.etag == other.etag;
        }
        match self.compare(other) {
            Comparison::Same | Comparison::Consistent => self.etag == other.etag,
            // Neither side has anything, or each has nothing but its own time.
            Comparison::Silent => {
                let nothing = self.last_modified.is_none() && other.last_modified.is_none();
                let only_now = dates.is_some_and(|(a, b)| a.is_now() && b.is_now());
                self.etag.is_none() && other.etag.is_none() && (nothing || only_now)
            }
            Comparison::Different => false,
        }
    }

    /// Whether both sides have the same strong entity tag.
    pub(in crate::model) fn has_same_strong_tag(&self, other: &Self) -> bool {
        self.strong_etag().is_some() && self.strong_etag() == other.strong_etag()
    }

    /// Whether the tag is a malformed one.
    #[must_use]
    pub fn has_malformed_tag(&self) -> bool {
        self.etag.as_ref().is_some_and(EntityTag::is_malformed)
    }

    /// Whether both sides have an entity tag and these differ.
    pub(super) fn tags_differ(&self, other: &Self) -> bool {
        self.comparable_tags(other)
            .is_some_and(|(a, b)| if a.weak || b.weak { a.opaque != b.opaque } else { a != b })
    }

    /// Whether both sides have a date and these differ.
    pub(super) fn dates_differ(&self, other: &Self) -> bool {
        self.comparable_dates(other).is_some_and(|(a, b)| a.unix_seconds != b.unix_seconds)
    }

    /// The tags of both sides, unless only one of them is well-formed.
    fn comparable_tags<'a>(&'a self, other: &'a Self) -> Option<(&'a EntityTag, &'a EntityTag)> {
        both(&self.etag, &other.etag).filter(|(a, b)| a.is_malformed() == b.is_malformed())
    }

    /// The dates of both sides, unless each may be the time of its response.
    fn comparable_dates<'a>(
        &'a self,
        other: &'a Self,
    ) -> Option<(&'a LastModified, &'a LastModified)> {
        both(&self.last_modified, &other.last_modified).filter(|(a, b)| {
            a.unix_seconds == b.unix_seconds || !(a.may_be_now() && b.may_be_now())
        })
    }

    fn strong_etag(&self) -> Option<&EntityTag> {
        self.etag.as_ref().filter(|etag| !etag.weak && !etag.is_malformed())
    }
}

fn both<'a, T>(a: &'a Option<T>, b: &'a Option<T>) -> Option<(&'a T, &'a T)> {
    a.as_ref().zip(b.as_ref())
}

/// The one value of a field as text; `None` when it is absent, not UTF-8 or
/// sent with different values.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.any(|value| value != first) {
        return None;
    }
    std::str::from_utf8(first.as_bytes()).ok()
}

/// An HTTP date (RFC 9110 section 5.6.7) in seconds since 1970.
pub(super) fn unix_seconds(text: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(text.trim_matches([' ', '\t'])).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const DAY_PLUS_1: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const LATER: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

    fn validator(fields: &[(HeaderName, &str)]) -> Validator {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        Validator::from_headers(&headers)
    }

    fn etag(value: &str) -> Validator {
        validator(&[(header::ETAG, value)])
    }

    fn dated(etag: Option<&str>, modified: &str, date: &str) -> Validator {
        let mut fields = vec![(header::LAST_MODIFIED, modified), (header::DATE, date)];
        fields.extend(etag.map(|etag| (header::ETAG, etag)));
        validator(&fields)
    }

    #[test]
    fn tags_are_read_and_written_alike() {
        for text in ["\"abc\"", "W/\"abc\"", "\"\"", "\"a,b;c\\\"", "\"é\""] {
            assert_eq!(EntityTag::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["abc", "\"", "w/\"a\"", "W/a", "\"a\"b\"", "\"a b\"", "\"a\u{7f}\"", "W/ \"a\""]
        {
            assert_eq!(EntityTag::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_date_is_strong_a_full_second_before_the_response() {
        let strong = |validator: Validator| validator.last_modified.unwrap().strong;
        assert!(strong(dated(None, DAY, DAY_PLUS_1)));
        assert!(!strong(dated(None, DAY, DAY)));
        assert!(!strong(dated(None, LATER, DAY)));
        assert!(!strong(validator(&[(header::LAST_MODIFIED, DAY)])));
        assert!(!strong(dated(None, DAY, "yesterday")));
    }

    #[test]
    fn a_malformed_date_or_a_contradiction_is_not_there() {
        assert_eq!(etag(" "), Validator::default());
        assert_eq!(validator(&[(header::LAST_MODIFIED, "yesterday")]), Validator::default());
        let two = validator(&[(header::ETAG, "\"a\""), (header::ETAG, "\"b\"")]);
        assert_eq!(two, Validator::default());
        let twice = validator(&[(header::ETAG, "\"a\""), (header::ETAG, "\"a\"")]);
        assert_eq!(twice, etag("\"a\""));
    }

    #[test]
    fn kind_is_the_best_there_is() {
        assert_eq!(etag("\"a\"").kind(), ValidatorKind::StrongEtag);
        assert_eq!(dated(Some("W/\"a\""), DAY, LATER).kind(), ValidatorKind::WeakEtag);
        assert_eq!(dated(None, DAY, LATER).kind(), ValidatorKind::LastModified);
        assert_eq!(Validator::default().kind(), ValidatorKind::None);
    }

    #[test]
    fn a_weak_tag_is_in_no_precondition() {
        let strong = dated(Some("\"a\""), DAY, LATER);
        assert_eq!(strong.precondition(), Some((header::IF_MATCH, "\"a\"".into())));
        let weak = dated(Some("W/\"a\""), DAY, LATER);
        assert_eq!(weak.precondition(), Some((header::IF_UNMODIFIED_SINCE, DAY.into())));
        assert_eq!(etag("W/\"a\"").precondition(), None);
        let precondition = Some((header::IF_UNMODIFIED_SINCE, DAY.into()));
        assert_eq!(dated(None, DAY, LATER).precondition(), precondition);
        assert_eq!(dated(None, DAY, DAY).precondition(), None);
        assert_eq!(Validator::default().precondition(), None);
    }

    #[test]
    fn a_malformed_tag_is_a_string_that_can_be_equal() {
        for text in ["0x8D8117", "\"0x8D", "\"a b\"", "'abc'", "w/\"a\"", "\""] {
            let tag = EntityTag::from_field(text).unwrap();
            assert!(tag.is_malformed() && tag.weak, "{text}");
            assert_eq!(tag.to_string(), text);
            let ours = etag(text);
            assert_eq!(ours.compare(&etag(text)), Comparison::Consistent);
            assert_eq!(ours.compare(&etag("other")), Comparison::Different);
            assert_eq!(ours.compare(&etag("\"0x8D8117\"")), Comparison::Silent);
            assert!(ours.is_shown_by(&etag(text)) && !ours.is_shown_by(&etag("\"a\"")));
            assert_eq!(ours.precondition(), None);
        }
        assert!(!EntityTag::from_field("W/\"a\"").unwrap().is_malformed());
    }

    #[test]
    fn only_the_same_strong_validator_joins() {
        let strong = || dated(Some("\"a\""), DAY, LATER);
        assert!(strong().is_shown_by(&etag("\"a\"")));
        for other in [
            Validator::default(),
            dated(None, DAY, LATER),
            etag("W/\"a\""),
            dated(Some("W/\"a\""), DAY, LATER),
            etag("a"),
            etag("\"b\""),
            validator(&[(header::ETAG, "\"a\""), (header::ETAG, "\"b\"")]),
        ] {
            assert!(!strong().is_shown_by(&other), "{other:?}");
        }
        let date = || dated(None, DAY, LATER);
        assert!(date().is_shown_by(&dated(None, DAY, DAY_PLUS_1)));
        for other in [
            Validator::default(),
            dated(None, DAY, DAY),
            dated(None, DAY_PLUS_1, LATER),
            dated(Some("\"a\""), DAY, LATER),
        ] {
            assert!(!date().is_shown_by(&other), "{other:?}");
        }
        let weak = || dated(Some("W/\"a\""), DAY, LATER);
        assert!(weak().is_shown_by(&weak()));
        assert!(!weak().is_shown_by(&etag("W/\"a\"")) && !weak().is_shown_by(&date()));
        assert!(etag("W/\"a\"").is_shown_by(&etag("W/\"a\"")));
        assert!(!etag("W/\"a\"").is_shown_by(&Validator::default()));
        assert!(!etag("W/\"a\"").is_shown_by(&etag("\"a\"")));
        let none = Validator::default;
        assert!(none().is_shown_by(&none()) && !none().is_shown_by(&etag("\"a\"")));
    }

    #[test]
    fn a_date_that_is_always_now_contradicts_nothing() {
        let now = |day| dated(None, day, day);
        assert_eq!(now(DAY).compare(&now(LATER)), Comparison::Silent);
        assert!(now(DAY).is_shown_by(&now(LATER)) && now(DAY).is_shown_by(&now(DAY)));
        assert!(!now(DAY).is_shown_by(&Validator::default()));
        // Taken a second before `Date` it contradicts nothing, and shows nothing.
        let lags = dated(None, DAY, DAY_PLUS_1);
        assert_eq!(lags.compare(&now(LATER)), Comparison::Silent);
        assert!(!lags.is_shown_by(&now(LATER)) && !now(LATER).is_shown_by(&lags));
        // Without a `Date` nothing shows that it is the current time.
        let undated = |day| validator(&[(header::LAST_MODIFIED, day)]);
        assert!(!undated(DAY).is_shown_by(&undated(LATER)));
        assert_eq!(now(DAY).compare(&dated(None, DAY_PLUS_1, LATER)), Comparison::Different);
    }

    #[test]
    fn comparisons() {
        use Comparison::{Consistent, Different, Same, Silent};
        let none = Validator::default();
        for (ours, theirs, expected) in [
            (etag("\"a\""), etag("\"a\""), Same),
            (etag("\"a\""), etag("\"b\""), Different),
            // Strong tags decide alone, whatever the dates say.
            (dated(Some("\"a\""), DAY, LATER), dated(Some("\"a\""), LATER, LATER), Same),
            (dated(Some("\"a\""), DAY, LATER), dated(Some("\"b\""), DAY, LATER), Different),
            (etag("W/\"a\""), etag("W/\"a\""), Consistent),
            (etag("W/\"a\""), etag("\"a\""), Consistent),
            (etag("W/\"a\""), etag("W/\"b\""), Different),
            (etag("W/\"a\""), etag("\"b\""), Different),
            (dated(Some("W/\"a\""), DAY, LATER), dated(Some("W/\"a\""), LATER, LATER), Different),
            (dated(None, DAY, LATER), dated(None, DAY, DAY_PLUS_1), Same),
            (dated(None, DAY, DAY), dated(None, DAY, LATER), Consistent),
            (dated(None, DAY, LATER), dated(None, DAY_PLUS_1, LATER), Different),
            (dated(Some("\"a\""), DAY, LATER), dated(None, DAY, LATER), Consistent),
            (dated(Some("\"a\""), DAY, LATER), dated(None, DAY_PLUS_1, LATER), Different),
            (etag("\"a\""), dated(None, DAY, LATER), Silent),
            (etag("\"a\""), none.clone(), Silent),
            (none.clone(), none, Silent),
        ] {
            assert_eq!(ours.compare(&theirs), expected, "{ours:?} {theirs:?}");
            assert_eq!(theirs.compare(&ours), expected, "{theirs:?} {ours:?}");
        }
    }
}
