//! The chart: one block of horizontal bars for each scenario, as an SVG that stands alone and
//! follows the reader's light or dark theme.

use std::fmt::Write as _;

use crate::scenario::Outcome;
use crate::track::Lane;

const WIDTH: f64 = 920.0;
const LABEL: f64 = 350.0;
const FIGURE: f64 = 110.0;
const ROW: f64 = 24.0;
const BAR: f64 = 14.0;
const HEAD: f64 = 46.0;
const GAP: f64 = 18.0;
const MARGIN: f64 = 24.0;
const TOP: f64 = 92.0;

/// Characters of a name that fit beside the bars.
const NAME_CHARS: usize = 50;

const STYLE: &str = "\
text{font:12px ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#24292f}\
.big{font-size:17px;font-weight:600}.head{font-size:13px;font-weight:600}\
.dim{fill:#57606a}.haul{font-weight:600}\
.page{fill:#ffffff}.rail{fill:#eaeef2}\
.b-haul{fill:#0969da}.b-peer{fill:#8c959f}.b-aside{fill:#c4a000}\
.mark{stroke:#24292f;stroke-width:2}.limit{stroke:#cf222e;stroke-width:1.5;stroke-dasharray:3 3}\
@media (prefers-color-scheme:dark){\
text{fill:#e6edf3}.dim{fill:#9198a1}.page{fill:#0d1117}.rail{fill:#21262d}\
.b-haul{fill:#4493f8}.b-peer{fill:#6e7681}.b-aside{fill:#d29922}\
.mark{stroke:#e6edf3}.limit{stroke:#f85149}}";

/// The whole chart. `machine` is a sentence about where it was measured.
#[must_use]
pub fn svg(outcomes: &[Outcome], rounds: u32, machine: &str) -> String {
    let outcomes: Vec<&Outcome> =
        outcomes.iter().filter(|outcome| outcome.size_bytes > 0).collect();
    let heights = outcomes.iter().map(|outcome| HEAD + ROW * outcome.lanes.len() as f64 + GAP);
    let height = TOP + heights.sum::<f64>() + MARGIN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
         width=\"{WIDTH:.0}\" height=\"{height:.0}\" role=\"img\">\n\
         <title>haul and its peers: wall time</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"8\"/>\n"
    );
    line(&mut text, "big", MARGIN, 34.0, "start", "Wall time, shorter is better");
    let rounds = if rounds == 1 { "the round" } else { "all rounds" };
    let legend = format!("bar: least of {rounds} · tick: median · dashes: what the server allows");
    line(&mut text, "dim", MARGIN, 56.0, "start", &legend);
    line(&mut text, "dim", MARGIN, 74.0, "start", &shorten(machine, 130));
    let mut y = TOP;
    for outcome in outcomes {
        block(&mut text, outcome, y);
        y += HEAD + ROW * outcome.lanes.len() as f64 + GAP;
    }
    text.push_str("</svg>\n");
    text
}

