//! The transport of the network: name lookup, TCP, proxies and TLS.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::IpAddr;
#[cfg(feature = "http2")]
use std::{collections::HashSet, sync::Mutex, sync::PoisonError};

use http::Uri;
use hyper_util::client::legacy::connect::{Connection, HttpConnector, HttpInfo};
use hyper_util::rt::TokioIo;
use rustls::AlertDescription;
use tokio::net::TcpStream;
use tower_service::Service as _;

use super::connect::{Connect, Connected, Connecting, Origin, Stream};
#[cfg(feature = "proxy")]
use super::proxy;
use super::resolver::Resolver;
use super::tls::{Offer, Peer, Secured, Tls, TlsError};
use crate::config::{EngineConfig, HostAddress, HttpVersion, Interface, IpFamily};
#[cfg(feature = "proxy")]
use crate::config::{Proxies, Proxy, ProxyKind};
use crate::error::{Error, ErrorKind};
use crate::model::name::at_most;
pub(crate) use crate::transport::{
    TransportError as FetchError, TransportErrorKind as FetchErrorKind,
};

impl FetchError {
    /// A failure while the connection was made.
    pub(crate) fn connecting(to: &dyn fmt::Display, error: &(dyn StdError + 'static)) -> Self {
        let cause = cause_text(error);
        let tls = chain(error).find_map(|error| error.downcast_ref::<rustls::Error>());
        let (kind, message) = match tls {
            Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => (
                FetchErrorKind::NoHttpVersion,
                format!("{to} speaks no version of HTTP that it was offered"),
            ),
            Some(error) => {
                let cause = if is_authority(error) { NOT_A_SERVERS } else { &cause };
                (FetchErrorKind::Tls, format!("the TLS handshake with {to} failed: {cause}"))
            }
            None => (FetchErrorKind::Connect, format!("cannot connect to {to}: {cause}")),
        };
        Self { kind, message }
    }

    /// A failure before the response's head was complete.
    pub(crate) fn before_head(origin: &Origin, error: &hyper::Error) -> Self {
        // With TLS 1.3 a refused client certificate shows only here.
        let refused = chain(error)
            .any(|error| matches!(error.downcast_ref(), Some(rustls::Error::AlertReceived(_))));
        if refused {
            let cause = cause_text(error);
            return Self {
                kind: FetchErrorKind::Tls,
                message: format!("{origin} ended the TLS session: {cause}"),
            };
        }
        if is_no_http2(error) {
            let cause = cause_text(error);
            return Self {
                kind: FetchErrorKind::Protocol,
                message: format!(
                    "{origin} was asked in HTTP/2 and answers in something else: {cause}"
                ),
            };
        }
        if is_unusable_head(error) {
            return Self {
                kind: FetchErrorKind::Protocol,
                message: format!("the response of {origin} cannot be read: {}", cause_text(error)),
            };
        }
        Self::receiving(origin, error, "before it answered")
    }

    /// A failure inside the body.
    pub(crate) fn in_body(origin: &Origin, error: &hyper::Error) -> Self {
        Self::receiving(origin, error, "inside the body")
    }

    fn receiving(origin: &Origin, error: &hyper::Error, when: &str) -> Self {
        let cause = cause_text(error);
        if is_unparsable(error) {
            return Self {
                kind: FetchErrorKind::Protocol,
                message: format!("the response of {origin} cannot be read: {cause}"),
            };
        }
        Self {
            kind: FetchErrorKind::Reset,
            message: format!("the connection to {origin} broke {when}: {cause}"),
        }
    }
}

/// What openssl makes where nothing else is said, and other clients take.
const NOT_A_SERVERS: &str = "its certificate is that of an authority (CA:TRUE), and not one for a \
                             server, which the authority would have signed";

/// The library has no words for it.
fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = error else {
        return false;
    };
    other.0.to_string() == "CaUsedAsEndEntity"
}

