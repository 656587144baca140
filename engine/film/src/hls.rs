//! HLS playlists: RFC 8216, with variables and low latency from draft-pantos-hls-rfc8216bis.
//!
//! A playlist is read in one pass, line by line. There are two kinds: a master playlist lists
//! renditions, each with a playlist of its own, and a media playlist lists pieces. The first tag
//! that only one kind may have decides between them. `Master` and `Media` collect the result;
//! `Scope` holds the state they share, which is the base of relative URIs and the variables.
//!
//! The reader tolerates deviations that leave the meaning intact: blanks around lines, values and
//! commas, missing quotes, unknown tags and attributes. It refuses anything that could change
//! which bytes are fetched or how they are decrypted, because a refused film is reported and a
//! wrong film may go unnoticed. This is also why attribute lists are read here rather than by
//! quick-m3u8, which takes a blank before an attribute for a part of its name and then does not
//! find a URI, an IV or a KEYFORMAT that is there.
//!
//! A playlist comes from a stranger, so its cost in memory is bounded. Otherwise, a playlist of a
//! few megabytes could repeat a long key URI or a variable for each of its pieces. See
//! `MAX_PIECES`, `MAX_URL_BYTES` and `MAX_EXPANDED_BYTES`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use url::{Url, form_urlencoded};

use crate::model::{
    Film, Key, Kind, ManifestError, Piece, Rendition, Role, Source, Track, Variables,
};

/// The most pieces of one playlist: eleven days in pieces of a second.
const MAX_PIECES: usize = 1_000_000;

/// The most bytes that the URLs and expanded values of one playlist may take together.
const MAX_URL_BYTES: usize = 256 << 20;

/// The most bytes of a value after variable expansion. No server accepts a longer URI.
const MAX_EXPANDED_BYTES: usize = 64 << 10;

/// The longest duration of a piece. The sum over [`MAX_PIECES`] stays far below the limit of
/// [`Duration`], so code that adds durations up need not check for overflow.
const MAX_DURATION: Duration = Duration::from_secs(u32::MAX as u64);

/// Reads a master playlist or a media playlist (RFC 8216 section 4).
///
/// `url` is the URL that the playlist was fetched from, after redirections. Relative URIs are
/// resolved against it (section 4.1), and variables may take values from its query. A media
/// playlist makes a film of one rendition, whose source is [`Source::Track`].
///
/// # Errors
///
/// [`ManifestError::Malformed`] if the text is not a playlist, breaks a rule that matters for its
/// pieces, exceeds a limit, or uses a feature that cannot be supported here: delta updates,
/// playlists of key frames only. The error names the line
/// unless the fault concerns the whole playlist.
///
/// [`ManifestError::Protected`] if only the player of a DRM system can decrypt a piece
/// (section 4.3.2.4), or if a master playlist has session keys and all of them are of DRM systems
/// (section 4.3.4.5).
pub fn parse(text: &str, url: &Url) -> Result<Film, ManifestError> {
    parse_importing(text, url, &Variables::new())
}

/// As [`parse`], for a playlist that may import these variables of the one that led to it
/// ([`Film::variables`]).
///
/// # Errors
///
/// As for [`parse`].
pub fn parse_importing(text: &str, url: &Url, imports: &Variables) -> Result<Film, ManifestError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text.lines().map(str::trim).zip(1..).filter(|(content, _)| !content.is_empty());
    match lines.next() {
        Some((first, _)) if first.starts_with("#EXTM3U") => {}
        Some((first, line)) => return Err(not_a_playlist(first, line)),
        None => return Err(ManifestError::whole("the playlist is empty")),
    }

    let mut scope = Scope { base: url, imports, variables: Variables::new(), bytes: 0 };
    let mut master = Master::default();
    let mut media = Media::default();
    let mut level = None;
    for (content, line) in lines {
        if !content.starts_with('#') {
            let uri = scope.resolve(&scope.expand(content, line)?, line)?;
            scope.charge(uri.as_str().len(), line)?;
            if master.variant.is_some() {
                master.uri(uri);
            } else {
                media.uri(uri, line, &mut scope)?;
            }
            continue;
        }
        let (tag, value) = content.split_once(':').unwrap_or((content, ""));
        let tag = Tag { name: tag[1..].trim_end(), value: value.trim(), line };
        if tag.name == "EXT-X-DEFINE" {
            scope.define(tag)?;
        }
        let Some(found) = Level::of(tag.name) else { continue };
        if *level.get_or_insert(found) != found {
            return Err(tag.malformed(match found {
                Level::Master => "is a tag of master playlists, but this is a media playlist",
                Level::Media => "is a tag of media playlists, but this is a master playlist",
            }));
        }
        match found {
            Level::Master => master.tag(tag, &mut scope)?,
            Level::Media => media.tag(tag, &mut scope)?,
        }
    }
    match level {
        Some(Level::Master) => {
            let variables = scope.variables;
            master.finish().map(|film| Film { variables, ..film })
        }
        Some(Level::Media) => media.finish(),
        None => Err(ManifestError::whole("the playlist names neither pieces nor other playlists")),
    }
}

