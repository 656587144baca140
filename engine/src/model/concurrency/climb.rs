//! The search for the number of connections that is worth having.
//!
//! It climbs in doublings while each pays, holds a good number, and looks again now and then
//! whether more or fewer would do better. If the speed falls for good, as after the burst of
//! a server that limits each response, the search starts again.

use std::time::Duration;

use super::Flow;
use super::windows::{Reading, Windows};

/// Where the search begins.
pub(super) const START: usize = 8;
/// No more connections to one address without a reason.
pub(super) const ORDINARY_MOST: usize = 16;
/// Twice as many connections must bring this many times the speed.
const GAIN: f64 = 1.08;
/// Beyond [`ORDINARY_MOST`], they must bring this part of the possible gain.
const GAIN_BEYOND: f64 = 0.4;
/// With this much of the possible gain, the next step is a large one.
const CAPPED_ALIKE: f64 = 0.75;
/// Fewer connections do as well if they bring this much of the speed.
const KEEPS: f64 = 0.96;
/// Fewer do better if they bring this many times the speed.
const BETTER: f64 = 1.05;
/// Two windows below this part of the expected speed mean that conditions changed.
const FALLS: f64 = 0.75;
/// Time between two searches for a better number; it doubles if they find none.
const PERIOD_S: f64 = 3.0;
const PERIOD_MOST_S: f64 = 16.0;
/// Where fewer bring this many times the speed, the next step down is a large one.
const MUCH_BETTER: f64 = 1.3;
/// A new connection pays if there is more left than these seconds and round trips: it takes three
/// round trips to its first byte, and more to its speed. What it brings is taken from the leases of
/// connections that have theirs.
const PAYS_AFTER: (f64, f64) = (1.0, 10.0);
/// Fewer connections are tried only if there is more left than this.
const DESCENDS_S: f64 = 2.5;

/// A number of connections and their total speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Base {
    pub(super) connections: usize,
    pub(super) rate: f64,
}

/// What a comparison has shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shown {
    /// Each brings the same, however many there are.
    Alike(Base),
    /// More connections bring no more.
    Full(Base),
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The first number, not yet compared.
    First,
    /// More than `from`; `probing` if that number was held before.
    More {
        from: Base,
        probing: bool,
        /// Whether chunks were known of when `from` was measured.
        chunked: bool,
    },
    Hold(Hold),
    /// Fewer than `from`.
    Fewer {
        from: Base,
    },
}

/// A number is kept for now.
#[derive(Debug, Clone, Copy)]
struct Hold {
    expected: f64,
    mean_before: Option<f64>,
    low: u32,
    look_at: Duration,
    up: bool,
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Climb {
    wanted: usize,
    ceiling: usize,
    /// The most connections with losses.
    most: usize,
    stage: Stage,
    windows: Windows,
    period_s: f64,
    compared: bool,
    shown: Option<Shown>,
    /// Each connection brings the same, as far as is known.
    alike: bool,
}

impl Climb {
    /// Climbs from `start` connections to at most `most`.
    pub(super) fn new(start: usize, most: usize) -> Self {
        let ceiling = most.min(ORDINARY_MOST.max(start));
        Self {
            wanted: start.clamp(1, ceiling),
            ceiling,
            most,
            stage: Stage::First,
            windows: Windows::new(),
            period_s: PERIOD_S,
            compared: false,
            shown: None,
            alike: false,
        }
    }

    /// An earlier download has shown that each connection brings the same.
    pub(super) fn knows_alike(mut self) -> Self {
        self.alike = true;
        self
    }

    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    pub(super) fn ceiling(&self) -> usize {
        self.ceiling
    }

    /// Whether the search for a better number has not ended yet.
    pub(super) fn is_climbing(&self) -> bool {
        matches!(self.stage, Stage::First | Stage::More { .. })
    }

    /// Whether losses hold each connection back.
    pub(super) fn is_lossy(&self) -> bool {
        self.windows.are_lossy()
    }

    /// Whether two numbers were compared.
    pub(super) fn has_compared(&self) -> bool {
        self.compared
    }

    /// The number that is kept for now, and its speed.
    pub(super) fn held(&self) -> Option<Base> {
        let Stage::Hold(hold) = self.stage else { return None };
        Some(Base { connections: self.wanted, rate: hold.expected })
    }

    /// Whether fewer than the `tolerated` have brought as much.
    pub(super) fn shows_enough(&self, tolerated: usize) -> bool {
        matches!(self.shown, Some(Shown::Full(at)) if at.connections < tolerated)
    }

    pub(super) fn shown(&self) -> Option<Shown> {
        self.shown
    }

    /// The server refused a connection: it gets no more than the ordinary number now.
    pub(super) fn refused(&mut self) {
        self.windows.void();
        self.most = self.most.min(ORDINARY_MOST);
        self.ceiling = self.ceiling.min(ORDINARY_MOST);
        self.wanted = self.wanted.min(ORDINARY_MOST);
    }

