//! The keeper of one download, which owns its checkpoint.
//!
//! It learns from the writers which segments are stored, writes the checkpoint every
//! second, has the data synced in the background, and at the end publishes the file or
//! leaves it ready to be continued ([`ending`]). The driver talks to it through a
//! [`KeeperHandle`]. It needs no runtime.
//!
//! A keeper has a thread, except one with nothing to do before the end, as for a small
//! object: any thread that posts a message to that one also handles it ([`mailbox`]).

mod conclusion;
mod ending;
mod endings;
mod gathered;
mod handle;
mod inherited;
mod mailbox;
mod syncing;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::mpsc;
// Tokio's clock, because a simulation controls it; outside a runtime it is the system's.
use tokio::time::Instant;

pub(crate) use self::conclusion::{Finished, Published};
use self::ending::{End, Ending, run};
pub(crate) use self::endings::Endings;
pub(crate) use self::gathered::Gathered;
pub(crate) use self::handle::{KeeperHandle, KeeperOptions};
use self::inherited::{Inherited, verify};
use self::mailbox::{KeeperMessage, Mailbox};
use super::behind::Behind;
use super::directory_sync::DirectorySyncs;
use super::pieces::{Bad, HashedPiece, PieceCheck};
use super::place::Place;
use super::writer::{Begun, Epoch, Report, Writers};
use crate::model::checkpoint::{Checkpoint, Prefix, SegmentRecord};
use crate::model::config::{DigestAlgorithm, Pieces};
use crate::model::error::Error;
use crate::model::range::ByteRange;
use crate::model::samples::{self, Proof};

/// How often the checkpoint is written while there is news.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// What a keeper tells its driver.
#[derive(Debug)]
pub(crate) enum KeeperEvent {
    /// All bytes of a segment are stored, and good as far as pieces can tell.
    Stored { segment: u32 },
    /// A segment that an earlier run completed was hashed again. If it is not good, it
    /// counts as missing.
    Verified { segment: u32, good: bool },
    /// The beginning of a segment was hashed again. Fetching continues after its first
    /// `len_bytes`, which is 0 when they are not good.
    PrefixVerified { segment: u32, len_bytes: u64 },
    /// These stored segments differ from what a piece of the object must be: they count
    /// as missing.
    Bad { segments: std::ops::Range<usize>, message: String },
    /// The download cannot go on.
    Failed(Error),
}

struct Keeper {
    inbox: Receiver<KeeperMessage>,
    /// For the threads that work for it.
    mailbox: Arc<Mailbox>,
    place: Place,
    epoch: Arc<Epoch>,
    writers: Writers,
    ledger: Checkpoint,
    /// Complete segments of an earlier run that have not been hashed again yet. A sync
    /// says nothing about them.
    unverified: HashSet<u32>,
    /// Whether an earlier run's durable segments are believed without having been read
    /// again.
    believing: bool,
    /// Prefixes of an earlier run, kept until they prove bad: a writer learns of them
    /// only after they proved good.
    inherited: BTreeMap<u32, Prefix>,
    sync: bool,
    directories: Arc<DirectorySyncs>,
    events: mpsc::UnboundedSender<KeeperEvent>,
    verifying: Option<JoinHandle<()>>,
    cancel: Arc<AtomicBool>,
    /// A digest that needs the bytes in order.
    behind: Option<Behind>,
    /// Digests of pieces.
    pieces: Option<PieceCheck>,
    /// How many segments, from the first on, `behind` has been told of.
    passed: usize,
    syncing: Option<JoinHandle<()>>,
    last_sync: Instant,
    synced_bytes: u64,
    /// After a failed sync nothing is believed any more unless it is durable.
    sync_failed: bool,
    /// Why the download cannot be finished.
    failure: Option<Error>,
    checkpoint_failed: bool,
    changed: bool,
    recorded_bytes: u64,
    /// A snapshot under way: how many answers are missing, and the answers so far.
    snapshot: Option<(usize, Vec<Begun>)>,
}

