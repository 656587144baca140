//! The scenarios on links: what is fetched, over which link, from a server with which manners, and
//! the least time that these allow.

use std::time::Duration;

use clap::ValueEnum;

use crate::size::{GIB, MIB};

/// What is left of a link's rate for the bytes of an object, after headers.
const PAYLOAD: f64 = 0.955;
/// The connections that count where each is capped and nothing limits how many there are.
const CONNECTIONS: u64 = 16;
/// Of the scenarios with a list.
pub const FILES: u32 = 300;
/// Each of them, in bytes.
pub const FILE_BYTES: u64 = 64 * 1024;

/// haul's name after `--clients`, with nothing learnt.
pub const HAUL: &str = "haul";
/// haul's second name after `--clients`, with what the first run learned.
pub const AGAIN: &str = "again";

/// The congestion control of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Congestion {
    /// What most servers have.
    Cubic,
    /// By the measured rate; it does not take every loss for congestion.
    Bbr,
}

impl Congestion {
    /// As the kernel calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

/// The path between client and server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Path {
    /// Both in one namespace: only the server's manners limit.
    Loopback,
    /// A link.
    Link {
        /// In both directions.
        mbit_per_s: u64,
        /// There and back, in milliseconds, without any queue.
        rtt_ms: u64,
        /// Of packets to the client.
        loss_percent: f64,
    },
}

/// What is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One object of so many bytes.
    Object(u64),
    /// [`FILES`] files of [`FILE_BYTES`] from a list.
    List,
}

impl Work {
    /// Of all files together.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::Object(bytes) => bytes,
            Self::List => u64::from(FILES) * FILE_BYTES,
        }
    }
}

/// What happens when half of the bytes have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Midway {
    /// Nothing.
    Nothing,
    /// The link's rate falls to a third.
    Slower,
    /// The client gets another address; connections of the old one are dead without a word.
    Readdressed,
}

/// Which scheme and protocol the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 over TLS, or HTTP/1.1 for those who want that.
    Http2,
}

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The name as typed.
    pub name: &'static str,
    /// One line of explanation.
    pub about: &'static str,
    /// What is fetched.
    pub work: Work,
    /// Over what.
    pub path: Path,
    /// How.
    pub protocol: Protocol,
    /// The server's manners, as nginx is told them.
    pub manners: &'static str,
    /// The most that the manners give to all connections together, in bytes a second.
    pub served_bytes_per_s: Option<u64>,
    /// Whether the server refuses: everybody is told to bear that, as far as it can be told.
    pub refuses: bool,
    /// The server's, where the command line's does not hold.
    pub congestion: Option<Congestion>,
    /// What happens at half.
    pub midway: Midway,
}

const fn http(name: &'static str, about: &'static str, mib: u64, path: Path) -> Link {
    Link {
        name,
        about,
        work: Work::Object(mib * MIB),
        path,
        protocol: Protocol::Http,
        manners: "",
        served_bytes_per_s: None,
        refuses: false,
        congestion: None,
        midway: Midway::Nothing,
    }
}

const fn clean(mbit_per_s: u64, rtt_ms: u64) -> Path {
    Path::Link { mbit_per_s, rtt_ms, loss_percent: 0.0 }
}

const fn lossy(mbit_per_s: u64, rtt_ms: u64, loss_percent: f64) -> Path {
    Path::Link { mbit_per_s, rtt_ms, loss_percent }
}

