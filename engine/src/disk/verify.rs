//! Checking files at rest: a finished file against a digest, a partial
//! download against its checkpoint. Blocking, on all cores, and needs no engine.
//!
//! On a resume, segments that a sync made durable are believed without being read, because reading
//! all of a large partial takes minutes. So only this module finds a partial that something else
//! wrote into.

use std::fs::File;
use std::io::{self, Read as _};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use crate::disk::hasher::Hasher;
use crate::disk::partial::{Partial, Paths};
use crate::disk::rehash::{READ_BYTES, cores, on_threads, rehash, visit};
use crate::disk::resume::earlier::{Earlier, earlier_in_partial};
use crate::disk::storage::{Storage, at_rest};
use crate::model::checkpoint::{Checkpoint, SegmentRecord};
use crate::model::config::{Checksum, DigestAlgorithm, hex};
use crate::model::digest_tree;
use crate::model::error::{Error, ErrorKind};
use crate::model::layout::Layout;
use crate::model::range::ByteRange;
use crate::os;

/// What [`verify_file`] found.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileReport {
    /// The file's size in bytes.
    pub bytes: u64,
    /// Its BLAKE3 hash.
    pub blake3: [u8; 32],
    /// The digest that was asked for and found.
    pub verified: Option<(DigestAlgorithm, Vec<u8>)>,
}

impl FileReport {
    /// The BLAKE3 hash in hexadecimal digits.
    #[must_use]
    pub fn blake3_hex(&self) -> String {
        hex(&self.blake3)
    }
}

/// Bytes of a partial whose hash is not the one in its checkpoint.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadRange {
    /// The number of their segment, from 0.
    pub segment: u32,
    /// The offset of the first of them in the object.
    pub start: u64,
    /// The offset after the last of them.
    pub end: u64,
}

/// What [`verify_partial`] found.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialReport {
    /// The name that the file gets when it is complete.
    pub output: PathBuf,
    /// The object's size in bytes, if it is known.
    pub total_bytes: Option<u64>,
    /// How many bytes the checkpoint claims and has a hash of: all of them were read.
    pub claimed_bytes: u64,
    /// How many more bytes are here without a hash, from a run that computed none, so they cannot
    /// be checked.
    pub unhashed_bytes: u64,
    /// Which of the claimed bytes are wrong, in ascending order.
    pub bad: Vec<BadRange>,
    /// Whether the checkpoint was changed so that the next run fetches them again.
    pub repaired: bool,
}

impl PartialReport {
    /// How many bytes do not hash as recorded.
    #[must_use]
    pub fn bad_bytes(&self) -> u64 {
        self.bad.iter().map(|bad| bad.end - bad.start).sum()
    }
}

/// Whether `path` stands for a partial download: it is a `NAME.part` with its checkpoint
/// `NAME.haul` beside it, or nothing is at `path` but both exist for it.
#[must_use]
pub fn is_partial(path: &Path) -> bool {
    output_of_part(path).is_some() || (!is_there(path) && has_partial(path))
}

/// `NAME` of a `NAME.part` with a checkpoint.
fn output_of_part(path: &Path) -> Option<PathBuf> {
    let output = (path.extension()? == "part").then(|| path.with_extension(""));
    output.filter(|output| has_partial(output))
}