fn not_a_playlist(first: &str, line: usize) -> ManifestError {
    let start: String = first.chars().take(64).flat_map(char::to_lowercase).collect();
    let page =
        ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| start.starts_with(tag));
    let message = if page {
        format!("this is a web page, not a playlist: it begins with {}", quoted(first))
    } else {
        format!("a playlist begins with #EXTM3U, but this begins with {}", quoted(first))
    };
    ManifestError::at(line, message)
}

/// Quotes untrusted text for a message: on one line, and not at any length.
fn quoted(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    if start.len() < text.len() { format!("{:?}", start + "...") } else { format!("{start:?}") }
}

/// The two kinds of playlist. One that has tags of both kinds must not be used (RFC 8216 section
/// 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Master,
    Media,
}

impl Level {
    /// The kind of playlist that a tag belongs to; `None` for unknown tags and tags of both kinds.
    fn of(tag: &str) -> Option<Self> {
        match tag {
            "EXT-X-MEDIA"
            | "EXT-X-STREAM-INF"
            | "EXT-X-I-FRAME-STREAM-INF"
            | "EXT-X-SESSION-DATA"
            | "EXT-X-SESSION-KEY"
            | "EXT-X-CONTENT-STEERING" => Some(Self::Master),
            "EXTINF"
            | "EXT-X-BITRATE"
            | "EXT-X-BYTERANGE"
            | "EXT-X-DATERANGE"
            | "EXT-X-DISCONTINUITY"
            | "EXT-X-DISCONTINUITY-SEQUENCE"
            | "EXT-X-ENDLIST"
            | "EXT-X-GAP"
            | "EXT-X-I-FRAMES-ONLY"
            | "EXT-X-KEY"
            | "EXT-X-MAP"
            | "EXT-X-MEDIA-SEQUENCE"
            | "EXT-X-PART"
            | "EXT-X-PART-INF"
            | "EXT-X-PLAYLIST-TYPE"
            | "EXT-X-PRELOAD-HINT"
            | "EXT-X-PROGRAM-DATE-TIME"
            | "EXT-X-RENDITION-REPORT"
            | "EXT-X-SERVER-CONTROL"
            | "EXT-X-SKIP"
            | "EXT-X-TARGETDURATION" => Some(Self::Media),
            _ => None,
        }
    }
}

/// A line `#NAME:VALUE`.
#[derive(Debug, Clone, Copy)]
struct Tag<'a> {
    name: &'a str,
    value: &'a str,
    line: usize,
}

impl<'a> Tag<'a> {
    /// A fault of this tag; `message` goes on after its name.
    fn malformed(self, message: impl std::fmt::Display) -> ManifestError {
        ManifestError::at(self.line, format!("{} {message}", self.name))
    }

    fn number<T: FromStr>(self, text: &str) -> Result<T, ManifestError> {
        text.trim().parse().map_err(|_| {
            self.malformed(format_args!("has {} where a whole number belongs", quoted(text)))
        })
    }

