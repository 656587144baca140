//! All downloads of a run together: the last line below the bars, the same among plain lines, and
//! the progress that a terminal shows in its tab (OSC 9;4).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::time::Duration;

use haul_engine::{Progress, Summary};

use super::row::{columns, shorten, speed};
use crate::units::{eta, rate, size};

/// What one download contributes to the total.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    bytes: u64,
    total_bytes: Option<u64>,
    bytes_per_second: f64,
    connections: usize,
}

/// The downloads of a run so far.
#[derive(Debug, Default)]
pub(super) struct Total {
    /// How many there are in all, if known.
    expected: Option<u64>,
    begun: BTreeSet<usize>,
    running: BTreeMap<usize, Part>,
    /// How many have ended, in whatever way.
    ended: u64,
    failed: u64,
    complete_bytes: u64,
    /// The percentage last sent to the terminal.
    told: Option<u64>,
}

impl Total {
    /// Sets how many downloads there are in all.
    pub(super) fn expect(&mut self, count: Option<usize>) {
        self.expected = count.map(|count| count as u64);
    }

    /// A download begins.
    pub(super) fn begin(&mut self, id: usize) {
        self.begun.insert(id);
    }

    /// A download goes on.
    pub(super) fn progress(&mut self, id: usize, progress: &Progress) {
        self.running.insert(
            id,
            Part {
                bytes: progress.bytes,
                total_bytes: progress.total_bytes,
                bytes_per_second: speed(progress).unwrap_or(0.0),
                connections: progress.connections,
            },
        );
    }

    /// A download has begun, and nothing else is known about it.
    pub(super) fn connecting(&mut self, id: usize) {
        self.running.entry(id).or_default();
    }

    /// A download is complete.
    pub(super) fn completed(&mut self, id: usize, summary: &Summary) {
        self.running.remove(&id);
        self.complete_bytes += summary.bytes;
    }

    /// A download has failed, or cannot even begin.
    pub(super) fn failed(&mut self, id: usize) {
        self.running.remove(&id);
        self.failed += 1;
        if !self.begun.contains(&id) {
            self.ended += 1;
        }
    }

    /// A download is no longer shown.
    pub(super) fn gone(&mut self, id: usize) {
        self.running.remove(&id);
    }

    /// A download has ended; how was reported before.
    pub(super) fn end(&mut self, id: usize) {
        if self.begun.remove(&id) {
            self.ended += 1;
        }
    }

    fn bytes(&self) -> u64 {
        self.complete_bytes + self.running.values().map(|part| part.bytes).sum::<u64>()
    }

    /// How many have not begun, if known.
    fn waiting(&self) -> Option<u64> {
        Some(self.expected?.saturating_sub(self.ended + self.begun.len() as u64))
    }

    /// The bytes of all downloads, if each has begun and has a known size.
    fn total_bytes(&self) -> Option<u64> {
        let running = self.running.values().map(|part| part.total_bytes).sum::<Option<u64>>()?;
        (self.waiting() == Some(0)).then_some(self.complete_bytes + running)
    }

    /// The whole percentage: of the bytes, or of the downloads if not all sizes are known.
    pub(super) fn percent(&self) -> Option<u64> {
        if let Some(total) = self.total_bytes().filter(|total| *total > 0) {
            return u64::try_from(u128::from(self.bytes().min(total)) * 100 / u128::from(total))
                .ok();
        }
        let expected = self.expected.filter(|expected| *expected > 0)?;
        let part = |part: &Part| match part.total_bytes {
            Some(total) if total > 0 => part.bytes as f64 / total as f64,
            _ => 0.0,
        };
        let done = self.ended as f64 + self.running.values().map(part).sum::<f64>();
        Some((done * 100.0 / expected as f64) as u64)
    }

    /// The counts by state: `1/6 done, 2 running, 3 waiting`.
    fn counts(&self) -> String {
        let done = self.ended.saturating_sub(self.failed);
        let mut counts = match self.expected {
            Some(expected) => format!("{done}/{expected} done"),
            None => format!("{done} done"),
        };
        for (count, word) in [
            (self.begun.len() as u64, "running"),
            (self.waiting().unwrap_or(0), "waiting"),
            (self.failed, "failed"),
        ] {
            if count > 0 {
                counts += &format!(", {count} {word}");
            }
        }
        counts
    }

    /// The combined speed of the running downloads, in bytes a second.
    fn speed(&self) -> f64 {
        self.running.values().map(|part| part.bytes_per_second).sum()
    }

    /// The time left, if all sizes are known.
    fn left(&self) -> Option<String> {
        let speed = self.speed();
        let left = self.total_bytes()?.saturating_sub(self.bytes()) as f64;
        (speed > 1.0).then(|| eta(Duration::from_secs_f64(left / speed)))
    }

    /// The line for a log.
    pub(super) fn sentence(&self) -> String {
        let mut line = format!("{}: {}", self.counts(), size(self.bytes()));
        if let Some(total) = self.total_bytes() {
            line += &format!(" of {}", size(total));
        }
        if self.speed() > 1.0 {
            line += &format!(", {}", rate(self.speed()));
        }
        if let Some(left) = self.left() {
            line += &format!(", {left} left");
        }
        line
    }