/// All of them.
pub const LINKS: [Link; 21] = [
    http("home100", "96 MiB at 100 Mbit/s, 20 ms", 96, clean(100, 20)),
    http("fast1g80", "256 MiB at 1 Gbit/s, 80 ms", 256, clean(1000, 80)),
    http("wifi50", "48 MiB at 50 Mbit/s, 30 ms, 1 % lost", 48, lossy(50, 30, 1.0)),
    http("lossy300", "64 MiB at 300 Mbit/s, 100 ms, 1 % lost", 64, lossy(300, 100, 1.0)),
    Link {
        congestion: Some(Congestion::Bbr),
        ..http(
            "lossy300bbr",
            "64 MiB from a server with BBR, 300 Mbit/s, 100 ms, 1 % lost",
            64,
            lossy(300, 100, 1.0),
        )
    },
    http("far200", "96 MiB at 200 Mbit/s, 150 ms, 0.1 % lost", 96, lossy(200, 150, 0.1)),
    Link {
        manners: "limit_rate 4m;",
        served_bytes_per_s: Some(CONNECTIONS * 4 * MIB),
        ..http("cap4m", "128 MiB, each connection 4 MiB/s, 40 ms", 128, clean(1000, 40))
    },
    Link {
        protocol: Protocol::Https,
        manners: "limit_rate 512k;",
        served_bytes_per_s: Some(CONNECTIONS * MIB / 2),
        ..http("cap512k_tls", "24 MiB over TLS, each 512 KiB/s, 60 ms", 24, clean(500, 60))
    },
    Link {
        manners: "limit_rate 4m;",
        served_bytes_per_s: Some(CONNECTIONS * 4 * MIB),
        ..http("cap4m_near", "300 MiB over loopback, each 4 MiB/s", 300, Path::Loopback)
    },
    Link {
        manners: "limit_rate 4m; limit_conn addr 4;",
        served_bytes_per_s: Some(4 * 4 * MIB),
        refuses: true,
        ..http("conn4", "64 MiB, 4 connections of 4 MiB/s, else 503", 64, clean(1000, 40))
    },
    Link {
        manners: "limit_rate 4m; limit_conn addr 2; limit_conn_status 444;",
        served_bytes_per_s: Some(2 * 4 * MIB),
        refuses: true,
        ..http("conn2", "32 MiB, 2 connections of 4 MiB/s, else a reset", 32, clean(1000, 40))
    },
    Link {
        manners: "limit_rate 2m; limit_req zone=requests burst=5 nodelay;",
        // As many as may begin at once.
        served_bytes_per_s: Some(5 * 2 * MIB),
        refuses: true,
        ..http("req5", "48 MiB, 5 requests a second, each 2 MiB/s", 48, clean(1000, 40))
    },
    Link {
        work: Work::Object(10 * 1024),
        ..http("tiny80", "10 KiB at 100 Mbit/s, 80 ms", 0, clean(100, 80))
    },
    Link {
        work: Work::Object(10 * 1024),
        protocol: Protocol::Https,
        ..http("tiny80tls", "10 KiB over TLS at 100 Mbit/s, 80 ms", 0, clean(100, 80))
    },
    Link {
        protocol: Protocol::Https,
        ..http("mid80tls", "4 MiB over TLS at 200 Mbit/s, 80 ms", 4, clean(200, 80))
    },
    Link {
        work: Work::List,
        ..http("small80", "300 files of 64 KiB at 200 Mbit/s, 80 ms", 0, clean(200, 80))
    },
    Link {
        work: Work::List,
        protocol: Protocol::Http2,
        ..http(
            "small80h2",
            "300 files of 64 KiB, 200 Mbit/s, 80 ms, HTTP/2 offered",
            0,
            clean(200, 80),
        )
    },
    Link {
        midway: Midway::Slower,
        ..http("falls100", "64 MiB, 100 Mbit/s falls to 33 midway, 20 ms", 64, clean(100, 20))
    },
    Link {
        midway: Midway::Readdressed,
        ..http("moves100", "64 MiB at 100 Mbit/s, another address midway", 64, clean(100, 20))
    },
    http("waste100", "16 MiB at 100 Mbit/s, 20 ms: bytes sent in all", 16, clean(100, 20)),
    http("clean1g", "1 GiB at 1 Gbit/s, 5 ms", GIB / MIB, clean(1000, 5)),
];

impl Link {
    /// The scenario of this name.
    ///
    /// # Errors
    ///
    /// A sentence that quotes the name and has all that exist.
    pub fn named(name: &str) -> Result<Self, String> {
        LINKS.into_iter().find(|link| link.name == name).ok_or_else(|| {
            let names = LINKS.map(|link| link.name).join(", ");
            format!("`{name}` is no scenario on a link (write one of {names})")
        })
    }

    /// Whether it goes over TLS.
    #[must_use]
    pub fn tls(&self) -> bool {
        self.protocol != Protocol::Http
    }

    /// Whether packets get lost.
    #[must_use]
    pub fn loses(&self) -> bool {
        matches!(self.path, Path::Link { loss_percent, .. } if loss_percent > 0.0)
    }

    /// The least time: the bytes at the rate of the link or of the server, whichever is less, and
    /// the round trips of a handshake, of TLS, and of a request.
    #[must_use]
    pub fn ideal(&self) -> Duration {
        let bytes = self.work.bytes() as f64;
        let (link, round_trip) = match self.path {
            Path::Loopback => (f64::INFINITY, Duration::ZERO),
            Path::Link { mbit_per_s, rtt_ms, .. } => {
                (mbit_per_s as f64 * 1e6 / 8.0 * PAYLOAD, Duration::from_millis(rtt_ms))
            }
        };
        let served = self.served_bytes_per_s.map_or(f64::INFINITY, |rate| rate as f64);
        let seconds = match self.midway {
            Midway::Slower => bytes / 2.0 / link.min(served) + bytes / 2.0 / (link / 3.0),
            _ => bytes / link.min(served),
        };
        round_trip * if self.tls() { 3 } else { 2 } + Duration::from_secs_f64(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ideal(name: &str) -> f64 {
        Link::named(name).expect(name).ideal().as_secs_f64()
    }

    fn near(name: &str, seconds: f64) {
        assert!((ideal(name) - seconds).abs() < 0.005, "{name}: {}", ideal(name));
    }

    #[test]
    fn the_ideal_is_that_of_the_narrowest_part() {
        near("home100", 96.0 * 1.048_576 / 11.9375 + 0.04);
        near("cap4m", 2.0 + 0.08);
        near("cap512k_tls", 3.0 + 0.18);
        near("cap4m_near", 300.0 / 64.0);
        near("conn4", 4.0 + 0.08);
        near("falls100", 64.0 * 1.048_576 / 11.9375 * 2.0 + 0.04);
        near("small80h2", 300.0 * 0.065_536 / 23.875 + 0.24);
    }

    #[test]
    fn names_are_unique_and_an_unknown_one_is_quoted() {
        let mut names = LINKS.map(|link| link.name);
        names.sort_unstable();
        assert!(names.windows(2).all(|two| two[0] != two[1]), "{names:?}");
        let error = Link::named("home10").expect_err("none");
        assert!(error.contains("`home10`") && error.contains("home100"), "{error}");
    }
}
