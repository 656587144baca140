//! What one download passes on to the next about a server.

use std::time::Duration;

use super::climb::START;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What an earlier download has shown of a server: a first guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// How many connections were worth having, 1 to 64.
    pub connections: usize,
    /// Why no more of them.
    pub why: Bound,
}

/// Why there are no more connections, without figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Each connection is slow, and no more than this are used.
    Connection,
    /// More of them brought no more speed.
    Link,
    /// The server refuses more, and did so again when it was asked once more.
    Server,
}

impl Learned {
    /// What is still believed after `age`: a refusal holds for a day, and any other number
    /// returns halfway to the usual start each day.
    #[must_use]
    pub fn aged(self, age: Duration) -> Option<Self> {
        let days = age.as_secs_f64() / DAY.as_secs_f64();
        if self.why == Bound::Server {
            return (age < DAY).then_some(self);
        }
        let start = START as f64;
        let connections = start + (self.connections as f64 - start) * 0.5f64.powf(days);
        Some(Self { connections: connections.round().max(1.0) as usize, ..self })
    }
}