fn block(text: &mut String, outcome: &Outcome, top: f64) {
    line(text, "head", MARGIN, top + 20.0, "start", &outcome.title());
    let (left, room) = (MARGIN + LABEL, WIDTH - 2.0 * MARGIN - LABEL - FIGURE);
    let longest = scale_end(outcome);
    let x = |seconds: f64| left + room * (seconds / longest).min(1.0);
    let first = top + HEAD - 14.0;
    for (index, lane) in outcome.ranked().into_iter().enumerate() {
        let y = first + ROW * index as f64;
        let (middle, bar_top) = (y + ROW / 2.0 + 4.0, y + (ROW - BAR) / 2.0);
        let class = if lane.haul { "haul" } else { "name" };
        line(text, class, left - 10.0, middle, "end", &shorten(&lane.name, NAME_CHARS));
        let _ = writeln!(
            text,
            "<rect class=\"rail\" x=\"{left:.1}\" y=\"{bar_top:.1}\" width=\"{room:.1}\" \
             height=\"{BAR}\" rx=\"3\"/>"
        );
        let bar = |text: &mut String, seconds: f64, opacity: f64| {
            let width = (x(seconds) - left).max(2.0);
            let _ = writeln!(
                text,
                "<rect class=\"b-{}\" x=\"{left:.1}\" y=\"{bar_top:.1}\" width=\"{width:.1}\" \
                 height=\"{BAR}\" rx=\"3\" opacity=\"{opacity}\"/>",
                kind(lane)
            );
        };
        let figure = match (lane.wall(), lane.ended_after_s) {
            (Some(wall), _) => {
                bar(text, wall.min, 1.0);
                if wall.median <= longest {
                    let at = x(wall.median);
                    let _ = writeln!(
                        text,
                        "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                        bar_top - 2.0,
                        bar_top + BAR + 2.0
                    );
                }
                let over = if wall.min > longest { " →" } else { "" };
                format!("{}{over}", shown(wall.min))
            }
            (None, Some(ended)) => {
                bar(text, longest, 0.45);
                format!("over {ended:.0} s →")
            }
            (None, None) => "failed".to_owned(),
        };
        line(text, class, left + room + 10.0, middle, "start", &figure);
    }
    if let Some(limit) = outcome.limit_s {
        let at = x(limit);
        let _ = writeln!(
            text,
            "<line class=\"limit\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{first:.1}\" y2=\"{:.1}\"/>",
            first + ROW * outcome.lanes.len() as f64
        );
    }
}

/// Where the scale ends, in seconds: at the slowest, but no further than six times the fastest,
/// so that one who crawls does not press all others together.
fn scale_end(outcome: &Outcome) -> f64 {
    let times = || outcome.lanes.iter().filter_map(Lane::wall);
    let least = times().map(|wall| wall.min).min_by(f64::total_cmp).unwrap_or(1.0);
    let most = times().map(|wall| wall.median).max_by(f64::total_cmp).unwrap_or(1.0);
    most.max(outcome.limit_s.unwrap_or(0.0)).min(least * 6.0).max(1e-6)
}

fn kind(lane: &Lane) -> &'static str {
    match (lane.haul, lane.peer) {
        (true, _) => "haul",
        (false, true) => "peer",
        (false, false) => "aside",
    }
}

fn shown(seconds: f64) -> String {
    if seconds < 0.1 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn line(text: &mut String, class: &str, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        text,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Role;
    use crate::servers::Traffic;
    use crate::track::Sample;

    fn lane(name: &str, role: Role, walls: &[f64]) -> Lane {
        let mut lane = Lane::new(name, role);
        lane.samples = walls
            .iter()
            .map(|&wall_s| Sample {
                round: 1,
                place: 1,
                wall_s,
                synced_wall_s: None,
                cpu_s: 0.1,
                peak_rss_bytes: 1,
                traffic: Traffic::default(),
            })
            .collect();
        lane
    }

    #[test]
    fn one_that_crawls_does_not_stretch_the_scale_and_names_are_escaped() {
        let mut ended = lane("lftp <pget> & co", Role::Peer, &[]);
        ended.ended_after_s = Some(30.0);
        let lanes =
            vec![lane("haul", Role::Haul, &[1.0]), lane("slow", Role::Peer, &[50.0]), ended];
        let outcome = Outcome {
            scenario: "uneven",
            size_bytes: 1 << 28,
            files: 1,
            output: "ext4".to_owned(),
            limit_s: Some(0.9),
            lanes,
            notes: Vec::new(),
            bars: Vec::new(),
        };
        assert_eq!(scale_end(&outcome), 6.0);
        let text = svg(&[outcome], 1, "a machine");
        assert!(text.contains("lftp &lt;pget&gt; &amp; co"), "{text}");
        assert!(text.contains("50.00 s →") && text.contains("over 30 s →"), "{text}");
        assert_eq!(text.matches("class=\"limit\"").count(), 1);
    }
}
