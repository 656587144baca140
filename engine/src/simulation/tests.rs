//! What is asked of the simulation.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::faults::{Fault, Position, ROWS};
use super::world::{DATES, Injected, Link, Times, Version, World, lock};
use super::*;

mod rows;
mod whole_runs;

/// How many seeds a thorough run has; `HAUL_SEEDS` sets another number.
const SEEDS: u64 = 10_000;
/// Seeds for each row, position, number of times and version of HTTP.
pub(super) const SEEDS_OF_A_ROW: u64 = 10;

/// Each says whether it is HTTP/2.
pub(super) const VERSIONS: &[bool] =
    if cfg!(feature = "http2") { &[false, true] } else { &[false] };

fn object(random: &mut fastrand::Rng) -> Version {
    let segments = random.u64(0..24);
    let tagged = random.u8(..);
    Version {
        seed: random.u64(1..u64::from(u32::MAX)),
        len: segments * SEGMENT_BYTES + random.u64(0..SEGMENT_BYTES),
        etag: match tagged {
            0..30 => None,
            30..60 => Some("W/\"v1\"".to_owned()),
            _ => Some("\"v1\"".to_owned()),
        },
        last_modified: (!tagged.is_multiple_of(3)).then_some(DATES[1]),
        content_type: "video/mp4",
        digests: false,
    }
}

fn link(random: &mut fastrand::Rng) -> Link {
    let slowest = random.u64(20_000..2_000_000);
    Link {
        latency: Duration::from_millis(random.u64(0..300)),
        rates: (slowest, slowest * random.u64(1..20)),
        loss: if random.bool() { 0 } else { random.u64(20..400) },
    }
}

pub(super) fn wish(random: &mut fastrand::Rng) -> Wish {
    Wish {
        url: URL,
        per_host: None,
        segment_bytes: SEGMENT_BYTES,
        limit_rate_bytes_per_second: None,
        slow_disk: None,
        connections: match random.usize(0..10) {
            0 => Connections::default(),
            fixed => Connections::Fixed(fixed),
        },
        checksum: None,
        sync: random.u8(..) < 8,
        digest: true,
        seed: random.u64(..),
    }
}

/// Any object, at the end of any link, with faults at random.
pub(super) fn any_world(random: &mut fastrand::Rng) -> World {
    let version = object(random);
    let identified = version.etag.as_ref().is_some_and(|etag| !etag.starts_with("W/"));
    let mut world = World::new(random.u64(..), link(random), version);
    world.http2 = VERSIONS[random.usize(0..4) % VERSIONS.len()];
    world.one_request_each = random.u8(..) < 30;
    for _ in 0..random.usize(0..4) {
        let fault = ROWS[random.usize(0..ROWS.len())].fault;
        // What cannot be told apart is not asked for: a change under one
        // identity, and the first answer of all.
        let changes = matches!(fault, Fault::Changes | Fault::Unshown | Fault::MalformedTag);
        let malformed = world.faults.iter().any(|it| it.fault == Fault::MalformedTag);
        if changes && !identified || fault == Fault::Unshown && malformed {
            continue;
        }
        if fault == Fault::MalformedTag {
            world.malform_tag();
        }
        let mut positions = vec![Position::Early, Position::Late, Position::Last];
        if fault != Fault::Page {
            positions.extend([Position::First, Position::Anywhere]);
        }
        let position = positions[random.usize(0..positions.len())];
        let times = if random.bool() { Times::Once } else { Times::Always };
        // Without a digest nothing shows that a body was altered.
        world.versions[0].digests |= fault == Fault::AlteredBody;
        let injected = Injected::new(fault, position, times);
        if fault == Fault::Unshown {
            // Nothing else may take the tag from the other responses.
            world.faults = vec![injected];
            break;
        }
        world.faults.push(injected);
    }
    world
}

