//! Decides whether a text is a URL that can be downloaded, and guesses what was meant if it is not.

use std::path::Path;

use haul_engine::redact_url;
use url::Url;

use crate::exit::Failure;
use crate::render::escape;

/// What haul cannot download, by the beginning of the URL, with a hint at what can.
const OTHERS: &[(&str, &str)] = &[
    ("magnet:", "haul does not speak BitTorrent; aria2c and transmission-cli do"),
    ("ftp://", "curl, wget and lftp speak FTP"),
    ("ftps://", "curl and lftp speak FTP over TLS"),
    ("sftp://", "sftp, scp and rsync fetch over SSH"),
    ("scp://", "scp and rsync fetch over SSH"),
    ("ssh://", "scp and rsync fetch over SSH"),
    ("rsync://", "rsync does"),
    ("file:", "it is on this machine: cp copies it"),
    ("s3://", "`aws s3 presign` turns it into an https link that haul can download"),
    ("gs://", "`gcloud storage sign-url` turns it into an https link that haul can download"),
    ("ipfs://", "a gateway offers it under an https link that haul can download"),
    ("blob:", "it exists only inside the browser's page; the network tools show the https link"),
    ("data:", "it contains its bytes itself, so there is nothing to download"),
    ("hf://", "`haul hf://ORG/REPO` downloads it; an http or https link is needed here"),
    ("rtmp://", "ffmpeg and yt-dlp record streams"),
    ("rtsp://", "ffmpeg and yt-dlp record streams"),
    ("ws://", "it is a connection, not a file"),
    ("wss://", "it is a connection, not a file"),
];

const COMMANDS: [&str; 10] =
    ["get", "demo", "play", "page", "bench", "verify", "status", "clean", "completions", "man"];

/// A URL of the command line, and whether blanks or quotes around it, which belong to no URL, were
/// removed.
///
/// # Errors
/// As [`url`], and exit 2 for the name of a local file.
pub(crate) fn typed(text: &str) -> Result<(String, bool), Failure> {
    if text == "-" {
        return Err(Failure::usage("not a URL: `-`")
            .hint("`haul -i -` downloads what standard input lists; -o - writes to stdout"));
    }
    let bare = text.trim_matches(is_around);
    if bare != text && is_http(bare) {
        return Ok((url(bare)?, true));
    }
    if !text.contains("://") && Path::new(text).is_file() {
        let shown = escape(text);
        let failure = Failure::usage(format!("not a URL: `{shown}` is a file here"));
        return Err(match Path::new(text).extension().and_then(|it| it.to_str()) {
            Some("torrent") => failure.hint(OTHERS[0].1),
            Some("meta4" | "metalink") => {
                failure.hint(format!("haul --metalink {shown} downloads what it describes"))
            }
            _ => failure.hint(format!(
                "haul -i {shown} downloads what it lists; haul verify {shown} checks it"
            )),
        });
    }
    Ok((url(text)?, false))
}

/// A URL that can be requested, unchanged.
///
/// # Errors
/// Exit 2 with a hint. The query and the password of the text are not quoted.
pub(crate) fn url(text: &str) -> Result<String, Failure> {
    if text.chars().any(char::is_control) {
        return Err(Failure::usage("a URL has a line break or another control character in it")
            .hint("write it as %0D, %0A or %00 if it belongs there"));
    }
    let lower = text.to_ascii_lowercase();
    let other = OTHERS.iter().find(|(begin, _)| lower.starts_with(begin));
    if let Some((begin, hint)) = other {
        let scheme = begin.split(':').next().unwrap_or_default();
        let shown = if begin.ends_with("//") { redact_url(text) } else { format!("{scheme}:…") };
        return Err(Failure::usage(format!(
            "cannot download `{shown}`: its scheme is neither http nor https"
        ))
        .hint(*hint));
    }
    if !is_http(text) || text.split_once("://").is_some_and(|(_, rest)| is_http(rest)) {
        return Err(no_url(text));
    }
    match Url::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Failure::usage(format!("not a URL: `{}`: {error}", redact_url(text)))
            .hint("write http://HOST/PATH or https://HOST/PATH")),
    }
}

