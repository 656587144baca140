//! The writer threads: the only code that stores received bytes.
//!
//! An engine has a few of them for all its downloads. Every chunk of a segment
//! goes to the same thread, chosen by the segment's number, through
//! one queue and in order; so a segment is always a prefix, hashed as it is
//! stored, and what follows it. Nothing here waits for a runtime: the queues
//! always drain, at worst as slowly as the disk.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use crossbeam_channel::{Sender, TrySendError, bounded};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::crew::Crew;
use super::keeper::{KeeperMessage, Mailbox};
use super::storage::window::Window;
use super::storage::{SegmentWriter, Storage};
use super::stored::Stored;
use crate::fault_point::{self, Call};
use crate::model::checkpoint::{Checkpoint, Prefix, segment_count};
use crate::model::digest_tree::SegmentHasher;
use crate::model::range::ByteRange;
#[cfg(test)]
use crate::simulation::disk::SlowDisk;

/// As many as [`Target::closed`] has bits.
const MAX_THREADS: usize = 64;

/// Bytes in flight for each place in a queue. Chunks are larger than this,
/// except where they are cut at the end of a segment.
const BYTES_PER_PLACE: usize = 4096;

/// Places for messages without bytes, and for the cut chunks.
const SPARE_PLACES: usize = 1024;

/// A handle of the writer threads. They end when the last handle and the last
/// [`Sink`] are dropped.
#[derive(Clone)]
pub(crate) struct Writers {
    shared: Arc<Shared>,
}

struct Shared {
    lanes: Vec<Lane>,
    budget: Arc<Semaphore>,
    crew: Crew,
    /// What makes storing take simulated time.
    #[cfg(test)]
    slow: std::sync::OnceLock<SlowDisk>,
}

/// The way to one writer.
enum Lane {
    Thread(Sender<Message>),
    #[cfg(test)]
    Inline(std::sync::Mutex<Writer>),
}

impl Lane {
    /// The budget nearly always leaves a free place. Where many small cuts have
    /// filled the queue this waits, which cannot deadlock: a writer waits for
    /// nothing but the disk.
    fn send(&self, message: Message) -> Result<(), StoreClosed> {
        match self {
            Self::Thread(sender) => match sender.try_send(message) {
                Ok(()) => Ok(()),
                Err(TrySendError::Full(message)) => sender.send(message).map_err(|_| StoreClosed),
                Err(TrySendError::Disconnected(_)) => Err(StoreClosed),
            },
            #[cfg(test)]
            Self::Inline(writer) => {
                writer.lock().expect("a writer does not panic").take(message);
                Ok(())
            }
        }
    }
}

impl Writers {
    /// Starts `threads` threads (1 to 64) that share a budget of
    /// `budget_bytes` received and not yet stored bytes. When a thread cannot
    /// be started, storing fails with [`StoreClosed`].
    pub(crate) fn new(crew: Crew, threads: usize, budget_bytes: usize) -> Self {
        let start = |index: usize| {
            let mut writer = Writer { bit: 1 << index, targets: HashMap::new() };
            #[cfg(test)]
            if crew == Crew::Inline {
                return Lane::Inline(std::sync::Mutex::new(writer));
            }
            let (sender, receiver) = bounded(budget_bytes / BYTES_PER_PLACE + SPARE_PLACES);
            let run = move || receiver.iter().for_each(|message| writer.take(message));
            if let Err(error) = crew.start(&format!("haul-writer-{index}"), run) {
                tracing::error!(%error, "cannot start a writer thread");
            }
            Lane::Thread(sender)
        };
        let lanes = (0..threads.clamp(1, MAX_THREADS)).map(start).collect();
        let budget = Arc::new(Semaphore::new(budget_bytes.min(Semaphore::MAX_PERMITS)));
        Self {
            shared: Arc::new(Shared {
                lanes,
                budget,
                crew,
                #[cfg(test)]
                slow: std::sync::OnceLock::new(),
            }),
        }
    }

    /// From here on the budget comes back only as fast as `disk` stores.
    #[cfg(test)]
    pub(crate) fn slow_down(&self, disk: SlowDisk) {
        self.shared.slow.set(disk).expect("one disk");
    }

    /// Who does this engine's blocking work.
    pub(crate) fn crew(&self) -> Crew {
        self.shared.crew
    }

    /// Bytes that may still be received before some are stored: one permit for
    /// each.
    pub(crate) fn budget(&self) -> &Arc<Semaphore> {
        &self.shared.budget
    }

    /// How many threads there are.
    pub(super) fn threads(&self) -> usize {
        self.shared.lanes.len()
    }

