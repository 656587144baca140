//! The lock of a file, which belongs to the open file and goes with its last handle. It is on one
//! byte far behind the end: a lock on the bytes of a file would keep others from reading them.

use std::fs::{File, TryLockError};
use std::io;

use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, ERROR_LOCK_VIOLATION};

use super::calls;
use super::error::{is_any, is_unsupported};
pub(crate) use crate::os::absent::{claim, holder, open_for_claims, release};

/// Whether the data is locked as well as its checkpoint: where an open file cannot be replaced, the
/// old checkpoint is closed, and so unlocked, just before the new one takes its name.
pub(crate) const GUARDS_DATA: bool = true;

/// Takes the lock, unless another open file has it.
///
/// # Errors
/// See [`File::try_lock`].
pub(crate) fn try_lock(file: &File) -> Result<(), TryLockError> {
    calls::lock(file, true).map_err(|error| match is_elsewhere(&error) {
        true => TryLockError::WouldBlock,
        false => TryLockError::Error(error),
    })
}

fn is_elsewhere(error: &io::Error) -> bool {
    is_any(error, &[ERROR_LOCK_VIOLATION, ERROR_IO_PENDING])
}

/// Gives the lock back before the file is closed.
///
/// # Errors
/// When this open file does not have it.
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    calls::unlock(file)
}

/// Whether this error from locking says that the file system has no locks.
pub(crate) fn has_no_locks(error: &io::Error) -> bool {
    is_unsupported(error)
}

/// Whether another open file has the lock now. Asking takes the lock for a moment, and anyone else
/// who tries to take it then fails.
pub(crate) fn is_held(file: &File) -> bool {
    match calls::lock(file, false) {
        Ok(()) => {
            let _ = calls::unlock(file);
            false
        }
        Err(error) => is_elsewhere(&error),
    }
}