    /// Seconds, whole or with a fraction, up to a comma or a blank.
    fn duration(self) -> Result<Duration, ManifestError> {
        let end = self.value.find([',', ' ', '\t']).unwrap_or(self.value.len());
        let seconds = self.value[..end].parse().ok();
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|duration| *duration <= MAX_DURATION)
            .ok_or_else(|| {
                let found = quoted(&self.value[..end]);
                self.malformed(format_args!("has {found} where a duration in seconds belongs"))
            })
    }

    /// `length[@offset]` (RFC 8216 section 4.3.2.2).
    fn byte_range(self, text: &str) -> Result<(u64, Option<u64>), ManifestError> {
        let (length, offset) = match text.trim().trim_matches('"').split_once('@') {
            Some((length, offset)) => (length, Some(self.number(offset)?)),
            None => (text.trim().trim_matches('"'), None),
        };
        match self.number(length)? {
            0 => Err(self.malformed("is an empty range")),
            length => Ok((length, offset)),
        }
    }

    fn range(self, start: u64, length: u64) -> Result<Range<u64>, ManifestError> {
        let end = start.checked_add(length).ok_or_else(|| {
            self.malformed(format_args!("ends beyond any object: {length}@{start}"))
        })?;
        Ok(start..end)
    }

    /// Reads the value as `NAME=value,NAME="value",...` (RFC 8216 section 4.2).
    ///
    /// A closing quote must be followed by a comma. After one stray quote, quoted and unquoted text
    /// would otherwise swap places for the rest of the line, and a URI might be misread.
    fn attributes(self, scope: &mut Scope<'_>) -> Result<Attributes<'a>, ManifestError> {
        let mut values = Vec::new();
        let mut rest = self.value;
        loop {
            rest = rest.trim_start_matches([',', ' ', '\t']);
            if rest.is_empty() {
                return Ok(Attributes { tag: self, values });
            }
            let name = &rest[..rest.find(['=', ',', '"']).unwrap_or(rest.len())];
            let Some(value) = rest[name.len()..].strip_prefix('=') else {
                return Err(self.malformed(format_args!("has {} without a value", quoted(name))));
            };
            let value = value.trim_start();
            let text;
            (text, rest) = match value.strip_prefix('"') {
                Some(value) => {
                    let Some((text, rest)) = value.split_once('"') else {
                        let name = name.trim();
                        return Err(
                            self.malformed(format_args!("has no end of the quote of {name}"))
                        );
                    };
                    if !rest.trim_start().is_empty() && !rest.trim_start().starts_with(',') {
                        let found = quoted(rest);
                        return Err(self.malformed(format_args!("has {found} after a quote")));
                    }
                    (text, rest)
                }
                None => {
                    let (text, rest) = value.split_once(',').unwrap_or((value, ""));
                    (text.trim_end(), rest)
                }
            };
            values.push((name.trim_end(), scope.expand_charged(text, self.line)?));
        }
    }
}

/// The attributes of a tag, with their variables expanded.
struct Attributes<'a> {
    tag: Tag<'a>,
    values: Vec<(&'a str, Cow<'a, str>)>,
}

impl Attributes<'_> {
    /// An empty value is as good as none.
    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.values.iter().find(|(found, _)| *found == name)?;
        Some(&**value).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    fn require(&self, name: &str) -> Result<&str, ManifestError> {
        self.get(name).ok_or_else(|| self.tag.malformed(format_args!("has no {name}")))
    }

    fn url(&self, scope: &mut Scope<'_>) -> Result<Option<Url>, ManifestError> {
        let Some(uri) = self.get("URI") else { return Ok(None) };
        let url = scope.resolve(uri, self.tag.line)?;
        scope.charge(url.as_str().len(), self.tag.line)?;
        Ok(Some(url))
    }
}

/// The context in which the values of a playlist are read.
struct Scope<'a> {
    base: &'a Url,
    /// Those of the playlist that led to this one.
    imports: &'a Variables,
    variables: Variables,
    /// Counted against [`MAX_URL_BYTES`].
    bytes: usize,
}

