//! A film as one stream of bytes.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::{Form, Stage, Staged};
use crate::model::{Place, Role};
use crate::mp4::{self, Numbers};

/// The largest part of a piece that is handed out at once, in bytes.
const PART_BYTES: usize = 64 << 10;

/// What the stream consists of: its head, and pieces in their order.
#[derive(Debug)]
pub(super) struct Layout {
    /// The merged initialization and the index, of MP4.
    head: Bytes,
    order: Vec<Place>,
    /// Of each reel, of MP4.
    numbers: Vec<Numbers>,
    /// Where each piece begins and the last ends, as soon as that is known of all.
    offsets: Option<Vec<u64>>,
}

impl Layout {
    pub(super) fn total_bytes(&self) -> Option<u64> {
        self.offsets.as_ref()?.last().copied()
    }
}

/// The pieces of media of all reels as a viewer needs them, with the times at which they begin.
fn in_order(film: &Staged, with_inits: bool) -> Vec<(Duration, Place)> {
    let tracks = film.reels.iter().map(|reel| reel.track + 1).max().unwrap_or(0);
    let mut times = vec![Duration::ZERO; tracks];
    let mut order = Vec::new();
    for (index, reel) in film.reels.iter().enumerate() {
        for (at, (role, lasts)) in reel.pieces.iter().enumerate() {
            if with_inits || *role == Role::Media {
                order.push((times[reel.track], (index, at)));
            }
            times[reel.track] = times[reel.track].saturating_add(*lasts);
        }
    }
    order.sort();
    order
}

/// See [`super::Viewer::pieces`].
pub(super) async fn pieces(film: &Arc<Staged>) -> Vec<bool> {
    let film = Arc::clone(film);
    let looked = tokio::task::spawn_blocking(move || {
        let disk = film.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |(reel, at): Place| disk.stores.get(reel)?.as_ref().map(|it| it.has(at));
        in_order(&film, true).into_iter().map(|(_, place)| has(place) == Some(true)).collect()
    });
    looked.await.unwrap_or_default()
}

/// The layout, once its head is there and the length of every piece known.
///
/// # Errors
/// Where the download ends before that.
pub(super) async fn layout(stage: &Stage) -> io::Result<Arc<Layout>> {
    let mut changes = stage.changed.subscribe();
    let film = stage.until(|state| state.film.clone()).await.ok_or_else(ended)?;
    loop {
        changes.mark_unchanged();
        // The head is not merged again for each piece that comes before.
        if stage.lens(&film).await?.iter().flatten().all(Option::is_some) {
            let layout = layout_so_far(stage).await?;
            if layout.offsets.is_some() {
                return Ok(layout);
            }
        }
        if stage.lock().has_ended || changes.changed().await.is_err() {
            return Err(ended());
        }
    }
}

/// Waits until the head is there.
///
/// # Errors
/// Where the download ends before that.
pub(super) async fn begins(stage: &Stage) -> io::Result<()> {
    layout_so_far(stage).await.map(drop)
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the download has ended")
}

