//! Bars on a terminal: one line of numbers and one that shows which parts of
//! the object are here and where the connections are.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use haul_engine::{Event, MapCell, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lines::{self, Lines};
use super::plain::percent;
use super::total::{Total, terminal_shows_progress};
use super::{Palette, View, to_stderr, to_stdout};
use crate::exit::Failure;
use crate::units::{eta, rate, size};

/// Wider than this a bar says no more.
const WIDEST: usize = 120;

/// One bar for each running download.
#[derive(Debug)]
pub(crate) struct Bar {
    lines: Lines,
    palette: Palette,
    shades: &'static [char; 5],
    multi: MultiProgress,
    bars: Mutex<Bars>,
    in_tab: bool,
}

/// What is below the lines.
#[derive(Debug, Default)]
struct Bars {
    running: BTreeMap<usize, ProgressBar>,
    /// The line of all of them, where there are several.
    last: Option<ProgressBar>,
    total: Total,
    /// The columns for which they were drawn.
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

    /// Writes above the bars.
    fn say(&self, lines: &[String]) {
        if !lines.is_empty() {
            self.multi.suspend(|| to_stderr(lines));
        }
    }

    /// Takes a download's bar away.
    fn close(&self, id: usize) {
        let mut bars = self.bars();
        bars.total.left(id);
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

    /// Puts lines into a download's bar, which is made for it: as many as there
    /// is room for with all the others.
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

    /// A terminal that became narrower has wrapped each line of the bars into
    /// several, of which only the last would be drawn over.
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

    fn begin(&self, id: usize, url: &str) {
        self.lines.begin(id, url);
    }

    fn event(&self, id: usize, event: &Event) {
        if let Event::Completed(summary) = event {
            self.bars().total.completed(id, summary);
            self.close(id);
        }
        self.say(&self.lines.event(id, event));
    }

    fn connecting(&self, id: usize) {
        let width = terminal_width();
        let name = shorten(&self.lines.name(id), width.saturating_sub(12).max(1));
        let line = shorten(&format!("{name}  connecting"), width);
        let mut bars = self.bars();
        bars.total.connecting(id);
        self.show(&mut bars, id, vec![line], width);
    }

    fn progress(&self, id: usize, progress: &Progress) {
        let width = terminal_width();
        let mut lines = vec![numbers(&self.lines.name(id), self.lines.several(), progress, width)];
        if !progress.map.is_empty() {
            lines.push(map(&progress.map, width, self.shades, self.palette));
        }
        let mut bars = self.bars();
        bars.total.progress(id, progress);
        self.show(&mut bars, id, lines, width);
    }

    fn planned(&self, _: usize, plan: &haul_engine::Plan) {
        self.multi.suspend(|| to_stdout(&lines::planned(plan)));
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
        self.lines.end(id);
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

/// Takes back the `^C` that the terminal has written into the line below the bars:
/// else they would be cleared one row too low.
fn take_back_echo() {
    use rustix::termios::LocalModes;
    let echoes = rustix::termios::tcgetattr(io::stdin())
        .is_ok_and(|state| state.local_modes.contains(LocalModes::ECHO | LocalModes::ECHOCTL));
    if echoes {
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(b"\r\x1b[K\x1b[1A").and_then(|()| stderr.flush());
    }
}

/// The rows there are, as far as that can be told.
fn terminal_rows() -> usize {
    let rows = rustix::termios::tcgetwinsize(io::stderr()).ok().map(|size| size.ws_row.into());
    rows.filter(|&rows| rows > 0).unwrap_or(24)
}

/// The columns a line may fill: one less than there are, because some terminals
/// wrap when the last one is written.
fn terminal_width() -> usize {
    let real = rustix::termios::tcgetwinsize(io::stderr()).ok().map(|size| size.ws_col.into());
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse::<usize>().ok());
    let columns = match (real.filter(|&columns| columns > 0), asked.filter(|&columns| columns > 0))
    {
        (Some(real), Some(asked)) => asked.min(real),
        (Some(columns), None) | (None, Some(columns)) => columns,
        (None, None) => 80,
    };
    columns.saturating_sub(1).clamp(1, WIDEST)
}

/// The line of numbers, in at most `width` columns: as much as there is room
/// for. Where there are several downloads the name is worth more than some numbers.
fn numbers(name: &str, several: bool, progress: &Progress, width: usize) -> String {
    let bytes = match progress.total_bytes {
        Some(total) => format!("{} / {}", size(progress.bytes), size(total)),
        None => size(progress.bytes),
    };
    let done = percent(progress).map_or_else(|| bytes.clone(), |percent| format!("{percent}%"));
    let candidates = if progress.syncing {
        vec![format!("{bytes}  syncing"), format!("{done}  syncing")]
    } else {
        let speed = rate(progress.bytes_per_second);
        let left = progress.eta.map_or_else(|| "-".to_owned(), eta);
        let connections = progress.connections;
        vec![
            format!("{done:>4}  {bytes}  {speed}  ETA {left}  {connections} conn"),
            format!("{bytes}  {speed}  {left}  {connections} conn"),
            format!("{bytes} {speed} {left} {connections}c"),
            format!("{done} {speed} {left} {connections}c"),
            format!("{done} {speed}"),
            done,
        ]
    };
    let name_columns = columns(name).min(16);
    let worth_less = if several { 4 } else { 3 };
    let with_name =
        candidates.iter().take(worth_less).find(|text| columns(text) + 2 + name_columns <= width);
    if let Some(text) = with_name {
        let room = width - columns(text) - 2;
        return format!("{}  {text}", shorten(name, room));
    }
    let alone = candidates.iter().find(|text| columns(text) <= width);
    alone.or(candidates.last()).map_or_else(String::new, |text| shorten(text, width))
}

/// The map of the object in exactly `width` cells.
fn map(cells: &[MapCell], width: usize, shades: &[char; 5], palette: Palette) -> String {
    let mut line = String::with_capacity(width * 4);
    let mut run = String::new();
    for column in 0..width {
        let cell = sample(cells, column, width);
        let shade = shade(cell.done, shades);
        if cell.active && cell.done < 1.0 {
            run.push(shade);
            continue;
        }
        if !run.is_empty() {
            line += &palette.active(&std::mem::take(&mut run));
        }
        line.push(shade);
    }
    if !run.is_empty() {
        line += &palette.active(&run);
    }
    line
}

/// What column `column` of `width` shows: the mean of the cells under it,
/// weighted by how much of each it covers.
fn sample(cells: &[MapCell], column: usize, width: usize) -> MapCell {
    // In units of 1/width of a cell, so that the borders are whole numbers.
    let (start, end) = (column * cells.len(), (column + 1) * cells.len());
    let (mut done, mut active) = (0.0_f32, false);
    let under = start / width..end.div_ceil(width);
    for (index, cell) in under.clone().zip(&cells[under]) {
        let covered = end.min((index + 1) * width) - start.max(index * width);
        done += cell.done * covered as f32;
        active |= cell.active;
    }
    MapCell { done: done / (end - start) as f32, active }
}

/// Empty and full only where it is exactly so.
fn shade(done: f32, shades: &[char; 5]) -> char {
    match done {
        done if done <= 0.0 => shades[0],
        done if done >= 0.9999 => shades[4],
        done => shades[1 + ((done * 3.0) as usize).min(2)],
    }
}

/// Blocks, or ASCII where the locale says that nothing else can be shown.
fn shades() -> &'static [char; 5] {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let utf8 = locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    });
    if utf8 { &['·', '░', '▒', '▓', '█'] } else { &['.', '-', '+', '*', '#'] }
}

/// How many columns a text takes, or a little more: whatever may be wide is
/// counted as wide, so that a line never wraps.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

fn char_columns(c: char) -> usize {
    // U+2500 to U+25FF are the map's own blocks and the ellipsis is at U+2026.
    if c < '\u{1100}' || ('\u{2010}'..='\u{25ff}').contains(&c) { 1 } else { 2 }
}

/// A text in at most `width` columns; what is cut out of its middle is shown as `…`.
pub(super) fn shorten(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let take = |chars: &mut dyn Iterator<Item = char>, room: usize| -> Vec<char> {
        let mut used = 0;
        chars
            .take_while(|&c| {
                used += char_columns(c);
                used <= room
            })
            .collect()
    };
    let head = take(&mut text.chars(), room.div_ceil(2));
    let mut tail = take(&mut text.chars().rev(), room / 2);
    tail.reverse();
    if width == 0 {
        return String::new();
    }
    head.into_iter().chain(['…']).chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: [char; 5] = ['·', '░', '▒', '▓', '█'];

    fn progress() -> Progress {
        let mut progress = Progress::default();
        progress.bytes = 102 << 20;
        progress.total_bytes = Some(300 << 20);
        progress.bytes_per_second = 45.3 * f64::from(1 << 20);
        progress.eta = Some(Duration::from_secs(185));
        progress.connections = 16;
        progress
    }

    fn cells(done: &[f32]) -> Vec<MapCell> {
        done.iter().map(|&done| MapCell { done, active: false }).collect()
    }

    #[test]
    fn numbers_at_80_columns_have_everything() {
        assert_eq!(
            numbers("film.mp4", false, &progress(), 79),
            "film.mp4   34%  102 MiB / 300 MiB  45.3 MiB/s  ETA 3m05s  16 conn"
        );
    }

    #[test]
    fn numbers_at_40_columns_keep_bytes_speed_time_and_connections() {
        assert_eq!(
            numbers("film.mp4", false, &progress(), 39),
            "102 MiB / 300 MiB 45.3 MiB/s 3m05s 16c"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let long = "a very long name of a film with 名前 in it ".repeat(4);
        let mut late = progress();
        late.bytes = u64::MAX - 1;
        late.total_bytes = Some(u64::MAX);
        late.eta = Some(Duration::from_secs(863_999));
        let mut syncing = progress();
        syncing.syncing = true;
        for width in 1..=WIDEST {
            for name in ["f", long.as_str()] {
                for state in [&progress(), &late, &syncing, &Progress::default()] {
                    for several in [false, true] {
                        let line = numbers(name, several, state, width);
                        assert!(columns(&line) <= width, "{width}: {line}");
                    }
                }
            }
            let line = map(&cells(&[0.0, 0.5, 1.0]), width, &BLOCKS, Palette::PLAIN);
            assert_eq!(line.chars().count(), width);
        }
    }

    #[test]
    fn map_shows_where_it_is() {
        let map = |done: &[f32], width| map(&cells(done), width, &BLOCKS, Palette::PLAIN);
        assert_eq!(map(&[1.0, 0.0, 0.1, 0.5, 0.9], 5), "█·░▒▓");
        assert_eq!(map(&[1.0, 0.0], 6), "███···");
        assert_eq!(map(&[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], 3), "█▒·");
        assert_eq!(map(&[1.0; 256], 39), "█".repeat(39));
        // One byte missing is not full, one byte there is not empty.
        assert_eq!(map(&[0.99, 0.01], 2), "▓░");
    }

    #[test]
    fn active_cells_are_coloured_and_nothing_is_without_colour() {
        let mut cells = cells(&[1.0, 0.5, 0.0, 0.0]);
        cells[1].active = true;
        cells[2].active = true;
        assert_eq!(map(&cells, 4, &BLOCKS, Palette::COLOUR), "█\x1b[36m▒·\x1b[0m·");
        assert_eq!(map(&cells, 4, &BLOCKS, Palette::PLAIN), "█▒··");
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shorten("abcdefghij.mp4", 9), "abcd….mp4");
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abc", 1), "…");
        assert_eq!(shorten("abc", 0), "");
        assert!(columns(&shorten("名前名前名前", 6)) <= 6);
    }
}
