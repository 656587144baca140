//! Links that lead elsewhere than before: nothing of what is there is joined until
//! stored bytes, fetched from there again, were the same.

use super::*;
use crate::model::samples::Proof;
use crate::net::url_proof::{self, Asking, Unproven};

/// How soon it is looked again for a segment by which a URL can be compared, and how
/// often once nothing is under way: the storage may be behind.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LOOKS: u32 = 40;

/// A URL that answers for a source, and may have other bytes than are stored.
pub(super) struct ToProve {
    source: SourceId,
    url: Url,
    number: u64,
    /// Whether it is a fresh URL of the caller's that nobody asked yet.
    fresh: bool,
    /// How often nothing to compare it with was found.
    looks: u32,
}

/// What came of comparing.
pub(super) struct Proven {
    of: ToProve,
    outcome: Result<bool, Unproven>,
}

impl Driver {
    /// Whether something has to be shown before a response of `url` joins what is
    /// stored. Of a file under a digest nothing has, but it is noted that only that binds them.
    pub(super) fn must_be_proven(&mut self, source: SourceId, url: &Url) -> bool {
        let Some(store) = &self.store else { return false };
        if self.joined.contains(url) {
            // An earlier request may be answered while a fresh URL is yet to be proven.
            let of = &mut self.sources[source];
            of.replaced.take_if(|_| of.current == *url);
            return false;
        }
        if !self.is_bound_by_digest() {
            return true;
        }
        store.note_mixed();
        self.join(source, url.clone());
        false
    }

    /// Of a stream a digest shows only at the end that it was mixed, when its reader has it.
    fn is_bound_by_digest(&self) -> bool {
        self.options.window.is_none() && (self.is_proven_by_digest() || self.planner.are_together())
    }

    /// Has shown first whether a fresh URL of the caller's has the same bytes: a link may
    /// be good for few requests. False where nothing is to be shown.
    pub(super) fn prove_fresh(&mut self, source: SourceId, url: &Url) -> bool {
        if self.store.is_none() || self.joined.contains(url) || self.is_bound_by_digest() {
            return false;
        }
        self.planner.hold(source);
        self.begin_proof(source, url.clone(), true);
        true
    }

    fn join(&mut self, source: SourceId, url: Url) {
        self.sources[source].replaced = None;
        self.joined.push(url);
    }

    /// What was stored is forgotten, and what it was compared with.
    pub(super) fn forget_joined(&mut self) {
        self.joined.clear();
        let now = self.now();
        for source in 0..self.sources.len() {
            self.sources[source].replaced = None;
            if self.sources[source].proving.take().is_some() {
                self.planner.on_resolved(source, false, now);
            }
        }
    }

    /// Drops the response of `lease`, and has shown whether `url` has the same bytes.
    /// Nothing more is asked of its source meanwhile.
    pub(super) fn hold_back(&mut self, lease: LeaseId, source: SourceId, url: Url, now: Duration) {
        self.decide(lease, None);
        self.planner.hold(source);
        self.planner.on_redirected(lease, now);
        // A request that was sent before is answered while another one is compared.
        if self.sources[source].proving.is_some() {
            return;
        }
        tracing::debug!(source, url = %redact(&url), "leads elsewhere than before");
        self.begin_proof(source, url, false);
    }

    fn begin_proof(&mut self, source: SourceId, url: Url, fresh: bool) {
        self.proofs += 1;
        let number = self.proofs;
        self.sources[source].proving = Some(number);
        let what = ToProve { source, url, number, fresh, looks: 0 };
        self.errands.spawn(async move { Returned::ToProve(what) });
    }

