//! How many downloads of a list run at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use haul_engine::Event;
use tokio::sync::Notify;

/// How many downloads run at a time: as many as asked for, or else more of them while they are
/// small, because a small download spends most of its time waiting for the server. The first
/// response says how large an object is, so that the number grows a round trip after the start,
/// and again with each that turns out to be small.
#[derive(Debug)]
pub struct Width {
    now: AtomicUsize,
    learns: bool,
    /// It became more.
    grew: Notify,
}

impl Width {
    const LARGE: usize = 4;
    /// Each with a connection of its own.
    const SMALL: usize = 32;
    /// On a few connections.
    const SHARING: usize = 100;
    const SMALL_BYTES: u64 = 1 << 20;
    /// So many more are begun for each small one.
    const STEP: usize = 8;

    /// As many as were asked for, or else as many as prove good.
    #[must_use]
    pub fn new(asked: Option<usize>) -> Self {
        let now = AtomicUsize::new(asked.unwrap_or(Self::LARGE));
        Self { now, learns: asked.is_none(), grew: Notify::new() }
    }

    /// How many may run now.
    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Waits until more may run than before; cancel safe.
    pub async fn grew(&self) {
        self.grew.notified().await;
    }

    /// Learns from what a download tells.
    pub fn learn(&self, event: &Event) {
        if !self.learns {
            return;
        }
        match event {
            Event::Started(started)
                if started.total_bytes.is_some_and(|it| it <= Self::SMALL_BYTES) =>
            {
                let most = if started.shares_connection { Self::SHARING } else { Self::SMALL };
                let now = (self.now() + Self::STEP).min(most);
                self.now.store(now, Ordering::Relaxed);
                self.grew.notify_one();
            }
            // A large one, or a server that may have had enough.
            Event::Started(_) | Event::Retry { .. } => {
                self.now.store(Self::LARGE, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}
