use super::*;

fn bounds(connections: usize, per_host: Option<usize>, active: Option<usize>) -> Bounds {
    Bounds { connections, per_host, active }
}

/// Downloads as a driver has them: they use what they are granted.
struct Crowd {
    admission: Admission,
    hosts: HashMap<MemberId, &'static str>,
    needs: HashMap<MemberId, Need>,
    grants: HashMap<MemberId, Grant>,
}

impl Crowd {
    fn new(bounds: Bounds) -> Self {
        Self {
            admission: Admission::new(bounds),
            hosts: HashMap::new(),
            needs: HashMap::new(),
            grants: HashMap::new(),
        }
    }

    fn enter(&mut self, host: &'static str, priority: i32, wants: usize) -> MemberId {
        let id = self.admission.enter(host, priority, true);
        self.hosts.insert(id, host);
        self.want(id, wants);
        id
    }

    fn want(&mut self, id: MemberId, wants: usize) {
        let need = Need { in_use: self.used(id), useful: wants, limit: wants, live: true };
        self.needs.insert(id, need);
        self.ask(id);
        self.wake();
    }

    fn used(&self, id: MemberId) -> usize {
        self.needs.get(&id).map_or(0, |need| need.in_use)
    }

    /// Asks, and begins to use what is granted.
    fn ask(&mut self, id: MemberId) {
        for _ in 0..2 {
            let Some(need) = self.needs.get_mut(&id) else { return };
            let grant = self.admission.ask(id, self.hosts[&id], *need);
            assert!(grant.connections >= need.in_use);
            need.in_use = if need.live { need.in_use.max(grant.allowed) } else { 0 };
            self.grants.insert(id, grant);
        }
    }

    fn wake(&mut self) {
        for round in 0.. {
            let woken = self.admission.take_wake();
            if woken.is_empty() {
                return;
            }
            assert!(round < 100, "they wake each other for ever: {woken:?}");
            woken.into_iter().for_each(|id| self.ask(id));
        }
    }

    /// One of its leases ends.
    fn lease_ends(&mut self, id: MemberId) {
        let need = self.needs.get_mut(&id).unwrap();
        need.in_use -= 1;
        // A planner begins another one at once where it may, and asks later.
        need.in_use = need.in_use.max(self.grants[&id].allowed.min(need.limit));
        self.ask(id);
        self.wake();
    }

    fn ends(&mut self, id: MemberId) {
        self.admission.leave(id);
        self.needs.remove(&id);
        self.grants.remove(&id);
        self.wake();
    }

    fn pause(&mut self, id: MemberId) {
        let need = self.needs.get_mut(&id).unwrap();
        *need = Need::default();
        self.ask(id);
        self.wake();
    }

    fn in_use(&self, ids: &[MemberId]) -> Vec<usize> {
        ids.iter().map(|id| self.used(*id)).collect()
    }
}

#[test]
fn enough_for_all_is_given_at_once() {
    let mut crowd = Crowd::new(bounds(64, None, None));
    let ids: Vec<_> = (0..4).map(|_| crowd.enter("a", 0, 16)).collect();
    assert_eq!(crowd.in_use(&ids), [16; 4]);
}

#[test]
fn a_newcomer_gets_its_share_as_leases_end_and_the_bound_holds() {
    let mut crowd = Crowd::new(bounds(16, None, None));
    let first = crowd.enter("a", 0, 16);
    let second = crowd.enter("a", 0, 16);
    assert_eq!(crowd.in_use(&[first, second]), [16, 0], "nothing is taken away");
    for ended in 1..=12 {
        crowd.lease_ends(first);
        let used = crowd.in_use(&[first, second]);
        assert_eq!(used.iter().sum::<usize>(), 16);
        assert_eq!(used[1], ended.min(8));
    }
    crowd.ends(first);
    assert_eq!(crowd.in_use(&[second]), [16]);
}

#[test]
fn a_host_has_its_own_bound_over_all_downloads() {
    let mut crowd = Crowd::new(bounds(64, Some(6), None));
    let ids = [crowd.enter("a", 0, 4), crowd.enter("a", 0, 4), crowd.enter("b", 0, 16)];
    assert_eq!(crowd.in_use(&ids), [4, 2, 6]);
    crowd.lease_ends(ids[0]);
    assert_eq!(crowd.in_use(&ids), [3, 3, 6]);
    // Redirected to another host, it has room.
    crowd.hosts.insert(ids[1], "c");
    crowd.ask(ids[1]);
    crowd.wake();
    assert_eq!(crowd.in_use(&ids), [4, 4, 6]);
}

#[test]
fn the_higher_priority_is_served_first_and_the_lower_goes_on_after_it() {
    let mut crowd = Crowd::new(bounds(4, None, None));
    let low = crowd.enter("a", 0, 4);
    let high = crowd.enter("a", 5, 4);
    for _ in 0..4 {
        crowd.lease_ends(low);
    }
    assert_eq!(crowd.in_use(&[low, high]), [0, 4]);
    crowd.admission.set_priority(low, 6);
    crowd.wake();
    for _ in 0..2 {
        crowd.lease_ends(high);
    }
    assert_eq!(crowd.in_use(&[low, high]), [2, 2]);
    crowd.ends(high);
    assert_eq!(crowd.in_use(&[low]), [4]);
}

