//! The output: what an earlier run left there, and how it is opened.

use std::time::UNIX_EPOCH;

use super::*;
use crate::disk::fitting::{fitting, with_words};
use crate::disk::readable::Readable;
use crate::driver::contents::Open;
use crate::model::checkpoint::Checkpoint;
use crate::model::event::Metadata;
use crate::model::segment::{MIN_CHOSEN_SEGMENT_BYTES, choose_segment_size};
use crate::model::size::exact_words;
use crate::net::url_proof::{self, Unproven};

impl Driver {
    /// Looks at what is at the output if its name is known or can be guessed,
    /// so that the first request already asks for something missing. Names are looked
    /// up at once, which a download of which nothing is here waits for alone.
    pub(super) async fn look_for_earlier(&mut self) -> Result<(), Error> {
        if self.options.keeps_nothing() {
            if let Some(Earlier::Checkpoint(checkpoint)) = self.in_storage.take() {
                self.claim_earlier(*checkpoint, Kept::Storage);
            }
            return Ok(());
        }
        let path = match &self.options.output {
            Some(output) => self.options.directory.join(output),
            None => {
                // The server has yet to tell the name: the first that has a checkpoint.
                let of = |name: String| self.options.directory.join(name);
                let mut names = name::possible_names(self.options.url.path()).map(of);
                let plain = names.next().unwrap_or_default();
                let begun = |path: &PathBuf| Paths::of(path).checkpoint.exists();
                // For each of thousands of files a look at every extension costs as much as
                // fetching it. What was begun under another name is found when it is opened.
                let guess = self.options.small_bytes == 0 && !begun(&plain);
                if guess { names.find(begun).unwrap_or(plain) } else { plain }
            }
        };
        let path = self.final_name(path);
        let paths = self.options.paths(&path);
        let named = self.options.output.is_some();
        if self.adopts() && Box::pin(self.find_leftover(&paths)).await? {
            return Ok(());
        }
        let replaces_empty = self.options.continues_foreign();
        if self.options.existing.keeps_old()
            && !self.plan_only
            && let Err(refused) = partial::refuse_finished(&paths, replaces_empty)
        {
            if self.options.existing == Existing::Verify && self.know_finished(&path) {
                return Ok(());
            }
            if named {
                return Err(refused);
            }
        }
        if named && !self.plan_only {
            partial::refuse_locked(&paths)?;
            if !paths.are_in_place() {
                partial::refuse_foreign(&paths)?;
            }
        }
        self.know(&path);
        match self.believe_earlier && paths.checkpoint.exists() {
            true => Box::pin(self.read_earlier(paths)).await,
            false => Ok(()),
        }
    }

    async fn read_earlier(&mut self, paths: Paths) -> Result<(), Error> {
        let checkpoint = paths.checkpoint.clone();
        let read = move || output::earlier(&paths);
        let found = self.engine.writers.crew().blocking(read).await;
        match found.unwrap_or(Ok(Earlier::None)) {
            // Anything but a readable checkpoint is judged when the output is opened.
            Ok(Earlier::Checkpoint(earlier)) => {
                self.claim_earlier(*earlier, Kept::File(checkpoint));
                Ok(())
            }
            // The server may tell another name than the one that was guessed.
            Err(error) if self.options.output.is_some() && !self.plan_only => Err(error),
            _ => Ok(()),
        }
    }

    /// What a storage of the program has of an earlier run, read where that may block.
    pub(super) async fn load_earlier(&mut self) -> Result<(), Error> {
        let own = self.options.own_storage.clone().filter(|_| self.options.window.is_none());
        if let Some(storage) = own.filter(|_| self.believe_earlier && !self.plan_only) {
            let load = move || output::earlier_in(&*storage);
            let loaded = self.engine.writers.crew().blocking(load).await;
            self.in_storage = loaded.transpose()?;
        }
        Ok(())
    }

