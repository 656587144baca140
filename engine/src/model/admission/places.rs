//! A download's parts in the hosts that it uses, where those have a bound.

use std::cmp::Reverse;

use super::{Host, Member};

/// A download's part in one host.
#[derive(Debug)]
pub(super) struct HostPlace {
    /// The host's index.
    pub(super) host: usize,
    /// As given: connections at work, and how many it could use at most.
    pub(super) in_use: usize,
    pub(super) limit: usize,
    /// The connections that are kept for it, including those in use.
    pub(super) granted: usize,
    /// It may begin something new while fewer than these are in use.
    pub(super) allowed: usize,
    /// Its share of the host.
    pub(super) share: usize,
}

impl Member {
    /// How many may be in use at each place: those that are kept there, without
    /// those beyond its share that it could have where its share is.
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

    /// How much of its share it could take at one of its places, if there were room.
    pub(super) fn lacking_at(&self, place: &HostPlace) -> usize {
        let at_all = self.share.saturating_sub(self.grant.connections);
        place.share.saturating_sub(place.granted).min(at_all)
    }
}

/// The place of a download's next connection: among the hosts at which it could use one more, the
/// one that is wanted least; among equal ones, the one with the most left.
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
