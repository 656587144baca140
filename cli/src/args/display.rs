//! What is said and how.

use clap::{ArgAction, Args, ValueEnum};

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
    /// Ring the terminal's bell at the end, and notify the desktop
    ///
    /// With OSC 9, which iTerm2, WezTerm, kitty and Ghostty turn into a notification. Only where
    /// stderr is a terminal, and not after Ctrl-C
    #[arg(long, hide_short_help = true)]
    pub(crate) notify: bool,
    /// Print the plan and fetch nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// As --dry-run, with the head of the response
    ///
    /// The request is the one that a download begins with, so the head is that of the first
    /// range. Values that are secrets are left out of it
    #[arg(short = 'I', long, hide_short_help = true)]
    pub(crate) head: bool,
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

/// Values of `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    Auto,
    Bar,
    Plain,
    Json,
    None,
}
