//! Whether a file that has appeared at an output's name is what was to be published there.

use std::path::Path;

use super::regular::open_regular;
use crate::model::error::Error;
use crate::os;
use crate::os::file::Access;

/// How many bytes are compared at once.
const PART_BYTES: usize = 64 << 10;

/// Whether the file at `path` has the `len_bytes` bytes that `ours` reads, from an offset. If so, it
/// is synced where `sync` asks for that: whoever wrote it may not have.
///
/// # Errors
/// When either of them cannot be read.
pub(super) fn is_same(
    path: &Path,
    len_bytes: u64,
    sync: bool,
    ours: impl Fn(usize, &mut [u8]) -> std::io::Result<()>,
) -> Result<bool, Error> {
    let cannot = |what: &'static str| move |error| Error::io(what, path, error);
    // Only a regular file, and no link to one, can be the object.
    let Ok(Some(file)) = open_regular(path, Access::Read) else { return Ok(false) };
    if os::file::len_bytes(&file).map_err(cannot("cannot examine"))? != len_bytes {
        return Ok(false);
    }
    let (mut there, mut here) = (vec![0; PART_BYTES], vec![0; PART_BYTES]);
    let end = usize::try_from(len_bytes).unwrap_or(usize::MAX);
    for at in (0..end).step_by(PART_BYTES) {
        let len = PART_BYTES.min(end - at);
        os::file::read_exact_at(&file, &mut there[..len], at as u64)
            .map_err(cannot("cannot read"))?;
        ours(at, &mut here[..len]).map_err(cannot("cannot compare the download with"))?;
        if there[..len] != here[..len] {
            return Ok(false);
        }
    }
    if sync {
        os::file::sync_read(&file, path).map_err(cannot("cannot sync"))?;
    }
    Ok(true)
}
