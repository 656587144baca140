//! The report: for the eye on stdout, as Markdown for a page, as JSON for a program.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Failure;
use crate::chart;
use crate::scenario::Outcome;
use crate::scenario::bar::Bar;
use crate::size::{GIB, MIB, show_size};
use crate::track::Lane;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of this format.
    pub v: u32,
    /// Where and how.
    pub machine: Machine,
    /// Rounds asked for.
    pub rounds: u32,
    /// Repeats the order of the runs.
    pub seed: u64,
    /// The scenarios in the order in which they ran.
    pub outcomes: Vec<Outcome>,
    /// A table over all of them, its headers first; none where they do not compare.
    #[serde(skip)]
    pub summary: Vec<Vec<String>>,
}

/// What the numbers depend on.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The day of the run, `YYYY-MM-DD` in UTC.
    pub date: String,
    /// Logical processors.
    pub cpus: usize,
    /// The processor's name.
    pub cpu: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The load average of the last minute before the start.
    pub load: String,
}

impl Machine {
    /// This one, now.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let load = read("/proc/loadavg");
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            date: date(since_1970.map_or(0, |passed| passed.as_secs() / 86_400)),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|text| text.strip_suffix(" kB")?.trim().parse::<u64>().ok())
                .map_or(0, |kilobytes| kilobytes * 1024),
            kernel: read("/proc/sys/kernel/osrelease"),
            load: load.split(' ').next().unwrap_or("").to_owned(),
        }
    }

    /// In one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!(
            "{}, {} CPUs ({}), {} of memory, Linux {}, load {} at the start",
            self.date,
            self.cpus,
            if self.cpu.is_empty() { "of unknown make" } else { &self.cpu },
            show_size(self.memory_bytes / MIB * MIB),
            self.kernel,
            self.load
        )
    }
}

/// The value of the first line `NAME : VALUE`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The day `days` after 1970-01-01 in the Gregorian calendar.
fn date(days: u64) -> String {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", left + 1)
}

type Cell = fn(&Lane, &Outcome) -> Option<String>;

/// The columns beside the name. A column that nobody fills in is left out.
const COLUMNS: [(&str, Cell); 16] = [
    ("min s", |lane, _| match (lane.wall(), lane.ended_after_s) {
        (Some(wall), _) => Some(short(wall.min)),
        (None, Some(ended)) => Some(format!("> {ended:.0}")),
        (None, None) => None,
    }),
    ("median s", |lane, _| Some(short(lane.wall()?.median))),
    ("max s", |lane, _| Some(short(lane.wall()?.max))),
    ("spread", |lane, _| Some(format!("{:.0} %", lane.wall()?.spread_percent()))),
    ("runs", |lane, _| Some(lane.samples.len().to_string())),
    ("to limit", |lane, outcome| Some(format!("{:.2}", lane.wall()?.min / outcome.limit_s?))),
    ("MiB/s", |lane, outcome| {
        Some(format!("{:.0}", gibibytes(outcome)? * 1024.0 / lane.wall()?.min))
    }),
    ("files/s", |lane, outcome| {
        let several = (outcome.files > 1).then_some(f64::from(outcome.files))?;
        Some(format!("{:.0}", several / lane.wall()?.min))
    }),
    ("to fastest peer", |lane, _| Some(format!("{:.2}", lane.ratio_to_fastest_peer?.median))),
    ("to best fixed", |lane, outcome| {
        Some(format!("{:.2}", lane.wall()?.min / outcome.best_fixed()?.1))
    }),
    ("CPU s/GiB", |lane, outcome| Some(format!("{:.2}", lane.cpu()?.median / gibibytes(outcome)?))),
    ("peak MiB", |lane, _| {
        let peak = lane.peak_rss_bytes().filter(|&bytes| bytes > 0)?;
        Some(format!("{:.1}", peak as f64 / MIB as f64))
    }),
    ("requests", |lane, _| Some(lane.requests().filter(|&count| count > 0)?.to_string())),
    ("fetched", |lane, outcome| {
        let size = (outcome.size_bytes > 0).then_some(outcome.size_bytes as f64)?;
        let fetched = lane.fetched_bytes().filter(|&bytes| bytes > 0)?;
        Some(format!("{:.3}", fetched as f64 / size))
    }),
    ("refused", |lane, _| Some(lane.refused().filter(|&count| count > 0)?.to_string())),
    ("silent s", |lane, _| {
        Some(format!("{:.2}", lane.silent_s().filter(|&seconds| seconds > 0.0)?))
    }),
];

/// Seconds, with what counts of a few milliseconds.
fn short(seconds: f64) -> String {
    if seconds < 0.1 { format!("{seconds:.4}") } else { format!("{seconds:.3}") }
}

/// Of a few kilobytes neither throughput nor a cost for each gibibyte means anything.
fn gibibytes(outcome: &Outcome) -> Option<f64> {
    (outcome.size_bytes >= MIB).then_some(outcome.size_bytes as f64 / GIB as f64)
}

