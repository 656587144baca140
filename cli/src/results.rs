//! `--results`: a file with one JSON line for each item that ended. Lines are only appended, and of
//! several with one key the last counts. The next run with the same file skips the items that are
//! complete in it and whose files are as they were, unless the list asks for another size or digest
//! by now: such a file is compared, and may be replaced if haul wrote it.
//!
//! A line is written at once and synced within a second, on a thread of its own. Processes on one
//! machine may share the file, because a line is one write. One that a crash cut short is removed by
//! the next run that has the file to itself, and otherwise ended.

use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use haul_engine::{Checksum, Summary, redact_url};
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

/// Nearly all lines are shorter.
const USUAL_LINE_BYTES: u64 = 4 << 10;

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
    /// The time of the output, in seconds since 1970 with nanoseconds, by which the next run knows
    /// that it is unchanged.
    modified: Option<String>,
    /// Whether the output was there already, and was shown to be the object.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unchanged: bool,
    bytes: Option<u64>,
    digest: Option<String>,
    /// The digest that the list asks for, which the output has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
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
    /// Something is there that was not looked at.
    Skipped,
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
    /// line says so and whose file has the recorded size and time.
    ///
    /// # Errors
    /// Exit 3 when it cannot be read or written.
    pub(crate) fn open(path: &Path) -> Result<(Self, Complete), Failure> {
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
        let complete = Complete::of(&file).map_err(|error| cannot("read", error))?;
        let repaired = os::while_alone(&file, || remove_cut_line(&file));
        repaired.and_then(|()| end_last_line(&file)).map_err(|error| cannot("write", error))?;
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
            output: item.told_output().cloned(),
            modified: None,
            unchanged: false,
            bytes: None,
            digest: None,
            checksum: None,
            error: None,
            exit: 0,
            elapsed_s: (elapsed.as_secs_f64() * 1e3).round() / 1e3,
            unix: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        };
        match outcome {
            Outcome::Planned => return,
            Outcome::Skipped => record.status = Status::Skipped,
            Outcome::Completed(summary) => {
                // The next run may have another working directory.
                record.output = std::path::absolute(&summary.output).ok();
                let found = record.output.as_deref().and_then(|path| std::fs::metadata(path).ok());
                record.modified = found.as_ref().and_then(time_of);
                record.unchanged = summary.unchanged;
                record.bytes = Some(summary.bytes);
                record.checksum = item.checksum.as_ref().map(ToString::to_string);
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

/// The items that are complete and whose files are unchanged. Of each only its key and the place of
/// its record are held, since there may be millions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Complete {
    places: Arc<HashMap<u64, u64>>,
    file: Option<Arc<File>>,
}

/// What the results say of an item.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It is to be downloaded.
    Open,
    /// It is complete.
    Complete,
    /// haul wrote another version of it, which may be replaced.
    Other(Written),
}

/// A file that haul wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    path: PathBuf,
    bytes: u64,
    modified: Option<String>,
}

