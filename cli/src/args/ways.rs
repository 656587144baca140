//! The ways to a server, and which servers are believed.

use std::path::PathBuf;

use clap::Args;
use haul_engine::{HostAddress, Interface};

use super::parsed;

/// Which servers are believed, and what is shown to them.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// Follow a redirect from https to http
    #[arg(long, hide_short_help = true)]
    pub(crate) allow_downgrade: bool,
    /// Nothing is asked for without TLS, where curl's --proto asks for that
    #[arg(long, hide = true, conflicts_with = "allow_downgrade")]
    pub(crate) https_only: bool,
    /// Trust the authorities in this PEM file only
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) cacert: Option<PathBuf>,
    /// Accept any certificate: whoever sits between can read and change everything
    #[arg(long, hide_short_help = true)]
    pub(crate) insecure: bool,
    /// Show this certificate to servers that ask for one
    ///
    /// A PEM file with the certificate, its chain, and the key unless --key has it
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// The private key of --cert, without a passphrase
    #[arg(long, hide_short_help = true, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
}

/// The way to a server.
#[derive(Debug, Args)]
pub(crate) struct WayArgs {
    /// Go through this proxy [as the environment says]
    ///
    /// http, https, socks4, socks4a, socks5 or socks5h:
    /// [SCHEME://][NAME:PASS@]HOST[:PORT]; an empty URL is none. Without it http_proxy,
    /// https_proxy, all_proxy and no_proxy of the environment count, as curl reads them
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// Where it was said, unless it was typed.
    #[arg(skip)]
    pub(crate) proxy_from: Option<String>,
    /// The proxy of http URLs alone, where aria2's words ask for one
    #[arg(long, hide = true, value_name = "URL")]
    pub(crate) http_proxy: Option<String>,
    /// The same of https URLs
    #[arg(long, hide = true, value_name = "URL")]
    pub(crate) https_proxy: Option<String>,
    /// Hosts that are asked without the proxy
    ///
    /// With commas between; a name means its subdomains too, `*` everything
    #[arg(long, hide_short_help = true, value_name = "HOSTS", alias = "noproxy")]
    pub(crate) no_proxy: Option<String>,
    /// Connect from this network interface or address
    #[arg(long, hide_short_help = true, value_name = "NAME|IP", value_parser = parsed::<Interface>)]
    pub(crate) interface: Option<Interface>,
    /// IPv4 only
    #[arg(short = '4', long, hide_short_help = true, overrides_with = "ipv6")]
    pub(crate) ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long, hide_short_help = true, overrides_with = "ipv4")]
    pub(crate) ipv6: bool,
    /// Connect to ADDR instead of what HOST is looked up as (repeatable)
    #[arg(
        long,
        hide_short_help = true,
        value_name = "HOST:PORT:ADDR",
        value_parser = parsed::<HostAddress>
    )]
    pub(crate) resolve: Vec<HostAddress>,
    /// Speak HTTP/1.1 only
    #[arg(long = "http1.1", hide_short_help = true, overrides_with = "http2")]
    pub(crate) http1: bool,
    /// Speak HTTP/2, where the server can; without TLS it must
    ///
    /// Not the default: one HTTP/1.1 connection for each part of a large object is faster
    #[arg(long, hide_short_help = true, overrides_with = "http1")]
    pub(crate) http2: bool,
}