    /// Looks at the flow, where the server tolerates at most `tolerated` connections.
    pub(super) fn observe(&mut self, flow: Flow, tolerated: usize, now: Duration) {
        let limit = self.wanted.min(tolerated);
        if let Some(reading) = self.windows.observe(flow, limit, now) {
            self.raise_ceiling(now);
            let moment = Moment { flow, reading, top: self.ceiling.min(tolerated), now };
            self.judge(moment);
        }
    }

    /// The server may tolerate one more than before: it is tried without waiting for the next look.
    pub(super) fn look_up(&mut self, now: Duration) {
        if let Stage::Hold(hold) = &mut self.stage {
            (hold.look_at, hold.up) = (now, true);
        }
    }

    fn raise_ceiling(&mut self, now: Duration) {
        if self.windows.are_lossy() && self.wanted >= self.ceiling && self.ceiling < self.most {
            self.ceiling = self.most;
            self.look_up(now);
        }
    }

    fn judge(&mut self, at: Moment) {
        match self.stage {
            Stage::First => self.first(at),
            Stage::More { chunked: false, .. } if self.windows.are_chunked(at.now) => {
                // What was measured before was a part of the first chunks.
                self.hold(self.wanted, at.reading.rate, self.period_s, false, at.now);
            }
            Stage::More { from, probing, .. } => self.more(from, probing, at),
            Stage::Hold(hold) => self.holding(hold, at),
            Stage::Fewer { from } => self.fewer(from, at),
        }
    }

    /// Slow start alone shows that there may be more, so one window is enough.
    fn first(&mut self, at: Moment) {
        // What slow start brings for a moment is nothing to compare with.
        let lasting = if at.reading.growing { self.windows.lasting() } else { 1.0 };
        let from = Base { connections: self.wanted, rate: at.reading.rate * lasting };
        if self.wanted >= at.top {
            self.hold(from.connections, from.rate, 2.0 * self.period_s, false, at.now);
        } else if at.is_worth_growing() {
            let factor = if self.windows.are_lossy() { 4 } else { 2 };
            let stage = self.more_than(from, false, at.now);
            self.go(factor * self.wanted, at.top, stage, at.now);
        }
    }

    fn more(&mut self, from: Base, probing: bool, at: Moment) {
        let counted = self.windows.counted();
        let here = Base { connections: self.wanted, rate: at.reading.rate };
        let mean = self.windows.mean().unwrap_or(at.reading.rate);
        let ratio = self.wanted as f64 / from.connections as f64;
        let gain = mean / from.rate.max(1.0);
        let beyond = self.wanted > ORDINARY_MOST;
        let need = if beyond { 1.0 + GAIN_BEYOND * (ratio - 1.0) } else { GAIN };
        if counted == 0 && gain < 1.0 + 0.5 * (ratio - 1.0) {
            // The speed still grows: only a clear gain counts.
            return;
        }
        let clear = gain >= need.max(1.0 + 0.25 * (ratio - 1.0)) && !beyond;
        if clear || counted >= 3 && gain >= need {
            let alike = gain >= CAPPED_ALIKE * ratio;
            // If more of them brought more, the link is not the limit yet.
            self.compared = true;
            // In slow start, everything doubles.
            self.alike = alike && counted > 0;
            self.shown = alike.then_some(Shown::Alike(here));
            if self.wanted >= at.top || !at.is_worth_growing() {
                let down = gain < 1.0 + 0.2 * (ratio - 1.0);
                self.hold(here.connections, here.rate, 2.0 * self.period_s, !down, at.now);
            } else {
                let factor = if alike || self.windows.are_lossy() { 4 } else { 2 };
                let stage = self.more_than(here, probing, at.now);
                self.go(factor * self.wanted, at.top, stage, at.now);
            }
        } else if counted >= 3 || counted >= 2 && gain < 0.85 {
            self.compared = true;
            self.alike = false;
            self.shown = Some(Shown::Full(Base { rate: mean, ..here }));
            if probing {
                self.lengthen();
            }
            if beyond && ratio > 3.0 && gain >= 1.0 + GAIN_BEYOND {
                // Half of the step was worth it.
                let half = self.wanted / 2;
                self.hold(half, mean, self.period_s, false, at.now);
            } else if at.left_s() < 2.0 && gain > 0.9 {
                self.hold(here.connections, mean, 9.0, true, at.now);
            } else if gain < 0.95 {
                self.hold(from.connections, from.rate, 0.3, false, at.now);
            } else {
                let rate = mean.max(from.rate);
                self.hold(from.connections, rate, self.period_s, false, at.now);
            }
        }
    }

