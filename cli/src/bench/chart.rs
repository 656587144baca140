//! The chart of a report: speed over connections, and the cost of each storage.

use std::fmt::Write as _;

use super::judge::Point;
use super::report::Report;
use crate::units::{rate, size};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 352.0;

const INK: &str = "#1f2933";
const FAINT: &str = "#7b8794";
const GRID: &str = "#e4e7eb";
/// The colours of the storages, in the order of their first appearance.
const COLOURS: [&str; 4] = ["#2563eb", "#0f9d76", "#d97706", "#9333ea"];
const CHOSEN: &str = "#dc2626";

/// An SVG document that stands alone.
pub(super) fn svg(report: &Report) -> String {
    let counts = {
        let mut counts: Vec<usize> = report.runs.iter().map(|point| point.connections).collect();
        counts.sort_unstable();
        counts.dedup();
        counts
    };
    let by_count = counts.len() > 1;
    let bars = if by_count { &report.storages } else { &report.runs };
    let mut chart = Chart::default();
    chart.open(report);
    match (by_count, bars.is_empty()) {
        (true, false) => {
            chart.lines(Panel { left: 84.0, right: 570.0 }, report, &counts);
            chart.bars(Panel { left: 680.0, right: 876.0 }, "storage, embedded origin", bars);
        }
        (true, true) => chart.lines(Panel { left: 84.0, right: 876.0 }, report, &counts),
        (false, _) => chart.bars(Panel { left: 84.0, right: 876.0 }, "into each storage", bars),
    }
    chart.text += "</svg>\n";
    chart.text
}

/// The columns that a plot fills.
#[derive(Clone, Copy)]
struct Panel {
    left: f64,
    right: f64,
}

#[derive(Default)]
struct Chart {
    text: String,
}

impl Chart {
    fn open(&mut self, report: &Report) {
        let _ = writeln!(
            self.text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
             font-family=\"system-ui, 'DejaVu Sans', sans-serif\">\n\
             <title>haul bench of {url}</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
            url = escape(&report.url)
        );
        let url = shorten(&report.url, 84);
        self.label(24.0, 30.0, "start", 16, INK, &format!("haul bench of {url}"));
        let advice = match (report.recommended_connections, &report.recommended_because) {
            (Some(connections), Some(because)) => {
                format!("recommended: -x {connections} ({because}); ")
            }
            _ => String::new(),
        };
        let subtitle = format!(
            "{advice}at most {} a run, whiskers from the slowest to the fastest round",
            size(report.bytes)
        );
        self.label(24.0, 50.0, "start", 12, FAINT, &subtitle);
    }

