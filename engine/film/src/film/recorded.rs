//! A live film that goes on after an interruption: its playlist has dropped pieces that are recorded,
//! so the log tells what the reels are made of, and the playlist what comes after.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use super::{Form, Place, Reel, Run};
use crate::checkpoint::Record;
use crate::error::FilmError;
use crate::model::{Piece, Role};
use crate::reel::Splitter;

/// The line of the log about a reel of a live film.
pub(super) fn line(index: usize, reel: &Reel) -> Record {
    let first = reel.pieces.first().map_or(0, |piece| piece.sequence);
    Record::Live { track: index, rendition: reel.track, first }
}

/// What is told of pieces that are gone.
pub(super) fn lost(pieces: u64) -> String {
    match pieces {
        1 => "it was gone from the playlist before it was seen".to_owned(),
        _ => format!("{pieces} pieces were gone from the playlist before they were seen"),
    }
}

/// A reel as a log tells of it.
struct Recorded {
    index: usize,
    rendition: usize,
    first: u64,
    /// An initialization comes before the media of the same number.
    pieces: BTreeMap<(u64, bool), Piece>,
}

impl Run {
    /// Makes the reels of a live film those of the log, if there is one of it, and appends what the
    /// playlists have beyond them. Returns what can no longer be had if it is not stored.
    pub(super) fn recall(&mut self, records: &[Record]) -> Result<Vec<Place>, FilmError> {
        let recorded = read(records, &self.url);
        let is_of = |rendition| recorded.iter().any(|reel| reel.rendition == rendition);
        if !(0..self.selected.len()).all(is_of) {
            return Ok(Vec::new());
        }
        let nexts: Vec<Option<u64>> = recorded
            .iter()
            .enumerate()
            .map(|(at, reel)| {
                let mut later = recorded[at + 1..].iter();
                later.find(|next| next.rendition == reel.rendition).map(|next| next.first)
            })
            .collect();
        self.reels.clear();
        let (mut gone, mut counts) = (Vec::new(), vec![0; self.selected.len()]);
        for (mut reel, next) in recorded.into_iter().zip(nexts) {
            let (index, track) = (reel.index, reel.rendition);
            reel.take_links(&self.selected[track].track.pieces, next);
            let media = reel.pieces.keys().filter(|(_, is_media)| *is_media).count() as u64;
            let part = counts[track];
            counts[track] += 1;
            let pieces: Vec<Piece> =
                reel.pieces.into_values().map(|piece| Piece { part, ..piece }).collect();
            let without = pieces.iter().enumerate().filter(|(_, piece)| piece.is_gap);
            gone.extend(without.map(|(at, _)| (index, at)));
            if let Some(missing) = next.map(|next| next.saturating_sub(reel.first + media))
                && missing > 0
            {
                self.holes.insert((index, pieces.len()), lost(missing));
            }
            let mut inits = self.selected[track].track.pieces.iter();
            let init = inits.rfind(|piece| piece.role == Role::Init).cloned();
            self.splitters[track] = Splitter::after(part, media > 0, init);
            self.add_reel(track, self.selected[track].kind, pieces, Form::Pieces);
        }
        for track in 0..self.selected.len() {
            let pieces = std::mem::take(&mut self.selected[track].track.pieces);
            self.follow(track, &pieces)?;
        }
        Ok(gone)
    }
}

