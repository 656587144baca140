//! Faults of the whole run and not of one response: what the object has, where it
//! is fetched from next, and how fast its bytes can be stored. Each strikes at four
//! positions: those of the kill between two lives, or of the fault's beginning.

use super::*;

/// Runs `case` over all versions of HTTP, positions and seeds.
fn everywhere(test: &str, case: impl Fn(bool, Position, u64) -> Result<(), String> + Sync) {
    let mut failures = Vec::new();
    for http2 in VERSIONS {
        for position in Position::ALL {
            let failed = for_seeds(test, 0..SEEDS_OF_A_ROW, |seed| {
                case(*http2, position, seed)
                    .map_err(|why| format!("HTTP/2 {http2}, at {position:?}: {why}"))
            });
            failures.extend(failed.into_iter().take(1));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn usual(random: &mut fastrand::Rng) -> Version {
    Version {
        seed: random.u64(1..u64::from(u32::MAX)),
        len: 20 * SEGMENT_BYTES + random.u64(1..SEGMENT_BYTES),
        etag: Some("\"v1\"".to_owned()),
        last_modified: Some(DATES[1]),
        content_type: "video/mp4",
        digests: false,
    }
}

/// A world whose network needs more than two seconds for the usual object, so
/// that there are checkpoints before the later positions.
fn slow_world(http2: bool, version: Version, random: &mut fastrand::Rng) -> Shared {
    let mut world = World::new(random.u64(..), Link { loss: 0, ..link(random) }, version);
    world.http2 = http2;
    world.link.rates = (20_000, 30_000);
    Arc::new(Mutex::new(world))
}

fn usual_wish(random: &mut fastrand::Rng) -> Wish {
    Wish { connections: Connections::Fixed(4), sync: false, ..wish(random) }
}

fn killed_at(position: Position, world: &Shared, dir: &Path, wish: &Wish) -> Result<(), String> {
    let bytes = position.bytes_before(lock(world).current().len);
    match live(world, dir, wish, Until::Sent(bytes)) {
        Life::Killed => Ok(()),
        Life::Ended(result, _) => Err(format!("the first life was too short: {result:?}")),
    }
}

/// The last life: it ends well, and the oracle agrees.
fn ends_well(
    world: &Shared,
    dir: &Path,
    wish: &Wish,
) -> Result<(Summary, Vec<NoticeCode>), String> {
    let Life::Ended(result, notices) = live(world, dir, wish, Until::Its) else {
        return Err("killed by nobody".to_owned());
    };
    judge(world, dir, wish, &result)?;
    match result {
        Ok(summary) => Ok((summary, notices)),
        Err(error) => Err(format!("{error}\n    {}", lock(world).last_requests())),
    }
}

/// The time of every response.
const NOW: &str = "Sun, 01 Feb 2026 00:00:00 GMT";

#[test]
fn fault_022_weak_tag_continues_only_with_a_date() {
    validators(
        "fault_022",
        &[
            (Some("\"v1\""), Some(DATES[1]), true),
            (Some("W/\"v1\""), Some(DATES[1]), true),
            (Some("W/\"v1\""), None, false),
        ],
    );
}

#[test]
fn fault_023_nothing_continues_without_a_validator() {
    validators("fault_023", &[(None, None, false)]);
}

#[test]
fn fault_024_fresh_date_proves_nothing() {
    validators("fault_024", &[(None, Some(NOW), false), (Some("W/\"v1\""), Some(NOW), false)]);
}

/// A tag, a date, and whether they prove that a resume may continue.
type Kind = (Option<&'static str>, Option<&'static str>, bool);

/// The validators that every response has, or a digest from the user, decide what
/// may be continued.
fn validators(test: &str, kinds: &[Kind]) {
    for (etag, last_modified, proves) in kinds.iter().copied() {
        for with_checksum in [false, true] {
            everywhere(test, |http2, position, seed| {
                let mut random = fastrand::Rng::with_seed(seed);
                let tag = etag.map(str::to_owned);
                let version = Version { etag: tag, last_modified, ..usual(&mut random) };
                let mut wish = usual_wish(&mut random);
                if with_checksum {
                    let bytes = version.bytes(0, version.len);
                    let digest = format!("blake3={}", blake3::hash(&bytes).to_hex());
                    wish.checksum = Some(digest.parse().expect("a checksum"));
                }
                let world = slow_world(http2, version, &mut random);
                let dir = scratch();
                killed_at(position, &world, dir.path(), &wish)?;
                let stored = names(dir.path()).iter().any(|name| name.ends_with(".haul"));
                let (summary, notices) = ends_well(&world, dir.path(), &wish)?;
                let restarted = notices.contains(&NoticeCode::Restarted);
                let continued = summary.resumed_bytes > 0;
                let late = matches!(position, Position::Late | Position::Last);
                let may_continue = proves || with_checksum;
                match may_continue {
                    false if stored && !restarted => {
                        Err(format!("{etag:?}, {last_modified:?}: no notice of it: {notices:?}"))
                    }
                    false if continued => Err("it continued what nothing proves".to_owned()),
                    true if restarted => Err("it gave up what is proven".to_owned()),
                    true if late && !continued => Err(format!("all was fetched: {summary:?}")),
                    _ => Ok(()),
                }
            });
        }
    }
}

/// Row 19: there is no range to ask for.
#[test]
fn fault_019_an_empty_object_is_an_empty_file() {
    everywhere("fault_019", |http2, _, seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut version = Version { len: 0, ..object(&mut random) };
        version.digests = random.bool();
        let mut world = World::new(random.u64(..), link(&mut random), version);
        world.http2 = http2;
        if random.bool() {
            // A 200 instead of the 416.
            world.faults =
                vec![Injected::new(Fault::RangeIgnored, Position::Anywhere, Times::Always)];
        }
        let (world, dir) = (Arc::new(Mutex::new(world)), scratch());
        let (summary, _) = ends_well(&world, dir.path(), &usual_wish(&mut random))?;
        if summary.bytes == 0 { Ok(()) } else { Err(format!("{summary:?}")) }
    });
}

/// Row 10: everything is here but its name, and the server has no more bytes.
#[test]
fn fault_010_416_when_all_is_here_is_no_failure() {
    everywhere("fault_010", |http2, position, seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let version = usual(&mut random);
        let wish = usual_wish(&mut random);
        let world = slow_world(http2, version, &mut random);
        let dir = scratch();
        lock(&world).foreign = Some(dir.path().join("film"));
        let Life::Ended(Err(error), _) = live(&world, dir.path(), &wish, Until::Its) else {
            return Err("a foreign file was replaced".to_owned());
        };
        if error.kind() != ErrorKind::OutputExists {
            return Err(format!("{error}"));
        }
        std::fs::remove_file(dir.path().join("film")).expect("the foreign file");
        let fault = Injected::new(Fault::Unsatisfiable, position, Times::Always);
        lock(&world).faults = vec![fault];
        ends_well(&world, dir.path(), &wish).map(drop)
    });
}

/// Row 30: the next life is sent to a mirror with other bytes of the same size,
/// under the same tag or one of its own, or neither has any.
#[test]
fn fault_030_mirrors_with_other_bytes_are_never_joined() {
    for (tag, mirrors_tag) in
        [(Some("\"v1\""), Some("\"v1\"")), (Some("\"v1\""), Some("\"m\"")), (None, None)]
    {
        everywhere("fault_030", |http2, position, seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let etag = tag.map(str::to_owned);
            let last_modified = tag.and(Some(DATES[1]));
            let version = Version { etag, last_modified, ..usual(&mut random) };
            let wish = usual_wish(&mut random);
            let world = slow_world(http2, version, &mut random);
            let dir = scratch();
            killed_at(position, &world, dir.path(), &wish)?;
            {
                let mut world = lock(&world);
                world.has_mirror();
                world.mirror.as_mut().expect("it has one").etag = mirrors_tag.map(str::to_owned);
            }
            let wish = Wish { url: "https://mirror.test/film.mp4", ..wish };
            ends_well(&world, dir.path(), &wish)?;
            let mirror = lock(&world).mirror.clone().expect("it has one");
            let bytes = std::fs::read(dir.path().join("film")).expect("a file");
            if bytes == mirror.bytes(0, mirror.len) {
                Ok(())
            } else {
                Err("the file is not the mirror's".to_owned())
            }
        });
    }
}

