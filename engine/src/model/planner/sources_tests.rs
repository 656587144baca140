//! Several sources: by speed together, one after another without a digest, and
//! what becomes of bad ones.

use std::collections::BTreeMap;

use super::action::PlaceId;
use super::crew::{Crew, Task, resource, settings};
use super::*;
use crate::model::config::{Connections, RetryPolicy};
use crate::model::error::ErrorKind;
use crate::model::response::Verdict;

const SEGMENT: u64 = 1 << 20;
const TOTAL: u64 = 512 * SEGMENT;

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
    crew: Crew<()>,
    servers: Vec<Server>,
    brought: Vec<u64>,
    stored: Vec<Option<SourceId>>,
    most_at_once: BTreeMap<SourceId, usize>,
    most_at_a_place: BTreeMap<PlaceId, usize>,
    resolved: Vec<SourceId>,
    /// Why there is never another URL.
    no_other_url: Option<&'static str>,
}

impl World {
    fn new(connections: usize, servers: &[Server], together: bool) -> Self {
        let retry = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
        let connections = Connections::Fixed(connections);
        let mut planner = Planner::new(Settings { retry, ..settings(connections) });
        planner.add_sources(servers.len() - 1);
        if together {
            planner.use_together();
        }
        Self {
            crew: Crew::new(planner, TOTAL, SEGMENT),
            servers: servers.to_vec(),
            brought: vec![0; servers.len()],
            stored: vec![None; (TOTAL / SEGMENT) as usize],
            most_at_once: BTreeMap::new(),
            most_at_a_place: BTreeMap::new(),
            resolved: Vec::new(),
            no_other_url: None,
        }
    }

    fn run(&mut self) {
        while !self.crew.is_over() {
            self.step();
        }
    }

    /// In the order in which they were asked for.
    fn leases(&self) -> Vec<LeaseId> {
        let mut leases = self.crew.leases();
        leases.sort_unstable();
        leases
    }

    fn step(&mut self) {
        let step = Duration::from_millis(20);
        self.crew.planner.tick(self.crew.now);
        self.carry_out();
        self.crew.now += step;
        let Crew { now, planner, .. } = &self.crew;
        assert!(*now < Duration::from_secs(1200), "no end: {planner:?}");
        let mut sharers = BTreeMap::<SourceId, usize>::new();
        for fetch in &self.crew.fetches {
            *sharers.entry(fetch.source).or_default() += usize::from(fetch.storing.is_some());
        }
        for id in self.leases() {
            let Some(fetch) = self.crew.find(id).filter(|it| it.storing.is_some()) else {
                continue;
            };
            let source = fetch.source;
            let rate = match self.servers[source] {
                Server::Sends(rate) => rate,
                Server::Shares(rate) => rate / sharers[&source] as f64,
                _ => 50e6,
            };
            let left = fetch.range.end() - fetch.position;
            let bytes = ((rate * step.as_secs_f64()) as u64).min(left);
            self.receive(id, source, bytes);
            if bytes == left {
                self.crew.take(id);
                self.crew.planner.on_ended(id, LeaseEnd::Complete, self.crew.now);
            }
        }
        self.carry_out();
    }

    fn receive(&mut self, id: LeaseId, source: SourceId, bytes: u64) {
        self.brought[source] += bytes;
        for index in self.crew.receive(id, bytes) {
            self.stored[index] = Some(source);
            if matches!(self.servers[source], Server::Lies(every) if index.is_multiple_of(every)) {
                self.crew.is_bad(index);
            } else {
                self.crew.planner.on_stored(index, self.crew.now);
            }
        }
    }

