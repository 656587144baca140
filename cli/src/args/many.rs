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
                     `headers`. Several URLs with TABs between them are mirrors, used as those \
                     of --mirror are. Indented \
                     lines below a URL are its options as aria2 has them: out, dir, header, \
                     referer, user-agent, checksum. `#` begins a comment. A bad line in a file \
                     is exit 2 before anything starts, in a pipe when it comes"
    )]
    pub(crate) input_file: Option<PathBuf>,
    /// Download only this part of the list: I/N, /N or auto
    ///
    /// I is 0 to N-1. An item is of part H mod N, where H is the first 8 bytes of the SHA-256
    /// of its id, else of its URL (then a TAB and its dir, a TAB and its out, where it has
    /// them). /N takes I from JOB_COMPLETION_INDEX; auto takes both from SLURM_ARRAY_TASK_ID,
    /// _MIN and _COUNT
    #[arg(long, hide_short_help = true, value_name = "I/N", value_parser = shard)]
    pub(crate) shard: Option<Shard>,
    /// Append a JSON line for each item that ended to FILE
    ///
    /// A run with the same FILE passes over items that are complete in it and whose files are
    /// there with their size
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) results: Option<PathBuf>,
    /// Start nothing more when more than N, or P%, failed
    ///
    /// P% is of the items that ended, once 100 did. What runs is finished
    #[arg(long, hide_short_help = true, value_name = "N|P%")]
    pub(crate) max_failures: Option<MaxFailures>,
}

fn shard(text: &str) -> Result<Shard, String> {
    Shard::parse(text, |name| std::env::var(name).ok())
}
