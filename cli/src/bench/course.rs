//! The course of one run: how many bytes had come at what time, and the speed that it settled at.
//!
//! Bytes through time says little about a longer download. Servers begin a response with a burst
//! (`limit_rate` of nginx) and send in lumps, and connections start slowly. So the end of a run is
//! cut into three equal parts, and the mean of the bytes that had come is taken over each. The
//! difference of two neighbouring means, divided by the length of a part, is a speed: what came
//! before the first part cancels out, and a lump on the border of two parts shifts the means only
//! a little. The speed is steady if both such speeds agree. The engine's controller discounts the
//! first second and the growth at the start for the same reasons.

use std::time::Duration;

/// Two speeds agree if they differ by no more than this fraction of the higher one.
const AGREE: f64 = 0.2;

/// A shorter part holds too few looks: the engine's numbers change ten times a second.
const LEAST_PART_S: f64 = 0.15;

/// A burst is worth at least this long at the steady speed.
const BURST_S: f64 = 0.1;

/// How many bytes had come, and over how many connections, at a time after the first byte.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Duration,
    bytes: u64,
    connections: usize,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub(super) struct Course {
    looks: Vec<Look>,
}

/// The speed at the end of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pace {
    pub(super) bytes_per_second: f64,
    /// Whether the speed no longer changed.
    pub(super) steady: bool,
    /// Whether more had come than this speed explains.
    pub(super) after_burst: bool,
}

impl Course {
    /// Notes that `bytes` had come, `at` this time after the first byte.
    pub(super) fn note(&mut self, at: Duration, bytes: u64, connections: usize) {
        self.looks.push(Look { at, bytes, connections });
    }

    /// The number of connections most of the time.
    pub(super) fn connections(&self) -> usize {
        let mut counts: Vec<usize> = self.looks.iter().map(|look| look.connections).collect();
        counts.sort_unstable();
        counts.get(counts.len() / 2).copied().unwrap_or(0)
    }

    /// The speed of a run that lasted until `end`; `None` if it was too short to have one.
    pub(super) fn pace(&self, end: Duration) -> Option<Pace> {
        let end_s = end.as_secs_f64();
        let third_s = end_s / 3.0;
        // Servers that send in lumps do so once or several times a second, and over whole seconds
        // lumps even out.
        let part_s = if third_s >= 1.0 { third_s.floor() } else { third_s };
        if part_s < LEAST_PART_S {
            return None;
        }
        let mean = |part: f64| self.mean(end_s - part * part_s, end_s - (part - 1.0) * part_s);
        let (first, second, third) = (mean(3.0), mean(2.0), mean(1.0));
        let (earlier, later) = ((second - first) / part_s, (third - second) / part_s);
        let steady = (later - earlier).abs() < AGREE * earlier.max(later);
        let bytes_per_second = f64::midpoint(earlier, later);
        // The mean over the last part is what had come in its middle.
        let explained = bytes_per_second * (end_s - part_s / 2.0 + BURST_S);
        Some(Pace { bytes_per_second, steady, after_burst: third > explained })
    }

    /// The mean of the bytes that had come, from one time to another.
    fn mean(&self, from_s: f64, to_s: f64) -> f64 {
        let ends = self.looks.iter().skip(1).map(|look| look.at.as_secs_f64());
        let spans = self.looks.iter().zip(ends.chain([f64::INFINITY])).map(|(look, end_s)| {
            let begin_s = look.at.as_secs_f64().max(from_s);
            look.bytes as f64 * (end_s.min(to_s) - begin_s).max(0.0)
        });
        spans.sum::<f64>() / (to_s - from_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1_048_576.0;

    /// A run in which `bytes` had come after so many seconds, seen ten times a second.
    fn a_course(seconds: f64, bytes: impl Fn(f64) -> f64) -> Option<Pace> {
        let mut course = Course::default();
        for look in 1..=(seconds * 10.0).round() as u32 {
            let at_s = f64::from(look) / 10.0;
            course.note(Duration::from_secs_f64(at_s), bytes(at_s - 0.05) as u64, 4);
        }
        course.pace(Duration::from_secs_f64(seconds))
    }

    fn assert_steady(pace: Option<Pace>, bytes_per_second: f64) {
        let pace = pace.expect("long enough");
        let ratio = pace.bytes_per_second / bytes_per_second;
        assert!(pace.steady && (0.9..1.1).contains(&ratio), "{ratio}: {pace:?}");
    }

    #[test]
    fn burst_does_not_count() {
        let limit = 4.0 * MIB;
        // `limit_rate 4m` of nginx: lumps of 2 MiB in each half second, or a second's worth in each.
        let lumps = |each_s: f64| move |at: f64| limit * each_s * (1.0 + (at / each_s).floor());
        for seconds in [3.0, 3.4, 4.0, 5.0] {
            for each_s in [0.5, 1.0] {
                let pace = a_course(seconds, lumps(each_s));
                assert_steady(pace, limit);
                assert!(pace.unwrap().after_burst, "{pace:?}");
            }
        }
        let token_bucket = |at: f64| (100.0 * MIB * at).min(8.0 * MIB + limit * at);
        assert!(!a_course(3.0, token_bucket).unwrap().steady, "the burst took some time");
        assert_steady(a_course(3.5, token_bucket), limit);
    }

    #[test]
    fn even_flow_is_steady_without_a_burst() {
        for seconds in [0.6, 1.0, 2.0, 3.0, 5.0] {
            let pace = a_course(seconds, |at| 10.0 * MIB * at);
            assert_steady(pace, 10.0 * MIB);
            assert!(!pace.unwrap().after_burst, "{pace:?}");
        }
    }

    #[test]
    fn speed_that_still_changes_is_not_steady() {
        // The burst goes on through half of the run.
        let burst = |at: f64| (40.0 * MIB * at).min(60.0 * MIB + 4.0 * MIB * (at - 1.5));
        let pace = a_course(3.0, burst).unwrap();
        assert!(!pace.steady && pace.bytes_per_second < 24.0 * MIB, "{pace:?}");
        // Lumps that are longer than a part must not look like silence.
        let lumps = a_course(1.9, |at| 64.0 * MIB * (at + 0.15).floor()).unwrap();
        assert!(!lumps.steady && lumps.bytes_per_second > 30.0 * MIB, "{lumps:?}");
        let growing = a_course(1.0, |at| 10.0 * MIB * at * at).unwrap();
        assert!(!growing.steady && !growing.after_burst, "{growing:?}");
    }

    #[test]
    fn short_or_silent_run_has_no_steady_speed() {
        assert_eq!(a_course(0.4, |at| at * MIB), None);
        assert_eq!(Course::default().pace(Duration::ZERO), None);
        assert!(!Course::default().pace(Duration::from_secs(3)).unwrap().steady);
    }

    #[test]
    fn connections_that_were_closed_at_once_do_not_count() {
        let mut course = Course::default();
        assert_eq!(course.connections(), 0);
        for (look, connections) in [(1, 6), (2, 4), (3, 4), (4, 4), (5, 1)] {
            course.note(Duration::from_millis(look * 100), look * 1000, connections);
        }
        assert_eq!(course.connections(), 4);
    }
}
