//! `NAME.film`: what is there of a film, a line for each thing that happened.
//!
//! Lines are only ever appended, so a kill costs at most the last of them. A line is written after
//! the bytes that it describes, and they are hashed again when they are believed later: a line that
//! outlived its bytes, as after a power cut, makes a piece missing and no film wrong. The file holds
//! no URL and no secret. It is locked while a download uses it.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::FilmError;
use crate::private;

/// What the names of logs end with.
pub(crate) const EXTENSION: &str = "film";

const VERSION: u32 = 1;
/// No line of ours is longer.
const MAX_LINE_BYTES: u64 = 4096;

/// A line. Pieces are named by [`crate::store::key_of`], which is the same when the manifest is
/// fetched again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// The first line: which film it is, by a hash of what identifies it.
    HaulFilm { version: u32, film: String },
    /// The file of a track is about to be created.
    Begun { track: usize },
    /// A track of a live film is of this rendition and begins with the piece of this number, which
    /// its playlist may have dropped when the film goes on.
    Live { track: usize, rendition: usize, first: u64 },
    /// The server said that a piece has so many bytes; pieces after it are placed by that.
    Promised { track: usize, piece: String, bytes: u64 },
    /// A piece is in its track's file.
    Stored { track: usize, piece: String, offset: u64, bytes: u64, blake3: String },
    /// A piece turned out to be of another length than was promised, or is left out: what came
    /// after it is void until it is recorded again at its new place.
    Moved { track: usize, piece: String, bytes: u64 },
    /// The directory for what ffmpeg is given is about to be created. What was announced before is
    /// void.
    Joining,
    /// A file is whole and is to get its final name. Both are below the output's directory.
    Output { from: String, to: String, bytes: u64, modified_ns: u64, is_film: bool },
    /// All files are whole, up to so many pieces, and about to get their names.
    Publishing { holes: usize },
}

/// An open checkpoint with its lock.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    file: File,
    path: PathBuf,
}

/// What a log says, whichever film it is of.
#[derive(Debug)]
pub(crate) struct Look {
    /// With its lock; `None` where a download has that.
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) records: Vec<Record>,
}

impl Checkpoint {
    /// Opens or creates the checkpoint at `path` and returns what it says about this film.
    ///
    /// # Errors
    /// [`FilmError::Locked`], [`FilmError::OtherFilm`], and [`FilmError::Local`] where it is no
    /// checkpoint of ours or cannot be used; it is left as it is then.
    pub(crate) fn open(path: PathBuf, film: &str) -> Result<(Self, Vec<Record>), FilmError> {
        let cannot = |act, error| FilmError::local(act, &path, error);
        let is_ours = match std::fs::symlink_metadata(&path) {
            Ok(found) => found.is_file(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !is_ours {
            let why = io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file");
            return Err(cannot("use", why));
        }
        let file = private::options().create(true).truncate(false).open(&path);
        let file = file.map_err(|error| cannot("open", error))?;
        if !lock(&file).map_err(|error| cannot("lock", error))? {
            return Err(FilmError::Locked(path));
        }
        let (records, whole_bytes) = read(&file).map_err(|error| cannot("read", error))?;
        let len_bytes = file.metadata().map_err(|error| cannot("examine", error))?.len();
        let mut records = records.into_iter();
        let is_new = match records.next() {
            Some(Record::HaulFilm { version, film: found }) if version == VERSION => {
                if found != film {
                    return Err(FilmError::OtherFilm(path));
                }
                false
            }
            None if len_bytes == 0 => true,
            _ => {
                let why = io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it does not begin like a film's checkpoint, so another program may have made it",
                );
                return Err(cannot("use", why));
            }
        };
        let mut checkpoint = Self { file, path };
        // A line that was cut by a kill must not run into the next one.
        checkpoint.cut(whole_bytes)?;
        if is_new {
            checkpoint.add(&Record::HaulFilm { version: VERSION, film: film.to_owned() })?;
        }
        Ok((checkpoint, records.collect()))
    }

    /// Reads the log at `path`, whichever film it is of; `None` where there is none, or it is not
    /// ours.
    ///
    /// # Errors
    /// [`FilmError::Local`] when it cannot be read.
    pub(crate) fn look(path: &Path) -> Result<Option<Look>, FilmError> {
        let cannot = |act, error| FilmError::local(act, path, error);
        if !std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
            return Ok(None);
        }
        let file = File::open(path).map_err(|error| cannot("open", error))?;
        let is_free = lock(&file).map_err(|error| cannot("lock", error))?;
        let (records, _) = read(&file).map_err(|error| cannot("read", error))?;
        match records.first() {
            Some(Record::HaulFilm { .. }) => {
                let checkpoint = Self { file, path: path.to_owned() };
                Ok(Some(Look { checkpoint: is_free.then_some(checkpoint), records }))
            }
            _ => Ok(None),
        }
    }

