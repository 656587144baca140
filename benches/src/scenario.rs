//! The scenarios: what is fetched where, by whom, and what counts as a pass.
//!
//! `throughput` has those of nginx at full speed, `shaped` those of the race's own servers,
//! `film` that of films in pieces, `python` those with programs in Python, `small`, `resume`, `memory` and `quick` (`tiny`, `version`) the
//! rest; [`bar`] the verdicts.

pub mod bar;
mod film;
mod memory;
pub mod python;
mod quick;
mod resume;
mod shaped;
mod small;
mod throughput;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::Failure;
use crate::args::{Args, Scenario};
use crate::contender::{Abilities, Contender, Found, Manner};
use crate::film::peers::FoundFilmPeer;
use crate::origin::{Origin, make_object};
use crate::size::show_size;
use crate::track::Lane;
use crate::verify;
use bar::Bar;

/// What came of one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Its name.
    pub scenario: &'static str,
    /// Bytes fetched by each run, 0 where the runs differ or fetch nothing.
    pub size_bytes: u64,
    /// Files fetched by each run.
    pub files: u32,
    /// Where the downloads went.
    pub output: String,
    /// The least time that the server's manners allow, in seconds.
    pub limit_s: Option<f64>,
    /// The contenders.
    pub lanes: Vec<Lane>,
    /// What a reader must know to believe the numbers.
    pub notes: Vec<String>,
    /// The project's bars that this scenario measures.
    pub bars: Vec<Bar>,
}

impl Outcome {
    /// The scenario, what was fetched and to where.
    #[must_use]
    pub fn title(&self) -> String {
        let what = match (self.size_bytes, self.files) {
            (0, _) => String::new(),
            (size, 0 | 1) => format!("{} ", show_size(size)),
            (size, files) => format!("{files} files, {} together, ", show_size(size)),
        };
        match &self.output {
            output if output.is_empty() => self.scenario.to_owned(),
            output => format!("{}: {what}to {output}", self.scenario),
        }
    }

    /// haul with the best of the fixed numbers of connections, and its least time in seconds.
    #[must_use]
    pub fn best_fixed(&self) -> Option<(&Lane, f64)> {
        let fixed = self.lanes.iter().filter(|lane| lane.fixed);
        fixed
            .filter_map(|lane| Some((lane, lane.wall()?.min)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// The lanes with the fastest first. Runs on objects of different sizes are not ranked.
    #[must_use]
    pub fn ranked(&self) -> Vec<&Lane> {
        let mut lanes: Vec<&Lane> = self.lanes.iter().collect();
        if self.size_bytes > 0 {
            let least = |lane: &Lane| lane.wall().map_or(f64::INFINITY, |wall| wall.min);
            lanes.sort_by(|a, b| least(a).total_cmp(&least(b)));
        }
        lanes
    }
}

/// Everything the scenarios share.
#[derive(Debug)]
pub struct Venue<'a> {
    /// What was typed.
    pub args: &'a Args,
    /// haul.
    pub haul: &'a Path,
    /// What that haul can do.
    pub abilities: Abilities,
    /// This program, which is also the floor.
    pub myself: &'a Path,
    /// The server.
    pub origin: &'a Origin,
    /// A directory of this run on the disk.
    pub work: &'a Path,
    /// A directory of this run in /dev/shm.
    pub shm: Option<&'a Path>,
    /// The peers found.
    pub peers: Vec<Found>,
    /// Those of `film`.
    pub film_peers: Vec<FoundFilmPeer>,
}

impl Venue<'_> {
    /// Bytes of the object of `scenario`.
    fn size(&self, scenario: Scenario) -> u64 {
        self.args.size.unwrap_or(scenario.usual_size())
    }

    /// haul with these flags.
    fn haul(&self, flags: &str) -> Contender {
        Contender::haul(self.haul, flags)
    }

    /// All peers in this manner.
    fn peers(&self, manner: Manner) -> impl Iterator<Item = Contender> {
        self.peers.iter().map(move |found| Contender::peer(found, manner))
    }

    /// Where the object of `size` bytes is served, made once for all scenarios that want it.
    fn object(&self, size: u64) -> Result<Object, Failure> {
        let name = format!("object-{size}");
        let path: PathBuf = self.origin.served(&name);
        if !path.exists() {
            make_object(&path, size)?;
        }
        Ok(Object { name, path })
    }
}

/// A served object.
struct Object {
    name: String,
    path: PathBuf,
}

impl Object {
    /// Compares the download in `directory`: every byte in the first round, samples later.
    fn check(&self, round: u32, directory: &Path) -> Result<(), Failure> {
        let same = if round == 1 { verify::same_whole } else { verify::same_sampled };
        same(&self.path, &directory.join(crate::track::OUTPUT_NAME))
    }
}

/// Runs one scenario: most have one outcome, `film` has several, or none where it is skipped.
///
/// # Errors
///
/// When the venue fails: disk, nginx, missing memory file system.
pub fn run(
    scenario: Scenario,
    venue: &Venue<'_>,
    shuffle: &mut fastrand::Rng,
) -> Result<Vec<Outcome>, Failure> {
    eprintln!("{}: {}", scenario.name(), scenario.about());
    let outcome = match scenario {
        Scenario::Film => return film::run(venue, shuffle),
        Scenario::Plain | Scenario::Tmpfs | Scenario::Tls => {
            throughput::run(scenario, venue, shuffle)
        }
        Scenario::Capped
        | Scenario::Uneven
        | Scenario::Far
        | Scenario::Lossy
        | Scenario::Stalls
        | Scenario::Limited => shaped::run(scenario, venue, shuffle),
        Scenario::Small => small::run(venue, shuffle),
        Scenario::Hf => python::hub(venue, shuffle),
        Scenario::PythonSmall => python::small(venue, shuffle),
        Scenario::Tiny => quick::tiny(venue, shuffle),
        Scenario::Resume => resume::run(venue, shuffle),
        Scenario::Memory => memory::memory(venue),
        Scenario::Huge => memory::huge(venue),
        Scenario::Version => quick::version(venue),
    };
    Ok(vec![outcome?])
}

/// A figure for a person: `4.19 s`.
fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// The path's file system, without which a number means little.
pub(crate) fn describe_place(directory: &Path) -> String {
    const KINDS: [(u64, &str); 5] = [
        (0xEF53, "ext4"),
        (0x5846_5342, "xfs"),
        (0x9123_683E, "btrfs"),
        (0x0102_1994, "tmpfs"),
        (0x794C_7630, "overlay"),
    ];
    let kind = rustix::fs::statfs(directory).ok().and_then(|space| {
        let magic = u64::try_from(space.f_type).ok()? & 0xFFFF_FFFF;
        KINDS.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
    });
    kind.unwrap_or("an unknown file system").to_owned()
}
