//! Where the bytes go, what may be there already, and how the file comes to be.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::exec::Exec;

/// Where the bytes go and what may be there already.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Write to FILE, - is stdout [the server's name, else the URL's]
    ///
    /// A relative FILE is below --dir. With a `/` at its end it is a directory, as --dir has one.
    /// `-` is stdout, written in order while it comes from
    /// several connections, as is a device or a FIFO: nothing is kept then, a digest that
    /// differs is exit 9 when the bytes are out, and a reader that goes away is exit 3. Also
    /// --out
    #[arg(short, long, alias = "out", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write into DIR, which is created [.]
    ///
    /// Also --output-dir and -P
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
        long_help = "Continue a partial download: `auto` when the object is provably the same, \
                     else restart and say so; `foreign` also one that curl, wget, aria2 or \
                     Firefox left, once its first, its last and another MiB, fetched again, were \
                     the same, and any other program's with --checksum (what differs is left as \
                     it is, exit 3); `always` as `foreign`, and one of haul's own also when only \
                     the size tells; `never`. The value is only read after `=`"
    )]
    pub(crate) r#continue: Option<ContinueArg>,
    /// When the file exists: verify, skip, error, overwrite [verify]
    ///
    /// `verify` asks the server once: a file that is provably the object already is complete,
    /// exit 0, and any other is left as it is, exit 3. The proof is the size together with the
    /// version that haul recorded or the server's time, or the digest of --checksum. `skip`
    /// counts any file as done without a look at it, `error` refuses any file, and `overwrite`
    /// replaces it when the new one is complete
    #[arg(
        long,
        hide_short_help = true,
        value_name = "HOW",
        hide_possible_values = true,
        conflicts_with_all = ["overwrite", "no_clobber", "skip_existing", "auto_rename"]
    )]
    pub(crate) existing: Option<ExistingArg>,
    /// Replace an existing file, at the very end
    ///
    /// The same as --existing=overwrite
    #[arg(long, conflicts_with_all = ["no_clobber", "skip_existing", "auto_rename"])]
    pub(crate) overwrite: bool,
    /// Replace no file [the default]
    ///
    /// The same as --existing=verify
    #[arg(long, hide_short_help = true, conflicts_with_all = ["skip_existing", "auto_rename"])]
    pub(crate) no_clobber: bool,
    /// Leave what exists as it is, and count it as done
    ///
    /// Its size and content are not looked at. The same as --existing=skip
    #[arg(long, conflicts_with = "auto_rename")]
    pub(crate) skip_existing: bool,
    /// Write to `name (1).ext` when the file exists
    ///
    /// Also when that file is the same object: it gets a copy beside it. The number is the first
    /// that no file has and no other haul is writing. An interrupted download continues under
    /// the number that it has
    #[arg(long, hide_short_help = true)]
    pub(crate) auto_rename: bool,
    /// When another haul downloads to the same name: error, wait [error]
    ///
    /// `wait` waits until that download has ended and then goes on as if it were started now:
    /// what the other one completed is complete, and what it left is continued
    #[arg(long, hide_short_help = true, value_name = "HOW", hide_possible_values = true)]
    pub(crate) locked: Option<LockedArg>,
    /// Replace the file only if the server has another version
    ///
    /// The file's time is asked about (If-Modified-Since), and the entity tag that a run with
    /// this flag left in the extended attribute user.haul.version (If-None-Match). Unchanged
    /// is exit 0; what changed takes the old file's place when it is complete
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
    /// For programs that rename it themselves: until the end only NAME.haul tells that it is not
    /// complete. With --overwrite the old file is gone at once
    #[arg(long, hide_short_help = true, conflicts_with = "auto_rename")]
    pub(crate) no_part: bool,
}

/// How the file is written and what it gets.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// Accepted and without effect: naming the file as the server does is the default
    #[arg(short = 'O', hide_short_help = true)]
    pub(crate) remote_name: bool,
    /// Publish without syncing data and directory to the disk
    #[arg(long, hide_short_help = true)]
    pub(crate) no_sync: bool,
    /// Leave out the BLAKE3 hash of the whole file
    ///
    /// An interrupted download then continues only from what was synced
    #[arg(long, hide_short_help = true)]
    pub(crate) no_digest: bool,
    /// Give the file the server's modification time [the default]
    #[arg(long, hide_short_help = true, overrides_with = "no_remote_time")]
    pub(crate) remote_time: bool,
    /// Give the file the time of its completion
    #[arg(long, hide_short_help = true, overrides_with = "remote_time")]
    pub(crate) no_remote_time: bool,
    /// How bytes get into the file
    #[arg(long, hide_short_help = true, value_name = "KIND")]
    pub(crate) storage: Option<StorageArg>,
    /// Whether the disk's blocks are reserved before the first byte
    #[arg(long, hide_short_help = true, value_name = "HOW")]
    pub(crate) file_allocation: Option<AllocationArg>,
    /// Run CMD on each file that is complete; {} is the file
    ///
    /// Without {} the file comes last. CMD is split into words at spaces, where quotes and
    /// backslashes mean what they mean to a shell, and no shell reads it. When it fails, the
    /// exit code is 13, and the file stays
    #[arg(long, hide_short_help = true, value_name = "CMD")]
    pub(crate) exec: Option<Exec>,
}

/// Values of `--file-allocation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AllocationArg {
    /// Reserve where the file system can
    Auto,
    /// Do not reserve: the file is sparse at first
    None,
    /// Reserve, or fail
    Falloc,
}

/// Values of `--existing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExistingArg {
    Verify,
    Skip,
    Error,
    Overwrite,
}

/// Values of `--locked`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LockedArg {
    Error,
    Wait,
}

impl OutputArgs {
    /// What `--existing` says, or one of the flags that are short for it; `None` where the file
    /// is to get another name.
    pub(crate) fn existing(&self) -> Option<ExistingArg> {
        match self {
            Self { auto_rename: true, .. } => None,
            Self { overwrite: true, .. } => Some(ExistingArg::Overwrite),
            Self { skip_existing: true, .. } => Some(ExistingArg::Skip),
            _ => Some(self.existing.unwrap_or(ExistingArg::Verify)),
        }
    }
}

/// Values of `--continue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ContinueArg {
    Auto,
    Foreign,
    Always,
    Never,
}

/// Values of `--storage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StorageArg {
    /// The mapped file where its blocks are reserved, positioned writes elsewhere and while
    /// the network outruns the map
    Auto,
    /// The mapped file, with a note where that is impossible
    Mmap,
    /// Positioned writes
    Pwrite,
}
