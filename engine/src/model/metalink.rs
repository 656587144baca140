//! Metalink: where a file can be had, and what it must hash to (RFC 5854, and
//! version 3 of the format before it).

use std::collections::HashSet;
use std::fmt;

use roxmltree::{Document, Node, ParsingOptions};

use crate::model::charset;
use crate::model::config::{Checksum, DigestAlgorithm, Pieces};
use crate::model::error::{Error, ErrorKind};
use crate::model::name::{brief, safe_path};
use crate::model::planner::MAX_SOURCES;
use crate::model::redact::redact_url;

/// A longer document is refused, in bytes.
pub const MAX_METALINK_BYTES: usize = 8 << 20;
/// A document with more elements and texts is refused: each costs about 60 bytes.
const MAX_NODES: u32 = 500_000;
const MAX_FILES: usize = 10_000;

const VERSION_4: &str = "urn:ietf:params:xml:ns:metalink";
const VERSION_3: &str = "http://www.metalinker.org/";

/// One file of a Metalink document.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetalinkFile {
    /// Where the file belongs: one or more ordinary components with `/` between them, never
    /// absolute, never upwards, each made safe as a server's file name is.
    pub name: String,
    /// What is not used as the document has it, one line each: a name that was
    /// made safe, hashes of unknown types only.
    pub notes: Vec<String>,
    /// Its size in bytes.
    pub size_bytes: Option<u64>,
    /// The strongest digest of the whole file that is known here.
    pub checksum: Option<Checksum>,
    /// Digests of its parts.
    pub pieces: Option<Pieces>,
    /// `http` and `https` URLs, the best first; at most 32, and at least one.
    pub urls: Vec<String>,
}

/// Its URLs without login and query.
impl fmt::Debug for MetalinkFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.urls.iter().map(|url| redact_url(url)).collect();
        f.debug_struct("MetalinkFile")
            .field("name", &self.name)
            .field("size_bytes", &self.size_bytes)
            .field("checksum", &self.checksum)
            .field("pieces", &self.pieces)
            .field("urls", &urls)
            .finish()
    }
}

impl MetalinkFile {
    /// The files that a document describes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a document that is no Metalink, is longer
    /// than 8 MiB, has a document type (entities can be a bomb), names a file
    /// that would leave its directory, gives two files one name, or has a file
    /// with a malformed hash or only URLs of other schemes.
    pub fn parse(bytes: &[u8]) -> Result<Vec<Self>, Error> {
        if bytes.len() > MAX_METALINK_BYTES {
            return Err(invalid(format!("it is longer than {} MiB", MAX_METALINK_BYTES >> 20)));
        }
        let text = charset::document(bytes);
        let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(&text, options).map_err(|error| {
            invalid(format!("it is no XML that is read here: {}", brief(&error.to_string())))
        })?;
        let root = document.root_element();
        let namespace = root.tag_name().namespace();
        let is_root = root.tag_name().name() == "metalink";
        let files: Vec<Node<'_, '_>> = match namespace {
            Some(VERSION_4) if is_root => children(root, "file").collect(),
            Some(VERSION_3) if is_root => {
                children(root, "files").flat_map(|files| children(files, "file")).collect()
            }
            _ => return Err(invalid("its root is no `metalink` of version 3 or 4")),
        };
        if files.is_empty() {
            return Err(invalid("it has no file"));
        }
        if files.len() > MAX_FILES {
            return Err(invalid(format!("it has more than {MAX_FILES} files")));
        }
        let old = namespace == Some(VERSION_3);
        let files = files.into_iter().map(|node| file(node, old)).collect::<Result<Vec<_>, _>>()?;
        let mut names = HashSet::new();
        match files.iter().find(|file| !names.insert(file.name.to_lowercase())) {
            Some(twin) => Err(invalid(format!("it names `{}` twice", brief(&twin.name)))),
            None => Ok(files),
        }
    }
}

