//! Films at rest that are not complete: what there is of them, and removing it. Blocking, and needs
//! no engine.
//!
//! Only a `NAME.film` that begins like a log of ours counts, with the files that it says to have
//! begun. Nothing is removed without its lock.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::checkpoint::{self, Checkpoint, Look, Record, begun};
use crate::error::FilmError;
use crate::name;
use crate::publish;

/// A film that is not complete, as its files describe it. Only its log was read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialFilm {
    /// The name that it gets when it is complete.
    pub output: PathBuf,
    /// Bytes of pieces that the next run need not fetch.
    pub stored_bytes: u64,
    /// How much disk space its files occupy, in bytes.
    pub disk_bytes: u64,
    /// When one of them was last written.
    pub modified: SystemTime,
    /// Whether a download holds the lock now.
    pub running: bool,
}

/// All films directly in `dir` that are not complete, sorted by name.
///
/// # Errors
/// [`FilmError::Local`] when the directory cannot be read. One that vanishes meanwhile, or cannot be
/// examined, is left out.
pub fn find_partial_films(dir: &Path) -> Result<Vec<PartialFilm>, FilmError> {
    let cannot = |error| FilmError::local("read the directory", dir, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(cannot)? {
        let log = entry.map_err(cannot)?.path();
        if log.extension().is_some_and(|it| it == checkpoint::EXTENSION) {
            found.extend(look_at(&log.with_extension("")).unwrap_or(None));
        }
    }
    found.sort_by(|a, b| a.output.cmp(&b.output));
    Ok(found)
}

/// The film of `path`, the output's name or that of its log, where it is not complete.
///
/// # Errors
/// [`FilmError::Local`] when its log cannot be read.
pub fn partial_film(path: &Path) -> Result<Option<PartialFilm>, FilmError> {
    match path.extension().is_some_and(|it| it == checkpoint::EXTENSION) {
        true => look_at(&path.with_extension("")),
        false => look_at(path),
    }
}

/// Removes what there is of the film of `output` and returns how many bytes of disk space that
/// frees. What has its final name already stays.
///
/// # Errors
/// [`FilmError::Locked`] while a download of it runs, and [`FilmError::Local`].
pub fn remove_partial_film(output: &Path) -> Result<u64, FilmError> {
    let log = checkpoint::path_of(output);
    let Some(Look { checkpoint, records }) = Checkpoint::look(&log)? else { return Ok(0) };
    let Some(checkpoint) = checkpoint else { return Err(FilmError::Locked(log)) };
    let freed = files(output, &records).iter().map(|path| on_disk(path).0).sum();
    for reel in begun(&records) {
        // One that is an object is a download of the engine meanwhile, with files of its own.
        let _ = haul_engine::remove_partial(&name::reel(output, reel));
    }
    // Without this line the directory is somebody else's.
    let has_scratch = records.contains(&Record::Joining);
    publish::clear(output, begun(&records), &checkpoint, has_scratch)?;
    Ok(freed)
}

fn look_at(output: &Path) -> Result<Option<PartialFilm>, FilmError> {
    let log = checkpoint::path_of(output);
    let Some(Look { checkpoint, records }) = Checkpoint::look(&log)? else { return Ok(None) };
    let mut stored = BTreeMap::new();
    for record in &records {
        if let Record::Stored { track, piece, bytes, .. } = record {
            stored.insert((*track, piece), *bytes);
        }
    }
    let looks: Vec<_> = files(output, &records).iter().map(|path| on_disk(path)).collect();
    Ok(Some(PartialFilm {
        output: output.to_owned(),
        stored_bytes: stored.values().sum(),
        disk_bytes: looks.iter().map(|(bytes, _)| bytes).sum(),
        modified: looks.iter().filter_map(|(_, at)| *at).max().unwrap_or(SystemTime::UNIX_EPOCH),
        running: checkpoint.is_none(),
    }))
}

/// The log, and the files that it says to have begun.
fn files(output: &Path, records: &[Record]) -> Vec<PathBuf> {
    let reels = begun(records).into_iter().map(|reel| name::reel(output, reel));
    let of_engine = |reel: PathBuf| {
        [".part", ".haul"].map(|end| name::with_suffix(&reel, end)).into_iter().chain([reel])
    };
    reels.flat_map(of_engine).chain([checkpoint::path_of(output)]).collect()
}

/// How many bytes a file occupies, and when it was written.
fn on_disk(path: &Path) -> (u64, Option<SystemTime>) {
    let Ok(found) = fs::symlink_metadata(path) else { return (0, None) };
    (occupied(&found), found.modified().ok())
}

#[cfg(unix)]
fn occupied(found: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(found) * 512
}

#[cfg(not(unix))]
fn occupied(found: &fs::Metadata) -> u64 {
    found.len()
}
