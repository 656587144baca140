//! The messages to a keeper, and how they reach it.

use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::sync::oneshot;

use super::Keeper;
use super::ending::End;
use super::endings::Endings;
use crate::disk::pieces::HashedPiece;
use crate::disk::writer::{Report, Reports};
use crate::lock::Lock;
use crate::model::samples::Proof;

/// A message to the keeper.
pub(crate) enum KeeperMessage {
    /// A report of the writers.
    Written(Report),
    /// A complete segment of an earlier run was hashed again.
    Verified { segment: u32, good: bool },
    /// A prefix of an earlier run was hashed again; 0 bytes when it is not good.
    PrefixVerified { segment: u32, len_bytes: u64 },
    /// A durable segment that an earlier run did not hash has now been hashed.
    Hashed { segment: u32, hash: [u8; 32] },
    /// A background sync ended. These segments were complete when it began.
    Synced { segments: Vec<u32>, result: io::Result<()> },
    /// A stored piece was hashed.
    PieceHashed(HashedPiece),
    /// Asks for what another URL can be compared with: complete segments, or whatever
    /// there is.
    Prove { begun: bool, seed: u64, reply: oneshot::Sender<Option<Proof>> },
    /// Bytes of a URL are being joined that only a digest can show to be the object's.
    Mixed,
    /// The download is to end.
    End(End),
}

/// The way to a keeper. It is unbounded, so that no writer ever waits for the keeper,
/// which waits for the writers. There is one report per segment and snapshot.
pub(super) struct Mailbox {
    sender: Sender<KeeperMessage>,
    /// A keeper without a thread: whoever posts a message also handles it, which never
    /// blocks, except while somebody else does so. Empty before the keeper begins and
    /// after it ends.
    on_call: Lock<Option<Keeper>>,
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
            on_call: Lock::default(),
            #[cfg(test)]
            wake: tokio::sync::Notify::default(),
        };
        (Arc::new(mailbox), inbox)
    }

    pub(super) fn send(&self, message: KeeperMessage) {
        match &mut *self.on_call.lock() {
            Some(keeper) => keeper.hear(message),
            // Sent under the lock, so that a keeper that is about to attend finds it.
            // If there is none, the download has ended and nobody waits for it.
            None => drop(self.sender.send(message)),
        }
        #[cfg(test)]
        self.wake.notify_one();
    }

    /// From now on, whoever sends a message has `keeper` handle it.
    pub(super) fn attend(&self, mut keeper: Keeper) {
        let mut on_call = self.on_call.lock();
        keeper.drain();
        *on_call = Some(keeper);
    }

    /// Has the keeper end the download: on its thread, or, without one, through
    /// `endings`.
    pub(super) fn end(&self, end: End, endings: &Arc<Endings>) {
        let on_call = self.on_call.lock().take();
        match on_call {
            Some(keeper) => endings.begin(keeper, end),
            None => self.send(KeeperMessage::End(end)),
        }
    }

    /// Wakes a simulation's keeper.
    #[cfg(test)]
    pub(super) async fn notified(&self) {
        self.wake.notified().await;
    }
}
