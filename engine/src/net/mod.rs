//! Everything that goes over the network: from a URL to the bytes of a response.

mod causes;
mod certificate;
pub(crate) mod connect;
pub(crate) mod connector;
mod dial;
pub(crate) mod digest_login;
pub(crate) mod document;
pub(crate) mod failures;
pub(crate) mod fetcher;
mod heads;
pub(crate) mod hosts;
pub(crate) mod http;
pub(crate) mod limiter;
pub(crate) mod pool;
#[cfg(feature = "proxy")]
mod proxies;
#[cfg(feature = "proxy")]
mod proxy;
mod resolver;
mod tls;
mod tls_words;
pub(crate) mod transport;
pub(crate) mod url_proof;
pub(crate) mod vitals;
pub(crate) mod whole;
