//! The project's bars: what was measured beside what was promised.

use serde::Serialize;

use crate::size::MIB;
use crate::stats::Summary;
use crate::track::Lane;

const PEAK_BAR_BYTES: u64 = 64 * MIB;

/// One bar of the project and what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    /// What is measured.
    pub what: String,
    /// The measurement, in `unit`; none when the lane has no run that ended well.
    pub measured: Option<f64>,
    /// The same from medians, where the measurement is from minima.
    pub median: Option<f64>,
    /// The most it may be, in `unit`.
    pub bound: f64,
    /// `x`, `s`, `MiB`, `ms` or `requests`.
    pub unit: &'static str,
    /// Whether the bound holds.
    pub pass: bool,
}

impl Bar {
    /// At most `bound`.
    #[must_use]
    pub fn new(
        what: impl Into<String>,
        measured: Option<f64>,
        bound: f64,
        unit: &'static str,
    ) -> Self {
        let pass = measured.is_some_and(|figure| figure <= bound);
        Self { what: what.into(), measured, median: None, bound, unit, pass }
    }

    /// The ratio of `mine` to `other`: of minima, with that of medians beside.
    #[must_use]
    pub fn ratio(
        what: impl Into<String>,
        mine: Option<Summary>,
        other: Option<Summary>,
        bound: f64,
    ) -> Self {
        let both = mine.zip(other);
        let bar = Self::new(what, both.map(|(mine, other)| mine.min / other.min), bound, "x");
        Self { median: both.map(|(mine, other)| mine.median / other.median), ..bar }
    }

    /// The ratio of `mine` to a figure that does not vary.
    #[must_use]
    pub fn ratio_to(
        what: impl Into<String>,
        mine: Option<Summary>,
        other: f64,
        bound: f64,
    ) -> Self {
        Self::ratio(what, mine, Summary::of([other]), bound)
    }
}

/// haul's greatest peak among `lanes` against the bar on memory; none without any run.
#[must_use]
pub fn peak_bar(lanes: &[Lane], where_: &str) -> Option<Bar> {
    let peak = lanes.iter().filter(|lane| lane.haul).filter_map(Lane::peak_rss_bytes).max()?;
    let in_mib = |bytes: u64| bytes as f64 / MIB as f64;
    let what = format!("{where_}: haul's peak resident memory");
    Some(Bar::new(what, Some(in_mib(peak)), in_mib(PEAK_BAR_BYTES), "MiB"))
}

/// The lane of this name.
#[must_use]
pub fn lane<'a>(lanes: &'a [Lane], name: &str) -> Option<&'a Lane> {
    lanes.iter().find(|lane| lane.name == name)
}

/// The peer with the least figure of those that have one.
#[must_use]
pub fn fastest_peer(
    lanes: &[Lane],
    figure: impl Fn(&Lane) -> Option<Summary>,
) -> Option<(&Lane, Summary)> {
    lanes
        .iter()
        .filter(|lane| lane.peer)
        .filter_map(|lane| Some((lane, figure(lane)?)))
        .min_by(|(_, a), (_, b)| a.min.total_cmp(&b.min))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Role;

    #[test]
    fn a_bar_without_a_figure_is_missed() {
        assert!(!Bar::new("x", None, 1.0, "x").pass);
        assert!(!Bar::ratio("x", None, Summary::of([1.0]), 2.0).pass);
        assert!(Bar::new("x", Some(1.0), 1.0, "x").pass);
        let (mine, other) = (Summary::of([2.0, 3.0, 9.0]), Summary::of([4.0, 4.0, 5.0]));
        let bar = Bar::ratio("x", mine, other, 0.6);
        assert_eq!((bar.measured, bar.median, bar.pass), (Some(0.5), Some(0.75), true));
    }

    #[test]
    fn a_peer_that_never_ended_is_not_the_fastest() {
        let lanes = [Lane::new("haul", Role::Haul), Lane::new("slow", Role::Peer)];
        assert!(fastest_peer(&lanes, Lane::wall).is_none());
    }
}
