//! How a run is reported: to a person on stderr, to a program on stdout.
//!
//! A [`View`] receives what happens, and a [`Voice`] selects the view. Human units and human
//! sentences exist only below this module.

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
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use haul_engine::{Event, Plan, Progress};

use crate::exit::Failure;
use crate::os;
pub(crate) use caption::Captions;
pub(crate) use json::seconds;
use lines::{Detail, Lines};
pub(crate) use lines::{file_name, validator_word};
pub(crate) use notify::notify;

/// The form in which a run is reported.
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
        /// Progress lines between the first and the last.
        progress: bool,
    },
    /// JSON lines on stdout, and errors for people on stderr.
    Json,
    /// Only errors, on stderr.
    Quiet,
    /// Notes, and bars on a terminal, around the table of a measurement.
    Meter,
}

/// Receives what happens to the downloads of a run. `id` counts them from 1, and 0 is the run
/// itself. The calls come from the runtime's threads, so none of them may wait.
pub(crate) trait View: Send + Sync {
    /// How often [`View::progress`] is wanted.
    fn interval(&self) -> Duration;
    /// How many downloads are to come, if that is known. Called before the first.
    fn expect(&self, _count: Option<usize>) {}
    /// Announces that [`View::ended`] will be called, so that failures may wait until then. A view
    /// that prints nothing at the end reports each when it happens.
    fn will_end(&self) {}
    /// A download of this URL begins.
    fn begin(&self, id: usize, url: &str);
    /// An event of the engine, other than a failure.
    fn event(&self, id: usize, event: &Event);
    /// There is no response yet. Called as often as [`View::progress`] would be.
    fn connecting(&self, _id: usize, _progress: &Progress) {}
    /// The file that a film is going to be, which no event of its downloads tells.
    fn named(&self, _id: usize, _output: &Path) {}
    /// A snapshot, once the download has started.
    fn progress(&self, id: usize, progress: &Progress);
    /// The answer to `--dry-run`, and to `--head` with the response's head.
    fn planned(&self, id: usize, plan: &Plan, head: bool);
    /// The download failed.
    fn failed(&self, id: usize, failure: &Failure);
    /// A signal with this exit code stopped the download.
    fn cancelled(&self, id: usize, exit: u8, resumable: bool);
    /// The download has ended, and how was reported before. Its number is not used again.
    fn end(&self, id: usize);
    /// A signal stopped the run, after it had stopped all its downloads.
    fn interrupted(&self, kept_bytes: u64);
    /// A run of several downloads has ended, in whatever way.
    fn ended(&self, _ended: &Ended) {}
    /// A line that is not an error, with a stable word for programs.
    fn note(&self, id: usize, code: &str, text: &str);
    /// A line about the run itself.
    fn warning(&self, text: &str) {
        self.note(0, "warning", text);
    }
}

/// The totals of a run's downloads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ended {
    /// Downloads that were fetched and are complete.
    pub(crate) downloaded: u64,
    /// Downloads that had nothing to fetch.
    pub(crate) skipped: u64,
    /// Downloads that failed.
    pub(crate) failed: u64,
    /// Downloads that a signal stopped.
    pub(crate) stopped: u64,
    /// Downloads that did not begin, as far as is known.
    pub(crate) waiting: u64,
    /// Bytes of the complete downloads.
    pub(crate) bytes: u64,
    /// The duration of the run.
    pub(crate) elapsed: Duration,
}

/// The view for this voice, for one download or for several.
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
    /// The same voice without moving progress.
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

/// Whether somebody at a terminal has redirected stdout into a pipe or a file and so, as with curl,
/// may expect the body there. Under cron and CI, stderr is no terminal either.
pub(crate) fn stdout_waits_for_bytes() -> bool {
    os::stdout_is_led_away() && io::stderr().is_terminal()
}

/// Whether stderr can show more than lines.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal() && os::terminal_understands_escapes()
}

/// Prints a failure that belongs to no download.
pub(crate) fn tell(failure: &Failure) {
    to_stderr(&lines::failure(Palette::of_stderr(), "", failure));
}

/// Writes lines to stderr. If that fails, there is nobody left to tell.
pub(crate) fn to_stderr(lines: &[String]) {
    write_lines(io::stderr().lock(), lines);
}

/// Writes lines to stdout. A reader that has gone away must not end a download.
pub(crate) fn to_stdout(lines: &[String]) {
    write_lines(io::stdout().lock(), lines);
}

/// Writes the lines in one piece: a process that is killed, or another one that writes to the same
/// terminal, must not come between a line and its end.
fn write_lines(mut out: impl io::Write, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let text = lines.join("\n") + "\n";
    // A reader that has gone away is no reason to stop.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Makes a text from a server, a URL or a path safe for a terminal: control characters, and those
/// that change the direction of writing, are spelled out.
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

    /// The colours that stderr and the environment allow: NO_COLOR decides first, then
    /// CLICOLOR_FORCE, then whether the terminal is dumb.
    fn of_stderr() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        Self { on: !set("NO_COLOR") && (forced || stderr_is_terminal()) }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// For something complete.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// For the word `error`, and for failed items.
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

    /// For cells that are being fetched.
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

    #[test]
    fn no_line_is_torn_from_its_end() {
        struct Calls<'a>(&'a mut Vec<Vec<u8>>);
        impl io::Write for Calls<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(bytes.to_owned());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut calls = Vec::new();
        write_lines(Calls(&mut calls), &["one".to_owned(), "two".to_owned()]);
        write_lines(Calls(&mut calls), &[]);
        assert_eq!(calls, [b"one\ntwo\n"]);
    }
}
