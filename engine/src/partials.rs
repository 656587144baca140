//! Partial downloads at rest: what they are, and removing them. Blocking, and
//! needs no engine.
//!
//! What lies in a directory may be another program's. Only a `NAME.part` with a
//! `NAME.haul` beside it that begins like a checkpoint counts as a partial, and
//! nothing is removed without its lock.

use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, ErrorKind};
use crate::event::ValidatorKind;
use crate::io::checkpoint_file;
use crate::io::output;
use crate::io::partial::{Partial, Paths};
use crate::model::checkpoint::{Checkpoint, CheckpointError};

/// A partial download, as its files tell of it. Nothing of it was read but the
/// checkpoint: [`crate::verify_partial`] reads the data.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialInfo {
    /// The name that the file gets when it is complete.
    pub output: PathBuf,
    /// What the checkpoint tells, or why it tells nothing: a damaged one, or
    /// one of a newer version.
    pub state: Result<PartialState, String>,
    /// What `NAME.part` takes of the disk, in bytes.
    pub disk_bytes: u64,
    /// When data or checkpoint were written last.
    pub modified: SystemTime,
    /// Whether a download holds the lock now.
    pub running: bool,
}

/// What a checkpoint tells of its download.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialState {
    /// The object's size in bytes, if the server told it.
    pub total_bytes: Option<u64>,
    /// Bytes that the next run need not fetch.
    pub stored_bytes: u64,
    /// What identifies the version of the object.
    pub validator: ValidatorKind,
    /// The host of the URL. The rest of it is not recorded.
    pub host: String,
}

/// The partial download of `path`, the output's name or `NAME.part`.
///
/// # Errors
/// [`ErrorKind::LocalFile`] when there is none, or its files cannot be read.
pub fn partial_info(path: &Path) -> Result<PartialInfo, Error> {
    let part = path.extension().is_some_and(|extension| extension == "part");
    let named = part.then(|| look_at(&path.with_extension(""))).transpose()?.flatten();
    match named.map_or_else(|| look_at(path), |info| Ok(Some(info)))? {
        Some(info) => Ok(info),
        None => Err(Error::new(
            ErrorKind::LocalFile,
            format!("there is no partial download of {}", path.display()),
        )
        .with_hint("a partial is a NAME.part with its checkpoint NAME.haul beside it")),
    }
}

/// All partial downloads in `dir`, not in the directories below, by name.
///
/// # Errors
/// [`ErrorKind::LocalFile`] when the directory cannot be read. A partial that
/// vanishes meanwhile was published or removed, and is left out.
pub fn find_partials(dir: &Path) -> Result<Vec<PartialInfo>, Error> {
    let cannot_read = |error| Error::io("cannot read the directory", dir, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(cannot_read)? {
        let name = entry.map_err(cannot_read)?.file_name();
        let Some(name) = name.as_bytes().strip_suffix(b".part").filter(|name| !name.is_empty())
        else {
            continue;
        };
        let output = dir.join(std::ffi::OsString::from_vec(name.to_owned()));
        // One that cannot be examined is nobody's reason to see none of the others.
        found.extend(look_at(&output).unwrap_or(None));
    }
    found.sort_by(|a, b| a.output.cmp(&b.output));
    Ok(found)
}

/// Removes the partial download of `output` and returns how many bytes of the
/// disk that frees.
///
/// # Errors
/// [`ErrorKind::Locked`] while the download runs; [`ErrorKind::LocalFile`] when
/// there is no partial, its checkpoint is of a newer version or none at all, or
/// a file cannot be removed.
pub fn remove_partial(output: &Path) -> Result<u64, Error> {
    let holder = |bytes: &[u8]| Checkpoint::decode(bytes).ok().map(|checkpoint| checkpoint.pid);
    let partial = Partial::acquire_earlier(Paths::of(output), &holder)?;
    let paths = partial.paths().clone();
    // Only with the lock: it may have been published and begun again since.
    let info = partial_info(output)?;
    if let Err(why @ CheckpointError::Newer { .. }) = decoded(&paths)?.unwrap_or_else(none) {
        return Err(Error::new(
            ErrorKind::LocalFile,
            format!("{} was left as it is: {why}", paths.checkpoint.display()),
        )
        .with_hint("use the newer haul, or remove the .part and .haul files by hand"));
    }
    let cannot = |error| Error::io("cannot remove", &paths.partial, error);
    partial.remove().map_err(cannot)?;
    Ok(info.disk_bytes)
}

type Decoded = Result<Checkpoint, CheckpointError>;

fn none() -> Decoded {
    Err(CheckpointError::NotACheckpoint)
}

fn decoded(paths: &Paths) -> Result<Option<Decoded>, Error> {
    Ok(checkpoint_file::read(&paths.checkpoint)?.map(|bytes| Checkpoint::decode(&bytes)))
}

/// `None` where there is no partial of ours.
fn look_at(output: &Path) -> Result<Option<PartialInfo>, Error> {
    let paths = Paths::of(output);
    let examine = |path: &Path| match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_file().then_some(metadata)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("cannot examine", path, error)),
    };
    let Some(data) = examine(&paths.partial)? else { return Ok(None) };
    let Some(checkpoint) = examine(&paths.checkpoint)? else { return Ok(None) };
    let state = match decoded(&paths)?.unwrap_or_else(none) {
        Ok(checkpoint) => Ok(PartialState {
            total_bytes: checkpoint.total,
            stored_bytes: output::restored_bytes(&checkpoint),
            validator: checkpoint.validator.kind(),
            host: checkpoint.host,
        }),
        Err(CheckpointError::NotACheckpoint) => return Ok(None),
        Err(why) => Err(why.to_string()),
    };
    let written = |metadata: &fs::Metadata| metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(Some(PartialInfo {
        output: output.to_owned(),
        state,
        disk_bytes: data.blocks() * 512,
        modified: written(&data).max(written(&checkpoint)),
        running: Partial::is_locked(&paths),
    }))
}
