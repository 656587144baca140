//! What is refused, and what else can be asked for before a refusal is believed.
//!
//! Servers refuse ranges that they do not understand, parts that are too long and
//! conditions that a signature does not cover, with any status or none. The same
//! object asked for in another way is often served. So a refusal of the first
//! request is believed only once a plain request was refused as well.

use std::time::Duration;

use super::failing::status_failure;
use super::{Action, Failure, LeaseId, Phase, Planner, SourceId};
use crate::model::error::ErrorKind;
use crate::model::event::NoticeCode;
use crate::model::range::ByteRange;
use crate::model::response::{Lie, Verdict};

/// No part is asked for that is shorter because a longer one was refused.
const LEAST_PART_BYTES: u64 = 1 << 20;
/// Rounds of waiting after answers that look as if they will not change, while nothing
/// has ever come: less than 10 s.
const ROUNDS_OF_ANSWERS: u32 = 3;
/// The same after no answer at all in the long time that a first byte is given.
const ROUNDS_OF_SILENCE: u32 = 1;
/// A first byte that takes longer is worth a word.
const WORTH_A_WORD: Duration = Duration::from_secs(10);

/// How the first request asks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// For the opening range.
    #[default]
    Range,
    /// For a short part of it.
    Part,
    /// Without a range, and without conditions.
    Plain,
}

/// What tells that the server has ranges.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ranges {
    /// Nothing says otherwise.
    #[default]
    Undoubted,
    /// Only its own word: it answered the open range with everything.
    Claimed,
    /// It answered another range with everything too.
    Ignored,
}

/// What was refused so far.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    pub(super) ask: Ask,
    /// First requests that failed for now, since the last byte.
    openings: u32,
    /// Whether the plain request was tried since then.
    was_plain: bool,
    /// The last failure was a connection that closed instead of answering.
    pub(super) unanswered: bool,
    /// First requests that no byte came of in all the time that one is given.
    waits: u32,
    /// The user was told that the first byte takes its time.
    told: bool,
    /// An earlier run has bytes.
    pub(super) has_partial: bool,
    pub(super) ranges: Ranges,
    /// The longest part that a response was granted for, in bytes.
    longest_bytes: u64,
    /// Longer parts are refused, in bytes.
    limit_bytes: Option<u64>,
    /// A part within this limit was granted.
    is_limit: bool,
}

impl Refusals {
    pub(super) fn progress(&mut self) {
        self.openings = 0;
        self.was_plain = false;
        self.waits = 0;
    }

    /// What another source refuses says nothing of the next one.
    pub(super) fn begin_with_next(&mut self) {
        let has_partial = self.has_partial;
        *self = Self { has_partial, ..Self::default() };
    }

    /// So many bytes of `want_bytes` are asked for at once.
    pub(super) fn most_bytes(&self, want_bytes: u64) -> u64 {
        self.limit_bytes.map_or(want_bytes, |limit| want_bytes.min(limit))
    }

    /// The beginning of `run` that may be asked for at once.
    pub(super) fn within_limit(&self, run: ByteRange) -> ByteRange {
        ByteRange::new(run.start(), run.start() + self.most_bytes(run.len()))
    }

    /// A part of `asked` was granted.
    pub(super) fn granted(&mut self, asked: ByteRange) {
        self.longest_bytes = self.longest_bytes.max(asked.len());
        // A refusal of less was not of its length.
        self.limit_bytes = self.limit_bytes.map(|limit| limit.max(asked.len()));
        self.is_limit = self.limit_bytes.is_some();
    }
}

/// Whether the status may be about the length of what was asked for.
fn is_of_length(status: u16) -> bool {
    matches!(status, 403 | 413 | 416)
}

impl Planner {
    /// The longest part that the server grants, where it refused longer ones.
    #[must_use]
    pub fn part_limit_bytes(&self) -> Option<u64> {
        self.refusals.limit_bytes.filter(|_| self.refusals.is_limit)
    }

    /// An earlier download has shown that longer parts are refused.
    pub fn limit_parts(&mut self, most_bytes: u64) {
        // Where the open range was granted they are granted now.
        if self.refusals.longest_bytes <= most_bytes {
            self.refusals.limit_bytes = Some(most_bytes.max(LEAST_PART_BYTES));
        }
    }

    /// The first request was refused with `status`. True when it is asked in another
    /// way now: for less, where that may be the reason, then without a range.
    pub(super) fn asks_otherwise(&mut self, id: LeaseId, status: u16) -> bool {
        let asked = self.leases.get(&id).map_or(0, |lease| lease.range.len());
        if self.phase != Phase::Opening || self.whole || matches!(status, 401 | 407) {
            return false;
        }
        if self.can_spare(id) {
            // Another source may have the object, and ranges of it.
            return false;
        }
        let shorter = is_of_length(status) && asked > LEAST_PART_BYTES;
        match self.refusals.ask {
            Ask::Range if shorter => {
                self.refusals.ask = Ask::Part;
                let start = self.opening_range.start();
                self.opening_range = ByteRange::new(start, start + LEAST_PART_BYTES);
            }
            Ask::Range | Ask::Part if !self.settings.ranges_only => {
                self.refusals.ask = Ask::Plain;
            }
            _ => return false,
        }
        self.drop_response(id);
        true
    }

