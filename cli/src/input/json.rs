//! One download as a JSON object with `id`, `url` or `urls`, `out`, `dir`, `size`, `digest` and
//! `headers`.

use serde_json::{Map, Value};

use super::{Item, Reason, inner_path, options, quote, reason, url};
use crate::render::escape;

const GRAMMAR: &str = "an object has `url` or `urls`, and may have `id`, `out`, `dir`, `size` \
                       (bytes), `digest` (ALGO=HEX) and `headers` (an object)";

/// The item that a line describes.
pub(super) fn item(line: &str) -> Result<Item, Reason> {
    // The parser's messages name places and tokens, but never the contents of a string.
    let object: Map<String, Value> = serde_json::from_str(line).map_err(|error| {
        reason(
            format!("`{}` is not a JSON object: column {}", quote::json(line), error.column()),
            GRAMMAR,
        )
    })?;
    let mut item = Item::default();
    for (key, value) in object {
        match (key.as_str(), value) {
            (_, Value::Null) => {}
            ("id", Value::String(text)) => item.id = Some(plain("id", text)?),
            ("id", Value::Number(number)) => item.id = Some(number.to_string()),
            ("url", Value::String(text)) => item.urls.insert(0, url(&text)?),
            ("urls", Value::Array(texts)) => {
                for text in texts {
                    let Value::String(text) = text else {
                        return Err(wrong("urls", "an array of URLs"));
                    };
                    item.urls.push(url(&text)?);
                }
            }
            ("out", Value::String(text)) => item.out = Some(inner_path("out", &text)?),
            ("dir", Value::String(text)) => item.dir = Some(inner_path("dir", &text)?),
            ("size", value) => match value.as_u64() {
                Some(bytes) => item.size_bytes = Some(bytes),
                None => return Err(wrong("size", "a whole number of bytes")),
            },
            ("digest" | "checksum", Value::String(text)) => {
                item.checksum = Some(options::checksum(&text)?);
            }
            ("headers", Value::Object(headers)) => {
                for (name, value) in headers {
                    let Value::String(value) = value else {
                        return Err(wrong("headers", "an object of strings"));
                    };
                    item.headers.push(options::header(&format!("{name}: {value}"))?);
                }
            }
            ("id", _) => return Err(wrong("id", "a string or a number")),
            ("url", _) => return Err(wrong("url", "a string")),
            ("urls", _) => return Err(wrong("urls", "an array of URLs")),
            ("out" | "dir" | "digest" | "checksum", _) => return Err(wrong(&key, "a string")),
            ("headers", _) => return Err(wrong("headers", "an object of strings")),
            _ => item.ignored.push(key),
        }
    }
    if item.urls.is_empty() {
        return Err(reason(format!("`{}` has no `url`", quote::json(line)), GRAMMAR));
    }
    Ok(item)
}

fn plain(key: &str, text: String) -> Result<String, Reason> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(wrong(key, "a string without control characters"));
    }
    Ok(text)
}

fn wrong(key: &str, wanted: &str) -> Reason {
    reason(format!("`{}` is not {wanted}", escape(key)), GRAMMAR)
}