fn has_partial(output: &Path) -> bool {
    let paths = Paths::of(output);
    is_there(&paths.partial) && is_there(&paths.checkpoint)
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The least size of the segments that cores hash; it grows so that a large file has at most
/// [`MOST_SEGMENTS`] of them.
const LEAST_SEGMENT_BYTES: u64 = 2 << 20;
const MOST_SEGMENTS: u64 = 16_384;

/// Reads the whole file and compares its digest with `checksum`.
///
/// A file on a local disk is read through a map, by all cores. If somebody truncates it meanwhile,
/// that is an error, unless it happens in the fraction of a millisecond in which a piece is being
/// hashed: that is a SIGBUS, which ends a process that does not handle it. Verify a copy, or keep
/// writers away, where that matters.
///
/// # Errors
/// [`ErrorKind::DigestMismatch`] when the digests differ; the file is left as it is.
/// [`ErrorKind::LocalFile`] when it cannot be read or is not a regular file.
pub fn verify_file(path: &Path, checksum: Option<&Checksum>) -> Result<FileReport, Error> {
    let cannot_read = |error| Error::io("cannot read", path, error);
    // A FIFO without a writer would block the opening.
    let file = Arc::new(os::file::open_followed(path).map_err(cannot_read)?);
    let metadata = file.metadata().map_err(cannot_read)?;
    if !metadata.is_file() {
        return Err(Error::new(
            ErrorKind::LocalFile,
            format!("{} is not a regular file, so there is nothing to check", path.display()),
        ));
    }
    let algorithm = checksum.map(Checksum::algorithm).filter(|of| *of != DigestAlgorithm::Blake3);
    let storage = at_rest(Arc::clone(&file)).map_err(cannot_read)?;
    // Some files have no length before they are read, such as those of procfs.
    let parallel = metadata.len() > 0 && storage.file_to_map().is_some();
    let Hashed { bytes, blake3, other } = if parallel {
        hash_in_parallel(&*storage, metadata.len(), algorithm)
    } else {
        hash_in_order(&file, algorithm)
    }
    .map_err(cannot_read)?;
    let Some(expected) = checksum else {
        return Ok(FileReport { bytes, blake3, verified: None });
    };
    let algorithm = expected.algorithm();
    let found = other.unwrap_or_else(|| blake3.to_vec());
    if found != expected.digest() {
        return Err(Error::new(
            ErrorKind::DigestMismatch,
            format!(
                "{} has {algorithm}={}, but {expected} was given; the file was left as it is",
                path.display(),
                hex(&found)
            ),
        )
        .with_hint("check the digest, or download the file again"));
    }
    Ok(FileReport { bytes, blake3, verified: Some((algorithm, found)) })
}

/// What reading a file found.
struct Hashed {
    bytes: u64,
    blake3: [u8; 32],
    other: Option<Vec<u8>>,
}

fn hash_in_order(mut file: &File, algorithm: Option<DigestAlgorithm>) -> io::Result<Hashed> {
    let mut blake3 = blake3::Hasher::new();
    let mut other = algorithm.map(Hasher::new);
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        blake3.update(&buffer[..read]);
        if let Some(other) = &mut other {
            other.update(&buffer[..read]);
        }
        bytes += read as u64;
    }
    Ok(Hashed { bytes, blake3: blake3.finalize().into(), other: other.map(Hasher::finish) })
}

/// Computes BLAKE3 by segments, and beside it the digest that needs the bytes in order. Both pass
/// over a few segments before the next few, so that the disk reads them once.
fn hash_in_parallel(
    storage: &dyn Storage,
    bytes: u64,
    algorithm: Option<DigestAlgorithm>,
) -> io::Result<Hashed> {
    let segment_size_bytes =
        bytes.div_ceil(MOST_SEGMENTS).next_power_of_two().max(LEAST_SEGMENT_BYTES);
    let layout = Layout { total: Some(bytes), segment_size_bytes };
    let segments = layout.count();
    let at_once = cores() * 8;
    let cut_short = || io::Error::new(io::ErrorKind::UnexpectedEof, "it was truncated meanwhile");
    let mut other = algorithm.map(Hasher::new);
    let mut values = Vec::new();
    for first in (0..segments).step_by(at_once) {
        let past = segments.min(first + at_once as u64);
        let start = first * segment_size_bytes;
        let end = bytes.min(past * segment_size_bytes);
        let in_order = |other: &mut Hasher| {
            visit(storage, ByteRange::new(start, end), |bytes| {
                other.update(bytes);
                true
            })
        };
        let of_segment = |number: usize| {
            let segment = u32::try_from(first).map_err(io::Error::other)? + number as u32;
            let hasher = rehash(layout, segment, None, storage, || true)?;
            Ok(hasher.ok_or_else(cut_short)?.finish())
        };
        let (found, ordered) = thread::scope(|scope| {
            let ordered = other.as_mut().map(|other| scope.spawn(|| in_order(other)));
            let found = on_threads(cores(), (past - first) as usize, of_segment);
            (found, ordered.map(thread::ScopedJoinHandle::join))
        });
        values.extend(found.into_iter().collect::<io::Result<Vec<[u8; 32]>>>()?);
        let ordered = ordered.map(|joined| joined.unwrap_or_else(|panic| resume_unwind(panic)));
        if !ordered.transpose()?.unwrap_or(true) {
            return Err(cut_short());
        }
    }
    let blake3 = digest_tree::root(bytes, segment_size_bytes, &values);
    Ok(Hashed { bytes, blake3, other: other.map(Hasher::finish) })
}

