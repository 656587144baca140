//! Showing a film while it is fetched: what it is made of, and what a viewer waits for.

use std::collections::BTreeSet;
use std::future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Came, MEMORY_BYTES, Run};
use crate::error::FilmError;
use crate::fetch::{MAX_PIECE_BYTES, Promises};
use crate::model::{Kind, Piece, Place, Role};
use crate::mp4::{self, Indexed};
use crate::viewer::{Staged, StagedReel, Viewer};

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
/// Who has waited within this time will soon wait again.
const CALM_AFTER: Duration = Duration::from_secs(1);

/// What those who watch wait for, and which pieces give way to that.
#[derive(Debug, Default)]
pub(super) struct Audience {
    /// What was waited for last, and when it was.
    last: Option<(Place, Instant)>,
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

    fn is_tense(&self) -> bool {
        !self.hurried.is_empty() || self.last.is_some_and(|(_, at)| at.elapsed() < CALM_AFTER)
    }

    /// When nobody has waited for long enough; never while somebody waits or nothing gives way.
    pub(super) async fn calm(&self) {
        match self.last {
            Some((_, at)) if self.hurried.is_empty() && !self.slowed.is_empty() => {
                tokio::time::sleep_until(at + CALM_AFTER).await;
            }
            _ => future::pending().await,
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

fn cannot(why: &str) -> FilmError {
    FilmError::Unsupported(format!("{why}, and haul does not play such films: download it"))
}

impl Run {
    /// Makes pieces of tracks that are one file each, by the index in it: a viewer cannot wait for a
    /// whole file. One without an index stays as it is.
    ///
    /// # Errors
    /// For one without an index that is too long for a piece.
    pub(super) async fn cut(&mut self) -> Result<(), FilmError> {
        if self.options.viewer.is_none() {
            return Ok(());
        }
        for track in 0..self.selected.len() {
            let [whole] = &self.selected[track].track.pieces[..] else { continue };
            if whole.range.is_some() || whole.key.is_some() || whole.is_gap {
                continue;
            }
            let whole = whole.clone();
            // Where its server does not tell, it is fetched like a piece.
            let Some(object_bytes) = self.fetcher.object_bytes(&whole).await else { continue };
            let Some((init_end, parts)) = self.index_of(&whole, object_bytes).await else {
                if object_bytes > MAX_PIECE_BYTES {
                    return Err(cannot("a track is one file without an index at its beginning"));
                }
                continue;
            };
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
        Ok(())
    }

    async fn index_of(
        &self,
        whole: &Piece,
        object_bytes: u64,
    ) -> Option<(u64, Vec<(Range<u64>, Duration)>)> {
        let mut bytes = INDEX_WITHIN_BYTES;
        loop {
            let beginning = self.fetcher.part(whole, 0..bytes.min(object_bytes)).await?;
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
        if self.is_live() {
            return Err(cannot("the film is live"));
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
            return Err(cannot("it has neither pictures nor sound"));
        }
        let name = self.output.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Of each track its initialization and its first piece.
        let has_init = |reel: &StagedReel| reel.pieces.first().is_some_and(|it| it.0 == Role::Init);
        self.audience.least = reels.iter().map(|reel| 1 + usize::from(has_init(reel))).sum();
        self.audience.hurried = self.queue.iter().take(self.audience.least).copied().collect();
        self.audience.last = self.queue.front().map(|first| (*first, Instant::now()));
        viewer.stage(Staged { name, disk: Arc::clone(disk), reels });
        self.tell_viewer();
        Ok(())
    }

    /// Tells the viewer that something was stored.
    pub(super) fn tell_viewer(&self) {
        if let Some(viewer) = &self.options.viewer {
            viewer.stored(|reel| self.reels[reel].container);
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
            let is_running = self.running.contains(place);
            if !is_running && !self.queue.contains(place) {
                continue;
            }
            self.audience.last = Some((*place, Instant::now()));
            self.audience.hurried.insert(*place);
            if is_running {
                continue;
            }
            self.queue_missing();
            let Some(at) = self.queue.iter().position(|it| it == place) else { continue };
            // What has no place yet is held in memory. When that is full, the places come first.
            if self.held_bytes() <= MEMORY_BYTES {
                self.queue.rotate_left(at);
            } else if let Some(wanted) = self.queue.remove(at) {
                self.queue.push_front(wanted);
            }
            // What gives way holds memory, too.
            if self.running.len() < 2 * self.at_once() {
                self.queue.pop_front();
                self.start_piece(*place, promises, tasks);
            }
        }
        self.make_way();
    }

    /// Something has come, or is not going to.
    pub(super) fn ended(&mut self, place: Place) {
        if self.options.viewer.is_some() {
            if self.audience.hurried.remove(&place) {
                // What follows is likely to be waited for at once.
                self.audience.last = Some((place, Instant::now()));
            }
            self.make_way();
        }
    }

    /// Has the pieces that are under way give way to what is waited for and what follows it.
    pub(super) fn make_way(&mut self) {
        let fast = match self.audience.last {
            Some((last, _)) if self.audience.is_tense() => {
                let from = self.begins(last);
                let mut running: Vec<_> = self
                    .running
                    .iter()
                    .map(|place| {
                        let begins = self.begins(*place);
                        (!self.audience.hurried.contains(place), begins < from, begins, *place)
                    })
                    .collect();
                running.sort();
                let mut bytes = 0u64;
                let running = running.into_iter().enumerate();
                let fast = running.take_while(|(count, (.., place))| {
                    bytes = bytes.saturating_add(self.bytes_of(*place));
                    *count < self.audience.least || bytes <= HURRIED_BYTES
                });
                fast.map(|(_, it)| it.3).collect()
            }
            _ => self.running.clone(),
        };
        self.audience.slowed = self.running.difference(&fast).copied().collect();
        self.watch.slow(&self.audience.slowed);
    }

    /// Whether another piece leaves those enough of the line that somebody waits for.
    pub(super) fn may_start_beside_hurried(&self) -> bool {
        let Some(front) = self.queue.front().filter(|_| self.audience.is_tense()) else {
            return true;
        };
        let fast = || self.running.difference(&self.audience.slowed);
        let bytes =
            fast().map(|it| self.bytes_of(*it)).fold(self.bytes_of(*front), u64::saturating_add);
        fast().count() < self.audience.least || bytes <= HURRIED_BYTES
    }

    /// How long a piece is, or may be.
    fn bytes_of(&self, (reel, at): Place) -> u64 {
        let known = self.lock_disk().and_then(|disk| disk.stores[reel].as_ref()?.lens()[at]);
        known.unwrap_or_else(|| self.unknown_bytes((reel, at)))
    }

    /// When a piece is shown.
    fn begins(&self, (reel, at): Place) -> Duration {
        let track = self.reels[reel].track;
        let before = self.reels[..reel].iter().filter(|it| it.track == track);
        let before = before.flat_map(|it| &it.pieces).chain(&self.reels[reel].pieces[..at]);
        before.map(|piece| piece.duration).sum()
    }

    /// Asks for the lengths of all pieces that are not asked for yet: with these each piece has its
    /// place, and a viewer can go to any. The lengths come as promises.
    pub(super) fn probe_lengths(&self, promises: &Promises) -> JoinSet<()> {
        let mut unknown = Vec::new();
        if let Some(disk) = self.lock_disk() {
            for (reel, at) in &self.queue {
                if self.reels[*reel].kind == Kind::Subtitles {
                    continue;
                }
                let piece = self.asked((*reel, *at));
                let lens = disk.stores[*reel].as_ref().map(|store| store.lens()[*at]);
                if lens == Some(None) && !piece.is_gap {
                    unknown.push(((*reel, *at), piece));
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
