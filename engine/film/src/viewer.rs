//! A film that is watched while it is downloaded.
//!
//! The download goes on as without viewers, but fetches first what one waits for, and what follows
//! that. What a viewer reads is one stream where the pieces make one (`stream`): one after the other,
//! or fragments of MP4 of several tracks merged. Otherwise it is a playlist of the pieces
//! (`playlist`).

mod playlist;
mod stream;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::container::Container;
use crate::disk::Disk;
use crate::model::{Kind, Place, Role};
pub use stream::FilmReader;
use stream::Layout;

/// Watches a film while [`crate::download`] fetches it; clones watch the same one.
#[derive(Debug, Clone, Default)]
pub struct Viewer {
    stage: Arc<Stage>,
}

/// How a film is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shown {
    /// A name for it, without directories.
    pub name: String,
    /// The type of what is read.
    pub content_type: &'static str,
    /// Whether it is one stream, as [`Viewer::reader`] reads it. Otherwise `name` is the playlist that
    /// [`Viewer::file`] tells.
    pub is_stream: bool,
}

impl Viewer {
    /// A viewer for one download.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until the film is known, and how it is shown; `None` where the download ended before.
    pub async fn opened(&self) -> Option<Shown> {
        self.stage.until(State::shown).await
    }

    /// Reads the film from its beginning. What is not there yet is fetched first and waited for.
    #[must_use]
    pub fn reader(&self) -> FilmReader {
        FilmReader::new(Arc::clone(&self.stage))
    }

    /// Waits until the stream begins, and after that at most for this time until its length is known,
    /// which is before all pieces are there, mostly after a round trip for each few dozens of them.
    pub async fn total_bytes(&self, within: Duration) -> Option<u64> {
        stream::begins(&self.stage).await.ok()?;
        tokio::time::timeout(within, stream::layout(&self.stage)).await.ok()?.ok()?.total_bytes()
    }

    /// Which pieces are there, in the order of the film; empty before it is known.
    pub async fn pieces(&self) -> Vec<bool> {
        let film = self.stage.lock().film.clone();
        match film {
            Some(film) => stream::pieces(&film).await,
            None => Vec::new(),
        }
    }

    /// A file of a film that is shown as a playlist: a playlist or a piece. What is not there yet is
    /// fetched first and waited for.
    ///
    /// # Errors
    /// Of kind `NotFound` where there is no such file, and others where a piece cannot be had.
    pub async fn file(&self, name: &str) -> io::Result<(&'static str, Vec<u8>)> {
        playlist::file(&self.stage, name).await
    }
}

/// What viewers and the download tell each other.
#[derive(Debug)]
pub(crate) struct Stage {
    state: Mutex<State>,
    /// Changes when the state does, or what is stored.
    changed: watch::Sender<()>,
    /// Somebody waits for a piece.
    wanted: Notify,
}

#[derive(Default)]
struct State {
    film: Option<Arc<Staged>>,
    form: Option<Form>,
    layout: Option<Arc<Layout>>,
    wants: Vec<Place>,
    holes: BTreeSet<Place>,
    /// Whether the download has ended.
    has_ended: bool,
}

/// The film as the manifest tells it.
pub(crate) struct Staged {
    /// What the output is called.
    pub(crate) name: String,
    pub(crate) disk: Arc<Mutex<Disk>>,
    pub(crate) reels: Vec<StagedReel>,
}

/// One reel of pictures or sound.
pub(crate) struct StagedReel {
    pub(crate) track: usize,
    pub(crate) kind: Kind,
    pub(crate) language: Option<String>,
    /// The role of each piece, and how long it lasts.
    pub(crate) pieces: Vec<(Role, Duration)>,
}

/// How pieces become what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One after the other.
    Joined(Container),
    /// Fragments of MP4 with one initialization.
    Merged,
    /// A playlist of them.
    Playlist(Container),
}

impl Form {
    /// `container` tells what a reel is, as far as that is known.
    fn of(film: &Staged, container: impl Fn(usize) -> Option<Container>) -> Option<Self> {
        let mut tracks: Vec<Option<Option<Container>>> = Vec::new();
        let mut is_one_reel_each = true;
        for (index, reel) in film.reels.iter().enumerate() {
            tracks.resize(tracks.len().max(reel.track + 1), None);
            match &mut tracks[reel.track] {
                // The later reels of a track are what its first is.
                Some(_) => is_one_reel_each = false,
                none => *none = Some(container(index)),
            }
        }
        let tracks: Vec<Container> = tracks.into_iter().flatten().collect::<Option<_>>()?;
        let are_fragments = tracks.iter().all(|it| *it == Container::Mp4)
            && film
                .reels
                .iter()
                .all(|reel| reel.pieces.first().is_some_and(|it| it.0 == Role::Init));
        Some(match tracks[..] {
            _ if is_one_reel_each && are_fragments => Self::Merged,
            [one] if is_one_reel_each || one == Container::TransportStream => Self::Joined(one),
            _ => Self::Playlist(*tracks.first()?),
        })
    }
}