    /// A part was refused with `status`, and longer ones than it were never granted.
    /// True when shorter ones are asked for from now on.
    pub(super) fn halves_parts(&mut self, id: LeaseId, status: u16) -> bool {
        let Some(lease) = self.leases.get(&id) else { return false };
        let asked = lease.range.len();
        let may_help = self.phase == Phase::Running
            && is_of_length(status)
            && asked > self.refusals.longest_bytes.max(LEAST_PART_BYTES);
        if may_help {
            let known = self.refusals.limit_bytes.unwrap_or(u64::MAX);
            let half = known.min(asked.div_ceil(2)).max(LEAST_PART_BYTES);
            // Of those that were asked for at once, the first has halved it already.
            self.refusals.is_limit &= self.refusals.limit_bytes == Some(half);
            self.refusals.limit_bytes = Some(half);
            self.drop_response(id);
        }
        may_help
    }

    /// A status that asking again does not change, by itself. While others deliver it
    /// may be of one of several servers, or of this one request.
    pub(super) fn refused_for_good(&mut self, id: LeaseId, status: u16, now: Duration) {
        let Some(lease) = self.leases.get(&id) else { return };
        let (source, conditional) = (lease.source, lease.conditional);
        if self.halves_parts(id, status) {
            // The next one is shorter.
        } else if conditional {
            self.drop_response(id);
            self.ask_unconditionally(id);
        } else if self.asks_otherwise(id, status) {
            // The next one is another.
        } else if self.phase == Phase::Running && !self.sources.can_spare(source) {
            self.drop_response(id);
            self.failed(id, status_failure(status), None, now);
        } else {
            self.drop_response(id);
            self.fail_source(source, status_failure(status));
        }
    }

    /// Whether a response to a tentative lease says nothing of the object, so that the
    /// holder is the only one that delivers.
    pub(super) fn is_refusal_beside(&self, verdict: &Verdict) -> bool {
        let known = self.resource.as_ref().and_then(|resource| resource.total);
        match verdict {
            Verdict::Status { .. } | Verdict::Whole { .. } => true,
            Verdict::Unsatisfied { total } => total.is_none() || *total == known,
            // The first response may have been the odd one.
            Verdict::Lie(lie) => !matches!(lie, Lie::EncodingDiffers { .. }),
            _ => false,
        }
    }

    /// So many rounds are waited for after `failure`, at most.
    pub(super) fn rounds_for(&self, failure: &Failure) -> u32 {
        let answered = failure.status.is_some() || failure.kind == ErrorKind::Protocol;
        // 429 and 503 tell that it passes, and so does who asks to wait.
        let passes = matches!(failure.status, Some(408 | 425 | 429 | 503));
        let lasting = matches!(failure.status, Some(status) if status < 500 || status == 501);
        let nothing_came = self.received_bytes == 0 && !self.refusals.has_partial;
        if failure.hopeless && nothing_came {
            self.settings.retry.max_hopeless_attempts
        } else if self.refusals.waits > 0 && nothing_came {
            ROUNDS_OF_SILENCE
        } else if answered && !passes && (nothing_came || lasting) {
            ROUNDS_OF_ANSWERS
        } else {
            u32::MAX
        }
    }

    /// A first request failed for now; `last` when there is no further round. True
    /// when a plain request comes next, which may be served where a range is not.
    pub(super) fn tries_plain(&mut self, source: SourceId, failure: &Failure, last: bool) -> bool {
        let of_range = !self.sources.can_spare(source);
        let of_range = of_range
            && match failure.status {
                Some(status) => !matches!(status, 401 | 407 | 429),
                None => self.refusals.unanswered,
            };
        self.refusals.openings += 1;
        let refusals = &mut self.refusals;
        if refusals.ask == Ask::Plain {
            // The range was not the reason.
            refusals.ask = Ask::Range;
            return false;
        }
        let now = last || refusals.openings >= 2 && !refusals.has_partial;
        let may = self.phase == Phase::Opening && !self.whole && !self.settings.ranges_only;
        if may && of_range && now && !refusals.was_plain {
            refusals.was_plain = true;
            refusals.ask = Ask::Plain;
            return true;
        }
        false
    }

    /// How long `id` may be silent.
    pub(super) fn patience(&self) -> Duration {
        // Asked again, a server that has to make the object would begin anew.
        let first = self.phase == Phase::Opening || self.received_bytes == 0;
        if first { self.first_byte_timeout() } else { self.settings.stall_timeout }
    }

    fn first_byte_timeout(&self) -> Duration {
        self.settings.first_byte_timeout.max(self.settings.stall_timeout)
    }

    /// No byte came in all the time that a first one is given.
    pub(super) fn waited_in_vain(&mut self) {
        self.refusals.waits += 1;
    }

    /// Tells that the first byte takes its time, once.
    pub(super) fn tell_of_waiting(&mut self, now: Duration) {
        if self.refusals.told || self.received_bytes > 0 || self.phase == Phase::Ended {
            return;
        }
        let Some(since) = self.leases.values().map(|lease| lease.issued_at).min() else { return };
        let waited = now.saturating_sub(since);
        if waited >= WORTH_A_WORD && self.patience() > WORTH_A_WORD {
            self.refusals.told = true;
            let (waited, most) = (waited.as_secs(), self.patience().as_secs());
            let message = format!(
                "waiting for the first byte for {waited} s: the server may be making the file, \
                 and is given {most} s"
            );
            self.actions.push_back(Action::Notice(NoticeCode::FirstByte, message));
        }
    }
}
