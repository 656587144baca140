//! The transport of the network: name lookup, TCP, proxies and TLS.

#[cfg(feature = "http2")]
use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::connect::{Connect, Connected, Connecting, Origin, Stream};
use super::dial::Dialer;
#[cfg(feature = "http2")]
use super::failures::FetchErrorKind;
use super::failures::{FetchError, tls_failed};
#[cfg(feature = "proxy")]
use super::proxies::{or_of_system, proxy_for};
#[cfg(feature = "proxy")]
use super::proxy;
use super::resolver::{NoAddress, Resolver};
use super::tls::{Offer, Peer, Secured, Tls};
use super::transport::Lane;
use super::vitals::Watched;
#[cfg(feature = "http2")]
use crate::lock::Lock;
use crate::model::config::{EngineConfig, HostAddress, HttpVersion, Interface, IpFamily};
#[cfg(feature = "proxy")]
use crate::model::config::{Proxies, Proxy, ProxyKind};
use crate::model::error::{Error, ErrorKind};

/// Makes connections according to the engine's settings.
#[derive(Debug)]
pub(crate) struct Connector {
    dialer: Dialer,
    resolver: Resolver,
    resolve: Vec<HostAddress>,
    family: Option<IpFamily>,
    tls: Tls,
    version: HttpVersion,
    #[cfg(feature = "proxy")]
    proxies: Proxies,
    /// Origins that refused HTTP/1.1 inside TLS.
    #[cfg(feature = "http2")]
    only_http2: Lock<HashSet<Origin>>,
}

