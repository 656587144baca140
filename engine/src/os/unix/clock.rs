//! Clocks that the standard library does not read.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

pub(crate) use super::kernel::slept;

/// How long the calling thread has computed so far: not the time in which it waited. `None` where
/// the system does not count that.
pub(crate) fn thread_time() -> Option<Duration> {
    Some(read(ClockId::ThreadCPUTime))
}

pub(super) fn read(clock: ClockId) -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    let whole = Duration::from_secs(u64::try_from(tv_sec).unwrap_or(0));
    whole + Duration::from_nanos(u64::try_from(tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_is_no_longer_than_the_time_since_the_start() {
        assert!(slept() <= slept() + Duration::from_millis(1));
        assert!(slept() < Duration::from_secs(10 * 365 * 24 * 3600));
    }

    #[test]
    fn a_thread_is_not_charged_for_waiting() {
        let Some(before) = thread_time() else { return };
        std::thread::sleep(Duration::from_millis(200));
        let waited = thread_time().unwrap() - before;
        assert!(waited < Duration::from_millis(100), "{waited:?}");
        while thread_time().unwrap() - before < Duration::from_millis(100) {}
    }
}
