//! The faults of the catalogue that a simulated server and its network can produce.
//!
//! Row numbers are those of `tests/FAULTS.md`.

use crate::model::error::ErrorKind;

/// Where in a download a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// The first request.
    First,
    /// A later request in the first half of the object.
    Early,
    /// A later request in its second half, short of the end.
    Late,
    /// A later request that includes the last byte.
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

    /// Whether a connection that is made after this many requests, which reached
    /// `furthest`, is at this position.
    pub(super) fn fits_connecting(self, requests: u64, furthest: u64, total: u64) -> bool {
        match self {
            Self::Anywhere => true,
            Self::First => requests == 0,
            Self::Early => requests > 0,
            Self::Late => requests > 0 && furthest >= total / 2,
            Self::Last => requests > 0 && furthest >= total / 4 * 3,
        }
    }

    /// How much of the object has come when a fault at this position strikes.
    pub(super) fn bytes_before(self, total: u64) -> u64 {
        match self {
            Self::Anywhere | Self::First => 1,
            Self::Early => total / 4,
            Self::Late => total / 2,
            Self::Last => total / 8 * 7,
        }
    }
}

/// What goes wrong. Faults that are about ranges strike only requests for one.
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
    /// A 416 with the object's own size, whatever is missing.
    Unsatisfiable,
    OtherTotal,
    /// The strong tag stays the same.
    OtherTotalSameTag,
    /// The total is the end of the part that was asked for.
    TotalOfPart,
    OtherTotalUnsatisfiable,
    Capped,
    UnknownTotal,
    LengthMismatch,
    Chunked,
    CloseDelimited,
    CloseDelimitedReset,
    /// A transfer coding that nobody asked for, before `chunked`.
    TransferCoded,
    /// A 200 with the whole object, whose `Content-Range` says so.
    WholeWithRange,
    /// A 206 with the whole object that does not say what it holds.
    WholeAsPartial,
    /// A 200 with the whole object that breaks; see [`super::world::World::breaks_at`].
    BreaksMidway,
    /// The same object, but shorter or longer, whatever is asked for.
    OtherLength,
    EncodingDiffers,
    Page,
    ImpossibleSize,
    InterimAndClose,
    /// A status line and fields that RFC 9112 forbids.
    OddHead,
    /// The strong tag is sent as a weak one, and there is no other validator.
    WeakTagOnly,
    NoValidators,
    /// `Last-Modified` is in the same second as `Date`, and there is no other validator.
    FreshDate,
    /// `Last-Modified` is the time of the response, and there is no tag.
    DateIsNow,
    /// The object changes, and the tags of all its versions have no quotes.
    MalformedTag,
    /// Bytes of another version, whatever the condition, without the strong tag:
    /// with nothing, a date, a weak tag, a malformed one, or two.
    Unshown,
    Changes,
    PreconditionFails,
    OtherTag,
    /// A condition is answered with the whole object, as if it had failed.
    ConditionFallsBack,
    /// A redirect to a mirror with other bytes of the same size.
    MirrorElsewhere,
    /// A redirect to other bytes of the same size, tag and date.
    TwinElsewhere,
    /// A refusal, and then a redirect there.
    TwinAfterRefusal,
    /// Only a GET of the whole signed URL is served.
    SignedForGet,
    ConditionRefused,
    Expired,
    RedirectElsewhere,
    /// A redirect to a place with raw bytes, blanks and a backslash.
    RedirectRaw,
    /// From now on each host sets a cookie with a redirect, and requires it.
    CookieWanted,
    RedirectLoop,
    RedirectInTheClear,
    RetryAfter,
    ConnectionLimit,
    Unauthorized,
    Stalls,
    SilentHead,
    Crawls,
    ResetAtOnce,
    ResetMidway,
    ClosesAfterwards,
    /// A connection that was used before closes as the request arrives.
    ClosesUnderRequest,
    RefusedStream,
    /// GOAWAY with the response; streams under way are served.
    GoAway,
    /// GOAWAY in the middle of the response, and nothing more is served.
    GoAwayMidway,
    /// The end of a TLS stream without close_notify: after the body, in the
    /// middle of one with a length, and of one without.
    Unnotified,
    UnnotifiedMidway,
    UnnotifiedDelimited,
    BadCertificate,
    /// The first addresses are dead, the next one answers after some seconds.
    DeadAddresses,
    /// Attempts to connect are not even refused.
    BlackHole,
    Unreachable,
    HeaderBomb,
    LongHeader,
    TwoMinutesGone,
    Restarts,
    ServerError,
    WrongDigest,
    AlteredBody,
    /// A range is refused, by a status or by closing; the whole object is served.
    RangeRefused,
    RangeHangup,
    /// One request is refused, with a status that applies to all.
    Refused,
    /// The client is asked to wait, with a status that is not made for that.
    AsksToWait,
    ForbidsForNow,
    /// The server works for more than a minute before it answers.
    SlowAnswer,
}

impl Fault {
    /// Whether it strikes a connection that is being made, and no request.
    pub(super) fn is_of_connecting(self) -> bool {
        matches!(
            self,
            Self::BadCertificate | Self::DeadAddresses | Self::BlackHole | Self::Unreachable
        )
    }

    /// Whether only HTTP/2 has it.
    pub(super) fn is_of_http2(self) -> bool {
        matches!(self, Self::RefusedStream | Self::GoAway | Self::GoAwayMidway)
    }

    /// Whether only HTTP/1.1 has it.
    pub(super) fn is_of_http1(self) -> bool {
        self == Self::TransferCoded
    }

