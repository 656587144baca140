//! Why a film is not there.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use haul_engine::redact_url;
use url::Url;

use crate::choice::NoSuch;
use crate::model::{Kind, ManifestError, Piece, Role};

/// Why a film is not there. What was fetched of it is kept unless a variant says otherwise, and the
/// same call continues.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilmError {
    /// The manifest cannot be used.
    #[error("{url}: {error}")]
    Manifest {
        /// Where it is, without secrets.
        url: String,
        /// What is wrong with it.
        error: ManifestError,
    },
    /// A film that is no manifest's was not found again when its links had expired.
    #[error("the links have expired, and there are no others: {0}")]
    NotFound(String),
    /// The film has no such rendition.
    #[error(transparent)]
    NoSuch(#[from] NoSuch),
    /// A request that is no piece's failed, or a request could not be made.
    #[error(transparent)]
    Request(#[from] haul_engine::Error),
    /// A piece could not be fetched, for a reason that concerns all of them.
    #[error("piece {} of the {}: {error}", piece.place, piece.kind)]
    Piece {
        /// Which one.
        piece: Box<PieceName>,
        /// Why.
        error: haul_engine::Error,
    },
    /// Pieces are missing or wrong, so there is no whole film.
    #[error("{}", told(holes, *pieces))]
    Holes {
        /// In their order.
        holes: Vec<Hole>,
        /// How many pieces the film has.
        pieces: usize,
    },
    /// The output exists.
    #[error("{} exists and is not to be replaced; nothing was fetched", .0.display())]
    Exists(PathBuf),
    /// Another download has the film's checkpoint.
    #[error("another download of {} is running", .0.display())]
    Locked(PathBuf),
    /// The checkpoint beside the output is of another film, or of other renditions of it.
    #[error(
        "{} is of another film, or of another quality or language of this one; nothing was changed",
        .0.display()
    )]
    OtherFilm(PathBuf),
    /// What an earlier run left are not the pieces that there are now.
    #[error(
        "{} holds pieces of a film that has changed since: its pieces are other ones now, or a live \
         playlist has dropped them; nothing was changed",
        .0.display()
    )]
    Changed(PathBuf),
    /// A local file cannot be used.
    #[error("cannot {act} {}: {error}", path.display())]
    Local {
        /// What was to be done.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// ffmpeg is needed to make one file and failed, or is not there.
    #[error("{message}; the tracks are kept: {}", listed(tracks))]
    Join {
        /// What happened.
        message: String,
        /// The files that are whole.
        tracks: Vec<PathBuf>,
    },
    /// The film cannot be kept in this form.
    #[error("{0}")]
    Unsupported(String),
}

/// A piece that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// Which one.
    pub piece: PieceName,
    /// Why.
    pub why: String,
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PieceName { kind, place, url } = &self.piece;
        match self.why.contains(url.as_str()) {
            true => write!(f, "piece {place} of the {kind}: {}", self.why),
            false => write!(f, "piece {place} of the {kind}, {url}: {}", self.why),
        }
    }
}

/// How a piece is called in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceName {
    /// What its track is for.
    pub kind: Kind,
    /// Its place in the track, from 1.
    pub place: usize,
    /// Its URL, without secrets.
    pub url: String,
}

impl PieceName {
    pub(crate) fn of(kind: Kind, index: usize, piece: &Piece) -> Self {
        let mut url = redact_url(piece.url.as_str());
        if piece.role == Role::Init {
            url.push_str(" (initialization)");
        }
        Self { kind, place: index + 1, url }
    }
}

impl fmt::Display for PieceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "piece {} of the {}, {}", self.place, self.kind, self.url)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Subtitles => "subtitles",
        })
    }
}

impl FilmError {
    pub(crate) fn local(act: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Local { act, path: path.to_owned(), error }
    }

    pub(crate) fn manifest(url: &Url, error: ManifestError) -> Self {
        Self::Manifest { url: redact_url(url.as_str()), error }
    }
}

/// As many holes as are named; there may be thousands.
const NAMED_HOLES: usize = 5;

fn told(holes: &[Hole], pieces: usize) -> String {
    let named: Vec<String> = holes.iter().take(NAMED_HOLES).map(Hole::to_string).collect();
    let more = match holes.len().saturating_sub(NAMED_HOLES) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!(
        "{} of {pieces} pieces did not come, so no film was made: {}{more}",
        holes.len(),
        named.join("; ")
    )
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
