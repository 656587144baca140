//! The end of a download, and what a new beginning may not take back.
//!
//! Once an outcome is set, the loop carries out nothing more and returns it. Before that, a stream
//! is *draining*: everything was received, but its digest is complete only when its reader has
//! taken it all. Bytes that a reader was given cannot be taken back: when the download begins
//! again, only the same version of the object from the same URLs, or a repetition that hashes the
//! same, may continue them.

use std::sync::Arc;

use url::Url;

use super::Outcome;
use crate::disk::prove::RepeatProof;
use crate::disk::storage::window::Window;
use crate::model::error::{Error, ErrorKind};
use crate::model::planner::Failure;
use crate::model::redact::redact;
use crate::model::resource::Resource;
use crate::model::size::{differing, size_words};
use crate::model::validator::Comparison;

pub(super) struct Ending {
    outcome: Option<Result<Outcome, Error>>,
    /// Where the bytes of a stream are given out from.
    window: Option<Arc<Window>>,
    draining: bool,
    /// The object of the bytes that were given out, and the URLs that brought them, once the
    /// download has begun again.
    given_of: Option<(Resource, Vec<Url>)>,
}

impl Ending {
    pub(super) fn new(window: Option<Arc<Window>>) -> Self {
        Self { outcome: None, window, draining: false, given_of: None }
    }

    /// The download ends with this.
    pub(super) fn set(&mut self, outcome: Result<Outcome, Error>) {
        self.outcome = Some(outcome);
    }

    pub(super) fn is_set(&self) -> bool {
        self.outcome.is_some()
    }

    pub(super) fn take(&mut self) -> Option<Result<Outcome, Error>> {
        self.outcome.take()
    }

    /// Whether everything was received and the reader has taken it all; true once.
    pub(super) fn is_drained(&mut self) -> bool {
        let drained = |window: &Arc<Window>| window.is_drained();
        let ends = self.draining && self.window.as_ref().is_some_and(drained);
        self.draining &= !ends;
        ends
    }

    /// Whether the download waits for the reader of its stream.
    pub(super) fn is_reader_slow(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.is_reader_slow())
    }

    /// Everything up to `end` was received. Whether that can be finished now: a stream is finished
    /// when all of it was taken.
    ///
    /// # Errors
    /// If more was given out.
    pub(super) fn received_all(&mut self, end: u64) -> Result<bool, Error> {
        let Some(window) = &self.window else { return Ok(true) };
        let given = window.given();
        if given > end {
            let (end, given) = differing(end, given);
            let why = format!("the server ended it after {end}, and {given} were given out");
            return Err(Error::new(ErrorKind::Protocol, why));
        }
        window.set_end(end);
        self.draining = !window.is_drained();
        Ok(!self.draining)
    }

    /// What was stored of the object `was` is forgotten: remembers what was given out of it.
    pub(super) fn begin_again(&mut self, was: Option<(Resource, Vec<Url>)>) {
        let Some(window) = &self.window else { return };
        window.clear();
        self.draining = false;
        if window.given() > 0 && self.given_of.is_none() {
            self.given_of = was;
        }
    }

    fn given_bytes(&self) -> u64 {
        self.window.as_ref().map_or(0, |window| window.given())
    }

    /// Refuses any version of the object other than the one of which bytes were given out. The
    /// response came `from` a URL of a source that is at `source` now.
    pub(super) fn refuse_other_version(
        &self,
        resource: &Resource,
        from: Option<&Url>,
        source: &Url,
        by_digest: bool,
    ) -> Result<(), Error> {
        let given = self.given_bytes();
        let Some((of, urls)) = self.given_of.as_ref().filter(|_| given > 0) else {
            return Ok(());
        };
        // With a digest it may be tried, if the repetition is compared with what was given out.
        let is_compared = by_digest && self.repeat_proof().is_some();
        let elsewhere = !is_compared && from.is_some_and(|url| !urls.contains(url));
        let same_size = of.total.zip(resource.total).is_none_or(|(ours, theirs)| ours == theirs);
        let same_bytes = same_size && of.encoding == resource.encoding;
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
        let (url, given) = (redact(source), size_words(given));
        Err(Error::new(
            kind,
            format!("cannot go on with {url}: {given} were given out already, and {why}"),
        )
        .with_hint("read it again from the start, or download it to a file"))
    }

    /// What a repetition of the stream has to begin with.
    pub(super) fn repeat_proof(&self) -> Option<RepeatProof> {
        self.window.as_ref().filter(|_| self.given_of.is_some())?.repeat_proof()
    }

    /// The server repeats the stream with other bytes than those that were given out.
    pub(super) fn unequal(&self) -> Failure {
        let given = size_words(self.given_bytes());
        let why = format!(
            "the server sends other bytes under the same validator, and {given} were given out \
             already"
        );
        Failure::new(ErrorKind::ObjectChanged, why)
    }
}
