//! Clocks that the standard library does not read.

use std::time::Duration;

use super::calls;

/// How long the machine has slept since it was started.
pub(crate) fn slept() -> Duration {
    let (all, awake) = calls::time_since_start();
    all.saturating_sub(awake)
}

/// How long the calling thread has computed so far: not the time in which it waited. `None` where
/// the system does not tell.
pub(crate) fn thread_time() -> Option<Duration> {
    calls::thread_time().ok()
}