    /// Has stored bytes fetched from a URL and compared, in the background; what other
    /// requests still bring may be the first of them.
    pub(super) async fn prove(&mut self, what: ToProve) {
        if self.sources[what.source].proving != Some(what.number) {
            return;
        }
        let under_way = !self.running.is_empty();
        let seed = self.options.seed.wrapping_add(what.number);
        let proof: Option<Proof> = match &self.store {
            Some(store) => store.proof(!under_way, seed).await,
            None => None,
        };
        let expected = self.expected_of(what.source);
        let asking = expected.and_then(|it| self.asking(what.source, &what.url, &it));
        let (proof, asking) = match (proof, asking) {
            (Some(proof), Some(asking)) => (proof, asking),
            _ if under_way || what.looks < LOOKS => {
                let looks = if under_way { 0 } else { what.looks + 1 };
                self.errands.spawn(async move {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    Returned::ToProve(ToProve { looks, ..what })
                });
                return;
            }
            _ => {
                let why = "nothing is stored yet that could be compared with it";
                return self.leads_elsewhere(&what, why);
            }
        };
        let transport = Arc::clone(&self.engine.transport);
        let counters = Arc::clone(&self.counters);
        self.errands.spawn(async move {
            let outcome = url_proof::holds(&proof, &*transport, &counters, &asking).await;
            Returned::Proven(Proven { of: what, outcome })
        });
    }

    pub(super) fn on_proven(&mut self, proven: Proven) {
        let Proven { of, outcome } = proven;
        // Everything may have been forgotten meanwhile.
        if self.sources[of.source].proving != Some(of.number) {
            return;
        }
        let now = self.now();
        match outcome {
            Ok(true) => {
                self.sources[of.source].proving = None;
                self.join(of.source, of.url);
                if of.fresh {
                    return self.ask_the_original(of.source);
                }
                self.planner.on_resolved(of.source, false, now);
            }
            // It may redirect: whoever asks it follows.
            Err(Unproven { denied: false, .. }) if of.fresh => {
                self.sources[of.source].proving = None;
                self.ask_the_original(of.source);
            }
            Ok(false) => self.leads_elsewhere(&of, "that has other bytes"),
            Err(Unproven { error, denied }) => {
                let to = redact(&of.url);
                let why = format!("the link leads to {to}, which cannot be compared: {error}");
                if self.not_proven(of.source, &why) {
                    return;
                }
                if denied {
                    let failure = Failure::new(ErrorKind::AccessDenied, why);
                    return self.planner.on_unresolved(of.source, failure, now);
                }
                let failure = Failure { message: why, ..failure_of(error, true) };
                self.planner.on_unproven(of.source, failure, now);
            }
        }
    }

    /// A fresh URL of the caller's that is another object is none; a link that leads to
    /// one has changed.
    fn leads_elsewhere(&mut self, what: &ToProve, why: &str) {
        let to = redact(&what.url);
        let why = format!("the link leads elsewhere now, to {to}, and {why}");
        if !self.not_proven(what.source, &why) {
            let now = self.now();
            self.planner.on_other_object(what.source, &why, now);
        }
    }

    /// A proof is over. True when a fresh URL of the caller's was to be proven: what it
    /// was to replace is in its place again.
    fn not_proven(&mut self, source: SourceId, why: &str) -> bool {
        let of = &mut self.sources[source];
        of.proving = None;
        let Some(Replaced { url, refused }) = of.replaced.take() else { return false };
        of.current.clone_from(&url);
        of.url = url;
        self.not_refreshed(source, refused, why);
        true
    }

    /// How bytes of what `source` has at `url` are asked for, to compare them; `resource`
    /// is the object as if what is wanted were all of it.
    pub(super) fn asking(
        &self,
        source: SourceId,
        url: &Url,
        resource: &Resource,
    ) -> Option<Asking> {
        let mut asked = self.sources[source].clone();
        asked.current.clone_from(url);
        let total = match &self.selected {
            Some(selected) => Some(selected.object_bytes),
            None => resource.total,
        };
        Some(Asking {
            origin: Origin::of(url)?,
            headers: self.headers_of(&asked, None, false),
            url: url.clone(),
            selected: self.selected.clone(),
            expected: Resource { total, ..resource.clone() },
            patience: self.options.patience(),
        })
    }
}