    fn holding(&mut self, mut hold: Hold, at: Moment) {
        let rate = at.reading.rate;
        let mean = self.windows.mean();
        hold.low = if rate < FALLS * hold.expected { hold.low + 1 } else { 0 };
        let fell = hold.low >= 2;
        let mut counted = self.windows.counted();
        if let Some(mean) = mean.filter(|_| counted >= 5) {
            hold.expected = hold.mean_before.map_or(mean, |before| 0.5 * (mean + before));
            hold.mean_before = Some(mean);
            self.windows.begin_mean();
            counted = 0;
        }
        if fell {
            let chunked = self.windows.are_chunked(at.now);
            // The first speed of chunks was a burst, which says nothing of the number.
            self.alike &= chunked && hold.mean_before.is_none();
            hold.expected = rate;
            if !chunked || self.wanted < at.top {
                (hold.look_at, hold.up) = (at.now, true);
            }
            self.period_s = PERIOD_S;
        }
        self.stage = Stage::Hold(hold);
        if at.left_s() < 1.5 || at.now < hold.look_at {
            return;
        }
        let measured = mean.filter(|_| !fell && counted > 0).unwrap_or(rate);
        let from = Base { connections: self.wanted, rate: measured };
        if hold.up && self.wanted < at.top {
            let factor = if fell { 4 } else { 2 };
            self.go(factor * self.wanted, at.top, self.more_than(from, true, at.now), at.now);
        } else if self.wanted > 1 && at.left_s() > DESCENDS_S && !self.has_none_to_spare(at.now) {
            self.go(self.wanted.div_ceil(2), at.top, Stage::Fewer { from }, at.now);
        } else {
            hold.look_at = at.now + Duration::from_secs_f64(self.period_s);
            hold.up = !hold.up;
            self.stage = Stage::Hold(hold);
        }
    }

    fn fewer(&mut self, from: Base, at: Moment) {
        let counted = self.windows.counted();
        let Some(mean) = self.windows.mean() else { return };
        if counted < 3 && !(counted >= 2 && mean < 0.85 * from.rate) {
            return;
        }
        let here = Base { connections: self.wanted, rate: mean };
        if mean > BETTER * from.rate {
            self.ceiling = (from.connections - 1).max(1);
            self.shown = Some(Shown::Full(here));
            if self.wanted > 1 && at.left_s() > DESCENDS_S {
                let part = if mean > MUCH_BETTER * from.rate { 4 } else { 2 };
                self.go(self.wanted.div_ceil(part), at.top, Stage::Fewer { from: here }, at.now);
            } else {
                self.hold(self.wanted, mean, 0.0, false, at.now);
            }
        } else if mean >= KEEPS * from.rate {
            self.shown = Some(Shown::Full(here));
            self.hold(self.wanted, mean, self.period_s, false, at.now);
        } else {
            let part = self.wanted as f64 / from.connections as f64;
            self.alike = mean < (1.0 - CAPPED_ALIKE * (1.0 - part)) * from.rate;
            self.lengthen();
            self.hold(from.connections, from.rate, self.period_s, true, at.now);
        }
    }

    /// While chunks come together, it takes seconds to see that fewer bring less: where that is
    /// known, they are not tried.
    fn has_none_to_spare(&self, now: Duration) -> bool {
        self.alike && self.windows.are_chunked(now)
    }

    fn more_than(&self, from: Base, probing: bool, now: Duration) -> Stage {
        Stage::More { from, probing, chunked: self.windows.are_chunked(now) }
    }

    fn lengthen(&mut self) {
        self.period_s = (2.0 * self.period_s).min(PERIOD_MOST_S);
    }

    fn go(&mut self, connections: usize, top: usize, stage: Stage, now: Duration) {
        self.wanted = connections.min(top).max(1);
        self.stage = stage;
        self.windows.begin(now);
    }

    /// Stays at `connections`, which should bring `expected`, and looks again in a while.
    fn hold(&mut self, connections: usize, expected: f64, wait_s: f64, up: bool, now: Duration) {
        let look_at = now + Duration::from_secs_f64(wait_s);
        let hold = Hold { expected, mean_before: None, low: 0, look_at, up };
        self.go(connections, usize::MAX, Stage::Hold(hold), now);
    }
}

/// What is known when a window ends.
#[derive(Debug, Clone, Copy)]
struct Moment {
    flow: Flow,
    reading: Reading,
    /// No more than these, now.
    top: usize,
    now: Duration,
}

impl Moment {
    fn left_s(&self) -> f64 {
        self.flow.left_s.unwrap_or(f64::INFINITY)
    }

    /// Whether more connections could still bring something.
    fn is_worth_growing(&self) -> bool {
        let (seconds, round_trips) = PAYS_AFTER;
        self.left_s() > seconds + round_trips * self.flow.round_trip_s
    }
}
