//! The link's own process: a TUN device in each of two namespaces, and a thread for each direction
//! that moves packets between them as its [`Line`] says.
//!
//! `race --link SPEC` says `up` when the devices exist, then answers each line that it reads:
//! `begin` forgets what was counted and undoes a change of address, `report` tells the counts.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::line::{Fate, Line, Ring, Way};
use super::tun;
use crate::Failure;
use crate::namespace::{inside, ip};

/// The server's address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The client's address, and the one it may change to.
const CLIENT: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(10, 77, 0, 3)];
const DEVICE: &str = "haul0";
/// IPv4 and TCP with timestamps; what is beyond counts as payload.
const HEADERS_BYTES: usize = 52;
/// Where IPv4 has the address of the receiver.
const RECEIVER: std::ops::Range<usize> = 16..20;
/// Packets read before those that are due are written.
const BATCH: usize = 64;

/// A link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The server's namespace.
    pub server: String,
    /// The client's namespace.
    pub client: String,
    /// From the server to the client.
    pub down: Way,
    /// From the client to the server.
    pub up: Way,
    /// The client's address changes after so many bytes of payload went down.
    pub readdress_after_bytes: Option<u64>,
}

/// What went down the link since the last `begin`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Bytes of payload that arrived, repetitions included.
    pub carried_bytes: u64,
    /// Packets that arrived.
    pub packets: u64,
    /// Packets lost by chance.
    pub lost: u64,
    /// Packets that found the queue full.
    pub dropped: u64,
    /// The longest time between two packets of payload that reached the client, in milliseconds.
    pub silent_ms: u64,
}

/// Written by the direction's thread alone, but for `begin`, when nothing is under way.
#[derive(Debug, Default)]
struct Counts {
    carried_bytes: AtomicU64,
    packets: AtomicU64,
    lost: AtomicU64,
    dropped: AtomicU64,
    last_ns: AtomicU64,
    silent_ns: AtomicU64,
}

impl Counts {
    fn forget(&self) {
        for count in [
            &self.carried_bytes,
            &self.packets,
            &self.lost,
            &self.dropped,
            &self.last_ns,
            &self.silent_ns,
        ] {
            count.store(0, Relaxed);
        }
    }

    fn report(&self) -> Report {
        Report {
            carried_bytes: self.carried_bytes.load(Relaxed),
            packets: self.packets.load(Relaxed),
            lost: self.lost.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            silent_ms: self.silent_ns.load(Relaxed) / 1_000_000,
        }
    }

    /// Counts a packet as arrived. Payload for an address that the client no longer has carries
    /// nothing to it.
    fn arrived(&self, packet: &[u8], now_ns: u64, client: u32) {
        self.packets.fetch_add(1, Relaxed);
        let payload = packet.len().saturating_sub(HEADERS_BYTES);
        if payload == 0 || receiver(packet) != Some(client) {
            return;
        }
        self.carried_bytes.fetch_add(payload as u64, Relaxed);
        let last_ns = self.last_ns.swap(now_ns, Relaxed);
        if last_ns > 0 {
            self.silent_ns.fetch_max(now_ns - last_ns, Relaxed);
        }
    }
}

fn receiver(packet: &[u8]) -> Option<u32> {
    packet.get(RECEIVER)?.try_into().ok().map(u32::from_be_bytes)
}

/// The client's address, and when it changes.
#[derive(Debug)]
struct Address {
    current: AtomicU32,
    changed: AtomicBool,
    after_bytes: Option<u64>,
}

/// The link's own main: `SPEC`.
///
/// # Errors
///
/// When the arguments are wrong or the devices cannot be made.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let spec = arguments.next().ok_or("usage: race --link SPEC")?;
    let spec: Spec = serde_json::from_str(&spec.to_string_lossy())?;
    let server = Arc::new(inside(&spec.server, || Ok(tun::open(DEVICE)?))?);
    let client = Arc::new(inside(&spec.client, || Ok(tun::open(DEVICE)?))?);
    configure(&spec.server, SERVER)?;
    configure(&spec.client, CLIENT[0])?;

    let counts = Arc::new(Counts::default());
    let address = Arc::new(Address {
        current: AtomicU32::new(CLIENT[0].to_bits()),
        changed: AtomicBool::new(false),
        after_bytes: spec.readdress_after_bytes,
    });
    let (change, changes) = sync_channel(1);
    start(Direction {
        ends: [Arc::clone(&server), Arc::clone(&client)],
        way: spec.down,
        seed: 1,
        counts: Arc::clone(&counts),
        address: Arc::clone(&address),
        change: Some(change),
    });
    start(Direction {
        ends: [client, server],
        way: spec.up,
        seed: 2,
        counts: Arc::default(),
        address: Arc::clone(&address),
        change: None,
    });
    std::thread::spawn({
        let (namespace, address) = (spec.client.clone(), Arc::clone(&address));
        move || readdress(&namespace, &address, &changes)
    });

    let mut output = std::io::stdout().lock();
    writeln!(output, "up")?;
    output.flush()?;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line == "begin" {
            if address.changed.load(Relaxed) {
                assign(&spec.client, CLIENT[0], &address)?;
            }
            counts.forget();
            address.changed.store(false, Relaxed);
            writeln!(output, "ready")?;
        } else {
            writeln!(output, "{}", serde_json::to_string(&counts.report())?)?;
        }
        output.flush()?;
    }
    Ok(())
}

