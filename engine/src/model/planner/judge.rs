//! What a response means for the download: it is taken, refused, or shows that
//! everything stored must be given up.

use std::time::Duration;

use super::action::{Action, Failure};
use super::asking::Ranges;
use super::restarting::no_ranges;
use super::{LeaseId, Phase, Planner};
use crate::model::error::ErrorKind;
use crate::model::event::NoticeCode;
use crate::model::range::ByteRange;
use crate::model::resource::Resource;
use crate::model::response::{Lie, Remedy, Verdict};
use crate::model::validator::Validator;

impl Planner {
    /// A response's head arrived and was classified.
    pub fn on_verdict(&mut self, id: LeaseId, verdict: Verdict, now: Duration) {
        let Some(lease) = self.leases.answered(id, now) else { return };
        let (leaving, source, conditional) = (lease.leaving, lease.source, lease.conditional);
        if leaving || self.is_over() {
            return self.drop_response(id);
        }
        let spared = self.sources.can_spare(source);
        if self.identity.end.asked_by() == Some(id) {
            self.judge_end(id, &verdict, now);
            return self.schedule(now);
        }
        if self.holding.is_tentative(id) && !spared && self.is_refusal_beside(&verdict) {
            self.judge_beside(id, &verdict, now);
            return self.schedule(now);
        }
        match verdict {
            Verdict::Changed { .. } | Verdict::TagDiffers { .. } if spared => {
                self.spare(id, "the object there is another version than before, or another size");
            }
            Verdict::Partial { range, resource } => self.accept(id, range, resource),
            Verdict::Whole { resource } => self.accept_whole(id, resource, now),
            Verdict::Unsatisfied { total } => self.unsatisfied(id, total, now),
            Verdict::Redirect { .. } => self.drop_response(id),
            Verdict::Changed { seen } => self.changed(id, Some(&(seen.total, seen.validator))),
            Verdict::TagDiffers { seen } => self.doubt(id, &(seen.total, seen.validator)),
            Verdict::PreconditionFailed if !conditional && self.asks_otherwise(id, 412) => {}
            Verdict::PreconditionFailed => self.precondition_failed(id),
            Verdict::Imposter { why } => {
                // Never sequential: without an identity the page would be the object.
                // A portal may have redirected here: the object's URL is looked up again.
                self.drop_response(id);
                self.resolve(source);
                self.failed(id, Failure::new(ErrorKind::Protocol, why), None, now);
            }
            Verdict::Lie(lie) => {
                let forget = matches!(lie, Lie::EncodingDiffers { .. });
                let failure = Failure::new(ErrorKind::Protocol, lie.to_string());
                self.lied(id, failure, lie.remedy(), forget, now);
            }
            Verdict::Throttled { status, retry_after } => {
                let failure = Failure::of_status(status);
                self.drop_response(id);
                let others = self.at_work(now);
                if !spared {
                    self.refused(others, now);
                }
                // The other connections do not miss one that was too many.
                if spared || others == 0 || retry_after.is_some() {
                    self.failed(id, failure, retry_after, now);
                }
            }
            Verdict::Denied { status } => self.denied(id, status, now),
            Verdict::Status { status, transient: true, retry_after } => {
                self.drop_response(id);
                self.failed(id, Failure::of_status(status), retry_after, now);
            }
            Verdict::Status { status, .. } => self.refused_for_good(id, status, now),
        }
        self.schedule(now);
    }

    /// The source of `id` does not have our object, and other sources do.
    fn spare(&mut self, id: LeaseId, why: &str) {
        let source = self.source_of(id);
        self.drop_response(id);
        if let Some(source) = source {
            self.fail_source(source, Failure::new(ErrorKind::ObjectChanged, why));
        }
    }

    /// Whether another source can bring the bytes that `id` was to bring.
    fn can_spare(&self, id: LeaseId) -> bool {
        self.source_of(id).is_some_and(|source| self.sources.can_spare(source))
    }

    /// Judges the verdict on a tentative lease where it is a refusal.
    fn judge_beside(&mut self, id: LeaseId, verdict: &Verdict, now: Duration) {
        let status = match verdict {
            Verdict::Status { status, .. } => *status,
            Verdict::Unsatisfied { .. } => 416,
            _ => 0,
        };
        let whole = matches!(verdict, Verdict::Whole { .. });
        if whole && self.asking.ranges() == Ranges::Claimed {
            self.asking.set_ranges(Ranges::Ignored);
            self.drop_response(id);
        } else if !self.halves_parts(id, status) {
            self.refused_beside(id, now);
        }
    }

