//! Random choices that can be made again: a failing test shows the seed, and
//! `HAUL_SEED` sets it.

use std::hash::{BuildHasher as _, RandomState};

/// How often a test tries its luck: as many tenths of `thorough` as `HAUL_THOROUGH` says, 1 to 10,
/// and one without it.
///
/// # Panics
/// When `HAUL_THOROUGH` is not a number.
#[must_use]
pub fn rounds(thorough: u64) -> u64 {
    let tenths = std::env::var("HAUL_THOROUGH");
    let tenths: u64 = tenths.map_or(1, |it| it.parse().expect("HAUL_THOROUGH is a number"));
    (thorough * tenths.clamp(1, 10)).div_ceil(10)
}

/// A small generator (splitmix64), for choices and not for secrets.
#[derive(Debug, Clone)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// A generator of the seed in `HAUL_SEED`, else of a random one, which is
    /// printed: cargo shows it when the test fails.
    ///
    /// # Panics
    /// When `HAUL_SEED` is not a number.
    #[must_use]
    #[expect(clippy::print_stdout, reason = "cargo shows it where a test fails")]
    pub fn new() -> Self {
        let given = std::env::var("HAUL_SEED").ok();
        let seed = given.map_or_else(
            || RandomState::new().hash_one(0),
            |seed| seed.parse().expect("HAUL_SEED is a number"),
        );
        println!("HAUL_SEED={seed}");
        Self { seed, state: seed }
    }

    /// Another generator for the part of a test with this number. Parts of
    /// equal seed and number choose the same, in whatever order they run.
    #[must_use]
    pub fn part(&self, number: u64) -> Self {
        let mut part = Self { seed: self.seed, state: self.seed ^ number.rotate_left(32) };
        part.next();
        part
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_differ_and_can_be_made_again() {
        let random = Random::new();
        let draw = |number| {
            let mut part = random.part(number);
            (0..8).map(|_| part.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(0), draw(1));
    }
}
