//! How the transfer is cut up and how fast it may be.

use std::time::Duration;

use clap::Args;
use haul_engine::{Connections, Selection};

use super::parsed;
use crate::units;

/// How the transfer is cut up.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// Connections per download, or auto [auto]
    ///
    /// A number is the maximum at any time. auto measures, for as long as the download runs, how
    /// many help: at most 16, or 32 where packets are lost on the way and the server refuses
    /// nothing; auto:N sets another bound than 32, up to 64. Also spelled -s and --split.
    #[arg(
        short = 'x',
        long,
        short_alias = 's',
        alias = "split",
        value_name = "N",
        value_parser = units::parse_connections
    )]
    pub(crate) connections: Option<Connections>,
    /// Downloads at a time [4; up to 32 for small files]
    #[arg(short, long, value_name = "N", value_parser = units::parse_count)]
    pub(crate) jobs: Option<usize>,
    /// Limit the connections to one host, over all downloads
    ///
    /// A host is counted by the name in its URL, and a mirror or a redirect counts for the host
    /// that it leads to. Without this flag, only --connections and --jobs limit the number.
    #[arg(long, hide_short_help = true, value_name = "N", value_parser = units::parse_count)]
    pub(crate) per_host: Option<usize>,
    /// Limit the total download rate, e.g. 2M or 500k
    #[arg(short = 'r', long, value_name = "RATE", value_parser = units::parse_rate)]
    pub(crate) limit_rate: Option<u64>,
    /// Set the segment size: a power of two, 1M or more
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) segment_size: Option<u64>,
    /// Split off no part smaller than SIZE [by the speed, 1M or more]
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) min_split_size: Option<u64>,
    /// Stop a download that is not complete after TIME
    ///
    /// The partial is kept, the exit code is 12, and the same command continues.
    #[arg(long, hide_short_help = true, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) max_time: Option<Duration>,
    /// Stop when the process that started haul has ended
    ///
    /// What was fetched is kept, as after SIGTERM, and so is the exit code (143). The process is
    /// looked at five times a second.
    #[arg(long, hide_short_help = true)]
    pub(crate) die_with_parent: bool,
    /// Fetch only these bytes: 0-99, 100-, -100, or several with commas
    ///
    /// FIRST-LAST includes both ends, FIRST- goes to the end, and -COUNT is the last COUNT bytes.
    /// Several ranges are written one after the other, and --checksum is then the digest of the
    /// result. A server that sends only the whole object is exit 7, and a range beyond the object's
    /// end is exit 8.
    #[arg(
        long,
        hide_short_help = true,
        value_name = "RANGES",
        allow_hyphen_values = true,
        value_parser = parsed::<Selection>
    )]
    pub(crate) range: Option<Selection>,
}
