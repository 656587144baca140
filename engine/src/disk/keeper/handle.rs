//! The driver's way to one download's data on the disk, from the first byte to the final name. The
//! download's keeper does the work, mostly on a thread of its own, with the engine's writer
//! threads.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::conclusion::Published;
use super::ending::End;
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

/// The arguments of [`KeeperHandle::open`].
pub(crate) struct KeeperOptions {
    /// Where everything is kept: the checkpoint of a locked partial was written before the partial
    /// got a length.
    pub(crate) place: Place,
    /// The storage for that place.
    pub(crate) storage: Arc<dyn Storage>,
    /// The engine's writers.
    pub(crate) writers: Writers,
    /// The object's identity and layout, and what an earlier run left.
    pub(crate) checkpoint: Checkpoint,
    /// Whether data and checkpoint are synced to the disk.
    pub(crate) sync: bool,
    /// The engine's syncs of directories.
    pub(crate) directories: Arc<DirectorySyncs>,
    /// The engine's small downloads that are ending.
    pub(crate) endings: Arc<Endings>,
    /// Whether stored bytes are hashed with BLAKE3. If not, a later run continues only what was
    /// synced, so the data is synced in the background and at a stop regardless of `sync`.
    pub(crate) digest: bool,
    /// The digest that the object will be compared with, computed while the bytes arrive. A digest
    /// known only later is computed at the end.
    pub(crate) expected: Option<DigestAlgorithm>,
    /// The window, where that is the storage: fetchers wait for room in it.
    pub(crate) window: Option<Arc<Window>>,
    /// Digests of pieces, which fit the object. With them no segment is reported as stored or
    /// verified before its pieces are good.
    pub(crate) pieces: Option<Pieces>,
    /// The hold on the output's name within the engine, kept until the lock is free.
    pub(crate) hold: Option<Arc<Hold>>,
    /// Tells readers what is stored.
    pub(crate) readable: Arc<Readable>,
    /// Where events go.
    pub(crate) events: mpsc::UnboundedSender<KeeperEvent>,
}

/// The data of one running download. Dropping it, with or without a runtime, is a
/// [`KeeperHandle::stop`] that nobody waits for.
pub(crate) struct KeeperHandle {
    sink: Sink,
    endings: Arc<Endings>,
    keeper: Arc<Mailbox>,
    hold: Option<Arc<Hold>>,
    ended: bool,
}

impl KeeperHandle {
    /// Starts the keeper, and hashes again what an earlier run completed or began: each such
    /// segment gets an event, durable ones get none.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when a thread cannot be started.
    pub(crate) fn open(options: KeeperOptions) -> Result<Self, Error> {
        let (writers, readable) = (options.writers.clone(), Arc::clone(&options.readable));
        for (segment, record) in (0_u32..).zip(&options.checkpoint.segments) {
            if matches!(record, SegmentRecord::Durable(_)) {
                readable.whole(segment);
            }
        }
        // A file that is all or nothing is small and soon done. Nothing has to be done for it while
        // it arrives, and a digest that needs the bytes in order is had just as soon from memory.
        // Thousands of threads for them would cost more than the files do.
        let in_memory = matches!(options.place, Place::Unnamed(_));
        let on_call = in_memory && options.pieces.is_none() && writers.crew() == Crew::Threads;
        let (mailbox, inbox) = Mailbox::new();
        let epoch = Arc::new(Epoch::new(
            Arc::clone(&options.storage),
            options.window.clone(),
            options.checkpoint.layout(),
            options.digest,
            in_memory,
            Arc::clone(&mailbox) as Arc<dyn Reports>,
            readable,
        ));
        let handle = Self {
            sink: Sink::new(Arc::clone(&epoch), writers.clone()),
            endings: Arc::clone(&options.endings),
            keeper: Arc::clone(&mailbox),
            hold: options.hold.clone(),
            ended: false,
        };
        let (pieces, expected) = (options.pieces.clone(), options.expected);
        let mut keeper = Keeper::new(options, mailbox, inbox, epoch);
        let no_thread = |error| {
            Error::new(ErrorKind::Internal, format!("cannot start a thread: {error}"))
                .with_source(error)
        };
        if on_call {
            handle.keeper.attend(keeper);
            return Ok(handle);
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
        Ok(handle)
    }

    /// Where received bytes go.
    pub(crate) fn sink(&self) -> Sink {
        self.sink.clone()
    }

    /// Checks the complete object, compares its digests with the `expected` ones and gives the file
    /// its final name.
    ///
    /// # Errors
    /// The error, and the checkpoint if the partial is kept. [`ErrorKind::DigestMismatch`] discards
    /// both; otherwise the errors of [`crate::disk::publish::publish`], a failure already reported
    /// as an event, and [`ErrorKind::Internal`] when a segment is missing.
    pub(crate) async fn finish(self, publish: PublishOptions, expected: Expected) -> Published {
        let outcome = self.end(|reply| End::Finish { publish, expected, reply }).await;
        outcome.unwrap_or_else(|error| Err((error, None)))
    }

    /// Stores what is in flight, writes the last checkpoint and returns where it is; if it cannot
    /// be written, where an older one is; `None` where nothing is kept. The lock is free
    /// afterwards. The data is synced only if nothing else would let a later run believe it.
    ///
    /// # Errors
    /// When there is no checkpoint although there should be one.
    pub(crate) async fn stop(self) -> Result<Option<Kept>, Error> {
        self.end(|reply| End::Stop { reply }).await?
    }

    /// Forgets everything that is stored, for a restart from zero. The returned place keeps the
    /// lock.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when a thread of the engine is gone.
    pub(crate) async fn reset(self) -> Result<Place, Error> {
        self.end(|reply| End::Reset { reply }).await?
    }

    /// Stored bytes that another URL can be compared with: complete segments, or the beginnings of
    /// others.
    pub(crate) async fn proof(&self, begun: bool, seed: u64) -> Option<Proof> {
        let (reply, proof) = oneshot::channel();
        self.keeper.send(KeeperMessage::Prove { begun, seed, reply });
        proof.await.ok().flatten()
    }

    /// Notes that from now on bytes are joined that only a digest can show to be the object's.
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