impl Scope<'_> {
    fn charge(&mut self, bytes: usize, line: usize) -> Result<(), ManifestError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_URL_BYTES {
            let mib = MAX_URL_BYTES >> 20;
            return Err(ManifestError::at(line, format!("the URLs take more than {mib} MiB")));
        }
        Ok(())
    }

    /// Resolves a reference against the URL of the playlist. The fragment is dropped because two
    /// URLs that differ only in their fragments are one resource. Schemes other than http and https
    /// are refused: a playlist from the network must not name local files.
    fn resolve(&self, reference: &str, line: usize) -> Result<Url, ManifestError> {
        let mut url = self.join(reference, line)?;
        if !matches!(url.scheme(), "http" | "https") {
            let scheme = url.scheme();
            return Err(ManifestError::at(
                line,
                format!("the URI is not of HTTP but of {scheme}:"),
            ));
        }
        url.set_fragment(None);
        Ok(url)
    }

    /// The error message omits the query, which may hold a token.
    fn join(&self, reference: &str, line: usize) -> Result<Url, ManifestError> {
        self.base.join(reference).map_err(|error| {
            let shown = quoted(reference.split(['?', '#']).next().unwrap_or_default());
            ManifestError::at(line, format!("the URI {shown} is not usable: {error}"))
        })
    }

    /// Replaces each `{$name}` with the value of the variable (rfc8216bis section 4.3). Replaced
    /// text is not expanded again. An undefined name is an error, as the draft demands; `{$` without
    /// a name and a closing brace is plain text.
    fn expand<'t>(&self, text: &'t str, line: usize) -> Result<Cow<'t, str>, ManifestError> {
        let mut expanded = String::new();
        let mut rest = text;
        let mut done = 0;
        while let Some(start) = rest.find("{$") {
            let after = &rest[start + 2..];
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
            let Some(end) = end.filter(|end| *end > 0 && after[*end..].starts_with('}')) else {
                rest = after;
                continue;
            };
            let name = &after[..end];
            let Some(value) = self.variables.get(name) else {
                let name = quoted(name);
                return Err(ManifestError::at(line, format!("the variable {name} is not defined")));
            };
            expanded.push_str(&text[done..text.len() - after.len() - 2]);
            expanded.push_str(value);
            rest = &after[end + 1..];
            done = text.len() - rest.len();
            if expanded.len() > MAX_EXPANDED_BYTES {
                let message =
                    format!("variables make a value of more than {MAX_EXPANDED_BYTES} bytes");
                return Err(ManifestError::at(line, message));
            }
        }
        if done == 0 {
            return Ok(Cow::Borrowed(text));
        }
        expanded.push_str(&text[done..]);
        Ok(Cow::Owned(expanded))
    }

    /// Expands a value that may be stored, and counts it against [`MAX_URL_BYTES`].
    fn expand_charged<'t>(
        &mut self,
        text: &'t str,
        line: usize,
    ) -> Result<Cow<'t, str>, ManifestError> {
        let expanded = self.expand(text, line)?;
        if let Cow::Owned(expanded) = &expanded {
            self.charge(expanded.len(), line)?;
        }
        Ok(expanded)
    }

    /// EXT-X-DEFINE (rfc8216bis section 4.4.2.3).
    fn define(&mut self, tag: Tag<'_>) -> Result<(), ManifestError> {
        let attributes = tag.attributes(self)?;
        let import = attributes.get("IMPORT");
        let (name, value) = match import.or_else(|| attributes.get("QUERYPARAM")) {
            Some(name) if import.is_some() => {
                let value = self.imports.get(name).ok_or_else(|| {
                    let name = quoted(name);
                    tag.malformed(format_args!(
                        "imports {name}, which no playlist before this one defines"
                    ))
                })?;
                (name, value.clone())
            }
            Some(name) => {
                let value = query_parameter(self.base, name).ok_or_else(|| {
                    let name = quoted(name);
                    tag.malformed(format_args!("needs {name}, which the URL's query does not have"))
                })?;
                (name, value)
            }
            // The value may be empty, so `require` does not fit.
            None => {
                let value = attributes.values.iter().find(|(found, _)| *found == "VALUE");
                let (_, value) = value.ok_or_else(|| tag.malformed("has no VALUE"))?;
                (attributes.require("NAME")?, value.to_string())
            }
        };
        if self.variables.insert(name.to_owned(), value).is_some() {
            return Err(tag.malformed(format_args!("defines {} again", quoted(name))));
        }
        Ok(())
    }
}

/// The percent-decoded value of a query parameter, if it is not empty. A plus sign is kept: only
/// HTML forms use it for a blank, and base64 tokens contain it.
fn query_parameter(url: &Url, name: &str) -> Option<String> {
    let query = url.query()?.replace('+', "%2B");
    let (_, value) = form_urlencoded::parse(query.as_bytes()).find(|(found, _)| found == name)?;
    Some(value.into_owned()).filter(|value| !value.is_empty())
}

