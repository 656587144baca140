//! What the rule promises of any server: each property on many servers, in simulated time.

use super::simulation::study::{Cost, Scenario, Summary};
use super::simulation::{FAMILIES, Family, Today};
use super::*;

const STEP: Duration = Duration::from_millis(20);

/// A server that brings `rate(connections, seconds)` bytes a second at once.
struct Steady<R> {
    rate: R,
    received: f64,
    now: Duration,
    losses: f64,
    left_s: f64,
}

impl<R: Fn(usize, f64) -> f64> Steady<R> {
    fn new(rate: R) -> Self {
        Self { rate, received: 0.0, now: Duration::ZERO, losses: 0.0, left_s: 60.0 }
    }

    /// One step, in which each of the connections loses the part `loss` of its segments.
    fn step(&mut self, auto: &mut Concurrency, loss: f64) {
        let limit = auto.limit();
        self.now += STEP;
        let bytes = (self.rate)(limit, self.now.as_secs_f64()) * STEP.as_secs_f64();
        self.received += bytes;
        self.losses += loss * bytes / 1448.0;
        let path =
            Path { losses: self.losses as u64, round_trip_s: 0.05, least_round_trip_s: 0.05 };
        let flow = Flow {
            received_bytes: self.received as u64,
            active: limit,
            flowing: limit,
            round_trip_s: 0.05,
            left_s: Some(self.left_s),
            pause_s: 0.0,
            path: (loss > 0.0).then_some(path),
        };
        auto.observe(flow, self.now);
    }

    fn run(&mut self, auto: &mut Concurrency, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while self.now < end {
            self.step(auto, 0.0);
        }
    }
}

fn auto() -> Concurrency {
    Concurrency::new(Connections::Auto)
}

/// A figure that wavers by up to a tenth with time.
fn wavering(t: f64) -> f64 {
    1.0 + 0.03 * (7.0 * t).sin() + 0.02 * (31.0 * t).sin()
}

#[test]
fn the_limit_stays_in_its_bounds() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let most = random.usize(1..=64);
        let mut auto = Concurrency::new(Connections::AutoUpTo(most));
        let each = 1e5 * 100f64.powf(random.f64());
        let mut server = Steady::new(|connections, t| each * connections as f64 * wavering(t));
        // With this loss, Mathis allows what each brings.
        let lossy = random.bool();
        let loss = if lossy { (1.22 * 1448.0 / (0.05 * each)).powi(2).min(0.5) } else { 0.0 };
        let refuses_at = random.usize(200..2000);
        let (mut reached, mut refused) = (0, false);
        for step in 0..2000 {
            server.step(&mut auto, loss);
            let limit = auto.limit();
            assert!((1..=most).contains(&limit), "{limit} of {most}");
            assert!(lossy && !refused || limit <= 16, "{limit} without a loss, or refused");
            if step == refuses_at {
                auto.refused(random.usize(0..limit), server.now);
                refused = true;
            }
            reached = reached.max(limit);
        }
        if lossy && refuses_at > 800 {
            assert_eq!(reached, most, "losses ask for more");
        }
    }
}

#[test]
fn a_concave_rate_is_climbed() {
    let most = 1e8;
    let rates: [(&str, &dyn Fn(f64) -> f64); 5] = [
        ("linear", &|n| n / 16.0),
        ("capped at 3", &|n| (n / 3.0).min(1.0)),
        ("capped at 12", &|n| (n / 12.0).min(1.0)),
        ("shared with 4", &|n| n / (n + 4.0)),
        ("root", &|n| (n / 16.0).sqrt()),
    ];
    for (name, rate) in rates {
        let mut auto = auto();
        let mut server = Steady::new(|n, t| most * rate(n as f64) * wavering(t));
        server.run(&mut auto, 20.0);
        let part = rate(auto.limit() as f64) / rate(16.0);
        assert!(part >= 0.9, "{name}: {part} with {}", auto.limit());
    }
}

#[test]
fn a_falling_rate_is_descended() {
    for slows in [0.05, 0.1, 0.3] {
        let mut auto = auto();
        let mut server = Steady::new(|n, t| 1e8 / (1.0 + slows * (n as f64 - 1.0)) * wavering(t));
        server.run(&mut auto, 20.0);
        assert!(auto.limit() <= 2, "{} at {slows}", auto.limit());
    }
}

