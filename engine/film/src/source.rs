//! From a manifest's URL to the tracks of a film: fetching manifests, choosing renditions, and
//! fetching them again when links have expired or a live film has gone on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use haul_engine::storage::MemoryStorage;
use haul_engine::{DownloadBuilder, Error};
use url::Url;

use crate::choice::{Chosen, Wanted, choose};
use crate::error::FilmError;
use crate::model::{Film, Kind, ManifestError, Rendition, Source, Track, Variables};
use crate::{dash, hls};

/// No manifest is longer, in bytes: a film of ten hours in pieces of two seconds takes 4 MiB.
const MAX_MANIFEST_BYTES: usize = 16 << 20;

/// Makes the requests of a film: the caller decides what they carry.
pub trait Requests: Send + Sync {
    /// A download of this URL, with headers, logins, cookies, patience and limits as they are to
    /// be. Where it goes, its range and its mirrors are set by the film.
    ///
    /// # Errors
    /// Where this URL must not be requested.
    fn request(&self, url: &Url) -> Result<DownloadBuilder, Error>;

    /// Whether this URL may be requested at all. What a manifest names may be of another scheme.
    fn allows(&self, url: &Url) -> bool {
        let _ = url;
        true
    }
}

/// Finds a film that no manifest describes as a whole, such as one in a page.
pub trait Finder: Send + Sync {
    /// What the film is known by, such as the page. It is not requested, and of its text only the
    /// last component of the path is used.
    fn url(&self) -> &Url;

    /// Finds it again, with links that work now. Renditions are known by their ids.
    fn find(&self) -> Finding<'_>;
}

/// What [`Finder::find`] returns: the film, or why it was not found, which is shown to the user and
/// must not contain a secret.
pub type Finding<'a> = Pin<Box<dyn Future<Output = Result<Film, String>> + Send + 'a>>;

/// Where a film comes from.
#[derive(Clone)]
pub(crate) enum Origin {
    /// A manifest.
    Manifest(Url),
    /// Somebody else knows.
    Found(Arc<dyn Finder>),
}

impl Origin {
    async fn film(&self, requests: &dyn Requests) -> Result<Film, FilmError> {
        match self {
            Self::Manifest(url) => read_manifest(requests, url).await,
            Self::Found(finder) => finder.find().await.map_err(FilmError::NotFound),
        }
    }

    /// The manifest, or what stands for it: without a query, which no piece may inherit.
    pub(crate) fn url(&self) -> Url {
        match self {
            Self::Manifest(url) => url.clone(),
            Self::Found(finder) => {
                let mut url = finder.url().clone();
                url.set_query(None);
                url
            }
        }
    }
}

/// A rendition that was chosen, with its pieces.
#[derive(Debug, Clone)]
pub(crate) struct Selected {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) language: Option<String>,
    /// What tells it from other renditions of the film, and stays the same where links change.
    pub(crate) traits: String,
    /// Where its own playlist is, if it has one.
    pub(crate) playlist: Option<Url>,
    /// What that may import.
    pub(crate) variables: Arc<Variables>,
    pub(crate) track: Track,
}

/// Fetches a manifest, without the renditions' own playlists.
///
/// # Errors
/// When it cannot be fetched or understood.
pub async fn read_manifest(requests: &dyn Requests, url: &Url) -> Result<Film, FilmError> {
    read_importing(requests, url, &Variables::new()).await
}

async fn read_importing(
    requests: &dyn Requests,
    url: &Url,
    imports: &Variables,
) -> Result<Film, FilmError> {
    if !requests.allows(url) {
        let why = format!("its scheme, {}, is not allowed", url.scheme());
        return Err(FilmError::manifest(url, ManifestError::whole(why)));
    }
    let memory = MemoryStorage::new(MAX_MANIFEST_BYTES);
    let download = requests
        .request(url)?
        .digest(false)
        .max_size_bytes(MAX_MANIFEST_BYTES as u64)
        .store_in(Arc::new(memory.clone()))
        .start()?;
    download.wait().await?;
    // What is relative in it is relative to where it came from. Queries are not told, and matter
    // nothing for that.
    let base = download.metadata().and_then(|found| Url::parse(&found.url).ok());
    let base = match base {
        Some(found) if found.path() != url.path() || found.origin() != url.origin() => found,
        _ => url.clone(),
    };
    let bytes = memory.take();
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        FilmError::manifest(url, ManifestError::at(line + 1, "is not UTF-8 text"))
    })?;
    parse(&text, &base, imports).map_err(|error| FilmError::manifest(url, error))
}

