//! How a download ends, or begins again: published, failed, stopped, reset.

use std::fs::File;
use std::io::Read as _;

use super::*;
use crate::disk::naming::Named;
use crate::model::checkpoint::{Claim, Match};
use crate::model::signature;

/// Told of a file that was published where the file system cannot do better.
const UNSURE_RENAME: &str = "the file system has neither links nor renaming without replacing: \
                             that no file had the name was seen right before it was given";

impl Driver {
    pub(super) async fn reset(&mut self, forget_identity: bool) {
        let was = self.expected.clone().map(|resource| (resource, self.joined.clone()));
        self.forget(forget_identity).await;
        // Only now, when nobody stores any more.
        self.keep_given(was);
    }

    async fn forget(&mut self, forget_identity: bool) {
        // Before anything else is stored where readers read.
        self.shared.contents.give_up();
        self.believe_earlier = false;
        self.bytes = 0;
        self.resumed_bytes = 0;
        self.claims.begin_again();
        (self.known, self.not_modified) = (None, None);
        self.forget_joined();
        if forget_identity {
            self.forget_validators();
            (self.expected, self.selected) = (None, None);
        }
        if std::mem::take(&mut self.altered) {
            return self.discard().await;
        }
        if let Some(store) = self.store.take() {
            // Reports of the old epoch must not reach the new one.
            self.store_events.forget();
            match store.reset().await {
                Ok(place) => self.kept = Some(place),
                Err(error) => self.end_with(error).await,
            }
        }
    }

    pub(super) async fn finish(&mut self) {
        if self.store.is_none() {
            return;
        }
        self.give_connections_back();
        self.shared.send(&Event::Syncing);
        self.publish_progress(true);
        if let Some(panicked) = self.shared.panicked() {
            return self.end_with(panicked.into()).await;
        }
        let Some(store) = self.store.take() else { return };
        if self.expected.as_ref().is_some_and(|resource| resource.total.is_none()) && !self.chunked
        {
            self.notice(
                NoticeCode::UnprovenLength,
                "only the end of the connection marks the end of the file: nothing proves that \
                 it is whole"
                    .to_owned(),
            );
        }
        let modified_unix = self
            .expected
            .as_ref()
            .filter(|_| self.options.remote_time)
            .and_then(|resource| resource.validator.last_modified.as_ref())
            .map(|modified| modified.unix_seconds);
        let publish = PublishOptions {
            existing: self.options.existing,
            replaces_empty: self.options.continues_foreign(),
            sync: self.options.sync,
            modified_unix,
            note: self.note(),
        };
        let finished = store.finish(publish, self.expected_digests()).await;
        if let Err((error, _)) = &finished
            && self.fetch_again(error)
        {
            return;
        }
        self.ended = Some(match finished {
            Ok(finished) => {
                self.bytes = finished.bytes;
                self.output = finished.output.or(self.output.take());
                if finished.named == Named::AfterLook {
                    self.notice(NoticeCode::Other, UNSURE_RENAME.to_owned());
                }
                self.shared.contents.complete(finished.bytes);
                let first = self.counters.first_byte.get();
                Ok(Outcome::Completed(Box::new(Summary {
                    output: self.output.clone().unwrap_or_default(),
                    unchanged: false,
                    bytes: finished.bytes,
                    fetched_bytes: self.counters.body_bytes.load(Ordering::Relaxed),
                    resumed_bytes: self.resumed_bytes,
                    mapped_bytes: finished.mapped_bytes,
                    requests: self.counters.requests.load(Ordering::Relaxed),
                    retries: self.planner.rounds(),
                    elapsed: self.started.elapsed(),
                    time_to_first_byte: first.map(|at| at.duration_since(self.started)),
                    connections: self.max_active,
                    limited_by: self.limited_by(),
                    blake3: finished.blake3,
                    verified: finished.verified,
                })))
            }
            Err((error, kept)) => Err(self.with_kept(error, kept).await),
        });
        if let Some(Ok(_)) = &self.ended {
            self.note_other_content().await;
        }
        self.record().await;
        self.publish_progress(true);
    }

