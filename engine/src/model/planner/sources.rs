//! Where the object can be had: which source the next lease goes to, and which
//! sources are used no more.
//!
//! A source is a number here; its URL is the driver's. Sources that a digest
//! binds together are used at once, each connection as fast as it is. Without
//! one the first is used alone, and the next one, which may have other bytes,
//! begins again from zero where it fails.

use std::time::Duration;

use super::{Action, Failure, Lease, LeaseId, Phase, Planner};
use crate::model::admission::Need;
use crate::model::error::ErrorKind;

/// Identifies a source within one download, from 0.
pub type SourceId = usize;

/// More sources are not used: each segment remembers by a bit who brought of it.
pub const MAX_SOURCES: usize = 32;

/// Leases in a row that fail while other sources bring bytes.
const STRIKES: u32 = 3;
/// What a failing source is left alone for first; it doubles.
const REST: Duration = Duration::from_millis(200);
/// A connection is moved to another source when those there are so much faster.
const MUCH_FASTER: f64 = 2.0;
/// A source of which one connection has not even this part of the best one's
/// speed is used only by connections that it has.
const HOPELESS: f64 = 0.05;

/// Identifies a host within one download.
pub type PlaceId = usize;

/// What a download could use of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceNeed {
    /// Which one.
    pub place: PlaceId,
    /// Leases at work there.
    pub in_use: usize,
    /// At most so many, were there no bound; no fewer than those at work.
    pub limit: usize,
}

/// What is known of one source.
#[derive(Debug)]
struct Source {
    /// The host that requests go to.
    place: PlaceId,
    gone: bool,
    /// A response has shown that the object is there, since it was last resolved.
    proven: bool,
    /// The driver is finding out its URL.
    held: bool,
    conditional: bool,
    /// How often it was resolved since it last brought a byte.
    resolved: u8,
    /// Leases before this one asked by a URL that is no longer used.
    asked_anew_from: LeaseId,
    /// Leases in a row without a byte, and what all had brought at the first.
    failures: u32,
    received_then: u64,
    not_before: Duration,
    /// The mean of its leases that ended, in bytes a second.
    typical: Option<f64>,
}

/// All sources of a download; there is always a first.
#[derive(Debug)]
pub(super) struct Sources {
    all: Vec<Source>,
    /// Whether a digest binds them.
    together: bool,
    /// Their bytes did not fit together: each is to show that it has the object.
    distrusted: bool,
    /// The first in order.
    preferred: SourceId,
    /// By segment: which sources brought bytes of it. Kept only with several.
    brought: Vec<u32>,
}

impl Default for Sources {
    fn default() -> Self {
        let first = Source {
            place: 0,
            gone: false,
            proven: false,
            held: false,
            conditional: true,
            resolved: 0,
            asked_anew_from: 0,
            failures: 0,
            received_then: 0,
            not_before: Duration::ZERO,
            typical: None,
        };
        Self {
            all: vec![first],
            together: false,
            distrusted: false,
            preferred: 0,
            brought: Vec::new(),
        }
    }
}

impl Sources {
    fn live(&self) -> impl Iterator<Item = SourceId> {
        let others = (0..self.all.len()).filter(|id| *id != self.preferred);
        std::iter::once(self.preferred).chain(others).filter(|id| !self.all[*id].gone)
    }

    /// Whether the object is to be had elsewhere as well.
    pub(super) fn can_lose(&self, id: SourceId) -> bool {
        self.live().any(|live| live != id)
    }

    /// Whether another source brings the same bytes.
    pub(super) fn can_spare(&self, id: SourceId) -> bool {
        self.together && self.can_lose(id)
    }

    pub(super) fn is_gone(&self, id: SourceId) -> bool {
        self.all[id].gone
    }

    pub(super) fn place(&self, id: SourceId) -> PlaceId {
        self.all[id].place
    }

    pub(super) fn conditional(&self, id: SourceId) -> bool {
        self.all[id].conditional
    }

    pub(super) fn set_conditional(&mut self, id: SourceId, conditional: bool) {
        self.all[id].conditional = conditional;
    }

    /// For a new beginning: every source may be asked conditionally.
    pub(super) fn begin_again(&mut self) {
        self.all.iter_mut().for_each(|source| source.conditional = true);
        self.brought.clear();
    }

