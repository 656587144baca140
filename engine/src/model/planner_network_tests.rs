//! The planner on simulated networks: how far a download is from the fluid
//! limit, the size divided by the sum of what all connections can carry.
//!
//! The clock is simulated, so the figures are the same on every machine. The
//! server has slots: a connection takes the best free one when it is made and
//! frees it when it is closed, which every response that is given up does.

use super::crew::{Crew, Task, resource, settings};
use super::*;
use crate::model::config::Connections;
use crate::model::error::ErrorKind;
use crate::model::response::Verdict;
use crate::model::segment::choose_segment_size;

const STEP: Duration = Duration::from_millis(2);
const MIB: u64 = 1 << 20;

/// What may happen to a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Fine,
    /// It is reset after a random 1 to 8 MiB.
    Resets,
    /// One in five falls silent after 1 MiB.
    Hangs,
}

struct Network {
    total: u64,
    /// One for each connection that the server bears, in bytes a second.
    slots: Vec<f64>,
    /// What all connections can carry together, in bytes a second.
    link: f64,
    round_trip: Duration,
    fate: Fate,
    /// Connections for which there is no slot are closed without an answer.
    closes: bool,
}

impl Network {
    fn capped(total: u64, rate: f64) -> Self {
        let round_trip = Duration::from_millis(1);
        let (slots, link) = (vec![rate; 64], f64::MAX);
        Self { total, slots, link, round_trip, fate: Fate::Fine, closes: false }
    }

    fn run(self, connections: Connections) -> Course {
        Simulation::new(self, connections).run()
    }
}

/// What a download was.
#[derive(Debug)]
struct Course {
    elapsed_s: f64,
    sent: u64,
    requests: u64,
    refused: u64,
    /// When so many connections were first at work.
    reached: Vec<f64>,
    why: Option<LimitedBy>,
    limit: usize,
}

impl Course {
    /// How much longer than `limit_s` it took.
    fn over(&self, limit_s: f64) -> f64 {
        self.elapsed_s / limit_s
    }
}

struct Wire {
    slot: usize,
    measured: f64,
    breaks_after: Option<u64>,
    sent: u64,
}

/// A request on a wire, if the server had a slot for one.
struct Transfer {
    wire: Option<Wire>,
    head_at: Duration,
    answered: bool,
    credit: f64,
}

struct Simulation {
    network: Network,
    crew: Crew<Transfer>,
    random: fastrand::Rng,
    made: u64,
    busy_slots: Vec<bool>,
    idle: Vec<Wire>,
    course: Course,
}

impl Simulation {
    fn new(network: Network, connections: Connections) -> Self {
        let stall_timeout = Duration::from_secs(30);
        let planner = Planner::new(Settings { stall_timeout, ..settings(connections) });
        Self {
            crew: Crew::new(planner, network.total, choose_segment_size(network.total)),
            random: fastrand::Rng::with_seed(7),
            made: 0,
            busy_slots: vec![false; network.slots.len()],
            idle: Vec::new(),
            course: Course {
                elapsed_s: 0.0,
                sent: 0,
                requests: 0,
                refused: 0,
                reached: Vec::new(),
                limit: 0,
                why: None,
            },
            network,
        }
    }

    /// The fastest of the idle connections, as the pool does it, or a new one.
    fn wire(&mut self) -> (Option<Wire>, Duration) {
        let fastest = (0..self.idle.len())
            .max_by(|a, b| self.idle[*a].measured.total_cmp(&self.idle[*b].measured));
        if let Some(at) = fastest {
            return (Some(self.idle.swap_remove(at)), self.network.round_trip);
        }
        let slot = self.busy_slots.iter().position(|busy| !busy);
        if let Some(slot) = slot {
            self.busy_slots[slot] = true;
        }
        self.made += 1;
        let breaks_after = match self.network.fate {
            Fate::Fine => None,
            Fate::Resets => Some(self.random.u64(MIB..8 * MIB)),
            Fate::Hangs => (self.made % 5 == 3).then_some(MIB),
        };
        let wire = slot.map(|slot| Wire { slot, measured: 0.0, breaks_after, sent: 0 });
        (wire, self.network.round_trip * 2)
    }

    fn close(&mut self, transfer: Transfer) {
        if let Some(wire) = transfer.wire {
            self.busy_slots[wire.slot] = false;
        }
    }