fn file(node: Node<'_, '_>, old: bool) -> Result<MetalinkFile, Error> {
    let given = node.attribute("name").unwrap_or_default();
    let shown = brief(given);
    let safe = safe_path(given)
        .ok_or_else(|| invalid(format!("the name `{shown}` is no path below a directory")))?;
    let mut notes = Vec::new();
    if safe.changed {
        notes.push(format!("the name `{shown}` was made safe: {}", safe.name));
    }
    let of = |what: &str| invalid(format!("the file `{shown}` {what}"));
    let size_bytes = match children(node, "size").next().map(text) {
        None => None,
        Some(digits) => {
            Some(digits.parse::<u64>().map_err(|_| of("has a size that is no number"))?)
        }
    };
    let (proofs, places) = if old {
        (children(node, "verification").next(), children(node, "resources").next())
    } else {
        (Some(node), Some(node))
    };
    let hashes = || proofs.into_iter().flat_map(|of| children(of, "hash"));
    let checksum = hashes()
        .filter_map(|node| Some((node, algorithm(node.attribute("type")?)?)))
        .max_by_key(|(_, algorithm)| strength(*algorithm))
        .map(|(node, algorithm)| {
            let malformed = || of(&format!("has a hash that is no digest of {algorithm}"));
            digest(node, algorithm).ok_or_else(malformed)
        })
        .transpose()?;
    let pieces = proofs
        .into_iter()
        .flat_map(|of| children(of, "pieces"))
        .filter_map(|node| Some((node, algorithm(node.attribute("type")?)?)))
        .max_by_key(|(_, algorithm)| strength(*algorithm))
        .map(|(node, algorithm)| pieces(node, algorithm).ok_or_else(|| of("has bad pieces")))
        .transpose()?;
    if let (Some(size), Some(pieces)) = (size_bytes, &pieces)
        && !pieces.fit(size)
    {
        return Err(of("has not as many pieces as its size needs"));
    }
    if checksum.is_none() && pieces.is_none() {
        let types = hashes().map(|node| node.attribute("type").unwrap_or("none"));
        let types: Vec<String> = types.map(|it| format!("`{}`", brief(it))).take(4).collect();
        if !types.is_empty() {
            let types = types.join(", ");
            notes.push(format!(
                "`{shown}` is not verified: its hashes are of types that are not known here, {types}"
            ));
        }
    }
    let mut urls: Vec<(u64, &str)> = places
        .into_iter()
        .flat_map(|of| children(of, "url"))
        .filter_map(|node| Some((rank(node, old), http_url(text(node))?)))
        .collect();
    urls.sort_by_key(|(rank, _)| *rank);
    let urls: Vec<String> =
        urls.into_iter().take(MAX_SOURCES).map(|(_, url)| url.to_owned()).collect();
    if urls.is_empty() {
        return Err(of("has no http:// or https:// URL"));
    }
    Ok(MetalinkFile { name: safe.name, notes, size_bytes, checksum, pieces, urls })
}

/// Lower is better: `priority` from 1 (RFC 5854 section 4.2.16.3), or the
/// distance of a `preference` from 100.
fn rank(url: Node<'_, '_>, old: bool) -> u64 {
    let number = |name| url.attribute(name).and_then(|digits| digits.parse::<u64>().ok());
    if old {
        100 - number("preference").unwrap_or(0).min(100)
    } else {
        number("priority").unwrap_or(999_999)
    }
}

/// The digest in a `hash`; blanks and line ends in it mean nothing.
fn digest(node: Node<'_, '_>, algorithm: DigestAlgorithm) -> Option<Checksum> {
    let digits: String = text(node).split_whitespace().collect();
    format!("{algorithm}={digits}").parse().ok()
}

fn pieces(node: Node<'_, '_>, algorithm: DigestAlgorithm) -> Option<Pieces> {
    let len = node.attribute("length")?.trim().parse().ok()?;
    let hashes = children(node, "hash").map(|node| digest(node, algorithm));
    let digests: Option<Vec<Checksum>> = hashes.collect();
    Pieces::new(algorithm, len, digests?.iter().map(Checksum::digest)).ok()
}

/// Names as in the registry of hash functions, and as version 3 writes them.
fn algorithm(name: &str) -> Option<DigestAlgorithm> {
    Some(match name.to_ascii_lowercase().replace('-', "").as_str() {
        "sha256" => DigestAlgorithm::Sha256,
        "sha512" => DigestAlgorithm::Sha512,
        "sha1" | "sha" => DigestAlgorithm::Sha1,
        "md5" => DigestAlgorithm::Md5,
        "blake3" => DigestAlgorithm::Blake3,
        _ => return None,
    })
}

/// Among the strong ones, the cheapest counts most.
fn strength(algorithm: DigestAlgorithm) -> u8 {
    match algorithm {
        DigestAlgorithm::Blake3 => 4,
        DigestAlgorithm::Sha256 => 3,
        DigestAlgorithm::Sha512 => 2,
        DigestAlgorithm::Sha1 | DigestAlgorithm::GitBlob { .. } => 1,
        DigestAlgorithm::Md5 => 0,
    }
}

fn children<'a, 'input>(
    node: Node<'a, 'input>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    let namespace = node.tag_name().namespace();
    node.children().filter(move |child| {
        child.tag_name().name() == name && child.tag_name().namespace() == namespace
    })
}

fn text<'a>(node: Node<'a, '_>) -> &'a str {
    node.text().unwrap_or_default().trim()
}

fn http_url(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    (known && !text.chars().any(char::is_control)).then_some(text)
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("this is no usable Metalink: {}", why.into()))
        .with_hint("a Metalink is XML with a `metalink` of files, each with `url` elements")
}

#[cfg(test)]
#[path = "metalink_tests.rs"]
mod tests;
