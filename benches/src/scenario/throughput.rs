//! `plain`, `tmpfs`, `tls`: nginx as fast as it can, and the floor beside.

use super::bar::{Bar, fastest_peer, lane, peak_bar};
use super::{Outcome, Venue, describe_place};
use crate::Failure;
use crate::args::Scenario;
use crate::contender::{Contender, Manner};
use crate::size::{GIB, show_size};
use crate::stats::Summary;
use crate::track::{Course, Entry, Lane, Patience, race};

const NO_SYNC: &str = "-q --no-sync";
const DEFAULT: &str = "-q";
const PWRITE: &str = "-q --no-sync --storage pwrite";
const MMAP: &str = "-q --no-sync --storage mmap";
const PWRITE_BARE: &str = "-q --no-digest --no-sync --storage pwrite";
const MMAP_BARE: &str = "-q --no-digest --no-sync --storage mmap";

pub(super) fn run(
    scenario: Scenario,
    venue: &Venue<'_>,
    shuffle: &mut fastrand::Rng,
) -> Result<Outcome, Failure> {
    let size = venue.size(scenario);
    let tls = scenario == Scenario::Tls;
    let object = venue.object(size)?;
    let output = match scenario {
        Scenario::Tmpfs => venue.shm.ok_or("/dev/shm is not there or not writable")?.join("out"),
        _ => venue.work.join("out"),
    };
    let mut notes = Vec::new();
    if size != GIB {
        notes.push(format!("the bars are meant for 1 GiB; this was {}", show_size(size)));
    }
    let mut contenders = vec![venue.haul(NO_SYNC), venue.haul(DEFAULT)];
    if !tls {
        contenders.extend([venue.haul(PWRITE), venue.haul(MMAP)]);
        if venue.abilities.no_digest {
            contenders.extend([venue.haul(PWRITE_BARE), venue.haul(MMAP_BARE)]);
        } else {
            notes.push("this haul has no --no-digest, so its lanes and bars are left out".into());
        }
    }
    contenders.extend([false, true].map(|sync| floor(venue, sync)));
    contenders.extend(venue.peers(Manner::default()).filter(|peer| !tls || peer.speaks_tls()));

    let served = venue.origin.object(&object.name, tls);
    let ca = tls.then(|| venue.origin.ca());
    let entries: Vec<Entry<'_>> = contenders
        .into_iter()
        .map(|contender| Entry::one(contender, &served, &output, ca.as_deref()))
        .collect();
    let course = Course {
        guard: venue.origin.guard(),
        scenario: scenario.name(),
        output: output.clone(),
        keep: false,
        check: &|round, directory| object.check(round, directory),
        then_sync: scenario == Scenario::Plain,
        patience: Patience::USUAL,
    };
    let mut lanes = race(&course, &entries, venue.args.rounds, shuffle)?;
    let mut bars = bars(scenario, venue, &lanes);
    bars.extend(peak_bar(&lanes, scenario.name()));
    lanes.extend(synced_lane(&lanes));
    Ok(Outcome {
        scenario: scenario.name(),
        size_bytes: size,
        files: 1,
        output: describe_place(&output),
        limit_s: None,
        lanes,
        notes,
        bars,
    })
}

fn floor(venue: &Venue<'_>, sync: bool) -> Contender {
    Contender::floor(venue.myself, venue.args.floor_connections, sync)
}

fn bars(scenario: Scenario, venue: &Venue<'_>, lanes: &[Lane]) -> Vec<Bar> {
    let place = scenario.name();
    let summary = |flags: &str, of: fn(&Lane) -> Option<Summary>| {
        lane(lanes, &venue.haul(flags).name).and_then(of)
    };
    let mut bars = Vec::new();
    if let Some((peer, wall)) = fastest_peer(lanes, Lane::wall) {
        let peer = peer.name.split(' ').next().unwrap_or_default();
        let what = |flags: &str| format!("{place}: wall of haul {flags} to {peer}'s");
        bars.push(Bar::ratio(what(NO_SYNC), summary(NO_SYNC, Lane::wall), Some(wall), 0.6));
        if scenario != Scenario::Tls {
            bars.push(Bar::ratio(what(DEFAULT), summary(DEFAULT, Lane::wall), Some(wall), 0.75));
        }
    }
    if scenario != Scenario::Tls {
        let what = format!("{place}: wall of haul {NO_SYNC} to that with --storage pwrite");
        let [auto, pwrite] = [NO_SYNC, PWRITE].map(|flags| summary(flags, Lane::wall));
        bars.push(Bar::ratio(what, auto, pwrite, 1.05));
    }
    if let Some((peer, wall)) = fastest_peer(lanes, Lane::synced_wall) {
        let peer = peer.name.split(' ').next().unwrap_or_default();
        let what = format!("{place}: wall of haul {DEFAULT} to {peer}'s with a sync of the file");
        bars.push(Bar::ratio(what, summary(DEFAULT, Lane::wall), Some(wall), 0.6));
    }
    if !venue.abilities.no_digest || scenario == Scenario::Tls {
        return bars;
    }
    let floor = lane(lanes, &floor(venue, false).name).and_then(Lane::wall);
    for (flags, bound) in [(MMAP_BARE, 1.25), (PWRITE_BARE, 1.10)] {
        let what = format!("{place}: wall of haul {flags} to the floor's");
        bars.push(Bar::ratio(what, summary(flags, Lane::wall), floor, bound));
    }
    let curl = lanes.iter().find(|lane| lane.name.starts_with("curl "));
    if let Some(curl) = curl.map(Lane::cpu) {
        for flags in [MMAP_BARE, PWRITE_BARE] {
            let what = format!("{place}: CPU of haul {flags} to curl's");
            bars.push(Bar::ratio(what, summary(flags, Lane::cpu), curl, 0.8));
        }
    }
    for (with, without) in [(PWRITE, PWRITE_BARE), (MMAP, MMAP_BARE)] {
        let what = format!("{place}: wall of haul {with} to that with --no-digest");
        let [with, without] = [with, without].map(|flags| summary(flags, Lane::wall));
        bars.push(Bar::ratio(what, with, without, 1.15));
    }
    bars
}

/// The fastest of the peers followed by a sync, as a lane of its own: the same runs, their time
/// taken at the end of the sync.
fn synced_lane(lanes: &[Lane]) -> Option<Lane> {
    let (peer, _) = fastest_peer(lanes, Lane::synced_wall)?;
    let mut synced = peer.clone();
    synced.name = format!("{}, then fsync", peer.name);
    // Not somebody to be compared with as it is.
    synced.peer = false;
    synced.ratio_to_fastest_peer = None;
    for sample in &mut synced.samples {
        sample.wall_s = sample.synced_wall_s.unwrap_or(sample.wall_s);
    }
    Some(synced)
}
