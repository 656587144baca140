//! What a link does to packets, without any device or clock: rate, delay, loss, a bounded queue,
//! and the store of the packets that are under way.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The greatest packet, with room: devices have an MTU of 1500 bytes.
pub const MOST_BYTES: usize = 1600;
/// Packets under way at most: a gigabit of the smallest for 100 ms, or of full ones for a second.
const MOST_PACKETS: usize = 100_000;

/// How one direction treats its packets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// Bytes that leave the queue in a second.
    pub bytes_per_s: u64,
    /// From leaving the queue to arriving.
    pub delay: Duration,
    /// The share of packets that are lost, from 0 to 1.
    pub loss: f64,
    /// Bytes that may wait. What does not fit is dropped.
    pub queue_bytes: u64,
    /// After so many bytes of payload the rate is another.
    pub then: Option<Turn>,
}

/// A change of rate midway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Bytes of payload carried before.
    pub after_bytes: u64,
    /// Bytes a second from then on.
    pub bytes_per_s: u64,
}

impl Way {
    fn rate(&self, carried_bytes: u64) -> u64 {
        match self.then {
            Some(turn) if carried_bytes >= turn.after_bytes => turn.bytes_per_s,
            _ => self.bytes_per_s,
        }
    }

    /// Room for everything that may be under way at a time.
    fn most_bytes(&self) -> usize {
        let flying = self.bytes_per_s as f64 * self.delay.as_secs_f64();
        // Half again for packets that wait for the thread, and for the unused end of the ring.
        (self.queue_bytes as f64 + flying) as usize * 3 / 2 + 256 * 1024
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at this time, in nanoseconds.
    Arrives(u64),
    /// It is lost on the way.
    Lost,
    /// The queue is full.
    Dropped,
}

/// One direction: a queue that empties at the rate, then the delay.
#[derive(Debug)]
pub struct Line {
    way: Way,
    /// When the last byte of the queue leaves it.
    empty_at_ns: u64,
    dice: fastrand::Rng,
}

impl Line {
    /// An empty line; the seed decides which packets are lost.
    #[must_use]
    pub fn new(way: Way, seed: u64) -> Self {
        Self { way, empty_at_ns: 0, dice: fastrand::Rng::with_seed(seed) }
    }

    /// Decides on a packet of `length` bytes that comes now; `carried_bytes` of payload went
    /// before.
    pub fn admit(&mut self, now_ns: u64, length: usize, carried_bytes: u64) -> Fate {
        if self.way.loss > 0.0 && self.dice.f64() < self.way.loss {
            return Fate::Lost;
        }
        let ns_per_byte = 1e9 / self.way.rate(carried_bytes) as f64;
        let start_ns = self.empty_at_ns.max(now_ns);
        let waiting_bytes = (start_ns - now_ns) as f64 / ns_per_byte;
        if waiting_bytes + length as f64 > self.way.queue_bytes as f64 {
            return Fate::Dropped;
        }
        self.empty_at_ns = start_ns + (length as f64 * ns_per_byte) as u64;
        Fate::Arrives(self.empty_at_ns + self.way.delay.as_nanos() as u64)
    }
}

/// The packets under way, in one block that is used round and round: nothing is allocated for a
/// packet, and it is copied by nobody but the kernel.
#[derive(Debug)]
pub struct Ring {
    bytes: Box<[u8]>,
    /// Where the next packet goes. It equals the front's start only when there is none.
    head: usize,
    packets: VecDeque<Packet>,
}

#[derive(Debug)]
struct Packet {
    start: usize,
    length: usize,
    arrives_ns: u64,
}

impl Ring {
    /// With room for all that `way` can have under way.
    #[must_use]
    pub fn new(way: &Way) -> Self {
        Self::with_bytes(way.most_bytes())
    }

    fn with_bytes(bytes: usize) -> Self {
        Self {
            bytes: vec![0; bytes].into_boxed_slice(),
            head: 0,
            packets: VecDeque::with_capacity(MOST_PACKETS),
        }
    }

