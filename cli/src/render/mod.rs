//! How a run is told: to a person on stderr, to a program on stdout.
//!
//! A [`View`] receives what happens; which one is chosen by a [`Voice`]. Human
//! units and human sentences exist below this module only.

pub(crate) mod again;
mod bar;
mod caption;
mod json;
mod lines;
mod map;
mod notify;
mod plain;
mod row;
mod total;

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use haul_engine::{Event, Plan, Progress};
use rustix::fs::FileType;

use crate::exit::Failure;
pub(crate) use caption::Captions;
use lines::{Detail, Lines};
pub(crate) use lines::{file_name, validator_word};
pub(crate) use notify::notify;

/// In which form a run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// Bars on a terminal, with the lines of `Plain` above them.
    Bar {
        /// More details.
        verbose: bool,
    },
    /// Lines on stderr.
    Plain {
        /// More details.
        verbose: bool,
        /// Lines of progress between the first and the last.
        progress: bool,
    },
    /// JSON lines on stdout, errors for people on stderr.
    Json,
    /// Errors on stderr.
    Quiet,
    /// Notes, and bars on a terminal, around the table of a measurement.
    Meter,
}

/// Receives what happens to the downloads of a run; `id` counts them from 1,
/// and 0 is the run itself. Called from the runtime's threads, so nothing in it
/// may wait.
pub(crate) trait View: Send + Sync {
    /// How often [`View::progress`] is wanted.
    fn interval(&self) -> Duration;
    /// So many downloads are to come, where that is known. Told before the first.
    fn expect(&self, _count: Option<usize>) {}
    /// [`View::ended`] will be told, so failures need not be before: a view that says nothing
    /// at the end tells each as it comes.
    fn will_end(&self) {}
    /// A download begins, with this URL.
    fn begin(&self, id: usize, url: &str);
    /// An event of the engine, except its failure.
    fn event(&self, id: usize, event: &Event);
    /// There is no response yet; called as often as [`View::progress`] would be.
    fn connecting(&self, _id: usize, _progress: &Progress) {}
    /// A snapshot, once the download has started.
    fn progress(&self, id: usize, progress: &Progress);
    /// The answer to `--dry-run`, and to `--head` with the response's head.
    fn planned(&self, id: usize, plan: &Plan, head: bool);
    /// The download failed.
    fn failed(&self, id: usize, failure: &Failure);
    /// The download was stopped by a signal, whose exit code this is.
    fn cancelled(&self, id: usize, exit: u8, resumable: bool);
    /// It has ended, and this was told; its number does not come again.
    fn end(&self, id: usize);
    /// The run was stopped by a signal, after all its downloads were.
    fn interrupted(&self, kept_bytes: u64);
    /// A run of several downloads has ended, in whatever way.
    fn ended(&self, _ended: &Ended) {}
    /// A line that is no error, with a stable word for programs.
    fn note(&self, id: usize, code: &str, text: &str);
    /// A line of the run itself.
    fn warning(&self, text: &str) {
        self.note(0, "warning", text);
    }
}

/// What the downloads of a run came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ended {
    /// Complete ones that were fetched.
    pub(crate) downloaded: u64,
    /// Those of which nothing had to be fetched.
    pub(crate) skipped: u64,
    /// Failed ones.
    pub(crate) failed: u64,
    /// Those that a signal stopped.
    pub(crate) stopped: u64,
    /// Those that did not begin, as far as is known.
    pub(crate) waiting: u64,
    /// The bytes of the complete ones.
    pub(crate) bytes: u64,
    /// The time of it all.
    pub(crate) elapsed: Duration,
}

