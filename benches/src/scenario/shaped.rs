//! The scenarios on the race's own servers: what connections are worth when they differ.
//!
//! Everybody uses sixteen connections here, as far as it has a flag for that. Each scenario is a
//! [`Plan`]: the server's manners, how haul is called, and its bars.

use std::time::Duration;

use super::bar::{Bar, fastest_peer, lane, peak_bar};
use super::{Outcome, Venue, describe_place, seconds};
use crate::Failure;
use crate::args::Scenario;
use crate::contender::Manner;
use crate::servers::Shaped;
use crate::servers::shape::{Fault, ONE_IN_FIVE_HANGS, RESET_WITHIN, Shape, Speed, uneven_slots};
use crate::size::MIB;
use crate::track::{Course, Entry, Lane, Patience, race};

const CONNECTIONS: usize = 16;
/// How long a silent connection is borne in `stalls`, by everybody who can be told.
const STALL: Duration = Duration::from_secs(3);
const ONE_WAY: Duration = Duration::from_millis(50);
const MANY: &str = "-q --no-sync -x 16";
const AS_IT_IS: &str = "-q --no-sync";
const STALLING: &str = "-q --no-sync -x 16 --stall-timeout 3s";
const FOUR: &str = "-q --no-sync -x 4";
/// The suffix of the lane that meets no faults.
const CLEAN: &str = ", without faults";

/// A scenario.
struct Plan {
    shape: Shape,
    /// haul's ways.
    hauls: &'static [&'static str],
    /// Also run the first of them against the same server without faults.
    clean: bool,
    manner: Manner,
    /// What the least time is made of.
    limit: &'static str,
    /// What the limit has beside size through speed.
    ahead: Duration,
}

fn plan(scenario: Scenario) -> Plan {
    let usual = Plan {
        shape: Shape::capped(8 * MIB),
        hauls: &[MANY, AS_IT_IS],
        clean: false,
        manner: Manner { connections: Some(16), ..Manner::default() },
        limit: "size / (16 connections x 8 MiB/s)",
        ahead: Duration::ZERO,
    };
    match scenario {
        Scenario::Uneven => Plan {
            shape: Shape { speed: Speed::Slots(uneven_slots()), ..usual.shape },
            limit: "size / the sum of the 16 slots' speeds, 121.5 MB/s",
            ..usual
        },
        Scenario::Far => Plan {
            shape: Shape { one_way: ONE_WAY, ..Shape::capped(4_000_000) },
            limit: "a handshake's and a request's round trip of 100 ms each, \
                    and size / (16 connections x 4 MB/s)",
            ahead: ONE_WAY * 4,
            ..usual
        },
        Scenario::Lossy => Plan {
            shape: Shape { fault: RESET_WITHIN, ..usual.shape },
            clean: true,
            manner: Manner { stubborn: true, ..usual.manner },
            ..usual
        },
        Scenario::Stalls => Plan {
            shape: Shape { fault: ONE_IN_FIVE_HANGS, ..usual.shape },
            hauls: &[STALLING],
            clean: true,
            manner: Manner { stall: Some(STALL), stubborn: true, ..usual.manner },
            ..usual
        },
        Scenario::Limited => Plan {
            shape: Shape { most_connections: Some(4), ..Shape::capped(16 * MIB) },
            hauls: &[MANY, AS_IT_IS, FOUR],
            manner: Manner { stubborn: true, ..usual.manner },
            limit: "size / (4 connections x 16 MiB/s)",
            ..usual
        },
        _ => Plan {
            shape: Shape::capped(4 * MIB),
            limit: "size / (16 connections x 4 MiB/s)",
            ..usual
        },
    }
}

