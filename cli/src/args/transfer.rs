//! How the transfer is cut up and how fast it may be.

use std::time::Duration;

use clap::Args;
use haul_engine::{Connections, Selection};

use super::parsed;
use crate::units;

/// How the transfer is cut up.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// Connections a download: a number or auto [auto]
    ///
    /// A number is the most there are at once. Also -s and --split
    #[arg(
        short = 'x',
        long,
        short_alias = 's',
        alias = "split",
        value_name = "N",
        value_parser = units::parse_connections
    )]
    pub(crate) connections: Option<Connections>,
    /// Downloads at a time [4, small files 16]
    #[arg(short, long, value_name = "N", value_parser = units::parse_count)]
    pub(crate) jobs: Option<usize>,
    /// Connections to one host at once, all downloads together
    ///
    /// A host as its URLs name it; mirrors and redirects count where they lead. Default
    /// no bound but that of --connections and --jobs
    #[arg(long, hide_short_help = true, value_name = "N", value_parser = units::parse_count)]
    pub(crate) per_host: Option<usize>,
    /// Bytes a second, all together: 2M, 500k
    #[arg(short = 'r', long, value_name = "RATE", value_parser = units::parse_rate)]
    pub(crate) limit_rate: Option<u64>,
    /// Size of a segment: a power of two, 1M or more
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) segment_size: Option<u64>,
    /// Split off no part smaller than SIZE [by the speed, 1M or more]
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) min_split_size: Option<u64>,
    /// Stop a download that is not complete after TIME
    ///
    /// Its partial is kept, the exit code is 12, and the same command continues
    #[arg(long, hide_short_help = true, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) max_time: Option<Duration>,
    /// Only these bytes: 0-99, 100-, -100, several with commas
    ///
    /// FIRST-LAST has both, FIRST- all from there on, -COUNT the last ones. Several are written
    /// one after the other, and are what --checksum is of. A server that gives only the whole
    /// is exit 7, a range beyond the object's end exit 8
    #[arg(
        long,
        hide_short_help = true,
        value_name = "RANGES",
        allow_hyphen_values = true,
        value_parser = parsed::<Selection>
    )]
    pub(crate) range: Option<Selection>,
}