    pub(super) fn proved(&mut self, id: SourceId) {
        self.all[id].proven = true;
    }

    /// The lease brought bytes of these segments.
    pub(super) fn received(
        &mut self,
        id: SourceId,
        lease: LeaseId,
        segments: std::ops::RangeInclusive<usize>,
    ) {
        let several = self.all.len() > 1;
        let source = &mut self.all[id];
        source.failures = 0;
        if lease >= source.asked_anew_from {
            source.resolved = 0;
        }
        if several {
            if self.brought.len() <= *segments.end() {
                self.brought.resize(segments.end() + 1, 0);
            }
            self.brought[segments].iter_mut().for_each(|bits| *bits |= 1 << id);
        }
    }

    pub(super) fn ended(&mut self, id: SourceId, mean: f64) {
        let typical = &mut self.all[id].typical;
        *typical = Some(typical.map_or(mean, |old| old * 0.5 + mean * 0.5));
    }

    /// Leaves a source alone until `then`.
    pub(super) fn rest(&mut self, id: SourceId, then: Duration) {
        let not_before = &mut self.all[id].not_before;
        *not_before = then.max(*not_before);
    }

    /// Which sources brought of these segments, which are to be brought again.
    fn forget_who_brought(&mut self, segments: &std::ops::Range<usize>) -> u32 {
        let end = segments.end.min(self.brought.len());
        let bits = self.brought[segments.start.min(end)..end].iter_mut();
        bits.fold(0, |all, bits| all | std::mem::take(bits))
    }
}

