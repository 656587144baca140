//! The first response, which can carry the whole object, until another one has
//! been shown to deliver.
//!
//! The first request asks for an open range. Some links are good for that request
//! alone, and some servers serve one connection at a time: anything asked for
//! beside it is refused, or never answered. So the first response, the *holder*, is
//! not cut before a second one has arrived. Until then its fetcher may go on to the
//! end of what it was granted, and the other leases are *tentative*: the planner
//! has taken their bytes out of the holder's share, but their responses are parked
//! and store nothing.
//!
//! - When the first tentative lease is accepted, the holder is cut at the end of
//!   its share. Once its fetcher has said where it stops, all are ordinary leases.
//! - A holder that reaches the end of its share before that takes back what follows
//!   it, and cancels the tentative leases there, which have stored nothing.
//! - Refused tentative leases make nothing fail. After the second refusal the holder
//!   goes on alone, until it is time to try another connection again.
//!
//! A byte still has one owner at any time: the holder, until it is cut.
//!
//! So there is no holder, or one that goes on, or one that is being cut.

use std::time::Duration;

use super::action::Action;
use super::asking::Ranges;
use super::leases::Leases;
use crate::model::range::ByteRange;
use crate::model::segment::LeaseId;

/// After a refused tentative lease the next one waits this long; it doubles.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The first response, while it may go on to its end.
#[derive(Debug)]
struct Holder {
    lease: LeaseId,
    /// Where its fetcher stops if it is not cut.
    granted_end: u64,
    /// It is being cut: its fetcher has been told, and has not answered.
    cutting: bool,
    /// Refusals of tentative leases, those at the same time counted once.
    refusals: u32,
    /// Leases before this one were issued before the last refusal.
    asked_anew_from: LeaseId,
    /// How often it took back bytes that other leases had asked for.
    overtakes: u32,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Holding {
    holder: Option<Holder>,
}

impl Holding {
    pub(super) fn is_holder(&self, id: LeaseId) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.lease == id)
    }

    /// Whether `id` is a lease whose bytes may still come by the first response.
    pub(super) fn is_tentative(&self, id: LeaseId) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.lease != id)
    }

    /// The first response has all of `granted`, which is missing. Its share, of
    /// `share_bytes`, is at the beginning of it.
    pub(super) fn begin(
        &mut self,
        id: LeaseId,
        granted: ByteRange,
        share_bytes: u64,
        leases: &mut Leases,
    ) {
        let Some(map) = leases.map() else { return };
        let last = granted.start().saturating_add(share_bytes - 1).min(map.total_bytes());
        let end = map.first_segment_boundary_after(last).min(granted.end());
        let range = ByteRange::new(granted.start(), end);
        leases.own(id, range);
        leases.set_range(id, range);
        self.holder = Some(Holder {
            lease: id,
            granted_end: granted.end(),
            cutting: false,
            refusals: 0,
            asked_anew_from: 0,
            overtakes: 0,
        });
    }

    /// How many leases there may be, of `limit`: fewer where others were refused beside the
    /// holder or never answered, and where one must first show that there are ranges.
    pub(super) fn limit_beside(&self, limit: usize, ranges: Ranges) -> usize {
        match &self.holder {
            Some(_) if ranges == Ranges::Ignored => 1,
            Some(_) if ranges == Ranges::Claimed => limit.min(2),
            Some(holder) if holder.refusals + holder.overtakes > 0 => limit.min(2),
            _ => limit,
        }
    }

    /// The lease `id` stands at `position`. Beyond its share the holder takes back what
    /// follows, in steps of `step_bytes` that grow.
    pub(super) fn advanced(
        &mut self,
        id: LeaseId,
        position: u64,
        step_bytes: u64,
        leases: &mut Leases,
    ) -> Vec<Action> {
        let Some(holder) = self.holder.as_ref().filter(|holder| holder.lease == id) else {
            return Vec::new();
        };
        let Some((lease, map)) = leases.get(id).zip(leases.map()) else { return Vec::new() };
        if position <= lease.range.end() {
            return Vec::new();
        }
        let more = match holder.cutting {
            true => 0,
            // Further each time, so that what is asked for elsewhere has more time.
            false => step_bytes << holder.overtakes.min(4),
        };
        let last = position.saturating_add(more).saturating_sub(1).min(map.total_bytes());
        let end = map.first_segment_boundary_after(last).min(holder.granted_end);
        self.take_back(id, end.max(position), leases)
    }

    /// The holder's share ends at `end` from now on, whatever other leases asked for there.
    fn take_back(&mut self, id: LeaseId, end: u64, leases: &mut Leases) -> Vec<Action> {
        let overtaken = leases.extend(id, end);
        if let Some(holder) = self.holder.as_mut().filter(|_| !overtaken.is_empty()) {
            holder.overtakes += 1;
        }
        leases.cancel_all(overtaken)
    }

    /// The lease `id` has an acceptable response with `range`: it is stored, or parked until
    /// the holder is cut.
    pub(super) fn accepted(
        &mut self,
        id: LeaseId,
        range: ByteRange,
        leases: &mut Leases,
    ) -> Option<Action> {
        let Some(holder) = self.holder.as_mut().filter(|holder| holder.lease != id) else {
            return leases.take_up(id, range);
        };
        let Some(end) = leases.get(holder.lease).map(|lease| lease.range.end()) else {
            return leases.take_up(id, range);
        };
        if end >= holder.granted_end && !holder.cutting {
            // No other lease has any of the holder's bytes.
            self.holder = None;
            return leases.take_up(id, range);
        }
        leases.park(id, range);
        let cut = !std::mem::replace(&mut holder.cutting, true);
        cut.then(|| leases.shrink(holder.lease, end, false))
    }

    /// The holder's fetcher will stop at `end`: the rest belongs to the others.
    pub(super) fn has_shrunk(&mut self, end: u64, leases: &mut Leases) -> Vec<Action> {
        let Some(holder) = &self.holder else { return Vec::new() };
        let id = holder.lease;
        let share_end = leases.get(id).map_or(end, |lease| lease.range.end());
        let mut actions = match end > share_end {
            true => self.take_back(id, end, leases),
            false => Vec::new(),
        };
        self.holder = None;
        actions.extend(leases.unpark());
        actions
    }

    /// The lease `id` is over. Without the holder all leases are ordinary ones.
    pub(super) fn ended(&mut self, id: LeaseId, leases: &mut Leases) -> Vec<Action> {
        if !self.is_holder(id) {
            return Vec::new();
        }
        self.holder = None;
        leases.unpark()
    }

    /// `id` is to stop at `end`; `None` if the rest can be asked for at once, tentatively,
    /// because it is of the holder's share.
    pub(super) fn shorten(
        &self,
        id: LeaseId,
        end: u64,
        shared: bool,
        leases: &mut Leases,
    ) -> Option<Action> {
        if self.holder.as_ref().is_some_and(|it| it.lease == id && !it.cutting) {
            leases.cut(id, end);
            return None;
        }
        Some(leases.shrink(id, end, shared))
    }

    /// The tentative lease `id` was refused, and the next one will be called `next`: until
    /// when others wait, and whether the holder is better left alone. `None` if this
    /// refusal was counted with another one.
    pub(super) fn refused(
        &mut self,
        id: LeaseId,
        next: LeaseId,
        now: Duration,
    ) -> Option<(Duration, bool)> {
        let holder = self.holder.as_mut().filter(|holder| id >= holder.asked_anew_from)?;
        holder.asked_anew_from = next;
        holder.refusals += 1;
        let then = now + AGAIN_AFTER * holder.refusals;
        let often = holder.refusals == 2;
        if often {
            holder.refusals = 0;
        }
        Some((then, often))
    }
}
