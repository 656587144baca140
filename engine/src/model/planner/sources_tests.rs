//! Several sources: by speed together, one after another without a digest, and
//! what becomes of bad ones.

use std::collections::BTreeMap;

use super::action::PlaceId;
use super::*;
use crate::model::config::{Connections, RetryPolicy};
use crate::model::error::ErrorKind;
use crate::model::response::Verdict;
use crate::model::validator::{EntityTag, Validator};

const SEGMENT: u64 = 1 << 20;
const TOTAL: u64 = 512 * SEGMENT;

fn resource(tag: &str) -> Resource {
    let etag = EntityTag { weak: false, opaque: tag.into() };
    Resource {
        total: Some(TOTAL),
        validator: Validator { etag: Some(etag), last_modified: None },
        ranges: true,
        encoding: None,
        content_type: None,
        content_disposition: None,
    }
}

/// What a source does with requests.
#[derive(Clone, Copy)]
enum Server {
    /// Sends so many bytes a second over each connection.
    Sends(f64),
    /// Shares so many among its connections.
    Shares(f64),
    Answers(u16),
    Refuses,
    /// Sends fast, but segments of this many are bad.
    Lies(usize),
}

struct World {
    planner: Planner,
    servers: Vec<Server>,
    fetches: BTreeMap<LeaseId, (SourceId, ByteRange, u64, bool)>,
    now: Duration,
    brought: Vec<u64>,
    stored: Vec<Option<SourceId>>,
    lost: Vec<(SourceId, bool)>,
    resets: u32,
    most_at_once: BTreeMap<SourceId, usize>,
    most_at_a_place: BTreeMap<PlaceId, usize>,
    resolved: Vec<SourceId>,
    finished: bool,
    failed: Option<Failure>,
}

impl World {
    fn new(connections: usize, servers: &[Server], together: bool) -> Self {
        let mut planner = Planner::new(Settings {
            connections: Connections::Fixed(connections),
            stall_timeout: Duration::from_secs(5),
            retry: RetryPolicy { max_attempts: 3, ..RetryPolicy::default() },
            first_byte_timeout: Duration::from_secs(300),
            first_range_bytes: 4 << 20,
            min_split_bytes: 0,
            speed_limited: false,
            ranges_only: false,
            refreshes: false,
            seed: 7,
        });
        planner.add_sources(servers.len() - 1);
        if together {
            planner.use_together();
        }
        Self {
            planner,
            servers: servers.to_vec(),
            fetches: BTreeMap::new(),
            now: Duration::ZERO,
            brought: vec![0; servers.len()],
            stored: vec![None; (TOTAL / SEGMENT) as usize],
            lost: Vec::new(),
            resets: 0,
            most_at_once: BTreeMap::new(),
            most_at_a_place: BTreeMap::new(),
            resolved: Vec::new(),
            finished: false,
            failed: None,
        }
    }

    fn run(&mut self) {
        while !self.finished && self.failed.is_none() {
            self.step();
        }
    }

    fn step(&mut self) {
        let step = Duration::from_millis(20);
        self.planner.tick(self.now);
        self.carry_out();
        self.now += step;
        assert!(self.now < Duration::from_secs(1200), "no end: {:?}", self.planner);
        let mut sharers = BTreeMap::<SourceId, usize>::new();
        for (source, _, _, storing) in self.fetches.values() {
            *sharers.entry(*source).or_default() += usize::from(*storing);
        }
        for id in self.fetches.keys().copied().collect::<Vec<_>>() {
            let Some((source, range, position, true)) = self.fetches.get(&id).copied() else {
                continue;
            };
            let rate = match self.servers[source] {
                Server::Sends(rate) => rate,
                Server::Shares(rate) => rate / sharers[&source] as f64,
                _ => 50e6,
            };
            let bytes = ((rate * step.as_secs_f64()) as u64).min(range.end() - position);
            self.receive(id, source, position, bytes);
            if position + bytes == range.end() {
                self.fetches.remove(&id);
                self.planner.on_ended(id, LeaseEnd::Complete, self.now);
            }
        }
        self.carry_out();
    }

