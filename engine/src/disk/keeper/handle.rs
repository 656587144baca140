//! The driver's way to one download's data on the disk, from the first byte to the final name.
//! The work is done by the keeper of the download,
//! mostly on a thread of its own, and the writer threads of the engine.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::ending::{End, Published};
use super::endings::Endings;
use super::mailbox::{KeeperMessage, Mailbox};
use super::{Keeper, KeeperEvent};
use crate::disk::crew::Crew;
use crate::disk::directory_sync::DirectorySyncs;
use crate::disk::holds::Hold;
use crate::disk::place::Place;
use crate::disk::prove::Expected;
use crate::disk::publish::PublishOptions;
use crate::disk::readable::Readable;
use crate::disk::storage::Storage;
use crate::disk::storage::window::Window;
use crate::disk::writer::{Epoch, Reports, Sink, Writers};
use crate::model::checkpoint::{Checkpoint, SegmentRecord};
use crate::model::config::{DigestAlgorithm, Pieces};
use crate::model::error::{Error, ErrorKind, Kept};
use crate::model::samples::Proof;

/// What [`KeeperHandle::open`] takes.
pub(crate) struct KeeperOptions {
    /// Where everything is kept: a locked partial has had its checkpoint written
    /// before it got a length.
    pub(crate) place: Place,
    /// The storage of that place.
    pub(crate) storage: Arc<dyn Storage>,
    /// The engine's writers.
    pub(crate) writers: Writers,
    /// The object's identity and layout, and what an earlier run left.
    pub(crate) checkpoint: Checkpoint,
    /// Whether data and checkpoint are synced to the disk.
    pub(crate) sync: bool,
    /// The engine's syncs of directories.
    pub(crate) directories: Arc<DirectorySyncs>,
    /// The engine's ends of small downloads.
    pub(crate) endings: Arc<Endings>,
    /// Whether what is stored is hashed with BLAKE3. Without, a later run
    /// continues only what was synced, so the data is synced in the background
    /// and at a stop all the same.
    pub(crate) digest: bool,
    /// The digest that the object will be compared with: it is computed while
    /// the bytes come. One that is known only later is computed at the end.
    pub(crate) expected: Option<DigestAlgorithm>,
    /// Where the storage is one: fetchers wait for room in it.
    pub(crate) window: Option<Arc<Window>>,
    /// Digests of pieces, which fit the object. With them no segment is told as
    /// stored or verified before its pieces are good.
    pub(crate) pieces: Option<Pieces>,
    /// The output's name among those of the engine, held until the lock is free.
    pub(crate) hold: Option<Arc<Hold>>,
    /// What readers are told of.
    pub(crate) readable: Arc<Readable>,
    /// Where events go.
    pub(crate) events: mpsc::UnboundedSender<KeeperEvent>,
}

/// The data of one running download. Dropping it, with or without a runtime,
/// is a [`KeeperHandle::stop`] that is not waited for.
pub(crate) struct KeeperHandle {
    epoch: Arc<Epoch>,
    writers: Writers,
    endings: Arc<Endings>,
    keeper: Arc<Mailbox>,
    hold: Option<Arc<Hold>>,
    ended: bool,
}