    /// Has the first request ask for what the checkpoint, which `kept` has, says is
    /// missing of the object that it is of.
    fn claim_earlier(&mut self, checkpoint: Checkpoint, kept: Kept) {
        if checkpoint.total.is_some_and(|total| total > 0)
            && self.wants_the_same(checkpoint.selected.as_ref())
        {
            self.selected.clone_from(&checkpoint.selected);
            let known = self.sources.iter().any(|of| checkpoint.identity.is_of(&of.given));
            let told = known && !checkpoint.validator.has_malformed_tag();
            let opening = if told || self.is_proven_by_digest() {
                output::opening_range(&checkpoint, self.options.first_range_bytes)
            } else {
                // What is to be proven first takes the place of this response.
                ByteRange::new(0, 1)
            };
            // What is kept when this run ends before its first response.
            self.bytes = output::restored_bytes(&checkpoint);
            self.earlier = Some(kept);
            let claimed = Resource {
                total: checkpoint.total,
                validator: checkpoint.validator,
                ranges: true,
                encoding: checkpoint.encoding,
                content_type: checkpoint.content_type,
                content_disposition: None,
            };
            let identity = checkpoint.identity;
            let source = self.source_of(|url| identity.is_of(url));
            self.planner.prefer(source);
            // Of sources that a digest binds, any may have been the one.
            if !self.is_proven_among_several() {
                self.set_validator(source, claimed.validator.clone());
            }
            self.planner.claim(claimed.clone(), opening);
            self.expected = Some(claimed);
        }
    }

