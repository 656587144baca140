//! How a download ends, or begins again: published, failed, stopped, reset.

use super::*;

impl Driver {
    pub(super) async fn reset(&mut self, forget_identity: bool) {
        let was = self.expected.clone();
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
        self.known = None;
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
        let Some(store) = self.store.take() else { return };
        self.give_connections_back();
        self.shared.send(&Event::Syncing);
        self.publish_progress(true);
        if self.expected.as_ref().is_some_and(|resource| resource.total.is_none()) && !self.chunked
        {
            self.notice(
                NoticeCode::UnprovenLength,
                "the server told no size: nothing proves that the file is whole".to_owned(),
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
            sync: self.options.sync,
            modified_unix,
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
                self.shared.contents.complete(finished.bytes);
                let first = self.counters.first_byte.get();
                Ok(Outcome::Completed(Box::new(Summary {
                    output: self.output.clone().unwrap_or_default(),
                    unchanged: false,
                    bytes: finished.bytes,
                    fetched_bytes: self.counters.body_bytes.load(Ordering::Relaxed),
                    resumed_bytes: self.resumed_bytes,
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
            Err((error, checkpoint)) => Err(error.with_checkpoint(checkpoint)),
        });
        if let Some(Ok(_)) = &self.ended {
            self.note_version().await;
        }
        self.record().await;
        self.publish_progress(true);
    }

    pub(super) fn error_of(&self, failure: &Failure) -> Error {
        let url = redact(&self.opener().current);
        let error = Error::new(failure.kind, format!("cannot download {url}: {}", failure.message));
        let error = match failure.status {
            Some(status) => error.with_status(status),
            None => error,
        };
        match failure.kind {
            ErrorKind::AccessDenied => error.with_hint(self.how_to_go_on()),
            ErrorKind::ProxyRefused => error.with_hint(
                "its login is part of its URL, in --proxy or in the environment: \
                 http://NAME:PASS@HOST:PORT",
            ),
            ErrorKind::Network => error.with_hint("check the network and run it again"),
            ErrorKind::Tls => error.with_hint(
                "a private authority is trusted with --cacert FILE; do not continue if the \
                 certificate is unexpected",
            ),
            ErrorKind::DigestMismatch => error.with_hint(ALTERED_HINT),
            ErrorKind::ObjectChanged => error
                .with_hint("wait until the object is no longer being replaced, then start again"),
            ErrorKind::Protocol => error
                .with_hint("the server or something before it is broken; nothing wrong was stored"),
            _ => error,
        }
    }

    /// After a refusal: what is here can be continued with another URL.
    fn how_to_go_on(&self) -> String {
        let login = "the link may have expired or need a login";
        match self.output.as_ref().filter(|_| self.store.is_some()) {
            None => format!("{login}: get a fresh URL, or give -u or -H"),
            Some(output) => format!(
                "{login}: continue with a fresh URL, haul -o '{}' NEW_URL, or have --refresh-cmd \
                 print one; or give -u or -H",
                output.display()
            ),
        }
    }

    pub(super) async fn end_with(&mut self, error: Error) {
        let checkpoint = self.stop().await;
        self.ended = Some(Err(error.with_checkpoint(checkpoint)));
    }

    /// Ends all fetches and records what was stored.
    pub(super) async fn stop(&mut self) -> Option<Kept> {
        // The lock is given up below, and with it what readers read.
        self.shared.contents.close();
        self.fetches.shutdown().await;
        self.running.clear();
        let Some(store) = self.store.take() else { return self.earlier.clone() };
        let checkpoint = store.stop().await.ok().flatten();
        // Without a total nothing of it can be continued.
        checkpoint.filter(|_| self.expected.as_ref().is_some_and(|it| it.total.is_some()))
    }

    pub(super) async fn stopped(&mut self, how: Stop) -> Error {
        let error = Error::new(ErrorKind::Cancelled, "the download was stopped");
        self.know_earlier();
        if how == Stop::Remove {
            self.publish_progress(false);
            return self.remove().await.err().unwrap_or(error);
        }
        let checkpoint = self.stop().await;
        self.publish_progress(false);
        error.with_checkpoint(checkpoint)
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