impl State {
    fn shown(&self) -> Option<Shown> {
        let (film, form) = (self.film.as_ref()?, self.form?);
        let stem = Path::new(&film.name).file_stem().unwrap_or_default().to_string_lossy();
        let (container, is_stream) = match form {
            Form::Joined(container) => (Some(container), true),
            Form::Merged => (Some(Container::Mp4), true),
            Form::Playlist(_) => (None, false),
        };
        let is_sound = film.reels.iter().all(|reel| reel.kind == Kind::Audio);
        Some(Shown {
            name: format!("{stem}.{}", container.map_or("m3u8", Container::extension)),
            content_type: container.map_or(playlist::TYPE, |it| it.content_type(is_sound)),
            is_stream,
        })
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()), wanted: Notify::new() }
    }
}

impl Stage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.send_replace(());
    }

    /// Waits for an answer; `None` where the download ends without one.
    async fn until<T>(&self, answer: impl Fn(&State) -> Option<T>) -> Option<T> {
        let mut changes = self.changed.subscribe();
        loop {
            {
                let state = self.lock();
                match answer(&state) {
                    None if state.has_ended => return None,
                    None => {}
                    found => return found,
                }
            }
            changes.changed().await.ok()?;
        }
    }

    /// The bytes of a piece, which is fetched first if it is not there.
    async fn piece(&self, film: &Staged, place: Place) -> io::Result<Vec<u8>> {
        let mut changes = self.changed.subscribe();
        loop {
            changes.mark_unchanged();
            let disk = Arc::clone(&film.disk);
            let read = tokio::task::spawn_blocking(move || {
                let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
                disk.stores.get_mut(place.0).and_then(Option::as_mut).map(|it| it.read(place.1))
            });
            if let Some(bytes) = read.await?.transpose().map_err(io::Error::other)?.flatten() {
                return Ok(bytes);
            }
            let missing = |why: &str| io::Error::new(io::ErrorKind::UnexpectedEof, why);
            {
                let mut state = self.lock();
                if state.holes.contains(&place) {
                    return Err(missing("the piece is missing"));
                }
                if state.has_ended {
                    return Err(missing("the download has ended without the piece"));
                }
                state.wants.push(place);
            }
            self.wanted.notify_one();
            if changes.changed().await.is_err() {
                return Err(missing("the download has ended"));
            }
        }
    }

    /// How long each piece of these reels is, as far as that is known.
    async fn lens(&self, film: &Staged) -> io::Result<Vec<Vec<Option<u64>>>> {
        let (disk, reels) = (Arc::clone(&film.disk), film.reels.len());
        let lens = tokio::task::spawn_blocking(move || {
            let disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
            let lens = disk.stores.iter().take(reels);
            lens.map(|it| it.as_ref().map(|it| it.lens().to_vec()).unwrap_or_default()).collect()
        });
        Ok(lens.await?)
    }
}

/// The download's side of a [`Viewer`].
impl Viewer {
    /// Tells what the film is made of.
    pub(crate) fn stage(&self, film: Staged) {
        self.stage.change(|state| state.film = Some(Arc::new(film)));
    }

    /// Tells that something was stored, and what each reel is as far as that is known.
    pub(crate) fn stored(&self, container: impl Fn(usize) -> Option<Container>) {
        self.stage.change(|state| {
            if let (Some(film), None) = (&state.film, state.form) {
                state.form = Form::of(film, container);
            }
        });
    }

    /// Tells that a piece will not come.
    pub(crate) fn missing(&self, place: Place) {
        self.stage.change(|state| {
            state.holes.insert(place);
        });
    }

    /// Waits until somebody waits for pieces, and returns these.
    pub(crate) async fn wants(&self) -> Vec<Place> {
        self.stage.wanted.notified().await;
        std::mem::take(&mut self.stage.lock().wants)
    }

    /// Tells that the download has ended.
    pub(crate) fn end(&self) {
        self.stage.change(|state| state.has_ended = true);
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("form", &self.form).finish_non_exhaustive()
    }
}