    fn carry_out(&mut self) {
        let resets = self.crew.resets;
        while let Some(task) = self.crew.next_task() {
            match task {
                Task::Fetch { lease, source, range } => {
                    // Without a range too, once a range was refused.
                    let range = self.crew.send(lease, source, range, ());
                    let here = |fetch: &&super::crew::Fetch<()>| fetch.source == source;
                    let now = self.crew.fetches.iter().filter(here).count();
                    let most = self.most_at_once.entry(source).or_default();
                    *most = now.max(*most);
                    let leases = &self.crew.planner.leases;
                    for place in leases.values().map(|lease| lease.place) {
                        let here = leases.values().filter(|it| it.place == place);
                        let most = self.most_at_a_place.entry(place).or_default();
                        *most = here.count().max(*most);
                    }
                    self.answer(lease, source, range);
                }
                Task::Close(_) => {}
                Task::Resolve { source, refused, again } => {
                    self.resolved.push(source);
                    let now = self.crew.now;
                    match refused {
                        Some(mut failure) if again || self.no_other_url.is_some() => {
                            failure.message += self.no_other_url.unwrap_or_default();
                            self.crew.planner.on_unresolved(source, failure, now);
                        }
                        _ => self.crew.planner.on_resolved(source, true, now),
                    }
                }
            }
        }
        if self.crew.resets > resets {
            self.stored.fill(None);
        }
    }

    fn answer(&mut self, lease: LeaseId, source: SourceId, range: ByteRange) {
        let verdict = match self.servers[source] {
            Server::Refuses => {
                self.crew.take(lease);
                let failure = Failure::new(ErrorKind::Network, "refused");
                let end = LeaseEnd::Failed { failure, refused: true };
                return self.crew.planner.on_ended(lease, end, self.crew.now);
            }
            Server::Answers(status @ (401 | 403 | 410)) => Verdict::Denied { status },
            Server::Answers(status) => {
                Verdict::Status { status, transient: false, retry_after: None }
            }
            _ => Verdict::Partial { range, resource: resource(TOTAL, "a") },
        };
        self.crew.planner.on_verdict(lease, verdict, self.crew.now);
    }
}

#[test]
fn sources_are_used_together_each_as_fast_as_it_is() {
    let mut world = World::new(8, &[Server::Sends(1e6), Server::Sends(4e6)], true);
    world.run();
    assert!(world.crew.finished && world.crew.lost.is_empty());
    assert_eq!(world.brought.iter().sum::<u64>(), TOTAL, "no byte is fetched twice");
    // Seven connections of the fast one and one of the other would be the best.
    let best_s = TOTAL as f64 / 29e6;
    assert!(world.crew.now.as_secs_f64() < best_s * 1.6, "{:?} of {best_s} s", world.crew.now);
    assert!(world.brought[1] > world.brought[0] * 3, "{:?}", world.brought);
}

#[test]
fn sources_with_a_limit_of_their_own_add_up() {
    let mut world = World::new(8, &[Server::Shares(8e6), Server::Shares(12e6)], true);
    world.run();
    let best_s = TOTAL as f64 / 20e6;
    assert!(world.crew.now.as_secs_f64() < best_s * 1.4, "{:?} of {best_s} s", world.crew.now);
    assert!(world.brought.iter().all(|bytes| *bytes > TOTAL / 5), "{:?}", world.brought);
}

#[test]
fn each_host_has_as_many_leases_as_are_allowed_there() {
    let servers = [Server::Sends(4e6), Server::Sends(4e6), Server::Sends(1e6)];
    let mut world = World::new(8, &servers, true);
    // The first two are of one host.
    world.crew.planner.set_place(2, 1);
    world.crew.planner.allow(5, Some(vec![3, 2]), Duration::ZERO);
    world.run();
    assert!(world.crew.finished);
    assert!(world.most_at_once[&0] + world.most_at_once[&1] >= 3);
    assert_eq!(world.most_at_once[&2], 2, "a slower host is used beside a full one");
    assert!(world.most_at_a_place[&0] == 3 && world.most_at_a_place[&1] == 2);
    let best_s = TOTAL as f64 / 14e6;
    assert!(world.crew.now.as_secs_f64() < best_s * 1.2, "{:?} of {best_s} s", world.crew.now);
}

