//! How many connections are worth having.
//!
//! Only the speed of arriving bytes tells something about a server, so the number is found by
//! comparing: [`climb`] tries more and fewer connections, judged by the total speed over
//! [`windows`] of a few round trips, for as long as the download runs. Refusals are a bound of
//! their own ([`refusals`]). The result serves the next download as a first guess ([`memory`]).

use std::time::Duration;

use crate::model::config::Connections;
use crate::model::event::LimitedBy;
use climb::{Base, Climb, Shown};
use refusals::Refusals;

pub use memory::{Bound, Learned};

mod climb;
mod memory;
mod refusals;
#[cfg(any(test, feature = "model-bench"))]
pub mod simulation;
#[cfg(test)]
mod tests;
mod windows;

/// The most connections that [`Connections::AutoUpTo`] may ask for while losses hold each back.
const LOSSY_MOST: usize = 64;
/// The same, if the caller says nothing.
const LOSSY_MOST_DEFAULT: usize = 32;
/// The most requests that may be unanswered while fewer connections deliver.
const UNANSWERED: usize = 4;
/// Looking more often than this shows nothing new.
const LOOKS_EVERY: Duration = Duration::from_millis(20);

/// What is seen of the connections at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// Bytes that arrived since the start, over all connections.
    pub received_bytes: u64,
    /// Connections in use.
    pub active: usize,
    /// The connections in use whose bytes arrive.
    pub flowing: usize,
    /// Seconds from a request to its response on a connection that was kept.
    pub round_trip_s: f64,
    /// Seconds that the rest takes at the present speed, where that is known.
    pub left_s: Option<f64>,
    /// Seconds for which a connection pauses between its chunks, as a server's limit on the speed
    /// of a response makes it do; 0 where bytes come evenly.
    pub pause_s: f64,
    /// What TCP shows, where the system tells.
    pub path: Option<Path>,
}

/// What TCP shows of all connections together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// Losses since the start, as a receiver sees them: episodes of segments out of order, at
    /// most one per connection and round trip.
    pub losses: u64,
    /// The current round trip, as the mean over the connections, and the least of the download.
    pub round_trip_s: f64,
    /// See [`Self::round_trip_s`].
    pub least_round_trip_s: f64,
}

/// The limit on connections of one download: what the caller allows, what
/// measuring shows to help, and what the server tolerates.
#[derive(Debug, Clone)]
pub struct Concurrency {
    /// What the caller allows.
    max: usize,
    /// `None` where the caller fixed the number.
    climb: Option<Climb>,
    refusals: Refusals,
    looked_at: Option<Duration>,
    /// What an earlier download has shown.
    known_for: Option<Bound>,
    /// How many connections an earlier download has shown to be served.
    known: usize,
}

impl Concurrency {
    /// The limit at the start of a download.
    #[must_use]
    pub fn new(connections: Connections) -> Self {
        let (max, climbs) = match connections {
            Connections::Auto => (LOSSY_MOST_DEFAULT, true),
            Connections::AutoUpTo(count) => (count.clamp(1, LOSSY_MOST), true),
            Connections::Fixed(count) => (count.max(1), false),
        };
        Self {
            max,
            climb: climbs.then(|| Climb::new(climb::START, max)),
            refusals: Refusals::none(max),
            looked_at: None,
            known_for: None,
            known: 0,
        }
    }

    /// Starts where an earlier download from the same server ended. Nothing
    /// changes if the caller fixed the number.
    pub fn remember(&mut self, learned: Learned) {
        self.known_for = Some(learned.why);
        if self.climb.is_none() {
            return;
        }
        // Where more were of no use, the server may never have had as many.
        if learned.why != Bound::Link {
            self.known = learned.connections;
        }
        // A refusal that was confirmed holds until it is forgotten; the rest is measured again.
        if learned.why == Bound::Server {
            self.max = learned.connections.clamp(1, self.max);
        }
        let climb = Climb::new(learned.connections, self.max);
        let alike = learned.why == Bound::Connection;
        self.climb = Some(if alike { climb.knows_alike() } else { climb });
    }

