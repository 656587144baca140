//! The scenarios: what is fetched where, by whom, and what counts as a pass.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::Failure;
use crate::args::{Args, HUGE_BYTES, Scenario};
use crate::contender::{Contender, HAUL_DEFAULT, HAUL_NO_SYNC, HAUL_PWRITE, Job};
use crate::measure::Running;
use crate::origin::{Origin, make_object, make_sparse};
use crate::size::{GIB, MIB, show_size};
use crate::track::{Course, Lane, Sample, clear, race};

const PEAK_BAR_BYTES: u64 = 64 * MIB;
const VERSION_RUNS: u32 = 20;
const TINY_BYTES: u64 = 1024;

/// One bar of the project and what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    /// What is measured.
    pub what: String,
    /// The measurement, in `unit`.
    pub measured: f64,
    /// The most it may be, in `unit`.
    pub bound: f64,
    /// `x`, `MiB`, `ms` or `requests`.
    pub unit: &'static str,
    /// Whether the bound holds.
    pub pass: bool,
}

impl Bar {
    fn new(what: impl Into<String>, measured: f64, bound: f64, unit: &'static str) -> Self {
        Self { what: what.into(), measured, bound, unit, pass: measured <= bound }
    }
}

/// What came of one scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Its name.
    pub scenario: &'static str,
    /// Bytes of the object, 0 where there is none or more than one.
    pub size_bytes: u64,
    /// Where the downloads went.
    pub output: String,
    /// The contenders.
    pub lanes: Vec<Lane>,
    /// What a reader must know to believe the numbers.
    pub notes: Vec<String>,
    /// The project's bars that this scenario measures.
    pub bars: Vec<Bar>,
}

/// Everything the scenarios share.
#[derive(Debug)]
pub struct Venue<'a> {
    /// What was typed.
    pub args: &'a Args,
    /// haul.
    pub haul: &'a Path,
    /// This program, which is also the floor.
    pub myself: &'a Path,
    /// The server.
    pub origin: &'a Origin,
    /// A directory of this run on the disk.
    pub work: &'a Path,
    /// A directory of this run in /dev/shm.
    pub shm: Option<&'a Path>,
    /// The peers found.
    pub others: Vec<Contender>,
}

/// Runs one scenario.
///
/// # Errors
///
/// When the venue fails: disk, nginx, missing memory file system.
pub fn run(
    scenario: Scenario,
    venue: &Venue<'_>,
    shuffle: &mut fastrand::Rng,
) -> Result<Outcome, Failure> {
    eprintln!("{}: {}", scenario.name(), scenario.about());
    match scenario {
        Scenario::Plain | Scenario::Tmpfs | Scenario::Tls => throughput(scenario, venue, shuffle),
        Scenario::Tiny => tiny(venue, shuffle),
        Scenario::Memory => memory(venue),
        Scenario::Version => version(venue),
    }
}

fn throughput(
    scenario: Scenario,
    venue: &Venue<'_>,
    shuffle: &mut fastrand::Rng,
) -> Result<Outcome, Failure> {
    let size = venue.args.size;
    let tls = scenario == Scenario::Tls;
    let object = object_of(venue, "object", size)?;
    let output = match scenario {
        Scenario::Tmpfs => venue.shm.ok_or("/dev/shm is not there or not writable")?.join("out"),
        _ => venue.work.join("out"),
    };
    let mut contenders: Vec<Contender> = [HAUL_NO_SYNC, HAUL_DEFAULT, HAUL_PWRITE]
        .map(|flags| Contender::haul(venue.haul, flags))
        .into_iter()
        .chain(venue.others.iter().cloned())
        .collect();
    for sync in [false, true] {
        contenders.push(Contender::floor(venue.myself, venue.args.floor_connections, sync));
    }
    contenders.retain(|contender| !tls || contender.speaks_tls());
    let course = Course {
        origin: venue.origin,
        object,
        output: output.clone(),
        tls,
        scenario: scenario.name(),
    };
    let lanes = race(&course, &contenders, venue.args.rounds, shuffle)?;
    let mut bars = Vec::new();
    let mut notes = Vec::new();
    if scenario == Scenario::Plain {
        if size != GIB {
            notes.push(format!("the bars are meant for 1 GiB; this was {}", show_size(size)));
        }
        let fastest =
            lanes.iter().filter(|lane| lane.peer).filter_map(least).min_by(f64::total_cmp);
        for (flags, bound) in [(HAUL_NO_SYNC, 0.7), (HAUL_DEFAULT, 0.9)] {
            let name = Contender::haul(venue.haul, flags).name;
            let mine = lanes.iter().find(|lane| lane.name == name).and_then(least);
            if let Some((mine, peer)) = mine.zip(fastest) {
                let what = format!("{name}: its least wall time through the fastest peer's");
                bars.push(Bar::new(what, mine / peer, bound, "x"));
            }
        }
    }
    bars.extend(peak_bar(&lanes, scenario.name()));
    Ok(Outcome {
        scenario: scenario.name(),
        size_bytes: size,
        output: describe_place(&output),
        lanes,
        notes,
        bars,
    })
}