#[test]
fn what_could_go_to_each_host_is_told() {
    let servers = [Server::Sends(4e6), Server::Sends(1e4), Server::Refuses, Server::Sends(4e6)];
    let told = |world: &World| -> Vec<(PlaceId, usize, usize)> {
        let need = world.crew.planner.need(world.crew.now);
        let needs = world.crew.planner.need_by_place(need, world.crew.now);
        needs.iter().map(|it| (it.place, it.in_use, it.limit)).collect()
    };
    let mut world = World::new(8, &servers, true);
    (1..4).for_each(|source| world.crew.planner.set_place(source, source));
    // Nobody knows of any whether it has the object, and one is to show its size first.
    assert_eq!(told(&world), [(0, 0, 1), (1, 0, 1), (2, 0, 1), (3, 0, 1)]);
    while world.crew.planner.live_sources() == 4 {
        world.step();
    }
    // A hopeless one is left with what it has, one that is lost has nothing.
    let at_work = |world: &World, place| {
        world.crew.planner.leases.values().filter(|lease| lease.place == place).count()
    };
    let [first, slow, other] = [0, 1, 3].map(|place| at_work(&world, place));
    assert_eq!(told(&world), [(0, first, 8), (1, slow, slow), (3, other, 8)]);
    // What goes elsewhere from now on counts there; what is at work stays where it is.
    world.crew.planner.set_place(3, 4);
    assert_eq!(told(&world), [(0, first, 8), (1, slow, slow), (3, other, other), (4, 0, 8)]);
    // Without a digest only one is asked.
    let mut world = World::new(8, &servers[2..], false);
    world.crew.planner.set_place(1, 1);
    assert_eq!(told(&world), [(0, 0, 1)]);
    world.step();
    assert_eq!(told(&world), [(1, 8, 8)]);
}

#[test]
fn without_a_digest_a_mirror_is_asked_only_after_a_failure_and_from_zero() {
    let mut world = World::new(4, &[Server::Sends(4e6), Server::Sends(4e6)], false);
    world.run();
    assert_eq!((world.brought[1], world.crew.resets), (0, 0));
    for bad in [Server::Answers(404), Server::Answers(403), Server::Refuses] {
        let mut world = World::new(4, &[bad, Server::Sends(4e6)], false);
        world.run();
        assert!(world.crew.finished);
        assert_eq!((world.brought[1], &world.crew.lost[..]), (TOTAL, &[(0, true)][..]));
    }
    let mut world = World::new(4, &[Server::Answers(404), Server::Answers(500)], false);
    world.servers[1] = Server::Answers(410);
    world.run();
    assert_eq!(world.crew.failed.unwrap().status, Some(410));
}

#[test]
fn a_bad_source_is_dropped_and_costs_the_others_nothing() {
    for bad in [Server::Answers(404), Server::Answers(403), Server::Refuses] {
        let mut world = World::new(4, &[bad, Server::Sends(4e6), Server::Sends(4e6)], true);
        world.run();
        assert!(world.crew.finished);
        assert_eq!(world.crew.lost, [(0, false)]);
        assert_eq!(world.crew.resets, 0);
        assert!(world.crew.now.as_secs_f64() < TOTAL as f64 / 16e6 * 1.2, "{:?}", world.crew.now);
        assert_eq!(world.most_at_once[&0], 1, "nobody knows yet whether it has the object");
    }
}

#[test]
fn sources_that_are_all_away_are_waited_for() {
    let mut world = World::new(4, &[Server::Refuses, Server::Refuses], true);
    world.run();
    assert_eq!(world.crew.failed.as_ref().unwrap().kind, ErrorKind::Network);
    assert!(
        world.crew.planner.rounds() >= 3 && world.crew.lost.is_empty(),
        "{:?}",
        world.crew.lost
    );
}

#[test]
fn wrong_bytes_are_fetched_again_from_another_source() {
    let mut world = World::new(4, &[Server::Sends(10e6), Server::Lies(7)], true);
    world.run();
    assert!(world.crew.finished, "{:?}", world.crew.failed);
    assert_eq!((&world.crew.lost[..], world.crew.resets), (&[(1, false)][..], 0));
    let bad = |(index, source): (usize, &Option<SourceId>)| *source == Some(1) && index % 7 == 0;
    assert!(!world.stored.iter().enumerate().any(bad));
    // Where there is no other, it may send them again, once.
    let mut world = World::new(4, &[Server::Lies(7)], true);
    world.run();
    assert_eq!(world.crew.failed.unwrap().kind, ErrorKind::DigestMismatch);
}

