//! The ways on which the driver is told what happened.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// News from many, in order. Its memory, some KiB, is taken when the first one asks for
/// the way in: most of a thousand downloads wait for their turn and have nobody yet who
/// could tell them anything.
pub(super) struct Inbox<T>(Option<(UnboundedSender<T>, UnboundedReceiver<T>)>);

impl<T> Inbox<T> {
    pub(super) fn new() -> Self {
        Self(None)
    }

    /// A way in.
    pub(super) fn sender(&mut self) -> UnboundedSender<T> {
        self.0.get_or_insert_with(unbounded_channel).0.clone()
    }

    /// What comes next; waits for it. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            // A sender of its own keeps it open.
            Some((_, inbox)) => inbox.recv().await,
            None => std::future::pending().await,
        }
    }

    /// Nothing that was sent, or is sent on the ways that were given out, comes any more.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_it_was_forgotten_does_not_come() {
        let mut inbox = Inbox::new();
        let soon = Duration::from_secs(1);
        assert!(timeout(soon, inbox.next()).await.is_err(), "nobody can have told anything");
        let old = inbox.sender();
        old.send(1).unwrap();
        assert_eq!(inbox.next().await, Some(1));
        old.send(2).unwrap();
        inbox.forget();
        let new = inbox.sender();
        assert!(old.send(3).is_err());
        new.send(4).unwrap();
        assert_eq!(inbox.next().await, Some(4));
        drop(new);
        assert!(timeout(soon, inbox.next()).await.is_err(), "others may come");
    }
}