    /// Says so where the published file is a page or the like, and its name or type
    /// are of something else: a login or an error that came with status 200. And where it
    /// only lists the parts of a film.
    async fn note_other_content(&self) {
        let Some(output) = self.output.clone().filter(|_| !self.options.keeps_nothing()) else {
            return;
        };
        let kind = self.expected.as_ref().and_then(Resource::media_type);
        let name = output.file_name().unwrap_or_default().to_string_lossy();
        let wanted = signature::wanted(&name, kind.as_deref());
        if wanted.is_none() && !signature::may_be_playlist(&name, kind.as_deref()) {
            return;
        }
        let read = move || -> std::io::Result<Vec<u8>> {
            let mut first = Vec::new();
            File::open(output)?.take(signature::READ_BYTES).read_to_end(&mut first)?;
            Ok(first)
        };
        let first = self.engine.writers.crew().blocking(read).await;
        let Some(Ok(first)) = first else { return };
        if let Some(found) = signature::playlist(&first) {
            let message = format!(
                "this is {found}, which names the parts of a film: the film itself is not here; \
                 yt-dlp URL, or ffmpeg -i URL -c copy FILE, fetches it"
            );
            self.notice(NoticeCode::Playlist, message);
        } else if let (Some(wanted), Some(found)) = (wanted, signature::other_content(&first)) {
            let message = format!("this is {found}, not {wanted}: a login page or an error?");
            self.notice(NoticeCode::OtherContent, message);
        }
    }

    pub(super) fn error_of(&self, failure: &Failure) -> Error {
        let url = redact(&self.opener().current);
        let error = Error::new(failure.kind, format!("cannot download {url}: {}", failure.message));
        let error = match failure.status {
            Some(status) => error.with_status(status),
            None => error,
        };
        if let Some(hint) = &failure.hint {
            return error.with_hint(hint);
        }
        match failure.kind {
            ErrorKind::AccessDenied => error.with_hint(self.how_to_go_on()),
            ErrorKind::ProxyRefused => error.with_hint(
                "its login is part of its URL, wherever that is given: http://NAME:PASS@HOST:PORT",
            ),
            ErrorKind::Network => error.with_hint("check the network and run it again"),
            ErrorKind::Callback => error.with_hint(guard::HINT),
            ErrorKind::Tls => error.with_hint(
                "where a certificate is refused: a private authority is trusted with --cacert \
                 FILE; do not continue if the certificate is unexpected",
            ),
            ErrorKind::DigestMismatch => error.with_hint(ALTERED_HINT),
            ErrorKind::ObjectChanged => error
                .with_hint("wait until the object is no longer being replaced, then start again"),
            ErrorKind::Protocol => error
                .with_hint("the server or something before it is broken; nothing wrong was stored"),
            ErrorKind::HttpStatus => {
                let https = self.opener().current.scheme() == "https";
                match failure.status.and_then(|status| hint_of_status(status, https)) {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                }
            }
            _ => error,
        }
    }

    /// After a refusal: what is here can be continued with another URL.
    fn how_to_go_on(&self) -> String {
        if let Some(words) = &self.login_words {
            return words.clone();
        }
        let login = "the link may have expired or need a login";
        let earlier = match &self.earlier {
            Some(Kept::File(checkpoint)) => Some(checkpoint.with_extension("")),
            _ => None,
        };
        match self.output.clone().filter(|_| self.store.is_some()).or(earlier) {
            None => format!("{login}: get a fresh URL, or give -u or -H"),
            Some(output) => format!(
                "{login}: continue with a fresh URL, haul -o '{}' NEW_URL, or have --refresh-cmd \
                 print one; or give -u or -H",
                output.display()
            ),
        }
    }

    pub(super) async fn end_with(&mut self, error: Error) {
        let kept = self.stop().await;
        self.ended = Some(Err(self.with_kept(error, kept).await));
    }

    /// The error, with what is kept where the next run goes on from it.
    async fn with_kept(&self, error: Error, kept: Option<Kept>) -> Error {
        let kept = match error.kind() {
            // It ends the same way, or begins with another version of the object.
            ErrorKind::Locked
            | ErrorKind::OutputExists
            | ErrorKind::LimitReached
            | ErrorKind::ObjectChanged => None,
            _ => kept,
        };
        match kept {
            Some(kept) if self.would_continue(&kept).await => error.with_checkpoint(kept),
            _ => error,
        }
    }