impl Connector {
    /// Creates a connector, which has opened nothing but the files that `config` names.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when one of those files cannot be read or lacks
    /// what it should hold, or when the interface contradicts the address family.
    pub(crate) fn new(config: &EngineConfig) -> Result<Self, Error> {
        let mut family = config.ip_family;
        if let Some(Interface::Address(address)) = config.interface {
            if family.is_some_and(|family| !family.has(address)) {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("no connection starts at {address} with the other family of addresses"),
                ));
            }
            // A connection of the other family could not be bound there, and would start anywhere.
            family = Some(if address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 });
        }
        Ok(Self {
            dialer: Dialer::new(config)?,
            resolver: Resolver::new(),
            resolve: config.resolve.clone(),
            family,
            tls: Tls::new(config)?,
            version: config.http_version,
            #[cfg(feature = "proxy")]
            proxies: or_of_system(config.proxies.clone()),
            #[cfg(feature = "http2")]
            only_http2: Lock::default(),
        })
    }

    async fn open(&self, origin: &Origin, lane: Lane) -> Result<Connected, FetchError> {
        let offer = self.offer(origin, lane);
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

    fn offer(&self, origin: &Origin, lane: Lane) -> Offer {
        match self.version {
            #[cfg(feature = "http2")]
            HttpVersion::Auto if self.only_http2().contains(origin) => Offer::Http2,
            #[cfg(feature = "http2")]
            HttpVersion::Auto if lane == Lane::Small => Offer::Both,
            HttpVersion::Auto | HttpVersion::Http1 => {
                let _ = (origin, lane);
                Offer::Http1
            }
            #[cfg(feature = "http2")]
            HttpVersion::Http2 => Offer::Both,
        }
    }

    #[cfg(feature = "http2")]
    fn only_http2(&self) -> std::sync::MutexGuard<'_, HashSet<Origin>> {
        const MAX_ORIGINS: usize = 1024;
        let mut origins = self.only_http2.lock();
        if origins.len() > MAX_ORIGINS {
            origins.clear();
        }
        origins
    }

    async fn open_offering(&self, origin: &Origin, offer: Offer) -> Result<Connected, FetchError> {
        #[cfg(feature = "proxy")]
        if let Some(proxy) = proxy_for(&self.proxies, origin.https, &origin.host) {
            return self.open_through(proxy, origin, offer).await;
        }
        let connecting = self.tcp(&origin.host, origin.port, origin);
        let stream = self.beside_tls(origin, connecting).await?;
        let vitals = Some(stream.vitals());
        Ok(Connected { vitals, ..self.speak(origin, offer, stream).await? })
    }

    /// Connects, while TLS is made ready if `origin` has it.
    async fn beside_tls<T>(
        &self,
        origin: &Origin,
        connecting: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        if !origin.https {
            return connecting.await;
        }
        let ready = async {
            self.tls.prepare().await;
            Ok(())
        };
        tokio::try_join!(connecting, ready).map(|(connected, ())| connected)
    }

    #[cfg(feature = "proxy")]
    async fn open_through(
        &self,
        proxy: &Proxy,
        origin: &Origin,
        offer: Offer,
    ) -> Result<Connected, FetchError> {
        let name = proxy::Named(proxy);
        let connecting = self.tcp(&proxy.host, proxy.port, &name);
        let stream = self.beside_tls(origin, connecting).await;
        let stream = stream.map_err(|error| error.with_hint(proxy::unusable_hint(proxy)))?;
        let vitals = Some(stream.vitals());
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
                return Ok(Connected { stream, http2: false, forward: Some(forward), vitals });
            }
            ProxyKind::Http | ProxyKind::Https => proxy::tunnel(proxy, origin, stream).await?,
            ProxyKind::Socks4a | ProxyKind::Socks5h => {
                let target = proxy::Endpoint::Name(&origin.host, origin.port);
                proxy::socks(proxy, origin, target, stream).await?
            }
            ProxyKind::Socks4 | ProxyKind::Socks5 => {
                let family = (proxy.kind == ProxyKind::Socks4).then_some(IpFamily::V4);
                let address = self.look_up(origin, family).await?;
                let target = proxy::Endpoint::Address(address, origin.port);
                proxy::socks(proxy, origin, target, stream).await?
            }
        };
        Ok(Connected { vitals, ..self.speak(origin, offer, stream).await? })
    }

    /// Adds TLS, where the origin has it, to a stream that leads to the origin.
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

    /// A TCP connection to `host`, written as in URLs; errors name `to`.
    async fn tcp(
        &self,
        host: &str,
        port: u16,
        to: &dyn SendDisplay,
    ) -> Result<Watched, FetchError> {
        let addresses = self.addresses(host, port).await;
        let addresses = addresses.map_err(|none| FetchError::no_address(to, host, none))?;
        match self.dialer.dial(addresses).await {
            Ok((stream, address)) => {
                self.resolver.remember(host, address.ip());
                Ok(Watched::new(stream))
            }
            Err(tried) => Err(FetchError::no_answer(to, tried)),
        }
    }

    /// The address of an origin, to be passed to a proxy.
    #[cfg(feature = "proxy")]
    async fn look_up(
        &self,
        origin: &Origin,
        family: Option<IpFamily>,
    ) -> Result<IpAddr, FetchError> {
        let host = &origin.host;
        let none = |none: NoAddress| FetchError::no_address(origin, host, none);
        let found = self.addresses(host, origin.port).await.map_err(none)?;
        let fits = |address: &IpAddr| family.is_none_or(|family| family.has(*address));
        let found = found.into_iter().map(|address| address.ip()).find(fits);
        found.ok_or_else(|| none(NoAddress::OfFamily(family.unwrap_or(IpFamily::V4))))
    }

    /// The addresses of a host that may be used: those configured for it, the host
    /// itself where it is an address, else the result of a lookup.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, NoAddress> {
        let mut found = match (self.fixed(host, port), literal(host)) {
            (Some(fixed), _) => fixed.map(|address| SocketAddr::new(address, port)).collect(),
            (None, Some(address)) => vec![SocketAddr::new(address, port)],
            (None, None) => self.resolver.look_up(host, port).await?,
        };
        let usable = |address: IpAddr| self.family.is_none_or(|family| family.has(address));
        found.retain(|address| usable(address.ip()));
        if found.is_empty() {
            return Err(NoAddress::OfFamily(self.family.unwrap_or(IpFamily::V4)));
        }
        Ok(found)
    }

    /// The addresses configured for this host and port.
    fn fixed(&self, host: &str, port: u16) -> Option<impl Iterator<Item = IpAddr>> {
        let given = self.resolve.iter().find(|given| given.host == host && given.port == port);
        given.map(|given| given.addresses.iter().copied())
    }
}

/// A name for errors that may be held across an await.
trait SendDisplay: fmt::Display + Sync {}

impl<T: fmt::Display + Sync> SendDisplay for T {}

/// The address that a URL's host is, if it is one.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

impl Connect for Connector {
    /// Includes proxies and TLS.
    ///
    /// # Errors
    /// Of any kind but [`FetchErrorKind::Reset`] and [`FetchErrorKind::Protocol`].
    fn connect<'a>(&'a self, origin: &'a Origin, lane: Lane) -> Connecting<'a> {
        Box::pin(self.open(origin, lane))
    }
}
