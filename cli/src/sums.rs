//! Lists of digests, as sha256sum and its kin write them: `SHA256SUMS`.
//!
//! A line is `HEX  NAME` (GNU; `*` before the name of a binary file, `\` before
//! the digest where the name has escapes), or `ALGO (NAME) = HEX` (BSD). Others,
//! such as comments and signatures, are passed over.

use std::path::Path;
use std::str::FromStr;

use haul_engine::{Checksum, DigestAlgorithm, Engine, redact_url};
use url::Url;

use crate::exit::Failure;
use crate::plan::{self, GetPlan};
use crate::render::escape;

/// A longer list is refused, in bytes.
const MOST_BYTES: usize = 4 << 20;

/// A value of `--checksum`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChecksumArg {
    /// The digest itself.
    Digest(Checksum),
    /// A list of them, a file or a URL.
    List(String),
}

impl FromStr for ChecksumArg {
    type Err = haul_engine::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("http://") || lower.starts_with("https://") {
            return Ok(Self::List(text.to_owned()));
        }
        match text.parse() {
            Ok(digest) => Ok(Self::Digest(digest)),
            // What names a digest's algorithm, or looks like one, is meant as one.
            Err(_) if Path::new(text).is_file() => Ok(Self::List(text.to_owned())),
            Err(error) => Err(error),
        }
    }
}

/// A list that was read.
#[derive(Debug)]
pub(crate) struct Sums {
    shown: String,
    entries: Vec<(Option<String>, Checksum)>,
}

impl Sums {
    /// Reads the list at `place`, a file or a URL.
    ///
    /// # Errors
    /// When it cannot be read, and exit 2 for one without a digest.
    pub(crate) async fn load(
        place: &str,
        plan: &GetPlan,
        engine: &Engine,
    ) -> Result<Self, Failure> {
        let (shown, bytes) = if place.contains("://") {
            let url = plan::url(place)?;
            (redact_url(&url), plan.document(engine, &url).bytes(MOST_BYTES).await?)
        } else {
            (escape(place), read(place, MOST_BYTES)?)
        };
        let entries = parse(&String::from_utf8_lossy(&bytes), place);
        if entries.is_empty() {
            return Err(Failure::usage(format!("--checksum {shown} has no digest in it"))
                .hint("a line is `HEX  NAME` or `ALGO (NAME) = HEX`"));
        }
        Ok(Self { shown, entries })
    }

    /// The digest of the file that `url` names, else of `output`.
    ///
    /// # Errors
    /// Exit 2 when neither is in the list.
    pub(crate) fn find(&self, url: &str, output: Option<&Path>) -> Result<&Checksum, Failure> {
        let of_url = Url::parse(url).ok().and_then(|url| {
            let last = url.path_segments()?.next_back()?;
            Some(percent_decoded(last))
        });
        let of_output = output.and_then(Path::file_name).map(|name| name.to_string_lossy());
        let names: Vec<String> = of_url
            .into_iter()
            .chain(of_output.map(std::borrow::Cow::into_owned))
            .filter(|name| !name.is_empty())
            .collect();
        for name in &names {
            let named = |entry: &&(Option<String>, Checksum)| {
                let last = entry.0.as_deref().and_then(|path| path.rsplit('/').next());
                last == Some(name.as_str())
            };
            let strength =
                |(_, checksum): &&(Option<String>, Checksum)| checksum.algorithm().digest_bytes();
            if let Some((_, checksum)) = self.entries.iter().filter(named).max_by_key(strength) {
                return Ok(checksum);
            }
        }
        // A digest alone, as beside the file that it is of.
        if let [(None, checksum)] = &self.entries[..] {
            return Ok(checksum);
        }
        let named: Vec<String> = names.iter().map(|name| format!("`{}`", escape(name))).collect();
        Err(Failure::usage(format!(
            "--checksum {} has no digest of {}",
            self.shown,
            if named.is_empty() { "a file without a name".to_owned() } else { named.join(" or ") }
        ))
        .hint("give the digest itself, ALGO=HEX, or a list that has the file's name"))
    }
}

/// A file of at most so many bytes.
///
/// # Errors
/// Exit 3.
pub(crate) fn read(path: &str, most_bytes: usize) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;

    let shown = escape(path);
    let cannot = |error: std::io::Error| Failure::local(format!("cannot read {shown}: {error}"));
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(most_bytes as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > most_bytes {
        return Err(Failure::local(format!("{shown} is longer than {most_bytes} bytes")));
    }
    Ok(bytes)
}

