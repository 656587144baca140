//! The keeper: the thread of one download that owns its checkpoint.
//!
//! It learns from the writers what is stored, writes the checkpoint every
//! second, has the data synced in the background, and at the end publishes the
//! file or leaves it ready to be continued. It needs no runtime.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use tokio::sync::{mpsc, oneshot};
// Of tokio, because a simulation turns this one; outside of a runtime it is the system's.
use tokio::time::Instant;

use super::behind::Behind;
use super::directory_sync::DirectorySyncs;
use super::pieces::{Bad, PieceCheck, first_bad};
use super::place::Place;
use super::prove::{Expected, refuse_size};
use super::publish::PublishOptions;
use super::rehash::{READ_BYTES, rehash};
use super::store::{Finished, StoreEvent};
use super::url_proof::Proof;
use super::writer::{Begun, Target, Writers};
use crate::config::{DigestAlgorithm, Pieces};
use crate::error::{Error, ErrorKind};
use crate::fault_point::{self, Bug, Call};
use crate::model::checkpoint::{Checkpoint, Prefix, SegmentRecord};
use crate::model::digest_tree::{self, SegmentHasher};

/// How often the checkpoint is written while there is something new.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// The data is synced after this many new bytes, or after this time with any.
const SYNC_BYTES: u64 = 256 << 20;
const SYNC_INTERVAL: Duration = Duration::from_secs(10);

/// What the keeper is told.
pub(crate) enum KeeperMessage {
    /// A segment was stored to its end; with its BLAKE3 value if it was hashed.
    Stored { segment: u32, hash: Option<[u8; 32]> },
    /// Storing failed; the writers take nothing more for this download.
    Failed(io::Error),
    /// One writer's answer to a snapshot.
    Begun(Vec<Begun>),
    /// A complete segment of an earlier run was hashed again.
    Verified { segment: u32, good: bool },
    /// A prefix of an earlier run was; 0 bytes when it is not good.
    PrefixVerified { segment: u32, len_bytes: u64 },
    /// A durable segment that an earlier run did not hash was hashed now.
    Hashed { segment: u32, hash: [u8; 32] },
    /// A background sync ended. These segments were complete when it began.
    Synced { segments: Vec<u32>, result: io::Result<()> },
    /// A piece that is stored has this digest.
    PieceHashed { piece: usize, number: u32, found: Vec<u8> },
    /// A segment that can be compared with another URL is asked for.
    Prove(oneshot::Sender<Option<Proof>>),
    /// The download ends.
    End(End),
}

/// How a download ends.
pub(crate) enum End {
    Finish {
        publish: PublishOptions,
        expected: Expected,
        reply: oneshot::Sender<Result<Finished, (Error, Option<PathBuf>)>>,
    },
    Stop {
        reply: oneshot::Sender<Result<Option<PathBuf>, Error>>,
    },
    Reset {
        reply: oneshot::Sender<Result<Place, Error>>,
    },
    /// Like a stop that nobody waits for.
    Abandon,
}

/// The way to a keeper. Without a bound, so that no writer ever waits for the
/// keeper, which waits for the writers. A report comes once per segment and
/// snapshot.
#[derive(Debug, Clone)]
pub(super) struct Mailbox {
    sender: Sender<KeeperMessage>,
    #[cfg(test)]
    wake: std::sync::Arc<tokio::sync::Notify>,
}

impl Mailbox {
    pub(super) fn new() -> (Self, Receiver<KeeperMessage>) {
        let (sender, inbox) = unbounded();
        let mailbox = Self {
            sender,
            #[cfg(test)]
            wake: Arc::default(),
        };
        (mailbox, inbox)
    }

    pub(super) fn send(&self, message: KeeperMessage) {
        // Without a keeper the download has ended and nobody waits for it.
        let _ = self.sender.send(message);
        #[cfg(test)]
        self.wake.notify_one();
    }
}

