//! The conclusions from measured runs: medians and spread, the speed of one connection, a
//! recommended number of connections, and reasons not to believe any of it.

use haul_engine::NoticeCode;
use serde::Serialize;

use super::machine::Load;
use super::measure::Sample;
use crate::units::{plural, rate};

/// A smaller number of connections is recommended if it reaches this fraction of the best speed.
/// The rest is noise, and connections cost the server.
const GOOD_ENOUGH: f64 = 0.95;

/// A connection among many counts as being as fast as one alone down to this fraction.
const SAME_SPEED: f64 = 0.8;

/// A larger difference than this between the slowest and the fastest round, as a fraction of the
/// median, is noise.
const NOISY: f64 = 0.25;

/// Shorter runs say more about starting than about speed.
const SHORT_SECONDS: f64 = 0.1;

/// The rounds with one number of connections and one storage.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Point {
    pub(super) connections: usize,
    pub(super) storage: &'static str,
    /// From the median round, as are all numbers that are not a minimum or maximum.
    pub(super) seconds: f64,
    pub(super) bytes_per_second: f64,
    pub(super) ttfb_s: Option<f64>,
    pub(super) bytes: u64,
    pub(super) min_bytes_per_second: f64,
    pub(super) max_bytes_per_second: f64,
    /// The rate of each round, in their order.
    pub(super) rounds_bytes_per_second: Vec<f64>,
    /// Whether a longer run would probably show the same speed.
    pub(super) steady: bool,
    /// The load of this machine in the fastest round, which was disturbed least.
    #[serde(skip)]
    pub(super) load: Option<Load>,
}

impl Point {
    /// The point that these rounds make; `None` without rounds.
    pub(super) fn of(samples: &[Sample]) -> Option<Self> {
        let mut sorted: Vec<&Sample> = samples.iter().collect();
        sorted.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
        // Of two middle rounds the slower one counts: no speed is promised that was not reached.
        let median = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
        Some(Self {
            connections: samples.iter().map(|sample| sample.connections).max()?,
            storage: median.storage,
            seconds: median.seconds,
            bytes_per_second: median.rate(),
            ttfb_s: median_of(samples.iter().filter_map(|sample| sample.ttfb_s)),
            bytes: median.bytes,
            min_bytes_per_second: sorted.first()?.rate(),
            max_bytes_per_second: sorted.last()?.rate(),
            rounds_bytes_per_second: samples.iter().map(Sample::rate).collect(),
            steady: median.is_steady(),
            load: sorted.last()?.load,
        })
    }

    /// The difference between the slowest and the fastest round, as a fraction of the median.
    pub(super) fn spread(&self) -> f64 {
        (self.max_bytes_per_second - self.min_bytes_per_second) / self.bytes_per_second.max(1e-9)
    }
}

fn median_of(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// The speed of one connection, if more of them are proportionally faster.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct PerConnection {
    pub(super) bytes_per_second: f64,
    /// It holds up to this many connections.
    pub(super) up_to: usize,
}

/// Detects a cap on each connection: a number of connections and four times that number, with all
/// that were tried between them, have the same speed for each connection.
pub(super) fn per_connection(points: &[Point]) -> Option<PerConnection> {
    let each = |point: &Point| point.bytes_per_second / point.connections as f64;
    let first = points.first()?;
    let same = |point: &&Point| {
        let ratio = each(point) / each(first).max(1e-9);
        (SAME_SPEED..=1.0 / SAME_SPEED).contains(&ratio)
    };
    let linear: Vec<&Point> = points.iter().take_while(same).collect();
    let last = linear.last()?;
    if last.connections < 4 * first.connections {
        return None;
    }
    let bytes_per_second = median_of(linear.iter().map(|point| each(point)))?;
    Some(PerConnection { bytes_per_second, up_to: last.connections })
}

/// A number of connections and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) connections: usize,
    pub(super) reason: String,
}

/// The fewest connections that are as fast as any, or nearly so. `points` are sorted by their
/// number of connections.
pub(super) fn advise(points: &[Point], ranges: bool, cap: Option<PerConnection>) -> Option<Advice> {
    let fastest = points
        .iter()
        .max_by(|a, b| a.bytes_per_second.total_cmp(&b.bytes_per_second))?
        .bytes_per_second;
    let chosen = points.iter().find(|point| point.bytes_per_second >= fastest * GOOD_ENOUGH)?;
    let connections = chosen.connections;
    let most = points.last()?.connections;
    let reason = if !ranges {
        "the server supports no byte ranges, so only one connection is possible".to_owned()
    } else if points.len() == 1 {
        "no other number was measured".to_owned()
    } else if connections == points.first()?.connections {
        format!(
            "{} already as fast as any number",
            if connections == 1 { "one is".to_owned() } else { format!("{connections} are") }
        )
    } else if connections < most {
        format!("more bring less than {:.0} %", (1.0 / GOOD_ENOUGH - 1.0) * 100.0)
    } else if cap.is_some_and(|cap| cap.up_to == most) {
        format!("the speed grows with their number, and {most} is the most that was tried")
    } else {
        format!("the speed still grew at {most}, the most that was tried")
    };
    Some(Advice { connections, reason })
}

