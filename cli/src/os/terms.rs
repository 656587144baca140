//! What all systems are asked for and tell, in terms of none.

use std::path::PathBuf;

/// The path in an environment variable, unless it is relative.
pub(super) fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Why the run has to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// SIGHUP: the terminal went away.
    Hangup,
    /// SIGINT: Ctrl-C.
    Keyboard,
    /// SIGTERM.
    Terminate,
}

impl Interrupt {
    /// 128 and the signal's number.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Keyboard => 130,
            Self::Terminate => 143,
        }
    }
}

/// What a run has mapped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mapped {
    /// The partial that it writes.
    Partial,
    /// A file that it reads.
    Checked,
}
