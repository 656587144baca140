//! Downloads in the test's own process: waiting for what they do.

use std::time::Duration;

use haul_engine::{Download, Event, Events};

/// Waits until so many bytes of the object are here.
pub async fn until_bytes(download: &Download, bytes: u64) {
    while download.progress().bytes < bytes {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Takes all events that are left, and gives the last one, if there was any.
pub async fn last_event(events: &mut Events) -> Option<Event> {
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    last
}
