//! Quotes lines of a list in errors, without their secrets and shortened.

use haul_engine::redact_url;

use crate::render::escape;

/// How much of a line is quoted, in characters.
const SHOWN: usize = 120;

/// Replaces a text that may be a secret.
const HIDDEN: &str = "…";

/// Quotes a line of URLs.
pub(super) fn line(text: &str) -> String {
    if text.starts_with('{') {
        return json(text);
    }
    if super::is_indented(text) {
        return key(text);
    }
    let fields: Vec<String> = text.split('\t').map(redacted).collect();
    short(&escape(&fields.join("\t")))
}

/// Quotes the name of an option, without its value.
pub(super) fn key(text: &str) -> String {
    let name = text.trim().split(['=', ':', ' ', '\t']).next().unwrap_or_default();
    short(&escape(name))
}

/// Quotes a line of JSON: keys and punctuation as they are, URLs redacted, and all else hidden.
pub(super) fn json(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line;
    while let Some(open) = rest.find('"') {
        let (before, quoted) = rest.split_at(open);
        shown += &punctuation(before);
        let (text, after) = string(&quoted[1..]);
        let is_key = after.trim_start().starts_with(':');
        let text = match text {
            _ if is_key => text.to_owned(),
            text if text.contains("://") => redacted(text),
            _ => HIDDEN.to_owned(),
        };
        shown += &format!("\"{text}\"");
        rest = after;
    }
    // Whatever follows an unpaired quote was treated as a text above.
    short(&escape(&(shown + &punctuation(rest))))
}

/// The punctuation between the texts of a JSON line.
fn punctuation(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if "{}[]:, ".contains(c) {
            shown.push(c);
        } else if !shown.ends_with(HIDDEN) {
            shown += HIDDEN;
        }
    }
    shown
}

/// The contents of a JSON string as written, and what follows it.
fn string(text: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return (&text[..at], &text[at + 1..]),
            _ => escaped = byte == b'\\' && !escaped,
        }
    }
    (text, "")
}

fn redacted(text: &str) -> String {
    if text.contains("://") {
        return redact_url(text);
    }
    let shown = redact_url(&format!("https://{text}"));
    shown.strip_prefix("https://").unwrap_or(&shown).to_owned()
}

fn short(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN - 1).chain(['…']).collect()
}