fn parse(text: &str, place: &str) -> Vec<(Option<String>, Checksum)> {
    // Of 64 digits alone the list's name tells that they are of BLAKE3.
    let name = place.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let blake3 = name.starts_with("b3") || name.contains("blake3") || name.ends_with(".b3");
    text.lines().filter_map(|line| entry(line.trim_end_matches('\r'), blake3)).collect()
}

fn entry(line: &str, blake3: bool) -> Option<(Option<String>, Checksum)> {
    let line = line.trim_start_matches('\u{feff}');
    if let Some((algorithm, rest)) = line.split_once(" (")
        && let Some((name, digits)) = rest.rsplit_once(") = ")
    {
        let checksum = format!("{algorithm}={digits}").parse().ok()?;
        return Some((Some(name.to_owned()), checksum));
    }
    let (escaped, line) = match line.strip_prefix('\\') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (digits, name) = match line.split_once([' ', '\t']) {
        Some((digits, name)) => (digits, Some(name)),
        None => (line, None),
    };
    let mut checksum: Checksum = digits.parse().ok().filter(|_| !digits.contains('='))?;
    if blake3 && checksum.algorithm() == DigestAlgorithm::Sha256 {
        checksum = Checksum::new(DigestAlgorithm::Blake3, checksum.digest().to_vec()).ok()?;
    }
    let name = name.map(|name| {
        let name = name.strip_prefix([' ', '*']).unwrap_or(name);
        if escaped { unescaped(name) } else { name.to_owned() }
    });
    Some((name.filter(|name| !name.is_empty()), checksum))
}

/// `\\`, `\n` and `\r`, as GNU writes them.
fn unescaped(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    plain
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(text: &str, place: &str) -> Sums {
        Sums { shown: place.to_owned(), entries: parse(text, place) }
    }

    #[test]
    fn both_formats_are_read() {
        let (sha256, sha1) = ("ab".repeat(32), "cd".repeat(20));
        let text = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# comment\n{sha256}  a.iso\n\
             {sha1} *dir/b c.iso\r\nSHA512 (d (1).iso) = {}\n\\{sha256}  e\\\\f\nMD5 (a.iso) = {}\n",
            "ef".repeat(64),
            "00".repeat(16)
        );
        let sums = sums(&text, "SHA256SUMS");
        let of = |url: &str| sums.find(url, None).map(ToString::to_string);
        assert_eq!(of("http://h/x/a.iso?q").unwrap(), format!("sha256={sha256}"));
        assert_eq!(of("http://h/b%20c.iso").unwrap(), format!("sha1={sha1}"));
        assert!(of("http://h/d%20(1).iso").unwrap().starts_with("sha512="));
        assert_eq!(of("http://h/e%5Cf").unwrap(), format!("sha256={sha256}"));
        let failure = of("http://h/g.iso").unwrap_err();
        assert_eq!(failure.exit, 2);
        assert!(failure.message.contains("SHA256SUMS has no digest of `g.iso`"));
        assert!(sums.find("http://h/get?id=7", Some(Path::new("down/a.iso"))).is_ok());
    }

    #[test]
    fn a_digest_alone_is_of_whatever_is_downloaded() {
        let digits = "ab".repeat(32);
        let one = sums(&format!("{digits}\n"), "a.sha256");
        assert_eq!(one.find("http://h/x", None).unwrap().to_string(), format!("sha256={digits}"));
        let named = sums(&format!("{digits}  other\n"), "a.sha256");
        assert!(named.find("http://h/x", None).is_err());
        let blake3 = sums(&format!("{digits}  x\n"), "https://h/B3SUMS");
        assert_eq!(blake3.find("http://h/x", None).unwrap().algorithm(), DigestAlgorithm::Blake3);
    }

    #[test]
    fn a_digest_is_not_taken_for_a_list() {
        let digits = "ab".repeat(32);
        let parsed = |text: &str| text.parse::<ChecksumArg>();
        assert!(matches!(parsed(&digits), Ok(ChecksumArg::Digest(_))));
        assert!(matches!(parsed("https://h/SHA256SUMS"), Ok(ChecksumArg::List(_))));
        assert!(parsed("no-such-file").unwrap_err().to_string().contains("no-such-file"));
    }
}
