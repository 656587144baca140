//! Sources: what the driver learns about them, and what becomes of the download when one is
//! refused or useless.

use std::ops::Range;
use std::time::Duration;

use super::action::{Action, Failure, PlaceId, PlaceNeed, SourceId};
use super::lease::Lease;
use super::sources::Link;
use super::{Phase, Planner};
use crate::model::admission::Need;
use crate::model::error::ErrorKind;
use crate::model::segment::LeaseId;

/// Whether the reason lies with the source, or with the way to it.
fn another_may_help(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Network
            | ErrorKind::Tls
            | ErrorKind::AccessDenied
            | ErrorKind::ProxyRefused
            | ErrorKind::Protocol
            | ErrorKind::HttpStatus
            | ErrorKind::DigestMismatch
            | ErrorKind::ObjectChanged
    )
}

impl Planner {
    /// Adds `count` sources after those that are there, up to [`super::MAX_SOURCES`].
    pub fn add_sources(&mut self, count: usize) {
        self.sources.add(count);
    }

    /// The first requests go to this source: an earlier run has bytes of it.
    pub fn prefer(&mut self, source: SourceId) {
        self.sources.prefer(source);
    }

    /// A digest shows whether bytes of several sources belong together: from now
    /// on they are used at once.
    pub fn use_together(&mut self) {
        self.sources.use_together();
    }

    /// How many sources are not given up.
    #[must_use]
    pub fn live_sources(&self) -> usize {
        self.sources.live_count()
    }

    /// Whether several sources are used at once.
    #[must_use]
    pub fn are_together(&self) -> bool {
        self.sources.are_together()
    }

    /// Requests to `source` go to this host from now on; at first all go to the
    /// same one, 0.
    pub fn set_place(&mut self, source: SourceId, place: PlaceId) {
        self.sources.set_place(source, place);
    }

    /// The source that a lease asked.
    #[must_use]
    pub fn source_of(&self, lease: LeaseId) -> Option<SourceId> {
        self.leases.get(lease).map(|lease| lease.source)
    }

    /// No request goes to `source` before [`Self::on_resolved`].
    pub fn hold(&mut self, source: SourceId) {
        self.sources.hold(source);
    }

    /// The driver has a URL for `source` again, a new one when `anew`. Until a
    /// response shows that it is good, one request at a time asks.
    pub fn on_resolved(&mut self, source: SourceId, anew: bool, now: Duration) {
        self.sources.release(source);
        if anew {
            self.sources.renew(source, self.leases.next_id());
        }
        self.schedule(now);
    }

    /// The driver has no URL for `source` at which it gives the object.
    pub fn on_unresolved(&mut self, source: SourceId, failure: Failure, now: Duration) {
        self.sources.release(source);
        self.sources.not_renewed(source, failure.clone());
        self.expired(source, failure, now);
        self.schedule(now);
    }

    /// What the URL of `source` leads to now could not be compared with what is stored:
    /// counts as a request that failed.
    pub fn on_unproven(&mut self, source: SourceId, failure: Failure, now: Duration) {
        self.sources.release(source);
        self.ended_badly(source, failure, false, false, now);
        self.schedule(now);
    }

    /// The URL of `source` now leads to another object than the one that is stored,
    /// or nothing shows that it is the same.
    pub fn on_other_object(&mut self, source: SourceId, why: &str, now: Duration) {
        self.sources.release(source);
        if self.sources.can_spare(source) {
            self.fail_source(source, Failure::new(ErrorKind::ObjectChanged, why));
        } else {
            self.begin_anew(Some(source), why);
        }
        self.schedule(now);
    }

    /// `lease` showed that its source is useless, for a reason that no verdict
    /// expresses.
    pub fn give_up(&mut self, lease: LeaseId, failure: Failure, now: Duration) {
        let source = self.source_of(lease);
        if self.holding.is_tentative(lease) && source.is_some_and(|it| !self.sources.can_spare(it))
        {
            // The first response is none the worse for it.
            self.refused_beside(lease, now);
            return self.schedule(now);
        }
        self.drop_response(lease);
        self.fail_one(source, failure);
        self.schedule(now);
    }

    /// Asks the driver to look up the URL of `source` again.
    pub(super) fn resolve(&mut self, source: SourceId) {
        self.hold(source);
        self.actions.push_back(Action::Resolve { source, refused: None, again: false });
    }

