//! TCP: the addresses of a host, tried until one answers (RFC 8305).

use std::error::Error as StdError;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tower_service::Service;

use super::causes::{cause_text, chain};
use crate::model::config::{EngineConfig, Interface};
use crate::model::error::{Error, ErrorKind};
use crate::os;

/// A peer that acknowledges nothing for this long is gone, whatever it was asked for.
const PATH_IS_GONE: Duration = Duration::from_secs(30);

/// How long the first address family is tried alone before the other one joins in.
const HEAD_START: Duration = Duration::from_millis(300);

/// Opens TCP connections according to the engine's settings.
#[derive(Debug)]
pub(super) struct Dialer {
    connect_timeout: Duration,
    interface: Option<Interface>,
}

/// An address that did not answer.
#[derive(Debug)]
pub(super) struct Tried {
    address: SocketAddr,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Silent(Duration),
    Failed(Box<dyn StdError + Send + Sync>),
}

/// A connection, and the address at its other end.
pub(super) type Dialed = (TokioIo<TcpStream>, SocketAddr);

impl Dialer {
    /// # Errors
    /// [`ErrorKind::InvalidInput`] where connections cannot be bound to an interface by
    /// its name.
    pub(super) fn new(config: &EngineConfig) -> Result<Self, Error> {
        if let Some(Interface::Name(name)) = &config.interface
            && !os::net::has_named_interfaces()
        {
            let error = Error::new(
                ErrorKind::InvalidInput,
                format!("connections cannot be bound to the interface {name:?} on this system"),
            );
            return Err(error.with_hint("give an address of the interface instead of its name"));
        }
        Ok(Self { connect_timeout: config.connect_timeout, interface: config.interface.clone() })
    }

    /// Connects to the first of these addresses that answers. Those of the other family than the
    /// first one's join in after a moment, or once the first family has failed.
    ///
    /// # Errors
    /// All addresses, with the reason why each did not answer.
    pub(super) async fn dial(&self, addresses: Vec<SocketAddr>) -> Result<Dialed, Vec<Tried>> {
        let share = self.connect_timeout / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        let is_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (first, other): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|address| address.is_ipv6() == is_first);
        let first = self.one_by_one(first, share);
        if other.is_empty() {
            return first.await;
        }
        tokio::pin!(first);
        let early = tokio::select! {
            biased;
            ended = &mut first => Some(ended),
            () = sleep(HEAD_START) => None,
        };
        let other = self.one_by_one(other, share);
        match early {
            Some(Ok(dialed)) => Ok(dialed),
            Some(Err(tried)) => or(tried, other.await),
            None => {
                tokio::pin!(other);
                let (ended, left) = tokio::select! {
                    ended = &mut first => (ended, other),
                    ended = &mut other => (ended, first),
                };
                match ended {
                    Ok(dialed) => Ok(dialed),
                    Err(tried) => or(tried, left.await),
                }
            }
        }
    }

    async fn one_by_one(
        &self,
        addresses: Vec<SocketAddr>,
        share: Duration,
    ) -> Result<Dialed, Vec<Tried>> {
        let mut tried = Vec::new();
        for address in addresses {
            let why = match timeout(share, self.open(address)).await {
                Ok(Ok(stream)) => return Ok((stream, address)),
                Ok(Err(error)) => Why::Failed(error),
                Err(_) => Why::Silent(share),
            };
            let failed = Tried { address, why };
            tracing::debug!(%address, why = failed.words(), "no connection");
            tried.push(failed);
        }
        Err(tried)
    }

    async fn open(
        &self,
        address: SocketAddr,
    ) -> Result<TokioIo<TcpStream>, Box<dyn StdError + Send + Sync>> {
        let mut http = HttpConnector::new_with_resolver(One(address));
        http.enforce_http(false);
        http.set_nodelay(true);
        // The wait for a first byte is much longer than it takes to notice that a path is gone.
        http.set_keepalive(Some(PATH_IS_GONE / 2));
        os::net::fail_unacknowledged(&mut http, PATH_IS_GONE);
        match &self.interface {
            None => {}
            Some(Interface::Address(address)) => http.set_local_address(Some(*address)),
            Some(Interface::Name(name)) => {
                os::net::leave_by(&mut http, name);
            }
        }
        // The name stands in for the address, which a URI cannot hold with its scope.
        let uri = Uri::builder()
            .scheme("http")
            .authority(format!("address:{}", address.port()))
            .path_and_query("/")
            .build()?;
        std::future::poll_fn(|cx| http.poll_ready(cx)).await?;
        Ok(http.call(uri).await?)
    }
}

fn or(mut tried: Vec<Tried>, other: Result<Dialed, Vec<Tried>>) -> Result<Dialed, Vec<Tried>> {
    other.map_err(|more| {
        tried.extend(more);
        tried
    })
}

impl Tried {
    /// Why it did not answer, in a few words.
    pub(super) fn words(&self) -> String {
        match &self.why {
            Why::Silent(time) => format!("no answer within {} s", time.as_secs_f64().ceil()),
            Why::Failed(error) => match self.error_kind() {
                Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
                Some(io::ErrorKind::NetworkUnreachable) => "the network is unreachable".to_owned(),
                Some(io::ErrorKind::HostUnreachable) => "no route to the host".to_owned(),
                Some(io::ErrorKind::TimedOut) => "no answer".to_owned(),
                _ => cause_text(&**error),
            },
        }
    }

    /// Whether it took too long to answer.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.why, Why::Silent(_)) || self.error_kind() == Some(io::ErrorKind::TimedOut)
    }

    /// The address and why it did not answer.
    pub(super) fn line(&self) -> String {
        format!("{}: {}", self.address, self.words())
    }

    /// Whether another try will most likely end the same way.
    pub(super) fn is_hopeless(&self) -> bool {
        matches!(
            self.error_kind(),
            Some(
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::AddrNotAvailable
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::InvalidInput
            )
        )
    }

    /// The underlying error; `None` if the address was silent.
    pub(super) fn into_error(self) -> Option<Box<dyn StdError + Send + Sync>> {
        match self.why {
            Why::Silent(_) => None,
            Why::Failed(error) => Some(error),
        }
    }

    /// Whether the address answered that nobody is listening.
    pub(super) fn is_refused(&self) -> bool {
        self.error_kind() == Some(io::ErrorKind::ConnectionRefused)
    }

    fn error_kind(&self) -> Option<io::ErrorKind> {
        let Why::Failed(error) = &self.why else { return None };
        let system = chain(&**error).filter_map(|error| error.downcast_ref::<io::Error>());
        system.map(io::Error::kind).last()
    }
}

/// A name lookup with a fixed answer.
#[derive(Debug, Clone, Copy)]
struct One(SocketAddr);

impl Service<Name> for One {
    type Response = std::iter::Once<SocketAddr>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(std::iter::once(self.0)))
    }
}
