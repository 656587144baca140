//! Leases that stay near the front: for a digest that needs the bytes in order,
//! and for a reader that takes them from memory and gives them on.

use std::time::Duration;

use super::{Lease, Phase, Planner};
use crate::model::range::ByteRange;
use crate::model::validator::Comparison;

/// A connection that others wait for is relieved when that saves so much: its
/// own is closed by that, and the next one's is needed again.
const WORTHWHILE_S: f64 = 0.5;

/// How far leases may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// So many bytes beyond the first byte that is not here: a multiple of the
    /// segment size, and raised where connections would have no segment of their own.
    Frontier(u64),
    /// So many bytes beyond what was given out, and never more: they are in memory.
    Window {
        /// The size of the window.
        bytes: u64,
        /// The first byte that was not given out.
        given: u64,
    },
}

impl Planner {
    /// All bytes before the offset `given` were given out and cannot be taken
    /// back: from then on no other version of the object will do.
    pub fn on_given(&mut self, given: u64, now: Duration) {
        if let Some(Reach::Window { given: known, .. }) = &mut self.reach
            && *known != given
        {
            *known = given;
            self.given_out = true;
            if self.phase == Phase::Running {
                self.schedule(now);
            }
        }
    }

    /// The next missing bytes to lease, about `want_bytes` of them.
    pub(super) fn next_run(&mut self, want_bytes: u64) -> Option<ByteRange> {
        let connections = self.concurrency.limit().max(1) as u64;
        let map = self.map.as_mut()?;
        let (end, share, least) = match self.reach {
            None => return map.next_run(want_bytes),
            Some(Reach::Frontier(bytes)) => {
                // Each connection gets a segment, and another one, however large they are.
                let bytes = bytes.max(2 * connections * map.segment_size_bytes());
                (map.frontier().saturating_add(bytes), bytes / connections, 1)
            }
            // Two leases a connection, so that one that ends begins another. What
            // comes free bit by bit is gathered until it is worth a request.
            Some(Reach::Window { bytes, given }) => {
                let share = bytes / (2 * connections);
                (given.saturating_add(bytes), share, (share / 2).max(1))
            }
        };
        let run = map.next_run(want_bytes.min(share))?;
        if run.end() <= end {
            return Some(run);
        }
        // Whole segments, where that leaves enough: what the reader needs next is less than
        // that for good where it waits for the end of a segment as long as the window.
        let size = map.segment_size_bytes();
        let whole = Some(end / size * size).filter(|end| *end >= run.start() + least);
        let end = whole.unwrap_or(end);
        (run.start() < end && end - run.start() >= least).then(|| ByteRange::new(run.start(), end))
    }

    /// Whether a connection may take over from `lease`, to save so many seconds.
    /// Inside a window most leases only wait for the reader, or for the first.
    pub(super) fn may_relieve(&self, lease: &Lease, saved_s: f64) -> bool {
        let (Some(Reach::Window { .. }), Some(map)) = (self.reach, &self.map) else { return true };
        map.missing_bytes() == 0 || saved_s > WORTHWHILE_S && self.is_first(lease)
    }

    fn is_first(&self, lease: &Lease) -> bool {
        self.leases.values().all(|other| lease.position <= other.position)
    }

    /// Whether a broken plain stream can be fetched again: not when bytes of it
    /// were given out that nothing shows to be the same.
    pub(super) fn can_start_over(&self) -> bool {
        let proves = |validator: &crate::model::validator::Validator| {
            validator.compare(validator) == Comparison::Same
        };
        !self.given_out || self.resource.as_ref().is_some_and(|it| proves(&it.validator))
    }
}
