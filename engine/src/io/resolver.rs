//! Name lookup that comes back to the address that answered last.
//!
//! Two reasons. Servers behind one name may have tags of their own, and a
//! download wants all its ranges from one of them. And a name may have dead
//! addresses: what it costs to find the live one is paid once, not by each
//! connection.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

use crate::config::IpFamily;

/// So many names are remembered; all are forgotten beyond it.
const MAX_NAMES: usize = 1024;

/// The system's lookup, with the address that answered last put first, and
/// only those of the family that is asked for.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    system: GaiResolver,
    family: Option<IpFamily>,
    answered: Arc<Mutex<HashMap<String, IpAddr>>>,
}

impl Resolver {
    pub(super) fn new(family: Option<IpFamily>) -> Self {
        Self { system: GaiResolver::new(), family, answered: Arc::default() }
    }

    /// The addresses of a name.
    ///
    /// # Errors
    /// When the name is none, or is not found.
    #[cfg(feature = "proxy")]
    pub(super) async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let name = host.parse::<Name>().map_err(io::Error::other)?;
        let found = self.clone().call(name).await?;
        Ok(found.map(|address| address.ip()).collect())
    }

    /// A connection to `host` was made at this address.
    pub(super) fn remember(&self, host: &str, address: IpAddr) {
        // No invariant spans a panic: each call leaves the map whole.
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.len() >= MAX_NAMES {
            answered.clear();
        }
        answered.insert(host.to_owned(), address);
    }

    fn last(&self, host: &str) -> Option<IpAddr> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied()
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let last = self.last(name.as_str());
        let found = self.system.call(name);
        let family = self.family;
        Box::pin(async move {
            let mut found: Vec<SocketAddr> = found.await?.collect();
            if let Some(family) = family {
                found.retain(|address| family.has(address.ip()));
                if found.is_empty() {
                    return Err(io::Error::other(format!("it has no {family} address")));
                }
            }
            Ok(with_first(found, last).into_iter())
        })
    }
}

/// The addresses in their order, but `first` before the others if it is there.
fn with_first(mut addresses: Vec<SocketAddr>, first: Option<IpAddr>) -> Vec<SocketAddr> {
    addresses.sort_by_key(|address| Some(address.ip()) != first);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_that_answered_comes_first_and_the_others_keep_their_order() {
        let all = |text: [&str; 3]| text.map(|a| SocketAddr::new(a.parse().unwrap(), 0)).to_vec();
        let found = all(["2001:db8::1", "192.0.2.1", "192.0.2.2"]);
        assert_eq!(with_first(found.clone(), None), found);
        assert_eq!(with_first(found.clone(), "192.0.2.9".parse().ok()), found);
        let expected = all(["192.0.2.2", "2001:db8::1", "192.0.2.1"]);
        assert_eq!(with_first(found, "192.0.2.2".parse().ok()), expected);
    }

    #[test]
    fn names_are_remembered_and_bounded() {
        let resolver = Resolver::new(None);
        let address: IpAddr = "192.0.2.2".parse().unwrap();
        resolver.remember("example.org", address);
        assert_eq!(resolver.clone().last("example.org"), Some(address));
        for number in 0..MAX_NAMES {
            resolver.remember(&format!("host{number}"), address);
        }
        assert_eq!(resolver.last("example.org"), None);
        assert!(resolver.answered.lock().unwrap().len() <= MAX_NAMES);
    }
}
