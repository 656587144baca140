//! The planner in a simulated world: simulated time, simulated fetchers, and a
//! naive oracle that counts the stores of every byte.

use super::crew::{Crew, Task, resource, settings};
use super::*;
use crate::model::config::Connections;
use crate::model::error::ErrorKind;
use crate::model::response::{Lie, Verdict};

const SEGMENT: u64 = 1 << 20;

fn planner(connections: usize) -> Planner {
    Planner::new(settings(Connections::Fixed(connections)))
}

fn actions(planner: &mut Planner) -> Vec<Action> {
    std::iter::from_fn(|| planner.poll_action()).collect()
}

/// What becomes of one simulated connection.
struct Wire {
    answers_at: Duration,
    rate: u64,
    /// Stops sending after this many bytes, for ever.
    stalls_after: Option<u64>,
    /// Resets after this many bytes.
    resets_after: Option<u64>,
    sent: u64,
    answered: bool,
}

struct Sim {
    crew: Crew<Wire>,
    random: fastrand::Rng,
    /// The server grants at most this much at once.
    cap: u64,
    /// The planner must keep its leases within this of the first missing byte.
    reach: Option<u64>,
    requests: u64,
    faults: bool,
    /// What comes of every request but the first.
    beside: Option<Beside>,
}

/// What a server that serves a link once does with further requests.
#[derive(Clone, Copy)]
enum Beside {
    Denied(u16),
    Status(u16),
    Throttled,
    Whole,
    Silent,
    Unanswered,
}

impl Sim {
    fn new(seed: u64, faults: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let total = random.u64(1..40 * SEGMENT);
        let connections = random.usize(1..10);
        Self {
            crew: Crew::new(planner(connections), total, SEGMENT),
            random,
            cap: if seed.is_multiple_of(5) { 700_001 } else { u64::MAX },
            reach: None,
            requests: 0,
            faults,
            beside: None,
        }
    }

    fn carry_out(&mut self) {
        while let Some(task) = self.crew.next_task() {
            match task {
                Task::Fetch { lease, source, range } => {
                    assert!(range.is_some() || self.beside.is_some(), "this server has ranges");
                    let chance = |random: &mut fastrand::Rng, faults: bool| {
                        (faults && random.u8(..) < 40).then(|| random.u64(0..3 * SEGMENT))
                    };
                    self.requests += 1;
                    let reach = self.reach.unwrap_or(u64::MAX);
                    let range = range.unwrap_or(ByteRange::open(0));
                    let within = range.end() <= self.crew.frontier().0.saturating_add(reach);
                    assert!(within || range.is_open(), "{range}");
                    let wire = Wire {
                        answers_at: self.crew.now + Duration::from_millis(self.random.u64(1..200)),
                        rate: self.random.u64(20_000..20_000_000),
                        stalls_after: chance(&mut self.random, self.faults),
                        resets_after: chance(&mut self.random, self.faults),
                        sent: 0,
                        answered: false,
                    };
                    self.crew.send(lease, source, Some(range), wire);
                }
                Task::Close(_) => {}
                Task::Resolve { source, .. } => {
                    self.crew.planner.on_resolved(source, true, self.crew.now);
                }
            }
        }
        assert_eq!(self.crew.resets, 0, "nothing here asks for a restart");
    }

    fn step(&mut self) {
        const STEP: Duration = Duration::from_millis(50);
        self.crew.now += STEP;
        self.crew.planner.tick(self.crew.now);
        self.carry_out();
        let (now, total) = (self.crew.now, self.crew.total);
        for lease in self.crew.leases() {
            let Some(fetch) = self.crew.find(lease) else { continue };
            if !fetch.wire.answered {
                if now < fetch.wire.answers_at {
                    continue;
                }
                fetch.wire.answered = true;
                if let Some(beside) = self.beside.filter(|_| lease > 1) {
                    self.refuse(lease, beside);
                    continue;
                }
                let end = fetch.range.end().min(fetch.position.saturating_add(self.cap));
                fetch.range = ByteRange::new(fetch.position, end);
                let verdict =
                    Verdict::Partial { range: fetch.range, resource: resource(total, "a") };
                self.crew.planner.on_verdict(lease, verdict, now);
                self.carry_out();
                continue;
            }
            if fetch.storing.is_none() {
                continue;
            }
            let wire = &mut fetch.wire;
            let mut bytes = (wire.rate / 20).min(fetch.range.end() - fetch.position);
            if let Some(limit) = wire.stalls_after {
                bytes = bytes.min(limit.saturating_sub(wire.sent));
            }
            let reset = wire.resets_after.is_some_and(|limit| wire.sent + bytes >= limit);
            wire.sent += bytes;
            let done = fetch.position + bytes == fetch.range.end();
            if bytes > 0 {
                self.crew.store(lease, bytes);
                self.carry_out();
            }
            if done || reset {
                self.crew.take(lease);
                let end = if done {
                    LeaseEnd::Complete
                } else {
                    let failure = Failure::new(ErrorKind::Network, "reset");
                    LeaseEnd::Failed { failure, refused: true }
                };
                self.crew.planner.on_ended(lease, end, now);
            }
            self.carry_out();
        }
    }

