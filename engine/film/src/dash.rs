//! DASH manifests (ISO/IEC 23009-1), called MPDs.
//!
//! An MPD consists of periods, a period of adaptation sets, and an adaptation set of
//! representations: the same content in different qualities. Most properties of a representation
//! can be given at any of these levels and are inherited downwards. `manifest` reads the levels,
//! `periods` matches the representations of different periods with each other, and `pieces` lists
//! the pieces of each.
//!
//! A manifest is untrusted, and a dozen bytes of it can ask for 2^64 pieces. Therefore everything
//! that grows with a number in the manifest has a limit, in `pieces`, `manifest` or `template`.

mod base;
mod manifest;
mod periods;
mod pieces;
mod protection;
mod segments;
mod template;
mod time;
mod xml;

use roxmltree::Document;
use url::Url;

use self::manifest::Manifest;
use self::pieces::Budget;
use self::xml::{Element, quoted};
use crate::model::{Film, ManifestError, Variables};

/// Reads the MPD `text` that was fetched from `url`.
///
/// Representations of different periods are joined into renditions, all of which go together: none
/// names a group. Thumbnails, trick-play video and data other than video, audio and text are left
/// out.
///
/// # Errors
///
/// [`ManifestError::Malformed`] if the text is not XML or not an MPD, does not determine its pieces,
/// has more than a million of them, or needs a feature that is not supported: elements in other
/// documents, live films that do not list their pieces, and several periods in one object.
/// [`ManifestError::Protected`] if any of its media are encrypted.
pub fn parse(text: &str, url: &Url) -> Result<Film, ManifestError> {
    let page = || ManifestError::whole("this is a web page (HTML), not a manifest");
    let document = Document::parse(text)
        .map_err(|error| if xml::is_page(text) { page() } else { xml::fault(text, &error) })?;
    let mpd = Element::root(&document);
    if mpd.name() != "MPD" {
        let is_page = mpd.name().eq_ignore_ascii_case("html");
        return Err(if is_page {
            page()
        } else {
            let name = quoted(mpd.name());
            ManifestError::at(mpd.line(), format!("the root element is {name}, not \"MPD\""))
        });
    }
    let manifest = Manifest::read(mpd, url)?;
    if let Some(system) = manifest.systems.names() {
        return Err(ManifestError::Protected { system });
    }
    let renditions = periods::renditions(&manifest, Budget::default())?;
    if renditions.is_empty() {
        return Err(mpd.error("nothing in it can be downloaded"));
    }
    Ok(Film { renditions, variables: Variables::new() })
}

#[cfg(test)]
#[path = "dash_tests.rs"]
mod tests;
