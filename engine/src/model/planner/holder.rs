//! The first response, which can carry the whole object, until another one has
//! been shown to deliver.
//!
//! The first request asks for an open range. Some links are good for that request
//! alone, and some servers serve one connection at a time: whatever is asked for
//! beside it is refused, or never answered. So the first response, the *holder*, is
//! not cut before a second one has come. Until then its fetcher may go on to the
//! end of what it was granted, and the other leases are *tentative*: the planner
//! has taken their bytes out of the holder's share, but their responses are parked
//! and store nothing.
//!
//! - The first of them that is accepted has the holder cut at the end of its share.
//!   Once its fetcher has said where it stops, all are ordinary leases.
//! - A holder that comes to the end of its share before that takes back what follows
//!   it, and cancels the tentative leases there, which have stored nothing.
//! - Refusals of tentative leases fail nothing. After the second one the holder goes on
//!   alone, until it is time to try another connection again.
//!
//! A byte still has one owner at any time: the holder, until it is cut.

use std::time::Duration;

use super::{Action, LeaseId, Planner, Ranges, Reach};
use crate::model::range::ByteRange;

/// The longest first share while connections are few, all together.
const FRONTIER_BYTES: u64 = 256 << 20;
/// After a refusal of a tentative lease the next one waits for so long; it doubles.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The first response, while it may go on to its end.
#[derive(Debug)]
pub(super) struct Holder {
    lease: LeaseId,
    /// Where its fetcher stops if it is not cut.
    granted_end: u64,
    /// It is being cut: its fetcher has been told, and has not answered.
    cutting: bool,
    /// Refusals of tentative leases, those at the same time counted once.
    refusals: u32,
    /// Leases before this one were asked before the last refusal.
    asked_anew_from: LeaseId,
    /// How often it took back what was asked for elsewhere.
    overtakes: u32,
}

