//! This process, for tests that end it.

/// Ends this process at once, without any cleanup, as a crash would.
pub(crate) fn kill_self() -> ! {
    std::process::abort()
}
