//! A panic in code that the program supplied.

use std::fmt;

/// The part of the program that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Observer,
    Storage,
    Transport,
    CookieJar,
    Refresh,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observer => "observer",
            Self::Storage => "storage",
            Self::Transport => "transport",
            Self::CookieJar => "cookie jar",
            Self::Refresh => "refresh function",
        })
    }
}

/// That part of the program panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the program's own {0} panicked")]
pub(crate) struct Panicked(pub(crate) Part);

impl From<Panicked> for std::io::Error {
    fn from(panicked: Panicked) -> Self {
        std::io::Error::other(panicked)
    }
}

/// What to do after a panic of a program's part.
pub(crate) const HINT: &str = "the panic's own message is where the program's panic hook writes, \
                               usually standard error; mend the part and start the download again";
