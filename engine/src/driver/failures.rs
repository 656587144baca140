//! Translates failures: those of requests for the planner, and the planner's for people.

use std::path::Path;

use url::Url;

use crate::driver::guard;
use crate::model::error::{Error, ErrorKind};
use crate::model::hint::Hint;
use crate::model::planner::{Failure, LeaseEnd};
use crate::model::redact::redact;
use crate::net::failures::{FetchError, FetchErrorKind};

/// How a lease ended whose request failed; `heard` if there was a response before.
pub(super) fn end_of(error: FetchError, heard: bool) -> LeaseEnd {
    let kind = error.kind;
    let failure = failure_of(error, heard);
    match kind {
        FetchErrorKind::Reset => LeaseEnd::Unanswered(failure),
        kind => {
            let refused = matches!(kind, FetchErrorKind::Connect | FetchErrorKind::Unreachable);
            LeaseEnd::Failed { failure, refused }
        }
    }
}

/// What a failed request is to the planner; `heard` if there was a response before.
pub(super) fn failure_of(error: FetchError, heard: bool) -> Failure {
    // A server that has answered once speaks the protocol.
    let explained = error.without_a_byte && !heard;
    Failure {
        hint: error.hint.filter(|_| explained || !error.without_a_byte),
        cause: error.cause,
        source: error.source,
        hopeless: explained || is_hopeless(error.kind),
        ..Failure::new(kind_of(error.kind), error.message)
    }
}

fn is_hopeless(kind: FetchErrorKind) -> bool {
    matches!(kind, FetchErrorKind::Unreachable | FetchErrorKind::WrongProtocol)
}

pub(super) fn kind_of(kind: FetchErrorKind) -> ErrorKind {
    match kind {
        FetchErrorKind::Connect | FetchErrorKind::Unreachable | FetchErrorKind::Reset => {
            ErrorKind::Network
        }
        FetchErrorKind::Tls | FetchErrorKind::NoHttpVersion => ErrorKind::Tls,
        FetchErrorKind::ProxyRefused => ErrorKind::ProxyRefused,
        FetchErrorKind::Protocol | FetchErrorKind::WrongProtocol => ErrorKind::Protocol,
        FetchErrorKind::Panicked => ErrorKind::Callback,
    }
}

/// The error that `failure` ends a download with, given the `url` that was asked, what to do about
/// a refused login, if the server said so, and the output that was `begun` and can be continued.
pub(super) fn error_of(
    failure: &Failure,
    url: &Url,
    login_hint: Option<&Hint>,
    begun: Option<&Path>,
) -> Error {
    let https = url.scheme() == "https";
    let url = redact(url);
    let error = Error::new(failure.kind, format!("cannot download {url}: {}", failure.message));
    let error = error.with_network(failure.cause).with_cause(failure.source.clone());
    let error = match failure.status {
        Some(status) => error.with_status(status),
        None => error,
    };
    if let Some(hint) = &failure.hint {
        return error.with_hint(hint.clone());
    }
    match failure.kind {
        ErrorKind::AccessDenied => {
            let refused = || Hint::LinkRefused { output: begun.map(Path::to_owned) };
            error.with_hint(login_hint.cloned().unwrap_or_else(refused))
        }
        ErrorKind::ProxyRefused => error.with_hint(
            "its login is part of its URL, wherever that is given: http://NAME:PASS@HOST:PORT",
        ),
        ErrorKind::Network => error.with_hint("check the network and run it again"),
        ErrorKind::Callback => error.with_hint(guard::HINT),
        ErrorKind::Tls => error.with_hint(Hint::Tls),
        ErrorKind::DigestMismatch => error.with_hint(Hint::Altered),
        ErrorKind::ObjectChanged => {
            error.with_hint("wait until the object is no longer being replaced, then start again")
        }
        ErrorKind::Protocol => {
            error.with_hint("the server or something before it is broken; nothing wrong was stored")
        }
        ErrorKind::HttpStatus => {
            match failure.status.and_then(|status| hint_of_status(status, https)) {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        }
        _ => error,
    }
}

/// What to do about a status that ends a download.
fn hint_of_status(status: u16, https: bool) -> Option<Hint> {
    let plain = match status {
        400 if !https => {
            "check the URL; where TLS is spoken on this port, try https:// instead of http://"
        }
        400 => return Some(Hint::BadRequest),
        404 => "check the URL: its spelling, its capitals, and whether the file has moved",
        405 | 501 => "the server gives nothing out there to a download: check the URL",
        408 | 425 | 429 => return Some(Hint::AskLess),
        451 => "the server may not give it out here, by law",
        500..=599 => return Some(Hint::ServerFault),
        _ => return None,
    };
    Some(plain.into())
}
