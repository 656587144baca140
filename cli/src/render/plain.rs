//! Lines on stderr, and the view that prints nothing but errors.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use haul_engine::{Event, Plan, Progress};

use super::lines::{self, Lines};
use super::row::{percent, speed, standstill};
use super::total::Total;
use super::{Ended, View, to_stderr, to_stdout};
use crate::exit::Failure;
use crate::units::{eta, plural, rate, size};

/// A progress line comes after this time at the latest.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

/// A progress line comes no sooner than this after the one before, however fast the download is.
const SHORTEST_SILENCE: Duration = Duration::from_secs(1);

/// Lines for a log or a pipe.
#[derive(Debug)]
pub(crate) struct Plain {
    lines: Lines,
    progress: bool,
    paces: Mutex<Paces>,
}

/// When progress lines are due, for each download and for all together.
#[derive(Debug, Default)]
struct Paces {
    of_each: HashMap<usize, Pace>,
    of_all: Option<Pace>,
    total: Total,
}

impl Plain {
    pub(crate) fn new(lines: Lines, progress: bool) -> Self {
        Self { lines, progress, paces: Mutex::default() }
    }

    fn paces(&self) -> MutexGuard<'_, Paces> {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints the progress of all downloads together, if there are several.
    fn tell_total(&self, paces: &mut Paces, now: Instant) {
        if !self.progress || !self.lines.several() {
            return;
        }
        let tenth = paces.total.percent().map_or(0, |percent| percent / 10);
        let pace = paces.of_all.get_or_insert_with(|| Pace::new(now, tenth));
        if pace.is_due(now, tenth) {
            to_stderr(&[paces.total.sentence()]);
        }
    }
}

impl View for Plain {
    fn interval(&self) -> Duration {
        Duration::from_millis(250)
    }

    fn expect(&self, count: Option<usize>) {
        self.paces().total.expect(count);
    }

    fn will_end(&self) {
        self.lines.keep_failures();
    }

    fn begin(&self, id: usize, url: &str) {
        self.lines.begin(id, url);
        self.paces().total.begin(id);
    }

    fn event(&self, id: usize, event: &Event) {
        if let Event::Completed(summary) = event {
            self.paces().total.completed(id, summary);
        }
        to_stderr(&self.lines.event(id, event));
    }

    fn named(&self, id: usize, output: &Path) {
        self.lines.named(id, output);
    }

    fn connecting(&self, id: usize, _: &Progress) {
        let mut paces = self.paces();
        paces.total.connecting(id);
        self.tell_total(&mut paces, Instant::now());
    }

    fn progress(&self, id: usize, progress: &Progress) {
        if !self.progress {
            return;
        }
        let (now, mut paces) = (Instant::now(), self.paces());
        let tenth = percent(progress).map_or(0, |percent| percent / 10);
        let pace = paces.of_each.entry(id).or_insert_with(|| Pace::new(now, tenth));
        if pace.is_due(now, tenth) {
            to_stderr(&[progress_line(&self.lines.name(id), progress)]);
        }
        paces.total.progress(id, progress);
        self.tell_total(&mut paces, now);
    }

    fn planned(&self, _: usize, plan: &Plan, head: bool) {
        to_stdout(&lines::planned(plan, head));
    }

    fn failed(&self, id: usize, failure: &Failure) {
        self.paces().total.failed(id);
        to_stderr(&self.lines.failure(id, failure));
    }

    fn cancelled(&self, id: usize, _: u8, _: bool) {
        self.paces().total.gone(id);
    }

    fn end(&self, id: usize) {
        self.lines.end(id);
        let mut paces = self.paces();
        paces.of_each.remove(&id);
        paces.total.gone(id);
        paces.total.end(id);
    }

    fn ended(&self, ended: &Ended) {
        to_stderr(&self.lines.ended(ended));
    }

    fn interrupted(&self, kept_bytes: u64) {
        to_stderr(&[lines::interrupted(kept_bytes)]);
    }

    fn note(&self, id: usize, _: &str, text: &str) {
        to_stderr(&[self.lines.note(id, text)]);
    }
}

/// When the next progress line is due.
#[derive(Debug)]
struct Pace {
    last: Instant,
    tenth: u64,
}

