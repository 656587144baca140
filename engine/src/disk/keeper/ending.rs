//! How a download ends.
//!
//! Whatever becomes of a download, its keeper ends it: an [`Ending`] pairs the keeper with the
//! [`End`] that is wanted. Only an object that was [`Gathered`] whole needs none. A stop, a reset
//! and a dropped download end in one step, [`Keeper::stop`] at most. A complete download is
//! published, in an order that makes it safe to lose power at any instant:
//!
//! 1. *Conclude.* The writers give up the download, threads that read it are joined, and
//!    the hash of the whole is made of those of its segments. Data that has a name is
//!    synced now; then the digests that are expected are compared ([`Keeper::conclude`]).
//! 2. *Write.* An object that is in memory only is written into a file without a name, and
//!    the disk begins with it.
//! 3. *Name.* Data and attributes are synced, and only then the name appears.
//! 4. *Sync the directory*, without which a power cut takes the name back. The checkpoint of
//!    a partial is removed after that; so [`publish`] does steps 3 and 4 of a partial.
//! 5. *Report.* The keeper is dropped, and its lock with it, before anybody is told.
//!
//! If a step fails before the name is there, the data is left to a later run ([`Keeper::keep`]),
//! unless it is wrong: then it is removed.
//!
//! These steps have one implementation, [`run`], which takes a group of endings and does each step
//! for all of them before the next. Groups exist because everyone who waits for a disk can share
//! one flush: of thousands of small files, those that end meanwhile are all written before the
//! first is waited for, and their directory is synced once. Who calls it depends only on what the
//! caller would wait for:
//!
//! - a keeper with a thread: that thread, in a group of its own;
//! - a small object, whose keeper has none, where it is synced: a thread that ends all of the
//!   engine's that wait ([`Endings`](super::Endings));
//! - where it is not synced: a writer thread, for which a small file is no more work than
//!   a chunk;
//! - where it is given up: whoever drops it, since nothing is kept.
//!
//! [`publish`]: crate::disk::publish::publish

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::conclusion::{Finished, Published};
use super::gathered::Gathered;
use super::{Keeper, Place};
use crate::disk::directory_sync::DirectorySyncs;
use crate::disk::holds::Hold;
use crate::disk::prove::Expected;
use crate::disk::publish::PublishOptions;
use crate::disk::writer::Begun;
use crate::model::error::{Error, Kept};

/// How a download is to end.
pub(crate) enum End {
    /// Published, if it is complete and as `expected`.
    Finish { publish: PublishOptions, expected: Expected, reply: oneshot::Sender<Published> },
    /// Left to a later run.
    Stop { reply: oneshot::Sender<Result<Option<Kept>, Error>> },
    /// Forgotten; the place is given back for a start from zero.
    Reset { reply: oneshot::Sender<Result<Place, Error>> },
    /// Like a stop that nobody waits for; the name is held until it is over.
    Abandon { hold: Option<Arc<Hold>> },
}

/// A download that is ending.
pub(super) enum Ending {
    Kept { keeper: Box<Keeper>, end: End },
    Whole(Gathered),
}

/// Who has the data of a download that is being published.
enum Holder {
    /// A keeper, and the segments that are begun and not complete.
    Keeper(Box<Keeper>, Vec<Begun>),
    /// Nobody, but the name is held.
    Nobody { place: Place, directories: Arc<DirectorySyncs>, _hold: Option<Arc<Hold>> },
}

/// A complete download on its way to its name.
struct Publishing {
    holder: Holder,
    options: PublishOptions,
    finished: Finished,
    reply: oneshot::Sender<Published>,
}

/// Ends all downloads of a group; see the module. Blocks as long as the disk takes.
pub(super) fn run(group: Vec<Ending>) {
    // Bytes are written while they are still in the processor's cache, where hashing left them.
    let written: Vec<_> =
        group.into_iter().filter_map(Ending::conclude).filter_map(Publishing::write).collect();
    let named: Vec<_> = written.into_iter().filter_map(Publishing::name).collect();
    let mut durable = HashSet::new();
    for publishing in named {
        publishing.sync_directory(&mut durable);
    }
}

impl Ending {
    /// Whether ending it waits for the disk.
    pub(super) fn syncs(&self) -> bool {
        match self {
            Self::Kept { end: End::Finish { publish, .. }, .. } => publish.sync,
            Self::Kept { .. } => false,
            Self::Whole(gathered) => gathered.publish.sync,
        }
    }

