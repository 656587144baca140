//! Bars on a terminal: one line of numbers, and one that shows which parts of the object are here
//! and where the connections are.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use haul_engine::{Event, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lines::{self, Lines};
use super::map::{Shades, legend, map, shades};
use super::row::{columns, row, shorten, whole};
use super::total::{Total, terminal_shows_progress};
use super::{Ended, Palette, View, to_stderr, to_stdout};
use crate::exit::Failure;
use crate::os;

/// A bar that is wider than this says no more.
const WIDEST: usize = 120;

/// A server that has not answered for this long is mentioned.
const SLOW_ANSWER: Duration = Duration::from_secs(3);

/// One bar for each running download.
#[derive(Debug)]
pub(crate) struct Bar {
    lines: Lines,
    palette: Palette,
    shades: &'static Shades,
    multi: MultiProgress,
    bars: Mutex<Bars>,
    in_tab: bool,
}

/// What stands below the printed lines.
#[derive(Debug, Default)]
struct Bars {
    running: BTreeMap<usize, ProgressBar>,
    /// How many columns the name of each takes.
    names: BTreeMap<usize, usize>,
    /// The line for all of them together, if there are several.
    last: Option<ProgressBar>,
    total: Total,
    /// The width for which they were drawn.
    width: usize,
    stopped: bool,
}

impl Bars {
    /// How many lines there are.
    fn lines(&self) -> usize {
        let bars = self.running.values().chain(&self.last);
        bars.map(|bar| bar.message().lines().count().max(1)).sum()
    }
}

impl Bar {
    pub(crate) fn new(lines: Lines, palette: Palette) -> Self {
        Self {
            lines,
            palette,
            shades: shades(),
            multi: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
            bars: Mutex::default(),
            in_tab: terminal_shows_progress(),
        }
    }

    fn bars(&self) -> MutexGuard<'_, Bars> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints lines above the bars.
    fn say(&self, lines: &[String]) {
        if !lines.is_empty() {
            self.multi.suspend(|| to_stderr(lines));
        }
    }

