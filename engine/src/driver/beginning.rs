//! The loop's step that opens the output with the first response of the object.
//!
//! The response gives the size, the version and maybe the name. It is checked against what the
//! caller wants, a finished output may turn out to be the object already, and what another program
//! left may be taken over. Then the output is opened, with what an earlier run left there, and the
//! planner is told what is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::{Driver, Outcome};
use crate::disk::fitting::{accepted, fitting, with_words};
use crate::disk::keeper::KeeperOptions;
use crate::disk::output::{self, OpenedOutput};
use crate::disk::prove::{refuse_larger, refuse_size};
use crate::disk::readable::Readable;
use crate::disk::resume::earlier::{Earlier, earlier, restored_bytes};
use crate::disk::resume::final_name;
use crate::disk::storage::Storage;
use crate::driver::contents::Open;
use crate::model::config::{DigestAlgorithm, Existing};
use crate::model::error::{Error, ErrorKind};
use crate::model::event::{Event, Metadata, NoticeCode, Plan, Started};
use crate::model::name;
use crate::model::planner::{Failure, Reach};
use crate::model::redact::redact;
use crate::model::resource::Resource;
use crate::model::segment::{MIN_CHOSEN_SEGMENT_BYTES, choose_segment_size, segment_size};
use crate::model::size::exact_words;

/// How far, in bytes, leases go beyond what is stored without a gap when a
/// digest needs the bytes in order: it should find them in the page cache.
const IN_ORDER_REACH_BYTES: u64 = 256 << 20;

/// How an object is stored, for those who follow the download.
pub(super) struct Stored {
    pub(super) storage_name: &'static str,
    /// Why a file that could have been mapped is not.
    pub(super) unmapped: Option<String>,
    pub(super) segment_size_bytes: u64,
    pub(super) restored_bytes: u64,
}

impl Driver {
    pub(super) async fn open(&mut self, resource: Resource) -> Result<(), Error> {
        self.refuse_object(&resource)?;
        let output = self.choose_name(&resource);
        if self.options.plan_only {
            let output = final_name(output, self.options.existing);
            self.planned(output, &resource).await;
            return Ok(());
        }
        if let Some(version) = self.opening.is_unchanged(&self.options, &output, &resource) {
            self.end_unchanged(output, version, resource, None);
            return Ok(());
        }
        Box::pin(self.adopt_leftover(&output, &resource)).await?;
        if Box::pin(self.end_with_finished(&output, &resource)).await? {
            return Ok(());
        }
        if self.options.in_place && !self.options.keeps_nothing() && !self.storing.keeps_place() {
            self.notice(
                NoticeCode::InPlace,
                "the file has its final name from the start: until the end only its checkpoint \
                 tells that it is not complete"
                    .to_owned(),
            );
        }
        let mut request = self.request_for(output, &resource);
        let mut start = match self.storing.take_place() {
            Some(place) => output::Start::Over(place),
            None => output::Start::Acquire { believe: self.opening.believes_earlier() },
        };
        let opened = loop {
            let error = match self.open_output(&request, start).await {
                Ok(opened) => break opened,
                Err(error) => error,
            };
            let fitting = fitting(&request.output, &error);
            let Some(output) = fitting.filter(|_| self.options.output.is_none()) else {
                // What is in the way of this run is in the way of the next one.
                if error.kind() == ErrorKind::LocalFile {
                    self.opening.set_earlier(None);
                }
                return Err(with_words(&request.output, error));
            };
            let name = output.file_name().unwrap_or_default().to_string_lossy();
            let message = format!("the file system does not take the name: stored as {name}");
            self.notice(NoticeCode::NameChanged, message);
            request.output = output;
            self.storing.release_name();
            start = output::Start::Acquire { believe: self.opening.believes_earlier() };
        };
        self.storing.set_output(match &self.options.window {
            Some(_) => self.options.output.clone(),
            None => opened.place.output().map(Path::to_owned),
        });
        // A single segment uses one connection, however many the server bears.
        if opened.checkpoint.segments.len() > 1 {
            self.remember().await;
        }
        self.opened(resource, opened)
    }

    /// The output that was chosen, or that the response names; then also whether the name had to
    /// be changed.
    pub(super) fn output_for(&self, resource: &Resource) -> (PathBuf, bool) {
        if let Some(output) = &self.options.output {
            return (self.options.directory.join(output), false);
        }
        let safe = name::file_name(
            resource.content_disposition.as_deref(),
            resource.content_type.as_deref(),
            self.options.url.path(),
            self.sources.opener().current.path(),
        );
        let name = accepted(&safe.name);
        let changed = safe.changed || name != safe.name;
        (self.options.directory.join(name), changed)
    }

    fn choose_name(&self, resource: &Resource) -> PathBuf {
        let (output, changed) = self.output_for(resource);
        if changed {
            let name = output.file_name().unwrap_or_default().to_string_lossy();
            self.notice(NoticeCode::NameChanged, format!("the name was made safe: {name}"));
        }
        output
    }