/// How the pieces after a tag are encrypted (RFC 8216 section 4.3.2.4).
#[derive(Debug, Default, PartialEq, Eq)]
enum Protection {
    #[default]
    None,
    /// Without `iv`, the initialization vector of each piece is its sequence number.
    Aes128 { url: Url, iv: Option<[u8; 16]> },
    /// Only the player of this system can decrypt the pieces.
    Drm(String),
}

impl Protection {
    /// Reads an EXT-X-KEY or EXT-X-SESSION-KEY.
    fn read(tag: Tag<'_>, scope: &mut Scope<'_>) -> Result<Self, ManifestError> {
        let attributes = tag.attributes(scope)?;
        let method = attributes.require("METHOD")?;
        if method == "NONE" {
            return Ok(Self::None);
        }
        let format = attributes.get("KEYFORMAT").unwrap_or("identity");
        if let Some(system) = drm_system(format) {
            return Ok(Self::Drm(system));
        }
        let uri = attributes.get("URI");
        if uri.is_some_and(|uri| uri.get(..4).is_some_and(|s| s.eq_ignore_ascii_case("skd:"))) {
            return Ok(Self::Drm("FairPlay".to_owned()));
        }
        match method {
            "AES-128" => {}
            "SAMPLE-AES" | "SAMPLE-AES-CTR" => return Ok(Self::Drm(method.to_owned())),
            _ => {
                let method = quoted(method);
                return Err(tag.malformed(format_args!("has the unknown method {method}")));
            }
        }
        let uri = attributes.require("URI")?;
        let mut url = scope.join(uri, tag.line)?;
        if url.scheme() == "data" {
            url.set_fragment(None);
        } else {
            url = scope.resolve(uri, tag.line)?;
        }
        let iv = attributes.get("IV").map(|iv| {
            let digits = iv.strip_prefix("0x").or_else(|| iv.strip_prefix("0X"));
            digits
                // The parser of numbers would accept a sign.
                .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|digits| u128::from_str_radix(digits, 16).ok())
                .map(u128::to_be_bytes)
                .ok_or_else(|| tag.malformed("has an IV that is not 0x and up to 32 hex digits"))
        });
        Ok(Self::Aes128 { url, iv: iv.transpose()? })
    }

    /// The key of the piece with this sequence number.
    fn key(
        &self,
        sequence: u64,
        line: usize,
        scope: &mut Scope<'_>,
    ) -> Result<Option<Key>, ManifestError> {
        match self {
            Self::None => Ok(None),
            Self::Aes128 { url, iv } => {
                scope.charge(url.as_str().len(), line)?;
                let iv = iv.unwrap_or_else(|| u128::from(sequence).to_be_bytes());
                Ok(Some(Key { url: url.clone(), iv }))
            }
            Self::Drm(system) => Err(ManifestError::Protected { system: system.clone() }),
        }
    }
}

/// The name of the DRM system that uses this KEYFORMAT, or `None` for the format of plain keys.
fn drm_system(format: &str) -> Option<String> {
    let system = match format.to_ascii_lowercase().as_str() {
        "identity" => return None,
        "com.apple.streamingkeydelivery" => "FairPlay",
        "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed" => "Widevine",
        "com.microsoft.playready" | "urn:uuid:9a04f079-9840-4286-ab92-e65be0885f95" => "PlayReady",
        format if format.starts_with("com.widevine") => "Widevine",
        _ => return Some(quoted(format)),
    };
    Some(system.to_owned())
}

/// A media playlist as far as it has been read.
#[derive(Default)]
struct Media {
    pieces: Vec<Piece>,
    /// The media sequence number of the next piece. `None` before the first piece means 0; after it,
    /// that the numbers are exhausted.
    sequence: Option<u64>,
    part: u32,
    is_complete: bool,
    target_duration: Option<Duration>,
    protection: Rc<Protection>,
    /// Whether no piece came since the last EXT-X-KEY.
    keys_are_together: bool,
    map: Option<Rc<Map>>,
    /// The map that the latest initialization among the pieces was made of.
    map_in_force: Option<Rc<Map>>,
    /// For the next piece: the line of its EXTINF, and its duration.
    duration: Option<(usize, Duration)>,
    /// For the next piece: the line of its EXT-X-BYTERANGE, the length, and the offset.
    range: Option<(usize, u64, Option<u64>)>,
    /// For the next piece: whether it has EXT-X-GAP.
    is_gap: bool,
}

