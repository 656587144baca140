//! What a failure means for the shell: an exit code, a stable word for programs, and lines for
//! people.

use haul_engine::{Error, ErrorKind};

use crate::hints;

/// Every download is complete.
pub(crate) const OK: u8 = 0;
/// A defect of haul.
pub(crate) const INTERNAL: u8 = 1;
/// The command line cannot be used.
pub(crate) const USAGE: u8 = 2;
/// A local file is in the way or cannot be written.
pub(crate) const LOCAL: u8 = 3;
/// The network failed, after the retries.
pub(crate) const NETWORK: u8 = 4;
/// The server's certificate or the handshake failed.
pub(crate) const TLS: u8 = 5;
/// The server or the proxy refuses, or the link has expired.
pub(crate) const DENIED: u8 = 6;
/// What came is not what it should be, and cannot be used.
pub(crate) const PROTOCOL: u8 = 7;
/// The server answered with an HTTP error.
pub(crate) const HTTP: u8 = 8;
/// A limit that the user set was reached.
pub(crate) const LIMIT: u8 = 12;
/// The command run on a complete file failed.
pub(crate) const EXEC: u8 = 13;
/// The film is protected by DRM.
pub(crate) const PROTECTED: u8 = 14;
/// The bytes do not have the expected digest.
pub(crate) const DIGEST: u8 = 9;

/// The output exists already.
pub(crate) const OUTPUT_EXISTS: &str = "output-exists";
/// Another haul downloads to the same output.
pub(crate) const LOCKED: &str = "locked";

/// Which code a run of several failed downloads ends with: the first of these that occurred. Usage
/// errors come before any download, so no download outranks them.
const PRECEDENCE: [u8; 14] =
    [INTERNAL, USAGE, LOCAL, 11, DIGEST, 10, 7, 5, 6, PROTECTED, HTTP, 12, 4, 13];

/// What the codes mean, printed at the end of the full help and of the manual page.
pub(crate) const MEANINGS: &str = "\
See it work: haul demo. To continue a download, run the same command again.

Exit codes:
  0   every download is complete, and verified where a digest was given
  1   an internal error of haul
  2   the command line or a setting cannot be used
  3   a local file exists, is locked or cannot be written, or the disk failed
  4   the network failed, after the retries; the partial is kept
  5   TLS failed
  6   access is refused or expired (401, 403, 407, 410), or a proxy refuses
  7   the server broke the protocol; nothing wrong was stored
  8   the server answered with another HTTP error status
  9   a digest differs; the file was not published
  10  the object changed, and the download could not go on
  11  the disk or a quota is full, or the file is too large for it
  12  a limit that you set was reached: --max-time, --max-filesize, --expect-size
  13  the command of --exec failed; the file is published
  14  the film is protected content (DRM), which haul does not open
  129, 130, 143
      interrupted by SIGHUP, SIGINT, SIGTERM; the same command continues
With several downloads, the first of 1, 2, 3, 11, 9, 10, 7, 5, 6, 14, 8, 12, 4, 13 counts.";

/// A failure, ready to be reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: u8,
    /// A stable word that programs may compare.
    pub(crate) word: &'static str,
    /// Cause and consequence in one line.
    pub(crate) message: String,
    /// The next step.
    pub(crate) hint: Option<String>,
    /// Whether the same command continues.
    pub(crate) resumable: bool,
    /// Whether nothing is printed about it.
    pub(crate) silent: bool,
    /// The HTTP status that caused it.
    pub(crate) status: Option<u16>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct End {
    /// The exit code.
    pub(crate) code: u8,
    /// The word of the failure that the code comes from; empty if there is none.
    pub(crate) word: &'static str,
    /// The HTTP status of that failure.
    pub(crate) status: Option<u16>,
}

impl End {
    /// Adds one more failure. The worst one decides, and among equals the first.
    pub(crate) fn and(self, failure: &Failure) -> Self {
        let code = worst([self.code, failure.exit]);
        if code == self.code { self } else { Self::from(failure) }
    }
}

impl From<u8> for End {
    fn from(code: u8) -> Self {
        Self { code, ..Self::default() }
    }
}

impl From<&Failure> for End {
    fn from(failure: &Failure) -> Self {
        Self { code: failure.exit, word: failure.word, status: failure.status }
    }
}

