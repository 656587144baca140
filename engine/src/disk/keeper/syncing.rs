//! When the data is synced: in the background while it arrives, and at the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Keeper, KeeperMessage, SegmentRecord};
use crate::fault_point::{self, Call};
use crate::model::error::Error;

/// The data is synced after this many new bytes, or after this time with any.
/// Larger values leave more to the sync at the end, which overlaps with
/// nothing.
const SYNC_BYTES: u64 = 64 << 20;
const SYNC_INTERVAL: Duration = Duration::from_secs(10);

impl Keeper {
    pub(super) fn sync_in_background(&mut self) {
        let new_bytes = self.epoch.stored_bytes() - self.synced_bytes;
        let due = self.sync && new_bytes >= SYNC_BYTES || self.last_sync.elapsed() >= SYNC_INTERVAL;
        // Data that is not hashed can be continued only if it was synced.
        let wanted = self.sync || !self.epoch.digest;
        if !wanted || self.sync_failed || self.syncing.is_some() || new_bytes == 0 || !due {
            return;
        }
        (self.last_sync, self.synced_bytes) = (Instant::now(), self.epoch.stored_bytes());
        // Taken before the sync, which may not cover bytes stored later.
        let segments = self.complete_segments();
        let (epoch, mailbox) = (Arc::clone(&self.epoch), Arc::clone(&self.mailbox));
        let sync = move || {
            let result = fault_point::pass(Call::SyncData).and_then(|()| epoch.storage.sync_data());
            mailbox.send(KeeperMessage::Synced { segments, result });
        };
        // If no thread can be had now, the next interval tries again.
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

    pub(super) fn synced(&mut self, segments: &[u32], result: io::Result<()>) {
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

    /// Makes complete segments durable that a later run could not believe
    /// otherwise. False when there were none.
    pub(super) fn sync_unhashed(&mut self) -> bool {
        let lost = self.ledger.segments.contains(&SegmentRecord::Complete(None));
        if lost && !self.sync_failed {
            self.sync_now();
        }
        lost
    }

    pub(super) fn sync_now(&mut self) {
        let result =
            fault_point::pass(Call::SyncData).and_then(|()| self.epoch.storage.sync_data());
        let segments = self.complete_segments();
        self.synced(&segments, result);
    }
}
