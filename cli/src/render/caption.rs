//! Sentences between the bars of other processes.

use super::bar::terminal_width;
use super::row::wrap;
use super::total::{terminal_shows_progress, write_terminal};
use super::{Palette, stderr_is_terminal, to_stderr};

/// Prints sentences on stderr, broken between words on a terminal.
#[derive(Debug)]
pub(crate) struct Captions {
    palette: Palette,
    silent: bool,
}

impl Captions {
    /// Creates captions, which print nothing if `silent`.
    pub(crate) fn new(silent: bool) -> Self {
        Self { palette: Palette::of_stderr(), silent }
    }

    /// Prints a sentence.
    pub(crate) fn say(&self, text: &str) {
        self.write("", text, |_, word| word.to_owned());
    }

    /// Prints the command that runs next, below an empty line.
    pub(crate) fn command(&self, line: &str) {
        self.write("", "", |_, word| word.to_owned());
        self.write("$", line, Palette::aside);
    }

    /// Prints a sentence after a word for something that went wrong, on purpose or not.
    pub(crate) fn note(&self, word: &str, text: &str) {
        self.write(word, text, Palette::note);
    }

    /// Prints a sentence after a word for something that is as it should be.
    pub(crate) fn good(&self, word: &str, text: &str) {
        self.write(word, text, Palette::good);
    }

    /// Leaves the bars of a killed process as they stand, and continues below them.
    pub(crate) fn below_bars(&self) {
        if self.silent || !stderr_is_terminal() {
            return;
        }
        if terminal_shows_progress() {
            write_terminal(None);
        }
        to_stderr(&[String::new()]);
    }

    fn write(&self, word: &str, text: &str, paint: impl Fn(Palette, &str) -> String) {
        if self.silent {
            return;
        }
        let width = if stderr_is_terminal() { terminal_width() } else { usize::MAX };
        let mut lines = wrap(format!("{word} {text}").trim_start(), width);
        // Colours are added only now, because their codes take up no columns.
        if let Some(rest) = lines[0].strip_prefix(word).filter(|_| !word.is_empty()) {
            lines[0] = paint(self.palette, word) + rest;
        }
        to_stderr(&lines);
    }
}
