//! What haul prints, and how.

use clap::{ArgAction, Args, ValueEnum};

/// What haul prints, and how.
#[derive(Debug, Args)]
pub(crate) struct TalkArgs {
    /// Print errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print more details
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Progress as auto, bar, plain, json, none [auto]
    #[arg(
        long,
        value_name = "HOW",
        hide_possible_values = true,
        long_help = "Choose how progress is shown on stderr: a `bar` on a terminal, `plain` lines, \
                     `json` (the same as --json) or `none`. `auto` is a bar on a terminal and \
                     plain lines elsewhere."
    )]
    pub(crate) progress: Option<ProgressArg>,
    /// Print events as JSON lines on stdout
    #[arg(long)]
    pub(crate) json: bool,
    /// Ring the terminal's bell at the end, and notify the desktop
    ///
    /// The notification is OSC 9, which iTerm2, WezTerm, kitty and Ghostty show. It needs a
    /// terminal on stderr and is left out after Ctrl-C.
    #[arg(long, hide_short_help = true)]
    pub(crate) notify: bool,
    /// Print the plan and fetch nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Like --dry-run, and print the head of the response
    ///
    /// The request is the one that a download begins with, so the head is that of the first range.
    /// Secret values are left out.
    #[arg(short = 'I', long, hide_short_help = true)]
    pub(crate) head: bool,
    /// Ignore config.toml and the HAUL_* environment variables
    #[arg(long, hide_short_help = true)]
    pub(crate) no_config: bool,
}

/// The help flags, which every command has.
#[derive(Debug, Args)]
pub(crate) struct HelpArgs {
    /// Print the common flags
    #[arg(short = 'h', long = "help", action = ArgAction::HelpShort)]
    pub(crate) help: Option<bool>,
    /// Print every flag
    #[arg(long = "help-all", action = ArgAction::HelpLong)]
    pub(crate) help_all: Option<bool>,
}

/// The values of `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    Auto,
    Bar,
    Plain,
    Json,
    None,
}
