//! Other places to fetch the object from, and how its link is kept fresh.

use clap::Args;

use crate::refresh::RefreshCommand;

/// Other places, and fresh links.
#[derive(Debug, Default, Args)]
pub(crate) struct AlternativeArgs {
    /// Also fetch from this URL of the same object (repeatable)
    ///
    /// With --checksum, or a digest that the server sends, all URLs are used at once according to
    /// their speed, and a bad one is dropped. Without a digest, a mirror only replaces a URL that
    /// failed, and starts from zero. Headers and logins go to the origin of URL alone.
    #[arg(long, hide_short_help = true, value_name = "URL")]
    pub(crate) mirror: Vec<String>,
    /// Run CMD to get a fresh URL when the link has expired
    ///
    /// CMD finds the old URL in HAUL_URL and must print the new one as its first line within a
    /// minute. CMD is split at spaces, which '...', "..." and \ keep. Nothing else has a special
    /// meaning, because no shell reads it.
    #[arg(long, hide_short_help = true, value_name = "CMD")]
    pub(crate) refresh_cmd: Option<RefreshCommand>,
}

/// Metalinks to download.
#[derive(Debug, Default, Args)]
pub(crate) struct MetalinkArgs {
    /// Download the files that this Metalink describes (repeatable)
    ///
    /// A FILE or a URL, of version 3 or 4: files with their sizes, digests, pieces and mirrors.
    #[arg(long, hide_short_help = true, value_name = "FILE|URL")]
    pub(crate) metalink: Vec<String>,
}
