//! Where the object ends: what earlier responses told of it, and how a total that
//! may be the server's mistake is settled.

use std::time::Duration;

use super::failing::status_failure;
use super::{Failure, LeaseId, Phase, Planner};
use crate::model::error::ErrorKind;
use crate::model::range::ByteRange;
use crate::model::response::Verdict;
use crate::model::size::differing;

/// See the module's documentation. It is of one version of the object.
#[derive(Debug, Default)]
pub(super) struct KnownEnd {
    /// As a response told it.
    total: Option<u64>,
    /// So many bytes came of a plain stream without a length.
    least: u64,
    /// The total is the end of the part that was asked for. Some servers put that
    /// there, so the object may have more until the byte behind it was asked for.
    doubtful: bool,
    /// Who asks for that byte.
    asked_by: Option<LeaseId>,
}

impl KnownEnd {
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// The object, which one plain stream will fetch, ends where it did.
    pub(super) fn is_of_stream(&mut self) {
        self.doubtful = false;
    }

    /// A response was taken that tells the object's size.
    pub(super) fn told(&mut self, total: Option<u64>) {
        self.total = total.or(self.total);
    }

    /// The answer was to a request for `asked`.
    pub(super) fn doubt_end_of(&mut self, asked: ByteRange) {
        self.doubtful = self.total == Some(asked.end());
    }

    /// A plain stream without a length has come up to `position`.
    pub(super) fn came(&mut self, position: u64) {
        self.least = self.least.max(position);
    }

    /// Why a stream that ends at `end` is not the object that came before, if so.
    pub(super) fn contradiction(&self, end: u64) -> Option<Failure> {
        let (end, why) = match self.total {
            Some(total) if total != end => {
                let (end, total) = differing(end, total);
                (end, format!("although its size is {total}"))
            }
            _ if end < self.least => {
                let (end, least) = differing(end, self.least);
                (end, format!("although {least} of it came before"))
            }
            _ => return None,
        };
        let message = format!("the server ended the object after {end}, {why}");
        Some(Failure::new(ErrorKind::Protocol, message))
    }
}

impl Planner {
    /// Asks for the byte behind a doubtful end once everything else is here. Whether
    /// that is under way.
    pub(super) fn ask_behind(&mut self, now: Duration) -> bool {
        let Some(total) = self.known_end.total.filter(|_| self.known_end.doubtful) else {
            return false;
        };
        let asking = self.known_end.asked_by.is_some_and(|id| self.leases.contains_key(&id));
        if asking {
            return true;
        }
        let missing = self.map.as_ref().is_none_or(|map| map.missing_bytes() > 0);
        if missing || !self.leases.is_empty() || self.allowed == 0 {
            return false;
        }
        let Some(source) = self.pick(now) else { return true };
        let behind = ByteRange::new(total, total + 1);
        self.known_end.asked_by = Some(self.next_lease);
        self.issue(source, behind, Some(behind), now);
        true
    }

    pub(super) fn asks_behind(&self, id: LeaseId) -> bool {
        self.known_end.asked_by == Some(id)
    }

    /// Judges the answer to a request for the byte behind the end.
    pub(super) fn judge_end(&mut self, id: LeaseId, verdict: &Verdict, now: Duration) {
        let total = self.known_end.total;
        self.drop_response(id);
        match verdict {
            Verdict::Unsatisfied { total: told } if told.is_none() || *told == total => {
                self.known_end.doubtful = false;
            }
            Verdict::Whole { resource } if resource.total == total => {
                self.known_end.doubtful = false;
            }
            Verdict::Throttled { status, retry_after }
            | Verdict::Status { status, transient: true, retry_after } => {
                self.failed(id, status_failure(*status), *retry_after, now);
            }
            _ if self.phase == Phase::Running => self.sequential_of_any_version(
                "the server tells the end of a part as the size of the object",
            ),
            _ => {}
        }
    }
}
