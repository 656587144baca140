//! Whose turn it is: the connections of an engine among its downloads.
//!
//! Connections are few, downloads may be thousands. Each download tells how many
//! it could use, and the grants never add up to more than the bounds. Downloads
//! are ordered by priority, then by arrival, and served in rounds of one
//! connection each: downloads of one priority share evenly, and where there are
//! more of them than connections, the earliest go first. Nothing is taken away:
//! a download with more than its share begins nothing new until it is back at
//! its share, and a lease lasts seconds.
//!
//! Where hosts have a bound of their own, a download tells how many connections it could use at
//! each of them, since its mirrors are other hosts. Its share is then a number at each host, first
//! at those that others want less. While it is busy elsewhere, downloads that lack connections at a
//! host have its places there, and it has theirs.
//!
//! So the first of the waiting downloads is served next, and none waits for
//! another one that waits: a download can use its grant at once.

mod places;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use self::places::{HostPlace, next_place};

/// The bounds on an engine's downloads.
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

/// Identifies a download here.
pub type MemberId = u64;

/// What a download can use now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Need {
    /// Connections at work. They count, whatever was granted.
    pub in_use: usize,
    /// Those at work, and the ones for which there is work.
    pub useful: usize,
    /// The most it could use if they were free; no fewer than the useful ones.
    pub limit: usize,
    /// Whether it wants to be among the active ones: it is not paused.
    pub live: bool,
}

/// How much of a need could go to one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNeed {
    /// The host, as URLs name it.
    pub host: String,
    /// Connections at work there. They count, whatever was granted.
    pub in_use: usize,
    /// The most it could use there; no fewer than those at work.
    pub limit: usize,
}

/// What a download may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grant {
    /// It is among the active ones.
    pub active: bool,
    /// The connections that are kept for it, including those in use.
    pub connections: usize,
    /// It may begin something new while fewer than these are in use: if it holds
    /// more than its share, the next connection that ends goes to another download.
    pub allowed: usize,
}

#[derive(Debug)]
struct Member {
    need: Need,
    /// Whether it counts towards the bound on active downloads.
    counted: bool,
    grant: Grant,
    /// What it should have, and comes to have.
    share: usize,
    /// Its places by host, if hosts have a bound; else none.
    places: Vec<HostPlace>,
}

#[derive(Debug, Default)]
struct Host {
    name: String,
    /// How many places are at this host.
    places: usize,
    granted: usize,
    /// How much of it could be used.
    limits: usize,
    /// While shares are reckoned: how much is not given out yet.
    left: usize,
    /// While room is counted: see [`Admission::count_lacking`].
    lacking: usize,
}

/// The order of downloads: the priority, then the arrival.
type Rank = (Reverse<i32>, MemberId);

/// See the module's documentation.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    members: BTreeMap<Rank, Member>,
    ranks: HashMap<MemberId, Rank>,
    /// Entries without places are used again.
    hosts: Vec<Host>,
    by_name: HashMap<String, usize>,
    /// Hosts where more could be used than the bound allows.
    crowded: usize,
    next_id: MemberId,
    in_use: usize,
    granted: usize,
    limits: usize,
    active: usize,
    /// How many want to be active and are not.
    queued: usize,
    /// Whether some download had to get less than its limit.
    scarce: bool,
    wake: Vec<MemberId>,
}

impl Admission {
    /// An admission without downloads.
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
            crowded: 0,
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

    /// Whether [`Self::ask`] needs to know the hosts.
    #[must_use]
    pub fn is_bound_by_host(&self) -> bool {
        self.bounds.per_host.is_some()
    }

    /// A download arrives. Unless it is `counted`, the bound on active
    /// downloads does not apply to it.
    pub fn enter(&mut self, priority: i32, counted: bool) -> MemberId {
        self.next_id += 1;
        let rank = (Reverse(priority), self.next_id);
        let grant = Grant { active: !counted, ..Grant::default() };
        let member = Member { need: Need::default(), counted, grant, share: 0, places: Vec::new() };
        self.members.insert(rank, member);
        self.ranks.insert(self.next_id, rank);
        self.next_id
    }