/// The layout, once its head is there.
async fn layout_so_far(stage: &Stage) -> io::Result<Arc<Layout>> {
    let (film, form) = stage
        .until(|state| Some((Arc::clone(state.film.as_ref()?), state.form?)))
        .await
        .ok_or_else(ended)?;
    if let Some(known) = stage.lock().layout.clone() {
        return Ok(known);
    }
    let layout = match form {
        Form::Merged => match merged(stage, &film).await? {
            Some(layout) => layout,
            None if film.reels.len() == 1 => joined(stage, &film).await?,
            None => {
                let why = "an initialization cannot be understood";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        },
        Form::Joined(_) | Form::Playlist(_) => joined(stage, &film).await?,
    };
    let layout = Arc::new(layout);
    if layout.offsets.is_some() {
        // From now on it holds for every reader.
        let mut state = stage.lock();
        return Ok(Arc::clone(state.layout.get_or_insert(layout)));
    }
    Ok(layout)
}

async fn joined(stage: &Stage, film: &Staged) -> io::Result<Layout> {
    let order: Vec<Place> = in_order(film, true).into_iter().map(|it| it.1).collect();
    let offsets = offsets(0, &order, &stage.lens(film).await?);
    Ok(Layout { head: Bytes::new(), order, numbers: Vec::new(), offsets })
}

/// The fragments of all reels with one head; `None` where these cannot be merged.
async fn merged(stage: &Stage, film: &Staged) -> io::Result<Option<Layout>> {
    let mut inits = Vec::with_capacity(film.reels.len());
    for reel in 0..film.reels.len() {
        inits.push(stage.piece(film, (reel, 0)).await?);
    }
    let Some(merged) = mp4::merge(&inits) else { return Ok(None) };
    let timed = in_order(film, false);
    let order: Vec<Place> = timed.iter().map(|it| it.1).collect();
    let first = order.iter().find(|(reel, _)| *reel == 0);
    let begins = match first {
        Some(first) => mp4::begins(&stage.piece(film, *first).await?, &merged.numbers[0]),
        None => None,
    };
    let lens = stage.lens(film).await?;
    // Parts begin with the pieces of the first track.
    let count = order.iter().filter(|(reel, _)| *reel == 0).count();
    let index_bytes = mp4::index_bytes(count).filter(|_| begins.is_some());
    let head_bytes = merged.bytes.len() as u64 + index_bytes.unwrap_or(0);
    let offsets = offsets(head_bytes, &order, &lens);
    let mut head = merged.bytes;
    if let (Some(offsets), Some(begins)) = (&offsets, begins) {
        let mut parts: Vec<(u64, Duration)> = Vec::with_capacity(count);
        for (at, (reel, piece)) in order.iter().enumerate() {
            let bytes = offsets[at + 1] - offsets[at];
            match parts.last_mut() {
                Some(part) if *reel != 0 => part.0 += bytes,
                // What begins before the first track belongs to its first part.
                _ => parts.push((bytes, film.reels[0].pieces[*piece].1)),
            }
        }
        head.extend(mp4::index(merged.timescale, begins, &parts).unwrap_or_default());
    }
    // Without an index of the expected length the places are others.
    let offsets = offsets.filter(|it| it.first() == Some(&(head.len() as u64)));
    Ok(Some(Layout { head: head.into(), order, numbers: merged.numbers, offsets }))
}

fn offsets(from: u64, order: &[Place], lens: &[Vec<Option<u64>>]) -> Option<Vec<u64>> {
    let mut offsets = vec![from];
    let mut at = from;
    for (reel, piece) in order {
        at = at.checked_add((*lens.get(*reel)?.get(*piece)?)?)?;
        offsets.push(at);
    }
    Some(offsets)
}

/// Reads a film as one stream, from [`super::Viewer::reader`].
#[derive(Debug)]
pub struct FilmReader {
    stage: Arc<Stage>,
    layout: Option<Arc<Layout>>,
    /// The next piece in the order, with the bytes of it that are skipped; `None` is the head.
    next: Option<usize>,
    skip_bytes: usize,
    /// What is left of the piece that is being read.
    rest: Bytes,
}

impl FilmReader {
    pub(super) fn new(stage: Arc<Stage>) -> Self {
        Self { stage, layout: None, next: None, skip_bytes: 0, rest: Bytes::new() }
    }

    /// Goes on at this place of the stream, in bytes. Waits until the length of the stream is known,
    /// and fetches nothing.
    ///
    /// # Errors
    /// Where the download ends before that, and of kind `InvalidInput` for a place behind the end.
    pub async fn seek(&mut self, position: u64) -> io::Result<()> {
        let layout = layout(&self.stage).await?;
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "the place is behind the end");
        let offsets = layout.offsets.as_deref().ok_or_else(outside)?;
        if position > offsets.last().copied().unwrap_or(0) {
            return Err(outside());
        }
        self.rest = Bytes::new();
        let head_bytes = layout.head.len() as u64;
        let (next, from) = match position < head_bytes {
            true => (None, 0),
            false => {
                let next = offsets.partition_point(|it| *it <= position).saturating_sub(1);
                (Some(next), offsets[next])
            }
        };
        self.next = next;
        self.skip_bytes = usize::try_from(position - from).map_err(|_| outside())?;
        self.layout = Some(layout);
        Ok(())
    }

    /// The next bytes, at most 64 KiB; `None` at the end. What is not there yet is fetched first and
    /// waited for.
    ///
    /// # Errors
    /// Where a piece cannot be had, or is not as long as it was said to be.
    pub async fn read(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if !self.rest.is_empty() {
                return Ok(Some(self.rest.split_to(self.rest.len().min(PART_BYTES))));
            }
            let layout = match &self.layout {
                Some(known) => Arc::clone(known),
                None => {
                    let layout = layout_so_far(&self.stage).await?;
                    self.layout = Some(Arc::clone(&layout));
                    layout
                }
            };
            let mut bytes = match self.next {
                None => layout.head.clone(),
                Some(at) => {
                    let Some(place) = layout.order.get(at) else { return Ok(None) };
                    self.piece(&layout, at, *place).await?
                }
            };
            self.next = Some(self.next.map_or(0, |at| at + 1));
            let skipped = bytes.split_to(self.skip_bytes.min(bytes.len()));
            self.skip_bytes -= skipped.len();
            self.rest = bytes;
        }
    }

    async fn piece(&self, layout: &Layout, at: usize, place: Place) -> io::Result<Bytes> {
        let film = self.stage.lock().film.clone().ok_or_else(ended)?;
        let mut bytes = self.stage.piece(&film, place).await?;
        if let Some(offsets) = &layout.offsets
            && bytes.len() as u64 != offsets[at + 1] - offsets[at]
        {
            let why = "a piece is not as long as its server said";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        if let Some(numbers) = layout.numbers.get(place.0) {
            mp4::renumber(&mut bytes, numbers);
        }
        Ok(bytes.into())
    }
}
