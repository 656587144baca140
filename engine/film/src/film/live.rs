//! Manifests that are fetched again: for fresh links, and for what a live film has gained.

use std::collections::BTreeMap;
use std::time::Duration;

use haul_engine::ErrorKind;
use tokio::time::Instant;

use super::links::{Links, without_pieces};
use super::{Form, Run, recorded};
use crate::disk::Disk;
use crate::error::FilmError;
use crate::model::{Piece, Role, Track};
use crate::reel::Next;
use crate::source::{self, Selected};
use crate::store::{TrackStore, key_of};

/// A live film whose playlist cannot be fetched for this long has ended badly.
pub(super) const MAX_OUTAGE: Duration = Duration::from_secs(600);
/// How often a live playlist is fetched at most and at least.
const POLL: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];

/// Where players begin with a live film: so many pieces before its end (RFC 8216 section 6.3.3).
const LAST_PIECES: usize = 3;

/// Leaves out what a viewer who comes now would not see of a live track.
pub(super) fn from_now(track: &mut Track) {
    let media = track.pieces.iter().enumerate().filter(|(_, piece)| piece.role == Role::Media);
    let Some((first, _)) = media.rev().nth(LAST_PIECES - 1).filter(|_| !track.is_complete) else {
        return;
    };
    let (sequence, part) = (track.pieces[first].sequence, track.pieces[first].part);
    let init = track.pieces[..first].iter().rfind(|piece| piece.role == Role::Init);
    let init = init.map(|init| Piece { sequence, part, ..init.clone() });
    track.pieces.drain(..first);
    track.pieces.splice(0..0, init);
}

impl Run {
    /// The renditions that are live, with the URL of their own playlists.
    pub(super) fn live_playlists(&self) -> Vec<(usize, Selected)> {
        let all = self.selected.iter().cloned().enumerate();
        all.filter(|(_, selected)| !selected.track.is_complete).collect()
    }

    /// Takes what [`poll`] has brought. A playlist that cannot be had is an outage, which may pass.
    pub(super) fn polled(
        &mut self,
        polled: Result<Vec<(usize, Selected)>, FilmError>,
        outage_since: &mut Option<Instant>,
    ) -> Result<(), FilmError> {
        let renewed = polled.and_then(|polled| {
            let mut each = polled.iter();
            each.try_for_each(|(track, new)| self.renew(*track, new))
        });
        match renewed {
            Ok(()) if self.last_came.elapsed() > MAX_OUTAGE => {
                return Err(FilmError::Unsupported(
                    "the live playlist has had nothing new for ten minutes, and does \
                     not say that the film has ended"
                        .to_owned(),
                ));
            }
            Ok(()) => *outage_since = None,
            Err(error) => {
                let since = *outage_since.get_or_insert_with(Instant::now);
                if !may_pass(&error) || since.elapsed() > MAX_OUTAGE {
                    return Err(error);
                }
            }
        }
        self.queue_missing();
        self.tell_progress();
        Ok(())
    }

    /// Takes the links of a manifest that was fetched again, and the pieces that are new in it.
    pub(super) fn renew(&mut self, track: usize, new: &Selected) -> Result<(), FilmError> {
        let mut links: BTreeMap<String, &Piece> = BTreeMap::new();
        for piece in &new.track.pieces {
            links.insert(key_of(piece), piece);
        }
        // A file that was cut into ranges for a viewer.
        let whole = match &new.track.pieces[..] {
            [one] if one.range.is_none() => Some(one),
            _ => None,
        };
        for reel in self.reels.iter_mut().filter(|reel| reel.track == track) {
            for piece in &mut reel.pieces {
                let of_whole = whole.filter(|_| piece.range.is_some());
                if let Some(found) = links.get(&key_of(piece)).copied().or(of_whole) {
                    piece.url.clone_from(&found.url);
                    piece.mirrors.clone_from(&found.mirrors);
                    piece.key.clone_from(&found.key);
                }
            }
        }
        if !self.selected[track].track.is_complete {
            self.follow(track, &new.track.pieces)?;
        }
        self.selected[track] = without_pieces(new);
        Ok(())
    }