    fn refuse(&mut self, lease: LeaseId, beside: Beside) {
        let (now, total) = (self.crew.now, self.crew.total);
        let verdict = match beside {
            Beside::Denied(status) => Verdict::Denied { status },
            Beside::Status(status) => {
                Verdict::Status { status, transient: status >= 500, retry_after: None }
            }
            Beside::Throttled => Verdict::Throttled { status: 503, retry_after: None },
            Beside::Whole => Verdict::Whole { resource: resource(total, "a") },
            Beside::Silent => return,
            Beside::Unanswered => {
                self.crew.take(lease);
                let failure = Failure::new(ErrorKind::Network, "closed");
                self.crew.planner.on_ended(lease, LeaseEnd::Unanswered(failure), now);
                return self.carry_out();
            }
        };
        self.crew.planner.on_verdict(lease, verdict, now);
        self.carry_out();
    }

    fn run(&mut self, at_most: Duration) {
        while !self.crew.is_over() {
            self.step();
            let Crew { now, planner, .. } = &self.crew;
            assert!(*now < at_most, "no end after {now:?}: {planner:?}");
        }
    }
}

#[test]
fn every_byte_is_fetched_once_and_it_ends_whatever_the_connections_do() {
    for seed in 0..3000 {
        let mut sim = Sim::new(seed, seed % 3 != 0);
        sim.run(Duration::from_secs(3600));
        assert_eq!(sim.crew.failed, None, "seed {seed}");
        assert!(sim.crew.all_is_here(), "seed {seed}");
        assert!(sim.crew.fetches.is_empty(), "seed {seed}: a fetch outlived the download");
    }
}

#[test]
fn a_link_that_is_good_for_one_request_brings_everything() {
    let all = [
        Beside::Denied(403),
        Beside::Denied(410),
        Beside::Status(404),
        Beside::Status(500),
        Beside::Throttled,
        Beside::Whole,
        Beside::Silent,
        Beside::Unanswered,
    ];
    for seed in 0..800 {
        let mut sim = Sim::new(seed, false);
        sim.cap = u64::MAX;
        sim.beside = Some(all[seed as usize % all.len()]);
        sim.run(Duration::from_secs(3600));
        assert_eq!(sim.crew.failed, None, "seed {seed}");
        assert!(sim.crew.all_is_here(), "seed {seed}");
        let seconds = sim.crew.now.as_secs();
        assert!(sim.requests <= 20 + 2 * seconds, "seed {seed}: {} requests", sim.requests);
    }
}

#[test]
fn leases_stay_near_the_frontier_where_a_digest_needs_the_bytes_in_order() {
    for seed in 0..1000 {
        let mut sim = Sim::new(seed, seed % 3 != 0);
        // Nine connections at most get two segments each in any case.
        sim.reach = Some(18 * SEGMENT);
        sim.crew.planner.stay_within(Some(Reach::Frontier(6 * SEGMENT)));
        sim.run(Duration::from_secs(3600));
        assert_eq!(sim.crew.failed, None, "seed {seed}");
        assert!(sim.crew.all_is_here(), "seed {seed}");
    }
}

#[test]
fn a_reader_gets_on_whatever_the_connections_do_and_however_small_its_window_is() {
    for seed in 0..1000 {
        let mut sim = Sim::new(seed, seed % 3 != 0);
        let bytes = (1 + seed % 3) * SEGMENT;
        while !sim.crew.is_over() {
            let given = sim.crew.frontier().1;
            sim.crew.planner.stay_within(Some(Reach::Window { bytes, given }));
            sim.step();
            assert!(sim.crew.now.as_secs() < 3600, "seed {seed}: no end, {given} given");
        }
        assert_eq!(sim.crew.failed, None, "seed {seed}");
        assert!(sim.crew.all_is_here(), "seed {seed}");
    }
}

