//! `haul verify`: checks a finished file against a digest, or a partial against its checkpoint.

use std::path::Path;
use std::time::Instant;

use haul_engine::{BadRange, FileReport, PartialReport, is_partial, verify_file, verify_partial};
use serde::Serialize;

use crate::args::VerifyArgs;
use crate::exit::{self, Failure};
use crate::render::{self, Voice, escape, to_stdout};
use crate::signals;
use crate::units::{plural, size};

/// Checks the file, prints the result, and returns the exit code.
///
/// # Errors
/// Exit 2 when the flags do not fit the file. Everything else is printed.
pub(crate) fn run(args: &VerifyArgs) -> Result<u8, Failure> {
    signals::explain_bus_errors(signals::Mapped::Checked);
    let shown = escape(&args.file.to_string_lossy());
    let partial = is_partial(&args.file);
    if partial && args.checksum.is_some() {
        return Err(Failure::usage(format!(
            "--checksum checks a finished file, and {shown} is a partial download"
        ))
        .hint("give --checksum to the download: it is published only if it matches"));
    }
    if !partial && args.repair && args.file.exists() {
        return Err(Failure::usage(format!(
            "--repair repairs a partial download, and {shown} is not one: no checkpoint says how \
             to repair it"
        ))
        .hint("a partial is named NAME.part, with NAME.haul beside it"));
    }
    let told = Told { json: args.json, start: Instant::now() };
    let checked = if partial { of_partial(args, &told) } else { of_file(args, &told) };
    Ok(match checked {
        Ok(()) => exit::OK,
        Err(failure) => {
            let voice = if args.json { Voice::Json } else { Voice::Quiet };
            render::view(voice, false).failed(1, &failure);
            failure.exit
        }
    })
}

fn of_file(args: &VerifyArgs, told: &Told) -> Result<(), Failure> {
    let report = verify_file(&args.file, args.checksum.as_ref())?;
    if told.json {
        told.event(&Body::File {
            file: &args.file.to_string_lossy(),
            bytes: report.bytes,
            blake3: report.blake3_hex(),
            matches: report.verified.is_some().then_some(true),
        });
        return Ok(());
    }
    to_stdout(&[file_line(&args.file, args, &report)]);
    Ok(())
}

fn file_line(file: &Path, args: &VerifyArgs, report: &FileReport) -> String {
    let file = escape(&file.to_string_lossy());
    let (count, size) = (plural(report.bytes, "byte", "bytes"), size(report.bytes));
    let facts = format!("{count} ({size}), blake3={}", report.blake3_hex());
    match &args.checksum {
        None => format!("{file}: {facts}"),
        Some(checksum) => format!("{file}: matches {checksum}; {facts}"),
    }
}

fn of_partial(args: &VerifyArgs, told: &Told) -> Result<(), Failure> {
    let report = verify_partial(&args.file, args.repair)?;
    if told.json {
        told.event(&Body::Partial {
            output: &report.output.to_string_lossy(),
            total: report.total_bytes,
            claimed_bytes: report.claimed_bytes,
            unhashed_bytes: report.unhashed_bytes,
            bad_bytes: report.bad_bytes(),
            bad: report.bad.iter().map(Bad::of).collect(),
            repaired: report.repaired,
        });
    } else {
        to_stdout(&partial_lines(&report));
    }
    if report.bad.is_empty() || report.repaired {
        return Ok(());
    }
    let output = escape(&report.output.to_string_lossy());
    Err(Failure::new(
        exit::DIGEST,
        "digest-mismatch",
        format!(
            "{} of {output}.part are not what was stored; nothing was changed",
            size(report.bad_bytes())
        ),
    )
    .hint(format!(
        "haul verify --repair {output} makes the next run of the download fetch them again"
    )))
}

/// Byte ranges as HTTP and `--range` write them, the last byte included.
fn partial_lines(report: &PartialReport) -> Vec<String> {
    let output = escape(&report.output.to_string_lossy());
    let right = size(report.claimed_bytes - report.bad_bytes());
    let of = report.total_bytes.map(|total| format!(" of {}", size(total))).unwrap_or_default();
    let mut lines = vec![format!("{output}.part: {right}{of} are here and correct")];
    if report.unhashed_bytes > 0 {
        let more = size(report.unhashed_bytes);
        lines.push(format!("{more} more cannot be checked: they were stored with --no-digest"));
    }
    for bad in &report.bad {
        let (segment, start, last) = (bad.segment, bad.start, bad.end - 1);
        lines.push(format!("segment {segment}: bytes {start}-{last} are not what was stored"));
    }
    if report.repaired {
        lines.push(format!(
            "repaired: {output}.haul lists {} as missing; run the download again to fetch them",
            plural(report.bad.len() as u64, "segment", "segments")
        ));
    }
    lines
}

/// How the result is printed.
struct Told {
    json: bool,
    start: Instant,
}

impl Told {
    fn event(&self, body: &Body<'_>) {
        let t = (self.start.elapsed().as_secs_f64() * 1e3).round() / 1e3;
        let record = Record { v: 1, body, id: 1, t };
        to_stdout(&[serde_json::to_string(&record).unwrap_or_default()]);
    }
}

#[derive(Serialize)]
struct Record<'a> {
    v: u32,
    #[serde(flatten)]
    body: &'a Body<'a>,
    id: u32,
    t: f64,
}

#[derive(Serialize)]
#[serde(tag = "event")]
enum Body<'a> {
    #[serde(rename = "file")]
    File {
        file: &'a str,
        bytes: u64,
        blake3: String,
        /// Null without `--checksum`; a digest that differs is an error event.
        matches: Option<bool>,
    },
    #[serde(rename = "partial")]
    Partial {
        output: &'a str,
        total: Option<u64>,
        claimed_bytes: u64,
        /// Stored as well, but by a run with --no-digest.
        unhashed_bytes: u64,
        bad_bytes: u64,
        bad: Vec<Bad>,
        repaired: bool,
    },
}

/// A half-open range: `end` is the offset after the last byte.
#[derive(Serialize)]
struct Bad {
    segment: u32,
    start: u64,
    end: u64,
}

impl Bad {
    fn of(range: &BadRange) -> Self {
        Self { segment: range.segment, start: range.start, end: range.end }
    }
}