impl Complete {
    fn of(file: &File) -> io::Result<Self> {
        let mut places = HashMap::new();
        let mut reader = BufReader::new(file);
        let (mut line, mut place) = (Vec::new(), 0);
        loop {
            line.clear();
            let len = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
            if len == 0 {
                let file = Some(Arc::new(file.try_clone()?));
                return Ok(Self { places: Arc::new(places), file });
            }
            let at = place;
            place += len as u64;
            // A line that a crash cut short says nothing, and neither does another program's.
            let Ok(record) = serde_json::from_slice::<Record>(&line) else { continue };
            let Ok(key) = u64::from_str_radix(&record.key, 16) else { continue };
            if record.written().is_some_and(|written| written.is_unchanged()) {
                places.insert(key, at);
            } else {
                places.remove(&key);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// What was recorded of the complete item with this key.
    pub(crate) fn summary(&self, key: u64) -> Option<Summary> {
        let (place, file) = self.places.get(&key).zip(self.file.as_ref())?;
        let record = Record::at(file, *place)?;
        let digest = |text: &Option<String>| text.as_deref()?.parse::<Checksum>().ok();
        let blake3 = digest(&record.digest.as_ref().map(|it| it.replacen(':', "=", 1)));
        let mut summary = Summary::default();
        summary.blake3 = blake3.and_then(|it| it.digest().try_into().ok());
        summary.verified =
            digest(&record.checksum).map(|it| (it.algorithm(), it.digest().to_vec()));
        (summary.output, summary.bytes) = (record.output?, record.bytes?);
        summary.unchanged = true;
        Some(summary)
    }

    /// What is known of an item with this key.
    pub(crate) fn standing(&self, key: u64, item: &Item) -> Standing {
        let Some((place, file)) = self.places.get(&key).zip(self.file.as_ref()) else {
            return Standing::Open;
        };
        if item.size_bytes.is_none() && item.checksum.is_none() {
            return Standing::Complete;
        }
        let Some(record) = Record::at(file, *place) else { return Standing::Open };
        match record.written() {
            _ if record.is_as_asked(item) => Standing::Complete,
            // Who wrote a file that was there already is not known.
            Some(written) if !record.unchanged => Standing::Other(written),
            _ => Standing::Open,
        }
    }
}

impl Written {
    /// Whether it has this absolute path.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        self.path == path
    }

    /// Whether the file is as it was when its item was complete.
    pub(crate) fn is_unchanged(&self) -> bool {
        let is_same = |found: Metadata| {
            found.is_file()
                && found.len() == self.bytes
                // Older records have no time.
                && self.modified.as_deref().is_none_or(|was| {
                    time_of(&found).is_some_and(|now| now == was || is_rounded(was, &now))
                })
        };
        std::fs::metadata(&self.path).is_ok_and(is_same)
    }
}

impl Record {
    /// The record at this place of the file.
    fn at(file: &File, place: u64) -> Option<Self> {
        let left = file.metadata().ok()?.len().checked_sub(place)?.min(MAX_LINE_BYTES);
        let mut line = Vec::new();
        for most in [USUAL_LINE_BYTES, MAX_LINE_BYTES] {
            line.resize(usize::try_from(left.min(most)).ok()?, 0);
            os::read_exact_at(file, &mut line, place).ok()?;
            if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                return serde_json::from_slice(&line[..end]).ok();
            }
        }
        None
    }

    /// The file of a complete item.
    fn written(&self) -> Option<Written> {
        let (path, bytes) = (self.output.clone()?, self.bytes?);
        let written = Written { path, bytes, modified: self.modified.clone() };
        (self.status == Status::Complete).then_some(written)
    }

    /// Whether the item asks for nothing but what this one was.
    fn is_as_asked(&self, item: &Item) -> bool {
        item.size_bytes.is_none_or(|size| self.bytes == Some(size))
            && item.checksum.as_ref().is_none_or(|checksum| {
                let asked = checksum.to_string();
                self.checksum.as_ref() == Some(&asked)
                    || self.digest == Some(asked.replacen('=', ":", 1))
            })
    }
}

/// The time of a file; `None` where it has none, or one before 1970.
fn time_of(found: &Metadata) -> Option<String> {
    let since = found.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(format!("{}.{:09}", since.as_secs(), since.subsec_nanos()))
}

/// Whether `now` may be what a file system with a coarse clock has kept of `was`.
fn is_rounded(was: &str, now: &str) -> bool {
    let seconds = |time: &str| time.split_once('.')?.0.parse::<u64>().ok();
    now.ends_with(".000000000")
        && seconds(was).zip(seconds(now)).is_some_and(|(was, now)| was.abs_diff(now) < 2)
}

/// Removes the end of the file that a crash cut short, if it may have been a line of ours.
fn remove_cut_line(file: &File) -> io::Result<()> {
    let len = file.metadata()?.len();
    let begin = len.saturating_sub(MAX_LINE_BYTES);
    let mut end = vec![0; usize::try_from(len - begin).unwrap_or(0)];
    os::read_exact_at(file, &mut end, begin)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map(|at| begin + at as u64 + 1);
    match whole.or((begin == 0).then_some(0)) {
        Some(whole) if whole < len => file.set_len(whole),
        _ => Ok(()),
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
