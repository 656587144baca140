//! What of files macOS has in its own way, or not at all.

use std::sync::LazyLock;

use rustix::fs::Mode;
use rustix::process;

/// The permissions that a new file of this process does not have. Reading them changes them for a
/// moment, once, and so that what another thread creates then is private.
pub(crate) fn umask() -> u32 {
    static UMASK: LazyLock<u32> = LazyLock::new(|| {
        let umask = process::umask(Mode::RWXG | Mode::RWXO);
        process::umask(umask);
        umask.bits().into()
    });
    *UMASK
}

/// Whether the system has a list of all locks.
pub(crate) fn lists_locks() -> bool {
    false
}

#[cfg(test)]
pub(crate) fn make_fifo(path: &std::path::Path) -> bool {
    std::process::Command::new("mkfifo").arg(path).status().unwrap().success()
}

#[cfg(test)]
pub(crate) fn unwritable() -> Option<std::fs::File> {
    None
}
