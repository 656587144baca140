//! The elements of an MPD that matter for a download, with what they inherit.

use std::time::Duration;

use url::Url;

use super::base::{Addresses, Bases};
use super::protection::Systems;
use super::segments::{Segments, Told};
use super::template::Template;
use super::time::parse_duration;
use super::xml::{Element, quoted};
use crate::model::{Kind, ManifestError};

/// Real periods have a few dozen. Matching them across periods takes time in proportion to the
/// square of their number.
const MAX_REPRESENTATIONS: usize = 500;

/// How many roles of an adaptation set are read.
const MAX_ROLES: usize = 8;

/// An address with this meaning removes the element that refers to it.
const NOTHING: &str = "urn:mpeg:dash:resolve-to-zero:2013";

/// An MPD.
#[derive(Debug)]
pub(super) struct Manifest<'a> {
    pub(super) periods: Vec<Period<'a>>,
    /// Whether more of the film may follow later.
    pub(super) is_live: bool,
    /// What the film is encrypted for.
    pub(super) systems: Systems,
}

/// A stretch of the film.
#[derive(Debug)]
pub(super) struct Period<'a> {
    /// From 0.
    pub(super) number: u32,
    /// `None` where the manifest does not say.
    pub(super) duration: Option<Duration>,
    /// Whether more of the film may follow later.
    pub(super) is_live: bool,
    /// Without thumbnails, trick-play video and any data that is none of the three kinds in
    /// [`Kind`].
    pub(super) representations: Vec<Representation<'a>>,
}

/// One way to see, hear or read a period.
#[derive(Debug)]
pub(super) struct Representation<'a> {
    pub(super) element: Element<'a>,
    pub(super) id: Option<&'a str>,
    pub(super) kind: Kind,
    pub(super) language: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) roles: Vec<&'a str>,
    pub(super) bandwidth: Option<u64>,
    pub(super) resolution: Option<(u32, u32)>,
    pub(super) codecs: Option<&'a str>,
    pub(super) bases: Bases,
    pub(super) segments: Segments<'a>,
}

impl Representation<'_> {
    /// Reads a pattern for its addresses.
    pub(super) fn pattern(
        &self,
        element: Element<'_>,
        pattern: &str,
    ) -> Result<Template, ManifestError> {
        Template::parse(pattern, self.id, self.bandwidth).map_err(|message| element.error(message))
    }

    /// The object that its base addresses name.
    pub(super) fn object(&self, element: Element<'_>) -> Result<Addresses, ManifestError> {
        self.bases.object().cloned().ok_or_else(|| element.error("it has no address for its media"))
    }
}

impl<'a> Manifest<'a> {
    /// Reads an MPD that was fetched from `url`.
    pub(super) fn read(mpd: Element<'a>, url: &Url) -> Result<Self, ManifestError> {
        let is_live = match mpd.filled("type") {
            None | Some("static") => false,
            Some("dynamic") => true,
            Some(other) => {
                return Err(mpd.error(format!("type {} is not static or dynamic", quoted(other))));
            }
        };
        let bases = Bases::of_manifest(url)?.within(mpd)?;
        let mut systems = Systems::default();
        let mut periods = Vec::new();
        for (number, (element, duration)) in (0..).zip(timed_periods(mpd)?) {
            let bases = bases.within(element)?;
            let told = Told::within(element);
            let mut representations = Vec::new();
            for set in element.children("AdaptationSet") {
                set.require_local()?;
                let set = AdaptationSet::read(set, &bases)?;
                set.representations(told, &mut representations, &mut systems)?;
            }
            if !representations.is_empty() {
                systems.add(element);
                systems.add(mpd);
            }
            periods.push(Period { number, duration, is_live, representations });
        }
        Ok(Self { periods, is_live, systems })
    }
}

/// The periods and how long they last.
fn timed_periods(mpd: Element<'_>) -> Result<Vec<(Element<'_>, Option<Duration>)>, ManifestError> {
    let whole = duration(mpd, "mediaPresentationDuration")?;
    let mut timed = Vec::new();
    let mut begin = Some(Duration::ZERO);
    let mut periods =
        mpd.children("Period").filter(|period| period.remote() != Some(NOTHING)).peekable();
    while let Some(period) = periods.next() {
        period.require_local()?;
        begin = duration(period, "start")?.or(begin);
        let end = match periods.peek() {
            Some(&next) => duration(next, "start")?,
            None => whole,
        };
        let lasting = match (duration(period, "duration")?, begin, end) {
            (None, Some(begin), Some(end)) => Some(
                end.checked_sub(begin).ok_or_else(|| period.error("it ends before it starts"))?,
            ),
            (lasting, ..) => lasting,
        };
        timed.push((period, lasting));
        begin = begin.zip(lasting).and_then(|(begin, lasting)| begin.checked_add(lasting));
    }
    Ok(timed)
}

fn duration(element: Element<'_>, name: &str) -> Result<Option<Duration>, ManifestError> {
    element
        .attribute(name)
        .map(|value| {
            parse_duration(value)
                .ok_or_else(|| element.error(format!("{name} {} is not a duration", quoted(value))))
        })
        .transpose()
}

