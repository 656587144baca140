//! Rounds: everybody once in each, in a fresh order, every download checked.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::Failure;
use crate::contender::{Contender, Job, Role};
use crate::measure::{Running, Usage};
use crate::origin::Origin;
use crate::stats::Summary;
use crate::verify;

const OUTPUT_NAME: &str = "download";

/// One run that ended well.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Which round, from 1.
    pub round: u32,
    /// Its place in the order of that round, from 1.
    pub place: usize,
    /// Wall time in seconds.
    pub wall_s: f64,
    /// User and system time in seconds.
    pub cpu_s: f64,
    /// Peak resident memory in bytes.
    pub peak_rss_bytes: u64,
    /// Requests that the origin logged.
    pub requests: u64,
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
    /// It said success and the file was wrong.
    pub wrong_file: bool,
    /// Over the rounds: its wall time through that of the round's fastest peer.
    pub ratio_to_fastest_peer: Option<Summary>,
}

impl Lane {
    /// Wall time in seconds.
    #[must_use]
    pub fn wall(&self) -> Option<Summary> {
        Summary::of(self.samples.iter().map(|sample| sample.wall_s))
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
        self.samples.iter().map(|sample| sample.requests).max()
    }
}

/// What to fetch, from where, to where.
#[derive(Debug)]
pub struct Course<'a> {
    /// The server.
    pub origin: &'a Origin,
    /// The name of the object at the server.
    pub object: &'a str,
    /// Emptied before every run.
    pub output: PathBuf,
    /// Over HTTPS.
    pub tls: bool,
    /// Part of the tag in the log.
    pub scenario: &'a str,
}

/// Runs `contenders` in `rounds` rounds.
///
/// # Errors
///
/// When the place of the race fails; a contender that fails only leaves its lane.
pub fn race(
    course: &Course<'_>,
    contenders: &[Contender],
    rounds: u32,
    shuffle: &mut fastrand::Rng,
) -> Result<Vec<Lane>, Failure> {
    let mut lanes: Vec<Lane> = contenders
        .iter()
        .map(|contender| Lane {
            name: contender.name.clone(),
            haul: contender.role == Role::Haul,
            peer: contender.role == Role::Peer,
            samples: Vec::new(),
            failure: None,
            wrong_file: false,
            ratio_to_fastest_peer: None,
        })
        .collect();
    for round in 1..=rounds {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        shuffle.shuffle(&mut order);
        for (place, index) in order.into_iter().enumerate() {
            let (contender, lane) = (&contenders[index], &mut lanes[index]);
            if lane.failure.is_some() {
                continue;
            }
            clear(&course.output)?;
            let tag = format!("{}-{round}-{index}", course.scenario);
            let usage = run(course, contender, &tag)?;
            let expected = course.origin.served(course.object);
            let checked = usage.success().and_then(|()| {
                let actual = course.output.join(OUTPUT_NAME);
                let same = if round == 1 { verify::same_whole } else { verify::same_sampled };
                same(&expected, &actual).inspect_err(|_| lane.wrong_file = true)
            });
            let wall_s = usage.wall.as_secs_f64();
            match checked {
                Ok(()) => {
                    eprintln!("  {} round {round}: {wall_s:7.3} s  {}", course.scenario, lane.name);
                    lane.samples.push(Sample {
                        round,
                        place: place + 1,
                        wall_s,
                        cpu_s: usage.cpu.as_secs_f64(),
                        peak_rss_bytes: usage.peak_rss_bytes,
                        requests: course.origin.requests(&tag)?,
                    });
                }
                Err(error) => {
                    eprintln!("  {} round {round}: {} failed: {error}", course.scenario, lane.name);
                    lane.failure = Some(error.to_string());
                }
            }
        }
    }
    clear(&course.output)?;
    compare_within_rounds(&mut lanes, rounds);
    Ok(lanes)
}

fn run(course: &Course<'_>, contender: &Contender, tag: &str) -> Result<Usage, Failure> {
    let url = course.origin.url(course.object, tag, course.tls);
    let ca = course.origin.ca();
    let job = Job {
        url: &url,
        directory: &course.output,
        name: OUTPUT_NAME,
        ca: course.tls.then_some(ca.as_path()),
    };
    Running::start(&mut contender.command(&job), course.origin.guard())?.finish()
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

fn compare_within_rounds(lanes: &mut [Lane], rounds: u32) {
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
