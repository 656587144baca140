//! The way to a server: a stream of bytes in both directions.
//!
//! The real one is [`super::connector::Connector`]; a simulation
//! brings its own.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use http::HeaderValue;
use hyper::rt::{Read, Write};
use url::Url;

use super::transport::TransportError;

/// Where connections go: scheme, host and port (RFC 6454 section 4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// TLS or not.
    pub(crate) https: bool,
    /// The host as URLs have it: lower case, IPv6 in brackets.
    pub(crate) host: String,
    /// The port, also where the URL leaves it to the scheme.
    pub(crate) port: u16,
}

impl Origin {
    /// The origin of a URL; `None` for one without a host. Where neither the URL nor
    /// its scheme has a port, that is 0.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        let host = url.host_str()?.to_owned();
        let port = url.port_or_known_default().unwrap_or_default();
        Some(Self { https: url.scheme() == "https", host, port })
    }
}

/// Whether URLs have scheme, host and port in common: what is for the one is for the
/// other. [`Url::origin`] cannot tell for schemes that it does not know.
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

/// A connection that is ready for HTTP: TLS, where there is any, is done.
pub(crate) trait Stream: Read + Write + Unpin + Send {}

impl<T: Read + Write + Unpin + Send> Stream for T {}

/// A connection, and what is to be known of it before anything is said.
pub(crate) struct Connected {
    /// To the origin, or to a proxy that forwards requests.
    pub(crate) stream: Box<dyn Stream>,
    /// HTTP/2 is spoken, else HTTP/1.1.
    #[cfg_attr(not(feature = "http2"), expect(dead_code, reason = "it never is"))]
    pub(crate) http2: bool,
    /// At the other end is an HTTP proxy.
    pub(crate) forward: Option<Forward>,
}

impl Connected {
    /// To the origin itself.
    pub(crate) fn http1(stream: Box<dyn Stream>) -> Self {
        Self { stream, http2: false, forward: None }
    }
}

/// An HTTP proxy that requests are said to, in absolute form (RFC 9112 section
/// 3.2.2).
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    /// As it is shown in messages, without its login.
    #[cfg_attr(not(feature = "proxy"), expect(dead_code, reason = "there is none"))]
    pub(crate) name: String,
    /// Its login.
    pub(crate) authorization: Option<HeaderValue>,
}

/// A connection that is being made.
pub(crate) type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<Connected, TransportError>> + Send + 'a>>;

/// Makes connections.
pub(crate) trait Connect: fmt::Debug + Send + Sync {
    /// A new connection to `origin`. Dropping the future gives it up; whoever
    /// calls sets the time it may take.
    fn connect<'a>(&'a self, origin: &'a Origin) -> Connecting<'a>;
}
