//! The way to a server, and which servers are trusted.

use std::path::PathBuf;

use clap::Args;
use haul_engine::{HostAddress, Interface};

use super::parsed;

/// Which servers are trusted, and what they are shown.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// Follow redirects from https to http
    #[arg(long, hide_short_help = true)]
    pub(crate) allow_downgrade: bool,
    /// Request nothing without TLS; curl's --proto sets this
    #[arg(long, hide = true, conflicts_with = "allow_downgrade")]
    pub(crate) https_only: bool,
    /// Trust only the authorities in this PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) cacert: Option<PathBuf>,
    /// Accept any certificate: anyone on the path can read and change everything
    #[arg(long, hide_short_help = true)]
    pub(crate) insecure: bool,
    /// Present this certificate to servers that ask for one
    ///
    /// FILE is a PEM file with the certificate, its chain, and the key unless --key gives it.
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Use this private key for --cert; it must have no passphrase
    #[arg(long, hide_short_help = true, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
}

/// The way to a server.
#[derive(Debug, Args)]
pub(crate) struct WayArgs {
    /// Go through this proxy [as the environment says]
    ///
    /// The schemes are http, https, socks4, socks4a, socks5 and socks5h:
    /// [SCHEME://][NAME:PASS@]HOST[:PORT]. An empty URL means no proxy. Without this flag,
    /// http_proxy, https_proxy, all_proxy and no_proxy in the environment apply, as they do in
    /// curl.
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// Where the proxy was set, unless it was typed.
    #[arg(skip)]
    pub(crate) proxy_from: Option<String>,
    /// The proxy for http URLs alone, which aria2's options can set
    #[arg(long, hide = true, value_name = "URL")]
    pub(crate) http_proxy: Option<String>,
    /// The proxy for https URLs alone, which aria2's options can set
    #[arg(long, hide = true, value_name = "URL")]
    pub(crate) https_proxy: Option<String>,
    /// Connect to these hosts without the proxy
    ///
    /// The hosts are separated by commas. A name includes its subdomains, and `*` is every host.
    #[arg(long, hide_short_help = true, value_name = "HOSTS", alias = "noproxy")]
    pub(crate) no_proxy: Option<String>,
    /// Connect from this network interface or address
    #[arg(long, hide_short_help = true, value_name = "NAME|IP", value_parser = parsed::<Interface>)]
    pub(crate) interface: Option<Interface>,
    /// Use IPv4 only
    #[arg(short = '4', long, hide_short_help = true, overrides_with = "ipv6")]
    pub(crate) ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long, hide_short_help = true, overrides_with = "ipv4")]
    pub(crate) ipv6: bool,
    /// Connect to ADDR instead of looking up HOST (repeatable)
    #[arg(
        long,
        hide_short_help = true,
        value_name = "HOST:PORT:ADDR",
        value_parser = parsed::<HostAddress>
    )]
    pub(crate) resolve: Vec<HostAddress>,
    /// Use HTTP/1.1 only
    #[arg(long = "http1.1", hide_short_help = true, overrides_with = "http2")]
    pub(crate) http1: bool,
    /// Use HTTP/2 where the server can; without TLS it must
    ///
    /// By default HTTP/2 is used where several small files are downloaded over TLS. For a large
    /// one, a connection of HTTP/1.1 for each part is faster.
    #[arg(long, hide_short_help = true, overrides_with = "http1")]
    pub(crate) http2: bool,
}