/// A request is redirected to such a mirror midway, and nothing but the host
/// tells that it is another one.
#[test]
fn fault_030_mirror_midway_without_validators_is_never_joined() {
    everywhere("fault_030", |http2, position, seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let version = Version { etag: None, last_modified: None, ..usual(&mut random) };
        let wish = usual_wish(&mut random);
        let world = slow_world(http2, version, &mut random);
        let fault = Injected::new(Fault::MirrorElsewhere, position, Times::Once);
        lock(&world).faults = vec![fault];
        let dir = scratch();
        ends_well(&world, dir.path(), &wish)?;
        if lock(&world).faults[0].fired == 0 {
            return Err("it was never redirected".to_owned());
        }
        Ok(())
    });
}

/// Row 94: the server refuses parts above a size, from the beginning or after a kill.
#[test]
fn fault_094_long_parts_are_halved_and_nothing_is_given_up() {
    const LEN: u64 = 8 << 20;
    for killed in [false, true] {
        everywhere("fault_094", |http2, position, seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let version = Version { len: LEN + random.u64(0..SEGMENT_BYTES), ..usual(&mut random) };
            let wish = Wish { segment_bytes: 256 << 10, ..usual_wish(&mut random) };
            let world = slow_world(http2, version, &mut random);
            let dir = scratch();
            if killed {
                killed_at(position, &world, dir.path(), &wish)?;
            }
            {
                let mut world = lock(&world);
                world.link.rates = (200_000, 2_000_000);
                world.longest_part = random.u64(1 << 20..2 << 20);
            }
            let (summary, notices) = ends_well(&world, dir.path(), &wish)?;
            let refused = lock(&world).long_parts;
            if refused > 12 || !killed && refused == 0 {
                return Err(format!("{refused} parts were refused"));
            }
            if notices.contains(&NoticeCode::SingleStream) || summary.retries > 0 {
                return Err(format!("{notices:?} and {} retries", summary.retries));
            }
            Ok(())
        });
    }
}

