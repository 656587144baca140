//! `memory` and `huge`: what haul needs as the object grows.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Command;

use super::bar::{Bar, peak_bar};
use super::{Outcome, Venue, describe_place};
use crate::Failure;
use crate::args::{HUGE_BYTES, Scenario};
use crate::contender::{Job, Role};
use crate::measure::{Running, Usage};
use crate::origin::make_sparse;
use crate::size::{GIB, MIB, show_size};
use crate::track::{Lane, OUTPUT_NAME, Sample, clear};

const SPARSE: &str = "sparse";
/// The sizes of `huge`, in bytes.
const GROWING: [u64; 3] = [4 * GIB, 16 * GIB, HUGE_BYTES];

pub(super) fn memory(venue: &Venue<'_>) -> Result<Outcome, Failure> {
    let output = venue.work.join("out");
    let (mut lanes, mut bars, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    let size = venue.size(Scenario::Memory);
    let object = venue.object(size)?;
    for flags in ["--no-sync", "-x 16 --no-sync"] {
        let title = format!("haul {flags} {}", show_size(size));
        let download = Download { object: &object.name, output: &output, flags, stop_after: 0 };
        lanes.push(download.run(venue, &title, &mut notes)?.lane);
    }

    clear(&output)?;
    let size = room_for(&output, HUGE_BYTES, &mut notes)?;
    if size > venue.size(Scenario::Memory) {
        make_sparse(&venue.origin.served(SPARSE), size)?;
        let title = format!("haul --no-sync {}", show_size(size));
        let stop_after = venue.args.stop_after;
        let download = Download { object: SPARSE, output: &output, flags: "--no-sync", stop_after };
        lanes.push(download.run(venue, &title, &mut notes)?.lane);
        fs::remove_file(venue.origin.served(SPARSE))?;
    }
    for lane in &lanes {
        bars.extend(peak_bar(std::slice::from_ref(lane), &format!("memory: {}", lane.name)));
    }
    clear(&output)?;
    Ok(outcome(Scenario::Memory, &output, lanes, notes, bars))
}

pub(super) fn huge(venue: &Venue<'_>) -> Result<Outcome, Failure> {
    let output = venue.work.join("out");
    let (mut lanes, mut costs, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    clear(&output)?;
    if !venue.abilities.null_storage {
        notes.push(
            "this haul has no null storage (haul bench --storage null): it writes to the disk, \
             each size ended after --stop-after"
                .to_owned(),
        );
    }
    for size in GROWING {
        make_sparse(&venue.origin.served(SPARSE), size)?;
        let run = if venue.abilities.null_storage {
            nowhere(venue, &format!("haul bench --storage null {}", show_size(size)), size)?
        } else {
            let size = room_for(&output, size, &mut notes)?;
            make_sparse(&venue.origin.served(SPARSE), size)?;
            let title = format!("haul --no-sync {}", show_size(size));
            let stop_after = venue.args.stop_after;
            Download { object: SPARSE, output: &output, flags: "--no-sync", stop_after }
                .run(venue, &title, &mut notes)?
        };
        fs::remove_file(venue.origin.served(SPARSE))?;
        if let Some(sample) = run.lane.samples.first() {
            let gibibytes = run.bytes as f64 / GIB as f64;
            let (wall_s, cpu_s) = (sample.wall_s / gibibytes, sample.cpu_s / gibibytes);
            notes.push(format!(
                "{}: {wall_s:.3} s and {cpu_s:.3} CPU s for each GiB, peak {:.1} MiB",
                run.lane.name,
                sample.peak_rss_bytes as f64 / MIB as f64
            ));
            costs.push(cpu_s);
        }
        lanes.push(run.lane);
    }
    if let [first, .., last] = costs[..] {
        notes.push(format!(
            "CPU for each GiB of the largest is {:.2} of that of the smallest",
            last / first
        ));
    }
    let bars = peak_bar(&lanes, "huge").into_iter().collect();
    clear(&output)?;
    Ok(outcome(Scenario::Huge, &output, lanes, notes, bars))
}

fn outcome(
    scenario: Scenario,
    output: &Path,
    lanes: Vec<Lane>,
    notes: Vec<String>,
    bars: Vec<Bar>,
) -> Outcome {
    let output = describe_place(output);
    Outcome {
        scenario: scenario.name(),
        size_bytes: 0,
        files: 0,
        output,
        limit_s: None,
        lanes,
        notes,
        bars,
    }
}

/// A lane of one run and how many bytes came in it.
struct Solo {
    lane: Lane,
    bytes: u64,
}

fn solo(title: &str, usage: &Usage, venue: &Venue<'_>, tag: &str) -> Result<Lane, Failure> {
    let mut lane = Lane::new(title, Role::Haul);
    lane.samples.push(Sample::of(1, 1, usage, venue.origin.traffic(tag)?));
    let [peak, wall] = [usage.peak_rss_bytes as f64 / MIB as f64, usage.wall.as_secs_f64()];
    eprintln!("  peak {peak:.1} MiB, {wall:.3} s  {title}");
    Ok(lane)
}

fn failed(title: &str, error: &Failure) -> Solo {
    eprintln!("  {title} failed: {error}");
    let mut lane = Lane::new(title, Role::Haul);
    lane.failure = Some(error.to_string());
    Solo { lane, bytes: 0 }
}

/// One download by haul that may be ended after `stop_after` received bytes (0: never).
struct Download<'a> {
    object: &'a str,
    output: &'a Path,
    flags: &'a str,
    stop_after: u64,
}

impl Download<'_> {
    fn run(
        &self,
        venue: &Venue<'_>,
        title: &str,
        notes: &mut Vec<String>,
    ) -> Result<Solo, Failure> {
        clear(self.output)?;
        let tag = title.replace(' ', "-");
        let url = venue.origin.url(self.object, &tag, false);
        let job = Job { url: &url, directory: self.output, name: OUTPUT_NAME, ca: None };
        let mut command = venue.haul(&format!("--json {}", self.flags)).command(&job);
        let (mut running, stdout) = Running::start_piped(&mut command, venue.origin.guard())?;
        let (mut received, mut ended) = (0, false);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if event["event"] == "progress" || event["event"] == "complete" {
                received = event["bytes"].as_u64().unwrap_or(received);
            }
            if self.stop_after > 0 && received >= self.stop_after && !ended {
                ended = true;
                running.kill();
            }
        }
        let usage = running.finish()?;
        if ended {
            notes.push(format!(
                "{title}: ended after {} (--stop-after 0 fetches the whole)",
                show_size(received / MIB * MIB)
            ));
        } else if let Err(error) = usage.success() {
            return Ok(failed(title, &error));
        }
        Ok(Solo { lane: solo(title, &usage, venue, &tag)?, bytes: received })
    }
}

