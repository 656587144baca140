//! The syntax of the command line: which flags exist, what their values look
//! like, what their help says. What they mean together is decided in
//! [`crate::plan`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use haul_engine::{Checksum, Connections, HostAddress, Interface};

use crate::packaging::{CompletionsArgs, ManArgs};
use crate::share::{MaxFailures, Shard};
use crate::stale::{CleanArgs, StatusArgs};
use crate::units;

const TEMPLATE: &str = "{about}\n\n{usage-heading} {usage}\n\n{all-args}{after-help}";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "haul",
    version,
    about = "Fetch large files over many connections, resume them, never publish a wrong one",
    after_help = "Everything: haul --help-all. Run the same command again to continue a download.",
    help_template = TEMPLATE,
    override_usage = "haul [get] [OPTIONS] URL...\n       \
                      haul {play|bench|verify|status|clean|completions|man} [OPTIONS]",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    args_override_self = true,
    disable_help_flag = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) get: GetArgs,
}

/// The commands; a command line without one is `get`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Download the objects at these URLs.
    #[command(
        hide = true,
        help_template = TEMPLATE,
        arg_required_else_help = true,
        args_override_self = true,
        disable_help_flag = true
    )]
    Get(GetArgs),
    /// Measure throughput, without a URL against an origin of its own on loopback.
    #[command(
        hide = true,
        help_template = TEMPLATE,
        args_override_self = true,
        disable_help_flag = true
    )]
    Bench(BenchArgs),
    /// Serve the object on loopback while it downloads, for a player or a browser.
    #[command(
        hide = true,
        help_template = TEMPLATE,
        arg_required_else_help = true,
        args_override_self = true,
        disable_help_flag = true
    )]
    Play(PlayArgs),
    /// Check a finished file against a digest, or a partial against its checkpoint.
    #[command(
        hide = true,
        help_template = TEMPLATE,
        arg_required_else_help = true,
        args_override_self = true,
        disable_help_flag = true
    )]
    Verify(VerifyArgs),
    /// List partial downloads: how far they are, of which host, how old.
    #[command(
        hide = true,
        help_template = TEMPLATE,
        args_override_self = true,
        disable_help_flag = true
    )]
    Status(StatusArgs),
    /// Remove partial downloads that nobody continues.
    #[command(
        hide = true,
        help_template = TEMPLATE,
        arg_required_else_help = true,
        args_override_self = true,
        disable_help_flag = true
    )]
    Clean(CleanArgs),
    /// Print the completions of a shell.
    #[command(
        hide = true,
        help_template = TEMPLATE,
        arg_required_else_help = true,
        args_override_self = true,
        disable_help_flag = true
    )]
    Completions(CompletionsArgs),
    /// Print the manual page, in roff.
    #[command(
        hide = true,
        help_template = TEMPLATE,
        args_override_self = true,
        disable_help_flag = true
    )]
    Man(ManArgs),
}

/// Flags of `haul URL...`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// What to download, http:// or https://
    #[arg(value_name = "URL", required_unless_present_any = ["k", "input_file"])]
    pub(crate) urls: Vec<String>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) transfer: TransferArgs,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    #[command(flatten)]
    pub(crate) talk: TalkArgs,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

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
                     `headers`. Several URLs with TABs between them are mirrors: each is a \
                     replacement, from the start, for the one before it that failed. Indented \
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

/// Where the bytes go and what may be there already.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Write to FILE [named by the server, else the URL]
    ///
    /// A relative FILE is below --dir. Also --out
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
                     else restart and say so; `always` also when only its size tells; `never`. \
                     The value is only read after `=`"
    )]
    pub(crate) r#continue: Option<ContinueArg>,
    /// Replace an existing file, at the very end
    #[arg(long, conflicts_with = "no_clobber")]
    pub(crate) overwrite: bool,
    /// Refuse when the file exists [the default]
    #[arg(long, hide_short_help = true)]
    pub(crate) no_clobber: bool,
    /// The digest the file must have, as ALGO=HEX
    #[arg(long, value_name = "ALGO=HEX", value_parser = checksum)]
    pub(crate) checksum: Option<Checksum>,
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
}

