//! Partial downloads at rest: what they are, and removing them. Blocking, and needs no engine.
//!
//! A file in a directory may be another program's. Only a `NAME.haul` that begins like a checkpoint
//! counts, with the data that it describes: `NAME.part`, `NAME` where the data had its final name
//! from the start, or none, where a kill came before there was any or somebody removed it. A
//! `NAME.hau~` without data counts too, where a kill came before the checkpoint had its name.
//! Nothing is removed without its lock.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::disk::checkpoint_file;
use crate::disk::partial::{Partial, Paths};
use crate::disk::resume::believing::not_its_file;
use crate::disk::resume::belonging::{Data, has_any_of, judge_data};
use crate::disk::resume::earlier::restored_bytes;
use crate::disk::resume::taking::remove_alone;
use crate::model::checkpoint::{Checkpoint, CheckpointError};
use crate::model::error::{Error, ErrorKind};
use crate::model::event::ValidatorKind;
use crate::os;
use crate::os::file::{Facts, Identity};

/// A partial download, as its files describe it. Only its checkpoint was read:
/// [`crate::verify_partial`] reads the data.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialInfo {
    /// The name that the file gets when it is complete.
    pub output: PathBuf,
    /// What the checkpoint records, or why it cannot be used: it is damaged, or of a newer version.
    pub state: Result<PartialState, String>,
    /// The data: `NAME.part`, or `NAME` itself. `None` where only the checkpoint is here.
    pub data: Option<PathBuf>,
    /// The checkpoint: `NAME.haul`, or a file that was to become it.
    pub checkpoint: PathBuf,
    /// How much disk space the data occupies, in bytes.
    pub disk_bytes: u64,
    /// When data or checkpoint was last written.
    pub modified: SystemTime,
    /// Whether a download holds the lock now.
    pub running: bool,
}

/// What a checkpoint records about its download.
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

/// All partial downloads directly in `dir`, sorted by name.
///
/// # Errors
/// [`ErrorKind::LocalFile`] when the directory cannot be read. A partial that vanishes meanwhile
/// was published or removed, and is left out.
pub fn find_partials(dir: &Path) -> Result<Vec<PartialInfo>, Error> {
    let cannot_read = |error| Error::io("cannot read the directory", dir, error);
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(cannot_read)? {
        let name = entry.map_err(cannot_read)?.file_name();
        let name = name.as_encoded_bytes();
        let name = name
            .strip_suffix(b".part")
            .or_else(|| name.strip_suffix(b".haul"))
            .or_else(|| checkpoint_file::staged_for(name));
        names.extend(name.filter(|name| !name.is_empty()).map(<[u8]>::to_vec));
    }
    for name in names {
        let output = dir.join(os::name::of_bytes(name));
        // One that cannot be examined must not hide the others.
        found.extend(look_at(&output).unwrap_or(None));
    }
    found.sort_by(|a, b| a.output.cmp(&b.output));
    Ok(found)
}

/// Removes the partial download of `output` and returns how many bytes of disk space that frees.
/// Data that has its final name stays where it is whole, since only its end was not recorded, and
/// where nothing in it is what was stored.
///
/// # Errors
/// [`ErrorKind::Locked`] while the download runs; [`ErrorKind::LocalFile`] when
/// there is no partial, its checkpoint is of a newer version or none at all, or
/// a file cannot be removed.
pub fn remove_partial(output: &Path) -> Result<u64, Error> {
    let here = here(output)?;
    let Here { paths, data: Some(_), .. } = here else {
        remove_alone(&here.paths)?;
        return Ok(0);
    };
    let partial = Partial::acquire_earlier(paths)?;
    let paths = partial.paths().clone();
    // Read only under the lock: it may have been published and begun again since.
    let info = partial_info(output)?;
    let decoded = Checkpoint::decode(&partial.checkpoint()?);
    match &decoded {
        Err(why @ CheckpointError::Newer { .. }) => {
            return Err(Error::new(
                ErrorKind::LocalFile,
                format!("{} was left as it is: {why}", paths.checkpoint.display()),
            )
            .with_hint("use the newer haul, or remove the .part and .haul files by hand"));
        }
        Ok(checkpoint) if judge_data(&partial, checkpoint)? == Data::Foreign => {
            return Err(not_its_file(&paths));
        }
        _ => {}
    }
    let cannot = |error| Error::io("cannot remove", &paths.partial, error);
    let whole = info.state.is_ok_and(|state| state.total_bytes == Some(state.stored_bytes));
    // A file with a final name goes only if it is shown to be what haul stored.
    let is_ours = || match &decoded {
        Ok(checkpoint) => has_any_of(&partial, checkpoint),
        Err(_) => Ok(false),
    };
    if paths.are_in_place() && (whole || !is_ours()?) {
        partial.remove_checkpoint().map_err(cannot)?;
        return Ok(0);
    }
    partial.remove().map_err(cannot)?;
    Ok(info.disk_bytes)
}

