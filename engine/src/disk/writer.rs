//! The writer threads: the only code that stores received bytes.
//!
//! An engine has a few of them for all its downloads. Every chunk of a segment
//! goes to the same thread, chosen by the segment's number, through
//! one queue and in order; so a segment is always a prefix, hashed as it is
//! stored, and what follows it. Nothing here waits for a runtime: the queues
//! always drain, at worst as slowly as the disk. A writer that the network outruns
//! stores in haste until its queue is empty. What is only gathered in memory, a
//! small object, is stored by whoever received it: it costs less than a change of
//! threads.

mod epoch;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Sender, TrySendError, bounded};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) use self::epoch::Epoch;
pub(crate) use self::epoch::{Sink, SinkClosed};
use super::crew::Crew;
use super::storage::SegmentWriter;
use crate::fault_point::{self, Call};
use crate::model::checkpoint::Prefix;
use crate::model::digest_tree::SegmentHasher;
use crate::model::range::ByteRange;
#[cfg(test)]
use crate::simulation::disk::SlowDisk;

/// As many as [`Epoch::closed`] has bits.
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
    /// Of what is gathered in memory.
    at_once: Lane,
    budget: Arc<Semaphore>,
    flow: Arc<Flow>,
    crew: Crew,
    /// What makes storing take simulated time.
    #[cfg(test)]
    slow: std::sync::OnceLock<SlowDisk>,
}

/// The way to one writer.
enum Lane {
    Thread(Sender<Message>),
    /// No thread but the sender's.
    AtOnce(Mutex<Writer>),
}

impl Lane {
    /// The budget nearly always leaves a free place. Where many small cuts have
    /// filled the queue this waits, which cannot deadlock: a writer waits for
    /// nothing but the disk.
    fn send(&self, message: Message) -> Result<(), SinkClosed> {
        match self {
            Self::Thread(sender) => match sender.try_send(message) {
                Ok(()) => Ok(()),
                Err(TrySendError::Full(message)) => sender.send(message).map_err(|_| SinkClosed),
                Err(TrySendError::Disconnected(_)) => Err(SinkClosed),
            },
            Self::AtOnce(writer) => {
                // What a panic left would be of one download, which nobody completes.
                writer.lock().unwrap_or_else(PoisonError::into_inner).take(message);
                Ok(())
            }
        }
    }
}

