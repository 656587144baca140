//! The tail: a connection is idle and no bytes are left to lease. It takes over
//! from the lease that would end last, where that ends the download earlier.
//!
//! Segments beyond the one that a victim is in are simply taken away. Inside that segment, bytes
//! have one owner, so the victim is cancelled and the rest of its segment goes to the faster
//! connection. Either way the victim's connection closes with its response, which does no harm when
//! nothing is left to lease.
//!
//! The tail has no state of its own: it is decided afresh each time.

use std::time::Duration;

use super::Planner;
use super::lease::Lease;
use crate::model::segment::LeaseId;

/// A connection is relieved only when that saves at least this, in seconds.
const WORTHWHILE_S: f64 = 0.04;
/// The same for an idle connection of unknown speed.
const WORTHWHILE_UNKNOWN_S: f64 = 0.5;
/// With less time left, nothing is begun on a new connection, in seconds.
const TOO_LATE_S: f64 = 0.25;
/// A lease that brought nothing yet is given this long.
const GRACE: Duration = Duration::from_secs(1);

/// What could be done for one lease.
#[derive(Debug, Clone, Copy)]
pub(super) enum Relief {
    /// The rest from this offset on goes to another connection.
    Split(u64),
    /// Everything goes to another connection.
    TakeOver,
}

/// The idle connection that would help.
#[derive(Debug, Clone, Copy)]
struct Helper {
    speed: f64,
    /// The time until its response begins.
    delay_s: f64,
    /// The least saving that is worth it.
    worthwhile_s: f64,
}

impl Planner {
    /// The lease that is best relieved, and how. `None` if no connection is idle, or none
    /// would help.
    pub(super) fn best_relief(&self, now: Duration) -> Option<(LeaseId, Relief)> {
        let leaving = self.leases.values().filter(|lease| lease.leaving).count();
        // Each idle connection takes what one victim leaves.
        if leaving >= self.places().saturating_sub(self.leases.len()) {
            return None;
        }
        let helper = self.helper(leaving, now);
        let candidates = self.leases.iter().filter(|(_, lease)| !lease.leaving);
        let best = candidates
            .filter_map(|(id, lease)| {
                let (relief, saved_s) = self.relief(lease, helper, now)?;
                // No other connection may be able to bring what the holder brings.
                let lost = matches!(relief, Relief::TakeOver) && self.holding.is_holder(*id);
                let may = !lost && self.readers.may_relieve(lease, saved_s, &self.leases);
                may.then_some((*id, relief, saved_s))
            })
            .max_by(|a, b| a.2.total_cmp(&b.2));
        best.map(|(id, relief, _)| (id, relief))
    }

    /// The idle connection after `taken` faster ones.
    fn helper(&self, taken: usize, now: Duration) -> Helper {
        if let Some(speed) = self.leases.speeds().idle_after(taken) {
            let delay_s = self.leases.speeds().kept_latency_s();
            return Helper { speed, delay_s, worthwhile_s: WORTHWHILE_S.max(delay_s) };
        }
        // The speed of a new connection is unknown: assume it no faster than most.
        let mut speeds: Vec<f64> =
            self.leases.values().filter_map(|lease| lease.speed(now)).collect();
        speeds.sort_by(f64::total_cmp);
        let middle = speeds.get(speeds.len() / 2).copied().unwrap_or(0.0);
        let delay_s = self.leases.speeds().fresh_latency_s();
        let speed = if middle > 0.0 {
            middle.min(self.leases.speeds().typical().max(1.0))
        } else {
            self.leases.speeds().typical()
        };
        Helper { speed, delay_s, worthwhile_s: WORTHWHILE_UNKNOWN_S.max(delay_s * 2.0) }
    }

    /// What `helper` could best do for `lease`, and the seconds that it saves.
    fn relief(&self, lease: &Lease, helper: Helper, now: Duration) -> Option<(Relief, f64)> {
        let map = self.leases.map()?;
        let rest = lease.rest_bytes();
        if rest == 0 {
            return None;
        }
        if !lease.has_progressed() {
            // Nothing came yet, so nothing is lost. But a server that needs time must get it: each
            // relief without a byte makes the next wait longer.
            let age = now.saturating_sub(lease.issued_at);
            let grace = GRACE * (1u32 << self.failures.reliefs_in_a_row().min(16));
            let patience =
                grace.max(Duration::from_secs_f64(self.leases.speeds().fresh_latency_s() * 3.0));
            return (age > patience).then_some((Relief::TakeOver, age.as_secs_f64()));
        }
        let silent = !self.settings.speed_limited
            && lease.is_silent(
                self.meter.silence_begins(),
                self.leases.speeds().kept_latency_s(),
                now,
            );
        if !silent && lease.expected.is_none() && !lease.is_telling(now) {
            return None;
        }
        let own = if silent { 1.0 } else { lease.speed(now)?.max(1.0) };
        let left_s = rest as f64 / own;
        let time_of = |bytes: f64| helper.delay_s + bytes / helper.speed.max(1.0);
        let mut best: Option<(Relief, f64)> = None;
        let mut consider = |relief, ends_s: f64, worthwhile_s: f64| {
            let saved_s = left_s - ends_s;
            if saved_s > worthwhile_s && best.is_none_or(|(_, most)| saved_s > most) {
                best = Some((relief, saved_s));
            }
        };
        // Both end together if the victim keeps this much, but segments stay whole.
        let keep = own * (rest as f64 + helper.speed * helper.delay_s) / (own + helper.speed);
        let first = map.first_segment_boundary_after(lease.position);
        let after = map.first_segment_boundary_after(lease.position + keep as u64);
        let before = after.saturating_sub(map.segment_size_bytes()).max(first);
        for end in [before, after] {
            let least = self.settings.min_split_bytes.max(1);
            if end + least <= lease.range.end() {
                let kept = (end - lease.position) as f64;
                let ends_s = (kept / own).max(time_of((lease.range.end() - end) as f64));
                consider(Relief::Split(end), ends_s, helper.worthwhile_s);
            }
        }
        // What is on its way to the victim is lost with it.
        let in_flight = own * self.leases.speeds().kept_latency_s();
        let ends_s = time_of(rest as f64);
        let lost_s = in_flight / helper.speed.max(1.0);
        consider(Relief::TakeOver, ends_s, helper.worthwhile_s + lost_s);
        best
    }

    /// Whether the missing bytes are better left to the connections that are at
    /// work and soon done: a new one would be of unknown speed, and late.
    pub(super) fn is_too_late_for_new(&self, now: Duration) -> bool {
        let too_late_s = TOO_LATE_S.max(self.leases.speeds().fresh_latency_s() * 1.5);
        let working = |lease: &Lease| !lease.leaving && lease.is_telling(now);
        self.leases.speeds().next_idle().is_none()
            && self.leases.values().any(working)
            && self.leases.time_left_s(0.0, now).is_some_and(|left_s| left_s < too_late_s)
    }
}
