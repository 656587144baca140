//! The writer threads: the only code that stores received bytes.
//!
//! An engine has a few of them for all its downloads. Every chunk of a segment goes to the same
//! thread, chosen by the segment's number, in order through one queue; so what is stored of a
//! segment is always a prefix, hashed as it is stored. Nothing here waits for a runtime: the queues
//! always drain, at worst as slowly as the disk. A writer that takes half of a core stores in haste,
//! which is without maps. Bytes that are only gathered in memory, of a small object, are stored by
//! whoever received them: that costs less than a thread switch.

mod epoch;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvError, Sender, TrySendError, bounded};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(super) use self::epoch::Epoch;
pub(crate) use self::epoch::{Sink, SinkClosed};
use super::crew::Crew;
use super::storage::SegmentWriter;
use crate::fault_point::{self, Call};
use crate::model::checkpoint::Prefix;
use crate::model::digest_tree::SegmentHasher;
use crate::model::range::ByteRange;
use crate::os;
#[cfg(test)]
use crate::simulation::disk::SlowDisk;

/// One for each bit of [`Epoch::closed`].
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
    /// For objects that are gathered in memory.
    at_once: Lane,
    budget: Arc<Semaphore>,
    crew: Crew,
    /// How much other work was handed to the threads, which take it in turn.
    works: AtomicUsize,
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
    /// The budget nearly always leaves a free place. If many small cuts have filled the queue, this
    /// waits, which cannot deadlock: a writer waits for nothing but the disk.
    fn send(&self, message: Message) -> Result<(), SinkClosed> {
        match self {
            Self::Thread(sender) => match sender.try_send(message) {
                Ok(()) => Ok(()),
                Err(TrySendError::Full(message)) => sender.send(message).map_err(|_| SinkClosed),
                Err(TrySendError::Disconnected(_)) => Err(SinkClosed),
            },
            Self::AtOnce(writer) => {
                // A panic leaves only the state of one download, which nobody completes.
                writer.lock().unwrap_or_else(PoisonError::into_inner).take(message);
                Ok(())
            }
        }
    }
}

impl Writers {
    /// Starts `threads` threads (1 to 64) that share a budget of `budget_bytes` for bytes received
    /// and not yet stored. If a thread cannot be started, storing fails with [`SinkClosed`].
    pub(crate) fn new(crew: Crew, threads: usize, budget_bytes: usize) -> Self {
        let start = |index: usize| {
            let mut writer = Writer::new(1 << index);
            #[cfg(test)]
            if crew == Crew::Inline {
                return Lane::AtOnce(Mutex::new(writer));
            }
            let (sender, receiver) =
                bounded::<Message>(budget_bytes / BYTES_PER_PLACE + SPARE_PLACES);
            let run = move || {
                let mut effort = Effort::default();
                let mut rest = Rest::new(budget_bytes);
                while let Ok(message) = rest.before(&receiver) {
                    let clock = || (Instant::now(), os::clock::thread_time());
                    writer.in_haste = effort.take(message.bytes(), clock);
                    writer.take(message);
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
                crew,
                works: AtomicUsize::new(0),
                #[cfg(test)]
                slow: std::sync::OnceLock::new(),
            }),
        }
    }

    /// From here on the budget is returned only as fast as `disk` stores.
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

    /// Continues `segment` at the offset `next`; `hasher` has already taken all bytes before it.
    pub(super) fn seed(&self, epoch: &Arc<Epoch>, segment: u32, hasher: SegmentHasher, next: u64) {
        let seed = Message::Seed { epoch: Arc::clone(epoch), segment, hasher: hasher.into(), next };
        // If a writer is gone, the next one to store finds out.
        let _ = self.send(epoch, segment, seed);
    }

    /// Discards what is stored of `segment`, which is complete and not good: it may be stored again
    /// from its start.
    pub(super) fn forget(&self, epoch: &Arc<Epoch>, segment: u32) {
        let forget = Message::Forget { epoch: Arc::clone(epoch), segment };
        let _ = self.send(epoch, segment, forget);
    }

    /// Asks each thread for a [`Report::Begun`]. Returns how many to expect.
    pub(super) fn snapshot(&self, epoch: &Arc<Epoch>) -> usize {
        let ask = |lane: &&Lane| lane.send(Message::Snapshot { epoch: Arc::clone(epoch) }).is_ok();
        self.lanes_of(epoch).iter().filter(ask).count()
    }

    /// Stores what is in the queues and refuses everything after it. Returns the beginnings of the
    /// segments that are not complete, in no order; all other reports have been made when this
    /// returns. Blocks as long as the disk takes for the bytes in flight.
    ///
    /// # Errors
    /// When a writer thread is gone; it could not report its beginnings.
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

