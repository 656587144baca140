//! `haul status` and `haul clean`: the partial downloads in a directory.

use std::path::Path;
use std::time::{Duration, SystemTime};

use haul_engine::{
    ErrorKind, PartialInfo, PartialState, ValidatorKind, find_partials, partial_info,
    remove_partial,
};
use haul_film::{FilmError, PartialFilm};
use serde::Serialize;

use crate::args::{CleanArgs, StatusArgs};
use crate::exit::{self, Failure};
use crate::film;
use crate::render::{escape, tell, to_stdout};
use crate::units::{duration, plural, size};

/// A partial download: of one object, or of a film of many pieces.
enum Partial {
    Object(PartialInfo),
    Film(PartialFilm),
}

impl Partial {
    /// All of them in `dir`, sorted by name.
    fn find(dir: &Path) -> Result<Vec<Self>, Failure> {
        let films = haul_film::find_partial_films(dir).map_err(film::failure)?;
        // A track that is one object is no download of its own.
        let is_of_film = |info: &PartialInfo| {
            films.iter().any(|film| {
                let name = info.output.as_os_str().as_encoded_bytes();
                let reel = name.strip_prefix(film.output.as_os_str().as_encoded_bytes());
                reel.and_then(|it| it.strip_prefix(b".part"))
                    .is_some_and(|it| it.iter().all(u8::is_ascii_digit))
            })
        };
        let objects = find_partials(dir)?.into_iter().filter(|info| !is_of_film(info));
        let mut found: Vec<Self> = objects.map(Self::Object).collect();
        found.extend(films.into_iter().map(Self::Film));
        found.sort_by(|a, b| a.output().cmp(b.output()));
        Ok(found)
    }

    /// That of `path`.
    fn at(path: &Path) -> Result<Self, Failure> {
        match haul_film::partial_film(path).map_err(film::failure)? {
            Some(film) => Ok(Self::Film(film)),
            None => Ok(Self::Object(partial_info(path)?)),
        }
    }

    fn output(&self) -> &Path {
        match self {
            Self::Object(info) => &info.output,
            Self::Film(film) => &film.output,
        }
    }

    fn disk_bytes(&self) -> u64 {
        match self {
            Self::Object(info) => info.disk_bytes,
            Self::Film(film) => film.disk_bytes,
        }
    }

    fn modified(&self) -> SystemTime {
        match self {
            Self::Object(info) => info.modified,
            Self::Film(film) => film.modified,
        }
    }

    fn is_running(&self) -> bool {
        match self {
            Self::Object(info) => info.running,
            Self::Film(film) => film.running,
        }
    }

    /// Removes it and returns how many bytes that frees; `None` where it is in use again since it was
    /// listed, and so is not stale.
    fn remove(&self) -> Result<Option<u64>, Failure> {
        match self {
            Self::Object(info) => match remove_partial(&info.output) {
                Err(error) if error.kind() == ErrorKind::Locked => Ok(None),
                freed => Ok(Some(freed?)),
            },
            Self::Film(film) => match haul_film::remove_partial_film(&film.output) {
                Err(FilmError::Locked(_)) => Ok(None),
                freed => freed.map(Some).map_err(film::failure),
            },
        }
    }

    /// What is named when it is removed.
    fn shown(&self) -> String {
        match self {
            Self::Object(info) => shown(info.data.as_ref().unwrap_or(&info.checkpoint)),
            Self::Film(film) => shown(&film.output),
        }
    }

    /// The age; zero for a time in the future, since clocks are set back.
    fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.modified()).unwrap_or_default()
    }
}

/// Lists the partial downloads of a directory, or one of them.
///
/// # Errors
/// Exit 3 when the directory or the one partial cannot be read.
pub(crate) fn status(args: &StatusArgs) -> Result<u8, Failure> {
    let place = args.place.as_deref().unwrap_or(Path::new("."));
    let found = if place.is_dir() { Partial::find(place)? } else { vec![Partial::at(place)?] };
    let now = SystemTime::now();
    if args.json {
        let lines = found.iter().map(|partial| Record::of(partial, now));
        let lines = lines.map(|record| serde_json::to_string(&record).unwrap_or_default());
        to_stdout(&lines.collect::<Vec<_>>());
    } else if found.is_empty() {
        let place = escape(&place.to_string_lossy());
        to_stdout(&[format!("no partial downloads in {place}")]);
    } else {
        to_stdout(&found.iter().map(|partial| line(partial, now)).collect::<Vec<_>>());
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
    let found = Partial::find(dir)?;
    let now = SystemTime::now();
    let (mut freed, mut removed, mut code) = (0, 0, exit::OK);
    for partial in stale(&found, args, now) {
        let done = if args.dry_run { Ok(Some(partial.disk_bytes())) } else { partial.remove() };
        match done {
            Ok(Some(bytes)) => {
                let verb = if args.dry_run { "would remove" } else { "removed" };
                to_stdout(&[format!(
                    "{verb} {}: {}, last continued {} ago",
                    partial.shown(),
                    size(bytes),
                    duration(partial.age(now))
                )]);
                freed += bytes;
                removed += 1;
            }
            Ok(None) => {}
            Err(failure) => {
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

/// The partials to remove, the oldest first. A running download is never stale, but it counts
/// towards the total.
fn stale<'a>(found: &'a [Partial], args: &CleanArgs, now: SystemTime) -> Vec<&'a Partial> {
    let mut resting: Vec<&Partial> = found.iter().filter(|partial| !partial.is_running()).collect();
    resting.sort_by_key(|partial| partial.modified());
    let mut total: u64 = found.iter().map(Partial::disk_bytes).sum();
    resting.retain(|partial| {
        let old = args.older_than.is_some_and(|least| partial.age(now) >= least);
        let much = args.max_total.is_some_and(|most| total > most);
        if old || much {
            total -= partial.disk_bytes();
        }
        old || much
    });
    resting
}

/// A path as a user would type it.
fn shown(output: &Path) -> String {
    escape(&output.strip_prefix(".").unwrap_or(output).to_string_lossy())
}

fn line(partial: &Partial, now: SystemTime) -> String {
    let name = shown(partial.output());
    let when = if partial.is_running() {
        "running now".to_owned()
    } else {
        format!("last continued {} ago", duration(partial.age(now)))
    };
    let info = match partial {
        Partial::Film(film) => {
            return format!("{name}: {} of a film, {when}", size(film.stored_bytes));
        }
        Partial::Object(info) => info,
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
    fn of(partial: &'a Partial, now: SystemTime) -> Self {
        let (state, stored_bytes) = match partial {
            Partial::Object(info) => {
                (Some(&info.state), info.state.as_ref().ok().map(|state| state.stored_bytes))
            }
            Partial::Film(film) => (None, Some(film.stored_bytes)),
        };
        let problem = state.and_then(|state| state.as_ref().err()).map(String::as_str);
        let state = state.and_then(|state| state.as_ref().ok());
        let output = partial.output();
        Self {
            v: 1,
            event: "partial",
            output: output.strip_prefix(".").unwrap_or(output).to_string_lossy().into_owned(),
            total: state.and_then(|state| state.total_bytes),
            stored_bytes,
            disk_bytes: partial.disk_bytes(),
            validator: state.map(|state| crate::render::validator_word(state.validator)),
            host: state.map(|state| state.host.as_str()),
            age_s: partial.age(now).as_secs(),
            running: partial.is_running(),
            problem,
        }
    }
}
