//! The loop's step before the first request: what an earlier run left at the output.
//!
//! Where the output's name is known or can be guessed, its checkpoint is read, so that the first
//! request already asks for something missing. Nothing is locked yet, and what is read here is
//! read again, and judged, when the output is opened.

use std::path::PathBuf;

use super::Driver;
use crate::disk::conditional::Version;
use crate::disk::output::{self, Earlier};
use crate::disk::partial::{self, Paths};
use crate::driver::opening::wants_the_same;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::Existing;
use crate::model::error::{Error, Kept};
use crate::model::name;
use crate::model::range::ByteRange;
use crate::model::resource::Resource;

impl Driver {
    /// Looks at what is at the output if its name is known or can be guessed,
    /// so that the first request already asks for something missing. Names are looked
    /// up at once, which a download of which nothing is here waits for alone.
    pub(super) async fn look_for_earlier(&mut self) -> Result<(), Error> {
        if self.options.keeps_nothing() {
            if let Some(Earlier::Checkpoint(checkpoint)) = self.opening.take_from_storage() {
                self.claim_earlier(*checkpoint, Kept::Storage);
            }
            return Ok(());
        }
        let path = match &self.options.output {
            Some(output) => self.options.directory.join(output),
            None => {
                // The server has yet to tell the name: the first that has a checkpoint.
                let of = |name: String| self.options.directory.join(name);
                let mut names = name::possible_names(self.options.url.path()).map(of);
                let plain = names.next().unwrap_or_default();
                let begun = |path: &PathBuf| Paths::of(path).checkpoint.exists();
                // For each of thousands of files a look at every extension costs as much as
                // fetching it. What was begun under another name is found when it is opened.
                let guess = self.options.small_bytes == 0 && !begun(&plain);
                if guess { names.find(begun).unwrap_or(plain) } else { plain }
            }
        };
        let path = self.final_name(path);
        let paths = self.options.paths(&path);
        let named = self.options.output.is_some();
        if self.adopts() && Box::pin(self.find_leftover(&paths)).await? {
            return Ok(());
        }
        let replaces_empty = self.options.continues_foreign();
        if self.options.existing.keeps_old()
            && !self.opening.is_plan_only()
            && let Err(refused) = partial::refuse_finished(&paths, replaces_empty)
        {
            if self.options.existing == Existing::Verify && self.know_finished(&path) {
                return Ok(());
            }
            if named {
                return Err(refused);
            }
        }
        if named && !self.opening.is_plan_only() {
            partial::refuse_locked(&paths)?;
            if !paths.are_in_place() {
                partial::refuse_foreign(&paths)?;
            }
        }
        if self.options.if_changed && !self.opening.is_plan_only() {
            self.opening.know(&path, Version::of(&path));
        }
        match self.opening.believes_earlier() && paths.checkpoint.exists() {
            true => Box::pin(self.read_earlier(paths)).await,
            false => Ok(()),
        }
    }

    async fn read_earlier(&mut self, paths: Paths) -> Result<(), Error> {
        let checkpoint = paths.checkpoint.clone();
        let read = move || output::earlier(&paths);
        let found = self.engine.writers.crew().blocking(read).await;
        match found.unwrap_or(Ok(Earlier::None)) {
            // Anything but a readable checkpoint is judged when the output is opened.
            Ok(Earlier::Checkpoint(earlier)) => {
                self.claim_earlier(*earlier, Kept::File(checkpoint));
                Ok(())
            }
            // The server may tell another name than the one that was guessed.
            Err(error) if self.options.output.is_some() && !self.opening.is_plan_only() => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// What a storage of the program has of an earlier run, read where that may block.
    pub(super) async fn load_earlier(&mut self) -> Result<(), Error> {
        let own = self.options.own_storage.clone().filter(|_| self.options.window.is_none());
        if let Some(storage) =
            own.filter(|_| self.opening.believes_earlier() && !self.opening.is_plan_only())
        {
            let load = move || output::earlier_in(&*storage);
            let loaded = self.engine.writers.crew().blocking(load).await;
            self.opening.found_in_storage(loaded.transpose()?);
        }
        Ok(())
    }

    /// Has the first request ask for what the checkpoint, which `kept` has, says is
    /// missing of the object that it is of.
    fn claim_earlier(&mut self, checkpoint: Checkpoint, kept: Kept) {
        let selected = checkpoint.selected.clone();
        if checkpoint.total.is_none_or(|total| total == 0)
            || !wants_the_same(self.options.range.as_ref(), selected.as_ref())
        {
            return;
        }
        let identity = &checkpoint.identity;
        let source = self.sources.source_of(|url| identity.is_of(url));
        let told = source.is_some() && !checkpoint.validator.has_malformed_tag();
        let opening = if told || self.options.is_proven_by_digest() {
            output::opening_range(&checkpoint, self.options.first_range_bytes)
        } else {
            // What is to be proven first takes the place of this response.
            ByteRange::new(0, 1)
        };
        // What is kept when this run ends before its first response.
        self.meter.found(output::restored_bytes(&checkpoint));
        let claimed = Resource {
            total: checkpoint.total,
            validator: checkpoint.validator,
            ranges: true,
            encoding: checkpoint.encoding,
            content_type: checkpoint.content_type,
            content_disposition: None,
        };
        let source = source.unwrap_or(0);
        self.planner.prefer(source);
        // Of sources that a digest binds, any may have been the one.
        if !self.is_proven_among_several() {
            self.sources.set_validator(source, claimed.validator.clone());
        }
        self.planner.claim(claimed.clone(), opening);
        self.opening.claim(claimed, selected, kept);
    }
}
