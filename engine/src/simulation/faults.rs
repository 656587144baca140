//! The faults of the catalogue that a simulated server and its network can do.
//!
//! The number of a row is the one of `tests/FAULTS.md`.

use crate::error::ErrorKind;

/// Where in a download a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// The first request.
    First,
    /// A later request in the first half of the object.
    Early,
    /// A later request in its second half, not up to the end.
    Late,
    /// A later request that has the last byte.
    Last,
    Anywhere,
}

impl Position {
    pub(super) const ALL: [Self; 4] = [Self::First, Self::Early, Self::Late, Self::Last];

    /// Whether a request from `start` up to `end` (`None`: without a range) is
    /// at this position.
    pub(super) fn fits(self, start: u64, end: Option<u64>, total: u64, first: bool) -> bool {
        let Some(end) = end else {
            return self == Self::Anywhere || (self == Self::First && first);
        };
        match self {
            Self::Anywhere => true,
            Self::First => first,
            Self::Early => !first && start < total / 2 && end < total,
            Self::Late => !first && start >= total / 2 && end < total,
            Self::Last => !first && end >= total,
        }
    }
}

/// What goes wrong. Those that are about ranges strike only requests for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    RangeIgnored,
    SlicePosing,
    StartsElsewhere,
    EndsBeyond,
    NoContentRange,
    ShortBody,
    LongBody,
    Multipart,
    OtherTotal,
    Capped,
    UnknownTotal,
    LengthMismatch,
    Chunked,
    CloseDelimited,
    CloseDelimitedReset,
    EncodingDiffers,
    Page,
    ImpossibleSize,
    InterimAndClose,
    Changes,
    PreconditionFails,
    OtherTag,
    ConditionRefused,
    Expired,
    RedirectElsewhere,
    RedirectLoop,
    RetryAfter,
    ConnectionLimit,
    Unauthorized,
    Stalls,
    SilentHead,
    Crawls,
    ResetAtOnce,
    ResetMidway,
    ClosesAfterwards,
    BadCertificate,
    HeaderBomb,
    TwoMinutesGone,
    Restarts,
    ServerError,
    WrongDigest,
    AlteredBody,
}

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// The right file.
    Right,
    /// No file, and this error.
    Fails(ErrorKind),
}

/// A row of the catalogue in the simulation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) number: u32,
    pub(super) fault: Fault,
    /// When it strikes once, at the first request and at a later one.
    pub(super) once: (Demand, Demand),
    /// When it strikes each time: the right file, or this error.
    pub(super) always: Option<ErrorKind>,
}

const fn ends_well(number: u32, fault: Fault) -> Row {
    Row { number, fault, once: (Demand::Right, Demand::Right), always: None }
}

const fn may_end(number: u32, fault: Fault, always: ErrorKind) -> Row {
    Row { number, fault, once: (Demand::Right, Demand::Right), always: Some(always) }
}

const fn fails(number: u32, fault: Fault, later: Demand, kind: ErrorKind) -> Row {
    Row { number, fault, once: (Demand::Fails(kind), later), always: Some(kind) }
}

/// All rows. A lie about ranges always ends well: the plain stream is honest.
pub(super) const ROWS: &[Row] = &[
    ends_well(1, Fault::RangeIgnored),
    ends_well(2, Fault::RangeIgnored),
    ends_well(3, Fault::SlicePosing),
    ends_well(4, Fault::StartsElsewhere),
    ends_well(5, Fault::EndsBeyond),
    ends_well(6, Fault::NoContentRange),
    ends_well(7, Fault::ShortBody),
    ends_well(8, Fault::LongBody),
    ends_well(9, Fault::Multipart),
    may_end(11, Fault::OtherTotal, ErrorKind::ObjectChanged),
    ends_well(12, Fault::Capped),
    ends_well(13, Fault::UnknownTotal),
    ends_well(14, Fault::LengthMismatch),
    ends_well(15, Fault::Chunked),
    ends_well(16, Fault::CloseDelimited),
    may_end(16, Fault::CloseDelimitedReset, ErrorKind::Network),
    ends_well(17, Fault::EncodingDiffers),
    may_end(18, Fault::Page, ErrorKind::Protocol),
    fails(20, Fault::ImpossibleSize, Demand::Fails(ErrorKind::Protocol), ErrorKind::Protocol),
    ends_well(21, Fault::InterimAndClose),
    may_end(25, Fault::Changes, ErrorKind::ObjectChanged),
    ends_well(26, Fault::PreconditionFails),
    ends_well(27, Fault::OtherTag),
    ends_well(28, Fault::OtherTag),
    may_end(31, Fault::WrongDigest, ErrorKind::DigestMismatch),
    may_end(31, Fault::AlteredBody, ErrorKind::DigestMismatch),
    ends_well(33, Fault::ConditionRefused),
    fails(34, Fault::Expired, Demand::Right, ErrorKind::AccessDenied),
    ends_well(35, Fault::RedirectElsewhere),
    ends_well(36, Fault::RedirectElsewhere),
    may_end(37, Fault::RedirectLoop, ErrorKind::Protocol),
    may_end(39, Fault::RetryAfter, ErrorKind::HttpStatus),
    may_end(39, Fault::ServerError, ErrorKind::HttpStatus),
    ends_well(40, Fault::ConnectionLimit),
    fails(41, Fault::Unauthorized, Demand::Right, ErrorKind::AccessDenied),
    may_end(42, Fault::Page, ErrorKind::Protocol),
    may_end(43, Fault::Stalls, ErrorKind::Network),
    may_end(43, Fault::SilentHead, ErrorKind::Network),
    ends_well(44, Fault::Crawls),
    may_end(45, Fault::ResetAtOnce, ErrorKind::Network),
    ends_well(45, Fault::ResetMidway),
    ends_well(46, Fault::ClosesAfterwards),
    fails(50, Fault::BadCertificate, Demand::Fails(ErrorKind::Tls), ErrorKind::Tls),
    may_end(52, Fault::HeaderBomb, ErrorKind::Protocol),
    ends_well(53, Fault::TwoMinutesGone),
    ends_well(54, Fault::Restarts),
];
