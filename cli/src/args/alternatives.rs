//! Where else the object can be had, and how its link is kept fresh.

use clap::Args;

use crate::refresh::RefreshCommand;

/// Other places, and fresh links.
#[derive(Debug, Default, Args)]
pub(crate) struct AlternativeArgs {
    /// Another URL of the same object (repeatable)
    ///
    /// With --checksum, or a digest that the server sends, all are used at once, by their
    /// speed, and a bad one is dropped. Without, a mirror only replaces what failed before it,
    /// from zero. Headers and logins go to the origin of URL alone
    #[arg(long, hide_short_help = true, value_name = "URL")]
    pub(crate) mirror: Vec<String>,
    /// Run CMD for a fresh URL when the link expired
    ///
    /// It finds the old URL in HAUL_URL and prints the new one as its first line, within a
    /// minute. CMD is split at spaces; '...', "..." and \ keep them, and nothing else has a
    /// meaning: there is no shell
    #[arg(long, hide_short_help = true, value_name = "CMD")]
    pub(crate) refresh_cmd: Option<RefreshCommand>,
}

/// Metalinks to download.
#[derive(Debug, Default, Args)]
pub(crate) struct MetalinkArgs {
    /// Download what this Metalink tells of (repeatable)
    ///
    /// A FILE or a URL, of version 3 or 4: files with their sizes, digests, pieces and mirrors
    #[arg(long, hide_short_help = true, value_name = "FILE|URL")]
    pub(crate) metalink: Vec<String>,
}
