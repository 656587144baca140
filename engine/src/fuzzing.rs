//! What must hold for any bytes from a server or a file, one function each that
//! panics where it does not.
//!
//! The targets in `tests/fuzz` feed these functions with what a fuzzer finds,
//! the test below with the kept inputs and with random changes of them. What
//! must hold is written down here independently of the code that must hold it:
//! other loops, other tables, no helper of the model.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::disk::fitting::accepted;
use crate::model::checkpoint::{Checkpoint, MAX_SEGMENTS, MIN_SEGMENT_BYTES, SegmentRecord};
use crate::model::metalink::MetalinkFile;
use crate::model::name::{self, escape_for_terminal};
use crate::model::range::{ByteRange, ContentRange, MAX_OBJECT_BYTES};
use crate::model::redact::redact_url;
use crate::model::resource::Resource;
use crate::model::response::{Asked, Lie, Verdict, classify};
use crate::model::validator::Comparison;

/// The longest name, in bytes, that leaves room for `.part`.
const LONGEST_NAME_BYTES: usize = 250;

/// More than any sentence about a server needs, in bytes.
const LONGEST_SENTENCE_BYTES: usize = 2000;

/// The bytes of a checkpoint file, and the same as the body of a file whose
/// trailer is right, so that a fuzzer need not find a hash.
pub fn checkpoint(bytes: &[u8]) {
    decoded(bytes);
    // The newest, the usual and the first version.
    for start in [b"HAULCKPT\x05\0", b"HAULCKPT\x04\0", b"HAULCKPT\x01\0"] {
        let mut sealed = [start, bytes].concat();
        sealed.extend_from_slice(blake3::hash(&sealed).as_bytes());
        decoded(&sealed);
    }
}

/// What a checkpoint file reads as, written again; `None` when it is refused.
pub fn reencoded_checkpoint(bytes: &[u8]) -> Option<Vec<u8>> {
    Checkpoint::decode(bytes).ok().map(|checkpoint| checkpoint.encode())
}

fn decoded(bytes: &[u8]) {
    let checkpoint = match Checkpoint::decode(bytes) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return assert_sentence(&error.to_string()),
    };
    let size = checkpoint.segment_size_bytes;
    assert!(size >= MIN_SEGMENT_BYTES && size.count_ones() == 1, "{checkpoint:?}");
    let total = checkpoint.total.unwrap_or(0);
    assert!(total <= MAX_OBJECT_BYTES, "{checkpoint:?}");
    let count = checkpoint.segments.len() as u64;
    assert!(count <= MAX_SEGMENTS, "{count} segments");
    assert!(
        count.checked_mul(size).is_none_or(|room| room >= total)
            && (count == 0) == (total == 0)
            && (count == 0 || (count - 1) * size < total),
        "{count} segments do not tile the object: {checkpoint:?}"
    );
    let mut last = None;
    for prefix in &checkpoint.prefixes {
        let number = prefix.segment as usize;
        assert!(last.is_none_or(|last| last < number), "prefixes out of order: {checkpoint:?}");
        last = Some(number);
        assert_eq!(checkpoint.segments[number], SegmentRecord::Missing, "{checkpoint:?}");
        let end = (number as u64 * size).checked_add(prefix.len_bytes).expect("an offset");
        assert!(prefix.len_bytes > 0 && prefix.len_bytes <= size && end <= total, "{prefix:?}");
    }
    // Nothing in the file is without meaning: it is the one encoding.
    assert_eq!(checkpoint.encode(), bytes, "{checkpoint:?} has two encodings");
}

