//! Judges the head of a response before a byte of its body is touched.
//!
//! [`classify`] is the one gate to the storage: a body is stored only under
//! [`Verdict::Partial`] or [`Verdict::Whole`], and every way in which a server
//! is known to lie has its own [`Lie`], so that each has a test and a remedy.

use std::fmt::Write as _;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};

use super::charset;
use super::name::brief;
use super::range::{self, ByteRange, ContentRange, RangeError};
use super::resource::Resource;
use super::size::{differing, size_words};
use super::validator::{self, Comparison, Validator};

/// What the request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// These bytes, with a `Range` field.
    Range(ByteRange),
    /// The whole object, without a `Range` field.
    Whole,
}

/// What a response means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A 206 with bytes of our object.
    Partial {
        /// Starts where it was asked to and ends there or earlier; not empty.
        range: ByteRange,
        /// The object as this response describes it; its total is known.
        resource: Resource,
    },
    /// A 200 with our object from its first byte.
    Whole {
        /// The object as this response describes it; its total is the
        /// `Content-Length`, if there is one, and it has ranges if the server
        /// says that it accepts them.
        resource: Resource,
    },
    /// A 416: nothing of the object is in the asked range.
    Unsatisfied {
        /// The object's size, if the response told it.
        total: Option<u64>,
    },
    /// 301, 302, 303, 307 or 308.
    Redirect {
        /// The `Location` as sent: maybe relative, never checked for its scheme.
        location: String,
    },
    /// Another version of the object: its total or its validator differs.
    Changed {
        /// The object as this response describes it.
        seen: Resource,
    },
    /// The entity tag differs and nothing else does, with the same total: the
    /// object changed, or the server's edges make tags of their own.
    TagDiffers {
        /// The object as this response describes it.
        seen: Resource,
    },
    /// A 412: the object is no longer the one that was asked for.
    PreconditionFailed,
    /// A 200 with something that is not our object, like a login page.
    Imposter {
        /// What gave it away, escaped.
        why: String,
    },
    /// A response that contradicts the request, HTTP or itself.
    Lie(Lie),
    /// 429 or 503, and 403, 509 or 530 with `Retry-After`: asked to slow down.
    Throttled {
        /// The status.
        status: u16,
        /// How long the server wants to be left alone; not capped.
        retry_after: Option<Duration>,
    },
    /// 401, 403, 407 or 410: access refused, or a link that expired.
    Denied {
        /// The status.
        status: u16,
    },
    /// Any other status.
    Status {
        /// The status.
        status: u16,
        /// Whether asking again later can help.
        transient: bool,
        /// How long the server wants to be left alone; not capped.
        retry_after: Option<Duration>,
    },
}

