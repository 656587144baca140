//! `tiny` and `version`: what a start costs.

use std::path::Path;
use std::process::Command;

use super::bar::{Bar, lane};
use super::{Outcome, Venue, describe_place};
use crate::Failure;
use crate::contender::{Contender, Manner, Role};
use crate::measure::Running;
use crate::servers::Traffic;
use crate::track::{Course, Entry, Lane, Patience, Sample, race};

const VERSION_RUNS: u32 = 20;
const TINY_BYTES: u64 = 1024;
/// Of so short a run more are needed until the least settles.
const TINY_ROUNDS_EACH: u32 = 4;
const NO_SYNC: &str = "-q --no-sync";

pub(super) fn tiny(venue: &Venue<'_>, shuffle: &mut fastrand::Rng) -> Result<Outcome, Failure> {
    let object = venue.object(TINY_BYTES)?;
    let output = venue.work.join("out");
    let served = venue.origin.object(&object.name, false);
    let floor = Contender::floor(venue.myself, 1, false);
    let contenders = [venue.haul(NO_SYNC), venue.haul("-q"), floor];
    let entries: Vec<Entry<'_>> = contenders
        .into_iter()
        .chain(venue.peers(Manner::default()))
        .map(|contender| Entry::one(contender, &served, &output, None))
        .collect();
    let course = Course {
        guard: venue.origin.guard(),
        scenario: "tiny",
        output: output.clone(),
        keep: false,
        check: &|round, directory| object.check(round, directory),
        then_sync: false,
        patience: Patience::USUAL,
    };
    let lanes = race(&course, &entries, venue.args.rounds * TINY_ROUNDS_EACH, shuffle)?;
    let haul = || lanes.iter().filter(|lane| lane.haul);
    let most = haul().filter_map(Lane::requests).max();
    let bar = Bar::new("tiny: haul's requests", most.map(|most| most as f64), 1.0, "requests");
    // None at all would mean that they were not recognised in the log.
    let mut bars = vec![Bar { pass: haul().all(|lane| lane.requests() == Some(1)), ..bar }];
    let curl = lanes.iter().find(|lane| lane.name.starts_with("curl "));
    if let Some(curl) = curl.map(Lane::wall) {
        let mine = lane(&lanes, &venue.haul(NO_SYNC).name).and_then(Lane::wall);
        bars.push(Bar::ratio(format!("tiny: wall of haul {NO_SYNC} to curl's"), mine, curl, 1.1));
    }
    Ok(Outcome {
        scenario: "tiny",
        size_bytes: TINY_BYTES,
        files: 1,
        output: describe_place(&output),
        limit_s: None,
        lanes,
        notes: Vec::new(),
        bars,
    })
}

/// `runs` starts of `program` with the argument that has it tell its version.
pub(super) fn starts(
    venue: &Venue<'_>,
    mut lane: Lane,
    program: &Path,
    version_flag: &str,
    runs: u32,
) -> Result<Lane, Failure> {
    for round in 1..=runs {
        let mut command = Command::new(program);
        let usage = Running::start(command.arg(version_flag), venue.origin.guard())?.finish()?;
        if let Err(error) = usage.success() {
            lane.failure = Some(error.to_string());
            break;
        }
        lane.samples.push(Sample::of(round, 1, &usage, Traffic::default()));
    }
    Ok(lane)
}

pub(super) fn version(venue: &Venue<'_>) -> Result<Outcome, Failure> {
    let lane = Lane::new("haul --version", Role::Haul);
    let lane = starts(venue, lane, venue.haul, "--version", VERSION_RUNS)?;
    let least_ms = lane.wall().map(|wall| wall.min * 1e3);
    Ok(Outcome {
        scenario: "version",
        size_bytes: 0,
        files: 0,
        output: String::new(),
        limit_s: None,
        bars: vec![Bar::new("version: the least time of haul --version", least_ms, 10.0, "ms")],
        lanes: vec![lane],
        notes: Vec::new(),
    })
}