/// The failure for a text that is not an http or https URL.
fn no_url(text: &str) -> Failure {
    let shown = quoted(text);
    let failure = Failure::usage(format!("not a URL: `{shown}`"));
    if text == "help" {
        return failure.hint("haul --help prints the common flags");
    }
    if matches!(text, "auto" | "always" | "never") {
        return failure.hint(format!("--continue takes its value after `=`: --continue={text}"));
    }
    if COMMANDS.contains(&text) {
        return failure.hint(format!("a command comes first: haul {text} [OPTIONS]"));
    }
    if text.ends_with(".torrent") && !text.contains("://") {
        return failure.hint(OTHERS[0].1);
    }
    match meant(text) {
        Some(url) => failure.hint(format!("write {}", redact_url(&url))),
        None if text.contains("://") => Failure::usage(format!(
            "cannot download `{}`: its scheme is neither http nor https",
            redact_url(text)
        )),
        None => failure.hint(format!("http:// or https:// is missing: https://{shown}")),
    }
}

fn quoted(text: &str) -> String {
    if text.contains("://") {
        return redact_url(text);
    }
    // `http:/host` begins with a scheme, which would be taken for the host below.
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    let after = text[end..].trim_start_matches([':', ';', '/', '\\']);
    let slipped = end + after.len() < text.len() && is_slip(&text[..end].to_ascii_lowercase());
    let at = if slipped { text.len() - after.len() } else { 0 };
    let (before, text) = text.split_at(at);
    let shown = redact_url(&format!("https://{text}"));
    let shown = shown.strip_prefix("https://").unwrap_or(&shown);
    let shown = if text.ends_with('/') { shown } else { shown.trim_end_matches('/') };
    format!("{before}{shown}")
}

/// The URL that was probably meant by a text with a typing mistake in its beginning or with
/// something around it.
fn meant(text: &str) -> Option<String> {
    let text = text.trim_matches(is_around);
    if let Some((_, inner)) = text.split_once("://").filter(|(_, inner)| is_http(inner)) {
        return Some(inner.to_owned());
    }
    if let Some(inner) = text.strip_prefix("view-source:").filter(|inner| is_http(inner)) {
        return Some(inner.to_owned());
    }
    let end = text.find(|c: char| !c.is_ascii_alphabetic())?;
    let (scheme, rest) = text.split_at(end);
    let after = rest.trim_start_matches([':', ';', '/', '\\']);
    let separator = &rest[..rest.len() - after.len()];
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        // Pages write links as `//host/path`.
        "" if separator.contains("//") => "https",
        slip if is_slip(slip) && !separator.is_empty() => {
            if slip.ends_with('s') {
                "https"
            } else {
                "http"
            }
        }
        _ => return None,
    };
    let url = format!("{scheme}://{}", after.replace('\\', "/"));
    let named = Url::parse(&url).ok().filter(|url| url.host_str().is_some());
    named.map(|_| url)
}

/// Whether a scheme looks like a mistyped http or https: made of their letters, some repeated or
/// left out.
fn is_slip(scheme: &str) -> bool {
    (3..=7).contains(&scheme.len())
        && scheme.chars().all(|c| "htps".contains(c))
        && scheme.contains('t')
        && scheme.trim_end_matches('s').ends_with(['p', 't'])
}

/// Whether two URLs have the same scheme, host and port, so that a secret for one may be sent to
/// the other.
pub(crate) fn are_of_one_origin(one: &str, other: &str) -> bool {
    let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
    origin(one) == origin(other)
}

fn is_http(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|it| it.eq_ignore_ascii_case("http") || it.eq_ignore_ascii_case("https"))
}

/// Whether a character can surround a URL that was copied out of a text.
fn is_around(c: char) -> bool {
    c.is_whitespace() || "'\"`<>\u{2018}\u{2019}\u{201c}\u{201d}\u{200b}\u{feff}".contains(c)
}
