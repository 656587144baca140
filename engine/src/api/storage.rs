//! Where the bytes of an object go: a file, or something of yours.
//!
//! A download writes a file in one of the ways of [`StorageKind`](crate::StorageKind),
//! each of which is a [`Storage`]. With
//! [`DownloadBuilder::store_in`](crate::DownloadBuilder::store_in) it fills one of
//! yours instead, such as [`MemoryStorage`]: there is then no partial and no output, and
//! it can be continued if the storage keeps its checkpoint, too ([`Checkpoints`]). All else
//! is the same: several connections, retries, a restart when the object changes,
//! digests, readers.

pub use crate::disk::storage::{Checkpoints, MemoryStorage, SegmentWriter, Storage};
pub use crate::model::range::ByteRange;