    /// Refuses an object that is not what the caller wants.
    pub(super) fn refuse_object(&self, resource: &Resource) -> Result<(), Error> {
        if let Some(found) = resource.total {
            refuse_size(self.options.expected_size_bytes, found)?;
            refuse_larger(self.options.max_size_bytes, found)?;
        }
        if let (true, Some(encoding)) = (self.options.document, &resource.encoding) {
            let why = format!("the server insists on the coding `{}`", name::brief(encoding));
            return Err(self.error_of(&Failure::new(ErrorKind::Protocol, why)));
        }
        let (from, source) = (self.opening.opened_from(), &self.sources.opener().current);
        let by_digest = self.options.is_proven_by_digest();
        self.ending.refuse_other_version(resource, from, source, by_digest)?;
        if let (Some(pieces), Some(total)) = (&self.options.pieces, resource.total)
            && !pieces.fit(total)
        {
            let (count, len) = (pieces.count(), exact_words(pieces.piece_bytes()));
            let total = exact_words(total);
            let message = format!("the object has {total}, which are not {count} pieces of {len}");
            return Err(Error::new(ErrorKind::DigestMismatch, message));
        }
        Ok(())
    }

    /// What is needed to open `output` for this object.
    pub(super) fn request_for(&self, output: PathBuf, resource: &Resource) -> output::Request {
        output::Request {
            output,
            existing: self.options.existing,
            replaces_empty: self.options.continues_foreign(),
            in_place: self.options.in_place,
            resume: self.options.resume,
            storage: self.options.storage,
            window: self.options.window.clone(),
            allocation: self.options.allocation,
            own_storage: self.options.own_storage.clone(),
            segment_size_bytes: self.wanted_segment_size(resource.total),
            small_bytes: self.options.small_bytes,
            unnamed: Arc::clone(&self.engine.unnamed),
            has_digest: self.options.is_proven_by_digest(),
            told_digest: !self.proofs.claimed().is_empty(),
            sync: self.options.sync,
            // A digest binds the sources, so that the checkpoint is of the caller's URL.
            url: match self.options.is_proven_by_digest() {
                true => self.options.url.clone(),
                false => self.sources.opener().given.clone(),
            },
            answered: self.opening.opened_from().unwrap_or(&self.sources.opener().current).clone(),
            seed: self.options.seed,
            resource: self.opening.claimed_or(resource, self.is_proven_among_several()),
            selected: self.opening.selected().cloned(),
        }
    }

    /// Opens the output. If the partial is of another URL, both must first be
    /// shown to have the same bytes.
    async fn open_output(
        &mut self,
        request: &output::Request,
        start: output::Start,
    ) -> Result<OpenedOutput, Error> {
        if !self.options.keeps_nothing() {
            let (holds, leaving) = (&self.engine.holds, &self.shared.leaving);
            match self.storing.take_name(holds, &request.output, leaving).await {
                // The locks tell which of the numbered names are free.
                Err(_) if request.existing == Existing::Rename => {}
                taken => taken?,
            }
        }
        match output::open_at_once(request, &start)? {
            Some(opened) => Ok(*opened),
            // Boxed, so that not every small download needs room for it.
            None => Box::pin(self.open_in_time(request, start)).await,
        }
    }

    async fn open_in_time(
        &mut self,
        request: &output::Request,
        mut start: output::Start,
    ) -> Result<OpenedOutput, Error> {
        loop {
            let asked = request.clone();
            let opening = self.blocking(move || output::open(&asked, start)).await??;
            let (place, proof) = match opening {
                output::Opening::Ready(opened) => return Ok(*opened),
                output::Opening::Prove(what) => *what,
            };
            self.opening.set_earlier(place.kept());
            let shows = "what is here is of another URL, and the segments that would show whether \
                         it is the same object";
            let holds = self.sends(&proof, request, shows).await?;
            start = output::Start::Proven(place, holds);
        }
    }

