//! What is asked, by whom, and how patiently; `bench` has these flags too.

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
    /// @FILE adds those that FILE has, one a line
    #[arg(short = 'H', long = "header", value_name = "'K: V'")]
    pub(crate) headers: Vec<String>,
    /// Say who is asking [haul/VERSION]
    ///
    /// Also -U
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
    /// Basic authentication, for the URL's origin only
    #[arg(short, long, value_name = "NAME:PASS")]
    pub(crate) user: Option<String>,
    /// Send this bearer token, to the URL's origin only
    #[arg(long, hide_short_help = true, value_name = "TOKEN", conflicts_with = "user")]
    pub(crate) bearer: Option<String>,
    /// Take logins from $NETRC, else ~/.netrc
    ///
    /// Each is sent only to its host, also after redirects; `default` only to the URL's host
    #[arg(short, long)]
    pub(crate) netrc: bool,
    /// Take logins from FILE, in netrc's format
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) netrc_file: Option<PathBuf>,
    /// Send the cookies of FILE, in Netscape's format, or these
    ///
    /// Each goes to the host, path and scheme that it is for. Those that servers set on the way
    /// are honoured, and FILE is not changed. 'NAME=VALUE; NAME=VALUE' that no file is called is
    /// sent to the URL's own origin. Also --cookies
    #[arg(short = 'b', long, alias = "cookies", hide_short_help = true, value_name = "FILE")]
    pub(crate) load_cookies: Option<PathBuf>,
}

/// What is tried again, and for how long.
#[derive(Debug, Args)]
pub(crate) struct PatienceArgs {
    /// Rounds of retrying without progress [10]
    ///
    /// The waits double from 1 s to 30 s; a new byte resets the count. Without it a download
    /// of which nothing ever came ends after one more try where a name does not exist, a
    /// connection is refused or another protocol is spoken; with it these are tried as often,
    /// so a server may come up meanwhile. Also --tries
    #[arg(short = 't', long, alias = "tries", value_name = "N", value_parser = units::parse_number)]
    pub(crate) retry: Option<u32>,
    /// Begin no round of retrying after TIME without progress
    ///
    /// The exit code is that of what failed
    #[arg(long, hide_short_help = true, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) retry_max_time: Option<Duration>,
    /// Give up what is silent for so long [30s]
    ///
    /// The first byte of all has 5m by default: some servers make the file first.
    ///
    /// TIME is digits with ms, s, m or h; seconds without
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) stall_timeout: Option<Duration>,
    /// Time for making a connection [15s]
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Redirects to follow at most; 0 refuses them [20]
    #[arg(long, hide_short_help = true, value_name = "N", value_parser = units::parse_number)]
    pub(crate) max_redirect: Option<u32>,
}
