//! Where the object ends: what earlier responses said about it, and how a total
//! that may be the server's mistake is settled.
//!
//! The end is unknown, told, or *doubtful* until the byte behind it was asked for. The end of a
//! plain stream without a length is where it ended, and not before the end of an earlier one.

use super::action::Failure;
use crate::model::error::ErrorKind;
use crate::model::range::ByteRange;
use crate::model::response::Verdict;
use crate::model::segment::LeaseId;
use crate::model::size::differing;

/// See the module's documentation. It is of one version of the object.
#[derive(Debug, Default)]
pub(super) struct KnownEnd {
    /// The total that a response told.
    total: Option<u64>,
    /// How many bytes came of a plain stream without a length.
    least: u64,
    /// The total is the end of the part that was asked for. Some servers put that
    /// there, so the object may go on until the byte behind it was asked for.
    doubtful: bool,
    /// The lease that asks for that byte.
    asked_by: Option<LeaseId>,
    /// The end of the plain stream.
    stream_ended_at: Option<u64>,
}

impl KnownEnd {
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// The object, which one plain stream will fetch, ends where that stream does.
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

    /// The byte behind a doubtful end.
    pub(super) fn behind(&self) -> Option<ByteRange> {
        let total = self.total.filter(|_| self.doubtful)?;
        Some(ByteRange::new(total, total + 1))
    }

    /// The lease that asks for that byte, if any.
    pub(super) fn asked_by(&self) -> Option<LeaseId> {
        self.asked_by
    }

    /// This lease asks for the byte behind the end.
    pub(super) fn ask_by(&mut self, id: LeaseId) {
        self.asked_by = Some(id);
    }

    /// The answer to a request for the byte behind the end. Returns whether the end is settled.
    pub(super) fn is_settled_by(&mut self, verdict: &Verdict) -> bool {
        let settled = match verdict {
            Verdict::Unsatisfied { total } => total.is_none() || *total == self.total,
            Verdict::Whole { resource } => resource.total == self.total,
            _ => false,
        };
        self.doubtful &= !settled;
        settled
    }

    /// The plain stream is over.
    pub(super) fn ended(&mut self, at: u64) {
        self.stream_ended_at = Some(at);
    }

    /// Whether the plain stream is over.
    pub(super) fn has_ended(&self) -> bool {
        self.stream_ended_at.is_some()
    }

    /// Another plain stream may begin.
    pub(super) fn begin_again(&mut self) {
        self.stream_ended_at = None;
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
