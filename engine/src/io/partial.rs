//! `NAME.part`: the file that holds the data until it is complete, and its lock.
//!
//! The lock is an flock on `NAME.part`, not on the checkpoint, because the
//! checkpoint is replaced by rename every second. An flock belongs to the open
//! file, so it goes with the last handle, also when the process is killed, and
//! it holds between two downloads of one process.
//!
//! A name and an open file are two things: between opening `NAME.part` and
//! locking it, the holder may publish it under its final name. So the name is
//! looked up again once the lock is held.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::checkpoint_file;
use crate::error::{Error, ErrorKind};
use crate::fault_point::{self, Call};

/// Nobody but the owner reads a file before it is published.
pub(super) const PRIVATE_MODE: u32 = 0o600;

/// How often another haul may publish or discard the partial just before its
/// lock is taken. Each round needs a whole download in between.
const MAX_ACQUIRE_ROUNDS: u32 = 64;

/// The kernel gives its list of locks out in pieces. A lock that comes or goes
/// anywhere between two of them can hide another one, so what is not found is
/// looked for again.
const LOOKS_AT_LOCKS: u32 = 4;

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
            if output.as_os_str().as_bytes().ends_with(name.as_bytes()) {
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

/// The open and locked `NAME.part`. The lock lasts until this value and every
/// clone of [`Partial::file`] are dropped.
#[derive(Debug)]
pub(crate) struct Partial {
    file: Arc<File>,
    paths: Paths,
    created: bool,
}

impl Partial {
    /// Opens `NAME.part`, or creates it with mode 0600, and takes its lock.
    ///
    /// A file without `NAME.haul` is someone else's, unless this call created
    /// it or it is empty: a haul that was killed between creating the file and
    /// writing its first checkpoint leaves it so. Whoever acquires a partial
    /// that it [`created`](Self::created) therefore writes a checkpoint before
    /// it gives the file a length.
    ///
    /// The output may have appeared while the lock was awaited; the caller that
    /// must not replace it looks again.
    ///
    /// `holder` reads the process id out of a checkpoint's bytes, for the
    /// message that names who has the lock.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] when another download has the lock.
    /// [`ErrorKind::LocalFile`] when the partial is someone else's, when one of
    /// the three names is not a regular file (a symlink at `NAME.part` or
    /// `NAME.haul` is not followed), or when the file cannot be opened. What is
    /// there is untouched then.
    pub(crate) fn acquire(
        paths: Paths,
        holder: &dyn Fn(&[u8]) -> Option<u32>,
    ) -> Result<Self, Error> {
        refuse_special_output(&paths.output)?;
        is_present(&paths.checkpoint)?;
        for _ in 0..MAX_ACQUIRE_ROUNDS {
            let Some((file, created)) = open_or_create(&paths.partial)? else { continue };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(locked(&paths, Some(&file), holder)),
                Err(TryLockError::Error(error)) => {
                    if created {
                        let _ = fs::remove_file(&paths.partial);
                    }
                    return Err(Error::io("cannot lock", &paths.partial, error));
                }
            }
            if is_named(&paths.partial, &file)
                .map_err(|e| Error::io("cannot examine", &paths.partial, e))?
            {
                let partial = Self { file: Arc::new(file), paths, created };
                partial.claim()?;
                return Ok(partial);
            }
        }
        Err(locked(&paths, None, holder))
    }

    /// Takes the lock of the `NAME.part` that an earlier run left, without
    /// creating or changing anything. The file is open for reading only.
    ///
    /// # Errors
    /// As for [`Partial::acquire`], and [`ErrorKind::LocalFile`] when there is
    /// no partial.
    pub(crate) fn acquire_earlier(
        paths: Paths,
        holder: &dyn Fn(&[u8]) -> Option<u32>,
    ) -> Result<Self, Error> {
        for _ in 0..MAX_ACQUIRE_ROUNDS {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Some(file) = open_regular(&paths.partial, flags)? else { break };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(locked(&paths, Some(&file), holder)),
                Err(TryLockError::Error(error)) => {
                    return Err(Error::io("cannot lock", &paths.partial, error));
                }
            }
            if is_named(&paths.partial, &file)
                .map_err(|e| Error::io("cannot examine", &paths.partial, e))?
            {
                return Ok(Self { file: Arc::new(file), paths, created: false });
            }
        }
        Err(Error::new(
            ErrorKind::LocalFile,
            format!("there is no partial download {}", paths.partial.display()),
        ))
    }

    /// Whether a download holds the lock of `NAME.part` now. To ask takes the
    /// lock for a moment, so a download that starts in it is told that another
    /// one runs: the kernel's list of locks is asked first.
    pub(crate) fn is_locked(paths: &Paths) -> bool {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(Some(file)) = open_regular(&paths.partial, flags) else { return false };
        if fs::exists("/proc/locks").unwrap_or(false) {
            return lock_holder(&file).is_some();
        }
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// With the lock held: says no to a file that no haul left behind, and
    /// makes an own one private again, which a kill while publishing may have
    /// opened to others.
    fn claim(&self) -> Result<(), Error> {
        let path = &self.paths.partial;
        let checkpoint = is_present(&self.paths.checkpoint)?;
        if self.created {
            return Ok(());
        }
        let metadata = self.file.metadata().map_err(|e| Error::io("cannot examine", path, e))?;
        if metadata.len() > 0 && !checkpoint {
            return Err(foreign(&self.paths));
        }
        if metadata.permissions().mode() & 0o777 != PRIVATE_MODE {
            self.file
                .set_permissions(Permissions::from_mode(PRIVATE_MODE))
                .map_err(|e| Error::io("cannot set the mode of", path, e))?;
        }
        Ok(())
    }

    /// The open file. Clones keep the lock.
    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The names.
    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Whether `NAME.part` did not exist before. A checkpoint found beside it
    /// describes another file then.
    pub(crate) fn created(&self) -> bool {
        self.created
    }

    /// Whether `NAME.part` still names the file that is locked here. Another
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
        remove_checkpoint(&self.paths)
    }
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

