//! How the object is asked for: in ranges or as one plain stream, how the first request
//! asks, how long parts may be, and what else is tried before a refusal is believed.
//!
//! Servers refuse ranges that they do not understand, parts that are too long and
//! conditions that a signature does not cover, with any status or none. The same
//! object is often served when it is asked for in another way. So a refusal of
//! the first request is believed only once a plain request was refused as well.
//!
//! The first request goes from a range over a short part of it to a plain one. Whether the
//! server has ranges is undoubted, claimed or denied; once the download is one stream, it
//! stays so until another source is asked.

use std::time::Duration;

use super::action::Failure;
use crate::model::config::RetryPolicy;
use crate::model::error::ErrorKind;
use crate::model::range::ByteRange;

/// The refusal of a longer part makes no part shorter than this.
const LEAST_PART_BYTES: u64 = 1 << 20;
/// Rounds of waiting after answers that look final, while nothing has ever arrived:
/// less than 10 s.
const ROUNDS_OF_ANSWERS: u32 = 3;
/// The same after no answer at all within the long time that a first byte is given.
const ROUNDS_OF_SILENCE: u32 = 1;
/// The user is told of a first byte that takes longer.
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

/// How sure it is that the server has ranges.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ranges {
    /// Nothing says otherwise.
    #[default]
    Undoubted,
    /// Only the server says so: it answered the open range with everything.
    Claimed,
    /// The server answered another range with everything too.
    Ignored,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Asking {
    ask: Ask,
    /// One plain stream instead of ranges.
    whole: bool,
    /// What the first request asks for, if not for everything.
    opening: Option<ByteRange>,
    /// First requests that failed for now, since the last byte.
    openings: u32,
    /// Whether the plain request was tried since the last byte.
    was_plain: bool,
    /// The last failure was a connection that closed instead of answering.
    unanswered: bool,
    /// First requests that brought no byte in all the time that one is given.
    waits: u32,
    /// The user was told that the first byte takes its time.
    told: bool,
    /// An earlier run has bytes.
    has_partial: bool,
    ranges: Ranges,
    /// The longest part that a response was granted for, in bytes.
    longest_bytes: u64,
    /// Longer parts are refused, in bytes.
    limit_bytes: Option<u64>,
    /// Whether a part within this limit was granted.
    is_limit: bool,
}

