//! The loop's step once everything was received: it is published, or fetched again.
//!
//! What this download has shown about the server is then recorded; what earlier ones have shown is
//! looked up when a download begins.

use std::fs::File;
use std::io::Read as _;
use std::sync::atomic::Ordering;

use super::{Driver, Outcome};
use crate::disk::keeper::Finished;
use crate::disk::naming::Named;
use crate::disk::prove::Expected;
use crate::disk::publish::PublishOptions;
use crate::model::config::Connections;
use crate::model::error::{Error, ErrorKind};
use crate::model::event::{Event, LimitedBy, NoticeCode, Summary};
use crate::model::resource::Resource;
use crate::model::signature;
use crate::net::connect::Origin;
use crate::net::hosts::Remembered;

/// The notice for a file that was published where the file system cannot do better.
const UNSURE_RENAME: &str = "the file system has neither links nor renaming without replacing: \
                             that no file had the name was seen right before it was given";

impl Driver {
    /// Checks how far the reader of a stream is.
    pub(super) async fn look_at_reader(&mut self) -> Result<(), Error> {
        let Some(window) = self.options.window.as_ref().filter(|_| !self.ending.is_set()) else {
            return Ok(());
        };
        self.planner.on_given(window.given(), self.meter.now());
        if self.ending.is_drained() {
            return self.finish().await;
        }
        if window.is_abandoned() {
            return Err(Error::new(ErrorKind::Cancelled, "nobody reads the stream any more"));
        }
        Ok(())
    }

    /// Everything was received.
    pub(super) async fn all_received(&mut self) -> Result<(), Error> {
        let end = self.opening.total().unwrap_or(self.meter.bytes());
        match self.ending.received_all(end)? {
            true => self.finish().await,
            false => Ok(()),
        }
    }

    /// Publishes what is stored, and ends the download with the result.
    async fn finish(&mut self) -> Result<(), Error> {
        if !self.storing.is_open() {
            return Ok(());
        }
        let publish = self.before_publishing()?;
        let expected = self.expected_digests();
        let Some(finished) = self.storing.finish(publish, expected).await else { return Ok(()) };
        let finished = match finished {
            Err((error, _)) if self.fetch_again(&error) => return Ok(()),
            Err((error, kept)) => Err(self.with_kept(error, kept).await),
            Ok(finished) => Ok(finished),
        };
        self.published(finished).await;
        Ok(())
    }

    /// Gives the connections back, and says how the object is to be published.
    ///
    /// # Errors
    /// If a part of the program has panicked.
    pub(super) fn before_publishing(&mut self) -> Result<PublishOptions, Error> {
        self.queue.give_back();
        self.shared.send(&Event::Syncing);
        self.publish_progress(true);
        if let Some(panicked) = self.shared.panicked() {
            return Err(panicked.into());
        }
        if self.opening.has_unproven_end() {
            self.notice(
                NoticeCode::UnprovenLength,
                "only the end of the connection marks the end of the file: nothing proves that \
                 it is whole"
                    .to_owned(),
            );
        }
        let modified = self.opening.expected().and_then(|it| it.validator.last_modified.as_ref());
        Ok(PublishOptions {
            existing: self.options.existing,
            replaces_empty: self.options.continues_foreign(),
            sync: self.options.sync,
            modified_unix: modified
                .filter(|_| self.options.remote_time)
                .map(|modified| modified.unix_seconds),
            note: self.opening.note(&self.options),
        })
    }

    /// Ends the download with the result of publishing it.
    pub(super) async fn published(&mut self, finished: Result<Finished, Error>) {
        let is_published = finished.is_ok();
        let outcome = finished.map(|finished| {
            self.meter.found(finished.bytes);
            if finished.output.is_some() {
                self.storing.set_output(finished.output);
            }
            if finished.named == Named::AfterLook {
                self.notice(NoticeCode::Other, UNSURE_RENAME.to_owned());
            }
            self.shared.contents.complete(finished.bytes);
            Outcome::Completed(Box::new(Summary {
                unchanged: finished.named == Named::ToAnother,
                bytes: finished.bytes,
                resumed_bytes: self.meter.resumed_bytes(),
                mapped_bytes: finished.mapped_bytes,
                limited_by: self.limited_by(),
                blake3: finished.blake3,
                verified: finished.verified,
                ..self.summary()
            }))
        });
        self.ending.set(outcome);
        if is_published {
            self.note_other_content().await;
        }
        self.record().await;
        self.publish_progress(true);
    }

    /// What is counted for the download's summary.
    pub(super) fn summary(&self) -> Summary {
        let counters = self.requests.counters();
        let first = counters.first_byte.get();
        Summary {
            output: self.output(),
            unchanged: false,
            bytes: 0,
            fetched_bytes: counters.body_bytes.load(Ordering::Relaxed),
            resumed_bytes: 0,
            mapped_bytes: 0,
            requests: counters.requests.load(Ordering::Relaxed),
            retries: self.planner.rounds(),
            elapsed: self.now(),
            time_to_first_byte: first.map(|at| self.meter.since_start(*at)),
            connections: self.meter.most_connections(),
            limited_by: None,
            blake3: None,
            verified: None,
        }
    }