/// How the transfer is cut up.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// Connections a download: a number or auto [auto]
    ///
    /// A number is the most there are at once. Also -s and --split
    #[arg(
        short = 'x',
        long,
        short_alias = 's',
        alias = "split",
        value_name = "N",
        value_parser = units::parse_connections
    )]
    pub(crate) connections: Option<Connections>,
    /// Downloads at a time [4, small files 16]
    #[arg(short, long, value_name = "N", value_parser = units::parse_count)]
    pub(crate) jobs: Option<usize>,
    /// Bytes a second, all together: 2M, 500k
    #[arg(short = 'r', long, value_name = "RATE", value_parser = units::parse_rate)]
    pub(crate) limit_rate: Option<u64>,
    /// Size of a segment: a power of two, 1M or more
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) segment_size: Option<u64>,
    /// Unassigned: insecure in curl, min split size in aria2.
    #[arg(short = 'k', hide = true, num_args = 0..=1, default_missing_value = "")]
    pub(crate) k: Option<String>,
}

/// The shape of the requests; shared with `bench`.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// Add a request header (repeatable)
    ///
    /// @FILE adds those that FILE has, one a line
    #[arg(short = 'H', long = "header", value_name = "'K: V'")]
    pub(crate) headers: Vec<String>,
    /// Say who is asking [haul/VERSION]
    ///
    /// Also -U
    #[arg(short = 'A', long, short_alias = 'U', value_name = "NAME")]
    pub(crate) user_agent: Option<String>,
    /// Send this Referer
    #[arg(short = 'e', long, value_name = "URL")]
    pub(crate) referer: Option<String>,
    /// Basic authentication, for the URL's origin only
    #[arg(short, long, value_name = "NAME:PASS")]
    pub(crate) user: Option<String>,
    /// Send this bearer token, to the URL's origin only
    #[arg(long, hide_short_help = true, value_name = "TOKEN", conflicts_with = "user")]
    pub(crate) bearer: Option<String>,
    /// Take logins from $NETRC, else ~/.netrc
    ///
    /// Each is sent only to its host, also after redirects; `default` only to the URL's host
    #[arg(short, long)]
    pub(crate) netrc: bool,
    /// Take logins from FILE, in netrc's format
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) netrc_file: Option<PathBuf>,
    /// Send the cookies of FILE, in Netscape's format
    ///
    /// Each goes to the host, path and scheme that it is for. Those that servers set on the way
    /// are honoured, and FILE is not changed. Also --cookies
    #[arg(short = 'b', long, alias = "cookies", hide_short_help = true, value_name = "FILE")]
    pub(crate) load_cookies: Option<PathBuf>,
    /// Rounds of retrying without progress [10]
    ///
    /// The waits double from 1 s to 30 s; a new byte resets the count. Also -t and --tries
    #[arg(short = 't', long, alias = "tries", value_name = "N")]
    pub(crate) retry: Option<u32>,
    /// Give up what is silent for so long [30s]
    ///
    /// TIME is digits with ms, s, m or h; seconds without
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) stall_timeout: Option<Duration>,
    /// Time for making a connection [15s]
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Redirects to follow at most; 0 refuses them [20]
    #[arg(long, hide_short_help = true, value_name = "N")]
    pub(crate) max_redirect: Option<u32>,
    /// Follow a redirect from https to http
    #[arg(long, hide_short_help = true)]
    pub(crate) allow_downgrade: bool,
    /// Trust the authorities in this PEM file only
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) cacert: Option<PathBuf>,
    /// Accept any certificate: whoever sits between can read and change everything
    #[arg(long, hide_short_help = true)]
    pub(crate) insecure: bool,
    /// Show this certificate to servers that ask for one
    ///
    /// A PEM file with the certificate, its chain, and the key unless --key has it
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// The private key of --cert, without a passphrase
    #[arg(long, hide_short_help = true, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Go through this proxy [as the environment says]
    ///
    /// http, https, socks4, socks4a, socks5 or socks5h:
    /// [SCHEME://][NAME:PASS@]HOST[:PORT]; an empty URL is none. Without it http_proxy,
    /// https_proxy, all_proxy and no_proxy of the environment count, as curl reads them
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// Hosts that are asked without the proxy
    ///
    /// With commas between; a name means its subdomains too, `*` everything
    #[arg(long, hide_short_help = true, value_name = "HOSTS", alias = "noproxy")]
    pub(crate) no_proxy: Option<String>,
    /// Connect from this network interface or address
    #[arg(long, hide_short_help = true, value_name = "NAME|IP", value_parser = parsed::<Interface>)]
    pub(crate) interface: Option<Interface>,
    /// IPv4 only
    #[arg(short = '4', long, hide_short_help = true, overrides_with = "ipv6")]
    pub(crate) ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long, hide_short_help = true, overrides_with = "ipv4")]
    pub(crate) ipv6: bool,
    /// Connect to ADDR instead of what HOST is looked up as (repeatable)
    #[arg(
        long,
        hide_short_help = true,
        value_name = "HOST:PORT:ADDR",
        value_parser = parsed::<HostAddress>
    )]
    pub(crate) resolve: Vec<HostAddress>,
    /// Speak HTTP/1.1 only
    #[arg(long = "http1.1", hide_short_help = true, overrides_with = "http2")]
    pub(crate) http1: bool,
    /// Speak HTTP/2, where the server can; without TLS it must
    ///
    /// Not the default: one HTTP/1.1 connection for each part of a large object is faster
    #[arg(long, hide_short_help = true, overrides_with = "http1")]
    pub(crate) http2: bool,
}

