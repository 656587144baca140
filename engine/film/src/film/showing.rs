//! Showing a film while it is fetched: what it is made of, and what a viewer waits for.

use std::collections::BTreeSet;
use std::future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Came, Run};
use crate::container::Container;
use crate::error::FilmError;
use crate::fetch::Promises;
use crate::model::{Kind, Piece, Place, Role};
use crate::mp4::{self, Indexed};
use crate::viewer::{Staged, StagedReel, Viewer};
use crate::watch::Watch;

/// How many lengths are asked for at once.
const PROBES_AT_ONCE: usize = 16;
/// Most files have their index within so many bytes.
const INDEX_WITHIN_BYTES: u64 = 32 << 10;
/// The index of ten hours in parts of two seconds has 210 KiB.
const MAX_INDEX_BYTES: u64 = 4 << 20;
/// A piece that somebody waits for may have so many connections.
const HURRIED_CONNECTIONS: usize = 4;
/// While somebody waits, no more bytes are under way than these, but for a piece of each kind: what
/// is waited for has the line nearly to itself, and a far server is still kept busy.
const HURRIED_BYTES: u64 = 1 << 20;

/// What those who watch wait for, and which pieces give way to that.
#[derive(Debug, Default)]
pub(super) struct Audience {
    hurried: BTreeSet<Place>,
    slowed: BTreeSet<Place>,
    /// As many pieces are needed before anything can be shown.
    least: usize,
}

impl Audience {
    /// How many connections a piece begins with.
    pub(super) fn connections(&self, place: Place) -> usize {
        if self.hurried.contains(&place) { HURRIED_CONNECTIONS } else { 1 }
    }

    /// Whether another piece of about so many bytes may be begun beside those that run.
    pub(super) fn may_start(&self, running: &BTreeSet<Place>, bytes: u64, at_once: usize) -> bool {
        if self.hurried.is_empty() {
            return running.len() < at_once;
        }
        let fast = running.difference(&self.slowed).count();
        let most = usize::try_from(HURRIED_BYTES / bytes.max(1)).unwrap_or(usize::MAX);
        fast < most.max(self.least).min(at_once)
    }

    /// A piece has ended. When nobody waits any more, nothing gives way.
    pub(super) fn ended(&mut self, place: Place, watch: &Watch) {
        self.slowed.remove(&place);
        if self.hurried.remove(&place) && self.hurried.is_empty() {
            self.slowed.clear();
            watch.slow(&self.slowed);
        }
    }
}

/// Tells the viewer of the end when it is dropped.
pub(super) struct Ends(Viewer);