    pub(super) async fn open(&mut self, resource: Resource) {
        if let Some(found) = resource.total
            && let Err(error) = refuse_size(self.options.expected_size_bytes, found)
                .and_then(|()| refuse_larger(self.options.max_size_bytes, found))
        {
            return self.end_with(error).await;
        }
        if let (true, Some(encoding)) = (self.options.document, &resource.encoding) {
            let why = format!("the server insists on the coding `{}`", name::brief(encoding));
            let error = self.error_of(&Failure::new(ErrorKind::Protocol, why));
            return self.end_with(error).await;
        }
        if let Err(error) = self.refuse_other_version(&resource) {
            return self.end_with(error).await;
        }
        if let (Some(pieces), Some(total)) = (&self.options.pieces, resource.total)
            && !pieces.fit(total)
        {
            let (count, len) = (pieces.count(), exact_words(pieces.piece_bytes()));
            let total = exact_words(total);
            let message = format!("the object has {total}, which are not {count} pieces of {len}");
            return self.end_with(Error::new(ErrorKind::DigestMismatch, message)).await;
        }
        let output = match &self.options.output {
            Some(output) => self.options.directory.join(output),
            None => {
                let safe = name::file_name(
                    resource.content_disposition.as_deref(),
                    resource.content_type.as_deref(),
                    self.options.url.path(),
                    self.opener().current.path(),
                );
                if safe.changed {
                    let message = format!("the name was made safe: {}", safe.name);
                    self.notice(NoticeCode::NameChanged, message);
                }
                self.options.directory.join(safe.name)
            }
        };
        if self.plan_only {
            let output = self.final_name(output);
            return self.planned(output, &resource).await;
        }
        if let Some(version) = self.is_unchanged(&output, &resource) {
            return self.end_unchanged(output, version, resource);
        }
        if Box::pin(self.adopt_leftover(&output, &resource)).await
            || Box::pin(self.end_with_finished(&output, &resource)).await
        {
            return;
        }
        if self.options.in_place && !self.options.keeps_nothing() && self.kept.is_none() {
            self.notice(
                NoticeCode::InPlace,
                "the file has its final name from the start: until the end only its checkpoint \
                 tells that it is not complete"
                    .to_owned(),
            );
        }
        let mut request = self.request_for(output, &resource);
        let mut start = match self.kept.take() {
            Some(place) => output::Start::Over(place),
            None => output::Start::Acquire { believe: self.believe_earlier },
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
                    self.earlier = None;
                }
                return self.end_with(with_words(error)).await;
            };
            let name = output.file_name().unwrap_or_default().to_string_lossy();
            let message = format!("the file system does not take the name: stored as {name}");
            self.notice(NoticeCode::NameChanged, message);
            request.output = output;
            self.hold = None;
            start = output::Start::Acquire { believe: self.believe_earlier };
        };
        self.output = match &self.options.window {
            Some(_) => self.options.output.clone(),
            None => opened.place.output().map(Path::to_owned),
        };
        // One segment is one connection's, whatever the server bears.
        if opened.checkpoint.segments.len() > 1 {
            self.remember().await;
        }
        if let Err(error) = self.opened(resource, opened) {
            self.end_with(error).await;
        }
    }

    /// What opening `output` for this object rests on.
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
            has_digest: self.is_proven_by_digest(),
            told_digest: !self.claims.of_object().is_empty(),
            sync: self.options.sync,
            url: self.identity_url(),
            answered: self.opened_from.clone().unwrap_or_else(|| self.opener().current.clone()),
            seed: self.options.seed,
            resource: self.claimed_or(resource),
            selected: self.selected.clone(),
        }
    }

    /// The name that the output would have now.
    fn final_name(&self, output: PathBuf) -> PathBuf {
        match self.options.existing {
            Existing::Rename => output::free_name(&output),
            Existing::Refuse | Existing::Verify | Existing::Replace => output,
        }
    }

    /// Says no to an object of unknown length that has become too large.
    pub(super) fn refuse_growing(&self) -> Result<(), Error> {
        let unknown = self.expected.as_ref().is_some_and(|resource| resource.total.is_none());
        if unknown && self.ended.is_none() {
            refuse_larger(self.options.max_size_bytes, self.bytes)?;
        }
        Ok(())
    }

    /// Opens the output; where the partial is of another URL, after it was shown
    /// that both have the same bytes.
    pub(super) async fn open_output(
        &mut self,
        request: &output::Request,
        start: output::Start,
    ) -> Result<OpenedOutput, Error> {
        self.take_name(request).await?;
        match output::open_at_once(request, &start)? {
            Some(opened) => Ok(*opened),
            // On the heap, so that not every small download has room for it.
            None => Box::pin(self.open_in_time(request, start)).await,
        }
    }

    /// Sees to it that no other download of this engine writes the same output.
    async fn take_name(&mut self, request: &output::Request) -> Result<(), Error> {
        if self.hold.is_some() || self.options.keeps_nothing() {
            return Ok(());
        }
        // What an earlier download of this engine leaves is continued when it has left.
        match self.engine.holds.take(&request.output, &self.shared.leaving).await {
            Ok(hold) => self.hold = Some(hold),
            // The locks tell which of the numbered names are free.
            Err(_) if request.existing == Existing::Rename => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn open_in_time(
        &mut self,
        request: &output::Request,
        mut start: output::Start,
    ) -> Result<OpenedOutput, Error> {
        let crew = self.engine.writers.crew();
        loop {
            let asked = request.clone();
            let opening =
                crew.blocking(move || output::open(&asked, start)).await.unwrap_or_else(|| {
                    Err(Error::new(ErrorKind::Internal, "a file operation was lost"))
                })?;
            let (place, proof) = match opening {
                output::Opening::Ready(opened) => return Ok(*opened),
                output::Opening::Prove(place, proof) => (place, proof),
            };
            self.earlier = place.kept();
            // The proof takes the place of the response that waits, which may be the
            // only one that this host or the engine has room for.
            let waiting: Vec<LeaseId> = self.running.keys().copied().collect();
            waiting.into_iter().for_each(|lease| self.decide(lease, None));
            let unusable = || Error::new(ErrorKind::Internal, "a URL without an origin");
            let asking = self
                .asking(self.opener, &request.answered, &request.resource)
                .ok_or_else(unusable)?;
            let holds = url_proof::holds(&proof, &*self.engine.transport, &self.counters, &asking);
            let holds = holds.await.map_err(|Unproven { error, .. }| {
                let message = format!(
                    "what is here is of another URL, and the segments that would show whether it \
                     is the same object cannot be fetched: {error}"
                );
                Error::new(kind_of(error.kind), message)
                    .with_hint("run it again, or choose another output")
            })?;
            start = output::Start::Proven(place, holds);
        }
    }

    pub(super) fn opened(&mut self, resource: Resource, opened: OpenedOutput) -> Result<(), Error> {
        let OpenedOutput {
            place,
            storage,
            unmapped,
            checkpoint,
            mut restored,
            restored_bytes,
            notices,
        } = opened;
        if self.options.pieces.is_some() {
            // Whether they are good is told by their pieces.
            restored.verifying.append(&mut restored.durable);
        }
        for (code, message) in notices {
            self.notice(code, message);
        }
        if let Some(encoding) = &resource.encoding {
            let message = format!(
                "the server insists on the coding `{}`: the file holds the coded bytes",
                name::brief(encoding)
            );
            self.notice(NoticeCode::ContentEncoding, message);
        }
        let segment_size_bytes = checkpoint.segment_size_bytes;
        self.segment_size_bytes = segment_size_bytes;
        self.earlier = None;
        self.bytes = restored_bytes;
        self.resumed_bytes = restored_bytes;
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
        self.store = Some(KeeperHandle::open(KeeperOptions {
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
            hold: self.hold.clone(),
            events: self.store_events.sender(),
        })?);
        let metadata = self.metadata(&resource);
        let crew = self.engine.writers.crew();
        self.shared.contents.open(Open { storage, stored, metadata, crew });
        self.shared.send(&Event::Started(Started {
            url: redact(&self.opener().current),
            output: self.output.clone().unwrap_or_default(),
            total_bytes: resource.total,
            ranges: resource.ranges,
            validator: resource.validator.kind(),
            resumed_bytes: restored_bytes,
            connections: self.running.len(),
            segment_size_bytes,
            storage: storage_name,
            unmapped,
        }));
        self.set_validator(self.opener, resource.validator.clone());
        self.expected = Some(resource);
        self.joined = self.opened_from.iter().cloned().collect();
        self.sources.iter_mut().for_each(|source| source.replaced = None);
        self.sources[self.opener].redirects = 0;
        self.join_sources();
        self.look_up_description();
        let now = self.now();
        self.planner.on_opened(segment_size_bytes, &restored, now);
        self.publish_progress(false);
        Ok(())
    }

    /// The resource by which an earlier checkpoint is judged: what another
    /// source's validator says of it counts for nothing where a digest decides.
    pub(super) fn claimed_or(&self, resource: &Resource) -> Resource {
        let claimed = self.expected.as_ref().filter(|_| self.is_proven_among_several());
        let validator = claimed.map_or(&resource.validator, |claimed| &claimed.validator);
        Resource { validator: validator.clone(), ..resource.clone() }
    }

    /// No larger than a piece, of which only the bad ones are fetched again.
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
        let output = self.output.clone().unwrap_or_default();
        let modified = resource.validator.last_modified.as_ref();
        Metadata {
            url: redact(&self.opener().current),
            name: output.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            output,
            total_bytes: resource.total,
            object_bytes: match &self.selected {
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

    pub(super) async fn planned(&mut self, output: PathBuf, resource: &Resource) {
        let size = segment_size(resource.total.unwrap_or(0), self.options.segment_size_bytes);
        let (mut plan_output, mut resumable_bytes) = (PathBuf::new(), 0);
        let unchanged = self.is_unchanged(&output, resource).is_some()
            || self.is_finished(&output, resource).await;
        if !self.options.keeps_nothing() {
            let paths = self.options.paths(&output);
            let read = move || match output::earlier(&paths) {
                Ok(Earlier::Checkpoint(checkpoint)) => output::restored_bytes(&checkpoint),
                _ => 0,
            };
            resumable_bytes = self.engine.writers.crew().blocking(read).await.unwrap_or(0);
            plan_output = output;
        }
        let (status, headers) = self.head.take().unwrap_or_default();
        let headers = headers.iter().map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let plan = Plan {
            status,
            headers: headers.collect(),
            url: redact(&self.opener().current),
            resumable_bytes,
            unchanged,
            output: plan_output,
            total_bytes: resource.total,
            ranges: resource.ranges,
            validator: resource.validator.kind(),
            connections: self.planner.limit(),
            segment_size_bytes: size,
        };
        self.ended = Some(Ok(Outcome::Planned(Box::new(plan))));
    }
}
