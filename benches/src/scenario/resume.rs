//! `resume`: everybody is killed when half the object has come, then told to finish.

use std::path::Path;
use std::time::{Duration, Instant};

use super::bar::peak_bar;
use super::{Outcome, Venue, describe_place};
use crate::Failure;
use crate::args::Scenario;
use crate::contender::{Contender, Job, Manner};
use crate::measure::{Running, Usage};
use crate::servers::shape::Shape;
use crate::servers::{Shaped, Source, Traffic};
use crate::size::MIB;
use crate::track::{Lane, OUTPUT_NAME, Sample, clear, compare_within_rounds};

/// With sixteen connections half of 256 MiB has come after 1.3 s: away from whole seconds, where it
/// would be luck whether a checkpoint was just written or is just due.
const BYTES_PER_S: u64 = 6 * MIB;
const LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// haul writes its checkpoint each second; a kill costs up to that, like a power cut.
const HAUL: &str = "-q --no-sync -x 16";

pub(super) fn run(venue: &Venue<'_>, shuffle: &mut fastrand::Rng) -> Result<Outcome, Failure> {
    let size = venue.size(Scenario::Resume);
    let object = venue.object(size)?;
    let output = venue.work.join("out");
    let server = Shaped::start(&Shape::capped(BYTES_PER_S), &object.path)?;
    let manner = Manner { connections: Some(16), resume: true, ..Manner::default() };
    let contenders: Vec<Contender> =
        std::iter::once(venue.haul(HAUL)).chain(venue.peers(manner)).collect();
    let mut lanes: Vec<Lane> =
        contenders.iter().map(|contender| Lane::new(&contender.name, contender.role)).collect();
    let mut notes = vec![format!(
        "wall time is that of both runs; each connection gets {} MiB/s; the kill is SIGKILL",
        BYTES_PER_S / MIB
    )];
    for round in 1..=venue.args.rounds {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        shuffle.shuffle(&mut order);
        for (place, index) in order.into_iter().enumerate() {
            let (contender, lane) = (&contenders[index], &mut lanes[index]);
            // What one connection needs is no news in the second round.
            let slow = |sample: &Sample| sample.wall_s > LIMIT.as_secs_f64() / 4.0;
            if lane.failure.is_some()
                || lane.ended_after_s.is_some()
                || lane.samples.iter().any(slow)
            {
                continue;
            }
            clear(&output)?;
            server.begin()?;
            let url = server.url("resume");
            let job = Job { url: &url, directory: &output, name: OUTPUT_NAME, ca: None };
            match twice(venue, contender, &job, &server, |place| object.check(round, place))? {
                Ok((usage, traffic)) => {
                    let parts = traffic.body_bytes as f64 / size as f64;
                    eprintln!("  resume round {round}: {parts:.3} of the bytes  {}", lane.name);
                    lane.samples.push(Sample::of(round, place + 1, &usage, traffic));
                }
                Err(error) => {
                    eprintln!("  resume round {round}: {} failed: {error}", lane.name);
                    lane.failure = Some(error.to_string());
                }
            }
        }
    }
    clear(&output)?;
    compare_within_rounds(&mut lanes, venue.args.rounds);
    notes.extend(lanes.iter().filter(|lane| lane.haul).filter_map(|lane| {
        let fetched = lane.fetched_bytes()? as f64 / size as f64;
        Some(format!("{}: {fetched:.3} of the object's bytes fetched in all", lane.name))
    }));
    Ok(Outcome {
        scenario: "resume",
        size_bytes: size,
        files: 1,
        output: describe_place(&output),
        limit_s: None,
        bars: peak_bar(&lanes, "resume").into_iter().collect(),
        lanes,
        notes,
    })
}

/// Kills the first run at half, lets the second end, and adds up both. The inner error is the
/// contender's.
fn twice(
    venue: &Venue<'_>,
    contender: &Contender,
    job: &Job<'_>,
    server: &Shaped,
    check: impl Fn(&Path) -> Result<(), Failure>,
) -> Result<Result<(Usage, Traffic), Failure>, Failure> {
    let guard = venue.origin.guard();
    let half = venue.size(Scenario::Resume) / 2;
    let mut first = Running::start_limited(&mut contender.command(job), guard, LIMIT)?;
    let deadline = Instant::now() + LIMIT;
    while server.traffic("")?.body_bytes < half && Instant::now() < deadline && !first.over()? {
        std::thread::sleep(LOOK_EVERY);
    }
    let early = first.over()?;
    first.kill();
    let first = first.finish()?;
    if early {
        let how = first.success().err().map_or("exit 0".to_owned(), |error| error.to_string());
        return Ok(Err(format!("ended before half was fetched ({how})").into()));
    }
    let mut command = contender.command(job);
    let mut second = Running::start_limited(&mut command, guard, LIMIT)?.finish()?;
    let traffic = server.traffic("")?;
    if second.ended_at_limit {
        return Ok(Err(format!("not finished {} s after the kill", LIMIT.as_secs()).into()));
    }
    let checked = second.success().and_then(|()| check(job.directory));
    second.wall += first.wall;
    second.cpu += first.cpu;
    second.peak_rss_bytes = second.peak_rss_bytes.max(first.peak_rss_bytes);
    Ok(checked.map(|()| (second, traffic)))
}
