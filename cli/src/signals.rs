//! SIGINT, SIGTERM and SIGHUP: an orderly stop with an end to its patience.
//!
//! The signals are received on a thread and a runtime of their own, so that a
//! download that hangs cannot keep the process from ending in time.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How long after the first signal the process ends, whatever hangs: a little
/// under the promised two seconds.
const PATIENCE: Duration = Duration::from_millis(1900);

/// Why the run is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// SIGHUP: the terminal went away.
    Hangup,
    /// SIGINT: Ctrl-C.
    Keyboard,
    /// SIGTERM.
    Terminate,
}

impl Interrupt {
    /// 128 and the signal's number.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Keyboard => 130,
            Self::Terminate => 143,
        }
    }
}

/// Tells whoever waits that the run is to stop; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    seen: watch::Receiver<Option<Interrupt>>,
    scratch: Arc<Mutex<Option<PathBuf>>>,
}

impl Stop {
    /// Waits for the first signal; cancel safe.
    pub(crate) async fn requested(&mut self) -> Interrupt {
        match self.seen.wait_for(Option::is_some).await.map(|seen| *seen) {
            Ok(Some(interrupt)) => interrupt,
            // Without the listening thread no signal comes.
            _ => std::future::pending().await,
        }
    }

    /// The signal that came, if one did.
    pub(crate) fn now(&self) -> Option<Interrupt> {
        *self.seen.borrow()
    }

    /// One that never comes.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Self { seen: watch::channel(None).1, scratch: Arc::default() }
    }

    /// Names a directory that is removed even if the process must end at once.
    pub(crate) fn set_scratch(&self, directory: Option<PathBuf>) {
        *self.scratch.lock().unwrap_or_else(PoisonError::into_inner) = directory;
    }
}

/// Starts listening. From here on the signals do not end the process at once.
///
/// # Errors
/// When the thread, its runtime or a handler cannot be had.
pub(crate) fn listen() -> io::Result<Stop> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (tell, seen) = watch::channel(None);
    let scratch = Arc::new(Mutex::new(None));
    let stop = Stop { seen, scratch: Arc::clone(&scratch) };
    // The handlers are in place before anything starts that they would protect.
    let signals = {
        let _context = runtime.enter();
        Signals::install()?
    };
    thread::Builder::new()
        .name("haul-signals".to_owned())
        .spawn(move || runtime.block_on(supervise(signals, &tell, &scratch)))?;
    Ok(stop)
}

async fn supervise(
    mut signals: Signals,
    tell: &watch::Sender<Option<Interrupt>>,
    scratch: &Mutex<Option<PathBuf>>,
) {
    let first = signals.next().await;
    tell.send_replace(Some(first));
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    let last = loop {
        tokio::select! {
            // A session that ends may send SIGHUP and SIGTERM together: only a second
            // wish of the person ends at once.
            next = signals.next() => if next == Interrupt::Keyboard {
                break next;
            },
            () = &mut patience => break first,
        }
    };
    let scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner).take();
    let told = match scratch {
        Some(directory) => {
            let _ = fs::remove_dir_all(directory);
            "interrupted at once"
        }
        None => "interrupted at once: the last checkpoint counts; continue with the same command",
    };
    let _ = writeln!(io::stderr(), "{told}");
    std::process::exit(i32::from(last.exit_code()));
}

struct Signals {
    hangup: Option<Signal>,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        // nohup starts its command with SIGHUP ignored, and it must stay so.
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            hangup,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Interrupt {
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

fn hangup_is_ignored() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| hangup_bit(&status))
}

/// Whether the mask of ignored signals in `/proc/PID/status` has SIGHUP, its lowest bit.
fn hangup_bit(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

/// A partial that somebody else truncates while a window of it is mapped raises
/// SIGBUS on the next store into that window. This makes it a message and exit
/// code 3 instead of a silent death; the checkpoint stays.
#[allow(unsafe_code)]
pub(crate) fn explain_bus_errors() {
    extern "C" fn explain(_signal: libc::c_int) {
        const MESSAGE: &[u8] = b"error: the partial file was truncated underneath or its disk \
failed; it was not published and its checkpoint is kept\n\
hint: run the same command again, or use --storage pwrite\n";
        // SAFETY: write(2) is async-signal-safe, and the pointer and length are
        // those of a static array.
        unsafe { libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len()) };
        // SAFETY: _exit(2) is async-signal-safe and does not return, so the
        // faulting store is never repeated and no destructor or other handler
        // runs on the broken state.
        unsafe { libc::_exit(3) };
    }
    let handler: extern "C" fn(libc::c_int) = explain;
    // SAFETY: the handler only calls async-signal-safe functions and ends the
    // process; SIGBUS has no other handler here that would be replaced.
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