    /// A request beside the holder was refused; the holder may be able to bring
    /// everything.
    pub(super) fn refused_beside(&mut self, id: LeaseId, now: Duration) {
        let tentative = self.holding.is_tentative(id);
        if tentative && self.is_conditional(id) {
            // The refusal may be about the condition, so the next request goes without.
            return self.ask_unconditionally(id);
        }
        self.drop_response(id);
        if !tentative {
            return;
        }
        if let Some((then, often)) = self.holding.refused(id, self.leases.next_id(), now) {
            self.failures.wait_until(then);
            if often {
                self.refused(1, now);
            }
        }
    }

    /// Whether a response to a tentative lease says nothing about the object, so that
    /// only the holder delivers.
    fn is_refusal_beside(&self, verdict: &Verdict) -> bool {
        match verdict {
            Verdict::Status { .. } | Verdict::Whole { .. } => true,
            Verdict::Unsatisfied { total } => total.is_none() || *total == self.identity.total(),
            // The first response may have been the odd one.
            Verdict::Lie(lie) => !matches!(lie, Lie::EncodingDiffers { .. }),
            _ => false,
        }
    }

    /// Judges the answer to the request for the byte behind the end.
    fn judge_end(&mut self, id: LeaseId, verdict: &Verdict, now: Duration) {
        self.drop_response(id);
        if self.identity.end.is_settled_by(verdict) {
            return;
        }
        match verdict {
            Verdict::Throttled { status, retry_after }
            | Verdict::Status { status, transient: true, retry_after } => {
                self.failed(id, Failure::of_status(*status), *retry_after, now);
            }
            _ if self.phase == Phase::Running => self
                .one_stream("the server tells the end of a part as the size of the object", true),
            _ => {}
        }
    }

    fn accept(&mut self, id: LeaseId, range: ByteRange, resource: Resource) {
        let opening = self.phase == Phase::Opening;
        if opening && self.identity.was_abandoned(&(resource.total, resource.validator.clone())) {
            self.drop_response(id);
            return self.one_stream("the version that was given up is served again", true);
        }
        let conditional = self.sent_condition(id);
        let Some(lease) = self.leases.get(id) else { return };
        let (asked, in_doubt) = (lease.range, lease.in_doubt);
        self.sources.proved(lease.source);
        // Under a digest each source has a version of its own, which the driver compares.
        let shown = self.are_together() || self.identity.is_shown_by(&resource);
        match self.phase {
            Phase::Opening if self.identity.is_impossible(&resource) => {
                let source = self.source_of(id);
                self.drop_response(id);
                let why = "the server sends objects of two sizes under one strong entity tag";
                self.fail_one(source, Failure::new(ErrorKind::Protocol, why));
            }
            // Without a validator the checkpoint is judged by what else there is.
            Phase::Opening if !shown && conditional => self.unshown(id),
            Phase::Opening => {
                self.identity.take(resource.clone());
                if !self.settings.ranges_only {
                    self.identity.end.doubt_end_of(asked);
                }
                self.asking.granted(asked);
                self.leases.granted(id, range);
                self.phase = Phase::Preparing(id);
                self.actions.push_back(Action::Open { lease: id, resource });
            }
            Phase::Running if in_doubt => {
                // Our version is still served: the tags differ by edge or connection.
                self.one_stream(
                    "the server's entity tags differ from connection to connection",
                    true,
                );
            }
            Phase::Running if !shown => self.unshown(id),
            Phase::Running => {
                self.asking.granted(asked);
                self.asking.set_ranges(Ranges::Undoubted);
                self.actions.extend(self.holding.accepted(id, range, &mut self.leases));
            }
            _ => self.drop_response(id),
        }
    }

    /// A response does not show the validator of what is stored. If that is a strong
    /// one, which another response may yet show, the request is sent once more without
    /// conditions: some servers answer conditional requests with fewer fields.
    fn unshown(&mut self, id: LeaseId) {
        if self.sent_condition(id) {
            self.ask_unconditionally(id);
        } else {
            self.drop_response(id);
            self.one_stream("the server does not show the object's validator again", true);
        }
    }