/// What is said and how.
#[derive(Debug, Args)]
pub(crate) struct TalkArgs {
    /// Errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// More details
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// auto, bar, plain, json or none [auto]
    #[arg(
        long,
        value_name = "HOW",
        hide_possible_values = true,
        long_help = "How progress is shown on stderr: `bar` on a terminal, `plain` lines, `json` \
                     (as --json), `none`; `auto` is a bar on a terminal and plain lines elsewhere"
    )]
    pub(crate) progress: Option<ProgressArg>,
    /// Events as JSON lines on stdout
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the plan and fetch nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Leave out the settings of config.toml and of the environment
    #[arg(long, hide_short_help = true)]
    pub(crate) no_config: bool,
}

/// The help flags, the same for each command.
#[derive(Debug, Args)]
pub(crate) struct HelpArgs {
    /// Print the common flags
    #[arg(short = 'h', long = "help", action = ArgAction::HelpShort)]
    pub(crate) help: Option<bool>,
    /// Print every flag
    #[arg(long = "help-all", action = ArgAction::HelpLong)]
    pub(crate) help_all: Option<bool>,
}

/// Flags of `haul bench`.
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

/// Flags of `haul play`, which has those of a download too.
#[derive(Debug, Args)]
pub(crate) struct PlayArgs {
    /// What to download and play, http:// or https://
    ///
    /// The first line on stdout is where it is served, on loopback only; the page that shows it is
    /// that URL's parent. It ends when the download is complete and nobody is connected, or at
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
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) transfer: TransferArgs,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    #[command(flatten)]
    pub(crate) talk: TalkArgs,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// Flags of `haul verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A finished file, or a partial download: its output's name or NAME.part
    ///
    /// Of a partial, all that its checkpoint says is stored is read and hashed. Exit 9 when
    /// something is not right
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The digest the finished file must have, as ALGO=HEX
    #[arg(long, value_name = "ALGO=HEX", value_parser = checksum, conflicts_with = "repair")]
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

/// Values of `--continue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ContinueArg {
    Auto,
    Always,
    Never,
}

/// Values of `--storage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StorageArg {
    /// Mapped windows where blocks can be reserved, else pwrite
    Auto,
    /// Mapped windows
    Mmap,
    /// Positioned writes
    Pwrite,
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

/// Values of `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    Auto,
    Bar,
    Plain,
    Json,
    None,
}

/// Reads the command line.
///
/// # Errors
/// What clap has to print: help, the version, or a usage error (exit 2).
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let cli = Cli::try_parse_from(args)?;
    Ok(cli.command.unwrap_or(Command::Get(cli.get)))
}

fn shard(text: &str) -> Result<Shard, String> {
    Shard::parse(text, |name| std::env::var(name).ok())
}

fn checksum(text: &str) -> Result<Checksum, String> {
    parsed(text)
}