/// One way in which a response breaks its promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    /// A 206 that does not say which bytes it holds.
    #[error("the server sent a 206 without a Content-Range")]
    NoContentRange,
    /// A `Content-Range` that cannot be read, or more than one; as sent.
    #[error("the server sent an unusable Content-Range, {}", quoted(.0))]
    BadContentRange(String),
    /// A 206 whose first byte is not the one that was asked for.
    #[error("the server sent bytes {got} although {asked} was asked for")]
    StartsElsewhere {
        /// The range in the request.
        asked: ByteRange,
        /// The range in the response.
        got: ByteRange,
    },
    /// A 206 that ends after what was asked for.
    #[error("the server sent bytes {got}, beyond the {asked} that was asked for")]
    EndsBeyond {
        /// The range in the request.
        asked: ByteRange,
        /// The range in the response.
        got: ByteRange,
    },
    /// A 206 whose total is `*`.
    #[error("the server sent a range without the object's total size")]
    UnknownTotal,
    /// A 206 whose `Content-Length` is not the length of its range.
    #[error(
        "the server announced {} for a range of {}",
        unlike(*.length_bytes, *.range_bytes),
        unlike(*.range_bytes, *.length_bytes)
    )]
    LengthMismatch {
        /// The length of the `Content-Range` in bytes.
        range_bytes: u64,
        /// The `Content-Length` in bytes.
        length_bytes: u64,
    },
    /// A `multipart/byteranges` although one range was asked for.
    #[error("the server sent several parts for one range")]
    Multipart,
    /// A transfer coding besides `chunked`: the bytes are not the object's; as sent.
    #[error(
        "the server sent the transfer coding {}, which nobody asked for: these are not the \
         object's bytes",
        quoted(.0)
    )]
    TransferCoding(String),
    /// Another total than the object's under the same strong entity tag.
    #[error(
        "the server sent a total of {} under the entity tag of {}",
        unlike(*.got, *.expected),
        unlike(*.expected, *.got)
    )]
    OtherTotal {
        /// The object's size in bytes.
        expected: u64,
        /// The size in this response.
        got: u64,
    },
    /// A whole object of another length than before, without any sign of another version.
    #[error(
        "the server sent {} as the whole object, after a length of {}, and nothing that says \
         another version",
        unlike(*.got, *.expected),
        unlike(*.expected, *.got)
    )]
    OtherLength {
        /// The object's size in bytes.
        expected: u64,
        /// The size in this response.
        got: u64,
    },
    /// A total that is the end of the part that was asked for, and not the object's.
    #[error(
        "the server sent a total of {}, which is the end of the part that was asked for, after \
         a total of {}",
        unlike(*.got, *.expected),
        unlike(*.expected, *.got)
    )]
    TotalOfPart {
        /// The object's size in bytes.
        expected: u64,
        /// The size in this response.
        got: u64,
    },
    /// A 200 as long as the part that was asked for.
    #[error(
        "the server sent a 200 of {}, as long as the part that was asked for",
        size_words(*.length_bytes)
    )]
    PartAsWhole {
        /// Its length in bytes.
        length_bytes: u64,
    },
    /// A content coding other than that of the object so far.
    #[error("the server sent {} after {}", coding(.got.as_ref()), coding(.expected.as_ref()))]
    EncodingDiffers {
        /// The coding so far; `None` for identity.
        expected: Option<String>,
        /// The coding of this response; `None` for identity.
        got: Option<String>,
    },
    /// A 200 whose `Content-Range` is not the whole object.
    #[error("the server sent a 200 with a Content-Range, a part posing as the whole")]
    WholeHasContentRange,
    /// A 206 for a part although no range was asked for.
    #[error("the server sent a part although the whole object was asked for")]
    PartialUnasked,
    /// A size that is no number, contradicts itself or is larger than
    /// [`range::MAX_OBJECT_BYTES`]; as sent.
    #[error("the server sent an impossible size, {}", quoted(.0))]
    TooLarge(String),
    /// A redirect without a `Location` that is text.
    #[error("the server sent a redirect without a usable Location")]
    NoLocation,
    /// A status that answers no request of ours, such as 204 or 304.
    #[error("the server sent status {0}, which answers no download")]
    UnexpectedStatus(u16),
}

/// What can be done about a [`Lie`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// Ask again, within the retries; as one plain stream when it persists.
    Retry,
    /// Ask for the whole object in one plain stream at once.
    Sequential,
    /// Give up.
    Fatal,
}

impl Lie {
    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::StartsElsewhere { .. }
            | Self::EndsBeyond { .. }
            | Self::LengthMismatch { .. }
            | Self::EncodingDiffers { .. }
            | Self::TransferCoding(_)
            | Self::OtherTotal { .. }
            | Self::OtherLength { .. }
            | Self::PartialUnasked
            | Self::UnexpectedStatus(_) => Remedy::Retry,
            Self::NoContentRange
            | Self::BadContentRange(_)
            | Self::UnknownTotal
            | Self::Multipart
            | Self::TotalOfPart { .. }
            | Self::PartAsWhole { .. }
            | Self::WholeHasContentRange => Remedy::Sequential,
            Self::TooLarge(_) | Self::NoLocation => Remedy::Fatal,
        }
    }
}

/// A size, for a message that says that it is not `other`.
fn unlike(size: u64, other: u64) -> String {
    differing(size, other).0
}

fn coding(name: Option<&String>) -> String {
    name.map_or_else(
        || "no content coding".to_owned(),
        |it| format!("content coding {}", quoted(it)),
    )
}

/// Judges a response's status and header fields.
///
/// `expected` is what the first accepted response, or the checkpoint, said
/// about the object; without it the response itself sets the expectation.
#[must_use]
pub fn classify(
    asked: Asked,
    status: u16,
    headers: &HeaderMap,
    expected: Option<&Resource>,
) -> Verdict {
    let judged = match status {
        200 => whole(asked, headers, expected),
        206 => partial(asked, headers, expected),
        301 | 302 | 303 | 307 | 308 => redirect(headers),
        403 | 509 | 530 if retry_after(headers).is_some() => {
            Ok(Verdict::Throttled { status, retry_after: retry_after(headers) })
        }
        401 | 403 | 407 | 410 => Ok(Verdict::Denied { status }),
        412 => Ok(Verdict::PreconditionFailed),
        416 if matches!(asked, Asked::Range(_)) => unsatisfied(headers, expected),
        429 | 503 => Ok(Verdict::Throttled { status, retry_after: retry_after(headers) }),
        0..=299 | 304 => Err(Lie::UnexpectedStatus(status)),
        _ => Ok(Verdict::Status {
            status,
            transient: matches!(status, 408 | 425 | 500 | 502 | 504 | 509 | 511 | 520..=530),
            retry_after: retry_after(headers),
        }),
    };
    judged.unwrap_or_else(Verdict::Lie)
}