    /// Refuses everything that comes after this call and forgets what was stored. Waits for nobody.
    pub(super) fn let_go(&self, epoch: &Arc<Epoch>) {
        epoch.accepting.store(false, Ordering::Release);
        for lane in self.lanes_of(epoch) {
            let _ = lane.send(Message::Close { epoch: Arc::clone(epoch), reply: None });
        }
    }

    /// Has one of the writer threads do the work, after what is queued there.
    ///
    /// # Errors
    /// When that thread is gone; the work is not done then.
    pub(super) fn run(&self, work: impl FnOnce() + Send + 'static) -> Result<(), SinkClosed> {
        let lanes = &self.shared.lanes;
        let turn = self.shared.works.fetch_add(1, Ordering::Relaxed);
        lanes[turn % lanes.len()].send(Message::Run(Box::new(work)))
    }

    fn send(&self, epoch: &Epoch, segment: u32, message: Message) -> Result<(), SinkClosed> {
        #[cfg(test)]
        if let (Some(disk), Message::Chunk { pieces, permit, .. }) =
            (self.shared.slow.get(), &message)
        {
            disk.store(pieces.iter().map(Bytes::len).sum(), Arc::clone(permit));
        }
        let lanes = self.lanes_of(epoch);
        // Many small objects have only a first segment each.
        lanes[(epoch.id as usize).wrapping_add(segment as usize) % lanes.len()].send(message)
    }
}

/// How long a thread that has caught up leaves what comes next in its queue.
const RESTS: Duration = Duration::from_millis(4);

/// It goes on at once if it took so many bytes since it last had nothing to do, or if that was a
/// larger part of the budget, for which the network would then have to wait.
const RESTS_AFTER_BYTES: u64 = 512 << 10;
const RESTS_AFTER_PART: u64 = 8;

/// Lets a thread rest once it has caught up. Where little comes at a time, as over most real
/// links, waking it for each packet would cost more than storing them.
struct Rest {
    most_bytes: u64,
    taken_bytes: u64,
}

impl Rest {
    fn new(budget_bytes: usize) -> Self {
        Self {
            most_bytes: (budget_bytes as u64 / RESTS_AFTER_PART).min(RESTS_AFTER_BYTES),
            taken_bytes: 0,
        }
    }

    /// The next message, before which the thread may rest.
    fn before(&mut self, queue: &Receiver<Message>) -> Result<Message, RecvError> {
        let next = queue.try_recv().or_else(|_| {
            if self.is_due() {
                std::thread::sleep(RESTS);
            }
            queue.recv()
        })?;
        self.taken_bytes += next.bytes();
        Ok(next)
    }

    /// Whether the thread rests, now that its queue is empty.
    fn is_due(&mut self) -> bool {
        (1..self.most_bytes).contains(&std::mem::take(&mut self.taken_bytes))
    }
}

/// How many bytes a thread takes before its effort is judged: much more than a burst.
const JUDGED_BYTES: u64 = 16 << 20;

/// A map may hold back a thread that computes for this share of the time: the kernel zeroes its
/// pages, for which a virtual machine may even have to ask its host.
const BUSY_SHARE: f64 = 0.5;

/// Whether storing takes so much of a core that a thread does better without the map. Time in
/// which the thread waits, for bytes or for a disk, is no effort: no other way of writing shortens
/// it.
#[derive(Default)]
struct Effort {
    /// When the stretch that is being judged began, and how long the thread had computed by then.
    since: Option<(Instant, Duration)>,
    /// How much the thread has taken in this stretch.
    taken_bytes: u64,
    /// How many bytes came a second when the thread began to store in haste. At half of that the
    /// map is affordable again.
    hastens_at: Option<f64>,
}

impl Effort {
    /// Whether the thread should store the next `bytes` in haste; `clock` tells the time, and how
    /// long the thread has computed so far, where the system counts that.
    fn take(&mut self, bytes: u64, clock: impl FnOnce() -> (Instant, Option<Duration>)) -> bool {
        if self.since.is_none() || self.taken_bytes >= JUDGED_BYTES {
            let (now, computed) = clock();
            if let (Some((began, before)), Some(computed)) = (self.since, computed) {
                let time = now.duration_since(began).as_secs_f64();
                self.judge(time, computed.saturating_sub(before).as_secs_f64());
            }
            (self.since, self.taken_bytes) = (computed.map(|computed| (now, computed)), 0);
        }
        self.taken_bytes += bytes;
        self.hastens_at.is_some()
    }