fn configure(namespace: &str, address: Ipv4Addr) -> Result<(), Failure> {
    ip(&format!("-n {namespace} addr add {address}/24 dev {DEVICE}"))?;
    // The device's own queue must never be the one that is full.
    ip(&format!("-n {namespace} link set dev {DEVICE} mtu 1500 txqueuelen 10000 up"))
}

/// Gives the client another address, and with it another route to the server.
fn assign(namespace: &str, to: Ipv4Addr, address: &Address) -> Result<(), Failure> {
    ip(&format!("-n {namespace} addr flush dev {DEVICE}"))?;
    address.current.store(to.to_bits(), Relaxed);
    ip(&format!("-n {namespace} addr add {to}/24 dev {DEVICE}"))
}

fn readdress(namespace: &str, address: &Address, changes: &Receiver<()>) {
    while changes.recv().is_ok() {
        if let Err(error) = assign(namespace, CLIENT[1], address) {
            eprintln!("race: the client's address did not change: {error}");
        }
    }
}

/// What the thread of one direction needs.
struct Direction {
    /// Packets go from the first to the second.
    ends: [Arc<OwnedFd>; 2],
    way: Way,
    seed: u64,
    counts: Arc<Counts>,
    address: Arc<Address>,
    /// Told when it is time for another address.
    change: Option<SyncSender<()>>,
}

fn start(direction: Direction) {
    std::thread::spawn(move || {
        if let Err(error) = direction.carry() {
            eprintln!("race: the link broke: {error}");
            std::process::exit(1);
        }
    });
}

impl Direction {
    fn carry(&self) -> Result<(), Failure> {
        let (mut line, mut ring) = (Line::new(self.way, self.seed), Ring::new(&self.way));
        let started = Instant::now();
        let now = || started.elapsed().as_nanos() as u64;
        loop {
            self.write_due(&mut ring, now());
            // The kernel wakes a thread up to 50 us late. At a gigabit that makes four packets
            // of one wake-up, as the interrupts of network cards do.
            let wait = ring.front().map(|(due_ns, _)| {
                let ns = due_ns.saturating_sub(now());
                Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as _ }
            });
            let mut ready = [PollFd::new(&*self.ends[0], PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut ready, wait.as_ref()))?;
            if ready[0].revents().contains(PollFlags::IN) {
                self.read_batch(&mut line, &mut ring, &now)?;
            }
        }
    }

    fn write_due(&self, ring: &mut Ring, now_ns: u64) {
        while let Some((due_ns, packet)) = ring.front()
            && due_ns <= now_ns
        {
            if rustix::io::write(&*self.ends[1], packet).is_ok() {
                self.counts.arrived(packet, now_ns, self.address.current.load(Relaxed));
                self.change_in_time();
            } else {
                // A device that is down takes nothing; to the sender that is a loss like others.
                self.counts.dropped.fetch_add(1, Relaxed);
            }
            ring.forget_front();
        }
    }

    fn change_in_time(&self) {
        let Some((change, after_bytes)) = self.change.as_ref().zip(self.address.after_bytes) else {
            return;
        };
        if self.counts.carried_bytes.load(Relaxed) >= after_bytes
            && !self.address.changed.swap(true, Relaxed)
        {
            let _ = change.try_send(());
        }
    }

    fn read_batch(
        &self,
        line: &mut Line,
        ring: &mut Ring,
        now: &impl Fn() -> u64,
    ) -> Result<(), Failure> {
        let mut nowhere = [0; super::line::MOST_BYTES];
        for _ in 0..BATCH {
            let room = ring.room();
            let full = room.is_none();
            let length = match rustix::io::read(&*self.ends[0], room.unwrap_or(&mut nowhere)) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Ok(length) => length,
                Err(error) => return Err(format!("cannot read from the device: {error}").into()),
            };
            let carried = self.counts.carried_bytes.load(Relaxed);
            match line.admit(now(), length, carried) {
                Fate::Arrives(_) if full => self.counts.dropped.fetch_add(1, Relaxed),
                Fate::Arrives(at_ns) => {
                    ring.keep(length, at_ns);
                    continue;
                }
                Fate::Lost => self.counts.lost.fetch_add(1, Relaxed),
                Fate::Dropped => self.counts.dropped.fetch_add(1, Relaxed),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(to: Ipv4Addr, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        bytes[RECEIVER].copy_from_slice(&to.octets());
        bytes
    }

    #[test]
    fn only_payload_that_reaches_the_client_ends_its_silence() {
        let (counts, client) = (Counts::default(), CLIENT[1].to_bits());
        counts.arrived(&packet(CLIENT[1], 1052), 1_000_000, client);
        // An acknowledgement and a packet for the address of before.
        counts.arrived(&packet(CLIENT[1], 52), 2_000_000, client);
        counts.arrived(&packet(CLIENT[0], 1052), 3_000_000, client);
        counts.arrived(&packet(CLIENT[1], 1052), 9_000_000, client);
        counts.arrived(&packet(CLIENT[1], 1052), 10_000_000, client);
        let report = counts.report();
        assert_eq!((report.packets, report.carried_bytes, report.silent_ms), (5, 3000, 8));
    }
}