#[test]
fn requests_cost_little_at_a_long_round_trip() {
    // 16 connections of 4 MB/s, 100 ms for each answer, 1 GiB.
    let mut sim = Sim::new(1, false);
    sim.crew = Crew::new(planner(16), 1 << 30, SEGMENT);
    sim.cap = u64::MAX;
    while !sim.crew.finished {
        sim.step();
        for fetch in &mut sim.crew.fetches {
            fetch.wire.rate = 4_000_000;
            let latest = sim.crew.now + Duration::from_millis(100);
            if !fetch.wire.answered {
                fetch.wire.answers_at = fetch.wire.answers_at.min(latest);
            }
        }
        assert!(sim.crew.now < Duration::from_secs(100));
    }
    let ideal = sim.crew.total as f64 / (16.0 * 4e6);
    // Each connection's share of requests, 100 ms each, in its time.
    let waiting = sim.requests as f64 / 16.0 * 0.1;
    assert!(waiting < 0.05 * ideal + 0.4, "{} requests, {waiting} s of {ideal}", sim.requests);
    assert!(sim.crew.now.as_secs_f64() < ideal * 1.15 + 0.5, "{:?} of {ideal}", sim.crew.now);
}

fn opened(connections: usize, total: u64) -> Planner {
    let mut planner = planner(connections);
    planner.tick(Duration::ZERO);
    assert!(matches!(actions(&mut planner)[..], [Action::Fetch { lease: 1, .. }]));
    let range = ByteRange::new(0, FIRST_RANGE_BYTES.min(total));
    let verdict = Verdict::Partial { range, resource: resource(total, "a") };
    planner.on_verdict(1, verdict, Duration::ZERO);
    actions(&mut planner);
    planner.on_opened(SEGMENT, &Restored::default(), Duration::ZERO);
    planner
}

#[test]
fn what_is_here_already_stays_though_the_first_response_ended_while_the_output_was_opened() {
    let mut planner = planner(4);
    planner.tick(Duration::ZERO);
    actions(&mut planner);
    let range = ByteRange::new(0, FIRST_RANGE_BYTES);
    let verdict = Verdict::Partial { range, resource: resource(64 * SEGMENT, "a") };
    planner.on_verdict(1, verdict, Duration::ZERO);
    actions(&mut planner);
    let failure = Failure::new(ErrorKind::Network, "reset");
    planner.on_ended(1, LeaseEnd::Failed { failure, refused: false }, Duration::ZERO);
    let restored = Restored { durable: (0..60).collect(), ..Restored::default() };
    planner.on_opened(SEGMENT, &restored, Duration::ZERO);
    let (mut now, mut ranges) = (Duration::ZERO, Vec::new());
    while ranges.is_empty() {
        ranges = steered::asked(&actions(&mut planner));
        now += Duration::from_millis(100);
        planner.tick(now);
        assert!(now < Duration::from_secs(60), "nothing is asked for");
    }
    assert!(ranges.iter().all(|range| range.start() >= 60 * SEGMENT), "{ranges:?}");
}

#[test]
fn failures_of_all_connections_together_are_one_round_and_end() {
    let mut now = Duration::ZERO;
    let mut planner = opened(8, 64 * SEGMENT);
    let mut rounds = 0;
    let failure = Failure::new(ErrorKind::Network, "unreachable");
    loop {
        let mut failed = false;
        let mut alive = Vec::new();
        for action in actions(&mut planner) {
            match action {
                Action::Fetch { lease, .. } | Action::Store { lease, .. } => alive.push(lease),
                Action::Retry { attempt, wait, .. } => {
                    rounds += 1;
                    assert_eq!(attempt, rounds);
                    assert!(wait <= Duration::from_secs(30));
                }
                Action::Fail(told) => {
                    assert_eq!(told, failure);
                    failed = true;
                }
                _ => {}
            }
        }
        if failed {
            break;
        }
        for lease in alive {
            let end = LeaseEnd::Failed { failure: failure.clone(), refused: true };
            planner.on_ended(lease, end, now);
        }
        now += Duration::from_millis(100);
        planner.tick(now);
        assert!(now < Duration::from_secs(600));
    }
    assert_eq!(rounds, 10);
}

