//! The report: for the eye on stdout, as Markdown for a page, as JSON for a program.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Failure;
use crate::scenario::{Bar, Outcome};
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
}

/// What the numbers depend on.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Logical processors.
    pub cpus: usize,
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
        Self {
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease"),
            load: load.split(' ').next().unwrap_or("").to_owned(),
        }
    }
}

const COLUMNS: [&str; 9] = [
    "contender",
    "min s",
    "median s",
    "spread",
    "MiB/s",
    "to fastest peer",
    "CPU s/GiB",
    "peak MiB",
    "requests",
];

impl Report {
    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for outcome in &self.outcomes {
            let _ = writeln!(text, "\n{}", title(outcome));
            let table = table(outcome);
            let widths: Vec<usize> = (0..COLUMNS.len())
                .map(|column| {
                    table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
                })
                .collect();
            for row in &table {
                let mut line = format!("{:<width$}", row[0], width = widths[0]);
                for (cell, width) in row.iter().zip(&widths).skip(1) {
                    let _ = write!(line, "  {cell:>width$}");
                }
                let _ = writeln!(text, "{}", line.trim_end());
            }
            for remark in remarks(outcome) {
                let _ = writeln!(text, "note: {remark}");
            }
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
            "{} CPUs, Linux {}, load {} at the start, {} rounds, order shuffled in each (seed {}).\n",
            self.machine.cpus, self.machine.kernel, self.machine.load, self.rounds, self.seed
        );
        for outcome in &self.outcomes {
            let _ = writeln!(text, "\n### {}\n", title(outcome));
            for (index, row) in table(outcome).iter().enumerate() {
                let _ = writeln!(text, "| {} |", row.join(" | "));
                if index == 0 {
                    let _ = writeln!(text, "|---|{}", "--:|".repeat(COLUMNS.len() - 1));
                }
            }
            for remark in remarks(outcome) {
                let _ = writeln!(text, "\nNote: {remark}.");
            }
        }
        let _ = writeln!(text, "\n### Bars\n\n| bar | measured | at most | |\n|---|--:|--:|---|");
        for bar in self.bars() {
            let Bar { what, measured, bound, unit, .. } = bar;
            let _ = writeln!(
                text,
                "| {what} | {measured:.2} {unit} | {bound} {unit} | {} |",
                verdict(bar)
            );
        }
        text
    }

    /// Writes the JSON and the Markdown, making their directories.
    ///
    /// # Errors
    ///
    /// When a file cannot be written; the path is named.
    pub fn write(&self, json: &Path, markdown: &Path) -> Result<(), Failure> {
        let documents =
            [(json, serde_json::to_string_pretty(self)? + "\n"), (markdown, self.markdown())];
        for (path, content) in documents {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, content)
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(())
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

fn sentence(bar: &Bar) -> String {
    format!("{}: {:.2} {} (at most {} {})", bar.what, bar.measured, bar.unit, bar.bound, bar.unit)
}

fn title(outcome: &Outcome) -> String {
    match (outcome.size_bytes, &outcome.output) {
        (_, output) if output.is_empty() => outcome.scenario.to_owned(),
        (0, output) => format!("{}: to {output}", outcome.scenario),
        (size, output) => format!("{}: {} to {output}", outcome.scenario, show_size(size)),
    }
}

fn table(outcome: &Outcome) -> Vec<Vec<String>> {
    let header = COLUMNS.iter().map(|&name| name.to_owned()).collect();
    let mut lanes: Vec<&Lane> = outcome.lanes.iter().collect();
    // Runs on objects of different sizes are not ranked.
    if outcome.scenario != "memory" {
        let least = |lane: &Lane| lane.wall().map_or(f64::INFINITY, |wall| wall.min);
        lanes.sort_by(|a, b| least(a).total_cmp(&least(b)));
    }
    std::iter::once(header)
        .chain(lanes.into_iter().map(|lane| row(lane, outcome.size_bytes)))
        .collect()
}

fn row(lane: &Lane, size: u64) -> Vec<String> {
    let shown = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |number| format!("{number:.digits$}"))
    };
    let wall = lane.wall();
    // Of a few kilobytes neither throughput nor a cost for each gibibyte means anything.
    let gibibytes = (size >= MIB).then_some(size as f64 / GIB as f64);
    let per_gibibyte = lane.cpu().zip(gibibytes).map(|(cpu, amount)| cpu.median / amount);
    let speed = wall.zip(gibibytes).map(|(wall, amount)| amount * 1024.0 / wall.min);
    vec![
        lane.name.clone(),
        shown(wall.map(|wall| wall.min), 3),
        shown(wall.map(|wall| wall.median), 3),
        wall.map_or_else(|| "-".to_owned(), |wall| format!("{:.0} %", wall.spread_percent())),
        shown(speed, 0),
        shown(lane.ratio_to_fastest_peer.map(|ratio| ratio.median), 2),
        shown(per_gibibyte, 2),
        shown(lane.peak_rss_bytes().map(|bytes| bytes as f64 / MIB as f64), 1),
        lane.requests()
            .filter(|&count| count > 0)
            .map_or_else(|| "-".to_owned(), |n| n.to_string()),
    ]
}

fn remarks(outcome: &Outcome) -> impl Iterator<Item = String> {
    let failed = outcome.lanes.iter().filter_map(|lane| {
        lane.failure.as_ref().map(|error| format!("{} left the race: {error}", lane.name))
    });
    outcome.notes.iter().cloned().chain(failed)
}