fn partial(asked: Asked, headers: &HeaderMap, expected: Option<&Resource>) -> Result<Verdict, Lie> {
    let mut seen = resource(headers);
    if seen.media_type().as_deref() == Some("multipart/byteranges") {
        return Err(Lie::Multipart);
    }
    let length = content_length(headers)?;
    let Asked::Range(asked) = asked else {
        return match span(headers, length) {
            Span::Part => Err(Lie::PartialUnasked),
            Span::Unsaid | Span::Whole(_) => the_object(seen, length, expected),
        };
    };
    let (got, total) = match content_range(headers)?.ok_or(Lie::NoContentRange)? {
        ContentRange::Satisfied { range, total } => (range, total),
        ContentRange::Unsatisfied { .. } => {
            return Err(Lie::BadContentRange(text(headers, &header::CONTENT_RANGE)));
        }
    };
    if got.start() != asked.start() {
        return Err(Lie::StartsElsewhere { asked, got });
    }
    if got.end() > asked.end() {
        return Err(Lie::EndsBeyond { asked, got });
    }
    if let Some(length_bytes) = length.filter(|length| *length != got.len()) {
        return Err(Lie::LengthMismatch { range_bytes: got.len(), length_bytes });
    }
    let total = total.ok_or(Lie::UnknownTotal)?;
    seen.total = Some(total);
    seen.ranges = true;
    if let Some(expected) = expected {
        same_encoding(expected, &seen)?;
        let differ = expected.validator.compare(&seen.validator) == Comparison::Different;
        if let Some(known) = expected.total.filter(|known| *known != total) {
            if !differ && total < known && total == asked.end() {
                return Err(Lie::TotalOfPart { expected: known, got: total });
            }
            same_total(expected, &seen)?;
            return Ok(differs(expected, seen));
        }
        if differ {
            return Ok(differs(expected, seen));
        }
    }
    Ok(Verdict::Partial { range: got, resource: seen })
}

fn whole(asked: Asked, headers: &HeaderMap, expected: Option<&Resource>) -> Result<Verdict, Lie> {
    let length = content_length(headers)?;
    let size = match span(headers, length) {
        Span::Part => return Err(Lie::WholeHasContentRange),
        Span::Whole(end) => Some(end),
        Span::Unsaid => length,
    };
    if let (Asked::Range(asked), Some(length_bytes)) = (asked, size)
        && length_bytes == asked.len()
        && expected.and_then(|expected| expected.total) != size
    {
        return Err(Lie::PartAsWhole { length_bytes });
    }
    let seen = Resource { ranges: accepts_ranges(headers), ..resource(headers) };
    the_object(seen, length, expected)
}

/// Judges a body that claims to be the whole object.
fn the_object(
    mut seen: Resource,
    length: Option<u64>,
    expected: Option<&Resource>,
) -> Result<Verdict, Lie> {
    seen.total = length;
    let Some(expected) = expected else {
        return Ok(Verdict::Whole { resource: seen });
    };
    let total_differs = expected.total.zip(seen.total).is_some_and(|(a, b)| a != b);
    let types = expected.media_type().zip(seen.media_type());
    let type_differs = types.as_ref().is_some_and(|(ours, theirs)| ours != theirs);
    // A page in place of the object often has a validator or a coding of its own, and is often
    // generated as it is sent, without a length. So this check comes first: if the page were taken
    // for a change, the restart would download it.
    if type_differs && (total_differs || seen.total.is_none()) {
        return Ok(imposter(expected, &seen));
    }
    same_encoding(expected, &seen)?;
    let comparison = expected.validator.compare(&seen.validator);
    if comparison == Comparison::Different {
        return Ok(differs(expected, seen));
    }
    if comparison != Comparison::Silent {
        same_total(expected, &seen)?;
        same_length(expected, &seen)?;
        return Ok(Verdict::Whole { resource: seen });
    }
    // A plain stream joins nothing, so less than a validator will do: a server that has lost its
    // validator still has the object. A page would have another length.
    let alike = expected.total.is_some()
        && expected.total == seen.total
        && expected.media_type() == seen.media_type();
    if expected.validator != Validator::default() && !alike {
        return Ok(imposter(expected, &seen));
    }
    if !total_differs && !type_differs {
        return Ok(Verdict::Whole { resource: seen });
    }
    let is_page = |resource: &Resource| resource.media_type().as_deref() == Some("text/html");
    if is_page(&seen) && !is_page(expected) {
        return Ok(imposter(expected, &seen));
    }
    same_length(expected, &seen)?;
    Ok(Verdict::Changed { seen })
}