    fn opened(&mut self, resource: Resource, opened: OpenedOutput) -> Result<(), Error> {
        let OpenedOutput {
            place,
            storage,
            unmapped,
            checkpoint,
            mut restored,
            restored_bytes,
            notices,
            readers,
        } = opened;
        if self.options.pieces.is_some() {
            // Their pieces tell whether they are good.
            restored.verifying.append(&mut restored.durable);
        }
        for (code, message) in notices {
            self.notice(code, message);
        }
        if let Some(readers) = readers {
            tracing::debug!(readers, "others can read the file, as all in its directory");
            if self.sends_secrets() {
                let message =
                    format!("others can read the file, as all in its directory: {readers}");
                self.notice(NoticeCode::Other, message);
            }
        }
        if let Some(encoding) = &resource.encoding {
            let message = format!(
                "the server insists on the coding `{}`: the file holds the coded bytes",
                name::brief(encoding)
            );
            self.notice(NoticeCode::ContentEncoding, message);
        }
        let segment_size_bytes = checkpoint.segment_size_bytes;
        self.opening.set_earlier(None);
        self.meter.opened(restored_bytes, segment_size_bytes);
        let algorithm = self.expected_digests().algorithm();
        let in_order = algorithm.is_some_and(|of| of != DigestAlgorithm::Blake3);
        let window = self.options.window.clone();
        self.planner.stay_within(match &window {
            Some(window) => {
                let blake3 = self.options.digest.then_some(DigestAlgorithm::Blake3);
                window.choose_by(self.options.seed);
                window.hash(algorithm.filter(|_| in_order).into_iter().chain(blake3));
                Some(Reach::Window { bytes: window.capacity_bytes(), given: window.given() })
            }
            None => in_order.then_some(Reach::Frontier(IN_ORDER_REACH_BYTES)),
        });
        let stream = resource.total.is_none();
        let storage_name = if stream { "stream" } else { storage.name() };
        let stored =
            Arc::new(Readable::new(checkpoint.layout(), Arc::clone(self.shared.contents.alarm())));
        self.storing.open(|hold, events| KeeperOptions {
            place,
            storage: Arc::clone(&storage),
            readable: Arc::clone(&stored),
            writers: self.engine.writers.clone(),
            checkpoint,
            sync: self.options.sync,
            directories: Arc::clone(&self.engine.directories),
            endings: Arc::clone(&self.engine.endings),
            digest: self.options.digest && window.is_none(),
            expected: algorithm.filter(|_| window.is_none()),
            window,
            pieces: self.options.pieces.clone(),
            hold,
            events,
        })?;
        let how = Stored { storage_name, unmapped, segment_size_bytes, restored_bytes };
        self.tell_opened(resource, storage, stored, how);
        self.proofs.opened(self.opening.opened_from());
        self.join_sources();
        self.look_up_description();
        let now = self.now();
        self.planner.on_opened(segment_size_bytes, &restored, now);
        self.publish_progress(false);
        Ok(())
    }

    /// Tells readers and listeners what the object is, and where.
    pub(super) fn tell_opened(
        &mut self,
        resource: Resource,
        storage: Arc<dyn Storage>,
        stored: Arc<Readable>,
        how: Stored,
    ) {
        let metadata = self.metadata(&resource);
        let crew = self.engine.writers.crew();
        self.shared.contents.open(Open { storage, stored, metadata, crew });
        self.shared.send(&Event::Started(Started {
            url: redact(&self.sources.opener().current),
            output: self.output(),
            total_bytes: resource.total,
            ranges: resource.ranges,
            validator: resource.validator.kind(),
            resumed_bytes: how.restored_bytes,
            connections: self.requests.count(),
            shares_connection: self.requests.share(),
            segment_size_bytes: how.segment_size_bytes,
            storage: how.storage_name,
            unmapped: how.unmapped,
        }));
        self.sources.opened(resource.validator.clone());
        self.opening.expect(resource);
    }

    /// No larger than a piece, so that only bad pieces are fetched again.
    fn wanted_segment_size(&self, total: Option<u64>) -> Option<u64> {
        let chosen = self.options.segment_size_bytes;
        let Some(pieces) = self.options.pieces.as_ref().filter(|_| chosen.is_none()) else {
            return chosen;
        };
        let piece = 1 << pieces.piece_bytes().ilog2();
        let usual = choose_segment_size(total.unwrap_or(0));
        Some(usual.min(piece).max(MIN_CHOSEN_SEGMENT_BYTES))
    }

    pub(super) fn metadata(&self, resource: &Resource) -> Metadata {
        let output = self.output();
        let modified = resource.validator.last_modified.as_ref();
        Metadata {
            url: redact(&self.sources.opener().current),
            name: output.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            output,
            total_bytes: resource.total,
            object_bytes: match self.opening.selected() {
                Some(selected) => Some(selected.object_bytes),
                None => resource.total,
            },
            content_type: resource.content_type.clone(),
            ranges: resource.ranges,
            validator: resource.validator.kind(),
            etag: resource.validator.etag.as_ref().map(ToString::to_string),
            last_modified: modified
                .and_then(|it| UNIX_EPOCH.checked_add(Duration::from_secs(it.unix_seconds))),
        }
    }

    async fn planned(&mut self, output: PathBuf, resource: &Resource) {
        let size = segment_size(resource.total.unwrap_or(0), self.options.segment_size_bytes);
        let (mut plan_output, mut resumable_bytes) = (PathBuf::new(), 0);
        let unchanged = self.opening.is_unchanged(&self.options, &output, resource).is_some()
            || self.is_finished(&output, resource).await;
        if !self.options.keeps_nothing() {
            let paths = self.options.paths(&output);
            let read = move || match earlier(&paths) {
                Ok(Earlier::Checkpoint(checkpoint)) => restored_bytes(&checkpoint),
                _ => 0,
            };
            resumable_bytes = self.blocking(read).await.unwrap_or(0);
            plan_output = output;
        }
        let (status, headers) = self.opening.take_head();
        let headers = headers.iter().map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let plan = Plan {
            status,
            headers: headers.collect(),
            url: redact(&self.sources.opener().current),
            resumable_bytes,
            unchanged,
            output: plan_output,
            total_bytes: resource.total,
            ranges: resource.ranges,
            validator: resource.validator.kind(),
            connections: self.planner.limit(),
            segment_size_bytes: size,
        };
        self.ending.set(Ok(Outcome::Planned(Box::new(plan))));
    }
}
