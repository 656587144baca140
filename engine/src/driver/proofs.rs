//! What shows that bytes are those of the object.
//!
//! Two things are kept here. The first is which URLs may join: those whose bytes are stored, or
//! were compared with what is stored. A URL that leads elsewhere than before is proven first:
//! stored bytes are fetched from it again, in the background, and must be the same. Proofs are
//! numbered, so that one which was overtaken (everything was forgotten, another URL came) is
//! recognised and changes nothing. The second is what servers claim about their bytes, and whether
//! anything stored is known to differ from that.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use url::Url;

use crate::driver::inbox::Errands;
use crate::model::digest_claims::{Altered, Claims};
use crate::model::digest_fields::{FieldDigest, FieldDigests};
use crate::model::planner::SourceId;
use crate::model::samples::Proof;
use crate::net::fetcher::Counters;
use crate::net::transport::Transport;
use crate::net::url_proof::{self, Asking, Unproven};

/// How soon to look again for a segment to compare a URL with, and how often once nothing is under
/// way: the storage may be behind.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LOOKS: u32 = 40;

/// A URL that answers for a source, and may have other bytes than are stored.
pub(super) struct ToProve {
    pub(super) source: SourceId,
    pub(super) url: Url,
    pub(super) number: u64,
    /// Whether it is the caller's fresh URL, to which no request was sent yet.
    pub(super) fresh: bool,
    /// How often nothing to compare it with was found.
    looks: u32,
}

/// The state of a proof.
pub(super) enum Proving {
    /// It is time to look for bytes to compare with.
    Look(ToProve),
    /// Whether the bytes are the same.
    Compared(ToProve, Result<bool, Unproven>),
}

#[derive(Default)]
pub(super) struct Proofs {
    /// The URLs whose bytes were joined.
    joined: Vec<Url>,
    /// How many proofs were begun.
    count: u64,
    /// The number of the proof that each source waits for.
    under_way: Vec<(SourceId, u64)>,
    errands: Errands<Proving>,
    claims: Claims,
    /// What is stored is not what the server said: none of it is kept.
    altered: bool,
}

impl Proofs {
    /// The object is opened with what this URL sends.
    pub(super) fn opened(&mut self, from: Option<&Url>) {
        self.joined = from.into_iter().cloned().collect();
    }

    /// The bytes of `url` are joined from now on.
    pub(super) fn join(&mut self, url: Url) {
        self.joined.push(url);
    }

    pub(super) fn is_joined(&self, url: &Url) -> bool {
        self.joined.contains(url)
    }

    pub(super) fn joined(&self) -> &[Url] {
        &self.joined
    }

    /// Forgets what was stored and what was compared with it. Returns the sources that waited for a
    /// proof, which will not come.
    pub(super) fn begin_again(&mut self) -> Vec<SourceId> {
        self.joined.clear();
        self.claims.begin_again();
        let mut waited: Vec<SourceId> =
            self.under_way.drain(..).map(|(source, _)| source).collect();
        waited.sort_unstable();
        waited
    }

    pub(super) fn begin(&mut self, source: SourceId, url: Url, fresh: bool) {
        self.count += 1;
        let number = self.count;
        self.end(source);
        self.under_way.push((source, number));
        let what = ToProve { source, url, number, fresh, looks: 0 };
        self.errands.send(async move { Proving::Look(what) });
    }

    /// Whether `source` waits for a proof.
    pub(super) fn is_under_way(&self, source: SourceId) -> bool {
        self.under_way.iter().any(|(of, _)| *of == source)
    }

    /// Whether the proof still counts.
    pub(super) fn is_current(&self, what: &ToProve) -> bool {
        self.under_way.contains(&(what.source, what.number))
    }

    /// The proof that `source` waited for is over.
    pub(super) fn end(&mut self, source: SourceId) {
        self.under_way.retain(|(of, _)| *of != source);
    }

    /// Waits for the next step of a proof. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Proving, JoinError> {
        self.errands.next().await
    }

    /// Nothing to compare with was found, but other requests may still bring the first of it. Gives
    /// the proof back after enough looks.
    pub(super) fn look_again(
        &mut self,
        what: ToProve,
        requests_under_way: bool,
    ) -> Option<ToProve> {
        if !requests_under_way && what.looks >= LOOKS {
            return Some(what);
        }
        let looks = if requests_under_way { 0 } else { what.looks + 1 };
        self.errands.send(async move {
            tokio::time::sleep(LOOK_AGAIN).await;
            Proving::Look(ToProve { looks, ..what })
        });
        None
    }

    /// Has the bytes of `proof` fetched and compared.
    pub(super) fn compare(
        &mut self,
        what: ToProve,
        proof: Proof,
        asking: Asking,
        transport: Arc<dyn Transport>,
        counters: Arc<Counters>,
    ) {
        self.errands.send(async move {
            let outcome = url_proof::holds(&proof, &*transport, &counters, &asking).await;
            Proving::Compared(what, outcome)
        });
    }

    /// The digests that servers claim for the whole object.
    pub(super) fn claimed(&self) -> Vec<FieldDigest> {
        self.claims.of_object()
    }

    /// The object is opened with a response that claims this.
    pub(super) fn claim(&mut self, digests: &FieldDigests) {
        self.claims.opened(digests);
    }

    /// A document that the server named claims this. False if that contradicts the server.
    pub(super) fn claim_described(&mut self, claim: FieldDigest) -> bool {
        self.claims.described(claim)
    }

    /// A response claims this about the part from `start` on. Returns what was altered, if the
    /// claim shows it.
    pub(super) fn on_part(&mut self, start: u64, digests: &FieldDigests) -> Option<Altered> {
        let altered = self.claims.on_part(start, digests);
        self.altered |= altered.is_some();
        altered
    }

    /// A stored part is not what its response said; `None` while that may be no claim about the
    /// part.
    pub(super) fn on_altered(&mut self, altered: Altered) -> Option<Altered> {
        let altered = self.claims.on_altered(altered);
        self.altered |= altered.is_some();
        altered
    }

    /// Whether something stored was known to be altered; it is about to be discarded.
    pub(super) fn take_altered(&mut self) -> bool {
        std::mem::take(&mut self.altered)
    }
}
