//! What the hub's API says of a repository, as values.

use glob::{MatchOptions, Pattern};
use haul_engine::{Checksum, DigestAlgorithm};
use serde::Deserialize;

use super::place::{Place, is_ordinary};
use crate::input;
use crate::render::escape;

/// The commit that a revision stands for.
#[derive(Debug, Deserialize)]
struct Revision {
    sha: String,
}

/// A file or a directory, as a page of the tree has it.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

/// A file that the repository itself has only a pointer to.
#[derive(Debug, Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Its path in the repository: ordinary components, with `/` between them.
    pub(super) path: String,
    pub(super) size_bytes: u64,
    /// What its bytes must be.
    pub(super) checksum: Checksum,
    /// The digits of that, by which the hub's cache names the file.
    pub(super) etag: String,
}

/// The commit in the hub's answer.
pub(super) fn commit(body: &[u8]) -> Result<String, String> {
    let Revision { sha } = parsed(body)?;
    match digest(&sha) {
        Some(digest) if digest.len() == 20 => Ok(sha),
        _ => Err(format!("it names the commit `{sha}`, which is no SHA-1")),
    }
}

/// A part of a repository's tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<File>,
    /// The paths of directories.
    pub(super) directories: Vec<String>,
}

impl Tree {
    /// Adds what a page of the tree has.
    pub(super) fn add(&mut self, body: &[u8]) -> Result<(), String> {
        for entry in parsed::<Vec<Entry>>(body)? {
            match &*entry.kind {
                "file" => self.files.push(file(entry)?),
                "directory" => self.directories.push(entry.path),
                _ => {}
            }
        }
        Ok(())
    }
}

fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("it cannot be understood: {error}"))
}

fn file(Entry { path, oid, size, lfs, .. }: Entry) -> Result<File, String> {
    input::inner_path("path", &path).map_err(|(cause, _)| cause)?;
    // Two ways to write a path would be two files to the hub and one here.
    if !path.split('/').all(is_ordinary) {
        return Err(format!("the path `{}` is not written plainly", escape(&path)));
    }
    let (algorithm, etag, size_bytes) = match lfs {
        Some(lfs) => (DigestAlgorithm::Sha256, lfs.oid, lfs.size),
        None => (DigestAlgorithm::GitBlob { object_bytes: size }, oid, size),
    };
    let checksum = digest(&etag).and_then(|bytes| Checksum::new(algorithm, bytes).ok());
    let checksum = checksum.ok_or_else(|| format!("`{etag}` is no {algorithm} of `{path}`"))?;
    Ok(File { path, size_bytes, checksum, etag })
}

/// The bytes that lower-case hexadecimal digits stand for.
fn digest(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

/// The URL of the next page, as a `Link` field tells it (RFC 8288 section 3).
pub(super) fn next_page(fields: &[(String, String)]) -> Option<&str> {
    let links = fields.iter().filter(|(name, _)| name == "link");
    links.flat_map(|(_, value)| value.split(", <")).find_map(|link| {
        let (url, parameters) = link.trim_start_matches('<').split_once('>')?;
        let is_next = |it: &str| it.trim().replace('"', "").eq_ignore_ascii_case("rel=next");
        parameters.split([';', ',']).any(is_next).then_some(url)
    })
}

/// As in a shell: `*` stays within a directory, and `**` does not.
const PATTERNS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// Which of a repository's files a place names.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    path: &'a str,
    pattern: Option<Pattern>,
}

impl<'a> Selection<'a> {
    /// What the place names.
    pub(super) fn of(place: &'a Place) -> Self {
        let is_pattern = place.directory().1;
        // One with an unclosed bracket is a name like any other.
        let pattern = is_pattern.then(|| Pattern::new(&place.path).ok()).flatten();
        Self { path: &place.path, pattern }
    }

