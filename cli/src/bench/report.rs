//! The report of a measurement: as a table for the terminal, as Markdown and, by its fields, as
//! JSON.

use serde::Serialize;

use super::Series;
use super::judge::{self, PerConnection, Point};
use super::limit::{self, Evidence, Limit};
use super::machine::Load;
use super::measure::Sample;
use crate::units::{rate, size};

/// What was measured, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) url: String,
    /// The most that a run fetched.
    pub(super) bytes: u64,
    /// By number of connections; if storages were named, by storage first.
    pub(super) runs: Vec<Point>,
    /// The embedded origin's object in each storage with the recommended connections, for the cost
    /// of the storage.
    pub(super) storages: Vec<Point>,
    pub(super) recommended_connections: Option<usize>,
    pub(super) recommended_because: Option<String>,
    pub(super) per_connection: Option<PerConnection>,
    /// `null` if nothing was found to limit; the clause says why.
    pub(super) limited_by: Option<Limit>,
    pub(super) limited_because: String,
    /// Whether every whole object was the right one; `null` if every run ended at its limit.
    pub(super) blake3_ok: Option<bool>,
    pub(super) warnings: Vec<String>,
}

impl Report {
    /// The report of the first series.
    pub(super) fn of(url: String, survey: &Series) -> Self {
        let runs = survey.points();
        let network = network(&runs);
        let ranges = survey.samples.iter().flatten().all(|sample| sample.ranges);
        let per_connection = judge::per_connection(&network);
        let advice = judge::advise(&network, ranges, per_connection);
        Self {
            url,
            bytes: survey.samples.iter().flatten().map(|sample| sample.bytes).max().unwrap_or(0),
            runs,
            storages: Vec::new(),
            recommended_connections: advice.as_ref().map(|advice| advice.connections),
            recommended_because: advice.map(|advice| advice.reason),
            per_connection,
            limited_by: None,
            limited_because: String::new(),
            blake3_ok: survey.right,
            warnings: Vec::new(),
        }
    }

    /// Adds the second series.
    pub(super) fn add_storages(&mut self, series: &Series) {
        self.storages = series.points();
        self.blake3_ok = match (self.blake3_ok, series.right) {
            // Our own object does not vouch for a server's object that was never fetched whole.
            (None, Some(true)) => None,
            (Some(a), Some(b)) => Some(a && b),
            (a, b) => b.or(a),
        };
    }

    /// Adds what limits, and reasons why the numbers may mislead.
    pub(super) fn conclude(&mut self, samples: &[Sample], load: Option<Load>) {
        let points: Vec<Point> = self.runs.iter().chain(&self.storages).cloned().collect();
        let stored = points.iter().filter(|point| point.storage != "null");
        let network = network(&self.runs);
        (self.limited_by, self.limited_because) = limit::limit(&Evidence {
            network: &network,
            stored: stored.max_by(|a, b| a.max_bytes_per_second.total_cmp(&b.max_bytes_per_second)),
            per_connection: self.per_connection,
            enough: self.recommended_connections,
            tolerated: judge::tolerated(samples),
            ranges: samples.iter().all(|sample| sample.ranges),
        });
        self.warnings = judge::warnings(&points, samples, load);
    }

