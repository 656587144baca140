//! What a network failure is, and its words for users.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use super::causes::{cause_text, chain, ended_by_peer, tls_error};
use super::connect::Origin;
use super::dial::Tried;
use super::heads::{SaidNothing, SpeaksTls};
use super::resolver::NoAddress;
use super::tls::TlsError;
use super::tls_words;
use crate::model::error::{Cause, NetworkCause};
use crate::model::hint::Hint;
pub(crate) use crate::net::transport::{
    TransportError as FetchError, TransportErrorKind as FetchErrorKind,
};

impl FetchError {
    /// No usable address of `host` is known.
    pub(super) fn no_address(to: &dyn fmt::Display, host: &str, none: NoAddress) -> Self {
        let message = format!("cannot connect to {to}: {none}");
        let error = match &none {
            NoAddress::NoSuchHost(_) => {
                let hint = Hint::NoSuchHost { host: host.to_owned() };
                Self::new(FetchErrorKind::Unreachable, message).with_hint(hint)
            }
            NoAddress::OfFamily(_) => Self::new(FetchErrorKind::Unreachable, message),
            NoAddress::ForNow(_) => Self::new(FetchErrorKind::Connect, message).with_hint(
                "the network or its name server does not answer: run it again once it does",
            ),
        };
        let source = match none {
            NoAddress::NoSuchHost(error) => error,
            NoAddress::OfFamily(_) => None,
            NoAddress::ForNow(error) => Some(error),
        };
        Self { cause: Some(NetworkCause::Dns), source: source.map(Cause::new), ..error }
    }

    /// None of the addresses answered.
    pub(super) fn no_answer(to: &dyn fmt::Display, tried: Vec<Tried>) -> Self {
        let mut causes: Vec<String> = Vec::new();
        for words in tried.iter().map(Tried::words) {
            if !causes.contains(&words) {
                causes.push(words);
            }
        }
        let message = format!("cannot connect to {to}: {}", causes.join("; "));
        let mut error = if !tried.iter().all(Tried::is_hopeless) {
            Self::new(FetchErrorKind::Connect, message)
        } else if tried.iter().any(Tried::is_refused) {
            Self::new(FetchErrorKind::Unreachable, message).with_hint(Hint::ConnectionRefused)
        } else {
            Self::new(FetchErrorKind::Unreachable, message).with_hint(Hint::Unreachable)
        };
        error.tried = tried.iter().map(Tried::line).collect();
        if tried.iter().all(Tried::is_silent) {
            error.cause = Some(NetworkCause::ConnectTimeout);
        }
        error.source = tried.into_iter().rev().find_map(Tried::into_error).map(Cause::new);
        error
    }

    /// The TLS handshake failed.
    fn in_handshake(to: &dyn fmt::Display, error: io::Error) -> Self {
        if let Some(tls) = tls_error(&error) {
            tracing::debug!(?tls, "no TLS");
            return tls_words::failed(to, tls);
        }
        if ended_by_peer(&error) {
            let message =
                format!("{to} ended the connection instead of answering the TLS handshake");
            return Self::new(FetchErrorKind::Unreachable, message)
                .with_hint(
                    "it may not speak TLS on this port: if plain HTTP is spoken there, try http:// \
                     instead of https://",
                )
                .with_source(error);
        }
        let message = format!("cannot connect to {to}: {}", cause_text(&error));
        Self::new(FetchErrorKind::Connect, message).with_source(error)
    }

    /// A connection was made, but HTTP could not begin on it.
    pub(crate) fn beginning(origin: &Origin, error: hyper::Error) -> Self {
        let message = format!("cannot connect to {origin}: {}", cause_text(&error));
        Self::new(FetchErrorKind::Connect, message).with_source(error)
    }

    /// No response came. `direct` says that the request went to the origin itself in HTTP/1.1:
    /// otherwise the silence tells nothing about what the origin speaks.
    pub(crate) fn unanswered(origin: &Origin, error: hyper::Error, direct: bool) -> Self {
        let silent = if direct { Self::without_a_byte(origin, &error) } else { None };
        let failed = silent.unwrap_or_else(|| Self::before_head(origin, &error));
        Self { source: failed.source.or_else(|| Some(Cause::new(error))), ..failed }
    }

    /// The failure if its most likely reason is that the origin itself speaks TLS and was asked in
    /// plain HTTP: many servers then close the connection without a word.
    fn without_a_byte(origin: &Origin, error: &hyper::Error) -> Option<Self> {
        let is_it = !origin.https && chain(error).any(<dyn StdError>::is::<SaidNothing>);
        is_it.then(|| Self {
            without_a_byte: true,
            ..Self::receiving(origin, error, "before it answered").with_hint(
                "check the port and the network; where the server speaks TLS on this port, try \
                 https:// instead of http://",
            )
        })
    }

