//! The loop's step for where sources are: links that are found anew, the caller's fresh URLs,
//! mirrors, and the proof that a URL which leads elsewhere than before has the same bytes.
//!
//! Bytes from such a URL are joined only after stored bytes, fetched from there again, were the
//! same, except where a digest decides in the end whether everything fits together.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use url::Url;

use super::{Driver, Mirror, defect};
use crate::disk::output;
use crate::driver::address::follow;
use crate::driver::description::{self, Described};
use crate::driver::failures::{failure_of, kind_of};
use crate::driver::proofs::{Proving, ToProve};
use crate::driver::sources::{News, Refreshed, Resolution};
use crate::model::config::{Checksum, DigestAlgorithm};
use crate::model::digest_fields::FieldDigest;
use crate::model::error::{Error, ErrorKind};
use crate::model::event::NoticeCode;
use crate::model::planner::{Failure, LeaseId, SourceId};
use crate::model::redact::redact;
use crate::model::resource::Resource;
use crate::model::samples::Proof;
use crate::net::connect::Origin;
use crate::net::url_proof::{self, Asking, Unproven};

impl Driver {
    /// Reports that a source is no longer used.
    pub(super) fn lost(&self, source: SourceId, why: &str, again: bool) {
        let url = redact(&self.sources.get(source).given);
        let then = if again { "trying the next mirror, from zero" } else { "not used any more" };
        self.notice(NoticeCode::Mirror, format!("{url}: {why}; {then}"));
    }

    /// The planner wants `source` located anew.
    pub(super) fn resolve(&mut self, source: SourceId, refused: Option<Failure>, again: bool) {
        match self.sources.resolve(source, refused, again) {
            Resolution::Unresolved(failure) => {
                self.planner.on_unresolved(source, failure, self.meter.now());
            }
            Resolution::Refreshing => {}
            Resolution::AskAgain => self.ask_again(source),
        }
    }

    fn ask_again(&mut self, source: SourceId) {
        let now = self.now();
        self.sources.ask_again(source, now);
        self.locate(source);
        self.planner.on_resolved(source, true, now);
    }

    /// Tells the planner at which host `source` is.
    pub(super) fn locate(&mut self, source: SourceId) {
        if let Some(place) = self.sources.locate(source) {
            self.planner.set_place(source, place);
        }
    }

    /// Replaces links that are about to expire, each once for all connections.
    pub(super) fn replace_expiring(&mut self) {
        if !self.storing.is_open() || self.queue.is_paused() {
            return;
        }
        let now = self.now();
        for source in 0..self.sources.count() {
            match self.sources.replace_expiring(source, now) {
                Some(Resolution::AskAgain) => self.ask_again(source),
                Some(_) => self.planner.hold(source),
                None => {}
            }
        }
    }

    /// Takes in what an errand of the sources brings.
    pub(super) fn on_news(&mut self, news: Result<News, JoinError>) -> Result<(), Error> {
        match news.map_err(errand_panicked)? {
            News::Refreshed(refreshed) => self.on_refreshed(refreshed),
            News::Described(described) => self.on_described(described),
            News::Panicked(panicked) => return Err(panicked.into()),
            News::PathChanged(changes) => {
                tracing::debug!("the machine's addresses or routes changed");
                self.planner.on_path_changed(self.now());
                self.sources.listen(changes);
            }
        }
        Ok(())
    }

    fn on_refreshed(&mut self, refreshed: Refreshed) {
        let source = refreshed.source;
        match self.sources.replace(refreshed, &*self.engine.transport) {
            Ok(url) => {
                let message = format!("going on with a fresh link, {}", redact(&url));
                self.notice(NoticeCode::Refreshed, message);
                if !self.prove_fresh(source, &url) {
                    self.ask_again(source);
                }
            }
            Err((refused, why)) => self.not_refreshed(source, refused, &why),
        }
    }

    /// There is no fresh URL for `source`, for this reason.
    fn not_refreshed(&mut self, source: SourceId, refused: Option<Failure>, why: &str) {
        let now = self.now();
        if let Some(mut refused) = refused {
            refused.message += &format!("; no fresh URL was to be had: {why}");
            self.planner.on_unresolved(source, refused, now);
        } else {
            let message = format!("the link expires, and no fresh URL was to be had: {why}");
            self.notice(NoticeCode::Refreshed, message);
            self.planner.on_resolved(source, false, now);
        }
    }

    /// Fetches the Metalink named by the response that the object was opened with, if it can be of
    /// use.
    pub(super) fn look_up_description(&mut self) {
        let Some(link) = self.sources.take_description() else { return };
        if !description::is_of_use(&self.options, self.opening.total().unwrap_or(0)) {
            return;
        }
        let (opener, transport) = (self.sources.opener(), &self.engine.transport);
        let allow_downgrade = self.options.allow_downgrade;
        match follow(&**transport, &opener.current, &link, allow_downgrade) {
            Ok(url) => {
                let headers = self.headers_for(&opener.link_to(&url), None, Vec::new());
                let counters = Arc::clone(self.requests.counters());
                let transport = Arc::clone(transport);
                let errand = description::fetch(url, headers, &self.options, transport, counters);
                self.sources.send(errand);
            }
            Err(not) => self.notice(NoticeCode::Mirror, description::unused(&link, &not.why)),
        }
    }

