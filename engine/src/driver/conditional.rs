//! The driver's part in fetching only what changed.

use std::path::Path;

use http::HeaderName;

use super::*;

impl Driver {
    /// Learns which version the output is, to ask whether there is another one.
    pub(super) fn know(&mut self, output: &Path) {
        if self.options.if_changed && !self.plan_only {
            self.known = Version::of(output).map(|version| (output.to_owned(), version));
        }
    }

    /// The fields that ask for it. Not where a partial shows that there is one.
    pub(super) fn conditions(&self) -> Vec<(HeaderName, String)> {
        match &self.known {
            Some((_, version)) if self.expected.is_none() => version.conditions(),
            _ => Vec::new(),
        }
    }

    /// Whether the output is what the server has, though it sends it.
    pub(super) fn is_unchanged(&self, output: &Path, resource: &Resource) -> Option<Version> {
        if !self.options.if_changed || self.options.keeps_nothing() {
            return None;
        }
        Version::of(output).filter(|version| version.is(resource))
    }

    /// The server says that it has no other version than ours.
    pub(super) fn on_not_modified(&mut self, lease: LeaseId) -> bool {
        if self.conditions().is_empty() {
            return false;
        }
        let Some((output, version)) = self.known.take() else { return false };
        self.decide(lease, None);
        self.end_unchanged(output, &version);
        true
    }

    pub(super) fn end_unchanged(&mut self, output: PathBuf, version: &Version) {
        let bytes = version.len_bytes();
        self.bytes = bytes;
        let first = self.counters.first_byte.get();
        self.ended = Some(Ok(Outcome::Completed(Box::new(Summary {
            output,
            unchanged: true,
            bytes,
            fetched_bytes: self.counters.body_bytes.load(Ordering::Relaxed),
            resumed_bytes: 0,
            requests: self.counters.requests.load(Ordering::Relaxed),
            retries: self.planner.rounds(),
            elapsed: self.started.elapsed(),
            time_to_first_byte: first.map(|at| at.duration_since(self.started)),
            connections: self.max_active,
            limited_by: None,
            blake3: None,
            verified: None,
        }))));
    }

    /// Notes at the published file which version it is, for the next time.
    pub(super) async fn note_version(&self) {
        let etag = self.expected.as_ref().and_then(|resource| resource.validator.etag.clone());
        if let (true, Some(etag), Some(output)) = (self.options.if_changed, etag, &self.output) {
            let output = output.clone();
            let note = move || Version::note(&output, &etag);
            if let Some(Err(error)) = self.engine.writers.crew().blocking(note).await {
                tracing::debug!(%error, "the entity tag cannot be kept: the date will do");
            }
        }
    }
}
