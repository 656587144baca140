//! The way to a server: a stream of bytes in both directions.
//!
//! The real one is [`super::connector::Connector`]; a simulation
//! brings its own.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderValue;
use hyper::rt::{Read, Write};
use url::Url;

use super::transport::{Lane, TransportError};
use super::vitals::Vitals;

/// Where connections go: scheme, host and port (RFC 6454 section 4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// Whether TLS is used.
    pub(crate) https: bool,
    /// The host as in URLs: lower case, IPv6 in brackets.
    pub(crate) host: String,
    /// The port, filled in where the URL leaves it to the scheme.
    pub(crate) port: u16,
}

impl Origin {
    /// The origin of a URL; `None` for one without a host. The port is 0 where
    /// neither the URL nor its scheme has one.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let host = url.host_str()?.to_owned();
        let port = url.port_or_known_default().unwrap_or_default();
        Some(Self { https: url.scheme() == "https", host, port })
    }
}

/// Whether two URLs have scheme, host and port in common, so that what is for one may go to
/// the other. [`Url::origin`] cannot tell for schemes that it does not know.
pub(crate) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.has_host()
        && one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => f.write_str(&self.host),
            port => write!(f, "{}:{port}", self.host),
        }
    }
}

/// A connection that is ready for HTTP: any TLS handshake is done.
pub(crate) trait Stream: Read + Write + Unpin + Send {}

impl<T: Read + Write + Unpin + Send> Stream for T {}

/// A connection, and what is known of it before the first request.
pub(crate) struct Connected {
    /// Leads to the origin, or to a proxy that forwards requests.
    pub(crate) stream: Box<dyn Stream>,
    /// Whether HTTP/2 is spoken, rather than HTTP/1.1.
    #[cfg_attr(not(feature = "http2"), expect(dead_code, reason = "it never is"))]
    pub(crate) http2: bool,
    /// Set when an HTTP proxy is at the other end.
    pub(crate) forward: Option<Forward>,
    /// What TCP shows of the connection, where that is known.
    pub(crate) vitals: Option<Arc<Vitals>>,
}

impl Connected {
    /// An HTTP/1.1 connection to the origin itself.
    pub(crate) fn http1(stream: Box<dyn Stream>) -> Self {
        Self { stream, http2: false, forward: None, vitals: None }
    }
}

/// An HTTP proxy that takes requests in absolute form (RFC 9112 section 3.2.2).
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    /// The proxy's name in messages, without its login.
    #[cfg_attr(not(feature = "proxy"), expect(dead_code, reason = "there is none"))]
    pub(crate) name: String,
    /// The proxy's login.
    pub(crate) authorization: Option<HeaderValue>,
}

/// A connection that is being made.
pub(crate) type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<Connected, TransportError>> + Send + 'a>>;

/// Makes connections.
pub(crate) trait Connect: fmt::Debug + Send + Sync {
    /// Opens a new connection to `origin` for requests of this lane. Dropping the future gives up;
    /// the caller limits the time it may take.
    fn connect<'a>(&'a self, origin: &'a Origin, lane: Lane) -> Connecting<'a>;
}
