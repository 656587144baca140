//! Rounds: everybody once in each, in a fresh order, every download checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::Failure;
use crate::contender::{Contender, Job, Role};
use crate::guard::Guard;
use crate::measure::{Running, Usage};
use crate::servers::{Source, Traffic};
use crate::stats::Summary;

/// The name of every download of one object.
pub const OUTPUT_NAME: &str = "download";

/// One run that ended well.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Which round, from 1.
    pub round: u32,
    /// Its place in the order of that round, from 1.
    pub place: usize,
    /// Wall time in seconds.
    pub wall_s: f64,
    /// Wall time in seconds until the file was synced after the program's end, where measured.
    pub synced_wall_s: Option<f64>,
    /// User and system time in seconds.
    pub cpu_s: f64,
    /// Peak resident memory in bytes.
    pub peak_rss_bytes: u64,
    /// Requests and bytes as the server saw them.
    pub traffic: Traffic,
}

impl Sample {
    /// Of a run that was `place`th in `round`.
    #[must_use]
    pub fn of(round: u32, place: usize, usage: &Usage, traffic: Traffic) -> Self {
        Self {
            round,
            place,
            wall_s: usage.wall.as_secs_f64(),
            synced_wall_s: usage.synced_wall.map(|wall| wall.as_secs_f64()),
            cpu_s: usage.cpu.as_secs_f64(),
            peak_rss_bytes: usage.peak_rss_bytes,
            traffic,
        }
    }
}

/// All runs of one contender.
#[derive(Clone, Debug, Serialize)]
pub struct Lane {
    /// The contender's name.
    pub name: String,
    /// Whether this is haul.
    pub haul: bool,
    /// Whether the bars are measured against this one.
    pub peer: bool,
    /// The runs that ended well.
    pub samples: Vec<Sample>,
    /// Why it ran no further.
    pub failure: Option<String>,
    /// It was ended after so many seconds.
    pub ended_after_s: Option<f64>,
    /// It said success and the file was wrong.
    pub wrong_file: bool,
    /// Its connections were fixed on the command line, for comparison.
    pub fixed: bool,
    /// Over the rounds: its wall time through that of the round's fastest peer.
    pub ratio_to_fastest_peer: Option<Summary>,
}

impl Lane {
    /// An empty lane.
    #[must_use]
    pub fn new(name: &str, role: Role) -> Self {
        Self {
            name: name.to_owned(),
            haul: role == Role::Haul,
            peer: role == Role::Peer,
            samples: Vec::new(),
            failure: None,
            ended_after_s: None,
            wrong_file: false,
            fixed: false,
            ratio_to_fastest_peer: None,
        }
    }

    /// Wall time in seconds.
    #[must_use]
    pub fn wall(&self) -> Option<Summary> {
        Summary::of(self.samples.iter().map(|sample| sample.wall_s))
    }

    /// Wall time in seconds until the file was synced.
    #[must_use]
    pub fn synced_wall(&self) -> Option<Summary> {
        Summary::of(self.samples.iter().filter_map(|sample| sample.synced_wall_s))
    }

    /// CPU time in seconds.
    #[must_use]
    pub fn cpu(&self) -> Option<Summary> {
        Summary::of(self.samples.iter().map(|sample| sample.cpu_s))
    }

    /// The greatest peak of all runs in bytes.
    #[must_use]
    pub fn peak_rss_bytes(&self) -> Option<u64> {
        self.samples.iter().map(|sample| sample.peak_rss_bytes).max()
    }

    /// The most requests that a run took.
    #[must_use]
    pub fn requests(&self) -> Option<u64> {
        self.samples.iter().map(|sample| sample.traffic.requests).max()
    }

    /// The most refusals that a run met.
    #[must_use]
    pub fn refused(&self) -> Option<u64> {
        self.samples.iter().map(|sample| sample.traffic.refused).max()
    }

