//! What readers wait for in the beginning, and whose connections it takes.

use super::steered::{asked, cancelled};
use super::*;
use crate::model::concurrency::{Bound, Learned};

const TOTAL: u64 = 640 * SEGMENT;
const RATE: u64 = 2_000_000;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn waits(position: u64) -> Vec<Want> {
    vec![Want { position, waiting: Some(1) }]
}

/// A download whose first response has come after 100 ms, with a reader that
/// waits for the first byte.
fn read_from_the_start(connections: usize) -> Planner {
    let mut planner = planner(connections);
    open_for_reader(&mut planner);
    planner
}

fn open_for_reader(planner: &mut Planner) {
    planner.want(waits(0), Duration::ZERO);
    planner.tick(Duration::ZERO);
    actions(planner);
    let range = ByteRange::new(0, FIRST_RANGE_BYTES);
    planner.on_verdict(1, Verdict::Partial { range, resource: resource(TOTAL, "a") }, ms(100));
    planner.on_opened(SEGMENT, &Restored::default(), ms(100));
}

/// So many bytes a second come over `lease`, from one time to the other.
fn flow(planner: &mut Planner, lease: LeaseId, rate: u64, from_ms: u64, to_ms: u64) {
    for now in (from_ms..to_ms).step_by(10) {
        planner.on_received(lease, rate / 100, ms(now + 10));
        if now % 100 == 0 {
            planner.tick(ms(now + 10));
        }
    }
}

fn fetches(planner: &mut Planner) -> Vec<(LeaseId, ByteRange)> {
    let fetch = |action: Action| match action {
        Action::Fetch { lease, range, .. } => Some((lease, range.expect("a range"))),
        _ => None,
    };
    actions(planner).into_iter().filter_map(fetch).collect()
}

#[test]
fn what_a_reader_waits_for_has_the_line_and_cancels_nothing() {
    let mut planner = read_from_the_start(16);
    assert_eq!(asked(&actions(&mut planner)), [], "the start alone");
    flow(&mut planner, 1, RATE, 100, 200);
    // The index lies at the end, and is one request more.
    let index = TOTAL - 1000;
    planner.want(waits(index), ms(200));
    let actions_then = actions(&mut planner);
    assert_eq!(cancelled(&actions_then), []);
    let start = index / SEGMENT * SEGMENT;
    assert_eq!(asked(&actions_then), [ByteRange::new(start, TOTAL)]);
    flow(&mut planner, 1, RATE, 200, 400);
    let range = ByteRange::new(start, TOTAL);
    planner.on_verdict(2, Verdict::Partial { range, resource: resource(TOTAL, "a") }, ms(400));
    planner.on_received(2, range.len(), ms(400));
    planner.on_ended(2, LeaseEnd::Complete, ms(400));
    // Then the start again, which is on its way.
    planner.want(waits(RATE / 2), ms(400));
    flow(&mut planner, 1, RATE, 400, 500);
    assert_eq!(fetches(&mut planner), []);
    // Nobody waits any more.
    planner.want(vec![Want { position: 0, waiting: None }], ms(500));
    flow(&mut planner, 1, RATE, 500, 1700);
    assert_eq!(fetches(&mut planner).len(), 15);
}

#[test]
fn an_index_longer_than_a_lease_is_fetched_over_several_connections() {
    let mut planner = read_from_the_start(4);
    flow(&mut planner, 1, RATE, 100, 200);
    planner.want(waits(TOTAL - 8 * SEGMENT), ms(200));
    let asked = fetches(&mut planner);
    assert_eq!(
        asked.iter().map(|(_, range)| range.start()).collect::<Vec<_>>(),
        [TOTAL - 8 * SEGMENT, TOTAL - 7 * SEGMENT]
    );
    assert_eq!(planner.active(), 3, "no further ahead");
}

