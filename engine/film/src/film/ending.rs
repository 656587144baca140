//! The end of a film: from its reels to its output.

use std::path::{Path, PathBuf};

use haul_engine::Existing;

use super::{FilmSummary, Place, Run};
use crate::checkpoint::Record;
use crate::error::FilmError;
use crate::join::{self, Made, Reel as JoinReel};
use crate::model::Kind;
use crate::name;
use crate::private;
use crate::publish::{self, Announced};
use crate::watch::Phase;

impl Run {
    /// Makes the output of the reels.
    pub(super) async fn end(&mut self) -> Result<FilmSummary, FilmError> {
        if !self.holes.is_empty() && !self.options.allow_holes {
            return Err(self.told_holes());
        }
        let holes = self.named_holes();
        let pieces = self.reels.iter().map(|reel| reel.pieces.len()).sum();
        let missing: Vec<Place> = self.holes.keys().copied().collect();
        let sync = self.options.sync;
        self.with_disk(move |disk| {
            for (reel, at) in missing {
                if let Some(store) = &mut disk.stores[reel]
                    && at < store.count()
                {
                    store.leave_out(at, &mut disk.checkpoint)?;
                }
            }
            disk.stores.iter_mut().flatten().try_for_each(|store| store.finish(sync))
        })
        .await??;
        self.watch.update(|progress| progress.phase = Phase::Joining);
        let mut tracks: Vec<(Kind, Option<String>, Vec<JoinReel>)> = self
            .selected
            .iter()
            .enumerate()
            .map(|(track, selected)| {
                let reels = self.reels.iter().filter(|reel| reel.track == track);
                // One that has only holes is no file that anything can be made of.
                let reels = reels.filter(|reel| length(&reel.path) > 0);
                let reels = reels
                    .map(|reel| JoinReel { path: reel.path.clone(), container: reel.container });
                (selected.kind, selected.language.clone(), reels.collect())
            })
            .collect();
        tracks.retain(|(.., reels)| !reels.is_empty());
        if tracks.is_empty() {
            return Err(self.told_holes());
        }
        let scratch = self.scratch().await?;
        let Made { ready, notes, scratch } = join::join(&self.output, tracks, scratch).await?;
        notes.into_iter().for_each(|note| self.watch.note(note));
        let (output, existing) = (self.output.clone(), self.options.existing);
        let (reels, missing) = (0..self.reels.len(), holes.len());
        let directory = name::scratch(&self.output);
        let announced = self
            .with_disk(move |disk| {
                for one in &ready {
                    let replaced = Some(&*one.to).filter(|_| existing == Existing::Replace);
                    let opened = private::open_up(&one.from, replaced, &directory);
                    opened.map_err(|error| FilmError::local("open up", &one.from, error))?;
                }
                let checkpoint = &mut disk.checkpoint;
                let announced = publish::announce(ready, missing, sync, checkpoint)?;
                if !publish::settle(&announced, existing, sync)? {
                    let why = std::io::ErrorKind::NotFound.into();
                    return Err(FilmError::local("name", &output, why));
                }
                drop(scratch);
                publish::clear(&output, reels, checkpoint, true)?;
                Ok(announced)
            })
            .await??;
        Ok(FilmSummary {
            outputs: announced.outputs(),
            subtitles: announced.subtitles(),
            bytes: announced.film_bytes(),
            fetched_bytes: self.fetched_bytes,
            resumed_bytes: self.resumed_bytes,
            pieces,
            holes,
        })
    }

    /// What there is to say of a film that an earlier run left whole.
    pub(super) fn complete(&self, announced: &Announced) -> FilmSummary {
        match announced.holes {
            0 => {}
            1 => self.watch.note("an earlier run wrote it without one missing piece".to_owned()),
            holes => {
                self.watch.note(format!("an earlier run wrote it without {holes} missing pieces"));
            }
        }
        FilmSummary {
            outputs: announced.outputs(),
            subtitles: announced.subtitles(),
            bytes: announced.film_bytes(),
            fetched_bytes: 0,
            resumed_bytes: announced.film_bytes(),
            pieces: self.reels.iter().map(|reel| reel.pieces.len()).sum(),
            holes: Vec::new(),
        }
    }

    /// The directory for what ffmpeg is given: ours by the checkpoint, and new.
    async fn scratch(&self) -> Result<PathBuf, FilmError> {
        let path = name::scratch(&self.output);
        let directory = path.clone();
        self.with_disk(move |disk| {
            if disk.records.contains(&Record::Joining) {
                publish::remove_scratch(&directory)?;
            } else if directory.symlink_metadata().is_ok() {
                return Err(FilmError::Exists(directory));
            }
            disk.checkpoint.add(&Record::Joining)?;
            private::create_directory(&directory)
                .map_err(|error| FilmError::local("create", &directory, error))
        })
        .await??;
        Ok(path)
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}
