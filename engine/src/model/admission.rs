//! Whose turn it is: the connections of an engine among its downloads.
//!
//! Connections are few, downloads may be thousands. Each download tells what it
//! could use, and what all are granted never adds up to more than the bounds.
//! The order is by priority, then by arrival, in rounds of one connection each:
//! downloads of one priority share evenly, and where there are more of them than
//! connections, the earliest go first. Nothing is taken away: a download with
//! more than its share begins nothing new until it is back at its share, and a
//! lease lasts seconds.
//!
//! So the first of those that wait is served next, and nobody waits for another
//! one that waits: what a download was granted it can use at once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// The most of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections, of all downloads to all hosts; at least 1.
    pub connections: usize,
    /// Connections to one host, at least 1; `None` is no bound of its own.
    pub per_host: Option<usize>,
    /// Downloads that have begun and are not paused, at least 1; `None` is no
    /// bound.
    pub active: Option<usize>,
}

/// The name of a download here.
pub type MemberId = u64;

/// What a download can use now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Need {
    /// Connections at work. They count, whatever was granted.
    pub in_use: usize,
    /// Those, and the ones for which there is work.
    pub useful: usize,
    /// At most so many, were they free; no fewer than the useful ones.
    pub limit: usize,
    /// Whether it wants to be among the active ones: it is not paused.
    pub live: bool,
}

/// What a download may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grant {
    /// It is among the active ones.
    pub active: bool,
    /// So many connections are kept for it; those in use are among them.
    pub connections: usize,
    /// It may begin something new while fewer than these are in use: where it holds
    /// more than its share, the next that ends is somebody else's.
    pub allowed: usize,
}

#[derive(Debug)]
struct Member {
    host: usize,
    need: Need,
    /// Whether the bound on active downloads is for it.
    counted: bool,
    grant: Grant,
    /// What it should have, and comes to have.
    share: usize,
}

#[derive(Debug, Default)]
struct Host {
    name: String,
    members: usize,
    granted: usize,
    /// What its members could use.
    limits: usize,
    /// While shares are reckoned: what is not given out yet.
    left: usize,
}

/// The order of downloads: the priority, then the arrival.
type Rank = (Reverse<i32>, MemberId);

/// See the module's documentation.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    members: BTreeMap<Rank, Member>,
    ranks: HashMap<MemberId, Rank>,
    /// Those without members are used again.
    hosts: Vec<Host>,
    by_name: HashMap<String, usize>,
    next_id: MemberId,
    in_use: usize,
    granted: usize,
    limits: usize,
    active: usize,
    /// Who wants to be active and is not.
    queued: usize,
    /// Whether somebody had to get less than its limit.
    scarce: bool,
    wake: Vec<MemberId>,
}

