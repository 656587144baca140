//! The file name in a `Content-Disposition` field (RFC 6266), as browsers read it.
//!
//! Servers write names in every way that was ever a standard, and in some that
//! never were: RFC 8187 with any charset, continuations of RFC 2231, encoded words
//! of RFC 2047, percent-encoding, and raw bytes, which have become text before
//! they get here. A part that cannot be read is skipped. The name is not safe yet.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::charset::{self, percent_decode};

/// Further continuations are not read.
const MAX_CONTINUATIONS: usize = 64;

/// The file name in a field's value, if there is one: `filename*` takes
/// precedence over `filename`, and that over continuations.
pub(super) fn file_name(value: &str) -> Option<String> {
    let (mut plain, mut extended) = (None, None);
    let mut pieces = Vec::new();
    for (name, value) in parameters(value) {
        match name.to_ascii_lowercase().as_str() {
            "filename" if plain.is_none() => plain = Some(plain_value(&value)),
            "filename*" if extended.is_none() => extended = extended_value(&value),
            name => pieces.extend(name.strip_prefix("filename*").and_then(|number| {
                let encoded = number.ends_with('*');
                Some((number.trim_end_matches('*').parse().ok()?, encoded, value))
            })),
        }
    }
    let named = |name: &String| !name.trim().is_empty();
    let found = extended.filter(named).or(plain.filter(named));
    found.or_else(|| continued(pieces)).filter(named)
}

/// The `name=value` parts between semicolons, quoted strings resolved (RFC 9110 sections 5.6.4 and
/// 5.6.6). If several words precede a `=`, the last is the name: some servers leave out the
/// semicolon after the type, or write a comma there.
fn parameters(text: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let stop = rest.find([';', '=']).unwrap_or(rest.len());
        let (words, after) = rest.split_at(stop);
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
                (unquoted(after[..stop].trim_end()).to_owned(), &after[stop..])
            }
        };
        let separators = |c: char| c == ',' || c.is_whitespace();
        found.push((words.split(separators).rfind(|it| !it.is_empty()).unwrap_or(""), value));
        // Skip to the next parameter, whose semicolon may be missing.
        rest = rest.trim_start();
        rest = rest.strip_prefix(';').unwrap_or(rest);
    }
    found
}

/// HTTP gives single quotes no meaning, but nobody wants them in the name.
fn unquoted(token: &str) -> &str {
    let inner = token.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    inner.filter(|inner| !inner.contains('\'')).unwrap_or(token)
}

/// The text up to the closing quote, unescaped, and what follows the quote.
///
/// A backslash escapes only a quote and itself: before anything else it belongs
/// to a Windows path. A quote is part of the text if the text after it cannot
/// begin another parameter.
fn quoted_string(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' if closes(&text[index + 1..]) => return (value, &text[index + 1..]),
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            _ => value.push(character),
        }
    }
    (value, "")
}

/// Whether what follows a quote is the end, or another parameter.
fn closes(after: &str) -> bool {
    let after = after.trim_start();
    let name = after.split('=').next().unwrap_or_default().trim_end();
    let is_name =
        |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"*-_".contains(&b));
    after.is_empty()
        || after.starts_with([';', ','])
        || (name.len() < after.len() && !name.is_empty() && is_name(name))
        // Without another quote none could close it better.
        || !after.contains('"')
}

/// `filename`: encoded words, else percent-encoded UTF-8, else as it is.
fn plain_value(value: &str) -> String {
    if let Some(decoded) = encoded_words(value) {
        return decoded;
    }
    match String::from_utf8(percent_decode(value)) {
        Ok(decoded) if value.is_ascii() => decoded,
        _ => value.to_owned(),
    }
}

/// `charset'language'percent-encoded` (RFC 8187 section 3.2.1). The language, and
/// UTF-8 as the charset, may be missing.
fn extended_value(value: &str) -> Option<String> {
    let Some((charset, rest)) = value.split_once('\'').filter(|(it, _)| charset::is_known(it))
    else {
        let rest = value.strip_prefix("''").unwrap_or(value);
        return String::from_utf8(percent_decode(rest)).ok();
    };
    let encoded = rest.split_once('\'').map_or(rest, |(_language, encoded)| encoded);
    charset::in_charset(charset, &percent_decode(encoded))
}

