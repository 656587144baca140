//! What a response means for the download: it is taken, refused, or shows that
//! everything stored must be given up.

use std::time::Duration;

use super::failing::status_failure;
use super::{Action, Ask, Failure, KnownEnd, LeaseId, Phase, Planner, Ranges, SourceId};
use crate::model::error::ErrorKind;
use crate::model::event::NoticeCode;
use crate::model::range::ByteRange;
use crate::model::resource::Resource;
use crate::model::response::{Lie, Remedy, Verdict};
use crate::model::validator::{Comparison, Validator};

impl Planner {
    /// A response's head arrived and was classified.
    pub fn on_verdict(&mut self, id: LeaseId, verdict: Verdict, now: Duration) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        lease.head_at = Some(now);
        lease.last_byte_at = now;
        lease.rate.record(0, now);
        let latency_s = (now - lease.issued_at).as_secs_f64();
        let kept = lease.expected.is_some();
        self.speeds.answered(latency_s, kept);
        if lease.leaving || matches!(self.phase, Phase::Draining { .. } | Phase::Ended) {
            return self.drop_response(id);
        }
        let (source, conditional) = (lease.source, lease.conditional);
        let spared = self.sources.can_spare(source);
        if self.asks_behind(id) {
            self.judge_end(id, &verdict, now);
            return self.schedule(now);
        }
        if self.is_tentative(id) && !spared && self.is_refusal_beside(&verdict) {
            let status = match verdict {
                Verdict::Status { status, .. } => status,
                Verdict::Unsatisfied { .. } => 416,
                _ => 0,
            };
            if matches!(verdict, Verdict::Whole { .. }) && self.refusals.ranges == Ranges::Claimed {
                self.refusals.ranges = Ranges::Ignored;
                self.drop_response(id);
            } else if !self.halves_parts(id, status) {
                self.refused_beside(id, now);
            }
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
                // A portal may have redirected here: ask where the object is again.
                self.drop_response(id);
                self.resolve(source);
                self.failed(id, Failure::new(ErrorKind::Protocol, why), None, now);
            }
            Verdict::Lie(lie) => {
                let failure = Failure::new(ErrorKind::Protocol, lie.to_string());
                self.other_coding = matches!(lie, Lie::EncodingDiffers { .. });
                self.lied(id, failure, lie.remedy(), now);
            }
            Verdict::Throttled { status, retry_after } => {
                let failure = status_failure(status);
                self.drop_response(id);
                let others = self.at_work(now);
                if !spared {
                    self.refused(others, now);
                }
                // One connection too many is not missed by the others.
                if spared || others == 0 || retry_after.is_some() {
                    self.failed(id, failure, retry_after, now);
                }
            }
            Verdict::Denied { status } => self.denied(id, status, now),
            Verdict::Status { status, transient: true, retry_after } => {
                self.drop_response(id);
                self.failed(id, status_failure(status), retry_after, now);
            }
            Verdict::Status { status, .. } => self.refused_for_good(id, status, now),
        }
        self.schedule(now);
    }

    /// The source of `id` has not our object, and others have.
    fn spare(&mut self, id: LeaseId, why: &str) {
        let source = self.source_of(id);
        self.drop_response(id);
        if let Some(source) = source {
            self.fail_source(source, Failure::new(ErrorKind::ObjectChanged, why));
        }
    }

    /// Whether another source brings the bytes that `id` was to bring.
    pub(super) fn can_spare(&self, id: LeaseId) -> bool {
        self.source_of(id).is_some_and(|source| self.sources.can_spare(source))
    }

    pub(super) fn drop_response(&mut self, id: LeaseId) {
        self.actions.push_back(Action::Drop { lease: id });
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.leaving = true;
        }
    }

    pub(super) fn accept(&mut self, id: LeaseId, range: ByteRange, resource: Resource) {
        if self.phase == Phase::Opening
            && self.abandoned.contains(&(resource.total, resource.validator.clone()))
        {
            self.drop_response(id);
            return self.sequential_of_any_version("the version that was given up is served again");
        }
        let together = self.are_together();
        let conditional = self.sent_condition(id);
        let impossible = self.is_impossible(&resource);
        let Some(lease) = self.leases.get_mut(&id) else { return };
        self.sources.proved(lease.source);
        // Under a digest each source has a version of its own, which the driver compares.
        let known = self.resource.as_ref().or(self.claimed.as_ref());
        let shown =
            together || known.is_none_or(|known| known.validator.is_shown_by(&resource.validator));
        match self.phase {
            Phase::Opening if impossible => self.refuse_impossible(id),
            // Without it the checkpoint is judged by what else there is.
            Phase::Opening if !shown && conditional => self.unshown(id),
            Phase::Opening => {
                self.known_end.told(resource.total);
                if !self.settings.ranges_only {
                    self.known_end.doubt_end_of(lease.range);
                }
                self.refusals.granted(lease.range);
                lease.range = range;
                lease.asked_end = range.end();
                self.resource = Some(resource.clone());
                self.phase = Phase::Preparing(id);
                self.actions.push_back(Action::Open { lease: id, resource });
            }
            Phase::Running if lease.in_doubt => {
                // Our version is still served: the tags differ by edge or connection.
                self.sequential_of_any_version(
                    "the server's entity tags differ from connection to connection",
                );
            }
            Phase::Running if !shown => self.unshown(id),
            Phase::Running => {
                let asked = lease.range;
                self.refusals.granted(asked);
                self.refusals.ranges = Ranges::Undoubted;
                if !self.park(id, range) {
                    self.take_up(id, range);
                }
            }
            _ => self.drop_response(id),
        }
    }

    /// A response does not show the validator of what is stored. Where that is a
    /// strong one, which another response may yet show, it is asked once more, without
    /// conditions: some servers answer those with fewer fields.
    fn unshown(&mut self, id: LeaseId) {
        let conditional = self.sent_condition(id);
        self.drop_response(id);
        if conditional {
            self.ask_unconditionally(id);
        } else {
            self.sequential_of_any_version("the server does not show the object's validator again");
        }
    }

    /// Whether a version that was given up had the same strong tag and another total:
    /// the tag is a lie then, and nothing tells which of them is the object.
    fn is_impossible(&self, resource: &Resource) -> bool {
        self.given_up.iter().any(|given_up| {
            given_up.validator.has_same_strong_tag(&resource.validator)
                && given_up.total.zip(resource.total).is_some_and(|(a, b)| a != b)
        })
    }

    fn refuse_impossible(&mut self, id: LeaseId) {
        let source = self.source_of(id);
        self.drop_response(id);
        let why = "the server sends objects of two sizes under one strong entity tag";
        let failure = Failure::new(ErrorKind::Protocol, why);
        match source {
            Some(source) => self.fail_source(source, failure),
            None => self.fail(failure),
        }
    }

    /// Whether the request of `id` named a strong validator.
    fn sent_condition(&self, id: LeaseId) -> bool {
        let known = self.resource.as_ref().or(self.claimed.as_ref());
        known.is_some_and(|known| known.validator.precondition().is_some())
            && self.leases.get(&id).is_some_and(|lease| lease.conditional)
    }

    pub(super) fn accept_whole(&mut self, id: LeaseId, mut resource: Resource, now: Duration) {
        if self.can_spare(id) {
            return self.spare(id, "the server ignores byte ranges");
        }
        if self.settings.ranges_only && self.phase == Phase::Opening {
            self.drop_response(id);
            let failure = no_ranges("the server ignores byte ranges");
            return match self.source_of(id) {
                Some(source) => self.fail_source(source, failure),
                None => self.fail(failure),
            };
        }
        if self.phase != Phase::Opening && self.refusals.ranges != Ranges::Undoubted {
            self.drop_response(id);
            return self.sequential("the server ignores byte ranges");
        }
        if self.phase != Phase::Opening {
            let why = "the server answers some ranges with the whole object";
            return self.lied(id, Failure::new(ErrorKind::Protocol, why), Remedy::Retry, now);
        }
        if let (Some(known), Some(total)) = (&self.resource, resource.total)
            && known.total.is_some_and(|known| known != total)
        {
            return self.changed(id, Some(&(resource.total, resource.validator)));
        }
        if let Some(failure) = resource.total.and_then(|total| self.known_end.contradiction(total))
        {
            return self.lied(id, failure, Remedy::Retry, now);
        }
        // A stream that tells no length is held to the one that is known when it ends.
        if let Some(claimed) = &self.claimed
            && let Comparison::Same | Comparison::Consistent =
                claimed.validator.compare(&resource.validator)
        {
            self.known_end.told(claimed.total);
        }
        self.known_end.told(resource.total);
        // Some servers send everything in answer to an open range, and parts all the same.
        let long = resource.total.is_some_and(|total| total > self.settings.first_range_bytes);
        let afresh = !self.whole && self.claimed.is_none();
        if resource.ranges && long && afresh && resource.encoding.is_none() {
            let all = ByteRange::new(0, resource.total.unwrap_or(0));
            self.accept(id, all, resource);
            self.refusals.ranges = Ranges::Claimed;
            return;
        }
        resource.ranges = false;
        // Nothing is the same in one stream as in many.
        if !self.whole && resource.total != Some(0) {
            let why = if resource.total.is_none() {
                "the server does not tell the size"
            } else if self.refusals.ask == Ask::Plain {
                "the server refuses byte ranges"
            } else {
                "the server ignores byte ranges"
            };
            self.notice(NoticeCode::SingleStream, format!("{why}: one connection, no resuming"));
        }
        self.whole = true;
        let Some(lease) = self.leases.get_mut(&id) else { return };
        self.sources.proved(lease.source);
        lease.range = ByteRange::new(0, resource.total.unwrap_or(u64::MAX));
        lease.position = 0;
        lease.start = 0;
        self.resource = Some(resource.clone());
        self.phase = Phase::Preparing(id);
        self.actions.push_back(Action::Open { lease: id, resource });
    }

    pub(super) fn unsatisfied(&mut self, id: LeaseId, total: Option<u64>, now: Duration) {
        let known = self.resource.as_ref().and_then(|resource| resource.total);
        match (self.phase, total) {
            (Phase::Opening, Some(0)) => {
                // RFC 9110 section 14.4: no range of an empty object can be satisfied.
                let resource = Resource {
                    total: Some(0),
                    validator: Validator::default(),
                    ranges: true,
                    encoding: None,
                    content_type: None,
                    content_disposition: None,
                };
                self.accept(id, ByteRange::new(0, 0), resource);
            }
            (Phase::Opening, Some(total))
                if self.opening_range.len() == 1
                    && self.claimed.as_ref().is_some_and(|c| c.total == Some(total)) =>
            {
                // Everything is here, and the size is still ours.
                if let Some(claimed) = self.claimed.clone() {
                    self.accept(id, ByteRange::new(0, 0), claimed);
                }
            }
            (Phase::Opening, Some(_)) if self.opening_range.start() > 0 => {
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
                self.lied(id, failure, Remedy::Retry, now);
            }
        }
    }

    /// Another version is there. Once, the download starts from zero with it.
    pub(super) fn changed(&mut self, id: LeaseId, seen: Option<&(Option<u64>, Validator)>) {
        self.drop_response(id);
        if matches!(self.phase, Phase::Draining { .. } | Phase::Ended) {
            return;
        }
        if !self.whole && seen.is_some_and(|seen| self.abandoned.contains(seen)) {
            return self.sequential_of_any_version("the server's validators alternate");
        }
        // Another size is another object; only tags can differ by edge.
        if let Some((ours, (total, _))) = self.resource.as_ref().zip(seen)
            && ours.total == *total
        {
            self.abandoned.push((ours.total, ours.validator.clone()));
        }
        self.begin_anew(self.source_of(id), "the object changed on the server");
    }

    /// Another object is there than the one that is stored: once, the download starts
    /// from zero with it.
    pub(super) fn begin_anew(&mut self, source: Option<SourceId>, why: &str) {
        if matches!(self.phase, Phase::Draining { .. } | Phase::Ended) {
            return;
        }
        // What an earlier run claims may have changed long ago.
        if self.claimed.is_none() {
            self.changes += 1;
        }
        if self.changes > 1 {
            let why = "the object changed again while it was downloaded";
            let failure = Failure::new(ErrorKind::ObjectChanged, why);
            return match source {
                Some(source) => self.fail_source(source, failure),
                None => self.fail(failure),
            };
        }
        self.restart(why);
    }

    /// The tag differs while the size is the same: ask once more,
    /// unconditionally, before believing in a change.
    pub(super) fn doubt(&mut self, id: LeaseId, seen: &(Option<u64>, Validator)) {
        let in_doubt = self.leases.get(&id).is_some_and(|lease| lease.in_doubt);
        if self.phase == Phase::Opening || in_doubt {
            return self.changed(id, Some(seen));
        }
        self.drop_response(id);
        if self.phase == Phase::Running && !self.doubt {
            self.doubt = true;
            self.ask_unconditionally(id);
        }
    }

    /// A 412 says that another version is there, but not which: another edge may
    /// have answered, with tags of its own. The same is asked without conditions,
    /// and the response's own validator judged.
    pub(super) fn precondition_failed(&mut self, id: LeaseId) {
        let conditional = self.leases.get(&id).is_some_and(|lease| lease.conditional);
        if !conditional {
            if self.can_spare(id) {
                return self.spare(id, "the object there is another version than before");
            }
            return self.changed(id, None);
        }
        self.drop_response(id);
        self.ask_unconditionally(id);
    }

    pub(super) fn ask_unconditionally(&mut self, id: LeaseId) {
        if let Some(source) = self.source_of(id) {
            self.sources.set_conditional(source, false);
        }
    }

    pub(super) fn denied(&mut self, id: LeaseId, status: u16, now: Duration) {
        let conditional = self.leases.get(&id).is_some_and(|lease| lease.conditional);
        let Some(source) = self.source_of(id) else { return self.drop_response(id) };
        if self.halves_parts(id, status) {
            // The next one is shorter.
        } else if status == 403 && conditional {
            // Some signatures do not cover conditional headers.
            self.drop_response(id);
            self.ask_unconditionally(id);
        } else if self.can_resolve(source) || !self.asks_otherwise(id, status) {
            self.drop_response(id);
            self.refused_access(id, source, status_failure(status), now);
        }
    }

    pub(super) fn lied(&mut self, id: LeaseId, failure: Failure, remedy: Remedy, now: Duration) {
        self.drop_response(id);
        let Some(source) = self.source_of(id) else { return };
        if self.sources.can_spare(source) {
            return match remedy {
                Remedy::Retry => self.failed(id, failure, None, now),
                Remedy::Sequential | Remedy::Fatal => self.fail_source(source, failure),
            };
        }
        self.lies_in_a_row += 1;
        match remedy {
            Remedy::Fatal => self.fail_source(source, failure),
            Remedy::Sequential if !self.whole => self.sequential(&failure.message),
            Remedy::Retry if !self.whole && self.lies_in_a_row > 2 => {
                // The first response may have been the odd one.
                self.one_stream(&failure.message, self.other_coding);
            }
            _ => self.failed(id, failure, None, now),
        }
    }

    /// Everything stored is given up and ranges with it: one plain stream of the
    /// object that is known.
    pub(super) fn sequential(&mut self, why: &str) {
        self.one_stream(why, false);
    }

    /// The same, of whatever version the one stream will have.
    pub(super) fn sequential_of_any_version(&mut self, why: &str) {
        self.one_stream(why, true);
    }

    pub(super) fn one_stream(&mut self, why: &str, forget_identity: bool) {
        if matches!(self.phase, Phase::Draining { .. } | Phase::Ended) || self.whole {
            return;
        }
        if self.settings.ranges_only {
            return self.fail(no_ranges(why));
        }
        if self.given_out && forget_identity {
            return self.fail(given_out(why));
        }
        self.whole = true;
        if forget_identity {
            self.resource = None;
        }
        self.notice(NoticeCode::SingleStream, format!("{why}: one stream from the start"));
        self.drain(forget_identity);
    }

    pub(super) fn restart(&mut self, why: &str) {
        if self.given_out {
            return self.fail(given_out(why));
        }
        self.notice(NoticeCode::Restarted, format!("{why}: starting from zero"));
        let given_up = self.resource.take().or_else(|| self.claimed.clone());
        self.given_up.extend(given_up);
        self.drain(true);
    }

    pub(super) fn drain(&mut self, forget_identity: bool) {
        self.phase = Phase::Draining { forget_identity };
        let claimed = self.claimed.take();
        if forget_identity {
            self.known_end = KnownEnd::default();
        } else if let Some(claimed) = claimed {
            // The stream is to be of the object that an earlier run knew.
            self.known_end.told(claimed.total);
        }
        self.known_end.is_of_stream();
        self.doubt = false;
        self.refusals.ask = Ask::Range;
        self.refusals.ranges = Ranges::Undoubted;
        let ids: Vec<LeaseId> = self.leases.keys().copied().collect();
        for id in ids {
            self.cancel(id, None);
        }
    }

    pub(super) fn cancel(&mut self, id: LeaseId, failure: Option<Failure>) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        if !lease.leaving || lease.cancelled_for.is_none() {
            lease.leaving = true;
            lease.cancelled = true;
            lease.cancelled_for = failure;
            self.actions.push_back(Action::Cancel { lease: id });
        }
    }
}

/// What was given out is of a version that is not to be had any more.
fn given_out(why: &str) -> Failure {
    Failure::new(
        ErrorKind::ObjectChanged,
        format!("{why}, and bytes of what was there before were given out already"),
    )
}

/// A part of the object is wanted, and the server gives only the whole.
fn no_ranges(why: &str) -> Failure {
    Failure::new(
        ErrorKind::Protocol,
        format!("{why}, so a part of the object cannot be had; nothing was published"),
    )
}
