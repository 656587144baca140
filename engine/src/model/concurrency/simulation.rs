//! Downloads from simulated servers, to see what a rule for the number of connections costs.
//!
//! Everything is a fluid: in steps of 20 ms, the connections share one queue, begin slowly and
//! grow as CUBIC does (or BBR, which takes no random loss for congestion), and the server may cap,
//! burst, police, refuse or slow down. Leases and the splitting of the tail follow the planner in
//! outline. A run is a function of the server, the rule and the seed.

use std::time::Duration;

use super::{Concurrency, Flow, Path};

pub mod families;
pub mod study;
mod today;
mod wire;

pub use families::{FAMILIES, Family};
pub use today::Today;
use wire::{State, Wire};

const STEP_S: f64 = 0.02;
/// Bytes of one TCP segment.
const SEGMENT: f64 = 1448.0;
const MIB: f64 = (1 << 20) as f64;
const MOST: usize = 64;

/// A server and the way to it. Rates are in bytes a second, infinite where there is no bound.
#[derive(Debug, Clone)]
pub struct Server {
    /// What the object has.
    pub size_bytes: f64,
    /// Of the narrowest part of the way.
    pub capacity: f64,
    /// From this second on the capacity is so many times the one before.
    pub change: (f64, f64),
    /// How much the capacity wavers, as the deviation of its logarithm.
    pub noise: f64,
    /// How often a second the way is silent for a moment.
    pub stalls: f64,
    /// Greedy downloads of others on the same way.
    pub cross: f64,
    /// Without a queue.
    pub round_trip_s: f64,
    /// What the server takes to answer beyond the round trip.
    pub latency_s: f64,
    /// What the queue holds.
    pub buffer_bytes: f64,
    /// How likely a segment is lost on its way.
    pub loss: f64,
    /// Whether loss is no sign of congestion to the sender.
    pub bbr: bool,
    /// The receiver's window.
    pub window_bytes: f64,
    /// Of each connection, and by how much they differ (the deviation of the logarithm).
    pub cap: f64,
    /// See [`Self::cap`].
    pub spread: f64,
    /// `limit_rate`: a response has had at most so much a second, and one second's worth more.
    pub response_rate: f64,
    /// A token bucket for all connections together: the rate and what it holds.
    pub police: (f64, f64),
    /// Requests a second that are not refused, and how many may come at once beyond.
    pub requests: (f64, f64),
    /// Connections that are not refused.
    pub connections: f64,
    /// Whether refusing closes the connection.
    pub resets: bool,
    /// What the server's disk brings to one connection.
    pub disk: f64,
    /// By how much each further connection slows the disk.
    pub seek: f64,
}

/// What decides how many connections there are.
pub trait Rule {
    /// So many may there be now.
    fn limit(&self) -> usize;
    /// Looks at what comes.
    fn observe(&mut self, flow: Flow, now: Duration);
    /// A connection was refused beside `active` others.
    fn refused(&mut self, active: usize, now: Duration);
    /// So many requests may be without an answer while so many deliver.
    fn unanswered(&self, _delivering: usize) -> usize {
        usize::MAX
    }
    /// So long after one request comes the next.
    fn apart(&self) -> Duration {
        Duration::ZERO
    }
    /// Whether the slowest are closed when the limit falls.
    fn closes(&self) -> bool {
        false
    }
    /// Into so many parts the object is divided at first.
    fn parts(&self) -> f64 {
        16.0
    }
}

impl Rule for Concurrency {
    fn limit(&self) -> usize {
        self.limit()
    }

    fn observe(&mut self, flow: Flow, now: Duration) {
        Concurrency::observe(self, flow, now);
    }

    fn refused(&mut self, active: usize, now: Duration) {
        Concurrency::refused(self, active, now);
    }

    fn unanswered(&self, delivering: usize) -> usize {
        self.unanswered(delivering)
    }

    fn apart(&self) -> Duration {
        self.apart()
    }

    fn closes(&self) -> bool {
        true
    }
}

/// How a download went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// What it took, at most what it was given.
    pub seconds: f64,
    /// Connections, in the mean.
    pub mean: f64,
    /// The most connections at a time.
    pub most: usize,
    /// Requests that the server refused.
    pub refused: usize,
    /// Requests in all.
    pub requests: usize,
}

