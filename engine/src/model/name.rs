//! File names from servers, made safe, and text from servers, made harmless.

use super::charset::{self, percent_decode};
use super::disposition;

/// A name without room for the suffixes added to it (`.part`, `.haul` and a few
/// bytes more) cannot be opened: file systems allow 255 bytes.
const LONGEST_NAME_BYTES: usize = 255 - 10;

/// A last dot further from the end than this does not begin an extension.
const LONGEST_EXTENSION_BYTES: usize = 32;

const FALLBACK: &str = "download";

/// One path component that can be created in any directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafeName {
    /// Never empty, `.` or `..`; without separators, controls or a leading dot
    /// or hyphen; at most 245 bytes.
    pub name: String,
    /// Whether it differs from what the server gave.
    pub changed: bool,
}

/// The name to store an object under: the one in its `Content-Disposition`, else
/// the last component of the path of a URL, percent-decoded, else `download`.
///
/// Of the URL that was asked for and the one that answered after redirects, the
/// former counts if its name [says what it is](says_what_it_is), or if neither does.
///
/// If the name has no extension, one is added for a media type that has a single
/// one ([`EXTENSIONS`]); not for pages and other text, which are often not what was
/// asked for.
#[must_use]
pub fn file_name(
    content_disposition: Option<&str>,
    content_type: Option<&str>,
    asked_path: &str,
    answered_path: &str,
) -> SafeName {
    let mut safe = match content_disposition.and_then(disposition::file_name) {
        Some(given) => made_safe(&given),
        None => name_of_paths(asked_path, answered_path),
    };
    if has_no_extension(&safe.name)
        && let Some(extension) = content_type.and_then(extension_of)
    {
        safe.name = cut(&format!("{}.{extension}", safe.name));
    }
    safe
}

fn name_of_paths(asked: &str, answered: &str) -> SafeName {
    let telling = |name: &SafeName| says_what_it_is(&name.name);
    let first = last_component(asked);
    if asked == answered || first.as_ref().is_some_and(telling) {
        return first.unwrap_or_else(unnamed);
    }
    let second = last_component(answered);
    match (first, second) {
        (_, Some(second)) if telling(&second) => second,
        (first, second) => first.or(second).unwrap_or_else(unnamed),
    }
}

fn unnamed() -> SafeName {
    SafeName { name: FALLBACK.to_owned(), changed: false }
}

/// The last component of a path; bytes that are not UTF-8 are read as
/// [`charset::text`] reads them, since not every file system takes any bytes.
fn last_component(url_path: &str) -> Option<SafeName> {
    let component = url_path.rsplit('/').find(|component| !component.is_empty())?;
    let bytes = percent_decode(component);
    let safe = made_safe(&charset::text(&bytes));
    Some(SafeName { changed: safe.name.as_bytes() != bytes, ..safe })
}

fn made_safe(given: &str) -> SafeName {
    let name = make_safe(given);
    SafeName { changed: name != given, name }
}

/// Extensions of programs on servers: they send something else.
const SCRIPTS: [&str; 14] = [
    "action", "ashx", "asp", "aspx", "cfm", "cgi", "do", "fcgi", "jsp", "jspx", "php", "php5",
    "phtml", "pl",
];

/// Whether a name has a file extension. `release-1.2` has none: only digits follow
/// its last dot.
fn says_what_it_is(name: &str) -> bool {
    let Some((_, extension)) = name.rsplit_once('.') else { return false };
    extension.len() <= 10
        && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && extension.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !SCRIPTS.contains(&extension.to_ascii_lowercase().as_str())
}

/// A relative path from a document, each component made safe as a name is.
/// `None` for one that leads out of its directory or names no file, and for
/// characters that no document has reason to use: backslashes and controls.
pub(crate) fn safe_path(given: &str) -> Option<SafeName> {
    if given.starts_with('/')
        || given.ends_with('/')
        || given.contains('\\')
        || given.chars().any(char::is_control)
    {
        return None;
    }
    let components = given.split('/').filter(|component| !matches!(*component, "" | "."));
    let safe = components.map(|component| (component != "..").then(|| make_safe(component)));
    let name = safe.collect::<Option<Vec<_>>>()?.join("/");
    (!name.is_empty()).then(|| SafeName { changed: name != given, name })
}

/// The name that [`file_name`] gives to an object of this URL, unless its response says more.
pub(crate) fn plain_name(url_path: &str) -> String {
    name_of_paths(url_path, "").name
}

/// The names that [`file_name`] may give to an object of this URL, whatever its type,
/// the one without an added extension first.
pub fn possible_names(url_path: &str) -> impl Iterator<Item = String> {
    let name = plain_name(url_path);
    let bare = has_no_extension(&name);
    let stem = name.clone();
    let added = EXTENSIONS.iter().filter(move |_| bare);
    let mut added: Vec<_> = added.map(|(_, extension)| *extension).collect();
    added.dedup();
    let added = added.into_iter().map(move |extension| cut(&format!("{stem}.{extension}")));
    std::iter::once(name).chain(added)
}

/// Media types and the one extension of each; types with the same extension together.
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

/// Controls (C0, DEL, C1), line separators, bidirectional and deprecated
/// formatting, and byte order and annotation marks.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// See [`crate::safe_file_name`].
pub(crate) fn make_safe(given: &str) -> String {
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
        // The part that made it differ from a device's name may be cut off.
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
    let name = name.as_bytes();
    let end = &name[name.len().saturating_sub(".part".len())..];
    [".part", ".haul", ".hau~"].iter().any(|suffix| end.eq_ignore_ascii_case(suffix.as_bytes()))
}

/// Device names, which Windows finds in every directory under any extension.
pub(crate) fn is_reserved_on_windows(name: &str) -> bool {
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

#[cfg(test)]
#[path = "name_tests.rs"]
mod tests;
