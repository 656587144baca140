//! The driver's part in digests that servers send: what they claim, and what
//! becomes of bytes that are not as claimed.

use super::*;
use crate::disk::prove::Expected;
use crate::model::config::hex;
use crate::model::digest_claims::Altered;

impl Running {
    /// The proof of a part that is stored as it is sent.
    pub(super) fn proof(&self, stored: ByteRange) -> Option<PartProof> {
        let claim = self.digests.part.clone().or_else(|| self.digests.md5.clone())?;
        (self.range == Some(stored)).then(|| PartProof::new(claim, stored))
    }
}

impl Driver {
    /// Reads the digests in the fields of a response that holds our object.
    pub(super) fn on_digests(
        &mut self,
        lease: LeaseId,
        verdict: &Verdict,
        headers: &HeaderMap,
        now: Duration,
    ) {
        // A digest that the user gave is proof enough.
        if self.is_proven_by_digest() || fault_point::has_bug!(NoFieldDigests) {
            return;
        }
        let range = match verdict {
            // A part with all of the object, whose response may be cut: what is said of it
            // is compared at the end.
            Verdict::Partial { range, resource }
                if range.start() == 0 && Some(range.end()) == resource.total =>
            {
                None
            }
            Verdict::Partial { range, .. } => Some(*range),
            Verdict::Whole { .. } => None,
            _ => return,
        };
        let mut digests = digest_fields::read(headers, range.is_some());
        if self.options.range.is_some() {
            // What is said of the whole object says nothing of parts of it.
            (digests.object, digests.md5) = (None, None);
        }
        if let Some(range) = range
            && let Some(altered) = self.claims.on_part(range.start(), &digests)
        {
            self.refuse(&altered, now);
        }
        if let Some(running) = self.running.get_mut(&lease) {
            (running.digests, running.range) = (digests, range);
        }
    }

    /// The object is opened with what the response of `lease` says.
    pub(super) fn claim_of(&mut self, lease: LeaseId) {
        if let Some(running) = self.running.get(&lease) {
            self.claims.opened(&running.digests);
        }
    }

    /// A part is stored that is not what its response said.
    pub(super) fn on_altered(&mut self, altered: Altered, now: Duration) {
        if let Some(altered) = self.claims.on_altered(altered) {
            self.refuse(&altered, now);
        }
    }

    /// A piece that is stored is not what it must be: its segments are missing.
    pub(super) fn on_bad_piece(&mut self, segments: std::ops::Range<usize>, message: String) {
        let now = self.now();
        self.notice(NoticeCode::Refetch, format!("{message}: fetching it again"));
        let size = self.segment_size_bytes;
        let total = self.expected.as_ref().and_then(|it| it.total).unwrap_or(0);
        let lost = (segments.end as u64 * size).min(total) - segments.start as u64 * size;
        self.bytes = self.bytes.saturating_sub(lost);
        self.planner.on_bad_segments(
            segments,
            &Failure::new(ErrorKind::DigestMismatch, message),
            now,
        );
    }

    fn refuse(&mut self, altered: &Altered, now: Duration) {
        let Altered { claim, found, range } = altered;
        let message = format!(
            "bytes {range} have {}={}, but {claim} is expected",
            claim.checksum.algorithm(),
            hex(found)
        );
        self.altered = true;
        self.planner.on_altered(Failure::new(ErrorKind::DigestMismatch, message), now);
    }

    /// What the whole object must hash to.
    pub(super) fn expected_digests(&self) -> Expected {
        let checksum = self.options.checksum.clone();
        // Without the bytes no hash but BLAKE3 is to be had.
        let unread = checksum.is_some() || self.options.forgets_bytes();
        let mut fields = if unread { Vec::new() } else { self.claims.of_object() };
        // Before anything is opened each can be computed.
        if let Some(window) = self.options.window.as_ref().filter(|_| self.expected.is_some()) {
            fields.retain(|field| window.hashes(field.checksum.algorithm()));
        }
        let pieces = self.options.pieces.clone();
        Expected { checksum, fields, pieces, size_bytes: self.options.expected_size_bytes }
    }

    /// Whether the download begins again, since the complete object, which is
    /// discarded already, was not what the server said of it, or not what the
    /// user did while parts of it are of an earlier run or of several sources: those
    /// may be what is wrong, and not what one server sends now.
    pub(super) fn fetch_again(&mut self, error: &Error) -> bool {
        let several = self.planner.live_sources() > 1;
        let doubtful = self.options.checksum.is_none() || self.resumed_bytes > 0 || several;
        if error.kind() != ErrorKind::DigestMismatch || !doubtful || self.is_given_back() {
            return false;
        }
        // Reports of the old epoch must not reach the new one.
        self.store_events.forget();
        let now = self.now();
        self.planner.refetch(&error.to_string(), now)
    }

    /// Ends all fetches and removes what is stored, so that no later run
    /// continues it.
    pub(super) async fn discard(&mut self) {
        self.shared.contents.give_up();
        self.fetches.shutdown().await;
        self.running.clear();
        let Some(store) = self.store.take() else { return };
        self.store_events.forget();
        let place = match store.reset().await {
            Ok(place) => place,
            Err(error) => return self.end_with(error).await,
        };
        if let Err(error) = self.unlink(place).await {
            self.end_with(error).await;
        }
    }
}
