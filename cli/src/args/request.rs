//! How requests look, who sends them and how patiently; `bench` has these flags too.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::ways::{TrustArgs, WayArgs};
use crate::units;

/// The shape of the requests.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// Add a request header (repeatable)
    ///
    /// @FILE adds the headers in FILE, one per line.
    #[arg(short = 'H', long = "header", value_name = "'K: V'")]
    pub(crate) headers: Vec<String>,
    /// Send this User-Agent [haul/VERSION]
    ///
    /// Also spelled -U.
    #[arg(short = 'A', long, short_alias = 'U', value_name = "NAME")]
    pub(crate) user_agent: Option<String>,
    /// Send this Referer; `*` is each URL itself
    #[arg(short = 'e', long, value_name = "URL")]
    pub(crate) referer: Option<String>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
    #[command(flatten)]
    pub(crate) patience: PatienceArgs,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    #[command(flatten)]
    pub(crate) ways: WayArgs,
}

/// Who is asking.
#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    /// Send a Basic login, to the URL's origin only
    #[arg(short, long, value_name = "NAME:PASS")]
    pub(crate) user: Option<String>,
    /// Send this bearer token, to the URL's origin only
    #[arg(long, hide_short_help = true, value_name = "TOKEN", conflicts_with = "user")]
    pub(crate) bearer: Option<String>,
    /// Read logins from $NETRC, else ~/.netrc
    ///
    /// Each login is sent only to its own host, even after redirects, and `default` only to the
    /// URL's host.
    #[arg(short, long)]
    pub(crate) netrc: bool,
    /// Read logins from FILE, in netrc's format
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) netrc_file: Option<PathBuf>,
    /// Send the cookies in FILE (Netscape's format), or these cookies
    ///
    /// Each cookie is sent to the host, path and scheme that it is for. Cookies that servers set
    /// meanwhile are honoured, and FILE is not changed. A value like 'NAME=VALUE; NAME=VALUE' that
    /// names no file is sent to the URL's own origin. Also spelled --cookies.
    #[arg(short = 'b', long, alias = "cookies", hide_short_help = true, value_name = "FILE")]
    pub(crate) load_cookies: Option<PathBuf>,
}

/// What is retried, and for how long.
#[derive(Debug, Args)]
pub(crate) struct PatienceArgs {
    /// Retry up to N rounds without progress [10]
    ///
    /// The waits double from 1 s to 30 s, and a new byte resets the count. By default, a download
    /// that has received nothing is tried only once more if the name does not exist, the connection
    /// is refused or the server speaks another protocol. With this flag such failures are retried N
    /// times as well, because the server may yet come up. Also spelled --tries.
    #[arg(short = 't', long, alias = "tries", value_name = "N", value_parser = units::parse_number)]
    pub(crate) retry: Option<u32>,
    /// Start no round of retrying after TIME without progress
    ///
    /// The exit code is that of the last failure.
    #[arg(long, hide_short_help = true, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) retry_max_time: Option<Duration>,
    /// Give up after TIME without a byte [30s]
    ///
    /// The wait for the very first byte is 5m by default, because some servers make the file first.
    ///
    /// TIME is a number with ms, s, m or h; without a unit it is in seconds.
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) stall_timeout: Option<Duration>,
    /// Limit the time for making a connection [15s]
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Follow at most N redirects; 0 refuses them [20]
    #[arg(long, hide_short_help = true, value_name = "N", value_parser = units::parse_number)]
    pub(crate) max_redirect: Option<u32>,
}
