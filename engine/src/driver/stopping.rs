//! The loop's step when a download stops, fails or begins again before its end.
//!
//! Fetchers end first, so that nothing more is stored; then what is stored is recorded, kept for
//! another beginning in this run, or removed. An error says where the next run goes on, which is
//! true only if that run would believe what it finds, so it is read here as it will be then.

use super::Driver;
use crate::disk::resume::earlier::{Earlier, earlier_at, earlier_in, restored_bytes};
use crate::driver::control::Stop;
use crate::model::checkpoint::{Claim, Match};
use crate::model::config::Resume;
use crate::model::error::{Error, ErrorKind, Kept};

impl Driver {
    /// Forgets what is stored, and the object too if `forget_identity`.
    pub(super) async fn reset(&mut self, forget_identity: bool) -> Result<(), Error> {
        let was = self.opening.expected().cloned();
        let urls = self.proofs.joined().to_vec();
        // Before anything else is stored where readers read.
        self.shared.contents.give_up();
        self.meter.begin_again();
        self.forget_joined();
        self.opening.begin_again(forget_identity);
        if forget_identity {
            self.sources.forget_validators();
        }
        match self.proofs.take_altered() {
            true => self.discard().await?,
            false => self.storing.begin_again().await?,
        }
        // Only now, when nothing more is stored.
        self.ending.begin_again(was.map(|resource| (resource, urls)));
        Ok(())
    }

    /// Ends all fetches and removes what is stored, so that no later run
    /// continues it.
    pub(super) async fn discard(&mut self) -> Result<(), Error> {
        self.shared.contents.give_up();
        self.requests.end_all().await;
        self.storing.discard(self.engine.writers.crew()).await
    }

    pub(super) async fn end_with(&mut self, error: Error) {
        let kept = self.stop().await;
        let error = self.with_kept(error, kept).await;
        self.ending.set(Err(error));
    }

    /// Ends all fetches and records what was stored.
    async fn stop(&mut self) -> Option<Kept> {
        // The lock is given up below, and with it what readers read.
        self.shared.leave();
        self.shared.contents.close();
        self.requests.end_all().await;
        match self.storing.stop().await {
            Some(kept) => kept,
            None => self.opening.earlier().cloned(),
        }
    }

    /// The error of a download that was told to stop.
    pub(super) async fn stopped(&mut self, how: Stop) -> Error {
        let error = Error::new(ErrorKind::Cancelled, "the download was stopped");
        // A download that never had its turn may still have something to keep or remove.
        if self.queue.begins()
            && let Err(error) = self.look_for_earlier().await
        {
            tracing::debug!(%error, "nothing is known of an earlier run");
        }
        if how == Stop::Keep {
            let kept = self.stop().await;
            self.publish_progress(false);
            return self.with_kept(error, kept).await;
        }
        self.publish_progress(false);
        self.shared.contents.close();
        self.requests.end_all().await;
        let (own, in_place) = (self.options.own_storage.clone(), self.options.in_place);
        let (earlier, crew) = (self.opening.earlier().cloned(), self.engine.writers.crew());
        let removed = self.storing.remove(earlier, own, in_place, crew).await;
        removed.err().unwrap_or(error)
    }

    /// Adds what is kept to the error, if the next run goes on from it.
    pub(super) async fn with_kept(&self, error: Error, kept: Option<Kept>) -> Error {
        let kept = match error.kind() {
            // The next run ends the same way, or begins with another version of the object.
            ErrorKind::Locked
            | ErrorKind::OutputExists
            | ErrorKind::LimitReached
            | ErrorKind::ObjectChanged => None,
            _ => kept,
        };
        match kept {
            Some(kept) if self.would_continue(&kept).await => error.with_checkpoint(kept),
            _ => error,
        }
    }

    /// Whether the next run goes on from what is kept, if the server tells it the same as this one.
    /// Reads here what that run will read.
    async fn would_continue(&self, kept: &Kept) -> bool {
        let own = self.options.own_storage.clone();
        let kept = kept.clone();
        let read = move || match (kept, own) {
            (Kept::File(path), _) => earlier_at(&path),
            (Kept::Storage, Some(storage)) => earlier_in(&*storage),
            (Kept::Storage, None) => Ok(Earlier::None),
        };
        let found = self.blocking(read).await;
        let Ok(Ok(Earlier::Checkpoint(checkpoint))) = found else { return false };
        let claim = Claim {
            same_url: true,
            digest: self.options.is_proven_by_digest(),
            told: !self.proofs.claimed().is_empty(),
            always: self.options.resume == Resume::Always,
        };
        self.options.resume != Resume::Never
            && restored_bytes(&checkpoint) > 0
            && self.opening.expected().is_some_and(|seen| {
                let seen = self.opening.claimed_or(seen, self.is_proven_among_several());
                seen.ranges && !matches!(checkpoint.matches(&seen, claim), Match::Different(_))
            })
    }
}
