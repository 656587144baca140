//! What a download requests, as far as its output is concerned.

use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::partial::Paths;
use crate::disk::storage::Storage;
use crate::disk::storage::window::Window;
use crate::disk::unnamed::Directories;
use crate::model::checkpoint::{Checkpoint, SegmentRecord, UrlIdentity};
use crate::model::config::{Allocation, Existing, Resume, StorageKind};
use crate::model::layout::segment_count;
use crate::model::resource::Resource;
use crate::model::segment::segment_size;
use crate::model::selection::Selected;

/// The input to opening an output.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) output: PathBuf,
    pub(crate) existing: Existing,
    /// Whether an empty file with the output's name counts as none.
    pub(crate) replaces_empty: bool,
    /// Whether the data has the final name from the start.
    pub(crate) in_place: bool,
    pub(crate) resume: Resume,
    pub(crate) storage: StorageKind,
    /// Set where only bytes on their way to a reader are kept.
    pub(crate) window: Option<Arc<Window>>,
    pub(crate) allocation: Allocation,
    /// Set where the program keeps the bytes itself.
    pub(crate) own_storage: Option<Arc<dyn Storage>>,
    pub(crate) segment_size_bytes: Option<u64>,
    pub(crate) has_digest: bool,
    /// Whether the server sent a digest of the object.
    pub(crate) told_digest: bool,
    /// The size up to which an object is all or nothing; 0 means none is, not even an empty one.
    pub(crate) small_bytes: u64,
    /// The directories in which files without a name are possible.
    pub(crate) unnamed: Arc<Directories>,
    pub(crate) sync: bool,
    /// The URL that was asked, and the one that answered.
    pub(crate) url: url::Url,
    pub(crate) answered: url::Url,
    /// Seeds random choices.
    pub(crate) seed: u64,
    /// Described as if the downloaded bytes were all of it.
    pub(crate) resource: Resource,
    /// Which bytes of the object those are, where not all are wanted.
    pub(crate) selected: Option<Selected>,
}

impl Request {
    /// The names of the download's files.
    pub(crate) fn paths(&self) -> Paths {
        if self.in_place { Paths::in_place(&self.output) } else { Paths::of(&self.output) }
    }

    /// The checkpoint of a download that has nothing yet.
    pub(crate) fn first_checkpoint(&self) -> Checkpoint {
        let total = self.resource.total;
        let size = segment_size(total.unwrap_or(0), self.segment_size_bytes);
        let count = total.map_or(0, |total| segment_count(total, size)) as usize;
        let mut salt = [0u8; 16];
        for chunk in salt.chunks_mut(8) {
            chunk.copy_from_slice(&fastrand::u64(..).to_le_bytes());
        }
        Checkpoint {
            identity: self.identity(salt),
            host: self.url.host_str().unwrap_or_default().to_owned(),
            total,
            validator: self.resource.validator.clone(),
            encoding: self.resource.encoding.clone(),
            content_type: self.resource.content_type.clone(),
            segment_size_bytes: size,
            segments: vec![SegmentRecord::Missing; count],
            prefixes: Vec::new(),
            pid: std::process::id(),
            selected: self.selected.clone(),
            data_file: None,
            mixed: false,
            adopted: None,
        }
    }

    /// The URLs of the object, in a form that a checkpoint can recognize.
    pub(super) fn identity(&self, salt: [u8; 16]) -> UrlIdentity {
        UrlIdentity::new(salt, &self.url, &self.answered)
    }
}