pub(super) fn run(
    scenario: Scenario,
    venue: &Venue<'_>,
    shuffle: &mut fastrand::Rng,
) -> Result<Outcome, Failure> {
    let plan = plan(scenario);
    let size = venue.size(scenario);
    let object = venue.object(size)?;
    let output = venue.work.join("out");
    let limit = plan.ahead
        + Duration::from_secs_f64(size as f64 / plan.shape.fluid_bytes_per_s(CONNECTIONS) as f64);

    let server = Shaped::start(&plan.shape, &object.path)?;
    let clean = Shape { fault: Fault::None, ..plan.shape.clone() };
    let clean = plan.clean.then(|| Shaped::start(&clean, &object.path)).transpose()?;
    let mut entries: Vec<Entry<'_>> = plan
        .hauls
        .iter()
        .map(|flags| venue.haul(flags))
        .chain(venue.peers(plan.manner))
        .map(|contender| Entry::one(contender, &server, &output, None))
        .collect();
    if let Some(clean) = &clean {
        let mut contender = venue.haul(plan.hauls[0]);
        contender.name.push_str(CLEAN);
        entries.push(Entry::one(contender, clean, &output, None));
    }
    let course = Course {
        guard: venue.origin.guard(),
        scenario: scenario.name(),
        output: output.clone(),
        keep: false,
        check: &|round, directory| object.check(round, directory),
        then_sync: false,
        // Fixed splits crawl for minutes here: seen once is enough.
        patience: Patience {
            limit: (limit * 5).max(Duration::from_secs(30)),
            once_above: limit * 3,
        },
    };
    let lanes = race(&course, &entries, venue.args.rounds, shuffle)?;
    let mut bars = bars(scenario, venue, &lanes, limit, size);
    bars.extend(peak_bar(&lanes, scenario.name()));
    Ok(Outcome {
        scenario: scenario.name(),
        size_bytes: size,
        files: 1,
        output: describe_place(&output),
        limit_s: Some(limit.as_secs_f64()),
        lanes,
        notes: vec![format!("the limit is {}: {}", seconds(limit), plan.limit)],
        bars,
    })
}

fn bars(
    scenario: Scenario,
    venue: &Venue<'_>,
    lanes: &[Lane],
    limit: Duration,
    size: u64,
) -> Vec<Bar> {
    let name = |flags: &str| venue.haul(flags).name;
    let wall = |name: &str| lane(lanes, name).and_then(Lane::wall);
    let to_limit = |bound: f64| {
        let what = format!("{}: wall of haul {MANY} to the limit", scenario.name());
        Bar::ratio_to(what, wall(&name(MANY)), limit.as_secs_f64(), bound)
    };
    let clean = |flags: &str| wall(&format!("{}{CLEAN}", name(flags)));
    match scenario {
        Scenario::Uneven => {
            let peer = fastest_peer(lanes, Lane::wall).map(|(peer, theirs)| {
                let what = format!("uneven: wall of haul {MANY} to that of {}", peer.name);
                Bar::ratio(what, wall(&name(MANY)), Some(theirs), 1.0)
            });
            std::iter::once(to_limit(1.15)).chain(peer).collect()
        }
        Scenario::Far => vec![to_limit(1.10)],
        Scenario::Lossy => {
            let fetched = lane(lanes, &name(MANY)).and_then(Lane::fetched_bytes);
            let fetched = fetched.map(|bytes| bytes as f64 / size as f64);
            let what = format!("lossy: wall of haul {MANY} to that without faults");
            vec![
                Bar::new("lossy: bytes fetched to the object's", fetched, 1.03, "x"),
                Bar::ratio(what, wall(&name(MANY)), clean(MANY), 1.2),
            ]
        }
        Scenario::Stalls => {
            // Without the clean run there is nothing to be within.
            let both = wall(&name(STALLING)).zip(clean(STALLING));
            let bound = STALL.as_secs_f64() + both.map_or(0.0, |(_, clean)| 1.2 * clean.min);
            let what = "stalls: wall; at most the stall timeout and 1.2 of the clean wall";
            let bar = Bar::new(what, both.map(|(mine, _)| mine.min), bound, "s");
            vec![Bar { median: both.map(|(mine, _)| mine.median), ..bar }]
        }
        Scenario::Limited => [MANY, AS_IT_IS]
            .map(|flags| {
                let what = format!("limited: wall of haul {flags} to that with -x 4");
                Bar::ratio(what, wall(&name(flags)), wall(&name(FOUR)), 1.1)
            })
            .into(),
        _ => vec![to_limit(1.05)],
    }
}
