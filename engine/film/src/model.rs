//! What a manifest says, whatever its format: renditions to choose from, and the pieces that each
//! of them is made of, in their order. Nothing here knows sockets, files or clocks.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use url::Url;

/// A film as its manifest offers it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Film {
    /// In the order of the manifest. A playlist that offers no choice is one rendition.
    pub renditions: Vec<Rendition>,
    /// What its playlists may import (EXT-X-DEFINE).
    pub variables: Variables,
}

/// Values of a playlist by their names.
pub type Variables = BTreeMap<String, String>;

/// What a rendition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Moving pictures, and sound with them unless the rendition names an audio group.
    Video,
    /// Sound alone.
    Audio,
    /// Text to be shown with the pictures.
    Subtitles,
}

/// One way to see, hear or read the film.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// What it is called in the manifest, the same when the manifest is fetched again: the id of a
    /// DASH representation, or the kind and the URI without query of an HLS playlist.
    pub id: String,
    /// What it is for.
    pub kind: Kind,
    /// The most bits a second that it takes, as far as the manifest tells.
    pub bandwidth: Option<u64>,
    /// Width and height of the pictures in pixels.
    pub resolution: Option<(u32, u32)>,
    /// RFC 6381 names, separated by commas.
    pub codecs: Option<String>,
    /// RFC 5646 tag.
    pub language: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// Whether the manifest recommends it where nobody chose.
    pub is_default: bool,
    /// The group that it belongs to, where it is sound or text and only some videos go with it.
    pub group: Option<String>,
    /// The groups of sound and of text that go with this video. `None` where the manifest names
    /// none: HLS videos then have their sound within, and with DASH all go together.
    pub audio_group: Option<String>,
    /// See [`Self::audio_group`].
    pub subtitles_group: Option<String>,
    /// Where its pieces are.
    pub source: Source,
}

impl Rendition {
    /// One of which nothing is known but this.
    #[must_use]
    pub fn new(id: String, kind: Kind, source: Source) -> Self {
        Self {
            id,
            kind,
            bandwidth: None,
            resolution: None,
            codecs: None,
            language: None,
            name: None,
            is_default: false,
            group: None,
            audio_group: None,
            subtitles_group: None,
            source,
        }
    }
}

/// Where the pieces of a rendition are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In a media playlist of its own.
    Playlist(Url),
    /// In the manifest itself.
    Track(Track),
    /// Nowhere: this sound is part of the videos that name its group.
    WithinVideo,
}

/// The pieces of one rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// In the order in which they make the track: an initialization comes before the media that
    /// needs it.
    pub pieces: Vec<Piece>,
    /// Whether there will be no further pieces. If not, the manifest is to be fetched again.
    pub is_complete: bool,
    /// How long a piece lasts at most, where the manifest tells: new ones come about as often.
    pub target_duration: Option<Duration>,
}

/// What a piece contributes to its track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It describes the media after it (EXT-X-MAP, Initialization).
    Init,
    /// Media.
    Media,
}

/// One object, or a range of one, that is fetched as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it is. The fragment is left out.
    pub url: Url,
    /// Where the same piece is, too.
    pub mirrors: Vec<Url>,
    /// Its bytes in the object, half-open; `None` is all of them.
    pub range: Option<Range<u64>>,
    /// What it is encrypted with.
    pub key: Option<Key>,
    /// What it contributes.
    pub role: Role,
    /// Its number in its track, the same when the manifest is fetched again: the media sequence
    /// number of HLS, or a count of the media from 0 for DASH. An initialization has the number of
    /// the media after it.
    pub sequence: u64,
    /// How many breaks come before it (EXT-X-DISCONTINUITY, periods): timestamps may start over and
    /// codecs change there.
    pub part: u32,
    /// How long it lasts. Zero for an initialization.
    pub duration: Duration,
    /// Whether the manifest says that it is missing (EXT-X-GAP).
    pub is_gap: bool,
}

/// A stretch of a track that is a file of its own, and a piece of it.
pub(crate) type Place = (usize, usize);

/// AES-128 in CBC mode with PKCS #7 padding over a whole piece (RFC 8216 section 4.3.2.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Where its 16 bytes are.
    pub url: Url,
    /// The initialization vector, from the manifest or made of the sequence number.
    pub iv: [u8; 16],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It cannot be understood.
    #[error("{}{message}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
    Malformed {
        /// The line, from 1, where one can be named.
        line: Option<usize>,
        /// What is wrong, quoting what is there.
        message: String,
    },
    /// The film is encrypted for the players of a DRM system.
    #[error("the film is protected by {system} (DRM): only licensed players can show it")]
    Protected {
        /// For people: "Widevine", "FairPlay", "PlayReady", "SAMPLE-AES".
        system: String,
    },
}

impl ManifestError {
    /// A fault at a line, counted from 1.
    pub(crate) fn at(line: usize, message: impl Into<String>) -> Self {
        Self::Malformed { line: Some(line), message: message.into() }
    }

    /// A fault of the whole.
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self::Malformed { line: None, message: message.into() }
    }
}
