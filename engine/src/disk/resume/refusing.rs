//! Refusals that names alone justify: they are made without the lock, so taking it decides again.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::disk::checkpoint_file;
use crate::disk::claims::Claimed;
use crate::disk::numbered::names;
use crate::disk::partial::{Paths, output_exists};
use crate::disk::regular::{is_placeholder, is_present, open_regular};
use crate::fault_point;
use crate::model::checkpoint::Checkpoint;
use crate::model::error::{Error, ErrorKind};
use crate::model::hint::{Hint, Way};
use crate::model::redact::redact;
use crate::os;
use crate::os::file::{Access, Facts};

/// The error for a partial that, as far as can be told, haul did not make.
pub(super) fn foreign(paths: &Paths) -> Error {
    Error::new(
        ErrorKind::LocalFile,
        format!(
            "{} exists without {}, so another program may have made it; it was left as it is",
            paths.partial.display(),
            paths.checkpoint.display()
        ),
    )
    .with_hint(Hint::File(&[Way::MoveAway, Way::ChooseOutput]))
}

/// Whether what was `found` in the data's place is nobody's download: a download has a checkpoint
/// as long as it has data. Also checks that it is still there once no checkpoint is.
pub(super) fn is_foreign(paths: &Paths, found: &Facts) -> Result<bool, Error> {
    if fault_point::has_bug!(ForeignSideFiles) {
        return Ok(false);
    }
    let cannot = |error| Error::io("cannot examine", &paths.partial, error);
    let recorded = is_present(&paths.checkpoint)?;
    let there = Facts::at(&paths.partial).map_err(cannot)?;
    Ok(!recorded && there.is_some_and(|now| now.is_same(found)))
}

/// Refuses a foreign partial before anything is fetched for it; without the lock, so
/// [`Partial::acquire`] decides again.
pub(crate) fn refuse_foreign(paths: &Paths) -> Result<(), Error> {
    match Facts::at(&paths.partial) {
        Ok(Some(found)) if is_foreign(paths, &found)? => Err(foreign(paths)),
        _ => Ok(()),
    }
}

/// Refuses what another process is downloading, before any request; without taking the lock, so
/// [`Partial::acquire`] decides again. A download of this process may be about to leave, so it is
/// waited for instead.
pub(crate) fn refuse_locked(paths: &Paths) -> Result<(), Error> {
    let Ok(Some(file)) = open_regular(&paths.checkpoint, Access::Read) else { return Ok(()) };
    match os::lock::holder(&file) {
        Some(pid) if pid != std::process::id() => Err(locked_by(paths, Some(pid))),
        _ => Ok(()),
    }
}

/// Refuses when something is at `output` already, even a dangling symlink.
///
/// # Errors
/// [`ErrorKind::OutputExists`], or [`ErrorKind::LocalFile`] when the name
/// cannot be looked up.
pub(crate) fn refuse_existing(output: &Path) -> Result<(), Error> {
    match Facts::at(output).map_err(|e| Error::io("cannot examine", output, e))? {
        Some(_) => Err(output_exists(output, "nothing was written")),
        None => Ok(()),
    }
}

/// The same for a download to these names. Where it is in place, the output may be what an earlier
/// run left, or empty. With `replaces_empty` an empty file may be there in any case.
///
/// # Errors
/// As for [`refuse_existing`].
pub(crate) fn refuse_finished(paths: &Paths, replaces_empty: bool) -> Result<(), Error> {
    if replaces_empty && is_placeholder(&paths.output) {
        return Ok(());
    }
    let unfinished = || {
        let found = Facts::at(&paths.output).ok().flatten();
        let empty = found.is_some_and(|found| found.len_bytes() == 0);
        Ok::<_, Error>(empty || is_present(&paths.checkpoint)?)
    };
    if paths.are_in_place() && unfinished()? {
        return Ok(());
    }
    refuse_existing(&paths.output)
}

/// The first of the numbered names of `output` that is free.
pub(crate) fn free_name(output: &Path) -> PathBuf {
    let free = |name: &PathBuf| refuse_existing(name).is_ok();
    names(output).find(free).unwrap_or_else(|| output.to_owned())
}

const ANOTHER_HAUL_HINT: &str = "wait for it or stop it, or choose another output";

pub(super) fn locked(paths: &Paths, file: Option<&File>) -> Error {
    // The process is only for the message, which can do without it. The kernel is asked first,
    // since a holder that has just begun has not written its checkpoint: the one that is there
    // names a process that is gone.
    let of_checkpoint = || {
        let bytes = checkpoint_file::read(&paths.checkpoint).ok().flatten();
        Some(Checkpoint::decode(&bytes?).ok()?.pid)
    };
    locked_by(paths, file.and_then(os::lock::holder).or_else(of_checkpoint))
}

/// The error for what another process has claimed.
pub(crate) fn claimed_elsewhere(claimed: Claimed<'_>) -> Error {
    let shown = match claimed {
        Claimed::Output(output) => output.display().to_string(),
        Claimed::Object(directory, url) => {
            format!("{} in {}", redact(url), directory.display())
        }
    };
    Error::new(
        ErrorKind::Locked,
        format!("another haul is downloading {shown}; nothing was changed"),
    )
    .with_hint(ANOTHER_HAUL_HINT)
}

fn locked_by(paths: &Paths, process: Option<u32>) -> Error {
    let (holder, hint) = match process {
        Some(pid) if pid == std::process::id() => (
            format!("another download of this process ({pid}) has not ended yet and"),
            "wait for it, also after it was dropped or cancelled, or choose another output",
        ),
        Some(pid) => (format!("another haul (process {pid})"), ANOTHER_HAUL_HINT),
        None => ("another haul".to_owned(), ANOTHER_HAUL_HINT),
    };
    Error::new(
        ErrorKind::Locked,
        format!("{holder} is downloading to {}; nothing was changed", paths.output.display()),
    )
    .with_hint(hint)
}
