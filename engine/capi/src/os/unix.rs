//! Linux, macOS and their kin.
//!
//! The engine's threads take no signals of the program.
//! A thread has the mask of the one that made it, so the mask is set while an
//! engine is made, whose threads make all others. Two reasons: handlers of the
//! program do not run on stacks that it does not know; and a server that hangs
//! up is an error value, not a SIGPIPE. Rust's sockets write several buffers at
//! once with `writev`, which has no MSG_NOSIGNAL, and rely on a program that
//! ignores SIGPIPE, which those of C do not.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use libc::{SIG_SETMASK, sigset_t};

/// What tells of a fault in the thread itself, and must not wait.
const FAULTS: [libc::c_int; 7] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
];

/// The path that a program gave as these bytes: any are one.
pub(crate) fn path_of(bytes: &[u8]) -> Option<&Path> {
    Some(Path::new(OsStr::from_bytes(bytes)))
}

/// The bytes of a path as a program is given it.
pub(crate) fn bytes_of(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// Runs `make` with all other signals blocked on this thread.
pub(crate) fn blocked<T>(make: impl FnOnce() -> T) -> T {
    let _restored = Mask::block();
    make()
}

/// The mask to go back to; also when `make` panics.
struct Mask(Option<sigset_t>);

impl Mask {
    fn block() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: `sigfillset` writes a whole set to where there is room for one.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        for fault in FAULTS {
            // SAFETY: a set that was filled just before, and a signal that exists.
            unsafe { libc::sigdelset(all.as_mut_ptr(), fault) };
        }
        // SAFETY: a filled set, and room for another. Signals that are blocked
        // arrive later; nothing else of the program changes.
        let status =
            unsafe { libc::pthread_sigmask(SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: when it succeeded it has written the mask before.
        Self((status == 0).then(|| unsafe { before.assume_init() }))
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // SAFETY: a mask that this thread had; none is asked for back.
            unsafe { libc::pthread_sigmask(SIG_SETMASK, before, std::ptr::null_mut()) };
        }
    }
}
