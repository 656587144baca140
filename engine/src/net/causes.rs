//! Errors below errors: what a network failure comes from.

use std::error::Error as StdError;
use std::io;

use super::tls_words;
use crate::model::name::at_most;

/// The error and all errors below it. `io::Error::source` skips the error that it
/// wraps, which is the one of interest here, so that one is taken from `get_ref`.
pub(super) fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| {
        let error = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

/// The TLS error among those, if there is one.
pub(super) fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The text of the deepest error: the layers above it only name themselves. It may
/// quote the server.
pub(super) fn cause_text(error: &(dyn StdError + 'static)) -> String {
    const LONGEST: usize = 500;
    let text = match tls_error(error) {
        Some(tls) => tls_words::cause(tls),
        None => chain(error).last().map(ToString::to_string).unwrap_or_default(),
    };
    at_most(text.trim_end_matches('.'), LONGEST)
}

/// Whether the other end closed the connection, in an orderly way or not.
pub(super) fn ended_by_peer(error: &(dyn StdError + 'static)) -> bool {
    chain(error).filter_map(|error| error.downcast_ref::<io::Error>()).any(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        )
    })
}
