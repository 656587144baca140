//! `NAME.part`, the file that holds the data until it is complete, and the lock of a
//! download, which is an flock on its checkpoint `NAME.haul`.
//!
//! The checkpoint is what runs of every kind share: the data may be in `NAME.part` or,
//! in place, in `NAME`. It is replaced by rename every second, so the new one is locked
//! before it has the name, and whoever takes the lock looks at the name again
//! afterwards. An flock belongs to the open file: it goes with the last handle, also when
//! the process is killed, and it holds between two downloads of one process.
//!
//! The checkpoint is the first file that a download creates and the last one that it
//! removes, so data beside which there is none is somebody else's. One that is there
//! must begin like a checkpoint, and it and the data must have the owner that files get
//! here and one name each: in a directory that others can write to, anybody can leave
//! files of these names.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checkpoint_file::{self, Lock, directory_of};
use super::naming::{self, create_unnamed};
use crate::fault_point::{self, Call};
use crate::model::adoption::Adopted;
use crate::model::checkpoint::{Checkpoint, DataFile};
use crate::model::error::{Error, ErrorKind};
use crate::os;
use crate::os::file::{Access, Facts, Identity, Kind, PRIVATE_MODE};

/// How often another haul may publish or discard the partial just before its
/// lock is taken. Each round needs a whole download in between.
const MAX_ACQUIRE_ROUNDS: u32 = 64;

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

    /// The same for a download whose data has the final name from the start.
    pub(crate) fn in_place(output: &Path) -> Self {
        Self { partial: output.to_owned(), ..Self::of(output) }
    }

    /// Whether the data has the final name from the start.
    pub(crate) fn are_in_place(&self) -> bool {
        self.partial == self.output
    }
}

/// The first checkpoint of a download, which is written when there is none. It tells
/// of the data's file, unless that cannot be created without a name.
pub(crate) struct First<'a> {
    pub(crate) encode: &'a dyn Fn(Option<DataFile>) -> Vec<u8>,
    pub(crate) durable: bool,
    /// The mode of the file that this download is in the place of.
    pub(crate) replaced_mode: Option<u32>,
}

/// A locked download, with its data open. The lock lasts until this value is dropped.
#[derive(Debug)]
pub(crate) struct Partial {
    file: Arc<File>,
    /// The checkpoint as it is at its name, with the lock.
    checkpoint: Mutex<File>,
    paths: Paths,
    created: bool,
    /// Whether the checkpoint is the first one of this run, and tells of the data's file.
    recorded: bool,
    /// Why there is no lock.
    unlocked: Option<String>,
    replaced_mode: Option<u32>,
    /// What the data was before haul took it over, where another program began it.
    adopted: Option<Adopted>,
}

impl Partial {
    /// Takes the lock of `NAME.haul`, which is created if it does not exist, and opens
    /// `NAME.part`, or creates it with mode 0600.
    ///
    /// The output may have appeared while the lock was awaited; the caller that
    /// must not replace it looks again.
    ///
    /// `holder` reads the process id out of a checkpoint's bytes, for the
    /// message that names who has the lock.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] when another download has the lock.
    /// [`ErrorKind::LocalFile`] when partial or checkpoint is someone else's, when one of
    /// the three names is not a regular file (a symlink at `NAME.part` or
    /// `NAME.haul` is not followed), or when a file cannot be opened. What is
    /// there is untouched then.
    pub(crate) fn acquire(
        paths: Paths,
        first: &First<'_>,
        holder: &dyn Fn(&[u8]) -> Option<u32>,
    ) -> Result<Self, Error> {
        refuse_special_output(&paths.output)?;
        for _ in 0..MAX_ACQUIRE_ROUNDS {
            let Some(checkpoint) = open_regular(&paths.checkpoint, Access::ReadWrite)? else {
                match Self::begin(&paths, first)? {
                    Some(partial) => return Ok(partial),
                    None => continue,
                }
            };
            let Some(unlocked) = take_lock(&paths, &checkpoint, holder)? else { continue };
            let bytes = checkpoint_file::read_open(&checkpoint, &paths.checkpoint)?;
            if let Some((file, created)) = open_data(&paths, &checkpoint)? {
                let found = Checkpoint::decode(&bytes).ok().filter(|_| !created);
                return Ok(Self {
                    adopted: found.and_then(|checkpoint| checkpoint.adopted),
                    file: Arc::new(file),
                    checkpoint: Mutex::new(checkpoint),
                    paths,
                    created,
                    recorded: false,
                    unlocked,
                    replaced_mode: first.replaced_mode,
                });
            }
        }
        Err(locked(&paths, None, holder))
    }