    /// Whether the next run, if it is told the same by the server as this one, goes on from
    /// what is kept: what it will read is read here.
    async fn would_continue(&self, kept: &Kept) -> bool {
        let own = self.options.own_storage.clone();
        let kept = kept.clone();
        let read = move || match (kept, own) {
            (Kept::File(path), _) => output::earlier_at(&path),
            (Kept::Storage, Some(storage)) => output::earlier_in(&*storage),
            (Kept::Storage, None) => Ok(Earlier::None),
        };
        let found = self.engine.writers.crew().blocking(read).await;
        let Some(Ok(Earlier::Checkpoint(checkpoint))) = found else { return false };
        let claim = Claim {
            same_url: true,
            digest: self.is_proven_by_digest(),
            told: !self.claims.of_object().is_empty(),
            always: self.options.resume == Resume::Always,
        };
        self.options.resume != Resume::Never
            && output::restored_bytes(&checkpoint) > 0
            && self.expected.as_ref().is_some_and(|seen| {
                let seen = self.claimed_or(seen);
                seen.ranges && !matches!(checkpoint.matches(&seen, claim), Match::Different(_))
            })
    }

    /// Ends all fetches and records what was stored.
    pub(super) async fn stop(&mut self) -> Option<Kept> {
        // The lock is given up below, and with it what readers read.
        self.shared.leave();
        self.shared.contents.close();
        self.fetches.shutdown().await;
        self.running.clear();
        let Some(store) = self.store.take() else { return self.earlier.clone() };
        store.stop().await.ok().flatten()
    }

    pub(super) async fn stopped(&mut self, how: Stop) -> Error {
        let error = Error::new(ErrorKind::Cancelled, "the download was stopped");
        self.know_earlier().await;
        if how == Stop::Remove {
            self.publish_progress(false);
            return self.remove().await.err().unwrap_or(error);
        }
        let kept = self.stop().await;
        self.publish_progress(false);
        self.with_kept(error, kept).await
    }

    /// Ends all fetches and removes what is stored, of this run or an earlier one.
    async fn remove(&mut self) -> Result<(), Error> {
        self.shared.contents.close();
        self.fetches.shutdown().await;
        self.running.clear();
        let place = match (self.store.take(), self.kept.take(), self.earlier.take()) {
            (Some(store), ..) => store.reset().await?,
            (None, Some(kept), _) => kept,
            (None, None, Some(Kept::File(checkpoint))) => {
                // Another haul that has begun with it in the meantime keeps it.
                let crew = self.engine.writers.crew();
                let in_place = self.options.in_place;
                let remove = move || partial::remove_earlier(&checkpoint, in_place);
                let removed = crew.blocking(remove).await;
                return removed.unwrap_or(Ok(()));
            }
            (None, None, Some(Kept::Storage)) => match self.options.own_storage.clone() {
                Some(storage) => Place::Own(storage),
                None => return Ok(()),
            },
            (None, None, None) => return Ok(()),
        };
        self.unlink(place).await
    }

    pub(super) async fn unlink(&self, place: Place) -> Result<(), Error> {
        let path = place.data().to_owned();
        let removed = self.engine.writers.crew().blocking(move || place.remove()).await;
        match removed {
            Some(Err(error)) => Err(Error::io("cannot remove", &path, error)),
            _ => Ok(()),
        }
    }
}

/// What to do about a status that is the end of a download.
fn hint_of_status(status: u16, https: bool) -> Option<&'static str> {
    Some(match status {
        400 if !https => {
            "check the URL; where TLS is spoken on this port, try https:// instead of http://"
        }
        400 => "check the URL, and the fields that are sent with -H",
        404 => "check the URL: its spelling, its capitals, and whether the file has moved",
        405 | 501 => "the server gives nothing out there to a download: check the URL",
        408 | 425 | 429 => "the server wants to be asked less: try again later, or with -x 1",
        451 => "the server may not give it out here, by law",
        500..=599 => "the fault is the server's: try again later, or from a --mirror URL",
        _ => return None,
    })
}