/// The value of a `Content-Range` field.
pub fn content_range(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let written = match ContentRange::parse(&text) {
        Ok(ContentRange::Satisfied { range, total }) => {
            assert!(!range.is_empty() && range.end() <= MAX_OBJECT_BYTES, "{text:?}: {range}");
            assert!(
                total.is_none_or(|total| range.end() <= total && total <= MAX_OBJECT_BYTES),
                "{text:?}: {range} of {total:?}"
            );
            let asked = range.to_header_value();
            assert!(asked.starts_with("bytes="), "{asked}");
            format!("bytes {}/{}", &asked["bytes=".len()..], number_or_star(total))
        }
        Ok(ContentRange::Unsatisfied { total }) => {
            assert!(total.is_none_or(|total| total <= MAX_OBJECT_BYTES), "{text:?}");
            format!("bytes */{}", number_or_star(total))
        }
        Err(error) => return assert_sentence(&error.to_string()),
    };
    assert_eq!(ContentRange::parse(&written), ContentRange::parse(&text), "{text:?}: {written:?}");
    assert_eq!(without_zeros(&text), written, "something in {text:?} was passed over");
}

fn number_or_star(total: Option<u64>) -> String {
    total.map_or_else(|| "*".to_owned(), |total| total.to_string())
}

/// The text without what may differ in two writings of one value: space around
/// it, the unit's case, and zeros before a number.
fn without_zeros(text: &str) -> String {
    let text = text.trim_matches([' ', '\t']).to_ascii_lowercase();
    let mut shortened = String::new();
    let mut digits = text.chars().peekable();
    while let Some(character) = digits.next() {
        let in_number = shortened.ends_with(|last: char| last.is_ascii_digit());
        let next_is_digit = digits.peek().is_some_and(char::is_ascii_digit);
        if character != '0' || in_number || !next_is_digit {
            shortened.push(character);
        }
    }
    shortened
}

/// The value of a `Content-Disposition` field, and the path of a URL.
pub fn file_name(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // As it comes from the network, where controls cannot be in a value.
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        let headers = HeaderMap::from_iter([(header::CONTENT_DISPOSITION, value)]);
        let Verdict::Whole { resource } = classify(Asked::Whole, 200, &headers, None) else {
            panic!("a plain 200 is not the whole: {text:?}")
        };
        assert_safe_name(&resource, "/");
    }
    for disposition in [Some(text.to_string()), None] {
        let resource = Resource { content_disposition: disposition, ..Resource::default() };
        assert_safe_name(&resource, &text);
    }
}

fn assert_safe_name(resource: &Resource, url_path: &str) {
    let disposition = resource.content_disposition.as_deref();
    let safe = name::file_name(disposition, resource.content_type.as_deref(), url_path, "/a");
    let name = &safe.name;
    let from = || format!("{name:?} from {disposition:?} or {url_path:?}");
    assert!(!name.is_empty() && name.len() <= LONGEST_NAME_BYTES, "{}", from());
    assert!(!name.contains(['/', '\\', '\0']), "{}", from());
    assert!(!name.starts_with(['.', '-']), "{}", from());
    assert!(!name.chars().any(steers_a_terminal), "{}", from());
    // What the system would take for something else is replaced before it is used.
    let accepted = accepted(name);
    let parts: Vec<_> = std::path::Path::new(&accepted).components().collect();
    assert!(matches!(parts[..], [std::path::Component::Normal(_)]), "{}", from());
    // A second run must find what the first one left.
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let field = format!("attachment; filename*=UTF-8''{encoded}");
    let again = name::file_name(Some(&field), None, "", "");
    assert_eq!(again.name, *name, "{} is not stable", from());
    assert!(!again.changed, "{} is said to be changed", from());
}

/// One response and the response before it:
///
/// ```text
/// 206 0-100
/// Content-Range: bytes 0-99/200
///
/// 206 0-50
/// Content-Range: bytes 0-49/200
/// ```
///
/// The first line of each has the status and the half-open range asked for;
/// anything else in its place asks for the whole.
pub fn classified(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (asked, status, headers) = response(&mut lines);
    let (earlier_asked, earlier_status, earlier_headers) = response(&mut lines);
    let earlier = classify(earlier_asked, earlier_status, &earlier_headers, None);
    assert_verdict(earlier_asked, earlier_status, &earlier_headers, None, &earlier);
    let expected = match earlier {
        Verdict::Partial { resource, .. } | Verdict::Whole { resource } => Some(resource),
        _ => None,
    };
    for expected in [None, expected.as_ref()] {
        let verdict = classify(asked, status, &headers, expected);
        assert_verdict(asked, status, &headers, expected, &verdict);
    }
}