impl Admission {
    /// Nobody is here.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds: Bounds {
                connections: bounds.connections.max(1),
                per_host: bounds.per_host.map(|most| most.max(1)),
                active: bounds.active.map(|most| most.max(1)),
            },
            members: BTreeMap::new(),
            ranks: HashMap::new(),
            hosts: Vec::new(),
            by_name: HashMap::new(),
            next_id: 0,
            in_use: 0,
            granted: 0,
            limits: 0,
            active: 0,
            queued: 0,
            scarce: false,
            wake: Vec::new(),
        }
    }

    /// A download arrives. Unless it is `counted`, the bound on active ones is
    /// not for it.
    pub fn enter(&mut self, host: &str, priority: i32, counted: bool) -> MemberId {
        self.next_id += 1;
        let rank = (Reverse(priority), self.next_id);
        let host = self.host(host);
        self.hosts[host].members += 1;
        let grant = Grant { active: !counted, ..Grant::default() };
        let member = Member { host, need: Need::default(), counted, grant, share: 0 };
        self.members.insert(rank, member);
        self.ranks.insert(self.next_id, rank);
        self.next_id
    }

    /// It is gone, with all its connections.
    pub fn leave(&mut self, id: MemberId) {
        let Some(rank) = self.ranks.get(&id).copied() else { return };
        self.change(rank, None, Need::default());
        self.ranks.remove(&id);
        if let Some(member) = self.members.remove(&rank) {
            self.give_up_host(member.host);
        }
    }

    /// Another priority from now on.
    pub fn set_priority(&mut self, id: MemberId, priority: i32) {
        let Some(rank) = self.ranks.get_mut(&id) else { return };
        let Some(member) = self.members.remove(rank) else { return };
        *rank = (Reverse(priority), id);
        self.members.insert(*rank, member);
        self.share_out();
        self.call();
    }

    /// What a download may do that needs this, and whose connections go to
    /// `host` from now on. To be asked again when that changes, and by those that
    /// [`Self::take_wake`] names.
    pub fn ask(&mut self, id: MemberId, host: &str, need: Need) -> Grant {
        let Some(rank) = self.ranks.get(&id).copied() else { return Grant::default() };
        self.change(rank, Some(host), need);
        self.members.get(&rank).map_or(Grant::default(), |member| member.grant)
    }

    /// Who should ask again; each is named once.
    pub fn take_wake(&mut self) -> Vec<MemberId> {
        self.wake.sort_unstable();
        self.wake.dedup();
        std::mem::take(&mut self.wake)
    }

    /// Connections in use, of all downloads.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// The place of a host.
    fn host(&mut self, name: &str) -> usize {
        if let Some(&at) = self.by_name.get(name) {
            return at;
        }
        let free = self.hosts.iter().position(|host| host.members == 0);
        let host = Host { name: name.to_owned(), ..Host::default() };
        let at = match free {
            Some(at) => {
                self.hosts[at] = host;
                at
            }
            None => {
                self.hosts.push(host);
                self.hosts.len() - 1
            }
        };
        self.by_name.insert(name.to_owned(), at);
        at
    }

    fn give_up_host(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.members -= 1;
        if host.members == 0 {
            self.by_name.remove(&host.name);
        }
    }

    /// Takes over what a member needs, and grants it what there is.
    fn change(&mut self, rank: Rank, host: Option<&str>, need: Need) {
        let Some(member) = self.members.get(&rank) else { return };
        let from = member.host;
        if let Some(name) = host.filter(|name| self.hosts[from].name != *name) {
            let to = self.host(name);
            self.hosts[to].members += 1;
            let Some(member) = self.members.get_mut(&rank) else { return };
            member.host = to;
            let (granted, limit) = (member.grant.connections, member.need.limit);
            self.hosts[from].granted -= granted;
            self.hosts[to].granted += granted;
            self.hosts[from].limits -= limit;
            self.hosts[to].limits += limit;
            self.give_up_host(from);
        }
        let Some(member) = self.members.get_mut(&rank) else { return };
        let was = std::mem::replace(&mut member.need, need);
        let waits = |need: Need, active: bool| usize::from(need.live && !active);
        self.queued -= waits(was, member.grant.active);
        if member.counted && member.grant.active && !need.live {
            member.grant.active = false;
            self.active -= 1;
        }
        self.queued += waits(need, member.grant.active);
        self.in_use = self.in_use - was.in_use + need.in_use;
        self.limits = self.limits - was.limit + need.limit;
        let place = member.host;
        let limits = &mut self.hosts[place].limits;
        *limits = *limits - was.limit + need.limit;
        self.admit();
        let was_scarce = self.scarce;
        self.scarce = self.limits > self.bounds.connections
            || self.queued > 0
            || self.bounds.per_host.is_some_and(|most| self.hosts[place].limits > most)
            || was_scarce && self.is_a_host_full();
        if self.scarce || was_scarce {
            self.share_out();
        } else if let Some(member) = self.members.get_mut(&rank) {
            member.share = need.limit;
        }
        self.settle(rank);
        if self.scarce || was_scarce {
            self.call();
        }
    }

    fn is_a_host_full(&self) -> bool {
        let most = self.bounds.per_host.unwrap_or(usize::MAX);
        self.hosts.iter().any(|host| host.members > 0 && host.limits > most)
    }

    /// Lets in who is next, as long as there is room.
    fn admit(&mut self) {
        let most = self.bounds.active.unwrap_or(usize::MAX);
        if self.queued == 0 || self.active >= most {
            return;
        }
        for (rank, member) in &mut self.members {
            if self.queued == 0 || self.active >= most {
                return;
            }
            if member.need.live && !member.grant.active {
                member.grant.active = true;
                self.active += 1;
                self.queued -= 1;
                self.wake.push(rank.1);
            }
        }
    }

    /// Reckons everybody's share: first what there is work for, by priority; then
    /// whatever else they could use.
    fn share_out(&mut self) {
        let most = self.bounds.per_host.unwrap_or(usize::MAX);
        let mut left = self.bounds.connections;
        let mut open_hosts = 0;
        for host in &mut self.hosts {
            host.left = most;
            open_hosts += usize::from(host.members > 0);
        }
        self.members.values_mut().for_each(|member| member.share = 0);
        let useful: fn(&Need) -> usize = |need| need.useful;
        let limit: fn(&Need) -> usize = |need| need.limit;
        for could_use in [useful, limit] {
            let mut from = Bound::Unbounded;
            while let Some(priority) =
                self.members.range((from, Bound::Unbounded)).next().map(|(rank, _)| rank.0)
            {
                let last = (priority, MemberId::MAX);
                from = Bound::Excluded(last);
                let mut gave = true;
                while std::mem::take(&mut gave) {
                    for (_, member) in self.members.range_mut((priority, 0)..=last) {
                        if left == 0 || open_hosts == 0 {
                            return;
                        }
                        let host = &mut self.hosts[member.host];
                        let wants = member.grant.active && member.share < could_use(&member.need);
                        if wants && host.left > 0 {
                            member.share += 1;
                            host.left -= 1;
                            left -= 1;
                            open_hosts -= usize::from(host.left == 0);
                            gave = true;
                        }
                    }
                }
            }
        }
    }

    /// Brings a member's grant towards its share, as far as there is room. What is
    /// in use stays.
    fn settle(&mut self, rank: Rank) {
        let Some(member) = self.members.get_mut(&rank) else { return };
        let host = &mut self.hosts[member.host];
        let held = member.grant.connections;
        let others = self.granted - held;
        let others_here = host.granted - held;
        let room = self.bounds.connections.saturating_sub(others);
        let most_here = self.bounds.per_host.unwrap_or(usize::MAX);
        let room = room.min(most_here.saturating_sub(others_here));
        let next = member.share.min(room).max(member.need.in_use);
        member.grant.connections = next;
        member.grant.allowed = member.share.min(next);
        self.granted = others + next;
        host.granted = others_here + next;
    }

    /// Has those ask again that may begin more than their share, or may have what is
    /// free.
    fn call(&mut self) {
        let total_full = self.granted >= self.bounds.connections;
        let most_here = self.bounds.per_host.unwrap_or(usize::MAX);
        let mut unseen = self.granted;
        for (rank, member) in &self.members {
            if unseen == 0 && total_full {
                return;
            }
            let held = member.grant.connections;
            unseen -= held;
            let surplus = member.grant.allowed > member.share;
            let room = !total_full && self.hosts[member.host].granted < most_here;
            if surplus || room && held < member.share {
                self.wake.push(rank.1);
            }
        }
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
