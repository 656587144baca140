//! The driver's part in a stream: what its reader has got, and what follows of
//! that when the download must start over.

use super::*;
use crate::disk::prove::RepeatProof;
use crate::model::size::{differing, size_words};
use crate::model::validator::Comparison;

impl Driver {
    /// Looks how far the reader is.
    pub(super) async fn look_at_reader(&mut self) {
        let Some(window) = self.options.window.clone() else { return };
        if self.ended.is_some() {
            return;
        }
        let now = self.now();
        self.planner.on_given(window.given(), now);
        if self.draining && window.is_drained() {
            self.draining = false;
            return self.finish().await;
        }
        if window.is_abandoned() {
            let error = Error::new(ErrorKind::Cancelled, "nobody reads the stream any more");
            self.end_with(error).await;
        }
    }

    /// Whether the download waits for the reader of its stream.
    pub(super) fn is_reader_slow(&self) -> bool {
        self.options.window.as_ref().is_some_and(|window| window.is_reader_slow())
    }

    /// Everything was received. What is streamed is finished when it was taken:
    /// its digest is complete only then.
    pub(super) async fn all_received(&mut self) {
        let Some(window) = &self.options.window else { return self.finish().await };
        let total = self.expected.as_ref().and_then(|resource| resource.total);
        let (end, given) = (total.unwrap_or(self.bytes), window.given());
        if given > end {
            let (end, given) = differing(end, given);
            let why = format!("the server ended it after {end}, and {given} were given out");
            return self.end_with(Error::new(ErrorKind::Protocol, why)).await;
        }
        window.set_end(end);
        self.draining = !window.is_drained();
        if !self.draining {
            self.finish().await;
        }
    }

    /// What was stored of the object `was` is forgotten: remembers what was given
    /// out of it.
    pub(super) fn keep_given(&mut self, was: Option<(Resource, Vec<Url>)>) {
        let Some(window) = &self.options.window else { return };
        window.clear();
        self.draining = false;
        if window.given() > 0 && self.given_of.is_none() {
            self.given_of = was;
        }
    }

    /// Says no to any other version of the object than the one of which bytes
    /// were given out.
    pub(super) fn refuse_other_version(&self, resource: &Resource) -> Result<(), Error> {
        let given = self.options.window.as_ref().map_or(0, |window| window.given());
        let Some((of, joined)) = self.given_of.as_ref().filter(|_| given > 0) else {
            return Ok(());
        };
        // A digest lets it be tried where the repetition is compared with what was given out.
        let is_compared = self.is_proven_by_digest() && self.repeat_proof().is_some();
        let elsewhere =
            !is_compared && self.opened_from.as_ref().is_some_and(|url| !joined.contains(url));
        let same_size = of.total.zip(resource.total).is_none_or(|(ours, theirs)| ours == theirs);
        let same_bytes = same_size && of.encoding == resource.encoding;
        let url = redact(&self.opener().current);
        let known = of.validator.compare(&of.validator);
        let (kind, why) = match of.validator.compare(&resource.validator) {
            Comparison::Same if same_bytes && elsewhere => {
                (ErrorKind::ObjectChanged, "the link leads elsewhere than before")
            }
            Comparison::Same if same_bytes => return Ok(()),
            // Where a strong validator was known, its absence counts as a change.
            Comparison::Consistent | Comparison::Silent
                if same_bytes && known != Comparison::Same =>
            {
                (ErrorKind::Network, "the server has nothing to show that the object is the same")
            }
            _ => (ErrorKind::ObjectChanged, "the object changed on the server"),
        };
        let given = size_words(given);
        Err(Error::new(
            kind,
            format!("cannot go on with {url}: {given} were given out already, and {why}"),
        )
        .with_hint("read it again from the start, or download it to a file"))
    }

    /// What a repetition of the stream has to begin with.
    pub(super) fn repeat_proof(&self) -> Option<RepeatProof> {
        let window = self.options.window.as_ref().filter(|_| self.given_of.is_some())?;
        window.repeat_proof()
    }

    /// The server repeats the stream with other bytes than those that were given out.
    pub(super) fn on_unequal(&mut self, lease: LeaseId, now: Duration) {
        let given = self.options.window.as_ref().map_or(0, |window| window.given());
        let given = size_words(given);
        let why = format!(
            "the server sends other bytes under the same validator, and {given} were given out \
             already"
        );
        self.planner.give_up(lease, Failure::new(ErrorKind::ObjectChanged, why), now);
    }

    /// What kept the download from being faster.
    pub(super) fn limited_by(&self) -> Option<LimitedBy> {
        match self.planner.limited_by(self.now()) {
            Some(LimitedBy::Disk) if self.options.window.is_some() => Some(LimitedBy::Reader),
            found => found,
        }
    }
}
