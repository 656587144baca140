//! `small`: many small files from one list, where requests and syncs are the cost.

use std::fs;
use std::path::Path;

use super::bar::{Bar, fastest_peer, lane, peak_bar};
use super::{Outcome, Venue, describe_place};
use crate::Failure;
use crate::contender::{Contender, batch_peers};
use crate::origin::{ServedDirectory, make_object};
use crate::track::{Course, Entry, Lane, Patience, race};
use crate::verify;

const FILES: u32 = 2_000;
const FILE_BYTES: u64 = 64 * 1024;
const NO_SYNC: &str = "-q --no-sync -i";
const DEFAULT: &str = "-q -i";
/// As many at a time as the peers are told to.
const WIDE: &str = "-q --no-sync -j 16 -i";

pub(super) fn run(venue: &Venue<'_>, shuffle: &mut fastrand::Rng) -> Result<Outcome, Failure> {
    let served = venue.origin.served("small");
    let names: Vec<String> = (0..FILES).map(|number| format!("file-{number:04}")).collect();
    if !served.exists() {
        make_files(&served, &names, FILE_BYTES)?;
    }
    let mut notes = Vec::new();
    let mut contenders: Vec<Contender> = Vec::new();
    if venue.abilities.input_file {
        contenders.extend([NO_SYNC, WIDE, DEFAULT].map(|flags| venue.haul(flags)));
    } else {
        notes.push("this haul has no --input-file, so it does not run here".to_owned());
    }
    contenders.extend(batch_peers(&venue.peers));
    contenders.extend([false, true].map(|sync| floor(venue, sync)));
    let source = ServedDirectory { origin: venue.origin, name: "small", tls: false };
    let (output, list) = (venue.work.join("out"), venue.work.join("list"));
    let (names, at, to) = (&names, &list, &output);
    let entries: Vec<Entry<'_>> = contenders
        .into_iter()
        .map(|contender| Entry {
            name: contender.name.clone(),
            role: contender.role,
            source: &source,
            after: None,
            prepare: Box::new(move |base| {
                let urls: Vec<String> = names.iter().map(|name| format!("{base}/{name}")).collect();
                contender.batch_command(&urls, at, to, None)
            }),
        })
        .collect();
    let course = Course {
        guard: venue.origin.guard(),
        scenario: "small",
        output: output.clone(),
        // ext4 looks for an inode that was not freed lately, among all of a group: who runs
        // after the removal of thousands of files pays more than the files cost.
        keep: true,
        check: &|_, directory| same_files(&served, names, directory),
        then_sync: false,
        patience: Patience::USUAL,
    };
    let lanes = race(&course, &entries, venue.args.rounds, shuffle)?;
    let mut bars = Vec::new();
    if let Some((peer, wall)) = fastest_peer(&lanes, Lane::wall).filter(|_| has_haul(&lanes)) {
        let peer = peer.name.split(' ').next().unwrap_or_default();
        // At least 1.5 times the files a second is at most a 1.5th of the time.
        for (flags, times) in [(NO_SYNC, 1.5), (DEFAULT, 0.7)] {
            let what = format!(
                "small: wall of haul {flags} LIST to {peer}'s ({times} times its files a second)"
            );
            let mine = lane(&lanes, &venue.haul(flags).name).and_then(Lane::wall);
            bars.push(Bar::ratio(what, mine, Some(wall), 1.0 / times));
        }
    }
    bars.extend(peak_bar(&lanes, "small"));
    fs::remove_dir_all(&served)?;
    Ok(Outcome {
        scenario: "small",
        size_bytes: u64::from(FILES) * FILE_BYTES,
        files: FILES,
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

fn has_haul(lanes: &[Lane]) -> bool {
    lanes.iter().any(|lane| lane.haul)
}

/// Compares every byte of these files.
pub(super) fn same_files(served: &Path, names: &[String], directory: &Path) -> Result<(), Failure> {
    names.iter().try_for_each(|name| verify::same_whole(&served.join(name), &directory.join(name)))
}

/// No two of them alike: a program that confuses files must not get away with it.
pub(super) fn make_files(
    directory: &Path,
    names: &[String],
    file_bytes: u64,
) -> Result<(), Failure> {
    fs::create_dir_all(directory)?;
    for (number, name) in names.iter().enumerate() {
        let mut content = vec![0; usize::try_from(file_bytes)?];
        fastrand::Rng::with_seed(number as u64).fill(&mut content);
        fs::write(directory.join(name), content)?;
    }
    // One file synced takes the journal of all of them along.
    make_object(&directory.join("last"), 0)
}