    fn receive(&mut self, id: LeaseId, source: SourceId, from: u64, bytes: u64) {
        self.brought[source] += bytes;
        self.planner.on_received(id, bytes, self.now);
        if let Some(fetch) = self.fetches.get_mut(&id) {
            fetch.2 = from + bytes;
        }
        for index in from / SEGMENT..(from + bytes) / SEGMENT {
            let index = index as usize;
            self.stored[index] = Some(source);
            if matches!(self.servers[source], Server::Lies(every) if index.is_multiple_of(every)) {
                let failure = Failure::new(ErrorKind::DigestMismatch, "wrong bytes");
                self.planner.on_bad_segments(index..index + 1, &failure, self.now);
            } else {
                self.planner.on_stored(index, self.now);
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.planner.poll_action() {
            match action {
                Action::Fetch { lease, source, range, .. } => {
                    // Without a range too, once a range was refused.
                    let range = range.unwrap_or(ByteRange::open(0));
                    let range = ByteRange::new(range.start(), range.end().min(TOTAL));
                    self.fetches.insert(lease, (source, range, range.start(), false));
                    let now = self.fetches.values().filter(|fetch| fetch.0 == source).count();
                    let most = self.most_at_once.entry(source).or_default();
                    *most = now.max(*most);
                    for place in self.planner.leases.values().map(|lease| lease.place) {
                        let here = self.planner.leases.values().filter(|it| it.place == place);
                        let most = self.most_at_a_place.entry(place).or_default();
                        *most = here.count().max(*most);
                    }
                    self.answer(lease, source, range);
                }
                Action::Open { .. } => {
                    self.planner.on_opened(SEGMENT, &Restored::default(), self.now);
                }
                Action::Store { lease, range } => {
                    let fetch = self.fetches.get_mut(&lease).unwrap();
                    (fetch.1, fetch.3) = (range, true);
                }
                Action::Drop { lease } | Action::Cancel { lease } => {
                    if self.fetches.remove(&lease).is_some() {
                        self.planner.on_ended(lease, LeaseEnd::Dropped, self.now);
                    }
                }
                Action::Shrink { lease, end } => {
                    let Some(fetch) = self.fetches.get_mut(&lease) else { continue };
                    let end = end.max(fetch.2).min(fetch.1.end());
                    fetch.1 = ByteRange::new(fetch.1.start(), end);
                    self.planner.on_shrunk(lease, end, self.now);
                }
                Action::Reset { .. } => {
                    self.resets += 1;
                    self.stored.fill(None);
                }
                Action::Lost { source, again, .. } => self.lost.push((source, again)),
                Action::Resolve { source, refused, again } => {
                    self.resolved.push(source);
                    match refused {
                        Some(failure) if again => {
                            self.planner.on_unresolved(source, failure, self.now);
                        }
                        _ => self.planner.on_resolved(source, true, self.now),
                    }
                }
                Action::Finish => self.finished = true,
                Action::Fail(failure) => self.failed = Some(failure),
                Action::Retry { .. } | Action::Notice(..) => {}
            }
        }
    }

    fn answer(&mut self, lease: LeaseId, source: SourceId, range: ByteRange) {
        let verdict = match self.servers[source] {
            Server::Refuses => {
                self.fetches.remove(&lease);
                let failure = Failure::new(ErrorKind::Network, "refused");
                let end = LeaseEnd::Failed { failure, refused: true };
                return self.planner.on_ended(lease, end, self.now);
            }
            Server::Answers(status @ (401 | 403 | 410)) => Verdict::Denied { status },
            Server::Answers(status) => {
                Verdict::Status { status, transient: false, retry_after: None }
            }
            _ => Verdict::Partial { range, resource: resource("a") },
        };
        self.planner.on_verdict(lease, verdict, self.now);
    }
}

#[test]
fn sources_are_used_together_each_as_fast_as_it_is() {
    let mut world = World::new(8, &[Server::Sends(1e6), Server::Sends(4e6)], true);
    world.run();
    assert!(world.finished && world.lost.is_empty());
    assert_eq!(world.brought.iter().sum::<u64>(), TOTAL, "no byte is fetched twice");
    // Seven connections of the fast one and one of the other would be the best.
    let best_s = TOTAL as f64 / 29e6;
    assert!(world.now.as_secs_f64() < best_s * 1.6, "{:?} of {best_s} s", world.now);
    assert!(world.brought[1] > world.brought[0] * 3, "{:?}", world.brought);
}

#[test]
fn sources_with_a_limit_of_their_own_add_up() {
    let mut world = World::new(8, &[Server::Shares(8e6), Server::Shares(12e6)], true);
    world.run();
    let best_s = TOTAL as f64 / 20e6;
    assert!(world.now.as_secs_f64() < best_s * 1.4, "{:?} of {best_s} s", world.now);
    assert!(world.brought.iter().all(|bytes| *bytes > TOTAL / 5), "{:?}", world.brought);
}

#[test]
fn each_host_has_as_many_leases_as_are_allowed_there() {
    let servers = [Server::Sends(4e6), Server::Sends(4e6), Server::Sends(1e6)];
    let mut world = World::new(8, &servers, true);
    // The first two are of one host.
    world.planner.set_place(2, 1);
    world.planner.allow(5, Some(vec![3, 2]), Duration::ZERO);
    world.run();
    assert!(world.finished);
    assert!(world.most_at_once[&0] + world.most_at_once[&1] >= 3);
    assert_eq!(world.most_at_once[&2], 2, "a slower host is used beside a full one");
    assert!(world.most_at_a_place[&0] == 3 && world.most_at_a_place[&1] == 2);
    let best_s = TOTAL as f64 / 14e6;
    assert!(world.now.as_secs_f64() < best_s * 1.2, "{:?} of {best_s} s", world.now);
}

#[test]
fn what_could_go_to_each_host_is_told() {
    let servers = [Server::Sends(4e6), Server::Sends(1e4), Server::Refuses, Server::Sends(4e6)];
    let told = |world: &World| -> Vec<(PlaceId, usize, usize)> {
        let need = world.planner.need(world.now);
        let needs = world.planner.need_by_place(need, world.now);
        needs.iter().map(|it| (it.place, it.in_use, it.limit)).collect()
    };
    let mut world = World::new(8, &servers, true);
    (1..4).for_each(|source| world.planner.set_place(source, source));
    // Nobody knows of any whether it has the object, and one is to show its size first.
    assert_eq!(told(&world), [(0, 0, 1), (1, 0, 1), (2, 0, 1), (3, 0, 1)]);
    while world.planner.live_sources() == 4 {
        world.step();
    }
    // A hopeless one is left with what it has, one that is lost has nothing.
    let at_work = |world: &World, place| {
        world.planner.leases.values().filter(|lease| lease.place == place).count()
    };
    let [first, slow, other] = [0, 1, 3].map(|place| at_work(&world, place));
    assert_eq!(told(&world), [(0, first, 8), (1, slow, slow), (3, other, 8)]);
    // What goes elsewhere from now on counts there; what is at work stays where it is.
    world.planner.set_place(3, 4);
    assert_eq!(told(&world), [(0, first, 8), (1, slow, slow), (3, other, other), (4, 0, 8)]);
    // Without a digest only one is asked.
    let mut world = World::new(8, &servers[2..], false);
    world.planner.set_place(1, 1);
    assert_eq!(told(&world), [(0, 0, 1)]);
    world.step();
    assert_eq!(told(&world), [(1, 8, 8)]);
}

#[test]
fn without_a_digest_a_mirror_is_asked_only_after_a_failure_and_from_zero() {
    let mut world = World::new(4, &[Server::Sends(4e6), Server::Sends(4e6)], false);
    world.run();
    assert_eq!((world.brought[1], world.resets), (0, 0));
    for bad in [Server::Answers(404), Server::Answers(403), Server::Refuses] {
        let mut world = World::new(4, &[bad, Server::Sends(4e6)], false);
        world.run();
        assert!(world.finished);
        assert_eq!((world.brought[1], &world.lost[..]), (TOTAL, &[(0, true)][..]));
    }
    let mut world = World::new(4, &[Server::Answers(404), Server::Answers(500)], false);
    world.servers[1] = Server::Answers(410);
    world.run();
    assert_eq!(world.failed.unwrap().status, Some(410));
}

#[test]
fn a_bad_source_is_dropped_and_costs_the_others_nothing() {
    for bad in [Server::Answers(404), Server::Answers(403), Server::Refuses] {
        let mut world = World::new(4, &[bad, Server::Sends(4e6), Server::Sends(4e6)], true);
        world.run();
        assert!(world.finished);
        assert_eq!(world.lost, [(0, false)]);
        assert_eq!(world.resets, 0);
        assert!(world.now.as_secs_f64() < TOTAL as f64 / 16e6 * 1.2, "{:?}", world.now);
        assert_eq!(world.most_at_once[&0], 1, "nobody knows yet whether it has the object");
    }
}

#[test]
fn sources_that_are_all_away_are_waited_for() {
    let mut world = World::new(4, &[Server::Refuses, Server::Refuses], true);
    world.run();
    assert_eq!(world.failed.as_ref().unwrap().kind, ErrorKind::Network);
    assert!(world.planner.rounds() >= 3 && world.lost.is_empty(), "{:?}", world.lost);
}

#[test]
fn wrong_bytes_are_fetched_again_from_another_source() {
    let mut world = World::new(4, &[Server::Sends(10e6), Server::Lies(7)], true);
    world.run();
    assert!(world.finished, "{:?}", world.failed);
    assert_eq!((&world.lost[..], world.resets), (&[(1, false)][..], 0));
    let bad = |(index, source): (usize, &Option<SourceId>)| *source == Some(1) && index % 7 == 0;
    assert!(!world.stored.iter().enumerate().any(bad));
    // Where there is no other, it may send them again, once.
    let mut world = World::new(4, &[Server::Lies(7)], true);
    world.run();
    assert_eq!(world.failed.unwrap().kind, ErrorKind::DigestMismatch);
}

#[test]
fn a_link_is_resolved_again_once_for_all_connections() {
    let mut world = World::new(4, &[Server::Sends(1e6)], false);
    for _ in 0..200 {
        world.planner.tick(world.now);
        world.carry_out();
        if world.fetches.len() == 4 {
            break;
        }
        world.now += Duration::from_millis(20);
    }
    let leases: Vec<LeaseId> = world.fetches.keys().copied().collect();
    assert_eq!(leases.len(), 4);
    // It expires: all four break, and what they asked is refused at once.
    world.servers[0] = Server::Answers(403);
    for id in leases {
        world.fetches.remove(&id);
        let failure = Failure::new(ErrorKind::Network, "reset");
        world.planner.on_received(id, 1000, world.now);
        world.planner.on_ended(id, LeaseEnd::Failed { failure, refused: false }, world.now);
    }
    world.planner.poll_action().unwrap();
    world.servers[0] = Server::Sends(9e6);
    let ids: Vec<LeaseId> = world.planner.leases.ids();
    for id in ids {
        world.planner.on_verdict(id, Verdict::Denied { status: 403 }, world.now);
    }
    let mut waiting = Vec::new();
    while let Some(action) = world.planner.poll_action() {
        match action {
            Action::Resolve { source, .. } => {
                world.resolved.push(source);
                world.planner.on_resolved(source, true, world.now);
            }
            Action::Drop { lease } => {
                world.planner.on_ended(lease, LeaseEnd::Dropped, world.now);
                waiting.retain(|id| *id != lease);
            }
            Action::Fetch { lease, .. } => waiting.push(lease),
            _ => {}
        }
    }
    // The first refusals are laid to the preconditions.
    for id in std::mem::take(&mut waiting) {
        world.planner.on_verdict(id, Verdict::Denied { status: 403 }, world.now);
    }
    while let Some(action) = world.planner.poll_action() {
        match action {
            Action::Resolve { source, .. } => {
                world.resolved.push(source);
                world.planner.on_resolved(source, true, world.now);
            }
            Action::Drop { lease } => {
                world.planner.on_ended(lease, LeaseEnd::Dropped, world.now);
            }
            Action::Fetch { lease, .. } => waiting.push(lease),
            _ => {}
        }
    }
    assert_eq!(world.resolved, [0]);
    assert_eq!(waiting.len(), 1, "one request finds out whether it is good");
    let id = waiting[0];
    let range = world.planner.leases.get(id).expect("alive").range;
    world.planner.on_verdict(id, Verdict::Partial { range, resource: resource("a") }, world.now);
    let more = std::iter::from_fn(|| world.planner.poll_action());
    assert_eq!(more.filter(|action| matches!(action, Action::Fetch { .. })).count(), 3);
}