/// The connections that were left after the server had refused others; `None` if it never did.
pub(super) fn tolerated(samples: &[Sample]) -> Option<usize> {
    let refused = |sample: &&Sample| {
        sample.notices.iter().any(|(code, _)| *code == NoticeCode::ConnectionLimit)
    };
    samples.iter().filter(refused).map(|sample| sample.held_connections).min()
}

/// Reasons why the numbers may mislead, each with its remedy.
pub(super) fn warnings(points: &[Point], samples: &[Sample], load: Option<Load>) -> Vec<String> {
    let mut warnings = Vec::new();
    let unsteady: Vec<String> = points
        .iter()
        .filter(|point| !point.steady)
        .map(|point| point.connections.to_string())
        .collect();
    if !unsteady.is_empty() {
        warnings.push(format!(
            "no steady speed was found with {} {}: the runs were too short, or the speed kept \
             changing; measure more with --size and --time",
            unsteady.join(", "),
            if unsteady == ["1"] { "connection" } else { "connections" }
        ));
    }
    let busy = load.and_then(Load::warning);
    let noisiest = points.iter().max_by(|a, b| a.spread().total_cmp(&b.spread()));
    if let Some(point) = noisiest.filter(|point| point.spread() > NOISY) {
        let cause = if busy.is_some() {
            "this machine is busy, see below"
        } else {
            "this machine was quiet, so the server or the network varies: measure again at \
             another time, or with more --rounds"
        };
        warnings.push(format!(
            "rounds of the same run differ: {} with {} {} from {} to {}; {cause}",
            point.storage,
            point.connections,
            if point.connections == 1 { "connection" } else { "connections" },
            rate(point.min_bytes_per_second),
            rate(point.max_bytes_per_second),
        ));
    }
    warnings.extend(busy);
    let short = |point: &&Point| point.steady && point.seconds < SHORT_SECONDS;
    if let Some(short) = points.iter().find(short) {
        warnings.push(format!(
            "a run took only {:.0} ms, which says more about starting than about speed: measure \
             more with --size",
            short.seconds * 1e3
        ));
    }
    let retries: u32 = samples.iter().map(|sample| sample.retries).sum();
    if retries > 0 {
        warnings.push(format!(
            "the server failed {} (a limit of requests or connections, or too much load): the \
             speeds include waits; measure fewer connections with -x",
            plural(retries.into(), "time", "times")
        ));
    }
    if let Some(tolerated) = tolerated(samples) {
        warnings.push(format!(
            "the server refused some connections, so the speeds with more than {tolerated} are \
             those of about {tolerated}"
        ));
    }
    for (code, text) in samples.iter().flat_map(|sample| &sample.notices) {
        // Notices about the run's own restart or file name do not concern the measurement.
        let telling = matches!(code, NoticeCode::StorageFallback | NoticeCode::SingleStream);
        if telling && !warnings.contains(text) {
            warnings.push(text.clone());
        }
    }
    warnings
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::course::Pace;
    use super::*;

    fn a_point(connections: usize, bytes_per_second: f64) -> Point {
        Point::of(&[a_sample(connections, bytes_per_second)]).unwrap()
    }

    pub(crate) fn a_sample(connections: usize, bytes_per_second: f64) -> Sample {
        Sample {
            connections,
            held_connections: connections,
            storage: "null",
            bytes: (bytes_per_second * 2.0) as u64,
            seconds: 2.0,
            ttfb_s: None,
            pace: None,
            whole: true,
            hash: None,
            ranges: true,
            notices: Vec::new(),
            retries: 0,
            load: None,
        }
    }

    pub(crate) fn points(of: &[(usize, f64)]) -> Vec<Point> {
        of.iter().map(|&(connections, speed)| a_point(connections, speed * 1e6)).collect()
    }

    #[test]
    fn fewest_connections_of_nearly_the_best_speed_are_recommended() {
        let advice = |points: &[Point]| advise(points, true, per_connection(points));
        let measured = points(&[(1, 60.0), (4, 96.0), (8, 100.0), (16, 90.0)]);
        let four = advice(&measured).unwrap();
        assert_eq!((four.connections, &*four.reason), (4, "more bring less than 5 %"));
        let one = advice(&points(&[(1, 99.0), (4, 100.0)])).unwrap();
        assert_eq!((one.connections, &*one.reason), (1, "one is already as fast as any number"));
        let most = advice(&points(&[(1, 1.0), (2, 2.0), (4, 4.0)])).unwrap();
        assert_eq!(most.connections, 4);
        assert!(most.reason.contains("grows with their number"), "{most:?}");
        assert_eq!(advice(&[]), None);
        let stream = advise(&points(&[(1, 1.0)]), false, None).unwrap();
        assert!(stream.reason.contains("no byte ranges"), "{stream:?}");
    }

    #[test]
    fn cap_of_a_connection_is_seen_where_speed_is_in_proportion() {
        let capped = points(&[(1, 2.0), (2, 3.9), (4, 8.1), (8, 15.8), (16, 16.0)]);
        let cap = per_connection(&capped).unwrap();
        assert_eq!(cap.up_to, 8);
        assert!((1.9e6..2.1e6).contains(&cap.bytes_per_second), "{cap:?}");
        for free in [
            &[(1, 10.0), (2, 11.0), (4, 11.0), (8, 11.0)][..],
            &[(1, 10.0), (2, 19.0), (4, 22.0), (8, 22.0)],
            &[(1, 10.0)],
            &[],
        ] {
            assert_eq!(per_connection(&points(free)), None, "{free:?}");
        }
    }

    #[test]
    fn median_of_two_rounds_is_the_slower_and_spread_is_of_the_median() {
        let point = Point::of(&[a_sample(4, 3e6), a_sample(4, 2e6)]).unwrap();
        assert!((point.bytes_per_second - 2e6).abs() < 1.0 && (point.spread() - 0.5).abs() < 0.01);
        assert!(Point::of(&[]).is_none());
    }

    #[test]
    fn noise_names_its_cause_and_remedy() {
        let samples = [a_sample(4, 1e6), a_sample(4, 2e6), a_sample(4, 3e6)];
        let noisy = [Point::of(&samples).unwrap()];
        let quiet = warnings(&noisy, &samples, None);
        assert_eq!(quiet.len(), 1);
        assert!(quiet[0].contains("server or the network") && quiet[0].contains("--rounds"));
        let busy = Load { own_cores: 0.1, others_cores: 1.5, stolen: 0.0, cores: 2 };
        let busy = warnings(&noisy, &samples, Some(busy));
        assert!(busy[0].contains("machine is busy") && busy[1].contains("1.5 of 2"), "{busy:?}");
        assert!(warnings(&points(&[(1, 1.0)]), &[a_sample(1, 1e6)], None).is_empty());
    }

    #[test]
    fn speed_that_was_not_steady_is_told_of() {
        let cut = |connections, pace| Sample { whole: false, pace, ..a_sample(connections, 9e6) };
        let pace = |steady| Pace { bytes_per_second: 4e6, steady, after_burst: true };
        let samples =
            [cut(1, Some(pace(true))), cut(8, Some(pace(false))), cut(16, None), a_sample(2, 1e6)];
        let points = samples.clone().map(|sample| Point::of(&[sample]).unwrap());
        let rates = points.clone().map(|point| point.bytes_per_second);
        assert_eq!(
            rates,
            [4e6, 4e6, 9e6, 1e6],
            "the burst counts only where nothing else is known"
        );
        let told = warnings(&points, &samples, None);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("no steady speed") && told[0].contains(" 8, 16 conn"), "{told:?}");
        assert!(told[0].contains("--size"), "{told:?}");
    }

    #[test]
    fn short_runs_and_refusals_are_told_once() {
        let mut sample = a_sample(1, 1e9);
        (sample.seconds, sample.retries) = (0.05, 2);
        sample.notices = [15, 14]
            .map(|left| (NoticeCode::ConnectionLimit, format!("going on with {left}")))
            .to_vec();
        sample.held_connections = 4;
        assert_eq!(tolerated(&[a_sample(1, 1e9), sample.clone()]), Some(4));
        let told = warnings(&[Point::of(&[sample.clone()]).unwrap()], &[sample], None);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("--size") && told[1].contains("2 times"), "{told:?}");
        assert!(told[2].contains("more than 4"), "{told:?}");
    }
}
