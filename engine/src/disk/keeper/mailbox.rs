//! What a keeper is told, and the way to it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::sync::oneshot;

use super::Keeper;
use super::ending::{End, Ending};
use super::endings::Endings;
use crate::disk::pieces::HashedPiece;
use crate::disk::writer::{Report, Reports};
use crate::model::samples::Proof;

/// What the keeper is told.
pub(crate) enum KeeperMessage {
    /// By the writers.
    Written(Report),
    /// A complete segment of an earlier run was hashed again.
    Verified { segment: u32, good: bool },
    /// A prefix of an earlier run was; 0 bytes when it is not good.
    PrefixVerified { segment: u32, len_bytes: u64 },
    /// A durable segment that an earlier run did not hash was hashed now.
    Hashed { segment: u32, hash: [u8; 32] },
    /// A background sync ended. These segments were complete when it began.
    Synced { segments: Vec<u32>, result: io::Result<()> },
    /// A piece that is stored was hashed.
    PieceHashed(HashedPiece),
    /// What another URL can be compared with is asked for: complete segments, or what
    /// there is.
    Prove { begun: bool, seed: u64, reply: oneshot::Sender<Option<Proof>> },
    /// Bytes of a URL are joined that only a digest shows to be the object's.
    Mixed,
    /// The download ends.
    End(End),
}

/// The way to a keeper. Without a bound, so that no writer ever waits for the
/// keeper, which waits for the writers. A report comes once per segment and
/// snapshot.
pub(super) struct Mailbox {
    sender: Sender<KeeperMessage>,
    /// A keeper without a thread: whoever has news for it does what they ask for,
    /// which never blocks, unless somebody else is at it. Empty before its
    /// beginning and after its end.
    on_call: Mutex<Option<Keeper>>,
    #[cfg(test)]
    wake: tokio::sync::Notify,
}

impl Reports for Mailbox {
    fn report(&self, report: Report) {
        self.send(KeeperMessage::Written(report));
    }
}

impl Mailbox {
    pub(super) fn new() -> (Arc<Self>, Receiver<KeeperMessage>) {
        let (sender, inbox) = unbounded();
        let mailbox = Self {
            sender,
            on_call: Mutex::default(),
            #[cfg(test)]
            wake: tokio::sync::Notify::default(),
        };
        (Arc::new(mailbox), inbox)
    }

    pub(super) fn send(&self, message: KeeperMessage) {
        match &mut *self.on_call() {
            Some(keeper) => keeper.hear(message),
            // Still under the lock: a keeper that is about to attend finds it. Without
            // one the download has ended and nobody waits for it.
            None => drop(self.sender.send(message)),
        }
        #[cfg(test)]
        self.wake.notify_one();
    }

    /// Has `keeper` attended to by whoever sends, from now on.
    pub(super) fn attend(&self, mut keeper: Keeper) {
        let mut on_call = self.on_call();
        keeper.drain();
        *on_call = Some(keeper);
    }

    /// Has the keeper end the download: on its thread, or, without one, where `endings`
    /// has it done.
    pub(super) fn end(&self, end: End, endings: &Arc<Endings>) {
        let on_call = self.on_call().take();
        match on_call {
            Some(keeper) => endings.begin(Ending { keeper, end }),
            None => self.send(KeeperMessage::End(end)),
        }
    }

    /// Wakes a simulation's keeper.
    #[cfg(test)]
    pub(super) async fn notified(&self) {
        self.wake.notified().await;
    }

    fn on_call(&self) -> MutexGuard<'_, Option<Keeper>> {
        self.on_call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