impl Pace {
    fn new(now: Instant, tenth: u64) -> Self {
        Self { last: now, tenth }
    }

    /// Whether a line is due; if so, it counts as written.
    fn is_due(&mut self, now: Instant, tenth: u64) -> bool {
        let silence = now.duration_since(self.last);
        let due = silence >= LONGEST_SILENCE || tenth != self.tenth && silence >= SHORTEST_SILENCE;
        if due {
            *self = Self::new(now, tenth);
        }
        due
    }
}

fn progress_line(name: &str, progress: &Progress) -> String {
    let mut line = format!("{name}: ");
    match (percent(progress), progress.total_bytes) {
        (Some(percent), Some(total)) => {
            line += &format!("{percent}%, {} of {}", size(progress.bytes), size(total));
        }
        _ => line += &size(progress.bytes),
    }
    if let Some([state, _]) = standstill(progress) {
        return format!("{line}, {state}");
    }
    if let Some(speed) = speed(progress) {
        line += &format!(", {}", rate(speed));
    }
    if let Some(left) = progress.eta {
        line += &format!(", {} left", eta(left));
    }
    line + ", " + &plural(progress.connections as u64, "connection", "connections")
}

/// Prints only errors.
#[derive(Debug)]
pub(crate) struct Quiet {
    lines: Lines,
}

impl Quiet {
    pub(crate) fn new(lines: Lines) -> Self {
        Self { lines }
    }
}

impl View for Quiet {
    fn interval(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn begin(&self, id: usize, url: &str) {
        self.lines.begin(id, url);
    }

    fn event(&self, _: usize, _: &Event) {}

    fn progress(&self, _: usize, _: &Progress) {}

    fn planned(&self, _: usize, plan: &Plan, head: bool) {
        to_stdout(&lines::planned(plan, head));
    }

    fn failed(&self, id: usize, failure: &Failure) {
        to_stderr(&self.lines.failure(id, failure));
    }

    fn cancelled(&self, _: usize, _: u8, _: bool) {}

    fn end(&self, id: usize) {
        self.lines.end(id);
    }

    fn interrupted(&self, _: u64) {}

    fn note(&self, _: usize, _: &str, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        let mut progress = crate::render::row::tests::progress();
        progress.eta = Some(Duration::from_secs(4));
        progress.connections = 8;
        progress
    }

    #[test]
    fn line_has_bytes_speed_time_and_connections() {
        assert_eq!(
            progress_line("film.mp4", &progress()),
            "film.mp4: 34%, 102 MiB of 300 MiB, 45.3 MiB/s, 4s left, 8 connections"
        );
        let mut unknown = progress();
        unknown.total_bytes = None;
        unknown.eta = None;
        assert_eq!(progress_line("f", &unknown), "f: 102 MiB, 45.3 MiB/s, 8 connections");
        let mut last = progress();
        last.syncing = true;
        assert!(progress_line("f", &last).ends_with(", syncing"));
        let mut silent = progress();
        silent.silent_for = Duration::from_secs(12);
        silent.gives_up_after = Some(Duration::from_secs(30));
        assert_eq!(
            progress_line("f", &silent),
            "f: 34%, 102 MiB of 300 MiB, no data for 12 s (gives up at 30 s)"
        );
    }

    #[test]
    fn percent_is_a_hundred_only_at_the_end() {
        let mut almost = progress();
        almost.bytes = (300 << 20) - 1;
        assert_eq!(percent(&almost), Some(99));
        almost.bytes = 300 << 20;
        assert_eq!(percent(&almost), Some(100));
        almost.total_bytes = Some(0);
        assert_eq!(percent(&almost), Some(100));
        almost.total_bytes = None;
        assert_eq!(percent(&almost), None);
    }

    #[test]
    fn lines_come_each_tenth_or_ten_seconds_but_never_in_a_flood() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(start, 0);
        assert!(!pace.is_due(at(500), 3), "too soon");
        assert!(pace.is_due(at(1000), 5));
        assert!(!pace.is_due(at(10_900), 5), "nothing new");
        assert!(pace.is_due(at(11_000), 5), "ten seconds of silence");
    }
}