/// Downloads from `server` by `rule`, for at most so many seconds.
pub fn run(server: &Server, rule: &mut dyn Rule, seed: u64, most_s: f64) -> Outcome {
    Download::new(server, seed).run(rule, most_s)
}

struct Download<'a> {
    server: &'a Server,
    /// What befalls the way, alike for all rules, and what befalls connections.
    weather: fastrand::Rng,
    random: fastrand::Rng,
    wires: Vec<Wire>,
    now_s: f64,
    /// Not yet leased, and received.
    pool: f64,
    received: f64,
    queue: f64,
    wavering: f64,
    silent_until_s: f64,
    tokens: f64,
    /// Of the limit on requests: how full its bucket is, since when.
    excess: (f64, f64),
    opened: bool,
    losses: u64,
    next_request_s: f64,
    outcome: Outcome,
}

/// The connections at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    asked: usize,
    flowing: usize,
    /// What all of them bring, of late.
    speed: f64,
}

impl Count {
    fn active(self) -> usize {
        self.asked + self.flowing
    }
}

impl<'a> Download<'a> {
    fn new(server: &'a Server, seed: u64) -> Self {
        Self {
            server,
            weather: fastrand::Rng::with_seed(seed),
            random: fastrand::Rng::with_seed(seed ^ 0x5eed),
            wires: vec![Wire::default(); MOST],
            now_s: 0.0,
            pool: server.size_bytes,
            received: 0.0,
            queue: 0.0,
            wavering: 0.0,
            silent_until_s: 0.0,
            tokens: server.police.1,
            excess: (0.0, 0.0),
            opened: false,
            losses: 0,
            next_request_s: 0.0,
            outcome: Outcome::default(),
        }
    }

    fn run(mut self, rule: &mut dyn Rule, most_s: f64) -> Outcome {
        let (mut steps, mut sum) = (0.0, 0);
        while self.received < self.server.size_bytes - 1.0 && self.now_s < most_s {
            self.now_s += STEP_S;
            let capacity = self.capacity();
            let round_trip_s =
                self.server.round_trip_s + (self.queue / self.server.capacity).min(2.0);
            let limit = if self.opened { rule.limit() } else { 1 };
            let left_s = self.left_s();
            self.close(limit, rule);
            self.ask(limit, left_s, round_trip_s, rule);
            self.answer(rule);
            self.flow(capacity, round_trip_s);
            let active = self.count().active();
            debug_assert!(active <= limit.max(1) || !rule.closes(), "{active} of {limit}");
            steps += 1.0;
            sum += active;
            self.outcome.most = self.outcome.most.max(active);
            if self.opened {
                let flow = Flow {
                    received_bytes: self.received as u64,
                    active,
                    flowing: self.wires.iter().filter(|wire| wire.has_delivered()).count(),
                    round_trip_s: self.server.round_trip_s + self.server.latency_s,
                    left_s,
                    pause_s: 0.0,
                    path: Some(Path {
                        losses: self.losses,
                        round_trip_s,
                        least_round_trip_s: self.server.round_trip_s,
                    }),
                };
                rule.observe(flow, Duration::from_secs_f64(self.now_s));
            }
        }
        self.outcome.seconds = self.now_s;
        self.outcome.mean = sum as f64 / f64::max(steps, 1.0);
        self.outcome
    }

    /// What the way carries now.
    fn capacity(&mut self) -> f64 {
        let server = self.server;
        let mut uniform = || self.weather.f64();
        let noise: f64 = (0..3).map(|_| 2.0 * uniform() - 1.0).sum();
        self.wavering = 0.97 * self.wavering + 0.243 * server.noise * noise;
        let (changes_at, factor) = server.change;
        let mut capacity = server.capacity * self.wavering.exp();
        if self.now_s > changes_at {
            capacity *= factor;
        }
        let dice = uniform();
        if self.now_s < self.silent_until_s {
            capacity *= 0.02;
        } else if dice < server.stalls * STEP_S {
            self.silent_until_s = self.now_s + 0.05 + 0.2 * dice / (server.stalls * STEP_S);
        }
        capacity
    }