impl Keeper {
    fn new(
        options: KeeperOptions,
        mailbox: Arc<Mailbox>,
        inbox: Receiver<KeeperMessage>,
        epoch: Arc<Epoch>,
    ) -> Self {
        let mut ledger = options.checkpoint;
        ledger.pid = std::process::id();
        let complete = |(number, record): (usize, &SegmentRecord)| {
            matches!(record, SegmentRecord::Complete(_)).then(|| index(number))
        };
        Self {
            inbox,
            mailbox,
            place: options.place,
            epoch,
            writers: options.writers,
            unverified: ledger.segments.iter().enumerate().filter_map(complete).collect(),
            believing: ledger
                .segments
                .iter()
                .any(|record| matches!(record, SegmentRecord::Durable(_))),
            inherited: ledger.prefixes.drain(..).map(|prefix| (prefix.segment, prefix)).collect(),
            ledger,
            sync: options.sync,
            directories: options.directories,
            events: options.events,
            verifying: None,
            cancel: Arc::default(),
            behind: None,
            pieces: None,
            passed: 0,
            syncing: None,
            last_sync: Instant::now(),
            synced_bytes: 0,
            sync_failed: false,
            failure: None,
            checkpoint_failed: false,
            changed: false,
            recorded_bytes: 0,
            snapshot: None,
        }
    }

    /// Starts to hash what an earlier run left, if anything.
    ///
    /// # Errors
    /// When no thread can be started.
    fn start_verifying(&mut self) -> io::Result<()> {
        let mut inherited = Inherited {
            prefixes: self.inherited.values().copied().collect(),
            ..Inherited::default()
        };
        for (number, record) in self.ledger.segments.iter().enumerate() {
            match record {
                SegmentRecord::Complete(Some(hash)) => {
                    inherited.complete.push((index(number), *hash));
                }
                SegmentRecord::Durable(None) if self.epoch.digest => {
                    inherited.unhashed.push(index(number));
                }
                _ => {}
            }
        }
        if inherited.is_empty() {
            return Ok(());
        }
        let (epoch, writers) = (Arc::clone(&self.epoch), self.writers.clone());
        let (mailbox, cancel) = (Arc::clone(&self.mailbox), Arc::clone(&self.cancel));
        let verify = move || verify(&epoch, &writers, &mailbox, &inherited, &cancel);
        self.verifying = self.writers.crew().start("haul-verify", verify)?;
        Ok(())
    }

    /// Begins the digest of the whole object by `algorithm`, unless the writers compute
    /// it.
    ///
    /// # Errors
    /// When no thread can be started.
    fn hash_behind(&mut self, algorithm: DigestAlgorithm) -> io::Result<()> {
        if algorithm == DigestAlgorithm::Blake3 && !self.believing {
            return Ok(());
        }
        self.behind = Some(Behind::start(self.writers.crew(), algorithm, &self.epoch)?);
        self.pass();
        Ok(())
    }

    /// From now on compares pieces with these digests, also those of an earlier run.
    ///
    /// # Errors
    /// When no thread can be started.
    fn check_pieces(&mut self, pieces: Pieces) -> io::Result<()> {
        // In an object of unknown size they are compared at the end.
        let Some(total) = self.ledger.total else { return Ok(()) };
        let crew = self.writers.crew();
        let mailbox = Arc::clone(&self.mailbox);
        let tell = move |hashed| mailbox.send(KeeperMessage::PieceHashed(hashed));
        let mut check = PieceCheck::start(crew, pieces, total, &self.epoch, tell)?;
        for (number, record) in self.ledger.segments.iter().enumerate() {
            if matches!(record, SegmentRecord::Durable(_)) {
                check.stored(number);
            }
        }
        self.pieces = Some(check);
        Ok(())
    }

    /// All of a segment is here: reports it once its pieces, if there are any, are good.
    fn tell_stored(&mut self, segment: u32) {
        match &mut self.pieces {
            Some(pieces) => pieces.stored(segment as usize),
            None => self.tell(KeeperEvent::Stored { segment }),
        }
    }