    /// The longest time that a run was without a byte, in seconds.
    #[must_use]
    pub fn silent_s(&self) -> Option<f64> {
        let most = self.samples.iter().map(|sample| sample.traffic.silent_ms).max()?;
        Some(most as f64 / 1e3)
    }

    /// The most body bytes that a run took.
    #[must_use]
    pub fn fetched_bytes(&self) -> Option<u64> {
        self.samples.iter().map(|sample| sample.traffic.body_bytes).max()
    }

    /// Why it does not go on, when it does not.
    fn over(&self) -> bool {
        self.failure.is_some() || self.ended_after_s.is_some()
    }
}

/// Makes the command of a run from its URL.
pub type Prepare<'a> = Box<dyn Fn(&str) -> Result<Command, Failure> + 'a>;

/// Somebody at the start.
pub struct Entry<'a> {
    /// The lane's name.
    pub name: String,
    /// What it is to the bars.
    pub role: Role,
    /// Where it downloads from.
    pub source: &'a dyn Source,
    /// In every round it runs later than the entry of this index.
    pub after: Option<usize>,
    /// Its command for a URL.
    pub prepare: Prepare<'a>,
}

impl<'a> Entry<'a> {
    /// `contender` fetching one object from `source` into `output`.
    #[must_use]
    pub fn one(
        contender: Contender,
        source: &'a dyn Source,
        output: &Path,
        ca: Option<&Path>,
    ) -> Self {
        let (output, ca) = (output.to_path_buf(), ca.map(Path::to_path_buf));
        Self {
            name: contender.name.clone(),
            role: contender.role,
            source,
            after: None,
            prepare: Box::new(move |url| {
                let (directory, ca) = (output.as_path(), ca.as_deref());
                Ok(contender.command(&Job { url, directory, name: OUTPUT_NAME, ca }))
            }),
        }
    }
}

/// How long anybody may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A run is ended after this.
    pub limit: Duration,
    /// Whoever took longer than this does not run again.
    pub once_above: Duration,
}

impl Patience {
    /// A minute for a run, all rounds for everybody who keeps to it.
    pub const USUAL: Self =
        Self { limit: Duration::from_secs(60), once_above: Duration::from_secs(60) };
}

/// Whether what lies in the output directory after a run is right; the round tells how thoroughly
/// to look.
pub type Check<'a> = &'a dyn Fn(u32, &Path) -> Result<(), Failure>;

/// Under which conditions all run.
pub struct Course<'a> {
    /// Stops what runs when the race is killed.
    pub guard: &'a Guard,
    /// Part of the tag in the log.
    pub scenario: &'a str,
    /// Empty before every run.
    pub output: PathBuf,
    /// What was there is kept until the end of the race, beside it.
    pub keep: bool,
    /// Looks at every download.
    pub check: Check<'a>,
    /// Also measure how long a sync of the file takes after a peer's end.
    pub then_sync: bool,
    /// For how long.
    pub patience: Patience,
}