    /// Draws the speed over the number of connections, with one line for each storage.
    fn lines(&mut self, panel: Panel, report: &Report, counts: &[usize]) {
        let Panel { left, right } = panel;
        let fastest =
            report.runs.iter().map(|point| point.max_bytes_per_second).fold(0.0, f64::max);
        let scale = Scale::to(fastest);
        self.grid(panel, &scale);
        let step = (right - left) / counts.len() as f64;
        let x_of = |count: usize| {
            let index = counts.iter().position(|&other| other == count).unwrap_or(0);
            left + step * (index as f64 + 0.5)
        };
        for &count in counts {
            self.label(x_of(count), BOTTOM + 20.0, "middle", 12, INK, &count.to_string());
        }
        self.label((left + right) / 2.0, BOTTOM + 42.0, "middle", 12, FAINT, "connections");
        if let Some(cap) = report.per_connection {
            let points: Vec<(f64, f64)> = counts
                .iter()
                .map(|&count| (x_of(count), cap.bytes_per_second * count as f64))
                .take_while(|&(_, speed)| speed <= scale.top)
                .map(|(x, speed)| (x, scale.y(speed)))
                .collect();
            self.path(&points, FAINT, "stroke-dasharray=\"5 4\" stroke-width=\"1.5\"");
            if let Some(&(x, y)) = points.first() {
                let each = format!("{} each", rate(cap.bytes_per_second));
                self.label(x - 14.0, y - 12.0, "start", 11, FAINT, &each);
            }
        }
        for (storage, colour) in storages(&report.runs).into_iter().zip(COLOURS) {
            let points: Vec<&Point> =
                report.runs.iter().filter(|point| point.storage == storage).collect();
            let at: Vec<(f64, f64)> = points
                .iter()
                .map(|point| (x_of(point.connections), scale.y(point.bytes_per_second)))
                .collect();
            self.path(&at, colour, "stroke-width=\"2.5\"");
            for (point, &(x, y)) in points.iter().zip(&at) {
                self.whisker(x, point, &scale, colour);
                let chosen = report.recommended_connections == Some(point.connections);
                let (fill, radius) = if chosen { (CHOSEN, 6.0) } else { (colour, 4.5) };
                let _ = writeln!(
                    self.text,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{fill}\"/>"
                );
                if chosen && storages(&report.runs).len() == 1 {
                    let text = rate(point.bytes_per_second);
                    let above = scale.y(point.max_bytes_per_second).min(y) - 10.0;
                    self.label(x, above, "middle", 12, CHOSEN, &text);
                }
            }
            if let Some(&(x, y)) = at.last().filter(|_| storages(&report.runs).len() > 1) {
                self.label(x + 10.0, y + 4.0, "start", 12, colour, storage);
            }
        }
    }

    /// Draws a bar for each point, with the name of its storage.
    fn bars(&mut self, panel: Panel, title: &str, points: &[Point]) {
        let Panel { left, right } = panel;
        let fastest = points.iter().map(|point| point.max_bytes_per_second).fold(0.0, f64::max);
        let scale = Scale::to(fastest);
        self.grid(panel, &scale);
        let step = (right - left) / points.len().max(1) as f64;
        let width = (step * 0.56).min(90.0);
        let kinds = storages(points);
        for (index, point) in points.iter().enumerate() {
            let x = left + step * (index as f64 + 0.5);
            let y = scale.y(point.bytes_per_second);
            let kind = kinds.iter().position(|&kind| kind == point.storage).unwrap_or(0);
            let colour = COLOURS[kind % COLOURS.len()];
            let _ = writeln!(
                self.text,
                "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" \
                 fill=\"{colour}\" fill-opacity=\"0.75\"/>",
                x - width / 2.0,
                BOTTOM - y
            );
            self.whisker(x, point, &scale, INK);
            self.label(x, BOTTOM + 20.0, "middle", 12, INK, point.storage);
        }
        let connections = points.first().map_or(0, |point| point.connections);
        let under = format!("{title}, -x {connections}");
        self.label((left + right) / 2.0, BOTTOM + 42.0, "middle", 12, FAINT, &under);
    }

    fn grid(&mut self, panel: Panel, scale: &Scale) {
        for tick in 0..=scale.ticks {
            let speed = scale.step * f64::from(tick);
            let y = scale.y(speed);
            let colour = if tick == 0 { FAINT } else { GRID };
            let _ = writeln!(
                self.text,
                "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\"/>",
                panel.left, panel.right
            );
            let text = scale.label(tick);
            self.label(panel.left - 8.0, y + 4.0, "end", 11, FAINT, &text);
        }
    }

    fn whisker(&mut self, x: f64, point: &Point, scale: &Scale, colour: &str) {
        let (low, high) =
            (scale.y(point.min_bytes_per_second), scale.y(point.max_bytes_per_second));
        let _ = writeln!(
            self.text,
            "<path d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8\" \
             stroke=\"{colour}\" stroke-width=\"1.5\" fill=\"none\"/>",
            x - 4.0,
            x - 4.0
        );
    }