    /// The download is gone, with all its connections.
    pub fn leave(&mut self, id: MemberId) {
        let Some(rank) = self.ranks.get(&id).copied() else { return };
        self.change(rank, &[], Need::default());
        self.ranks.remove(&id);
        self.members.remove(&rank);
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

    /// What a download with this need may do, at these hosts from now on, each
    /// named once. Call it again when the need changes, and for those that
    /// [`Self::take_wake`] names. Without a bound on hosts they do not matter.
    pub fn ask(&mut self, id: MemberId, hosts: &[HostNeed], need: Need) -> Grant {
        let Some(rank) = self.ranks.get(&id).copied() else { return Grant::default() };
        self.change(rank, hosts, need);
        self.members.get(&rank).map_or(Grant::default(), |member| member.grant)
    }

    /// While fewer than these are in use at each host, something new may begin
    /// there: in the order in which the hosts were last given.
    pub fn allowed_at_hosts(&self, id: MemberId) -> impl Iterator<Item = usize> {
        let member = self.ranks.get(&id).and_then(|rank| self.members.get(rank));
        let places = member.map_or(&[][..], |member| &member.places);
        places.iter().map(|place| place.allowed)
    }

    /// The downloads that should ask again; each is named once.
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

    /// How many more could be in use, by all downloads.
    #[must_use]
    pub fn spare(&self) -> usize {
        self.bounds.connections.saturating_sub(self.in_use.max(self.granted))
    }

    /// Whether there is one download at most.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.members.len() <= 1
    }

