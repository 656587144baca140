//! What a server does to its connections: speed, faults, how many. Pure: the time is an argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::size::MIB;

/// One server's manners. Each property stands alone and they combine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// How fast a connection may send.
    pub speed: Speed,
    /// What becomes of it midway.
    pub fault: Fault,
    /// Connections served at a time; the next ones are answered 503 and closed.
    pub most_connections: Option<usize>,
    /// How long every byte travels, each way.
    pub one_way: Duration,
}

/// How fast a connection may send body bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Speed {
    /// Bytes a second of each.
    Each(u64),
    /// A connection holds one of these slots, in bytes a second, from its start to its end.
    Slots(Vec<u64>),
}

/// What becomes of a connection midway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// Nothing.
    None,
    /// Reset after a random number of body bytes in this closed interval.
    Reset {
        /// The fewest.
        least: u64,
        /// The most.
        most: u64,
    },
    /// Every `one_in`th connection sends `after` body bytes and then nothing, without closing.
    Hang {
        /// The fifth of five, say.
        one_in: u64,
        /// Body bytes before the silence.
        after: u64,
    },
}

/// How a connection ends that does not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It lives as long as the client wants.
    Lives,
    /// A RST after so many body bytes.
    ResetsAfter(u64),
    /// Silence after so many body bytes.
    HangsAfter(u64),
}

impl Shape {
    /// Every connection at `bytes_per_s`, no faults.
    #[must_use]
    pub fn capped(bytes_per_s: u64) -> Self {
        Self {
            speed: Speed::Each(bytes_per_s),
            fault: Fault::None,
            most_connections: None,
            one_way: Duration::ZERO,
        }
    }

    /// The most bytes a second that `connections` of them can bring.
    #[must_use]
    pub fn fluid_bytes_per_s(&self, connections: usize) -> u64 {
        let connections = self.most_connections.map_or(connections, |most| most.min(connections));
        match &self.speed {
            Speed::Each(speed) => speed * connections as u64,
            Speed::Slots(slots) => {
                let mut fastest = slots.clone();
                fastest.sort_unstable_by(|a, b| b.cmp(a));
                fastest.iter().take(connections).sum()
            }
        }
    }

    /// What becomes of the `nth` connection (from 1). The same in every run, so that every
    /// contender meets the same luck.
    #[must_use]
    pub fn fate(&self, nth: u64) -> Fate {
        match self.fault {
            Fault::None => Fate::Lives,
            Fault::Reset { least, most } => {
                Fate::ResetsAfter(fastrand::Rng::with_seed(nth).u64(least..=most))
            }
            Fault::Hang { one_in, after } if nth.is_multiple_of(one_in) => Fate::HangsAfter(after),
            Fault::Hang { .. } => Fate::Lives,
        }
    }
}

/// A token bucket, kept as the instant from which the next byte may go.
#[derive(Debug)]
pub struct Bucket {
    bytes_per_s: u64,
    free_at: Duration,
}

/// A thread that woke late makes up for at most this much.
const MADE_UP: Duration = Duration::from_millis(100);

impl Bucket {
    /// A bucket that is empty at `now`.
    #[must_use]
    pub fn new(bytes_per_s: u64, now: Duration) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), free_at: now }
    }

    /// A body begins: what was not sent before it is lost, not saved up.
    pub fn begin(&mut self, now: Duration) {
        self.free_at = self.free_at.max(now);
    }

    /// Takes `bytes` and returns when they have passed: at the rate, after those taken before.
    pub fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
        let lasts = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now.saturating_sub(MADE_UP)) + lasts;
        self.free_at
    }

    /// How much to send at a time: about 4 ms' worth, so that a pause is felt neither as a burst
    /// nor as a system call for every few bytes.
    #[must_use]
    pub fn portion(&self) -> usize {
        usize::try_from((self.bytes_per_s / 250).clamp(512, 64 * 1024)).unwrap_or(512)
    }
}

/// Which slots are held.
#[derive(Debug)]
pub struct Slots {
    holders: Vec<u32>,
    order: Vec<usize>,
    slowest: usize,
}

impl Slots {
    /// All free. The order in which they are handed out is mixed, always in the same way.
    #[must_use]
    pub fn new(speeds: &[u64]) -> Self {
        let mut order: Vec<usize> = (0..speeds.len()).collect();
        fastrand::Rng::with_seed(speeds.len() as u64).shuffle(&mut order);
        let slowest = (0..speeds.len()).min_by_key(|&slot| speeds[slot]).unwrap_or(0);
        Self { holders: vec![0; speeds.len()], order, slowest }
    }