fn response<'a>(lines: &mut impl Iterator<Item = &'a [u8]>) -> (Asked, u16, HeaderMap) {
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let (status, range) = first.split_once(' ').unwrap_or((&first, ""));
    let asked = range
        .split_once('-')
        .and_then(|(start, end)| Some((start.parse().ok()?, end.parse().ok()?)))
        .filter(|(start, end)| start < end && *end <= MAX_OBJECT_BYTES)
        .map_or(Asked::Whole, |(start, end)| Asked::Range(ByteRange::new(start, end)));
    let mut headers = HeaderMap::new();
    // The connector refuses more fields than this.
    for line in lines.take_while(|line| !line.is_empty()).take(256) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = line[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    (asked, status.parse().unwrap_or(200), headers)
}

fn assert_verdict(
    asked: Asked,
    status: u16,
    headers: &HeaderMap,
    expected: Option<&Resource>,
    verdict: &Verdict,
) {
    let told = || format!("{asked:?} {status} {headers:?} {expected:?} -> {verdict:?}");
    match verdict {
        Verdict::Partial { range, resource } => {
            assert_eq!(status, 206, "{}", told());
            let Asked::Range(asked) = asked else { panic!("unasked: {}", told()) };
            assert_eq!(range.start(), asked.start(), "{}", told());
            assert!(!range.is_empty() && range.end() <= asked.end(), "{}", told());
            let total = resource.total.unwrap_or_else(|| panic!("no total: {}", told()));
            assert!(range.end() <= total && total <= MAX_OBJECT_BYTES, "{}", told());
            if !headers.contains_key(header::TRANSFER_ENCODING) {
                assert_every_length(headers, range.len(), told);
            }
            assert_stored(expected, resource, told);
        }
        Verdict::Whole { resource } => {
            assert!(status == 200 || status == 206 && asked == Asked::Whole, "{}", told());
            let said = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
            if let Some(Ok(ContentRange::Satisfied { range, total })) =
                said.map(ContentRange::parse)
            {
                let whole = range.start() == 0 && total.is_none_or(|total| total == range.end());
                assert!(whole, "{}", told());
            }
            assert!(resource.total.is_none_or(|total| total <= MAX_OBJECT_BYTES), "{}", told());
            if let Some(total) = resource.total {
                assert_every_length(headers, total, told);
            }
            assert_stored(expected, resource, told);
        }
        Verdict::Changed { seen } | Verdict::TagDiffers { seen } => {
            let expected = expected.unwrap_or_else(|| panic!("nothing to change: {}", told()));
            let identity = |of: &Resource| (of.validator.clone(), of.total, of.media_type());
            assert_ne!(identity(expected), identity(seen), "{}", told());
        }
        Verdict::Unsatisfied { total } => {
            assert!(status == 416 && matches!(asked, Asked::Range(_)), "{}", told());
            assert!(total.is_none_or(|total| total <= MAX_OBJECT_BYTES), "{}", told());
        }
        Verdict::Redirect { location } => {
            assert!(matches!(status, 301 | 302 | 303 | 307 | 308), "{}", told());
            let raw = headers[header::LOCATION].as_bytes();
            let same = raw == location.as_bytes();
            let escaped = location.is_ascii() && std::str::from_utf8(raw).is_err();
            assert!(same || escaped, "{}", told());
            assert!(!location.trim().is_empty(), "{}", told());
        }
        Verdict::Imposter { why } => assert_sentence(why),
        Verdict::Lie(lie) => {
            let _ = lie.remedy();
            assert_sentence(&lie.to_string());
            let partial = matches!(lie, Lie::StartsElsewhere { .. } | Lie::EndsBeyond { .. });
            assert!(!partial || status == 206, "{}", told());
        }
        Verdict::PreconditionFailed => assert_eq!(status, 412, "{}", told()),
        Verdict::Throttled { .. } | Verdict::Denied { .. } | Verdict::Status { .. } => {
            assert!(!matches!(status, 200 | 206), "{}", told());
        }
    }
}

fn assert_every_length(headers: &HeaderMap, bytes: u64, told: impl Fn() -> String) {
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for length in String::from_utf8_lossy(value.as_bytes()).split(',') {
            assert_eq!(length.trim().parse(), Ok(bytes), "{}", told());
        }
    }
}

