//! The map against a naive model: one owner for every byte.

use super::*;
use proptest::prelude::*;

#[test]
fn sizes_are_powers_of_two_and_bounded() {
    assert_eq!(choose_segment_size(0), 256 << 10);
    assert_eq!(choose_segment_size(1), 256 << 10);
    assert_eq!(choose_segment_size(256 << 20), 256 << 10);
    assert_eq!(choose_segment_size((256 << 20) + 1), 512 << 10);
    assert_eq!(choose_segment_size(1 << 30), 1 << 20);
    assert_eq!(choose_segment_size(16_384 << 21), 2 << 20);
    assert_eq!(choose_segment_size((16_384 << 21) + 1), 4 << 20);
    let huge = choose_segment_size(i64::MAX as u64);
    assert!((i64::MAX as u64).div_ceil(huge) <= MAX_SEGMENTS);
}

#[test]
fn what_was_bad_is_fetched_apart_until_it_is_here() {
    let mut map = SegmentMap::new(60, 10);
    map.lease(ByteRange::new(0, 40), 1);
    map.received(1, 0, 40);
    (0..4).for_each(|index| map.complete(index));
    map.forget(3);
    assert_eq!(map.next_run(60), Some(ByteRange::new(30, 40)), "the end was never bad");
    assert_eq!(map.run_at(4, 60), Some(ByteRange::new(40, 60)));
    map.forget(2);
    assert_eq!(map.next_run(60), Some(ByteRange::new(20, 40)));
    map.complete(2);
    map.complete(3);
    assert_eq!(map.next_run(60), Some(ByteRange::new(40, 60)));
}

proptest! {
    /// Random leases, partial receipts and releases; the naive model is one
    /// owner and one stored flag for every byte.
    #[test]
    fn every_byte_has_one_owner(
        total in 1u64..200,
        segment in 1u64..40,
        steps in prop::collection::vec((0u8..4, 0usize..6, 1u64..60), 1..120),
    ) {
        let mut map = SegmentMap::new(total, segment);
        let mut stored = vec![false; total as usize];
        let mut leases: Vec<(LeaseId, ByteRange, u64)> = Vec::new();
        let mut next = 1;
        for (what, which, amount) in steps {
            match what {
                0 => if let Some(run) = map.next_run(amount) {
                    for (_, range, position) in &leases {
                        let owned = ByteRange::new(*position, range.end());
                        prop_assert!(owned.is_empty() || owned.intersection(run).is_none());
                    }
                    prop_assert!(!stored[run.start() as usize..run.end() as usize].contains(&true));
                    map.lease(run, next);
                    leases.push((next, run, run.start()));
                    next += 1;
                },
                1 | 2 if !leases.is_empty() => {
                    let slot = which % leases.len();
                    let (id, range, position) = leases[slot];
                    let to = (position + amount).min(range.end());
                    for flag in &mut stored[position as usize..to as usize] {
                        prop_assert!(!*flag, "a byte is stored twice");
                        *flag = true;
                    }
                    map.received(id, position, to);
                    leases[slot].2 = to;
                    if to == range.end() {
                        map.release(id, range, to);
                        leases.swap_remove(slot);
                    }
                }
                3 if !leases.is_empty() => {
                    let (id, range, position) = leases.swap_remove(which % leases.len());
                    map.release(id, range, position);
                }
                _ => {}
            }
            for index in 0..map.count() {
                if map.state(index) == SegmentState::Written {
                    map.complete(index);
                }
            }
            let owned: u64 = leases.iter().map(|(_, range, position)| range.end() - position).sum();
            let held = stored.iter().filter(|flag| **flag).count() as u64;
            prop_assert_eq!(map.missing_bytes() + owned + held, total);
            prop_assert_eq!(map.is_complete(), held == total);
        }
    }
}
