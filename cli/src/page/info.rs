//! What yt-dlp says about a page, read from its JSON.
//!
//! yt-dlp passes on what sites say. So every field may be missing, `null`, of another type or
//! absurd, and none of them is a reason to fail unless the film cannot be fetched without it.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use haul_engine::safe_file_name;
use haul_film::model::{Film, Kind, Piece, Rendition, Role, Source, Track};
use serde_json::Value;
use url::Url;

use crate::render::escape;

/// Headers that the engine makes itself, that are for one connection, or that belong to the jar.
const NOT_OURS: [&str; 10] = [
    "accept-encoding",
    "connection",
    "content-length",
    "cookie",
    "host",
    "if-range",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
];
/// Leaves room in a name for what is added to it while the film is downloaded.
const MAX_NAME_BYTES: usize = 200;
/// A longer extension is no extension.
const MAX_EXTENSION_BYTES: usize = 10;
/// No fragment lasts longer.
const MAX_FRAGMENT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a page is.
#[derive(Debug)]
pub(super) enum Answer {
    /// A film.
    Film(Box<Found>),
    /// A list of one, of which another page tells.
    Elsewhere(String),
    /// Several films, or one in several parts.
    Several(Several),
}

/// The films that a page lists.
#[derive(Debug)]
pub(super) struct Several {
    /// How many there are; more than are named where yt-dlp was told to take only some.
    pub(super) count: u64,
    /// Whether they are parts of one film.
    pub(super) are_parts: bool,
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) title: Option<String>,
    pub(super) url: Option<String>,
}

/// A film.
#[derive(Debug)]
pub(super) struct Found {
    /// Its name by yt-dlp's template: ordinary components only.
    pub(super) name: PathBuf,
    /// All there are.
    pub(super) formats: Vec<Format>,
    /// The ids of those that yt-dlp has chosen: one, or pictures and sound.
    pub(super) chosen: Vec<String>,
    /// Texts that go with it.
    pub(super) texts: Vec<Format>,
    /// The language of the text that was chosen.
    pub(super) text: Option<String>,
    /// Whether formats were left out because of DRM.
    pub(super) is_protected: bool,
}

/// One way to fetch a track, or all, of a film.
#[derive(Debug, Clone)]
pub(super) struct Format {
    /// What it is. Where it cannot be fetched, it has no source.
    pub(super) rendition: Rendition,
    /// The object or the playlist, or where the fragments are.
    pub(super) url: Option<Url>,
    /// The origins of its URL and of its pieces, which its headers are for.
    pub(super) origins: Vec<url::Origin>,
    /// Whether it is one object.
    pub(super) is_object: bool,
    /// Why it cannot be fetched, as a clause about it.
    pub(super) problem: Option<String>,
    pub(super) is_protected: bool,
    /// For its origin.
    pub(super) headers: Vec<(String, String)>,
    /// As yt-dlp writes them: `a=b; Domain=.example.org; Path=/; c=d`.
    pub(super) cookies: Option<String>,
}

impl Answer {
    /// Reads the object that yt-dlp prints; `None` if it is none.
    pub(super) fn of(info: &Value) -> Option<Self> {
        info.as_object()?;
        let kind = text(info, "_type").unwrap_or("video");
        if matches!(kind, "url" | "url_transparent") {
            return text(info, "url").map(|url| Self::Elsewhere(url.to_owned()));
        }
        if !matches!(kind, "playlist" | "multi_video") {
            return Some(Self::Film(Box::new(Found::of(info))));
        }
        let entries: Vec<&Value> =
            list(info, "entries").filter(|entry| entry.is_object()).collect();
        if let [one] = entries[..] {
            return Self::of(one);
        }
        let named = entries.iter().map(|entry| Entry {
            title: text(entry, "title").map(str::to_owned),
            url: text(entry, "webpage_url").or(text(entry, "url")).map(str::to_owned),
        });
        let count = info.get("playlist_count").and_then(Value::as_u64).unwrap_or(0);
        Some(Self::Several(Several {
            count: count.max(entries.len() as u64),
            are_parts: kind == "multi_video",
            entries: named.collect(),
        }))
    }
}

