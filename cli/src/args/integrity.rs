//! What the object must be.

use clap::Args;
use haul_engine::Checksum;

use super::parsed;

/// What the object must be.
#[derive(Debug, Args)]
pub(crate) struct IntegrityArgs {
    /// The digest the file must have, as ALGO=HEX
    #[arg(long, value_name = "ALGO=HEX", value_parser = parsed::<Checksum>)]
    pub(crate) checksum: Option<Checksum>,
}
