//! The one error type of the engine.
//!
//! An [`Error`] says three things: what happened (the cause), what it means
//! for the download (the consequence, and whether the partial can be resumed),
//! and what to do next (the hint). Programs branch on [`Error::kind`]; people
//! read the rest. No text in an error contains a query string, a password or a
//! header value: URLs in it went through [`crate::redact_url`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::hint::Hint;
use crate::model::panicked::{self, Panicked};

/// What sort of failure an [`Error`] is. A program decides by this.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A defect of the engine itself, or a runtime that went away.
    Internal,
    /// An argument that cannot be used: a malformed URL, a header with CR or LF.
    InvalidInput,
    /// The output exists and was not to be replaced.
    OutputExists,
    /// Another process is downloading to the same target.
    Locked,
    /// A local file or directory failed: permission, I/O error, wrong type.
    LocalFile,
    /// No room on the disk, a quota, or a file-size limit.
    DiskFull,
    /// DNS, connect, reset or stall, after all retries.
    Network,
    /// TLS: an untrusted, expired or misnamed certificate, or a failed handshake.
    Tls,
    /// 401, 403, 407 or 410: refused, or the link expired.
    AccessDenied,
    /// The proxy wants a login, or another one, or refuses the connection.
    ProxyRefused,
    /// The server broke the HTTP protocol; nothing wrong was stored.
    Protocol,
    /// Any other HTTP error status.
    HttpStatus,
    /// The bytes do not match the digest that was given.
    DigestMismatch,
    /// The remote object changed, again, while it was downloaded.
    ObjectChanged,
    /// A limit that the caller set was reached.
    LimitReached,
    /// The download was cancelled by its handle.
    Cancelled,
    /// Code that the program brought panicked: an observer, a storage, a transport, a
    /// cookie jar or a refresh function, which the message names. Not a defect of the engine.
    Callback,
}

/// A failed download, or a download that could not be started.
///
/// `Display` gives the cause with its consequence, in one line without a
/// trailing full stop; [`Error::hint`] gives the next step. `source` is what it
/// comes from: an I/O error, or one of hyper or rustls, whose versions may change
/// with any release. Its words are in the message already, fit for a terminal,
/// which those of a source need not be.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<Box<Hint>>,
    http_status: Option<u16>,
    network: Option<NetworkCause>,
    /// Where the checkpoint is, if one was kept.
    checkpoint: Option<Kept>,
    source: Option<Cause>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // A derived source would be the shared pointer, whose type nobody asks for.
        self.source.as_ref().map(Cause::as_error)
    }
}

/// What part of the network failed, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkCause {
    /// The host's name has no address.
    Dns,
    /// No connection was made.
    Connect,
    /// No connection was made in time.
    ConnectTimeout,
    /// A connection brought no byte in time.
    Stall,
}

/// The underlying error of a failure, shared by its copies. Two are equal if they are the same one.
#[derive(Debug, Clone)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl Cause {
    pub(crate) fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(Arc::from(error.into()))
    }

    pub(crate) fn as_error(&self) -> &(dyn std::error::Error + 'static) {
        &*self.0
    }
}

impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.0), Arc::as_ptr(&other.0))
    }
}

impl Eq for Cause {}

/// Where the checkpoint of a download that can be continued is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    /// This file, beside the partial.
    File(PathBuf),
    /// The program's own storage.
    Storage,
}

impl Error {
    /// An error of `kind`, whose `message` names the cause and the consequence.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            http_status: None,
            network: None,
            checkpoint: None,
            source: None,
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<Hint>) -> Self {
        self.hint = Some(Box::new(hint.into()));
        self
    }

    /// The same error, with `more` added to its message.
    pub(crate) fn with_more(mut self, more: impl fmt::Display) -> Self {
        self.message = format!("{}; {more}", self.message);
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.http_status = Some(status);
        self
    }

    pub(crate) fn with_network(self, network: Option<NetworkCause>) -> Self {
        Self { network, ..self }
    }

    pub(crate) fn with_source(
        self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.with_cause(Some(Cause::new(source)))
    }

    pub(crate) fn with_cause(self, cause: Option<Cause>) -> Self {
        Self { source: cause, ..self }
    }

    pub(crate) fn with_checkpoint(mut self, kept: Kept) -> Self {
        self.checkpoint = Some(kept);
        self
    }

    /// An I/O error at `path`; a full disk becomes [`ErrorKind::DiskFull`], and a panic in a
    /// program's storage [`ErrorKind::Callback`].
    pub(crate) fn io(what: impl fmt::Display, path: &Path, error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge => ErrorKind::DiskFull,
            _ => ErrorKind::LocalFile,
        };
        let message = format!("{what} {}: {error}", path.display());
        match error.get_ref() {
            Some(inner) if inner.is::<Panicked>() => {
                Self::new(ErrorKind::Callback, message).with_hint(panicked::HINT)
            }
            _ => Self::new(kind, message),
        }
        .with_source(error)
    }

    /// The task of a download is gone, and nothing says how the download ended.
    pub(crate) fn lost() -> Self {
        Self::new(ErrorKind::Internal, "the download ended without a result")
            .with_hint("its tokio runtime was shut down: keep it until the download has ended")
    }

    /// What the operating system said, where that is the cause.
    pub(crate) fn io_error(&self) -> Option<&std::io::Error> {
        self.source.as_ref()?.as_error().downcast_ref()
    }

    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The next step, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<&Hint> {
        self.hint.as_deref()
    }

    /// The HTTP status that caused the failure, where one did.
    #[must_use]
    pub fn http_status(&self) -> Option<u16> {
        self.http_status
    }

    /// Whether no connection was made, for whatever reason: the host's name has no address,
    /// the connection was refused, or it took too long.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.network.is_some_and(|cause| cause != NetworkCause::Stall)
    }

    /// Whether the host's name has no address, or the lookup failed.
    #[must_use]
    pub fn is_dns(&self) -> bool {
        self.network == Some(NetworkCause::Dns)
    }

    /// Whether making a connection or waiting for the next byte took longer than allowed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.network, Some(NetworkCause::ConnectTimeout | NetworkCause::Stall))
    }

    /// Where the checkpoint of the partial download is, if one was kept in a file.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Path> {
        match &self.checkpoint {
            Some(Kept::File(path)) => Some(path),
            Some(Kept::Storage) | None => None,
        }
    }

    /// Whether the same download, started again, continues instead of starting
    /// from zero.
    #[must_use]
    pub fn is_resumable(&self) -> bool {
        self.checkpoint.is_some()
    }
}

impl From<Panicked> for Error {
    fn from(panicked: Panicked) -> Self {
        Self::new(ErrorKind::Callback, format!("{panicked}, which ended the download"))
            .with_hint(panicked::HINT)
            .with_source(panicked)
    }
}
