//! Where the object can be had: which source the next lease goes to, and which
//! sources are no longer used.
//!
//! A source is a number here; its URL is the driver's. Sources that a digest
//! binds together are used at once, each connection as fast as it is. Without a
//! digest the first source is used alone. Where it fails, the next one, which
//! may have other bytes, begins again from zero.
//!
//! A source is *live* until it is *gone* for good. It is *held* while the driver looks up its
//! URL, *proven* once a response has shown that the object is there, and left alone for a
//! while after each lease that failed.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::action::{Failure, PlaceId, PlaceNeed, SourceId};
use super::lease::Lease;
use super::leases::Leases;
use super::limits::Limits;
use crate::model::admission::Need;
use crate::model::segment::LeaseId;

/// No more sources are used: each segment keeps one bit per source that brought bytes of it.
pub const MAX_SOURCES: usize = 32;

/// A source is lost after this many leases in a row failed while other sources bring bytes.
const STRIKES: u32 = 3;
/// How long a failing source is first left alone; it doubles.
const REST: Duration = Duration::from_millis(200);
/// A connection moves to another source when connections there are this much faster.
const MUCH_FASTER: f64 = 2.0;
/// A source where one connection does not reach even this part of the best
/// one's speed is used only by the connections that it already has.
const HOPELESS: f64 = 0.05;

/// What a lease without a byte means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strike {
    /// No other source can be asked.
    OfAll,
    /// The source is left alone for a while.
    Rests,
    /// The source is no longer used.
    Loses,
}

/// What a refused link means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing: the link was an old one.
    Old,
    /// It is to be looked up again; `again` when that was done before.
    Resolve { again: bool },
    /// There is no other link.
    Expired,
}

/// What is known of one source.
#[derive(Debug)]
struct Source {
    /// The host that requests go to.
    place: PlaceId,
    gone: bool,
    /// A response has shown that the object is there, since it was last resolved.
    proven: bool,
    /// The driver is looking up its URL.
    held: bool,
    conditional: bool,
    /// How often it was resolved since it last brought a byte.
    resolved: u8,
    /// Why the driver had no other URL for it, when it was last asked for one.
    unresolved: Option<Failure>,
    /// Leases before this one used a URL that is no longer used.
    asked_anew_from: LeaseId,
    /// Leases in a row without a byte, and what all sources had brought at the first of them.
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
    /// Their bytes did not fit together: each must show that it has the object.
    distrusted: bool,
    /// The first in order.
    preferred: SourceId,
    /// By segment: which sources brought bytes of it. Kept only with several sources.
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
            unresolved: None,
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
    /// Adds `count` sources after those that are there, up to [`MAX_SOURCES`].
    pub(super) fn add(&mut self, count: usize) {
        for _ in 0..count.min(MAX_SOURCES - self.all.len()) {
            self.all.extend(Self::default().all);
        }
    }

    /// The first requests go to this one.
    pub(super) fn prefer(&mut self, id: SourceId) {
        self.preferred = id;
    }

    /// A digest binds the sources, so they are used at once.
    pub(super) fn use_together(&mut self) {
        self.together = !self.distrusted;
    }

    /// What the sources brought does not fit together: they are used one after another.
    /// False if they were not used at once.
    pub(super) fn distrust(&mut self) -> bool {
        let together = std::mem::take(&mut self.together);
        self.distrusted |= together;
        together
    }

    pub(super) fn are_together(&self) -> bool {
        self.together && self.live_count() > 1
    }

    pub(super) fn live_count(&self) -> usize {
        self.live().count()
    }

    /// The source that is used where only one is.
    pub(super) fn first(&self) -> Option<SourceId> {
        self.live().next()
    }

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

