//! What failures are called: those of requests to the planner, and the planner's to people.

use std::path::Path;

use url::Url;

use crate::disk::prove::ALTERED_HINT;
use crate::driver::guard;
use crate::model::error::{Error, ErrorKind};
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
    // What has answered once speaks the protocol.
    let explained = error.without_a_byte && !heard;
    Failure {
        hint: error.hint.filter(|_| explained || !error.without_a_byte),
        cause: error.cause,
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

/// The error that `failure` ends a download with. Known beside it are the `url` that was asked,
/// the server's words of a refused login, and the output that was `begun` and can be continued.
pub(super) fn error_of(
    failure: &Failure,
    url: &Url,
    login_words: Option<&str>,
    begun: Option<&Path>,
) -> Error {
    let https = url.scheme() == "https";
    let url = redact(url);
    let error = Error::new(failure.kind, format!("cannot download {url}: {}", failure.message));
    let error = error.with_network(failure.cause);
    let error = match failure.status {
        Some(status) => error.with_status(status),
        None => error,
    };
    if let Some(hint) = &failure.hint {
        return error.with_hint(hint);
    }
    match failure.kind {
        ErrorKind::AccessDenied => error.with_hint(how_to_go_on(login_words, begun)),
        ErrorKind::ProxyRefused => error.with_hint(
            "its login is part of its URL, wherever that is given: http://NAME:PASS@HOST:PORT",
        ),
        ErrorKind::Network => error.with_hint("check the network and run it again"),
        ErrorKind::Callback => error.with_hint(guard::HINT),
        ErrorKind::Tls => error.with_hint(
            "where a certificate is refused: a private authority is trusted with --cacert \
             FILE; do not continue if the certificate is unexpected",
        ),
        ErrorKind::DigestMismatch => error.with_hint(ALTERED_HINT),
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

/// After a refusal: what is here can be continued with another URL.
fn how_to_go_on(login_words: Option<&str>, begun: Option<&Path>) -> String {
    if let Some(words) = login_words {
        return words.to_owned();
    }
    let login = "the link may have expired or need a login";
    match begun {
        None => format!("{login}: get a fresh URL, or give -u or -H"),
        Some(output) => format!(
            "{login}: continue with a fresh URL, haul -o '{}' NEW_URL, or have --refresh-cmd \
             print one; or give -u or -H",
            output.display()
        ),
    }
}

/// What to do about a status that is the end of a download.
fn hint_of_status(status: u16, https: bool) -> Option<&'static str> {
    Some(match status {
        400 if !https => {
            "check the URL; where TLS is spoken on this port, try https:// instead of http://"
        }
        400 => "check the URL, and the fields that are sent with -H",
        404 => "check the URL: its spelling, its capitals, and whether the file has moved",
        405 | 501 => "the server gives nothing out there to a download: check the URL",
        408 | 425 | 429 => "the server wants to be asked less: try again later, or with -x 1",
        451 => "the server may not give it out here, by law",
        500..=599 => "the fault is the server's: try again later, or from a --mirror URL",
        _ => return None,
    })
}
