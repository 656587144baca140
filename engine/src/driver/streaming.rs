//! The driver's part in a stream: what its reader has got, and what follows of
//! that when the download must start over.

use super::*;
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
        window.set_end(total.unwrap_or(self.bytes));
        self.draining = !window.is_drained();
        if !self.draining {
            self.finish().await;
        }
    }

    /// What was stored of the object `was` is forgotten: remembers what was given
    /// out of it.
    pub(super) fn keep_given(&mut self, was: Option<Resource>) {
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
        let Some(of) = self.given_of.as_ref().filter(|_| given > 0) else { return Ok(()) };
        let same_size = of.total.zip(resource.total).is_none_or(|(ours, theirs)| ours == theirs);
        let same_bytes = same_size && of.encoding == resource.encoding;
        let url = redact(&self.opener().current);
        let (kind, why) = match of.validator.compare(&resource.validator) {
            Comparison::Same if same_bytes => return Ok(()),
            Comparison::Consistent | Comparison::Silent if same_bytes => {
                (ErrorKind::Network, "the server has nothing to show that the object is the same")
            }
            _ => (ErrorKind::ObjectChanged, "the object changed on the server"),
        };
        Err(Error::new(
            kind,
            format!("cannot go on with {url}: {given} bytes were given out already, and {why}"),
        )
        .with_hint("read it again from the start, or download it to a file"))
    }

    /// What kept the download from being faster.
    pub(super) fn limited_by(&self) -> Option<LimitedBy> {
        match self.planner.limited_by() {
            Some(LimitedBy::Disk) if self.options.window.is_some() => Some(LimitedBy::Reader),
            found => found,
        }
    }
}