fn parsed<T: FromStr<Err = haul_engine::Error>>(text: &str) -> Result<T, String> {
    text.parse::<T>().map_err(|error| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse_words(words: &[&str]) -> Result<Command, clap::Error> {
        parse(std::iter::once("haul").chain(words.iter().copied()).map(OsString::from))
    }

    fn get(words: &[&str]) -> GetArgs {
        match parse_words(words) {
            Ok(Command::Get(args)) => args,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_is_one_screen_at_80_columns() {
        let help = Cli::command().term_width(80).render_help().to_string();
        let lines: Vec<&str> = help.lines().collect();
        assert!((24..=40).contains(&lines.len()), "{} lines:\n{help}", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{help}");
        assert!(!help.contains("--no-remote-time"));
        let all = Cli::command().term_width(80).render_long_help().to_string();
        for flag in ["--no-remote-time", "--segment-size", "--insecure", "--split", "--tries"] {
            assert!(all.contains(flag), "{flag} is not in\n{all}");
        }
    }

    #[test]
    fn help_flags_print_the_short_and_the_long_screen() {
        let short = parse_words(&["--help"]).unwrap_err();
        let all = parse_words(&["--help-all"]).unwrap_err();
        assert_eq!(short.kind(), ErrorKind::DisplayHelp);
        assert!(all.to_string().lines().count() > 2 * short.to_string().lines().count());
        assert_eq!(short.exit_code(), 0);
        for words in [&["bench", "-h"][..], &["get", "-h"]] {
            assert_eq!(parse_words(words).unwrap_err().kind(), ErrorKind::DisplayHelp);
        }
    }

    #[test]
    fn get_is_the_default_command() {
        let plain = get(&["http://h/a", "-x4", "http://h/b"]);
        let named = get(&["get", "http://h/a", "-x4", "http://h/b"]);
        assert_eq!(plain.urls, named.urls);
        assert_eq!(plain.transfer.connections, Some(Connections::Fixed(4)));
        assert_eq!(named.transfer.connections, Some(Connections::Fixed(4)));
    }

    #[test]
    fn last_of_a_repeated_flag_counts_and_lists_add() {
        let args = get(&["-x4", "-s", "2", "--split=3", "-H", "A: 1", "-H", "B: 2", "http://h/"]);
        assert_eq!(args.transfer.connections, Some(Connections::Fixed(3)));
        assert_eq!(args.request.headers, ["A: 1", "B: 2"]);
        let args = get(&["get", "-q", "-q", "--overwrite", "--overwrite", "http://h/"]);
        assert!(args.talk.quiet && args.output.overwrite);
        let args = get(&["--no-remote-time", "--remote-time", "http://h/"]);
        assert!(args.output.remote_time && !args.output.no_remote_time);
    }

    #[test]
    fn continue_takes_its_value_only_after_an_equals_sign() {
        let args = get(&["-c", "never", "http://h/"]);
        assert_eq!(args.output.r#continue, Some(ContinueArg::Auto));
        assert_eq!(args.urls, ["never", "http://h/"]);
        let args = get(&["-c=never", "http://h/"]);
        assert_eq!(args.output.r#continue, Some(ContinueArg::Never));
        let args = get(&["-cx4", "--continue=always", "http://h/"]);
        assert_eq!(args.output.r#continue, Some(ContinueArg::Always));
        assert_eq!(args.transfer.connections, Some(Connections::Fixed(4)));
    }

    #[test]
    fn curl_and_aria2_spellings_mean_the_same() {
        let args = get(&[
            "-O",
            "-P",
            "dir",
            "-U",
            "agent",
            "-e",
            "http://r/",
            "-t",
            "3",
            "-u",
            "n:p",
            "--stall-timeout",
            "500ms",
            "--connect-timeout",
            "2m",
            "-r",
            "500k",
            "-j2",
            "http://h/",
        ]);
        assert_eq!(args.output.dir, Some(PathBuf::from("dir")));
        assert_eq!(args.request.user_agent.as_deref(), Some("agent"));
        assert_eq!(args.request.retry, Some(3));
        assert_eq!(args.request.stall_timeout, Some(Duration::from_millis(500)));
        assert_eq!(args.request.connect_timeout, Some(Duration::from_secs(120)));
        assert_eq!(args.transfer.limit_rate, Some(512_000));
        assert_eq!(args.transfer.jobs, Some(2));
    }

    #[test]
    fn conflicts_name_both_flags_and_exit_2() {
        for pair in [["--overwrite", "--no-clobber"], ["--quiet", "--verbose"]] {
            let error = parse_words(&[pair[0], pair[1], "http://h/"]).unwrap_err();
            let text = error.to_string();
            assert!(pair.iter().all(|flag| text.contains(flag)), "{text}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn bad_values_quote_the_input_and_say_the_grammar() {
        for (flag, value, grammar) in [
            ("--limit-rate", "2MB/s", "500k"),
            ("--stall-timeout", "soon", "500ms"),
            ("--connections", "0", "auto"),
            ("--storage", "disk", "mmap"),
            ("--checksum", "crc=1", "sha256"),
            ("--jobs", "many", "1 or more"),
        ] {
            let error = parse_words(&[flag, value, "http://h/"]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(value) && text.contains(grammar), "{text}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
