//! `--results`: a file with one JSON line for each item that ended, which is only ever appended to.
//! The next run with the same file skips the items that are complete in it and still exist.
//!
//! A line is written at once and synced within a second, on a thread of its own. Processes on one
//! machine may share the file, because a line is one write.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use haul_engine::redact_url;
use serde::{Deserialize, Serialize};

use crate::drive::Outcome;
use crate::exit::Failure;
use crate::input::Item;
use crate::os;
use crate::render::escape;

/// How long a line may not be on the disk yet.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// haul writes no longer line.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    v: u32,
    /// The item's key, 16 hexadecimal digits.
    key: String,
    id: Option<String>,
    url: String,
    status: Status,
    output: Option<PathBuf>,
    bytes: Option<u64>,
    digest: Option<String>,
    /// The word of the `error` event.
    error: Option<String>,
    exit: u8,
    elapsed_s: f64,
    /// When it ended, in seconds since 1970.
    unix: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Complete,
    Failed,
    Interrupted,
}

/// The file, open for appending.
#[derive(Debug)]
pub(crate) struct Results {
    lines: Option<Sender<String>>,
    writer: Option<JoinHandle<io::Result<()>>>,
    shown: String,
}

impl Results {
    /// Opens the file, creating it if needed, and reads which items are complete: those whose last
    /// line says so and whose file has the recorded size.
    ///
    /// # Errors
    /// Exit 3 when it cannot be read or written.
    pub(crate) fn open(path: &Path) -> Result<(Self, HashSet<u64>), Failure> {
        let shown = escape(&path.to_string_lossy());
        let cannot = |what: &str, error: io::Error| {
            Failure::local(format!("cannot {what} the results {shown}: {error}"))
        };
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(|error| cannot("open", error))?;
        let complete = complete(&file).map_err(|error| cannot("read", error))?;
        end_last_line(&file).map_err(|error| cannot("write", error))?;
        let (lines, waiting) = mpsc::channel::<String>();
        let write = move || {
            let (mut unsynced, mut file) = (None::<Instant>, file);
            loop {
                let due = unsynced
                    .map_or(Duration::MAX, |since| SYNC_INTERVAL.saturating_sub(since.elapsed()));
                match waiting.recv_timeout(due) {
                    Ok(line) => {
                        file.write_all(line.as_bytes())?;
                        unsynced.get_or_insert_with(Instant::now);
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        file.sync_data()?;
                        unsynced = None;
                    }
                    Err(RecvTimeoutError::Disconnected) => return file.sync_data(),
                }
            }
        };
        let writer = thread::Builder::new()
            .name("haul-results".to_owned())
            .spawn(write)
            .map_err(|error| cannot("write", error))?;
        Ok((Self { lines: Some(lines), writer: Some(writer), shown }, complete))
    }

    /// Appends how an item ended.
    pub(crate) fn add(&self, item: &Item, outcome: &Outcome, elapsed: Duration) {
        let url = redact_url(item.urls.first().map(String::as_str).unwrap_or_default());
        let mut record = Record {
            v: 1,
            key: format!("{:016x}", item.key()),
            id: item.id.clone(),
            url,
            status: Status::Complete,
            output: item.out.clone(),
            bytes: None,
            digest: None,
            error: None,
            exit: 0,
            elapsed_s: (elapsed.as_secs_f64() * 1e3).round() / 1e3,
            unix: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        };
        match outcome {
            Outcome::Planned | Outcome::Skipped => return,
            Outcome::Completed(summary) => {
                // The next run may have another working directory.
                record.output = std::path::absolute(&summary.output).ok();
                record.bytes = Some(summary.bytes);
                record.digest = summary.blake3_hex().map(|hash| format!("blake3:{hash}"));
            }
            Outcome::Failed(failure) => {
                record.status = Status::Failed;
                record.error = Some(failure.word.to_owned());
                record.exit = failure.exit;
            }
            Outcome::Interrupted { kept_bytes } => {
                record.status = Status::Interrupted;
                record.bytes = Some(*kept_bytes);
                record.error = Some("interrupted".to_owned());
            }
        }
        // A path that is not UTF-8 could not be found again.
        record.output = record.output.filter(|path| path.to_str().is_some());
        if let (Ok(line), Some(lines)) = (serde_json::to_string(&record), &self.lines) {
            // A writer that failed reports it at the end.
            let _ = lines.send(line + "\n");
        }
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// Exit 3 when something was not written.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        drop(self.lines.take());
        let ended = self.writer.take().map_or(Ok(Ok(())), JoinHandle::join);
        let error = match ended {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its thread failed".to_owned(),
        };
        Err(Failure::local(format!(
            "the results {} are not complete, the downloads are: {error}",
            self.shown
        )))
    }
}

/// The keys of the items that are complete and whose files exist.
fn complete(file: &File) -> io::Result<HashSet<u64>> {
    let mut keys = HashSet::new();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(keys);
        }
        // A line that a crash cut short says nothing, and neither does another program's.
        let Ok(record) = serde_json::from_slice::<Record>(&line) else { continue };
        let Ok(key) = u64::from_str_radix(&record.key, 16) else { continue };
        let here = record.status == Status::Complete
            && record.output.as_deref().zip(record.bytes).is_some_and(|(path, bytes)| {
                std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == bytes)
            });
        if here {
            keys.insert(key);
        } else {
            keys.remove(&key);
        }
    }
}

/// Ends a line that a crash cut short, so that it does not swallow the next one.
fn end_last_line(file: &File) -> io::Result<()> {
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        os::read_exact_at(file, &mut last, len - 1)?;
    }
    if last == [b'\n'] { Ok(()) } else { (&*file).write_all(b"\n") }
}