    /// Removes a download's bar.
    fn close(&self, id: usize) {
        let mut bars = self.bars();
        bars.total.gone(id);
        bars.names.remove(&id);
        let mut gone: Vec<_> = bars.running.remove(&id).into_iter().collect();
        if bars.running.is_empty() {
            gone.extend(bars.last.take());
            bars.total.clear_terminal();
        }
        for bar in gone {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
    }

    /// Puts lines into a download's bar, which is created if needed. It gets as many lines as there
    /// is room for beside all the others.
    fn show(&self, bars: &mut Bars, id: usize, mut lines: Vec<String>, width: usize) {
        self.clear_wrapped(bars, width);
        let new = usize::from(!bars.running.contains_key(&id));
        let count = bars.running.len() + new;
        // The last row is the cursor's.
        let room = terminal_rows().saturating_sub(2).max(1);
        if self.lines.several() && count * lines.len() > room {
            lines.truncate(1);
        }
        if self.lines.several() {
            let last = bars.last.get_or_insert_with(|| self.new_bar(None));
            last.set_message(bars.total.line(width));
        }
        if new == 1 && count > room {
            return;
        }
        let below = bars.last.clone();
        let bar = bars.running.entry(id).or_insert_with(|| self.new_bar(below.as_ref()));
        bar.set_message(lines.join("\n"));
        if self.in_tab {
            bars.total.tell_terminal();
        }
    }

    /// Clears the bars after the terminal became narrower. It has then wrapped each of their lines
    /// into several, and only the last of those would be drawn over.
    fn clear_wrapped(&self, bars: &mut Bars, width: usize) {
        let before = std::mem::replace(&mut bars.width, width);
        if width >= before {
            return;
        }
        let rows_a_line = (before + 1).div_ceil(width + 1);
        let above = bars.lines() * (rows_a_line - 1);
        if above > 0 && self.multi.clear().is_ok() {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\x1b[{above}A\r\x1b[J").and_then(|()| stderr.flush());
        }
    }

    fn new_bar(&self, below: Option<&ProgressBar>) -> ProgressBar {
        let bar = match below {
            Some(below) => self.multi.insert_before(below, ProgressBar::no_length()),
            None => self.multi.add(ProgressBar::no_length()),
        };
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        bar
    }
}

impl View for Bar {
    fn interval(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn expect(&self, count: Option<usize>) {
        self.bars().total.expect(count);
    }

    fn will_end(&self) {
        self.lines.keep_failures();
    }

    fn begin(&self, id: usize, url: &str) {
        self.lines.begin(id, url);
        self.bars().total.begin(id);
    }

    fn event(&self, id: usize, event: &Event) {
        if let Event::Completed(summary) = event {
            self.bars().total.completed(id, summary);
            self.close(id);
        }
        let mut lines = self.lines.event(id, event);
        if let Event::Started(_) = event {
            if self.lines.several() && !self.lines.verbose() {
                // Each download has a bar of its own that shows it.
                lines.clear();
            } else if self.lines.verbose() && !self.lines.several() {
                lines.push(format!("  {}", legend(self.shades, self.palette)));
            }
        }
        self.say(&lines);
    }

    fn named(&self, id: usize, output: &Path) {
        self.lines.named(id, output);
    }

    fn connecting(&self, id: usize, progress: &Progress) {
        let width = terminal_width();
        let state = if progress.queued {
            "waiting for its turn".to_owned()
        } else if progress.silent_for >= SLOW_ANSWER {
            format!("no answer for {}", whole(progress.silent_for))
        } else {
            "connecting".to_owned()
        };
        let mut bars = self.bars();
        let names = bars.names.values().copied().max().unwrap_or(0);
        let room = width.saturating_sub(columns(&state) + 2).max(1);
        let name = shorten(&self.lines.name(id), room);
        let padding = " ".repeat(names.min(room).saturating_sub(columns(&name)));
        let line = shorten(&format!("{name}{padding}  {state}"), width);
        bars.total.connecting(id);
        self.show(&mut bars, id, vec![line], width);
    }

    fn progress(&self, id: usize, progress: &Progress) {
        let width = terminal_width();
        let name = self.lines.name(id);
        let mut bars = self.bars();
        bars.names.insert(id, columns(&name));
        let names = bars.names.values().copied().max().unwrap_or(0);
        let mut lines = vec![row(&name, names, self.lines.several(), progress, width)];
        if !progress.map.is_empty() {
            lines.push(map(&progress.map, width, self.shades, self.palette));
        }
        bars.total.progress(id, progress);
        self.show(&mut bars, id, lines, width);
    }

    fn planned(&self, _: usize, plan: &haul_engine::Plan, head: bool) {
        self.multi.suspend(|| to_stdout(&lines::planned(plan, head)));
    }

    fn failed(&self, id: usize, failure: &Failure) {
        self.bars().total.failed(id);
        self.close(id);
        self.say(&self.lines.failure(id, failure));
    }

    fn cancelled(&self, id: usize, exit: u8, _: bool) {
        if exit == BY_KEYBOARD && !std::mem::replace(&mut self.bars().stopped, true) {
            take_back_echo();
        }
        self.close(id);
    }

    fn end(&self, id: usize) {
        self.close(id);
        self.bars().total.end(id);
        self.lines.end(id);
    }

    fn ended(&self, ended: &Ended) {
        self.say(&self.lines.ended(ended));
    }

    fn interrupted(&self, kept_bytes: u64) {
        self.bars().total.clear_terminal();
        self.say(&[lines::interrupted(kept_bytes)]);
    }

    fn note(&self, id: usize, _: &str, text: &str) {
        self.say(&[self.lines.note(id, text)]);
    }
}

/// The exit code of a run that Ctrl-C ended.
const BY_KEYBOARD: u8 = 130;

/// Takes back the `^C` that the terminal has echoed into the line below the bars. Otherwise they
/// would be cleared one row too low.
fn take_back_echo() {
    if os::terminal_shows_control_keys() {
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(b"\r\x1b[K\x1b[1A").and_then(|()| stderr.flush());
    }
}

/// How many rows the terminal has, as far as is known.
fn terminal_rows() -> usize {
    os::terminal_size().1.unwrap_or(24)
}

/// How many columns a line may fill: one fewer than the terminal has, because some terminals wrap
/// when the last one is written.
pub(super) fn terminal_width() -> usize {
    let real = os::terminal_size().0;
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok());
    let columns = match (real, asked.filter(|&columns| columns > 0)) {
        (Some(real), Some(asked)) => asked.min(real),
        (Some(columns), None) | (None, Some(columns)) => columns,
        (None, None) => 80,
    };
    columns.saturating_sub(1).clamp(1, WIDEST)
}
