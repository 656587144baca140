//! Where the bytes go.
//!
//! While the output is open there is a [`Store`], whose reports come through an inbox. When the
//! download begins again, the reports of the old store are forgotten and its place, with the
//! lock, is kept for the next one. The output's name is held among the downloads of the engine
//! from before the output is opened until the download has ended; what other processes could not
//! see yet is claimed for as long.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::disk::claims::{Claim, Claimed, Claims};
use crate::disk::crew::Crew;
use crate::disk::holds::{Hold, Holds};
use crate::disk::keeper::Published;
use crate::disk::keeper::{KeeperEvent, KeeperHandle, KeeperOptions};
use crate::disk::place::Place;
use crate::disk::prove::Expected;
use crate::disk::publish::PublishOptions;
use crate::disk::resume::refusing::claimed_elsewhere;
use crate::disk::resume::taking::remove_earlier;
use crate::disk::storage::Storage;
use crate::disk::writer::Sink;
use crate::driver::inbox::Inbox;
use crate::model::error::{Error, Kept};
use crate::model::samples::Proof;

#[derive(Default)]
pub(super) struct Storing {
    store: Option<KeeperHandle>,
    reports: Inbox<KeeperEvent>,
    /// The place of an earlier store of this run, for the next one.
    kept: Option<Place>,
    output: Option<PathBuf>,
    hold: Option<Arc<Hold>>,
    claim: Option<Claim>,
}

impl Storing {
    pub(super) fn is_open(&self) -> bool {
        self.store.is_some()
    }

    /// The name of what is stored, once it is known.
    pub(super) fn output(&self) -> Option<&Path> {
        self.output.as_deref()
    }

    pub(super) fn set_output(&mut self, output: Option<PathBuf>) {
        self.output = output;
    }

    /// Starts storing, with options made from the hold and the sender for reports.
    pub(super) fn open(
        &mut self,
        options: impl FnOnce(
            Option<Arc<Hold>>,
            tokio::sync::mpsc::UnboundedSender<KeeperEvent>,
        ) -> KeeperOptions,
    ) -> Result<(), Error> {
        self.store = Some(KeeperHandle::open(options(self.hold.clone(), self.reports.sender()))?);
        Ok(())
    }

    /// Where to hand bytes; `None` while nothing is open.
    pub(super) fn sink(&self) -> Option<Sink> {
        self.store.as_ref().map(KeeperHandle::sink)
    }

    /// Only a digest binds the bytes from here on.
    pub(super) fn note_mixed(&self) {
        if let Some(store) = &self.store {
            store.note_mixed();
        }
    }

    /// Stored bytes to compare a URL with, if there are any; with `begun`, also bytes of incomplete
    /// segments.
    pub(super) async fn proof(&self, begun: bool, seed: u64) -> Option<Proof> {
        self.store.as_ref()?.proof(begun, seed).await
    }

    /// Waits for the next report of the store. Cancel safe.
    pub(super) async fn next(&mut self) -> KeeperEvent {
        self.reports.next().await
    }

    /// Publishes what is stored; `None` if nothing is.
    pub(super) async fn finish(
        &mut self,
        publish: PublishOptions,
        expected: Expected,
    ) -> Option<Published> {
        Some(self.store.take()?.finish(publish, expected).await)
    }

    /// Forgets the reports of the finished store, which are of no use.
    pub(super) fn forget_reports(&mut self) {
        self.reports.forget();
    }

    /// Ends storing, and keeps the place for another store in this run.
    pub(super) async fn begin_again(&mut self) -> Result<(), Error> {
        let Some(store) = self.store.take() else { return Ok(()) };
        // Reports of the old epoch must not reach the new one.
        self.reports.forget();
        self.kept = Some(store.reset().await?);
        Ok(())
    }

    /// Ends storing and removes what is stored, so that no later run continues it.
    pub(super) async fn discard(&mut self, crew: Crew) -> Result<(), Error> {
        let Some(store) = self.store.take() else { return Ok(()) };
        self.reports.forget();
        unlink(store.reset().await?, crew).await
    }

    /// Ends storing, records what is stored, and returns what is kept of it. `None` if nothing was
    /// open.
    pub(super) async fn stop(&mut self) -> Option<Option<Kept>> {
        Some(self.store.take()?.stop().await.ok().flatten())
    }

    /// Removes what is stored, of this run or of an `earlier` one, whose bytes may be in the
    /// program's `own` storage.
    pub(super) async fn remove(
        &mut self,
        earlier: Option<Kept>,
        own: Option<Arc<dyn Storage>>,
        in_place: bool,
        crew: Crew,
    ) -> Result<(), Error> {
        let place = match (self.store.take(), self.kept.take(), earlier) {
            (Some(store), ..) => store.reset().await?,
            (None, Some(kept), _) => kept,
            (None, None, Some(Kept::File(checkpoint))) => {
                // Another haul that has begun with it in the meantime keeps it.
                let remove = move || remove_earlier(&checkpoint, in_place);
                return crew.blocking(remove).await.unwrap_or(Ok(()));
            }
            (None, None, Some(Kept::Storage)) => match own {
                Some(storage) => Place::Own(storage),
                None => return Ok(()),
            },
            (None, None, None) => return Ok(()),
        };
        unlink(place, crew).await
    }

    /// Whether a place is kept from before the download began again.
    pub(super) fn keeps_place(&self) -> bool {
        self.kept.is_some()
    }

    pub(super) fn take_place(&mut self) -> Option<Place> {
        self.kept.take()
    }

    /// Claims what is to be fetched, so that no other process fetches it at the same time.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`](crate::ErrorKind::Locked) where another one does.
    pub(super) fn claim(&mut self, claims: &Claims, claimed: Claimed<'_>) -> Result<(), Error> {
        if self.claim.is_none() {
            self.claim = claims.take(claimed).map_err(|_| claimed_elsewhere(claimed))?;
        }
        Ok(())
    }

    /// Ensures that no other download of the engine writes the same output. One that is `leaving`
    /// is waited for, since what it leaves is continued.
    pub(super) async fn take_name(
        &mut self,
        holds: &Arc<Holds>,
        output: &Path,
        leaving: &Arc<AtomicBool>,
    ) -> Result<(), Error> {
        if self.hold.is_none() {
            self.hold = Some(holds.take(output, leaving).await?);
        }
        Ok(())
    }

    /// What keeps the output's name from other downloads.
    pub(super) fn hold(&self) -> Option<Arc<Hold>> {
        self.hold.clone()
    }

    /// Lets other downloads of the engine take the output's name.
    pub(super) fn release_name(&mut self) {
        self.hold = None;
    }

    /// Lets all others fetch what was claimed.
    pub(super) fn release_claim(&mut self) {
        self.claim = None;
    }
}

async fn unlink(place: Place, crew: Crew) -> Result<(), Error> {
    let path = place.data().to_owned();
    match crew.blocking(move || place.remove()).await {
        Some(Err(error)) => Err(Error::io("cannot remove", &path, error)),
        _ => Ok(()),
    }
}
