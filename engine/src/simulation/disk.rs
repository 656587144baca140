//! A disk that is slower than the network, in simulated time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::world::{Shared, lock};

/// Stores one chunk after another, and gives back a chunk's budget only once it is stored.
#[derive(Debug)]
pub(crate) struct SlowDisk {
    world: Shared,
    bytes_per_second: f64,
    /// How many bytes it takes at once before it becomes slow.
    fast_bytes: u64,
    busy_until: Mutex<Option<Instant>>,
}

impl SlowDisk {
    pub(super) fn new(world: &Shared, bytes_per_second: f64, fast_bytes: u64) -> Self {
        Self {
            world: Arc::clone(world),
            bytes_per_second,
            fast_bytes,
            busy_until: Mutex::default(),
        }
    }

    /// Holds `permit` for as long as storing `bytes` takes.
    pub(crate) fn store(&self, bytes: usize, permit: Arc<OwnedSemaphorePermit>) {
        let bytes = bytes as u64;
        {
            let mut world = lock(&self.world);
            if world.stored < self.fast_bytes {
                world.stored += bytes;
                return;
            }
            world.waiting += bytes;
            world.most_waiting = world.most_waiting.max(world.waiting);
        }
        let now = Instant::now();
        let until = {
            let mut busy = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = busy.map_or(now, |until| until.max(now));
            let until = begin + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
            *busy.insert(until)
        };
        let world = Arc::clone(&self.world);
        tokio::spawn(async move {
            sleep_until(until).await;
            {
                let mut world = lock(&world);
                world.waiting -= bytes;
                world.stored += bytes;
            }
            drop(permit);
        });
    }
}
