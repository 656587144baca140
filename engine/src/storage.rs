//! Where the bytes of an object go: a file, or something of yours.
//!
//! A download writes a file in one of the ways of [`StorageKind`](crate::StorageKind),
//! each of which is a [`Storage`]. With
//! [`DownloadBuilder::store_in`](crate::DownloadBuilder::store_in) it fills one of
//! yours instead, such as [`MemoryStorage`]: there is then no partial, no checkpoint
//! and no output, and nothing continues such a download in another process. All else
//! is the same: several connections, retries, a restart when the object changes,
//! digests, readers.

pub use crate::io::storage::{MemoryStorage, SegmentWriter, Storage};
pub use crate::model::range::ByteRange;