/// Reads all bytes of a partial download that its checkpoint has a hash of, and hashes them again.
/// `path` is the output's name or `NAME.part`. What [`verify_file`] says about files that are
/// truncated meanwhile holds here too.
///
/// With `repair`, wrong bytes become missing in the checkpoint, which is replaced as a whole, so
/// that the next run of the download fetches them. The data is never written to. The download's
/// lock is held meanwhile.
///
/// # Errors
/// [`ErrorKind::Locked`] while the download runs. [`ErrorKind::LocalFile`] when there is no partial
/// or no checkpoint that can be believed, when either cannot be read, or when the checkpoint cannot
/// be replaced. Wrong bytes are no error.
pub fn verify_partial(path: &Path, repair: bool) -> Result<PartialReport, Error> {
    let output = output_of_part(path).unwrap_or_else(|| path.to_owned());
    let partial = Partial::acquire_earlier(Paths::of(&output))?;
    let paths = partial.paths();
    // Read only now that nobody can replace it.
    let mut checkpoint = match earlier_in_partial(&partial)? {
        Earlier::Checkpoint(checkpoint) => *checkpoint,
        Earlier::Damaged(why) => return Err(no_checkpoint(paths, &why)),
        Earlier::None => return Err(no_checkpoint(paths, "it does not exist")),
    };
    let cannot_read = |error| Error::io("cannot read", &paths.partial, error);
    let Checked { claimed_bytes, unhashed_bytes, bad } =
        check(&checkpoint, partial.file()).map_err(cannot_read)?;
    let repaired = repair && !bad.is_empty();
    if repaired {
        forget(&mut checkpoint, &bad);
        partial.record(&checkpoint.encode(), true)?;
    }
    let total_bytes = checkpoint.total;
    Ok(PartialReport { output, total_bytes, claimed_bytes, unhashed_bytes, bad, repaired })
}

fn no_checkpoint(paths: &Paths, why: &str) -> Error {
    Error::new(
        ErrorKind::LocalFile,
        format!(
            "{} cannot be checked, because its checkpoint {} cannot be used: {why}",
            paths.partial.display(),
            paths.checkpoint.display()
        ),
    )
    .with_hint("the next run of the download decides what can be kept")
}

/// The bytes that a checkpoint claims, and which of them differ from what was stored.
#[derive(Default)]
struct Checked {
    claimed_bytes: u64,
    unhashed_bytes: u64,
    bad: Vec<BadRange>,
}

fn check(checkpoint: &Checkpoint, file: &Arc<File>) -> io::Result<Checked> {
    let layout = checkpoint.layout();
    let mut claims: Vec<_> = (0_u32..)
        .zip(&checkpoint.segments)
        .filter_map(|(number, record)| match record {
            SegmentRecord::Missing => None,
            SegmentRecord::Complete(hash) | SegmentRecord::Durable(hash) => {
                Some((number, None, *hash))
            }
        })
        .collect();
    let prefixes = checkpoint.prefixes.iter();
    claims
        .extend(prefixes.map(|prefix| (prefix.segment, Some(prefix.len_bytes), Some(prefix.hash))));
    claims.sort_unstable_by_key(|claim| claim.0);

    let storage = at_rest(Arc::clone(file))?;
    let is_good = |number: usize| -> io::Result<bool> {
        let (segment, len_bytes, hash) = claims[number];
        let Some(hash) = hash else { return Ok(true) };
        let found = rehash(layout, segment, len_bytes, &*storage, || true)?;
        Ok(found.is_some_and(|hasher| hasher.finish() == hash))
    };
    let good = on_threads(cores(), claims.len(), is_good);
    let mut checked = Checked::default();
    for ((segment, len_bytes, hash), good) in claims.iter().zip(good) {
        let Some(range) = layout.range(*segment) else { continue };
        let (start, end) =
            (range.start(), len_bytes.map_or(range.end(), |len| range.start() + len));
        if hash.is_none() {
            checked.unhashed_bytes += end - start;
            continue;
        }
        checked.claimed_bytes += end - start;
        if !good? {
            checked.bad.push(BadRange { segment: *segment, start, end });
        }
    }
    Ok(checked)
}

/// Makes the checkpoint claim nothing of the bad segments any more.
fn forget(checkpoint: &mut Checkpoint, bad: &[BadRange]) {
    for bad in bad {
        if let Some(record) = checkpoint.segments.get_mut(bad.segment as usize) {
            *record = SegmentRecord::Missing;
        }
    }
    checkpoint.prefixes.retain(|prefix| bad.iter().all(|bad| bad.segment != prefix.segment));
    checkpoint.pid = std::process::id();
}