    /// Continues `segment` at the offset `next`, with `hasher` having taken all
    /// bytes before it.
    pub(super) fn seed(
        &self,
        target: &Arc<Target>,
        segment: u32,
        hasher: SegmentHasher,
        next: u64,
    ) {
        let seed =
            Message::Seed { target: Arc::clone(target), segment, hasher: hasher.into(), next };
        // A writer that is gone is told of by whoever stores next.
        let _ = self.send(target, segment, seed);
    }

    /// What is stored of `segment`, which is complete, is not good: it may be
    /// stored again from its start.
    pub(super) fn forget(&self, target: &Arc<Target>, segment: u32) {
        let forget = Message::Forget { target: Arc::clone(target), segment };
        let _ = self.send(target, segment, forget);
    }

    /// Asks each thread for a [`KeeperMessage::Begun`]. Returns how many
    /// will come.
    pub(super) fn snapshot(&self, target: &Arc<Target>) -> usize {
        let ask =
            |lane: &&Lane| lane.send(Message::Snapshot { target: Arc::clone(target) }).is_ok();
        self.shared.lanes.iter().filter(ask).count()
    }

    /// Stores what is in the queues and refuses everything after it. Returns
    /// the beginnings of the segments that are not complete, in no order; all
    /// other reports were made when this returns. Blocks as long as the disk
    /// takes for the bytes in flight.
    ///
    /// # Errors
    /// When a writer thread is gone; it had no way to report its own.
    pub(super) fn close(&self, target: &Arc<Target>) -> Result<Vec<Begun>, StoreClosed> {
        target.accepting.store(false, Ordering::Release);
        let (reply, replies) = bounded(self.threads());
        for lane in &self.shared.lanes {
            let reply = Some(reply.clone());
            let _ = lane.send(Message::Close { target: Arc::clone(target), reply });
        }
        drop(reply);
        let answers: Vec<Vec<Begun>> = replies.iter().collect();
        if answers.len() < self.threads() {
            return Err(StoreClosed);
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Refuses everything that comes after it and forgets what was stored. Waits
    /// for nobody.
    pub(super) fn let_go(&self, target: &Arc<Target>) {
        target.accepting.store(false, Ordering::Release);
        for lane in &self.shared.lanes {
            let _ = lane.send(Message::Close { target: Arc::clone(target), reply: None });
        }
    }

    fn send(&self, target: &Target, segment: u32, message: Message) -> Result<(), StoreClosed> {
        #[cfg(test)]
        if let (Some(disk), Message::Chunk { pieces, permit, .. }) =
            (self.shared.slow.get(), &message)
        {
            disk.store(pieces.iter().map(Bytes::len).sum(), Arc::clone(permit));
        }
        let lanes = &self.shared.lanes;
        // Of many small objects each has a first segment only.
        lanes[(target.id as usize).wrapping_add(segment as usize) % lanes.len()].send(message)
    }
}

/// How an object is cut into segments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// The object's size in bytes. Without one the object is one segment
    /// without an end.
    pub(crate) total: Option<u64>,
    /// The size of every segment but the last; a power of two.
    pub(crate) segment_size_bytes: u64,
}

impl Layout {
    /// That of the object that a checkpoint is of.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        Self { total: checkpoint.total, segment_size_bytes: checkpoint.segment_size_bytes }
    }

    /// Whether the object is at most one segment, hashed as a whole.
    pub(crate) fn whole(self) -> bool {
        self.total.is_none_or(|total| segment_count(total, self.segment_size_bytes) <= 1)
    }

    /// The bytes of a segment; `None` when the object has no such segment.
    pub(crate) fn range(self, segment: u32) -> Option<ByteRange> {
        let Some(total) = self.total else {
            return (segment == 0).then(|| ByteRange::new(0, u64::MAX));
        };
        let start = u64::from(segment).checked_mul(self.segment_size_bytes)?;
        let end = start.saturating_add(self.segment_size_bytes).min(total);
        (start < end).then(|| ByteRange::new(start, end))
    }

    /// The number of the segment that has the byte at `offset`, and the offset
    /// after it, as if the object had no end.
    pub(super) fn segment_at(self, offset: u64) -> (u32, u64) {
        if self.total.is_none() {
            return (0, u64::MAX);
        }
        let number = offset / self.segment_size_bytes;
        let end = (number + 1).saturating_mul(self.segment_size_bytes);
        (u32::try_from(number).unwrap_or(u32::MAX), end)
    }
}

/// One epoch of one download: from its start, or a restart from zero, to the
/// close at the writers.
pub(crate) struct Target {
    id: u64,
    storage: Arc<dyn Storage>,
    /// What that storage is, where it is in memory.
    window: Option<Arc<Window>>,
    layout: Layout,
    /// Whether segments are hashed.
    digest: bool,
    reports: Mailbox,
    accepting: AtomicBool,
    failed: AtomicBool,
    /// One bit for each writer that was told to close. A chunk that was sent
    /// while the target was being closed is not stored after all.
    closed: AtomicU64,
    stored_bytes: AtomicU64,
    /// For readers.
    stored: Arc<Stored>,
}

