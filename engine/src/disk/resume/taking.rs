//! Taking the lock of a download, and opening the files that belong to it.
//!
//! The lock is on the checkpoint, which runs of every kind share: the data may be in `NAME.part`
//! or, in place, in `NAME`. The checkpoint is replaced by rename every second, so the new one is
//! locked before it has the name, and whoever takes the lock checks the name again afterwards. A
//! lock belongs to the open file: it goes with the last handle, even when the process is killed,
//! and it also separates two downloads of one process. Where the system cannot replace an open file,
//! the name has no lock for a moment; there the data is locked as well.
//!
//! The checkpoint is the first file that a download creates and the last one that it removes, so
//! data without a checkpoint is somebody else's. The checkpoint must begin like one, and it and the
//! data must have the owner that new files get here and only one name each: in a directory that
//! others can write to, anybody can leave files with these names.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::refusing::{foreign, is_foreign, locked};
use crate::disk::checkpoint_file::{self, Lock, directory_of};
use crate::disk::naming;
use crate::disk::partial::{Origin, Partial, Paths, data_file, remove_checkpoint};
use crate::disk::regular::{is_named, open_regular, refuse_special_output};
use crate::fault_point::{self, Call};
use crate::model::checkpoint::{Checkpoint, DataFile};
use crate::model::error::{Error, ErrorKind};
use crate::os;
use crate::os::file::{Access, Facts, PRIVATE_MODE};

/// How often another haul may publish or discard the partial just before its
/// lock is taken. Each round needs a whole download in between.
const MAX_ACQUIRE_ROUNDS: u32 = 64;

/// The first checkpoint of a download, written when there is none. It describes the data's file,
/// unless that cannot be created without a name.
pub(crate) struct First<'a> {
    pub(crate) encode: &'a dyn Fn(Option<DataFile>) -> Vec<u8>,
    pub(crate) durable: bool,
    /// The mode of the file that this download replaced.
    pub(crate) replaced_mode: Option<u32>,
}

impl Partial {
    /// Takes the lock of `NAME.haul`, which is created if it does not exist, and opens
    /// `NAME.part`, or creates it with mode 0600.
    ///
    /// The output may have appeared while the lock was awaited; a caller that must not replace it
    /// checks again.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] when another download has the lock.
    /// [`ErrorKind::LocalFile`] when partial or checkpoint is someone else's, when one of
    /// the three names is not a regular file (a symlink at `NAME.part` or
    /// `NAME.haul` is not followed), or when a file cannot be opened. What is
    /// there is untouched then.
    pub(crate) fn acquire(paths: Paths, first: &First<'_>) -> Result<Self, Error> {
        refuse_special_output(&paths.output)?;
        for _ in 0..MAX_ACQUIRE_ROUNDS {
            let Some(checkpoint) = open_regular(&paths.checkpoint, Access::ReadWrite)? else {
                match Self::begin(&paths, first)? {
                    Some(partial) => return Ok(partial),
                    None => continue,
                }
            };
            let Some(unlocked) = take_lock(&paths, &checkpoint)? else { continue };
            let bytes = checkpoint_file::read_open(&checkpoint, &paths.checkpoint)?;
            if let Some((file, created)) = open_data(&paths, &checkpoint)? {
                lock_data(&paths, &file)?;
                let found = Checkpoint::decode(&bytes).ok().filter(|_| !created);
                let origin = Origin {
                    created,
                    unlocked,
                    replaced_mode: first.replaced_mode,
                    adopted: found.and_then(|checkpoint| checkpoint.adopted),
                    ..Origin::default()
                };
                return Ok(Self::new(file, checkpoint, paths, origin));
            }
        }
        Err(locked(&paths, None))
    }

    /// Creates checkpoint and data where neither exists. `None` where another haul was faster.
    fn begin(paths: &Paths, first: &First<'_>) -> Result<Option<Self>, Error> {
        let cannot = |error| Error::io("cannot examine", &paths.partial, error);
        let mut found = None;
        if let Some(there) = Facts::at(&paths.partial).map_err(cannot)? {
            // The file in place of the object may be empty: `mktemp` made it.
            let may_be_taken = paths.are_in_place() && there.is_file() && there.len_bytes() == 0;
            if !may_be_taken {
                return match is_foreign(paths, &there)? {
                    true => Err(foreign(paths)),
                    false => Ok(None),
                };
            }
            found = open_regular(&paths.partial, Access::ReadWrite)?;
        }
        let existed = found.is_some();
        let cannot_create = |error| Error::io("cannot create", &paths.partial, error);
        // The data has no name until the checkpoint describes it.
        let data = match found {
            Some(file) => Some(file),
            None => {
                fault_point::pass(Call::CreatePartial).map_err(cannot_create)?;
                os::name::create_unnamed(directory_of(&paths.partial), PRIVATE_MODE).ok()
            }
        };
        let told = data.as_ref().map(|file| data_file(file, paths)).transpose()?;
        let written =
            checkpoint_file::create(&paths.checkpoint, &(first.encode)(told), first.durable);
        let cannot_write =
            |error| Error::io("cannot write the checkpoint", &paths.checkpoint, error);
        let Some((checkpoint, lock)) = written.map_err(cannot_write)? else { return Ok(None) };
        let mut recorded = told.is_some();
        let named = match data {
            Some(file) if existed => Ok(file),
            Some(file) => match naming::name(&file, &paths.partial) {
                Err(error) if os::name::has_no_links(&error) => {
                    recorded = false;
                    create_new(&paths.partial)
                }
                named => named.map(|()| file),
            },
            None => create_new(&paths.partial),
        };
        match named {
            Ok(file) => {
                lock_data(paths, &file)?;
                let origin = Origin {
                    created: !existed,
                    recorded,
                    unlocked: reason(lock),
                    replaced_mode: first.replaced_mode,
                    adopted: None,
                };
                Ok(Some(Self::new(file, checkpoint, paths.clone(), origin)))
            }
            Err(error) => {
                let _ = remove_checkpoint(&paths.checkpoint, &checkpoint);
                Err(match error.kind() {
                    io::ErrorKind::AlreadyExists => foreign(paths),
                    _ => cannot_create(error),
                })
            }
        }
    }