    /// Where the next packet can be read to, if there is room for one of any size.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        if self.packets.len() == MOST_PACKETS {
            return None;
        }
        let end = match self.packets.front().map(|packet| packet.start) {
            None => {
                self.head = 0;
                self.bytes.len()
            }
            Some(front) if front > self.head => front - 1,
            Some(_) if self.bytes.len() - self.head >= MOST_BYTES => self.bytes.len(),
            Some(front) => {
                if front <= MOST_BYTES {
                    return None;
                }
                self.head = 0;
                front - 1
            }
        };
        (end - self.head >= MOST_BYTES).then(|| &mut self.bytes[self.head..self.head + MOST_BYTES])
    }

    /// Keeps the packet that was just written at the start of [`Ring::room`].
    pub fn keep(&mut self, length: usize, arrives_ns: u64) {
        debug_assert!((1..=MOST_BYTES).contains(&length));
        self.packets.push_back(Packet { start: self.head, length, arrives_ns });
        self.head += length;
    }

    /// The packet that came first and when it arrives.
    #[must_use]
    pub fn front(&self) -> Option<(u64, &[u8])> {
        let packet = self.packets.front()?;
        Some((packet.arrives_ns, &self.bytes[packet.start..packet.start + packet.length]))
    }

    /// Forgets the packet that came first.
    pub fn forget_front(&mut self) {
        self.packets.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn way() -> Way {
        Way {
            bytes_per_s: 1_000_000,
            delay: Duration::from_millis(10),
            loss: 0.0,
            queue_bytes: 5_000,
            then: None,
        }
    }

    #[test]
    fn packets_leave_at_the_rate_and_arrive_after_the_delay() {
        let mut line = Line::new(way(), 1);
        // 1000 bytes take one millisecond.
        assert_eq!(line.admit(0, 1000, 0), Fate::Arrives(11 * MS));
        assert_eq!(line.admit(0, 1000, 0), Fate::Arrives(12 * MS));
        // An empty line does not save up what it did not carry.
        assert_eq!(line.admit(100 * MS, 1000, 0), Fate::Arrives(111 * MS));
    }

    #[test]
    fn the_queue_is_bounded_in_bytes_and_empties_at_the_rate() {
        let mut line = Line::new(way(), 1);
        for _ in 0..5 {
            assert!(matches!(line.admit(0, 1000, 0), Fate::Arrives(_)));
        }
        assert_eq!(line.admit(0, 1000, 0), Fate::Dropped);
        assert_eq!(line.admit(MS, 1001, 0), Fate::Dropped);
        assert_eq!(line.admit(MS, 1000, 0), Fate::Arrives(16 * MS));
    }

    #[test]
    fn the_share_lost_is_the_one_asked_for() {
        let mut line = Line::new(Way { loss: 0.01, queue_bytes: u64::MAX, ..way() }, 7);
        let lost = (0..200_000).filter(|_| line.admit(0, 100, 0) == Fate::Lost).count();
        assert!((1_850..2_150).contains(&lost), "{lost} of 2,000 expected");
    }

    #[test]
    fn the_rate_turns_after_the_bytes_given() {
        let then = Some(Turn { after_bytes: 500, bytes_per_s: 500_000 });
        let mut line = Line::new(Way { then, ..way() }, 1);
        assert_eq!(line.admit(0, 1000, 499), Fate::Arrives(11 * MS));
        assert_eq!(line.admit(100 * MS, 1000, 500), Fate::Arrives(112 * MS));
    }

    #[test]
    fn the_ring_returns_what_was_kept_in_order() {
        let mut ring = Ring::with_bytes(MOST_BYTES * 3);
        let (mut came, mut went) = (0u64, 0u64);
        let mut dice = fastrand::Rng::with_seed(3);
        let mut refused = 0;
        for _ in 0..20_000 {
            let Some(room) = ring.room().filter(|_| dice.bool()) else {
                refused += u32::from(ring.room().is_none());
                if let Some((arrives_ns, bytes)) = ring.front() {
                    assert_eq!(arrives_ns, went);
                    assert!(bytes.iter().all(|&byte| byte == went as u8), "packet {went}");
                    ring.forget_front();
                    went += 1;
                }
                continue;
            };
            let length = dice.usize(1..=MOST_BYTES);
            room[..length].fill(came as u8);
            ring.keep(length, came);
            came += 1;
        }
        assert!(came > 1_000 && refused > 100, "{came} packets, {refused} times no room");
        assert!(came - went <= 3 * MOST_BYTES as u64);
    }
}
