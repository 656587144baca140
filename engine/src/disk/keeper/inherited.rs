//! Hashing again what an earlier run left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{KeeperMessage, Mailbox};
use crate::disk::crew::Crew;
use crate::disk::rehash::{cores, on_threads, rehash};
use crate::disk::writer::{Epoch, Writers};
use crate::model::checkpoint::Prefix;
use crate::model::digest_tree::SegmentHasher;

/// What an earlier run left that must be read.
#[derive(Default)]
pub(super) struct Inherited {
    pub(super) prefixes: Vec<Prefix>,
    pub(super) complete: Vec<(u32, [u8; 32])>,
    /// Durable, so believed; read only for the digest of the whole.
    pub(super) unhashed: Vec<u32>,
}

impl Inherited {
    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.complete.is_empty() && self.unhashed.is_empty()
    }
}

/// Hashes what an earlier run left, on all cores: prefixes first, since fetching waits
/// for them.
pub(super) fn verify(
    epoch: &Arc<Epoch>,
    writers: &Writers,
    mailbox: &Mailbox,
    inherited: &Inherited,
    cancel: &AtomicBool,
) {
    let goes_on = || !cancel.load(Ordering::Relaxed);
    let again = |segment, len_bytes| {
        // What cannot be read is not believed.
        rehash(epoch.layout, segment, len_bytes, &*epoch.storage, goes_on).ok().flatten()
    };
    let threads = if writers.crew() == Crew::Threads { cores() } else { 1 };
    on_threads(threads, inherited.prefixes.len(), |number| {
        let Prefix { segment, len_bytes, hash } = inherited.prefixes[number];
        let found = again(segment, Some(len_bytes));
        if !goes_on() {
            return;
        }
        let good = found.filter(|hasher| hasher.finish() == hash);
        let len_bytes = good.as_ref().map_or(0, SegmentHasher::len);
        if let Some(hasher) = good
            && let Some(range) = epoch.layout.range(segment)
        {
            // Before the message: fetching continues as soon as that is seen.
            writers.seed(epoch, segment, hasher, range.start() + len_bytes);
        }
        mailbox.send(KeeperMessage::PrefixVerified { segment, len_bytes });
    });
    on_threads(threads, inherited.complete.len(), |number| {
        let (segment, hash) = inherited.complete[number];
        let found = again(segment, None);
        if goes_on() {
            let good = found.is_some_and(|hasher| hasher.finish() == hash);
            mailbox.send(KeeperMessage::Verified { segment, good });
        }
    });
    on_threads(threads, inherited.unhashed.len(), |number| {
        let segment = inherited.unhashed[number];
        // If one cannot be read, the whole has no digest.
        if let Some(hasher) = again(segment, None) {
            let hash = hasher.finish();
            mailbox.send(KeeperMessage::Hashed { segment, hash });
        }
    });
}