    /// For the terminal.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![TABLE_HEAD.to_owned()];
        lines.extend(self.runs.iter().map(row));
        if !self.storages.is_empty() {
            lines.push(String::new());
            lines.push("storage, from the embedded origin on this machine".to_owned());
            lines.extend(self.storages.iter().map(row));
        }
        lines.push(String::new());
        lines.extend(self.conclusion());
        lines
    }

    fn conclusion(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(cap) = self.per_connection {
            lines.push(format!(
                "each connection gets about {}, up to {} of them",
                rate(cap.bytes_per_second),
                cap.up_to
            ));
        }
        lines.push(format!("what limits: {}", self.limited_because));
        lines.extend(self.storage_costs());
        let verdict = match self.blake3_ok {
            Some(true) => "every whole object's BLAKE3 is correct",
            Some(false) => "the BLAKE3 of some is WRONG",
            None => "none was whole, so none was compared",
        };
        lines.push(format!("at most {} a run; {verdict}", size(self.bytes)));
        if let Some(connections) = self.recommended_connections {
            let because = self.recommended_because.as_deref().unwrap_or_default();
            lines.push(format!("recommended: -x {connections} ({because})"));
        }
        lines
    }

    /// The best rounds are compared: a busy machine only ever slows a round down.
    fn storage_costs(&self) -> Option<String> {
        let seconds_a_gib =
            |point: &Point| (1_u64 << 30) as f64 / point.max_bytes_per_second.max(1.0);
        let null = self.storages.iter().find(|point| point.storage == "null")?;
        let costs: Vec<String> = self
            .storages
            .iter()
            .filter(|point| point.storage != "null")
            .map(|point| {
                let cost = (seconds_a_gib(point) - seconds_a_gib(null)).max(0.0);
                format!("{} {cost:.2} s", point.storage)
            })
            .collect();
        let text = format!("storing a GiB costs, beyond receiving it: {}", costs.join(", "));
        let disturbed = |point: &Point| point.load.is_some_and(Load::is_disturbed);
        let busy = self.storages.iter().any(disturbed);
        Some(if busy { text + ", or less: this machine was busy" } else { text })
    }

    /// As Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "`haul bench` of {}, at most {} a run, median of {} rounds\n",
            self.url.replace('|', "%7C"),
            size(self.bytes),
            self.runs.first().map_or(0, |point| point.rounds_bytes_per_second.len()),
        );
        text += &markdown_table(&self.runs);
        if !self.storages.is_empty() {
            text += "\nStorage, from the embedded origin:\n";
            text += &markdown_table(&self.storages);
        }
        text.push('\n');
        let warnings = self.warnings.iter().map(|warning| format!("warning: {warning}"));
        for line in self.conclusion().into_iter().chain(warnings) {
            text += &format!("- {line}\n");
        }
        text
    }
}

/// The runs that represent the network: those without a disk, if there are any.
fn network(runs: &[Point]) -> Vec<Point> {
    let null = runs.iter().find(|point| point.storage == "null");
    let storage = null.or(runs.first()).map(|point| point.storage);
    runs.iter().filter(|point| Some(point.storage) == storage).cloned().collect()
}

const TABLE_HEAD: &str =
    "connections  storage        median       slowest       fastest  first byte";

fn row(point: &Point) -> String {
    format!(
        "{:>11}  {:<7}  {:>12}  {:>12}  {:>12}  {:>10}",
        point.connections,
        point.storage,
        rate(point.bytes_per_second),
        rate(point.min_bytes_per_second),
        rate(point.max_bytes_per_second),
        first_byte(point)
    )
}

fn first_byte(point: &Point) -> String {
    point.ttfb_s.map_or_else(|| "-".to_owned(), |seconds| format!("{:.1} ms", seconds * 1e3))
}

