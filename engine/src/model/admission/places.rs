//! A download's parts in the hosts that it uses, where those have a bound.

use std::cmp::Reverse;

use super::{Host, Member};

/// A download's part in one host.
#[derive(Debug)]
pub(super) struct HostPlace {
    /// Which one.
    pub(super) host: usize,
    /// As it was told: connections at work, and how many it could use at most.
    pub(super) in_use: usize,
    pub(super) limit: usize,
    /// So many are kept for it; those in use are among them.
    pub(super) granted: usize,
    /// It may begin something new while fewer than these are in use.
    pub(super) allowed: usize,
    /// What it should have of the host.
    pub(super) share: usize,
}

impl Member {
    /// So many may be in use at each place: what is kept there, but beyond its share
    /// nothing that it could have where its share is.
    pub(super) fn allowed_at(&self, hosts: &[Host], most: usize) -> Vec<usize> {
        let room = |place: &HostPlace| most.saturating_sub(hosts[place.host].granted);
        let back = |place: &HostPlace| place.share.saturating_sub(place.granted).min(room(place));
        let mut back: usize = self.places.iter().map(back).sum();
        let allowed = |place: &HostPlace| {
            let leaves = place.granted.saturating_sub(place.share).min(back);
            back -= leaves;
            place.granted - leaves
        };
        self.places.iter().map(allowed).collect()
    }

    /// What it could take of its share at one of its places, were there room.
    pub(super) fn lacking_at(&self, place: &HostPlace) -> usize {
        let at_all = self.share.saturating_sub(self.grant.connections);
        place.share.saturating_sub(place.granted).min(at_all)
    }
}

/// Where a download's next connection goes: of the hosts at which it could use one
/// more, that which is wanted least; of equal ones that with the most left.
pub(super) fn next_place<'a>(
    places: &'a mut [HostPlace],
    hosts: &[Host],
) -> Option<&'a mut HostPlace> {
    let open = |place: &&mut HostPlace| place.share < place.limit && hosts[place.host].left > 0;
    places.iter_mut().filter(open).min_by_key(|place| {
        let host = &hosts[place.host];
        (host.limits, Reverse(host.left))
    })
}
