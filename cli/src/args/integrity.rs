//! What the object must be.

use std::path::Path;
use std::str::FromStr;

use clap::Args;
use haul_engine::Checksum;

use super::parsed;
use crate::units;

/// What the object must be.
#[derive(Debug, Args)]
pub(crate) struct IntegrityArgs {
    /// Publish the file only if it has this digest
    ///
    /// Bare HEX implies the algorithm by its length. A list of digests, a file or a URL as
    /// sha256sum writes it, can be given instead if it has the file's name in it.
    #[arg(long, value_name = "ALGO=HEX", value_parser = parsed::<ChecksumArg>)]
    pub(crate) checksum: Option<ChecksumArg>,
    /// Require this size of the object
    ///
    /// Any other size is exit 12, and nothing is stored if the server announces the size.
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) expect_size: Option<u64>,
    /// Refuse an object that is larger than SIZE
    ///
    /// A larger object is exit 12, and nothing is stored if the server announces the size.
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) max_filesize: Option<u64>,
}

/// A value of `--checksum`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChecksumArg {
    /// The digest itself.
    Digest(Checksum),
    /// A list of digests, in a file or at a URL.
    List(String),
}

impl FromStr for ChecksumArg {
    type Err = haul_engine::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("http://") || lower.starts_with("https://") {
            return Ok(Self::List(text.to_owned()));
        }
        match text.parse() {
            Ok(digest) => Ok(Self::Digest(digest)),
            // A text that names a digest's algorithm or looks like a digest is meant as one.
            Err(_) if Path::new(text).is_file() => Ok(Self::List(text.to_owned())),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_not_taken_for_a_list() {
        let digits = "ab".repeat(32);
        let parsed = |text: &str| text.parse::<ChecksumArg>();
        assert!(matches!(parsed(&digits), Ok(ChecksumArg::Digest(_))));
        assert!(matches!(parsed("https://h/SHA256SUMS"), Ok(ChecksumArg::List(_))));
        assert!(parsed("no-such-file").unwrap_err().to_string().contains("no-such-file"));
    }
}