    fn count(&self) -> Count {
        let mut count = Count::default();
        for wire in &self.wires {
            match wire.state {
                State::Asked { .. } => count.asked += 1,
                State::Delivers { .. } => {
                    count.flowing += 1;
                    count.speed += wire.speed;
                }
                State::Closed | State::Kept => {}
            }
        }
        count
    }

    fn left_s(&self) -> Option<f64> {
        let speed = self.count().speed;
        (speed > 0.0).then(|| (self.server.size_bytes - self.received) / speed)
    }

    /// Closes the slowest beyond `limit`, one that was not answered before any other.
    fn close(&mut self, limit: usize, rule: &dyn Rule) {
        while rule.closes() && self.count().active() > limit {
            let slowness = |wire: &Wire| match wire.state {
                State::Asked { .. } => Some(-1.0),
                State::Delivers { .. } => Some(wire.speed),
                State::Closed | State::Kept => None,
            };
            let slowest = self
                .wires
                .iter_mut()
                .filter_map(|wire| Some((slowness(wire)?, wire)))
                .min_by(|a, b| a.0.total_cmp(&b.0));
            let Some((_, wire)) = slowest else { return };
            self.pool += wire.rest;
            (wire.rest, wire.speed, wire.state) = (0.0, 0.0, State::Closed);
        }
    }

    /// Hands out what is left.
    fn ask(&mut self, limit: usize, left_s: Option<f64>, round_trip_s: f64, rule: &dyn Rule) {
        let server = self.server;
        loop {
            let count = self.count();
            let more = count.active() < limit
                && self.now_s >= self.next_request_s
                && count.asked < rule.unanswered(count.flowing);
            if !more {
                return;
            }
            let kept = |wire: &&usize| self.wires[**wire].state == State::Kept;
            let by_speed =
                |a: &usize, b: &usize| self.wires[*a].speed.total_cmp(&self.wires[*b].speed);
            let indices: Vec<usize> = (0..MOST).collect();
            let kept = indices.iter().filter(kept).copied().max_by(by_speed);
            let ends_soon =
                left_s.is_some_and(|left_s| left_s < f64::max(0.3, 4.5 * server.round_trip_s));
            if kept.is_none() && ends_soon {
                return;
            }
            let closed = || self.wires.iter().position(|wire| wire.state == State::Closed);
            let Some(index) = kept.or_else(closed) else { return };
            let known = kept.map(|index| self.wires[index].speed).filter(|speed| *speed > 0.0);
            let Some(rest) = self.lease(known, limit, left_s.unwrap_or(1e9), count, rule) else {
                return;
            };
            let round_trips = if kept.is_some() { 1.0 } else { 3.0 };
            let late = server.latency_s * (0.7 + 0.6 * self.random.f64());
            let ready_s = self.now_s + round_trip_s * round_trips + late;
            if kept.is_none() {
                let factor = (server.spread * families::normal(&mut self.random)).exp();
                self.wires[index] = Wire::fresh(server.cap * factor);
            }
            let wire = &mut self.wires[index];
            (wire.rest, wire.had, wire.is_cut) = (rest, 0.0, false);
            wire.state = State::Asked { ready_s };
            self.outcome.requests += 1;
            let apart_s = rule.apart().as_secs_f64();
            if apart_s > 0.0 {
                self.next_request_s = self.now_s + apart_s;
            }
        }
    }

    /// How much a connection of `known` speed gets, and from whom.
    fn lease(
        &mut self,
        known: Option<f64>,
        limit: usize,
        left_s: f64,
        count: Count,
        rule: &dyn Rule,
    ) -> Option<f64> {
        let latency_s = self.server.round_trip_s + self.server.latency_s;
        if self.pool > 0.0 {
            let want = match known {
                _ if !self.opened => 4.0 * MIB,
                None => (self.pool / rule.parts()).clamp(MIB, 16.0 * MIB),
                Some(speed) => {
                    let fair = speed * left_s;
                    let want = (speed * 4.0).min(256.0 * MIB / limit as f64);
                    let want = want.max(speed * latency_s * 50.0);
                    if fair < 1.5 * want { fair } else { want }.max(MIB)
                }
            };
            let lease = want.min(self.pool);
            self.pool -= lease;
            return Some(lease);
        }
        let ends_in = |wire: &Wire| wire.rest / wire.speed.max(1.0);
        let latest = self
            .wires
            .iter_mut()
            .filter(|wire| matches!(wire.state, State::Delivers { .. }) && wire.rest > 131_072.0)
            .max_by(|a, b| ends_in(a).total_cmp(&ends_in(b)))
            .filter(|wire| ends_in(wire) > f64::max(0.4, 3.0 * latency_s))?;
        let speed = known.unwrap_or(count.speed / count.flowing.max(1) as f64);
        let share = (speed / (speed + latest.speed)).clamp(0.3, 0.98);
        let lease = latest.rest * share;
        latest.rest -= lease;
        latest.is_cut = true;
        Some(lease)
    }

