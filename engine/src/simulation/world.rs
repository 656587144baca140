//! The simulated world: what the object is, and what the server does about it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::faults::{Fault, Position};

/// One version of the object.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) seed: u64,
    pub(super) len: u64,
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<&'static str>,
    pub(super) content_type: &'static str,
    /// Whether each response tells the digests of its part and of the object.
    pub(super) digests: bool,
}

impl Version {
    /// The byte at every offset depends on the offset and the version, so that
    /// a shifted or foreign byte shows.
    pub(super) fn bytes(&self, start: u64, end: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity((end - start) as usize + 8);
        let mut word = start / 8;
        let skip = (start % 8) as usize;
        while bytes.len() < (end - start) as usize + skip {
            // splitmix64
            let mut z = (self.seed << 32).wrapping_add(word.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
            word += 1;
        }
        bytes.drain(..skip);
        bytes.truncate((end - start) as usize);
        bytes
    }
}

/// How often a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    Once,
    /// At every request that fits its position.
    Always,
}

/// A fault and when it strikes.
#[derive(Debug, Clone)]
pub(super) struct Injected {
    pub(super) fault: Fault,
    pub(super) position: Position,
    pub(super) times: Times,
    pub(super) fired: u32,
}

impl Injected {
    pub(super) fn new(fault: Fault, position: Position, times: Times) -> Self {
        Self { fault, position, times, fired: 0 }
    }
}

/// What connections are like.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) latency: Duration,
    /// The slowest and the fastest connection, in bytes a second.
    pub(super) rates: (u64, u64),
    /// One in so many pieces of a body is the last of its connection; 0: none.
    pub(super) loss: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct World {
    pub(super) random: fastrand::Rng,
    pub(super) link: Link,
    /// The last one is the current one.
    pub(super) versions: Vec<Version>,
    pub(super) faults: Vec<Injected>,
    /// Requests of this life, and of all.
    pub(super) requests: u64,
    pub(super) all_requests: u64,
    /// Requests that are being answered.
    pub(super) busy: usize,
    pub(super) down_until: Option<Instant>,
    /// Bodies that were sent with a 200 and are no version of the object: what
    /// asks without knowing the object cannot tell.
    pub(super) pages: Vec<Vec<u8>>,
    pub(super) log: Vec<String>,
}

/// The world as its tasks share it.
pub(super) type Shared = Arc<Mutex<World>>;

pub(super) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(super) fn new(seed: u64, link: Link, first: Version) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            link,
            versions: vec![first],
            faults: Vec::new(),
            requests: 0,
            all_requests: 0,
            busy: 0,
            down_until: None,
            pages: Vec::new(),
            log: Vec::new(),
        }
    }

    pub(super) fn current(&self) -> &Version {
        self.versions.last().expect("a world has an object")
    }

    /// Another version takes the object's place.
    pub(super) fn change(&mut self) {
        let mut next = self.current().clone();
        let number = self.versions.len() as u64 + 1;
        next.seed = next.seed.wrapping_mul(31).wrapping_add(number);
        if let Some(etag) = &mut next.etag {
            let weak = if etag.starts_with("W/") { "W/" } else { "" };
            *etag = format!("{weak}\"v{number}\"");
        }
        if next.last_modified.is_some() {
            next.last_modified = Some(DATES[number as usize % DATES.len()]);
        }
        self.versions.push(next);
    }

    /// The fault that strikes a request, if one does.
    pub(super) fn strike(&mut self, start: u64, end: Option<u64>, first: bool) -> Option<Fault> {
        let total = self.current().len;
        let hit = self.faults.iter_mut().find(|injected| {
            let open = injected.times == Times::Always || injected.fired == 0;
            open && injected.position.fits(start, end, total, first)
        })?;
        hit.fired += 1;
        Some(hit.fault)
    }

    pub(super) fn is_down(&self) -> bool {
        self.down_until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn rate(&mut self) -> u64 {
        let (least, most) = self.link.rates;
        self.random.u64(least..=most)
    }

    /// The last requests and the faults they met.
    pub(super) fn last_requests(&self) -> String {
        self.log[self.log.len().saturating_sub(12)..].join("\n    ")
    }

    /// Whether `bytes` are something that a right download may publish.
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        self.versions.iter().any(|v| v.len == bytes.len() as u64 && v.bytes(0, v.len) == bytes)
            || self.pages.iter().any(|page| page == bytes)
    }
}

/// Of the versions, each long before the `Date` that the server sends.
pub(super) const DATES: [&str; 4] = [
    "Mon, 02 Jan 2023 03:04:05 GMT",
    "Tue, 03 Jan 2023 03:04:05 GMT",
    "Wed, 04 Jan 2023 03:04:05 GMT",
    "Thu, 05 Jan 2023 03:04:05 GMT",
];