impl Failure {
    /// A command line that cannot be used.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, "usage", message)
    }

    /// A local file or directory that cannot be used.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::new(LOCAL, "local-file", message)
    }

    /// Whether the cause is an output that exists already.
    pub(crate) fn is_of_existing(&self) -> bool {
        self.word == OUTPUT_EXISTS
    }

    /// Whether the cause is another download to the same output.
    pub(crate) fn is_of_another_haul(&self) -> bool {
        self.word == LOCKED
    }

    /// A defect of haul or of what it is built on.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(INTERNAL, "internal", message)
    }

    pub(crate) fn new(exit: u8, word: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { exit, word, message, hint: None, resumable: false, silent: false, status: None }
    }

    /// Prints nothing about the failure, so that only the exit code shows it.
    pub(crate) fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (exit, word) = code(error.kind());
        Self {
            exit,
            word,
            message: error.to_string(),
            hint: hints::of(&error),
            resumable: error.is_resumable(),
            silent: false,
            status: error.http_status(),
        }
    }
}

/// The exit code and the word for this sort of failure.
pub(crate) fn code(kind: ErrorKind) -> (u8, &'static str) {
    match kind {
        ErrorKind::InvalidInput => (USAGE, "usage"),
        ErrorKind::OutputExists => (LOCAL, OUTPUT_EXISTS),
        ErrorKind::Locked => (LOCAL, LOCKED),
        ErrorKind::LocalFile => (LOCAL, "local-file"),
        ErrorKind::Network => (4, "network"),
        ErrorKind::Tls => (TLS, "tls"),
        ErrorKind::AccessDenied => (DENIED, "access-denied"),
        ErrorKind::ProxyRefused => (DENIED, "proxy-refused"),
        ErrorKind::Protocol => (7, "protocol"),
        ErrorKind::HttpStatus => (HTTP, "http-status"),
        ErrorKind::DigestMismatch => (DIGEST, "digest-mismatch"),
        ErrorKind::ObjectChanged => (10, "object-changed"),
        ErrorKind::DiskFull => (11, "disk-full"),
        ErrorKind::LimitReached => (LIMIT, "limit-reached"),
        // A cancellation that no signal asked for is a defect. Those that a signal asked for never
        // get here.
        ErrorKind::Cancelled => (INTERNAL, "cancelled"),
        _ => (INTERNAL, "internal"),
    }
}

/// The exit code of a run whose downloads ended with `codes`.
pub(crate) fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    let rank = |code: &u8| PRECEDENCE.iter().position(|known| known == code);
    codes
        .into_iter()
        .filter(|code| *code != OK)
        // An unknown code is a defect and must not be hidden behind a lesser one.
        .min_by_key(|code| rank(code).unwrap_or(0))
        .unwrap_or(OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_downloads_end_with_the_first_code_of_the_contract() {
        assert_eq!(worst([]), 0);
        assert_eq!(worst([0, 0]), 0);
        assert_eq!(worst([0, 4, 0]), 4);
        // Each code outranks all that come after it, in whatever order they occur.
        let contract = [1, 3, 11, 9, 10, 7, 5, 6, 14, 8, 12, 4, 13];
        for (place, &code) in contract.iter().enumerate() {
            for &lesser in &contract[place..] {
                assert_eq!(worst([lesser, 0, code]), code);
                assert_eq!(worst([code, lesser]), code);
            }
        }
    }

    #[test]
    fn the_help_tells_what_each_code_means() {
        for code in [OK].into_iter().chain(PRECEDENCE) {
            let line = format!("\n  {code:<3} ");
            assert!(MEANINGS.contains(&line), "{code}");
        }
        let order = PRECEDENCE.map(|code| code.to_string()).join(", ");
        assert!(MEANINGS.contains(&format!("the first of {order} counts")));
    }

    #[test]
    fn every_kind_has_the_contracts_code() {
        for (kind, exit) in [
            (ErrorKind::Internal, 1),
            (ErrorKind::InvalidInput, 2),
            (ErrorKind::OutputExists, 3),
            (ErrorKind::Locked, 3),
            (ErrorKind::LocalFile, 3),
            (ErrorKind::Network, 4),
            (ErrorKind::Tls, 5),
            (ErrorKind::AccessDenied, 6),
            (ErrorKind::ProxyRefused, 6),
            (ErrorKind::Protocol, 7),
            (ErrorKind::HttpStatus, 8),
            (ErrorKind::DigestMismatch, 9),
            (ErrorKind::ObjectChanged, 10),
            (ErrorKind::DiskFull, 11),
            (ErrorKind::LimitReached, 12),
        ] {
            assert_eq!(code(kind).0, exit, "{kind:?}");
        }
    }
}