/// Everything about one seed: faults at random, kills at random, and at the end
/// an honest server, with which the same command must end well.
fn any_case(seed: u64) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let world = any_world(&mut random);
    let mut wish = wish(&mut random);
    // Where redirects lead elsewhere, connections are counted there.
    wish.per_host = wish.seed.is_multiple_of(3).then_some(wish.seed as usize % 4 + 1);
    let changes = world
        .faults
        .iter()
        .any(|injected| matches!(injected.fault, Fault::Changes | Fault::MalformedTag));
    if random.u8(..) < 40 && !changes {
        let bytes = world.current().bytes(0, world.current().len);
        let digest = format!("blake3={}", blake3::hash(&bytes).to_hex());
        wish.checksum = Some(digest.parse().expect("a checksum"));
    }
    let contradicts =
        world.faults.iter().any(|injected| injected.fault == Fault::OtherTotalSameTag);
    let world = Arc::new(std::sync::Mutex::new(world));
    let dir = scratch();
    for _ in 0..random.usize(0..3) {
        wish.digest = random.u8(..) >= 40;
        let after = Duration::from_millis(random.u64(1..6000));
        if let Life::Ended(result, _) = live(&world, dir.path(), &wish, Until::Time(after)) {
            judge(&world, dir.path(), &wish, &result)?;
            if result.is_ok() {
                return Ok(());
            }
        }
    }
    wish.digest = random.u8(..) >= 40;
    let Life::Ended(result, _) = live(&world, dir.path(), &wish, Until::Its) else {
        return Err("killed by nobody".to_owned());
    };
    judge(&world, dir.path(), &wish, &result)?;
    if result.is_ok() {
        return Ok(());
    }
    {
        let mut world = lock(&world);
        world.faults.clear();
        world.link.loss = 0;
        // Where other bytes stay, they are none that were asked for by a digest.
        world.moved &= wish.checksum.is_none() && random.bool();
    }
    match live(&world, dir.path(), &wish, Until::Its) {
        Life::Ended(Ok(summary), _) => judge(&world, dir.path(), &wish, &Ok(summary)),
        // What is here may have a total that the server made up under the same tag.
        Life::Ended(Err(error), _) if contradicts && error.kind() == ErrorKind::Protocol => Ok(()),
        Life::Ended(Err(error), _) => {
            let log = lock(&world).last_requests();
            let before = result.err();
            Err(format!("an honest server does not help after {before:?}: {error}\n    {log}"))
        }
        Life::Killed => Err("killed by nobody".to_owned()),
    }
}

/// As many tenths of so many seeds as `HAUL_THOROUGH` says, 1 to 10, and one without it.
pub(super) fn seeds(thorough: u64) -> std::ops::Range<u64> {
    let tenths = std::env::var("HAUL_THOROUGH");
    let tenths: u64 = tenths.map_or(1, |it| it.parse().expect("HAUL_THOROUGH is a number"));
    0..thorough * tenths.clamp(1, 10) / 10
}

/// Runs `case` for all seeds on all cores. Returns at most three failures, each
/// with the way to repeat it.
pub(super) fn for_seeds(
    test: &str,
    seeds: std::ops::Range<u64>,
    case: impl Fn(u64) -> Result<(), String> + Sync,
) -> Vec<String> {
    let seeds = match std::env::var("HAUL_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("HAUL_SEED is a number");
            seed..seed + 1
        }
        Err(_) => seeds,
    };
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failures.lock().unwrap().len() >= 3 {
                        return;
                    }
                    let outcome = catch_unwind(AssertUnwindSafe(|| case(seed)))
                        .unwrap_or_else(|_| Err("a panic, see above".to_owned()));
                    if let Err(why) = outcome {
                        failures.lock().unwrap().push(format!(
                            "{why}\n  HAUL_SEED={seed} cargo test -p haul-engine --lib {test}"
                        ));
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

#[test]
fn whatever_happens_it_ends_with_the_right_file_or_an_honest_error() {
    let given = std::env::var("HAUL_SEEDS").map(|n| 0..n.parse().expect("a number"));
    let failures = for_seeds("whatever_happens", given.unwrap_or_else(|_| seeds(SEEDS)), any_case);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_same_seed_is_the_same_download() {
    let run = |seed, http2| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed, link(&mut random), object(&mut random));
        world.link.loss = 30;
        world.http2 = http2;
        let world = Arc::new(Mutex::new(world));
        let dir = scratch();
        let Life::Ended(result, notices) = live(&world, dir.path(), &wish(&mut random), Until::Its)
        else {
            panic!("killed by nobody");
        };
        let told = result.map(|s| (s.bytes, s.fetched_bytes, s.requests, s.retries, s.elapsed));
        (format!("{told:?} {notices:?}"), std::mem::take(&mut lock(&world).log))
    };
    for seed in 0..200 {
        for http2 in VERSIONS {
            assert_eq!(run(seed, *http2), run(seed, *http2), "seed {seed}, HTTP/2 {http2}");
        }
    }
}