    /// Appends what is new among the pieces of a live playlist.
    pub(super) fn follow(&mut self, track: usize, pieces: &[Piece]) -> Result<(), FilmError> {
        let last = self.reels.iter().filter(|reel| reel.track == track);
        let last = last.flat_map(|reel| &reel.pieces).filter(|piece| piece.role == Role::Media);
        let last = last.map(|piece| piece.sequence).max();
        let newest = pieces.iter().map(|piece| piece.sequence).max();
        if newest.is_some_and(|newest| last.is_some_and(|last| newest < last)) {
            return Err(FilmError::Unsupported(
                "the live playlist has started over with other numbers, so what follows cannot \
                 be joined to what is here"
                    .to_owned(),
            ));
        }
        let later = |piece: &&Piece| last.is_none_or(|last| piece.sequence > last);
        let mut added: Vec<Piece> = pieces.iter().filter(later).cloned().collect();
        // A playlist counts its breaks from its own first piece.
        let known = self.reels.iter().rev().find(|reel| reel.track == track);
        let known = known.and_then(|reel| reel.pieces.last()).map_or(0, |piece| piece.part);
        let same = pieces.iter().find(|piece| Some(piece.sequence) == last);
        let follows =
            added.first().is_some_and(|it| last.is_none_or(|last| it.sequence == last + 1));
        let (from, to) = match same {
            Some(same) => (same.part, known),
            None if follows => (0, known),
            // What is between is lost, and with it whether it ended in a break.
            None => (added.first().map_or(0, |piece| piece.part), known.saturating_add(1)),
        };
        for piece in &mut added {
            piece.part = (piece.part - from.min(piece.part)).saturating_add(to);
        }
        let lost = match (last, added.iter().find(|piece| piece.role == Role::Media)) {
            (Some(last), Some(first)) => first.sequence.saturating_sub(last + 1),
            _ => 0,
        };
        if lost > 0 {
            let at = self.reels.iter().rposition(|reel| reel.track == track).unwrap_or(0);
            self.holes.insert((at, self.reels[at].pieces.len()), recorded::lost(lost));
        }
        if !added.is_empty() {
            self.last_came = Instant::now();
        }
        added.into_iter().try_for_each(|piece| self.append(track, piece))
    }

    fn append(&mut self, track: usize, piece: Piece) -> Result<(), FilmError> {
        let kind = self.selected[track].kind;
        match self.splitters[track].next(&piece) {
            Next::Continue => {
                let Some(index) = self.reels.iter().rposition(|reel| reel.track == track) else {
                    return Ok(());
                };
                if let Some(mut disk) = self.lock_disk()
                    && let Some(store) = &mut disk.stores[index]
                {
                    store.extend([key_of(&piece)]);
                }
                self.reels[index].pieces.push(piece);
            }
            Next::Begin(init) => {
                let pieces: Vec<Piece> =
                    init.into_iter().map(|init| *init).chain([piece]).collect();
                self.add_reel(track, kind, pieces, Form::Pieces);
                let Some(reel) = self.reels.last() else { return Ok(()) };
                let (path, keys) = reel.to_open();
                let index = self.reels.len() - 1;
                let live = recorded::line(index, reel);
                // Where the disk is not open yet, it is opened with all of them.
                if let Some(mut disk) = self.lock_disk() {
                    let disk = &mut *disk;
                    let keys = keys.unwrap_or_default();
                    let Disk { checkpoint, records, .. } = disk;
                    checkpoint.add(&live)?;
                    let store = TrackStore::open(path, index, keys, records, checkpoint)?;
                    disk.stores.push(Some(store));
                }
            }
        }
        Ok(())
    }

    pub(super) fn poll_interval(&self) -> Duration {
        let target = self.selected.iter().filter_map(|it| it.track.target_duration).min();
        let [least, most] = POLL;
        (target.unwrap_or(Duration::from_secs(4)) / 2).clamp(least, most)
    }
}

/// Fetches the playlists of these renditions again. Where one is refused, the manifest may have a
/// fresh link to it.
///
/// # Errors
/// Where one cannot be had.
pub(super) async fn poll(
    links: &Links,
    live: Vec<(usize, Selected)>,
) -> Result<Vec<(usize, Selected)>, FilmError> {
    let mut polled = Vec::with_capacity(live.len());
    for (index, before) in live {
        let again = match &before.playlist {
            Some(url) => match source::playlist(links.requests(), url, &before.variables).await {
                Err(FilmError::Request(error)) if error.kind() == ErrorKind::AccessDenied => None,
                track => Some(Selected { track: track?, ..before.clone() }),
            },
            None => None,
        };
        let new = match again {
            Some(new) => new,
            None => links.read_again().await?.swap_remove(index),
        };
        polled.push((index, new));
    }
    Ok(polled)
}

/// Whether a live film may go on after this error.
fn may_pass(error: &FilmError) -> bool {
    match error {
        FilmError::Request(error) => {
            matches!(error.kind(), ErrorKind::Network | ErrorKind::HttpStatus | ErrorKind::Protocol)
        }
        // A page of a gateway, for example.
        FilmError::Manifest { .. } => true,
        _ => false,
    }
}
