//! The interface by which requests are answered, whoever answers them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};

use crate::model::error::NetworkCause;

/// An answer that is awaited.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answered> + Send + 'a>>;

/// A response, or why there is none.
pub type Answered = Result<Response<Pin<Box<dyn Body>>>, TransportError>;

/// Why a request or the body of its response failed.
///
/// The message is shown to users: one line without a trailing full stop, which
/// may name host and port, never a path, a query or a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportError {
    pub(crate) kind: TransportErrorKind,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) cause: Option<NetworkCause>,
    /// The addresses that were tried in vain, each with its reason.
    pub(crate) tried: Vec<String>,
    /// A [`TransportErrorKind::Reset`] before a single byte came. While no response ever has, it
    /// is told and tried as [`TransportErrorKind::WrongProtocol`].
    pub(crate) without_a_byte: bool,
}

/// What sort of failure a [`TransportError`] is, and so what the engine makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// No connection was made. Tried again; while others deliver it counts as the
    /// server's limit on connections.
    Connect,
    /// The same, and another try will most likely end alike: no such host, a refusal, no
    /// route. While nothing ever came it is tried only
    /// [`max_hopeless_attempts`](crate::RetryPolicy::max_hopeless_attempts) times more.
    Unreachable,
    /// A certificate or the handshake was refused: again would be the same, so the
    /// download fails with [`crate::ErrorKind::Tls`].
    Tls,
    /// The server speaks no version of HTTP that was offered; fails likewise.
    NoHttpVersion,
    /// A proxy refuses us or the way: again would be the same, so the download fails
    /// with [`crate::ErrorKind::ProxyRefused`].
    ProxyRefused,
    /// It broke off: a reset, an early end, any other I/O error. What came is
    /// kept, and the rest asked for again.
    Reset,
    /// What came is no response, or one beyond all bounds. Tried again.
    Protocol,
    /// What answers speaks another protocol than the one it was asked in: TLS where plain
    /// HTTP was expected, say. Tried as often as [`Self::Unreachable`].
    WrongProtocol,
    /// A transport of the program's own panicked: the download fails with
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
            tried: Vec::new(),
            without_a_byte: false,
        }
    }

    /// The same with what a person may do about it, of which the message rules hold, too.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
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

impl std::error::Error for TransportError {}

/// Answers requests.
///
/// # Contract
/// - Each request is a GET with an absolute URI and all fields that matter, `Host`,
///   `Range` and preconditions among them; nothing is added by the engine later.
///   Status and fields of the response mean what HTTP says (RFC 9110): a 206 needs
///   its `Content-Range`, a strong `ETag` lets a download continue. A response is
///   judged before a byte of it is stored, whoever brings it.
/// - Redirects are the engine's to follow, and retries its own to make. A failure
///   that one more try would mend should be told rather than mended, so that it is
///   counted.
/// - [`Self::send`] is called on a tokio runtime, for many requests at once, at most
///   as many as there may be connections. A future that is dropped gives the request
///   up; nothing of it may go on for long. Who takes longer than the stall timeout
///   until the response, or between two pieces of a body, is given up so.
/// - Errors and logs should hold no query and no credential: messages are shown to
///   users.
pub trait Transport: fmt::Debug + Send + Sync {
    /// The response to `request`, whose body is not read yet.
    ///
    /// # Errors
    /// When there is none; [`TransportErrorKind`] says what the engine makes of it.
    fn send(&self, request: Request<()>) -> Answering<'_>;

    /// Whether URLs of this scheme are understood; others are refused, as the URL
    /// of a download and as where one redirects to. Default `http` and `https`.
    fn speaks(&self, scheme: &str) -> bool {
        matches!(scheme, "http" | "https")
    }
}

/// The body of a response.
///
/// Dropped before [`Self::finish`] it is given up, since its bytes stopped coming or
/// nobody wants them any more: what is behind it should be closed.
pub trait Body: Send {
    /// The next piece of the content, in order; `None` at its end. Pieces may have
    /// any size; those of up to 256 KiB keep to the engine's memory budget.
    ///
    /// An end says that the content is whole as far as the transport can tell. One
    /// that breaks off is an error.
    fn poll_data(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>>;

    /// How many bytes are still to come, where that is known.
    fn left_bytes(&self) -> Option<u64> {
        None
    }

    /// Everything that was wanted of it has come, which may be less than all:
    /// whatever brought it is as good as before and may be used again. Nothing is
    /// polled after this.
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

/// So many requests a transport says it sent for one that it was given: among the
/// extensions of a response, for [`crate::Summary::requests`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent(pub(crate) u64);
