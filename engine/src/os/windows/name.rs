//! Names: which ones a file system accepts, and giving them to files.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation as win32;
use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_BACKUP_SEMANTICS;

use super::calls;
use super::error::{is_any, is_unsupported};
use crate::model::name::is_reserved_on_windows as is_reserved;
pub(crate) use crate::os::absent::{can_name_unnamed, create_unnamed, name_unnamed};
pub(crate) use crate::os::terms::Misfit;

/// How long a file may be in use by a program that only looks at new files, such as a virus
/// scanner.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first wait for it, which doubles up to the second: most have seen enough very soon.
const LOOKS_EVERY: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

/// What is added to the names of outputs has at most so many characters.
const LONGEST_SUFFIX: usize = 10;

/// The name made of these bytes, which came from another name or pieces of it. A piece that is no
/// text, such as half of a character, becomes a replacement character.
pub(crate) fn of_bytes(bytes: Vec<u8>) -> OsString {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
        .into()
}

/// Whether no file system here takes this character in a name. A colon is not even an error: it
/// begins the name of a stream within a file.
pub(crate) fn is_refused(character: char) -> bool {
    character < ' ' || matches!(character, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '/' | '\\')
}

/// Why no file here can have this name, which is one component of a path. The system itself would
/// open something else: a stream, a device, or a file with a shorter name.
pub(crate) fn why_refused(name: &OsStr) -> Option<String> {
    let name = name.to_string_lossy();
    if let Some(refused) = name.chars().find(|it| is_refused(*it)) {
        return Some(format!("Windows has no `{}` in names", refused.escape_default()));
    }
    if name.ends_with(['.', ' ']) {
        return Some("Windows drops dots and blanks at the end of a name".to_owned());
    }
    is_reserved(&name).then(|| "Windows has a device of this name".to_owned())
}

/// What this error says about the name of a file that was to be created.
pub(crate) fn misfit(error: &io::Error, name: &OsStr) -> Option<Misfit> {
    /// In units of UTF-16, as file systems here count.
    const LONGEST: usize = 255;
    if is_any(error, &[win32::ERROR_FILENAME_EXCED_RANGE, win32::ERROR_BUFFER_OVERFLOW]) {
        return Some(Misfit::TooLong);
    }
    if !is_any(error, &[win32::ERROR_INVALID_NAME, win32::ERROR_BAD_PATHNAME]) {
        return None;
    }
    // A component that is too long is said to be invalid. Ours are a little longer than the name.
    let is_long = name.encode_wide().count() + LONGEST_SUFFIX > LONGEST;
    Some(if is_long { Misfit::TooLong } else { Misfit::Refused })
}

/// Renames a file in one step that fails where the new name exists.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where the new name exists.
pub(crate) fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    patiently(|| calls::move_file(from, to))
}

/// Renames a file in one step; what has the new name already is gone.
///
/// # Errors
/// The old name is in place then.
pub(crate) fn rename_replacing(from: &Path, to: &Path) -> io::Result<()> {
    patiently(|| std::fs::rename(from, to))
}

/// Removes a file by its name.
///
/// # Errors
/// The file is as it was then.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    patiently(|| std::fs::remove_file(path))
}

/// Whether this error from [`rename_replacing`] means that a file which is open cannot be replaced,
/// as on FAT.
pub(crate) fn cannot_replace_open(error: &io::Error) -> bool {
    let numbers =
        [win32::ERROR_ACCESS_DENIED, win32::ERROR_SHARING_VIOLATION, win32::ERROR_FILE_EXISTS];
    is_any(error, &numbers)
}

/// As [`rename_replacing`], and waits for programs that have the file to be replaced open.
///
/// # Errors
/// As for [`rename_replacing`].
pub(crate) fn rename_replacing_in_time(from: &Path, to: &Path) -> io::Result<()> {
    while_error(cannot_replace_open, || std::fs::rename(from, to))
}

/// Gives a file a second name, which must not exist.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where it exists, and one that [`has_no_links`] where a file can
/// have only one name.
pub(crate) fn link(file: &Path, name: &Path) -> io::Result<()> {
    patiently(|| std::fs::hard_link(file, name))
}

/// Tries again for a while as long as another program has the file in use.
pub(super) fn patiently<T>(act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let in_use = |error: &io::Error| {
        is_any(error, &[win32::ERROR_SHARING_VIOLATION, win32::ERROR_LOCK_VIOLATION])
    };
    while_error(in_use, act)
}

fn while_error<T>(
    passes: impl Fn(&io::Error) -> bool,
    mut act: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let begun = Instant::now();
    let [mut wait, longest] = LOOKS_EVERY;
    loop {
        let result = act();
        if !result.as_ref().is_err_and(&passes) || begun.elapsed() > PATIENCE {
            return result;
        }
        std::thread::sleep(wait);
        wait = longest.min(2 * wait);
    }
}

/// Whether this error means that the file system has no links, or allows this file no more.
pub(crate) fn has_no_links(error: &io::Error) -> bool {
    let numbers =
        [win32::ERROR_ACCESS_DENIED, win32::ERROR_TOO_MANY_LINKS, win32::ERROR_NOT_SAME_DEVICE];
    is_unsupported(error) || is_any(error, &numbers)
}

/// Makes the names in `directory` durable as far as the system can be asked to: NTFS keeps a journal
/// of them.
///
/// # Errors
/// When the directory cannot be found, or the disk fails.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    let may_not = |error: &io::Error| {
        is_unsupported(error) || error.kind() == io::ErrorKind::PermissionDenied
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    match options.open(directory) {
        // Not every file system can, and not everybody may; nothing offers more.
        Ok(directory) => match directory.sync_all() {
            Err(error) if !may_not(&error) => Err(error),
            _ => Ok(()),
        },
        Err(error) if may_not(&error) => Ok(()),
        Err(error) => Err(error),
    }
}