    /// The first step of a download that is complete, and the only one of all others. Replies are
    /// sent last, so that a receiver finds the lock free. Nobody need be listening.
    fn conclude(self) -> Option<Publishing> {
        let (mut keeper, end) = match self {
            Self::Kept { keeper, end } => (keeper, end),
            Self::Whole(gathered) => return conclude_gathered(gathered),
        };
        match end {
            End::Finish { publish: options, expected, reply } => {
                let (begun, verdict) = keeper.conclude(&options, &expected);
                match verdict {
                    Ok((finished, None)) => {
                        let holder = Holder::Keeper(keeper, begun);
                        return Some(Publishing { holder, options, finished, reply });
                    }
                    Ok((_, Some(mismatch))) => {
                        let _ = reply.send(Err((keeper.discard(mismatch), None)));
                    }
                    Err(error) => fail(keeper, &begun, reply, error),
                }
            }
            End::Stop { reply } => {
                let outcome = keeper.stop();
                let _ = reply.send(outcome);
            }
            End::Reset { reply } => {
                keeper.cancel.store(true, Ordering::Relaxed);
                let closed = keeper.close();
                let Keeper { place, .. } = *keeper;
                let _ = reply.send(closed.map(|_| place));
            }
            End::Abandon { .. } if keeper.place.keeps_nothing() => {
                keeper.cancel.store(true, Ordering::Relaxed);
                keeper.writers.let_go(&keeper.epoch);
            }
            End::Abandon { hold } => {
                if let Err(error) = keeper.stop() {
                    tracing::warn!(?error, "the last checkpoint of a dropped download is missing");
                }
                drop(hold);
            }
        }
        None
    }
}

fn conclude_gathered(gathered: Gathered) -> Option<Publishing> {
    let verdict = gathered.prove();
    let Gathered { unnamed, directories, publish: options, hold, reply, .. } = gathered;
    match verdict {
        Ok((finished, None)) => {
            let holder =
                Holder::Nobody { place: Place::Unnamed(unnamed), directories, _hold: hold };
            return Some(Publishing { holder, options, finished, reply });
        }
        Ok((_, Some(error))) | Err(error) => {
            let _ = reply.send(Err((error, None)));
        }
    }
    None
}

impl Holder {
    fn place(&mut self) -> &mut Place {
        match self {
            Self::Keeper(keeper, _) => &mut keeper.place,
            Self::Nobody { place, .. } => place,
        }
    }

    fn directories(&self) -> Arc<DirectorySyncs> {
        match self {
            Self::Keeper(keeper, _) => Arc::clone(&keeper.directories),
            Self::Nobody { directories, .. } => Arc::clone(directories),
        }
    }
}

impl Publishing {
    fn write(mut self) -> Option<Self> {
        match self.holder.place().write(self.finished.bytes, &self.options) {
            Ok(()) => Some(self),
            Err(error) => self.fail(error),
        }
    }

    fn name(mut self) -> Option<Self> {
        let Self { holder, options, finished, .. } = &mut self;
        let directories = holder.directories();
        match holder.place().name(finished.bytes, options, &directories) {
            Ok(named) => {
                (finished.output, finished.named) = named;
                Some(self)
            }
            Err(error) => self.fail(error),
        }
    }

    /// The last step, and the reply. `durable` has the directories whose names are durable.
    fn sync_directory(mut self, durable: &mut HashSet<PathBuf>) {
        let directories = self.holder.directories();
        match self.holder.place().sync_directory(&self.options, &directories, durable) {
            Ok(()) => {
                let Self { holder, finished, reply, .. } = self;
                drop(holder);
                let _ = reply.send(Ok(finished));
            }
            Err(error) => drop(self.fail(error)),
        }
    }

    fn fail(self, error: Error) -> Option<Self> {
        match self.holder {
            Holder::Keeper(keeper, begun) => fail(keeper, &begun, self.reply, error),
            holder @ Holder::Nobody { .. } => {
                drop(holder);
                let _ = self.reply.send(Err((error, None)));
            }
        }
        None
    }
}

/// Keeps what can be continued of a download that is not published, then replies.
fn fail(mut keeper: Box<Keeper>, begun: &[Begun], reply: oneshot::Sender<Published>, error: Error) {
    let kept = keeper.keep(begun);
    drop(keeper);
    let _ = reply.send(Err((error, kept)));
}