    /// Creates checkpoint and data where there is neither. `None` where another haul
    /// was faster.
    fn begin(paths: &Paths, first: &First<'_>) -> Result<Option<Self>, Error> {
        let cannot = |error| Error::io("cannot examine", &paths.partial, error);
        let mut found = None;
        if let Some(there) = Facts::at(&paths.partial).map_err(cannot)? {
            // What is in place of the object may be empty: `mktemp` made it.
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
        // Without a name until the checkpoint tells of it.
        let data = match found {
            Some(file) => Some(file),
            None => {
                fault_point::pass(Call::CreatePartial).map_err(cannot_create)?;
                create_unnamed(&paths.partial, PRIVATE_MODE).ok()
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
                Err(error) if naming::has_no_links(&error) => {
                    recorded = false;
                    create_new(&paths.partial)
                }
                named => named.map(|()| file),
            },
            None => create_new(&paths.partial),
        };
        match named {
            Ok(file) => {
                let unlocked = reason(lock);
                let (file, checkpoint) = (Arc::new(file), Mutex::new(checkpoint));
                Ok(Some(Self {
                    file,
                    checkpoint,
                    paths: paths.clone(),
                    created: !existed,
                    recorded,
                    unlocked,
                    replaced_mode: first.replaced_mode,
                    adopted: None,
                }))
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
    pub(crate) fn acquire_earlier(
        paths: Paths,
        holder: &dyn Fn(&[u8]) -> Option<u32>,
    ) -> Result<Self, Error> {
        for _ in 0..MAX_ACQUIRE_ROUNDS {
            // Some network file systems lock only what can be written to.
            let writable = open_regular(&paths.checkpoint, Access::ReadWrite);
            let opened = writable.or_else(|_| open_regular(&paths.checkpoint, Access::Read))?;
            let Some(checkpoint) = opened else { break };
            let Some(unlocked) = take_lock(&paths, &checkpoint, holder)? else { continue };
            checkpoint_file::read_open(&checkpoint, &paths.checkpoint)?;
            let Some(file) = open_regular(&paths.partial, Access::Read)? else { break };
            refuse_others(&paths, &checkpoint, &file)?;
            return Ok(Self {
                file: Arc::new(file),
                checkpoint: Mutex::new(checkpoint),
                paths,
                created: false,
                recorded: false,
                unlocked,
                replaced_mode: None,
                adopted: None,
            });
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

    /// Whether nobody but the owner can read the data, as far as its mode tells.
    pub(crate) fn is_private(&self) -> bool {
        Facts::of(&self.file).is_ok_and(|found| found.is_private())
    }

    /// The mode that the published file is not to go beyond, where it is in the place of
    /// another one: of what an earlier run replaced nothing is known but that it is gone.
    pub(super) fn replaced_mode(&self) -> Option<u32> {
        self.replaced_mode.or((!self.created).then_some(PRIVATE_MODE))
    }

    /// Makes the data private, which a kill while publishing may have opened to others.
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

    /// Whether the data's file did not exist before. A checkpoint found beside it
    /// described another file then.
    pub(crate) fn created(&self) -> bool {
        self.created
    }

    /// Whether the checkpoint is the first one of this run, and complete.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// What the data was before haul took it over, where another program began it.
    pub(crate) fn adopted(&self) -> Option<&Adopted> {
        self.adopted.as_ref()
    }

    /// Why nothing keeps other hauls away, where that is so.
    pub(crate) fn unlocked(&self) -> Option<&str> {
        self.unlocked.as_deref()
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
    /// [`ErrorKind::LocalFile`] when its name is not ours any more, and whatever
    /// keeps a file from being written.
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
            Some(found) if is_same(&found, &Facts::of(&checkpoint).map_err(cannot)?) => {
                Some(checkpoint_file::replace(path, bytes, durable).map_err(cannot)?)
            }
            Some(_) => None,
        };
        *checkpoint = written.ok_or_else(|| replaced(path, "no checkpoint was written"))?;
        Ok(())
    }

    /// What a checkpoint knows the file by.
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
    /// When the name cannot be looked up; that it does not exist is no error.
    pub(crate) fn still_ours(&self) -> io::Result<bool> {
        is_named(&self.paths.partial, &self.file)
    }

    /// Discards the download: `NAME.part` and `NAME.haul` are unlinked, except
    /// what has become someone else's.
    ///
    /// # Errors
    /// When a file cannot be unlinked; that it does not exist is no error.
    pub(crate) fn remove(self) -> io::Result<()> {
        fault_point::pass(Call::RemovePartial)?;
        if self.still_ours()? {
            fs::remove_file(&self.paths.partial)?;
        }
        self.remove_checkpoint()
    }

    /// Removes what was created when it was acquired, and leaves what was there.
    ///
    /// # Errors
    /// As of [`Self::remove`].
    pub(super) fn undo(self) -> io::Result<()> {
        match (self.created, self.recorded) {
            (true, _) => self.remove(),
            (false, true) => self.remove_checkpoint(),
            (false, false) => Ok(()),
        }
    }

    /// Unlinks the checkpoint, unless it has become another download's.
    ///
    /// # Errors
    /// When it cannot be unlinked; that it does not exist is no error.
    pub(crate) fn remove_checkpoint(&self) -> io::Result<()> {
        remove_checkpoint(&self.paths.checkpoint, &self.lock())
    }

    /// Frees the lock, although the data may still be open.
    pub(super) fn unlock(&self) {
        let _ = self.lock().unlock();
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        // A checkpoint is exchanged in one statement.
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove_checkpoint(path: &Path, checkpoint: &File) -> io::Result<()> {
    if is_named(path, checkpoint)? { checkpoint_file::remove(path) } else { Ok(()) }
}

fn data_file(file: &File, paths: &Paths) -> Result<DataFile, Error> {
    let found = Facts::of(file).map_err(|e| Error::io("cannot examine", &paths.partial, e))?;
    let Identity { device, inode } = found.identity();
    Ok(DataFile { in_place: paths.are_in_place(), device, inode })
}

/// Takes the lock of an open checkpoint, and says why there is none where that is so.
/// The outer `None` is a file that is not at its name any more.
pub(super) fn take_lock(
    paths: &Paths,
    checkpoint: &File,
    holder: &dyn Fn(&[u8]) -> Option<u32>,
) -> Result<Option<Option<String>>, Error> {
    let path = &paths.checkpoint;
    let lock =
        checkpoint_file::lock(checkpoint).map_err(|error| Error::io("cannot lock", path, error))?;
    if matches!(lock, Lock::Elsewhere) {
        return Err(locked(paths, Some(checkpoint), holder));
    }
    let ours =
        is_named(path, checkpoint).map_err(|error| Error::io("cannot examine", path, error))?;
    Ok(ours.then(|| reason(lock)))
}

fn reason(lock: Lock) -> Option<String> {
    match lock {
        Lock::Missing(error) => Some(error.to_string()),
        Lock::Held | Lock::Elsewhere => None,
    }
}

/// The data that belongs to a locked checkpoint of ours, and whether it was created.
/// `None` when it vanished meanwhile.
fn open_data(paths: &Paths, checkpoint: &File) -> Result<Option<(File, bool)>, Error> {
    let cannot_create = |error| Error::io("cannot create", &paths.partial, error);
    let found = open_regular(&paths.partial, Access::ReadWrite)?;
    if let Some(file) = found {
        if !is_published_midway(paths, &file)? {
            refuse_others(paths, checkpoint, &file)?;
            return Ok(Some((file, false)));
        }
        let removed = fs::remove_file(&paths.partial);
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

/// Whether the data has both its names: a kill came between the two steps with which it
/// is published where there is no renaming without replacing.
fn is_published_midway(paths: &Paths, file: &File) -> Result<bool, Error> {
    let cannot = |error| Error::io("cannot examine", &paths.output, error);
    let found = Facts::of(file).map_err(cannot)?;
    Ok(!paths.are_in_place()
        && found.names() == 2
        && is_named(&paths.output, file).map_err(cannot)?)
}

/// Says no to a checkpoint or data that a file of ours would not be like: with another
/// owner than files get here (which is not always the user's: NFS, FAT), or with a second
/// name, under which somebody reads or writes it.
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

/// What sets a file apart from one that the user `own` made here.
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

/// The user that a file belongs to which is created in the directory of `path` now.
pub(super) fn owner_here(path: &Path) -> Result<u32, Error> {
    let directory = directory_of(path);
    let cannot = |error| Error::io("cannot create a file in", directory, error);
    let file = create_unnamed(path, PRIVATE_MODE).or_else(|_| {
        let name = directory.join(format!(".haul-{:016x}", fastrand::u64(..)));
        let file = create_new(&name)?;
        fs::remove_file(name)?;
        Ok::<_, io::Error>(file)
    });
    Ok(file.and_then(|file| Facts::of(&file)).map_err(cannot)?.owner())
}

fn create_new(path: &Path) -> io::Result<File> {
    fault_point::take_name(path)?;
    os::file::create_private(path)
}

/// Removes the partial download that `checkpoint` is of.
///
/// # Errors
/// As for [`Partial::acquire_earlier`]: another haul that goes on with it keeps it.
pub(crate) fn remove_earlier(checkpoint: &Path, in_place: bool) -> Result<(), Error> {
    let output = checkpoint.with_extension("");
    let paths = if in_place { Paths::in_place(&output) } else { Paths::of(&output) };
    let path = paths.partial.clone();
    let partial = Partial::acquire_earlier(paths, &|_| None)?;
    partial.remove().map_err(|error| Error::io("cannot remove", &path, error))
}

/// Removes a checkpoint that has no data.
///
/// # Errors
/// As for [`Partial::acquire_earlier`]. Where data appeared meanwhile nothing is removed.
pub(crate) fn remove_alone(
    paths: &Paths,
    holder: &dyn Fn(&[u8]) -> Option<u32>,
) -> Result<(), Error> {
    let Some(checkpoint) = open_regular(&paths.checkpoint, Access::ReadWrite)? else {
        return Ok(());
    };
    if take_lock(paths, &checkpoint, holder)?.is_none() {
        return Ok(());
    }
    refuse_others(paths, &checkpoint, &checkpoint)?;
    let cannot = |error| Error::io("cannot remove", &paths.checkpoint, error);
    if !paths.are_in_place() && Facts::at(&paths.partial).map_err(cannot)?.is_some() {
        return Err(locked(paths, Some(&checkpoint), holder));
    }
    remove_checkpoint(&paths.checkpoint, &checkpoint).map_err(cannot)
}

/// A partial that no haul made, as far as can be told.
fn foreign(paths: &Paths) -> Error {
    Error::new(
        ErrorKind::LocalFile,
        format!(
            "{} exists without {}, so another program may have made it; it was left as it is",
            paths.partial.display(),
            paths.checkpoint.display()
        ),
    )
    .with_hint("move it away, or choose another output")
}

/// Whether what was `found` in the data's place is nobody's download: those have a
/// checkpoint as long as they have data. It is still there although there is none now.
fn is_foreign(paths: &Paths, found: &Facts) -> Result<bool, Error> {
    if fault_point::has_bug!(ForeignSideFiles) {
        return Ok(false);
    }
    let cannot = |error| Error::io("cannot examine", &paths.partial, error);
    let recorded = is_present(&paths.checkpoint)?;
    let there = Facts::at(&paths.partial).map_err(cannot)?;
    Ok(!recorded && there.is_some_and(|now| is_same(&now, found)))
}

/// Says no to a foreign partial before anything is fetched for it; without the
/// lock, so [`Partial::acquire`] decides again.
pub(crate) fn refuse_foreign(paths: &Paths) -> Result<(), Error> {
    match Facts::at(&paths.partial) {
        Ok(Some(found)) if is_foreign(paths, &found)? => Err(foreign(paths)),
        _ => Ok(()),
    }
}

/// Says no to what another process downloads before anything is asked for it; without taking
/// the lock, so [`Partial::acquire`] decides again. A download of this process may be about to
/// leave, and is waited for.
pub(crate) fn refuse_locked(paths: &Paths) -> Result<(), Error> {
    let Ok(Some(file)) = open_regular(&paths.checkpoint, Access::Read) else { return Ok(()) };
    match os::lock::holder(&file) {
        Some(pid) if pid != std::process::id() => Err(locked_by(paths, Some(pid))),
        _ => Ok(()),
    }
}

/// Creates `dir` and what is missing above it. An empty path is the current
/// directory.
///
/// # Errors
/// [`ErrorKind::LocalFile`] when it cannot be created or is not a directory.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(|e| Error::io("cannot create the directory", dir, e))
}

/// Says no when something is at `output` already, a dangling symlink included.
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

/// The same for a download to these names: of one in place the output may be
/// what an earlier run left, or empty. An empty one may be there as well where it
/// `replaces_empty` ones.
///
/// # Errors
/// As [`refuse_existing`].
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

/// Whether an empty file is at `path`: Firefox keeps a name with one while it downloads.
pub(super) fn is_placeholder(path: &Path) -> bool {
    let found = Facts::at(path).ok().flatten();
    found.is_some_and(|found| found.is_file() && found.len_bytes() == 0)
}

/// Removes what is in place of an object that is to replace it, and is no download of
/// ours; gives the mode that it had.
///
/// # Errors
/// When it cannot be removed, or is no regular file.
pub(crate) fn give_up(paths: &Paths) -> Result<Option<u32>, Error> {
    let cannot = |what: &'static str| move |error| Error::io(what, &paths.output, error);
    if !is_present(&paths.output)? || is_present(&paths.checkpoint)? {
        return Ok(None);
    }
    let Some(found) = Facts::at(&paths.output).map_err(cannot("cannot examine"))? else {
        return Ok(None);
    };
    fs::remove_file(&paths.output).map_err(cannot("cannot remove"))?;
    Ok(Some(found.permissions()))
}

/// The error for an output that is there already.
pub(super) fn output_exists(output: &Path, consequence: &str) -> Error {
    let shown = output.display();
    if output.is_dir() {
        let message = format!("{shown} is a directory; {consequence}");
        return Error::new(ErrorKind::OutputExists, message)
            .with_hint("choose another output, or give it as the directory to write into (--dir)");
    }
    Error::new(
        ErrorKind::OutputExists,
        format!("{shown} exists and is not to be replaced; {consequence}"),
    )
    .with_hint("choose another output or allow replacing it (--overwrite)")
}

/// A rename would put the download in the place of a device or FIFO, and fail
/// on a directory, only after everything was received.
fn refuse_special_output(output: &Path) -> Result<(), Error> {
    match Facts::behind(output) {
        Ok(found) if !found.is_file() => Err(not_regular(output, &found)),
        // A name that cannot be looked up fails when the partial is opened.
        _ => Ok(()),
    }
}

/// Whether `path` is a name of `file`.
pub(super) fn is_named(path: &Path, file: &File) -> io::Result<bool> {
    Facts::at(path)?.map_or(Ok(false), |named| Ok(is_same(&named, &Facts::of(file)?)))
}

/// Whether both are of one file.
pub(super) fn is_same(one: &Facts, other: &Facts) -> bool {
    one.identity() == other.identity()
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
    .with_hint("move it away, or choose another output")
}

const ANOTHER_HAUL_HINT: &str = "wait for it or stop it, or choose another output";

fn locked(paths: &Paths, file: Option<&File>, holder: &dyn Fn(&[u8]) -> Option<u32>) -> Error {
    // Only for the message: without either the number is left out. The kernel
    // is asked first, since a holder that has just begun has not written its
    // checkpoint: the one that is there names a process that is gone.
    let of_checkpoint = || {
        let bytes = checkpoint_file::read(&paths.checkpoint).ok().flatten();
        bytes.and_then(|bytes| holder(&bytes))
    };
    locked_by(paths, file.and_then(os::lock::holder).or_else(of_checkpoint))
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

#[cfg(test)]
impl Partial {
    /// As [`Partial::acquire`], with a first checkpoint that says nothing.
    pub(crate) fn acquire_alone(paths: Paths) -> Result<Self, Error> {
        let encode = |_| crate::model::checkpoint::MAGIC.to_vec();
        let first = First { encode: &encode, durable: false, replaced_mode: None };
        Self::acquire(paths, &first, &|bytes| {
            std::str::from_utf8(bytes.get(8..)?).ok()?.parse().ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use tempfile::TempDir;

    use super::*;

    fn scratch() -> (TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::of(&dir.path().join("film.mp4"));
        (dir, paths)
    }

    fn acquire(paths: &Paths) -> Result<Partial, Error> {
        Partial::acquire_alone(paths.clone())
    }

    /// What a killed run leaves.
    fn leave(paths: &Paths, data: &[u8]) {
        fs::write(&paths.partial, data).unwrap();
        fs::write(&paths.checkpoint, "HAULCKPT").unwrap();
    }

    fn assert_refused(paths: &Paths) {
        let error = acquire(paths).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LocalFile, "{error}");
        assert!(error.hint().is_some());
    }

    #[test]
    fn names_are_appended_to_the_whole_file_name() {
        let paths = Paths::of(Path::new("dir/film.mp4"));
        assert_eq!(paths.partial, Path::new("dir/film.mp4.part"));
        assert_eq!(paths.checkpoint, Path::new("dir/film.mp4.haul"));
        assert_eq!(Paths::of(Path::new("film")).partial, Path::new("film.part"));
    }

    #[test]
    fn new_partial_is_empty_and_private() {
        let (_dir, paths) = scratch();
        let partial = acquire(&paths).unwrap();
        assert!(partial.created() && partial.is_recorded());
        assert!(partial.still_ours().unwrap());
        assert_eq!(partial.checkpoint().unwrap(), b"HAULCKPT");
        let metadata = fs::metadata(&paths.partial).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (0, 0o600));
    }

    #[test]
    fn second_download_is_refused_and_names_the_holder() {
        let (_dir, paths) = scratch();
        let first = acquire(&paths).unwrap();
        let error = acquire(&paths).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        // What an earlier holder wrote counts only where the kernel tells nothing.
        first.record(b"HAULCKPT4711", false).unwrap();
        let holder = os::lock::holder(&first.lock()).unwrap_or(4711);
        assert!(holder == std::process::id() || !Path::new("/proc/locks").exists(), "{holder}");
        let error = acquire(&paths).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(error.to_string().contains(&format!("{holder})")), "{error}");
        drop(first);
        assert!(!acquire(&paths).unwrap().created());
    }

    #[test]
    fn lock_goes_with_the_checkpoint_that_replaces_another() {
        let (_dir, paths) = scratch();
        let first = acquire(&paths).unwrap();
        let old = fs::metadata(&paths.checkpoint).unwrap().ino();
        let opened = File::open(&paths.checkpoint).unwrap();
        for durable in [false, true] {
            first.record(b"HAULCKPT and more", durable).unwrap();
            assert_ne!(fs::metadata(&paths.checkpoint).unwrap().ino(), old);
            assert_eq!(acquire(&paths).unwrap_err().kind(), ErrorKind::Locked);
        }
        opened.try_lock().expect("who has the old one open finds that it is not the one");
        assert!(!is_named(&paths.checkpoint, &opened).unwrap());
        drop(first);
        acquire(&paths).unwrap();
    }

    #[test]
    fn both_ways_of_keeping_the_data_have_one_lock() {
        let (dir, paths) = scratch();
        let in_place = Paths::in_place(&dir.path().join("film.mp4"));
        let first = acquire(&paths).unwrap();
        assert_eq!(acquire(&in_place).unwrap_err().kind(), ErrorKind::Locked);
        first.remove().unwrap();
        let _first = acquire(&in_place).unwrap();
        assert_eq!(acquire(&paths).unwrap_err().kind(), ErrorKind::Locked);
    }

    #[test]
    fn of_many_at_once_exactly_one_proceeds() {
        let (_dir, paths) = scratch();
        let start = std::sync::Barrier::new(8);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        acquire(&paths)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        }
    }

    /// Each thread takes the lock and renames the file away, as publishing
    /// does. Whoever then locks the old file has locked nothing.
    #[test]
    fn lock_is_always_on_the_file_that_the_name_means() {
        let (dir, paths) = scratch();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (dir, paths) = (&dir, &paths);
                scope.spawn(move || {
                    for round in 0..300 {
                        match acquire(paths) {
                            Ok(partial) => {
                                assert!(partial.still_ours().unwrap());
                                let away = dir.path().join(format!("{thread}-{round}"));
                                fs::rename(&paths.partial, away).unwrap();
                                partial.remove_checkpoint().unwrap();
                            }
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Locked, "{error}"),
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn partial_without_checkpoint_is_not_touched() {
        let (_dir, paths) = scratch();
        fs::write(&paths.partial, "precious").unwrap();
        fs::set_permissions(&paths.partial, Permissions::from_mode(0o640)).unwrap();
        assert_refused(&paths);
        assert_eq!(fs::read(&paths.partial).unwrap(), b"precious");
        assert_eq!(fs::metadata(&paths.partial).unwrap().mode() & 0o777, 0o640);
        assert!(!paths.checkpoint.exists());
    }

    #[test]
    fn nothing_without_our_beginning_is_touched() {
        for (data, checkpoint) in
            [("", None), ("notes", Some("notes")), ("", Some("")), ("notes", Some("HAULCKP"))]
        {
            let (dir, paths) = scratch();
            fs::write(&paths.partial, data).unwrap();
            if let Some(checkpoint) = checkpoint {
                fs::write(&paths.checkpoint, checkpoint).unwrap();
            }
            let before = fs::read_dir(&dir).unwrap().count();
            assert_refused(&paths);
            assert_eq!(fs::read(&paths.partial).unwrap(), data.as_bytes());
            if let Some(checkpoint) = checkpoint {
                assert_eq!(fs::read(&paths.checkpoint).unwrap(), checkpoint.as_bytes());
            }
            assert_eq!(fs::read_dir(&dir).unwrap().count(), before);
        }
    }

    #[test]
    fn files_with_a_second_name_are_refused() {
        for at_checkpoint in [false, true] {
            let (dir, paths) = scratch();
            leave(&paths, b"half");
            let linked = if at_checkpoint { &paths.checkpoint } else { &paths.partial };
            fs::hard_link(linked, dir.path().join("another name")).unwrap();
            assert_refused(&paths);
            assert_eq!(fs::read(&paths.partial).unwrap(), b"half");
        }
    }

    #[test]
    fn data_that_was_published_halfway_is_begun_anew() {
        let (_dir, paths) = scratch();
        leave(&paths, b"whole");
        fs::hard_link(&paths.partial, &paths.output).unwrap();
        let partial = acquire(&paths).unwrap();
        assert!(partial.created());
        partial.file().as_ref().write_all(b"other").unwrap();
        assert_eq!(fs::read(&paths.output).unwrap(), b"whole");
    }

    #[test]
    fn own_partial_is_opened_with_its_bytes_and_made_private() {
        let (_dir, paths) = scratch();
        leave(&paths, b"half");
        fs::set_permissions(&paths.partial, Permissions::from_mode(0o644)).unwrap();
        let partial = acquire(&paths).unwrap();
        assert!(!partial.created() && !partial.is_private());
        partial.make_private().unwrap();
        assert_eq!(fs::read(&paths.partial).unwrap(), b"half");
        assert_eq!(fs::metadata(&paths.partial).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn symlink_is_not_followed() {
        for at_checkpoint in [false, true] {
            let (dir, paths) = scratch();
            let target = dir.path().join("target");
            fs::write(&target, "secret").unwrap();
            let link = if at_checkpoint { &paths.checkpoint } else { &paths.partial };
            symlink(&target, link).unwrap();
            assert_refused(&paths);
            assert_eq!(fs::read(&target).unwrap(), b"secret");
            assert!(fs::symlink_metadata(link).unwrap().is_symlink());
            assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "nothing was created");
        }
    }

    #[test]
    fn dangling_symlink_creates_nothing() {
        let (dir, paths) = scratch();
        let target = dir.path().join("target");
        symlink(&target, &paths.partial).unwrap();
        assert_refused(&paths);
        assert!(!target.exists());
    }

    #[test]
    fn fifo_and_directory_are_refused_without_waiting() {
        for name in ["part", "haul", ""] {
            let (_dir, paths) = scratch();
            let path = match name {
                "part" => &paths.partial,
                "haul" => &paths.checkpoint,
                _ => &paths.output,
            };
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
            assert_refused(&paths);
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
            assert_refused(&paths);
            assert!(path.is_dir());
        }
    }

    #[test]
    fn missing_directory_is_named() {
        let (dir, _) = scratch();
        let output = dir.path().join("a/b/film");
        let error = acquire(&Paths::of(&output)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LocalFile);
        assert!(error.to_string().contains("a/b/film"), "{error}");
        create_dir(output.parent().unwrap()).unwrap();
        acquire(&Paths::of(&output)).unwrap();
        create_dir(Path::new("")).unwrap();
        assert_eq!(create_dir(&Paths::of(&output).partial).unwrap_err().kind(), {
            ErrorKind::LocalFile
        });
    }

    #[test]
    fn deleted_or_replaced_partial_is_noticed_and_left_alone() {
        let (_dir, paths) = scratch();
        let partial = acquire(&paths).unwrap();
        fs::remove_file(&paths.partial).unwrap();
        assert!(!partial.still_ours().unwrap());
        fs::write(&paths.partial, "someone else's").unwrap();
        assert!(!partial.still_ours().unwrap());
        fs::remove_file(&paths.checkpoint).unwrap();
        fs::write(&paths.checkpoint, "theirs").unwrap();
        assert_eq!(partial.record(b"HAULCKPT", false).unwrap_err().kind(), ErrorKind::LocalFile);
        assert_eq!(fs::read(&paths.checkpoint).unwrap(), b"theirs");
        partial.remove().unwrap();
        assert_eq!(fs::read(&paths.partial).unwrap(), b"someone else's");
        assert!(paths.checkpoint.exists());
    }

    #[test]
    fn removing_leaves_nothing() {
        let (dir, paths) = scratch();
        let partial = acquire(&paths).unwrap();
        partial.file().as_ref().write_all(b"data").unwrap();
        partial.record(b"HAULCKPT1", false).unwrap();
        partial.remove().unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        acquire(&paths).unwrap().remove().unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }

    #[test]
    fn existing_output_is_quoted_with_the_next_step() {
        let (_dir, paths) = scratch();
        refuse_existing(&paths.output).unwrap();
        symlink("nowhere", &paths.output).unwrap();
        let error = refuse_existing(&paths.output).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutputExists);
        assert!(error.to_string().contains("film.mp4"), "{error}");
        assert!(error.hint().unwrap().contains("--overwrite"));
    }
}