#[test]
fn an_object_that_changes_twice_is_told() {
    let mut planner = opened(1, 64 * SEGMENT);
    actions(&mut planner);
    let now = Duration::from_secs(1);
    planner.on_received(1, FIRST_RANGE_BYTES, now);
    planner.on_ended(1, LeaseEnd::Complete, now);
    let [Action::Fetch { lease, conditional: true, .. }] = actions(&mut planner)[..] else {
        panic!("the next lease is conditional")
    };
    planner.on_verdict(lease, Verdict::Changed { seen: resource(63 * SEGMENT, "b") }, now);
    planner.on_ended(lease, LeaseEnd::Dropped, now);
    let told = actions(&mut planner);
    assert!(told.iter().any(|a| matches!(a, Action::Reset { forget_identity: true })), "{told:?}");
    let Some(Action::Fetch { lease, .. }) = told.last() else { panic!("{told:?}") };
    let range = ByteRange::new(0, FIRST_RANGE_BYTES);
    let verdict = Verdict::Partial { range, resource: resource(63 * SEGMENT, "b") };
    planner.on_verdict(*lease, verdict, now);
    planner.on_opened(SEGMENT, &Restored::default(), now);
    planner.on_received(*lease, FIRST_RANGE_BYTES, now);
    planner.on_ended(*lease, LeaseEnd::Complete, now);
    let told = actions(&mut planner);
    let Some(Action::Fetch { lease, .. }) = told.last() else { panic!("{told:?}") };
    planner.on_verdict(*lease, Verdict::Changed { seen: resource(62 * SEGMENT, "c") }, now);
    let told = actions(&mut planner);
    assert!(
        told.iter().any(|a| matches!(a, Action::Fail(f) if f.kind == ErrorKind::ObjectChanged)),
        "{told:?}"
    );
}

#[test]
fn a_content_coding_that_is_not_ours_says_nothing_of_a_later_lie() {
    let mut planner = opened(1, 64 * SEGMENT);
    actions(&mut planner);
    let mut now = Duration::from_secs(1);
    planner.on_received(1, FIRST_RANGE_BYTES, now);
    planner.on_ended(1, LeaseEnd::Complete, now);
    let coding = || Lie::EncodingDiffers { expected: None, got: Some("gzip".to_owned()) };
    let whole = || Verdict::Whole { resource: resource(64 * SEGMENT, "a") };
    for lie in [Verdict::Lie(coding()), Verdict::Lie(coding()), whole()] {
        let told = actions(&mut planner);
        let Some(Action::Fetch { lease, .. }) = told.last() else { panic!("{told:?}") };
        planner.on_verdict(*lease, lie, now);
        planner.on_ended(*lease, LeaseEnd::Dropped, now);
        now += Duration::from_secs(10);
        planner.tick(now);
    }
    let told = actions(&mut planner);
    assert!(told.iter().any(|a| matches!(a, Action::Reset { forget_identity: false })), "{told:?}");
}

#[test]
fn the_pause_that_a_server_asks_for_holds_for_all_connections() {
    let mut planner = opened(2, 64 * SEGMENT);
    let first: Vec<Action> = actions(&mut planner);
    let lease = first
        .iter()
        .find_map(|a| if let Action::Fetch { lease, .. } = a { Some(*lease) } else { None })
        .expect("a second connection");
    let now = Duration::from_millis(10);
    let retry_after = Some(Duration::from_secs(3));
    planner.on_verdict(lease, Verdict::Throttled { status: 503, retry_after }, now);
    planner.on_ended(lease, LeaseEnd::Dropped, now);
    planner.on_received(1, FIRST_RANGE_BYTES, now);
    planner.on_ended(1, LeaseEnd::Complete, now);
    let quiet = actions(&mut planner);
    assert!(!quiet.iter().any(|a| matches!(a, Action::Fetch { .. })), "{quiet:?}");
    planner.tick(Duration::from_millis(2900));
    assert!(actions(&mut planner).is_empty());
    planner.tick(Duration::from_millis(3100));
    assert!(actions(&mut planner).iter().any(|a| matches!(a, Action::Fetch { .. })));
}

