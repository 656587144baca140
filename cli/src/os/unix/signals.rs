//! Signals: what they ask for, and what SIGBUS means.

use std::fs;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::os::terms::Interrupt;
pub(crate) use crate::os::terms::Mapped;

/// The signals that ask this process to stop.
pub(crate) struct Signals {
    hangup: Option<Signal>,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on these signals do not end the process.
    ///
    /// # Errors
    /// When a handler cannot be set.
    pub(crate) fn install() -> io::Result<Self> {
        // nohup starts its command with SIGHUP ignored, and it has to stay ignored.
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            hangup,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next of them; cancel safe.
    pub(crate) async fn next(&mut self) -> Interrupt {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hangup => Interrupt::Hangup,
            _ = self.interrupt.recv() => Interrupt::Keyboard,
            _ = self.terminate.recv() => Interrupt::Terminate,
        }
    }
}

/// Has Ctrl-Z stop nothing as long as the returned value exists.
pub(crate) fn refuse_suspension() -> io::Result<Signal> {
    signal(SignalKind::from_raw(libc::SIGTSTP))
}

fn hangup_is_ignored() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| hangup_bit(&status))
}

/// Whether SIGHUP, the lowest bit, is in the mask of ignored signals of `/proc/PID/status`.
fn hangup_bit(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

/// Explains SIGBUS, which is raised if somebody else truncates a file while a piece of it is copied
/// into its map or hashed. The process then prints a message and exits with code 3 instead of dying
/// silently; the checkpoint stays.
#[allow(unsafe_code)]
pub(crate) fn explain_bus_errors(mapped: Mapped) {
    extern "C" fn of_partial(_signal: libc::c_int) {
        end(b"error: the partial file was truncated underneath or its disk failed; it was not \
published and its checkpoint is kept\n\
hint: run the same command again, or use --storage pwrite\n");
    }
    extern "C" fn of_checked(_signal: libc::c_int) {
        end(b"error: the file was truncated while it was read, or its disk failed\n\
hint: verify it again when nothing else writes to it\n");
    }
    fn end(message: &'static [u8]) -> ! {
        // SAFETY: write(2) is async-signal-safe, and the pointer and length are those of a static
        // array.
        unsafe { libc::write(2, message.as_ptr().cast(), message.len()) };
        // SAFETY: _exit(2) is async-signal-safe and does not return, so the faulting access is
        // never repeated, and no destructor or other handler runs on the broken state.
        unsafe { libc::_exit(3) }
    }
    let handler: extern "C" fn(libc::c_int) = match mapped {
        Mapped::Partial => of_partial,
        Mapped::Checked => of_checked,
    };
    // SAFETY: the handler only calls async-signal-safe functions and ends the process, and SIGBUS
    // has no other handler here that would be replaced.
    unsafe { libc::signal(libc::SIGBUS, handler as libc::sighandler_t) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_hangup_is_read_from_the_mask() {
        assert!(hangup_bit("Name:\thaul\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!hangup_bit("Name:\thaul\nSigIgn:\t0000000000001000\n"));
        assert!(!hangup_bit(""));
    }
}
