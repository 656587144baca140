//! `NAME.part`, the file that holds the data until it is complete, beside its checkpoint
//! `NAME.haul`, while their download holds the lock of both. [`super::resume`] takes the lock.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checkpoint_file;
use super::regular::is_named;
use crate::fault_point::{self, Call};
use crate::model::adoption::Adopted;
use crate::model::checkpoint::DataFile;
use crate::model::error::{Error, ErrorKind};
use crate::model::hint::Hint;
use crate::os;
use crate::os::file::{Facts, Identity, PRIVATE_MODE};

/// The three names of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    /// `NAME`: the final name.
    pub(crate) output: PathBuf,
    /// `NAME.part`: the data.
    pub(crate) partial: PathBuf,
    /// `NAME.haul`: the checkpoint.
    pub(crate) checkpoint: PathBuf,
}

impl Paths {
    /// The names that belong to `output`. Its last component leaves room for
    /// the 5 bytes that are appended (255 is what file systems take).
    pub(crate) fn of(output: &Path) -> Self {
        let name = output.file_name().unwrap_or(output.as_os_str());
        let with = |suffix: &str| {
            // Nearly every path ends with its name, and need not be taken apart.
            if output.as_os_str().as_encoded_bytes().ends_with(name.as_encoded_bytes()) {
                let mut path = OsString::with_capacity(output.as_os_str().len() + suffix.len());
                path.push(output);
                path.push(suffix);
                return path.into();
            }
            let mut name = name.to_owned();
            name.push(suffix);
            output.with_file_name(name)
        };
        Self { output: output.to_owned(), partial: with(".part"), checkpoint: with(".haul") }
    }

    /// The same, for a download whose data has the final name from the start.
    pub(crate) fn in_place(output: &Path) -> Self {
        Self { partial: output.to_owned(), ..Self::of(output) }
    }

    /// Whether the data has the final name from the start.
    pub(crate) fn are_in_place(&self) -> bool {
        self.partial == self.output
    }
}

/// A locked download, with its data open. The lock lasts until this value is dropped.
#[derive(Debug)]
pub(crate) struct Partial {
    file: Arc<File>,
    /// The checkpoint file at its name, which has the lock.
    checkpoint: Mutex<File>,
    paths: Paths,
    pub(super) origin: Origin,
}

/// How a partial came to be.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// Whether the data's file did not exist before.
    pub(super) created: bool,
    /// Whether the checkpoint is the first one of this run, and describes the data's file.
    pub(super) recorded: bool,
    /// Why there is no lock.
    pub(super) unlocked: Option<String>,
    /// The mode of the file that this download replaced.
    pub(super) replaced_mode: Option<u32>,
    /// What the data was before haul took it over, where another program began it.
    pub(super) adopted: Option<Adopted>,
}

impl Partial {
    /// `file` is the data and `checkpoint` has the lock, both open and at their names.
    pub(super) fn new(file: File, checkpoint: File, paths: Paths, origin: Origin) -> Self {
        Self { file: Arc::new(file), checkpoint: Mutex::new(checkpoint), paths, origin }
    }

    /// Whether only its owner can read the data, as far as its mode tells.
    pub(crate) fn is_private(&self) -> bool {
        Facts::of(&self.file).is_ok_and(|found| found.is_private())
    }

    /// The mode that the published file must not exceed, where it replaces another one: of a file
    /// that an earlier run replaced, only that it is gone is known.
    pub(super) fn replaced_mode(&self) -> Option<u32> {
        self.origin.replaced_mode.or((!self.origin.created).then_some(PRIVATE_MODE))
    }

    /// Makes the data private again, since a kill while publishing may have left it open to others.
    ///
    /// # Errors
    /// When its mode cannot be set.
    pub(crate) fn make_private(&self) -> Result<(), Error> {
        let path = &self.paths.partial;
        let found = Facts::of(&self.file).map_err(|e| Error::io("cannot examine", path, e))?;
        if found.permissions() != PRIVATE_MODE {
            os::file::set_mode(&self.file, PRIVATE_MODE)
                .map_err(|e| Error::io("cannot set the mode of", path, e))?;
        }
        Ok(())
    }

    /// The open file.
    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The names.
    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// What the data was before haul took it over, where another program began it.
    pub(crate) fn adopted(&self) -> Option<&Adopted> {
        self.origin.adopted.as_ref()
    }