    /// Takes the lock of what an earlier run left, without creating or changing
    /// anything. The data is open for reading only.
    ///
    /// # Errors
    /// As for [`Partial::acquire`], and [`ErrorKind::LocalFile`] when there is
    /// no partial.
    pub(crate) fn acquire_earlier(paths: Paths) -> Result<Self, Error> {
        for _ in 0..MAX_ACQUIRE_ROUNDS {
            // Some network file systems lock only what can be written to.
            let writable = open_regular(&paths.checkpoint, Access::ReadWrite);
            let opened = writable.or_else(|_| open_regular(&paths.checkpoint, Access::Read))?;
            let Some(checkpoint) = opened else { break };
            let Some(unlocked) = take_lock(&paths, &checkpoint)? else { continue };
            checkpoint_file::read_open(&checkpoint, &paths.checkpoint)?;
            let Some(file) = open_regular(&paths.partial, Access::Read)? else { break };
            refuse_others(&paths, &checkpoint, &file)?;
            lock_data(&paths, &file)?;
            let origin = Origin { unlocked, ..Origin::default() };
            return Ok(Self::new(file, checkpoint, paths, origin));
        }
        Err(Error::new(
            ErrorKind::LocalFile,
            format!("there is no partial download {} with its checkpoint", paths.partial.display()),
        ))
    }

    /// Whether a download holds the lock now.
    pub(crate) fn is_locked(paths: &Paths) -> bool {
        let found = open_regular(&paths.checkpoint, Access::Read);
        found.ok().flatten().is_some_and(|file| os::lock::is_held(&file))
    }
}

/// Takes the lock of an open checkpoint; returns the reason if there are no locks. The outer `None`
/// means that the file no longer has its name.
pub(super) fn take_lock(paths: &Paths, checkpoint: &File) -> Result<Option<Option<String>>, Error> {
    let path = &paths.checkpoint;
    let lock =
        checkpoint_file::lock(checkpoint).map_err(|error| Error::io("cannot lock", path, error))?;
    if matches!(lock, Lock::Elsewhere) {
        return Err(locked(paths, Some(checkpoint)));
    }
    let ours =
        is_named(path, checkpoint).map_err(|error| Error::io("cannot examine", path, error))?;
    Ok(ours.then(|| reason(lock)))
}

/// Takes the lock of the data where that of the checkpoint is not enough.
fn lock_data(paths: &Paths, data: &File) -> Result<(), Error> {
    if !os::lock::GUARDS_DATA {
        return Ok(());
    }
    let lock = checkpoint_file::lock(data);
    match lock.map_err(|error| Error::io("cannot lock", &paths.partial, error))? {
        Lock::Elsewhere => Err(locked(paths, None)),
        Lock::Held | Lock::Missing(_) => Ok(()),
    }
}

fn reason(lock: Lock) -> Option<String> {
    match lock {
        Lock::Missing(error) => Some(error.to_string()),
        Lock::Held | Lock::Elsewhere => None,
    }
}

