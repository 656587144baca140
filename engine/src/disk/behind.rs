//! A digest that takes the bytes in order, computed during the download. It
//! follows the frontier: the offset before which every byte is stored.
//!
//! The bytes are read back from the file, where they are in the page cache as
//! long as leases stay near the frontier. So no memory is held for the hasher,
//! which may be slower than the network, and data from an earlier run needs no
//! special handling. A thread of its own does the work.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::crew::Crew;
use super::hasher::Hasher;
use super::writer::Epoch;
use crate::model::config::DigestAlgorithm;

/// How much is read at once, in bytes: little enough to stay in the processor's
/// cache until it is hashed.
const READ_BYTES: usize = 256 << 10;

/// How often the frontier of an object of unknown size is checked.
const POLL: Duration = Duration::from_millis(50);

/// The digest of one epoch of one download. Dropping it soon ends the work.
pub(super) struct Behind {
    algorithm: DigestAlgorithm,
    work: Work,
    cancel: Arc<AtomicBool>,
}

enum Work {
    Thread {
        /// Takes the frontier as it moves; closed at the end.
        frontier: Sender<u64>,
        /// Yields the digest after that.
        digest: Receiver<io::Result<Vec<u8>>>,
    },
    #[cfg(test)]
    Inline(Box<Follower>),
}

impl Behind {
    /// Starts at the first byte of `epoch`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        crew: Crew,
        algorithm: DigestAlgorithm,
        epoch: &Arc<Epoch>,
    ) -> io::Result<Self> {
        let cancel = Arc::<AtomicBool>::default();
        let progress = Follower {
            hasher: Hasher::new(algorithm),
            epoch: Arc::clone(epoch),
            at: 0,
            buffer: vec![0; READ_BYTES],
            cancel: Arc::clone(&cancel),
        };
        let work = match crew {
            Crew::Threads => {
                let (frontier, frontiers) = unbounded();
                let (reply, digest) = bounded(1);
                crew.start("haul-digest", move || {
                    // Nobody receives the digest of a cancelled one.
                    let _ = reply.send(progress.follow(&frontiers));
                })?;
                Work::Thread { frontier, digest }
            }
            #[cfg(test)]
            Crew::Inline => Work::Inline(Box::new(progress)),
        };
        Ok(Self { algorithm, work, cancel })
    }

    /// Which algorithm it uses.
    pub(super) fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// Reports that all bytes before `frontier` are stored. It never goes back.
    pub(super) fn reach(&mut self, frontier: u64) {
        match &mut self.work {
            Work::Thread { frontier: way, .. } => {
                // A thread that failed has sent its error; see `finish`.
                let _ = way.send(frontier);
            }
            #[cfg(test)]
            Work::Inline(progress) => {
                // An error here occurs again at the end.
                let _ = progress.advance(frontier);
            }
        }
    }

    /// The digest of the object's `len_bytes`, all of which are stored. Blocks
    /// until the hasher has caught up.
    ///
    /// # Errors
    /// When the bytes cannot be read.
    pub(super) fn finish(mut self, len_bytes: u64) -> io::Result<Vec<u8>> {
        self.reach(len_bytes);
        let work = std::mem::replace(&mut self.work, Work::ended());
        match work {
            Work::Thread { frontier, digest } => {
                drop(frontier);
                digest
                    .recv()
                    .unwrap_or_else(|_| Err(io::Error::other("the hashing thread is gone")))
            }
            #[cfg(test)]
            Work::Inline(mut progress) => {
                progress.advance(len_bytes)?;
                Ok(progress.hasher.finish())
            }
        }
    }
}

impl Work {
    fn ended() -> Self {
        Self::Thread { frontier: unbounded().0, digest: bounded(0).1 }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

struct Follower {
    hasher: Hasher,
    epoch: Arc<Epoch>,
    /// The first byte not yet hashed.
    at: u64,
    buffer: Vec<u8>,
    cancel: Arc<AtomicBool>,
}

impl Follower {
    /// Hashes up to each frontier, until the sender is closed.
    fn follow(mut self, frontiers: &Receiver<u64>) -> io::Result<Vec<u8>> {
        let stream = self.epoch.layout.total.is_none();
        loop {
            let frontier = match frontiers.recv_timeout(POLL) {
                Ok(frontier) => frontiers.try_iter().last().unwrap_or(frontier),
                // An object of unknown size arrives in order.
                Err(RecvTimeoutError::Timeout) if stream => self.epoch.stored_bytes(),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(self.hasher.finish()),
            };
            self.advance(frontier)?;
        }
    }

    fn advance(&mut self, frontier: u64) -> io::Result<()> {
        while self.at < frontier && !self.cancel.load(Ordering::Relaxed) {
            let left = usize::try_from(frontier - self.at).unwrap_or(usize::MAX);
            let wanted = left.min(self.buffer.len());
            let read = self.epoch.storage.read_at(self.at, &mut self.buffer[..wanted])?;
            if read == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("it ends at byte {} of {frontier} that were stored", self.at),
                ));
            }
            self.hasher.update(&self.buffer[..read]);
            self.at += read as u64;
        }
        Ok(())
    }
}