/// Removes the checkpoint that a kill left of the download that published `output`, of which
/// nothing else is here. A checkpoint that cannot be removed does no harm.
pub(crate) fn forget_published(output: &Path) {
    if let Ok(Here { paths, checkpoint: Some((_, Ok(_))), data: None }) = here(output)
        && let Err(error) = remove_alone(&paths)
    {
        tracing::debug!(%error, "a checkpoint without a download stays");
    }
}

type Decoded = Result<Checkpoint, CheckpointError>;

fn none() -> Decoded {
    Err(CheckpointError::NotACheckpoint)
}

fn decoded(paths: &Paths) -> Result<Option<Decoded>, Error> {
    Ok(checkpoint_file::read(&paths.checkpoint)?.map(|bytes| Checkpoint::decode(&bytes)))
}

/// The files of one download that are here.
struct Here {
    paths: Paths,
    checkpoint: Option<(Facts, Decoded)>,
    data: Option<Facts>,
}

fn here(output: &Path) -> Result<Here, Error> {
    let mut paths = Paths::of(output);
    let examine = |path: &Path| match Facts::at(path) {
        Ok(found) => Ok(found.filter(Facts::is_file)),
        Err(error) => Err(Error::io("cannot examine", path, error)),
    };
    let mut data = examine(&paths.partial)?;
    let Some(found) = examine(&paths.checkpoint)? else {
        let staged = checkpoint_file::left_staged(&paths.checkpoint).next().transpose();
        let staged = staged.map_err(|error| Error::io("cannot examine", output, error))?;
        // A staged checkpoint says nothing about data: data without a checkpoint is another
        // program's.
        let Some(staged) = staged.filter(|_| data.is_none()) else {
            return Ok(Here { paths, checkpoint: None, data });
        };
        paths.checkpoint = staged;
        let Some(found) = examine(&paths.checkpoint)? else {
            return Ok(Here { paths, checkpoint: None, data });
        };
        let decoded = decoded(&paths)?.unwrap_or_else(none);
        return Ok(Here { paths, checkpoint: Some((found, decoded)), data });
    };
    let decoded = decoded(&paths)?.unwrap_or_else(none);
    // Another file that has taken the name is not the one that was begun.
    let in_place = decoded.as_ref().ok().and_then(|it| it.data_file).filter(|it| it.in_place);
    if let Some(told) = in_place {
        paths = Paths::in_place(output);
        let told = Identity { device: told.device, inode: told.inode };
        data = examine(&paths.partial)?.filter(|found| found.identity() == told);
    }
    Ok(Here { paths, checkpoint: Some((found, decoded)), data })
}

/// `None` where there is no partial of ours.
fn look_at(output: &Path) -> Result<Option<PartialInfo>, Error> {
    let Here { paths, checkpoint, data } = here(output)?;
    let Some((checkpoint, decoded)) = checkpoint else { return Ok(None) };
    let state = match decoded {
        Ok(checkpoint) => Ok(PartialState {
            total_bytes: checkpoint.total,
            stored_bytes: match data {
                Some(_) => restored_bytes(&checkpoint),
                None => 0,
            },
            validator: checkpoint.validator.kind(),
            host: checkpoint.host,
        }),
        Err(CheckpointError::NotACheckpoint) => return Ok(None),
        Err(why) => Err(why.to_string()),
    };
    Ok(Some(PartialInfo {
        output: output.to_owned(),
        state,
        disk_bytes: data.as_ref().map_or(0, Facts::disk_bytes),
        modified: data
            .iter()
            .map(Facts::modified_time)
            .fold(checkpoint.modified_time(), SystemTime::max),
        running: Partial::is_locked(&paths),
        checkpoint: paths.checkpoint,
        data: data.map(|_| paths.partial),
    }))
}
