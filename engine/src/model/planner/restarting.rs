//! Everything stored is given up, and the download begins again: with the version that is
//! there now, with one source, or in one plain stream.

use std::time::Duration;

use super::action::{Failure, SourceId};
use super::{Phase, Planner};
use crate::model::error::ErrorKind;
use crate::model::event::NoticeCode;
use crate::model::segment::LeaseId;
use crate::model::validator::Validator;

impl Planner {
    /// The stored bytes do not match what the server said about them. Everything
    /// is fetched again, once.
    pub fn on_altered(&mut self, failure: Failure, now: Duration) {
        if !self.is_over() && !self.refetch(&failure.message, now) {
            self.fail(failure);
        }
    }

    /// As [`Self::on_altered`], after [`Action::Finish`](super::Action::Finish). False if
    /// everything was already fetched again from each source that there is.
    pub fn refetch(&mut self, why: &str, now: Duration) -> bool {
        if self.readers.has_given_out() {
            return false;
        }
        if self.live_sources() > 1 {
            let again = self.refetch_from_one(why);
            self.schedule(now);
            return again;
        }
        if !self.identity.refetch() {
            return false;
        }
        self.failures.fetch_again();
        self.restart(why);
        self.schedule(now);
        true
    }

    /// As [`Self::refetch`], where the bytes come from several sources: which of
    /// them are wrong is not known, so the sources are used one after another,
    /// each for the whole object. False if none is left.
    fn refetch_from_one(&mut self, why: &str) -> bool {
        let Some(first) = self.sources.first() else { return false };
        if self.sources.distrust() {
            self.count_anew();
            self.restart(&format!(
                "{why}; it came from several sources, now one at a time is asked"
            ));
        } else if self.sources.can_lose(first) {
            self.lose(first, why, true);
        } else {
            return false;
        }
        true
    }

    /// The next source is used, for the whole object.
    pub(super) fn begin_with_next(&mut self) {
        self.count_anew();
        self.identity.forget();
        self.drain(true);
    }

    /// What another source did wrong says nothing about the next one.
    fn count_anew(&mut self) {
        self.asking.begin_with_next();
        self.failures.begin_with_next();
        self.identity.begin_with_next();
    }

    /// Another version is there. Once, the download starts from zero with it.
    pub(super) fn changed(&mut self, id: LeaseId, seen: Option<&(Option<u64>, Validator)>) {
        self.drop_response(id);
        if self.is_over() {
            return;
        }
        let was_abandoned = seen.is_some_and(|seen| self.identity.was_abandoned(seen));
        if was_abandoned && !self.asking.is_whole() {
            return self.one_stream("the server's validators alternate", true);
        }
        if let Some((total, _)) = seen {
            self.identity.abandon_for(*total);
        }
        self.begin_anew(self.source_of(id), "the object changed on the server");
    }

    /// Another object is there than the one that is stored: once, the download starts
    /// from zero with it.
    pub(super) fn begin_anew(&mut self, source: Option<SourceId>, why: &str) {
        if self.is_over() {
            return;
        }
        if self.identity.changed_again() {
            let why = "the object changed again while it was downloaded";
            return self.fail_one(source, Failure::new(ErrorKind::ObjectChanged, why));
        }
        self.restart(why);
    }

    /// Everything stored is given up, and ranges with it: one plain stream fetches the object that
    /// is known or, with `forget_identity`, whatever version it turns out to be.
    pub(super) fn one_stream(&mut self, why: &str, forget_identity: bool) {
        if self.is_over() || self.asking.is_whole() {
            return;
        }
        if self.settings.ranges_only {
            return self.fail(no_ranges(why));
        }
        if self.readers.has_given_out() && forget_identity {
            return self.fail(given_out(why));
        }
        self.asking.stream();
        if forget_identity {
            self.identity.forget();
        }
        self.notice(NoticeCode::SingleStream, format!("{why}: one stream from the start"));
        self.drain(forget_identity);
    }

    pub(super) fn restart(&mut self, why: &str) {
        if self.readers.has_given_out() {
            return self.fail(given_out(why));
        }
        self.notice(NoticeCode::Restarted, format!("{why}: starting from zero"));
        self.identity.give_up();
        self.drain(true);
    }

    pub(super) fn drain(&mut self, forget_identity: bool) {
        self.phase = Phase::Draining { forget_identity };
        self.identity.begin_again(forget_identity);
        self.asking.begin_again();
        self.cancel_all(self.leases.ids());
    }
}

/// The bytes that were given out are of a version that is no longer available.
fn given_out(why: &str) -> Failure {
    Failure::new(
        ErrorKind::ObjectChanged,
        format!("{why}, and bytes of what was there before were given out already"),
    )
}

/// A part of the object is wanted, and the server gives only the whole.
pub(super) fn no_ranges(why: &str) -> Failure {
    Failure::new(
        ErrorKind::Protocol,
        format!("{why}, so a part of the object cannot be had; nothing was published"),
    )
}