/// Another total or validator: a change, or edges that disagree on the tag.
fn differs(expected: &Resource, seen: Resource) -> Verdict {
    let only_the_tag = expected.total.is_some()
        && expected.total == seen.total
        && expected.validator.tags_differ(&seen.validator)
        && !expected.validator.dates_differ(&seen.validator);
    if only_the_tag { Verdict::TagDiffers { seen } } else { Verdict::Changed { seen } }
}

fn imposter(expected: &Resource, seen: &Resource) -> Verdict {
    let describe = |resource: &Resource| {
        let kind = resource.media_type().unwrap_or_else(|| "untyped data".to_owned());
        let size = match resource.total {
            Some(total) => size_words(total),
            None => "unknown size".to_owned(),
        };
        format!("{} of {size}", brief(&kind))
    };
    let mut why = format!("{} came in place of {}", describe(seen), describe(expected));
    if seen.validator == Validator::default() && expected.validator != Validator::default() {
        why.push_str(", without the object's validator");
    }
    Verdict::Imposter { why }
}

fn unsatisfied(headers: &HeaderMap, expected: Option<&Resource>) -> Result<Verdict, Lie> {
    match content_range(headers)? {
        None => Ok(Verdict::Unsatisfied { total: None }),
        Some(ContentRange::Unsatisfied { total }) => {
            if let Some(expected) = expected {
                same_total(expected, &Resource { total, ..resource(headers) })?;
            }
            Ok(Verdict::Unsatisfied { total })
        }
        Some(ContentRange::Satisfied { .. }) => {
            Err(Lie::BadContentRange(text(headers, &header::CONTENT_RANGE)))
        }
    }
}

fn redirect(headers: &HeaderMap) -> Result<Verdict, Lie> {
    let mut values = headers.get_all(header::LOCATION).iter();
    let first = values.next().filter(|first| !first.as_bytes().trim_ascii().is_empty());
    let first = first.ok_or(Lie::NoLocation)?;
    if values.any(|value| value != first) {
        return Err(Lie::NoLocation);
    }
    let raw = first.as_bytes();
    let location = std::str::from_utf8(raw).map_or_else(|_| escaped(raw), str::to_owned);
    Ok(Verdict::Redirect { location })
}