    /// What this download has learned, if anything.
    #[must_use]
    pub fn learned(&self) -> Option<Learned> {
        let climb = self.climb.as_ref()?;
        if let Some(connections) = self.refusals.confirmed() {
            return Some(Learned { connections, why: Bound::Server });
        }
        if self.known_for == Some(Bound::Server) {
            return Some(Learned { connections: self.max, why: Bound::Server });
        }
        let why = match climb.shown() {
            Some(Shown::Alike(_)) => Bound::Connection,
            _ => Bound::Link,
        };
        climb.has_compared().then_some(Learned { connections: climb.wanted(), why })
    }

    /// What kept an earlier download from the same server from being faster.
    #[must_use]
    pub fn is_known_for(&self) -> Option<Bound> {
        self.known_for
    }

    /// At most this many connections now.
    #[must_use]
    pub fn limit(&self) -> usize {
        let wanted = self.climb.as_ref().map_or(self.max, Climb::wanted);
        wanted.min(self.refusals.tolerated())
    }

    /// The number of connections that the caller allows.
    #[must_use]
    pub fn at_most(&self) -> usize {
        self.max
    }

    /// The most connections that there may be in a moment.
    #[must_use]
    pub fn prospect(&self) -> usize {
        match &self.climb {
            Some(climb) if climb.is_climbing() => climb.ceiling().min(self.refusals.tolerated()),
            _ => self.limit(),
        }
    }

    /// The most requests that may be unanswered while `delivering` connections deliver: few, so
    /// that a server with a limit refuses few, unless losses make many worth having. As many as
    /// the server is known to serve are no risk.
    #[must_use]
    pub fn unanswered(&self, delivering: usize) -> usize {
        let many = self.climb.as_ref().is_some_and(Climb::is_lossy);
        let known = if self.refusals.any() { 0 } else { self.known };
        UNANSWERED.max(if many { delivering } else { delivering / 2 }).max(known)
    }

    /// How far apart requests are sent.
    #[must_use]
    pub fn apart(&self) -> Duration {
        self.refusals.apart()
    }

    /// Whether the number is found by measuring, rather than fixed by the caller.
    #[must_use]
    pub fn is_measuring(&self) -> bool {
        self.climb.is_some()
    }

    /// Whether [`Self::observe`] may have something to learn now.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        let due = |at: Duration| now.saturating_sub(at) >= LOOKS_EVERY;
        self.climb.is_some() && self.looked_at.is_none_or(due)
    }

    /// Why there are no more connections, once a comparison with more or fewer of them showed it.
    #[must_use]
    pub fn shown(&self) -> Option<LimitedBy> {
        let climb = self.climb.as_ref();
        let wanted = climb.map_or(self.max, Climb::wanted);
        let refused = self.refusals.any() && self.refusals.tolerated() <= wanted;
        if refused || self.known_for == Some(Bound::Server) && climb.is_some() {
            return Some(LimitedBy::Server { connections: self.limit() });
        }
        let each = |base: Base| (base.rate / base.connections as f64) as u64;
        match climb?.shown() {
            Some(Shown::Alike(at)) => Some(LimitedBy::Connection { bytes_per_second: each(at) }),
            Some(Shown::Full(at)) => Some(LimitedBy::Link { bytes_per_second: at.rate as u64 }),
            None if self.known_for == Some(Bound::Connection) => {
                let bytes_per_second = each(climb?.held()?);
                Some(LimitedBy::Connection { bytes_per_second })
            }
            None => None,
        }
    }

    /// The server refused a connection while `active` others work. Returns
    /// whether the limit fell.
    pub fn refused(&mut self, active: usize, now: Duration) -> bool {
        let before = self.limit();
        self.refusals.refused(active, now);
        if let Some(climb) = &mut self.climb {
            climb.refused();
        }
        self.limit() < before
    }

    /// Looks at the flow, and tries more or fewer connections.
    pub fn observe(&mut self, flow: Flow, now: Duration) {
        self.looked_at = Some(now);
        let (wanted, ceiling) = match &self.climb {
            Some(climb) => (climb.wanted(), climb.ceiling()),
            None => (self.max, self.max),
        };
        let tolerated = self.refusals.tolerated();
        // If fewer bring as much, there is no reason to risk another refusal.
        let enough = self.climb.as_ref().is_some_and(|climb| climb.shows_enough(tolerated));
        let wants = tolerated <= wanted && tolerated < ceiling && !enough;
        let raised = self.refusals.tick(wants, now);
        if let Some(climb) = &mut self.climb {
            if raised {
                climb.look_up(now);
            }
            climb.observe(flow, self.refusals.tolerated(), now);
        }
    }
}
