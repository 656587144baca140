//! Names at which there is a regular file, or ought to be.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::model::error::{Error, ErrorKind};
use crate::model::hint::{Hint, Way};
use crate::os;
use crate::os::file::{Access, Facts, Kind};

/// Whether `path` is an empty file: Firefox holds a name with one while it downloads.
pub(super) fn is_placeholder(path: &Path) -> bool {
    let found = Facts::at(path).ok().flatten();
    found.is_some_and(|found| found.is_file() && found.len_bytes() == 0)
}

/// Whether `path` is a name of `file`.
pub(super) fn is_named(path: &Path, file: &File) -> io::Result<bool> {
    Facts::at(path)?.map_or(Ok(false), |named| Ok(named.is_same(&Facts::of(file)?)))
}

/// Whether `path` exists; anything but a regular file is an error.
pub(super) fn is_present(path: &Path) -> Result<bool, Error> {
    match Facts::at(path).map_err(|e| Error::io("cannot examine", path, e))? {
        Some(found) if !found.is_file() => Err(not_regular(path, &found)),
        found => Ok(found.is_some()),
    }
}

fn not_regular(path: &Path, found: &Facts) -> Error {
    let what = match found.kind() {
        Kind::Link => "a symbolic link",
        Kind::Directory => "a directory",
        Kind::Fifo => "a FIFO",
        Kind::File | Kind::Other => "a device or socket",
    };
    Error::new(
        ErrorKind::LocalFile,
        format!("{} is {what}, not a regular file; it was not followed or changed", path.display()),
    )
    .with_hint(Hint::File(&[Way::MoveAway, Way::ChooseOutput]))
}

/// Refuses an output that is no regular file: a rename would replace a device or FIFO,
/// and fail on a directory, only after everything was received.
pub(super) fn refuse_special_output(output: &Path) -> Result<(), Error> {
    match Facts::behind(output) {
        Ok(found) if !found.is_file() => Err(not_regular(output, &found)),
        // A name that cannot be looked up fails when the partial is opened.
        _ => Ok(()),
    }
}

/// The file at `path`; `None` when there is none.
pub(super) fn open_regular(path: &Path, access: Access) -> Result<Option<File>, Error> {
    // Looked at before it is opened: opening a device can have effects.
    if !is_present(path)? {
        return Ok(None);
    }
    let opened = os::file::open(path, access).map_err(|e| Error::io("cannot open", path, e))?;
    let Some(file) = opened else { return Ok(None) };
    let found = Facts::of(&file).map_err(|e| Error::io("cannot examine", path, e))?;
    if !found.is_file() {
        return Err(not_regular(path, &found));
    }
    Ok(Some(file))
}