#[test]
fn a_stalled_lease_goes_to_another_connection() {
    let mut planner = opened(1, 64 * SEGMENT);
    actions(&mut planner);
    planner.on_received(1, SEGMENT / 2, Duration::from_secs(1));
    planner.tick(Duration::from_secs(7));
    assert!(actions(&mut planner).contains(&Action::Cancel { lease: 1 }));
    planner.on_ended(1, LeaseEnd::Dropped, Duration::from_secs(7));
    let told = actions(&mut planner);
    let Some(Action::Fetch { range: Some(range), .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!(range.start(), SEGMENT / 2, "the prefix is kept");
}

fn limits(planner: &mut Planner) -> usize {
    let told = actions(planner);
    told.iter().filter(|a| matches!(a, Action::Notice(NoticeCode::ConnectionLimit, _))).count()
}

fn refused() -> LeaseEnd {
    LeaseEnd::Failed {
        failure: Failure::new(ErrorKind::Network, "connection refused"),
        refused: true,
    }
}

#[test]
fn a_refusal_is_the_servers_limit_only_if_others_still_deliver() {
    let mut planner = opened(4, 64 * SEGMENT);
    assert_eq!(planner.active(), 4);
    planner.on_received(1, 1000, Duration::from_millis(500));
    planner.on_ended(4, refused(), Duration::from_millis(600));
    // It was on its way already.
    planner.on_received(1, 1000, Duration::from_millis(700));
    assert_eq!((limits(&mut planner), planner.limit()), (0, 4));
    planner.on_received(1, 1000, Duration::from_millis(950));
    assert_eq!((limits(&mut planner), planner.limit()), (1, 3));
}

#[test]
fn a_server_that_goes_away_has_no_limit() {
    let mut planner = opened(4, 64 * SEGMENT);
    for (lease, ms) in [(4, 600), (3, 620), (2, 700), (1, 2000)] {
        planner.on_ended(lease, refused(), Duration::from_millis(ms));
    }
    assert_eq!((limits(&mut planner), planner.limit()), (0, 4));
    planner.tick(Duration::from_secs(60));
    let again = actions(&mut planner);
    let leases: Vec<_> = again
        .iter()
        .filter_map(|a| match a {
            Action::Fetch { lease, .. } => Some(*lease),
            _ => None,
        })
        .collect();
    assert_eq!(leases.len(), 4, "{again:?}");
    planner.on_received(leases[0], 1000, Duration::from_secs(70));
    assert_eq!((limits(&mut planner), planner.limit()), (0, 4));
}

#[test]
fn connections_that_stall_in_turn_are_rounds_and_end() {
    let mut planner = opened(4, 64 * SEGMENT);
    let mut now = Duration::ZERO;
    let mut rounds = 0;
    let mut alive: VecDeque<LeaseId> = VecDeque::from([1, 2, 3, 4]);
    // One at a time, so that never all of them are gone.
    'all: for _ in 0..1000 {
        now += Duration::from_millis(2500);
        planner.tick(now);
        for action in actions(&mut planner) {
            match action {
                Action::Fetch { lease, .. } if !alive.contains(&lease) => alive.push_back(lease),
                Action::Retry { .. } => rounds += 1,
                Action::Fail(_) => break 'all,
                _ => {}
            }
        }
        if alive.len() > 1
            && let Some(lease) = alive.pop_front()
        {
            planner.on_ended(lease, refused(), now);
        }
    }
    assert_eq!(rounds, 10, "it ends after as many rounds as the policy has");
}

#[test]
fn the_first_byte_is_waited_for_as_long_as_browsers_wait() {
    let mut planner = planner(4);
    planner.tick(Duration::ZERO);
    assert!(matches!(actions(&mut planner)[..], [Action::Fetch { lease: 1, .. }]));
    let mut notices = 0;
    for second in 1..300 {
        planner.tick(Duration::from_secs(second));
        for action in actions(&mut planner) {
            assert!(matches!(action, Action::Notice(NoticeCode::FirstByte, _)), "{action:?}");
            notices += 1;
        }
    }
    assert_eq!(notices, 1);
    planner.tick(Duration::from_secs(300));
    assert_eq!(actions(&mut planner), [Action::Cancel { lease: 1 }]);
    // Once more, then it is given up.
    planner.on_ended(1, LeaseEnd::Dropped, Duration::from_secs(300));
    assert!(matches!(actions(&mut planner)[..], [Action::Retry { attempt: 1, .. }]));
    planner.tick(Duration::from_secs(302));
    assert!(matches!(actions(&mut planner)[..], [Action::Fetch { lease: 2, .. }]));
    planner.tick(Duration::from_secs(700));
    assert_eq!(actions(&mut planner), [Action::Cancel { lease: 2 }]);
    planner.on_ended(2, LeaseEnd::Dropped, Duration::from_secs(700));
    assert!(matches!(actions(&mut planner)[..], [Action::Fail(_)]));
}

#[path = "planner/steered_tests.rs"]
mod steered;

#[path = "planner/prelude_tests.rs"]
mod prelude;