impl Found {
    fn of(info: &Value) -> Self {
        let mut formats: Vec<Format> = list(info, "formats").filter_map(Format::of).collect();
        let download = list(info, "requested_downloads").next().unwrap_or(info);
        let mut parts: Vec<&Value> = list(download, "requested_formats").collect();
        if parts.is_empty() {
            parts = list(info, "requested_formats").collect();
        }
        if parts.is_empty() && (download.get("url").is_some() || info.get("url").is_some()) {
            // The rest of what it is stands above it in older versions.
            parts.push(if download.get("url").is_some() { download } else { info });
        }
        let mut chosen = Vec::new();
        for part in parts {
            let Some(format) = Format::of(part) else { continue };
            let id = format.rendition.id.clone();
            if !formats.iter().any(|known| known.rendition.id == id) {
                formats.push(format);
            }
            chosen.push(id);
        }
        if let [only] = &chosen[..]
            && let Some(sound) = sound_apart(info, only)
        {
            chosen.push(sound);
        }
        let named = |info| ["filename", "_filename"].iter().find_map(|key| text(info, key));
        let given = named(download).or_else(|| named(info));
        let wanted = info.get("requested_subtitles").and_then(Value::as_object);
        let mut texts: Vec<Format> = Vec::new();
        for (language, wanted) in wanted.into_iter().flatten() {
            texts.extend(Format::of_text(language, wanted));
        }
        let offered = info.get("subtitles").and_then(Value::as_object);
        for (language, offers) in offered.into_iter().flatten() {
            let known = texts.iter().any(|it| it.rendition.language.as_ref() == Some(language));
            let offers = offers.as_array().into_iter().flatten();
            let offers: Vec<Format> =
                offers.filter_map(|offer| Format::of_text(language, offer)).collect();
            let usable = offers.iter().find(|it| it.problem.is_none());
            if !known {
                texts.extend(usable.or(offers.first()).cloned());
            }
        }
        Self {
            name: name(given, info),
            formats,
            chosen,
            texts,
            text: None,
            is_protected: info.get("_has_drm").and_then(Value::as_bool) == Some(true),
        }
    }

    /// The formats that yt-dlp has chosen.
    pub(super) fn chosen(&self) -> impl Iterator<Item = &Format> {
        self.chosen.iter().filter_map(|id| self.formats.iter().find(|it| it.rendition.id == *id))
    }

    /// Everything there is, for a list.
    pub(super) fn everything(&self) -> Film {
        film(self.formats.iter().chain(&self.texts).map(|it| it.rendition.clone()))
    }

    /// Everything that can be fetched, as it is found again later.
    pub(super) fn fetchable(&self) -> Film {
        film(self.formats.iter().chain(&self.texts).filter_map(known))
    }

    /// What is to be downloaded, for a list.
    pub(super) fn picked(&self) -> Film {
        film(self.to_take().map(|it| it.rendition.clone()))
    }

    /// What is to be downloaded.
    pub(super) fn wanted(&self) -> Film {
        film(self.to_take().filter_map(known))
    }

    /// The formats of that.
    pub(super) fn to_take(&self) -> impl Iterator<Item = &Format> {
        let text = self
            .texts
            .iter()
            .filter(|it| self.text.is_some() && it.rendition.language == self.text);
        self.chosen().chain(text)
    }
}

/// The sound that a playlist offers apart, where this is its only other rendition that was chosen and
/// nothing tells whether it has sound. yt-dlp takes it to have some, and the film may be silent: an
/// extra track of sound is the lesser evil.
fn sound_apart(info: &Value, chosen: &str) -> Option<String> {
    let formats: Vec<&Value> = list(info, "formats").collect();
    let pictures = formats.iter().find(|it| text(it, "format_id") == Some(chosen))?;
    let manifest = text(pictures, "manifest_url")?;
    if text(pictures, "acodec").is_some() || text(pictures, "vcodec") == Some("none") {
        return None;
    }
    // A variant with sound alone has a bandwidth; a rendition of a group has none.
    let fits = |it: &&&Value| {
        text(it, "manifest_url") == Some(manifest)
            && text(it, "vcodec") == Some("none")
            && text(it, "protocol").is_some_and(|it| it.starts_with("m3u8"))
            && number(it, "tbr").is_none()
    };
    // The best comes last.
    let sound = formats.iter().rev().find(fits)?;
    text(sound, "format_id").map(str::to_owned)
}

fn film(renditions: impl Iterator<Item = Rendition>) -> Film {
    Film { renditions: renditions.collect(), ..Film::default() }
}

/// A rendition by what stays the same when the page is looked at again: bit rates may be estimates,
/// and names may tell them.
fn known(format: &Format) -> Option<Rendition> {
    format.problem.is_none().then(|| Rendition {
        bandwidth: None,
        name: Some(format.rendition.id.clone()),
        ..format.rendition.clone()
    })
}