/// The pieces of `filename*0`, `filename*1*` and so on, joined (RFC 2231 section 3).
fn continued(mut pieces: Vec<(usize, bool, String)>) -> Option<String> {
    pieces.sort_by_key(|(number, ..)| *number);
    let mut charset = "utf-8".to_owned();
    let mut bytes = Vec::new();
    for (at, (number, encoded, value)) in pieces.into_iter().enumerate() {
        if number != at || at >= MAX_CONTINUATIONS {
            break;
        }
        let mut value = value.as_str();
        if at == 0
            && encoded
            && let Some((label, rest)) = value.split_once('\'')
            && let Some((_language, rest)) = rest.split_once('\'')
        {
            (charset, value) = (label.to_owned(), rest);
        }
        match encoded {
            true => bytes.extend(percent_decode(value)),
            false => bytes.extend(value.as_bytes()),
        }
    }
    let read = charset::in_charset(&charset, &bytes);
    (!bytes.is_empty()).then(|| read.unwrap_or_else(|| charset::text(&bytes)))
}

/// A text with encoded words (RFC 2047) decoded; `None` without one that can be read.
///
/// Blanks between two of them are not part of the text (section 6.2). A character
/// may be split across two words, against the standard: the bytes of neighbours
/// with one charset are decoded together.
fn encoded_words(text: &str) -> Option<String> {
    let mut decoded = String::new();
    let mut open: Option<(&str, Vec<u8>)> = None;
    let mut rest = text;
    let mut found = false;
    while let Some(start) = rest.find("=?") {
        let (before, word) = rest.split_at(start);
        let Some((label, bytes, after)) = encoded_word(&word[2..]) else {
            close(&mut open, &mut decoded)?;
            decoded.push_str(&rest[..start + 2]);
            rest = &word[2..];
            continue;
        };
        found = true;
        if open.is_none() || !before.trim().is_empty() {
            close(&mut open, &mut decoded)?;
            decoded.push_str(before);
        }
        match &mut open {
            Some((of, have)) if of.eq_ignore_ascii_case(label) => have.extend(bytes),
            _ => {
                close(&mut open, &mut decoded)?;
                open = Some((label, bytes));
            }
        }
        rest = after;
    }
    close(&mut open, &mut decoded)?;
    decoded.push_str(rest);
    found.then_some(decoded)
}

/// Ends the encoded words so far; `None` where they are not valid in their charset.
fn close(open: &mut Option<(&str, Vec<u8>)>, decoded: &mut String) -> Option<()> {
    if let Some((label, bytes)) = open.take() {
        decoded.push_str(&charset::in_charset(label, &bytes)?);
    }
    Some(())
}

/// The charset and the bytes of the encoded word that `text` begins with, without
/// its `=?`, and what follows it.
fn encoded_word(text: &str) -> Option<(&str, Vec<u8>, &str)> {
    let (charset, rest) = text.split_once('?')?;
    let (coding, rest) = rest.split_once('?')?;
    let (coded, after) = rest.split_once("?=")?;
    // RFC 2231 section 5 puts a language after the charset.
    let charset = charset.split('*').next().unwrap_or_default();
    if !charset::is_known(charset) {
        return None;
    }
    let bytes = match coding {
        "B" | "b" => base64_lenient(coded)?,
        "Q" | "q" => quoted_printable(coded),
        _ => return None,
    };
    Some((charset, bytes, after))
}

fn base64_lenient(coded: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let coded: String = coded.split_whitespace().collect();
    GeneralPurpose::new(&STANDARD, config).decode(coded).ok()
}

/// `=XX` is a byte and `_` a blank (RFC 2047 section 4.2).
fn quoted_printable(coded: &str) -> Vec<u8> {
    // The same as percent-encoding but for the sign; a percent sign is itself.
    percent_decode(&coded.replace('%', "%25").replace('=', "%").replace('_', " "))
}

#[cfg(test)]
#[path = "disposition_tests.rs"]
mod tests;