    fn piece_hashed(&mut self, hashed: HashedPiece) {
        let Some(pieces) = &mut self.pieces else { return };
        match pieces.on_hashed(hashed) {
            Err(error) => self.storing_failed(error),
            Ok(Ok(good)) => {
                for segment in good {
                    self.tell(KeeperEvent::Stored { segment: index(segment) });
                }
                self.pass();
            }
            Ok(Err(Bad { segments, message })) => {
                for segment in segments.clone() {
                    self.ledger.segments[segment] = SegmentRecord::Missing;
                    self.writers.forget(&self.epoch, index(segment));
                    self.epoch.readable.up_to(index(segment), 0);
                }
                self.changed = true;
                self.tell(KeeperEvent::Bad { segments, message });
            }
        }
    }

    /// Reports how far everything is stored.
    fn pass(&mut self) {
        let Some(behind) = &mut self.behind else { return };
        let before = self.passed;
        while let Some(record) = self.ledger.segments.get(self.passed) {
            let unsure = self.unverified.contains(&index(self.passed))
                || self.pieces.as_ref().is_some_and(|pieces| !pieces.is_good(self.passed));
            if unsure || matches!(record, SegmentRecord::Missing) {
                break;
            }
            self.passed += 1;
        }
        if self.passed > before {
            let end = self.passed as u64 * self.ledger.segment_size_bytes;
            behind.reach(end.min(self.ledger.total.unwrap_or(end)));
        }
    }