/// Whether what came instead of a response is not even a frame: the text of
/// HTTP/1.1, say, from a server that was taken for one of HTTP/2.
#[cfg(feature = "http2")]
fn is_no_http2(error: &hyper::Error) -> bool {
    found_by_http2(error).any(|error| error.reason() == Some(h2::Reason::FRAME_SIZE_ERROR))
}

/// What our side of HTTP/2 found wrong.
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
                // Only what hyper made itself; the system's errors have a code.
                error.raw_os_error().is_none()
                    && matches!(
                        error.kind(),
                        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
                    )
            })
    })
}

/// The error and all below it. `io::Error::source` skips the error it wraps,
/// which is the very one of interest, so that one is taken by `get_ref`.
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

/// The text of the deepest error: the layers above it only say which layer
/// they are. It may quote the server: all names in its certificate, say.
pub(super) fn cause_text(error: &(dyn StdError + 'static)) -> String {
    const LONGEST: usize = 500;
    let text = chain(error).last().map(ToString::to_string).unwrap_or_default();
    at_most(text.trim_end_matches('.'), LONGEST)
}

/// Makes connections as the engine's settings say.
#[derive(Debug)]
pub(crate) struct Connector {
    http: HttpConnector<Resolver>,
    resolver: Resolver,
    resolve: Vec<HostAddress>,
    family: Option<IpFamily>,
    tls: Tls,
    version: HttpVersion,
    #[cfg(feature = "proxy")]
    proxies: Proxies,
    /// Origins that refused HTTP/1.1 inside TLS.
    #[cfg(feature = "http2")]
    only_http2: Mutex<HashSet<Origin>>,
}

impl Connector {
    /// A connector that has opened nothing but the files that `config` names.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when one of them cannot be read or lacks what
    /// it is for, or the interface contradicts the family of addresses.
    pub(crate) fn new(config: &EngineConfig) -> Result<Self, Error> {
        let mut family = config.ip_family;
        if let Some(Interface::Address(address)) = config.interface {
            if family.is_some_and(|family| !family.has(address)) {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("no connection starts at {address} with the other family of addresses"),
                ));
            }
            // What cannot start there would start anywhere.
            family = Some(if address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 });
        }
        let resolver = Resolver::new(family);
        let mut http = HttpConnector::new_with_resolver(resolver.clone());
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(config.connect_timeout));
        match &config.interface {
            None => {}
            Some(Interface::Address(address)) => http.set_local_address(Some(*address)),
            Some(Interface::Name(name)) => bind_to(&mut http, name)?,
        }
        Ok(Self {
            http,
            resolver,
            resolve: config.resolve.clone(),
            family,
            tls: Tls::new(config)?,
            version: config.http_version,
            #[cfg(feature = "proxy")]
            proxies: config.proxies.clone(),
            #[cfg(feature = "http2")]
            only_http2: Mutex::default(),
        })
    }

    async fn open(&self, origin: &Origin) -> Result<Connected, FetchError> {
        let offer = self.offer(origin);
        let opened = self.open_offering(origin, offer).await;
        #[cfg(feature = "http2")]
        if let Err(error) = &opened
            && error.kind == FetchErrorKind::NoHttpVersion
            && self.version == HttpVersion::Auto
            && offer == Offer::Http1
        {
            self.only_http2().insert(origin.clone());
            return self.open_offering(origin, Offer::Http2).await;
        }
        opened
    }

    fn offer(&self, origin: &Origin) -> Offer {
        match self.version {
            #[cfg(feature = "http2")]
            HttpVersion::Auto if self.only_http2().contains(origin) => Offer::Http2,
            HttpVersion::Auto | HttpVersion::Http1 => {
                let _ = origin;
                Offer::Http1
            }
            #[cfg(feature = "http2")]
            HttpVersion::Http2 => Offer::Both,
        }
    }

    #[cfg(feature = "http2")]
    fn only_http2(&self) -> std::sync::MutexGuard<'_, HashSet<Origin>> {
        const MAX_ORIGINS: usize = 1024;
        // No invariant spans a panic: each call leaves the set whole.
        let mut origins = self.only_http2.lock().unwrap_or_else(PoisonError::into_inner);
        if origins.len() > MAX_ORIGINS {
            origins.clear();
        }
        origins
    }

    async fn open_offering(&self, origin: &Origin, offer: Offer) -> Result<Connected, FetchError> {
        #[cfg(feature = "proxy")]
        if let Some(proxy) = self.proxies.proxy_for(origin.https, &origin.host) {
            return self.open_through(proxy, origin, offer).await;
        }
        let stream = self.tcp(&origin.host, origin.port, origin).await?;
        self.speak(origin, offer, stream).await
    }

    #[cfg(feature = "proxy")]
    async fn open_through(
        &self,
        proxy: &Proxy,
        origin: &Origin,
        offer: Offer,
    ) -> Result<Connected, FetchError> {
        let name = proxy::Named(proxy);
        let stream = self.tcp(&proxy.host, proxy.port, &name).await?;
        let stream: Box<dyn Stream> = if proxy.kind == ProxyKind::Https {
            let (host, offer) = (&proxy.host, Offer::Http1);
            let secured = self.tls.handshake(Peer::Proxy, host, offer, stream).await;
            Box::new(secured.map_err(|error| tls_failed(&name, error))?)
        } else {
            Box::new(stream)
        };
        let stream = match proxy.kind {
            ProxyKind::Http | ProxyKind::Https if !origin.https => {
                let forward = proxy::forward(proxy);
                return Ok(Connected { stream, http2: false, forward: Some(forward) });
            }
            ProxyKind::Http | ProxyKind::Https => proxy::tunnel(proxy, origin, stream).await?,
            ProxyKind::Socks4a | ProxyKind::Socks5h => {
                let target = proxy::Target::Name(&origin.host, origin.port);
                proxy::socks(proxy, origin, target, stream).await?
            }
            ProxyKind::Socks4 | ProxyKind::Socks5 => {
                let family = (proxy.kind == ProxyKind::Socks4).then_some(IpFamily::V4);
                let address = self.look_up(origin, family).await?;
                let target = proxy::Target::Address(address, origin.port);
                proxy::socks(proxy, origin, target, stream).await?
            }
        };
        self.speak(origin, offer, stream).await
    }

    /// TLS, where the origin has it, over a stream that leads to the origin.
    async fn speak<S: Stream + 'static>(
        &self,
        origin: &Origin,
        offer: Offer,
        stream: S,
    ) -> Result<Connected, FetchError> {
        if !origin.https {
            #[cfg(feature = "http2")]
            let http2 = self.version == HttpVersion::Http2;
            #[cfg(not(feature = "http2"))]
            let http2 = false;
            return Ok(Connected { http2, ..Connected::http1(Box::new(stream)) });
        }
        let secured = self.tls.handshake(Peer::Origin, &origin.host, offer, stream).await;
        let stream: Secured<S> = secured.map_err(|error| tls_failed(origin, error))?;
        #[cfg(feature = "http2")]
        let http2 = super::tls::chose_http2(&stream);
        #[cfg(not(feature = "http2"))]
        let http2 = false;
        Ok(Connected { http2, ..Connected::http1(Box::new(stream)) })
    }

    /// A TCP connection to `host`, which is as URLs have it; errors name `to`.
    async fn tcp(
        &self,
        host: &str,
        port: u16,
        to: &dyn SendDisplay,
    ) -> Result<TokioIo<TcpStream>, FetchError> {
        if let Some(fixed) = self.fixed(host, port) {
            let mut failed = None;
            for address in fixed.filter(|address| self.usable(*address)) {
                match self.tcp_to(&host_of(address), port).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => failed = Some(error),
                }
            }
            return Err(match failed {
                Some(error) => FetchError::connecting(to, &*error),
                None => self.unusable(to),
            });
        }
        if literal(host).is_some_and(|address| !self.usable(address)) {
            return Err(self.unusable(to));
        }
        let stream = self.tcp_to(host, port).await;
        let stream = stream.map_err(|error| FetchError::connecting(to, &*error))?;
        let mut extensions = http::Extensions::new();
        stream.connected().get_extras(&mut extensions);
        if let Some(info) = extensions.get::<HttpInfo>() {
            self.resolver.remember(host, info.remote_addr().ip());
        }
        Ok(stream)
    }

    async fn tcp_to(
        &self,
        host: &str,
        port: u16,
    ) -> Result<TokioIo<TcpStream>, Box<dyn StdError + Send + Sync>> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(format!("{host}:{port}"))
            .path_and_query("/")
            .build()?;
        let mut http = self.http.clone();
        std::future::poll_fn(|cx| http.poll_ready(cx)).await?;
        Ok(http.call(uri).await?)
    }

    /// The address of an origin that is to be told to a proxy.
    #[cfg(feature = "proxy")]
    async fn look_up(
        &self,
        origin: &Origin,
        family: Option<IpFamily>,
    ) -> Result<IpAddr, FetchError> {
        let usable = |address: &IpAddr| {
            self.usable(*address) && family.is_none_or(|family| family.has(*address))
        };
        let found = match (self.fixed(&origin.host, origin.port), literal(&origin.host)) {
            (Some(mut fixed), _) => fixed.find(usable),
            (None, Some(address)) => Some(address).filter(usable),
            (None, None) => {
                let found = self.resolver.look_up(&origin.host).await;
                let found = found.map_err(|error| FetchError::connecting(origin, &error))?;
                found.into_iter().find(usable)
            }
        };
        found.ok_or_else(|| match family {
            Some(family) => no_address(origin, family),
            None => self.unusable(origin),
        })
    }

    /// The addresses that were given for this host and port.
    fn fixed(&self, host: &str, port: u16) -> Option<impl Iterator<Item = IpAddr>> {
        let given = self.resolve.iter().find(|given| given.host == host && given.port == port);
        given.map(|given| given.addresses.iter().copied())
    }

    fn usable(&self, address: IpAddr) -> bool {
        self.family.is_none_or(|family| family.has(address))
    }

    fn unusable(&self, to: &dyn fmt::Display) -> FetchError {
        no_address(to, self.family.unwrap_or(IpFamily::V4))
    }
}

