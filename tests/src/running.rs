//! Downloads in the test's own process: their engines, and waiting for what they do.

use std::time::Duration;

use haul_engine::{Download, Engine, EngineConfig, Event, Events};

use crate::leaks;

/// An engine with the default configuration, watched by [`leaks`].
#[must_use]
pub fn engine() -> Engine {
    engine_with(|_| ())
}

/// The same with a changed configuration.
///
/// # Panics
/// When an engine refuses it.
#[must_use]
pub fn engine_with(change: impl FnOnce(&mut EngineConfig)) -> Engine {
    let mut config = EngineConfig::default();
    change(&mut config);
    leaks::watched(Engine::new(config).expect("a good configuration"))
}

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
