//! The flags of the commands other than `get`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use haul_engine::Checksum;

use super::{DownloadArgs, HelpArgs, RequestArgs, parsed};
use crate::units;

/// Show a download that is killed and continues, in five seconds and without a network.
///
/// A server inside the process serves slow connections, and haul downloads from it into a temporary
/// directory. The download is killed midway with SIGKILL and run again. Then the file is verified
/// and the directory is removed.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Print one JSON object on stdout, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// Measure throughput, against a server inside the process unless a URL is given.
///
/// From a URL, a few seconds are fetched with each number of connections, and the speed is the one at
/// the end, after the burst with which many servers begin. haul says what limits: the server's cap on
/// each connection, its refusal of more of them, the link, this machine's processors or the disk.
/// It says so as well where no steady speed was found, and where the machine was too busy to tell.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// URL to measure with [a server inside the process]
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Fetch at most SIZE in a run [64M]; without a URL, the size of the object [256M]
    ///
    /// Without --size, a run may fetch 256M from a server that begins with a burst, and all runs
    /// together as much as they may without one.
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) size: Option<u64>,
    /// End a run TIME after its first byte [with a URL 5s, or once the speed is steady]
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) time: Option<Duration>,
    /// Measure each setting N times [3; 1 with --storage and a URL]
    #[arg(long, value_name = "N", value_parser = units::parse_count)]
    pub(crate) rounds: Option<usize>,
    /// Make the temporary directory in DIR [the system's]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Measure with these numbers of connections [1,2,4,8,16]
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
    /// Measure only these: null, pwrite, mmap or auto, with commas between
    ///
    /// The whole object is downloaded into each of them, and null discards the bytes. Without
    /// --connections, haul chooses the number of connections itself. Without --storage, the network
    /// is measured with null, and then every storage is measured against the server inside the
    /// process.
    #[arg(long, value_name = "KIND", value_delimiter = ',', hide_possible_values = true)]
    pub(crate) storage: Vec<MeasuredStorage>,
    /// Skip the syncs before publishing
    #[arg(long)]
    pub(crate) no_sync: bool,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
    /// Print only errors and the result
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write the table to FILE as Markdown
    #[arg(long, value_name = "FILE")]
    pub(crate) export_markdown: Option<PathBuf>,
    /// Draw the speeds into FILE as SVG
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
    /// URL to download and play, http:// or https://
    ///
    /// The first line on stdout is the address where the object is served, on loopback only; the
    /// parent of that address is a page that plays it. haul exits when the download is complete and
    /// every reader has left, or at Ctrl-C.
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Serve on port N of 127.0.0.1 [any free port]
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// Start this player, with the address as its last argument
    ///
    /// CMD is split at spaces, and no shell reads it. haul then exits when the player has ended and
    /// the download is complete.
    #[arg(long, value_name = "CMD")]
    pub(crate) player: Option<String>,
    /// Open the page that plays it in a browser
    ///
    /// The browser is $BROWSER, or else the desktop's default.
    #[arg(long)]
    pub(crate) open: bool,
    /// Exit once it is complete and nobody reads it, even if nobody ever did
    ///
    /// This is the default without a terminal. On a terminal, haul otherwise waits for the first
    /// reader.
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
    /// A finished file, or a partial download by its output's name or NAME.part
    ///
    /// For a partial, every byte that its checkpoint lists as stored is read and hashed. The exit
    /// code is 9 when something differs.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Digest that the finished file must have
    #[arg(long, value_name = "ALGO=HEX", value_parser = parsed::<Checksum>, conflicts_with = "repair")]
    pub(crate) checksum: Option<Checksum>,
    /// Mark damaged segments as missing, so that the next run fetches them
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print JSON lines on stdout
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// The values of `--storage` in `haul bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MeasuredStorage {
    /// Discard the bytes
    Null,
    /// Use positioned writes
    Pwrite,
    /// Write through mapped windows
    Mmap,
    /// Choose as a download would
    Auto,
}

/// List partial downloads with their progress, host and age.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// A directory, or one partial by its output's name or NAME.part [.]
    #[arg(value_name = "FILE or DIR")]
    pub(crate) place: Option<PathBuf>,
    /// Print JSON lines on stdout
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// Remove partial downloads that nobody continues.
#[derive(Debug, Args)]
pub(crate) struct CleanArgs {
    /// Directory to clean; those below it are left alone [.]
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Remove partials that were not continued for TIME: 12h, 7d; 0 removes all
    #[arg(long, value_name = "TIME", value_parser = units::parse_age, required_unless_present = "max_total")]
    pub(crate) older_than: Option<Duration>,
    /// Remove the oldest until the rest takes up at most SIZE
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) max_total: Option<u64>,
    /// Only print what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// Print the completions for a shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell: bash, zsh, fish or powershell
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    pub(crate) shell: Shell,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// The shells that have completions. All but the last are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,

    Powershell,
}

/// Print the manual page: as text on a terminal, as roff elsewhere.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Print the page of this command, or of `aria2c`, instead of haul's
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Option<String>,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}