    /// A free slot, or a share in the slowest when all are held.
    pub fn hold(&mut self) -> usize {
        let free = self.order.iter().copied().find(|&slot| self.holders[slot] == 0);
        let slot = free.unwrap_or(self.slowest);
        self.holders[slot] += 1;
        slot
    }

    /// The connection that held `slot` is closed.
    pub fn free(&mut self, slot: usize) {
        self.holders[slot] -= 1;
    }
}

/// The sixteen speeds of `uneven`, in bytes a second: 0.1 to 24 MB/s, 121.5 MB/s together.
#[must_use]
pub fn uneven_slots() -> Vec<u64> {
    [1, 2, 4, 8, 10, 20, 30, 40, 60, 80, 100, 120, 140, 160, 200, 240]
        .map(|tenths: u64| tenths * 100_000)
        .to_vec()
}

/// The interval of `lossy`.
pub const RESET_WITHIN: Fault = Fault::Reset { least: MIB, most: 8 * MIB };

/// One in five after 1 MiB, as in `stalls`.
pub const ONE_IN_FIVE_HANGS: Fault = Fault::Hang { one_in: 5, after: MIB };

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_bucket_keeps_the_rate_and_saves_nothing_up_between_bodies() {
        let mut bucket = Bucket::new(1_000_000, ms(0));
        assert_eq!(bucket.take(100_000, ms(0)), ms(100));
        assert_eq!(bucket.take(100_000, ms(0)), ms(200));
        bucket.begin(ms(5_000));
        assert_eq!(bucket.take(100_000, ms(5_000)), ms(5_100));
    }

    #[test]
    fn a_bucket_makes_up_for_a_late_thread_but_not_for_a_slow_client() {
        let mut bucket = Bucket::new(1_000_000, ms(0));
        assert_eq!(bucket.take(10_000, ms(30)), ms(10), "30 ms late: the next go at once");
        assert_eq!(bucket.take(10_000, ms(1_000)), ms(910), "a second late: 100 ms are made up");
    }

    #[test]
    fn a_connection_holds_one_slot_and_the_seventeenth_shares_the_slowest() {
        let speeds = uneven_slots();
        let mut slots = Slots::new(&speeds);
        let mut held: Vec<usize> = (0..16).map(|_| slots.hold()).collect();
        let freed = held[3];
        held.sort_unstable();
        assert_eq!(held, (0..16).collect::<Vec<_>>());
        assert_eq!(speeds[slots.hold()], 100_000);
        slots.free(freed);
        assert_eq!(slots.hold(), freed);
    }

    #[test]
    fn the_fluid_limit_adds_the_fastest_connections_allowed() {
        let mut shape = Shape::capped(4 * MIB);
        assert_eq!(shape.fluid_bytes_per_s(16), 64 * MIB);
        shape.most_connections = Some(4);
        assert_eq!(shape.fluid_bytes_per_s(16), 16 * MIB);
        shape.most_connections = None;
        shape.speed = Speed::Slots(uneven_slots());
        assert_eq!(shape.fluid_bytes_per_s(16), 121_500_000);
        assert_eq!(shape.fluid_bytes_per_s(2), 44_000_000);
    }

    #[test]
    fn fates_are_the_same_in_every_run_and_within_their_bounds() {
        let mut shape = Shape::capped(1);
        assert_eq!(shape.fate(5), Fate::Lives);
        shape.fault = RESET_WITHIN;
        let fates: Vec<Fate> = (1..200).map(|nth| shape.fate(nth)).collect();
        assert_eq!(fates, (1..200).map(|nth| shape.fate(nth)).collect::<Vec<_>>());
        assert!(fates.iter().all(
            |fate| matches!(fate, Fate::ResetsAfter(after) if (MIB..=8 * MIB).contains(after))
        ));
        assert_ne!(fates[0], fates[1]);
        shape.fault = ONE_IN_FIVE_HANGS;
        assert_eq!(shape.fate(4), Fate::Lives);
        assert_eq!(shape.fate(10), Fate::HangsAfter(MIB));
    }

    #[test]
    fn a_shape_survives_the_way_to_the_helper_process() {
        let shape = Shape {
            speed: Speed::Slots(uneven_slots()),
            fault: RESET_WITHIN,
            most_connections: Some(4),
            one_way: ms(50),
        };
        let text = serde_json::to_string(&shape).expect("encodes");
        assert_eq!(serde_json::from_str::<Shape>(&text).expect("decodes"), shape);
    }
}