    /// Judges a stretch of `time` seconds, `computed` of which the thread has computed.
    fn judge(&mut self, time: f64, computed: f64) {
        let rate = self.taken_bytes as f64 / time;
        self.hastens_at = match self.hastens_at {
            Some(began) => Some(began).filter(|began| rate >= began / 2.0),
            None => (computed >= BUSY_SHARE * time).then_some(rate),
        };
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
    /// Other work that is soon done.
    Run(Box<dyn FnOnce() + Send>),
    Close {
        epoch: Arc<Epoch>,
        /// Takes the beginnings, if somebody waits for them.
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
    /// Whether this thread does without maps, see [`Effort`].
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

/// What the writers report about one download.
#[derive(Debug)]
pub(super) enum Report {
    /// A segment was stored to its end; with its BLAKE3 value if it was hashed.
    Stored { segment: u32, hash: Option<[u8; 32]> },
    /// One writer's answer to a snapshot.
    Begun(Vec<Begun>),
    /// Storing failed; the writers take nothing more for this download.
    Failed(io::Error),
}

/// Takes the writers' reports about one download: once per segment and snapshot. It must not wait
/// for a writer, since a writer calls it.
pub(super) trait Reports: Send + Sync {
    fn report(&self, report: Report);
}

/// How much of an incomplete segment is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    pub(super) segment: u32,
    /// Bytes from the segment's start; not 0.
    pub(super) len_bytes: u64,
    /// Their BLAKE3 value, if they were hashed.
    pub(super) hash: Option<[u8; 32]>,
}

impl Begun {
    /// The part that a later run can believe: nothing without a hash.
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
                // The storage is released before the keeper gives up the lock.
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
            // After the write, whose error leaves the prefix as it was, and while the bytes are in
            // the processor's cache.
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

/// The engine made a mistake; the bytes are not stored.
fn misplaced(segment: u32, offset: u64) -> io::Error {
    io::Error::other(format!(
        "internal error: bytes at {offset} do not follow what is stored of segment {segment}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A thread, and the times that it would be told.
    struct Thread {
        effort: Effort,
        now: Instant,
        computed: Duration,
    }

    impl Thread {
        fn new() -> Self {
            Self { effort: Effort::default(), now: Instant::now(), computed: Duration::ZERO }
        }

        /// Takes `mib` at `rate` MiB a second, of which it computes for `share` of the time.
        /// Returns how many it was to store in haste.
        fn takes(&mut self, mib: u64, rate: f64, share: f64) -> u64 {
            let time = Duration::from_secs_f64(1.0 / rate);
            let hasty = (0..mib).filter(|_| {
                let clock = (self.now, Some(self.computed));
                self.now += time;
                self.computed += time.mul_f64(share);
                self.effort.take(MIB, || clock)
            });
            hasty.count() as u64
        }
    }

    #[test]
    fn a_thread_without_time_to_spare_does_without_maps() {
        assert_eq!(Thread::new().takes(160, 1600.0, 1.0), 144);
        assert_eq!(Thread::new().takes(160, 200.0, 0.6), 144, "however slow it is");
        assert_eq!(Thread::new().takes(160, 1600.0, 0.4), 0, "it keeps up");
        assert_eq!(Thread::new().takes(160, 30.0, 0.1), 0, "a slow disk");
    }

    #[test]
    fn a_map_is_tried_again_when_less_comes() {
        let mut thread = Thread::new();
        thread.takes(32, 1000.0, 1.0);
        assert_eq!(thread.takes(160, 600.0, 0.2), 160, "the map would cost too much again");
        assert_eq!(thread.takes(160, 400.0, 0.2), 16);
        assert_eq!(thread.takes(160, 400.0, 0.7), 144, "it does cost too much");
    }

    #[test]
    fn a_thread_rests_only_if_little_came() {
        let rests_after = |bytes, budget| Rest { taken_bytes: bytes, ..Rest::new(budget) }.is_due();
        assert!(rests_after(1448, 16 << 20));
        assert!(!rests_after(0, 16 << 20), "nobody is to wait for work without bytes");
        assert!(!rests_after(MIB, 16 << 20), "it may hardly keep up");
        assert!(!rests_after(64 << 10, 256 << 10), "the network would have to wait");
        let mut rest = Rest { taken_bytes: 1448, ..Rest::new(16 << 20) };
        assert!(rest.is_due() && !rest.is_due(), "once for the same bytes");
    }

    #[test]
    fn no_haste_where_no_system_counts_a_threads_time() {
        let (mut effort, mut now) = (Effort::default(), Instant::now());
        for _ in 0..100 {
            now += Duration::from_millis(1);
            assert!(!effort.take(MIB, || (now, None)));
        }
    }
}