    fn cut(&mut self, len_bytes: u64) -> Result<(), FilmError> {
        let cut = self.file.set_len(len_bytes).and_then(|()| self.file.seek(SeekFrom::End(0)));
        cut.map(drop).map_err(|error| FilmError::local("shorten", &self.path, error))
    }

    /// Appends a line.
    ///
    /// # Errors
    /// [`FilmError::Local`]; part of the line may be there then.
    pub(crate) fn add(&mut self, record: &Record) -> Result<(), FilmError> {
        let line = serde_json::to_string(record).map_err(io::Error::from);
        line.and_then(|line| self.file.write_all(format!("{line}\n").as_bytes()))
            .map_err(|error| FilmError::local("write", &self.path, error))
    }

    /// Waits until it is on the disk.
    ///
    /// # Errors
    /// [`FilmError::Local`].
    pub(crate) fn sync(&self) -> Result<(), FilmError> {
        self.file.sync_all().map_err(|error| FilmError::local("sync", &self.path, error))
    }

    /// Removes it: the film is complete, or not wanted any more. The lock is held until this value
    /// is gone.
    ///
    /// # Errors
    /// [`FilmError::Local`] where it is still there.
    pub(crate) fn remove(&self) -> Result<(), FilmError> {
        std::fs::remove_file(&self.path)
            .map_err(|error| FilmError::local("remove", &self.path, error))
    }
}

/// Takes the lock; `false` where another download has it.
fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        // A file system without locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The tracks whose files were begun.
pub(crate) fn begun(records: &[Record]) -> BTreeSet<usize> {
    let track = |record: &Record| match record {
        Record::Begun { track } => Some(*track),
        _ => None,
    };
    records.iter().filter_map(track).collect()
}

/// The records up to the first line that is none or is cut, and how many bytes they take.
fn read(file: &File) -> io::Result<(Vec<Record>, u64)> {
    let (mut records, mut whole_bytes) = (Vec::new(), 0);
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0))?;
    loop {
        let mut line = Vec::new();
        let read = io::Read::take(&mut reader, MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        let record = line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok());
        let Some(record) = record else { return Ok((records, whole_bytes)) };
        records.push(record);
        whole_bytes += read as u64;
    }
}

/// The checkpoint's name beside an output.
pub(crate) fn path_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".");
    name.push(EXTENSION);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn stored(piece: &str) -> Record {
        let blake3 = "00".repeat(32);
        Record::Stored { track: 0, piece: piece.to_owned(), offset: 7, bytes: 9, blake3 }
    }

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film.mp4.film");
        (dir, path)
    }

    #[test]
    fn what_was_written_is_read_and_a_cut_line_is_forgotten() {
        let (_dir, path) = scratch();
        let (mut checkpoint, records) = Checkpoint::open(path.clone(), "a").unwrap();
        assert_eq!(records, []);
        checkpoint.add(&stored("m1")).unwrap();
        checkpoint.add(&stored("m2")).unwrap();
        drop(checkpoint);
        let whole = fs::read(&path).unwrap();
        for cut in [1, 5, 40] {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (mut checkpoint, records) = Checkpoint::open(path.clone(), "a").unwrap();
            assert_eq!(records, [stored("m1")]);
            checkpoint.add(&stored("m3")).unwrap();
            drop(checkpoint);
            let (_, records) = Checkpoint::open(path.clone(), "a").unwrap();
            assert_eq!(records, [stored("m1"), stored("m3")]);
        }
    }

    #[test]
    fn another_film_and_a_foreign_file_are_left() {
        let (_dir, path) = scratch();
        let (mut checkpoint, _) = Checkpoint::open(path.clone(), "a").unwrap();
        checkpoint.add(&stored("m1")).unwrap();
        drop(checkpoint);
        let other = Checkpoint::open(path.clone(), "b").unwrap_err();
        assert!(matches!(other, FilmError::OtherFilm(_)), "{other}");
        let (checkpoint, records) = Checkpoint::open(path.clone(), "a").unwrap();
        assert_eq!(records, [stored("m1")]);
        let second = Checkpoint::open(path.clone(), "a").unwrap_err();
        assert!(matches!(second, FilmError::Locked(_)), "{second}");
        checkpoint.remove().unwrap();
        drop(checkpoint);
        fs::write(&path, "my own notes\n").unwrap();
        let error = Checkpoint::open(path.clone(), "a").unwrap_err();
        assert!(error.to_string().contains("another program"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"my own notes\n");
    }
}