    fn answer(&mut self, rule: &mut dyn Rule) {
        let server = self.server;
        for index in 0..MOST {
            let State::Asked { ready_s } = self.wires[index].state else { continue };
            if self.now_s < ready_s {
                continue;
            }
            let count = self.count();
            let (full, at_s) = self.excess;
            let full = (full - server.requests.0 * (self.now_s - at_s)).max(0.0) + 1.0;
            let wire = &mut self.wires[index];
            if full > server.requests.1 + 1.0 || count.flowing as f64 >= server.connections {
                self.pool += wire.rest;
                wire.rest = 0.0;
                wire.state = if server.resets { State::Closed } else { State::Kept };
                self.outcome.refused += 1;
                let others = count.active() - 1;
                rule.refused(others, Duration::from_secs_f64(self.now_s));
                if others == 0 {
                    self.next_request_s = self.now_s + 1.0;
                }
            } else {
                self.excess = (full, self.now_s);
                wire.state = State::Delivers { since_s: self.now_s };
                self.opened = true;
            }
        }
    }

    /// One step of all that flows.
    fn flow(&mut self, capacity: f64, round_trip_s: f64) {
        let server = self.server;
        let now_s = self.now_s;
        let flowing = self.count().flowing as f64;
        let demands: Vec<f64> =
            self.wires.iter().map(|it| it.demand(server, now_s, round_trip_s)).collect();
        let demand: f64 = demands.iter().sum();
        let (rate, holds) = server.police;
        self.tokens = (self.tokens + rate * STEP_S).min(holds);
        let disk = server.disk / (1.0 + server.seek * f64::max(flowing - 1.0, 0.0));
        let total = disk.min(self.tokens / STEP_S);
        let served = if demand > 0.0 { (total / demand).min(1.0) } else { 1.0 };
        let arriving = demand * served;
        let mine = flowing.max(1.0);
        let available = capacity * mine / (mine + server.cross);
        let out =
            if arriving > 0.0 { (arriving + self.queue / STEP_S).min(available) } else { 0.0 };
        self.queue += (arriving - available) * STEP_S;
        let dropped = (self.queue - server.buffer_bytes).max(0.0) / (arriving * STEP_S).max(1.0);
        self.queue = self.queue.clamp(0.0, server.buffer_bytes);
        self.tokens -= out.min(arriving) * STEP_S;
        let share = if arriving > 0.0 { out / arriving } else { 0.0 };
        let queued_s = self.queue / server.capacity;
        for (wire, demand) in self.wires.iter_mut().zip(demands) {
            if !matches!(wire.state, State::Delivers { .. }) {
                continue;
            }
            let sent = demand * served;
            let bytes = (sent * share * STEP_S).min(wire.rest);
            wire.take(bytes);
            self.received += bytes;
            let some = |each: f64, bytes: f64, random: &mut fastrand::Rng| {
                each > 0.0 && random.f64() < -((1.0 - each).ln() * bytes / SEGMENT).exp_m1()
            };
            let congested = some(dropped.min(0.999), sent * STEP_S, &mut self.random);
            let lost = some(server.loss, bytes, &mut self.random);
            if (congested || lost) && now_s > wire.seen_until_s {
                self.losses += 1;
                wire.seen_until_s = now_s + round_trip_s;
            }
            let hit = congested || lost && !server.bbr;
            wire.grow(hit, sent, now_s, round_trip_s, queued_s, server);
            if wire.rest <= 1.0 {
                self.received += wire.rest;
                wire.rest = 0.0;
                wire.state = if wire.is_cut { State::Closed } else { State::Kept };
            }
        }
    }
}