/// The mean number of connections in 20 s, of a server that sends a MiB on each and then pauses, as
/// nginx does for `limit_rate`. Every 4 s there are new responses, which show no pause at first.
fn of_chunks(mut auto: Concurrency, pause: Duration) -> f64 {
    let (mut now, mut received_bytes, mut sum, mut steps) = (Duration::ZERO, 0, 0, 0);
    let mut next_chunks: Vec<Duration> = Vec::new();
    while now < Duration::from_secs(20) {
        now += STEP;
        next_chunks.resize(auto.limit(), now);
        for next in next_chunks.iter_mut().filter(|next| **next <= now) {
            received_bytes += 1 << 20;
            *next += pause;
        }
        let shows = now.as_millis() % 4000 > pause.as_millis();
        auto.observe(
            Flow {
                received_bytes,
                active: auto.limit(),
                flowing: auto.limit(),
                round_trip_s: 0.001,
                left_s: Some(60.0),
                pause_s: if shows { pause.as_secs_f64() } else { 0.0 },
                path: None,
            },
            now,
        );
        (sum, steps) = (sum + auto.limit(), steps + 1);
    }
    sum as f64 / f64::from(steps)
}

#[test]
fn chunks_with_pauses_between_them_are_no_change_of_speed() {
    for pause in [100, 250, 330, 500, 700, 1000].map(Duration::from_millis) {
        let mut knows = auto();
        knows.remember(Learned { connections: 16, why: Bound::Connection });
        for auto in [auto(), knows] {
            let mean = of_chunks(auto, pause);
            assert!(mean > 12.0, "{mean} with pauses of {pause:?}");
        }
    }
}

#[test]
fn what_a_burst_hid_is_seen_when_it_is_over() {
    for burst_s in [0.5, 1.0, 2.0, 5.0, 10.0] {
        let mut auto = auto();
        let rate = |n: usize, t: f64| if t < burst_s { 1e8 } else { 1e6 * n as f64 };
        let mut server = Steady::new(|n, t| rate(n, t) * wavering(t));
        server.run(&mut auto, burst_s + 3.0);
        assert_eq!(auto.limit(), 16, "after a burst of {burst_s} s");
    }
}

#[test]
fn a_limit_is_met_seldom() {
    for bears in 1..=12 {
        let mut auto = auto();
        let mut server = Steady::new(|n, t| 1e6 * n as f64 * wavering(t));
        let mut refused = 0;
        for _ in 0..50 * 300 {
            server.step(&mut auto, 0.0);
            if auto.limit() > bears {
                refused += 1;
                auto.refused(bears, server.now);
                assert_eq!(auto.limit(), bears);
            }
            let seconds = server.now.as_secs_f64();
            assert!(f64::from(refused) <= 6.0 + seconds.max(1.0).log2(), "{refused} at {seconds}");
        }
        assert!(refused >= 2, "it asks again");
        let learned = auto.learned().expect("something");
        assert_eq!(learned, Learned { connections: bears, why: Bound::Server });
    }
}

/// Few servers of each kind, others than in the table of decision 059.
const SEEDS: std::ops::Range<u64> = 900_000..900_016;

fn on_all(cost: impl Fn(&Scenario) -> Cost) -> Vec<(Family, Summary)> {
    let of = |family| {
        let costs: Vec<Cost> = SEEDS.map(|seed| cost(&Scenario::new(family, seed))).collect();
        (family, Summary::of(&costs))
    };
    FAMILIES.into_iter().map(of).collect()
}

#[test]
fn it_takes_little_longer_than_the_best_number() {
    let most = Connections::AutoUpTo(64);
    let all = on_all(|server| server.cost(&mut Concurrency::new(most)));
    for (family, regret) in &all {
        let (median, p95) = match family {
            Family::Loss => (1.5, 3.0),
            Family::Fat | Family::Small | Family::Seek => (1.25, 1.8),
            _ => (1.1, 1.7),
        };
        assert!(regret.median <= median && regret.p95 <= p95, "{}: {regret:?}", family.name());
    }
    let mean = all.iter().map(|it| it.1.log_mean).sum::<f64>() / all.len() as f64;
    assert!(mean.exp() < 1.075, "{}", mean.exp());
}

