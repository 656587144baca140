//! Name lookup that comes back to the address that answered last.
//!
//! Two reasons. Servers behind one name may have tags of their own, and a
//! download wants all its ranges from one of them. And a name may have dead
//! addresses: what it costs to find the live one is paid once, not by each
//! connection.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service as _;

use crate::model::config::IpFamily;

/// So many names are remembered; all are forgotten beyond it.
const MAX_NAMES: usize = 1024;

/// The system's lookup, with the address that answered last put first.
#[derive(Debug)]
pub(super) struct Resolver {
    system: GaiResolver,
    answered: Mutex<HashMap<String, IpAddr>>,
}

/// Why a host has no address to go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAddress {
    /// The name does not exist, for all that those say who would know.
    NoSuchHost,
    /// None of this family.
    OfFamily(IpFamily),
    /// Nobody could be asked, or none of them knew for now.
    ForNow(String),
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchHost => f.write_str("there is no host of this name"),
            Self::OfFamily(family) => write!(f, "it has no {family} address"),
            Self::ForNow(why) => write!(f, "its name cannot be looked up: {why}"),
        }
    }
}

/// What the systems' libraries say of a name that does not exist, or has no address. The
/// standard library passes their words on, and not their codes; they are never translated,
/// since no locale is set.
const NO_SUCH_HOST: [&str; 7] = [
    "Name or service not known",
    "No address associated with",
    "nodename nor servname",
    "hostname nor servname",
    "Name does not resolve",
    "Name has no usable address",
    "No such host is known",
];

impl Resolver {
    pub(super) fn new() -> Self {
        Self { system: GaiResolver::new(), answered: Mutex::default() }
    }

    /// The addresses of a name, as the host of a URL has it.
    ///
    /// # Errors
    /// When it is not found.
    pub(super) async fn look_up(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, NoAddress> {
        let name = host.parse::<Name>().map_err(|_| NoAddress::NoSuchHost)?;
        let found =
            self.system.clone().call(name).await.map_err(|error| why(&error.to_string()))?;
        let found = found.map(|mut address| {
            address.set_port(port);
            address
        });
        Ok(with_first(found.collect(), self.last(host)))
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

/// What a lookup that failed with these words says of the name.
fn why(words: &str) -> NoAddress {
    if NO_SUCH_HOST.iter().any(|said| words.contains(said)) {
        return NoAddress::NoSuchHost;
    }
    let layer = "failed to lookup address information: ";
    NoAddress::ForNow(words.strip_prefix(layer).unwrap_or(words).to_owned())
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
        let resolver = Resolver::new();
        let address: IpAddr = "192.0.2.2".parse().unwrap();
        resolver.remember("example.org", address);
        assert_eq!(resolver.last("example.org"), Some(address));
        for number in 0..MAX_NAMES {
            resolver.remember(&format!("host{number}"), address);
        }
        assert_eq!(resolver.last("example.org"), None);
        assert!(resolver.answered.lock().unwrap().len() <= MAX_NAMES);
    }

    #[test]
    fn a_name_that_does_not_exist_is_told_from_a_lookup_that_failed() {
        let said = |words: &str| why(&format!("failed to lookup address information: {words}"));
        for words in [
            "Name or service not known",
            "No address associated with hostname",
            "nodename nor servname provided, or not known",
            "Name does not resolve",
        ] {
            assert_eq!(said(words), NoAddress::NoSuchHost, "{words}");
        }
        for words in ["Temporary failure in name resolution", "Try again", "System error"] {
            assert_eq!(said(words), NoAddress::ForNow(words.to_owned()));
        }
    }
}