impl Report {
    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for outcome in &self.outcomes {
            let _ = writeln!(text, "\n{}", outcome.title());
            text.push_str(&aligned(&table(outcome)));
            for remark in remarks(outcome) {
                let _ = writeln!(text, "note: {remark}");
            }
        }
        if !self.summary.is_empty() {
            let _ = write!(text, "\nsummary\n{}", aligned(&self.summary));
        }
        let bars: Vec<&Bar> = self.bars().collect();
        if !bars.is_empty() {
            let _ = writeln!(text, "\nbars");
        }
        for bar in bars {
            let _ = writeln!(text, "{}  {}", verdict(bar), sentence(bar));
        }
        text
    }

    /// For a page.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "{}; {} rounds, order shuffled in each (seed {}).\n",
            self.machine.sentence(),
            self.rounds,
            self.seed
        );
        for outcome in &self.outcomes {
            let _ = writeln!(text, "\n### {}\n", outcome.title());
            text.push_str(&piped(&table(outcome)));
            for remark in remarks(outcome) {
                let _ = writeln!(text, "\nNote: {remark}.");
            }
        }
        if !self.summary.is_empty() {
            let _ = write!(text, "\n### Summary\n\n{}", piped(&self.summary));
        }
        if self.bars().next().is_some() {
            let _ = writeln!(
                text,
                "\n### Bars\n\n| bar | of minima | of medians | at most | |\n|---|--:|--:|--:|---|"
            );
        }
        for bar in self.bars() {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                bar.what,
                figure(bar.measured, bar.unit),
                bar.median.map_or_else(String::new, |median| figure(Some(median), bar.unit)),
                figure(Some(bar.bound), bar.unit),
                verdict(bar)
            );
        }
        text
    }

    /// Writes the JSON, the Markdown and the chart, making their directories.
    ///
    /// # Errors
    ///
    /// When a file cannot be written; the path is named.
    pub fn write(&self, json: &Path, markdown: &Path, svg: &Path) -> Result<(), Failure> {
        let save = |path: &Path, text: &str| -> Result<(), Failure> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let written = fs::write(path, text);
            Ok(written.map_err(|error| format!("cannot write {}: {error}", path.display()))?)
        };
        save(json, &(serde_json::to_string_pretty(self)? + "\n"))?;
        save(markdown, &self.markdown())?;
        save(svg, &chart::svg(&self.outcomes, self.rounds, &self.machine.sentence()))
    }

    /// haul's lanes that ended with an error or a wrong file.
    pub fn failures(&self) -> impl Iterator<Item = (&Outcome, &Lane)> {
        self.outcomes.iter().flat_map(|outcome| {
            let failed = |lane: &&Lane| lane.haul && lane.failure.is_some();
            outcome.lanes.iter().filter(failed).map(move |lane| (outcome, lane))
        })
    }

    fn bars(&self) -> impl Iterator<Item = &Bar> {
        self.outcomes.iter().flat_map(|outcome| &outcome.bars)
    }
}

fn verdict(bar: &Bar) -> &'static str {
    if bar.pass { "pass" } else { "miss" }
}

fn figure(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| "no run".to_owned(), |value| format!("{value:.2} {unit}"))
}

fn sentence(bar: &Bar) -> String {
    let median = bar.median.map_or_else(String::new, |median| {
        format!(", of medians {}", figure(Some(median), bar.unit))
    });
    format!(
        "{}: {} (at most {}{median})",
        bar.what,
        figure(bar.measured, bar.unit),
        figure(Some(bar.bound), bar.unit)
    )
}

/// For a terminal: the first column to the left, all others to the right.
fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in table {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            let _ = write!(line, "  {cell:>width$}");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// For a page.
fn piped(table: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (index, row) in table.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if index == 0 {
            let _ = writeln!(text, "|---|{}", "--:|".repeat(row.len() - 1));
        }
    }
    text
}

fn table(outcome: &Outcome) -> Vec<Vec<String>> {
    let lanes = outcome.ranked();
    let names = std::iter::once("contender".to_owned())
        .chain(lanes.iter().map(|lane| lane.name.clone()))
        .collect();
    let columns = COLUMNS.iter().filter_map(|(header, cell)| {
        let cells: Vec<Option<String>> = lanes.iter().map(|lane| cell(lane, outcome)).collect();
        cells.iter().any(Option::is_some).then(|| {
            let shown = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
            std::iter::once((*header).to_owned()).chain(shown).collect()
        })
    });
    let columns: Vec<Vec<String>> = std::iter::once(names).chain(columns).collect();
    (0..=lanes.len())
        .map(|row| columns.iter().map(|column| column[row].clone()).collect())
        .collect()
}

fn remarks(outcome: &Outcome) -> impl Iterator<Item = String> {
    let failed = outcome.lanes.iter().filter_map(|lane| {
        lane.failure.as_ref().map(|error| format!("{} left the race: {error}", lane.name))
    });
    let ended = outcome.lanes.iter().filter_map(|lane| {
        lane.ended_after_s.map(|limit| format!("{} was ended after {limit:.0} s", lane.name))
    });
    outcome.notes.iter().cloned().chain(failed).chain(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (days, text) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_722, "2023-12-31"),
            (20_454, "2026-01-01"),
        ] {
            assert_eq!(date(days), text);
        }
    }

    #[test]
    fn fields_of_proc_files_are_found() {
        let text = "processor\t: 0\nmodel name\t: A CPU @ 2: fast\nMemTotal:  17 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A CPU @ 2: fast"));
        assert_eq!(field(text, "MemTotal").as_deref(), Some("17 kB"));
        assert_eq!(field(text, "model"), None);
    }
}
