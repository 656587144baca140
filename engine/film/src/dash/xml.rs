//! Elements of the manifest that know their lines, so that every error can name one.

use roxmltree::{Document, Error, Node};

use crate::model::ManifestError;

const XLINK: &str = "http://www.w3.org/1999/xlink";

/// The longest quotation in a message, in characters.
const MAX_QUOTED: usize = 80;

/// An element of an MPD.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a>(Node<'a, 'a>);

impl<'a> Element<'a> {
    pub(super) fn root(document: &'a Document<'_>) -> Self {
        Self(document.root_element())
    }

    /// The name without its namespace.
    pub(super) fn name(self) -> &'a str {
        self.0.tag_name().name()
    }

    /// The line that the element begins on, from 1.
    pub(super) fn line(self) -> usize {
        // Without its feature "positions", roxmltree keeps no positions. But a tag name is always a
        // slice of the text: only entities could make elements from other text, and those need a
        // DTD, which the parser refuses. If it were no slice, only the line would be wrong.
        let text = self.0.document().input_text();
        let offset = self.name().as_ptr().addr().wrapping_sub(text.as_ptr().addr());
        text.as_bytes().get(..offset).map_or(1, |before| 1 + line_breaks(before))
    }

    /// Children of this name, in the namespace of this element: other namespaces extend the format
    /// and may use the same names for other things.
    pub(super) fn children(self, name: &'static str) -> impl Iterator<Item = Self> + use<'a> {
        let namespace = self.0.tag_name().namespace();
        self.0
            .children()
            .filter(move |child| {
                let tag = child.tag_name();
                child.is_element() && tag.name() == name && tag.namespace() == namespace
            })
            .map(Self)
    }

    pub(super) fn child(self, name: &'static str) -> Option<Self> {
        self.children(name).next()
    }

    /// The text within, without the white space around it.
    pub(super) fn text(self) -> &'a str {
        self.0.text().unwrap_or_default().trim()
    }

    pub(super) fn attribute(self, name: &str) -> Option<&'a str> {
        self.0.attribute(name).map(str::trim)
    }

    /// Like [`Self::attribute`], but treats an empty value as none.
    pub(super) fn filled(self, name: &str) -> Option<&'a str> {
        self.attribute(name).filter(|value| !value.is_empty())
    }

    /// The address of a document that stands in place of this element.
    pub(super) fn remote(self) -> Option<&'a str> {
        self.0.attribute((XLINK, "href")).map(str::trim)
    }

    /// Refuses an element that is in another document.
    pub(super) fn require_local(self) -> Result<(), ManifestError> {
        match self.remote() {
            Some(href) => Err(self.error(format!(
                "it is in another document, {}, which is not supported",
                quoted(href)
            ))),
            None => Ok(()),
        }
    }

    /// A number that the pieces depend on.
    pub(super) fn number(self, name: &str) -> Result<Option<u64>, ManifestError> {
        self.attribute(name)
            .map(|value| {
                value.parse().map_err(|_| {
                    self.error(format!("{name} {} is not a whole number", quoted(value)))
                })
            })
            .transpose()
    }

    /// A number that the pieces do not depend on. A malformed one is ignored.
    pub(super) fn hint<T: std::str::FromStr>(self, name: &str) -> Option<T> {
        self.attribute(name)?.parse().ok()
    }

    /// An error about this element.
    pub(super) fn error(self, message: impl std::fmt::Display) -> ManifestError {
        ManifestError::at(self.line(), format!("{}: {message}", self.name()))
    }
}

/// Text of the manifest for a message, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Says why `text` is not XML.
pub(super) fn fault(text: &str, error: &Error) -> ManifestError {
    let line = match error {
        // The parser reports these at the start, but something is missing at the end.
        Error::UnclosedRootNode | Error::UnexpectedEndOfStream => text.lines().count().max(1),
        _ => error.pos().row as usize,
    };
    ManifestError::at(line, format!("not well-formed XML: {error}"))
}

/// Whether `text` is a web page, which many servers send instead of an error.
pub(super) fn is_page(text: &str) -> bool {
    let start = &text.as_bytes()[..text.len().min(1024)];
    let has = |mark: &str| {
        start.windows(mark.len()).any(|window| window.eq_ignore_ascii_case(mark.as_bytes()))
    };
    has("<!doctype html") || has("<html")
}

fn line_breaks(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}
