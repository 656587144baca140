//! How connections are made: from where, to which address, and what is spoken.

use core::net::IpAddr;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Host;

use crate::model::error::{Error, ErrorKind};

/// Which addresses of a name are used.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpFamily {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl IpFamily {
    pub(crate) fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Where connections start, parsed from the name of a network interface or an
/// IP address of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Interface {
    /// A network interface by its name. Not on every system.
    Name(String),
    /// A local address; connections are then made to its family only.
    Address(IpAddr),
}

impl FromStr for Interface {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(address) = text.trim_matches(['[', ']']).parse() {
            return Ok(Self::Address(address));
        }
        // Linux limits names to 15 bytes; no system has names like these.
        if text.is_empty() || text.contains(['/', '\0']) || text.contains(char::is_whitespace) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{text:?} is no network interface and no IP address"),
            )
            .with_hint("write a name such as eth0, or an address of this machine"));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// The addresses of one host and port instead of what a lookup says, parsed
/// from `HOST:PORT:ADDR`, with further addresses after commas. TLS and `Host`
/// keep the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) addresses: Vec<IpAddr>,
}

impl FromStr for HostAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| {
            Error::new(ErrorKind::InvalidInput, format!("{text:?} resolves nothing: {why}"))
                .with_hint("write HOST:PORT:ADDR, such as example.org:443:192.0.2.1")
        };
        // The host may be an IPv6 address in brackets, with colons of its own.
        let host_end = match text.strip_prefix('[').and_then(|rest| rest.find(']')) {
            Some(bracket) => bracket + 2,
            None => text.find(':').ok_or_else(|| invalid("it has no `:`"))?,
        };
        let (host, rest) = text.split_at(host_end);
        let (port, addresses) = rest
            .strip_prefix(':')
            .and_then(|rest| rest.split_once(':'))
            .ok_or_else(|| invalid("a port and an address must follow the host"))?;
        let host = Host::parse(host).map_err(|error| invalid(&error.to_string()))?.to_string();
        let port = port.parse().map_err(|_| invalid("the port is no number up to 65535"))?;
        let addresses = addresses
            .split(',')
            .map(|address| address.trim_matches(['[', ']']).parse())
            .collect::<Result<Vec<IpAddr>, _>>()
            .map_err(|_| invalid("the address is no IP address"))?;
        Ok(Self { host, port, addresses })
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.host, self.port)?;
        for (place, address) in self.addresses.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{address}")?;
        }
        Ok(())
    }
}

/// The client's identity in TLS: PEM files with a certificate (and its chain)
/// and its private key. Shown to every server that asks for one; the key never
/// leaves the machine.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, then those that lead to an authority.
    pub certificates: PathBuf,
    /// The private key, without a passphrase; may be the same file.
    pub key: PathBuf,
}

/// Which version of HTTP is spoken.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum HttpVersion {
    /// HTTP/1.1, but HTTP/2 with servers that refuse TLS without it, and for small
    /// objects where several downloads run at a time and the server offers it in
    /// TLS. HTTP/1.1 is faster for large objects: each connection has its own
    /// congestion window, which HTTP/2 streams on one connection share.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2: offered in TLS, with HTTP/1.1 for servers that lack it, and
    /// spoken unasked in the clear (RFC 9113 section 3.3), except to an HTTP
    /// proxy, which gets HTTP/1.1.
    #[cfg(feature = "http2")]
    Http2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_names_or_addresses() {
        assert_eq!("eth0".parse::<Interface>().unwrap(), Interface::Name("eth0".into()));
        for text in ["127.0.0.1", "::1", "[::1]"] {
            let parsed = text.parse::<Interface>().unwrap();
            assert!(matches!(parsed, Interface::Address(_)), "{text}");
        }
        for text in ["", "a b", "eth0/1"] {
            let error = text.parse::<Interface>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn addresses_of_hosts_are_read() {
        let parsed = |text: &str| text.parse::<HostAddress>();
        let one = parsed("Example.ORG:443:192.0.2.1").unwrap();
        assert_eq!((one.host.as_str(), one.port), ("example.org", 443));
        assert_eq!(one.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        let two = parsed("[::1]:80:[::2],127.0.0.1").unwrap();
        assert_eq!((two.host.as_str(), two.addresses.len()), ("[::1]", 2));
        for bad in ["", "host", "host:80", "host:http:127.0.0.1", "host:80:", "host:80:name"] {
            let error = parsed(bad).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
            assert!(error.hint().is_some());
        }
    }
}