impl Asking {
    /// Whether the object is to come in one plain stream.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn is_plain(&self) -> bool {
        self.ask == Ask::Plain
    }

    pub(super) fn ranges(&self) -> Ranges {
        self.ranges
    }

    pub(super) fn set_ranges(&mut self, ranges: Ranges) {
        self.ranges = ranges;
    }

    /// What the first request asks for, whether with a range or without one.
    pub(super) fn opening(&self) -> ByteRange {
        self.opening.unwrap_or(ByteRange::open(0))
    }

    /// The range that the first request names.
    pub(super) fn opening_range(&self) -> Option<ByteRange> {
        (!self.whole && !self.is_plain()).then_some(self.opening())
    }

    /// The first request asks for this.
    pub(super) fn open_with(&mut self, range: ByteRange) {
        self.opening = Some(range);
    }

    /// An earlier run has bytes, so the first request asks for this.
    pub(super) fn continue_with(&mut self, range: ByteRange) {
        self.has_partial = true;
        self.opening = Some(range);
    }

    /// The object comes in one plain stream from now on.
    pub(super) fn stream(&mut self) {
        self.whole = true;
    }

    /// Everything is asked for from the start again.
    pub(super) fn begin_again(&mut self) {
        self.ask = Ask::Range;
        self.ranges = Ranges::Undoubted;
    }

    /// A connection closed instead of answering, or another failure followed.
    pub(super) fn set_unanswered(&mut self, unanswered: bool) {
        self.unanswered = unanswered;
    }

    pub(super) fn progress(&mut self) {
        self.openings = 0;
        self.was_plain = false;
        self.waits = 0;
    }

    /// What another source refused says nothing about the next one.
    pub(super) fn begin_with_next(&mut self) {
        let (has_partial, opening) = (self.has_partial, self.opening);
        *self = Self { has_partial, opening, ..Self::default() };
    }

    /// How many of `want_bytes` may be asked for at once.
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
        // A refusal of a shorter part was not about its length.
        self.limit_bytes = self.limit_bytes.map(|limit| limit.max(asked.len()));
        self.is_limit = self.limit_bytes.is_some();
    }

    /// The longest part that the server grants, where it refused longer ones.
    pub(super) fn limit_bytes(&self) -> Option<u64> {
        self.limit_bytes.filter(|_| self.is_limit)
    }

    /// An earlier download has shown that longer parts are refused.
    pub(super) fn limit(&mut self, most_bytes: u64) {
        // If the open range was granted, longer parts are granted now.
        if self.longest_bytes <= most_bytes {
            self.limit_bytes = Some(most_bytes.max(LEAST_PART_BYTES));
        }
    }

    /// The first request, for `asked` bytes, was refused with `status`. True if it is
    /// now asked in another way: for less, where the length may be the reason, then
    /// without a range, unless only ranges will do.
    pub(super) fn asks_otherwise(&mut self, asked: u64, status: u16, ranges_only: bool) -> bool {
        if self.whole || matches!(status, 401 | 407) {
            return false;
        }
        let shorter = is_of_length(status) && asked > LEAST_PART_BYTES;
        match self.ask {
            Ask::Range if shorter => {
                self.ask = Ask::Part;
                let start = self.opening().start();
                self.opening = Some(ByteRange::new(start, start + LEAST_PART_BYTES));
            }
            Ask::Range | Ask::Part if !ranges_only => self.ask = Ask::Plain,
            _ => return false,
        }
        true
    }

    /// A part of `asked` bytes was refused with `status`. True if longer ones were never
    /// granted, and shorter ones are asked for from now on.
    pub(super) fn halves_parts(&mut self, asked: u64, status: u16) -> bool {
        let may_help = is_of_length(status) && asked > self.longest_bytes.max(LEAST_PART_BYTES);
        if may_help {
            let known = self.limit_bytes.unwrap_or(u64::MAX);
            let half = known.min(asked.div_ceil(2)).max(LEAST_PART_BYTES);
            // Where several were asked for at once, the first refusal has already halved it.
            self.is_limit &= self.limit_bytes == Some(half);
            self.limit_bytes = Some(half);
        }
        may_help
    }

    /// The most rounds to wait after `failure`; `silent` when no byte has arrived.
    pub(super) fn rounds_for(&self, failure: &Failure, silent: bool, policy: &RetryPolicy) -> u32 {
        let answered = failure.status.is_some() || failure.kind == ErrorKind::Protocol;
        // 429 and 503 say that it passes, and so does a server that asks to wait.
        let passes = matches!(failure.status, Some(408 | 425 | 429 | 503));
        let lasting = matches!(failure.status, Some(status) if status < 500 || status == 501);
        let nothing_came = silent && !self.has_partial;
        if failure.hopeless && nothing_came {
            policy.max_hopeless_attempts
        } else if self.waits > 0 && nothing_came {
            ROUNDS_OF_SILENCE
        } else if answered && !passes && (nothing_came || lasting) {
            ROUNDS_OF_ANSWERS
        } else {
            u32::MAX
        }
    }

    /// A request failed for now; `last` when there is no further round, and `may` when it was
    /// the first one and its range may be the reason. True if a plain request comes next,
    /// which may be served where a range is not.
    pub(super) fn tries_plain(&mut self, failure: &Failure, may: bool, last: bool) -> bool {
        let unanswered = std::mem::take(&mut self.unanswered);
        let of_range = match failure.status {
            Some(status) => !matches!(status, 401 | 407 | 429),
            None => unanswered,
        };
        self.openings += 1;
        if self.ask == Ask::Plain {
            // The range was not the reason.
            self.ask = Ask::Range;
            return false;
        }
        let now = last || self.openings >= 2 && !self.has_partial;
        if may && !self.whole && of_range && now && !self.was_plain {
            self.was_plain = true;
            self.ask = Ask::Plain;
            return true;
        }
        false
    }

    /// No byte came in all the time that a first one is given.
    pub(super) fn waited_in_vain(&mut self) {
        self.waits += 1;
    }

    /// What to tell the user, once, when the first byte takes its time: it has been waited
    /// for for `waited`, and will be for at most `most`.
    pub(super) fn tell_of_waiting(&mut self, waited: Duration, most: Duration) -> Option<String> {
        if self.told || waited < WORTH_A_WORD || most <= WORTH_A_WORD {
            return None;
        }
        self.told = true;
        let (waited, most) = (waited.as_secs(), most.as_secs());
        Some(format!(
            "waiting for the first byte for {waited} s: the server may be making the file, \
             and is given {most} s"
        ))
    }
}

/// Whether the status may be about the length of what was asked for.
fn is_of_length(status: u16) -> bool {
    matches!(status, 403 | 413 | 416)
}
