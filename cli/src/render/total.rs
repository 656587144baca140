//! All downloads of a run together: the last line below the bars, and what a
//! terminal shows in its tab (OSC 9;4).

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Duration;

use haul_engine::{Progress, Summary};

use super::bar::{columns, shorten};
use crate::units::{eta, rate, size};

/// What of one download counts in the total.
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
    running: BTreeMap<usize, Part>,
    complete: u64,
    failed: u64,
    complete_bytes: u64,
    /// What the terminal was told last, in percent.
    told: Option<u64>,
}

impl Total {
    /// A download goes on.
    pub(super) fn progress(&mut self, id: usize, progress: &Progress) {
        self.running.insert(
            id,
            Part {
                bytes: progress.bytes,
                total_bytes: progress.total_bytes,
                bytes_per_second: progress.bytes_per_second,
                connections: progress.connections,
            },
        );
    }

    /// A download has begun, and nothing else is known of it.
    pub(super) fn connecting(&mut self, id: usize) {
        self.running.entry(id).or_default();
    }

    /// A download is complete.
    pub(super) fn completed(&mut self, id: usize, summary: &Summary) {
        self.running.remove(&id);
        self.complete += 1;
        self.complete_bytes += summary.bytes;
    }

    /// A download has failed.
    pub(super) fn failed(&mut self, id: usize) {
        self.running.remove(&id);
        self.failed += 1;
    }

    /// A download has ended in another way.
    pub(super) fn left(&mut self, id: usize) {
        self.running.remove(&id);
    }

    fn bytes(&self) -> u64 {
        self.complete_bytes + self.running.values().map(|part| part.bytes).sum::<u64>()
    }

    /// The bytes of all that began, where each tells its size.
    fn total_bytes(&self) -> Option<u64> {
        let running = self.running.values().map(|part| part.total_bytes).sum::<Option<u64>>()?;
        Some(self.complete_bytes + running)
    }

    /// The whole percent of what began.
    fn percent(&self) -> Option<u64> {
        let total = self.total_bytes().filter(|total| *total > 0)?;
        u64::try_from(u128::from(self.bytes().min(total)) * 100 / u128::from(total)).ok()
    }

    /// The line, in at most `width` columns.
    pub(super) fn line(&self, width: usize) -> String {
        let (bytes, total) = (self.bytes(), self.total_bytes());
        let of =
            total.map_or_else(|| size(bytes), |total| format!("{} / {}", size(bytes), size(total)));
        let speed: f64 = self.running.values().map(|part| part.bytes_per_second).sum();
        let left = total.filter(|_| speed > 1.0).map_or_else(
            || "-".to_owned(),
            |total| eta(Duration::from_secs_f64(total.saturating_sub(bytes) as f64 / speed)),
        );
        let (speed, running, complete) = (rate(speed), self.running.len(), self.complete);
        let connections: usize = self.running.values().map(|part| part.connections).sum();
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        let candidates = [
            format!(
                "total  {running} running, {complete} complete{failed}  {of}  {speed}  ETA {left}  \
                 {connections} conn"
            ),
            format!("total  {running} running, {complete} complete{failed}  {of}  {speed}"),
            format!("{running} running, {complete} done  {speed}  {left}"),
            format!("{running}+{complete}  {speed}"),
        ];
        let fitting = candidates.iter().find(|text| columns(text) <= width);
        fitting.map_or_else(|| shorten(&candidates[3], width), Clone::clone)
    }

    /// Tells a terminal that shows it in its tab, where it changed.
    pub(super) fn tell_terminal(&mut self) {
        let percent = self.percent();
        if percent != self.told {
            self.told = percent;
            write_terminal(percent);
        }
    }

    /// Takes it out of the tab.
    pub(super) fn clear_terminal(&mut self) {
        if self.told.take().is_some() {
            write_terminal(None);
        }
    }
}

/// OSC 9;4: state 1 and a percentage, or state 0 for none. It moves no cursor.
fn write_terminal(percent: Option<u64>) {
    let sequence = match percent {
        Some(percent) => format!("\x1b]9;4;1;{percent}\x1b\\"),
        None => "\x1b]9;4;0;\x1b\\".to_owned(),
    };
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(sequence.as_bytes()).and_then(|()| stderr.flush());
}

/// Whether the terminal is one of those that show it. To others the sequence is
/// unknown, and to some a notification.
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
        progress.connections = 4;
        progress
    }

    #[test]
    fn the_line_is_of_all_downloads() {
        let mut total = Total::default();
        total.progress(1, &progress(10 << 20, Some(30 << 20)));
        total.progress(2, &progress(20 << 20, Some(30 << 20)));
        total.failed(3);
        assert_eq!(
            total.line(100),
            "total  2 running, 0 complete, 1 failed  30 MiB / 60 MiB  4 MiB/s  ETA 7s  8 conn"
        );
        assert_eq!(total.percent(), Some(50));
        total.connecting(4);
        assert_eq!(total.percent(), None, "of one the size is not known");
        for width in 0..=120 {
            assert!(columns(&total.line(width)) <= width, "{width}");
        }
        assert_eq!(total.line(39), "3 running, 0 done  4 MiB/s  -");
    }
}