    /// The line, in at most `width` columns.
    pub(super) fn line(&self, width: usize) -> String {
        let (bytes, total) = (self.bytes(), self.total_bytes());
        let of =
            total.map_or_else(|| size(bytes), |total| format!("{} / {}", size(bytes), size(total)));
        let speed = self.speed();
        let left = self.left().map_or_else(String::new, |left| format!("  ETA {left}"));
        let speed = if speed > 1.0 { rate(speed) } else { "-".to_owned() };
        let (counts, running) = (self.counts(), self.begun.len());
        let connections: usize = self.running.values().map(|part| part.connections).sum();
        let done = self.ended.saturating_sub(self.failed);
        let short = match self.expected {
            Some(expected) => format!("{done}/{expected}"),
            None => done.to_string(),
        };
        let candidates = [
            format!("{counts}  {of}  {speed}{left}  {connections} conn"),
            format!("{counts}  {of}  {speed}{left}"),
            format!("{counts}  {speed}{left}"),
            format!("{counts}  {speed}"),
            format!("{short} done, {running} running  {speed}"),
            format!("{short}  {speed}"),
        ];
        let fitting = candidates.iter().find(|text| columns(text) <= width);
        fitting.map_or_else(|| shorten(&candidates[5], width), Clone::clone)
    }

    /// Sends the percentage to a terminal that shows it in its tab, if it has changed.
    pub(super) fn tell_terminal(&mut self) {
        let percent = self.percent();
        if percent != self.told {
            self.told = percent;
            write_terminal(percent);
        }
    }

    /// Removes the percentage from the tab.
    pub(super) fn clear_terminal(&mut self) {
        if self.told.take().is_some() {
            write_terminal(None);
        }
    }
}

/// OSC 9;4: state 1 and a percentage, or state 0 for none. It moves no cursor.
pub(super) fn write_terminal(percent: Option<u64>) {
    let sequence = match percent {
        Some(percent) => format!("\x1b]9;4;1;{percent}\x1b\\"),
        None => "\x1b]9;4;0;\x1b\\".to_owned(),
    };
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(sequence.as_bytes()).and_then(|()| stderr.flush());
}

/// Whether the terminal is one of those that show the percentage. Others do not know the sequence,
/// and some take it for a notification.
pub(super) fn terminal_shows_progress() -> bool {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let iterm = variable("TERM_PROGRAM") == "iTerm.app" && variable("TERM_FEATURES").contains('P');
    !variable("WT_SESSION").is_empty()
        || variable("ConEmuANSI") == "ON"
        || matches!(variable("TERM_PROGRAM").as_str(), "WezTerm" | "ghostty")
        || iterm
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(bytes: u64, total: Option<u64>) -> Progress {
        let mut progress = Progress::default();
        progress.bytes = bytes;
        progress.total_bytes = total;
        progress.bytes_per_second = 2.0 * f64::from(1 << 20);
        progress.measured_for = Duration::from_secs(2);
        progress.connections = 4;
        progress
    }

    #[test]
    fn the_line_is_of_all_downloads_and_counts_what_waits() {
        let mut total = Total::default();
        total.expect(Some(6));
        for id in 1..=4 {
            total.begin(id);
        }
        total.progress(1, &progress(10 << 20, Some(30 << 20)));
        total.progress(2, &progress(20 << 20, Some(30 << 20)));
        total.failed(3);
        total.end(3);
        total.end(4);
        assert_eq!(
            total.line(100),
            "1/6 done, 2 running, 2 waiting, 1 failed  30 MiB  4 MiB/s  8 conn",
            "of what waits the size is not known"
        );
        assert_eq!(total.percent(), Some(50), "two of six, and two in part");
        for width in 0..=120 {
            assert!(columns(&total.line(width)) <= width, "{width}");
        }
        assert_eq!(total.line(39), "1/6 done, 2 running  4 MiB/s");
        // These downloads cannot even begin.
        total.failed(5);
        total.failed(6);
        assert_eq!(
            total.line(100),
            "1/6 done, 2 running, 3 failed  30 MiB / 60 MiB  4 MiB/s  ETA 7s  8 conn"
        );
        assert_eq!(total.percent(), Some(50));
        assert_eq!(
            total.sentence(),
            "1/6 done, 2 running, 3 failed: 30 MiB of 60 MiB, 4 MiB/s, 7s left"
        );
        total.connecting(2);
        total.progress(2, &progress(20 << 20, None));
        assert!(!total.line(100).contains("ETA"), "of one the size is not known");
    }

    #[test]
    fn a_list_without_an_end_in_sight_has_no_total() {
        let mut total = Total::default();
        total.expect(None);
        total.begin(1);
        total.progress(1, &progress(10 << 20, Some(30 << 20)));
        assert_eq!(total.line(100), "0 done, 1 running  10 MiB  2 MiB/s  4 conn");
    }
}