#[test]
fn all_connections_begin_when_the_first_response_is_used_up_silent_or_slow() {
    let mut planner = read_from_the_start(4);
    flow(&mut planner, 1, RATE, 100, 300);
    assert_eq!(fetches(&mut planner), []);
    planner.on_received(1, FIRST_RANGE_BYTES - RATE / 5, ms(300));
    planner.on_ended(1, LeaseEnd::Complete, ms(300));
    assert_eq!(fetches(&mut planner).len(), 4);

    let mut planner = read_from_the_start(4);
    flow(&mut planner, 1, RATE, 100, 300);
    assert_eq!(fetches(&mut planner), []);
    planner.tick(ms(1500));
    // It is silent; of what it was to bring the others take most.
    let asked = fetches(&mut planner);
    assert_eq!((asked.len(), asked[0].1.start()), (3, SEGMENT));
    // It is cut once one of them has come.
    let verdict = Verdict::Partial { range: asked[0].1, resource: resource(TOTAL, "a") };
    planner.on_verdict(asked[0].0, verdict, ms(1600));
    assert!(!actions(&mut planner).iter().any(|it| matches!(it, Action::Drop { .. })));

    let mut planner = read_from_the_start(4);
    flow(&mut planner, 1, RATE / 10, 100, 5200);
    planner.on_shrunk(1, 3 * SEGMENT, ms(5200));
    assert_eq!(planner.active(), 4, "it has been long");
}

#[test]
fn one_more_connection_shows_whether_they_share_a_line() {
    for (beside, shared) in [(RATE / 2, true), (RATE, false)] {
        let mut planner = read_from_the_start(4);
        flow(&mut planner, 1, RATE, 100, 590);
        assert_eq!(fetches(&mut planner), [], "for half a second it is alone");
        flow(&mut planner, 1, RATE, 590, 710);
        let (lease, range) = fetches(&mut planner)[0];
        assert_eq!(range.start(), FIRST_RANGE_BYTES);
        let verdict = Verdict::Partial { range, resource: resource(TOTAL, "a") };
        planner.on_verdict(lease, verdict, ms(710));
        for now in (710..1010).step_by(10) {
            planner.on_received(lease, beside / 100, ms(now));
            flow(&mut planner, 1, beside, now, now + 10);
        }
        assert_eq!(planner.active(), if shared { 2 } else { 4 });
    }
}

#[test]
fn a_server_known_for_slow_connections_is_asked_over_all_of_them() {
    let mut planner = planner(4);
    planner.remember(Learned { connections: 16, why: Bound::Connection });
    open_for_reader(&mut planner);
    assert_eq!(fetches(&mut planner).len(), 3);
}

#[test]
fn a_long_lease_that_a_reader_waits_for_is_shared_with_who_is_free() {
    let mut planner = read_from_the_start(4);
    // Slow and alone, until the beginning is over.
    flow(&mut planner, 1, RATE / 10, 100, 4900);
    actions(&mut planner);
    let position = RATE / 10 * 48 / 10;
    planner.want(waits(position), ms(4900));
    flow(&mut planner, 1, RATE / 10, 4900, 5110);
    let found = actions(&mut planner);
    assert_eq!(asked(&found)[0].start(), SEGMENT, "the segment after the one that it is in");
}

#[test]
fn the_lease_that_readers_come_to_last_makes_room() {
    let mut planner = opened(16, 52 * SEGMENT);
    let leases = fetches(&mut planner);
    assert!(leases.iter().all(|(_, range)| range.len() < FIRST_RANGE_BYTES - 1000), "{leases:?}");
    planner.on_received(1, 1000, ms(100));
    // One reads at the start, which has the most before it; the other one waits
    // for what nobody fetches.
    let parked = Want { position: 0, waiting: None };
    let waiting = Want { position: 52 * SEGMENT - 1, waiting: Some(1) };
    planner.want(vec![parked, waiting], ms(100));
    let victim = cancelled(&actions(&mut planner))[0];
    let range = leases.iter().find(|(lease, _)| *lease == victim).expect("not the start").1;
    assert!(range.start() > 32 * SEGMENT, "{range}");
}

#[test]
fn what_breaks_while_it_is_cancelled_is_no_failure_of_the_server() {
    let mut planner = opened(2, TOTAL);
    actions(&mut planner);
    planner.on_received(1, 1000, ms(100));
    planner.want(waits(TOTAL / 2), ms(100));
    let found = actions(&mut planner);
    let victim = cancelled(&found)[0];
    planner.on_ended(victim, refused(), ms(110));
    let next = fetches(&mut planner);
    assert_eq!(next.len(), 1, "nothing is waited for");
    assert_eq!(next[0].1.start(), TOTAL / 2);
    planner.on_received(1, 1000, ms(500));
    planner.tick(ms(600));
    assert_eq!(planner.limit(), 2, "and nothing is refused");
}