impl Writers {
    /// Starts `threads` threads (1 to 64) that share a budget of
    /// `budget_bytes` received and not yet stored bytes. When a thread cannot
    /// be started, storing fails with [`SinkClosed`].
    pub(crate) fn new(crew: Crew, threads: usize, budget_bytes: usize) -> Self {
        let flow = Arc::new(Flow::default());
        let start = |index: usize| {
            let mut writer = Writer::new(1 << index);
            #[cfg(test)]
            if crew == Crew::Inline {
                return Lane::AtOnce(Mutex::new(writer));
            }
            let (sender, receiver) =
                bounded::<Message>(budget_bytes / BYTES_PER_PLACE + SPARE_PLACES);
            let mut backlog = Backlog::new(budget_bytes as u64 / 2, Instant::now());
            let flow = Arc::clone(&flow);
            let run = move || {
                for message in &receiver {
                    writer.in_haste = backlog.look(&flow, receiver.is_empty(), Instant::now());
                    let bytes = message.bytes();
                    writer.take(message);
                    flow.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
                }
            };
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
                at_once: Lane::AtOnce(Mutex::new(Writer::new(1))),
                budget,
                flow,
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

    /// The lanes on which `epoch` has anything.
    fn lanes_of(&self, epoch: &Epoch) -> &[Lane] {
        if epoch.at_once { std::slice::from_ref(&self.shared.at_once) } else { &self.shared.lanes }
    }

    /// Continues `segment` at the offset `next`, with `hasher` having taken all
    /// bytes before it.
    pub(super) fn seed(&self, epoch: &Arc<Epoch>, segment: u32, hasher: SegmentHasher, next: u64) {
        let seed = Message::Seed { epoch: Arc::clone(epoch), segment, hasher: hasher.into(), next };
        // A writer that is gone is told of by whoever stores next.
        let _ = self.send(epoch, segment, seed);
    }

    /// What is stored of `segment`, which is complete, is not good: it may be
    /// stored again from its start.
    pub(super) fn forget(&self, epoch: &Arc<Epoch>, segment: u32) {
        let forget = Message::Forget { epoch: Arc::clone(epoch), segment };
        let _ = self.send(epoch, segment, forget);
    }

    /// Asks each thread for a [`Report::Begun`]. Returns how many
    /// will come.
    pub(super) fn snapshot(&self, epoch: &Arc<Epoch>) -> usize {
        let ask = |lane: &&Lane| lane.send(Message::Snapshot { epoch: Arc::clone(epoch) }).is_ok();
        self.lanes_of(epoch).iter().filter(ask).count()
    }

    /// Stores what is in the queues and refuses everything after it. Returns
    /// the beginnings of the segments that are not complete, in no order; all
    /// other reports were made when this returns. Blocks as long as the disk
    /// takes for the bytes in flight.
    ///
    /// # Errors
    /// When a writer thread is gone; it had no way to report its own.
    pub(super) fn close(&self, epoch: &Arc<Epoch>) -> Result<Vec<Begun>, SinkClosed> {
        epoch.accepting.store(false, Ordering::Release);
        let lanes = self.lanes_of(epoch);
        let (reply, replies) = bounded(lanes.len());
        for lane in lanes {
            let reply = Some(reply.clone());
            let _ = lane.send(Message::Close { epoch: Arc::clone(epoch), reply });
        }
        drop(reply);
        let answers: Vec<Vec<Begun>> = replies.iter().collect();
        if answers.len() < lanes.len() {
            return Err(SinkClosed);
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Refuses everything that comes after it and forgets what was stored. Waits
    /// for nobody.
    pub(super) fn let_go(&self, epoch: &Arc<Epoch>) {
        epoch.accepting.store(false, Ordering::Release);
        for lane in self.lanes_of(epoch) {
            let _ = lane.send(Message::Close { epoch: Arc::clone(epoch), reply: None });
        }
    }

    /// Has the work done by a writer thread, after what is queued there.
    ///
    /// # Errors
    /// When that thread is gone; the work is not done then.
    pub(super) fn run(
        &self,
        epoch: &Epoch,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), SinkClosed> {
        let lanes = &self.shared.lanes;
        lanes[epoch.id as usize % lanes.len()].send(Message::Run(Box::new(work)))
    }

    fn send(&self, epoch: &Epoch, segment: u32, message: Message) -> Result<(), SinkClosed> {
        #[cfg(test)]
        if let (Some(disk), Message::Chunk { pieces, permit, .. }) =
            (self.shared.slow.get(), &message)
        {
            disk.store(pieces.iter().map(Bytes::len).sum(), Arc::clone(permit));
        }
        let lanes = self.lanes_of(epoch);
        // Of many small objects each has a first segment only.
        let lane = &lanes[(epoch.id as usize).wrapping_add(segment as usize) % lanes.len()];
        if let Lane::Thread(_) = lane {
            self.shared.flow.received_bytes.fetch_add(message.bytes(), Ordering::Relaxed);
        }
        lane.send(message)
    }
}

/// How many bytes came to the threads so far, and how many of them are stored. The
/// counters guard no other memory, so their order does not matter.
#[derive(Debug, Default)]
struct Flow {
    received_bytes: AtomicU64,
    stored_bytes: AtomicU64,
}

/// The network outruns a writer if this many bytes came since its queue was empty, and came
/// as fast as [`OUTRUN_RATE`].
const OUTRUN_BYTES: u64 = 32 << 20;

/// In bytes a second: 4.5 Gbit/s, so that 4 with the bursts of a speed limit are less.
const OUTRUN_RATE: u64 = 562_500_000;

/// Where less comes, a full queue shows that the machine or its disk has a busy moment, which
/// no other way of writing shortens; or that the map itself holds the network back, if the
/// queue stays full while this many bytes come.
const OUTRUN_FOR_LONG_BYTES: u64 = 128 << 20;

/// Each time that it was outrun, a writer takes a fourth of the bytes to see it again, down to
/// this many: it falls behind whenever it has caught up.
const OUTRUN_AGAIN_BYTES: u64 = 4 << 20;

/// And all of it when it was not outrun for so many bytes.
const OUTRUN_FORGOTTEN_BYTES: u64 = 1 << 30;

/// How one thread stands against the network.
struct Backlog {
    /// The queues are full with as many bytes: half of the budget, since reservations of
    /// connections without data may have much of the rest.
    full_bytes: u64,
    /// When the thread's queue was last empty, and how much had come until then. While it is
    /// outrun, a later moment, so that an old rate is forgotten.
    since: (Instant, u64),
    /// How much had come when the queue became as full as it still is.
    full_at: Option<u64>,
    /// How many bytes a full queue is borne for.
    patience_bytes: u64,
    /// How much had come when the thread was last outrun.
    outrun_at: u64,
    outrun: bool,
}

impl Backlog {
    fn new(full_bytes: u64, now: Instant) -> Self {
        Self {
            full_bytes,
            since: (now, 0),
            full_at: None,
            patience_bytes: OUTRUN_FOR_LONG_BYTES,
            outrun_at: 0,
            outrun: false,
        }
    }

    /// Whether the thread, whose queue `is_empty` but for what it is about to store, is to
    /// store in haste: from the moment at which the network outruns it until it has caught up,
    /// and as long as what comes would outrun it again at once.
    fn look(&mut self, flow: &Flow, is_empty: bool, now: Instant) -> bool {
        let received = flow.received_bytes.load(Ordering::Relaxed);
        let since = received - self.since.1;
        let time = now.duration_since(self.since.0).as_secs_f64();
        let is_fast = since as f64 >= OUTRUN_RATE as f64 * time;
        if is_empty {
            self.full_at = None;
            self.outrun &= is_fast || since < OUTRUN_AGAIN_BYTES;
            if !self.outrun || since >= OUTRUN_BYTES {
                self.since = (now, received);
            }
            if self.outrun {
                self.outrun_at = received;
            } else if received - self.outrun_at >= OUTRUN_FORGOTTEN_BYTES {
                self.patience_bytes = OUTRUN_FOR_LONG_BYTES;
            }
            return self.outrun;
        }
        if self.outrun {
            return true;
        }
        let queued = received.saturating_sub(flow.stored_bytes.load(Ordering::Relaxed));
        if queued < self.full_bytes {
            if queued < self.full_bytes / 2 {
                self.full_at = None;
            }
            return false;
        }
        let full_at = *self.full_at.get_or_insert(received);
        if is_fast && since >= OUTRUN_BYTES || received - full_at >= self.patience_bytes {
            (self.outrun, self.outrun_at) = (true, received);
            self.patience_bytes = (self.patience_bytes / 4).max(OUTRUN_AGAIN_BYTES);
        }
        self.outrun
    }
}

enum Message {
    Chunk {
        epoch: Arc<Epoch>,
        segment: u32,
        offset: u64,
        pieces: Vec<Bytes>,
        /// Shared by the parts of a chunk that was cut.
        permit: Arc<OwnedSemaphorePermit>,
    },
    Seed {
        epoch: Arc<Epoch>,
        segment: u32,
        hasher: Box<SegmentHasher>,
        next: u64,
    },
    Forget {
        epoch: Arc<Epoch>,
        segment: u32,
    },
    Snapshot {
        epoch: Arc<Epoch>,
    },
    /// Something else that is soon done.
    Run(Box<dyn FnOnce() + Send>),
    Close {
        epoch: Arc<Epoch>,
        /// Takes what is begun, if somebody waits for it.
        reply: Option<Sender<Vec<Begun>>>,
    },
}

impl Message {
    /// How many bytes are to be stored.
    fn bytes(&self) -> u64 {
        match self {
            Self::Chunk { pieces, .. } => pieces.iter().map(|piece| piece.len() as u64).sum(),
            _ => 0,
        }
    }
}

struct Writer {
    /// This thread's bit in [`Epoch::closed`].
    bit: u64,
    targets: HashMap<u64, Share>,
    /// Whether the network outruns this thread.
    in_haste: bool,
}

/// What one thread knows of one epoch.
#[derive(Default)]
struct Share {
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

/// What the writers say of one download.
#[derive(Debug)]
pub(super) enum Report {
    /// A segment was stored to its end; with its BLAKE3 value if it was hashed.
    Stored { segment: u32, hash: Option<[u8; 32]> },
    /// One writer's answer to a snapshot.
    Begun(Vec<Begun>),
    /// Storing failed; the writers take nothing more for this download.
    Failed(io::Error),
}

/// Takes what the writers say of one download: once per segment and snapshot. It must
/// not wait for a writer, since a writer calls it.
pub(super) trait Reports: Send + Sync {
    fn report(&self, report: Report);
}

/// How much of a segment is stored that is not complete.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
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
    fn new(bit: u64) -> Self {
        Self { bit, targets: HashMap::new(), in_haste: false }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Chunk { epoch, segment, offset, pieces, permit } => {
                if self.takes(&epoch)
                    && let Err(error) = self.store(&epoch, segment, offset, pieces)
                {
                    epoch.fail(error);
                }
                drop(permit);
            }
            Message::Seed { epoch, segment, hasher, next } => {
                if self.takes(&epoch)
                    && let Err(error) = self.seed(&epoch, segment, *hasher, next)
                {
                    epoch.fail(error);
                }
            }
            Message::Forget { epoch, segment } => {
                if let Some(share) = self.targets.get_mut(&epoch.id) {
                    share.done.remove(&segment);
                }
            }
            Message::Snapshot { epoch } => {
                let begun = self.targets.get(&epoch.id).map(Share::begun);
                epoch.report(Report::Begun(begun.unwrap_or_default()));
            }
            Message::Run(work) => work(),
            Message::Close { epoch, reply } => {
                epoch.closed.fetch_or(self.bit, Ordering::Relaxed);
                let share = self.targets.remove(&epoch.id).unwrap_or_default();
                let begun = reply.as_ref().map(|_| share.begun());
                // The storage is let go before the keeper gives up the lock.
                drop((share, epoch));
                if let (Some(reply), Some(begun)) = (reply, begun) {
                    let _ = reply.send(begun);
                }
            }
        }
    }

    fn takes(&self, epoch: &Epoch) -> bool {
        let closed = epoch.closed.load(Ordering::Relaxed) & self.bit != 0;
        !closed && !epoch.failed.load(Ordering::Relaxed)
    }

    fn store(
        &mut self,
        epoch: &Epoch,
        segment: u32,
        offset: u64,
        pieces: Vec<Bytes>,
    ) -> io::Result<()> {
        let range = epoch.layout.range(segment).ok_or_else(|| misplaced(segment, offset))?;
        let share = self.targets.entry(epoch.id).or_default();
        let active = match share.active.entry(segment) {
            Entry::Occupied(active) => active.into_mut(),
            Entry::Vacant(place) if offset == range.start() && !share.done.contains(&segment) => {
                let hasher = || SegmentHasher::new(offset, epoch.layout.whole());
                place.insert(Active {
                    hasher: (epoch.digest && !epoch.at_once).then(hasher),
                    writer: epoch.storage.segment_writer(range)?,
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
            if self.in_haste {
                active.writer.write_in_haste(active.next, &piece)?;
            } else {
                active.writer.write(active.next, &piece)?;
            }
            // After the write, whose error leaves the prefix as it was; and
            // while the bytes are in the processor's cache.
            if let Some(hasher) = &mut active.hasher {
                hasher.update(&piece);
            }
            active.next += piece.len() as u64;
            epoch.stored_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        epoch.readable.up_to(segment, active.next);
        share.complete(epoch, segment, range);
        Ok(())
    }

    fn seed(
        &mut self,
        epoch: &Epoch,
        segment: u32,
        hasher: SegmentHasher,
        next: u64,
    ) -> io::Result<()> {
        let range = epoch.layout.range(segment).ok_or_else(|| misplaced(segment, next))?;
        let share = self.targets.entry(epoch.id).or_default();
        if share.done.contains(&segment) || share.active.contains_key(&segment) {
            return Err(misplaced(segment, next));
        }
        let writer = epoch.storage.segment_writer(range)?;
        let start = range.start();
        share.active.insert(segment, Active { hasher: Some(hasher), writer, start, next });
        epoch.readable.up_to(segment, next);
        share.complete(epoch, segment, range);
        Ok(())
    }
}

impl Share {
    /// Reports `segment` if all its bytes are stored.
    fn complete(&mut self, epoch: &Epoch, segment: u32, range: ByteRange) {
        let Entry::Occupied(active) = self.active.entry(segment) else { return };
        if active.get().next < range.end() {
            return;
        }
        let hash = active.remove().hasher.map(|hasher| hasher.finish());
        self.done.insert(segment);
        epoch.report(Report::Stored { segment, hash });
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// `came` of bytes in so many milliseconds, `queued` of them not stored.
    fn outrun(came: u64, milliseconds: u64, queued: u64) -> bool {
        let start = Instant::now();
        let mut backlog = Backlog::new(8 * MIB, start);
        let flow = Flow { received_bytes: came.into(), stored_bytes: (came - queued).into() };
        let now = start + Duration::from_millis(milliseconds);
        let outrun = backlog.look(&flow, false, now);
        // Until it has caught up, and as long as as much comes.
        flow.stored_bytes.store(came - 1, Ordering::Relaxed);
        assert_eq!(backlog.look(&flow, false, now), outrun);
        assert_eq!(backlog.look(&flow, true, now), outrun);
        flow.received_bytes.fetch_add(8 * MIB, Ordering::Relaxed);
        flow.stored_bytes.fetch_add(8 * MIB, Ordering::Relaxed);
        assert_eq!(backlog.look(&flow, true, now + Duration::from_millis(10)), outrun);
        let late = now + Duration::from_millis(100);
        assert!(!backlog.look(&flow, true, late));
        assert!(!backlog.look(&flow, false, late));
        outrun
    }

    #[test]
    fn a_writer_is_outrun_by_a_network_that_is_faster_for_a_while() {
        assert!(outrun(100 * MIB, 100, 8 * MIB));
        assert!(!outrun(100 * MIB, 100, 7 * MIB), "the queue has room");
        assert!(!outrun(16 * MIB, 10, 16 * MIB), "a burst");
        // 4 Gbit/s, and a writer that stood still for as long as the budget lasts.
        assert!(!outrun(500 * MIB, 1000, 16 * MIB), "a busy moment of the disk");
    }

    /// Bytes that come until the writer is outrun, at 100 MB/s, with `queued` waiting.
    fn borne(backlog: &mut Backlog, flow: &Flow, now: &mut Instant, queued: u64) -> u64 {
        let start = flow.received_bytes.load(Ordering::Relaxed);
        assert!(!backlog.look(flow, true, *now), "it has caught up");
        loop {
            let came = flow.received_bytes.fetch_add(MIB, Ordering::Relaxed) + MIB;
            flow.stored_bytes.store(came.saturating_sub(queued), Ordering::Relaxed);
            *now += Duration::from_millis(10);
            if came - start > 1000 * MIB || backlog.look(flow, false, *now) {
                return (came - start) / MIB;
            }
        }
    }

    #[test]
    fn a_queue_that_stays_full_for_long_shows_that_the_map_is_the_limit() {
        let (mut now, flow) = (Instant::now(), Flow::default());
        let mut backlog = Backlog::new(8 * MIB, now);
        assert_eq!(borne(&mut backlog, &flow, &mut now, 7 * MIB), 1001, "there is room");
        let mut times = || borne(&mut backlog, &flow, &mut now, 8 * MIB);
        assert_eq!([times(), times(), times(), times()], [129, 33, 9, 5]);
        borne(&mut backlog, &flow, &mut now, 7 * MIB);
        borne(&mut backlog, &flow, &mut now, 7 * MIB);
        assert_eq!(borne(&mut backlog, &flow, &mut now, 8 * MIB), 129, "that was long ago");
    }
}
