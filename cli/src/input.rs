//! Lists of downloads: `--input-file`, read as it arrives and never held whole.
//!
//! A line is a URL, several URLs with TABs between them (mirrors), or one JSON object. Indented
//! lines below a URL are its options in aria2's format, and lines that begin with `#` are comments.
//! A URL is therefore known to be complete only once the next line is there.
//!
//! [`Items`] yields one [`Item`] or one [`Fault`] for each entry. After a fault in a line, reading
//! continues with the next entry; `source` decides whether anything runs then. Errors quote lines
//! through `quote`, because lists hold signed URLs and headers.

mod json;
mod options;
mod quote;

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use haul_engine::{Checksum, DownloadOptions, Pieces};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::address;
use crate::exit::Failure;
use crate::render::escape;
use crate::results::Written;
use crate::text::{self, Lines};

/// A longer line is refused, which bounds the memory of one item.
const MAX_LINE_BYTES: usize = 64 << 10;

/// The grammar of a list's lines, for errors.
const GRAMMAR: &str = "a line is a URL, several with TABs between them, `#` and a comment, or a \
                       JSON object; indented KEY=VALUE lines below a URL are its options";

/// One download of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Item {
    /// The name that the list gives it, if any.
    pub(crate) id: Option<String>,
    /// Where to fetch it from; never empty. All but the first are mirrors.
    pub(crate) urls: Vec<String>,
    /// A path below its directory: one or more ordinary components.
    pub(crate) out: Option<PathBuf>,
    /// A path below `--dir`, of ordinary components only; for the cache of the hub an absolute one.
    pub(crate) dir: Option<PathBuf>,
    /// The size that the object must have, in bytes.
    pub(crate) size_bytes: Option<u64>,
    /// The digest that the object must have.
    pub(crate) checksum: Option<Checksum>,
    /// The digests that its parts must have.
    pub(crate) pieces: Option<Pieces>,
    /// Request headers, for the URL's own origin.
    pub(crate) headers: Vec<(String, String)>,
    /// The URL of the document in which a server offered this item.
    pub(crate) offered_by: Option<String>,
    /// Other names for the complete file, which are links. The user is told the first of them.
    pub(crate) links: Vec<PathBuf>,
    /// Whether it is a file of the hub, which is never a film or a page, whatever is in it.
    pub(crate) is_of_hub: bool,
    /// The file of an earlier version that haul wrote, which may be replaced while it is unchanged.
    pub(crate) own_file: Option<Box<Written>>,
    /// Names of options that mean nothing here.
    pub(crate) ignored: Vec<String>,
}

impl Item {
    /// The download of a URL, with nothing else set.
    pub(crate) fn of_url(url: String) -> Self {
        Self { urls: vec![url], ..Self::default() }
    }

    /// Has it written to this path below its directory.
    pub(crate) fn set_path(&mut self, path: &Path) {
        self.out = path.file_name().map(Into::into);
        self.dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).map(Into::into);
    }

    /// The name of the file that the user is told, if it was chosen.
    pub(crate) fn told_output(&self) -> Option<&PathBuf> {
        self.links.first().or(self.out.as_ref())
    }

    /// Sets what it says, but its directory, which depends on that of the others. The item takes
    /// precedence over what is set.
    pub(crate) fn shape(&self, options: &mut DownloadOptions) {
        options.headers.extend(self.headers.iter().cloned());
        if let Some(file) = &self.out {
            options.output = Some(file.clone());
        }
        options.checksum = self.checksum.clone().or(options.checksum.take());
        options.mirrors.splice(0..0, self.urls[1..].iter().cloned());
        options.pieces.clone_from(&self.pieces);
        options.expected_size_bytes = self.size_bytes.or(options.expected_size_bytes);
    }

    /// The first 8 bytes, big-endian, of the SHA-256 of its identity. Shards and results rely on
    /// its being stable across runs and machines.
    pub(crate) fn key(&self) -> u64 {
        let hash: [u8; 32] = Sha256::digest(self.identity()).into();
        hash[..8].iter().fold(0, |key, &byte| key << 8 | u64::from(byte))
    }

    /// What distinguishes it from all others: its id, or else its first URL without a login and a
    /// fragment, together with its output if it has one. May be secret.
    pub(crate) fn identity(&self) -> String {
        if let Some(id) = &self.id {
            return id.clone();
        }
        let url = self.urls.first().map(String::as_str).unwrap_or_default();
        let mut identity = Url::parse(url).map_or_else(
            |_| url.to_owned(),
            |mut url| {
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.set_fragment(None);
                url.to_string()
            },
        );
        for path in [&self.dir, &self.out].into_iter().flatten() {
            identity += "\t";
            identity += &path.to_string_lossy();
        }
        identity
    }
}

/// The item that a JSON object describes.
///
/// # Errors
/// Exit 2 for a text that is no such object.
pub(crate) fn of_json(text: &str) -> Result<Item, Failure> {
    json::item(text).map_err(|(cause, step)| Failure::usage(cause).hint(step))
}

/// Why there is no item.
#[derive(Debug)]
pub(crate) enum Fault {
    /// An entry cannot be used: its line, from 1, and what is wrong with it.
    Line(u64, Failure),
    /// The rest of the list cannot be read.
    Read(io::Error),
}

