//! One connection, and how its sender's window grows.

use super::{SEGMENT, STEP_S, Server};

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum State {
    #[default]
    Closed,
    /// The answer comes then.
    Asked { ready_s: f64 },
    /// The answer came then.
    Delivers { since_s: f64 },
    /// It waits for the next request.
    Kept,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Wire {
    pub(super) state: State,
    /// Of its lease: what is to come, what came, and whether the end was given to another.
    pub(super) rest: f64,
    pub(super) had: f64,
    pub(super) is_cut: bool,
    /// Of late, in bytes a second.
    pub(super) speed: f64,
    /// What the server gives it at most.
    cap: f64,
    /// Of the sender, in bytes: the window, where slow start ends, and the window at the last loss.
    window: f64,
    threshold: f64,
    before_loss: f64,
    /// When the last loss was, and until when others belong to it.
    lost_at_s: f64,
    recovers_until_s: f64,
    /// Until when further losses are one with the last for a receiver.
    pub(super) seen_until_s: f64,
}

impl Wire {
    pub(super) fn fresh(cap: f64) -> Self {
        Self {
            cap,
            window: 10.0 * SEGMENT,
            threshold: f64::INFINITY,
            lost_at_s: -1.0,
            ..Self::default()
        }
    }

    pub(super) fn has_delivered(&self) -> bool {
        matches!(self.state, State::Delivers { .. }) && self.had > 0.0
    }

    /// What its sender would send, in bytes a second.
    pub(super) fn demand(&self, server: &Server, now_s: f64, round_trip_s: f64) -> f64 {
        let State::Delivers { since_s } = self.state else { return 0.0 };
        let granted = server.response_rate * (now_s - since_s + 1.0) - self.had;
        let window = self.window.min(server.window_bytes) / round_trip_s;
        window.min(self.cap).min(granted.max(0.0) / STEP_S).min(self.rest / STEP_S)
    }

    pub(super) fn take(&mut self, bytes: f64) {
        self.rest -= bytes;
        self.had += bytes;
        let rate = bytes / STEP_S;
        self.speed = match self.speed == 0.0 {
            true => rate,
            false => self.speed + (rate - self.speed) * STEP_S / 0.5,
        };
    }

    /// `sent` bytes a second went out, and some were lost if it is a `hit`.
    pub(super) fn grow(
        &mut self,
        hit: bool,
        sent: f64,
        now_s: f64,
        round_trip_s: f64,
        queued_s: f64,
        server: &Server,
    ) {
        let of_round_trip = STEP_S / round_trip_s;
        let is_used = sent > 0.7 * self.window.min(server.window_bytes) / round_trip_s;
        if hit && now_s > self.recovers_until_s {
            (self.before_loss, self.lost_at_s) = (self.window, now_s);
            self.recovers_until_s = now_s + round_trip_s;
            let kept = if server.bbr { 0.95 } else { 0.7 };
            self.window = (self.window * kept).max(2.0 * SEGMENT);
            self.threshold = self.window;
        } else if is_used && self.window < server.window_bytes * 1.2 {
            if self.window < self.threshold {
                self.window *= of_round_trip.exp2();
                // HyStart: a queue ends slow start.
                if queued_s > f64::max(0.004, server.round_trip_s / 4.0) {
                    (self.threshold, self.before_loss) = (self.window, self.window);
                    self.lost_at_s = now_s;
                }
            } else if server.bbr {
                let queue = queued_s * server.capacity;
                let is_short = queue < 0.25 * server.capacity * server.round_trip_s;
                self.window *= f64::powf(if is_short { 1.25 } else { 0.85 }, of_round_trip);
            } else {
                let before = self.before_loss / SEGMENT;
                let since = now_s - self.lost_at_s - (before * 0.75).cbrt();
                let cubic = (0.4 * since.powi(3) + before) * SEGMENT;
                let reno = self.window + 0.53 * SEGMENT * of_round_trip;
                self.window = reno.max(cubic.min(self.window * (1.0 + 0.5 * of_round_trip)));
            }
        }
    }
}
