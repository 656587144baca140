//! Name lookup that puts the address that answered last first.
//!
//! There are two reasons. Servers behind one name may have tags of their own, and a
//! download wants all its ranges from one of them. And a name may have dead
//! addresses: the cost of finding a live one is paid once, not by each connection.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service as _;

use crate::lock::Lock;
use crate::model::config::IpFamily;

/// How many names are remembered; all are forgotten beyond that.
const MAX_NAMES: usize = 1024;

/// The system's lookup, with the address that answered last put first.
#[derive(Debug)]
pub(super) struct Resolver {
    system: GaiResolver,
    answered: Lock<HashMap<String, IpAddr>>,
}

/// Why a host has no address to go to.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAddress {
    /// The name does not exist, according to the lookup, whose error this is.
    #[error("there is no host of this name")]
    NoSuchHost(Option<io::Error>),
    /// The host has no address of this family.
    #[error("it has no {0} address")]
    OfFamily(IpFamily),
    /// No name server could be asked, or none has an answer for now.
    #[error("its name cannot be looked up: {}", words(.0))]
    ForNow(io::Error),
}

/// The system's message for a failed lookup, without the prefix that all of them share.
fn words(error: &io::Error) -> String {
    let words = error.to_string();
    let layer = "failed to lookup address information: ";
    words.strip_prefix(layer).unwrap_or(&words).to_owned()
}

/// What the systems' libraries say of a name that does not exist or has no address. The standard
/// library passes on their words but not their codes; the words are never translated, since no
/// locale is set.
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
        Self { system: GaiResolver::new(), answered: Lock::default() }
    }

    /// The addresses of a name, written as in URLs.
    ///
    /// # Errors
    /// When it is not found.
    pub(super) async fn look_up(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, NoAddress> {
        let name = host.parse::<Name>().map_err(|_| NoAddress::NoSuchHost(None))?;
        let found = self.system.clone().call(name).await.map_err(why)?;
        let found = found.map(|mut address| {
            address.set_port(port);
            address
        });
        Ok(with_first(found.collect(), self.last(host)))
    }

    /// Remembers that a connection to `host` was made at this address.
    pub(super) fn remember(&self, host: &str, address: IpAddr) {
        let mut answered = self.answered.lock();
        if answered.len() >= MAX_NAMES {
            answered.clear();
        }
        answered.insert(host.to_owned(), address);
    }

    fn last(&self, host: &str) -> Option<IpAddr> {
        self.answered.lock().get(host).copied()
    }
}

/// What a lookup's error says about the name.
fn why(error: io::Error) -> NoAddress {
    let words = error.to_string();
    if NO_SUCH_HOST.iter().any(|said| words.contains(said)) {
        return NoAddress::NoSuchHost(Some(error));
    }
    NoAddress::ForNow(error)
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
        assert!(resolver.answered.lock().len() <= MAX_NAMES);
    }

    #[test]
    fn a_name_that_does_not_exist_is_told_from_a_lookup_that_failed() {
        let said = |words: &str| {
            why(io::Error::other(format!("failed to lookup address information: {words}")))
        };
        for words in [
            "Name or service not known",
            "No address associated with hostname",
            "nodename nor servname provided, or not known",
            "Name does not resolve",
        ] {
            assert!(matches!(said(words), NoAddress::NoSuchHost(Some(_))), "{words}");
        }
        for words in ["Temporary failure in name resolution", "Try again", "System error"] {
            let none = said(words);
            assert!(matches!(none, NoAddress::ForNow(_)), "{words}");
            assert_eq!(none.to_string(), format!("its name cannot be looked up: {words}"));
        }
    }
}
