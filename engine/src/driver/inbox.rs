//! How the driver learns what happened: from news that others send, and from the results of tasks
//! that it started itself.

use std::future::{Future, pending};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinError, JoinSet};

/// News from many senders, in order. Its memory, some KiB, is allocated with the first sender: most
/// of a thousand downloads wait for their turn and have no sender yet.
pub(super) struct Inbox<T>(Option<(UnboundedSender<T>, UnboundedReceiver<T>)>);

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Inbox<T> {
    /// A sender into the inbox.
    pub(super) fn sender(&mut self) -> UnboundedSender<T> {
        self.0.get_or_insert_with(unbounded_channel).0.clone()
    }

    /// Waits for the next news. Cancel safe.
    pub(super) async fn next(&mut self) -> T {
        // The inbox's own sender keeps it open.
        if let Some((_, inbox)) = &mut self.0
            && let Some(news) = inbox.recv().await
        {
            return news;
        }
        pending().await
    }

    /// Forgets what was sent, and what the senders given out so far will send.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

/// The errands of one part. Its memory is allocated with the first errand, which most downloads
/// never need.
pub(super) struct Errands<T>(Option<JoinSet<T>>);

impl<T> Default for Errands<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> Errands<T> {
    /// Starts one.
    pub(super) fn send(&mut self, errand: impl Future<Output = T> + Send + 'static) {
        self.0.get_or_insert_default().spawn(errand);
    }

    /// Waits for the next one to return. Cancel safe.
    ///
    /// # Errors
    /// When its task panicked.
    pub(super) async fn next(&mut self) -> Result<T, JoinError> {
        if let Some(errands) = &mut self.0
            && let Some(returned) = errands.join_next().await
        {
            return returned;
        }
        pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_it_was_forgotten_does_not_come() {
        let mut inbox = Inbox::default();
        let soon = Duration::from_secs(1);
        assert!(timeout(soon, inbox.next()).await.is_err(), "nobody can have told anything");
        let old = inbox.sender();
        old.send(1).unwrap();
        assert_eq!(inbox.next().await, 1);
        old.send(2).unwrap();
        inbox.forget();
        let new = inbox.sender();
        assert!(old.send(3).is_err());
        new.send(4).unwrap();
        assert_eq!(inbox.next().await, 4);
        drop(new);
        assert!(timeout(soon, inbox.next()).await.is_err(), "others may come");
    }
}