    /// Takes in what a Metalink says if it is of this object: its digest, like one in a field of
    /// the server's, and its mirrors under that digest.
    fn on_described(&mut self, described: Described) {
        // The download may have begun again meanwhile; the Metalink will then come anew.
        let (Some(total), true) = (self.opening.total(), self.storing.is_open()) else { return };
        let url = described.url().clone();
        let file = described.file_of(total, self.options.url.path(), self.storing.output());
        let taken = file.and_then(|file| {
            if let Some(checksum) = file.checksum {
                let given = self.options.checksum.as_ref();
                let differs = given.is_some_and(|given| given.contradicts(&checksum));
                let claim = FieldDigest { field: "Metalink", checksum };
                if differs || !self.proofs.claim_described(claim) {
                    return Err("its file has another digest".to_owned());
                }
            }
            self.sources.add_links(file.urls);
            self.join_sources();
            Ok(())
        });
        if let Err(why) = taken {
            self.notice(NoticeCode::Mirror, description::unused(url.as_str(), &why));
        }
    }

    /// Takes in what shows that sources belong together: a digest that the server
    /// sent. With a strong one, the mirrors that it names take part.
    pub(super) fn join_sources(&mut self) {
        let claims = self.proofs.claimed();
        let digests: Vec<&Checksum> = match &self.options.checksum {
            Some(checksum) => vec![checksum],
            None => claims.iter().map(|claim| &claim.checksum).collect(),
        };
        if digests.is_empty() {
            return;
        }
        self.planner.use_together();
        let is_weak = |algorithm| {
            use DigestAlgorithm::{GitBlob, Md5, Sha1};
            matches!(algorithm, Sha1 | Md5 | GitBlob { .. })
        };
        let strong = digests.iter().any(|digest| !is_weak(digest.algorithm()));
        let allow = self.options.allow_downgrade;
        let links = self.sources.take_links(&*self.engine.transport, allow);
        if strong {
            self.add_mirrors(links);
        }
    }

    /// Adds other places that have the object.
    pub(super) fn add_mirrors(&mut self, mirrors: Vec<Mirror>) {
        for mirror in mirrors {
            if let Some(source) = self.sources.add(mirror) {
                self.planner.add_sources(1);
                self.locate(source);
            }
        }
    }

    /// Whether a digest was given, and there is more than one source.
    pub(super) fn is_proven_among_several(&self) -> bool {
        self.options.is_proven_by_digest() && self.sources.count() > 1
    }

    /// Whether a digest suffices to bind sources. In a stream it would show a mixture only at the
    /// end, when the reader already has the bytes.
    fn is_bound_by_digest(&self) -> bool {
        self.options.window.is_none()
            && (self.options.is_proven_by_digest() || self.planner.are_together())
    }

    /// Whether `url` has to be proven before its response joins what is stored. A file under a
    /// digest needs no proof, but it is noted that only the digest binds the bytes.
    pub(super) fn must_be_proven(&mut self, source: SourceId, url: &Url) -> bool {
        if !self.storing.is_open() {
            return false;
        }
        if self.proofs.is_joined(url) {
            self.sources.settle_at(source, url);
            return false;
        }
        if !self.is_bound_by_digest() {
            return true;
        }
        self.storing.note_mixed();
        self.sources.settle(source);
        self.proofs.join(url.clone());
        false
    }

    /// First proves that the caller's fresh URL has the same bytes: a link may be good for only a
    /// few requests. False if no proof is needed.
    fn prove_fresh(&mut self, source: SourceId, url: &Url) -> bool {
        if !self.storing.is_open() || self.proofs.is_joined(url) || self.is_bound_by_digest() {
            return false;
        }
        self.planner.hold(source);
        self.proofs.begin(source, url.clone(), true);
        true
    }

    /// Drops the response of `lease`, and begins to prove that `url` has the same bytes. Nothing
    /// more is asked of its source meanwhile.
    pub(super) fn hold_back(&mut self, lease: LeaseId, source: SourceId, url: Url, now: Duration) {
        self.requests.refuse(lease);
        self.planner.hold(source);
        self.planner.on_redirected(lease, now);
        // This may be the answer to an earlier request while another URL is compared.
        if self.proofs.is_under_way(source) {
            return;
        }
        tracing::debug!(source, url = %redact(&url), "leads elsewhere than before");
        self.proofs.begin(source, url, false);
    }

    /// Forgets which URLs were joined, since what they were compared with is forgotten.
    pub(super) fn forget_joined(&mut self) {
        let now = self.now();
        self.sources.settle_all();
        for source in self.proofs.begin_again() {
            self.planner.on_resolved(source, false, now);
        }
    }

    /// Takes the next step of a proof.
    pub(super) async fn on_proving(
        &mut self,
        proving: Result<Proving, JoinError>,
    ) -> Result<(), Error> {
        match proving.map_err(errand_panicked)? {
            Proving::Look(what) => self.prove(what).await,
            Proving::Compared(what, outcome) => self.on_compared(what, outcome),
        }
        Ok(())
    }

