//! One measured download, followed to its end or to a limit.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use haul_engine::{
    Connections, Download, DownloadBuilder, Event, Existing, NoticeCode, Resume, StorageKind,
};

use super::course::{Course, Pace};
use super::machine::{Load, Ticks};
use crate::blocking;
use crate::exit::{self, Failure};
use crate::render::{View, to_stderr};
use crate::signals::{Interrupt, Stop};

/// How often progress is checked. The engine's own numbers are at most 100 ms old, and their
/// changes are noticed this precisely.
const LOOK: Duration = Duration::from_millis(10);

/// When a steady speed may end a run: its last three seconds are compared then, and the bytes that
/// come at once at the start are not among them.
const SETTLES_AFTER: Duration = Duration::from_millis(3300);

/// When a run has told enough and is cancelled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// After this many bytes.
    pub(super) bytes: Option<u64>,
    /// The same, if the server begins with a burst and may be asked for more.
    pub(super) bytes_after_burst: Option<u64>,
    /// This long after the first byte.
    pub(super) time: Option<Duration>,
    /// Earlier, once the speed is steady.
    pub(super) settles: bool,
}

impl Limits {
    fn reached(self, bytes: u64, since_first_byte: Duration) -> bool {
        self.bytes.is_some_and(|limit| bytes >= limit)
            || self.time.is_some_and(|limit| since_first_byte >= limit)
    }

    fn settled(self, course: &Course, since_first_byte: Duration) -> bool {
        self.settles
            && since_first_byte >= SETTLES_AFTER
            && course.pace(since_first_byte).is_some_and(|pace| pace.steady)
    }
}

/// The result of one run.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// The number asked for; with `auto`, the highest that was reached.
    pub(super) connections: usize,
    /// The number that there was most of the time.
    pub(super) held_connections: usize,
    pub(super) storage: &'static str,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) ttfb_s: Option<f64>,
    /// The speed at the end of a run that a limit ended, if it was long enough.
    pub(super) pace: Option<Pace>,
    /// Whether the whole object came.
    pub(super) whole: bool,
    /// BLAKE3 of a whole object, computed from the file if there is one.
    pub(super) hash: Option<[u8; 32]>,
    /// Whether the server supports byte ranges.
    pub(super) ranges: bool,
    /// The engine's notices for the user.
    pub(super) notices: Vec<(NoticeCode, String)>,
    /// Rounds of backoff.
    pub(super) retries: u32,
    /// The load of this machine during the run.
    pub(super) load: Option<Load>,
}

impl Sample {
    /// Bytes a second: of a whole object, all of them through all of the time; of a part, those at
    /// its end, as the rest would come.
    pub(super) fn rate(&self) -> f64 {
        let mean = || self.bytes as f64 / self.seconds.max(1e-9);
        self.pace.map_or_else(mean, |pace| pace.bytes_per_second)
    }

    /// Whether a longer run would probably show the same speed.
    pub(super) fn is_steady(&self) -> bool {
        self.whole || self.pace.is_some_and(|pace| pace.steady)
    }
}

/// How a run ended.
pub(super) enum Ended {
    Sample(Sample),
    /// It failed or was interrupted, and that was reported; the exit code.
    Early(u8),
}

/// Runs the download that `builder` describes and measures it.
///
/// # Errors
/// What keeps it from starting, or a file that cannot be read back.
pub(super) async fn run(
    builder: DownloadBuilder,
    into: (&Path, StorageKind),
    connections: Connections,
    limits: Limits,
    view: &dyn View,
    stop: &Stop,
) -> Result<Ended, Failure> {
    let download = builder
        .directory(into.0)
        .output(Path::new("object"))
        .connections(connections)
        .storage(into.1)
        .resume(Resume::Never)
        .existing(Existing::Replace)
        .remote_time(false)
        .start()?;
    let before = Ticks::now();
    let (mut sample, file) = match follow(download, limits, view, stop.clone()).await? {
        Followed::Sample(sample, file) => (*sample, file),
        Followed::Early(code) => return Ok(Ended::Early(code)),
    };
    sample.load = before.and_then(|before| before.until(Ticks::now()?));
    if let Connections::Fixed(count) = connections {
        sample.connections = count;
    }
    if let Some(file) = file {
        let hash = blocking(move || hash_and_remove(&file)).await?.map_err(|error| {
            Failure::local(format!("the downloaded file cannot be read back: {error}"))
        })?;
        sample.hash = Some(hash);
    }
    remove_partial(into.0);
    Ok(Ended::Sample(sample))
}

enum Followed {
    /// The sample, with the file if one was published.
    Sample(Box<Sample>, Option<std::path::PathBuf>),
    Early(u8),
}