    fn carry_out(&mut self) {
        while let Some(task) = self.crew.next_task() {
            match task {
                Task::Fetch { lease, source, range } => {
                    assert!(range.is_some(), "this server has ranges");
                    self.course.requests += 1;
                    let (wire, delay) = self.wire();
                    let head_at = self.crew.now + delay;
                    let transfer = Transfer { wire, head_at, answered: false, credit: 0.0 };
                    self.crew.send(lease, source, range, transfer);
                }
                Task::Close(fetch) => self.close(fetch.wire),
                Task::Resolve { source, .. } => {
                    self.crew.planner.on_resolved(source, true, self.crew.now);
                }
            }
        }
        assert_eq!((&self.crew.failed, self.crew.resets), (&None, 0));
    }

    fn step(&mut self) {
        self.crew.now += STEP;
        if self.crew.now.as_millis().is_multiple_of(100) {
            self.crew.planner.tick(self.crew.now);
        }
        self.carry_out();
        let flowing = self.crew.fetches.iter().filter(|it| it.storing.is_some());
        let rate = |wire: &Wire| self.network.slots[wire.slot];
        let demand: f64 = flowing.filter_map(|it| Some(rate(it.wire.wire.as_ref()?))).sum();
        let share = (self.network.link / demand.max(1.0)).min(1.0);
        for lease in self.crew.leases() {
            self.advance(lease, share);
            self.carry_out();
        }
        let flowing = self.crew.fetches.iter().filter(|it| it.storing.is_some()).count();
        while self.course.reached.len() < flowing {
            self.course.reached.push(self.crew.now.as_secs_f64());
        }
    }

    fn advance(&mut self, lease: LeaseId, share: f64) {
        let now = self.crew.now;
        let Some(fetch) = self.crew.find(lease) else { return };
        let it = &mut fetch.wire;
        if !it.answered && now >= it.head_at {
            it.answered = true;
            if it.wire.is_none() {
                self.course.refused += 1;
                if self.network.closes {
                    self.crew.take(lease);
                    let failure = Failure::new(ErrorKind::Network, "closed");
                    let end = LeaseEnd::Failed { failure, refused: true };
                    return self.crew.planner.on_ended(lease, end, now);
                }
                let verdict = Verdict::Throttled { status: 503, retry_after: None };
                return self.crew.planner.on_verdict(lease, verdict, now);
            }
            let resource = resource(self.network.total, "a");
            let verdict = Verdict::Partial { range: fetch.range, resource };
            return self.crew.planner.on_verdict(lease, verdict, now);
        }
        let Some(wire) = it.wire.as_mut().filter(|_| fetch.storing.is_some()) else { return };
        it.credit += self.network.slots[wire.slot] * share * STEP.as_secs_f64();
        let mut bytes = (it.credit as u64).min(fetch.range.end() - fetch.position);
        if let Some(limit) = wire.breaks_after {
            bytes = bytes.min(limit - wire.sent);
        }
        it.credit = (it.credit - bytes as f64).min(1.0);
        wire.sent += bytes;
        let broken = wire.breaks_after == Some(wire.sent);
        let done = fetch.position + bytes == fetch.range.end();
        self.course.sent += bytes;
        if bytes > 0 {
            self.crew.store(lease, bytes);
        }
        let reset = broken && self.network.fate == Fate::Resets;
        if !done && !reset {
            return;
        }
        let Some(fetch) = self.crew.take(lease) else { return };
        let mut it = fetch.wire;
        let mut end = LeaseEnd::Complete;
        match it.wire.take_if(|_| done && fetch.position == fetch.asked_end) {
            Some(mut wire) => {
                let seconds = (now - fetch.storing.unwrap_or(now)).as_secs_f64();
                let bytes = fetch.position - fetch.range.start();
                if wire.measured == 0.0 || (seconds >= 0.1 && bytes >= MIB / 4) {
                    wire.measured = bytes as f64 / seconds.max(0.05);
                }
                self.idle.push(wire);
            }
            None if done => self.close(it),
            None => {
                self.close(it);
                let failure = Failure::new(ErrorKind::Network, "reset");
                end = LeaseEnd::Failed { failure, refused: true };
            }
        }
        self.crew.planner.on_ended(lease, end, now);
    }

    fn run(mut self) -> Course {
        self.crew.planner.tick(self.crew.now);
        while !self.crew.finished {
            self.step();
            let Crew { now, planner, .. } = &self.crew;
            assert!(*now < Duration::from_secs(600), "no end: {planner:?}");
        }
        self.course.elapsed_s = self.crew.now.as_secs_f64();
        self.course.limit = self.crew.planner.limit();
        self.course.why = self.crew.planner.limited_by(self.crew.now);
        self.course
    }
}