/// An object whose version shows in nothing but a tag without quotes.
fn malformed(random: &mut fastrand::Rng) -> Version {
    Version { etag: Some("v1".to_owned()), last_modified: None, ..usual(random) }
}

/// Row 101: such a tag allows a resume once stored bytes were compared. At the
/// first positions there is no segment to compare.
#[test]
fn fault_101_malformed_tag_continues_after_a_proof() {
    everywhere("fault_101", |http2, position, seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let version = malformed(&mut random);
        let wish = usual_wish(&mut random);
        let world = slow_world(http2, version, &mut random);
        let dir = scratch();
        killed_at(position, &world, dir.path(), &wish)?;
        let (summary, notices) = ends_well(&world, dir.path(), &wish)?;
        let late = matches!(position, Position::Late | Position::Last);
        let restarted = notices.contains(&NoticeCode::Restarted);
        if late && (restarted || summary.resumed_bytes == 0) {
            return Err(format!("it gave up what can be proven: {notices:?}, {summary:?}"));
        }
        Ok(())
    });
}

/// The same tag on other bytes of the same size proves nothing.
#[test]
fn fault_101_malformed_tag_alone_proves_nothing() {
    everywhere("fault_101", |http2, position, seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let version = malformed(&mut random);
        let wish = usual_wish(&mut random);
        let world = slow_world(http2, version, &mut random);
        let dir = scratch();
        killed_at(position, &world, dir.path(), &wish)?;
        {
            let mut world = lock(&world);
            world.has_twin();
            let twin = world.mirror.take().expect("it has one");
            world.versions = vec![twin];
        }
        ends_well(&world, dir.path(), &wish).map(drop)
    });
}

/// Validators of one kind or another.
fn any_validator(random: &mut fastrand::Rng) -> (Option<String>, Option<&'static str>) {
    match random.u8(0..3) {
        0 => (Some("\"v1\"".to_owned()), Some(DATES[1])),
        1 => (Some("W/\"v1\"".to_owned()), Some(DATES[1])),
        _ => (None, Some(DATES[1])),
    }
}

