//! What a new rule is compared with: a fixed number of connections, and the rule before, which
//! judged each number once.

use std::time::Duration;

use super::{Flow, Rule};

/// A fixed number, or the rule before.
#[derive(Debug, Clone)]
pub struct Today {
    most: usize,
    wanted: usize,
    tolerated: usize,
    judges: bool,
    window: Option<(Duration, u64)>,
    before: Option<(usize, f64)>,
    tries_again: Option<Duration>,
    waits: Duration,
}

impl Today {
    /// Always so many, where they are not refused.
    #[must_use]
    pub fn fixed(connections: usize) -> Self {
        Self {
            most: connections,
            wanted: connections,
            tolerated: connections,
            judges: false,
            window: None,
            before: None,
            tries_again: None,
            waits: Duration::from_secs(5),
        }
    }

    /// The rule before: from 4, doubled or quadrupled to 16 while it pays.
    #[must_use]
    pub fn judging_once() -> Self {
        Self { wanted: 4, judges: true, ..Self::fixed(16) }
    }

    fn judge(&mut self, rate: f64, left_s: Option<f64>) {
        let level = self.limit();
        let mut factor = 2;
        if let Some((fewer, before)) = self.before {
            let gain = rate / before.max(1.0);
            if gain < 1.15 && level > fewer {
                self.wanted = fewer.max(4.min(level));
                self.judges = false;
                return;
            }
            factor = if gain / (level as f64 / fewer as f64) >= 0.75 { 4 } else { 2 };
        }
        if level >= self.most {
            self.judges = false;
        } else if left_s.is_none_or(|left_s| left_s >= 0.5) {
            self.before = Some((level, rate));
            self.wanted = (level * factor).min(self.most);
        }
    }
}

impl Rule for Today {
    fn limit(&self) -> usize {
        self.wanted.min(self.tolerated)
    }

    fn observe(&mut self, flow: Flow, now: Duration) {
        if self.tries_again.is_some_and(|at| now >= at) {
            self.tolerated = (self.tolerated + 1).min(self.most);
            self.tries_again = Some(now + self.waits);
        }
        if !self.judges || flow.flowing == 0 {
            return;
        }
        let Some((at, bytes)) = self.window else {
            if flow.flowing >= self.limit() {
                self.window = Some((now, flow.received_bytes));
            }
            return;
        };
        let span_s = (now - at).as_secs_f64();
        if flow.active < self.limit() {
            self.window = None;
        } else if span_s >= (2.0 * flow.round_trip_s).clamp(0.1, 0.5) {
            self.window = None;
            self.judge((flow.received_bytes - bytes) as f64 / span_s, flow.left_s);
        }
    }

    fn refused(&mut self, active: usize, now: Duration) {
        self.judges = false;
        self.tries_again = Some(now + self.waits);
        if active.max(1) < self.limit() {
            self.tolerated = active.max(1);
            self.waits = (self.waits * 2).min(Duration::from_secs(120));
        }
    }

    fn parts(&self) -> f64 {
        self.most as f64
    }
}
