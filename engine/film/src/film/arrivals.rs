//! What becomes of pieces that came, and of those that did not.

use std::path::Path;
use std::time::Duration;

use haul_engine::{Error, ErrorKind, Summary};
use tokio::time::Instant;

use super::links::Newest;
use super::live::MAX_OUTAGE;
use super::opening::WHOLE;
use super::{Place, Run, blocking};
use crate::checkpoint::Record;
use crate::container::{Container, beginning_of};
use crate::error::FilmError;
use crate::fetch::PieceError;

/// How often the manifest is fetched again without a piece having come since.
const MAX_REFRESHES: u32 = 3;
/// How often one piece's link may be refused.
const MAX_REFUSALS: u32 = 3;
/// How long the network may be away.
const MAX_SILENCE: Duration = Duration::from_secs(240);
/// So many pieces in a row, without one that came, are no film.
const HOPELESS_HOLES: usize = 16;

impl Run {
    pub(super) async fn object_came(
        &mut self,
        reel: usize,
        outcome: Result<Box<Summary>, Error>,
    ) -> Result<(), FilmError> {
        let blake3 = match outcome {
            Ok(summary) => {
                self.fetched_bytes += summary.fetched_bytes;
                self.resumed_bytes += summary.resumed_bytes;
                summary.blake3_hex().unwrap_or_default()
            }
            Err(error) => return Err(self.fatal((reel, 0), PieceError::Fatal(error))),
        };
        let path = self.reels[reel].path.clone();
        let (container, bytes) = blocking(move || examine(&path)).await?;
        match container {
            Ok(container) => self.reels[reel].container = Some(container),
            Err(why) => {
                // It has its name already, and is not what it should be.
                let path = self.reels[reel].path.clone();
                let removed = std::fs::remove_file(&path);
                removed.map_err(|error| FilmError::local("remove", &path, error))?;
                self.holes.insert((reel, 0), why);
                return Ok(());
            }
        }
        self.reels[reel].is_whole = true;
        self.with_disk(move |disk| {
            let piece = WHOLE.to_owned();
            disk.checkpoint.add(&Record::Stored { track: reel, piece, offset: 0, bytes, blake3 })
        })
        .await?
    }

    pub(super) async fn piece_came(
        &mut self,
        place: Place,
        generation: u64,
        outcome: Result<(Vec<u8>, Container), PieceError>,
    ) -> Result<(), FilmError> {
        match outcome {
            Ok((bytes, container)) => self.store(place, bytes, container).await,
            Err(PieceError::Hole(why)) => self.give_up(place, why).await,
            // There is a newer manifest than the one that this link is from.
            Err(PieceError::Refused(_)) if generation < self.generation => {
                self.queue.push_front(place);
                Ok(())
            }
            Err(PieceError::Refused(error)) => self.refused(place, error).await,
            Err(PieceError::Fatal(error)) if error.kind() == ErrorKind::Network => {
                self.failed(place, error).await
            }
            Err(fatal) => Err(self.fatal(place, fatal)),
        }
    }

    /// Whether nothing comes at all, so that no further pieces are asked for.
    pub(super) fn is_hopeless(&self) -> bool {
        !self.any_stored && !self.options.allow_holes && self.holes.len() >= HOPELESS_HOLES
    }

    async fn store(
        &mut self,
        place: Place,
        bytes: Vec<u8>,
        container: Container,
    ) -> Result<(), FilmError> {
        let (reel, at) = place;
        let expected = *self.reels[reel].container.get_or_insert(container);
        if expected != container {
            let why = format!("is {}, and other pieces are {}", container.name(), expected.name());
            return self.give_up(place, why).await;
        }
        self.longest_bytes = self.longest_bytes.max(Some(bytes.len() as u64));
        self.fetched_bytes += bytes.len() as u64;
        (self.refreshes, self.any_stored, self.last_came) = (0, true, Instant::now());
        self.with_disk(move |disk| match &mut disk.stores[reel] {
            Some(store) => store.take(at, bytes, &mut disk.checkpoint),
            None => Ok(()),
        })
        .await?
    }

    /// Notes a hole. What comes after it takes its place for now, so that it need not wait in memory
    /// and be lost at the end; if the piece comes in a later run, room is made for it.
    pub(super) async fn give_up(&mut self, place: Place, why: String) -> Result<(), FilmError> {
        self.holes.insert(place, why);
        if let Some(viewer) = &self.options.viewer {
            viewer.missing(place);
        }
        let (reel, at) = place;
        self.with_disk(move |disk| match &mut disk.stores[reel] {
            Some(store) => store.promise(at, 0, &mut disk.checkpoint),
            None => Ok(()),
        })
        .await?
    }

    /// The network failed one piece, after its retries. While others come it is the piece's own
    /// fault; and where nothing comes, the network may come back.
    async fn failed(&mut self, place: Place, error: Error) -> Result<(), FilmError> {
        let failed_at = *self.failures.entry(place).or_insert_with(Instant::now);
        if failed_at < self.last_came {
            self.give_up(place, error.to_string()).await?;
        } else if self.last_came.elapsed() < if self.is_live() { MAX_OUTAGE } else { MAX_SILENCE } {
            // What comes after it may have to wait for it.
            self.queue.push_front(place);
        } else {
            return Err(self.fatal(place, PieceError::Fatal(error)));
        }
        Ok(())
    }

    /// A link does not work any more: other links are had, once for all pieces.
    async fn refused(&mut self, place: Place, error: Error) -> Result<(), FilmError> {
        if !self.refused.is_empty() {
            // The next manifest is on its way, and this link is none of its.
            self.refused.push(place);
            return Ok(());
        }
        let refusals = self.refusals.entry(place).or_default();
        *refusals += 1;
        if *refusals > MAX_REFUSALS {
            return self.give_up(place, error.to_string()).await;
        }
        if self.begins_to_inherit(place) {
            self.generation += 1;
            self.queue.push_front(place);
            return Ok(());
        }
        self.refreshes += 1;
        if self.refreshes > MAX_REFRESHES {
            return Err(self.fatal(place, PieceError::Refused(error)));
        }
        self.refused.push(place);
        Ok(())
    }

    /// Takes the links of a newer manifest.
    pub(super) fn links_came(&mut self, newest: &Newest) -> Result<(), FilmError> {
        self.generation += 1;
        self.manifest = newest.generation;
        for (track, new) in newest.tracks.iter().enumerate() {
            self.renew(track, new)?;
        }
        for place in std::mem::take(&mut self.refused) {
            self.queue.push_front(place);
        }
        Ok(())
    }
}

/// What the file of a reel is, and its length.
fn examine(path: &Path) -> Result<(Result<Container, String>, u64), FilmError> {
    let look = || {
        let file = std::fs::File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok((Container::of_beginning(&beginning_of(file)?), bytes))
    };
    look().map_err(|error| FilmError::local("read", path, error))
}
