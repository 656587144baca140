//! Whether the data beside a checkpoint is the file that the checkpoint was written for.

use std::sync::Arc;

use crate::disk::partial::Partial;
use crate::disk::rehash::rehash;
use crate::disk::storage::{self, Storage};
use crate::fault_point;
use crate::model::checkpoint::{Checkpoint, DataFile, SegmentRecord};
use crate::model::error::Error;
use crate::model::layout::Layout;

/// The relation of the data to the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// The file that the checkpoint was written for, as far as was checked.
    Same,
    /// That file, on a device whose number has changed: everything must be hashed, which is not
    /// worth reporting unless something is wrong.
    Remounted,
    /// That file, a copy of it, or part of a copy: everything must be hashed.
    Unsure,
    /// Another file.
    Foreign,
}

/// Judges the data that is open in `partial` by its `checkpoint`.
///
/// In the recorded file, two segments that were synced are hashed, which shows whether something
/// else was written over it: the others are hashed anyway, and after a power cut they may be gone.
/// In any other file, segments are hashed until one is right.
///
/// # Errors
/// When the file cannot be examined. Bytes that cannot be read are not right.
pub(crate) fn judge_data(partial: &Partial, checkpoint: &Checkpoint) -> Result<Data, Error> {
    let found = partial.data_file()?;
    let file = partial.file();
    let cannot = |error| Error::io("cannot examine", &partial.paths().partial, error);
    let len_bytes = file.metadata().map_err(cannot)?.len();
    if len_bytes == 0 || fault_point::has_bug!(AnyDataFile) {
        return Ok(Data::Same);
    }
    let claims = Claims::of(checkpoint, storage::at_rest(Arc::clone(file)).map_err(cannot)?);
    if checkpoint.data_file == Some(found) {
        let right = claims.sample_of_synced().all(|number| claims.is_right(number));
        return Ok(if right { Data::Same } else { Data::Unsure });
    }
    // A device can get another number when it is mounted again, and after a power cut no segment
    // may be right; a file keeps its own number.
    let told = checkpoint.data_file;
    if told.is_some_and(|it| DataFile { device: found.device, ..it } == found) {
        return Ok(Data::Remounted);
    }
    Ok(if claims.any_is_right() { Data::Unsure } else { Data::Foreign })
}

/// Whether the data open in `partial` contains anything that `checkpoint` has a hash of: a file
/// that somebody made in its place can have the same number.
///
/// # Errors
/// When the file cannot be examined.
pub(crate) fn has_any_of(partial: &Partial, checkpoint: &Checkpoint) -> Result<bool, Error> {
    let file = Arc::clone(partial.file());
    let data = storage::at_rest(file)
        .map_err(|error| Error::io("cannot examine", &partial.paths().partial, error))?;
    Ok(Claims::of(checkpoint, data).any_is_right())
}

/// Has everything in the checkpoint hashed again; what has no hash becomes missing.
pub(crate) fn hash_again(checkpoint: &mut Checkpoint) {
    for record in &mut checkpoint.segments {
        *record = match *record {
            SegmentRecord::Complete(Some(hash)) | SegmentRecord::Durable(Some(hash)) => {
                SegmentRecord::Complete(Some(hash))
            }
            _ => SegmentRecord::Missing,
        };
    }
}

/// Everything that a checkpoint has hashes of.
struct Claims {
    storage: Box<dyn Storage>,
    layout: Layout,
    claims: Vec<Claim>,
}

/// A claim that a segment, or its beginning, has a hash.
struct Claim {
    segment: u32,
    /// The length of its beginning; `None` for all of it.
    len_bytes: Option<u64>,
    hash: [u8; 32],
    synced: bool,
}

impl Claims {
    fn of(checkpoint: &Checkpoint, storage: Box<dyn Storage>) -> Self {
        let segments = (0_u32..).zip(&checkpoint.segments);
        let whole = segments.filter_map(|(segment, record)| {
            let (hash, synced) = match *record {
                SegmentRecord::Complete(hash) => (hash?, false),
                SegmentRecord::Durable(hash) => (hash?, true),
                SegmentRecord::Missing => return None,
            };
            Some(Claim { segment, len_bytes: None, hash, synced })
        });
        let begun = checkpoint.prefixes.iter().map(|prefix| Claim {
            segment: prefix.segment,
            len_bytes: Some(prefix.len_bytes),
            hash: prefix.hash,
            synced: true,
        });
        let claims = begun.chain(whole).collect();
        Self { storage, layout: checkpoint.layout(), claims }
    }

    fn any_is_right(&self) -> bool {
        (0..self.claims.len()).any(|number| self.is_right(number))
    }

    /// The last claim that was synced, and a random one.
    fn sample_of_synced(&self) -> impl Iterator<Item = usize> {
        let synced: Vec<usize> =
            (0..self.claims.len()).filter(|number| self.claims[*number].synced).collect();
        let any = (!synced.is_empty()).then(|| synced[fastrand::usize(..synced.len())]);
        synced.last().copied().into_iter().chain(any)
    }

    fn is_right(&self, number: usize) -> bool {
        let Claim { segment, len_bytes, hash, .. } = self.claims[number];
        let found = rehash(self.layout, segment, len_bytes, &*self.storage, || true);
        found.ok().flatten().is_some_and(|hasher| hasher.finish() == hash)
    }
}
