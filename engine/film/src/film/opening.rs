//! Opening what an earlier run left of a film, and showing that it is of the same film.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use haul_engine::Existing;
use tokio::sync::mpsc;

use super::links::without_pieces;
use super::{FilmOptions, FilmSummary, Reel, Run, blocking, recorded};
use crate::checkpoint::{self, Checkpoint, Record};
use crate::container::Container;
use crate::disk::Disk;
use crate::error::FilmError;
use crate::fetch::PieceError;
use crate::publish::{self, Announced};
use crate::store::TrackStore;
use crate::watch::Phase;

/// Names a reel that is one object, in the checkpoint.
pub(super) const WHOLE: &str = "whole";

/// The outcome of [`open_log`].
enum Opening {
    /// An earlier run made the film, and was killed before it had cleared up.
    Complete(Announced),
    Incomplete(Log),
}

/// The log, and what it said.
struct Log {
    path: PathBuf,
    checkpoint: Checkpoint,
    records: Vec<Record>,
}

/// The outcome of [`open_disk`].
struct Opened {
    disk: Disk,
    /// Reels of one object that are there already.
    whole: Vec<usize>,
    /// What the reels are, as far as their beginnings are there.
    containers: Vec<Option<Container>>,
}

impl Run {
    /// Opens the checkpoint and the files of the reels, and queues what is missing. Returns the film
    /// where an earlier run has made it.
    pub(super) async fn open(&mut self) -> Result<Option<FilmSummary>, FilmError> {
        self.watch.update(|progress| progress.phase = Phase::Fetching);
        // Neither paths nor queries: both may hold tokens that are others in the next run. That it
        // is the same film is proven.
        let name = self.url.path().rsplit('/').next().unwrap_or_default();
        let mut identity = blake3::Hasher::new();
        for part in std::iter::once(name).chain(self.selected.iter().map(|it| it.traits.as_str())) {
            identity.update(part.as_bytes()).update(b"\n");
        }
        let film = identity.finalize().to_hex().to_string();
        let (output, options) = (self.output.clone(), self.options.clone());
        let log = match blocking(move || open_log(&output, &film, &options)).await? {
            Opening::Complete(announced) => return Ok(Some(self.complete(&announced))),
            Opening::Incomplete(log) => log,
        };
        let gone = self.recall(&log.records)?;
        let live = self.is_live();
        let live = self.reels.iter().enumerate().filter(|_| live);
        let live: Vec<Record> = live.map(|(index, reel)| recorded::line(index, reel)).collect();
        let reels: Vec<_> = self.reels.iter().map(Reel::to_open).collect();
        let opened = blocking(move || open_disk(log, &live, &reels)).await?;
        let Opened { disk, whole, containers } = opened;
        let resumed: usize = disk.stores.iter().flatten().map(TrackStore::done).sum();
        for reel in whole {
            self.reels[reel].is_whole = true;
        }
        for (reel, container) in self.reels.iter_mut().zip(containers) {
            reel.container = container;
        }
        self.resumed_bytes = disk.stores.iter().flatten().map(TrackStore::stored_bytes).sum();
        self.watch.update(|progress| progress.resumed = resumed);
        self.any_stored = resumed > 0;
        self.disk = Some(Arc::new(Mutex::new(disk)));
        for selected in &mut self.selected {
            *selected = without_pieces(selected);
        }
        for place in gone {
            let has = |disk: MutexGuard<'_, Disk>| {
                disk.stores[place.0].as_ref().is_some_and(|store| store.has(place.1))
            };
            if !self.lock_disk().is_some_and(has) {
                self.give_up(place, recorded::lost(1)).await?;
            }
        }
        self.queue_missing();
        self.tell_progress();
        Ok(None)
    }

    /// Shows that what an earlier run left is of the same film: a piece of each reel, fetched again,
    /// must be the same.
    pub(super) async fn prove(&mut self) -> Result<(), FilmError> {
        if !self.any_stored {
            return Ok(());
        }
        // Of a live film, not every piece can be had again.
        let can_be_had: Vec<Vec<bool>> = self
            .reels
            .iter()
            .map(|reel| reel.pieces.iter().map(|piece| !piece.is_gap).collect())
            .collect();
        let samples = self
            .with_disk(move |disk| {
                let all = disk.stores.iter_mut().zip(can_be_had).enumerate();
                let samples = all.filter_map(|(reel, (store, can_be_had))| {
                    Some((reel, store.as_mut()?.sample(|at| can_be_had[at])))
                });
                let samples = samples.map(|(reel, sample)| Ok((reel, sample?)));
                samples.collect::<Result<Vec<_>, FilmError>>()
            })
            .await??;
        let (nobody, _) = mpsc::unbounded_channel();
        for (reel, sample) in samples {
            let Some((at, hash)) = sample else { continue };
            let place = (reel, at);
            let mut outcome = self.fetcher.fetch(&self.asked(place), place, &nobody, 1).await;
            if matches!(outcome, Err(PieceError::Refused(_))) && self.begins_to_inherit(place) {
                outcome = self.fetcher.fetch(&self.asked(place), place, &nobody, 1).await;
            }
            match outcome {
                Ok((bytes, _)) if blake3::hash(&bytes).to_hex().as_str() == hash => {}
                Ok(_) => return Err(FilmError::Changed(checkpoint::path_of(&self.output))),
                // A live playlist may have dropped it by now.
                Err(PieceError::Hole(_)) if self.is_live() => {}
                Err(error) => return Err(self.fatal(place, error)),
            }
        }
        Ok(())
    }

    pub(super) fn lock_disk(&self) -> Option<MutexGuard<'_, Disk>> {
        self.disk.as_ref().map(|disk| disk.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) async fn with_disk<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Disk) -> T + Send + 'static,
    ) -> Result<T, FilmError> {
        let Some(disk) = self.disk.clone() else {
            return Err(FilmError::Unsupported("nothing is open".to_owned()));
        };
        blocking(move || Ok(act(&mut disk.lock().unwrap_or_else(PoisonError::into_inner)))).await
    }
}

