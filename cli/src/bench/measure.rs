//! One measured download, followed to its end or to a limit.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use haul_engine::{
    Connections, Download, DownloadBuilder, Event, Existing, NoticeCode, Resume, StorageKind,
};

use crate::blocking;
use crate::exit::{self, Failure};
use crate::render::{View, to_stderr};
use crate::signals::{Interrupt, Stop};

/// How often progress is checked. The engine's own numbers are at most 100 ms old, and their
/// changes are noticed this precisely.
const LOOK: Duration = Duration::from_millis(10);

/// When a run has told enough and is cancelled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// After this many bytes.
    pub(super) bytes: Option<u64>,
    /// This long after the first byte.
    pub(super) time: Option<Duration>,
}

impl Limits {
    fn reached(self, bytes: u64, since_first_byte: Duration) -> bool {
        self.bytes.is_some_and(|limit| bytes >= limit)
            || self.time.is_some_and(|limit| since_first_byte >= limit)
    }
}

/// The result of one run.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// The number asked for; with `auto`, the highest that was reached.
    pub(super) connections: usize,
    pub(super) storage: &'static str,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) ttfb_s: Option<f64>,
    /// BLAKE3 of a whole object, computed from the file if there is one.
    pub(super) hash: Option<[u8; 32]>,
    /// Whether the server supports byte ranges.
    pub(super) ranges: bool,
    /// The engine's notices for the user.
    pub(super) notices: Vec<(NoticeCode, String)>,
    /// Rounds of backoff.
    pub(super) retries: u32,
}

impl Sample {
    /// Bytes a second, including the wait for the first byte.
    pub(super) fn rate(&self) -> f64 {
        self.bytes as f64 / self.seconds.max(1e-9)
    }

    /// Bytes a second after the first byte.
    pub(super) fn steady_rate(&self) -> f64 {
        let waited = self.ttfb_s.unwrap_or(0.0).min(self.seconds * 0.9);
        self.bytes as f64 / (self.seconds - waited).max(1e-9)
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
    let (mut sample, file) = match follow(download, limits, view, stop.clone()).await? {
        Followed::Sample(sample, file) => (sample, file),
        Followed::Early(code) => return Ok(Ended::Early(code)),
    };
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
    Sample(Sample, Option<std::path::PathBuf>),
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
        storage: "unknown",
        bytes: 0,
        seconds: 0.0,
        ttfb_s: None,
        hash: None,
        ranges: false,
        notices: Vec::new(),
        retries: 0,
    };
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
                if progress.bytes > sample.bytes {
                    sample.bytes = progress.bytes;
                    sample.seconds = begun.elapsed().as_secs_f64();
                    sample.connections = sample.connections.max(progress.connections);
                }
                let first = Duration::from_secs_f64(sample.ttfb_s.unwrap_or(0.0));
                if open && limits.reached(sample.bytes, begun.elapsed().saturating_sub(first)) {
                    break Err(None);
                }
                if shown.elapsed() >= view.interval() {
                    shown = Instant::now();
                    if open { view.progress(1, &progress) } else { view.connecting(1, &progress) }
                }
            }
        }
    };
    match ended {
        Ok(Ok(summary)) => {
            sample.bytes = summary.bytes;
            sample.seconds = summary.elapsed.as_secs_f64();
            sample.ttfb_s = summary.time_to_first_byte.map(|time| time.as_secs_f64());
            sample.connections = summary.connections;
            sample.hash = summary.blake3;
            let published = !summary.output.as_os_str().is_empty();
            Ok(Followed::Sample(sample, published.then_some(summary.output)))
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
                return Ok(Followed::Sample(sample, None));
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
        let limits = Limits { bytes: Some(100), time: Some(Duration::from_secs(2)) };
        assert!(!limits.reached(99, Duration::from_millis(1999)));
        assert!(limits.reached(100, Duration::ZERO) && limits.reached(0, Duration::from_secs(2)));
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
