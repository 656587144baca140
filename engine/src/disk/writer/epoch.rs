//! Where bytes go: one epoch of a download, and how its fetchers hand bytes in.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Message, Report, Reports, Writers};
use crate::disk::readable::Readable;
use crate::disk::storage::Storage;
use crate::disk::storage::window::Window;
use crate::model::layout::Layout;

/// One epoch of one download: from its start, or a restart from zero, until the
/// writers close it.
pub(crate) struct Epoch {
    pub(super) id: u64,
    pub(in crate::disk) storage: Arc<dyn Storage>,
    /// The storage again, where it is a window in memory.
    pub(in crate::disk) window: Option<Arc<Window>>,
    pub(in crate::disk) layout: Layout,
    /// Whether segments are hashed, as they are stored or once all of them are.
    pub(in crate::disk) digest: bool,
    /// Whether the storage is only memory: storing there needs no thread, and
    /// hashing waits until all of it is there.
    pub(super) at_once: bool,
    reports: Arc<dyn Reports>,
    pub(super) accepting: AtomicBool,
    pub(super) failed: AtomicBool,
    /// One bit for each writer that was told to close. A chunk that was sent while
    /// the epoch was being closed is not stored any more.
    pub(super) closed: AtomicU64,
    pub(super) stored_bytes: AtomicU64,
    /// Tells readers what is stored.
    pub(in crate::disk) readable: Arc<Readable>,
}

impl Epoch {
    pub(in crate::disk) fn new(
        storage: Arc<dyn Storage>,
        window: Option<Arc<Window>>,
        layout: Layout,
        digest: bool,
        at_once: bool,
        reports: Arc<dyn Reports>,
        readable: Arc<Readable>,
    ) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            storage,
            window,
            layout,
            digest,
            at_once,
            reports,
            accepting: AtomicBool::new(true),
            failed: AtomicBool::new(false),
            closed: AtomicU64::new(0),
            stored_bytes: AtomicU64::new(0),
            readable,
        }
    }

    /// How many bytes this epoch has stored.
    pub(in crate::disk) fn stored_bytes(&self) -> u64 {
        self.stored_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn report(&self, report: Report) {
        self.reports.report(report);
    }

    pub(super) fn fail(&self, error: io::Error) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            self.report(Report::Failed(error));
        }
    }
}

/// Where the fetchers of one download put received bytes.
#[derive(Clone)]
pub(crate) struct Sink {
    epoch: Arc<Epoch>,
    writers: Writers,
}

/// The download has ended, or a writer thread has; nothing was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SinkClosed;

impl Sink {
    pub(in crate::disk) fn new(epoch: Arc<Epoch>, writers: Writers) -> Self {
        Self { epoch, writers }
    }

    /// See [`Writers::budget`].
    pub(crate) fn budget(&self) -> &Arc<Semaphore> {
        self.writers.budget()
    }

    /// Waits until there is room for the byte at `position`. Returns at once,
    /// except where bytes are kept in memory until somebody takes them.
    pub(crate) async fn has_room(&self, position: u64) {
        if let Some(window) = &self.epoch.window {
            window.has_room(position).await;
        }
    }

    /// Hands over the bytes in `pieces`, which follow each other from `offset` on,
    /// counted from the object's first byte. Inside a segment each call begins
    /// where the last one ended. `permit` covers the bytes and is released once
    /// they are stored.
    ///
    /// # Errors
    /// [`SinkClosed`] when the download has ended. A failure to store is reported
    /// as an event.
    pub(crate) fn store(
        &self,
        offset: u64,
        pieces: Vec<Bytes>,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), SinkClosed> {
        if !self.epoch.accepting.load(Ordering::Acquire) {
            return Err(SinkClosed);
        }
        let permit = Arc::new(permit);
        let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let (mut segment, mut end) = self.epoch.layout.segment_at(offset);
        if offset.saturating_add(len) <= end {
            return self.send(segment, offset, pieces, &permit);
        }
        let (mut start, mut at, mut part) = (offset, offset, Vec::new());
        for mut piece in pieces {
            while !piece.is_empty() {
                let room = usize::try_from(end - at).unwrap_or(usize::MAX);
                let taken = piece.split_to(room.min(piece.len()));
                at += taken.len() as u64;
                part.push(taken);
                if at == end {
                    self.send(segment, start, std::mem::take(&mut part), &permit)?;
                    start = at;
                    (segment, end) = self.epoch.layout.segment_at(at);
                }
            }
        }
        self.send(segment, start, part, &permit)
    }

    fn send(
        &self,
        segment: u32,
        offset: u64,
        pieces: Vec<Bytes>,
        permit: &Arc<OwnedSemaphorePermit>,
    ) -> Result<(), SinkClosed> {
        if pieces.iter().all(Bytes::is_empty) {
            return Ok(());
        }
        let epoch = Arc::clone(&self.epoch);
        let permit = Arc::clone(permit);
        let chunk = Message::Chunk { epoch, segment, offset, pieces, permit };
        self.writers.send(&self.epoch, segment, chunk)
    }
}
