//! Manifests that are fetched again: for fresh links, and for what a live film has gained.

use std::collections::BTreeMap;
use std::time::Duration;

use haul_engine::ErrorKind;
use tokio::time::Instant;

use super::opening::Disk;
use super::{Form, Run};
use crate::error::FilmError;
use crate::model::{Piece, Role};
use crate::reel::Next;
use crate::source::{self, Selected};
use crate::store::{TrackStore, key_of};

/// A live film whose playlist cannot be fetched for this long has ended badly.
const MAX_OUTAGE: Duration = Duration::from_secs(600);
/// How often a live playlist is fetched at most and at least.
const POLL: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];

impl Run {
    /// Fetches the playlists again. One that cannot be had is an outage, which may pass.
    pub(super) async fn poll(
        &mut self,
        outage_since: &mut Option<Instant>,
    ) -> Result<(), FilmError> {
        match self.poll_live().await {
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
        Ok(())
    }

    /// Takes the links of a manifest that was fetched again, and the pieces that are new in it.
    pub(super) fn renew(&mut self, track: usize, new: Selected) -> Result<(), FilmError> {
        let mut links: BTreeMap<String, &Piece> = BTreeMap::new();
        for piece in &new.track.pieces {
            links.insert(key_of(piece), piece);
        }
        let last = self.reels.iter().filter(|reel| reel.track == track);
        let last = last.flat_map(|reel| &reel.pieces).filter(|piece| piece.role == Role::Media);
        let last = last.map(|piece| piece.sequence).max();
        for reel in self.reels.iter_mut().filter(|reel| reel.track == track) {
            for piece in &mut reel.pieces {
                if let Some(found) = links.get(&key_of(piece)) {
                    piece.url.clone_from(&found.url);
                    piece.mirrors.clone_from(&found.mirrors);
                    piece.key.clone_from(&found.key);
                }
            }
        }
        let was_live = !self.selected[track].track.is_complete;
        if was_live {
            let newest = new.track.pieces.iter().map(|piece| piece.sequence).max();
            if newest.is_some_and(|newest| last.is_some_and(|last| newest < last)) {
                return Err(FilmError::Unsupported(
                    "the live playlist has started over with other numbers, so what follows cannot \
                     be joined to what is here"
                        .to_owned(),
                ));
            }
            let later = |piece: &&Piece| last.is_none_or(|last| piece.sequence > last);
            let mut added: Vec<Piece> = new.track.pieces.iter().filter(later).cloned().collect();
            // A playlist counts its breaks from its own first piece.
            let known = self.reels.iter().rev().find(|reel| reel.track == track);
            let known = known.and_then(|reel| reel.pieces.last()).map_or(0, |piece| piece.part);
            let same = new.track.pieces.iter().find(|piece| Some(piece.sequence) == last);
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
                let why =
                    format!("{lost} pieces were gone from the playlist before they were seen");
                let at = self.reels.iter().rposition(|reel| reel.track == track).unwrap_or(0);
                self.holes.insert((at, self.reels[at].pieces.len()), why);
            }
            if !added.is_empty() {
                self.last_came = Instant::now();
            }
            for piece in added {
                self.append(track, piece)?;
            }
        }
        self.selected[track] = new;
        Ok(())
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
                if let Some(mut disk) = self.lock_disk() {
                    let disk = &mut *disk;
                    let keys = keys.unwrap_or_default();
                    let Disk { checkpoint, records, .. } = disk;
                    let store = TrackStore::open(path, index, keys, records, checkpoint)?;
                    disk.stores.push(Some(store));
                }
            }
        }
        Ok(())
    }

    async fn poll_live(&mut self) -> Result<(), FilmError> {
        for track in 0..self.selected.len() {
            if self.selected[track].track.is_complete {
                continue;
            }
            let before = &self.selected[track];
            let new = match &before.playlist {
                Some(url) => {
                    let track = source::playlist(&*self.fetcher.requests, url).await?;
                    Selected { track, ..before.clone() }
                }
                None => {
                    let requests = &*self.fetcher.requests;
                    let mut all =
                        source::select_again(requests, &self.origin, &self.selected).await?;
                    all.swap_remove(track)
                }
            };
            self.renew(track, new)?;
        }
        self.queue_missing();
        self.tell_progress();
        Ok(())
    }

    pub(super) fn poll_interval(&self) -> Duration {
        let target = self.selected.iter().filter_map(|it| it.track.target_duration).min();
        let [least, most] = POLL;
        (target.unwrap_or(Duration::from_secs(4)) / 2).clamp(least, most)
    }
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
