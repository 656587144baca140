//! `--checksum` with a list of digests, such as `SHA256SUMS`: finds the digest of the file.
//! [`entries`] reads the lines.

mod entries;

use std::path::Path;

use haul_engine::Checksum;
use url::Url;

use self::entries::Entry;
use crate::document::Documents;
use crate::exit::Failure;
use crate::render::escape;
use crate::text;

/// A longer list is refused, in bytes.
const MOST_BYTES: usize = 4 << 20;

/// A list that was read.
#[derive(Debug)]
pub(crate) struct Sums {
    shown: String,
    entries: Vec<Entry>,
}

impl Sums {
    /// Reads the list at `place`, a file or a URL.
    ///
    /// # Errors
    /// When it cannot be read, and exit 2 for one without a digest.
    pub(crate) async fn load(place: &str, documents: &Documents<'_>) -> Result<Self, Failure> {
        let (shown, bytes) = documents.read(place, MOST_BYTES).await?;
        let entries = entries::parse(&text::decode(&bytes), place);
        if entries.is_empty() {
            return Err(Failure::usage(format!("--checksum {shown} has no digest in it"))
                .hint("a line is `HEX  NAME`, `NAME: HEX` or `ALGO (NAME) = HEX`"));
        }
        Ok(Self { shown, entries })
    }

    /// The digest of the file that `url` names, or else of `output`.
    ///
    /// # Errors
    /// Exit 2 when neither is in the list.
    pub(crate) fn find(&self, url: &str, output: Option<&Path>) -> Result<&Checksum, Failure> {
        let of_url: Vec<String> = Url::parse(url)
            .ok()
            .and_then(|url| Some(url.path_segments()?.map(percent_decoded).collect()))
            .unwrap_or_default();
        let of_output = output.and_then(Path::file_name).map(|name| name.to_string_lossy());
        let of_output: Vec<String> = of_output.into_iter().map(Into::into).collect();
        for path in [&of_url, &of_output] {
            // If several directories have such a file, the one most like the URL's is taken.
            let fit = |entry: &Entry| (entry.fit(path), entry.checksum.algorithm().digest_bytes());
            let best = self.entries.iter().max_by_key(|entry| fit(entry));
            if let Some(entry) = best.filter(|entry| entry.fit(path) > 0) {
                return Ok(&entry.checksum);
            }
        }
        // Digests without a name, as in a file beside the one they belong to.
        let nameless = self.entries.iter().all(|entry| entry.name.is_none());
        let mut algorithms: Vec<_> =
            self.entries.iter().map(|entry| entry.checksum.algorithm()).collect();
        algorithms.sort_by_key(|algorithm| algorithm.digest_bytes());
        algorithms.dedup();
        if nameless && algorithms.len() == self.entries.len() {
            let strength = |entry: &&Entry| entry.checksum.algorithm().digest_bytes();
            if let Some(strongest) = self.entries.iter().max_by_key(strength) {
                return Ok(&strongest.checksum);
            }
        }
        let names = [of_url.last(), of_output.last()].into_iter().flatten();
        let names: Vec<&String> = names.filter(|name| !name.is_empty()).collect();
        let named: Vec<String> = names.iter().map(|name| format!("`{}`", escape(name))).collect();
        Err(Failure::usage(format!(
            "--checksum {} has no digest of {}",
            self.shown,
            if named.is_empty() { "a file without a name".to_owned() } else { named.join(" or ") }
        ))
        .hint("give the digest itself, ALGO=HEX, or with --output the name that the list has"))
    }
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

    use haul_engine::DigestAlgorithm;

    fn sums(text: &str, place: &str) -> Sums {
        Sums { shown: place.to_owned(), entries: entries::parse(text, place) }
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
        let two = sums(&format!("MD5: {}\nSHA256: {digits}\n", "0".repeat(32)), "x");
        assert_eq!(two.find("http://h/x", None).unwrap().to_string(), format!("sha256={digits}"));
        let two = sums(&format!("{digits}\n{}\n", "0".repeat(64)), "x");
        assert!(two.find("http://h/x", None).is_err(), "which of them?");
        let blake3 = sums(&format!("{digits}  x\n"), "https://h/B3SUMS");
        assert_eq!(blake3.find("http://h/x", None).unwrap().algorithm(), DigestAlgorithm::Blake3);
    }

    #[test]
    fn of_files_of_one_name_the_one_in_the_directory_of_the_url_counts() {
        let (one, two) = ("ab".repeat(32), "cd".repeat(32));
        let sums = sums(&format!("{one}  ./1/a.iso\n{two}  2\\a.iso\n"), "x");
        for (url, digits) in [("http://h/1/a.iso", &one), ("http://h/2/a.iso", &two)] {
            assert_eq!(sums.find(url, None).unwrap().to_string(), format!("sha256={digits}"));
        }
    }
}
