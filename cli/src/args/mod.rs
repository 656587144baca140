//! The syntax of the command line: which flags exist, what their values look
//! like and what their help says. [`crate::plan`] decides what they mean
//! together. The help lists flags in the order of the groups here.

mod alternatives;
mod commands;
mod display;
mod film;
mod integrity;
mod many;
mod output;
mod request;
mod transfer;
mod ways;

use std::ffi::OsString;
use std::str::FromStr;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub(crate) use self::alternatives::{AlternativeArgs, MetalinkArgs};
pub(crate) use self::commands::{
    BenchArgs, CleanArgs, CompletionsArgs, DemoArgs, ManArgs, MeasuredStorage, PlayArgs, Shell,
    StatusArgs, VerifyArgs,
};
pub(crate) use self::display::{HelpArgs, ProgressArg, TalkArgs};
pub(crate) use self::film::FilmArgs;
pub(crate) use self::integrity::{ChecksumArg, IntegrityArgs};
pub(crate) use self::many::ListArgs;
pub(crate) use self::output::{
    AllocationArg, ContinueArg, ExistingArg, FileArgs, LockedArg, OutputArgs, StorageArg,
};
pub(crate) use self::request::RequestArgs;
pub(crate) use self::transfer::TransferArgs;
pub(crate) use self::ways::WayArgs;

const TEMPLATE: &str = "{about}\n\n{usage-heading} {usage}\n\n{all-args}{after-help}";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "haul",
    version,
    about = "Fetch large files over many connections, resume them, never publish a wrong one",
    after_help = "See it work: haul demo. All flags: haul --help-all. To continue, run it again.",
    after_long_help = crate::exit::MEANINGS,
    override_usage = "haul [get] [OPTIONS] URL...\n       \
                      haul {demo|play|page|bench|verify|status|clean|completions|man} [OPTIONS]",
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

/// The commands; a command line without one is `get`. The flags of a command are defined only once
/// it is named, because they are half of the whole definition.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    // The text about each command stands at its flags, because they are defined last and win.
    #[command(arg_required_else_help = true)]
    Get(GetArgs),
    Demo(DemoArgs),
    Bench(BenchArgs),
    #[command(arg_required_else_help = true)]
    Play(PlayArgs),
    #[command(arg_required_else_help = true)]
    Page(PageArgs),
    #[command(arg_required_else_help = true)]
    Verify(VerifyArgs),
    Status(StatusArgs),
    #[command(arg_required_else_help = true)]
    Clean(CleanArgs),
    #[command(arg_required_else_help = true)]
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Download the objects at these URLs.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// URL of an object, http:// or https://, or hf://ORG/REPO[@REV][/PATH]
    #[arg(value_name = "URL", required_unless_present_any = ["input_file", "metalink"])]
    pub(crate) urls: Vec<String>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    #[command(flatten)]
    pub(crate) metalinks: MetalinkArgs,
    #[command(flatten)]
    pub(crate) how: DownloadArgs,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// Download the films that web pages show. yt-dlp finds them.
#[derive(Debug, Args)]
pub(crate) struct PageArgs {
    /// URL of a page, http:// or https://
    ///
    /// yt-dlp, which has to be installed, looks at the page once and says what the film is made of.
    /// haul downloads that, with yt-dlp's headers and cookies, names the file as yt-dlp would, and
    /// asks it again where links expire. Of a video within a playlist, the video is taken. A page
    /// that lists several films is refused, and --list shows their URLs. --audio and --subs take
    /// tags of languages only.
    #[arg(value_name = "URL", required_unless_present = "input_file")]
    pub(crate) urls: Vec<String>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    #[command(flatten)]
    pub(crate) how: DownloadArgs,
    #[command(flatten)]
    pub(crate) help: HelpArgs,
}

/// The flags of a download, whichever command runs it.
#[derive(Debug, Args)]
pub(crate) struct DownloadArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) integrity: IntegrityArgs,
    #[command(flatten)]
    pub(crate) alternatives: AlternativeArgs,
    #[command(flatten)]
    pub(crate) film: FilmArgs,
    #[command(flatten)]
    pub(crate) file: FileArgs,
    #[command(flatten)]
    pub(crate) transfer: TransferArgs,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    /// Download what a browser's "Copy as cURL" asks for; - reads stdin
    ///
    /// COMMAND is the whole text as one word, 'curl ...', as a browser makes it for bash or for
    /// cmd. Its URL, headers, cookies, user agent, referer and login are used. A command that sends
    /// a body is refused. On stdin its secrets stay out of the list of processes.
    #[arg(long, hide_short_help = true, value_name = "COMMAND")]
    // Before this is read, `habits` has replaced it by the words of the command.
    pub(crate) from_curl: Option<String>,
    #[command(flatten)]
    pub(crate) talk: TalkArgs,
}

/// The definition of the command line. The flags of a command are added by
/// [`clap::Command::build`], or when the command is named in what is parsed.
pub(crate) fn definition() -> clap::Command {
    // clap does not hand these down to the commands by itself.
    Cli::command()
        .help_template(TEMPLATE)
        .mut_subcommands(|command| command.help_template(TEMPLATE).hide(true))
}

/// Reads the command line.
///
/// # Errors The help, the version, or a usage error (exit 2), which clap prints.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    of_matches(&definition().try_get_matches_from(args)?)
}

/// Turns a command line that clap has matched into a command.
///
/// # Errors As [`parse`].
pub(crate) fn of_matches(matches: &clap::ArgMatches) -> Result<Command, clap::Error> {
    let cli = Cli::from_arg_matches(matches)?;
    Ok(cli.command.unwrap_or(Command::Get(cli.get)))
}

fn parsed<T: FromStr<Err = haul_engine::Error>>(text: &str) -> Result<T, String> {
    text.parse::<T>().map_err(|error| match crate::hints::of(&error) {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}

#[cfg(test)]
mod tests;
