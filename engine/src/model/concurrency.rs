//! How many connections are worth having.
//!
//! Growth is judged by the total speed of all connections over a window of a
//! few round trips, begun when all of them deliver, so that a slow start is
//! not taken for a slow server. The first connection alone is the first
//! measure, where it was alone for long enough.

use std::time::Duration;

use crate::model::config::Connections;
use crate::model::event::LimitedBy;

const AUTO_START: usize = 4;
/// No more to one address without being asked.
const AUTO_MAX: usize = 16;
/// Bounds of the window that a level is judged by.
const WINDOW: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// More connections must bring this much more speed to be kept.
const GAIN: f64 = 1.15;
/// With so much of the gain that more connections could bring at best, each of
/// them is capped: the next step is a large one.
const CAPPED_ALIKE: f64 = 0.75;
/// A single connection must have been alone for this long to be a measure.
const ALONE: Duration = Duration::from_millis(80);
/// With less left to do, more connections bring nothing.
const WORTH_GROWING: Duration = Duration::from_millis(500);

/// What is seen of the connections at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Bytes that came since the start, over all connections.
    pub received_bytes: u64,
    /// Connections in use.
    pub active: usize,
    /// Of them, those whose bytes come.
    pub flowing: usize,
    /// Seconds from a request to its response on a connection that was kept.
    pub round_trip_s: f64,
    /// Seconds that the rest takes at the present speed, where it is known.
    pub left_s: Option<f64>,
}

/// What an earlier download has shown of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// So many connections were worth having, 1 to 16.
    pub connections: usize,
    /// Why not more.
    pub why: Bound,
}

/// Why there are not more connections, without figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Each connection is slow, and more than this are not used.
    Connection,
    /// More of them brought no more.
    Link,
    /// The server refuses more.
    Server,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Duration,
    bytes: u64,
}

impl Mark {
    fn rate(self, flow: Flow, now: Duration) -> f64 {
        let seconds = now.saturating_sub(self.at).as_secs_f64();
        (flow.received_bytes - self.bytes) as f64 / seconds.max(1e-3)
    }
}

/// The limit on connections of one download: what the caller allows, what
/// measuring shows to help, and what the server tolerates.
#[derive(Debug, Clone)]
pub struct Concurrency {
    max: usize,
    /// What measuring has reached so far; `max` when the caller fixed it.
    wanted: usize,
    /// What the server tolerates; lowered by refusals.
    tolerated: usize,
    /// Whether more may be tried.
    growing: bool,
    /// Whether the level is still to be judged.
    judging: bool,
    /// When the first connection delivered.
    alone: Option<Mark>,
    /// When all connections delivered.
    window: Option<Mark>,
    /// The connections of the level before, and their speed together.
    before: Option<(usize, f64)>,
    found: Option<LimitedBy>,
    /// Whether two levels were compared to find it.
    compared: bool,
    /// What an earlier download has shown.
    known_for: Option<Bound>,
    recover_at: Duration,
    recover_every: Duration,
}

impl Concurrency {
    /// The limit at the start of a download.
    #[must_use]
    pub fn new(connections: Connections) -> Self {
        let (max, wanted) = match connections {
            Connections::Auto => (AUTO_MAX, AUTO_START),
            Connections::Fixed(count) => (count.max(1), count.max(1)),
        };
        Self {
            max,
            wanted,
            tolerated: max,
            growing: wanted < max,
            judging: wanted < max,
            alone: None,
            window: None,
            before: None,
            found: None,
            compared: false,
            known_for: None,
            recover_at: Duration::MAX,
            recover_every: Duration::from_secs(5),
        }
    }

    /// Starts where an earlier download of the same server ended. Nothing
    /// changes where the caller fixed the number.
    pub fn remember(&mut self, learned: Learned) {
        self.known_for = Some(learned.why);
        if !self.growing {
            return;
        }
        self.wanted = learned.connections.clamp(1, self.max);
        // A refusal holds until it is forgotten; the rest is measured again.
        self.growing = self.wanted < self.max && learned.why != Bound::Server;
        if learned.why == Bound::Server {
            self.judging = false;
            self.found = Some(LimitedBy::Server { connections: self.wanted });
        }
    }