    /// Starts with what earlier downloads have shown about the server that answered.
    pub(super) async fn remember(&mut self) {
        if let Some(most_bytes) = self.remember_connections().await {
            self.planner.limit_parts(most_bytes);
        }
    }

    /// Starts with as many connections as earlier downloads have shown to be of use. Returns the
    /// number of bytes beyond which a part is refused there.
    pub(super) async fn remember_connections(&mut self) -> Option<u64> {
        let hosts = self.engine.hosts.clone()?;
        let origin = Origin::of(&self.sources.opener().current)?;
        let look_up = move || hosts.look_up(&origin);
        let found = self.blocking(look_up).await.ok().flatten()?;
        if let Some(learned) = found.learned.filter(|_| self.is_auto()) {
            self.planner.remember(learned);
        }
        found.part_bytes
    }

    /// Records what this download has shown, for the next one.
    pub(super) async fn record(&self) {
        let Some(hosts) = self.engine.hosts.clone() else { return };
        let Some(origin) = Origin::of(&self.sources.opener().current) else { return };
        // A slow reader shows nothing about the server.
        let telling = self.is_auto() && self.limited_by() != Some(LimitedBy::Reader);
        let learned = self.planner.learned().filter(|_| telling);
        let shown = Remembered { learned, part_bytes: self.planner.part_limit_bytes() };
        if shown == Remembered::default() {
            return;
        }
        let record = move || hosts.record(&origin, shown);
        // A hint that cannot be kept is no failure of the download.
        let _ = self.blocking(record).await;
    }

    fn is_auto(&self) -> bool {
        matches!(self.options.connections, Connections::Auto | Connections::AutoUpTo(_))
    }

    /// What kept the download from being faster.
    pub(super) fn limited_by(&self) -> Option<LimitedBy> {
        match self.planner.limited_by(self.now()) {
            Some(LimitedBy::Disk) if self.options.window.is_some() => Some(LimitedBy::Reader),
            found => found,
        }
    }

    /// What the whole object must hash to.
    pub(super) fn expected_digests(&self) -> Expected {
        let checksum = self.options.checksum.clone();
        // Without the bytes only BLAKE3 can be computed.
        let unread = checksum.is_some() || self.options.forgets_bytes();
        let mut fields = if unread { Vec::new() } else { self.proofs.claimed() };
        // Before anything is opened each can be computed.
        if let Some(window) = &self.options.window
            && self.opening.expected().is_some()
        {
            fields.retain(|field| window.hashes(field.checksum.algorithm()));
        }
        let pieces = self.options.pieces.clone();
        Expected { checksum, fields, pieces, size_bytes: self.options.expected_size_bytes }
    }

    /// Whether the download begins again because the complete object, which is already discarded,
    /// was not what the server said, or not what the user said while parts of it are of an earlier
    /// run or of several sources: those may be what is wrong, and not what one server sends now.
    fn fetch_again(&mut self, error: &Error) -> bool {
        let several = self.planner.live_sources() > 1;
        let resumed = self.meter.resumed_bytes() > 0;
        let doubtful = self.options.checksum.is_none() || resumed || several;
        if error.kind() != ErrorKind::DigestMismatch || !doubtful || self.is_given_back() {
            return false;
        }
        // Reports of the old epoch must not reach the new one.
        self.storing.forget_reports();
        let now = self.now();
        self.planner.refetch(&error.to_string(), now)
    }

    /// Warns if the published file is a page or the like although its name or type says otherwise
    /// (a login or an error that came with status 200), or if it only lists the parts of a film.
    async fn note_other_content(&self) {
        let Some(output) = self.storing.output().filter(|_| !self.options.keeps_nothing()) else {
            return;
        };
        let kind = self.opening.expected().and_then(Resource::media_type);
        let name = output.file_name().unwrap_or_default().to_string_lossy();
        let wanted = signature::wanted(&name, kind.as_deref());
        if wanted.is_none() && !signature::may_be_playlist(&name, kind.as_deref()) {
            return;
        }
        let output = output.to_owned();
        let read = move || -> std::io::Result<Vec<u8>> {
            let mut first = Vec::new();
            File::open(output)?.take(signature::READ_BYTES).read_to_end(&mut first)?;
            Ok(first)
        };
        let first = self.blocking(read).await;
        let Ok(Ok(first)) = first else { return };
        if let Some(found) = signature::playlist(&first) {
            let message = format!(
                "this is {found}, which names the pieces of a film: the film itself is not here"
            );
            self.notice(NoticeCode::Playlist, message);
        } else if let (Some(wanted), Some(found)) = (wanted, signature::other_content(&first)) {
            let message = format!("this is {found}, not {wanted}: a login page or an error?");
            self.notice(NoticeCode::OtherContent, message);
        }
    }
}