/// The view of this voice, for one download or for several.
pub(crate) fn view(voice: Voice, several: bool) -> Arc<dyn View> {
    let palette = Palette::of_stderr();
    let lines = |detail| Lines::new(several, detail, palette);
    let detail = |verbose| if verbose { Detail::More } else { Detail::Usual };
    match voice {
        Voice::Bar { verbose } => Arc::new(bar::Bar::new(lines(detail(verbose)), palette)),
        Voice::Plain { verbose, progress } => {
            Arc::new(plain::Plain::new(lines(detail(verbose)), progress))
        }
        Voice::Json => Arc::new(json::Json::new(lines(Detail::Usual))),
        Voice::Quiet => Arc::new(plain::Quiet::new(lines(Detail::Usual))),
        Voice::Meter if stderr_is_terminal() => {
            Arc::new(bar::Bar::new(lines(Detail::Less), palette))
        }
        Voice::Meter => Arc::new(plain::Plain::new(lines(Detail::Less), false)),
    }
}

impl Voice {
    /// The same, of which nothing moves.
    pub(crate) fn without_progress(self) -> Self {
        match self {
            Self::Bar { verbose } | Self::Plain { verbose, .. } => {
                Self::Plain { verbose, progress: false }
            }
            other => other,
        }
    }
}

/// Whether stdout is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether stdout was led into a pipe or a file by somebody who sits at a terminal: after curl's
/// habit the body is expected there. Of cron and CI, stderr is no terminal either.
pub(crate) fn stdout_waits_for_bytes() -> bool {
    let kind = rustix::fs::fstat(io::stdout()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let is_led = matches!(kind, Ok(FileType::Fifo | FileType::RegularFile | FileType::Socket));
    is_led && io::stderr().is_terminal()
}

/// Whether stderr can show more than lines.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Tells of a failure outside of any download.
pub(crate) fn tell(failure: &Failure) {
    to_stderr(&lines::failure(Palette::of_stderr(), "", failure));
}

/// Writes lines to stderr. Nobody is left to tell if that fails.
pub(crate) fn to_stderr(lines: &[String]) {
    write_lines(io::stderr().lock(), lines);
}

/// Writes lines to stdout. A reader that has gone must not end a download.
pub(crate) fn to_stdout(lines: &[String]) {
    write_lines(io::stdout().lock(), lines);
}

fn write_lines(mut out: impl io::Write, lines: &[String]) {
    for line in lines {
        if writeln!(out, "{line}").is_err() {
            return;
        }
    }
    let _ = out.flush();
}

/// A text from a server, a URL or a path as it may go to a terminal: control
/// characters and those that change the direction of writing are spelled out.
pub(crate) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        let bidi = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}');
        if c.is_control() || bidi {
            let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
        } else {
            safe.push(c);
        }
        safe
    })
}

/// Whether colours may be used, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Palette {
    on: bool,
}

impl Palette {
    /// No colour.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { on: false };
    /// Colours.
    #[cfg(test)]
    pub(crate) const COLOUR: Self = Self { on: true };

    /// What stderr and the environment allow: NO_COLOR first, then
    /// CLICOLOR_FORCE, then a terminal that is not dumb.
    fn of_stderr() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        Self { on: !set("NO_COLOR") && (forced || stderr_is_terminal()) }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// For what is complete.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// For the word `error`, and for what failed.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// For the words `note` and `retry`.
    pub(crate) fn note(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// For the word `hint`.
    pub(crate) fn aside(self, text: &str) -> String {
        self.paint("1;36", text)
    }

    /// For the cells that are being fetched.
    pub(crate) fn active(self, text: &str) -> String {
        self.paint("36", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_could_steer_it() {
        assert_eq!(escape("a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\u{d}\\u{a}");
        assert_eq!(escape("gpj\u{202e}.exe\u{2066}"), "gpj\\u{202e}.exe\\u{2066}");
        assert_eq!(escape("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(escape("naïve 名前.mp4"), "naïve 名前.mp4");
    }

    #[test]
    fn a_closed_reader_is_no_failure() {
        struct Closed;
        impl io::Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        write_lines(Closed, &["line".to_owned()]);
    }
}
