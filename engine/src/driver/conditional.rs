//! The driver's part in fetching only what is not here already.

use std::path::Path;

use http::HeaderName;

use super::*;
use crate::disk::conditional::Note;
use crate::disk::partials;
use crate::disk::readable::Readable;
use crate::disk::storage::existing::ExistingFile;
use crate::driver::contents::Open;
use crate::model::layout::Layout;

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
            Some((_, version)) if self.expected.is_none() => {
                version.conditions(self.options.if_changed)
            }
            _ => Vec::new(),
        }
    }

    /// Whether the output is what the server has, though it sends it.
    pub(super) fn is_unchanged(&self, output: &Path, resource: &Resource) -> Option<Version> {
        if !self.options.if_changed || self.options.keeps_nothing() {
            return None;
        }
        // Told by a 304 before, of which only the size was open.
        let same = |version: &Version| {
            self.not_modified.as_deref() == Some(output)
                && resource.total == Some(version.len_bytes())
        };
        Version::of(output).filter(|version| version.is(resource) || same(version))
    }

    /// The server says that it has no other version than ours. A file that may have
    /// lost its end is asked about once more, without conditions: then the size shows.
    pub(super) fn on_not_modified(&mut self, lease: LeaseId, now: Duration) -> bool {
        if self.conditions().is_empty() {
            return false;
        }
        let Some((output, version)) = self.known.take() else { return false };
        if !version.is_noted() {
            self.not_modified = Some(output);
            self.planner.on_redirected(lease, now);
            return true;
        }
        self.decide(lease, None);
        let resource = version.resource();
        self.end_unchanged(output, version, resource);
        true
    }

    /// Readers read the file that is here, and the metadata is what is known of it.
    pub(super) fn end_unchanged(&mut self, output: PathBuf, version: Version, resource: Resource) {
        partials::forget_published(&output);
        let bytes = version.len_bytes();
        self.bytes = bytes;
        self.output = Some(output.clone());
        let metadata = self.metadata(&resource);
        self.expected = Some(resource);
        let contents = &self.shared.contents;
        let layout = Layout { total: None, segment_size_bytes: 1 };
        let stored = Readable::new(layout, Arc::clone(contents.alarm()));
        stored.up_to(0, bytes);
        contents.open(Open {
            storage: Arc::new(ExistingFile::new(output.clone(), version)),
            stored: Arc::new(stored),
            metadata,
            crew: self.engine.writers.crew(),
        });
        contents.complete(bytes);
        self.publish_progress(false);
        let first = self.counters.first_byte.get();
        self.ended = Some(Ok(Outcome::Completed(Box::new(Summary {
            output,
            unchanged: true,
            bytes,
            fetched_bytes: self.counters.body_bytes.load(Ordering::Relaxed),
            resumed_bytes: 0,
            mapped_bytes: 0,
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

    /// What is recorded with the published file, for the next time. Where the time and the
    /// size tell as much, it costs two system calls for each of thousands of files.
    pub(super) fn note(&self) -> Option<Note> {
        let whole = self.options.range.is_none();
        let etag = self.expected.as_ref().and_then(|resource| resource.validator.etag.as_ref());
        let note = whole.then(|| Note::of(etag));
        match self.options.existing {
            _ if self.options.if_changed => note,
            Existing::Verify => note.filter(|note| !note.is_empty()),
            _ => None,
        }
    }
}
