//! Who does blocking work: threads, or, in a simulation, the caller.
//!
//! Simulated time advances when every task waits, and it cannot see a thread. So a
//! simulated engine has no threads: the caller does their work at once, and the keeper
//! is a task.

use std::io;
use std::thread::{self, JoinHandle};

/// How blocking work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crew {
    /// By threads of its own, so that no runtime's thread ever blocks.
    Threads,
    /// At once, by the caller.
    #[cfg(test)]
    Inline,
}

impl Crew {
    /// Has `work` done. Returns nothing to join where it is already over.
    ///
    /// # Errors
    /// When no thread can be started; `work` is not done then.
    pub(super) fn start(
        self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<Option<JoinHandle<()>>> {
        match self {
            Self::Threads => thread::Builder::new().name(name.to_owned()).spawn(work).map(Some),
            #[cfg(test)]
            Self::Inline => {
                work();
                Ok(None)
            }
        }
    }

    /// Has `work`, which blocks, done in the background. It is dropped instead if the
    /// runtime ends.
    pub(super) fn begin(self, work: impl FnOnce() + Send + 'static) {
        match self {
            Self::Threads => drop(tokio::task::spawn_blocking(work)),
            #[cfg(test)]
            Self::Inline => work(),
        }
    }

    /// The result of `work`, which blocks; `None` when its thread is gone.
    pub(crate) async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work).await.ok(),
            #[cfg(test)]
            Self::Inline => Some(work()),
        }
    }
}