/// Unlinks the checkpoint of a partial whose name was given up. A `NAME.part`
/// that exists now is another download's, and so is the checkpoint.
pub(super) fn remove_checkpoint(paths: &Paths) -> io::Result<()> {
    if paths.are_in_place() {
        return checkpoint_file::remove(&paths.checkpoint);
    }
    match look(&paths.partial)? {
        Some(_) => Ok(()),
        None => checkpoint_file::remove(&paths.checkpoint),
    }
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

/// Says no to a foreign partial before anything is fetched for it; without the
/// lock, so [`Partial::acquire`] decides again.
pub(crate) fn refuse_foreign(paths: &Paths) -> Result<(), Error> {
    let non_empty = fs::symlink_metadata(&paths.partial).is_ok_and(|found| found.len() > 0);
    if non_empty && !is_present(&paths.checkpoint)? {
        // It may have been published between the two looks.
        if fs::symlink_metadata(&paths.partial).is_ok() {
            return Err(foreign(paths));
        }
    }
    Ok(())
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
    match look(output).map_err(|e| Error::io("cannot examine", output, e))? {
        Some(_) => Err(output_exists(output, "nothing was written")),
        None => Ok(()),
    }
}

/// The same for a download to these names: of one in place the output may be
/// what an earlier run left, or empty.
///
/// # Errors
/// As [`refuse_existing`].
pub(crate) fn refuse_finished(paths: &Paths) -> Result<(), Error> {
    let unfinished = || {
        let empty = fs::symlink_metadata(&paths.output).is_ok_and(|found| found.len() == 0);
        Ok::<_, Error>(empty || is_present(&paths.checkpoint)?)
    };
    if paths.are_in_place() && unfinished()? {
        return Ok(());
    }
    refuse_existing(&paths.output)
}

/// Gives up what a file in place of the object holds, which is to be replaced.
///
/// # Errors
/// When it cannot be truncated.
pub(crate) fn give_up(paths: &Paths) -> Result<(), Error> {
    let shorten = || {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match open_regular(&paths.output, flags)? {
            // Another haul that is at it is told from by its lock, later.
            Some(file) if file.try_lock().is_ok() => {
                file.set_len(0).map_err(|e| Error::io("cannot shorten", &paths.output, e))
            }
            _ => Ok(()),
        }
    };
    if is_present(&paths.checkpoint)? { Ok(()) } else { shorten() }
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
    match fs::metadata(output) {
        Ok(metadata) if !metadata.is_file() => Err(not_regular(output, &metadata)),
        // A name that cannot be looked up fails when the partial is opened.
        _ => Ok(()),
    }
}

/// What is at `path`, without following a symlink.
fn look(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether `path` is a name of `file`.
fn is_named(path: &Path, file: &File) -> io::Result<bool> {
    let open = file.metadata()?;
    Ok(look(path)?.is_some_and(|named| named.dev() == open.dev() && named.ino() == open.ino()))
}

/// Whether `path` exists; anything but a regular file is an error.
pub(super) fn is_present(path: &Path) -> Result<bool, Error> {
    match look(path).map_err(|e| Error::io("cannot examine", path, e))? {
        Some(metadata) if !metadata.is_file() => Err(not_regular(path, &metadata)),
        found => Ok(found.is_some()),
    }
}

pub(super) fn not_regular(path: &Path, metadata: &Metadata) -> Error {
    let file_type = metadata.file_type();
    let what = if file_type.is_symlink() {
        "a symbolic link"
    } else if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else {
        "a device or socket"
    };
    Error::new(
        ErrorKind::LocalFile,
        format!("{} is {what}, not a regular file; it was not followed or changed", path.display()),
    )
    .with_hint("move it away, or choose another output")
}

fn locked(paths: &Paths, file: Option<&File>, holder: &dyn Fn(&[u8]) -> Option<u32>) -> Error {
    // Only for the message: without either the number is left out. The kernel
    // is asked first, since a holder that has just begun has not written its
    // checkpoint: the one that is there names a process that is gone.
    let of_checkpoint = || {
        let bytes = checkpoint_file::read(&paths.checkpoint).ok().flatten();
        bytes.and_then(|bytes| holder(&bytes))
    };
    let process = file
        .and_then(lock_holder)
        .or_else(of_checkpoint)
        .map(|pid| format!(" (process {pid})"))
        .unwrap_or_default();
    Error::new(
        ErrorKind::Locked,
        format!(
            "another haul{process} is downloading to {}; nothing was changed",
            paths.output.display()
        ),
    )
    .with_hint("wait for it or stop it, or choose another output")
}

/// The process that has the lock of `file`, as far as the kernel tells.
fn lock_holder(file: &File) -> Option<u32> {
    let found = file.metadata().ok()?;
    let (major, minor) = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", found.ino());
    let look = |_| {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, "FLOCK", _, "WRITE", pid, at, ..] if at == place => pid.parse().ok(),
            _ => None,
        })
    };
    let holder = (0..LOOKS_AT_LOCKS).find_map(look);
    // 0 is a process that is not visible here.
    holder.filter(|pid| *pid != 0)
}