/// What holds for a response whose body may be stored.
fn assert_stored(expected: Option<&Resource>, seen: &Resource, told: impl Fn() -> String) {
    assert_safe_name(seen, "/");
    if let Some((name, value)) = seen.validator.precondition() {
        assert!(HeaderValue::from_str(&value).is_ok(), "{}", told());
        assert!(name != header::IF_MATCH || value.starts_with('"'), "a weak tag: {}", told());
    }
    let Some(expected) = expected else { return };
    assert_eq!(expected.encoding, seen.encoding, "{}", told());
    if let (Some(ours), Some(theirs)) = (expected.total, seen.total) {
        assert_eq!(ours, theirs, "{}", told());
    }
    let comparison = expected.validator.compare(&seen.validator);
    assert_ne!(comparison, Comparison::Different, "{}", told());
}

/// A URL, or what somebody took for one, and any text for a terminal.
pub fn shown(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // Of the text itself, so that no text has it.
    let canary = &blake3::hash(bytes).to_hex()[..16];
    assert_harmless(&escape_for_terminal(&text));
    let escaped = escape_for_terminal(&text);
    assert_eq!(escape_for_terminal(&escaped), escaped, "{text:?}");
    if !text.chars().any(steers_a_terminal) {
        assert_eq!(escaped, text, "harmless text was changed");
    }

    let shown = redact_url(&text);
    assert_harmless(&shown);
    let shown = shown.strip_suffix("?…").unwrap_or(&shown);
    assert!(!shown.contains(['?', '#']), "{text:?} shows as {shown:?}");
    let authority = shown.split_once("://").map_or(shown, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    assert!(!authority.contains('@'), "{text:?} shows as {shown:?}");

    // A password ends at the `@` of the authority, which ends at these.
    let user: String = text.chars().filter(|c| !matches!(c, '/' | '\\' | '?' | '#')).collect();
    for secret in [
        format!("{text}?{canary}"),
        format!("{text}#{canary}"),
        format!("{text}?{canary}@{text}"),
        format!("{text}?{text}#{canary}"),
        format!("https://{user}:{canary}@{text}"),
        format!("https://{canary}@{text}"),
        format!("https://{user}:{canary}?{text}@h/"),
        format!("https://{user}:{canary}#{text}@h/"),
        format!("//{canary}:{user}@{text}"),
    ] {
        let shown = redact_url(&secret);
        assert!(!shown.contains(canary), "{secret:?} shows as {shown:?}");
    }
    if let Ok(mut url) = Url::parse(&text) {
        let _ = url.set_username(canary);
        let _ = url.set_password(Some(canary));
        if !url.cannot_be_a_base() {
            url.set_query(Some(canary));
        }
        url.set_fragment(Some(canary));
        let shown = redact_url(url.as_str());
        assert!(!shown.contains(canary), "{url} shows as {shown:?}");
    }
}

/// The bytes of a Metalink document.
///
/// # Panics
/// Where a file is not what it may be, or a refusal would steer a terminal.
pub fn metalink(bytes: &[u8]) {
    let files = match MetalinkFile::parse(bytes) {
        Ok(files) => files,
        Err(error) => return assert_sentence(&error.to_string()),
    };
    assert!(!files.is_empty(), "a document of no file");
    for file in files {
        let parts: Vec<&str> = file.name.split('/').collect();
        assert!(
            !file.name.starts_with('/') && !file.name.contains(['\\', '\0']),
            "{:?}",
            file.name
        );
        assert!(!parts.contains(&".."), "{:?}", file.name);
        assert!((1..=32).contains(&file.urls.len()), "{} URLs", file.urls.len());
        for url in &file.urls {
            let lower = url.to_ascii_lowercase();
            assert!(lower.starts_with("http://") || lower.starts_with("https://"), "{url:?}");
        }
        if let (Some(size), Some(pieces)) = (file.size_bytes, &file.pieces) {
            let whole = (pieces.count() as u64 - 1) * pieces.piece_bytes();
            assert!(size > whole && size - whole <= pieces.piece_bytes(), "{size}, {pieces:?}");
        }
    }
}

/// A line of an error or a notice: for one terminal line, and not a novel.
fn assert_sentence(text: &str) {
    assert_harmless(text);
    assert!(!text.is_empty() && text.len() <= LONGEST_SENTENCE_BYTES, "{} bytes", text.len());
}

fn assert_harmless(text: &str) {
    assert!(!text.chars().any(steers_a_terminal), "{text:?}");
}

/// Controls (category Cc), separators of lines and paragraphs, and all with
/// the property `Bidi_Control`.
fn steers_a_terminal(character: char) -> bool {
    let number = u32::from(character);
    number < 0x20
        || (0x7f..=0x9f).contains(&number)
        || [0x61c, 0x200e, 0x200f, 0x2028, 0x2029].contains(&number)
        || (0x202a..=0x202e).contains(&number)
        || (0x2066..=0x206f).contains(&number)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The kept inputs of a target as they are, and 2,000 changes of them.
    #[expect(clippy::print_stdout, reason = "the seed is shown when a test fails")]
    fn run(target: &str, check: fn(&[u8])) {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
        let mut kept: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        kept.sort();
        let kept: Vec<Vec<u8>> = kept.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(kept.len() >= 5, "{} inputs in {}", kept.len(), folder.display());
        for bytes in &kept {
            check(bytes);
        }
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..2000 {
            let mut bytes = kept[random.usize(..kept.len())].clone();
            for _ in 0..random.usize(1..6) {
                change(&mut bytes, &kept, &mut random);
            }
            check(&bytes);
        }
    }

    fn change(bytes: &mut Vec<u8>, kept: &[Vec<u8>], random: &mut fastrand::Rng) {
        const WORDS: [&[u8]; 22] = [
            b"\0",
            b"\xff",
            b"%",
            b"%2F",
            b"..",
            b"/",
            b"\\",
            b"\"",
            b"\x1b[31m",
            b"-",
            b"*",
            b"@",
            b"?",
            b"#",
            b"://",
            b"\n",
            b"9223372036854775807",
            b"18446744073709551616",
            b"W/\"",
            "\u{202e}".as_bytes(),
            "\u{9b}".as_bytes(),
            "\u{2069}".as_bytes(),
        ];
        let at = random.usize(..=bytes.len());
        let until = (at + random.usize(..8)).min(bytes.len());
        match random.u8(..5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..until)),
            2 => bytes[at..until].iter_mut().for_each(|byte| *byte ^= 1 << random.u8(..8)),
            3 => drop(bytes.splice(at..until, random.choice(WORDS).unwrap().iter().copied())),
            _ => {
                let other = random.choice(kept).unwrap();
                let from = random.usize(..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }

    #[test]
    fn checkpoints() {
        run("checkpoint", checkpoint);
    }

    #[test]
    fn content_ranges() {
        run("content_range", content_range);
    }

    #[test]
    fn file_names() {
        run("file_name", file_name);
    }

    #[test]
    fn responses() {
        run("classify", classified);
    }

    #[test]
    fn metalinks() {
        run("metalink", metalink);
    }

    #[test]
    fn urls_and_text() {
        run("redact", shown);
    }
}