    fn path(&mut self, points: &[(f64, f64)], colour: &str, style: &str) {
        let joined: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" {style}/>",
            joined.join(" ")
        );
    }

    fn label(&mut self, x: f64, y: f64, anchor: &str, size: u32, colour: &str, text: &str) {
        let _ = writeln!(
            self.text,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" \
             fill=\"{colour}\">{}</text>",
            escape(text)
        );
    }
}

const UNITS: [(f64, &str); 5] = [
    (1.0, "B/s"),
    (1024.0, "KiB/s"),
    (1_048_576.0, "MiB/s"),
    (1_073_741_824.0, "GiB/s"),
    (1_099_511_627_776.0, "TiB/s"),
];

/// A linear axis of speeds from zero, with ticks at round numbers.
struct Scale {
    top: f64,
    step: f64,
    ticks: u32,
    /// The unit in bytes a second, and its name.
    unit: (f64, &'static str),
}

impl Scale {
    /// An axis that reaches `fastest` bytes a second.
    fn to(fastest: f64) -> Self {
        let fastest = fastest.max(1.0);
        // The steps are round in the unit of the labels.
        let fits = |unit: &&(f64, &str)| fastest / unit.0 < 1000.0;
        let (unit, name) = UNITS.iter().find(fits).copied().unwrap_or(UNITS[4]);
        let rough = fastest / unit / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough);
        let step = factor.unwrap_or(10.0) * power * unit;
        let ticks = (fastest / step).ceil().clamp(1.0, 10.0);
        Self { top: step * ticks, step, ticks: ticks as u32, unit: (unit, name) }
    }

    /// The label of a tick. All labels share one unit, so that they compare at a glance.
    fn label(&self, tick: u32) -> String {
        let (unit, name) = self.unit;
        match tick {
            0 => "0".to_owned(),
            // Rounding removes what binary fractions add.
            _ => format!("{} {name}", (self.step / unit * f64::from(tick) * 1e3).round() / 1e3),
        }
    }

    fn y(&self, speed: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (speed / self.top).clamp(0.0, 1.0)
    }
}

/// The storages, each once.
fn storages(points: &[Point]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for point in points {
        if !names.contains(&point.storage) {
            names.push(point.storage);
        }
    }
    names
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// Escapes a text for the content of an element (XML 1.0 section 2.4).
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{a_point, a_report};
    use super::*;

    #[test]
    fn chart_shows_every_point_inside_its_bounds() {
        let text = svg(&a_report());
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        assert_eq!(text.matches("<circle").count(), 5, "a dot for each number of connections");
        assert_eq!(text.matches("fill-opacity").count(), 3, "a bar for each storage");
        assert!(text.contains("a&lt;b&gt;&amp;c") && !text.contains("a<b>"));
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        for number in text.split(" y=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let y: f64 = number.parse().unwrap();
            assert!((0.0..=HEIGHT).contains(&y), "{y}");
        }
    }

    #[test]
    fn one_number_of_connections_is_drawn_as_bars() {
        let mut report = a_report();
        report.storages.clear();
        report.runs = vec![a_point(4, "pwrite", 1e9), a_point(4, "mmap", 0.0)];
        let text = svg(&report);
        assert_eq!((text.matches("<circle").count(), text.matches("fill-opacity").count()), (0, 2));
    }

    #[test]
    fn ticks_are_round_and_reach_the_fastest() {
        let mib = 1_048_576.0;
        for (fastest, ticks) in [
            (0.0, "0.2 B/s to 1 B/s"),
            (7.0, "2 B/s to 8 B/s"),
            (1e6, "200 KiB/s to 1000 KiB/s"),
            (876.0 * mib, "200 MiB/s to 1000 MiB/s"),
            (1.1 * 1024.0 * mib, "0.5 GiB/s to 1.5 GiB/s"),
        ] {
            let scale = Scale::to(fastest);
            assert!(scale.top >= fastest, "{fastest}");
            assert_eq!(format!("{} to {}", scale.label(1), scale.label(scale.ticks)), ticks);
        }
    }
}
