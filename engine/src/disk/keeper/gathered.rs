//! A small object that was received whole before anything was opened for it: it has no keeper,
//! since there is nothing to keep until all of it is published at once.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::conclusion::{Finished, Published, Verdict};
use crate::disk::directory_sync::DirectorySyncs;
use crate::disk::holds::Hold;
use crate::disk::naming::Named;
use crate::disk::prove::{Expected, refuse_size};
use crate::disk::publish::PublishOptions;
use crate::disk::unnamed::Unnamed;
use crate::model::config::DigestAlgorithm;
use crate::model::error::Error;

/// See the module's documentation.
pub(crate) struct Gathered {
    pub(crate) unnamed: Unnamed,
    pub(crate) directories: Arc<DirectorySyncs>,
    /// Whether the bytes are hashed with BLAKE3.
    pub(crate) digest: bool,
    pub(crate) publish: PublishOptions,
    /// What the object must hash to.
    pub(crate) expected: Expected,
    /// The hold on the output's name within the engine, kept until it is published.
    pub(crate) hold: Option<Arc<Hold>>,
    pub(crate) reply: oneshot::Sender<Published>,
}

impl Gathered {
    /// What is known of the object.
    pub(super) fn prove(&self) -> Verdict {
        let memory = self.unnamed.bytes();
        let hash = |bytes: &[u8]| self.digest.then(|| blake3::hash(bytes));
        let (bytes, blake3) = memory.with(|bytes| (bytes.len() as u64, hash(bytes)));
        refuse_size(self.expected.size_bytes, bytes)?;
        let known = blake3.map(|hash| (DigestAlgorithm::Blake3, hash.as_bytes().to_vec()));
        let output = self.unnamed.output();
        let (verified, mismatch) = self
            .expected
            .compare(memory, known.as_slice(), Some(output))
            .map_err(|error| Error::io("cannot read", output, error))?;
        let finished = Finished {
            output: None,
            named: Named::default(),
            bytes,
            blake3: blake3.map(Into::into),
            verified,
            mapped_bytes: 0,
        };
        Ok((finished, mismatch))
    }
}