    /// Whether a refused link of `source` is looked up again.
    pub(super) fn can_resolve(&self, source: SourceId) -> bool {
        let may = self.phase == Phase::Running || self.settings.refreshes;
        may && self.sources.can_resolve(source)
    }

    /// A request by `lease` was refused: the link may have expired.
    pub(super) fn refused_access(
        &mut self,
        id: LeaseId,
        source: SourceId,
        failure: Failure,
        now: Duration,
    ) {
        match self.sources.refused(source, id, self.can_resolve(source)) {
            Link::Old => {}
            Link::Resolve { again } => {
                self.actions.push_back(Action::Resolve { source, refused: Some(failure), again });
            }
            Link::Expired => {
                let failure = self.sources.expired_with(source, failure);
                self.expired(source, failure, now);
            }
        }
    }

    fn expired(&mut self, source: SourceId, failure: Failure, now: Duration) {
        if self.phase != Phase::Running || self.sources.can_lose(source) {
            return self.fail_source(source, failure);
        }
        let working = |lease: &&Lease| lease.source == source && !lease.leaving;
        match self.leases.values().filter(working).count() {
            // A response that already streams may end: its bytes can be kept.
            0 => self.failures.die(failure),
            // It may be their number that is refused, and they bring the rest.
            others => self.refused(others, now),
        }
    }

    /// A source is useless, if it is known which one.
    pub(super) fn fail_one(&mut self, source: Option<SourceId>, failure: Failure) {
        match source {
            Some(source) => self.fail_source(source, failure),
            None => self.fail(failure),
        }
    }

    /// The source is useless: the download goes on with the others, begins
    /// again with the next one where no digest binds them, or fails.
    pub(super) fn fail_source(&mut self, id: SourceId, failure: Failure) {
        if self.phase == Phase::Ended || self.sources.is_gone(id) {
            return;
        }
        if !self.sources.can_lose(id) || !another_may_help(failure.kind) {
            return self.fail(failure);
        }
        if self.readers.has_given_out() && self.begins_again_without(id) {
            // Another source's bytes may not follow on what was given out.
            return self.fail(failure);
        }
        let wrong = matches!(failure.kind, ErrorKind::DigestMismatch | ErrorKind::ObjectChanged);
        self.lose(id, &failure.message, wrong);
    }

    /// See [`Self::fail_source`]. What streams from it is kept, unless it is `wrong`.
    pub(super) fn lose(&mut self, id: SourceId, why: &str, wrong: bool) {
        let again = self.begins_again_without(id);
        self.sources.lose(id);
        self.leases.forget_source(id);
        self.actions.push_back(Action::Lost { source: id, why: why.to_owned(), again });
        if again {
            self.begin_with_next();
        } else if wrong {
            let of_it = self.leases.iter().filter(|(_, lease)| lease.source == id);
            self.cancel_all(of_it.map(|(id, _)| *id).collect());
        }
    }

    /// Whether losing a source loses all that is stored.
    fn begins_again_without(&self, id: SourceId) -> bool {
        self.asking.is_whole() || self.sources.is_alone(id)
    }

    /// Stored segments do not hash as a piece of the object must: they are
    /// fetched again, as often as there are sources. The source that brought all
    /// of them is no longer used, where there is another.
    pub fn on_bad_segments(&mut self, segments: Range<usize>, failure: &Failure, now: Duration) {
        if self.is_over() {
            return;
        }
        if self.asking.is_whole() {
            // A plain stream cannot be continued in its middle.
            return self.on_altered(failure.clone(), now);
        }
        if let Some(source) = self.sources.forget_who_brought(&segments) {
            if !self.sources.is_gone(source) {
                self.lose(source, &failure.message, true);
            }
        } else if !self.failures.may_mend(segments.start, self.live_sources()) {
            return self.fail(failure.clone());
        }
        self.leases.forget(segments);
        self.schedule(now);
    }

    /// How much of `need` could go to which host, in their order; hosts that
    /// nothing can go to are left out.
    #[must_use]
    pub fn need_by_place(&self, need: Need, now: Duration) -> Vec<PlaceNeed> {
        self.sources.need_by_place(need, &self.leases, now)
    }

    /// The source of the next lease.
    pub(super) fn pick(&self, now: Duration) -> Option<SourceId> {
        self.sources.pick(&self.leases, &self.limits, self.limit(), now)
    }
}