impl Format {
    /// Reads one; `None` if it is neither pictures nor sound.
    fn of(info: &Value) -> Option<Self> {
        let codec = |key: &str| text(info, key).map(str::to_owned);
        let (video, audio) = (codec("vcodec"), codec("acodec"));
        let is_none = |codec: &Option<String>| codec.as_deref() == Some("none");
        if is_none(&video) && is_none(&audio) || text(info, "protocol") == Some("mhtml") {
            return None;
        }
        let kind = if is_none(&video) { Kind::Audio } else { Kind::Video };
        let id = match info.get("format_id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => String::new(),
        };
        let url = text(info, "url").and_then(|url| Url::parse(url).ok());
        let source = source_of(info, url.as_ref());
        let mut format = Self::new(info, id, kind, url, source);
        let rendition = &mut format.rendition;
        let codecs = [video, audio].into_iter().flatten().filter(|codec| codec != "none");
        let codecs = codecs.collect::<Vec<_>>().join(",");
        rendition.codecs = Some(codecs).filter(|codecs| !codecs.is_empty());
        // A cast saturates, and makes nothing of what is no number.
        let kilobits = number(info, "tbr").or(number(info, "vbr")).or(number(info, "abr"));
        rendition.bandwidth = kilobits.map(|it| (it * 1000.0) as u64).filter(|it| *it > 0);
        let pixels = |key| number(info, key).map(|it| it as u32).filter(|it| *it > 0);
        let height = pixels("height").filter(|_| kind == Kind::Video);
        rendition.resolution = height.map(|height| (pixels("width").unwrap_or(0), height));
        rendition.language = text(info, "language").map(str::to_owned);
        rendition.name = text(info, "format_note").or(text(info, "format")).map(str::to_owned);
        Some(format)
    }

    /// Reads a text in this language.
    fn of_text(language: &str, info: &Value) -> Option<Self> {
        info.as_object()?;
        let url = text(info, "url").and_then(|url| Url::parse(url).ok());
        let end = text(info, "ext").unwrap_or("vtt");
        let source = match end {
            "vtt" => source_of(info, url.as_ref()),
            other => Err(format!("comes as {}, and haul takes only WebVTT", escape(other))),
        };
        let id = format!("text-{language}");
        let mut format = Self::new(info, id, Kind::Subtitles, url, source);
        format.rendition.language = Some(language.to_owned());
        format.rendition.name = text(info, "name").map(str::to_owned);
        Some(format)
    }

    /// One whose source is this, or has this problem.
    fn new(
        info: &Value,
        id: String,
        kind: Kind,
        url: Option<Url>,
        source: Result<Source, String>,
    ) -> Self {
        let (source, problem) = match source {
            Ok(source) => (source, None),
            Err(why) => (Source::WithinVideo, Some(why)),
        };
        let rendition = Rendition::new(id, kind, source);
        let pieces = match &rendition.source {
            Source::Track(track) => &track.pieces[..],
            _ => &[],
        };
        let is_object = matches!(pieces, [one] if Some(&one.url) == url.as_ref());
        let mut origins: Vec<url::Origin> = Vec::new();
        for url in url.iter().chain(pieces.iter().map(|piece| &piece.url)) {
            if !origins.contains(&url.origin()) {
                origins.push(url.origin());
            }
        }
        Self {
            is_object,
            origins,
            url,
            problem,
            is_protected: info.get("has_drm").and_then(Value::as_bool) == Some(true),
            headers: headers(info.get("http_headers")),
            cookies: text(info, "cookies").map(str::to_owned),
            rendition,
        }
    }
}

/// Where the pieces of a format are.
///
/// # Errors
/// Why it cannot be fetched, as a clause about it.
fn source_of(info: &Value, url: Option<&Url>) -> Result<Source, String> {
    let only_by = ["hls_aes", "extra_param_to_segment_url", "extra_param_to_key_url"];
    if let Some(key) = only_by.iter().find(|key| info.get(**key).is_some_and(|it| !it.is_null())) {
        return Err(format!("needs what only yt-dlp does ({key})"));
    }
    let is_http = |url: &Url| matches!(url.scheme(), "http" | "https");
    let url = url.filter(|url| is_http(url)).ok_or("has no http or https URL")?;
    // Without one, a URL is what it says.
    let protocol = text(info, "protocol").unwrap_or_else(|| url.scheme());
    match protocol {
        "http" | "https" => Ok(Source::Track(Track {
            pieces: vec![piece(url.clone(), Role::Media, 0, Duration::ZERO)],
            is_complete: true,
            target_duration: None,
        })),
        "m3u8" | "m3u8_native" => Ok(Source::Playlist(url.clone())),
        "http_dash_segments" => fragments(info, url).map(Source::Track),
        other => Err(format!("comes by `{}`, which haul does not speak", escape(other))),
    }
}