fn tiny(venue: &Venue<'_>, shuffle: &mut fastrand::Rng) -> Result<Outcome, Failure> {
    let object = object_of(venue, "tiny", TINY_BYTES)?;
    let output = venue.work.join("out");
    let mut contenders =
        vec![Contender::haul(venue.haul, HAUL_NO_SYNC), Contender::haul(venue.haul, HAUL_DEFAULT)];
    contenders.extend(venue.others.iter().cloned());
    let course = Course {
        origin: venue.origin,
        object,
        output: output.clone(),
        tls: false,
        scenario: "tiny",
    };
    let lanes = race(&course, &contenders, venue.args.rounds, shuffle)?;
    let counts: Vec<u64> = lanes
        .iter()
        .filter(|lane| lane.haul)
        .flat_map(|lane| lane.samples.iter().map(|sample| sample.requests))
        .collect();
    let bar = counts.iter().max().map(|&most| {
        let bar = Bar::new("haul's requests for 1 KiB", most as f64, 1.0, "requests");
        // None at all would mean that they were not recognised in the log.
        Bar { pass: counts.iter().all(|&count| count == 1), ..bar }
    });
    Ok(Outcome {
        scenario: "tiny",
        size_bytes: TINY_BYTES,
        output: describe_place(&output),
        lanes,
        notes: Vec::new(),
        bars: bar.into_iter().collect(),
    })
}

fn version(venue: &Venue<'_>) -> Result<Outcome, Failure> {
    let mut lane = solo("haul --version");
    for round in 1..=VERSION_RUNS {
        let mut command = Command::new(venue.haul);
        let usage = Running::start(command.arg("--version"), venue.origin.guard())?.finish()?;
        if let Err(error) = usage.success() {
            lane.failure = Some(error.to_string());
            break;
        }
        lane.samples.push(Sample {
            round,
            place: 1,
            wall_s: usage.wall.as_secs_f64(),
            cpu_s: usage.cpu.as_secs_f64(),
            peak_rss_bytes: usage.peak_rss_bytes,
            requests: 0,
        });
    }
    let bar =
        least(&lane).map(|wall| Bar::new("haul --version, the least", wall * 1e3, 10.0, "ms"));
    Ok(Outcome {
        scenario: "version",
        size_bytes: 0,
        output: String::new(),
        lanes: vec![lane],
        notes: Vec::new(),
        bars: bar.into_iter().collect(),
    })
}

