//! The options below a URL, as aria2 writes them.

use haul_engine::Checksum;

use super::{GRAMMAR, Item, Reason, inner_path, quote, reason};
use crate::{hints, request};

/// Adds the option on an indented line to the entry it belongs to. An option without a meaning here
/// is remembered by name.
pub(super) fn add(item: &mut Item, line: &str) -> Result<(), Reason> {
    let line = line.trim();
    let Some((key, value)) = line.split_once('=') else {
        let name = quote::key(line);
        return Err(reason(format!("the option `{name}` has no `=`"), GRAMMAR));
    };
    match key.trim() {
        "out" => item.out = Some(inner_path("out", value)?),
        "dir" => item.dir = Some(inner_path("dir", value)?),
        "checksum" => item.checksum = Some(checksum(value)?),
        "header" => item.headers.push(header(value)?),
        "referer" if value.trim() == request::ITSELF => {
            let itself = item.urls.first().and_then(|url| request::referer_of(url));
            item.headers.extend(itself.map(|url| ("Referer".to_owned(), url)));
        }
        "referer" => item.headers.push(("Referer".to_owned(), sendable("referer", value)?)),
        "user-agent" => {
            item.headers.push(("User-Agent".to_owned(), sendable("user-agent", value)?));
        }
        other => item.ignored.push(other.to_owned()),
    }
    Ok(())
}

/// A digest as `--checksum` or aria2 writes it, or as `ALGO:HEX`.
pub(super) fn checksum(text: &str) -> Result<Checksum, Reason> {
    let text = text.trim().replacen(':', "=", 1);
    text.parse::<Checksum>().map_err(|error| {
        (error.to_string(), hints::of(&error).unwrap_or_else(|| GRAMMAR.to_owned()))
    })
}

/// A header, written as one line.
pub(super) fn header(line: &str) -> Result<(String, String), Reason> {
    request::header("header", line).map_err(told)
}

/// The value of a header whose name is fixed.
pub(super) fn sendable(key: &str, value: &str) -> Result<String, Reason> {
    request::sendable(key, value.trim().to_owned()).map_err(told)
}

fn told(failure: crate::exit::Failure) -> Reason {
    (failure.message, failure.hint.unwrap_or_else(|| GRAMMAR.to_owned()))
}
