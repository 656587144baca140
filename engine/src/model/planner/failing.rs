//! Leases that fail, refusals, and how long is waited.

use std::time::Duration;

use super::{Action, Failure, Lease, LeaseEnd, LeaseId, Phase, Planner, SourceId};
use crate::model::error::ErrorKind;
use crate::model::event::NoticeCode;

/// A lease slower than this part of what its peers, or it itself before, had
/// is given up.
const CRAWL_SHARE: f64 = 0.05;
/// What comes over other connections so long after a refusal was not on its way
/// already: the server is there, and refuses.
const SUSPICION: Duration = Duration::from_millis(300);
/// A server may count a connection for so long after it was closed.
const LINGERS: Duration = Duration::from_secs(1);
const CRAWL_AFTER: Duration = Duration::from_secs(8);

impl Planner {
    /// The lease is refused and its cause recorded: charged when it has ended.
    pub(super) fn failed(
        &mut self,
        id: LeaseId,
        failure: Failure,
        after: Option<Duration>,
        now: Duration,
    ) {
        let spared = self.source_of(id).filter(|source| self.sources.can_spare(*source));
        if let Some(after) = after {
            let then = now + after.min(self.settings.retry.max_retry_after);
            match spared {
                Some(source) => self.sources.rest(source, then),
                None => self.pause_until = self.pause_until.max(then),
            }
        }
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.cancelled_for = Some(failure);
        }
    }

    pub(super) fn ended_badly(
        &mut self,
        source: SourceId,
        failure: Failure,
        progressed: bool,
        refused: bool,
        now: Duration,
    ) {
        let over = matches!(self.phase, Phase::Draining { .. } | Phase::Ended);
        if over || self.sources.is_gone(source) {
            return;
        }
        if matches!(failure.kind, ErrorKind::Tls | ErrorKind::ProxyRefused | ErrorKind::Callback) {
            return self.fail_source(source, failure);
        }
        if !progressed && self.strike(source, &failure, now) {
            return;
        }
        if refused && self.suspicion.is_none() {
            self.suspicion = Some((self.at_work(now), now));
        }
        if self.whole && self.phase == Phase::Running {
            if !self.can_start_over() {
                return self.fail(failure);
            }
            // A plain stream cannot be continued: its bytes are fetched again.
            self.phase = Phase::Draining { forget_identity: false };
        }
        if progressed && !self.whole {
            return;
        }
        self.failures_in_a_row += 1;
        // Others may still bring something. But connections that fail one after
        // another, each while the next is tried, are a round all the same once
        // more of them failed than there are.
        if !self.leases.is_empty() && self.failures_in_a_row as usize <= self.limit() {
            let exponent = self.failures_in_a_row.min(5);
            let wait = Duration::from_millis(100) * 2u32.pow(exponent);
            self.wait_until = self.wait_until.max(now + wait);
            return;
        }
        self.failures_in_a_row = 0;
        self.suspicion = None;
        let pause = self.pause_until.saturating_sub(now);
        let over = pause.is_zero() && self.backoff.attempts() >= self.rounds_for(&failure);
        let round = match over {
            true => None,
            false => self.backoff.fail((!pause.is_zero()).then_some(pause), now),
        };
        let plain = self.tries_plain(source, &failure, round.is_none());
        self.refusals.unanswered = false;
        match round {
            None if plain => {}
            Some(round) => {
                self.wait_until = now + round.wait;
                self.actions.push_back(Action::Retry {
                    reason: failure.message,
                    attempt: round.attempt,
                    wait: round.wait,
                });
            }
            // Of sources that are used together, the others failed as well.
            None if self.sources.can_spare(source) => self.fail(failure),
            None => self.fail_source(source, failure),
        }
    }

    /// A connection was refused. That is a limit of the server only if others
    /// still work; a server or a network that goes away refuses as well.
    pub(super) fn confirm_suspicion(&mut self, now: Duration) {
        if let Some((active, since)) = self.suspicion
            && now.saturating_sub(since) >= SUSPICION
        {
            self.suspicion = None;
            self.refused(active, now);
        }
    }

    /// Leases that the server serves, the first response while it is cut among them, and
    /// connections that it may not yet know to be closed.
    pub(super) fn at_work(&self, now: Duration) -> usize {
        let works = |(id, lease): &(&LeaseId, &Lease)| {
            !lease.leaving || !lease.cancelled && self.is_holder(**id)
        };
        let lingers = |closed_at: &&Duration| now.saturating_sub(**closed_at) < LINGERS;
        self.leases.iter().filter(works).count() + self.closed_early.iter().filter(lingers).count()
    }

    /// The response of `lease` was left before its end, which closed its connection.
    pub(super) fn closes_early(&mut self, lease: &Lease, end: &LeaseEnd, now: Duration) {
        let cut = *end == LeaseEnd::Complete && lease.range.end() < lease.asked_end;
        if lease.position > lease.start && (cut || *end == LeaseEnd::Dropped) {
            self.closed_early.retain(|closed_at| now.saturating_sub(*closed_at) < LINGERS);
            self.closed_early.push(now);
        }
    }

    pub(super) fn refused(&mut self, active: usize, now: Duration) {
        if active > 0 && self.concurrency.refused(active, now) {
            let limit = self.concurrency.limit();
            self.notice(
                NoticeCode::ConnectionLimit,
                format!("the server refuses more connections: going on with {limit}"),
            );
        }
    }

    pub(super) fn notice(&mut self, code: NoticeCode, message: String) {
        self.actions.push_back(Action::Notice(code, message));
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.actions.push_back(Action::Fail(failure));
        }
    }

    /// How long all connections have been silent, and how long one may be; `None` while
    /// nothing is waited for.
    #[must_use]
    pub fn silence(&self, now: Duration) -> Option<(Duration, Duration)> {
        if !matches!(self.phase, Phase::Opening | Phase::Running) {
            return None;
        }
        let since = self.storage_busy_at.unwrap_or_default();
        let waiting = self.leases.values().filter(|lease| !lease.leaving);
        let silent =
            waiting.map(|lease| now.saturating_sub(lease.last_byte_at.max(since))).min()?;
        Some((silent, self.patience()))
    }

    pub(super) fn give_up_stalled(&mut self, now: Duration) {
        if matches!(self.phase, Phase::Preparing(_)) {
            return;
        }
        let count = self.leases.len();
        let total: f64 = self.leases.values().map(|lease| lease.rate.rate(now)).sum();
        // While bytes wait for the storage nobody asks for more.
        let since = self.storage_busy_at.unwrap_or_default();
        let mut victims = Vec::new();
        let patience = self.patience();
        let others = !self.whole && self.phase != Phase::Opening;
        let may_crawl = |id| others && !self.is_holder(id);
        for (id, lease) in self.leases.iter().filter(|(_, lease)| !lease.leaving) {
            let silent = now.saturating_sub(lease.last_byte_at.max(since));
            let rate = lease.rate.rate(now);
            let peers = ((total - rate) / (count.max(2) - 1) as f64)
                .max(self.speeds.typical)
                .max(lease.mean_rate(now));
            let old = now.saturating_sub(lease.issued_at.max(since)) > CRAWL_AFTER;
            if silent >= patience {
                victims.push((*id, format!("no byte for {} s", silent.as_secs())));
            } else if old && may_crawl(*id) && rate < peers * CRAWL_SHARE {
                victims.push((*id, "a connection crawls".to_owned()));
            }
        }
        if self.received_bytes == 0 && !victims.is_empty() {
            self.waited_in_vain();
        }
        for (id, why) in victims {
            self.cancel(id, Some(Failure::new(ErrorKind::Network, why)));
        }
    }
}

/// The failure that an HTTP status is.
pub(super) fn status_failure(status: u16) -> Failure {
    let kind = match status {
        401 | 403 | 407 | 410 => ErrorKind::AccessDenied,
        _ => ErrorKind::HttpStatus,
    };
    Failure::new(kind, format!("the server answered {status}")).with_status(status)
}
