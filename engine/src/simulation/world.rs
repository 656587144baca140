//! The simulated world: what the object is, and what the server does about it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Asked;
use super::faults::{Fault, Position};
use super::server::PIECE_BYTES;

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
#[derive(Debug, Clone, Default)]
pub(super) struct Link {
    pub(super) latency: Duration,
    /// The slowest and the fastest connection, in bytes a second.
    pub(super) rates: (u64, u64),
    /// One in this many pieces of a body is the last on its connection; 0 means none.
    pub(super) loss: u64,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) random: fastrand::Rng,
    pub(super) link: Link,
    /// Whether HTTP/2 is spoken, rather than HTTP/1.1.
    pub(super) http2: bool,
    /// Each connection serves one request.
    pub(super) one_request_each: bool,
    /// The most bytes in one response.
    pub(super) most_bytes: u64,
    /// The longest range that is not refused, in bytes, and how many longer ones were.
    pub(super) longest_part: u64,
    pub(super) long_parts: u64,
    /// A request without its host's cookie is redirected to the same place, which sets it.
    pub(super) wants_cookie: bool,
    /// How many bytes [`Fault::BreaksMidway`] lets through, and whether it tells the length.
    pub(super) breaks_at: u64,
    pub(super) tells_length: bool,
    /// The object's length under [`Fault::OtherLength`].
    pub(super) other_len: u64,
    /// The first request is redirected to another path of the same origin, on
    /// the same connection.
    pub(super) redirects_first: bool,
    /// The object on hosts whose names begin with `mirror`.
    pub(super) mirror: Option<Version>,
    /// All other hosts redirect to the mirror.
    pub(super) moved: bool,
    /// Where a foreign file takes the output's name, once bytes of a later request go out.
    pub(super) foreign: Option<PathBuf>,
    /// The last one is current.
    pub(super) versions: Vec<Version>,
    pub(super) faults: Vec<Injected>,
    /// Requests of this life, and of all lives.
    pub(super) requests: u64,
    pub(super) all_requests: u64,
    /// Requests that are being answered.
    pub(super) busy: usize,
    /// How long the server works before its next answer.
    pub(super) works: Duration,
    /// Body bytes that went out in this life.
    pub(super) sent: u64,
    /// The furthest end of a part of the object that was sent in this life.
    pub(super) furthest: u64,
    /// Bytes that a slow disk has stored, those that wait for it, and the most that ever did.
    pub(super) stored: u64,
    pub(super) waiting: u64,
    pub(super) most_waiting: u64,
    /// Requests with another method than GET.
    pub(super) other_methods: u64,
    pub(super) down_until: Option<Instant>,
    /// Bodies sent with a 200 that are no version of the object: a client that does
    /// not know the object cannot tell.
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
            most_bytes: u64::MAX,
            longest_part: u64::MAX,
            versions: vec![first],
            ..Self::default()
        }
    }

    pub(super) fn current(&self) -> &Version {
        self.versions.last().expect("a world has an object")
    }

    /// Puts another version in the object's place.
    pub(super) fn change(&mut self) {
        let mut next = self.current().clone();
        let before = self.versions.len() as u64;
        let number = before + 1;
        next.seed = next.seed.wrapping_mul(31).wrapping_add(number);
        if let Some(etag) = &mut next.etag {
            *etag = etag.replace(&format!("v{before}"), &format!("v{number}"));
        }
        if next.last_modified.is_some() {
            next.last_modified = Some(DATES[number as usize % DATES.len()]);
        }
        self.versions.push(next);
    }

    /// Removes the quotes from the tag, here and in the versions to come, and everything else that
    /// tells the versions apart.
    pub(super) fn malform_tag(&mut self) {
        if let Some(first) = self.versions.first_mut() {
            first.etag = first.etag.as_ref().map(|etag| etag.replace('"', ""));
            first.last_modified = None;
        }
    }

    /// Makes a plain stream break at `position`, and each repeat of it shorter than what came, or
    /// longer where the client was told how long the object is.
    pub(super) fn repeats_other_lengths(&mut self, position: Position, tells_length: bool) {
        let len = self.current().len;
        self.breaks_at = position.bytes_before(len).max(PIECE_BYTES as u64);
        self.tells_length = tells_length;
        let longer = tells_length && self.random.bool();
        self.other_len = match longer {
            true => len + self.random.u64(1..100_000),
            false => self.random.u64(1..self.breaks_at),
        };
        self.faults = vec![
            Injected::new(Fault::BreaksMidway, Position::Anywhere, Times::Once),
            Injected::new(Fault::OtherLength, Position::Anywhere, Times::Always),
        ];
    }

    /// Forgets the previous life: another process begins.
    pub(super) fn begin_life(&mut self) {
        (self.requests, self.busy, self.down_until) = (0, 0, None);
        (self.sent, self.furthest) = (0, 0);
        (self.stored, self.waiting, self.most_waiting) = (0, 0, 0);
    }

    /// The fault that strikes a request, if one does. `first`: no request came
    /// before it.
    pub(super) fn strike(&mut self, asked: &Asked, first: bool) -> Option<Fault> {
        let most = self.most_bytes;
        let (start, end) = asked
            .range
            .map_or((0, None), |(start, end)| (start, Some(end.min(start.saturating_add(most)))));
        let (total, http2) = (self.current().len, self.http2);
        self.strike_where(|fault, position| {
            let possible = match fault {
                Fault::ClosesUnderRequest => asked.reused,
                Fault::ConditionFallsBack => asked.conditional(),
                Fault::Unshown | Fault::TotalOfPart => asked.range.is_some(),
                Fault::CookieWanted => !asked.has_cookie(),
                fault if fault.is_of_http1() => !http2,
                fault => !fault.is_of_connecting() && (http2 || !fault.is_of_http2()),
            };
            possible && position.fits(start, end, total, first)
        })
    }

    /// The fault that strikes a connection as it is made.
    pub(super) fn strike_connecting(&mut self) -> Option<Fault> {
        let (requests, furthest, total) = (self.requests, self.furthest, self.current().len);
        self.strike_where(|fault, position| {
            fault.is_of_connecting() && position.fits_connecting(requests, furthest, total)
        })
    }

    fn strike_where(&mut self, fits: impl Fn(Fault, Position) -> bool) -> Option<Fault> {
        let hit = self.faults.iter_mut().find(|injected| {
            let open = injected.times == Times::Always || injected.fired == 0;
            open && fits(injected.fault, injected.position)
        })?;
        hit.fired += 1;
        Some(hit.fault)
    }

    pub(super) fn is_down(&self) -> bool {
        self.down_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether a connection breaks here, because of the link or the server.
    pub(super) fn loses(&mut self) -> bool {
        let loss = self.link.loss;
        (loss > 0 && self.random.u64(0..loss) == 0) || self.is_down()
    }

    /// Lets other bytes of the same size count as a version, and returns their seed.
    pub(super) fn has_foreign(&mut self) -> u64 {
        self.has_mirror();
        self.mirror.as_ref().map_or(0, |mirror| mirror.seed)
    }

    /// Adds a mirror: other bytes of the same size, under tags and dates of its
    /// own.
    pub(super) fn has_mirror(&mut self) {
        if self.mirror.is_none() {
            let mut mirror = self.twin();
            mirror.etag = mirror.etag.map(|etag| etag.replace('v', "mirror-v"));
            mirror.last_modified = mirror.last_modified.map(|_| DATES[0]);
            self.mirror = Some(mirror);
        }
    }

    /// Adds a mirror under our own tags and dates.
    pub(super) fn has_twin(&mut self) {
        if self.mirror.is_none() {
            self.mirror = Some(self.twin());
        }
    }

    fn twin(&self) -> Version {
        let mut twin = self.current().clone();
        twin.seed = twin.seed.wrapping_mul(31).wrapping_add(77);
        twin
    }

    pub(super) fn rate(&mut self) -> u64 {
        let (least, most) = self.link.rates;
        self.random.u64(least..=most)
    }

    /// The last requests and the faults they met.
    pub(super) fn last_requests(&self) -> String {
        self.log[self.log.len().saturating_sub(12)..].join("\n    ")
    }

    /// Whether a correct download may publish `bytes`.
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        self.versions
            .iter()
            .chain(&self.mirror)
            .any(|v| v.len == bytes.len() as u64 && v.bytes(0, v.len) == bytes)
            || self.pages.iter().any(|page| page == bytes)
    }
}

/// The dates of the versions, each long before the `Date` that the server sends.
pub(super) const DATES: [&str; 4] = [
    "Mon, 02 Jan 2023 03:04:05 GMT",
    "Tue, 03 Jan 2023 03:04:05 GMT",
    "Wed, 04 Jan 2023 03:04:05 GMT",
    "Thu, 05 Jan 2023 03:04:05 GMT",
];
