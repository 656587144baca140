//! What is written while the pieces of a film arrive.

use crate::checkpoint::{Checkpoint, Record};
use crate::store::TrackStore;

/// See the module's documentation.
pub(crate) struct Disk {
    pub(crate) checkpoint: Checkpoint,
    /// One for each reel that is made of pieces.
    pub(crate) stores: Vec<Option<TrackStore>>,
    /// What was there at the start.
    pub(crate) records: Vec<Record>,
}