/// The file at `path` and whether it was created; `None` when it was there and
/// vanished before it could be opened.
fn open_or_create(path: &Path) -> Result<Option<(File, bool)>, Error> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fault_point::pass(Call::CreatePartial).map_err(|e| Error::io("cannot create", path, e))?;
    match rustix::fs::open(
        path,
        flags | OFlags::CREATE | OFlags::EXCL,
        Mode::from_raw_mode(PRIVATE_MODE),
    ) {
        Ok(descriptor) => return Ok(Some((File::from(descriptor), true))),
        Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(Error::io("cannot create", path, error.into())),
    }
    Ok(open_regular(path, flags | OFlags::NONBLOCK)?.map(|file| (file, false)))
}

/// The file at `path`; `None` when there is none.
fn open_regular(path: &Path, flags: OFlags) -> Result<Option<File>, Error> {
    // Looked at before it is opened: opening a device can have effects.
    if !is_present(path)? {
        return Ok(None);
    }
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(Error::io("cannot open", path, error.into())),
    };
    let metadata = file.metadata().map_err(|e| Error::io("cannot examine", path, e))?;
    if !metadata.is_file() {
        return Err(not_regular(path, &metadata));
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn scratch() -> (TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::of(&dir.path().join("film.mp4"));
        (dir, paths)
    }

    fn acquire(paths: &Paths) -> Result<Partial, Error> {
        Partial::acquire(paths.clone(), &|bytes| std::str::from_utf8(bytes).ok()?.parse().ok())
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
        assert!(partial.created());
        assert!(partial.still_ours().unwrap());
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
        fs::write(&paths.checkpoint, "4711").unwrap();
        let holder = lock_holder(first.file()).unwrap_or(4711);
        assert!(holder == std::process::id() || !Path::new("/proc/locks").exists(), "{holder}");
        let error = acquire(&paths).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(error.to_string().contains(&format!("process {holder})")), "{error}");
        drop(first);
        assert!(!acquire(&paths).unwrap().created());
    }

    #[test]
    fn clones_of_the_file_keep_the_lock() {
        let (_dir, paths) = scratch();
        let first = acquire(&paths).unwrap();
        let file = Arc::clone(first.file());
        drop(first);
        assert_eq!(acquire(&paths).unwrap_err().kind(), ErrorKind::Locked);
        drop(file);
        acquire(&paths).unwrap();
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
    fn empty_partial_without_checkpoint_is_taken_over() {
        let (_dir, paths) = scratch();
        fs::write(&paths.partial, "").unwrap();
        assert!(!acquire(&paths).unwrap().created());
    }

    #[test]
    fn own_partial_is_opened_with_its_bytes_and_made_private() {
        let (_dir, paths) = scratch();
        fs::write(&paths.partial, "half").unwrap();
        fs::set_permissions(&paths.partial, Permissions::from_mode(0o644)).unwrap();
        fs::write(&paths.checkpoint, "1").unwrap();
        let partial = acquire(&paths).unwrap();
        assert!(!partial.created());
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
            let mode = Mode::from_raw_mode(0o600);
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
        assert!(error.to_string().contains("film.part"), "{error}");
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
        fs::write(&paths.checkpoint, "theirs").unwrap();
        partial.remove().unwrap();
        assert_eq!(fs::read(&paths.partial).unwrap(), b"someone else's");
        assert!(paths.checkpoint.exists());
    }

    #[test]
    fn removing_leaves_nothing() {
        let (dir, paths) = scratch();
        let partial = acquire(&paths).unwrap();
        partial.file().as_ref().write_all(b"data").unwrap();
        checkpoint_file::replace(&paths.checkpoint, b"1", false).unwrap();
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