#[test]
fn work_comes_before_what_would_only_be_held_ready() {
    let mut crowd = Crowd::new(bounds(8, None, None));
    let tail = crowd.admission.enter("a", 0, true);
    let need = Need { in_use: 1, useful: 1, limit: 8, live: true };
    assert_eq!(crowd.admission.ask(tail, "a", need).connections, 8);
    let other = crowd.admission.enter("a", 0, true);
    let all = Need { in_use: 0, useful: 7, limit: 8, live: true };
    assert_eq!(crowd.admission.ask(other, "a", all).connections, 0);
    assert_eq!(crowd.admission.take_wake(), [tail, other], "it is asked to give them back");
    assert_eq!(crowd.admission.ask(tail, "a", need).connections, 1);
    assert_eq!(crowd.admission.take_wake(), [other]);
    assert_eq!(crowd.admission.ask(other, "a", all).connections, 7);
}

#[test]
fn so_many_are_active_and_the_next_begins_when_one_ends_or_pauses() {
    let mut crowd = Crowd::new(bounds(64, None, Some(2)));
    let ids: Vec<_> = (0..4).map(|_| crowd.enter("a", 0, 4)).collect();
    let urgent = crowd.enter("a", 1, 4);
    assert_eq!(crowd.in_use(&ids), [4, 4, 0, 0]);
    assert_eq!(crowd.in_use(&[urgent]), [0], "those that have begun are not sent back");
    crowd.ends(ids[0]);
    assert_eq!(crowd.in_use(&[urgent]), [4]);
    crowd.pause(ids[1]);
    assert_eq!(crowd.in_use(&ids[1..]), [0, 4, 0]);
    let plan = crowd.admission.enter("a", 0, false);
    let need = Need { in_use: 0, useful: 1, limit: 1, live: true };
    assert_eq!(
        crowd.admission.ask(plan, "a", need),
        Grant { active: true, connections: 1, allowed: 1 }
    );
}

/// Whatever happens, the bounds hold, and what is free is used by who could use it.
#[test]
fn any_course_of_events_keeps_the_bounds_and_leaves_nothing_idle() {
    const HOSTS: [&str; 3] = ["a", "b", "c"];
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let bounds = bounds(
            random.usize(1..20),
            random.bool().then(|| random.usize(1..8)),
            random.bool().then(|| random.usize(1..8)),
        );
        let mut crowd = Crowd::new(bounds);
        let mut ids: Vec<MemberId> = Vec::new();
        for step in 0..400 {
            let any = |random: &mut fastrand::Rng| random.choice(ids.clone());
            match random.u32(0..7) {
                0 | 1 if ids.len() < 40 => {
                    let host = HOSTS[random.usize(0..3)];
                    let id = crowd.enter(host, random.i32(-1..2), random.usize(1..20));
                    ids.push(id);
                }
                2 => {
                    if let Some(id) = any(&mut random) {
                        crowd.ends(id);
                        ids.retain(|other| *other != id);
                    }
                }
                3 => {
                    if let Some(id) = any(&mut random) {
                        crowd.pause(id);
                    }
                }
                4 => {
                    if let Some(id) = any(&mut random) {
                        crowd.admission.set_priority(id, random.i32(-1..2));
                        crowd.wake();
                    }
                }
                5 => {
                    if let Some(id) = any(&mut random) {
                        let wants = random.usize(1..20);
                        let used = crowd.used(id).min(wants);
                        crowd.needs.get_mut(&id).unwrap().in_use = used;
                        crowd.want(id, wants);
                    }
                }
                _ => {
                    if let Some(id) = any(&mut random)
                        && crowd.used(id) > 0
                    {
                        crowd.lease_ends(id);
                    }
                }
            }
            let what = format!("seed {seed}, step {step}: {bounds:?}");
            let total: usize = crowd.needs.values().map(|need| need.in_use).sum();
            assert_eq!(total, crowd.admission.in_use(), "{what}");
            assert!(total <= bounds.connections, "{what}");
            let active = ids.iter().filter(|id| crowd.grants[id].active).count();
            assert!(bounds.active.is_none_or(|most| active <= most), "{what}");
            let waiting = |id: &&MemberId| crowd.needs[id].live && !crowd.grants[id].active;
            if bounds.active.is_none_or(|most| active < most) {
                assert_eq!(ids.iter().find(waiting), None, "{what}");
            }
            for host in HOSTS {
                let here: Vec<&MemberId> =
                    ids.iter().filter(|id| crowd.hosts[id] == host).collect();
                let used: usize = here.iter().map(|id| crowd.used(**id)).sum();
                assert!(bounds.per_host.is_none_or(|most| used <= most), "{what}");
                let full =
                    total == bounds.connections || bounds.per_host.is_some_and(|most| used == most);
                let lacks = |id: &MemberId| {
                    crowd.grants[id].active && crowd.used(*id) < crowd.needs[id].limit
                };
                assert!(full || !here.into_iter().any(lacks), "{what}");
            }
        }
    }
}