/// The download fails, and reports that the server contradicts itself.
fn ends_in_contradiction(world: &Shared, dir: &Path, wish: &Wish) -> Result<(), String> {
    match live(world, dir, wish, Until::Its) {
        Life::Ended(result, _) => {
            judge(world, dir, wish, &result)?;
            match result.map_err(|error| error.kind()) {
                Err(ErrorKind::Protocol) => Ok(()),
                other => Err(format!("{other:?}\n    {}", lock(world).last_requests())),
            }
        }
        Life::Killed => Err("killed by nobody".to_owned()),
    }
}

/// Row 112: a plain stream breaks at a position, and its repeat has another length.
#[test]
fn fault_112_a_repeat_of_another_length_is_not_the_object() {
    for tells_length in [false, true] {
        everywhere("fault_112", |http2, position, seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let (etag, last_modified) = any_validator(&mut random);
            let version = Version { etag, last_modified, ..usual(&mut random) };
            let wish = usual_wish(&mut random);
            let world = slow_world(http2, version, &mut random);
            lock(&world).repeats_other_lengths(position, tells_length);
            ends_in_contradiction(&world, scratch().path(), &wish)
        });
    }
}

/// After a kill the size is what the checkpoint has with the same validator.
#[test]
fn fault_112_a_stream_of_another_length_than_the_checkpoint_has_is_not_the_object() {
    everywhere("fault_112", |http2, position, seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let (etag, last_modified) = any_validator(&mut random);
        let version = Version { etag, last_modified, ..usual(&mut random) };
        let len = version.len;
        let wish = usual_wish(&mut random);
        let world = slow_world(http2, version, &mut random);
        let dir = scratch();
        killed_at(position, &world, dir.path(), &wish)?;
        if !names(dir.path()).iter().any(|name| name.ends_with(".haul")) {
            // Nothing is known of the object.
            return Ok(());
        }
        {
            let mut world = lock(&world);
            world.other_len = if random.bool() { random.u64(1..len) } else { len + 1 };
            let fault = Injected::new(Fault::OtherLength, Position::Anywhere, Times::Always);
            world.faults = vec![fault];
        }
        ends_in_contradiction(&world, dir.path(), &wish)
    });
}

/// Row 48, and the same over HTTP/1.1: from a position on the disk is slower than
/// the network, with more streams than the budget has reservations for. Streams
/// without a reservation must not hold the window that the others wait for, and no
/// more than the budget may wait for the disk.
#[test]
fn fault_048_slow_disk_stops_no_stream_and_fills_no_memory() {
    const LEN: u64 = 6 << 20;
    const STREAMS: usize = 32;
    const BUDGET_BYTES: u64 = 4 << 20;
    for small_windows in [false, true] {
        everywhere("fault_048", |http2, position, seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let version = Version { len: LEN, ..usual(&mut random) };
            let world = slow_world(http2, version, &mut random);
            lock(&world).link = Link {
                latency: Duration::from_millis(random.u64(0..100)),
                rates: (500_000, 2_000_000),
                loss: 0,
            };
            let wish = Wish {
                connections: Connections::Fixed(STREAMS),
                segment_bytes: 64 << 10,
                // Far above what the disk takes: this makes the windows small.
                limit_rate_bytes_per_second: small_windows.then_some(1 << 30),
                slow_disk: Some((random.u64(200_000..800_000) as f64, position.bytes_before(LEN))),
                ..usual_wish(&mut random)
            };
            let dir = scratch();
            let (summary, _) = ends_well(&world, dir.path(), &wish)?;
            if summary.retries > 0 {
                return Err(format!("{} retries", summary.retries));
            }
            let waiting = lock(&world).most_waiting;
            // A frame may be larger than what is left of its reservation.
            let bound = BUDGET_BYTES + STREAMS as u64 * (64 << 10);
            if waiting > bound {
                return Err(format!("{waiting} bytes waited for the disk, at most {bound}"));
            }
            // The last eighth has less than the budget.
            if position != Position::Last && waiting < BUDGET_BYTES / 2 {
                return Err(format!("the disk was fast enough: {waiting} bytes waited"));
            }
            Ok(())
        });
    }
}
