//! `--refresh-cmd`: a command that prints a fresh URL for an expired link.
//!
//! No shell is involved. The words of the command are the user's, and the URL, which a server may
//! have chosen, is passed only in the environment.

use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use haul_engine::{Refresh, Refreshing, redact_url};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::render::escape;
use crate::words;

/// How long the command may take.
const WITHIN: Duration = Duration::from_secs(60);

/// Output beyond this is not read, in bytes.
const MOST_BYTES: u64 = 64 << 10;

/// The words of a command, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefreshCommand(Vec<String>);

impl FromStr for RefreshCommand {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        words::command(text).map(Self)
    }
}

impl Refresh for RefreshCommand {
    fn refresh<'a>(&'a self, url: &'a str) -> Refreshing<'a> {
        Box::pin(async move {
            let run = tokio::time::timeout(WITHIN, self.run(url)).await;
            let late = |_| format!("{} took longer than {} s", self.shown(), WITHIN.as_secs());
            Ok(run.map_err(late)??)
        })
    }
}

impl RefreshCommand {
    fn shown(&self) -> String {
        format!("--refresh-cmd `{}`", escape(&self.0[0]))
    }

    async fn run(&self, url: &str) -> Result<String, String> {
        let mut child = Command::new(&self.0[0])
            .args(&self.0[1..])
            .env("HAUL_URL", url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{} cannot be run: {error}", self.shown()))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (said, complained) = tokio::join!(first_line(stdout), first_line(stderr));
        let status = child.wait().await.map_err(|error| format!("{}: {error}", self.shown()))?;
        if !status.success() {
            let shown = self.shown();
            return Err(match complained.as_str() {
                "" => format!("{shown} failed ({status})"),
                why => format!("{shown} failed ({status}): {}", harmless(why)),
            });
        }
        match said.as_str() {
            "" => Err(format!("{} printed no URL", self.shown())),
            _ => Ok(said),
        }
    }
}

/// The first line, trimmed.
async fn first_line(stream: Option<impl AsyncRead + Unpin>) -> String {
    let text = text_of(stream, MOST_BYTES).await;
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// The beginning of what a program prints, of so many bytes at most. All of it is read, so that no
/// write of the program fails.
pub(crate) async fn text_of(stream: Option<impl AsyncRead + Unpin>, most_bytes: u64) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut bytes = Vec::new();
    let _ = (&mut stream).take(most_bytes).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line of a program as it may be shown, without the secrets in URLs.
pub(crate) fn harmless(line: &str) -> String {
    let word = |word: &str| match word.contains("://") {
        true => redact_url(word),
        false => escape(word),
    };
    let words: Vec<String> = line.split_whitespace().map(word).collect();
    words.join(" ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_its_program_first() {
        for command in ["", "  ", "'' x", "'open"] {
            assert!(command.parse::<RefreshCommand>().is_err(), "{command}");
        }
        let command: RefreshCommand = "sign '$HAUL_URL'".parse().unwrap();
        assert_eq!(command.0, ["sign", "$HAUL_URL"], "nothing is put into the words");
    }

    #[test]
    fn complaints_show_no_secret() {
        let shown = harmless("no access to https://u:hunter2@h/o?sig=hunter2 \u{1b}[2J");
        assert!(!shown.contains("hunter2") && shown.contains("https://h/o"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }
}