    /// The index at which a host is kept.
    fn host(&mut self, name: &str) -> usize {
        if let Some(&at) = self.by_name.get(name) {
            return at;
        }
        let free = self.hosts.iter().position(|host| host.places == 0);
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

    /// Takes over where a member's connections go. Its grant at a host that it
    /// stays at remains.
    fn move_to(&mut self, rank: Rank, needs: &[HostNeed]) {
        let Some(most) = self.bounds.per_host else { return };
        let Some(member) = self.members.get_mut(&rank) else { return };
        let mut before = std::mem::take(&mut member.places);
        let mut places = Vec::with_capacity(needs.len());
        for need in needs {
            // No member needs more than the bound.
            let limit = need.limit.min(most).max(need.in_use);
            let at = self.host(&need.host);
            let kept = before.iter().position(|place| place.host == at);
            let mut place = match kept {
                Some(kept) => before.swap_remove(kept),
                None => {
                    self.hosts[at].places += 1;
                    HostPlace { host: at, in_use: 0, limit: 0, granted: 0, allowed: 0, share: 0 }
                }
            };
            self.change_limits(at, place.limit, limit);
            (place.in_use, place.limit) = (need.in_use, limit);
            places.push(place);
        }
        for left in before {
            self.change_limits(left.host, left.limit, 0);
            let host = &mut self.hosts[left.host];
            host.granted -= left.granted;
            host.places -= 1;
            if host.places == 0 {
                self.by_name.remove(&host.name);
            }
        }
        if let Some(member) = self.members.get_mut(&rank) {
            member.places = places;
        }
    }

    /// A member's possible use of a host becomes `to`.
    fn change_limits(&mut self, host: usize, from: usize, to: usize) {
        let most = self.bounds.per_host.unwrap_or(usize::MAX);
        let limits = &mut self.hosts[host].limits;
        self.crowded -= usize::from(*limits > most);
        *limits = *limits - from + to;
        self.crowded += usize::from(*limits > most);
    }

    /// Takes over a member's need, and grants it what is available.
    fn change(&mut self, rank: Rank, hosts: &[HostNeed], mut need: Need) {
        self.move_to(rank, hosts);
        let Some(member) = self.members.get_mut(&rank) else { return };
        if self.bounds.per_host.is_some() {
            let at_all = member.places.iter().map(|place| place.limit).sum();
            need.limit = need.limit.min(at_all).max(need.in_use);
            need.useful = need.useful.min(need.limit);
        }
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
        self.admit();
        let was_scarce = self.scarce;
        self.scarce = self.limits > self.bounds.connections || self.queued > 0 || self.crowded > 0;
        if self.scarce || was_scarce {
            self.share_out();
        } else if let Some(member) = self.members.get_mut(&rank) {
            member.share = need.limit;
            // Together these may be more: the member uses whichever it prefers.
            member.places.iter_mut().for_each(|place| place.share = place.limit);
        }
        self.settle(rank);
        if self.scarce || was_scarce {
            self.call();
        }
    }

    /// Lets the next downloads in, as long as there is room.
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

    /// Reckons all shares: first the connections for which there is work, by
    /// priority; then whatever else the downloads could use.
    fn share_out(&mut self) {
        let by_host = self.bounds.per_host.is_some();
        let most = self.bounds.per_host.unwrap_or(usize::MAX);
        let mut left = self.bounds.connections;
        let mut open_hosts = 0;
        for host in &mut self.hosts {
            host.left = most;
            open_hosts += usize::from(host.places > 0);
        }
        for member in self.members.values_mut() {
            member.share = 0;
            member.places.iter_mut().for_each(|place| place.share = 0);
        }
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
                        if left == 0 || by_host && open_hosts == 0 {
                            return;
                        }
                        if !member.grant.active || member.share >= could_use(&member.need) {
                            continue;
                        }
                        if by_host {
                            let Some(place) = next_place(&mut member.places, &self.hosts) else {
                                continue;
                            };
                            place.share += 1;
                            let host = &mut self.hosts[place.host];
                            host.left -= 1;
                            open_hosts -= usize::from(host.left == 0);
                        }
                        member.share += 1;
                        left -= 1;
                        gave = true;
                    }
                }
            }
        }
    }

    /// Brings a member's grant towards its share, as far as there is room.
    /// Connections in use stay.
    fn settle(&mut self, rank: Rank) {
        if self.bounds.per_host.is_some() {
            self.count_lacking(Some(rank));
        }
        let Some(member) = self.members.get_mut(&rank) else { return };
        let others = self.granted - member.grant.connections;
        let room = self.bounds.connections.saturating_sub(others);
        let in_use = member.need.in_use;
        let mut next = member.share.min(room).max(in_use);
        if let Some(most) = self.bounds.per_host {
            for place in &mut member.places {
                self.hosts[place.host].granted -= place.granted;
                place.granted = place.in_use;
            }
            // What is kept for it at all hosts is kept from others there.
            let mut more = if self.scarce { next - in_use } else { usize::MAX };
            let before = more;
            for place in &mut member.places {
                let host = &self.hosts[place.host];
                let room_here = most.saturating_sub(host.granted);
                let add = place.share.min(room_here).saturating_sub(place.granted).min(more);
                place.granted += add;
                more -= add;
            }
            // Where its share is not available, it gets what no other member can use
            // now. Without scarcity the share is all that it could use.
            for place in &mut member.places {
                let host = &self.hosts[place.host];
                let free = most.saturating_sub(host.granted + host.lacking);
                let add = place.limit.min(free).saturating_sub(place.granted).min(more);
                place.granted += add;
                more -= add;
            }
            for place in &member.places {
                self.hosts[place.host].granted += place.granted;
            }
            let allowed = member.allowed_at(&self.hosts, most);
            for (place, allowed) in member.places.iter_mut().zip(allowed) {
                place.allowed = allowed;
            }
            next = next.min(in_use + (before - more));
        }
        member.grant.connections = next;
        member.grant.allowed = member.share.min(next);
        self.granted = others + next;
    }

    /// Reckons for each host how much the members with a share there, all but one,
    /// could take at once.
    fn count_lacking(&mut self, but: Option<Rank>) {
        self.hosts.iter_mut().for_each(|host| host.lacking = 0);
        if !self.scarce {
            return;
        }
        for (rank, member) in &self.members {
            if Some(*rank) != but {
                for place in &member.places {
                    self.hosts[place.host].lacking += member.lacking_at(place);
                }
            }
        }
    }

    /// Wakes the members that may begin more than their share, or may have what is
    /// free.
    fn call(&mut self) {
        let total_full = self.granted >= self.bounds.connections;
        let most_here = self.bounds.per_host.unwrap_or(usize::MAX);
        if self.bounds.per_host.is_some() {
            self.count_lacking(None);
        }
        let mut unseen = self.granted;
        for (rank, member) in &self.members {
            if unseen == 0 && total_full {
                return;
            }
            let held = member.grant.connections;
            unseen -= held;
            let has_room = |place: &HostPlace| {
                let host = &self.hosts[place.host];
                let others = host.lacking.saturating_sub(member.lacking_at(place));
                let own = place.granted < place.share && host.granted < most_here;
                own || place.granted < place.limit && host.granted + others < most_here
            };
            let less = member.allowed_at(&self.hosts, most_here);
            // It could choose from these while there was enough for all.
            let kept: usize = member.places.iter().map(|place| place.granted).sum();
            let surplus = member.grant.allowed > member.share
                || kept > held
                || member.places.iter().zip(less).any(|(place, less)| place.allowed > less);
            let room = !total_full
                && held < member.share
                && (self.bounds.per_host.is_none() || member.places.iter().any(has_room));
            if surplus || room {
                self.wake.push(rank.1);
            }
        }
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
