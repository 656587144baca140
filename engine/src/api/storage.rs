//! Where the bytes of an object go: a file, or a storage of your own.
//!
//! A download writes a file in one of the ways of [`StorageKind`](crate::StorageKind), each of
//! which is a [`Storage`]. With [`DownloadBuilder::store_in`](crate::DownloadBuilder::store_in) it
//! fills one of yours instead, such as [`MemoryStorage`]: there is then no partial and no output,
//! and the download can be continued if the storage also keeps its checkpoint ([`Checkpoints`]).
//! Everything else is the same: several connections, retries, a restart when the object changes,
//! digests, readers.

pub use crate::disk::storage::{Checkpoints, MemoryStorage, SegmentWriter, Storage};
pub use crate::model::range::ByteRange;
