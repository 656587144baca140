//! Where the bytes go, what may be there already, and how the file is written.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::exec::Exec;

/// Where the bytes go and what may be there already.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Write to FILE; - is stdout [the server's name]
    ///
    /// Without it, the server names the file, or else the URL does. A relative FILE is below --dir,
    /// and a FILE that ends with `/` is a directory, as with --dir. `-`, a device or a FIFO is
    /// written in order while several connections fetch. Nothing is kept on disk then: a digest
    /// that differs is exit 9 after the bytes have gone out, and a reader that goes away is exit 3.
    /// Also spelled --out.
    #[arg(short, long, alias = "out", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write into DIR, creating it if needed [.]
    ///
    /// Also spelled --output-dir and -P.
    #[arg(short, long, alias = "output-dir", short_alias = 'P', value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Continue a partial: auto, always, never [auto]
    #[arg(
        short,
        long = "continue",
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "auto",
        hide_possible_values = true,
        long_help = "Continue a partial download. `auto` continues if the object is provably the \
                     same, and otherwise starts over and says so. `foreign` also continues what \
                     curl, wget, aria2 or Firefox left, once its first, its last and one other \
                     MiB have been fetched again and are the same; with --checksum it continues \
                     any other program's file as well. A file that differs is left as it is \
                     (exit 3). `always` does what `foreign` does, and also continues haul's own \
                     partial when only the size matches. `never` starts over. The value is read \
                     only after `=`."
    )]
    pub(crate) r#continue: Option<ContinueArg>,
    /// If the file exists: verify, skip, error, overwrite [verify]
    ///
    /// `verify` asks the server once. A file that is provably the object already counts as complete
    /// (exit 0), and any other is left as it is (exit 3). The proof is the size together with the
    /// version that haul recorded or the server's modification time, or the digest of --checksum.
    /// In a list, a file that haul completed from the same URL, and that is unchanged, is also
    /// complete if the server tells no version.
    /// `skip` counts any existing file as done without looking at it, `error` refuses any, and
    /// `overwrite` replaces it once the new file is complete.
    #[arg(
        long,
        hide_short_help = true,
        value_name = "HOW",
        hide_possible_values = true,
        conflicts_with_all = ["overwrite", "no_clobber", "skip_existing", "auto_rename"]
    )]
    pub(crate) existing: Option<ExistingArg>,
    /// Replace an existing file at the very end
    ///
    /// The same as --existing=overwrite.
    #[arg(long, conflicts_with_all = ["no_clobber", "skip_existing", "auto_rename"])]
    pub(crate) overwrite: bool,
    /// Never replace a file [the default]
    ///
    /// The same as --existing=verify.
    #[arg(long, hide_short_help = true, conflicts_with_all = ["skip_existing", "auto_rename"])]
    pub(crate) no_clobber: bool,
    /// Keep an existing file and count it as done
    ///
    /// Neither its size nor its content is checked. The same as --existing=skip.
    #[arg(long, conflicts_with = "auto_rename")]
    pub(crate) skip_existing: bool,
    /// Write to `name (1).ext` if the file exists
    ///
    /// This applies even if that file is the same object, which then gets a copy beside it. The
    /// number is the first that no file has and no other haul is writing. An interrupted download
    /// continues under its own number.
    #[arg(long, hide_short_help = true)]
    pub(crate) auto_rename: bool,
    /// If another haul downloads to the same name: error, wait [error; wait for a list]
    ///
    /// `wait` waits until that download has ended and then goes on as if started at that moment:
    /// what the other one completed counts as complete, and what it left is continued. Others of
    /// a list are downloaded meanwhile. For a list or several URLs `wait` is the default.
    #[arg(long, hide_short_help = true, value_name = "HOW", hide_possible_values = true)]
    pub(crate) locked: Option<LockedArg>,
    /// Replace the file only if the server has another version
    ///
    /// haul sends the file's time (If-Modified-Since), and the entity tag that an earlier run with
    /// this flag stored in the extended attribute user.haul.version (If-None-Match). An unchanged
    /// object is exit 0; a changed one takes the old file's place once it is complete.
    #[arg(
        long,
        hide_short_help = true,
        conflicts_with_all = [
            "existing", "no_clobber", "overwrite", "skip_existing", "auto_rename", "no_part", "range"
        ]
    )]
    pub(crate) if_changed: bool,
    /// Write to the file's own name from the start, not to NAME.part
    ///
    /// This is for programs that rename the file themselves. Until the end, only NAME.haul shows
    /// that the file is incomplete. With --overwrite the old file is gone at once.
    #[arg(long, hide_short_help = true, conflicts_with = "auto_rename")]
    pub(crate) no_part: bool,
}

/// How the file is written, and which attributes it gets.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// Accepted without effect: the server's name is the default
    #[arg(short = 'O', hide_short_help = true)]
    pub(crate) remote_name: bool,
    /// Publish without syncing the data and the directory to the disk
    #[arg(long, hide_short_help = true)]
    pub(crate) no_sync: bool,
    /// Skip the BLAKE3 hash of the whole file
    ///
    /// An interrupted download then continues only from what was synced.
    #[arg(long, hide_short_help = true)]
    pub(crate) no_digest: bool,
    /// Give the file the server's modification time [the default]
    #[arg(long, hide_short_help = true, overrides_with = "no_remote_time")]
    pub(crate) remote_time: bool,
    /// Give the file the time at which it was completed
    #[arg(long, hide_short_help = true, overrides_with = "remote_time")]
    pub(crate) no_remote_time: bool,
    /// Choose how bytes are written to the file
    #[arg(long, hide_short_help = true, value_name = "KIND")]
    pub(crate) storage: Option<StorageArg>,
    /// Choose whether disk blocks are reserved before the first byte
    #[arg(long, hide_short_help = true, value_name = "HOW")]
    pub(crate) file_allocation: Option<AllocationArg>,
    /// Run CMD on each completed file; {} stands for the file
    ///
    /// Without {}, the file is the last argument. CMD is split into words at spaces; quotes and
    /// backslashes work as in a shell, but no shell reads it. If CMD fails, the exit code is 13 and
    /// the file stays.
    #[arg(long, hide_short_help = true, value_name = "CMD")]
    pub(crate) exec: Option<Exec>,
}

/// The values of `--file-allocation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AllocationArg {
    /// Reserve blocks where the file system can
    Auto,
    /// Reserve nothing; the file is sparse at first
    None,
    /// Reserve blocks, or fail
    Falloc,
}

/// The values of `--existing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExistingArg {
    Verify,
    Skip,
    Error,
    Overwrite,
}

/// The values of `--locked`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LockedArg {
    Error,
    Wait,
}

impl OutputArgs {
    /// What to do with an existing file, as `--existing` or one of its short forms says; `None`
    /// where the new file is to get another name.
    pub(crate) fn existing(&self) -> Option<ExistingArg> {
        match self {
            Self { auto_rename: true, .. } => None,
            Self { overwrite: true, .. } => Some(ExistingArg::Overwrite),
            Self { skip_existing: true, .. } => Some(ExistingArg::Skip),
            _ => Some(self.existing.unwrap_or(ExistingArg::Verify)),
        }
    }
}

/// The values of `--continue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ContinueArg {
    Auto,
    Foreign,
    Always,
    Never,
}

/// The values of `--storage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StorageArg {
    /// Map the file where its blocks are reserved, and use positioned writes elsewhere and while
    /// storing takes half of a core
    Auto,
    /// Map the file, with a note where that is impossible
    Mmap,
    /// Use positioned writes
    Pwrite,
}
