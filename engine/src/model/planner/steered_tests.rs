//! Pausing, other numbers of connections, and readers that seek.

use super::*;

#[test]
fn every_byte_is_fetched_once_however_it_is_steered() {
    for seed in 0..2000 {
        let mut sim = Sim::new(seed, seed % 3 != 0);
        let mut steps = 0;
        while !sim.crew.is_over() {
            sim.step();
            steps += 1;
            assert!(sim.crew.now < Duration::from_secs(3600), "no end: {:?}", sim.crew.planner);
            // In the end it is left alone, so that there is one.
            let dice = if steps > 2000 { 255 } else { sim.random.u8(..) };
            let now = sim.crew.now;
            match dice {
                0..4 => sim.crew.planner.pause(now),
                4..12 => sim.crew.planner.resume(now),
                12..16 => {
                    let count = sim.random.usize(1..12);
                    sim.crew.planner.set_connections(Connections::Fixed(count), now);
                }
                16..60 => {
                    let wants = (0..sim.random.u64(0..4)).map(|number| Want {
                        position: sim.random.u64(0..sim.crew.total + SEGMENT),
                        waiting: sim.random.bool().then_some(number),
                    });
                    let wants = wants.collect();
                    sim.crew.planner.want(wants, now);
                }
                255 if steps > 2000 => sim.crew.planner.resume(now),
                _ => {}
            }
            sim.carry_out();
        }
        assert_eq!(sim.crew.failed, None, "seed {seed}");
        assert!(sim.crew.all_is_here(), "seed {seed}");
        assert!(sim.crew.fetches.is_empty(), "seed {seed}: a fetch outlived the download");
    }
}

/// The ranges that are asked for.
pub(super) fn asked(actions: &[Action]) -> Vec<ByteRange> {
    let range = |action: &Action| match action {
        Action::Fetch { range, .. } => *range,
        _ => None,
    };
    actions.iter().filter_map(range).collect()
}

pub(super) fn cancelled(actions: &[Action]) -> Vec<LeaseId> {
    let lease = |action: &Action| match action {
        Action::Cancel { lease } => Some(*lease),
        _ => None,
    };
    actions.iter().filter_map(lease).collect()
}

#[test]
fn paused_nothing_is_asked_for_and_what_was_brought_is_kept() {
    let mut planner = opened(4, 64 * SEGMENT);
    let at = Duration::from_secs;
    assert_eq!(asked(&actions(&mut planner)).len(), 3);
    planner.on_received(1, SEGMENT / 2, at(1));
    planner.pause(at(1));
    let mut leases = cancelled(&actions(&mut planner));
    leases.sort_unstable();
    assert_eq!(leases, [1, 2, 3, 4]);
    for lease in leases {
        // Connections break as well while they are given up.
        let failure = Failure::new(ErrorKind::Network, "reset");
        planner.on_ended(lease, LeaseEnd::Failed { failure, refused: true }, at(1));
    }
    for second in 2..100 {
        planner.tick(at(second));
        assert_eq!(actions(&mut planner), []);
    }
    planner.resume(at(100));
    let asked = asked(&actions(&mut planner));
    assert_eq!(asked.len(), 4);
    assert_eq!(asked[0].start(), SEGMENT / 2);
}

#[test]
fn fewer_connections_end_the_surplus_and_more_are_used_at_once() {
    let mut planner = opened(4, 64 * SEGMENT);
    actions(&mut planner);
    let now = Duration::from_secs(1);
    planner.set_connections(Connections::Fixed(1), now);
    assert_eq!(cancelled(&actions(&mut planner)), [2, 3, 4]);
    for lease in [2, 3, 4] {
        planner.on_ended(lease, LeaseEnd::Dropped, now);
    }
    assert_eq!(actions(&mut planner), []);
    planner.set_connections(Connections::Fixed(6), now);
    assert_eq!(asked(&actions(&mut planner)).len(), 5);
}

#[test]
fn a_reader_that_waits_takes_a_connection_and_its_segment_is_asked_for_next() {
    let mut planner = opened(2, 640 * SEGMENT);
    actions(&mut planner);
    let now = Duration::from_secs(1);
    planner.on_received(1, SEGMENT / 2, now);
    planner.want(vec![Want { position: 500 * SEGMENT + 7, waiting: Some(1) }], now);
    let victims = cancelled(&actions(&mut planner));
    assert_eq!(victims.len(), 1, "both connections were busy");
    planner.on_ended(victims[0], LeaseEnd::Dropped, now);
    let asked = asked(&actions(&mut planner));
    assert_eq!(asked.iter().map(|range| range.start()).collect::<Vec<_>>(), [500 * SEGMENT]);
    // It is being fetched: no other connection is taken.
    for tenth in 11..30 {
        planner.tick(Duration::from_millis(tenth * 100));
    }
    assert_eq!(cancelled(&actions(&mut planner)), []);
}