/// The data that belongs to a locked checkpoint of ours, and whether it was created now. `None`
/// when it vanished meanwhile.
fn open_data(paths: &Paths, checkpoint: &File) -> Result<Option<(File, bool)>, Error> {
    let cannot_create = |error| Error::io("cannot create", &paths.partial, error);
    let found = open_regular(&paths.partial, Access::ReadWrite)?;
    if let Some(file) = found {
        if !is_published_midway(paths, &file)? {
            refuse_others(paths, checkpoint, &file)?;
            return Ok(Some((file, false)));
        }
        let removed = os::name::remove(&paths.partial);
        removed.map_err(|error| Error::io("cannot remove", &paths.partial, error))?;
    } else {
        refuse_others(paths, checkpoint, checkpoint)?;
    }
    fault_point::pass(Call::CreatePartial).map_err(cannot_create)?;
    match create_new(&paths.partial) {
        Ok(file) => Ok(Some((file, true))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(cannot_create(error)),
    }
}

/// Whether the data has both its names: a kill came between the two steps that publish it where
/// there is no renaming without replacing.
fn is_published_midway(paths: &Paths, file: &File) -> Result<bool, Error> {
    let cannot = |error| Error::io("cannot examine", &paths.output, error);
    let found = Facts::of(file).map_err(cannot)?;
    Ok(!paths.are_in_place()
        && found.names() == 2
        && is_named(&paths.output, file).map_err(cannot)?)
}

/// Refuses a checkpoint or data unlike a file of ours: with an owner other than new files get here
/// (which is not always the user: NFS, FAT), or with a second name, under which somebody reads or
/// writes it.
fn refuse_others(paths: &Paths, checkpoint: &File, data: &File) -> Result<(), Error> {
    let own = owner_here(&paths.checkpoint)?;
    for (path, file) in [(&paths.checkpoint, checkpoint), (&paths.partial, data)] {
        let found = Facts::of(file).map_err(|e| Error::io("cannot examine", path, e))?;
        let Some(why) = unlike_ours(&found, own) else { continue };
        let message = format!("{} {why}; nothing was changed", path.display());
        return Err(Error::new(ErrorKind::LocalFile, message).with_hint(format!(
            "continue it as the user who began it, remove {} and {}, or choose another output",
            paths.partial.display(),
            paths.checkpoint.display()
        )));
    }
    Ok(())
}

/// What distinguishes a file from one that the user `own` made here.
pub(super) fn unlike_ours(found: &Facts, own: u32) -> Option<String> {
    if found.owner() != own {
        return Some(format!(
            "belongs to user {} and not to {own}, who a file made here belongs to",
            found.owner()
        ));
    }
    (found.names() > 1).then(|| {
        format!("has {} names (hard links), so it would change under the others too", found.names())
    })
}

/// The owner of a file created now in the directory of `path`.
pub(super) fn owner_here(path: &Path) -> Result<u32, Error> {
    let directory = directory_of(path);
    let cannot = |error| Error::io("cannot create a file in", directory, error);
    let file = os::name::create_unnamed(directory, PRIVATE_MODE).or_else(|_| {
        let name = directory.join(format!(".haul-{:016x}", fastrand::u64(..)));
        let file = create_new(&name)?;
        os::name::remove(&name)?;
        Ok::<_, io::Error>(file)
    });
    Ok(file.and_then(|file| Facts::of(&file)).map_err(cannot)?.owner())
}

fn create_new(path: &Path) -> io::Result<File> {
    fault_point::take_name(path)?;
    os::file::create_private(path)
}

/// Removes the partial download that `checkpoint` belongs to.
///
/// # Errors
/// As for [`Partial::acquire_earlier`]: another haul that continues it keeps it.
pub(crate) fn remove_earlier(checkpoint: &Path, in_place: bool) -> Result<(), Error> {
    let output = checkpoint.with_extension("");
    let paths = if in_place { Paths::in_place(&output) } else { Paths::of(&output) };
    let path = paths.partial.clone();
    let partial = Partial::acquire_earlier(paths)?;
    partial.remove().map_err(|error| Error::io("cannot remove", &path, error))
}

/// Removes a checkpoint that has no data.
///
/// # Errors
/// As for [`Partial::acquire_earlier`]. If data appeared meanwhile, nothing is removed.
pub(crate) fn remove_alone(paths: &Paths) -> Result<(), Error> {
    let Some(checkpoint) = open_regular(&paths.checkpoint, Access::ReadWrite)? else {
        return Ok(());
    };
    if take_lock(paths, &checkpoint)?.is_none() {
        return Ok(());
    }
    refuse_others(paths, &checkpoint, &checkpoint)?;
    let cannot = |error| Error::io("cannot remove", &paths.checkpoint, error);
    if !paths.are_in_place() && Facts::at(&paths.partial).map_err(cannot)?.is_some() {
        return Err(locked(paths, Some(&checkpoint)));
    }
    remove_checkpoint(&paths.checkpoint, &checkpoint).map_err(cannot)
}

/// Creates `dir` and any missing parents. An empty path is the current directory.
///
/// # Errors
/// [`ErrorKind::LocalFile`] when it cannot be created or is not a directory.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(|e| Error::io("cannot create the directory", dir, e))
}

#[cfg(test)]
impl Partial {
    /// As for [`Partial::acquire`], with a first checkpoint that says nothing.
    pub(crate) fn acquire_alone(paths: Paths) -> Result<Self, Error> {
        let encode = |_| crate::model::checkpoint::MAGIC.to_vec();
        let first = First { encode: &encode, durable: false, replaced_mode: None };
        Self::acquire(paths, &first)
    }
}

#[cfg(test)]
#[path = "taking_tests.rs"]
mod tests;