    /// Some servers refuse conditions, or answer them with fewer fields.
    pub(super) fn ask_unconditionally(&mut self, id: SourceId) {
        self.all[id].conditional = false;
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
        segments: RangeInclusive<usize>,
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

    /// These segments must be fetched again. Returns the source that brought all of them, if
    /// the object can be had without it.
    pub(super) fn forget_who_brought(&mut self, segments: &Range<usize>) -> Option<SourceId> {
        let end = segments.end.min(self.brought.len());
        let bits = self.brought[segments.start.min(end)..end].iter_mut();
        let bits = bits.fold(0, |all, bits| all | std::mem::take(bits));
        let source = bits.trailing_zeros() as usize;
        (bits.count_ones() == 1 && self.can_lose(source)).then_some(source)
    }

    pub(super) fn set_place(&mut self, id: SourceId, place: PlaceId) {
        self.all[id].place = place;
    }

    /// Nothing is asked of the source until its URL is known.
    pub(super) fn hold(&mut self, id: SourceId) {
        self.all[id].held = true;
    }

    /// The driver has done what it can to find the source's URL.
    pub(super) fn release(&mut self, id: SourceId) {
        self.all[id].held = false;
    }

    /// There is a new URL, which leases from `next` on use.
    pub(super) fn renew(&mut self, id: SourceId, next: LeaseId) {
        self.all[id].proven = false;
        self.all[id].unresolved = None;
        self.all[id].asked_anew_from = next;
    }

    /// There is no new URL, and this is why.
    pub(super) fn not_renewed(&mut self, id: SourceId, failure: Failure) {
        self.all[id].unresolved = Some(failure);
    }

    /// What the source fails with once its URL was refused with `refused`: why there was no new
    /// one tells more.
    pub(super) fn expired_with(&self, id: SourceId, refused: Failure) -> Failure {
        self.all[id].unresolved.clone().unwrap_or(refused)
    }

    /// Whether a refused link is looked up again.
    pub(super) fn can_resolve(&self, id: SourceId) -> bool {
        self.all[id].resolved < 2
    }

    /// Whether no source has a good link or can get another one.
    pub(super) fn have_expired(&self) -> bool {
        self.live().all(|id| !self.can_resolve(id))
    }

    /// The link that `lease` used was refused, and may be looked up again if `may`.
    pub(super) fn refused(&mut self, id: SourceId, lease: LeaseId, may: bool) -> Link {
        let can_resolve = may && self.can_resolve(id);
        let source = &mut self.all[id];
        if source.held || lease < source.asked_anew_from {
            return Link::Old;
        }
        if !can_resolve {
            return Link::Expired;
        }
        source.resolved += 1;
        source.unresolved = None;
        source.held = true;
        Link::Resolve { again: source.resolved > 1 }
    }

    /// Nothing more is asked of the source.
    pub(super) fn lose(&mut self, id: SourceId) {
        self.all[id].gone = true;
    }

    /// Whether all that is stored is lost with this source, where ranges are used.
    pub(super) fn is_alone(&self, id: SourceId) -> bool {
        !self.together && self.first() == Some(id)
    }

    /// A lease ended without a byte, when all sources had brought `received_bytes`. `anew`
    /// when nothing is stored, so that any source may be asked.
    pub(super) fn strike(
        &mut self,
        id: SourceId,
        anew: bool,
        received_bytes: u64,
        now: Duration,
    ) -> Strike {
        let ready = |id: SourceId| now >= self.all[id].not_before;
        let others = self.together || anew;
        if !others || !self.live().any(|other| other != id && ready(other)) {
            return Strike::OfAll;
        }
        let source = &mut self.all[id];
        source.failures += 1;
        if source.failures == 1 {
            source.received_then = received_bytes;
        }
        source.not_before = source.not_before.max(now + REST * 2u32.pow(source.failures.min(5)));
        // Where nothing is stored yet, the next one may as well begin.
        let loses = source.failures >= STRIKES && received_bytes > source.received_then;
        if loses || !self.together { Strike::Loses } else { Strike::Rests }
    }

    /// Whether the source could be asked now, if there is room for it.
    fn could_ask(&self, id: SourceId, now: Duration) -> bool {
        let source = &self.all[id];
        !source.gone && !source.held && now >= source.not_before
    }

    /// Whether a request may go to the source now.
    fn is_usable(&self, id: SourceId, leases: &Leases, limits: &Limits, now: Duration) -> bool {
        let source = &self.all[id];
        let asks = |(lease, of): (&LeaseId, &Lease)| {
            of.source == id && !of.leaving && *lease >= source.asked_anew_from
        };
        let here = || leases.values().filter(|lease| lease.place == source.place).count();
        self.could_ask(id, now)
            && limits.has_room(source.place, here)
            && (source.proven || !leases.iter().any(asks))
    }

    /// How much of `need` could go to which host, in their order; hosts that
    /// nothing can go to are left out.
    pub(super) fn need_by_place(
        &self,
        need: Need,
        leases: &Leases,
        now: Duration,
    ) -> Vec<PlaceNeed> {
        let mut needs: Vec<PlaceNeed> = Vec::new();
        let mut add = |place, in_use, limit: usize| {
            let at = needs.binary_search_by_key(&place, |it| it.place).unwrap_or_else(|at| {
                needs.insert(at, PlaceNeed { place, in_use: 0, limit: 0 });
                at
            });
            needs[at].in_use += in_use;
            needs[at].limit = needs[at].limit.saturating_add(limit);
        };
        for lease in leases.values() {
            add(lease.place, 1, 0);
        }
        for id in self.live() {
            match self.useful_leases(id, leases, now) {
                0 => {}
                limit => add(self.place(id), 0, limit),
            }
        }
        for it in &mut needs {
            it.limit = it.limit.min(need.limit).max(it.in_use);
        }
        needs.retain(|it| it.limit > 0);
        needs
    }

    /// The most leases that are of use at a source.
    fn useful_leases(&self, id: SourceId, leases: &Leases, now: Duration) -> usize {
        let Some(first) = self.first() else { return 0 };
        let could = |id: &SourceId| self.could_ask(*id, now);
        let together = self.together && self.can_lose(first);
        if !together || !self.live().any(|id| could(&id)) {
            // While no source can be asked, the first is the one to wait for.
            return if id == first { usize::MAX } else { 0 };
        }
        if !could(&id) {
            return 0;
        }
        let source = &self.all[id];
        if !source.proven {
            // One lease must show the object, beside those that used an earlier link.
            let earlier = leases.before(source.asked_anew_from);
            let here = earlier.filter(|(_, it)| it.source == id && it.place == source.place);
            return here.count() + 1;
        }
        let speeds = self.live().filter(could).filter_map(|id| self.speed_of(id, leases, now));
        let best = speeds.fold(0.0, f64::max);
        match self.speed_of(id, leases, now) {
            Some(speed) if speed <= best * HOPELESS => 0,
            _ => usize::MAX,
        }
    }

    /// How fast one connection to the source is, if anything shows it.
    fn speed_of(&self, id: SourceId, leases: &Leases, now: Duration) -> Option<f64> {
        let leases = leases.values().filter(|lease| lease.source == id);
        let telling = leases.filter(|lease| lease.is_telling(now));
        let speeds: Vec<f64> = telling.filter_map(|lease| lease.speed(now)).collect();
        if speeds.is_empty() {
            return self.all[id].typical;
        }
        Some(speeds.iter().sum::<f64>() / speeds.len() as f64)
    }

    /// The source of the next lease: one that nobody has tried; else one that
    /// has no connection at work, where there are enough for all; else that of
    /// the fastest idle connection, or of the fewest leases, among those that
    /// are about as fast as the best.
    /// The download is to have `limit` connections at most.
    pub(super) fn pick(
        &self,
        leases: &Leases,
        limits: &Limits,
        limit: usize,
        now: Duration,
    ) -> Option<SourceId> {
        let first = self.first()?;
        if !self.together || !self.can_lose(first) {
            return self.is_usable(first, leases, limits, now).then_some(first);
        }
        let usable = self.live().filter(|id| self.is_usable(*id, leases, limits, now));
        let known: Vec<(SourceId, usize, Option<f64>)> = usable
            .map(|id| {
                let here = leases.values().filter(|lease| lease.source == id).count();
                (id, here, self.speed_of(id, leases, now))
            })
            .collect();
        let untried = known.iter().find(|(_, leases, speed)| *leases == 0 && speed.is_none());
        if let Some((id, ..)) = untried {
            return Some(*id);
        }
        let best = known.iter().filter_map(|(.., speed)| *speed).fold(0.0, f64::max);
        if limit > self.live_count() {
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
        let idle = leases.speeds().fastest_idle(|id| good.iter().any(|(of, ..)| *of == id));
        idle.or_else(|| good.iter().min_by_key(|(id, leases, _)| (*leases, *id)).map(|it| it.0))
    }
}