/// Whether the reason is the source's, or that of the way to it.
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
    /// Adds `count` sources after those that are there, up to [`MAX_SOURCES`].
    pub fn add_sources(&mut self, count: usize) {
        for _ in 0..count.min(MAX_SOURCES - self.sources.all.len()) {
            self.sources.all.extend(Sources::default().all);
        }
    }

    /// The first requests go to this source: an earlier run has bytes of it.
    pub fn prefer(&mut self, source: SourceId) {
        self.sources.preferred = source;
    }

    /// A digest shows whether bytes of several sources belong together: from now
    /// on they are used at once.
    pub fn use_together(&mut self) {
        self.sources.together = !self.sources.distrusted;
    }

    /// How many sources are not given up.
    #[must_use]
    pub fn live_sources(&self) -> usize {
        self.sources.live().count()
    }

    /// Whether several sources are used at once.
    #[must_use]
    pub fn are_together(&self) -> bool {
        self.sources.together && self.live_sources() > 1
    }

    /// What goes to `source` from now on goes to this host; at first all go to the
    /// same one, 0.
    pub fn set_place(&mut self, source: SourceId, place: PlaceId) {
        self.sources.all[source].place = place;
    }

    /// The source that a lease was asked of.
    #[must_use]
    pub fn source_of(&self, lease: LeaseId) -> Option<SourceId> {
        self.leases.get(&lease).map(|lease| lease.source)
    }

    /// No request goes to `source` before [`Self::on_resolved`].
    pub fn hold(&mut self, source: SourceId) {
        self.sources.all[source].held = true;
    }

    /// The driver has a URL for `source` again, a new one when `anew`. Until a
    /// response shows that it is good, one request at a time asks.
    pub fn on_resolved(&mut self, source: SourceId, anew: bool, now: Duration) {
        let next = self.next_lease;
        let source = &mut self.sources.all[source];
        source.held = false;
        if anew {
            source.proven = false;
            source.asked_anew_from = next;
        }
        self.schedule(now);
    }

    /// There is no URL for `source` that it gives the object for.
    pub fn on_unresolved(&mut self, source: SourceId, failure: Failure, now: Duration) {
        self.sources.all[source].held = false;
        self.expired(source, failure, now);
        self.schedule(now);
    }

    /// What the URL of `source` leads to now could not be compared with what is stored:
    /// as a request that failed.
    pub fn on_unproven(&mut self, source: SourceId, failure: Failure, now: Duration) {
        self.sources.all[source].held = false;
        self.ended_badly(source, failure, false, false, now);
        self.schedule(now);
    }

    /// What the URL of `source` leads to now is another object than the one that is
    /// stored, or nothing shows that it is the same.
    pub fn on_other_object(&mut self, source: SourceId, why: &str, now: Duration) {
        self.sources.all[source].held = false;
        if self.sources.can_spare(source) {
            self.fail_source(source, Failure::new(ErrorKind::ObjectChanged, why));
        } else {
            self.begin_anew(Some(source), why);
        }
        self.schedule(now);
    }

    /// What came of `lease` shows that its source is of no use, for a reason
    /// that no verdict tells.
    pub fn give_up(&mut self, lease: LeaseId, failure: Failure, now: Duration) {
        let source = self.source_of(lease);
        if self.is_tentative(lease) && source.is_some_and(|it| !self.sources.can_spare(it)) {
            // What the first response brings is none the worse for it.
            self.refused_beside(lease, now);
            return self.schedule(now);
        }
        self.drop_response(lease);
        match source {
            Some(source) => self.fail_source(source, failure),
            None => self.fail(failure),
        }
        self.schedule(now);
    }

    /// Asks the driver to find out the URL of `source` again.
    pub(super) fn resolve(&mut self, source: SourceId) {
        self.hold(source);
        self.actions.push_back(Action::Resolve { source, refused: None, again: false });
    }

    /// Whether a refused link of `source` is looked up again.
    pub(super) fn can_resolve(&self, source: SourceId) -> bool {
        let may = self.phase == Phase::Running || self.settings.refreshes;
        may && self.sources.all[source].resolved < 2
    }

    /// Whether no source's link is good, nor to be had again.
    pub(super) fn has_expired(&self) -> bool {
        self.sources.live().all(|id| self.sources.all[id].resolved >= 2)
    }

    /// A request by `lease` was refused: the link may have expired.
    pub(super) fn refused_access(
        &mut self,
        id: LeaseId,
        source: SourceId,
        failure: Failure,
        now: Duration,
    ) {
        let can_resolve = self.can_resolve(source);
        let of = &mut self.sources.all[source];
        if of.held || id < of.asked_anew_from {
            // It asked by the old link.
            return;
        }
        if can_resolve {
            of.resolved += 1;
            let again = of.resolved > 1;
            self.hold(source);
            self.actions.push_back(Action::Resolve { source, refused: Some(failure), again });
        } else {
            self.expired(source, failure, now);
        }
    }

    fn expired(&mut self, source: SourceId, failure: Failure, now: Duration) {
        if self.phase != Phase::Running || self.sources.can_lose(source) {
            return self.fail_source(source, failure);
        }
        let working = |lease: &&Lease| lease.source == source && !lease.leaving;
        match self.leases.values().filter(working).count() {
            // What streams already is allowed to end: it can be kept.
            0 => self.dying = Some(failure),
            // It may be their number that is refused, and they bring the rest.
            others => self.refused(others, now),
        }
    }

    /// The source is of no use: the download goes on with the others, begins
    /// again with the next one where no digest binds them, or fails.
    pub(super) fn fail_source(&mut self, id: SourceId, failure: Failure) {
        if self.phase == Phase::Ended || self.sources.is_gone(id) {
            return;
        }
        if !self.sources.can_lose(id) || !another_may_help(failure.kind) {
            return self.fail(failure);
        }
        if self.given_out && self.begins_again_without(id) {
            // What another source has may not follow on what was given out.
            return self.fail(failure);
        }
        let wrong = matches!(failure.kind, ErrorKind::DigestMismatch | ErrorKind::ObjectChanged);
        self.lose(id, &failure.message, wrong);
    }

    /// See [`Self::fail_source`]. What streams from it is kept, unless it is `wrong`.
    pub(super) fn lose(&mut self, id: SourceId, why: &str, wrong: bool) {
        let again = self.begins_again_without(id);
        self.sources.all[id].gone = true;
        self.speeds.forget(id);
        self.actions.push_back(Action::Lost { source: id, why: why.to_owned(), again });
        if again {
            self.begin_with_next();
        } else if wrong {
            let of_it = self.leases.iter().filter(|(_, lease)| lease.source == id);
            let ids: Vec<LeaseId> = of_it.map(|(id, _)| *id).collect();
            ids.into_iter().for_each(|id| self.cancel(id, None));
        }
    }

    /// Whether the loss of a source is that of all that is stored.
    fn begins_again_without(&self, id: SourceId) -> bool {
        let alone = self.sources.live().next() == Some(id);
        self.whole || (!self.sources.together && alone)
    }

    fn begin_with_next(&mut self) {
        self.count_anew();
        self.resource = None;
        self.drain(true);
    }

    /// What another source did wrong says nothing of the next one.
    fn count_anew(&mut self) {
        self.whole = false;
        self.refusals.begin_with_next();
        self.backoff.progress();
        self.failures_in_a_row = 0;
        self.lies_in_a_row = 0;
        self.high_water = 0;
        self.changes = 0;
        self.refetched = false;
        self.abandoned.clear();
        self.given_up.clear();
        self.wait_until = Duration::ZERO;
        self.pause_until = Duration::ZERO;
    }

    /// As [`Self::refetch`], where the bytes are of several sources: which of
    /// them are wrong is not known, so they are used one after another, each for
    /// all of the object. False when none is left.
    pub(super) fn refetch_from_one(&mut self, why: &str) -> bool {
        let Some(first) = self.sources.live().next() else { return false };
        if self.sources.together {
            (self.sources.together, self.sources.distrusted) = (false, true);
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

    /// Segments that are stored do not hash as a piece of the object must: they
    /// are fetched again, as often as there are sources. The source that brought
    /// all of them is used no more, where there is another.
    pub fn on_bad_segments(
        &mut self,
        segments: std::ops::Range<usize>,
        failure: &Failure,
        now: Duration,
    ) {
        if matches!(self.phase, Phase::Draining { .. } | Phase::Ended) {
            return;
        }
        if self.whole {
            // A plain stream cannot be continued in its middle.
            return self.on_altered(failure.clone(), now);
        }
        let bits = self.sources.forget_who_brought(&segments);
        let source = bits.trailing_zeros() as usize;
        if bits.count_ones() == 1 && self.sources.can_lose(source) {
            if !self.sources.is_gone(source) {
                self.lose(source, &failure.message, true);
            }
        } else {
            let tries = self.bad.entry(segments.start).or_default();
            *tries += 1;
            if *tries > self.live_sources() {
                return self.fail(failure.clone());
            }
        }
        if let Some(map) = &mut self.map {
            segments.for_each(|index| map.forget(index));
        }
        self.schedule(now);
    }

    /// A lease ended without a byte. True when that is this source's matter
    /// alone, because others can be asked.
    pub(super) fn strike(&mut self, id: SourceId, failure: &Failure, now: Duration) -> bool {
        let others =
            self.sources.together || self.phase == Phase::Opening && self.claimed.is_none();
        let ready = |id: SourceId| now >= self.sources.all[id].not_before;
        if !others || self.whole || !self.sources.live().any(|other| other != id && ready(other)) {
            return false;
        }
        let received = self.received_bytes;
        let source = &mut self.sources.all[id];
        source.failures += 1;
        if source.failures == 1 {
            source.received_then = received;
        }
        source.not_before = source.not_before.max(now + REST * 2u32.pow(source.failures.min(5)));
        if source.failures >= STRIKES && received > source.received_then {
            self.lose(id, &failure.message, false);
        } else if !self.sources.together {
            // Nothing is stored yet: the next one may as well begin.
            self.lose(id, &failure.message, false);
        }
        true
    }

    /// Whether it could be asked now, if there is room for it.
    fn could_ask(&self, id: SourceId, now: Duration) -> bool {
        let source = &self.sources.all[id];
        !source.gone && !source.held && now >= source.not_before
    }

    /// Whether a request may go to the source now.
    fn is_usable(&self, id: SourceId, now: Duration) -> bool {
        let source = &self.sources.all[id];
        let asks = |(lease, of): (&LeaseId, &Lease)| {
            of.source == id && !of.leaving && *lease >= source.asked_anew_from
        };
        self.could_ask(id, now)
            && self.has_room(id)
            && (source.proven || !self.leases.iter().any(asks))
    }

    /// Whether its host's bound allows one more.
    fn has_room(&self, id: SourceId) -> bool {
        let place = self.sources.place(id);
        let here = || self.leases.values().filter(|lease| lease.place == place).count();
        self.rooms.as_ref().is_none_or(|rooms| rooms.get(place).is_some_and(|most| here() < *most))
    }

    /// What of `need` could go to which host, in their order; those that nothing
    /// can go to are left out.
    #[must_use]
    pub fn need_by_place(&self, need: Need, now: Duration) -> Vec<PlaceNeed> {
        let mut needs: Vec<PlaceNeed> = Vec::new();
        let mut add = |place, in_use, limit: usize| {
            let at = needs.binary_search_by_key(&place, |it| it.place).unwrap_or_else(|at| {
                needs.insert(at, PlaceNeed { place, in_use: 0, limit: 0 });
                at
            });
            needs[at].in_use += in_use;
            needs[at].limit = needs[at].limit.saturating_add(limit);
        };
        for lease in self.leases.values() {
            add(lease.place, 1, 0);
        }
        for id in self.sources.live() {
            match self.useful_leases(id, now) {
                0 => {}
                limit => add(self.sources.place(id), 0, limit),
            }
        }
        for it in &mut needs {
            it.limit = it.limit.min(need.limit).max(it.in_use);
        }
        needs.retain(|it| it.limit > 0);
        needs
    }

    /// So many leases would be of use at a source, at most.
    fn useful_leases(&self, id: SourceId, now: Duration) -> usize {
        let Some(first) = self.sources.live().next() else { return 0 };
        let could = |id: &SourceId| self.could_ask(*id, now);
        let together = self.sources.together && self.sources.can_lose(first);
        if !together || !self.sources.live().any(|id| could(&id)) {
            // While none can be asked, the first is what is waited for.
            return if id == first { usize::MAX } else { 0 };
        }
        if !could(&id) {
            return 0;
        }
        let source = &self.sources.all[id];
        if !source.proven {
            // One is to show it, beside those that asked by an earlier link.
            let earlier = self.leases.range(..source.asked_anew_from);
            let here = earlier.filter(|(_, it)| it.source == id && it.place == source.place);
            return here.count() + 1;
        }
        let speeds = self.sources.live().filter(could).filter_map(|id| self.speed_of(id, now));
        let best = speeds.fold(0.0, f64::max);
        match self.speed_of(id, now) {
            Some(speed) if speed <= best * HOPELESS => 0,
            _ => usize::MAX,
        }
    }

    /// How fast one connection to the source is, if anything tells it.
    fn speed_of(&self, id: SourceId, now: Duration) -> Option<f64> {
        let leases = self.leases.values().filter(|lease| lease.source == id);
        let telling = leases.filter(|lease| lease.is_telling(now));
        let speeds: Vec<f64> = telling.filter_map(|lease| lease.speed(now)).collect();
        if speeds.is_empty() {
            return self.sources.all[id].typical;
        }
        Some(speeds.iter().sum::<f64>() / speeds.len() as f64)
    }

    /// The source of the next lease: one that nobody has tried; else one that
    /// has no connection at work, where there are enough for all; else that of
    /// the fastest idle connection, or of the fewest leases, among those that
    /// are about as fast as the best.
    pub(super) fn pick(&self, now: Duration) -> Option<SourceId> {
        let first = self.sources.live().next()?;
        if !self.sources.together || !self.sources.can_lose(first) {
            return self.is_usable(first, now).then_some(first);
        }
        let usable = self.sources.live().filter(|id| self.is_usable(*id, now));
        let known: Vec<(SourceId, usize, Option<f64>)> = usable
            .map(|id| {
                let leases = self.leases.values().filter(|lease| lease.source == id).count();
                (id, leases, self.speed_of(id, now))
            })
            .collect();
        let untried = known.iter().find(|(_, leases, speed)| *leases == 0 && speed.is_none());
        if let Some((id, ..)) = untried {
            return Some(*id);
        }
        let best = known.iter().filter_map(|(.., speed)| *speed).fold(0.0, f64::max);
        if self.limit() > self.live_sources() {
            let left_out = |(_, leases, speed): &&(SourceId, usize, Option<f64>)| {
                *leases == 0 && speed.is_some_and(|speed| speed > best * HOPELESS)
            };
            if let Some((id, ..)) = known.iter().find(left_out) {
                return Some(*id);
            }
        }
        let good: Vec<&(SourceId, usize, Option<f64>)> = known
            .iter()
            .filter(|(.., speed)| speed.is_none_or(|speed| speed * MUCH_FASTER >= best))
            .collect();
        let idle = self.speeds.fastest_idle(|id| good.iter().any(|(of, ..)| *of == id));
        idle.or_else(|| good.iter().min_by_key(|(id, leases, _)| (*leases, *id)).map(|it| it.0))
    }
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