impl Target {
    pub(super) fn new(
        (storage, window): (Arc<dyn Storage>, Option<Arc<Window>>),
        layout: Layout,
        digest: bool,
        reports: Mailbox,
        stored: Arc<Stored>,
    ) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            storage,
            window,
            layout,
            digest,
            reports,
            accepting: AtomicBool::new(true),
            failed: AtomicBool::new(false),
            closed: AtomicU64::new(0),
            stored_bytes: AtomicU64::new(0),
            stored,
        }
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether segments are hashed as they are stored.
    pub(super) fn digest(&self) -> bool {
        self.digest
    }

    pub(super) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(super) fn window(&self) -> Option<&Arc<Window>> {
        self.window.as_ref()
    }

    /// What readers are told of.
    pub(super) fn stored(&self) -> &Stored {
        &self.stored
    }

    /// How many bytes were stored in this epoch.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.stored_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn report(&self, message: KeeperMessage) {
        self.reports.send(message);
    }

    fn fail(&self, error: io::Error) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            self.report(KeeperMessage::Failed(error));
        }
    }
}

/// Where the fetchers of one download put received bytes.
#[derive(Clone)]
pub(crate) struct Sink {
    target: Arc<Target>,
    writers: Writers,
}

/// The download has ended, or a writer thread has: nothing was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreClosed;

impl Sink {
    pub(super) fn new(target: Arc<Target>, writers: Writers) -> Self {
        Self { target, writers }
    }

    /// See [`Writers::budget`].
    pub(crate) fn budget(&self) -> &Arc<Semaphore> {
        self.writers.budget()
    }

    /// Waits until there is a place for the byte at `position`. At once, except
    /// where bytes are kept in memory until somebody takes them.
    pub(crate) async fn has_room(&self, position: u64) {
        if let Some(window) = &self.target.window {
            window.has_room(position).await;
        }
    }

    /// Hands over the bytes in `pieces`, which follow each other from `offset`
    /// on, counted from the object's first byte. Inside a segment each call
    /// begins where the last one ended. `permit` covers the bytes and is given
    /// back once they are stored.
    ///
    /// # Errors
    /// [`StoreClosed`] when the download ended. A failure to store is told as
    /// an event.
    pub(crate) fn store(
        &self,
        offset: u64,
        pieces: Vec<Bytes>,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), StoreClosed> {
        if !self.target.accepting.load(Ordering::Acquire) {
            return Err(StoreClosed);
        }
        let permit = Arc::new(permit);
        let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let (mut segment, mut end) = self.target.layout.segment_at(offset);
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
                    (segment, end) = self.target.layout.segment_at(at);
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
    ) -> Result<(), StoreClosed> {
        if pieces.iter().all(Bytes::is_empty) {
            return Ok(());
        }
        let target = Arc::clone(&self.target);
        let permit = Arc::clone(permit);
        let chunk = Message::Chunk { target, segment, offset, pieces, permit };
        self.writers.send(&self.target, segment, chunk)
    }
}

enum Message {
    Chunk {
        target: Arc<Target>,
        segment: u32,
        offset: u64,
        pieces: Vec<Bytes>,
        /// Shared by the parts of a chunk that was cut.
        permit: Arc<OwnedSemaphorePermit>,
    },
    Seed {
        target: Arc<Target>,
        segment: u32,
        hasher: Box<SegmentHasher>,
        next: u64,
    },
    Forget {
        target: Arc<Target>,
        segment: u32,
    },
    Snapshot {
        target: Arc<Target>,
    },
    Close {
        target: Arc<Target>,
        /// Takes what is begun, if somebody waits for it.
        reply: Option<Sender<Vec<Begun>>>,
    },
}

struct Writer {
    /// This thread's bit in [`Target::closed`].
    bit: u64,
    targets: HashMap<u64, Progress>,
}

/// What one thread knows of one target.
#[derive(Default)]
struct Progress {
    active: HashMap<u32, Active>,
    done: HashSet<u32>,
}

/// A segment of which a prefix is stored.
struct Active {
    /// `None` where no digest is wanted.
    hasher: Option<SegmentHasher>,
    writer: Box<dyn SegmentWriter>,
    start: u64,
    next: u64,
}

/// How much of a segment is stored that is not complete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub(super) segment: u32,
    /// Bytes from the segment's start; not 0.
    pub(super) len_bytes: u64,
    /// Their BLAKE3 value, if they were hashed.
    pub(super) hash: Option<[u8; 32]>,
}

impl Begun {
    /// What of it a later run can believe: nothing without a hash.
    pub(super) fn prefix(&self) -> Option<Prefix> {
        let Self { segment, len_bytes, hash } = *self;
        hash.map(|hash| Prefix { segment, len_bytes, hash })
    }
}

