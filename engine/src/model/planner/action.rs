//! What goes into a planner and comes out of it.

use std::time::Duration;

#[cfg(doc)]
use super::Planner;
use crate::model::config::{Connections, RetryPolicy};
use crate::model::error::{Cause, ErrorKind, NetworkCause};
use crate::model::event::NoticeCode;
use crate::model::hint::Hint;
use crate::model::range::ByteRange;
use crate::model::resource::Resource;
use crate::model::segment::LeaseId;

/// Identifies a source within one download, from 0.
pub type SourceId = usize;

/// Identifies a host within one download.
pub type PlaceId = usize;

/// What a download could use of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceNeed {
    /// The host.
    pub place: PlaceId,
    /// Leases at work there.
    pub in_use: usize,
    /// The most leases it could use if nothing bounded them; no fewer than those at work.
    pub limit: usize,
}

/// What the caller chose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many connections.
    pub connections: Connections,
    /// A lease without a byte for this long is given up.
    pub stall_timeout: Duration,
    /// The same for the very first byte, which a server may have to produce first.
    pub first_byte_timeout: Duration,
    /// Bounds of retrying.
    pub retry: RetryPolicy,
    /// The least share of the first response, which can carry the whole object.
    pub first_range_bytes: u64,
    /// No part smaller than this is split off for another connection, in bytes; 0 for any.
    pub min_split_bytes: u64,
    /// Whether the caller limits the speed: connections then wait for the
    /// limit, and their silence says nothing.
    pub speed_limited: bool,
    /// Whether a response with the whole object is useless.
    pub ranges_only: bool,
    /// Whether a URL that is refused can be replaced by another one.
    pub refreshes: bool,
    /// Seeds the jitter of the backoff.
    pub seed: u64,
}

/// Why a download cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The sort of failure.
    pub kind: ErrorKind,
    /// The cause, in words.
    pub message: String,
    /// The HTTP status, where one caused it.
    pub status: Option<u16>,
    /// What part of the network failed, where that is known.
    pub cause: Option<NetworkCause>,
    /// What to do about it, where more is known than its sort tells.
    pub hint: Option<Hint>,
    /// The underlying error, where that is known.
    pub source: Option<Cause>,
    /// Whether another try will most likely end alike, though no server answered: see
    /// [`RetryPolicy::max_hopeless_attempts`].
    pub hopeless: bool,
}

impl Failure {
    /// A failure of which no more is known.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message, status: None, cause: None, hint: None, source: None, hopeless: false }
    }

    /// The failure that an HTTP status means.
    pub(super) fn of_status(status: u16) -> Self {
        let kind = match status {
            401 | 403 | 407 | 410 => ErrorKind::AccessDenied,
            _ => ErrorKind::HttpStatus,
        };
        Self::new(kind, format!("the server answered {status}")).with_status(status)
    }

    /// The same failure, with this HTTP status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }
}

/// How a lease ended, as its fetcher says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseEnd {
    /// Everything it was given is handed over.
    Complete,
    /// The body ended cleanly before that, or its end was unknown.
    BodyEnded,
    /// Cancelled, or its response was refused.
    Dropped,
    /// A connection failed; `refused` when no response had begun.
    Failed {
        /// What failed.
        failure: Failure,
        /// Whether it failed before the response.
        refused: bool,
    },
    /// The connection was established, and closed or was reset before a response began.
    Unanswered(Failure),
}

/// What an earlier run left, segment by segment.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Segments whose bytes are believed as they are.
    pub durable: Vec<usize>,
    /// Segments and prefixes that are being hashed again.
    pub verifying: Vec<usize>,
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send a request for `range` (`None`: a plain GET) and run it as `lease`.
    Fetch {
        /// The new lease.
        lease: LeaseId,
        /// The source to ask.
        source: SourceId,
        /// What to ask for.
        range: Option<ByteRange>,
        /// Whether to send If-Match or If-Unmodified-Since.
        conditional: bool,
    },
    /// The response of `lease` is the first valid one: open the output, then
    /// call [`Planner::on_opened`].
    Open {
        /// The lease that waits for its decision.
        lease: LeaseId,
        /// What the response said.
        resource: Resource,
    },
    /// Store the body of `lease`: bytes from `range.start` up to `range.end`.
    Store {
        /// The lease.
        lease: LeaseId,
        /// Where its bytes belong; the end is `u64::MAX` where it is unknown.
        range: ByteRange,
    },
    /// Refuse the response of `lease`.
    Drop {
        /// The lease.
        lease: LeaseId,
    },
    /// Ask the fetcher of `lease` to stop at `end`; it answers where it will.
    Shrink {
        /// The victim.
        lease: LeaseId,
        /// Where it should stop.
        end: u64,
    },
    /// Give `lease` up; its fetcher answers where it stopped.
    Cancel {
        /// The lease.
        lease: LeaseId,
    },
    /// Forget everything stored; nothing is being fetched.
    Reset {
        /// Whether the identity of the object is forgotten as well.
        forget_identity: bool,
    },
    /// Look up the URL of `source` again, from the original one, then call
    /// [`Planner::on_resolved`] or [`Planner::on_unresolved`].
    Resolve {
        /// The source, which is held until then.
        source: SourceId,
        /// The failure it refused with, if that is the reason.
        refused: Option<Failure>,
        /// Whether the original URL was asked already since the source last brought a byte.
        again: bool,
    },
    /// Tell the user that a source is no longer used.
    Lost {
        /// Which.
        source: SourceId,
        /// Why.
        why: String,
        /// Whether the download begins again from zero because of that.
        again: bool,
    },
    /// Tell the user that a round of backoff begins.
    Retry {
        /// Why.
        reason: String,
        /// Which round.
        attempt: u32,
        /// How long.
        wait: Duration,
    },
    /// Tell the user something.
    Notice(NoticeCode, String),
    /// Everything is stored: publish.
    Finish,
    /// Give up.
    Fail(Failure),
}