/// A reason without its line: the cause, and the next step.
pub(crate) type Reason = (String, String);

/// The items of a list in order, each with the line on which it begins, from 1.
#[derive(Debug)]
pub(crate) struct Items<R> {
    lines: Lines<R>,
    line: u64,
    /// The first line of the next entry, read to see that the previous one has ended.
    ahead: Option<(u64, String)>,
    ended: bool,
}

/// A line as it was read.
enum Line {
    Text(String),
    Bad(Reason),
    End,
}

impl<R: Read> Items<R> {
    /// The items in what `reader` reads, in any encoding that [`text`] knows.
    pub(crate) fn new(reader: R) -> Self {
        Self { lines: Lines::new(reader, MAX_LINE_BYTES), line: 0, ahead: None, ended: false }
    }

    /// The next line that is neither empty nor a comment.
    fn next_line(&mut self) -> io::Result<Line> {
        loop {
            let text = match self.lines.next()? {
                None => return Ok(Line::End),
                Some(text::Line::TooLong) => {
                    self.line += 1;
                    return Ok(bad(
                        format!("the line is longer than {} KiB", MAX_LINE_BYTES >> 10),
                        "give each download a line of its own",
                    ));
                }
                Some(text::Line::Text(text)) => text,
            };
            self.line += 1;
            if text.contains('\0') {
                return Ok(bad(
                    format!("`{}` has a NUL in it", quote::line(&text)),
                    "a list is a text with one download per line",
                ));
            }
            if !text.trim().is_empty() && !text.starts_with('#') {
                return Ok(Line::Text(text));
            }
        }
    }

    /// Reads one entry to its end.
    fn entry(&mut self) -> io::Result<Option<Result<(u64, Item), Fault>>> {
        let (first, text) = match self.ahead.take() {
            Some(ahead) => ahead,
            None => match self.next_line()? {
                Line::Text(text) => (self.line, text),
                Line::Bad(reason) => return Ok(Some(Err(fault(self.line, reason)))),
                Line::End => return Ok(None),
            },
        };
        if text.starts_with('{') {
            let item = json::item(&text).map_err(|reason| fault(first, reason));
            return Ok(Some(item.map(|item| (first, item))));
        }
        let mut item = if is_indented(&text) {
            let name = quote::key(&text);
            Err(fault(first, reason(format!("the option `{name}` has no URL above it"), GRAMMAR)))
        } else {
            urls(&text).map_err(|reason| fault(first, reason))
        };
        loop {
            match self.next_line()? {
                // Only the first fault of a refused entry is reported.
                Line::Text(text) if is_indented(&text) => {
                    if let Ok(entry) = &mut item
                        && let Err(reason) = options::add(entry, &text)
                    {
                        item = Err(fault(self.line, reason));
                    }
                }
                Line::Text(text) => {
                    self.ahead = Some((self.line, text));
                    break;
                }
                // The bad line may have been meant for this entry.
                Line::Bad(reason) => {
                    item = item.and(Err(fault(self.line, reason)));
                    break;
                }
                Line::End => break,
            }
        }
        Ok(Some(item.map(|item| (first, item))))
    }
}

impl<R: Read> Iterator for Items<R> {
    type Item = Result<(u64, Item), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.entry().unwrap_or_else(|error| Some(Err(Fault::Read(error))));
        self.ended = !matches!(next, Some(Ok(_) | Err(Fault::Line(..))));
        next
    }
}

fn is_indented(text: &str) -> bool {
    text.starts_with([' ', '\t'])
}

/// The URLs of a line, the first and its mirrors.
fn urls(text: &str) -> Result<Item, Reason> {
    let fields = text.split('\t').map(str::trim).filter(|field| !field.is_empty());
    let urls = fields.map(url).collect::<Result<Vec<_>, _>>()?;
    Ok(Item { urls, ..Item::default() })
}

fn url(text: &str) -> Result<String, Reason> {
    address::url(text).map_err(|failure| {
        (
            failure.message,
            failure.hint.map_or(GRAMMAR.to_owned(), |hint| format!("{hint}; {GRAMMAR}")),
        )
    })
}

/// A path from a list, which must stay below the directory that it is put in.
pub(crate) fn inner_path(key: &str, text: &str) -> Result<PathBuf, Reason> {
    let refuse = |why: &str| {
        Err(reason(
            format!("{key} `{}` {why}", escape(text)),
            "a list writes below --dir only: give the directory there and a relative path here",
        ))
    };
    if text.chars().any(char::is_control) {
        return refuse("has a control character in it");
    }
    if text.is_empty() || text.ends_with('/') && key == "out" {
        return refuse("names no file");
    }
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => return refuse("leads upwards"),
            Component::RootDir | Component::Prefix(_) => return refuse("is absolute"),
        }
    }
    if path.as_os_str().is_empty() && key == "out" {
        return refuse("names no file");
    }
    Ok(path)
}

fn bad(cause: impl Into<String>, step: &str) -> Line {
    Line::Bad(reason(cause, step))
}

fn reason(cause: impl Into<String>, step: &str) -> Reason {
    (cause.into(), step.to_owned())
}

fn fault(line: u64, (cause, step): Reason) -> Fault {
    Fault::Line(line, Failure::usage(cause).hint(step))
}

#[cfg(test)]
mod tests;