/// Raw bytes that are not UTF-8, escaped as browsers do it.
fn escaped(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len() * 2);
    for byte in raw {
        if byte.is_ascii() {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn same_encoding(expected: &Resource, seen: &Resource) -> Result<(), Lie> {
    if expected.encoding == seen.encoding {
        return Ok(());
    }
    let (expected, got) = (expected.encoding.clone(), seen.encoding.clone());
    Err(Lie::EncodingDiffers { expected, got })
}

/// A strong entity tag belongs to one sequence of bytes (RFC 9110 section 8.8.1):
/// with another total it is a lie and not another version.
fn same_total(expected: &Resource, seen: &Resource) -> Result<(), Lie> {
    match (expected.total, seen.total) {
        (Some(expected_bytes), Some(got))
            if expected_bytes != got && expected.validator.has_same_strong_tag(&seen.validator) =>
        {
            Err(Lie::OtherTotal { expected: expected_bytes, got })
        }
        _ => Ok(()),
    }
}

/// Checks a body that claims to be the whole object: another length, without any sign of
/// another version, may be a broken server's or proxy's.
fn same_length(expected: &Resource, seen: &Resource) -> Result<(), Lie> {
    match (expected.total, seen.total) {
        (Some(expected), Some(got)) if expected != got => Err(Lie::OtherLength { expected, got }),
        _ => Ok(()),
    }
}

/// What a `Content-Range` says about a body that should be the whole object.
enum Span {
    /// Nothing that can be used.
    Unsaid,
    /// It is all of the object, of this many bytes.
    Whole(u64),
    /// It is a part, or not what `Content-Length` says.
    Part,
}

/// Reads the field as leniently as possible without taking a part for the
/// whole: `bytes=0-9/10`, `bytes 0-9/*` beside the length, or the unit alone.
fn span(headers: &HeaderMap, length: Option<u64>) -> Span {
    if !headers.contains_key(header::CONTENT_RANGE) {
        return Span::Unsaid;
    }
    let Some(value) = validator::single(headers, &header::CONTENT_RANGE) else {
        return Span::Part;
    };
    let numbers =
        value.trim_start_matches(|c: char| c.is_ascii_alphabetic() || " \t=:".contains(c));
    let (span, total) = numbers.split_once('/').unwrap_or((numbers, "*"));
    let total = range::number(total.trim()).ok();
    if matches!(span.trim(), "" | "*") {
        let contradicts = length.zip(total).is_some_and(|(length, total)| length != total);
        return if contradicts { Span::Part } else { Span::Unsaid };
    }
    let last = span.trim().strip_prefix("0-").map(|last| range::number(last.trim()));
    match last {
        Some(Ok(last))
            if length.or(total) == Some(last + 1) && total.is_none_or(|it| it == last + 1) =>
        {
            Span::Whole(last + 1)
        }
        _ => Span::Part,
    }
}

/// Everything that header fields say about the object, except its total.
fn resource(headers: &HeaderMap) -> Resource {
    let present =
        |name: HeaderName| headers.get(&name).map(|value| charset::text(value.as_bytes()));
    let codings: Vec<String> = text(headers, &header::CONTENT_ENCODING)
        .split(',')
        .map(|coding| coding.trim().to_ascii_lowercase())
        .filter(|coding| !coding.is_empty() && coding != "identity")
        .collect();
    Resource {
        total: None,
        validator: Validator::from_headers(headers),
        ranges: false,
        encoding: (!codings.is_empty()).then(|| codings.join(", ")),
        content_type: present(header::CONTENT_TYPE),
        content_disposition: present(header::CONTENT_DISPOSITION),
    }
}

fn accepts_ranges(headers: &HeaderMap) -> bool {
    let units = text(headers, &header::ACCEPT_RANGES);
    units.split(',').any(|unit| unit.trim().eq_ignore_ascii_case("bytes"))
}

fn content_range(headers: &HeaderMap) -> Result<Option<ContentRange>, Lie> {
    if !headers.contains_key(header::CONTENT_RANGE) {
        return Ok(None);
    }
    let bad = || Lie::BadContentRange(text(headers, &header::CONTENT_RANGE));
    let value = validator::single(headers, &header::CONTENT_RANGE).ok_or_else(bad)?;
    ContentRange::parse(value).map(Some).map_err(|error| match error {
        RangeError::TooLarge => Lie::TooLarge(value.to_owned()),
        _ => bad(),
    })
}

/// The length of the body. `Transfer-Encoding: chunked` overrides it (RFC 9112
/// section 6.3); equal values sent twice count as one, different ones as a lie (RFC
/// 9110 section 8.6).
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Lie> {
    if is_chunked(headers)? || !headers.contains_key(header::CONTENT_LENGTH) {
        return Ok(None);
    }
    let all = text(headers, &header::CONTENT_LENGTH);
    let mut lengths =
        all.split(',').map(|value| range::number(value.trim_matches([' ', '\t'])).ok());
    match lengths.next() {
        Some(Some(first)) if lengths.all(|other| other == Some(first)) => Ok(Some(first)),
        _ => Err(Lie::TooLarge(all)),
    }
}

/// Whether the body is chunked. `identity` and empty values say nothing, and
/// `chunked` sent twice is applied once. Any other coding was not asked for with
/// `TE`, and is not undone; nor is `chunked` where it does not come last.
fn is_chunked(headers: &HeaderMap) -> Result<bool, Lie> {
    let all = text(headers, &header::TRANSFER_ENCODING);
    let mut codings = all.split(',').map(str::trim);
    let is = |coding: &str, name: &str| coding.eq_ignore_ascii_case(name);
    if codings.clone().all(|coding| coding.is_empty() || is(coding, "identity")) {
        return Ok(false);
    }
    let known = |coding| is(coding, "chunked") || is(coding, "identity") || coding.is_empty();
    let ends_chunked = codings.clone().next_back().is_some_and(|last| is(last, "chunked"));
    if ends_chunked && codings.all(known) { Ok(true) } else { Err(Lie::TransferCoding(all)) }
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date, which counts
/// from the response's own `Date` because the local clock may be wrong.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = validator::single(headers, &header::RETRY_AFTER)?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = validator::unix_seconds(value)?;
    let now = validator::unix_seconds(validator::single(headers, &header::DATE)?)?;
    Some(Duration::from_secs(until.saturating_sub(now)))
}

/// All values of a field, joined by `, `.
fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<String> =
        headers.get_all(name).iter().map(|value| charset::text(value.as_bytes())).collect();
    values.join(", ")
}

/// A server's text within an error: quoted, escaped and short.
fn quoted(text: &str) -> String {
    format!("`{}`", brief(text))
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
