//! The end of a film: from its reels to its output.

use std::path::PathBuf;

use super::{FilmSummary, Place, Run};
use crate::checkpoint::{self, Record};
use crate::error::FilmError;
use crate::join::{self, Reel as JoinReel};
use crate::model::Kind;
use crate::name;
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
        let tracks: Vec<(Kind, Option<String>, Vec<JoinReel>)> = self
            .selected
            .iter()
            .enumerate()
            .map(|(track, selected)| {
                let reels = self.reels.iter().filter(|reel| reel.track == track);
                let reels = reels
                    .map(|reel| JoinReel { path: reel.path.clone(), container: reel.container });
                (selected.kind, selected.language.clone(), reels.collect())
            })
            .collect();
        let scratch = self.scratch().await?;
        let made = join::join(&self.output, tracks, self.options.existing, sync, scratch).await?;
        made.notes.into_iter().for_each(|note| self.watch.note(note));
        // The files of the pieces stay open for who still watches them.
        self.with_disk(|disk| disk.checkpoint.remove()).await??;
        let bytes =
            made.outputs.iter().filter_map(|it| std::fs::metadata(it).ok()).map(|it| it.len());
        let bytes = bytes.sum();
        Ok(FilmSummary {
            outputs: made.outputs,
            subtitles: made.subtitles,
            bytes,
            fetched_bytes: self.fetched_bytes,
            resumed_bytes: self.resumed_bytes,
            pieces,
            holes,
        })
    }

    /// The directory for what ffmpeg is given: ours by the checkpoint, and new.
    async fn scratch(&self) -> Result<PathBuf, FilmError> {
        let path = name::with_suffix(&checkpoint::path_of(&self.output), ".d");
        let directory = path.clone();
        self.with_disk(move |disk| {
            if disk.records.contains(&Record::Joining) {
                let removed = std::fs::remove_dir_all(&directory);
                match removed {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(FilmError::local("remove", &directory, error));
                    }
                    _ => {}
                }
            } else if directory.symlink_metadata().is_ok() {
                return Err(FilmError::Exists(directory));
            }
            disk.checkpoint.add(&Record::Joining)?;
            std::fs::create_dir(&directory)
                .map_err(|error| FilmError::local("create", &directory, error))
        })
        .await??;
        Ok(path)
    }
}
