//! The loop's step before the first request: what an earlier run left at the output.
//!
//! Where the output's name is known or can be guessed, its checkpoint is read, so that the first
//! request already asks for something missing. Nothing is locked yet, and what is read here is
//! read again, and judged, when the output is opened.

use super::Driver;
use super::opening::wants_the_same;
use crate::disk::claims::Claimed;
use crate::disk::resume::earlier::{opening_range, restored_bytes};
use crate::disk::resume::{self, Found, Names, Question, ShownBy};
use crate::fault_point;
use crate::model::checkpoint::Checkpoint;
use crate::model::error::{Error, Kept};
use crate::model::range::ByteRange;
use crate::model::resource::Resource;

impl Driver {
    /// Asks what an earlier run left, so that the first request already asks for something
    /// that is missing.
    pub(super) async fn look_for_earlier(&mut self) -> Result<(), Error> {
        // First, so that whatever another process has completed by then is seen below.
        self.claim()?;
        if self.worth_dialing_ahead(&self.options.url) > 0 {
            // A server that bears few connections is not to be shown more.
            self.remember_connections().await;
        }
        let Some(question) = self.question() else { return Ok(()) };
        // Boxed, so that not every download needs room for it.
        let answer = Box::pin(resume::ask(self.engine.writers.crew(), question)).await?;
        self.opening.know(answer.known);
        match answer.found {
            Found::Nothing => {}
            Found::Begun(checkpoint, kept) => self.claim_earlier(*checkpoint, kept),
            // The first request learns only what the object is.
            Found::Foreign | Found::Finished => self.planner.probe(),
        }
        Ok(())
    }

    /// Claims an object that may be small, and so have no partial that others see.
    fn claim(&mut self) -> Result<(), Error> {
        let options = &self.options;
        let is_wanted = options.small_bytes > 0
            && options.existing.keeps_old()
            && !(options.plan_only || options.keeps_nothing() || options.in_place);
        if !is_wanted || fault_point::has_bug!(NoClaims) {
            return Ok(());
        }
        let output = options.output.as_ref().map(|output| options.directory.join(output));
        let claimed = match &output {
            Some(output) => Claimed::Output(output),
            None => Claimed::Object(&options.directory, &options.url),
        };
        self.storing.claim(&self.engine.claims, claimed)
    }

    fn question(&self) -> Option<Question> {
        let options = &self.options;
        let (believes, plan_only) = (self.opening.believes_earlier(), self.options.plan_only);
        if options.keeps_nothing() {
            let own = options.own_storage.as_ref().filter(|_| options.window.is_none());
            let own = own.filter(|_| believes && !plan_only);
            return own.cloned().map(Question::Storage);
        }
        let shown_by = match options.checksum {
            Some(_) => ShownBy::Digest,
            None => ShownBy::Version,
        };
        Some(Question::Names(Names {
            directory: options.directory.clone(),
            output: options.output.clone(),
            url_path: options.url.path().to_owned(),
            guesses: options.small_bytes == 0,
            existing: options.existing,
            in_place: options.in_place,
            replaces_empty: options.continues_foreign(),
            adopts: self.adopts(),
            believes,
            plan_only,
            if_changed: options.if_changed,
            shown_by: self.can_be_shown().then_some(shown_by),
        }))
    }

    /// Has the first request ask for what is missing of the object according to the checkpoint,
    /// which is in `kept`.
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
            opening_range(&checkpoint, self.options.first_range_bytes)
        } else {
            // The proof that comes first takes the place of this response.
            ByteRange::new(0, 1)
        };
        // This is kept if the run ends before its first response.
        self.meter.found(restored_bytes(&checkpoint));
        let claimed = Resource {
            total: checkpoint.total,
            validator: checkpoint.validator,
            ranges: true,
            encoding: checkpoint.encoding,
            content_type: checkpoint.content_type,
            ..Resource::default()
        };
        let source = source.unwrap_or(0);
        self.planner.prefer(source);
        // Of sources that a digest binds, any may have been the earlier one.
        if !self.is_proven_among_several() {
            self.sources.set_validator(source, claimed.validator.clone());
        }
        self.planner.claim(claimed.clone(), opening);
        self.opening.claim(claimed, selected, kept);
    }
}
