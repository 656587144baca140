//! `haul completions` and `haul man`: the files that a package needs beside the program, made from
//! the definition that parses the command line.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::args::{self, CompletionsArgs, ManArgs, Shell};
use crate::aria2;
use crate::exit::{self, Failure};
use crate::render::{stdout_is_terminal, to_stdout};
use crate::words;

/// Prints the completions for a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> u8 {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Powershell => clap_complete::Shell::PowerShell,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole(), "haul", &mut script);
    print(&script);
    exit::OK
}

/// Explains the signs of the bar on the main manual page. The signs are spelled in roff's own
/// words.
const LEGEND: &str = r#".SH "THE BAR"
Below the line of numbers, a terminal shows a map of the object, from its first byte on the left to its last on the right:
.TP
\fB\[u00B7]\fR (or .)
missing
.TP
\fB\[u2591] \[u2592] \[u2593]\fR (or - + *)
partly here, from little to most
.TP
\fB\[u2588]\fR (or #)
here
.PP
The parts being fetched are in colour. A terminal without UTF\-8 shows the signs in brackets. The line above the map has the percentage, the bytes, the speed, the time left at that speed, and how many connections are fetching. While nothing arrives, it says for how long, and when haul gives up waiting. NO_COLOR, TERM=dumb and a pipe switch colours off, and CLICOLOR_FORCE switches them on.
"#;

/// Prints a manual page: as roff for a file or a package, and as text on a terminal.
///
/// # Errors
/// Exit 2 for an unknown command.
pub(crate) fn man(args: &ManArgs) -> Result<u8, Failure> {
    let mut program = whole();
    program.build();
    let mut command = match &args.command {
        None => program,
        // This is a name of the program rather than a command of it.
        Some(name) if name == "aria2c" => aria2::definition(),
        Some(name) => {
            let found = program.get_subcommands().find(|command| command.get_name() == name);
            let Some(command) = found else {
                let names: Vec<_> =
                    program.get_subcommands().map(clap::Command::get_name).collect();
                let quoted = crate::render::escape(name);
                return Err(Failure::usage(format!("there is no command `{quoted}`"))
                    .hint(format!("the commands are {}, aria2c", names.join(", "))));
            };
            command.clone().name(format!("haul-{name}"))
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .map_err(|error| Failure::internal(format!("the manual page cannot be made: {error}")))?;
    if args.command.is_none() {
        page.extend_from_slice(LEGEND.as_bytes());
    }
    if !stdout_is_terminal() {
        print(&page);
    } else if !shown(&["man", "-l", "-"].map(str::to_owned), &page) {
        // Without man, the help of the flags replaces most of the page.
        let text = command.render_long_help().to_string();
        let pager = std::env::var("PAGER").ok().and_then(|pager| words::split(&pager).ok());
        let pager = pager.unwrap_or_else(|| vec!["less".to_owned()]);
        if !shown(&pager, text.as_bytes()) {
            print(text.as_bytes());
        }
    }
    Ok(exit::OK)
}

/// Pipes a text into a program that shows it. Returns whether the program could be started and
/// succeeded.
fn shown(words: &[String], text: &[u8]) -> bool {
    let Some((program, arguments)) = words.split_first() else { return false };
    let child = Command::new(program).args(arguments).stdin(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        // A reader who has seen enough closes the pipe.
        let _ = stdin.write_all(text);
    }
    child.wait().is_ok_and(|status| status.success())
}

/// The definition, including the commands that `--help` hides.
fn whole() -> clap::Command {
    args::definition().mut_subcommands(|command| command.hide(false))
}

fn print(text: &[u8]) {
    to_stdout(&[String::from_utf8_lossy(text).trim_end().to_owned()]);
}