    /// Whether it ends all of the client's connections. If it then strikes all the
    /// time, nothing may come between two strikes where all requests share a
    /// connection.
    pub(super) fn takes_all_connections(self) -> bool {
        matches!(self, Self::TwoMinutesGone | Self::Restarts)
    }

    /// Whether it is no failure: the request is sent again, and nothing is counted.
    pub(super) fn is_uncounted(self) -> bool {
        matches!(self, Self::ClosesUnderRequest | Self::RefusedStream | Self::GoAway)
    }
}

/// The outcome that is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// The right file.
    Right,
    /// No file, and this error.
    Fails(ErrorKind),
    /// The right file, if the first response brought the part that the fault
    /// struck, or this error.
    RightOr(ErrorKind),
}

/// A row of the catalogue in the simulation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) number: u32,
    pub(super) fault: Fault,
    /// The outcomes when it strikes once: at the first request, and at a later one.
    pub(super) once: (Demand, Demand),
    /// When it strikes every time: the right file, or this error.
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
    may_end(10, Fault::Unsatisfiable, ErrorKind::Protocol),
    may_end(11, Fault::OtherTotal, ErrorKind::ObjectChanged),
    may_end(11, Fault::OtherTotalUnsatisfiable, ErrorKind::ObjectChanged),
    ends_well(12, Fault::Capped),
    ends_well(13, Fault::UnknownTotal),
    ends_well(14, Fault::LengthMismatch),
    ends_well(15, Fault::Chunked),
    ends_well(16, Fault::CloseDelimited),
    may_end(16, Fault::CloseDelimitedReset, ErrorKind::Network),
    ends_well(17, Fault::EncodingDiffers),
    may_end(18, Fault::Page, ErrorKind::Protocol),
    fails(20, Fault::ImpossibleSize, Demand::RightOr(ErrorKind::Protocol), ErrorKind::Protocol),
    ends_well(21, Fault::InterimAndClose),
    ends_well(22, Fault::WeakTagOnly),
    ends_well(23, Fault::NoValidators),
    ends_well(24, Fault::FreshDate),
    may_end(25, Fault::Changes, ErrorKind::ObjectChanged),
    ends_well(26, Fault::PreconditionFails),
    ends_well(27, Fault::OtherTag),
    ends_well(28, Fault::OtherTag),
    ends_well(29, Fault::ConditionFallsBack),
    may_end(30, Fault::MirrorElsewhere, ErrorKind::ObjectChanged),
    may_end(31, Fault::WrongDigest, ErrorKind::DigestMismatch),
    may_end(31, Fault::AlteredBody, ErrorKind::DigestMismatch),
    ends_well(32, Fault::SignedForGet),
    ends_well(33, Fault::ConditionRefused),
    may_end(34, Fault::Expired, ErrorKind::AccessDenied),
    ends_well(35, Fault::RedirectElsewhere),
    ends_well(36, Fault::RedirectElsewhere),
    may_end(37, Fault::RedirectLoop, ErrorKind::Protocol),
    fails(38, Fault::RedirectInTheClear, Demand::RightOr(ErrorKind::Protocol), ErrorKind::Protocol),
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
    ends_well(46, Fault::ClosesUnderRequest),
    may_end(47, Fault::RefusedStream, ErrorKind::Network),
    ends_well(47, Fault::GoAway),
    ends_well(47, Fault::GoAwayMidway),
    ends_well(49, Fault::Unnotified),
    ends_well(49, Fault::UnnotifiedMidway),
    may_end(49, Fault::UnnotifiedDelimited, ErrorKind::Network),
    fails(50, Fault::BadCertificate, Demand::Fails(ErrorKind::Tls), ErrorKind::Tls),
    ends_well(51, Fault::DeadAddresses),
    may_end(51, Fault::BlackHole, ErrorKind::Network),
    may_end(51, Fault::Unreachable, ErrorKind::Network),
    may_end(52, Fault::HeaderBomb, ErrorKind::Protocol),
    may_end(52, Fault::LongHeader, ErrorKind::Protocol),
    ends_well(53, Fault::TwoMinutesGone),
    ends_well(54, Fault::Restarts),
    may_end(88, Fault::TwinElsewhere, ErrorKind::ObjectChanged),
    Row {
        number: 88,
        fault: Fault::TwinAfterRefusal,
        once: (Demand::RightOr(ErrorKind::AccessDenied), Demand::Right),
        always: Some(ErrorKind::AccessDenied),
    },
    ends_well(89, Fault::Unshown),
    may_end(90, Fault::TransferCoded, ErrorKind::Protocol),
    ends_well(91, Fault::TotalOfPart),
    fails(92, Fault::OtherTotalSameTag, Demand::Right, ErrorKind::Protocol),
    ends_well(96, Fault::WholeWithRange),
    ends_well(96, Fault::WholeAsPartial),
    ends_well(100, Fault::DateIsNow),
    may_end(101, Fault::MalformedTag, ErrorKind::ObjectChanged),
    may_end(93, Fault::RangeRefused, ErrorKind::HttpStatus),
    may_end(93, Fault::RangeHangup, ErrorKind::Network),
    may_end(95, Fault::Refused, ErrorKind::HttpStatus),
    ends_well(97, Fault::OddHead),
    may_end(98, Fault::Refused, ErrorKind::HttpStatus),
    may_end(99, Fault::AsksToWait, ErrorKind::HttpStatus),
    may_end(99, Fault::ForbidsForNow, ErrorKind::AccessDenied),
    may_end(102, Fault::SlowAnswer, ErrorKind::Network),
    ends_well(103, Fault::CookieWanted),
    ends_well(104, Fault::RedirectRaw),
];
