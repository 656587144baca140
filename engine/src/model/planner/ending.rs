//! Leases that end, fail or stall, and what follows for the download: nothing, a wait, or
//! its end.

use std::time::Duration;

use super::action::{Action, Failure, LeaseEnd, SourceId};
use super::failures::stalled;
use super::lease::Lease;
use super::sources::Strike;
use super::{Phase, Planner};
use crate::model::error::ErrorKind;
use crate::model::event::NoticeCode;
use crate::model::segment::LeaseId;

/// A live connection is heard of this soon after the machine's addresses or routes changed.
const CUT_OFF_AFTER: Duration = Duration::from_millis(500);

impl Planner {
    /// The lease is over; its last event.
    pub fn on_ended(&mut self, id: LeaseId, end: LeaseEnd, now: Duration) {
        let Some(lease) = self.leases.remove(id) else { return self.schedule(now) };
        self.watch_prelude(now);
        let unparked = self.holding.ended(id, &mut self.leases);
        self.actions.extend(unparked);
        let kept = end == LeaseEnd::Complete
            && lease.range.end() == lease.asked_end
            && !self.sources.is_gone(lease.source);
        self.leases.learn(&lease, kept, now);
        self.limits.ended(&lease, &end, now);
        if lease.has_progressed() {
            self.sources.ended(lease.source, lease.mean_rate(now));
        }
        self.judge_ending(lease, end, now);
        self.schedule(now);
    }

    fn judge_ending(&mut self, lease: Lease, end: LeaseEnd, now: Duration) {
        let (source, progressed) = (lease.source, lease.has_progressed());
        match end {
            LeaseEnd::Complete => {}
            LeaseEnd::BodyEnded if self.asking.is_whole() && self.leases.map().is_none() => {
                match self.identity.end.contradiction(lease.position) {
                    None => self.identity.end.ended(lease.position),
                    Some(failure) => self.ended_badly(source, failure, progressed, false, now),
                }
            }
            // Whatever it was may be over when the download goes on.
            _ if self.limits.is_paused() => {}
            LeaseEnd::BodyEnded => {
                let failure = Failure::new(ErrorKind::Network, "the response ended before its end");
                self.ended_badly(source, failure, progressed, false, now);
            }
            LeaseEnd::Failed { failure, refused } if !lease.cancelled => {
                let refused = refused && lease.head_at.is_none();
                self.ended_badly(source, failure, progressed, refused, now);
            }
            LeaseEnd::Unanswered(failure) if !lease.cancelled => {
                let refused = lease.head_at.is_none();
                self.asking.set_unanswered(refused);
                self.ended_badly(source, failure, progressed, refused, now);
            }
            // A connection that broke while it was being cancelled is not the server's fault.
            LeaseEnd::Failed { .. } | LeaseEnd::Unanswered(_) | LeaseEnd::Dropped => {
                if let Some(failure) = lease.cancelled_for {
                    self.ended_badly(source, failure, progressed, false, now);
                }
            }
        }
    }

    /// The lease is refused; the recorded cause is charged when it has ended.
    pub(super) fn failed(
        &mut self,
        id: LeaseId,
        failure: Failure,
        after: Option<Duration>,
        now: Duration,
    ) {
        if let Some(after) = after {
            let then = now + after.min(self.settings.retry.max_retry_after);
            match self.source_of(id).filter(|source| self.sources.can_spare(*source)) {
                Some(source) => self.sources.rest(source, then),
                None => self.failures.pause_until(then),
            }
        }
        self.leases.charge(id, failure);
    }

    pub(super) fn ended_badly(
        &mut self,
        source: SourceId,
        failure: Failure,
        progressed: bool,
        refused: bool,
        now: Duration,
    ) {
        if self.is_over() || self.sources.is_gone(source) {
            return;
        }
        if matches!(failure.kind, ErrorKind::Tls | ErrorKind::ProxyRefused | ErrorKind::Callback) {
            return self.fail_source(source, failure);
        }
        let whole = self.asking.is_whole();
        if !progressed && !whole {
            // Whether this concerns that source alone, because others can be asked.
            let anew = self.phase == Phase::Opening && self.identity.claimed().is_none();
            match self.sources.strike(source, anew, self.meter.received_bytes(), now) {
                Strike::OfAll => {}
                Strike::Rests => return,
                Strike::Loses => return self.lose(source, &failure.message, false),
            }
        }
        if refused {
            self.limits.suspect(|limits| limits.at_work(&self.leases, &self.holding, now), now);
        }
        if whole && self.phase == Phase::Running {
            // A broken stream can be fetched again, unless bytes of it were given out that
            // nothing shows to be the same.
            if self.readers.has_given_out() && !self.identity.proves_itself() {
                return self.fail(failure);
            }
            // A plain stream cannot be continued: its bytes are fetched again.
            self.phase = Phase::Draining { forget_identity: false };
        }
        if progressed && !whole || !self.failures.count(self.leases.len(), self.limit(), now) {
            return;
        }
        self.limits.forget_suspicion();
        self.end_round(source, failure, now);
    }

