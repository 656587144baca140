//! What another program left of an object: under which name, what part of it
//! counts, and which parts show that it is the object.
//!
//! Programs that write in order leave a prefix, others a list of pieces. Either way it is
//! a list of ranges, in order and apart from each other.

use super::range::ByteRange;

/// How much is fetched again at a time, in bytes, to be compared.
pub const SAMPLE_BYTES: u64 = 1 << 20;

/// How many samples are compared, unless there are fewer bytes: the first, the last, and
/// one between them.
const SAMPLES: u64 = 3;

/// The name that another program gave the data of an object that haul calls `NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormerName {
    /// `NAME`, as curl and wget have it.
    Output,
    /// `NAME`, as aria2 has it, with `NAME.aria2` beside it.
    Controlled,
    /// `NAME.part`.
    Part,
    /// `NAME.crdownload`, as Chromium has it.
    Chromium,
    /// Firefox puts eight random characters between the stem and the extension of `NAME`,
    /// and `.part` at the end.
    Salted([u8; SALT_BYTES]),
}

/// How many random characters Firefox puts into a name.
pub const SALT_BYTES: usize = 8;

/// Whether Firefox uses this character as a random one.
#[must_use]
pub fn is_salt(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+')
}

/// The file that another program left, as it was when haul took it over: used to
/// recognise it, and to give it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adopted {
    /// Its name.
    pub former: FormerName,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// When it was last written: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
    /// The permissions to read and write it.
    pub mode: u32,
}

/// How much of a segment is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// Not even its beginning.
    Nothing,
    /// This many bytes of it, from its start.
    Beginning(u64),
    /// All of it.
    Whole,
}

/// How much of `segment` is in `have`.
#[must_use]
pub fn cover(have: &[ByteRange], segment: ByteRange) -> Cover {
    let next = have.partition_point(|run| run.end() <= segment.start());
    match have.get(next).filter(|run| run.contains(segment.start())) {
        None => Cover::Nothing,
        Some(run) if run.end() >= segment.end() => Cover::Whole,
        Some(run) => Cover::Beginning(run.end() - segment.start()),
    }
}

/// Which parts of what is there are to be fetched again; `seed` chooses the one between
/// the first and the last. If there is little, all of it.
#[must_use]
pub fn samples(have: &[ByteRange], seed: u64) -> Vec<ByteRange> {
    let all: u64 = have.iter().map(|run| run.len()).sum();
    let few = have.len() as u64 <= SAMPLES;
    let (Some(first), Some(last)) = (have.first(), have.last()) else { return Vec::new() };
    if few && all <= SAMPLES * SAMPLE_BYTES {
        return have.to_vec();
    }
    let begin = ByteRange::new(first.start(), first.end().min(first.start() + SAMPLE_BYTES));
    let end = ByteRange::new(last.start().max(last.end().saturating_sub(SAMPLE_BYTES)), last.end());
    // Counted over the bytes that are there, so that each is as likely as any other.
    let between = begin.len()..all.saturating_sub(end.len()).max(begin.len() + 1);
    let mut at = fastrand::Rng::with_seed(seed).u64(between);
    let another = have.iter().find_map(|run| match run.len() > at {
        true => {
            let start = (run.start() + at).min(run.end() - run.len().min(SAMPLE_BYTES));
            Some(ByteRange::new(start, run.end().min(start + SAMPLE_BYTES)))
        }
        false => {
            at -= run.len();
            None
        }
    });
    [Some(begin), Some(end), another].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end)
    }

    const MIB: u64 = SAMPLE_BYTES;

    #[test]
    fn little_is_compared_as_a_whole() {
        assert_eq!(samples(&[], 1), []);
        assert_eq!(samples(&[run(0, 5)], 1), [run(0, 5)]);
        assert_eq!(samples(&[run(0, 3 * MIB)], 1), [run(0, 3 * MIB)]);
        let pieces = [run(0, MIB), run(4 * MIB, 5 * MIB)];
        assert_eq!(samples(&pieces, 1), pieces);
    }

    #[test]
    fn of_much_the_ends_and_another_part_are_compared() {
        let mut between = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let [first, last, another] = samples(&[run(0, 100 * MIB)], seed)[..] else { panic!() };
            assert_eq!((first, last), (run(0, MIB), run(99 * MIB, 100 * MIB)));
            assert!(another.len() == MIB && another.start() >= MIB, "{another:?}");
            between.insert(another.start());
        }
        assert!(between.len() > 40, "it is chosen at random");
    }

    #[test]
    fn what_of_a_segment_is_there_is_told() {
        let have = [run(10, 20), run(30, 45)];
        for (segment, expected) in [
            (run(0, 10), Cover::Nothing),
            (run(5, 15), Cover::Nothing),
            (run(10, 20), Cover::Whole),
            (run(12, 22), Cover::Beginning(8)),
            (run(20, 30), Cover::Nothing),
            (run(30, 40), Cover::Whole),
            (run(40, 50), Cover::Beginning(5)),
            (run(50, 60), Cover::Nothing),
        ] {
            assert_eq!(cover(&have, segment), expected, "{segment:?}");
        }
    }

    proptest! {
        #[test]
        fn samples_are_of_what_is_there(
            lengths in proptest::collection::vec((1..5 * MIB, 1..3 * MIB), 1..20),
            seed: u64,
        ) {
            let mut at = 0;
            let have: Vec<ByteRange> = lengths
                .iter()
                .map(|(gap, len)| {
                    let start = at + gap;
                    at = start + len;
                    run(start, at)
                })
                .collect();
            let samples = samples(&have, seed);
            prop_assert!(!samples.is_empty() && samples.len() <= 3);
            for sample in &samples {
                let whole = have.contains(sample);
                prop_assert!(!sample.is_empty() && (whole || sample.len() <= MIB));
                prop_assert!(have.iter().any(|run| run.intersection(*sample) == Some(*sample)));
            }
            prop_assert!(samples.iter().any(|it| it.start() == have[0].start()));
            prop_assert!(samples.iter().any(|it| it.end() == at));
        }
    }
}
