//! `haul status` and `haul clean`: the partial downloads in a directory.

use std::path::Path;
use std::time::{Duration, SystemTime};

use haul_engine::{
    Error, ErrorKind, PartialInfo, PartialState, ValidatorKind, find_partials, partial_info,
    remove_partial,
};
use serde::Serialize;

use crate::args::{CleanArgs, StatusArgs};
use crate::exit::{self, Failure};
use crate::render::{escape, tell, to_stdout};
use crate::units::{duration, plural, size};

/// Lists the partial downloads of a directory, or one of them.
///
/// # Errors
/// Exit 3 when the directory or the one partial cannot be read.
pub(crate) fn status(args: &StatusArgs) -> Result<u8, Failure> {
    let place = args.place.as_deref().unwrap_or(Path::new("."));
    let found = if place.is_dir() { find_partials(place)? } else { vec![partial_info(place)?] };
    let now = SystemTime::now();
    if args.json {
        let lines = found.iter().map(|info| Record::of(info, now));
        let lines = lines.map(|record| serde_json::to_string(&record).unwrap_or_default());
        to_stdout(&lines.collect::<Vec<_>>());
    } else if found.is_empty() {
        let place = escape(&place.to_string_lossy());
        to_stdout(&[format!("no partial downloads in {place}")]);
    } else {
        to_stdout(&found.iter().map(|info| line(info, now)).collect::<Vec<_>>());
    }
    Ok(exit::OK)
}

/// Removes stale partial downloads.
///
/// # Errors
/// Exit 3 when the directory cannot be read. A partial that cannot be removed is reported, and the
/// others are removed all the same.
pub(crate) fn clean(args: &CleanArgs) -> Result<u8, Failure> {
    let dir = args.dir.as_deref().unwrap_or(Path::new("."));
    let found = find_partials(dir)?;
    let now = SystemTime::now();
    let (mut freed, mut removed, mut code) = (0, 0, exit::OK);
    for info in stale(&found, args, now) {
        let name = shown(info.data.as_ref().unwrap_or(&info.checkpoint));
        let done = if args.dry_run { Ok(info.disk_bytes) } else { remove_partial(&info.output) };
        match done {
            Ok(bytes) => {
                let verb = if args.dry_run { "would remove" } else { "removed" };
                to_stdout(&[format!(
                    "{verb} {name}: {}, last continued {} ago",
                    size(bytes),
                    duration(age(info, now))
                )]);
                freed += bytes;
                removed += 1;
            }
            Err(error) if has_begun(&error) => {}
            Err(error) => {
                let failure = Failure::from(error);
                tell(&failure);
                code = exit::worst([code, failure.exit]);
            }
        }
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    let kept = plural((found.len() - removed) as u64, "partial", "partials");
    to_stdout(&[format!("{verb} {}; {kept} left", size(freed))]);
    Ok(code)
}

/// Whether the partial is in use again since it was listed, and so is not stale.
fn has_begun(error: &Error) -> bool {
    error.kind() == ErrorKind::Locked
}

/// The partials to remove, the oldest first. A running download is never stale, but it counts
/// towards the total.
fn stale<'a>(found: &'a [PartialInfo], args: &CleanArgs, now: SystemTime) -> Vec<&'a PartialInfo> {
    let mut resting: Vec<&PartialInfo> = found.iter().filter(|info| !info.running).collect();
    resting.sort_by_key(|info| info.modified);
    let mut total: u64 = found.iter().map(|info| info.disk_bytes).sum();
    resting.retain(|info| {
        let old = args.older_than.is_some_and(|least| age(info, now) >= least);
        let much = args.max_total.is_some_and(|most| total > most);
        if old || much {
            total -= info.disk_bytes;
        }
        old || much
    });
    resting
}

/// A path as a user would type it.
fn shown(output: &Path) -> String {
    escape(&output.strip_prefix(".").unwrap_or(output).to_string_lossy())
}

/// The age; zero for a time in the future, since clocks are set back.
fn age(info: &PartialInfo, now: SystemTime) -> Duration {
    now.duration_since(info.modified).unwrap_or_default()
}

fn line(info: &PartialInfo, now: SystemTime) -> String {
    let name = shown(&info.output);
    let when = if info.running {
        "running now".to_owned()
    } else {
        format!("last continued {} ago", duration(age(info, now)))
    };
    match &info.state {
        Ok(state) if info.data.is_none() => {
            format!("{name}: only its checkpoint, from {}, {when}", escape(&state.host))
        }
        Ok(state) => format!(
            "{name}: {}, from {}, {}, {when}",
            done(state),
            escape(&state.host),
            words(state.validator)
        ),
        Err(why) => format!(
            "{name}: {} on the disk, {when}; its checkpoint cannot be used: {why}",
            size(info.disk_bytes)
        ),
    }
}

fn done(state: &PartialState) -> String {
    match state.total_bytes {
        Some(total) if total > 0 => {
            // The percentage is rounded down, so that 100 % means everything.
            let percent = u128::from(state.stored_bytes) * 100 / u128::from(total);
            format!("{} of {} ({percent} %)", size(state.stored_bytes), size(total))
        }
        Some(_) => "an empty object".to_owned(),
        None => "of unknown size, so it starts over".to_owned(),
    }
}

fn words(validator: ValidatorKind) -> &'static str {
    match validator {
        ValidatorKind::StrongEtag => "strong ETag",
        ValidatorKind::WeakEtag => "weak ETag",
        ValidatorKind::LastModified => "Last-Modified",
        _ => "no validator",
    }
}

#[derive(Serialize)]
struct Record<'a> {
    v: u32,
    event: &'static str,
    output: String,
    total: Option<u64>,
    stored_bytes: Option<u64>,
    disk_bytes: u64,
    validator: Option<&'static str>,
    host: Option<&'a str>,
    age_s: u64,
    running: bool,
    /// Why the checkpoint says nothing.
    problem: Option<&'a str>,
}

impl<'a> Record<'a> {
    fn of(info: &'a PartialInfo, now: SystemTime) -> Self {
        let state = info.state.as_ref().ok();
        Self {
            v: 1,
            event: "partial",
            output: info
                .output
                .strip_prefix(".")
                .unwrap_or(&info.output)
                .to_string_lossy()
                .into_owned(),
            total: state.and_then(|state| state.total_bytes),
            stored_bytes: state.map(|state| state.stored_bytes),
            disk_bytes: info.disk_bytes,
            validator: state.map(|state| crate::render::validator_word(state.validator)),
            host: state.map(|state| state.host.as_str()),
            age_s: age(info, now).as_secs(),
            running: info.running,
            problem: info.state.as_ref().err().map(String::as_str),
        }
    }
}
