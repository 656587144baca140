//! What a response means for the download: it is taken, refused, or shows that
//! everything stored must be given up.

use std::time::Duration;

use super::failing::status_failure;
use super::{Action, Failure, LeaseId, Phase, Planner};
use crate::error::ErrorKind;
use crate::event::NoticeCode;
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
        let source = lease.source;
        let spared = self.sources.can_spare(source);
        match verdict {
            Verdict::Changed { .. } | Verdict::TagDiffers { .. } if spared => {
                self.spare(id, "the object there is another version than before, or another size");
            }
            Verdict::Partial { range, resource } => self.accept(id, range, resource),
            Verdict::Whole { resource } => self.accept_whole(id, resource),
            Verdict::Unsatisfied { total } => self.unsatisfied(id, total, now),
            Verdict::Redirect { .. } => self.drop_response(id),
            Verdict::Changed { seen } => self.changed(id, Some(&(seen.total, seen.validator))),
            Verdict::TagDiffers { seen } => self.doubt(id, &(seen.total, seen.validator)),
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
                let others = self.leases.values().filter(|lease| !lease.leaving).count();
                if !spared {
                    self.refused(others, now);
                }
                // One connection too many is not missed by the others.
                if spared || others == 0 || retry_after.is_some() {
                    self.failed(id, failure, retry_after, now);
                }
            }
            Verdict::Denied { status } => self.denied(id, status),
            Verdict::Status { status, transient: true, retry_after } => {
                self.drop_response(id);
                self.failed(id, status_failure(status), retry_after, now);
            }
            Verdict::Status { status, .. } => {
                self.drop_response(id);
                self.fail_source(source, status_failure(status));
            }
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
    fn can_spare(&self, id: LeaseId) -> bool {
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
        let Some(lease) = self.leases.get_mut(&id) else { return };
        self.sources.proved(lease.source);
        // Under a digest each source has a version of its own, which the driver compares.
        let proven = together
            || self.resource.as_ref().is_none_or(|known| {
                let asked_for = lease.conditional && known.validator.precondition().is_some();
                asked_for || is_told(known, &resource)
            });
        match self.phase {
            Phase::Opening => {
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
            Phase::Running if !proven => {
                self.changed(id, Some(&(resource.total, resource.validator)));
            }
            Phase::Running => {
                lease.asked_end = range.end();
                if range.end() < lease.range.end() {
                    let old_end = lease.range.end();
                    lease.range = range;
                    self.release_tail(id, range.end(), old_end);
                }
                self.actions.push_back(Action::Store { lease: id, range });
            }
            _ => self.drop_response(id),
        }
    }

    pub(super) fn accept_whole(&mut self, id: LeaseId, resource: Resource) {
        if self.can_spare(id) {
            return self.spare(id, "the server ignores byte ranges");
        }
        if self.settings.ranges_only {
            self.drop_response(id);
            let failure = no_ranges("the server ignores byte ranges");
            return match self.source_of(id) {
                Some(source) => self.fail_source(source, failure),
                None => self.fail(failure),
            };
        }
        if self.phase != Phase::Opening {
            self.drop_response(id);
            self.sequential("the server answers some ranges with the whole object");
            return;
        }
        if let (Some(known), Some(total)) = (&self.resource, resource.total)
            && known.total.is_some_and(|known| known != total)
        {
            return self.changed(id, Some(&(resource.total, resource.validator)));
        }
        if !self.whole {
            let why = if resource.total.is_none() {
                "the server does not tell the size"
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
            _ => {
                let failure = Failure {
                    kind: ErrorKind::Protocol,
                    message: "the server refused a range that the object has".to_owned(),
                    status: Some(416),
                };
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
        // What an earlier run claims may have changed long ago.
        if self.claimed.is_none() {
            self.changes += 1;
        }
        // Another size is another object; only tags can differ by edge.
        if let Some((ours, (total, _))) = self.resource.as_ref().zip(seen)
            && ours.total == *total
        {
            self.abandoned.push((ours.total, ours.validator.clone()));
        }
        if self.changes > 1 {
            let why = "the object changed again while it was downloaded";
            let failure = Failure::new(ErrorKind::ObjectChanged, why);
            return match self.source_of(id) {
                Some(source) => self.fail_source(source, failure),
                None => self.fail(failure),
            };
        }
        self.restart("the object changed on the server");
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

    fn ask_unconditionally(&mut self, id: LeaseId) {
        if let Some(source) = self.source_of(id) {
            self.sources.set_conditional(source, false);
        }
    }

    pub(super) fn denied(&mut self, id: LeaseId, status: u16) {
        let conditional = self.leases.get(&id).is_some_and(|lease| lease.conditional);
        self.drop_response(id);
        if status == 403 && conditional {
            // Some signatures do not cover conditional headers.
            self.ask_unconditionally(id);
        } else if let Some(source) = self.source_of(id) {
            self.refused_access(id, source, status_failure(status));
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
        self.resource = None;
        self.drain(true);
    }

    pub(super) fn drain(&mut self, forget_identity: bool) {
        self.phase = Phase::Draining { forget_identity };
        self.doubt = false;
        self.claimed = None;
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

/// Whether a response to an unconditional request tells of its version what
/// there is to be told of the known one. A server sends the same validators with
/// each 206 (RFC 9110 section 15.3.7): where they are gone, or where there were
/// none before, another server or another version may have answered.
fn is_told(known: &Resource, seen: &Resource) -> bool {
    known.validator == seen.validator
        || known.validator.compare(&seen.validator) != Comparison::Silent
}
