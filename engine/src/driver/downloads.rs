//! The running downloads of an engine, so that all of them can be stopped and awaited.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use crate::driver::control::Stop;
use crate::lock::Lock;
use crate::model::error::{Error, ErrorKind};
use crate::model::event::DownloadId;

/// Stops one download, once.
#[derive(Debug)]
pub(crate) struct Stopper(Lock<Option<oneshot::Sender<Stop>>>);

impl Stopper {
    pub(crate) fn new() -> (Arc<Self>, oneshot::Receiver<Stop>) {
        let (stop, stopped) = oneshot::channel();
        (Arc::new(Self(Lock::new(Some(stop)))), stopped)
    }

    /// Stops the download. True if it was still running, so that its end answers this call.
    pub(crate) fn stop(&self, how: Stop) -> bool {
        let stop = self.0.lock().take();
        stop.is_some_and(|stop| stop.send(how).is_ok())
    }
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    shut_down: bool,
    running: BTreeMap<DownloadId, Arc<Stopper>>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Downloads {
    state: Lock<State>,
    ended: Notify,
}

impl Downloads {
    /// Counts a download as running for as long as the entry lives.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] after [`Self::shut_down`].
    pub(crate) fn enter(self: &Arc<Self>, stopper: &Arc<Stopper>) -> Result<Entry, Error> {
        let mut state = self.state.lock();
        if state.shut_down {
            return Err(Error::new(ErrorKind::Cancelled, "the engine was shut down"));
        }
        let id = DownloadId::new(state.next_id);
        state.next_id += 1;
        state.running.insert(id, Arc::clone(stopper));
        drop(state);
        Ok(Entry { id, downloads: Arc::clone(self) })
    }

    /// Refuses new downloads, stops those that run, and waits until each has recorded what
    /// it stored.
    pub(crate) async fn shut_down(&self) {
        let running: Vec<_> = {
            let mut state = self.state.lock();
            state.shut_down = true;
            state.running.values().cloned().collect()
        };
        for stopper in running {
            stopper.stop(Stop::Keep);
        }
        loop {
            // This is notified of every end from here on.
            let ended = self.ended.notified();
            if self.state.lock().running.is_empty() {
                return;
            }
            ended.await;
        }
    }
}

/// A running download.
pub(crate) struct Entry {
    pub(crate) id: DownloadId,
    downloads: Arc<Downloads>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.downloads.state.lock().running.remove(&self.id);
        self.downloads.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shutdown_stops_all_that_run_waits_for_them_and_refuses_others() {
        let downloads = Arc::new(Downloads::default());
        let tasks: Vec<_> = (0..3)
            .map(|number| {
                let (stopper, stopped) = Stopper::new();
                let entry = downloads.enter(&stopper).unwrap();
                assert_eq!(entry.id.get(), number);
                tokio::spawn(async move {
                    let how = stopped.await;
                    drop(entry);
                    how
                })
            })
            .collect();
        downloads.shut_down().await;
        for task in tasks {
            assert!(task.is_finished());
            assert_eq!(task.await.unwrap(), Ok(Stop::Keep));
        }
        let refused = downloads.enter(&Stopper::new().0).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Cancelled);
        downloads.shut_down().await;
    }
}