#[test]
fn connections_capped_alike_end_together() {
    for (total, rate) in
        [(256 * MIB, 4e6), (1024 * MIB, 8e6), (203 * MIB + 5, 2e6), (77 * MIB, 1e6)]
    {
        let course = Network::capped(total, rate).run(Connections::Fixed(16));
        assert!(course.over(total as f64 / (16.0 * rate)) < 1.05);
    }
}

#[test]
fn slow_connections_do_not_hold_the_end() {
    for total in [64 * MIB, 256 * MIB, 1024 * MIB] {
        let mut network = Network::capped(total, 0.0);
        // From 0.1 to 24 MB/s, in an order that says nothing.
        network.slots = (0..16).map(|i| 1e5 * 240f64.powf(f64::from(i * 7 % 16) / 15.0)).collect();
        let sum: f64 = network.slots.iter().sum();
        let course = network.run(Connections::Fixed(16));
        assert!(course.over(total as f64 / sum) < 1.15);
        assert_eq!(course.sent, total, "nothing is fetched twice");
        assert_eq!(course.refused, 0);
    }
}

#[test]
fn a_long_round_trip_costs_what_one_connection_pays() {
    for total in [64 * MIB, 256 * MIB, 1024 * MIB] {
        let mut network = Network::capped(total, 4e6);
        network.round_trip = Duration::from_millis(100);
        // Two round trips before the first byte of the first connection.
        let limit = 0.2 + total as f64 / (16.0 * 4e6);
        let course = network.run(Connections::Fixed(16));
        assert!(course.over(limit) < if total == 64 * MIB { 1.3 } else { 1.10 });
    }
}

#[test]
fn resets_cost_no_byte_and_no_wait() {
    let lossless = Network::capped(256 * MIB, 8e6).run(Connections::Fixed(8));
    let mut network = Network::capped(256 * MIB, 8e6);
    network.fate = Fate::Resets;
    let lossy = network.run(Connections::Fixed(8));
    assert!(lossy.over(lossless.elapsed_s) < 1.2);
    assert_eq!(lossy.sent, 256 * MIB);
}

#[test]
fn silent_connections_are_relieved_long_before_they_time_out() {
    let clean = Network::capped(256 * MIB, 8e6).run(Connections::Fixed(8));
    let mut network = Network::capped(256 * MIB, 8e6);
    network.fate = Fate::Hangs;
    assert!(network.run(Connections::Fixed(8)).over(clean.elapsed_s) < 1.5);
}

#[test]
fn refusals_beyond_a_limit_cost_little() {
    let four = Network::capped(256 * MIB, 8e6).run(Connections::Fixed(4));
    for connections in [Connections::Fixed(16), Connections::Auto] {
        let mut network = Network::capped(256 * MIB, 8e6);
        network.slots.truncate(4);
        let course = network.run(connections);
        assert!(course.over(four.elapsed_s) < 1.1);
        assert!(course.limit <= 5);
    }
}

/// Also where the leases at work end while refusals are fresh: what was kept works on.
#[test]
fn connections_that_are_closed_without_an_answer_cost_little() {
    for (slots, size_mib) in [(2, 32), (2, 64), (3, 48), (4, 64), (6, 96)] {
        for round_trip_ms in [1, 40, 100] {
            let mut network = Network::capped(size_mib * MIB, 4e6);
            network.slots.truncate(slots);
            network.closes = true;
            network.round_trip = Duration::from_millis(round_trip_ms);
            let limit_s = network.total as f64 / (slots as f64 * 4e6);
            let course = network.run(Connections::Auto);
            assert!(course.over(limit_s) < 1.3);
            assert_eq!(course.limit, slots);
        }
    }
}

#[test]
fn auto_has_all_it_needs_within_a_second() {
    let total = 512 * MIB;
    let mut far = Network::capped(total, 4e6);
    far.round_trip = Duration::from_millis(100);
    for (network, limit_s, within_s) in [(Network::capped(total, 4e6), 0.0, 0.5), (far, 0.2, 1.2)] {
        let course = network.run(Connections::Auto);
        assert!(course.over(limit_s + total as f64 / (16.0 * 4e6)) < 1.12);
        assert!(course.reached[15] < within_s);
        assert!(matches!(course.why, Some(LimitedBy::Connection { .. })));
    }
}

#[test]
fn auto_does_not_pile_up_connections_on_a_full_link() {
    let mut network = Network::capped(512 * MIB, 60e6);
    network.link = 100e6;
    let course = network.run(Connections::Auto);
    assert!(course.over(512.0 * MIB as f64 / 100e6) < 1.05);
    assert!(course.limit <= 8, "{}", course.limit);
    assert!(matches!(course.why, Some(LimitedBy::Link { .. })));
}