async fn follow(
    download: Download,
    limits: Limits,
    view: &dyn View,
    mut stop: Stop,
) -> Result<Followed, Failure> {
    let begun = Instant::now();
    let mut events = download.events();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sample = Sample {
        connections: 0,
        held_connections: 0,
        storage: "unknown",
        bytes: 0,
        seconds: 0.0,
        ttfb_s: None,
        pace: None,
        whole: false,
        hash: None,
        ranges: false,
        notices: Vec::new(),
        retries: 0,
        load: None,
    };
    let mut course = Course::default();
    let (mut open, mut shown) = (false, begun);
    let ended = loop {
        tokio::select! {
            biased;
            interrupt = stop.requested() => break Err(Some(interrupt)),
            event = events.next() => match event {
                // `wait` returns the error itself, with its hint.
                Some(Event::Failed { .. }) => {}
                Some(Event::Notice(notice)) => sample.notices.push((notice.code, notice.message)),
                Some(Event::Retry { .. }) => sample.retries += 1,
                Some(event) => {
                    view.event(1, &event);
                    if let Event::Started(facts) = event {
                        (sample.storage, sample.ranges) = (facts.storage, facts.ranges);
                        sample.ttfb_s.get_or_insert(begun.elapsed().as_secs_f64());
                        open = true;
                    }
                }
                None => tokio::select! {
                    interrupt = stop.requested() => break Err(Some(interrupt)),
                    ended = download.wait() => break Ok(ended),
                },
            },
            _ = look.tick() => {
                let progress = download.progress();
                let first = Duration::from_secs_f64(sample.ttfb_s.unwrap_or(0.0));
                let since = begun.elapsed().saturating_sub(first);
                if progress.bytes > sample.bytes {
                    sample.bytes = progress.bytes;
                    sample.seconds = begun.elapsed().as_secs_f64();
                    sample.connections = sample.connections.max(progress.connections);
                    course.note(since, progress.bytes, progress.connections);
                }
                let enough = limits.reached(sample.bytes, since) || limits.settled(&course, since);
                if open && enough {
                    sample.pace = course.pace(since);
                    break Err(None);
                }
                if shown.elapsed() >= view.interval() {
                    shown = Instant::now();
                    if open { view.progress(1, &progress) } else { view.connecting(1, &progress) }
                }
            }
        }
    };
    sample.held_connections = course.connections();
    match ended {
        Ok(Ok(summary)) => {
            sample.whole = true;
            sample.bytes = summary.bytes;
            sample.seconds = summary.elapsed.as_secs_f64();
            sample.ttfb_s = summary.time_to_first_byte.map(|time| time.as_secs_f64());
            sample.connections = summary.connections;
            sample.hash = summary.blake3;
            let published = !summary.output.as_os_str().is_empty();
            Ok(Followed::Sample(Box::new(sample), published.then_some(summary.output)))
        }
        Ok(Err(error)) => {
            let failure = Failure::from(error);
            view.failed(1, &failure);
            Ok(Followed::Early(failure.exit))
        }
        Err(interrupt) => {
            download.cancel().await?;
            let code = interrupt.map_or(exit::OK, Interrupt::exit_code);
            view.cancelled(1, code, false);
            if interrupt.is_none() {
                return Ok(Followed::Sample(Box::new(sample), None));
            }
            to_stderr(&["interrupted: the measurement is incomplete".to_owned()]);
            Ok(Followed::Early(code))
        }
    }
}

/// Removes what a run left that reached a limit.
fn remove_partial(directory: &Path) {
    for name in ["object.part", "object.haul"] {
        let _ = fs::remove_file(directory.join(name));
    }
}

/// Hashes the file and removes it. The engine's own hash covers the bytes received, and says
/// nothing about where they were stored.
fn hash_and_remove(file: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(file)?)?;
    fs::remove_file(file)?;
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_of_bytes_and_of_time() {
        let none = Limits::default();
        assert!(!none.reached(u64::MAX, Duration::MAX));
        let time = Some(Duration::from_secs(2));
        let limits = Limits { bytes: Some(100), time, ..none };
        assert!(!limits.reached(99, Duration::from_millis(1999)));
        assert!(limits.reached(100, Duration::ZERO) && limits.reached(0, Duration::from_secs(2)));
    }

    #[test]
    fn steady_speed_ends_a_run_that_may_settle() {
        let mut course = Course::default();
        for tenth in 0..=40 {
            course.note(Duration::from_millis(100 * tenth), 1000 * tenth, 1);
        }
        let settles = Limits { settles: true, ..Limits::default() };
        let after = Duration::from_secs_f64;
        assert!(!settles.settled(&course, after(3.2)) && settles.settled(&course, after(3.3)));
        assert!(!Limits::default().settled(&course, after(3.3)), "it lasts as long as was said");
        for tenth in 41..=50 {
            course.note(Duration::from_millis(100 * tenth), 1000 * tenth * tenth, 1);
        }
        assert!(!settles.settled(&course, after(5.0)), "the speed changed");
    }

    #[test]
    fn file_is_hashed_from_the_disk_and_gone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("object");
        fs::write(&file, b"bytes").unwrap();
        assert_eq!(hash_and_remove(&file).unwrap(), <[u8; 32]>::from(blake3::hash(b"bytes")));
        assert!(!file.exists());
    }
}
