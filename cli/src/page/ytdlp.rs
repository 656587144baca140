//! yt-dlp as a program: what it is asked, and what it answers.
//!
//! No shell is involved. What a site or a list has chosen reaches it as one argument after `--`.

use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use haul_engine::redact_url;
use serde_json::Value;
use tokio::process::Command;

use crate::exec::is_program;
use crate::exit::{self, Failure};
use crate::refresh::{harmless, text_of};
use crate::render::escape;
use crate::{os, words};

/// How long it may take. It asks sites several times, waits in between where they want that, and
/// repeats what failed.
const WITHIN: Duration = Duration::from_secs(180);
/// What it prints at most, in bytes: a film of thousands of fragments in dozens of formats takes
/// some MiB.
const MOST_BYTES: u64 = 32 << 20;
/// What it complains at most, in bytes; the rest is not read.
const MOST_COMPLAINTS: u64 = 256 << 10;
const USUAL: &str = "yt-dlp";

/// The words of the command that is yt-dlp, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct YtDlp(Vec<String>);

impl Default for YtDlp {
    fn default() -> Self {
        Self(vec![USUAL.to_owned()])
    }
}

impl FromStr for YtDlp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        words::command(text).map(Self)
    }
}

/// What it is asked about every page of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Question {
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
}

/// What it answered.
pub(super) struct Said {
    pub(super) info: Value,
    /// Lines for people.
    pub(super) warnings: Vec<String>,
}

impl YtDlp {
    /// The program's name.
    pub(crate) fn program(&self) -> &str {
        &self.0[0]
    }

    /// Whether it is installed.
    pub(crate) fn is_there(&self) -> bool {
        is_program(self.program())
    }

    fn shown(&self) -> String {
        format!("`{}`", escape(self.program()))
    }

    /// Asks about a page. Dropping the future ends the program.
    ///
    /// # Errors
    /// Exit 3 where there is no such program, 4 where it takes too long, 7 where it finds nothing.
    pub(super) async fn ask(&self, page: &str, question: &Question) -> Result<Said, Failure> {
        match tokio::time::timeout(WITHIN, self.run(page, question)).await {
            Ok(said) => said,
            Err(_) => {
                let shown = self.shown();
                let text = format!(
                    "{shown} took longer than {} s for {} and was ended",
                    WITHIN.as_secs(),
                    redact_url(page)
                );
                Err(Failure::new(exit::NETWORK, "yt-dlp", text))
            }
        }
    }

    async fn run(&self, page: &str, question: &Question) -> Result<Said, Failure> {
        let mut command = Command::new(self.program());
        command
            .args(&self.0[1..])
            .args(&question.arguments)
            .args(["--", page])
            .envs(question.environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // What it starts itself, such as an interpreter of scripts, is ended with it.
        os::keep_from_ctrl_c(&mut command);
        let mut child = command.spawn().map_err(|error| self.none(&error))?;
        let mut group = Group(child.id());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (said, complaints) =
            tokio::join!(text_of(stdout, MOST_BYTES), text_of(stderr, MOST_COMPLAINTS));
        let status = child.wait().await;
        group.0 = None;
        let failed = |why: &str| {
            let text = format!("{} found no film at {}: {why}", self.shown(), redact_url(page));
            Failure::new(exit::PROTOCOL, "page", text)
                .hint("sites change, and a newer yt-dlp may know this one: yt-dlp -U")
        };
        let status = status.map_err(|error| failed(&error.to_string()))?;
        let lines: Vec<&str> = complaints.lines().collect();
        // It may have been told to print other things, too.
        let printed = said.lines().rev().find(|line| line.starts_with('{'));
        let info = printed.map(serde_json::from_str::<Value>);
        match info {
            Some(Ok(info)) => {
                let warnings = lines.iter().filter_map(|line| line.strip_prefix("WARNING: "));
                Ok(Said { info, warnings: warnings.map(told).collect() })
            }
            Some(Err(error)) => Err(failed(&format!("what it printed cannot be read: {error}"))),
            None => {
                let reason = lines.iter().rev().find_map(|line| line.strip_prefix("ERROR: "));
                let reason = reason.or(lines.last().copied()).map(told);
                Err(failed(&reason.unwrap_or_else(|| format!("it printed nothing ({status})"))))
            }
        }
    }

    /// Why it cannot be run.
    fn none(&self, error: &std::io::Error) -> Failure {
        let shown = self.shown();
        if error.kind() != std::io::ErrorKind::NotFound {
            return Failure::local(format!("{shown} cannot be run: {error}"));
        }
        let text = format!("yt-dlp finds the film of a page, and {shown} is not installed");
        Failure::new(exit::LOCAL, "no-yt-dlp", text).hint(
            "install yt-dlp (pipx install yt-dlp, or your system's package), or name it with \
             --yt-dlp PATH",
        )
    }
}

/// A line of it for people: without URLs' secrets, and without how to report a bug.
pub(super) fn told(line: &str) -> String {
    let line = line.split("; please report").next().unwrap_or(line);
    harmless(line)
}

/// A process and those that it started, which end when this is dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            os::end_group(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_its_program_first() {
        for command in ["", "  ", "'' x", "'open"] {
            assert!(command.parse::<YtDlp>().is_err(), "{command}");
        }
        let command: YtDlp = "'/opt/yt dlp' --cookies-from-browser firefox".parse().unwrap();
        assert_eq!(command.program(), "/opt/yt dlp");
    }

    #[test]
    fn what_it_complains_shows_no_secret() {
        let shown = told(
            "[x] a: no access to https://u:hunter2@h/o?sig=hunter2; please report this issue on \
             https://bugs.example/",
        );
        assert_eq!(shown, "[x] a: no access to https://h/o?…");
    }
}
