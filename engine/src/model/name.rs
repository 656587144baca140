//! File names from servers, made safe, and text from servers, made harmless.

/// A name without room for what is added to it (`.part`, `.haul` and a few
/// bytes more) cannot be opened: file systems end at 255 bytes.
const LONGEST_NAME_BYTES: usize = 255 - 10;

/// A last dot further than this from the end does not begin an extension.
const LONGEST_EXTENSION_BYTES: usize = 32;

const FALLBACK: &str = "download";

/// One path component that can be created in any directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafeName {
    /// Never empty, `.` or `..`; without separators, controls or a leading dot
    /// or hyphen; at most 245 bytes.
    pub name: String,
    /// Whether it is not what the server gave.
    pub changed: bool,
}

/// The name to store an object under: that of the `Content-Disposition` (RFC
/// 6266, its `filename*` before its `filename`), else the last component of the
/// URL's path, percent-decoded, else `download`.
///
/// Where that has no extension, one is added for a media type that has one
/// alone ([`EXTENSIONS`]); not for pages and other text, which are often not what
/// was asked for.
#[must_use]
pub fn file_name(
    content_disposition: Option<&str>,
    content_type: Option<&str>,
    url_path: &str,
) -> SafeName {
    let mut safe = given_name(content_disposition, url_path);
    if has_no_extension(&safe.name)
        && let Some(extension) = content_type.and_then(extension_of)
    {
        safe.name = cut(&format!("{}.{extension}", safe.name));
    }
    safe
}

/// The names that [`file_name`] may give to an object of this URL, whatever its type,
/// the one without an added extension first.
pub fn possible_names(url_path: &str) -> impl Iterator<Item = String> {
    let name = given_name(None, url_path).name;
    let bare = has_no_extension(&name);
    let stem = name.clone();
    let added = EXTENSIONS.iter().filter(move |_| bare);
    let mut added: Vec<_> = added.map(|(_, extension)| *extension).collect();
    added.dedup();
    let added = added.into_iter().map(move |extension| cut(&format!("{stem}.{extension}")));
    std::iter::once(name).chain(added)
}

/// Media types and the one extension of each; those of one extension together.
const EXTENSIONS: [(&str, &str); 27] = [
    ("application/epub+zip", "epub"),
    ("application/gzip", "gz"),
    ("application/x-gzip", "gz"),
    ("application/pdf", "pdf"),
    ("application/vnd.debian.binary-package", "deb"),
    ("application/x-7z-compressed", "7z"),
    ("application/x-bzip2", "bz2"),
    ("application/x-iso9660-image", "iso"),
    ("application/x-rpm", "rpm"),
    ("application/x-tar", "tar"),
    ("application/x-xz", "xz"),
    ("application/zip", "zip"),
    ("application/x-zip-compressed", "zip"),
    ("application/zstd", "zst"),
    ("audio/flac", "flac"),
    ("audio/mpeg", "mp3"),
    ("audio/ogg", "ogg"),
    ("audio/wav", "wav"),
    ("image/gif", "gif"),
    ("image/jpeg", "jpg"),
    ("image/png", "png"),
    ("image/webp", "webp"),
    ("video/mp4", "mp4"),
    ("video/quicktime", "mov"),
    ("video/webm", "webm"),
    ("video/x-matroska", "mkv"),
    ("video/mp2t", "ts"),
];

fn extension_of(content_type: &str) -> Option<&'static str> {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let found = EXTENSIONS.iter().find(|(of, _)| essence.eq_ignore_ascii_case(of));
    found.map(|(_, extension)| *extension)
}

/// A dot within is enough: `release-1.2` may be meant so.
fn has_no_extension(name: &str) -> bool {
    !name.trim_start_matches('.').contains('.')
}

fn given_name(content_disposition: Option<&str>, url_path: &str) -> SafeName {
    let given = content_disposition.and_then(disposition_name).map(Ok).or_else(|| {
        let component = url_path.rsplit('/').find(|component| !component.is_empty())?;
        Some(String::from_utf8(percent_decode(component)))
    });
    match given {
        Some(Ok(given)) => {
            let name = make_safe(&given);
            let changed = name != given;
            SafeName { name, changed }
        }
        // Not every file system takes any bytes: what is no UTF-8 becomes U+FFFD.
        Some(Err(invalid)) => {
            let name = make_safe(&String::from_utf8_lossy(invalid.as_bytes()));
            SafeName { name, changed: true }
        }
        None => SafeName { name: FALLBACK.to_owned(), changed: false },
    }
}