/// A name in errors that may be held over a wait.
trait SendDisplay: fmt::Display + Sync {}

impl<T: fmt::Display + Sync> SendDisplay for T {}

fn no_address(to: &dyn fmt::Display, family: IpFamily) -> FetchError {
    FetchError {
        kind: FetchErrorKind::Connect,
        message: format!("cannot connect to {to}: it has no {family} address"),
    }
}

fn tls_failed(to: &dyn fmt::Display, error: TlsError) -> FetchError {
    match error {
        TlsError::SetUp(cause) => FetchError {
            kind: FetchErrorKind::Tls,
            message: format!("TLS for {to} cannot be set up: {cause}"),
        },
        TlsError::Handshake(error) => FetchError::connecting(to, &error),
    }
}

fn bind_to(http: &mut HttpConnector<Resolver>, name: &str) -> Result<(), Error> {
    #[cfg(any(
        target_os = "android",
        target_os = "ios",
        target_os = "linux",
        target_os = "macos",
        target_os = "solaris",
    ))]
    {
        http.set_interface(name);
        Ok(())
    }
    #[cfg(not(any(
        target_os = "android",
        target_os = "ios",
        target_os = "linux",
        target_os = "macos",
        target_os = "solaris",
    )))]
    {
        let _ = http;
        let error = Error::new(
            ErrorKind::InvalidInput,
            format!("connections cannot be bound to the interface {name:?} on this system"),
        );
        Err(error.with_hint("give an address of the interface instead of its name"))
    }
}

/// The address that a host of a URL is.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

/// An address as the host of a URL.
fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

impl Connect for Connector {
    /// Proxies and TLS included.
    ///
    /// # Errors
    /// Of any kind but [`FetchErrorKind::Reset`] and [`FetchErrorKind::Protocol`].
    fn connect<'a>(&'a self, origin: &'a Origin) -> Connecting<'a> {
        Box::pin(self.open(origin))
    }
}