fn markdown_table(points: &[Point]) -> String {
    let mut text =
        "\n| connections | storage | seconds | median | slowest | fastest | first byte |\n\
                    |---:|---|---:|---:|---:|---:|---:|\n"
            .to_owned();
    for point in points {
        text += &format!(
            "| {} | {} | {:.3} | {} | {} | {} | {} |\n",
            point.connections,
            point.storage,
            point.seconds,
            rate(point.bytes_per_second),
            rate(point.min_bytes_per_second),
            rate(point.max_bytes_per_second),
            first_byte(point)
        );
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn a_point(
        connections: usize,
        storage: &'static str,
        bytes_per_second: f64,
    ) -> Point {
        Point {
            connections,
            storage,
            seconds: 0.5,
            bytes_per_second,
            ttfb_s: Some(0.001),
            bytes: (bytes_per_second / 2.0) as u64,
            min_bytes_per_second: bytes_per_second * 0.9,
            max_bytes_per_second: bytes_per_second * 1.1,
            rounds_bytes_per_second: vec![bytes_per_second],
            steady: true,
            load: None,
        }
    }

    pub(crate) fn a_report() -> Report {
        let speeds = [(1, 2e6), (2, 4e6), (4, 8e6), (8, 15.6e6), (16, 16e6)];
        Report {
            url: "http://127.0.0.1:1/a<b>&c".to_owned(),
            bytes: 32 << 20,
            runs: speeds.map(|(count, speed)| a_point(count, "null", speed)).to_vec(),
            storages: [("null", 2e9), ("pwrite", 1e9), ("mmap", 0.7e9)]
                .map(|(storage, speed)| a_point(8, storage, speed))
                .to_vec(),
            recommended_connections: Some(8),
            recommended_because: Some("more bring less than 5 %".to_owned()),
            per_connection: Some(PerConnection { bytes_per_second: 2e6, up_to: 8 }),
            limited_by: Some(Limit::Link),
            limited_because: "the link".to_owned(),
            blake3_ok: Some(true),
            warnings: vec!["the sun shone".to_owned()],
        }
    }

    #[test]
    fn json_has_the_contracts_fields() {
        let json = serde_json::to_value(a_report()).unwrap();
        assert_eq!(json["bytes"], 32 << 20);
        assert_eq!(json["recommended_connections"], 8);
        assert_eq!(json["blake3_ok"], true);
        assert_eq!(json["per_connection"]["bytes_per_second"], 2e6);
        assert_eq!(
            (&json["limited_by"], &json["limited_because"]),
            (&"link".into(), &"the link".into())
        );
        for run in json["runs"].as_array().unwrap() {
            for field in ["connections", "storage", "seconds", "bytes_per_second", "ttfb_s"] {
                assert!(!run[field].is_null(), "{field}: {run}");
            }
        }
    }

    #[test]
    fn table_fits_a_terminal_and_says_what_follows() {
        let lines = a_report().lines();
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        assert_eq!(lines[0].len(), lines[1].len());
        let text = lines.join("\n");
        for told in [
            "each connection gets about 1.91 MiB/s, up to 8 of them",
            "what limits: the link",
            "pwrite 0.49 s, mmap 0.91 s",
            "recommended: -x 8 (more bring less than 5 %)",
        ] {
            assert!(text.contains(told), "{told}\n{text}");
        }
    }

    #[test]
    fn slow_storage_is_told_of_unless_the_machine_was_busy() {
        let told = |others_cores| {
            let mut report = a_report();
            for storage in &mut report.storages[1..] {
                storage.max_bytes_per_second = 5e6;
                storage.load = Some(Load { own_cores: 0.3, others_cores, stolen: 0.0, cores: 2 });
            }
            report.conclude(&[], None);
            (report.limited_by, report.lines().join("\n"))
        };
        let (limit, lines) = told(0.0);
        assert!(limit == Some(Limit::Disk) && !lines.contains("busy"), "{limit:?} {lines}");
        let (limit, lines) = told(1.5);
        assert!(limit != Some(Limit::Disk) && lines.contains("or less"), "{limit:?} {lines}");
    }

    #[test]
    fn markdown_has_a_row_for_each_point() {
        let text = a_report().markdown();
        assert!(text.contains("| 8 | pwrite | 0.500 | 954 MiB/s | 858 MiB/s |"), "{text}");
        assert!(text.ends_with("- warning: the sun shone\n"), "{text}");
        assert_eq!(text.matches("\n| ").count(), 10, "{text}");
    }

    #[test]
    fn our_own_object_does_not_vouch_for_a_servers() {
        let series = |right| Series { samples: Vec::new(), right };
        for (survey, storages, both) in [
            (None, Some(true), None),
            (None, Some(false), Some(false)),
            (Some(true), Some(true), Some(true)),
            (Some(true), Some(false), Some(false)),
            (Some(false), Some(true), Some(false)),
        ] {
            let mut report = a_report();
            report.blake3_ok = survey;
            report.add_storages(&series(storages));
            assert_eq!(report.blake3_ok, both, "{survey:?} {storages:?}");
        }
    }
}