/// EXT-X-MAP (RFC 8216 section 4.3.2.5).
#[derive(PartialEq, Eq)]
struct Map {
    url: Url,
    range: Option<Range<u64>>,
    /// The protection in force at the tag. The media after it may have another key.
    protection: Rc<Protection>,
}

impl Media {
    fn tag(&mut self, tag: Tag<'_>, scope: &mut Scope<'_>) -> Result<(), ManifestError> {
        match tag.name {
            "EXTINF" => {
                if let Some((line, _)) = self.duration {
                    return Err(without_uri("EXTINF", line));
                }
                self.duration = Some((tag.line, tag.duration()?));
            }
            "EXT-X-BYTERANGE" => {
                let (length, offset) = tag.byte_range(tag.value)?;
                self.range = Some((tag.line, length, offset));
            }
            "EXT-X-DISCONTINUITY" => self.part = self.part.saturating_add(1),
            "EXT-X-ENDLIST" => self.is_complete = true,
            "EXT-X-GAP" => self.is_gap = true,
            "EXT-X-I-FRAMES-ONLY" => {
                return Err(tag.malformed(
                    "says that this playlist has no moving pictures, only key frames to seek by",
                ));
            }
            "EXT-X-KEY" => self.key(Protection::read(tag, scope)?),
            "EXT-X-MAP" => {
                let attributes = tag.attributes(scope)?;
                let url = attributes.url(scope)?.ok_or_else(|| tag.malformed("has no URI"))?;
                let range = match attributes.get("BYTERANGE") {
                    Some(range) => {
                        let (length, offset) = tag.byte_range(range)?;
                        Some(tag.range(offset.unwrap_or(0), length)?)
                    }
                    None => None,
                };
                let protection = Rc::clone(&self.protection);
                self.map = Some(Rc::new(Map { url, range, protection }));
            }
            "EXT-X-MEDIA-SEQUENCE" => {
                if !self.pieces.is_empty() {
                    return Err(tag.malformed("comes after the first piece"));
                }
                self.sequence = Some(tag.number(tag.value)?);
            }
            "EXT-X-PLAYLIST-TYPE" => self.is_complete |= tag.value.eq_ignore_ascii_case("VOD"),
            "EXT-X-SKIP" => {
                return Err(tag.malformed("leaves pieces out, which was not asked for"));
            }
            "EXT-X-TARGETDURATION" => self.target_duration = Some(tag.duration()?),
            _ => {}
        }
        Ok(())
    }

    /// Several keys without a piece between them are alternatives, and one usable key is enough. A
    /// key after a piece replaces all earlier ones. The RFC lets earlier keys of other formats
    /// continue to apply, but when a playlist switches from plain keys to DRM, decrypting with the
    /// old key would yield garbage.
    fn key(&mut self, key: Protection) {
        let keep = self.keys_are_together
            && matches!(key, Protection::Drm(_))
            && *self.protection != Protection::None;
        if !keep {
            self.protection = Rc::new(key);
        }
        self.keys_are_together = true;
    }

    /// Adds the piece of a URI line.
    fn uri(&mut self, url: Url, line: usize, scope: &mut Scope<'_>) -> Result<(), ManifestError> {
        let Some((_, duration)) = self.duration.take() else {
            let message = "the URI has neither EXTINF nor EXT-X-STREAM-INF before it";
            return Err(ManifestError::at(line, message));
        };
        let range = match self.range.take() {
            Some((line, length, offset)) => {
                let tag = Tag { name: "EXT-X-BYTERANGE", value: "", line };
                let start = offset.or_else(|| self.end_of_last(&url)).ok_or_else(|| {
                    tag.malformed("has no offset, and no range of the same resource is before it")
                })?;
                Some(tag.range(start, length)?)
            }
            None => None,
        };
        let is_gap = std::mem::take(&mut self.is_gap);
        let sequence = match self.pieces.is_empty() {
            true => self.sequence.unwrap_or(0),
            false => self.sequence.ok_or_else(|| {
                ManifestError::at(line, format!("the media sequence goes beyond {}", u64::MAX))
            })?,
        };
        self.sequence = sequence.checked_add(1);
        self.keys_are_together = false;

        // A gap is not fetched, so it needs no initialization and no key.
        let map = if is_gap || self.map == self.map_in_force { None } else { self.map.clone() };
        let key = if is_gap { None } else { self.protection.key(sequence, line, scope)? };
        let media = Piece {
            url,
            mirrors: Vec::new(),
            range,
            key,
            role: Role::Media,
            sequence,
            part: self.part,
            duration,
            is_gap,
        };
        if let Some(map) = map {
            scope.charge(map.url.as_str().len(), line)?;
            self.pieces.push(Piece {
                url: map.url.clone(),
                range: map.range.clone(),
                key: map.protection.key(sequence, line, scope)?,
                role: Role::Init,
                duration: Duration::ZERO,
                mirrors: Vec::new(),
                is_gap: false,
                ..media
            });
            self.map_in_force = Some(map);
        }
        self.pieces.push(media);
        if self.pieces.len() > MAX_PIECES {
            return Err(ManifestError::at(
                line,
                format!("there are more than {MAX_PIECES} pieces"),
            ));
        }
        Ok(())
    }