fn parse(text: &str, base: &Url, imports: &Variables) -> Result<Film, ManifestError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with('<') {
        return hls::parse_importing(text, base, imports);
    }
    let film = dash::parse(text, base)?;
    let is_live = |it: &Rendition| matches!(&it.source, Source::Track(track) if !track.is_complete);
    match film.renditions.iter().any(is_live) {
        // Its pieces have no numbers that stay the same when it is fetched again.
        true => Err(ManifestError::whole("the film is live, and live DASH is not followed")),
        false => Ok(film),
    }
}

/// Fetches the playlists of what is wanted of a film.
///
/// # Errors
/// As [`read_manifest`], and where there is no such rendition.
pub(crate) async fn select(
    requests: &dyn Requests,
    film: &Film,
    wanted: &Wanted,
) -> Result<Vec<Selected>, FilmError> {
    let Chosen { video, audio, subtitles } = choose(film, wanted)?;
    let chosen: Vec<&Rendition> = [video, audio, subtitles]
        .into_iter()
        .flatten()
        .filter(|it| it.source != Source::WithinVideo)
        .collect();
    load(requests, &chosen, &film.variables).await
}

/// Has the film again, and as [`select`] the renditions that were chosen before.
///
/// # Errors
/// As [`select`], and [`FilmError::NotFound`]; a rendition that is not there any more is malformed.
pub(crate) async fn select_again(
    requests: &dyn Requests,
    origin: &Origin,
    before: &[Selected],
) -> Result<Vec<Selected>, FilmError> {
    let film = origin.film(requests).await?;
    let find = |old: &Selected| {
        let of_kind = || film.renditions.iter().filter(|new| new.kind == old.kind);
        // Where a token is part of a path, everything is called otherwise.
        let found = of_kind()
            .find(|new| new.id == old.id)
            .or_else(|| of_kind().find(|new| traits(new) == old.traits));
        found.ok_or_else(|| {
            let why = format!("the {} that was chosen is not in it any more", old.kind);
            FilmError::manifest(&origin.url(), ManifestError::whole(why))
        })
    };
    let chosen = before.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    load(requests, &chosen, &film.variables).await
}

fn traits(rendition: &Rendition) -> String {
    let Rendition { kind, resolution, bandwidth, language, name, .. } = rendition;
    format!("{kind} {resolution:?} {bandwidth:?} {language:?} {name:?}")
}

async fn load(
    requests: &dyn Requests,
    chosen: &[&Rendition],
    variables: &Variables,
) -> Result<Vec<Selected>, FilmError> {
    let variables = Arc::new(variables.clone());
    let mut selected = Vec::with_capacity(chosen.len());
    for rendition in chosen {
        let (playlist, track) = match &rendition.source {
            Source::Track(track) => (None, track.clone()),
            Source::Playlist(url) => {
                (Some(url.clone()), playlist(requests, url, &variables).await?)
            }
            Source::WithinVideo => continue,
        };
        selected.push(Selected {
            id: rendition.id.clone(),
            kind: rendition.kind,
            language: rendition.language.clone(),
            traits: traits(rendition),
            playlist,
            variables: Arc::clone(&variables),
            track,
        });
    }
    Ok(selected)
}

/// The track of a media playlist.
///
/// # Errors
/// As [`read_manifest`].
pub(crate) async fn playlist(
    requests: &dyn Requests,
    url: &Url,
    imports: &Variables,
) -> Result<Track, FilmError> {
    let film = read_importing(requests, url, imports).await?;
    match film.renditions.into_iter().next().map(|first| first.source) {
        Some(Source::Track(track)) => Ok(track),
        _ => {
            let why = "a playlist of pieces was expected, and this one names other playlists";
            Err(FilmError::manifest(url, ManifestError::whole(why)))
        }
    }
}