#[test]
fn a_link_is_resolved_again_once_for_all_connections() {
    let mut world = World::new(4, &[Server::Sends(1e6)], false);
    for _ in 0..200 {
        world.crew.planner.tick(world.crew.now);
        world.carry_out();
        if world.crew.fetches.len() == 4 {
            break;
        }
        world.crew.now += Duration::from_millis(20);
    }
    let leases: Vec<LeaseId> = world.leases();
    assert_eq!(leases.len(), 4);
    // It expires: all four break, and what they asked is refused at once.
    world.servers[0] = Server::Answers(403);
    for id in leases {
        world.crew.take(id);
        let failure = Failure::new(ErrorKind::Network, "reset");
        world.crew.planner.on_received(id, 1000, world.crew.now);
        world.crew.planner.on_ended(
            id,
            LeaseEnd::Failed { failure, refused: false },
            world.crew.now,
        );
    }
    world.crew.planner.poll_action().unwrap();
    world.servers[0] = Server::Sends(9e6);
    let ids: Vec<LeaseId> = world.crew.planner.leases.ids();
    for id in ids {
        world.crew.planner.on_verdict(id, Verdict::Denied { status: 403 }, world.crew.now);
    }
    let mut waiting = Vec::new();
    while let Some(action) = world.crew.planner.poll_action() {
        match action {
            Action::Resolve { source, .. } => {
                world.resolved.push(source);
                world.crew.planner.on_resolved(source, true, world.crew.now);
            }
            Action::Drop { lease } => {
                world.crew.planner.on_ended(lease, LeaseEnd::Dropped, world.crew.now);
                waiting.retain(|id| *id != lease);
            }
            Action::Fetch { lease, .. } => waiting.push(lease),
            _ => {}
        }
    }
    // The first refusals are laid to the preconditions.
    for id in std::mem::take(&mut waiting) {
        world.crew.planner.on_verdict(id, Verdict::Denied { status: 403 }, world.crew.now);
    }
    while let Some(action) = world.crew.planner.poll_action() {
        match action {
            Action::Resolve { source, .. } => {
                world.resolved.push(source);
                world.crew.planner.on_resolved(source, true, world.crew.now);
            }
            Action::Drop { lease } => {
                world.crew.planner.on_ended(lease, LeaseEnd::Dropped, world.crew.now);
            }
            Action::Fetch { lease, .. } => waiting.push(lease),
            _ => {}
        }
    }
    assert_eq!(world.resolved, [0]);
    assert_eq!(waiting.len(), 1, "one request finds out whether it is good");
    let id = waiting[0];
    let range = world.crew.planner.leases.get(id).expect("alive").range;
    world.crew.planner.on_verdict(
        id,
        Verdict::Partial { range, resource: resource(TOTAL, "a") },
        world.crew.now,
    );
    let more = std::iter::from_fn(|| world.crew.planner.poll_action());
    assert_eq!(more.filter(|action| matches!(action, Action::Fetch { .. })).count(), 3);
}

#[test]
fn why_there_was_no_other_url_is_told_however_late_the_source_fails() {
    let mut world = World::new(4, &[Server::Sends(1e6)], false);
    while world.crew.fetches.len() < 4 {
        world.step();
    }
    world.no_other_url = Some("; the command failed");
    // One response goes on while the requests beside it are refused one after another.
    world.servers[0] = Server::Answers(403);
    let leases = world.leases();
    for id in &leases[1..] {
        world.crew.planner.on_verdict(*id, Verdict::Denied { status: 403 }, world.crew.now);
        world.carry_out();
    }
    assert!(world.crew.failed.is_none(), "the first response goes on");
    world.crew.take(leases[0]);
    let failure = Failure::new(ErrorKind::Network, "reset");
    let end = LeaseEnd::Failed { failure, refused: false };
    world.crew.planner.on_ended(leases[0], end, world.crew.now);
    world.run();
    let failed = world.crew.failed.expect("the URL is good for nothing");
    assert!(failed.message.contains("the command failed"), "{}", failed.message);
}
