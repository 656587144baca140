//! The lines of a list of digests, in the forms in which people publish them.
//!
//! | form | written by |
//! |---|---|
//! | `HEX  NAME`, `HEX *NAME`, `\HEX  NAME` with escapes | sha256sum and its kin |
//! | `ALGO (NAME) = HEX`, `ALGO(NAME)= HEX` | BSD, OpenSSL, `sha256sum --tag`, cksum |
//! | `NAME: HEX`, in groups and on several lines; `NAME: ALGO = HEX` | `gpg --print-md` |
//! | `NAME HEX`, `NAME: HEX`, `"NAME": "HEX"` | hand and scripts |
//! | `ALGO HEX PATH`, or these three below each other | PowerShell's Get-FileHash |
//! | `ALGO hash of NAME:` above `HEX` | certutil |
//! | `HEX`, `ALGO:HEX`, `ALGO: HEX` | a file beside another one |
//!
//! Other lines, such as comments and signatures, are passed over, and a faulty line
//! changes no other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use haul_engine::{Checksum, DigestAlgorithm};

/// One digest of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The file that it belongs to, if that is stated: a name or a path, of any system.
    pub(super) name: Option<String>,
    pub(super) checksum: Checksum,
}

impl Entry {
    /// How many components at the end of its path are those at the end of `path`.
    pub(super) fn fit(&self, path: &[String]) -> usize {
        let Some(name) = self.name.as_deref() else { return 0 };
        let common = |parts: Vec<&str>| {
            let pairs = parts.iter().rev().zip(path.iter().rev());
            pairs.take_while(|(ours, theirs)| !ours.is_empty() && ours == theirs).count()
        };
        // On some systems a backslash is part of a name.
        let (unix, windows) = (name.split('/').collect(), name.split(['/', '\\']).collect());
        common(unix).max(common(windows))
    }
}

/// What the lines so far have left open.
#[derive(Default)]
struct Open {
    /// The file and the algorithm of the digest on the line after certutil's heading.
    headed: Option<(Option<String>, Option<DigestAlgorithm>)>,
    /// `Algorithm` and `Hash` of Get-FileHash, one per line.
    algorithm: Option<DigestAlgorithm>,
    hash: Option<Checksum>,
}

/// The entries of a list that was read from `place`.
pub(super) fn parse(text: &str, place: &str) -> Vec<Entry> {
    // If there are only 64 digits, the list's name tells whether they are BLAKE3.
    let name = place.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let blake3 = name.starts_with("b3") || name.contains("blake3") || name.ends_with(".b3");
    let usual = blake3.then_some(DigestAlgorithm::Blake3);
    let (mut entries, mut open) = (Vec::new(), Open::default());
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match lines.last_mut().filter(|last| continues(last, line)) {
            Some(last) => *last += line,
            // In a clear-signed text, a line with a dash is preceded by a dash and a blank.
            None => lines.push(line.strip_prefix("- ").unwrap_or(line).to_owned()),
        }
    }
    for line in &lines {
        entries.extend(open.take(line, usual));
        // A hash on its own waits for the path that may be on the next line.
        if open.hash.is_none() {
            entries.extend(entry(line, usual));
        }
    }
    entries.extend(open.end());
    entries
}

/// Whether a line continues the groups of the digest that `before` began.
fn continues(before: &str, line: &str) -> bool {
    const MOST_DIGITS: usize = 128;
    let Some((_, value)) = before.split_once(':') else { return false };
    let value = without_algorithm(value.trim()).0;
    let digits = hex(value).zip(hex(line));
    line.starts_with([' ', '\t'])
        && value.contains(' ')
        && digits.is_some_and(|(one, two)| one.len() + two.len() <= MOST_DIGITS)
}

impl Open {
    /// The entry that a line completes together with those before it.
    fn take(&mut self, line: &str, usual: Option<DigestAlgorithm>) -> Option<Entry> {
        if let Some((name, algorithm)) = self.headed.take()
            && let Some(checksum) = hex(line).and_then(|hex| checksum(&hex, algorithm.or(usual)))
            && name.is_some()
        {
            return Some(Entry { name, checksum });
        }
        if let Some((algorithm, name)) =
            line.trim_end().trim_end_matches(':').split_once(" hash of ")
        {
            let name = name.strip_prefix("file ").unwrap_or(name).trim();
            self.headed = Some((Some(name.to_owned()), algorithm_of(algorithm)));
            return None;
        }
        let parts = line.split_once(':').map(|(key, value)| (key.trim(), value.trim()));
        let name = match parts {
            Some(("Algorithm", value)) => {
                self.algorithm = algorithm_of(value);
                None
            }
            Some(("Hash", value)) => {
                self.hash = checksum(value, self.algorithm.take());
                return None;
            }
            Some(("Path", value)) => Some(value.to_owned()),
            _ => None,
        };
        self.hash.take().map(|checksum| Entry { name, checksum })
    }