fn memory(venue: &Venue<'_>) -> Result<Outcome, Failure> {
    let output = venue.work.join("out");
    let (mut lanes, mut bars, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    let object = object_of(venue, "object", venue.args.size)?;
    let title = |flags: &str, size| format!("haul {flags} {}", show_size(size));
    for (flags, title) in [
        (&["--no-sync"][..], title("--no-sync", venue.args.size)),
        (&["-x", "16", "--no-sync"][..], title("-x 16 --no-sync", venue.args.size)),
    ] {
        lanes.push(memory_run(venue, object, &output, flags, &title, 0, &mut notes)?);
    }

    clear(&output)?;
    let free = free_bytes(&output)?;
    let size = if free / 11 * 10 >= HUGE_BYTES { HUGE_BYTES } else { free / 11 * 10 / GIB * GIB };
    if size < HUGE_BYTES {
        notes.push(format!(
            "{} are free where 64 GiB and a tenth are needed: the large object has {}",
            show_size(free / MIB * MIB),
            show_size(size)
        ));
    }
    if size > venue.args.size {
        make_sparse(&venue.origin.served("huge"), size)?;
        let (title, stop) = (title("--no-sync", size), venue.args.stop_after);
        lanes.push(memory_run(venue, "huge", &output, &["--no-sync"], &title, stop, &mut notes)?);
        fs::remove_file(venue.origin.served("huge"))?;
    }
    for lane in &lanes {
        bars.extend(peak_bar(std::slice::from_ref(lane), &lane.name));
    }
    clear(&output)?;
    Ok(Outcome {
        scenario: "memory",
        size_bytes: 0,
        output: describe_place(&output),
        lanes,
        notes,
        bars,
    })
}

/// One download by haul that may be ended after `stop_after` received bytes (0: never).
fn memory_run(
    venue: &Venue<'_>,
    object: &str,
    output: &Path,
    flags: &[&str],
    title: &str,
    stop_after: u64,
    notes: &mut Vec<String>,
) -> Result<Lane, Failure> {
    clear(output)?;
    let tag = format!("memory-{object}-{}", flags.len());
    let url = venue.origin.url(object, &tag, false);
    let job = Job { url: &url, directory: output, name: "download", ca: None };
    let mut command = Contender::haul(venue.haul, &["--json"]).command(&job);
    let (mut running, stdout) = Running::start_piped(command.args(flags), venue.origin.guard())?;
    let (mut received, mut ended) = (0, false);
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if event["event"] == "progress" {
            received = event["bytes"].as_u64().unwrap_or(received);
        }
        if stop_after > 0 && received >= stop_after && !ended {
            ended = true;
            running.kill();
        }
    }
    let usage = running.finish()?;
    let mut lane = solo(title);
    if ended {
        notes.push(format!(
            "{title}: ended after {} (--stop-after 0 fetches the whole)",
            show_size(received / MIB * MIB)
        ));
    } else if let Err(error) = usage.success() {
        lane.failure = Some(error.to_string());
        return Ok(lane);
    }
    lane.samples.push(Sample {
        round: 1,
        place: 1,
        wall_s: usage.wall.as_secs_f64(),
        cpu_s: usage.cpu.as_secs_f64(),
        peak_rss_bytes: usage.peak_rss_bytes,
        requests: venue.origin.requests(&tag)?,
    });
    eprintln!("  memory: peak {:.1} MiB  {title}", usage.peak_rss_bytes as f64 / MIB as f64);
    Ok(lane)
}

fn solo(name: &str) -> Lane {
    Lane {
        name: name.to_owned(),
        haul: true,
        peer: false,
        samples: Vec::new(),
        failure: None,
        wrong_file: false,
        ratio_to_fastest_peer: None,
    }
}

fn least(lane: &Lane) -> Option<f64> {
    lane.wall().map(|wall| wall.min)
}

fn peak_bar(lanes: &[Lane], where_: &str) -> Option<Bar> {
    let peak = lanes.iter().filter(|lane| lane.haul).filter_map(Lane::peak_rss_bytes).max()?;
    let in_mib = |bytes: u64| bytes as f64 / MIB as f64;
    let what = format!("haul's peak resident memory, {where_}");
    Some(Bar::new(what, in_mib(peak), in_mib(PEAK_BAR_BYTES), "MiB"))
}

/// Makes the object once for all scenarios that want it.
fn object_of<'n>(venue: &Venue<'_>, name: &'n str, size: u64) -> Result<&'n str, Failure> {
    let path: PathBuf = venue.origin.served(name);
    if !path.exists() {
        make_object(&path, size)?;
    }
    Ok(name)
}

fn free_bytes(directory: &Path) -> Result<u64, Failure> {
    let space = rustix::fs::statvfs(directory)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// The path with the kind of its file system, without which a number means little.
fn describe_place(directory: &Path) -> String {
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
