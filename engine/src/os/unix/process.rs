//! This process, for tests that end it.

use rustix::process::{Signal, getpid, kill_process};

/// Ends this process at once, without any cleanup, as a crash would.
pub(crate) fn kill_self() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    // The signal is on its way; nothing more may happen.
    loop {
        std::thread::park();
    }
}