pub(super) struct Keeper {
    inbox: Receiver<KeeperMessage>,
    place: Place,
    target: Arc<Target>,
    writers: Writers,
    ledger: Checkpoint,
    /// Complete segments of an earlier run that were not hashed again yet. A
    /// sync says nothing about them.
    unverified: HashSet<u32>,
    /// Whether an earlier run's durable segments are believed: nobody has read
    /// them since.
    believing: bool,
    /// Prefixes of an earlier run, kept until they prove bad: a writer knows
    /// of them only after they proved good.
    inherited: BTreeMap<u32, Prefix>,
    sync: bool,
    directories: Arc<DirectorySyncs>,
    events: mpsc::UnboundedSender<StoreEvent>,
    verifying: Option<JoinHandle<()>>,
    cancel: Arc<AtomicBool>,
    /// A digest that needs the bytes in order.
    behind: Option<Behind>,
    /// Digests of pieces.
    pieces: Option<PieceCheck>,
    /// The segments before this one were told to it.
    passed: usize,
    syncing: Option<JoinHandle<()>>,
    last_sync: Instant,
    synced_bytes: u64,
    /// After a failed sync nothing that is not durable is believed any more.
    sync_failed: bool,
    /// Why the download cannot be finished.
    failure: Option<(ErrorKind, String)>,
    checkpoint_failed: bool,
    changed: bool,
    recorded_bytes: u64,
    /// A snapshot under way: how many answers are missing, and those so far.
    snapshot: Option<(usize, Vec<Begun>)>,
}

impl Keeper {
    pub(super) fn new(
        inbox: Receiver<KeeperMessage>,
        place: Place,
        target: Arc<Target>,
        writers: Writers,
        mut ledger: Checkpoint,
        (sync, directories): (bool, Arc<DirectorySyncs>),
        events: mpsc::UnboundedSender<StoreEvent>,
    ) -> Self {
        ledger.pid = std::process::id();
        let complete = |(number, record): (usize, &SegmentRecord)| {
            matches!(record, SegmentRecord::Complete(_)).then(|| index(number))
        };
        Self {
            inbox,
            place,
            target,
            writers,
            unverified: ledger.segments.iter().enumerate().filter_map(complete).collect(),
            believing: ledger
                .segments
                .iter()
                .any(|record| matches!(record, SegmentRecord::Durable(_))),
            inherited: ledger.prefixes.drain(..).map(|prefix| (prefix.segment, prefix)).collect(),
            ledger,
            sync,
            directories,
            events,
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

    /// Starts to hash what an earlier run left, if there is something.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start_verifying(&mut self) -> io::Result<()> {
        let mut earlier =
            Earlier { prefixes: self.inherited.values().copied().collect(), ..Earlier::default() };
        for (number, record) in self.ledger.segments.iter().enumerate() {
            match record {
                SegmentRecord::Complete(Some(hash)) => {
                    earlier.complete.push((index(number), *hash));
                }
                SegmentRecord::Durable(None) if self.target.digest() => {
                    earlier.unhashed.push(index(number));
                }
                _ => {}
            }
        }
        if earlier.is_empty() {
            return Ok(());
        }
        let (target, writers) = (Arc::clone(&self.target), self.writers.clone());
        let cancel = Arc::clone(&self.cancel);
        let verify = move || verify(&target, &writers, &earlier, &cancel);
        self.verifying = self.writers.crew().start("haul-verify", verify)?;
        Ok(())
    }

    /// Begins the digest of the whole by `algorithm`, unless the writers compute
    /// it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn hash_behind(&mut self, algorithm: DigestAlgorithm) -> io::Result<()> {
        if algorithm == DigestAlgorithm::Blake3 && !self.believing {
            return Ok(());
        }
        self.behind = Some(Behind::start(self.writers.crew(), algorithm, &self.target)?);
        self.pass();
        Ok(())
    }