fn piece(url: Url, role: Role, sequence: u64, duration: Duration) -> Piece {
    Piece {
        url,
        mirrors: Vec::new(),
        range: None,
        key: None,
        role,
        sequence,
        part: 0,
        duration,
        is_gap: false,
    }
}

fn fragments(info: &Value, url: &Url) -> Result<Track, String> {
    if info.get("is_from_start").and_then(Value::as_bool) == Some(true)
        || info.get("is_live").and_then(Value::as_bool) == Some(true)
    {
        return Err("is live, and live DASH is not followed".to_owned());
    }
    let base = text(info, "fragment_base_url").and_then(|base| Url::parse(base).ok());
    let base = base.as_ref().unwrap_or(url);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut sequence = 0;
    let all: Vec<&Value> = list(info, "fragments").collect();
    for (place, fragment) in (1..).zip(&all) {
        let link = text(fragment, "url").or(text(fragment, "path")).unwrap_or_default();
        let url = base.join(link).ok().filter(|url| !link.is_empty() && url.has_host());
        let url = url.ok_or_else(|| format!("has no URL for its fragment {place}"))?;
        // Of media the duration is told, or told to be unknown.
        let is_init = fragment.get("duration").is_none() && all.len() > 1;
        let role = if is_init { Role::Init } else { Role::Media };
        let duration = number(fragment, "duration")
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map_or(Duration::ZERO, |it| it.min(MAX_FRAGMENT));
        pieces.push(piece(url, role, sequence, duration));
        sequence += u64::from(role == Role::Media);
    }
    if !pieces.iter().any(|piece| piece.role == Role::Media) {
        return Err("has no fragments".to_owned());
    }
    Ok(Track { pieces, is_complete: true, target_duration: None })
}

fn headers(given: Option<&Value>) -> Vec<(String, String)> {
    let given = given.and_then(Value::as_object).into_iter().flatten();
    let sendable = given.filter_map(|(name, value)| {
        let value = value.as_str()?.trim();
        let known = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
        let is_ours = !NOT_OURS.contains(&known.as_str()) && !value.is_empty();
        let is_value = http::HeaderValue::from_str(value).is_ok();
        (is_ours && is_value).then(|| (name.clone(), value.to_owned()))
    });
    sendable.collect()
}

/// The name that yt-dlp has made by its template, each component made safe as a server's name is. Of
/// a path that leads out of its directory only the last component counts.
fn name(given: Option<&str>, info: &Value) -> PathBuf {
    let made = || {
        let title = text(info, "title").unwrap_or("film").replace(['/', '\\'], "_");
        let id = text(info, "id").map(|id| format!(" [{}]", id.replace(['/', '\\'], "_")));
        let end = text(info, "ext").unwrap_or("mp4");
        format!("{title}{}.{end}", id.unwrap_or_default())
    };
    let given = given.map_or_else(made, str::to_owned);
    let parts = Path::new(&given).components();
    let stays = parts.clone().all(|it| matches!(it, Component::Normal(_) | Component::CurDir));
    let mut components: Vec<&str> = parts
        .filter_map(|it| match it {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    if !stays {
        components = components.pop().into_iter().collect();
    }
    let file = components.pop().unwrap_or(&given);
    let mut path: PathBuf = components.into_iter().map(safe_file_name).collect();
    path.push(short(&safe_file_name(file)));
    path
}

/// The name with its extension and at most [`MAX_NAME_BYTES`].
fn short(name: &str) -> String {
    if name.len() <= MAX_NAME_BYTES {
        return name.to_owned();
    }
    let (stem, end) = match name.rsplit_once('.') {
        Some((stem, end)) if end.len() <= MAX_EXTENSION_BYTES => (stem, format!(".{end}")),
        _ => (name, String::new()),
    };
    let most = MAX_NAME_BYTES - end.len();
    let cut = (0..=most).rev().find(|at| stem.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{end}", stem[..cut].trim_end_matches(|c: char| c == '.' || c.is_whitespace()))
}

/// A text that is there and not empty.
fn text<'a>(info: &'a Value, key: &str) -> Option<&'a str> {
    info.get(key)?.as_str().filter(|it| !it.trim().is_empty())
}

/// A number that is there and not below zero.
fn number(info: &Value, key: &str) -> Option<f64> {
    info.get(key)?.as_f64().filter(|it| it.is_finite() && *it >= 0.0)
}

fn list<'a>(info: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    info.get(key).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
#[path = "info_tests.rs"]
mod tests;