/// Opens the log, and ends what an earlier run has all but ended.
fn open_log(output: &Path, film: &str, options: &FilmOptions) -> Result<Opening, FilmError> {
    let path = checkpoint::path_of(output);
    let (checkpoint, records) = Checkpoint::open(path.clone(), film)?;
    let directory = output.parent().unwrap_or(Path::new(""));
    if let Some(earlier) = Announced::in_log(&records, directory)
        && (earlier.holes == 0 || options.allow_holes)
        && publish::settle(&earlier, options.existing, options.sync)?
    {
        publish::clear(output, checkpoint::begun(&records), &checkpoint, true)?;
        return Ok(Opening::Complete(earlier));
    }
    if options.existing != Existing::Replace && output.symlink_metadata().is_ok() {
        return Err(FilmError::Exists(output.to_owned()));
    }
    Ok(Opening::Incomplete(Log { path, checkpoint, records }))
}

/// Opens the files of the reels.
fn open_disk(
    log: Log,
    live: &[Record],
    reels: &[(PathBuf, Option<Vec<String>>)],
) -> Result<Opened, FilmError> {
    let Log { path, mut checkpoint, mut records } = log;
    for line in live.iter().filter(|line| !records.contains(line)) {
        checkpoint.add(line)?;
    }
    for (index, (_, keys)) in reels.iter().enumerate() {
        // What is one object now may have been pieces for a viewer, and is fetched anew.
        let Some(keys) = keys else { continue };
        // A film may be cut anew.
        let keys: BTreeSet<&String> = keys.iter().collect();
        let is_known = |record: &Record| match record {
            Record::Stored { track, piece, .. } if *track == index && piece != WHOLE => {
                keys.contains(piece)
            }
            _ => true,
        };
        if !records.iter().all(is_known) {
            return Err(FilmError::Changed(path));
        }
    }
    let (mut stores, mut whole, mut containers) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (path, keys)) in reels.iter().enumerate() {
        if let Some(keys) = keys {
            let keys = keys.clone();
            let mut store = TrackStore::open(path.clone(), index, keys, &records, &mut checkpoint)?;
            let beginning = store.beginning()?;
            containers.push(beginning.and_then(|bytes| Container::of_beginning(&bytes).ok()));
            stores.push(Some(store));
            continue;
        }
        stores.push(None);
        containers.push(None);
        if !records.contains(&Record::Begun { track: index }) {
            if path.symlink_metadata().is_ok() {
                return Err(FilmError::Exists(path.clone()));
            }
            checkpoint.add(&Record::Begun { track: index })?;
        }
        let recorded = records.iter().rev().find_map(|record| match record {
            Record::Stored { track, piece, bytes, blake3, .. }
                if *track == index && piece == WHOLE =>
            {
                Some((*bytes, blake3))
            }
            _ => None,
        });
        if let Some((bytes, blake3)) = recorded
            && std::fs::metadata(path).is_ok_and(|found| found.len() == bytes)
            && hash_of(path).is_ok_and(|found| found == *blake3)
        {
            whole.push(index);
        }
    }
    // Of a long film, the lines about pieces are many.
    let is_of_piece = |record: &Record| {
        matches!(record, Record::Promised { .. } | Record::Stored { .. } | Record::Moved { .. })
    };
    records.retain(|record| !is_of_piece(record));
    records.shrink_to_fit();
    Ok(Opened { disk: Disk { checkpoint, stores, records }, whole, containers })
}

fn hash_of(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}