    /// Works until the download ends.
    fn run(mut self) {
        let mut next_tick = Instant::now() + CHECKPOINT_INTERVAL;
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            match self.inbox.recv_timeout(wait) {
                Ok(KeeperMessage::End(end)) => return self.end(end),
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return self.end(End::Abandon { hold: None });
                }
            }
            self.tick(&mut next_tick);
        }
    }

    /// As [`Self::run`], as a task of a simulation.
    #[cfg(test)]
    async fn run_as_task(mut self) {
        let mut next_tick = Instant::now() + CHECKPOINT_INTERVAL;
        loop {
            while let Ok(message) = self.inbox.try_recv() {
                match message {
                    KeeperMessage::End(end) => return self.end(end),
                    message => self.take(message),
                }
            }
            self.tick(&mut next_tick);
            tokio::select! {
                biased;
                () = self.mailbox.notified() => {}
                () = tokio::time::sleep_until(next_tick) => {}
            }
        }
    }

    /// Ends the download; blocks as long as the disk takes.
    fn end(self, end: End) {
        run(vec![Ending::Kept { keeper: Box::new(self), end }]);
    }

    fn tick(&mut self, next: &mut Instant) {
        self.sync_in_background();
        if Instant::now() >= *next {
            self.begin_checkpoint();
            *next = Instant::now() + CHECKPOINT_INTERVAL;
        }
    }

    /// Handles the messages that have arrived.
    fn drain(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.hear(message);
        }
    }

    /// Handles a message that must not lead to a checkpoint: one with all the news is
    /// written afterwards, if at all.
    fn hear(&mut self, message: KeeperMessage) {
        if !matches!(message, KeeperMessage::Written(Report::Begun(_))) {
            self.take(message);
        }
    }

    fn take(&mut self, message: KeeperMessage) {
        match message {
            KeeperMessage::Written(Report::Stored { segment, hash }) => {
                // The segment's first bytes may be among those that a failed sync lost.
                if self.sync_failed {
                    return;
                }
                if let Some(record) = self.ledger.segments.get_mut(segment as usize) {
                    *record = SegmentRecord::Complete(hash);
                }
                self.changed = true;
                self.pass();
                self.tell_stored(segment);
            }
            KeeperMessage::Written(Report::Failed(error)) => self.storing_failed(error),
            KeeperMessage::Written(Report::Begun(begun)) => {
                let Some((missing, collected)) = &mut self.snapshot else { return };
                collected.extend(begun);
                *missing -= 1;
                if *missing == 0
                    && let Some((_, prefixes)) = self.snapshot.take()
                    && let Err(error) = self.write_checkpoint(&prefixes)
                {
                    self.checkpoint_error(error);
                }
            }
            KeeperMessage::Verified { segment, good } => {
                self.unverified.remove(&segment);
                if good {
                    self.epoch.readable.whole(segment);
                } else if let Some(record) = self.ledger.segments.get_mut(segment as usize) {
                    *record = SegmentRecord::Missing;
                }
                self.changed = true;
                self.pass();
                if good && self.pieces.is_some() {
                    self.tell_stored(segment);
                } else {
                    self.tell(KeeperEvent::Verified { segment, good });
                }
            }
            KeeperMessage::PrefixVerified { segment, len_bytes } => {
                if len_bytes == 0 {
                    self.inherited.remove(&segment);
                    self.changed = true;
                }
                self.tell(KeeperEvent::PrefixVerified { segment, len_bytes });
            }
            KeeperMessage::Hashed { segment, hash } => {
                if let Some(record @ SegmentRecord::Durable(None)) =
                    self.ledger.segments.get_mut(segment as usize)
                {
                    *record = SegmentRecord::Durable(Some(hash));
                }
                self.changed = true;
            }
            KeeperMessage::Synced { segments, result } => {
                self.syncing = None;
                self.synced(&segments, result);
            }
            KeeperMessage::PieceHashed(hashed) => self.piece_hashed(hashed),
            KeeperMessage::Prove { begun, seed, reply } => {
                drop(reply.send(self.proof(begun, seed)));
            }
            KeeperMessage::Mixed => {
                self.ledger.mixed = true;
                self.changed = true;
            }
            KeeperMessage::End(_) => {}
        }
    }

    /// What another URL can be compared with to prove that it has the same object.
    fn proof(&self, begun: bool, seed: u64) -> Option<Proof> {
        if let Some(window) = &self.epoch.window {
            return Proof::of_bytes(window.samples().into_iter());
        }
        let storage = &self.epoch.storage;
        let read = |range| samples::read(range, |at, buffer| storage.read_at(at, buffer));
        let complete = Proof::of(&self.ledger, seed, read);
        if complete.is_some() || !begun {
            return complete;
        }
        let stored = |(number, _)| {
            let start = self.epoch.layout.range(number)?.start();
            Some(ByteRange::new(start, self.epoch.readable.end_from(start)))
        };
        Proof::of_begun((0_u32..).zip(&self.ledger.segments).filter_map(stored), seed, read)
    }

    fn tell(&self, event: KeeperEvent) {
        // A driver that is gone will drop the store next.
        let _ = self.events.send(event);
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert_with(|| error.clone());
        self.tell(KeeperEvent::Failed(error));
    }

    fn storing_failed(&mut self, error: io::Error) {
        let error = Error::io("cannot write", self.place.data(), error);
        self.fail(error);
    }

    /// Reported once: the data is not affected, and the error recurs each second.
    fn checkpoint_error(&mut self, error: Error) {
        if !std::mem::replace(&mut self.checkpoint_failed, true) {
            self.tell(KeeperEvent::Failed(error));
        }
    }

    fn begin_checkpoint(&mut self) {
        let stored = self.epoch.stored_bytes();
        let progress = self.changed || stored != self.recorded_bytes;
        // An object of unknown size cannot be continued.
        if !progress || self.snapshot.is_some() || self.ledger.total.is_none() {
            return;
        }
        (self.changed, self.recorded_bytes) = (false, stored);
        let expected = self.writers.snapshot(&self.epoch);
        if expected > 0 {
            self.snapshot = Some((expected, Vec::new()));
        }
    }

    /// Writes the ledger to the disk, with those of `begun` that it can hold.
    fn write_checkpoint(&mut self, begun: &[Begun]) -> Result<(), Error> {
        self.ledger.prefixes.clear();
        if !self.sync_failed && self.ledger.total.is_some() {
            let mut newest = self.inherited.clone();
            let prefixes = begun.iter().filter_map(Begun::prefix);
            newest.extend(prefixes.map(|prefix| (prefix.segment, prefix)));
            let missing = |prefix: &Prefix| {
                let record = self.ledger.segments.get(prefix.segment as usize);
                record == Some(&SegmentRecord::Missing)
            };
            self.ledger.prefixes = newest.into_values().filter(missing).collect();
        }
        self.place.record(&self.ledger, self.sync)
    }
}

fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