/// Runs `entries` in `rounds` rounds.
///
/// # Errors
///
/// When the place of the race fails; a contender that fails only leaves its lane.
pub fn race(
    course: &Course<'_>,
    entries: &[Entry<'_>],
    rounds: u32,
    shuffle: &mut fastrand::Rng,
) -> Result<Vec<Lane>, Failure> {
    let mut lanes: Vec<Lane> =
        entries.iter().map(|entry| Lane::new(&entry.name, entry.role)).collect();
    let kept = course.output.with_extension("kept");
    for round in 1..=rounds {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        shuffle.shuffle(&mut order);
        put_in_sequence(&mut order, |index| entries[index].after);
        for (place, index) in order.into_iter().enumerate() {
            let (entry, lane) = (&entries[index], &mut lanes[index]);
            let slow = |sample: &Sample| sample.wall_s > course.patience.once_above.as_secs_f64();
            if lane.over() || lane.samples.iter().any(slow) {
                continue;
            }
            let tag = format!("{}-{round}-{index}", course.scenario);
            if course.keep && course.output.exists() {
                fs::create_dir_all(&kept)?;
                fs::rename(&course.output, kept.join(&tag))?;
            }
            run(course, entry, lane, &tag, (round, place + 1))?;
        }
    }
    if course.keep && kept.exists() {
        fs::remove_dir_all(&kept)?;
    }
    clear(&course.output)?;
    compare_within_rounds(&mut lanes, rounds);
    Ok(lanes)
}

/// Swaps those in `order` that run before the one that they must follow.
fn put_in_sequence(order: &mut [usize], after: impl Fn(usize) -> Option<usize>) {
    for place in 0..order.len() {
        let before = after(order[place]);
        let late = before.and_then(|before| order[place..].iter().position(|&one| one == before));
        if let Some(late) = late {
            order.swap(place, place + late);
        }
    }
}

fn run(
    course: &Course<'_>,
    entry: &Entry<'_>,
    lane: &mut Lane,
    tag: &str,
    (round, place): (u32, usize),
) -> Result<(), Failure> {
    clear(&course.output)?;
    entry.source.begin()?;
    let mut command = (entry.prepare)(&entry.source.url(tag))?;
    let mut running = Running::start_limited(&mut command, course.guard, course.patience.limit)?;
    if course.then_sync && entry.role == Role::Peer {
        running.then_sync(&course.output.join(OUTPUT_NAME));
    }
    let usage = running.finish()?;
    let traffic = entry.source.traffic(tag)?;
    let scenario = course.scenario;
    if usage.ended_at_limit {
        let limit = course.patience.limit.as_secs_f64();
        eprintln!("  {scenario} round {round}: ended after {limit:.0} s  {}", lane.name);
        lane.ended_after_s = Some(limit);
        return Ok(());
    }
    let checked = usage.success().and_then(|()| {
        (course.check)(round, &course.output).inspect_err(|_| lane.wrong_file = true)
    });
    match checked {
        Ok(()) => {
            let wall = usage.wall.as_secs_f64();
            eprintln!("  {scenario} round {round}: {wall:7.3} s  {}", lane.name);
            lane.samples.push(Sample::of(round, place, &usage, traffic));
        }
        Err(error) => {
            eprintln!("  {scenario} round {round}: {} failed: {error}", lane.name);
            lane.failure = Some(error.to_string());
        }
    }
    Ok(())
}

/// Empties `directory` and waits for the file system: freeing a gigabyte of the previous run's
/// blocks must not be on the next one's bill.
///
/// # Errors
///
/// When it cannot be removed or made.
pub fn clear(directory: &Path) -> Result<(), Failure> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory)?;
    rustix::fs::syncfs(fs::File::open(directory)?)?;
    Ok(())
}

/// Fills in every lane's ratio to the fastest peer of each round.
pub fn compare_within_rounds(lanes: &mut [Lane], rounds: u32) {
    let wall = |lane: &Lane, round| {
        lane.samples.iter().find(|sample| sample.round == round).map(|sample| sample.wall_s)
    };
    let fastest: Vec<Option<f64>> = (1..=rounds)
        .map(|round| {
            let peers = lanes.iter().filter(|lane| lane.peer);
            peers.filter_map(|lane| wall(lane, round)).min_by(f64::total_cmp)
        })
        .collect();
    for lane in lanes {
        let ratios = (1..=rounds)
            .zip(&fastest)
            .filter_map(|(round, best)| Some(wall(lane, round)? / (*best)?))
            .collect::<Vec<_>>();
        lane.ratio_to_fastest_peer = Summary::of(ratios);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_follows_another_runs_later_in_any_order() {
        let mut dice = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let mut order: Vec<usize> = (0..6).collect();
            dice.shuffle(&mut order);
            put_in_sequence(&mut order, |index| (index == 1).then_some(0));
            let place = |wanted| order.iter().position(|&index| index == wanted);
            assert!(place(0) < place(1), "{order:?}");
        }
    }
}
