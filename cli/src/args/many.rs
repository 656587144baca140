//! Many downloads from a list, and several at once.

use std::path::PathBuf;

use clap::Args;

use crate::share::{MaxFailures, Shard};

/// Many downloads from a list.
#[derive(Debug, Default, Args)]
pub(crate) struct ListArgs {
    /// Also download what FILE lists; - is stdin
    #[arg(
        short,
        long,
        value_name = "FILE",
        long_help = "Also download what FILE lists; `-` is stdin. A line is a URL, or a JSON \
                     object with `url` or `urls`, `id`, `out`, `dir`, `size`, `digest` and \
                     `headers`. Several URLs with TABs between them are mirrors, used like \
                     those of --mirror. Indented lines below a URL are its options, as in aria2: \
                     out, dir, header, referer, user-agent, checksum. `#` begins a comment. A \
                     bad line in a file is exit 2 before anything starts; in a pipe it is a \
                     failed download."
    )]
    pub(crate) input_file: Option<PathBuf>,
    /// Download only this shard of the list: I/N, /N or auto
    ///
    /// I is 0 to N-1. An item belongs to shard H mod N, where H is the first 8 bytes of the SHA-256
    /// of its id, or else of its URL (followed by a TAB and its dir, and a TAB and its out, where
    /// it has them). /N takes I from JOB_COMPLETION_INDEX; auto takes both numbers from
    /// SLURM_ARRAY_TASK_ID, _MIN and _COUNT.
    #[arg(long, hide_short_help = true, value_name = "I/N", value_parser = shard)]
    pub(crate) shard: Option<Shard>,
    /// Append a JSON line to FILE for each item that ends
    ///
    /// A run with the same FILE skips the items that FILE lists as complete, if their files still
    /// exist with the recorded size.
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) results: Option<PathBuf>,
    /// Start nothing more once over N items, or P%, have failed
    ///
    /// P% is counted among the items that have ended, from the hundredth on. Downloads that are
    /// running are finished.
    #[arg(long, hide_short_help = true, value_name = "N|P%")]
    pub(crate) max_failures: Option<MaxFailures>,
}

fn shard(text: &str) -> Result<Shard, String> {
    Shard::parse(text, |name| std::env::var(name).ok())
}
