//! What the object must be.

use clap::Args;
use haul_engine::Checksum;

use super::parsed;
use crate::units;

/// What the object must be.
#[derive(Debug, Args)]
pub(crate) struct IntegrityArgs {
    /// The digest the file must have, as ALGO=HEX
    #[arg(long, value_name = "ALGO=HEX", value_parser = parsed::<Checksum>)]
    pub(crate) checksum: Option<Checksum>,
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
