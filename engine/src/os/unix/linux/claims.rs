//! Claims of names in a directory that are not there yet: locks that leave nothing behind.
//!
//! A directory cannot be opened for writing, so it takes no exclusive lock on a part of it. It does
//! take shared ones, and the kernel tells whether anybody else has one. That is enough: who finds
//! another claim gives up its own.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::io::Errno;

/// How often a claim is tried: two that come at the same instant see each other and both give up.
const TRIES: u32 = 8;

/// Opens a directory for claims. They belong to this open file and go with its last handle, so a
/// kill ends them.
///
/// # Errors
/// When the directory cannot be opened, or claims cannot be made here.
pub(crate) fn open_for_claims(directory: &Path) -> io::Result<File> {
    // Elsewhere the structure has other fields.
    if cfg!(not(target_pointer_width = "64")) {
        return Err(Errno::OPNOTSUPP.into());
    }
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(directory)
}

/// Claims the number `at`; false where another open file has claimed it.
///
/// # Errors
/// When the file system has no such locks. Some network file systems have them on this machine only.
pub(crate) fn claim(directory: &File, at: u64) -> io::Result<bool> {
    for _ in 0..TRIES {
        set(directory, libc::F_RDLCK, at)?;
        if !is_elsewhere(directory, at)? {
            return Ok(true);
        }
        release(directory, at);
        (0..fastrand::u32(0..2000)).for_each(|_| std::hint::spin_loop());
    }
    Ok(false)
}

/// Gives a claim up.
pub(crate) fn release(directory: &File, at: u64) {
    let _ = set(directory, libc::F_UNLCK, at);
}

fn set(directory: &File, kind: libc::c_int, at: u64) -> io::Result<()> {
    control(directory, libc::F_OFD_SETLK, &mut byte(kind, at))
}

/// Whether somebody else's lock would be in the way of an exclusive one.
fn is_elsewhere(directory: &File, at: u64) -> io::Result<bool> {
    let mut asked = byte(libc::F_WRLCK, at);
    control(directory, libc::F_OFD_GETLK, &mut asked)?;
    Ok(libc::c_int::from(asked.l_type) != libc::F_UNLCK)
}

/// The lock of one byte; that the directory has no such byte does not matter.
#[expect(unsafe_code, reason = "a plain structure of the system begins as zeros")]
fn byte(kind: libc::c_int, at: u64) -> libc::flock {
    // SAFETY: all fields are integers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = (at >> 2) as libc::off_t;
    lock.l_len = 1;
    lock
}

#[expect(unsafe_code, reason = "the system's call for locks of open files has no safe form")]
fn control(directory: &File, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    let lock = std::ptr::from_mut(lock);
    // SAFETY: the descriptor is open, and the structure is one that these commands read and write.
    match unsafe { libc::fcntl(directory.as_raw_fd(), command, lock) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