impl Writer {
    fn take(&mut self, message: Message) {
        match message {
            Message::Chunk { target, segment, offset, pieces, permit } => {
                if self.takes(&target)
                    && let Err(error) = self.store(&target, segment, offset, pieces)
                {
                    target.fail(error);
                }
                drop(permit);
            }
            Message::Seed { target, segment, hasher, next } => {
                if self.takes(&target)
                    && let Err(error) = self.seed(&target, segment, *hasher, next)
                {
                    target.fail(error);
                }
            }
            Message::Forget { target, segment } => {
                if let Some(progress) = self.targets.get_mut(&target.id) {
                    progress.done.remove(&segment);
                }
            }
            Message::Snapshot { target } => {
                let begun = self.targets.get(&target.id).map(Progress::begun);
                target.report(KeeperMessage::Begun(begun.unwrap_or_default()));
            }
            Message::Close { target, reply } => {
                target.closed.fetch_or(self.bit, Ordering::Relaxed);
                let progress = self.targets.remove(&target.id).unwrap_or_default();
                let begun = reply.as_ref().map(|_| progress.begun());
                // The storage is let go before the keeper gives up the lock.
                drop((progress, target));
                if let (Some(reply), Some(begun)) = (reply, begun) {
                    let _ = reply.send(begun);
                }
            }
        }
    }

    fn takes(&self, target: &Target) -> bool {
        let closed = target.closed.load(Ordering::Relaxed) & self.bit != 0;
        !closed && !target.failed.load(Ordering::Relaxed)
    }

    fn store(
        &mut self,
        target: &Target,
        segment: u32,
        offset: u64,
        pieces: Vec<Bytes>,
    ) -> io::Result<()> {
        let range = target.layout.range(segment).ok_or_else(|| misplaced(segment, offset))?;
        let progress = self.targets.entry(target.id).or_default();
        let active = match progress.active.entry(segment) {
            Entry::Occupied(active) => active.into_mut(),
            Entry::Vacant(place)
                if offset == range.start() && !progress.done.contains(&segment) =>
            {
                let hasher = || SegmentHasher::new(offset, target.layout.whole());
                place.insert(Active {
                    hasher: target.digest.then(hasher),
                    writer: target.storage.segment_writer(range)?,
                    start: offset,
                    next: offset,
                })
            }
            Entry::Vacant(_) => return Err(misplaced(segment, offset)),
        };
        if active.next != offset {
            return Err(misplaced(segment, offset));
        }
        for piece in pieces {
            fault_point::pass(Call::Write)?;
            active.writer.write(active.next, &piece)?;
            // After the write, whose error leaves the prefix as it was; and
            // while the bytes are in the processor's cache.
            if let Some(hasher) = &mut active.hasher {
                hasher.update(&piece);
            }
            active.next += piece.len() as u64;
            target.stored_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        target.stored.up_to(segment, active.next);
        progress.complete(target, segment, range);
        Ok(())
    }

    fn seed(
        &mut self,
        target: &Target,
        segment: u32,
        hasher: SegmentHasher,
        next: u64,
    ) -> io::Result<()> {
        let range = target.layout.range(segment).ok_or_else(|| misplaced(segment, next))?;
        let progress = self.targets.entry(target.id).or_default();
        if progress.done.contains(&segment) || progress.active.contains_key(&segment) {
            return Err(misplaced(segment, next));
        }
        let writer = target.storage.segment_writer(range)?;
        let start = range.start();
        progress.active.insert(segment, Active { hasher: Some(hasher), writer, start, next });
        target.stored.up_to(segment, next);
        progress.complete(target, segment, range);
        Ok(())
    }
}

impl Progress {
    /// Reports `segment` if all its bytes are stored.
    fn complete(&mut self, target: &Target, segment: u32, range: ByteRange) {
        let Entry::Occupied(active) = self.active.entry(segment) else { return };
        if active.get().next < range.end() {
            return;
        }
        let hash = active.remove().hasher.map(|hasher| hasher.finish());
        self.done.insert(segment);
        target.report(KeeperMessage::Stored { segment, hash });
    }

    fn begun(&self) -> Vec<Begun> {
        let begun = |(&segment, active): (&u32, &Active)| {
            let len_bytes = active.next - active.start;
            let hash = || active.hasher.as_ref().map(SegmentHasher::finish);
            (len_bytes > 0).then(|| Begun { segment, len_bytes, hash: hash() })
        };
        self.active.iter().filter_map(begun).collect()
    }
}

/// A mistake of the engine; the bytes are not stored.
fn misplaced(segment: u32, offset: u64) -> io::Error {
    io::Error::other(format!(
        "internal error: bytes at {offset} do not follow what is stored of segment {segment}"
    ))
}