    /// The bytes of the checkpoint.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn checkpoint(&self) -> Result<Vec<u8>, Error> {
        checkpoint_file::read_open(&self.lock(), &self.paths.checkpoint)
    }

    /// Replaces the checkpoint.
    ///
    /// # Errors
    /// [`ErrorKind::LocalFile`] when its name is not ours any more, and any error that keeps a file
    /// from being written.
    pub(crate) fn record(&self, bytes: &[u8], durable: bool) -> Result<(), Error> {
        let path = &self.paths.checkpoint;
        let cannot = |error| Error::io("cannot write the checkpoint", path, error);
        let mut checkpoint = self.lock();
        let written = match Facts::at(path).map_err(cannot)? {
            // Another program removed it.
            None => {
                let created = checkpoint_file::create(path, bytes, durable);
                created.map_err(cannot)?.map(|(file, _)| file)
            }
            Some(found) if found.is_same(&Facts::of(&checkpoint).map_err(cannot)?) => {
                return checkpoint_file::replace(path, bytes, durable, &mut checkpoint)
                    .map_err(cannot);
            }
            Some(_) => None,
        };
        *checkpoint = written.ok_or_else(|| replaced(path, "no checkpoint was written"))?;
        Ok(())
    }

    /// What a checkpoint identifies the file by.
    ///
    /// # Errors
    /// When the file cannot be examined.
    pub(crate) fn data_file(&self) -> Result<DataFile, Error> {
        data_file(&self.file, &self.paths)
    }

    /// Whether `NAME.part` still names the file that is open here. Another
    /// program can delete or replace it at any time.
    ///
    /// # Errors
    /// When the name cannot be looked up; a missing name is no error.
    pub(crate) fn still_ours(&self) -> io::Result<bool> {
        is_named(&self.paths.partial, &self.file)
    }

    /// Discards the download: `NAME.part` and `NAME.haul` are unlinked, except
    /// what has become someone else's.
    ///
    /// # Errors
    /// When a file cannot be unlinked; a missing file is no error.
    pub(crate) fn remove(self) -> io::Result<()> {
        fault_point::pass(Call::RemovePartial)?;
        if self.still_ours()? {
            os::name::remove(&self.paths.partial)?;
        }
        self.remove_checkpoint()
    }

    /// Removes what acquiring it created, and leaves what was there before.
    ///
    /// # Errors
    /// As for [`Self::remove`].
    pub(super) fn undo(self) -> io::Result<()> {
        match (self.origin.created, self.origin.recorded) {
            (true, _) => self.remove(),
            (false, true) => self.remove_checkpoint(),
            (false, false) => Ok(()),
        }
    }

    /// Unlinks the checkpoint, unless it has become another download's.
    ///
    /// # Errors
    /// When it cannot be unlinked; a missing file is no error.
    pub(crate) fn remove_checkpoint(&self) -> io::Result<()> {
        remove_checkpoint(&self.paths.checkpoint, &self.lock())
    }

    /// Releases the lock, although the data may still be open.
    pub(super) fn unlock(&self) {
        let _ = os::lock::unlock(&self.lock());
        if os::lock::GUARDS_DATA {
            let _ = os::lock::unlock(&self.file);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, File> {
        // A checkpoint is exchanged in one statement.
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn remove_checkpoint(path: &Path, checkpoint: &File) -> io::Result<()> {
    if is_named(path, checkpoint)? { checkpoint_file::remove(path) } else { Ok(()) }
}

pub(super) fn data_file(file: &File, paths: &Paths) -> Result<DataFile, Error> {
    let found = Facts::of(file).map_err(|e| Error::io("cannot examine", &paths.partial, e))?;
    let Identity { device, inode } = found.identity();
    Ok(DataFile { in_place: paths.are_in_place(), device, inode })
}

/// The error for an output that exists already.
pub(super) fn output_exists(output: &Path, consequence: &str) -> Error {
    let shown = output.display();
    if output.is_dir() {
        let message = format!("{shown} is a directory; {consequence}");
        return Error::new(ErrorKind::OutputExists, message).with_hint(Hint::OutputIsDirectory);
    }
    Error::new(
        ErrorKind::OutputExists,
        format!("{shown} exists and is not to be replaced; {consequence}"),
    )
    .with_hint(Hint::OutputExists)
}

/// The error for a file that is not ours any more.
pub(super) fn replaced(path: &Path, consequence: &str) -> Error {
    Error::new(
        ErrorKind::LocalFile,
        format!(
            "{} was deleted or replaced by another program while it was downloaded; {consequence}",
            path.display()
        ),
    )
    .with_hint("start the download again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_appended_to_the_whole_file_name() {
        let paths = Paths::of(Path::new("dir/film.mp4"));
        assert_eq!(paths.partial, Path::new("dir/film.mp4.part"));
        assert_eq!(paths.checkpoint, Path::new("dir/film.mp4.haul"));
        assert_eq!(Paths::of(Path::new("film")).partial, Path::new("film.part"));
    }
}