    fn is_conditional(&self, id: LeaseId) -> bool {
        self.leases.get(id).is_some_and(|lease| lease.conditional)
    }

    /// Whether the request of `id` named a strong validator.
    fn sent_condition(&self, id: LeaseId) -> bool {
        self.identity.has_precondition() && self.is_conditional(id)
    }

    fn accept_whole(&mut self, id: LeaseId, mut resource: Resource, now: Duration) {
        if self.can_spare(id) {
            return self.spare(id, "the server ignores byte ranges");
        }
        if self.settings.ranges_only && self.phase == Phase::Opening {
            self.drop_response(id);
            let failure = no_ranges("the server ignores byte ranges");
            return self.fail_one(self.source_of(id), failure);
        }
        if self.phase != Phase::Opening && self.asking.ranges() != Ranges::Undoubted {
            self.drop_response(id);
            return self.one_stream("the server ignores byte ranges", false);
        }
        if self.phase != Phase::Opening {
            let why = "the server answers some ranges with the whole object";
            let failure = Failure::new(ErrorKind::Protocol, why);
            return self.lied(id, failure, Remedy::Retry, false, now);
        }
        if let (Some(known), Some(total)) = (self.identity.total(), resource.total)
            && known != total
        {
            return self.changed(id, Some(&(resource.total, resource.validator)));
        }
        let end = &self.identity.end;
        if let Some(failure) = resource.total.and_then(|total| end.contradiction(total)) {
            return self.lied(id, failure, Remedy::Retry, false, now);
        }
        self.identity.hold_to_claim(&resource);
        // Some servers answer an open range with everything, and still serve parts.
        let long = resource.total.is_some_and(|total| total > self.settings.first_range_bytes);
        let whole = self.asking.is_whole();
        let afresh = !whole && self.identity.claimed().is_none();
        if resource.ranges && long && afresh && resource.encoding.is_none() {
            let all = ByteRange::new(0, resource.total.unwrap_or(0));
            self.accept(id, all, resource);
            return self.asking.set_ranges(Ranges::Claimed);
        }
        resource.ranges = false;
        // An empty object is the same in one stream as in many.
        if !whole && resource.total != Some(0) {
            let why = if resource.total.is_none() {
                "the server does not tell the size"
            } else if self.asking.is_plain() {
                "the server refuses byte ranges"
            } else {
                "the server ignores byte ranges"
            };
            self.notice(NoticeCode::SingleStream, format!("{why}: one connection, no resuming"));
        }
        self.asking.stream();
        let Some(source) = self.source_of(id) else { return };
        self.sources.proved(source);
        self.leases.streams(id, resource.total);
        self.identity.take(resource.clone());
        self.phase = Phase::Preparing(id);
        self.actions.push_back(Action::Open { lease: id, resource });
    }

    fn unsatisfied(&mut self, id: LeaseId, total: Option<u64>, now: Duration) {
        let known = self.identity.total();
        let opening = self.asking.opening();
        match (self.phase, total) {
            (Phase::Opening, Some(0)) => {
                // RFC 9110 section 14.4: no range of an empty object can be satisfied.
                let resource = Resource { total: Some(0), ranges: true, ..Resource::default() };
                self.accept(id, ByteRange::new(0, 0), resource);
            }
            (Phase::Opening, Some(total))
                if opening.len() == 1
                    && self.identity.claimed().is_some_and(|it| it.total == Some(total)) =>
            {
                // Everything is here, and the size has not changed.
                if let Some(claimed) = self.identity.claimed().cloned() {
                    self.accept(id, ByteRange::new(0, 0), claimed);
                }
            }
            (Phase::Opening, Some(_)) if opening.start() > 0 => {
                self.drop_response(id);
                self.restart("the object is shorter than it was");
            }
            (Phase::Running, Some(total)) if known.is_some_and(|known| known != total) => {
                if self.can_spare(id) {
                    return self.spare(id, "the object there has another size");
                }
                self.changed(id, None);
            }
            _ if self.halves_parts(id, 416) || self.asks_otherwise(id, 416) => {}
            _ => {
                let why = "the server refused a range that the object has";
                let failure = Failure::new(ErrorKind::Protocol, why).with_status(416);
                self.lied(id, failure, Remedy::Retry, false, now);
            }
        }
    }

