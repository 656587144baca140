//! The interface through which requests are answered, whoever answers them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use http::{Request, Response};

use crate::model::error::{Cause, NetworkCause};
use crate::model::hint::Hint;

/// An answer that is awaited.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answered> + Send + 'a>>;

/// A response, or why there is none.
pub type Answered = Result<Response<Pin<Box<dyn Body>>>, TransportError>;

/// A request that was sent, and whose answer is awaited or here.
pub(crate) type Begun = Answering<'static>;

/// What [`Transport::path_changes`] gives: an item for each change.
pub type PathChanges = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// Why a request or the body of its response failed.
///
/// The message is shown to users: one line without a trailing full stop, which may
/// name host and port, but never a path, a query or a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportError {
    pub(crate) kind: TransportErrorKind,
    pub(crate) message: String,
    pub(crate) hint: Option<Hint>,
    pub(crate) cause: Option<NetworkCause>,
    pub(crate) source: Option<Cause>,
    /// The addresses that were tried in vain, each with its reason.
    pub(crate) tried: Vec<String>,
    /// A [`TransportErrorKind::Reset`] before a single byte came. As long as no response ever came,
    /// it is reported and retried as [`TransportErrorKind::WrongProtocol`].
    pub(crate) without_a_byte: bool,
}

/// What sort of failure a [`TransportError`] is, which decides what the engine does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// No connection was made. The engine tries again; while other connections
    /// deliver, it takes this for the server's limit on connections.
    Connect,
    /// No connection was made, and another try will most likely end the same way: no such host, a
    /// refusal, no route. As long as nothing ever came, it is retried only
    /// [`max_hopeless_attempts`](crate::RetryPolicy::max_hopeless_attempts) times.
    Unreachable,
    /// A certificate or the handshake was refused. Another try would end the same
    /// way, so the download fails with [`crate::ErrorKind::Tls`].
    Tls,
    /// The server speaks none of the HTTP versions it was offered; the download fails likewise.
    NoHttpVersion,
    /// A proxy refused us or the connection. Another try would end the same way, so
    /// the download fails with [`crate::ErrorKind::ProxyRefused`].
    ProxyRefused,
    /// The response broke off: a reset, an early end, any other I/O error. The
    /// bytes that came are kept, and the rest is requested again.
    Reset,
    /// What came is no response, or one beyond all bounds. The engine tries again.
    Protocol,
    /// The server speaks another protocol than the one it was asked in: TLS where plain HTTP was
    /// expected, say. Retried as often as [`Self::Unreachable`].
    WrongProtocol,
    /// The program's own transport panicked: the download fails with
    /// [`crate::ErrorKind::Callback`].
    Panicked,
}

impl TransportError {
    /// A failure of this kind.
    #[must_use]
    pub fn new(kind: TransportErrorKind, message: impl Into<String>) -> Self {
        let unconnected =
            matches!(kind, TransportErrorKind::Connect | TransportErrorKind::Unreachable);
        Self {
            kind,
            message: message.into(),
            hint: None,
            cause: unconnected.then_some(NetworkCause::Connect),
            source: None,
            tried: Vec::new(),
            without_a_byte: false,
        }
    }

    /// Adds what a person may do about it: a [`Hint`], or text, to which the rules for messages
    /// apply too.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Hint>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the underlying error, which becomes the source of the download's error in the end.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(Cause::new(source));
        self
    }

    /// What sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(Cause::as_error)
    }
}

/// Answers requests.
///
/// # Contract
/// - Each request is a GET with an absolute URI and every field that matters, including
///   `Host`, `Range` and preconditions; the engine adds nothing later. Status and fields
///   of the response mean what HTTP says (RFC 9110): a 206 needs its `Content-Range`, and
///   a strong `ETag` lets a download continue. The engine judges every response before it
///   stores a byte of it, whoever sends it.
/// - The engine follows redirects and retries itself. A failure that one more try would
///   mend should be reported rather than mended, so that it is counted.
/// - [`Self::send`] is called on a tokio runtime, for many requests at once, at most as
///   many as there may be connections. Dropping its future cancels the request, and no
///   work for it may go on for long. The engine does so when the response, or the next
///   piece of a body, takes longer than the stall timeout.
/// - Errors and logs should hold no query and no credential: messages are shown to
///   users.
pub trait Transport: fmt::Debug + Send + Sync {
    /// The response to `request`, whose body is not read yet.
    ///
    /// # Errors
    /// When there is none; [`TransportErrorKind`] says what the engine makes of it.
    fn send(&self, request: Request<()>) -> Answering<'_>;

    /// Signals that the path to all servers may have changed, so that connections may be dead
    /// without saying so: another network, or a machine that slept. Requests that are silent then
    /// are sent anew at once. Called on a tokio runtime, once for each download that takes longer
    /// than a moment. Default: none.
    fn path_changes(&self) -> Option<PathChanges> {
        None
    }

    /// Whether URLs of this scheme are understood. Others are refused, as the URL of a
    /// download and as the target of a redirect. Default: `http` and `https`.
    fn speaks(&self, scheme: &str) -> bool {
        matches!(scheme, "http" | "https")
    }
}

/// The body of a response.
///
/// A body that is dropped before [`Self::finish`] is given up, because its bytes stopped
/// coming or nobody wants them any more: whatever is behind it should be closed.
pub trait Body: Send {
    /// The next piece of the content, in order; `None` at its end. Pieces may have
    /// any size; those of up to 256 KiB keep to the engine's memory budget.
    ///
    /// The end says that the content is whole as far as the transport can tell. A
    /// body that breaks off is an error.
    fn poll_data(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>>;

    /// How many bytes are still to come, where that is known.
    fn left_bytes(&self) -> Option<u64> {
        None
    }

    /// Called when everything wanted of the body has come, which may be less than
    /// all of it: its connection is as good as before and may be used again.
    /// Nothing is polled after this.
    fn finish(self: Pin<Box<Self>>) {}
}

/// A body whose bytes are all there.
#[must_use]
pub fn body_of(bytes: impl Into<Bytes>) -> Pin<Box<dyn Body>> {
    Box::pin(Whole(bytes.into()))
}

struct Whole(Bytes);

impl Body for Whole {
    fn poll_data(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>> {
        const PIECE_BYTES: usize = 64 << 10;
        let piece = self.0.len().min(PIECE_BYTES);
        Poll::Ready((piece > 0).then(|| Ok(self.0.split_to(piece))))
    }

    fn left_bytes(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
}

/// How many requests a transport sent for one that it was given: among the
/// extensions of a response, for [`crate::Summary::requests`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent(pub(crate) u64);

/// What a request shares its connection with, where the server speaks HTTP/2: among the extensions
/// of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Lane {
    /// With few others or none: many bytes may come, and a connection's congestion window is worth
    /// more to them than its handshake costs.
    #[default]
    Bulk,
    /// With many others: the response is small, most likely, and would mostly wait.
    Small,
}

/// How many further connections will most likely be wanted: among the extensions of a request. A
/// transport may begin them if the answer takes its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead(pub(crate) usize);