impl Ends {
    pub(super) fn new(viewer: &Viewer) -> Self {
        Self(viewer.clone())
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// What a viewer waits for; never where there is none.
pub(super) async fn wants(viewer: Option<&Viewer>) -> Vec<Place> {
    match viewer {
        Some(viewer) => viewer.wants().await,
        None => future::pending().await,
    }
}

impl Run {
    /// Makes pieces of tracks that are one file each, by the index in it: a viewer cannot wait for a
    /// whole file. One without an index stays as it is.
    pub(super) async fn cut(&mut self) {
        if self.options.viewer.is_none() {
            return;
        }
        for track in 0..self.selected.len() {
            let [whole] = &self.selected[track].track.pieces[..] else { continue };
            if whole.range.is_some() || whole.key.is_some() || whole.is_gap {
                continue;
            }
            let whole = whole.clone();
            let Some((init_end, parts)) = self.index_of(&whole).await else { continue };
            let piece = |role, (sequence, (range, duration))| Piece {
                range: Some(range),
                role,
                sequence,
                duration,
                ..whole.clone()
            };
            let init = piece(Role::Init, (0, (0..init_end, Duration::ZERO)));
            let media = (0..).zip(parts).map(|part| piece(Role::Media, part));
            self.selected[track].track.pieces = std::iter::once(init).chain(media).collect();
        }
    }

    async fn index_of(&self, whole: &Piece) -> Option<(u64, Vec<(Range<u64>, Duration)>)> {
        let mut bytes = INDEX_WITHIN_BYTES;
        loop {
            let beginning = self.fetcher.beginning(whole, bytes).await?;
            match mp4::indexed(&beginning) {
                Indexed::Parts(init_end, parts) => return Some((init_end, parts)),
                Indexed::Needs(more) if more > bytes && more <= MAX_INDEX_BYTES => bytes = more,
                Indexed::Needs(_) | Indexed::No => return None,
            }
        }
    }

    /// Tells the viewer what the film is made of.
    pub(super) fn show(&mut self) -> Result<(), FilmError> {
        let (Some(viewer), Some(disk)) = (&self.options.viewer, &self.disk) else { return Ok(()) };
        let cannot = |why: &str| {
            let text = format!("{why}, and haul does not play such films: download it");
            Err(FilmError::Unsupported(text))
        };
        if self.is_live() {
            return cannot("the film is live");
        }
        // Text is beside the film, and its reels are the last.
        let media = self.reels.iter().take_while(|reel| reel.kind != Kind::Subtitles);
        let reels: Vec<StagedReel> = media
            .map(|reel| StagedReel {
                track: reel.track,
                kind: reel.kind,
                language: self.selected[reel.track].language.clone(),
                pieces: reel.pieces.iter().map(|it| (it.role, it.duration)).collect(),
            })
            .collect();
        if reels.is_empty() {
            return cannot("it has neither pictures nor sound");
        }
        let name = self.output.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Of each track its initialization and its first piece.
        let has_init = |reel: &StagedReel| reel.pieces.first().is_some_and(|it| it.0 == Role::Init);
        self.audience.least = reels.iter().map(|reel| 1 + usize::from(has_init(reel))).sum();
        self.audience.hurried = self.queue.iter().take(self.audience.least).copied().collect();
        viewer.stage(Staged { name, disk: Arc::clone(disk), reels });
        self.tell_viewer();
        Ok(())
    }

    /// Tells the viewer that something was stored.
    pub(super) fn tell_viewer(&self) {
        if let Some(viewer) = &self.options.viewer {
            let containers: Vec<Option<Container>> =
                self.reels.iter().map(|reel| reel.container).collect();
            viewer.stored(&containers);
        }
    }

    /// Fetches what somebody waits for before anything else, and then what follows it.
    pub(super) fn attend(
        &mut self,
        wanted: &[Place],
        promises: &Promises,
        tasks: &mut JoinSet<Came>,
    ) {
        for place in wanted {
            if self.running.contains(place) {
                self.audience.hurried.insert(*place);
                if self.audience.slowed.remove(place) {
                    self.watch.slow(&self.audience.slowed);
                }
                continue;
            }
            if !self.queue.contains(place) {
                continue;
            }
            self.queue_missing();
            let Some(at) = self.queue.iter().position(|it| it == place) else { continue };
            self.queue.rotate_left(at);
            if self.running.len() < 2 * self.at_once() {
                self.audience.slowed.clone_from(&self.running);
                self.audience.hurried.insert(*place);
                self.queue.pop_front();
                self.start_piece(*place, promises, tasks);
            } else {
                // Room comes when they end.
                self.audience.slowed.clear();
            }
            self.watch.slow(&self.audience.slowed);
        }
    }

    /// Asks for the lengths of all pieces that are not asked for yet: with these each piece has its
    /// place, and a viewer can go to any. The lengths come as promises.
    pub(super) fn probe_lengths(&self, promises: &Promises) -> JoinSet<()> {
        let mut unknown = Vec::new();
        if let Some(disk) = self.lock_disk() {
            for (reel, at) in &self.queue {
                let piece = &self.reels[*reel].pieces[*at];
                let lens = disk.stores[*reel].as_ref().map(|store| store.lens()[*at]);
                if lens == Some(None) && !piece.is_gap {
                    unknown.push(((*reel, *at), piece.clone()));
                }
            }
        }
        unknown.reverse();
        let shared = Arc::new(std::sync::Mutex::new(unknown));
        let mut probes = JoinSet::new();
        for _ in 0..PROBES_AT_ONCE {
            let (shared, fetcher) = (Arc::clone(&shared), Arc::clone(&self.fetcher));
            let promises = promises.clone();
            probes.spawn(async move {
                loop {
                    let next =
                        shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
                    let Some(((reel, at), piece)) = next else { return };
                    // Without it, the length is known when the piece is there.
                    if let Some(bytes) = fetcher.length(&piece).await {
                        let _ = promises.send((reel, at, bytes));
                    }
                }
            });
        }
        probes
    }
}