    /// What this download has shown, where it has shown something.
    #[must_use]
    pub fn learned(&self) -> Option<Learned> {
        let why = match self.found? {
            LimitedBy::Connection { .. } => Bound::Connection,
            LimitedBy::Link { .. } => Bound::Link,
            LimitedBy::Server { .. } => Bound::Server,
            _ => return None,
        };
        Some(Learned { connections: self.limit().min(AUTO_MAX), why })
    }

    /// What kept an earlier download of the same server from being faster.
    #[must_use]
    pub fn is_known_for(&self) -> Option<Bound> {
        self.known_for
    }

    /// At most this many connections now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.wanted.min(self.tolerated)
    }

    /// The caller allows so many connections.
    #[must_use]
    pub fn at_most(&self) -> usize {
        self.max
    }

    /// So many connections there may be in a moment, at most.
    #[must_use]
    pub fn prospect(&self) -> usize {
        if self.growing { self.max.min(self.tolerated) } else { self.limit() }
    }

    /// Whether [`Self::observe`] has anything to learn.
    #[must_use]
    pub fn is_judging(&self) -> bool {
        self.judging
    }

    /// Why there are not more connections, once it was shown by more or fewer of them.
    #[must_use]
    pub fn shown(&self) -> Option<LimitedBy> {
        let known = self.known_for == Some(Bound::Connection);
        let refused = matches!(self.found, Some(LimitedBy::Server { .. }));
        self.found.filter(|_| self.compared || known || refused)
    }

    /// The server refused a connection while `active` others work. Returns
    /// whether the limit fell.
    pub fn refused(&mut self, active: usize, now: Duration) -> bool {
        let limit = active.max(1);
        self.growing = false;
        self.judging = false;
        self.recover_at = now + self.recover_every;
        if limit >= self.limit() {
            return false;
        }
        self.tolerated = limit;
        self.found = Some(LimitedBy::Server { connections: limit });
        // Each fall makes the next attempt to regain a connection rarer.
        self.recover_every = (self.recover_every * 2).min(Duration::from_secs(120));
        true
    }

    /// Looks at what comes, and tries more or fewer connections.
    pub fn observe(&mut self, flow: Flow, now: Duration) {
        if now >= self.recover_at && self.tolerated < self.max {
            self.tolerated += 1;
            self.recover_at = now + self.recover_every;
        }
        if !self.judging || flow.flowing == 0 {
            return;
        }
        let mark = Mark { at: now, bytes: flow.received_bytes };
        if self.alone.is_none() && flow.flowing == 1 {
            self.alone = Some(mark);
        }
        let Some(window) = self.window else {
            if flow.flowing >= self.limit() {
                if let Some(alone) = self.alone.filter(|_| self.before.is_none())
                    && now.saturating_sub(alone.at) >= ALONE
                {
                    self.before = Some((1, alone.rate(flow, now)));
                }
                self.window = Some(mark);
            }
            return;
        };
        let round_trip = Duration::from_secs_f64(flow.round_trip_s.clamp(0.0, 10.0));
        let length = (round_trip * 2).clamp(WINDOW.0, WINDOW.1);
        if flow.active < self.limit() {
            // Nothing is left for one of them, or one has failed.
            self.window = None;
        } else if now.saturating_sub(window.at) >= length {
            self.judge(window.rate(flow, now), flow.left_s);
        }
    }

    fn judge(&mut self, rate: f64, left_s: Option<f64>) {
        self.window = None;
        let level = self.limit();
        let each = LimitedBy::Connection { bytes_per_second: (rate / level as f64) as u64 };
        let factor = match self.before {
            None => 2,
            Some((fewer, before)) => {
                let gain = rate / before.max(1.0);
                if gain < GAIN && level > fewer {
                    // As many as before are enough, unless it was one alone.
                    self.wanted = fewer.max(AUTO_START.min(level));
                    self.growing = false;
                    self.judging = false;
                    self.found = Some(LimitedBy::Link { bytes_per_second: rate as u64 });
                    self.compared = true;
                    return;
                }
                let capped_alike = gain / (level as f64 / fewer as f64) >= CAPPED_ALIKE;
                // Where more of them brought more, it is not the link yet.
                self.compared = capped_alike;
                self.found = Some(match capped_alike {
                    true => each,
                    false => LimitedBy::Link { bytes_per_second: rate as u64 },
                });
                if capped_alike { 4 } else { 2 }
            }
        };
        if level >= self.max {
            self.found = self.found.or(Some(each));
            self.growing = false;
            self.judging = false;
            return;
        }
        if left_s.is_some_and(|left_s| left_s < WORTH_GROWING.as_secs_f64()) {
            return;
        }
        self.before = Some((level, rate));
        self.wanted = (level * factor).min(self.max);
        self.growing = self.wanted < self.max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets a server deliver `rate(connections)` bytes a second in all.
    fn download(auto: &mut Concurrency, rate: impl Fn(usize) -> f64, seconds: u64) {
        let mut received = 0.0;
        for ms in (0..seconds * 1000).step_by(20) {
            let limit = auto.limit();
            received += rate(limit) * 0.02;
            let flow = Flow {
                received_bytes: received as u64,
                active: limit,
                flowing: limit,
                round_trip_s: 0.01,
                left_s: Some(60.0),
            };
            auto.observe(flow, Duration::from_millis(ms));
        }
    }

    #[test]
    fn auto_grows_at_once_where_each_connection_is_capped() {
        let mut auto = Concurrency::new(Connections::Auto);
        assert_eq!(auto.limit(), 4);
        download(&mut auto, |connections| connections as f64 * 2e6, 1);
        assert_eq!(auto.limit(), 16);
        let Some(LimitedBy::Connection { bytes_per_second }) = auto.shown() else {
            panic!("{auto:?}")
        };
        assert!((1_900_000..2_100_000).contains(&bytes_per_second));
        let mut next = Concurrency::new(Connections::Auto);
        next.remember(auto.learned().expect("something"));
        assert_eq!(next.limit(), 16);
    }

    #[test]
    fn auto_goes_back_when_more_bring_no_more() {
        let mut auto = Concurrency::new(Connections::Auto);
        download(&mut auto, |_| 1e8, 3);
        assert_eq!(auto.limit(), 4);
        assert!(matches!(auto.shown(), Some(LimitedBy::Link { .. })));
        let mut six = Concurrency::new(Connections::Auto);
        download(&mut six, |connections| connections.min(6) as f64 * 1e6, 3);
        assert_eq!(six.limit(), 8);
    }

    #[test]
    fn what_ends_soon_does_not_grow() {
        let mut auto = Concurrency::new(Connections::Auto);
        for ms in (0..400).step_by(20) {
            let flow = Flow {
                received_bytes: ms * 100_000,
                active: 4,
                flowing: 4,
                round_trip_s: 0.001,
                left_s: Some(0.4),
            };
            auto.observe(flow, Duration::from_millis(ms));
        }
        assert_eq!(auto.limit(), 4);
    }

    #[test]
    fn a_connection_that_starts_slowly_is_not_judged() {
        let mut auto = Concurrency::new(Connections::Auto);
        for ms in (0..5000).step_by(20) {
            let flow = Flow {
                received_bytes: ms * 1000,
                active: 4,
                flowing: 3,
                round_trip_s: 0.1,
                left_s: None,
            };
            auto.observe(flow, Duration::from_millis(ms));
        }
        assert_eq!((auto.limit(), auto.shown()), (4, None));
    }

    #[test]
    fn refusals_lower_the_limit_to_what_works_and_it_recovers_slowly() {
        let quiet =
            Flow { received_bytes: 0, active: 4, flowing: 0, round_trip_s: 0.1, left_s: None };
        let mut fixed = Concurrency::new(Connections::Fixed(8));
        assert!(fixed.refused(4, Duration::ZERO));
        assert_eq!(fixed.limit(), 4);
        fixed.observe(quiet, Duration::from_secs(1));
        assert_eq!(fixed.limit(), 4);
        fixed.observe(quiet, Duration::from_secs(60));
        assert_eq!(fixed.limit(), 5);
        assert!(fixed.refused(0, Duration::from_secs(61)));
        assert_eq!(fixed.limit(), 1);
    }

    #[test]
    fn a_refusal_is_remembered_and_not_tried_again() {
        let mut auto = Concurrency::new(Connections::Auto);
        auto.refused(2, Duration::ZERO);
        let learned = auto.learned().expect("something");
        assert_eq!(learned, Learned { connections: 2, why: Bound::Server });
        let mut next = Concurrency::new(Connections::Auto);
        next.remember(learned);
        download(&mut next, |connections| connections as f64 * 2e6, 3);
        assert_eq!(next.limit(), 2);
    }
}
