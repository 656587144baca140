//! SIGINT, SIGTERM and SIGHUP, or what the console of Windows has, or the end of the process that
//! started this one: an orderly stop, with a deadline.
//!
//! The signals are received on a thread and a runtime of their own, so that a download that hangs
//! cannot keep the process from ending in time.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use haul_engine::Parent;
use tokio::sync::watch;

pub(crate) use crate::os::Interrupt;
use crate::os::signals::Signals;
pub(crate) use crate::os::signals::{Mapped, explain_bus_errors, refuse_suspension};
use crate::{os, render};

/// How long after the first signal the process ends, whatever hangs: slightly less than the
/// promised two seconds.
const PATIENCE: Duration = Duration::from_millis(1900);

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
    helper: Option<u32>,
}

impl Leftovers {
    fn is_empty(&self) -> bool {
        self.scratch.is_none() && self.helper.is_none()
    }

    fn remove(&mut self) {
        // The process goes first, because it may write into the directory until it has ended.
        if let Some(helper) = self.helper.take() {
            os::end_child(helper);
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
        self.leftovers().helper = helper;
    }

    fn leftovers(&self) -> MutexGuard<'_, Leftovers> {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts listening. From now on, the signals do not end the process at once. That the `parent` has
/// ended counts as SIGTERM.
///
/// # Errors
/// When the thread, its runtime or a handler cannot be created.
pub(crate) fn listen(parent: Option<Parent>) -> io::Result<Stop> {
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
        .spawn(move || runtime.block_on(supervise(signals, parent, &tell, &told)))?;
    Ok(stop)
}

async fn supervise(
    mut signals: Signals,
    parent: Option<Parent>,
    tell: &watch::Sender<Option<Interrupt>>,
    stop: &Stop,
) {
    let orphaned = async {
        match &parent {
            Some(parent) => parent.ended().await,
            None => std::future::pending().await,
        }
    };
    let first = tokio::select! {
        first = signals.next() => first,
        () = orphaned => Interrupt::Terminate,
    };
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

#[cfg(test)]
mod tests {
    use super::*;

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