/// What the representations of an adaptation set have in common.
struct AdaptationSet<'a> {
    element: Element<'a>,
    bases: Bases,
    told: Told<'a>,
    language: Option<&'a str>,
    name: Option<&'a str>,
    roles: Vec<&'a str>,
}

impl<'a> AdaptationSet<'a> {
    fn read(element: Element<'a>, bases: &Bases) -> Result<Self, ManifestError> {
        Ok(Self {
            element,
            bases: bases.within(element)?,
            told: Told::within(element),
            // RFC 5646 has "und" for what has no known language.
            language: element.filled("lang").filter(|lang| !lang.eq_ignore_ascii_case("und")),
            name: label(element),
            roles: element
                .children("Role")
                .filter_map(|role| role.filled("value"))
                .take(MAX_ROLES)
                .collect(),
        })
    }

    fn representations(
        &self,
        period: Told<'a>,
        into: &mut Vec<Representation<'a>>,
        systems: &mut Systems,
    ) -> Result<(), ManifestError> {
        if is_trick_play(self.element) {
            return Ok(());
        }
        let mut is_used = false;
        for element in self.element.children("Representation") {
            let inherited = |name: &str| element.filled(name).or_else(|| self.element.filled(name));
            let codecs = inherited("codecs");
            let kind = kind(self.element.filled("contentType"), inherited("mimeType"), codecs);
            // A layer that depends on another representation cannot be shown alone.
            let is_layer = element.filled("dependencyId").is_some();
            let Some(kind) = kind.filter(|_| !is_layer && !is_trick_play(element)) else {
                continue;
            };
            if into.len() == MAX_REPRESENTATIONS {
                return Err(element.error(format!(
                    "the period has more than {MAX_REPRESENTATIONS} representations"
                )));
            }
            is_used = true;
            systems.add(element);
            let pixels = |name: &str| element.hint(name).or_else(|| self.element.hint(name));
            into.push(Representation {
                element,
                id: element.filled("id"),
                kind,
                language: self.language,
                name: label(element).or(self.name),
                roles: self.roles.clone(),
                bandwidth: element.hint("bandwidth"),
                resolution: pixels("width").zip(pixels("height")),
                codecs,
                bases: self.bases.within(element)?,
                segments: Segments::new([Told::within(element), self.told, period])?,
            });
        }
        if is_used {
            systems.add(self.element);
        }
        Ok(())
    }
}

fn label(element: Element<'_>) -> Option<&str> {
    element.child("Label").map(Element::text).filter(|label| !label.is_empty())
}

/// Whether this is video with few pictures, for fast forward and rewind.
fn is_trick_play(element: Element<'_>) -> bool {
    element.children("EssentialProperty").any(|property| {
        property.filled("schemeIdUri").is_some_and(|scheme| {
            let scheme = scheme.to_ascii_lowercase();
            scheme.ends_with("//dashif.org/guidelines/trickmode")
        })
    })
}

/// The kind of a representation, or `None` if it is not to be downloaded.
fn kind(content_type: Option<&str>, mime: Option<&str>, codecs: Option<&str>) -> Option<Kind> {
    let of_codecs: Vec<Kind> =
        codecs.unwrap_or_default().split(',').filter_map(kind_of_codec).collect();
    if of_codecs.contains(&Kind::Video) && of_codecs.contains(&Kind::Audio) {
        return Some(Kind::Video);
    }
    let mime = mime.unwrap_or_default().to_ascii_lowercase();
    let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
    let (top, sub) = mime.split_once('/').unwrap_or((&mime, ""));
    let stated = match content_type.as_str() {
        // As uninformative as the MIME type application/mp4.
        "" | "application" => top,
        stated => stated,
    };
    match (stated, sub) {
        ("video", _) => Some(Kind::Video),
        ("audio", _) => Some(Kind::Audio),
        ("text", _) | ("application", "ttml+xml" | "x-subrip") => Some(Kind::Subtitles),
        ("image", _) => None,
        _ => of_codecs.first().copied(),
    }
}

/// By the first part of an RFC 6381 name.
fn kind_of_codec(codec: &str) -> Option<Kind> {
    let codec = codec.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    match codec.as_str() {
        "avc1" | "avc3" | "hvc1" | "hev1" | "vvc1" | "vvi1" | "dvh1" | "dvhe" | "dva1" | "dvav"
        | "dav1" | "av01" | "vp8" | "vp9" | "vp08" | "vp09" | "mp4v" | "theora" => {
            Some(Kind::Video)
        }
        "mp4a" | "ac-3" | "ec-3" | "ac-4" | "opus" | "vorbis" | "flac" | "alac" | "mp3"
        | "dtsc" | "dtse" | "dtsh" | "dtsl" | "dtsx" | "mha1" | "mhm1" => Some(Kind::Audio),
        "stpp" | "wvtt" | "tx3g" | "sbtt" => Some(Kind::Subtitles),
        _ => None,
    }
}