#[test]
fn a_simulated_download_is_the_same_each_time() {
    let cost = || {
        let server = Scenario::new(Family::Wifi, 1);
        server.cost(&mut Today::judging_once()).outcome.seconds
    };
    assert_eq!(cost().to_bits(), cost().to_bits());
}

#[test]
fn a_fixed_number_gets_back_what_was_refused() {
    let quiet = Flow {
        received_bytes: 0,
        active: 4,
        flowing: 0,
        round_trip_s: 0.1,
        left_s: None,
        pause_s: 0.0,
        path: None,
    };
    let mut fixed = Concurrency::new(Connections::Fixed(8));
    assert!(fixed.refused(4, Duration::ZERO));
    assert_eq!(fixed.limit(), 4);
    fixed.observe(quiet, Duration::from_secs(1));
    assert_eq!(fixed.limit(), 4);
    fixed.observe(quiet, Duration::from_secs(60));
    assert_eq!(fixed.limit(), 5);
    assert!(fixed.refused(0, Duration::from_secs(61)));
    assert_eq!(fixed.limit(), 1);
}

#[test]
fn only_a_refusal_that_was_confirmed_is_remembered() {
    let mut first = auto();
    first.refused(2, Duration::ZERO);
    assert_eq!((first.limit(), first.learned()), (2, None));
    let mut server = Steady::new(|n, t| 1e6 * n as f64 * wavering(t));
    while first.limit() <= 2 {
        server.step(&mut first, 0.0);
    }
    first.refused(2, server.now);
    let learned = first.learned().expect("something");
    assert_eq!(learned, Learned { connections: 2, why: Bound::Server });

    let mut next = auto();
    next.remember(learned);
    Steady::new(|n, t| 1e6 * n as f64 * wavering(t)).run(&mut next, 4.0);
    assert_eq!(next.limit(), 2);
    assert_eq!(next.shown(), Some(LimitedBy::Server { connections: 2 }));
}

#[test]
fn a_try_after_a_refusal_waits_until_it_is_wanted() {
    let at = Duration::from_secs;
    let mut refusals = Refusals::none(16);
    refusals.refused(4, at(0));
    assert!(!refusals.tick(true, at(9)), "too early");
    assert!(!refusals.tick(false, at(10)), "none is wanted");
    assert!(refusals.tick(true, at(12)), "it was due");
    assert_eq!(refusals.tolerated(), 5);
    assert!(!refusals.tick(true, at(13)), "one at a time");
}

#[test]
fn a_refusal_is_confirmed_soon() {
    for bears in 1..=12 {
        let mut auto = auto();
        let mut server = Steady::new(|n, t| 1e6 * n as f64 * wavering(t));
        let mut refused_at = Vec::new();
        while refused_at.len() < 2 {
            server.step(&mut auto, 0.0);
            if auto.limit() > bears {
                auto.refused(bears, server.now);
                refused_at.push(server.now);
            }
            assert!(server.now.as_secs() < 60, "{bears} are never confirmed");
        }
        let waited = refused_at[1] - refused_at[0];
        assert!(waited.as_secs_f64() < 12.0, "{bears} after {waited:?}");
    }
}

#[test]
fn what_was_learned_fades() {
    let day = Duration::from_secs(24 * 3600);
    let sixteen = Learned { connections: 16, why: Bound::Connection };
    let after = |days| sixteen.aged(day * days).map(|learned| learned.connections);
    assert_eq!([0, 1, 2, 30].map(after), [16, 12, 10, 8].map(Some));
    let two = Learned { connections: 2, why: Bound::Server };
    assert_eq!(two.aged(day / 2), Some(two));
    assert_eq!(two.aged(day), None);
}

#[test]
fn what_ends_soon_does_not_grow() {
    let mut auto = auto();
    let mut server = Steady::new(|n, _| 1e6 * n as f64);
    server.left_s = 0.5;
    server.run(&mut auto, 5.0);
    assert_eq!(auto.limit(), climb::START);
}