impl Planner {
    pub(super) fn is_holder(&self, id: LeaseId) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.lease == id)
    }

    /// Whether `id` is a lease whose bytes may still come by the first response.
    pub(super) fn is_tentative(&self, id: LeaseId) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.lease != id)
    }

    /// The first response has all of `granted`, which is missing. Its share is at its
    /// beginning, as long as is fair among the connections that there may be.
    pub(super) fn begin_holding(&mut self, id: LeaseId, granted: ByteRange) {
        let waited_for = self.wants.iter().any(|want| want.waiting.is_some());
        let several = self.are_together();
        let connections = self.limit().max(1) as u64;
        let prospect = self.concurrency.prospect().max(1) as u64;
        let least = self.settings.first_range_bytes.max(1);
        let Some(map) = &mut self.map else { return };
        let bound = match self.reach {
            Some(Reach::Frontier(bytes)) => bytes / connections,
            Some(Reach::Window { bytes, .. }) => bytes / (2 * connections),
            None => FRONTIER_BYTES / connections,
        };
        let fair = (map.missing_bytes() / prospect).min(bound);
        let share = match waited_for || several {
            _ if self.whole => granted.len().max(1),
            true => least,
            false => fair.max(least),
        };
        let last = granted.start().saturating_add(share - 1).min(map.total_bytes());
        let end = map.first_segment_boundary_after(last).min(granted.end());
        let range = ByteRange::new(granted.start(), end);
        map.lease(range, id);
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.range = range;
        }
        self.holder = Some(Holder {
            lease: id,
            granted_end: granted.end(),
            cutting: false,
            refusals: 0,
            asked_anew_from: 0,
            overtakes: 0,
        });
    }

    /// So many leases may be, of `limit`: fewer where others were refused beside the
    /// holder, or were never answered, and where one is to show first that there are ranges.
    pub(super) fn limit_beside_holder(&self, limit: usize) -> usize {
        match &self.holder {
            Some(_) if self.refusals.ranges == Ranges::Ignored => 1,
            Some(_) if self.refusals.ranges == Ranges::Claimed => limit.min(2),
            Some(holder) if holder.refusals + holder.overtakes > 0 => limit.min(2),
            _ => limit,
        }
    }

    /// The holder stands at `position`: beyond its share it takes back what follows.
    pub(super) fn hold_on(&mut self, id: LeaseId, position: u64) {
        let Some(holder) = self.holder.as_mut().filter(|holder| holder.lease == id) else { return };
        let Some((lease, map)) = self.leases.get(&id).zip(self.map.as_ref()) else { return };
        if position <= lease.range.end() {
            return;
        }
        let more = match holder.cutting {
            true => 0,
            // Each time further, so that what is asked for elsewhere has more time.
            false => self.settings.first_range_bytes << holder.overtakes.min(4),
        };
        let last = position.saturating_add(more).saturating_sub(1).min(map.total_bytes());
        let end = map.first_segment_boundary_after(last).min(holder.granted_end);
        self.take_back(id, end.max(position));
    }

    /// The holder's share ends at `end` from now on, whatever was asked for there.
    fn take_back(&mut self, id: LeaseId, end: u64) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let Some(map) = &mut self.map else { return };
        let taken = ByteRange::new(lease.range.end(), end);
        lease.range = ByteRange::new(lease.range.start(), end);
        let mut overtaken = Vec::new();
        for (other, lease) in self.leases.iter_mut().filter(|(other, _)| **other != id) {
            if lease.range.intersection(taken).is_some() {
                map.release(*other, lease.range, lease.start);
                lease.range = ByteRange::new(lease.start, lease.start);
                lease.parked = None;
                overtaken.push(*other);
            }
        }
        let from = map.first_segment_boundary_after(taken.start().saturating_sub(1));
        if from < end {
            map.lease(ByteRange::new(from, end), id);
        }
        if let Some(holder) = self.holder.as_mut().filter(|_| !overtaken.is_empty()) {
            holder.overtakes += 1;
        }
        overtaken.into_iter().for_each(|other| self.cancel(other, None));
    }

    /// A tentative lease has an acceptable response with `range`: it waits until the
    /// holder is cut. False when nothing has to be waited for.
    pub(super) fn park(&mut self, id: LeaseId, range: ByteRange) -> bool {
        let Some(holder) = self.holder.as_mut().filter(|holder| holder.lease != id) else {
            return false;
        };
        let first = holder.lease;
        let Some(end) = self.leases.get(&first).map(|lease| lease.range.end()) else {
            return false;
        };
        if end >= holder.granted_end && !holder.cutting {
            // Nothing of the holder's is to be had elsewhere.
            self.holder = None;
            return false;
        }
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.parked = Some(range);
        }
        if !std::mem::replace(&mut holder.cutting, true) {
            if let Some(lease) = self.leases.get_mut(&first) {
                lease.leaving = true;
            }
            self.actions.push_back(Action::Shrink { lease: first, end });
        }
        true
    }

    /// The holder's fetcher will stop at `end`: the rest is the others'.
    pub(super) fn release_hold(&mut self, end: u64) {
        let Some(holder) = &self.holder else { return };
        let id = holder.lease;
        let share_end = self.leases.get(&id).map_or(end, |lease| lease.range.end());
        if end > share_end {
            self.take_back(id, end);
        }
        self.holder = None;
        self.unpark();
    }

    /// All leases are ordinary ones: what is parked is stored.
    pub(super) fn unpark(&mut self) {
        let parked: Vec<(LeaseId, ByteRange)> = self
            .leases
            .iter_mut()
            .filter_map(|(id, lease)| Some((*id, lease.parked.take()?)))
            .collect();
        for (id, range) in parked {
            self.take_up(id, range);
        }
    }

    /// The response of `id`, which has `range`, is stored.
    pub(super) fn take_up(&mut self, id: LeaseId, range: ByteRange) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        if lease.cancelled {
            return;
        }
        lease.asked_end = range.end();
        if range.end() < lease.range.end() {
            let old_end = lease.range.end();
            lease.range = range;
            self.release_tail(id, range.end(), old_end);
        }
        self.actions.push_back(Action::Store { lease: id, range });
    }

    /// `id` is to stop at `end`. Of the holder's share the rest can be asked for at
    /// once, tentatively: true then.
    pub(super) fn shorten(&mut self, id: LeaseId, end: u64, shared: bool) -> bool {
        let holds = self.holder.as_ref().is_some_and(|it| it.lease == id && !it.cutting);
        let Some(lease) = self.leases.get_mut(&id) else { return false };
        if holds {
            let old_end = lease.range.end();
            lease.range = ByteRange::new(lease.range.start(), end);
            self.release_tail(id, end, old_end);
            return true;
        }
        lease.leaving = true;
        lease.shared = shared;
        self.actions.push_back(Action::Shrink { lease: id, end });
        false
    }

    /// What was asked for beside the holder is refused, which may be able to bring
    /// all of it.
    pub(super) fn refused_beside(&mut self, id: LeaseId, now: Duration) {
        let conditional = self.leases.get(&id).is_some_and(|lease| lease.conditional);
        self.drop_response(id);
        let Some(holder) = &mut self.holder else { return };
        if conditional {
            // The refusal may be of the condition, which the next one does without.
            return self.ask_unconditionally(id);
        }
        if id < holder.asked_anew_from {
            return;
        }
        holder.asked_anew_from = self.next_lease;
        holder.refusals += 1;
        self.wait_until = self.wait_until.max(now + AGAIN_AFTER * holder.refusals);
        if holder.refusals == 2 {
            holder.refusals = 0;
            self.refused(1, now);
        }
    }
}
