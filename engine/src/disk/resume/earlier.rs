//! What an earlier run recorded: reading it, and working out what it is worth.

use std::path::Path;

use crate::disk::checkpoint_file;
use crate::disk::partial::{Partial, Paths};
use crate::disk::storage::Storage;
use crate::model::checkpoint::{Checkpoint, CheckpointError, SegmentRecord};
use crate::model::error::{Error, ErrorKind};
use crate::model::planner::Restored;
use crate::model::range::ByteRange;

/// What an earlier run left at these names, if it can be believed at all. An
/// error means that the checkpoint must be left as it is.
pub(crate) fn earlier(paths: &Paths) -> Result<Earlier, Error> {
    let Some(bytes) = checkpoint_file::read(&paths.checkpoint)? else { return Ok(Earlier::None) };
    if !paths.partial.exists() {
        return Ok(Earlier::None);
    }
    earlier_of(&bytes, paths)
}

/// The same for a checkpoint at this name.
pub(crate) fn earlier_at(checkpoint: &Path) -> Result<Earlier, Error> {
    match checkpoint_file::read(checkpoint)? {
        Some(bytes) => read_from(&bytes, checkpoint),
        None => Ok(Earlier::None),
    }
}

/// The same for a locked partial.
pub(crate) fn earlier_in_partial(partial: &Partial) -> Result<Earlier, Error> {
    earlier_of(&partial.checkpoint()?, partial.paths())
}

fn earlier_of(bytes: &[u8], paths: &Paths) -> Result<Earlier, Error> {
    read_from(bytes, &paths.checkpoint).map_err(|error| {
        error.with_hint("use the newer haul, or remove the .part and .haul files to start over")
    })
}

/// The same for a storage of the program. Blocking.
pub(crate) fn earlier_in(storage: &dyn Storage) -> Result<Earlier, Error> {
    let Some(checkpoints) = storage.checkpoints() else { return Ok(Earlier::None) };
    let name = Path::new(storage.name());
    let loaded = checkpoints.load();
    match loaded.map_err(|error| Error::io("cannot read the checkpoint of", name, error))? {
        Some(bytes) => read_from(&bytes, &name.join("checkpoint")),
        None => Ok(Earlier::None),
    }
}

fn read_from(bytes: &[u8], at: &Path) -> Result<Earlier, Error> {
    match Checkpoint::decode(bytes) {
        Ok(checkpoint) => Ok(Earlier::Checkpoint(Box::new(checkpoint))),
        Err(CheckpointError::Newer { version }) => Err(Error::new(
            ErrorKind::LocalFile,
            format!(
                "{} was written by a newer haul (format {version}): nothing was changed",
                at.display()
            ),
        )),
        Err(error) => Ok(Earlier::Damaged(error.to_string())),
    }
}

/// See [`earlier`].
pub(crate) enum Earlier {
    None,
    Damaged(String),
    Checkpoint(Box<Checkpoint>),
}

/// The first range that a resumed download asks for: missing bytes that need no
/// hashing before them, or one byte to see whether the object is the same.
pub(crate) fn opening_range(checkpoint: &Checkpoint, at_most_bytes: u64) -> ByteRange {
    let total = checkpoint.total.unwrap_or(0);
    let size = checkpoint.segment_size_bytes;
    let prefixed = |index: usize| checkpoint.prefixes.iter().any(|p| p.segment as usize == index);
    let missing = |index: usize| {
        matches!(checkpoint.segments.get(index), Some(SegmentRecord::Missing)) && !prefixed(index)
    };
    let Some(first) = (0..checkpoint.segments.len()).find(|index| missing(*index)) else {
        return ByteRange::new(0, 1);
    };
    let mut last = first;
    while missing(last + 1) && (last + 1 - first) as u64 * size < at_most_bytes {
        last += 1;
    }
    let start = first as u64 * size;
    ByteRange::new(start, ((last as u64 + 1) * size).min(total).min(start + at_most_bytes))
}

/// Makes segments beyond the file's end missing, whatever the checkpoint says.
pub(crate) fn forget_unreachable(
    partial: &Partial,
    checkpoint: &mut Checkpoint,
) -> Result<usize, Error> {
    let len = partial
        .file()
        .metadata()
        .map_err(|error| Error::io("cannot read", &partial.paths().partial, error))?
        .len();
    let size = checkpoint.segment_size_bytes;
    let total = checkpoint.total.unwrap_or(0);
    let mut forgotten = 0;
    for (index, record) in checkpoint.segments.iter_mut().enumerate() {
        let end = ((index as u64 + 1) * size).min(total);
        if end > len && !matches!(record, SegmentRecord::Missing) {
            *record = SegmentRecord::Missing;
            forgotten += 1;
        }
    }
    checkpoint.prefixes.retain(|p| u64::from(p.segment) * size + p.len_bytes <= len);
    Ok(forgotten)
}

/// How many bytes of an earlier run its checkpoint claims.
pub(crate) fn restored_bytes(checkpoint: &Checkpoint) -> u64 {
    restored(checkpoint).1
}

/// The same, and the segments that these bytes belong to.
pub(crate) fn restored(checkpoint: &Checkpoint) -> (Restored, u64) {
    let mut restored = Restored::default();
    let mut bytes = 0;
    let size = checkpoint.segment_size_bytes;
    let total = checkpoint.total.unwrap_or(0);
    for (index, record) in checkpoint.segments.iter().enumerate() {
        let start = index as u64 * size;
        match record {
            SegmentRecord::Missing => continue,
            SegmentRecord::Complete(_) => restored.verifying.push(index),
            SegmentRecord::Durable(_) => restored.durable.push(index),
        }
        bytes += (start + size).min(total) - start;
    }
    for prefix in &checkpoint.prefixes {
        restored.verifying.push(prefix.segment as usize);
        bytes += prefix.len_bytes;
    }
    (restored, bytes)
}