    /// The entry for a hash that no path followed.
    fn end(self) -> Option<Entry> {
        self.hash.map(|checksum| Entry { name: None, checksum })
    }
}

/// The entry on a line by itself. `usual` is the algorithm that need not be named.
fn entry(line: &str, usual: Option<DigestAlgorithm>) -> Option<Entry> {
    if let Some(entry) = tagged(line) {
        return Some(entry);
    }
    let (escaped, line) = match line.strip_prefix('\\') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let line = line.trim();
    let (first, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let (prefixed, algorithm) = without_algorithm(first);
    if let Some(checksum) = checksum(bare(prefixed), algorithm.or(usual)) {
        // One of the two characters between digest and name was removed above.
        let name = rest.strip_prefix([' ', '*']).unwrap_or(rest);
        let name = if escaped { unescaped(name) } else { bare(name.trim_start()).to_owned() };
        return Some(Entry { name: Some(name).filter(|name| !name.is_empty()), checksum });
    }
    // The format of Get-FileHash.
    let (second, path) = rest.trim_start().split_once([' ', '\t']).unwrap_or((rest.trim(), ""));
    if let (Some(algorithm), path) = (algorithm_of(first), path.trim())
        && let Some(checksum) = checksum(second, Some(algorithm))
        && !path.is_empty()
    {
        return Some(Entry { name: Some(path.to_owned()), checksum });
    }
    name_first(line, usual)
}

/// `ALGO (NAME) = HEX`, where cksum sometimes has Base64.
fn tagged(line: &str) -> Option<Entry> {
    let (algorithm, rest) = line.split_once('(')?;
    let (name, digits) = rest.rsplit_once(')')?;
    let algorithm = algorithm_of(algorithm)?;
    let digits = digits.trim_start().strip_prefix('=')?.trim();
    let decoded = || Checksum::new(algorithm, STANDARD.decode(digits).ok()?).ok();
    let checksum = checksum(digits, Some(algorithm)).or_else(decoded)?;
    Some(Entry { name: Some(name.to_owned()), checksum })
}

/// `NAME HEX`, `NAME: HEX` and the like; the digest may be in groups after a colon.
fn name_first(line: &str, usual: Option<DigestAlgorithm>) -> Option<Entry> {
    let line = line.trim_matches(['|', ',']).trim();
    let grouped = line.split_once(':').and_then(|(name, value)| {
        let (digits, algorithm) = without_algorithm(value.trim());
        Some((name, checksum(&hex(digits)?, algorithm.or(algorithm_of(name)).or(usual))?))
    });
    let (name, checksum) = match grouped {
        Some(found) => found,
        None => {
            let (name, digits) = line.rsplit_once([' ', '\t', '='])?;
            let name = name.trim_end().trim_end_matches([':', '=']);
            (name, checksum(bare(digits), algorithm_of(name).or(usual))?)
        }
    };
    let name = bare(name);
    let named = !name.is_empty() && algorithm_of(name).is_none();
    Some(Entry { name: named.then(|| name.to_owned()), checksum })
}

/// A digest in one word. The number of bare digits determines their algorithm.
fn checksum(digits: &str, algorithm: Option<DigestAlgorithm>) -> Option<Checksum> {
    let bare: Checksum = digits.parse().ok().filter(|_| !digits.contains('='))?;
    match algorithm {
        Some(algorithm) => Checksum::new(algorithm, bare.digest().to_vec()).ok(),
        None => Some(bare),
    }
}

/// The digits of a text that consists only of groups of them.
fn hex(text: &str) -> Option<String> {
    let digits: String = text.split_whitespace().collect();
    let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then_some(digits)
}

/// Splits off an algorithm and the sign after it: `sha256:HEX`, `SHA256 = HEX`.
fn without_algorithm(text: &str) -> (&str, Option<DigestAlgorithm>) {
    let parts = text.split_once([':', '=']);
    match parts.and_then(|(name, rest)| Some((algorithm_of(name)?, rest))) {
        Some((algorithm, rest)) => (rest.trim_start(), Some(algorithm)),
        None => (text, None),
    }
}

/// The algorithm of a name such as `SHA-256`, `sha256` or OpenSSL's `SHA2-256`.
fn algorithm_of(name: &str) -> Option<DigestAlgorithm> {
    let name = name.trim().to_ascii_lowercase().replace(['-', '_', ' '], "");
    Some(match name.as_str() {
        "blake3" | "b3" => DigestAlgorithm::Blake3,
        "sha256" | "sha2256" => DigestAlgorithm::Sha256,
        "sha512" | "sha2512" => DigestAlgorithm::Sha512,
        "sha1" => DigestAlgorithm::Sha1,
        "md5" => DigestAlgorithm::Md5,
        _ => return None,
    })
}

/// Removes what surrounds a text in JSON, Markdown and tables.
fn bare(text: &str) -> &str {
    text.trim().trim_matches(['"', '\'', '`', ',', '|', ';']).trim()
}

/// Undoes `\\`, `\n` and `\r`, as GNU writes them.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries of a list, as `NAME ALGO=HEX`, or `- ALGO=HEX` without a name.
    fn read(text: &str, place: &str) -> Vec<String> {
        let shown = |entry: Entry| {
            format!("{} {}", entry.name.unwrap_or_else(|| "-".to_owned()), entry.checksum)
        };
        parse(text, place).into_iter().map(shown).collect()
    }

    #[test]
    fn every_form_of_one_line_is_read() {
        let (md5, sha1) = ("1a".repeat(16), "2b".repeat(20));
        let (sha256, sha512) = ("3c".repeat(32), "4d".repeat(64));
        let upper = sha256.to_uppercase();
        for (line, wanted) in [
            (format!("{sha256}  a b.iso"), format!("a b.iso sha256={sha256}")),
            (format!("{upper} *./a.iso"), format!("./a.iso sha256={sha256}")),
            (format!("{sha1}\ta.iso"), format!("a.iso sha1={sha1}")),
            (format!("\\{sha256}  a\\nb\\\\c"), format!("a\nb\\c sha256={sha256}")),
            (format!("  {sha256}  "), format!("- sha256={sha256}")),
            (format!("sha256:{sha256}"), format!("- sha256={sha256}")),
            (format!("sha-512:{sha512}  a"), format!("a sha512={sha512}")),
            (format!("SHA256 (a (1).iso) = {sha256}"), format!("a (1).iso sha256={sha256}")),
            (format!("SHA2-512(a.iso)= {sha512}"), format!("a.iso sha512={sha512}")),
            (format!("BLAKE3 (a) = {sha256}"), format!("a blake3={sha256}")),
            (format!("MD5(a)={md5}"), format!("a md5={md5}")),
            (format!("a.iso {sha256}"), format!("a.iso sha256={sha256}")),
            (format!("a b.iso: {upper}"), format!("a b.iso sha256={sha256}")),
            (format!("a.iso = {md5}"), format!("a.iso md5={md5}")),
            (format!("a.iso={md5}"), format!("a.iso md5={md5}")),
            (format!("\"a.iso\": \"{sha256}\","), format!("a.iso sha256={sha256}")),
            (format!("| a.iso | `{sha256}` |"), format!("a.iso sha256={sha256}")),
            (format!("SHA256: {sha256}"), format!("- sha256={sha256}")),
            (format!("MD5 = {md5}"), format!("- md5={md5}")),
            (format!("a: SHA1 = {}", spaced(&sha1, 4)), format!("a sha1={sha1}")),
            (format!("SHA1  {sha1}   C:\\x y\\a"), format!("C:\\x y\\a sha1={sha1}")),
        ] {
            assert_eq!(read(&line, "x"), [wanted], "{line}");
        }
        for line in ["", "# comment", "iQEzBAEB", "Hash: SHA256", "a.iso: 12 34", "a: b: c", "--"] {
            assert_eq!(read(line, "x"), [""; 0], "{line}");
        }
        assert_eq!(
            read(&format!("{sha256}  x"), "http://h/B3SUMS"),
            [format!("x blake3={sha256}")]
        );
    }

    fn spaced(digits: &str, group: usize) -> String {
        let groups = digits.as_bytes().chunks(group).map(String::from_utf8_lossy);
        groups.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn forms_of_several_lines_are_read_and_end_in_time() {
        let (sha256, sha512) = ("3c".repeat(32), "4d".repeat(64));
        let (first, last) = sha512.split_at(64);
        let gpg = format!("a.iso: {}\n       {}\n", spaced(first, 8), spaced(last, 8));
        assert_eq!(read(&gpg, "x"), [format!("a.iso sha512={sha512}")]);
        let cut = format!("a.iso: {}\nb.iso: {}\n{sha256}  c\n", spaced(first, 8), spaced(last, 8));
        let halves = [first, last].map(ToOwned::to_owned);
        assert_eq!(
            read(&cut, "x"),
            [
                format!("a.iso sha256={}", halves[0]),
                format!("b.iso sha256={}", halves[1]),
                format!("c sha256={sha256}")
            ]
        );
        let certutil =
            format!("SHA256 hash of file a.iso:\n{}\nCertUtil: done\n", spaced(&sha256, 2));
        assert_eq!(read(&certutil, "x"), [format!("a.iso sha256={sha256}")]);
        let list =
            format!("\nAlgorithm : SHA256\nHash      : {sha256}\nPath      : C:\\out\\a.iso\n");
        assert_eq!(read(&list, "x"), [format!("C:\\out\\a.iso sha256={sha256}")]);
    }

    #[test]
    fn a_base64_digest_is_read_where_its_algorithm_is_told() {
        let entries = parse("SHA256 (a) = PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw=", "x");
        assert_eq!(entries[0].checksum.to_string(), format!("sha256={}", "3c".repeat(32)));
    }
}
