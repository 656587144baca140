//! Concluding: nothing more is stored, and the stored bytes are judged as a whole.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::{Keeper, Place, SegmentRecord, index};
use crate::disk::naming::Named;
use crate::disk::pieces::first_bad;
use crate::disk::prove::{Expected, refuse_size};
use crate::disk::publish::PublishOptions;
use crate::disk::writer::Begun;
use crate::fault_point;
use crate::model::config::DigestAlgorithm;
use crate::model::digest_tree::{self, SegmentHasher};
use crate::model::error::{Error, ErrorKind, Kept};

/// A finished download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Its final name, if it has one.
    pub(crate) output: Option<PathBuf>,
    /// How that name was given.
    pub(crate) named: Named,
    /// The object's size in bytes.
    pub(crate) bytes: u64,
    /// Its BLAKE3 hash, unless none was wanted or part of it was never hashed.
    pub(crate) blake3: Option<[u8; 32]>,
    /// The digest that was asked for and found.
    pub(crate) verified: Option<(DigestAlgorithm, Vec<u8>)>,
    /// How many bytes were stored through a map.
    pub(crate) mapped_bytes: u64,
}

/// The outcome of a download that was to be published: if it was not, why, and where its checkpoint
/// is.
pub(crate) type Published = Result<Finished, (Error, Option<Kept>)>;

/// The verdict on the whole object: why it cannot be published, or what is known of it and, beside
/// that, a digest that differs.
pub(super) type Verdict = Result<(Finished, Option<Error>), Error>;

impl Keeper {
    /// After this nothing is stored for this download, and the ledger has all that was.
    pub(super) fn close(&mut self) -> Result<Vec<Begun>, Error> {
        let begun = self.writers.close(&self.epoch);
        self.drain();
        begun.map_err(|_| {
            Error::new(ErrorKind::Internal, "a writer thread ended before the download did")
        })
    }

    /// Stores what is in flight and records all of it for a later run.
    pub(super) fn stop(mut self) -> Result<Option<Kept>, Error> {
        self.cancel.store(true, Ordering::Relaxed);
        let closed = self.close();
        let begun = closed.as_deref().unwrap_or_default();
        let mut written = self.write_checkpoint(begun);
        // The sync may take longer than whoever stops us waits, so what is known without it was
        // recorded first.
        if written.is_ok() && self.sync_unhashed() {
            written = self.write_checkpoint(begun);
        }
        self.place.unlock();
        let kept = self.place.recorded(written)?;
        closed?;
        Ok(kept)
    }

    fn is_complete(&self) -> bool {
        let missing = |record| matches!(record, &SegmentRecord::Missing);
        self.ledger.total.is_some() && !self.ledger.segments.iter().any(missing)
    }

    /// Leaves the stored bytes of a failed download, including `begun` segments, to a later run;
    /// returns where the checkpoint is then.
    pub(super) fn keep(&mut self, begun: &[Begun]) -> Option<Kept> {
        if let Place::Unnamed(_) = self.place {
            return None;
        }
        self.sync_unhashed();
        let written = self.write_checkpoint(begun);
        self.place.unlock();
        // Without a total it cannot be continued.
        self.place.recorded(written).ok().flatten().filter(|_| self.ledger.total.is_some())
    }

    /// Stores nothing more, and checks that everything is here and as it should be: see
    /// [`Self::prove`]. Also returns the segments that are begun and not complete.
    pub(super) fn conclude(
        &mut self,
        options: &PublishOptions,
        expected: &Expected,
    ) -> (Vec<Begun>, Verdict) {
        let closed = if self.is_complete() {
            // All of it was reported, so no bytes are in flight.
            self.writers.let_go(&self.epoch);
            Ok(Vec::new())
        } else {
            self.close()
        };
        for thread in [self.verifying.take(), self.syncing.take()].into_iter().flatten() {
            let _ = thread.join();
        }
        self.drain();
        self.hash_gathered();
        let begun = closed.as_deref().unwrap_or_default().to_vec();
        let verdict = closed.and_then(|begun| self.prove(&begun, options, expected));
        (begun, verdict)
    }

    /// Hashes the bytes that so far were only gathered in memory.
    fn hash_gathered(&mut self) {
        let Place::Unnamed(unnamed) = &self.place else { return };
        if !self.epoch.digest {
            return;
        }
        let layout = self.epoch.layout;
        let hash = |number: usize, bytes: &[u8]| {
            let range = layout.range(index(number))?;
            let from = usize::try_from(range.start()).ok()?;
            let to = usize::try_from(range.end()).ok()?;
            let mut hasher = SegmentHasher::new(range.start(), layout.whole());
            hasher.update(bytes.get(from..to)?);
            Some(hasher.finish())
        };
        unnamed.bytes().with(|bytes| {
            for (number, record) in self.ledger.segments.iter_mut().enumerate() {
                if let SegmentRecord::Complete(found @ None) = record {
                    *found = hash(number, bytes);
                }
            }
        });
    }