    /// Where a range without an offset begins: at the end of the range of the previous media piece,
    /// which must be of the same resource (RFC 8216 section 4.3.2.2).
    fn end_of_last(&self, url: &Url) -> Option<u64> {
        let last = self.pieces.last().filter(|last| last.url == *url)?;
        last.range.as_ref().map(|range| range.end)
    }

    fn finish(self) -> Result<Film, ManifestError> {
        if let Some((line, _)) = self.duration {
            return Err(without_uri("EXTINF", line));
        }
        if self.pieces.is_empty() {
            if let Protection::Drm(system) = &*self.protection {
                return Err(ManifestError::Protected { system: system.clone() });
            }
            if self.is_complete {
                return Err(ManifestError::whole("the playlist is complete, but has no pieces"));
            }
        }
        let track = Track {
            pieces: self.pieces,
            is_complete: self.is_complete,
            target_duration: self.target_duration,
        };
        Ok(Film {
            renditions: vec![Rendition::new("video".to_owned(), Kind::Video, Source::Track(track))],
            variables: Variables::new(),
        })
    }
}

/// A master playlist as far as it has been read.
#[derive(Default)]
struct Master {
    renditions: Vec<Rendition>,
    /// How often each id occurred, before numbering.
    ids: HashMap<String, usize>,
    /// An EXT-X-STREAM-INF that waits for its URI, and its line. The id and the source of the
    /// rendition stay provisional until then.
    variant: Option<(usize, Rendition)>,
    /// The first DRM system among the session keys.
    drm: Option<String>,
    /// Whether there is a session key without DRM.
    has_plain_key: bool,
}

impl Master {
    fn tag(&mut self, tag: Tag<'_>, scope: &mut Scope<'_>) -> Result<(), ManifestError> {
        match tag.name {
            "EXT-X-STREAM-INF" => {
                if let Some((line, _)) = self.variant {
                    return Err(without_uri(tag.name, line));
                }
                self.variant = Some((tag.line, variant(&tag.attributes(scope)?)?));
            }
            "EXT-X-MEDIA" => self.media(&tag.attributes(scope)?, scope)?,
            "EXT-X-SESSION-KEY" => match Protection::read(tag, scope)? {
                Protection::Drm(system) => self.drm = self.drm.take().or(Some(system)),
                Protection::Aes128 { .. } => self.has_plain_key = true,
                Protection::None => {}
            },
            _ => {}
        }
        Ok(())
    }

    /// EXT-X-MEDIA (RFC 8216 section 4.3.4.1).
    fn media(
        &mut self,
        attributes: &Attributes<'_>,
        scope: &mut Scope<'_>,
    ) -> Result<(), ManifestError> {
        let kind = match attributes.require("TYPE")? {
            "AUDIO" => Kind::Audio,
            "SUBTITLES" => Kind::Subtitles,
            // Alternative videos are listed as variants, too, and closed captions are part of the
            // pictures.
            _ => return Ok(()),
        };
        let group = attributes.require("GROUP-ID")?;
        let (id, source) = match (attributes.url(scope)?, kind) {
            (Some(url), kind) => (playlist_id(kind, &url), Source::Playlist(url)),
            (None, Kind::Subtitles) => {
                return Err(attributes.tag.malformed("has subtitles, but no URI of them"));
            }
            // The quotes keep this id distinct from the numbered ids of `unique`.
            (None, _) => {
                let name = attributes.get("NAME").unwrap_or_default();
                (format!("audio {group} {name:?}"), Source::WithinVideo)
            }
        };
        let id = self.unique(id);
        self.renditions.push(Rendition {
            language: attributes.text("LANGUAGE"),
            name: attributes.text("NAME"),
            is_default: attributes.get("DEFAULT") == Some("YES"),
            group: Some(group.to_owned()),
            ..Rendition::new(id, kind, source)
        });
        Ok(())
    }

