//! What of files only Linux has, or has in its own way.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rustix::fs::{Advice, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// Where each open file of this process can be found.
const OPEN_FILES: &str = "/proc/self/fd";

/// Whether files without a name can be given one here.
pub(crate) fn can_name_unnamed() -> bool {
    static CAN: LazyLock<bool> = LazyLock::new(|| Path::new(OPEN_FILES).exists());
    *CAN
}

/// A new file in `directory` without a name, which is gone when it is closed.
///
/// # Errors
/// Also where the file system has no such files, or no way to name them.
pub(crate) fn create_unnamed(directory: &Path, mode: u32) -> io::Result<File> {
    if !can_name_unnamed() {
        return Err(Errno::OPNOTSUPP.into());
    }
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::from_raw_mode(mode))?.into())
}

/// Gives a file without a name one, which must not exist.
///
/// # Errors
/// As for [`link`].
pub(crate) fn name_unnamed(file: &File, name: &Path) -> io::Result<()> {
    let open = format!("{OPEN_FILES}/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, open, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

/// The permissions that a new file of this process does not have. umask(2) can read them only by
/// changing them for a moment, for every thread; /proc shows them.
pub(crate) fn umask() -> u32 {
    const USUAL: u32 = 0o022;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok());
    umask.unwrap_or(USUAL)
}

/// Starts writing a file's data to the disk. Told that data is not needed in memory, Linux begins
/// to write it, and keeps what is being written. On an error a sync does all the work.
pub(crate) fn begin_write_back(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
}

/// Another process that has `file` open for writing, as far as this one may know.
pub(crate) fn writer_of(file: &File) -> Option<u32> {
    let path = fs::read_link(format!("{OPEN_FILES}/{}", file.as_raw_fd())).ok()?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let numbers = processes.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|process| *process != std::process::id())
        .find(|process| has_open_for_writing(*process, &path))
}

fn has_open_for_writing(process: u32, path: &Path) -> bool {
    const ACCESS: u32 = 0o3;
    let process = PathBuf::from(format!("/proc/{process}"));
    let Ok(open) = fs::read_dir(process.join("fd")) else { return false };
    let is_for_writing = |descriptor| {
        let told = fs::read_to_string(process.join("fdinfo").join(descriptor)).unwrap_or_default();
        let flags = told.lines().find_map(|line| line.strip_prefix("flags:"));
        flags
            .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
            .is_some_and(|it| it & ACCESS > 0)
    };
    open.flatten().any(|it| {
        fs::read_link(it.path()).is_ok_and(|target| target == path)
            && is_for_writing(it.file_name())
    })
}

#[cfg(test)]
pub(crate) fn make_fifo(path: &Path) -> bool {
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    true
}

/// Memory whose length can still be set but that refuses writes.
#[cfg(test)]
pub(crate) fn unwritable() -> Option<File> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let memory = rustix::fs::memfd_create("film", MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::fcntl_add_seals(&memory, SealFlags::WRITE).unwrap();
    Some(File::from(memory))
}
