//! `--exec`: the user's command, run on each file that is complete.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Stdio;
use std::str::FromStr;

use haul_engine::Summary;

use crate::exit::{EXEC, Failure};
use crate::os;
use crate::render::{Voice, escape};
use crate::signals::Stop;
use crate::words;

/// The placeholder for the file.
const FILE: &str = "{}";

/// A command, split into at least one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exec {
    words: Vec<String>,
}

impl FromStr for Exec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = words::split(text)?;
        if words.first().is_none_or(|program| program.is_empty() || program.contains(FILE)) {
            return Err("the first word has to be the program".to_owned());
        }
        if !words.iter().any(|word| word.contains(FILE)) {
            words.push(FILE.to_owned());
        }
        Ok(Self { words })
    }
}

impl Exec {
    /// The words after the program's name, with this file in them.
    fn arguments(&self, file: &Path) -> Vec<OsString> {
        // A name that begins with a hyphen would be taken for an option.
        let dashed = file.as_os_str().as_encoded_bytes().starts_with(b"-");
        let file = if dashed { Path::new(".").join(file) } else { file.to_owned() };
        let with_file = |word: &String| {
            let mut parts = word.split(FILE);
            let mut argument = OsString::from(parts.next().unwrap_or_default());
            for part in parts {
                argument.push(&file);
                argument.push(OsStr::new(part));
            }
            argument
        };
        self.words[1..].iter().map(with_file).collect()
    }
}

/// Runs the command, if there is one, on the file of a download that has completed. A file
/// that was complete before this run is left alone, because the command ran when it became so.
///
/// # Errors
/// Exit 13 when it cannot be started, fails, or is ended because the run is stopped.
pub(crate) async fn run(
    exec: Option<&Exec>,
    completed: &Summary,
    voice: Voice,
    mut stop: Stop,
) -> Result<(), Failure> {
    let Some(exec) = exec.filter(|_| !completed.unchanged) else { return Ok(()) };
    let file = &completed.output;
    let program = &exec.words[0];
    let shown = escape(program);
    let failed = |what: String| {
        let file = escape(&file.to_string_lossy());
        Failure::new(EXEC, "exec", format!("--exec: {shown} {what}; {file} is complete and stays"))
    };
    let mut command = tokio::process::Command::new(program);
    command.args(exec.arguments(file)).stdin(Stdio::null()).kill_on_drop(true);
    // A program that reads haul's stdout expects nothing but events there.
    if voice == Voice::Json
        && let Ok(stderr) = os::stderr_of_child()
    {
        command.stdout(stderr);
    }
    let mut child =
        command.spawn().map_err(|error| failed(format!("cannot be started: {error}")))?;
    tokio::select! {
        ended = child.wait() => match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(format!("failed with {status}"))),
            Err(error) => Err(failed(format!("cannot be waited for: {error}"))),
        },
        _ = stop.requested() => {
            let _ = child.start_kill();
            Err(failed("was stopped".to_owned()))
        }
    }
}

/// Whether a shell would find this program.
pub(crate) fn is_program(name: &str) -> bool {
    let is_one = |path: &Path| path.metadata().is_ok_and(|found| os::is_program(&found));
    if name.contains('/') {
        return is_one(Path::new(name));
    }
    let places = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&places).any(|dir| is_one(&dir.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(command: &str, file: &str) -> Vec<OsString> {
        command.parse::<Exec>().unwrap().arguments(Path::new(file))
    }

    #[test]
    fn the_file_is_one_word_wherever_it_stands() {
        assert_eq!(arguments("mv {} /done/", "a b.mp4"), ["a b.mp4", "/done/"]);
        assert_eq!(arguments("cp {} {}.bak", "x;rm -rf"), ["x;rm -rf", "x;rm -rf.bak"]);
        assert_eq!(arguments("sha256sum -b", "f"), ["-b", "f"], "last where it is not named");
        assert_eq!(arguments("ls {}", "-la"), ["./-la"]);
        assert_eq!(arguments("echo {}", "{}{}"), ["{}{}"], "a name is not read again");
    }

    #[test]
    fn a_command_names_its_program_first() {
        for command in ["", "  ", "'' x", "{}", "'open"] {
            assert!(command.parse::<Exec>().is_err(), "{command}");
        }
    }
}