    /// Completes the variant that waits for its URI.
    fn uri(&mut self, url: Url) {
        if let Some((_, variant)) = self.variant.take() {
            let id = self.unique(playlist_id(variant.kind, &url));
            self.renditions.push(Rendition { id, source: Source::Playlist(url), ..variant });
        }
    }

    /// Appends a number to an id that was already used. A playlist is often listed several times,
    /// once for each audio group that goes with it.
    fn unique(&mut self, id: String) -> String {
        let count = self.ids.entry(id.clone()).or_default();
        *count += 1;
        if *count == 1 { id } else { format!("{id} {count}") }
    }

    fn finish(self) -> Result<Film, ManifestError> {
        if let Some((line, _)) = self.variant {
            return Err(without_uri("EXT-X-STREAM-INF", line));
        }
        match self.drm {
            Some(system) if !self.has_plain_key => Err(ManifestError::Protected { system }),
            _ if self.renditions.is_empty() => {
                Err(ManifestError::whole("the master playlist names no other playlists"))
            }
            _ => Ok(Film { renditions: self.renditions, variables: Variables::new() }),
        }
    }
}

/// EXT-X-STREAM-INF (RFC 8216 section 4.3.4.2), but for the id and the source.
fn variant(attributes: &Attributes<'_>) -> Result<Rendition, ManifestError> {
    let tag = attributes.tag;
    let bandwidth = attributes.get("BANDWIDTH").map(|text| tag.number(text)).transpose()?;
    let resolution = match attributes.get("RESOLUTION") {
        Some(text) => {
            let (width, height) = text.split_once(['x', 'X']).ok_or_else(|| {
                tag.malformed(format_args!("has {} where width x height belong", quoted(text)))
            })?;
            Some((tag.number(width)?, tag.number(height)?))
        }
        None => None,
    };
    let codecs = attributes.text("CODECS");
    let is_audio = resolution.is_none() && codecs.as_deref().is_some_and(is_sound_alone);
    let kind = if is_audio { Kind::Audio } else { Kind::Video };
    Ok(Rendition {
        bandwidth,
        resolution,
        codecs,
        name: attributes.text("NAME"),
        audio_group: attributes.text("AUDIO"),
        subtitles_group: attributes.text("SUBTITLES"),
        ..Rendition::new(String::new(), kind, Source::WithinVideo)
    })
}

/// Whether a list of RFC 6381 names has audio codecs, and otherwise at most text. Unknown names
/// count as video.
fn is_sound_alone(codecs: &str) -> bool {
    const SOUND: [&str; 16] = [
        "ac-3", "ac-4", "alac", "dtsc", "dtse", "dtsh", "dtsl", "dtsx", "ec-3", "flac", "mha1",
        "mhm1", "mp3", "mp4a", "opus", "vorbis",
    ];
    let is_one_of = |codec: &str, names: &[&str]| {
        let name = codec.trim().split('.').next().unwrap_or_default();
        names.iter().any(|sound| name.eq_ignore_ascii_case(sound))
    };
    codecs.split(',').any(|codec| is_one_of(codec, &SOUND))
        && codecs
            .split(',')
            .all(|codec| is_one_of(codec, &SOUND) || is_one_of(codec, &["stpp", "wvtt"]))
}

/// An id that stays the same across fetches. The query is left out because it often holds a token
/// that expires.
fn playlist_id(kind: Kind, url: &Url) -> String {
    let kind = match kind {
        Kind::Video => "video",
        Kind::Audio => "audio",
        Kind::Subtitles => "subtitles",
    };
    let url = url.as_str().split('?').next().unwrap_or_default();
    format!("{kind} {url}")
}

fn without_uri(tag: &str, line: usize) -> ManifestError {
    ManifestError::at(line, format!("{tag} has no URI after it"))
}

#[cfg(test)]
#[path = "hls_tests.rs"]
mod tests;
