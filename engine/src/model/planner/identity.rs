//! What the object is: the version that is stored, what an earlier run claims to hold, and
//! the versions that were given up.
//!
//! The identity is unknown, claimed by an earlier run, or that of a *resource* that a response
//! described. A response with another tag puts it in *doubt*: the same request is sent once more
//! before a change is believed. A change begins everything again, once; if a version that was given
//! up comes back, it had not changed, so its server cannot be believed.

use super::known_end::KnownEnd;
use crate::model::resource::Resource;
use crate::model::validator::{Comparison, Validator};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Identity {
    resource: Option<Resource>,
    /// What an earlier run claims to hold of the object.
    claimed: Option<Resource>,
    /// The validator of a version that may have replaced ours.
    doubt: bool,
    /// Versions given up for another of the same size: one that comes back had
    /// not changed.
    abandoned: Vec<(Option<u64>, Validator)>,
    /// Every version that a restart gave up.
    given_up: Vec<Resource>,
    changes: u32,
    /// Whether everything was fetched again because of a digest.
    refetched: bool,
    /// Where the object ends.
    pub(super) end: KnownEnd,
}

impl Identity {
    pub(super) fn claim(&mut self, resource: Resource) {
        self.claimed = Some(resource);
    }

    pub(super) fn claimed(&self) -> Option<&Resource> {
        self.claimed.as_ref()
    }

    /// What responses are compared with.
    fn known(&self) -> Option<&Resource> {
        self.resource.as_ref().or(self.claimed.as_ref())
    }

    /// The size of what is stored.
    pub(super) fn total(&self) -> Option<u64> {
        self.resource.as_ref()?.total
    }

    /// A response was taken: from now on the object is this one.
    pub(super) fn take(&mut self, resource: Resource) {
        self.end.told(resource.total);
        self.resource = Some(resource);
    }

    /// The object is to be described anew.
    pub(super) fn forget(&mut self) {
        self.resource = None;
    }

    /// Whether requests can name a strong validator.
    pub(super) fn has_precondition(&self) -> bool {
        self.known().is_some_and(|known| known.validator.precondition().is_some())
    }

    /// Whether `resource` shows the validator of the object, if one is known.
    pub(super) fn is_shown_by(&self, resource: &Resource) -> bool {
        self.known().is_none_or(|known| known.validator.is_shown_by(&resource.validator))
    }

    /// Whether the stored version can be told from any other.
    pub(super) fn proves_itself(&self) -> bool {
        let proves = |it: &Resource| it.validator.compare(&it.validator) == Comparison::Same;
        self.resource.as_ref().is_some_and(proves)
    }

    /// A response with the whole object is taken. Where it may be the one that an earlier run knew,
    /// a stream without a length is checked against the earlier length when it ends.
    pub(super) fn hold_to_claim(&mut self, resource: &Resource) {
        if let Some(claimed) = &self.claimed
            && let Comparison::Same | Comparison::Consistent =
                claimed.validator.compare(&resource.validator)
        {
            self.end.told(claimed.total);
        }
        self.end.told(resource.total);
    }

    /// Whether a version that was given up had the same strong tag and another total:
    /// then the tag is a lie, and nothing tells which of them is the object.
    pub(super) fn is_impossible(&self, resource: &Resource) -> bool {
        self.given_up.iter().any(|given_up| {
            given_up.validator.has_same_strong_tag(&resource.validator)
                && given_up.total.zip(resource.total).is_some_and(|(a, b)| a != b)
        })
    }

    pub(super) fn was_abandoned(&self, seen: &(Option<u64>, Validator)) -> bool {
        self.abandoned.contains(seen)
    }

    /// Another version was seen, of `total` bytes.
    pub(super) fn abandon_for(&mut self, total: Option<u64>) {
        // Another size is another object; only tags can differ by edge.
        if let Some(ours) = self.resource.as_ref().filter(|ours| ours.total == total) {
            self.abandoned.push((ours.total, ours.validator.clone()));
        }
    }

    /// Another object is there. Returns whether it had changed before.
    pub(super) fn changed_again(&mut self) -> bool {
        // What an earlier run claims may have changed long ago.
        if self.claimed.is_none() {
            self.changes += 1;
        }
        self.changes > 1
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubt
    }

    /// The tag of a response differs. False if the identity was already in doubt.
    pub(super) fn doubt(&mut self) -> bool {
        !std::mem::replace(&mut self.doubt, true)
    }

    /// Everything is to be fetched again because of a digest. False if that was done already.
    pub(super) fn refetch(&mut self) -> bool {
        !std::mem::replace(&mut self.refetched, true)
    }

    /// All that is stored is given up, for another version.
    pub(super) fn give_up(&mut self) {
        let given_up = self.resource.take().or_else(|| self.claimed.clone());
        self.given_up.extend(given_up);
    }

    /// All that is stored is given up; the object stays the same unless `forget`.
    pub(super) fn begin_again(&mut self, forget: bool) {
        let claimed = self.claimed.take();
        if forget {
            self.end = KnownEnd::default();
        } else if let Some(claimed) = claimed {
            // The stream is to be of the object that an earlier run knew.
            self.end.told(claimed.total);
        }
        self.end.is_of_stream();
        self.doubt = false;
    }

    /// What another source has is another object.
    pub(super) fn begin_with_next(&mut self) {
        self.changes = 0;
        self.refetched = false;
        self.abandoned.clear();
        self.given_up.clear();
    }
}
