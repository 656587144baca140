//! What the object must be.

use clap::Args;

use super::parsed;
use crate::sums::ChecksumArg;
use crate::units;

/// What the object must be.
#[derive(Debug, Args)]
pub(crate) struct IntegrityArgs {
    /// The digest the file must have, as ALGO=HEX
    ///
    /// Bare HEX tells the algorithm by its length. Or a list of digests, a file or a URL, as
    /// sha256sum writes it, that has the name of the file
    #[arg(long, value_name = "ALGO=HEX", value_parser = parsed::<ChecksumArg>)]
    pub(crate) checksum: Option<ChecksumArg>,
    /// The size that the object must have
    ///
    /// Any other is exit 12, and nothing is stored where the server tells the size
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) expect_size: Option<u64>,
    /// The size that the object may have at most
    ///
    /// A larger one is exit 12, and nothing is stored where the server tells the size
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) max_filesize: Option<u64>,
}