    pub(super) fn has(&self, file: &File) -> bool {
        let below = file.path.strip_prefix(self.path).is_some_and(|rest| rest.starts_with('/'));
        self.path.is_empty()
            || below
            || file.path == self.path
            || self.pattern.as_ref().is_some_and(|it| it.matches_with(&file.path, PATTERNS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    fn files(body: &str) -> Result<Vec<File>, String> {
        let mut tree = Tree::default();
        tree.add(body.as_bytes()).map(|()| tree.files)
    }

    fn page(entries: &str) -> Result<Vec<File>, String> {
        files(&format!("[{entries}]"))
    }

    fn entry(path: &str) -> String {
        format!(r#"{{"type":"file","oid":"{BLOB}","size":6,"path":"{path}"}}"#)
    }

    #[test]
    fn a_page_tells_what_the_bytes_of_each_file_must_be() {
        let sha256 = "ab".repeat(32);
        let large = format!(
            r#"{{"type":"file","oid":"{BLOB}","size":7,"path":"d/w.bin","xetHash":"00",
                "lfs":{{"oid":"{sha256}","size":8,"pointerSize":134}}}}"#
        );
        let directory = format!(r#"{{"type":"directory","oid":"{BLOB}","size":0,"path":"d"}}"#);
        let found = page(&[entry("a b.txt"), directory, large].join(",")).unwrap();
        let told: Vec<_> =
            found.iter().map(|it| (&*it.path, it.size_bytes, it.checksum.to_string())).collect();
        assert_eq!(
            told,
            [
                ("a b.txt", 6, format!("git-blob={BLOB}")),
                ("d/w.bin", 8, format!("sha256={sha256}"))
            ]
        );
        assert_eq!(found[0].etag, BLOB);
    }

    #[test]
    fn a_page_that_cannot_be_trusted_is_refused_as_a_whole() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\\u0000"] {
            let error = page(&[entry("good"), entry(path)].join(",")).unwrap_err();
            assert!(!error.is_empty(), "{path}");
        }
        for body in ["{}", "[{}]", r#"[{"type":"file","oid":"xy","size":1,"path":"p"}]"#, "<html>"]
        {
            assert!(files(body).is_err(), "{body}");
        }
        assert!(commit(br#"{"sha":"main"}"#).is_err());
        assert_eq!(commit(format!(r#"{{"sha":"{BLOB}","x":1}}"#).as_bytes()).unwrap(), BLOB);
    }

    #[test]
    fn the_next_page_is_the_one_that_a_link_calls_next() {
        let field = |value: &str| vec![("link".to_owned(), value.to_owned())];
        assert_eq!(
            next_page(&field("<https://h/t?cursor=a%2C>; rel=\"next\"")),
            Some("https://h/t?cursor=a%2C")
        );
        assert_eq!(next_page(&field("<p>; rel=\"prev\", <n>; rel=next; x=y")), Some("n"));
        assert_eq!(next_page(&field("<p>; rel=\"prev\"")), None);
        assert_eq!(next_page(&[]), None);
    }

    #[test]
    fn a_place_names_a_file_a_directory_or_what_fits_a_pattern() {
        let named = |path: &str| {
            let place = Place::of(&format!("hf://o/r/{path}")).unwrap();
            let selection = Selection::of(&place);
            let files =
                page(&["a.bin", "d/a.bin", "d/b.txt", "da.txt"].map(entry).join(",")).unwrap();
            let found = files.into_iter().filter(|it| selection.has(it)).map(|it| it.path);
            found.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(named(""), "a.bin d/a.bin d/b.txt da.txt");
        assert_eq!(named("d"), "d/a.bin d/b.txt");
        assert_eq!(named("d/a.bin"), "d/a.bin");
        assert_eq!(named("*.bin"), "a.bin");
        assert_eq!(named("**/*.bin"), "a.bin d/a.bin");
        assert_eq!(named("d/*.txt"), "d/b.txt");
        assert_eq!(named("x"), "");
    }
}