    /// A failure before the response's head was complete.
    fn before_head(origin: &Origin, error: &hyper::Error) -> Self {
        // With TLS 1.3 the refusal of a client certificate shows only here.
        if let Some(alert @ rustls::Error::AlertReceived(_)) = tls_error(error) {
            return tls_words::failed(origin, alert);
        }
        if chain(error).any(<dyn StdError>::is::<SpeaksTls>) {
            let message = format!("{origin} speaks TLS, and was asked in plain HTTP");
            return Self::new(FetchErrorKind::WrongProtocol, message)
                .with_hint("try https:// instead of http://");
        }
        if is_no_http2(error) {
            let cause = cause_text(error);
            return Self::new(
                FetchErrorKind::WrongProtocol,
                format!("{origin} was asked in HTTP/2 and answers in something else: {cause}"),
            )
            .with_hint(Hint::NoHttp2);
        }
        if is_unusable_head(error) {
            return Self::new(
                FetchErrorKind::Protocol,
                format!("the response of {origin} cannot be read: {}", cause_text(error)),
            );
        }
        Self::receiving(origin, error, "before it answered")
    }

    /// A failure inside the body.
    pub(crate) fn in_body(origin: &Origin, error: hyper::Error) -> Self {
        Self::receiving(origin, &error, "inside the body").with_source(error)
    }

    fn receiving(origin: &Origin, error: &hyper::Error, when: &str) -> Self {
        let cause = cause_text(error);
        if is_unparsable(error) {
            return Self::new(
                FetchErrorKind::Protocol,
                format!("the response of {origin} cannot be read: {cause}"),
            );
        }
        Self::new(
            FetchErrorKind::Reset,
            format!("the connection to {origin} broke {when}: {cause}"),
        )
    }
}

/// Whether what came instead of a response is not even a frame: HTTP/1.1 text, say,
/// from a server that was taken to speak HTTP/2.
#[cfg(feature = "http2")]
fn is_no_http2(error: &hyper::Error) -> bool {
    found_by_http2(error).any(|error| error.reason() == Some(h2::Reason::FRAME_SIZE_ERROR))
}

/// The errors that our side of HTTP/2 found.
#[cfg(feature = "http2")]
fn found_by_http2(error: &hyper::Error) -> impl Iterator<Item = &h2::Error> {
    let of_http2 = chain(error).filter_map(|error| error.downcast_ref::<h2::Error>());
    of_http2.filter(|error| error.is_library())
}

#[cfg(not(feature = "http2"))]
fn is_no_http2(_: &hyper::Error) -> bool {
    false
}

/// Whether our side of HTTP/2 refused a response's head: too large, too many
/// fields, or ones that contradict each other (RFC 9113 section 8.1.1).
#[cfg(feature = "http2")]
fn is_unusable_head(error: &hyper::Error) -> bool {
    found_by_http2(error).any(|error| {
        !error.is_io()
            && matches!(
                error.reason(),
                Some(
                    h2::Reason::PROTOCOL_ERROR
                        | h2::Reason::ENHANCE_YOUR_CALM
                        | h2::Reason::COMPRESSION_ERROR
                )
            )
    })
}

#[cfg(not(feature = "http2"))]
fn is_unusable_head(_: &hyper::Error) -> bool {
    false
}

/// hyper reports bad chunk framing as an I/O error of an `Invalid` kind; a
/// damaged TLS record has the same kind, but is an accident of the connection.
fn is_unparsable(error: &hyper::Error) -> bool {
    if chain(error).any(<dyn StdError>::is::<rustls::Error>) {
        return false;
    }
    chain(error).any(|error| {
        error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
            || error.downcast_ref::<io::Error>().is_some_and(|error| {
                // Only hyper's own errors count; the system's have a code.
                error.raw_os_error().is_none()
                    && matches!(
                        error.kind(),
                        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
                    )
            })
    })
}

/// TLS with `to` could not be established.
pub(super) fn tls_failed(to: &dyn fmt::Display, error: TlsError) -> FetchError {
    match error {
        TlsError::SetUp(error) => {
            let message = format!("TLS for {to} cannot be set up: {error}");
            FetchError::new(FetchErrorKind::Tls, message).with_source(error)
        }
        TlsError::Handshake(error) => FetchError::in_handshake(to, error),
    }
}
