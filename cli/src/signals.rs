//! SIGINT, SIGTERM and SIGHUP: an orderly stop, with a deadline.
//!
//! The signals are received on a thread and a runtime of their own, so that a download that hangs
//! cannot keep the process from ending in time.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal as Deadly, WaitOptions, kill_process, waitpid};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::render;

/// How long after the first signal the process ends, whatever hangs: slightly less than the
/// promised two seconds.
const PATIENCE: Duration = Duration::from_millis(1900);

/// Why the run has to stop.
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

/// Tells tasks that the run has to stop; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    seen: watch::Receiver<Option<Interrupt>>,
    leftovers: Arc<Mutex<Leftovers>>,
}

/// What must not outlive the process, even if it has to end at once.
#[derive(Debug, Default)]
struct Leftovers {
    scratch: Option<PathBuf>,
    helper: Option<Pid>,
}

impl Leftovers {
    fn is_empty(&self) -> bool {
        self.scratch.is_none() && self.helper.is_none()
    }

    fn remove(&mut self) {
        // The process goes first, because it may write into the directory until it has ended.
        if let Some(helper) = self.helper.take() {
            let _ = kill_process(helper, Deadly::KILL);
            let has_ended = || !matches!(waitpid(Some(helper), WaitOptions::NOHANG), Ok(None));
            (0..100).find(|_| {
                has_ended() || {
                    thread::sleep(Duration::from_millis(1));
                    false
                }
            });
        }
        if let Some(directory) = self.scratch.take() {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

impl Stop {
    /// Waits for the first signal; cancel safe.
    pub(crate) async fn requested(&mut self) -> Interrupt {
        match self.seen.wait_for(Option::is_some).await.map(|seen| *seen) {
            Ok(Some(interrupt)) => interrupt,
            // Without the listening thread no signal can come.
            _ => std::future::pending().await,
        }
    }

    /// The signal that came, if any.
    pub(crate) fn now(&self) -> Option<Interrupt> {
        *self.seen.borrow()
    }

    /// A stop that never comes.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Self { seen: watch::channel(None).1, leftovers: Arc::default() }
    }

    /// Names a directory to remove even if the process has to end at once.
    pub(crate) fn set_scratch(&self, directory: Option<PathBuf>) {
        self.leftovers().scratch = directory;
    }

    /// Names a child process to kill even if this one has to end at once. The child must not have
    /// been waited for, because its number may belong to another process afterwards.
    pub(crate) fn set_helper(&self, helper: Option<u32>) {
        self.leftovers().helper = helper.and_then(|id| Pid::from_raw(id.cast_signed()));
    }

    fn leftovers(&self) -> MutexGuard<'_, Leftovers> {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts listening. From now on, the signals do not end the process at once.
///
/// # Errors
/// When the thread, its runtime or a handler cannot be created.
pub(crate) fn listen() -> io::Result<Stop> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (tell, seen) = watch::channel(None);
    let stop = Stop { seen, leftovers: Arc::default() };
    let told = stop.clone();
    // The handlers are in place before anything starts that they protect.
    let signals = {
        let _context = runtime.enter();
        Signals::install()?
    };
    thread::Builder::new()
        .name("haul-signals".to_owned())
        .spawn(move || runtime.block_on(supervise(signals, &tell, &told)))?;
    Ok(stop)
}

async fn supervise(mut signals: Signals, tell: &watch::Sender<Option<Interrupt>>, stop: &Stop) {
    let first = signals.next().await;
    tell.send_replace(Some(first));
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    let last = loop {
        tokio::select! {
            // A session that ends may send SIGHUP and SIGTERM together, so only a second Ctrl-C
            // ends the process at once.
            next = signals.next() => if next == Interrupt::Keyboard {
                break next;
            },
            () = &mut patience => break first,
        }
    };
    let mut leftovers = stop.leftovers();
    let told = if leftovers.is_empty() {
        "interrupted at once: the same command continues from the last checkpoint, if there is one"
    } else {
        "interrupted at once"
    };
    leftovers.remove();
    render::to_stderr(&[told.to_owned()]);
    std::process::exit(i32::from(last.exit_code()));
}

struct Signals {
    hangup: Option<Signal>,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        // nohup starts its command with SIGHUP ignored, and it has to stay ignored.
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

/// What a run has mapped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mapped {
    /// The partial that it writes.
    Partial,
    /// A file that it reads.
    Checked,
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

    #[test]
    fn nothing_outlives_an_end_at_once() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("scratch");
        fs::create_dir(&directory).unwrap();
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let stop = Stop::never();
        assert!(stop.leftovers().is_empty());
        stop.set_scratch(Some(directory.clone()));
        stop.set_helper(Some(child.id()));
        assert!(!stop.leftovers().is_empty());
        stop.leftovers().remove();
        // The child was already waited for.
        assert!(child.wait().is_err() && !directory.exists());
    }
}