/// Text with its control and bidirectional-formatting characters written as
/// `\u{..}`, so that it can neither steer a terminal nor reorder a line.
#[must_use]
pub fn escape_for_terminal(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// A server's text within a sentence: escaped, and cut after 80 characters.
#[must_use]
pub fn brief(text: &str) -> String {
    at_most(text, 80)
}

/// Text escaped, and cut after `longest` characters.
#[must_use]
pub fn at_most(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((stop, _)) => format!("{}…", escape_for_terminal(&text[..stop])),
        None => escape_for_terminal(text),
    }
}

/// Controls (C0, DEL, C1), separators of lines, and bidirectional formatting.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn make_safe(given: &str) -> String {
    let component = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let cleaned: String = component.chars().filter(|&character| !is_unsafe(character)).collect();
    // Windows drops trailing dots and spaces, so two names would be one there.
    let mut name = cleaned.trim_start().trim_end_matches(is_dot_or_space).to_owned();
    if name.is_empty() {
        return FALLBACK.to_owned();
    }
    if name.starts_with(['.', '-']) || is_reserved_on_windows(&name) {
        name.insert(0, '_');
    }
    if is_ours(&name) {
        name.push('_');
    }
    if name.len() > LONGEST_NAME_BYTES {
        name = cut(&name);
        if is_ours(&name) {
            name.pop();
            name.push('_');
        }
        // What made it another name than a device's may be cut off.
        if is_reserved_on_windows(&name) {
            name.insert(0, '_');
        }
    }
    name
}

fn is_dot_or_space(character: char) -> bool {
    character == '.' || character.is_whitespace()
}

/// The suffixes of the engine's own files.
fn is_ours(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".part") || name.ends_with(".haul")
}

/// Device names, which Windows finds in every directory under any extension.
fn is_reserved_on_windows(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    match stem.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" => true,
        stem => {
            let port = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
            port.is_some_and(|port| {
                matches!(port, "¹" | "²" | "³")
                    || (port.len() == 1 && port.bytes().all(|byte| byte.is_ascii_digit()))
            })
        }
    }
}

/// Shortens the stem, at a character's boundary, and keeps the extension.
fn cut(name: &str) -> String {
    let dot = name.rfind('.').filter(|&dot| dot > 0 && name.len() - dot <= LONGEST_EXTENSION_BYTES);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let mut end = LONGEST_NAME_BYTES - extension.len();
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{extension}", stem[..end].trim_end_matches(is_dot_or_space))
}

/// The file name in a `Content-Disposition` (RFC 6266 section 4.3). A part that
/// cannot be read is passed over, as browsers do.
fn disposition_name(value: &str) -> Option<String> {
    let mut plain = None;
    let mut extended = None;
    for (name, value) in parameters(value) {
        match name.to_ascii_lowercase().as_str() {
            "filename" if plain.is_none() => plain = Some(value),
            "filename*" if extended.is_none() => extended = extended_value(&value),
            _ => {}
        }
    }
    let named = |name: &String| !name.is_empty();
    extended.filter(named).or(plain.filter(named))
}

/// The `name=value` parts between semicolons, quoted strings resolved (RFC
/// 9110 sections 5.6.4 and 5.6.6).
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let stop = rest.find([';', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(stop);
        let Some(after) = after.strip_prefix('=') else {
            rest = after.strip_prefix(';').unwrap_or_default();
            continue;
        };
        let after = after.trim_start();
        let value;
        (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => quoted_string(quoted),
            None => {
                let stop = after.find(';').unwrap_or(after.len());
                (after[..stop].trim_end().to_owned(), &after[stop..])
            }
        };
        found.push((name.trim().to_owned(), value));
        rest = rest.find(';').map_or("", |semicolon| &rest[semicolon + 1..]);
    }
    found
}

/// The text up to the closing quote, unescaped, and what follows the quote.
fn quoted_string(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &text[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

/// `charset'language'percent-encoded` (RFC 8187 section 3.2.1), in UTF-8 or
/// ISO-8859-1; `None` when it is neither or not valid in it.
fn extended_value(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, encoded) = rest.split_once('\'')?;
    let bytes = percent_decode(encoded);
    if charset.eq_ignore_ascii_case("utf-8") {
        String::from_utf8(bytes).ok()
    } else if charset.eq_ignore_ascii_case("iso-8859-1") {
        Some(bytes.into_iter().map(char::from).collect())
    } else {
        None
    }
}

/// Replaces each `%XX`; any other percent sign stays as it is.
pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
#[path = "name_tests.rs"]
mod tests;