#[test]
fn a_reader_takes_the_only_connection_from_the_first_response() {
    let mut planner = opened(1, 640 * SEGMENT);
    actions(&mut planner);
    let now = Duration::from_secs(1);
    planner.on_received(1, SEGMENT / 2, now);
    for position in [500 * SEGMENT + 7, 9 * SEGMENT] {
        let lease = planner.leases.next_id() - 1;
        planner.want(vec![Want { position, waiting: Some(1) }], now);
        assert_eq!(cancelled(&actions(&mut planner)), [lease]);
        planner.on_ended(lease, LeaseEnd::Dropped, now);
        let next = asked(&actions(&mut planner));
        let starts: Vec<u64> = next.iter().map(|range| range.start()).collect();
        assert_eq!(starts, [position / SEGMENT * SEGMENT]);
        let verdict = Verdict::Partial { range: next[0], resource: resource(640 * SEGMENT, "a") };
        planner.on_verdict(lease + 1, verdict, now);
    }
}

#[test]
fn a_lease_that_would_come_to_it_late_gives_it_away() {
    // One slow lease holds all that the reader wants.
    let mut planner = opened(1, 64 * SEGMENT);
    actions(&mut planner);
    let at = Duration::from_millis;
    planner.on_received(1, FIRST_RANGE_BYTES, at(100));
    planner.on_ended(1, LeaseEnd::Complete, at(100));
    let lease = asked(&actions(&mut planner));
    assert!(lease[0].len() > 8 * SEGMENT, "{lease:?}");
    let verdict = Verdict::Partial { range: lease[0], resource: resource(64 * SEGMENT, "a") };
    planner.on_verdict(2, verdict, at(150));
    planner.on_received(2, 1000, at(200));
    let position = lease[0].end() - 1;
    planner.want(vec![Want { position, waiting: Some(0) }], at(250));
    assert_eq!(cancelled(&actions(&mut planner)), [2]);
    planner.on_ended(2, LeaseEnd::Dropped, at(250));
    let next = asked(&actions(&mut planner));
    assert_eq!(next[0].start(), position / SEGMENT * SEGMENT);
    // Where a connection is free, it only gives the tail away.
    let mut planner = opened(1, 64 * SEGMENT);
    actions(&mut planner);
    planner.on_received(1, 1000, at(100));
    planner.set_connections(Connections::Fixed(2), at(100));
    planner.pause(at(100));
    planner.resume(at(100));
    planner.want(vec![Want { position: 3 * SEGMENT, waiting: Some(0) }], at(100));
    planner.on_ended(1, LeaseEnd::Dropped, at(100));
    assert!(asked(&actions(&mut planner)).iter().any(|range| range.start() == 3 * SEGMENT));
}

#[test]
fn what_is_silent_since_the_network_changed_is_asked_for_anew() {
    for delivers in [false, true] {
        let mut planner = opened(1, 64 * SEGMENT);
        let at = Duration::from_millis;
        planner.on_received(1, SEGMENT / 2, at(1000));
        planner.on_path_changed(at(1010));
        if delivers {
            planner.on_received(1, 1, at(1100));
        }
        planner.tick(at(1400));
        assert_eq!(cancelled(&actions(&mut planner)), [], "it may still deliver");
        planner.tick(at(1600));
        assert_eq!(cancelled(&actions(&mut planner)).len(), usize::from(!delivers));
        if !delivers {
            planner.on_ended(1, LeaseEnd::Dropped, at(1600));
            let anew = asked(&actions(&mut planner));
            assert_eq!(anew.iter().map(|range| range.start()).collect::<Vec<_>>(), [SEGMENT / 2]);
        }
    }
}

#[test]
fn a_changed_network_ends_the_wait_after_failures() {
    let mut planner = opened(1, 64 * SEGMENT);
    let at = Duration::from_millis;
    planner.on_received(1, SEGMENT / 2, at(1000));
    let mut failing = Some(1);
    while let Some(lease) = failing {
        let failure = Failure::new(ErrorKind::Network, "reset");
        planner.on_ended(lease, LeaseEnd::Failed { failure, refused: false }, at(1000));
        failing = actions(&mut planner).into_iter().find_map(|action| match action {
            Action::Fetch { lease, .. } => Some(lease),
            _ => None,
        });
    }
    planner.tick(at(1010));
    assert_eq!(asked(&actions(&mut planner)), [], "it waits");
    planner.on_path_changed(at(1020));
    assert_eq!(asked(&actions(&mut planner)).len(), 1);
}
