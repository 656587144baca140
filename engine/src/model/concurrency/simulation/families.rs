//! Kinds of servers, and random ones of each.

use super::{MIB, SEGMENT, Server};

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Family {
    Link,
    Fat,
    Bbr,
    Rate,
    Cap,
    Loss,
    Requests,
    Connections,
    Seek,
    Police,
    Change,
    Cross,
    Wifi,
    Small,
}

/// All of them.
pub const FAMILIES: [Family; 14] = [
    Family::Link,
    Family::Fat,
    Family::Bbr,
    Family::Rate,
    Family::Cap,
    Family::Loss,
    Family::Requests,
    Family::Connections,
    Family::Seek,
    Family::Police,
    Family::Change,
    Family::Cross,
    Family::Wifi,
    Family::Small,
];

impl Family {
    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Fat => "fat",
            Self::Bbr => "bbr",
            Self::Rate => "rate",
            Self::Cap => "cap",
            Self::Loss => "loss",
            Self::Requests => "req",
            Self::Connections => "conn",
            Self::Seek => "seek",
            Self::Police => "police",
            Self::Change => "change",
            Self::Cross => "cross",
            Self::Wifi => "wifi",
            Self::Small => "small",
        }
    }

    /// A server of this kind.
    #[must_use]
    pub fn draw(self, random: &mut fastrand::Rng) -> Server {
        let mut draw = Draw(random);
        let mut it = draw.ordinary();
        match self {
            Self::Link | Self::Small => {}
            Self::Fat => {
                it.round_trip_s = draw.even(0.08, 0.25);
                it.capacity = draw.log(10e6, 250e6);
            }
            Self::Bbr => (it.bbr, it.loss) = (true, draw.log(1e-5, 1e-2)),
            Self::Rate => {
                it.response_rate = draw.log(2e5, 4e6);
                it.loss = draw.log(1e-7, 1e-3);
            }
            Self::Cap => {
                it.cap = draw.log(3e5, 8e6);
                it.spread = draw.even(0.0, 0.2);
                it.loss = draw.log(1e-7, 1e-3);
            }
            Self::Loss => {
                it.loss = draw.log(1e-4, 2e-2);
                it.round_trip_s = draw.log(0.03, 0.2);
                it.capacity = draw.log(10e6, 120e6);
            }
            Self::Requests => {
                it.requests = (draw.of(&[2.0, 5.0, 10.0]), draw.of(&[0.0, 3.0, 5.0, 10.0, 20.0]));
                it.cap = draw.perhaps_capped();
            }
            Self::Connections => {
                it.connections = draw.0.u32(1..13).into();
                it.resets = draw.0.f64() < 0.3;
                it.cap = draw.perhaps_capped();
            }
            Self::Seek => (it.seek, it.disk) = (draw.log(0.01, 0.3), it.capacity),
            Self::Police => {
                it.police = (it.capacity * draw.even(0.1, 0.6), it.capacity * draw.even(0.1, 1.0));
            }
            Self::Change => {
                let factor = draw.log(0.2, 5.0);
                it.change = (draw.even(1.0, 8.0), factor);
                if draw.0.f64() < 0.5 {
                    it.cap = it.capacity / draw.even(2.0, 14.0);
                }
            }
            Self::Cross => it.cross = draw.0.u32(1..9).into(),
            Self::Wifi => {
                it.noise = draw.even(0.15, 0.4);
                it.stalls = draw.even(0.2, 2.0);
                it.capacity = draw.log(2e6, 60e6);
            }
        }
        it.buffer_bytes = (it.capacity * it.round_trip_s * draw.even(0.3, 2.0)).max(65536.0);
        let seconds = if self == Self::Small { draw.log(0.1, 2.0) } else { draw.log(2.0, 40.0) };
        it.size_bytes = (self.best(&it) * seconds).clamp(8.0 * MIB, 4096.0 * MIB);
        it
    }

    /// The ceiling of what is compared.
    #[must_use]
    pub fn most(self) -> usize {
        if self == Self::Loss { 64 } else { 16 }
    }

    /// About what it brings at best, in bytes a second.
    fn best(self, it: &Server) -> f64 {
        let connections = match self {
            Self::Rate | Self::Cap => 16.0,
            Self::Requests => 8.0,
            Self::Connections => it.connections,
            _ => f64::INFINITY,
        };
        let lossy = match self {
            Self::Loss => 40.0 * 1.22 * SEGMENT / it.round_trip_s / it.loss.sqrt(),
            _ => f64::INFINITY,
        };
        let capped = (connections * it.cap).min(connections * it.response_rate);
        it.capacity.min(capped).min(it.police.0).min(lossy)
    }
}

struct Draw<'a>(&'a mut fastrand::Rng);

impl Draw<'_> {
    fn even(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.0.f64()
    }

    /// Evenly in the logarithm.
    fn log(&mut self, from: f64, to: f64) -> f64 {
        self.even(from.ln(), to.ln()).exp()
    }

    fn of(&mut self, values: &[f64]) -> f64 {
        values[self.0.usize(..values.len())]
    }

    fn perhaps_capped(&mut self) -> f64 {
        if self.0.f64() < 0.5 { self.log(5e5, 2e7) } else { f64::INFINITY }
    }

    fn ordinary(&mut self) -> Server {
        Server {
            size_bytes: 0.0,
            capacity: self.log(3e6, 120e6),
            change: (f64::INFINITY, 1.0),
            noise: 0.04,
            stalls: 0.0,
            cross: 0.0,
            round_trip_s: self.log(0.005, 0.12),
            latency_s: self.log(0.002, 0.06),
            buffer_bytes: 0.0,
            loss: self.log(1e-7, 2e-6),
            bbr: false,
            window_bytes: self.even(3e6, 6e6),
            cap: f64::INFINITY,
            spread: 0.0,
            response_rate: f64::INFINITY,
            police: (f64::INFINITY, f64::INFINITY),
            requests: (f64::INFINITY, f64::INFINITY),
            connections: f64::INFINITY,
            resets: false,
            disk: f64::INFINITY,
            seek: 0.0,
        }
    }
}

/// A random number of the normal distribution.
pub(super) fn normal(random: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}