    /// Compares pieces with these digests from now on, those of an earlier run too.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn check_pieces(&mut self, pieces: Pieces) -> io::Result<()> {
        // Of an object without a known size they are compared at the end.
        let Some(total) = self.ledger.total else { return Ok(()) };
        let crew = self.writers.crew();
        let mut check = PieceCheck::start(crew, pieces, total, &self.target)?;
        for (number, record) in self.ledger.segments.iter().enumerate() {
            if matches!(record, SegmentRecord::Durable(_)) {
                check.stored(number);
            }
        }
        self.pieces = Some(check);
        Ok(())
    }

    /// All of a segment is here: it is told when its pieces, if there are any,
    /// are good.
    fn tell_stored(&mut self, segment: u32) {
        match &mut self.pieces {
            Some(pieces) => pieces.stored(segment as usize),
            None => self.tell(StoreEvent::Stored { segment }),
        }
    }

    fn piece_hashed(&mut self, piece: usize, number: u32, found: &[u8]) {
        let Some(pieces) = &mut self.pieces else { return };
        match pieces.on_hashed(piece, number, found) {
            Ok(good) => {
                for segment in good {
                    self.tell(StoreEvent::Stored { segment: index(segment) });
                }
                self.pass();
            }
            Err(Bad { segments, message }) => {
                for segment in segments.clone() {
                    self.ledger.segments[segment] = SegmentRecord::Missing;
                    self.writers.forget(&self.target, index(segment));
                    self.target.stored().up_to(index(segment), 0);
                }
                self.changed = true;
                self.tell(StoreEvent::Bad { segments, message });
            }
        }
    }

    /// Tells how far everything is stored.
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
    pub(super) fn run(mut self) {
        let mut next_tick = Instant::now() + CHECKPOINT_INTERVAL;
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            match self.inbox.recv_timeout(wait) {
                Ok(KeeperMessage::End(end)) => return self.end(end),
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end(End::Abandon),
            }
            self.tick(&mut next_tick);
        }
    }

    /// As [`Self::run`], as a task of a simulation.
    #[cfg(test)]
    pub(super) async fn run_as_task(mut self, mailbox: Mailbox) {
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
                () = mailbox.wake.notified() => {}
                () = tokio::time::sleep_until(next_tick) => {}
            }
        }
    }

    fn tick(&mut self, next: &mut Instant) {
        self.sync_in_background();
        if Instant::now() >= *next {
            self.begin_checkpoint();
            *next = Instant::now() + CHECKPOINT_INTERVAL;
        }
    }

    fn take(&mut self, message: KeeperMessage) {
        match message {
            KeeperMessage::Stored { segment, hash } => {
                // Its first bytes may be among those that a failed sync lost.
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
            KeeperMessage::Failed(error) => {
                let error = Error::io("cannot write", self.place.data(), error);
                self.fail(error);
            }
            KeeperMessage::Begun(begun) => {
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
                    self.target.stored().whole(segment);
                } else if let Some(record) = self.ledger.segments.get_mut(segment as usize) {
                    *record = SegmentRecord::Missing;
                }
                self.changed = true;
                self.pass();
                if good && self.pieces.is_some() {
                    self.tell_stored(segment);
                } else {
                    self.tell(StoreEvent::Verified { segment, good });
                }
            }
            KeeperMessage::PrefixVerified { segment, len_bytes } => {
                if len_bytes == 0 {
                    self.inherited.remove(&segment);
                    self.changed = true;
                }
                self.tell(StoreEvent::PrefixVerified { segment, len_bytes });
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
            KeeperMessage::PieceHashed { piece, number, found } => {
                self.piece_hashed(piece, number, &found);
            }
            KeeperMessage::Prove(reply) => drop(reply.send(Proof::of(&self.ledger))),
            KeeperMessage::End(_) => {}
        }
    }

    fn tell(&self, event: StoreEvent) {
        // A driver that is gone drops the store next.
        let _ = self.events.send(event);
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert_with(|| (error.kind(), error.to_string()));
        self.tell(StoreEvent::Failed(error));
    }

    /// Told once: the data is not affected, and each second brings the same.
    fn checkpoint_error(&mut self, error: Error) {
        if !std::mem::replace(&mut self.checkpoint_failed, true) {
            self.tell(StoreEvent::Failed(error));
        }
    }

    fn begin_checkpoint(&mut self) {
        let stored = self.target.stored_bytes();
        let progress = self.changed || stored != self.recorded_bytes;
        // Of an object without a known size nothing can be continued.
        if !progress || self.snapshot.is_some() || self.ledger.total.is_none() {
            return;
        }
        (self.changed, self.recorded_bytes) = (false, stored);
        let expected = self.writers.snapshot(&self.target);
        if expected > 0 {
            self.snapshot = Some((expected, Vec::new()));
        }
    }

    /// Puts the ledger and those of `begun` that it can hold on the disk.
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

    fn sync_in_background(&mut self) {
        let new_bytes = self.target.stored_bytes() - self.synced_bytes;
        let due = self.sync && new_bytes >= SYNC_BYTES || self.last_sync.elapsed() >= SYNC_INTERVAL;
        // What is not hashed can be continued only if it was synced.
        let wanted = self.sync || !self.target.digest();
        if !wanted || self.sync_failed || self.syncing.is_some() || new_bytes == 0 || !due {
            return;
        }
        (self.last_sync, self.synced_bytes) = (Instant::now(), self.target.stored_bytes());
        // Taken before the sync begins: only their bytes are all covered by it.
        let segments = self.complete_segments();
        let target = Arc::clone(&self.target);
        let sync = move || {
            let result =
                fault_point::pass(Call::SyncData).and_then(|()| target.storage().sync_data());
            target.report(KeeperMessage::Synced { segments, result });
        };
        // Without a thread now, there is another try after the next interval.
        self.syncing = self.writers.crew().start("haul-sync", sync).ok().flatten();
    }

    /// The verified segments that are not durable.
    fn complete_segments(&self) -> Vec<u32> {
        let records = (0_u32..).zip(&self.ledger.segments);
        records
            .filter(|(number, record)| {
                matches!(record, SegmentRecord::Complete(_)) && !self.unverified.contains(number)
            })
            .map(|(number, _)| number)
            .collect()
    }

    fn synced(&mut self, segments: &[u32], result: io::Result<()>) {
        self.changed = true;
        match result {
            Ok(()) if self.sync_failed => {}
            Ok(()) => {
                for &segment in segments {
                    self.ledger.segments[segment as usize].make_durable();
                }
            }
            Err(error) => {
                self.sync_failed = true;
                for record in &mut self.ledger.segments {
                    if matches!(record, SegmentRecord::Complete(_)) {
                        *record = SegmentRecord::Missing;
                    }
                }
                let path = self.place.data();
                let error = Error::io(
                    "what was written since the last sync may be lost: cannot sync",
                    path,
                    error,
                );
                self.fail(error);
            }
        }
    }

    /// Nothing is stored for this download after this, and all that was is in
    /// the ledger.
    fn close(&mut self) -> Result<Vec<Begun>, Error> {
        let begun = self.writers.close(&self.target);
        self.drain();
        begun.map_err(|_| {
            Error::new(ErrorKind::Internal, "a writer thread ended before the download did")
        })
    }

    fn drain(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            // A checkpoint with all the news is written right after.
            if !matches!(message, KeeperMessage::Begun(_)) {
                self.take(message);
            }
        }
    }

    fn end(mut self, end: End) {
        // Replies are sent last: who has one finds the lock free. Nobody
        // listening is fine.
        match end {
            End::Finish { publish, expected, reply } => {
                let outcome = self.finish(&publish, &expected);
                let _ = reply.send(outcome);
            }
            End::Stop { reply } => {
                let outcome = self.stop();
                let _ = reply.send(outcome);
            }
            End::Reset { reply } => {
                self.cancel.store(true, Ordering::Relaxed);
                let closed = self.close();
                let Self { place, .. } = self;
                let _ = reply.send(closed.map(|_| place));
            }
            End::Abandon => {
                if let Err(error) = self.stop() {
                    tracing::warn!(?error, "the last checkpoint of a dropped download is missing");
                }
            }
        }
    }

    fn stop(mut self) -> Result<Option<PathBuf>, Error> {
        self.cancel.store(true, Ordering::Relaxed);
        let closed = self.close();
        let begun = closed.as_deref().unwrap_or_default();
        let mut written = self.write_checkpoint(begun);
        // The sync may take longer than who stops us waits: what is known without
        // it was recorded first.
        if written.is_ok() && self.sync_unhashed() {
            written = self.write_checkpoint(begun);
        }
        self.place.unlock();
        let kept = self.place.recorded(written)?;
        closed?;
        Ok(kept)
    }

    /// Makes complete segments durable that nothing else would let a later run
    /// believe. False when there were none.
    fn sync_unhashed(&mut self) -> bool {
        let lost = self.ledger.segments.contains(&SegmentRecord::Complete(None));
        if lost && !self.sync_failed {
            self.sync_now();
        }
        lost
    }

    fn sync_now(&mut self) {
        let result =
            fault_point::pass(Call::SyncData).and_then(|()| self.target.storage().sync_data());
        let segments = self.complete_segments();
        self.synced(&segments, result);
    }

    fn finish(
        mut self,
        options: &PublishOptions,
        expected: &Expected,
    ) -> Result<Finished, (Error, Option<PathBuf>)> {
        let closed = self.close();
        for thread in [self.verifying.take(), self.syncing.take()].into_iter().flatten() {
            let _ = thread.join();
        }
        self.drain();
        let begun = closed.as_deref().unwrap_or_default().to_vec();
        let verdict = closed.and_then(|begun| self.prove(&begun, options, expected));
        let error = match verdict {
            Ok((finished, None)) => {
                match self.place.publish(finished.bytes, options, &self.directories) {
                    Ok(output) => return Ok(Finished { output, ..finished }),
                    Err(error) => error,
                }
            }
            Ok((_, Some(mismatch))) => {
                return Err((self.discard(mismatch), None));
            }
            Err(error) => error,
        };
        self.sync_unhashed();
        let written = self.write_checkpoint(&begun);
        self.place.unlock();
        // Without a total nothing of it can be continued.
        Err((
            error,
            self.place.recorded(written).ok().flatten().filter(|_| self.ledger.total.is_some()),
        ))
    }

    /// Shows that the object is whole, makes its data durable if asked for, and
    /// compares its digests; one that differs comes as the second value.
    fn prove(
        &mut self,
        begun: &[Begun],
        options: &PublishOptions,
        expected: &Expected,
    ) -> Result<(Finished, Option<Error>), Error> {
        let (bytes, mut blake3) = self.digest(begun)?;
        refuse_size(expected.size_bytes, bytes)?;
        let path = self.place.data().to_owned();
        if self.ledger.total.is_none() {
            let set = self.target.storage().set_len(bytes);
            set.map_err(|error| Error::io("cannot set the length of", &path, error))?;
        }
        let sync = options.sync && !self.place.syncs_at_once();
        if sync && !self.sync_failed && !fault_point::has(Bug::NoDataSync) {
            self.sync_now();
        }
        if let Some((kind, message)) = &self.failure {
            return Err(Error::new(*kind, message.clone()));
        }
        let cannot_read = |error| Error::io("cannot read", &path, error);
        if let Some(pieces) = expected.pieces.as_ref().filter(|_| self.ledger.total.is_none()) {
            let bad = first_bad(pieces, bytes, &**self.target.storage()).map_err(cannot_read)?;
            if let Some(why) = bad {
                let message = format!("{}: {why}; nothing was published", path.display());
                let mismatch = Error::new(ErrorKind::DigestMismatch, message);
                return Ok((
                    Finished { output: None, bytes, blake3, verified: None },
                    Some(mismatch),
                ));
            }
        }
        let mut known = Vec::new();
        // A digest that was asked for is of the bytes that are here.
        if let Some(blake3) = blake3.filter(|_| !self.believing) {
            known.push((DigestAlgorithm::Blake3, blake3.to_vec()));
        }
        if let Some(behind) = self.behind.take() {
            known.push((behind.algorithm(), behind.finish(bytes).map_err(cannot_read)?));
        }
        if let Some(window) = self.target.window() {
            known.extend(window.digests());
            let of_all = known.iter().find(|(of, _)| *of == DigestAlgorithm::Blake3);
            blake3 = of_all.and_then(|(_, digest)| digest.as_slice().try_into().ok());
        }
        let output = self.place.output();
        let (verified, mismatch) =
            expected.compare(&**self.target.storage(), &known, output).map_err(cannot_read)?;
        Ok((Finished { output: None, bytes, blake3, verified }, mismatch))
    }

    /// The object's length in bytes and, if all of it was hashed, its BLAKE3 hash.
    fn digest(&self, begun: &[Begun]) -> Result<(u64, Option<[u8; 32]>), Error> {
        if let Some((kind, message)) = &self.failure {
            return Err(Error::new(*kind, message.clone()));
        }
        let Some(total) = self.ledger.total else {
            let of_nothing = || self.target.digest().then(|| blake3::hash(&[]).into());
            let whole = begun.first().map(|begun| (begun.len_bytes, begun.hash));
            return Ok(whole.unwrap_or_else(|| (0, of_nothing())));
        };
        let mut values = Vec::with_capacity(self.ledger.segments.len());
        for (number, record) in self.ledger.segments.iter().enumerate() {
            match record {
                SegmentRecord::Complete(hash) | SegmentRecord::Durable(hash) => values.push(*hash),
                SegmentRecord::Missing => {
                    return Err(Error::new(
                        ErrorKind::Internal,
                        format!("segment {number} is missing at the end; nothing was published"),
                    ));
                }
            }
        }
        let values: Option<Vec<_>> = values.into_iter().collect();
        let values = values.filter(|_| self.target.digest());
        let root =
            |values: Vec<_>| digest_tree::root(total, self.ledger.segment_size_bytes, &values);
        Ok((total, values.map(root)))
    }

    /// Wrong data is of no use to the next run, which could not tell which part
    /// of it is wrong.
    fn discard(self, mismatch: Error) -> Error {
        let path = self.place.data().to_owned();
        match self.place.remove() {
            Ok(()) => mismatch,
            Err(error) => Error::new(
                mismatch.kind(),
                format!("{mismatch}; but {} cannot be removed: {error}", path.display()),
            )
            .with_hint("remove it by hand"),
        }
    }
}

fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What an earlier run left and must be read.
#[derive(Default)]
struct Earlier {
    prefixes: Vec<Prefix>,
    complete: Vec<(u32, [u8; 32])>,
    /// Durable, so believed; read for the digest of the whole alone.
    unhashed: Vec<u32>,
}

impl Earlier {
    fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.complete.is_empty() && self.unhashed.is_empty()
    }
}

/// Hashes what an earlier run left: prefixes first, since fetching waits for
/// them.
fn verify(target: &Arc<Target>, writers: &Writers, earlier: &Earlier, cancel: &AtomicBool) {
    let mut buffer = vec![0; READ_BYTES];
    let mut again = |segment, len_bytes| {
        let read = |at, buffer: &mut [u8]| {
            if cancel.load(Ordering::Relaxed) {
                Ok(0)
            } else {
                target.storage().read_at(at, buffer)
            }
        };
        // What cannot be read is not believed.
        rehash(target.layout(), segment, len_bytes, &mut buffer, read).ok().flatten()
    };
    for &Prefix { segment, len_bytes, hash } in &earlier.prefixes {
        let found = again(segment, Some(len_bytes));
        if cancel.load(Ordering::Relaxed) {
            return;
        }
        let good = found.filter(|hasher| hasher.finish() == hash);
        let len_bytes = good.as_ref().map_or(0, SegmentHasher::len);
        if let Some(hasher) = good
            && let Some(range) = target.layout().range(segment)
        {
            // Before the message: fetching goes on as soon as it is seen.
            writers.seed(target, segment, hasher, range.start() + len_bytes);
        }
        target.report(KeeperMessage::PrefixVerified { segment, len_bytes });
    }
    for &(segment, hash) in &earlier.complete {
        let found = again(segment, None);
        if cancel.load(Ordering::Relaxed) {
            return;
        }
        let good = found.is_some_and(|hasher| hasher.finish() == hash);
        target.report(KeeperMessage::Verified { segment, good });
    }
    for &segment in &earlier.unhashed {
        // One that cannot be read leaves the whole without a digest.
        if let Some(hasher) = again(segment, None) {
            let hash = hasher.finish();
            target.report(KeeperMessage::Hashed { segment, hash });
        }
    }
}