impl Recorded {
    /// Takes from the playlist the links of recorded pieces, and the pieces between them.
    fn take_links(&mut self, playlist: &[Piece], next: Option<u64>) {
        self.pieces.retain(|(sequence, _), _| next.is_none_or(|next| *sequence < next));
        let newest = self.pieces.keys().map(|(sequence, _)| *sequence).max().unwrap_or(self.first);
        let end = next.unwrap_or(newest.saturating_add(1));
        let mut init = None;
        for piece in playlist {
            let is_media = piece.role == Role::Media;
            if !is_media {
                init = Some(piece);
            }
            if !(self.first..end).contains(&piece.sequence) {
                continue;
            }
            if piece.sequence == self.first && self.pieces.is_empty() {
                // Nothing is recorded of this reel but where it begins.
                if let Some(init) = init {
                    let init = Piece { sequence: self.first, ..init.clone() };
                    self.pieces.insert((self.first, false), init);
                }
            }
            if is_media {
                let known = self.pieces.entry((piece.sequence, true)).or_insert(piece.clone());
                *known =
                    Piece { duration: known.duration, range: known.range.clone(), ..piece.clone() };
            }
        }
        if next.is_some() {
            return;
        }
        if let (Some(init), Some(known)) = (init, self.pieces.get_mut(&(self.first, false))) {
            let (sequence, range) = (known.sequence, known.range.clone());
            *known = Piece { sequence, range, ..init.clone() };
        }
        // What follows a gap begins a reel of its own.
        let mut gap = self.first;
        while self.pieces.contains_key(&(gap, true)) {
            gap = gap.saturating_add(1);
        }
        self.pieces.retain(|(sequence, _), _| *sequence < gap);
    }
}

/// The reels of a log.
fn read(records: &[Record], playlist: &Url) -> Vec<Recorded> {
    let mut reels: BTreeMap<usize, Recorded> = BTreeMap::new();
    for record in records {
        match record {
            Record::Live { track: index, rendition, first } => {
                let (index, rendition, first) = (*index, *rendition, *first);
                let reel = Recorded { index, rendition, first, pieces: BTreeMap::new() };
                reels.entry(index).or_insert(reel);
            }
            Record::Promised { track, piece, .. }
            | Record::Stored { track, piece, .. }
            | Record::Moved { track, piece, .. } => {
                if let Some(reel) = reels.get_mut(track)
                    && let Some(piece) = piece_of(piece, playlist)
                {
                    let key = (piece.sequence, piece.role == Role::Media);
                    reel.pieces.entry(key).or_insert(piece);
                }
            }
            _ => {}
        }
    }
    reels
        .into_values()
        .enumerate()
        .take_while(|(at, reel)| reel.index == *at)
        .map(|(_, reel)| reel)
        .collect()
}

/// The piece of a name that [`key_of`](crate::store::key_of) gave. It has no link yet, as if its
/// playlist said that it is missing.
fn piece_of(key: &str, playlist: &Url) -> Option<Piece> {
    let (role, rest) = match key.split_at_checked(1)? {
        ("i", rest) => (Role::Init, rest),
        ("m", rest) => (Role::Media, rest),
        _ => return None,
    };
    let (sequence, rest) = rest.split_once('+')?;
    let (lasts, range) = rest.split_once('@').map_or((rest, None), |(it, range)| (it, Some(range)));
    let range = match range {
        Some(range) => {
            let (start, end) = range.split_once('-')?;
            Some(start.parse().ok()?..end.parse().ok()?)
        }
        None => None,
    };
    Some(Piece {
        url: playlist.clone(),
        mirrors: Vec::new(),
        range,
        key: None,
        role,
        sequence: sequence.parse().ok()?,
        part: 0,
        duration: Duration::from_millis(lasts.parse().ok()?),
        is_gap: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::key_of;

    #[test]
    fn a_piece_is_known_by_its_name_alone() {
        let playlist = Url::parse("http://film.example/live.m3u8").unwrap();
        for key in ["m17+2000", "i0+0@5-900", "m18446744073709551615+1@0-1"] {
            let piece = piece_of(key, &playlist).unwrap();
            assert_eq!(key_of(&piece), key);
            assert!(piece.is_gap);
        }
        for none in ["", "x1+1", "m1", "m+1", "m1+1@5", "é1+1"] {
            assert_eq!(piece_of(none, &playlist), None, "{none}");
        }
    }
}
