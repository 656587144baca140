//! Each row of sections A to D by itself, at four positions.

use super::super::faults::{Demand, Row};
use super::*;

/// Everything about a row's case but its seed.
#[derive(Debug, Clone, Copy)]
struct Case {
    position: Position,
    times: Times,
    killed: bool,
    http2: bool,
}

/// A download that the row's fault meets at a position, once or always.
fn row_case(row: &Row, case: Case, seed: u64) -> Result<bool, String> {
    let Case { position, times, killed, http2 } = case;
    let mut random = fastrand::Rng::with_seed(seed);
    let version = Version {
        seed: random.u64(1..u64::from(u32::MAX)),
        len: 20 * SEGMENT_BYTES + random.u64(1..SEGMENT_BYTES),
        etag: Some("\"v1\"".to_owned()),
        last_modified: Some(DATES[1]),
        content_type: "video/mp4",
        digests: row.fault == Fault::AlteredBody,
    };
    let mut world = World::new(random.u64(..), Link { loss: 0, ..link(&mut random) }, version);
    world.http2 = http2;
    let mut wish = Wish { connections: Connections::Fixed(4), sync: false, ..wish(&mut random) };
    if row.fault.is_of_connecting() {
        // Makes new connections necessary all the time.
        (world.one_request_each, world.most_bytes) = (true, 2 * SEGMENT_BYTES);
    }
    if row.fault == Fault::ClosesUnderRequest {
        // One connection for all requests.
        (wish.connections, world.most_bytes) = (Connections::Fixed(1), 2 * SEGMENT_BYTES);
    }
    if row.fault == Fault::TotalOfPart {
        // The first request that is granted asks for a part, so that its end may be the total.
        world.versions[0].len += 80 * SEGMENT_BYTES;
        world.longest_part = 1 << 20;
        if random.bool() {
            // Nothing but the size may show that it is no other version.
            world.versions[0].etag = None;
        }
    }
    if row.fault == Fault::MalformedTag {
        world.malform_tag();
    }
    world.redirects_first = position == Position::First && row.fault == Fault::ClosesUnderRequest;
    let faults = vec![Injected::new(row.fault, position, times)];
    let dir = scratch();
    if !killed {
        world.faults = faults.clone();
    }
    let world = Arc::new(Mutex::new(world));
    if killed {
        // Two seconds must be too short, however many connections there are.
        let least = if row.fault.is_of_connecting() { 15_000 } else { 30_000 };
        let slow = std::mem::replace(&mut lock(&world).link.rates, (least, least + 10_000));
        if !matches!(
            live(&world, dir.path(), &wish, Until::Time(Duration::from_secs(2))),
            Life::Killed
        ) {
            return Err("the first life was too short".to_owned());
        }
        let mut world = lock(&world);
        world.link.rates = slow;
        world.faults = faults;
    }
    let Life::Ended(result, notices) = live(&world, dir.path(), &wish, Until::Its) else {
        return Err("killed by nobody".to_owned());
    };
    judge(&world, dir.path(), &wish, &result)?;
    let fired = lock(&world).faults[0].fired > 0;
    let (at_first, later) = row.once;
    let demand = if position == Position::First { at_first } else { later };
    let told = result.as_ref().map(|_| ()).map_err(Error::kind);
    let always = match row.fault {
        fault if http2 && fault.takes_all_connections() => Some(ErrorKind::Network),
        _ => row.always,
    };
    let met = match (times, demand) {
        _ if !fired => told.is_ok(),
        (Times::Once, Demand::Right) => told.is_ok(),
        // After a 403 to a precondition the request is sent again without it (row 33).
        (Times::Once, Demand::Fails(ErrorKind::AccessDenied)) if killed && told.is_ok() => true,
        // The first request is no longer what the object is known by.
        (Times::Once, Demand::Fails(_))
            if killed && row.fault == Fault::OtherTotalSameTag && told.is_ok() =>
        {
            true
        }
        (Times::Once, Demand::Fails(kind)) => told == Err(kind),
        (Times::Once, Demand::RightOr(kind)) => told.is_ok() || told == Err(kind),
        (Times::Always, _) => told.is_ok() || told.err() == always,
    };
    let counted = row.fault.is_uncounted()
        && times == Times::Once
        && result.as_ref().is_ok_and(|summary| summary.retries > 0);
    if met && !counted {
        return Ok(fired);
    }
    let log = lock(&world).last_requests();
    Err(format!("{row:?} {case:?}: {result:?} with {notices:?}\n    {log}"))
}

fn rows(killed: bool) {
    let mut failures = Vec::new();
    for row in ROWS {
        for position in Position::ALL {
            for (times, http2) in [Times::Once, Times::Always]
                .into_iter()
                .flat_map(|times| VERSIONS.iter().map(move |http2| (times, *http2)))
                .filter(|(_, http2)| *http2 || !row.fault.is_of_http2())
                .filter(|(_, http2)| !*http2 || !row.fault.is_of_http1())
            {
                let case = Case { position, times, killed, http2 };
                // A fresh download begins without a condition.
                if row.fault == Fault::ConditionFallsBack && position == Position::First && !killed
                {
                    continue;
                }
                let fired = AtomicU64::new(0);
                let failed = for_seeds("rows_", 0..SEEDS_OF_A_ROW, |seed| {
                    let hit = row_case(row, case, seed)?;
                    fired.fetch_add(u64::from(hit), Ordering::Relaxed);
                    Ok(())
                });
                let all_seeds = std::env::var_os("HAUL_SEED").is_none();
                if all_seeds && failed.is_empty() && fired.into_inner() == 0 {
                    failures.push(format!(
                        "row {}, {:?}, never struck: {case:?}",
                        row.number, row.fault
                    ));
                }
                failures.extend(failed.into_iter().take(1));
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn rows_of_sections_a_to_d_at_four_positions() {
    rows(false);
}

#[test]
fn rows_of_sections_a_to_d_on_a_resume() {
    rows(true);
}