    /// All connections failed.
    fn end_round(&mut self, source: SourceId, failure: Failure, now: Duration) {
        let silent = self.meter.received_bytes() == 0;
        let most = self.asking.rounds_for(&failure, silent, &self.settings.retry);
        let round = self.failures.round(most, now);
        let may = self.phase == Phase::Opening
            && !self.settings.ranges_only
            && !self.sources.can_spare(source);
        let plain = self.asking.tries_plain(&failure, may, round.is_none());
        match round {
            None if plain => {}
            Some(round) => self.actions.push_back(Action::Retry {
                reason: failure.message,
                attempt: round.attempt,
                wait: round.wait,
            }),
            // Where sources are used together, the others failed as well.
            None if self.sources.can_spare(source) => self.fail(failure),
            None => self.fail_source(source, failure),
        }
    }

    /// The leases that the server serves, as far as it knows.
    pub(super) fn at_work(&self, now: Duration) -> usize {
        self.limits.at_work(&self.leases, &self.holding, now)
    }

    /// The server refused a connection while `active` others work.
    pub(super) fn refused(&mut self, active: usize, now: Duration) {
        if let Some(limit) = self.limits.refused(active, now) {
            self.notice(
                NoticeCode::ConnectionLimit,
                format!("the server refuses more connections: going on with {limit}"),
            );
        }
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.actions.push_back(Action::Fail(failure));
        }
    }

    /// How long a lease may be silent.
    fn patience(&self) -> Duration {
        let stall = self.settings.stall_timeout;
        // If asked again, a server that has to produce the object would begin anew.
        let first = self.phase == Phase::Opening || self.meter.received_bytes() == 0;
        if first { self.settings.first_byte_timeout.max(stall) } else { stall }
    }

    /// How long all connections have been silent, and how long one may be; `None` while
    /// nothing is waited for.
    #[must_use]
    pub fn silence(&self, now: Duration) -> Option<(Duration, Duration)> {
        if !matches!(self.phase, Phase::Opening | Phase::Running) {
            return None;
        }
        let since = self.meter.silence_begins();
        let waiting = self.leases.values().filter(|lease| !lease.leaving);
        let silent =
            waiting.map(|lease| now.saturating_sub(lease.last_byte_at.max(since))).min()?;
        Some((silent, self.patience()))
    }

    pub(super) fn give_up_stalled(&mut self, now: Duration) {
        if matches!(self.phase, Phase::Preparing(_)) {
            return;
        }
        self.give_up_cut_off(now);
        let others = !self.asking.is_whole() && self.phase != Phase::Opening;
        let may_crawl = |id| others && !self.holding.is_holder(id);
        let since = self.meter.silence_begins();
        let victims = stalled(&self.leases, self.patience(), since, may_crawl, now);
        if self.meter.received_bytes() == 0 && !victims.is_empty() {
            self.asking.waited_in_vain();
        }
        for (id, failure) in victims {
            self.cancel(id, Some(failure));
        }
    }

    /// Gives up leases that were delivering when the machine's addresses or routes changed, and
    /// have been silent since: their connections most likely broke, and nothing would ever say so.
    fn give_up_cut_off(&mut self, now: Duration) {
        let Some(changed_at) = self.meter.path_changed_at() else { return };
        let round_trip = Duration::from_secs_f64(self.leases.speeds().kept_latency_s().max(0.0));
        let patience = CUT_OFF_AFTER.max(4 * round_trip);
        if now.saturating_sub(changed_at.max(self.meter.silence_begins())) < patience {
            return;
        }
        let cut_off = self.leases.iter().filter(|(_, lease)| {
            !lease.leaving && lease.has_progressed() && lease.last_byte_at <= changed_at
        });
        let cut_off = cut_off.map(|(id, _)| *id).collect();
        let cancelled = self.leases.cancel_all(cut_off);
        self.actions.extend(cancelled);
    }

    /// Tells the user, once, that the first byte takes its time.
    pub(super) fn tell_of_waiting(&mut self, now: Duration) {
        if self.meter.received_bytes() > 0 || self.phase == Phase::Ended {
            return;
        }
        let Some(since) = self.leases.values().map(|lease| lease.issued_at).min() else { return };
        let waited = now.saturating_sub(since);
        if let Some(message) = self.asking.tell_of_waiting(waited, self.patience()) {
            self.notice(NoticeCode::FirstByte, message);
        }
    }
}