    /// Fetches stored bytes from a URL and compares them, in the background.
    async fn prove(&mut self, what: ToProve) {
        if !self.proofs.is_current(&what) {
            return;
        }
        let under_way = self.requests.count() > 0;
        let seed = self.options.seed.wrapping_add(what.number);
        let proof = self.storing.proof(!under_way, seed).await;
        let expected = self.expected_of(what.source);
        let asking = expected.and_then(|it| self.asking(what.source, &what.url, &it));
        if let (Some(proof), Some(asking)) = (proof, asking) {
            let transport = Arc::clone(&self.engine.transport);
            let counters = Arc::clone(self.requests.counters());
            self.proofs.compare(what, proof, asking, transport, counters);
        } else if let Some(what) = self.proofs.look_again(what, under_way) {
            let why = "nothing is stored yet that could be compared with it";
            self.leads_elsewhere(&what, why);
        }
    }

    fn on_compared(&mut self, what: ToProve, outcome: Result<bool, Unproven>) {
        // Everything may have been forgotten meanwhile.
        if !self.proofs.is_current(&what) {
            return;
        }
        let (source, now) = (what.source, self.now());
        self.proofs.end(source);
        match outcome {
            Ok(true) => {
                self.sources.settle(source);
                self.proofs.join(what.url);
                if what.fresh {
                    return self.ask_again(source);
                }
                self.planner.on_resolved(source, false, now);
            }
            // It may redirect, which a request follows.
            Err(Unproven { denied: false, .. }) if what.fresh => self.ask_again(source),
            Ok(false) => self.leads_elsewhere(&what, "that has other bytes"),
            Err(Unproven { error, denied }) => {
                let to = redact(&what.url);
                let why = format!("the link leads to {to}, which cannot be compared: {error}");
                if self.not_proven(source, &why) {
                    return;
                }
                if denied {
                    let failure = Failure::new(ErrorKind::AccessDenied, why);
                    return self.planner.on_unresolved(source, failure, now);
                }
                let failure = Failure { message: why, ..failure_of(error, true) };
                self.planner.on_unproven(source, failure, now);
            }
        }
    }

    /// If the caller's fresh URL is another object, it does not count; a link that leads to one has
    /// changed.
    fn leads_elsewhere(&mut self, what: &ToProve, why: &str) {
        let to = redact(&what.url);
        let why = format!("the link leads elsewhere now, to {to}, and {why}");
        if !self.not_proven(what.source, &why) {
            let now = self.now();
            self.planner.on_other_object(what.source, &why, now);
        }
    }

    /// A proof failed. True if the caller's fresh URL was to be proven: the URL that it replaced is
    /// restored.
    fn not_proven(&mut self, source: SourceId, why: &str) -> bool {
        self.proofs.end(source);
        let Some(refused) = self.sources.take_back(source) else { return false };
        self.not_refreshed(source, refused, why);
        true
    }

    /// What a response from `source` is judged by.
    pub(super) fn expected_of(&self, source: SourceId) -> Option<Resource> {
        self.opening.expected_with(self.sources.validator_of(source))
    }

    /// Whether the URL that answered `request` sends the bytes of `proof`.
    ///
    /// # Errors
    /// When they cannot be fetched; `shows` says what they would show.
    pub(super) async fn sends(
        &mut self,
        proof: &Proof,
        request: &output::Request,
        shows: &str,
    ) -> Result<bool, Error> {
        // This takes the place of the waiting response, which may be the only one that this host or
        // the engine has room for.
        self.requests.refuse_all();
        let unusable = || Error::new(ErrorKind::Internal, "a URL without an origin");
        let asking = self
            .asking(self.sources.opener_id(), &request.answered, &request.resource)
            .ok_or_else(unusable)?;
        let (transport, counters) = (&*self.engine.transport, self.requests.counters());
        let holds = url_proof::holds(proof, transport, counters, &asking).await;
        holds.map_err(|Unproven { error, .. }| {
            Error::new(kind_of(error.kind), format!("{shows} cannot be fetched: {error}"))
                .with_hint("run it again, or choose another output")
                .with_source(error)
        })
    }

    /// How to request bytes that `source` has at `url`, to compare them; `resource` is the object
    /// as if the wanted bytes were all of it.
    fn asking(&self, source: SourceId, url: &Url, resource: &Resource) -> Option<Asking> {
        let asked = self.sources.get(source).at(url);
        let total = self.opening.object_bytes(resource.total);
        Some(Asking {
            origin: Origin::of(url)?,
            headers: self.headers_for(&asked, None, self.opening.conditions(&self.options)),
            url: url.clone(),
            selected: self.opening.selected().cloned(),
            expected: Resource { total, ..resource.clone() },
            patience: self.options.patience(),
        })
    }
}

/// The planner would wait forever for the errand's result.
fn errand_panicked(_: JoinError) -> Error {
    defect("the task that asks for a fresh link, a proof or a Metalink panicked")
}