    /// Shows that the object is whole, makes its data durable if asked to, and compares its
    /// digests; a digest that differs is the second value.
    fn prove(&mut self, begun: &[Begun], options: &PublishOptions, expected: &Expected) -> Verdict {
        let (bytes, mut blake3) = self.digest(begun)?;
        let named = Named::default();
        refuse_size(expected.size_bytes, bytes)?;
        let path = self.place.data().to_owned();
        if self.ledger.total.is_none() {
            let set = self.epoch.storage.set_len(bytes);
            set.map_err(|error| Error::io("cannot set the length of", &path, error))?;
        }
        let sync = options.sync && !self.place.syncs_at_once();
        if sync && !self.sync_failed && !fault_point::has_bug!(NoDataSync) {
            self.sync_now();
        }
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let mapped_bytes = self.epoch.storage.mapped_bytes();
        let cannot_read = |error| Error::io("cannot read", &path, error);
        if let Some(pieces) = expected.pieces.as_ref().filter(|_| self.ledger.total.is_none()) {
            let bad = first_bad(pieces, bytes, &*self.epoch.storage).map_err(cannot_read)?;
            if let Some(why) = bad {
                let message = format!("{}: {why}; nothing was published", path.display());
                let mismatch = Error::new(ErrorKind::DigestMismatch, message);
                let verified = None;
                return Ok((
                    Finished { output: None, named, bytes, blake3, verified, mapped_bytes },
                    Some(mismatch),
                ));
            }
        }
        let mut known = Vec::new();
        // A digest that was asked for must be of the bytes that are here.
        if let Some(blake3) = blake3.filter(|_| !self.believing) {
            known.push((DigestAlgorithm::Blake3, blake3.to_vec()));
        }
        if let Some(behind) = self.behind.take() {
            known.push((behind.algorithm(), behind.finish(bytes).map_err(cannot_read)?));
        }
        if let Some(window) = &self.epoch.window {
            known.extend(window.digests());
            let of_all = known.iter().find(|(of, _)| *of == DigestAlgorithm::Blake3);
            blake3 = of_all.and_then(|(_, digest)| digest.as_slice().try_into().ok());
        }
        let output = self.place.output();
        let (verified, mismatch) =
            expected.compare(&*self.epoch.storage, &known, output).map_err(cannot_read)?;
        Ok((Finished { output: None, named, bytes, blake3, verified, mapped_bytes }, mismatch))
    }

    /// The object's length in bytes and, if all of it was hashed, its BLAKE3 hash.
    fn digest(&self, begun: &[Begun]) -> Result<(u64, Option<[u8; 32]>), Error> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let Some(total) = self.ledger.total else {
            let of_nothing = || self.epoch.digest.then(|| blake3::hash(&[]).into());
            let whole = begun.first().map(|begun| (begun.len_bytes, begun.hash));
            return Ok(whole.unwrap_or_else(|| (0, of_nothing())));
        };
        let mut values = Vec::with_capacity(self.ledger.segments.len());
        for (number, record) in self.ledger.segments.iter().enumerate() {
            match record {
                SegmentRecord::Complete(hash) | SegmentRecord::Durable(hash) => values.push(*hash),
                SegmentRecord::Missing => {
                    return Err(Error::new(
                        ErrorKind::Internal,
                        format!("segment {number} is missing at the end; nothing was published"),
                    ));
                }
            }
        }
        let values: Option<Vec<_>> = values.into_iter().collect();
        let values = values.filter(|_| self.epoch.digest);
        let root =
            |values: Vec<_>| digest_tree::root(total, self.ledger.segment_size_bytes, &values);
        Ok((total, values.map(root)))
    }

    /// Removes wrong data, which is of no use to the next run: that could not tell which part of it
    /// is wrong.
    pub(super) fn discard(self, mismatch: Error) -> Error {
        let path = self.place.data().to_owned();
        let given_back = self.place.gives_back();
        match self.place.remove() {
            Ok(()) => match given_back {
                Some(former) => mismatch.with_more(format!(
                    "{}, which another program began, is as it was before",
                    former.display()
                )),
                None => mismatch,
            },
            Err(error) => Error::new(
                mismatch.kind(),
                format!("{mismatch}; but {} cannot be removed: {error}", path.display()),
            )
            .with_hint("remove it by hand"),
        }
    }
}
