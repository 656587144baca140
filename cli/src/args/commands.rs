//! Flags of the other commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use haul_engine::Checksum;

use super::{DownloadArgs, HelpArgs, RequestArgs, parsed};
use crate::units;

/// Show a download that is killed and continues, in five seconds and without a network.
///
/// A server inside the process gives each connection little, and haul downloads from it into
/// a temporary directory. The download is killed midway with SIGKILL and run again, the file
/// is verified, and the directory is removed.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Print one JSON object on stdout, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// Measure throughput, without a URL against an origin of its own on loopback.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure with; without it an origin inside this process
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Most that a run fetches [64M; without a URL the object's size, 256M]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) size: Option<u64>,
    /// End a run this long after its first byte [2s with a URL]
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) time: Option<Duration>,
    /// How often each is measured [3, with --storage and a URL 1]
    #[arg(long, value_name = "N", value_parser = units::parse_count)]
    pub(crate) rounds: Option<usize>,
    /// Where the temporary directory is made [the system's]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Measure these numbers of connections [1,2,4,8,16]
    #[arg(
        short = 'x',
        long,
        short_alias = 's',
        alias = "split",
        value_name = "N",
        value_delimiter = ',',
        value_parser = units::parse_count
    )]
    pub(crate) connections: Vec<usize>,
    /// Only this: the whole object into null, pwrite, mmap or auto
    ///
    /// Several with commas. null keeps nothing. Without --connections their number is haul's
    /// own choice. Otherwise the network is measured with null, and then all of them with the
    /// embedded origin
    #[arg(long, value_name = "KIND", value_delimiter = ',', hide_possible_values = true)]
    pub(crate) storage: Vec<MeasuredStorage>,
    /// Leave out the syncs before publishing
    #[arg(long)]
    pub(crate) no_sync: bool,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
    /// Errors and the result only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write the table as Markdown to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) export_markdown: Option<PathBuf>,
    /// Draw the speeds as SVG into FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) export_svg: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// Serve the object on loopback while it downloads, for a player or a browser.
#[derive(Debug, Args)]
pub(crate) struct PlayArgs {
    /// What to download and play, http:// or https://
    ///
    /// The first line on stdout is where it is served, on loopback only; the page that shows it is
    /// that URL's parent. It ends when the download is complete and whoever came has left, or at
    /// Ctrl-C
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Serve on this port of 127.0.0.1 [any free one]
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// Start this player on it: CMD and its arguments, then the URL
    ///
    /// Split at spaces; no shell reads it. With a player, haul ends when it has ended and the
    /// download is complete
    #[arg(long, value_name = "CMD")]
    pub(crate) player: Option<String>,
    /// Open a browser at the page that plays it
    ///
    /// With $BROWSER, else the desktop's
    #[arg(long)]
    pub(crate) open: bool,
    /// End once it is complete and nobody reads it, whether or not anybody ever came
    ///
    /// So it is without a terminal, too. On a terminal it otherwise waits for the first reader
    #[arg(long)]
    pub(crate) end_when_complete: bool,
    #[command(flatten)]
    pub(crate) how: DownloadArgs,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// Check a finished file against a digest, or a partial against its checkpoint.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A finished file, or a partial download: its output's name or NAME.part
    ///
    /// Of a partial, all that its checkpoint says is stored is read and hashed. Exit 9 when
    /// something is not right
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The digest the finished file must have, as ALGO=HEX
    #[arg(long, value_name = "ALGO=HEX", value_parser = parsed::<Checksum>, conflicts_with = "repair")]
    pub(crate) checksum: Option<Checksum>,
    /// Record what is not right as missing, for the next run of the download to fetch
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print JSON lines on stdout
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// Values of `--storage` of `haul bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MeasuredStorage {
    /// Nothing is kept
    Null,
    /// Positioned writes
    Pwrite,
    /// Mapped windows
    Mmap,
    /// What a download would choose
    Auto,
}

/// List partial downloads: how far they are, of which host, how old.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// A directory, or one partial: its output's name or NAME.part [.]
    #[arg(value_name = "FILE or DIR")]
    pub(crate) place: Option<PathBuf>,
    /// Print one JSON object a line on stdout
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// Remove partial downloads that nobody continues.
#[derive(Debug, Args)]
pub(crate) struct CleanArgs {
    /// Where to look; directories below it are left alone [.]
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Remove what was not continued for so long: 12h, 7d; 0 is everything
    #[arg(long, value_name = "TIME", value_parser = units::parse_age, required_unless_present = "max_total")]
    pub(crate) older_than: Option<Duration>,
    /// Remove the oldest until the rest takes at most this of the disk
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) max_total: Option<u64>,
    /// Say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// Print the completions of a shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Whose: bash, zsh or fish
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    pub(crate) shell: Shell,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// The shells that are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Print the manual page, in roff.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The page of this command, or of `aria2c`, instead of the whole program's
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Option<String>,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}
