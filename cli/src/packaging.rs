//! `haul completions` and `haul man`: what a package has besides the program,
//! made from the same definition that parses the command line.

use clap::{Args, ValueEnum};

use crate::args::{self, HelpArgs};
use crate::aria2;
use crate::exit::{self, Failure};
use crate::render::to_stdout;

/// Flags of `haul completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Whose: bash, zsh or fish
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    shell: Shell,
    #[command(flatten)]
    help: HelpArgs,
}

/// The shells that are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Flags of `haul man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The page of this command, or of `aria2c`, instead of the whole program's
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
    #[command(flatten)]
    help: HelpArgs,
}

/// Prints the completions of a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> u8 {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole(), "haul", &mut script);
    print(&script);
    exit::OK
}

/// Prints a manual page, in roff.
///
/// # Errors
/// Exit 2 for a command that there is not.
pub(crate) fn man(args: &ManArgs) -> Result<u8, Failure> {
    let mut program = whole();
    program.build();
    let command = match &args.command {
        None => program,
        // A name of the program rather than a command of it.
        Some(name) if name == "aria2c" => aria2::definition(),
        Some(name) => {
            let found = program.get_subcommands().find(|command| command.get_name() == name);
            let Some(command) = found else {
                let names: Vec<_> =
                    program.get_subcommands().map(clap::Command::get_name).collect();
                let quoted = crate::render::escape(name);
                return Err(Failure::usage(format!("there is no command `{quoted}`"))
                    .hint(format!("there are {}, aria2c", names.join(", "))));
            };
            command.clone().name(format!("haul-{name}"))
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::internal(format!("the manual page cannot be made: {error}")))?;
    print(&page);
    Ok(exit::OK)
}

/// The definition with the commands that `--help` leaves out.
fn whole() -> clap::Command {
    args::definition().mut_subcommands(|command| command.hide(false))
}

fn print(text: &[u8]) {
    to_stdout(&[String::from_utf8_lossy(text).trim_end().to_owned()]);
}
