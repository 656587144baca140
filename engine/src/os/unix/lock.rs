//! The lock of a file, which belongs to the open file and goes with its last handle, and who holds
//! it.

use std::fs::{File, TryLockError};
use std::io;

use rustix::io::Errno;

use super::error::{is_any, is_unsupported};
use super::kernel;
pub(crate) use super::kernel::{claim, holder, open_for_claims, release};

/// Whether the data is locked as well as its checkpoint: a checkpoint that is replaced always has a
/// lock here.
pub(crate) const GUARDS_DATA: bool = false;

/// Takes the lock, unless another open file has it.
///
/// # Errors
/// See [`File::try_lock`].
pub(crate) fn try_lock(file: &File) -> Result<(), TryLockError> {
    file.try_lock()
}

/// Gives the lock back before the file is closed.
///
/// # Errors
/// See [`File::unlock`].
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    file.unlock()
}

/// Whether this error from locking says that the file system has no locks.
pub(crate) fn has_no_locks(error: &io::Error) -> bool {
    is_unsupported(error) || is_any(error, &[Errno::NOLCK])
}

/// Whether another open file has the lock now. Where the system has no list of locks, asking takes
/// the lock for a moment, and anyone else who tries to take it then fails.
pub(crate) fn is_held(file: &File) -> bool {
    if kernel::lists_locks() {
        return holder(file).is_some();
    }
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}
