//! Manifests that are fetched again for fresh links: once for all that ask at the same time, which
//! are pieces and objects of all tracks.

use std::sync::Arc;

use haul_engine::{Refresh, Refreshing};
use tokio::sync::Mutex;
use url::Url;

use super::may_inherit;
use crate::error::FilmError;
use crate::model::Track;
use crate::source::{self, Origin, Requests, Selected};
use crate::store::key_of;
use crate::watch::Watch;

/// How often an object gets fresh links.
const MAX_FRESH: u64 = 50;

/// The newest manifest.
pub(super) struct Links {
    requests: Arc<dyn Requests>,
    origin: Origin,
    /// See [`Origin::url`].
    url: Url,
    /// What was chosen, without its pieces.
    chosen: Vec<Selected>,
    newest: Mutex<Newest>,
    watch: Arc<Watch>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Newest {
    /// Counts the manifests: 0 is the first.
    pub(super) generation: u64,
    /// What was chosen, in the order in which it was; empty for the first manifest.
    pub(super) tracks: Arc<Vec<Selected>>,
}

impl Links {
    pub(super) fn new(
        requests: Arc<dyn Requests>,
        origin: Origin,
        selected: &[Selected],
        watch: Arc<Watch>,
    ) -> Self {
        let chosen = selected.iter().map(without_pieces).collect();
        let url = origin.url();
        Self { requests, origin, url, chosen, newest: Mutex::default(), watch }
    }

    pub(super) fn requests(&self) -> &dyn Requests {
        &*self.requests
    }

    /// A manifest newer than that of `generation`, be it one that another task has fetched
    /// meanwhile.
    ///
    /// # Errors
    /// Where it cannot be fetched, or has not the chosen renditions any more.
    pub(super) async fn newer_than(&self, generation: u64) -> Result<Newest, FilmError> {
        let mut newest = self.newest.lock().await;
        if newest.generation <= generation {
            let again = match self.origin {
                Origin::Manifest(_) => "the manifest is fetched again",
                Origin::Found(_) => "the film is looked for again",
            };
            self.watch.note(format!("links have expired: {again}"));
            let tracks = source::select_again(&*self.requests, &self.origin, &self.chosen).await?;
            *newest = Newest { generation: newest.generation + 1, tracks: Arc::new(tracks) };
        }
        Ok(newest.clone())
    }

    /// Fetches it for what is new in it.
    ///
    /// # Errors
    /// As for [`Self::newer_than`].
    pub(super) async fn read_again(&self) -> Result<Vec<Selected>, FilmError> {
        source::select_again(&*self.requests, &self.origin, &self.chosen).await
    }
}

/// A rendition without its pieces.
pub(super) fn without_pieces(one: &Selected) -> Selected {
    let Selected { id, kind, language, traits, playlist, variables, track } = one;
    let Track { is_complete, target_duration, .. } = *track;
    Selected {
        id: id.clone(),
        kind: *kind,
        language: language.clone(),
        traits: traits.clone(),
        playlist: playlist.clone(),
        variables: Arc::clone(variables),
        track: Track { pieces: Vec::new(), is_complete, target_duration },
    }
}

/// Fresh links for an object that is a reel.
pub(super) struct ObjectLinks {
    pub(super) links: Arc<Links>,
    /// The rendition, and the first of the pieces that the object is.
    pub(super) track: usize,
    pub(super) piece: String,
    pub(super) known: Mutex<u64>,
}

impl Refresh for ObjectLinks {
    fn refresh<'a>(&'a self, url: &'a str) -> Refreshing<'a> {
        Box::pin(async move {
            let mut known = self.known.lock().await;
            // A manifest's token may be meant for what it names.
            if let Ok(mut expired) = Url::parse(url)
                && *known == 0
                && may_inherit(&self.links.url, &expired)
            {
                expired.set_query(self.links.url.query());
                return Ok(expired.into());
            }
            if *known >= MAX_FRESH {
                return Err("fresh links from the manifest are refused, too".into());
            }
            let newest = self.links.newer_than(*known).await.map_err(Box::new)?;
            *known = newest.generation;
            let pieces = newest.tracks.get(self.track).map(|it| &it.track.pieces[..]);
            let piece = pieces.unwrap_or_default().iter().find(|it| key_of(it) == self.piece);
            let piece = piece.ok_or("the manifest does not name it any more")?;
            Ok(piece.url.as_str().to_owned())
        })
    }
}