    /// The tag differs while the size is the same: ask once more,
    /// unconditionally, before believing in a change.
    fn doubt(&mut self, id: LeaseId, seen: &(Option<u64>, Validator)) {
        let in_doubt = self.leases.get(id).is_some_and(|lease| lease.in_doubt);
        if self.phase == Phase::Opening || in_doubt {
            return self.changed(id, Some(seen));
        }
        if self.phase == Phase::Running && self.identity.doubt() {
            self.ask_unconditionally(id);
        } else {
            self.drop_response(id);
        }
    }

    /// A 412 says that another version is there, but not which: another edge,
    /// with tags of its own, may have answered. The request is repeated without
    /// conditions, and the validator of that response is judged.
    fn precondition_failed(&mut self, id: LeaseId) {
        if !self.is_conditional(id) {
            if self.can_spare(id) {
                return self.spare(id, "the object there is another version than before");
            }
            return self.changed(id, None);
        }
        self.ask_unconditionally(id);
    }

    /// Refuses the response of `id`, and asks its source without conditions.
    fn ask_unconditionally(&mut self, id: LeaseId) {
        self.drop_response(id);
        if let Some(source) = self.source_of(id) {
            self.sources.ask_unconditionally(source);
        }
    }

    fn denied(&mut self, id: LeaseId, status: u16, now: Duration) {
        let Some(source) = self.source_of(id) else { return self.drop_response(id) };
        if self.halves_parts(id, status) {
            // The next part is shorter.
        } else if status == 403 && self.is_conditional(id) {
            // Some signatures do not cover conditional headers.
            self.ask_unconditionally(id);
        } else if self.can_resolve(source) || !self.asks_otherwise(id, status) {
            self.drop_response(id);
            self.refused_access(id, source, Failure::of_status(status), now);
        }
    }

    /// `forget` where the first response may have been the odd one, so that the object's
    /// identity is forgotten too.
    fn lied(&mut self, id: LeaseId, failure: Failure, remedy: Remedy, forget: bool, now: Duration) {
        self.drop_response(id);
        let Some(source) = self.source_of(id) else { return };
        if self.sources.can_spare(source) {
            return match remedy {
                Remedy::Retry => self.failed(id, failure, None, now),
                Remedy::Sequential | Remedy::Fatal => self.fail_source(source, failure),
            };
        }
        let odd = self.failures.lied();
        match remedy {
            Remedy::Fatal => self.fail_source(source, failure),
            Remedy::Sequential if !self.asking.is_whole() => {
                self.one_stream(&failure.message, false);
            }
            Remedy::Retry if !self.asking.is_whole() && !odd => {
                self.one_stream(&failure.message, forget);
            }
            _ => self.failed(id, failure, None, now),
        }
    }

    /// The first request was refused with `status`. True if the object is now asked
    /// for in another way.
    fn asks_otherwise(&mut self, id: LeaseId, status: u16) -> bool {
        // Another source may have the object, and ranges of it.
        if self.phase != Phase::Opening || self.can_spare(id) {
            return false;
        }
        let asked = self.leases.get(id).map_or(0, |lease| lease.range.len());
        let otherwise = self.asking.asks_otherwise(asked, status, self.settings.ranges_only);
        if otherwise {
            self.drop_response(id);
        }
        otherwise
    }

    /// A part was refused with `status`. True if shorter parts are asked for from now on.
    fn halves_parts(&mut self, id: LeaseId, status: u16) -> bool {
        let Some(lease) = self.leases.get(id) else { return false };
        let asked = lease.range.len();
        let halves = self.phase == Phase::Running && self.asking.halves_parts(asked, status);
        if halves {
            self.drop_response(id);
        }
        halves
    }

    /// A status that asking again does not change by itself. While others deliver, it
    /// may come from one of several servers, or concern this request alone.
    fn refused_for_good(&mut self, id: LeaseId, status: u16, now: Duration) {
        let Some(source) = self.source_of(id) else { return };
        if self.halves_parts(id, status) {
            // The next part is shorter.
        } else if self.is_conditional(id) {
            self.ask_unconditionally(id);
        } else if self.asks_otherwise(id, status) {
            // The next one is another.
        } else if self.phase == Phase::Running && !self.sources.can_spare(source) {
            self.drop_response(id);
            self.failed(id, Failure::of_status(status), None, now);
        } else {
            self.drop_response(id);
            self.fail_source(source, Failure::of_status(status));
        }
    }
}