/// One download by `haul bench` into its null storage, over one number of connections.
fn nowhere(venue: &Venue<'_>, title: &str, size: u64) -> Result<Solo, Failure> {
    let tag = title.replace(' ', "-");
    let mut command = Command::new(venue.haul);
    command.args(["bench", "--storage", "null", "-x", "4", "--json"]);
    if venue.abilities.bench_rounds {
        command.args(["--rounds", "1"]);
    }
    command.arg(venue.origin.url(SPARSE, &tag, false));
    let (running, mut stdout) = Running::start_piped(&mut command, venue.origin.guard())?;
    let mut said = String::new();
    stdout.read_to_string(&mut said)?;
    let usage = running.finish()?;
    if let Err(error) = usage.success() {
        return Ok(failed(title, &error));
    }
    let lane = solo(title, &usage, venue, &tag)?;
    // What was served tells how often the whole came: a bench may warm up.
    let served = lane.samples.first().map_or(size, |sample| sample.traffic.body_bytes);
    Ok(Solo { lane, bytes: served.max(size) })
}

/// `wanted` bytes or what the disk has room for, with a note.
fn room_for(directory: &Path, wanted: u64, notes: &mut Vec<String>) -> Result<u64, Failure> {
    let space = rustix::fs::statvfs(directory)?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    // A tenth stays free for everybody else.
    let room = free / 11 * 10;
    if room >= wanted {
        return Ok(wanted);
    }
    let size = room / GIB * GIB;
    notes.push(format!(
        "{} are free where {} and a tenth are needed: the large object has {}",
        show_size(free / MIB * MIB),
        show_size(wanted),
        show_size(size)
    ));
    Ok(size)
}