impl KeeperHandle {
    /// Starts the keeper, and hashing again what an earlier run completed or
    /// began: an event comes for each such segment, none for durable ones.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when a thread cannot be started.
    pub(crate) fn open(options: KeeperOptions) -> Result<Self, Error> {
        let KeeperOptions {
            place,
            storage,
            writers,
            checkpoint,
            sync,
            directories,
            endings,
            digest,
            expected,
            window,
            pieces,
            hold,
            readable,
            events,
        } = options;
        let layout = checkpoint.layout();
        for (segment, record) in (0_u32..).zip(&checkpoint.segments) {
            if matches!(record, SegmentRecord::Durable(_)) {
                readable.whole(segment);
            }
        }
        // A file that is all or nothing is small and soon over: while it comes
        // nothing is to be done for it, and a digest that needs the bytes in order is
        // as soon had from the memory. A thread for each of thousands would cost more
        // than they do.
        let in_memory = matches!(place, Place::Unnamed(_));
        let on_call = in_memory && pieces.is_none() && writers.crew() == Crew::Threads;
        let (mailbox, inbox) = Mailbox::new();
        let epoch = Arc::new(Epoch::new(
            (storage, window),
            layout,
            digest,
            in_memory,
            Arc::clone(&mailbox) as Arc<dyn Reports>,
            readable,
        ));
        let mut keeper = Keeper::new(
            (Arc::clone(&mailbox), inbox),
            place,
            Arc::clone(&epoch),
            writers.clone(),
            checkpoint,
            (sync, directories),
            events,
        );
        let no_thread = |error| {
            Error::new(ErrorKind::Internal, format!("cannot start a thread: {error}"))
                .with_source(error)
        };
        if on_call {
            mailbox.attend(keeper);
            return Ok(Self { epoch, writers, endings, keeper: mailbox, hold, ended: false });
        }
        keeper.start_verifying().map_err(no_thread)?;
        if let Some(pieces) = pieces {
            keeper.check_pieces(pieces).map_err(no_thread)?;
        }
        if let Some(algorithm) = expected {
            keeper.hash_behind(algorithm).map_err(no_thread)?;
        }
        match writers.crew() {
            Crew::Threads => {
                writers.crew().start("haul-keeper", || keeper.run()).map_err(no_thread)?;
            }
            #[cfg(test)]
            Crew::Inline => drop(tokio::spawn(keeper.run_as_task())),
        }
        Ok(Self { epoch, writers, endings, keeper: mailbox, hold, ended: false })
    }

    /// Where received bytes go.
    pub(crate) fn sink(&self) -> Sink {
        Sink::new(Arc::clone(&self.epoch), self.writers.clone())
    }

    /// Checks the complete object, compares its digests with those that
    /// are `expected` and gives the file its final name.
    ///
    /// # Errors
    /// The error, and the checkpoint if the partial is kept.
    /// [`ErrorKind::DigestMismatch`] discards both; otherwise those of
    /// [`crate::disk::publish::publish`], a failure told before as an event, and
    /// [`ErrorKind::Internal`] when a segment is missing.
    pub(crate) async fn finish(self, publish: PublishOptions, expected: Expected) -> Published {
        let outcome = self.end(|reply| End::Finish { publish, expected, reply }).await;
        outcome.unwrap_or_else(|error| Err((error, None)))
    }

    /// Stores what is in flight and writes the last checkpoint, whose path it
    /// gives; where it cannot be written, that of an older one; `None` where nothing
    /// is kept. The lock is free afterwards. The data is synced only
    /// where that is all that lets a later run believe it.
    ///
    /// # Errors
    /// When there is no checkpoint and should be one.
    pub(crate) async fn stop(self) -> Result<Option<Kept>, Error> {
        self.end(|reply| End::Stop { reply }).await?
    }

    /// Forgets everything that is stored, for a restart from zero. The lock is
    /// kept with the place.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when a thread of the engine is gone.
    pub(crate) async fn reset(self) -> Result<Place, Error> {
        self.end(|reply| End::Reset { reply }).await?
    }

    /// By what of all that is stored another URL can be compared: complete segments, or
    /// what there is of those that were begun.
    pub(crate) async fn proof(&self, begun: bool, seed: u64) -> Option<Proof> {
        let (reply, proof) = oneshot::channel();
        self.keeper.send(KeeperMessage::Prove { begun, seed, reply });
        proof.await.ok().flatten()
    }

    /// Bytes are joined from now on that only a digest shows to be the object's.
    pub(crate) fn note_mixed(&self) {
        self.keeper.send(KeeperMessage::Mixed);
    }

    async fn end<T>(mut self, end: impl FnOnce(oneshot::Sender<T>) -> End) -> Result<T, Error> {
        let (reply, outcome) = oneshot::channel();
        self.ended = true;
        self.keeper.end(end(reply), &self.endings);
        outcome.await.map_err(|_| {
            Error::new(ErrorKind::Internal, "the thread that keeps the checkpoint ended early")
        })
    }
}

impl Drop for KeeperHandle {
    fn drop(&mut self) {
        if !self.ended {
            self.keeper.end(End::Abandon { hold: self.hold.take() }, &self.endings);
        }
    }
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
