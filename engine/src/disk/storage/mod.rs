//! Where received bytes go: the partial file, behind the [`Storage`] trait.
//!
//! The writer threads are the only callers. Every call blocks (a page fault, a
//! full dirty-page budget, a slow disk), so none may be made on a runtime's
//! thread.
//!
//! [`open`] chooses between the two implementations. Mapped windows are used only where `fallocate`
//! really reserves blocks, or in memory, because a store into a page that has no block is a SIGBUS
//! on a full disk; positioned writes return an error there and work everywhere else.

pub(crate) mod existing;
pub(super) mod memory;
mod mmap;
mod null;
mod pwrite;
pub(crate) mod window;

pub use self::memory::MemoryStorage;
pub(in crate::disk) use self::mmap::with_mapped;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::fault_point::{self, Call};
use crate::model::config::{Allocation, StorageKind};
use crate::model::error::{Error, ErrorKind};
use crate::model::hint::Hint;
use crate::model::range::ByteRange;
use crate::model::size::{differing, exact_words, size_words};
use crate::os;
use crate::os::error::is_unsupported;
use crate::os::file::Facts;
use crate::os::space::{self, FileSystem, file_size_limit_bytes};

/// Where the bytes of one object are kept.
///
/// # Contract
/// - The engine calls [`Self::begin`], then writes and reads, then, where the size was
///   not known, [`Self::set_len`], and [`Self::sync_data`] now and then and at the end.
///   It calls `begin` again when it starts over, because the object changed or
///   wrong bytes arrived: earlier bytes no longer count. Nothing is written
///   once the download has ended.
/// - Every call may block, and none is made on a runtime's thread. Writes come from the
///   engine's writer threads, each segment from one of them, in order and without gaps;
///   several segments are written at once. Reads come from any thread at any time, only
///   for bytes that were written, and see all of those.
/// - An error ends the download with [`crate::ErrorKind::LocalFile`], or
///   [`crate::ErrorKind::DiskFull`] for [`io::ErrorKind::StorageFull`],
///   [`io::ErrorKind::QuotaExceeded`] and [`io::ErrorKind::FileTooLarge`]. The call is not
///   tried again.
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// One word for events and logs, such as `pwrite`.
    fn name(&self) -> &'static str;

    /// Prepares for an object of `total_bytes`, or for one of unknown size.
    ///
    /// # Errors
    /// When it cannot be kept. Nothing of it has been received then beyond what waits in a socket.
    fn begin(&self, total_bytes: Option<u64>) -> io::Result<()> {
        let _ = total_bytes;
        Ok(())
    }

    /// A writer for one segment, given by its absolute byte range; its end is
    /// `u64::MAX` where the size of the object is not known. At most one writer
    /// exists for a segment at a time, and segments do not overlap.
    ///
    /// # Errors
    /// `InvalidInput` when the segment ends beyond the object.
    fn segment_writer(&self, segment: ByteRange) -> io::Result<Box<dyn SegmentWriter>>;

    /// Reads up to `buf.len()` bytes at `offset`; 0 only at the end. Sees every byte written
    /// before, by any writer.
    ///
    /// # Errors
    /// Any failure to read. A storage that cannot read has no readers, and of digests only BLAKE3.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Makes every byte written before this call durable, where the storage has such a thing.
    ///
    /// # Errors
    /// After any error, nothing written since the last success may be trusted:
    /// the kernel reports a failed write-back once and drops the pages.
    fn sync_data(&self) -> io::Result<()>;

    /// Sets the final length in bytes of an object whose length was unknown at
    /// the start.
    ///
    /// # Errors
    /// `InvalidInput` when the length was known and differs.
    fn set_len(&self, len_bytes: u64) -> io::Result<()>;

    /// Where the download's checkpoint is kept, if it can be continued. With one, a download that
    /// finds a checkpoint of the same object continues without [`Self::begin`], with the bytes that
    /// are there.
    fn checkpoints(&self) -> Option<&dyn Checkpoints> {
        None
    }

    /// The file that holds the object, each byte at its offset, where it may also be read through a
    /// memory map.
    fn file_to_map(&self) -> Option<&File> {
        None
    }

    /// How many bytes have gone through a memory map so far, for
    /// [`crate::Summary::mapped_bytes`].
    fn mapped_bytes(&self) -> u64 {
        0
    }
}

/// Keeps the checkpoint of a [`Storage`]: at most 4 MiB that mean nothing to anybody else and hold
/// no secret. Every call may block, and none is made on a runtime's thread.
///
/// # Crashes
/// A checkpoint says one of two things about each segment. Either a [`Storage::sync_data`] that
/// began after the segment was written has succeeded: that is believed, and must hold after a crash
/// as well. Or it has a hash of the segment, which is read and hashed again on a resume. So a
/// checkpoint may be older than the data, and newer than its last sync; it must not be one that
/// [`Self::remove`] removed. A torn one is detected, and the download starts from zero.
pub trait Checkpoints {
    /// The bytes that were saved last; `None` if there are none, or they were removed.
    ///
    /// # Errors
    /// When they cannot be read: the download fails, and nothing is changed.
    fn load(&self) -> io::Result<Option<Vec<u8>>>;

    /// Replaces the saved bytes with these, as a whole; called once a second while there is news,
    /// and at the end of a download that is not complete.
    ///
    /// # Errors
    /// When they cannot be kept. The download goes on, and reports it.
    fn save(&self, bytes: &[u8]) -> io::Result<()>;

    /// Removes the saved bytes, durably: the object is complete, or its bytes no longer count. It
    /// is no error if there are none.
    ///
    /// # Errors
    /// When they are still there.
    fn remove(&self) -> io::Result<()>;
}

/// Writes the bytes of one segment. Dropping it loses nothing: [`Storage::read_at`] finds the bytes
/// as soon as [`SegmentWriter::write`] has returned.
pub trait SegmentWriter: Send {
    /// Stores all of `data` at `offset`, counted from the object's first byte.
    ///
    /// # Errors
    /// `InvalidInput` for a write outside the segment, which stores nothing; the engine makes none.
    /// After any other error an unknown part of `data` is stored.
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Like [`Self::write`], while storing takes half of a core, for a storage that has a
    /// cheaper way than its usual one.
    ///
    /// # Errors
    /// As for [`Self::write`].
    fn write_in_haste(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(offset, data)
    }
}

/// The outcome of [`open`].
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) storage: Arc<dyn Storage>,
    /// Why the storage is not the one that was asked for, or why its blocks are
    /// not reserved: one line without a full stop.
    pub(crate) fallback: Option<String>,
    /// Why the file is not mapped although it could have been: a clause for anyone who wants to
    /// know more.
    pub(crate) unmapped: Option<String>,
}

/// The storage of a download that keeps nothing.
pub(crate) fn null() -> Arc<dyn Storage> {
    Arc::new(null::NullStorage)
}

/// The size in bytes from which [`StorageKind::Auto`] maps: below it, mapping and unmapping a
/// window takes longer than the copy.
const LEAST_MAPPED_BYTES: u64 = 1 << 20;

/// Prepares `file`, found at `path`, for an object of `total_bytes` and
/// chooses its storage.
///
/// With a known total the file has exactly that length afterwards, and its
/// blocks are reserved where the file system can do so. Bytes it held within
/// that length are kept; a longer file is cut.
///
/// # Errors
/// [`ErrorKind::DiskFull`] when the bytes do not fit: no space, a quota, or the
/// file-size limit of the process. The file has its former length again then,
/// but may own blocks that it did not own before: a caller that created it
/// unlinks it, so that nothing stays behind. [`ErrorKind::LocalFile`] for any
/// other failure.
pub(crate) fn open(
    file: Arc<File>,
    path: &Path,
    total_bytes: Option<u64>,
    kind: StorageKind,
    allocation: Allocation,
) -> Result<Opened, Error> {
    let Some(total) = total_bytes else {
        let storage = Arc::new(pwrite::PwriteStorage::new(file, None));
        return Ok(Opened::positioned(storage, kind, "the length of the object is unknown"));
    };
    refuse_beyond_limit(path, total)?;
    let facts = Facts::of(&file).map_err(|e| Error::io("cannot examine", path, e))?;
    if facts.len_bytes() > total {
        file.set_len(total).map_err(|e| Error::io("cannot shorten", path, e))?;
    }
    let positioned =
        |file| -> Arc<dyn Storage> { Arc::new(pwrite::PwriteStorage::new(file, Some(total))) };
    if total == 0 {
        return Ok(Opened::plain(positioned(file)));
    }

    let file_system = FileSystem::of(&file).map_err(|e| Error::io("cannot examine", path, e))?;
    if file_system.reports_exactly() {
        refuse_beyond_free(&file, path, total, facts.disk_bytes())?;
    }
    // There is room for it now, and a write that finds none later returns an error.
    let only_checked = file_system.is_slower_reserved() && allocation == Allocation::Auto;
    if only_checked || allocation == Allocation::Sparse {
        os::space::lengthen(&file, total)
            .map_err(|e| Error::io("cannot set the length of", path, e))?;
    } else {
        match reserve(&file, total) {
            Ok(()) => {}
            Err(refusal) if is_unsupported(&refusal) && allocation == Allocation::Reserve => {
                return Err(Error::io("cannot reserve space for", path, refusal)
                    .with_hint(Hint::CannotReserve));
            }
            Err(refusal) if is_unsupported(&refusal) => {
                file.set_len(total).map_err(|e| Error::io("cannot set the length of", path, e))?;
                let fallback = format!(
                    "positioned writes into unreserved space are used: {file_system} cannot reserve \
                     blocks, so the disk may turn out to be full midway"
                );
                let opened = Opened::plain(positioned(file));
                return Ok(Opened { fallback: Some(fallback), ..opened });
            }
            Err(refusal) => {
                // A failed fallocate may have lengthened the file as far as it got.
                let _ = file.set_len(facts.len_bytes().min(total));
                return Err(refused(&file, path, total, refusal));
            }
        }
    }
    if kind == StorageKind::Auto && total < LEAST_MAPPED_BYTES {
        return Ok(Opened::positioned(positioned(file), kind, "the object is small"));
    }
    Ok(match obstacle(&file, file_system, total, allocation) {
        _ if kind == StorageKind::Pwrite => Opened::plain(positioned(file)),
        Some(why) => Opened::positioned(positioned(file), kind, &why),
        None => {
            if facts.len_bytes() == 0 {
                try_writing(&file).map_err(|refusal| {
                    let _ = file.set_len(0);
                    refused(&file, path, total, refusal)
                })?;
            }
            Opened::plain(Arc::new(mmap::MmapStorage::new(file, total)))
        }
    })
}

/// Writes the first byte of a file that has none yet: a file system that refuses writes although it
/// reserved blocks, as with a quota that is counted elsewhere, gives a write its reason but only
/// raises a signal in a mapping.
fn try_writing(file: &File) -> io::Result<()> {
    os::file::write_all_at(file, &[0], 0)
}

/// The error for a file system that does not accept `total` bytes.
fn refused(file: &File, path: &Path, total: u64, refusal: io::Error) -> Error {
    let why = match refusal.kind() {
        io::ErrorKind::StorageFull => "the disk is full",
        io::ErrorKind::QuotaExceeded => "the quota is used up",
        io::ErrorKind::FileTooLarge => "the file system has no files of that size",
        _ => return Error::io("cannot reserve space for", path, refusal),
    };
    no_space(file, path, total, why)
}

impl Opened {
    fn plain(storage: Arc<dyn Storage>) -> Self {
        Self { storage, fallback: None, unmapped: None }
    }

    fn positioned(storage: Arc<dyn Storage>, kind: StorageKind, why: &str) -> Self {
        let fallback =
            (kind == StorageKind::Mmap).then(|| format!("positioned writes are used: {why}"));
        let unmapped = (kind == StorageKind::Auto).then(|| why.to_owned());
        Self { storage, fallback, unmapped }
    }
}

/// A file at rest, for reading: through a map where it is local.
///
/// # Errors
/// When the file cannot be examined.
pub(crate) fn at_rest(file: Arc<File>) -> io::Result<Box<dyn Storage>> {
    let (len, remote) = (os::file::len_bytes(&file)?, FileSystem::of(&file)?.is_remote());
    Ok(if remote || !os::map::can_bring_in() || cfg!(not(target_pointer_width = "64")) {
        Box::new(pwrite::PwriteStorage::new(file, Some(len)))
    } else {
        Box::new(mmap::MmapStorage::new(file, len))
    })
}

/// What keeps `file`, prepared for `total` bytes, from being mapped.
fn obstacle(
    file: &File,
    file_system: FileSystem,
    total: u64,
    allocation: Allocation,
) -> Option<String> {
    if cfg!(not(target_pointer_width = "64")) {
        return Some("this is a 32-bit build".to_owned());
    }
    if !os::map::can_bring_in() {
        return Some(os::map::CANNOT_BRING_IN.to_owned());
    }
    if allocation == Allocation::Sparse {
        return Some("no blocks are reserved for a mapping".to_owned());
    }
    if file_system.promises_mappings_nothing() {
        return Some(format!("{file_system} does not promise reserved blocks to a mapping"));
    }
    let owned_bytes = Facts::of(file).map_or(0, |facts| facts.disk_bytes());
    (!file_system.is_memory() && owned_bytes < total).then(|| {
        let (owned, total) = differing(owned_bytes, total);
        format!("{file_system} reserved only {owned} of {total}")
    })
}

/// Reserves blocks for the first `total` bytes and sets the length.
fn reserve(file: &File, total: u64) -> io::Result<()> {
    fault_point::pass(Call::Reserve)?;
    os::space::reserve(file, total)
}

/// # Errors
/// [`ErrorKind::DiskFull`] when a file at `path` could not have `total` bytes.
pub(super) fn refuse_beyond_limit(path: &Path, total: u64) -> Result<(), Error> {
    match file_size_limit_bytes() {
        Some(limit) if total > limit => {
            let (total, limit) = differing(total, limit);
            Err(Error::new(
                ErrorKind::DiskFull,
                format!(
                    "cannot write {}: it needs {total} and this process may write files of at \
                     most {limit}; nothing was stored",
                    path.display()
                ),
            )
            .with_hint("raise the file-size limit (ulimit -f)"))
        }
        // Offsets are signed in the kernel's interface.
        _ if i64::try_from(total).is_err() => Err(Error::new(
            ErrorKind::DiskFull,
            format!(
                "cannot write {}: {} are more than any file holds; nothing was stored",
                path.display(),
                size_words(total)
            ),
        )),
        _ => Ok(()),
    }
}

/// Refuses where even the blocks kept for root would not do. Without this, fallocate takes every
/// free block of the disk from everybody else before it fails. A file system that reports no size
/// at all (tmpfs without a limit) is left to fallocate.
fn refuse_beyond_free(file: &File, path: &Path, total: u64, owned_bytes: u64) -> Result<(), Error> {
    let Ok(space) = space::around(file) else { return Ok(()) };
    if space.total_bytes > 0 && total.saturating_sub(owned_bytes) > space.free_bytes {
        return Err(no_space(file, path, total, "the disk is full"));
    }
    Ok(())
}

fn no_space(file: &File, path: &Path, total: u64, why: &str) -> Error {
    let (total, free) = match space::around(file) {
        Ok(space) => {
            let (total, free) = differing(total, space.available_bytes);
            (total, format!(" ({free} are free there)"))
        }
        Err(_) => (size_words(total), String::new()),
    };
    Error::new(
        ErrorKind::DiskFull,
        format!("cannot reserve {total} for {}: {why}{free}; nothing was stored", path.display()),
    )
    .with_hint("free some space or choose another directory")
}

/// Refuses a write that is not wholly inside the writer's segment.
fn check_inside(segment: ByteRange, offset: u64, len: usize) -> io::Result<()> {
    let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
    match end {
        Some(end) if offset >= segment.start() && end <= segment.end() => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a write of {len} bytes at {offset} is outside its segment {segment}"),
        )),
    }
}

fn check_segment(segment: ByteRange, total: u64) -> io::Result<()> {
    if segment.end() <= total {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("segment {segment} is outside the object of {}", exact_words(total)),
    ))
}

/// The error for a length that is not the object's.
fn other_length(total: u64, len_bytes: u64) -> io::Error {
    let (total, len) = differing(total, len_bytes);
    let message = format!("the object has {total}, its length cannot become {len}");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Returns an error where a file that [`open`] made `total` bytes long is shorter now. Only another
/// program can have done that.
fn check_not_truncated(file: &File, total: u64) -> io::Result<()> {
    let len = os::file::len_bytes(file)?;
    if len >= total {
        return Ok(());
    }
    let (len, total) = differing(len, total);
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("the partial file was truncated by another program: {len} of {total} left"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::NamedTempFile, Arc<File>) {
        let named = tempfile::NamedTempFile::new().unwrap();
        let file = Arc::new(named.reopen().unwrap());
        (named, file)
    }

    fn open_at(total: Option<u64>, kind: StorageKind) -> Result<(Opened, Arc<File>), Error> {
        let (named, file) = scratch();
        open(Arc::clone(&file), named.path(), total, kind, Allocation::Auto)
            .map(|opened| (opened, file))
    }

    #[test]
    fn known_total_sets_the_length() {
        for kind in [StorageKind::Auto, StorageKind::Mmap, StorageKind::Pwrite] {
            let (_, file) = open_at(Some(300_001), kind).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 300_001);
        }
    }

    /// Memory whose length can still be set but that refuses writes: a mapping of it would only
    /// raise signals.
    #[test]
    fn what_takes_no_write_is_told_before_anything_is_mapped() {
        let Some(file) = os::testing::unwritable().map(Arc::new) else { return };
        let path = Path::new("film.part");
        let kind = StorageKind::Auto;
        let opened = open(Arc::clone(&file), path, Some(5 << 20), kind, Allocation::Auto);
        assert_eq!(opened.map(|it| it.storage.name()).unwrap_err().kind(), ErrorKind::LocalFile);
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn mapping_is_chosen_only_where_blocks_are_reserved() {
        for kind in [StorageKind::Auto, StorageKind::Mmap] {
            let (opened, file) = open_at(Some(5 << 20), kind).unwrap();
            let file_system = FileSystem::of(&file).unwrap();
            if file_system.reports_exactly() && os::map::can_bring_in() {
                assert_eq!((opened.storage.name(), opened.fallback), ("mmap", None));
                let owned = Facts::of(&file).unwrap().disk_bytes();
                assert!(file_system.is_memory() || owned >= 5 << 20, "blocks are reserved");
            } else if file_system.promises_mappings_nothing() {
                assert_eq!(opened.storage.name(), "pwrite");
                let told =
                    if kind == StorageKind::Mmap { opened.fallback } else { opened.unmapped };
                assert!(told.is_some(), "the reason is told");
            }
        }
    }

    #[test]
    fn unreserved_blocks_are_never_mapped() {
        let (_, file) = scratch();
        file.set_len(5 << 20).unwrap();
        let why = |on, allocation| obstacle(&file, on, 5 << 20, allocation);
        if !FileSystem::of(&file).unwrap().is_memory() {
            let on = FileSystem::THAT_RESERVES;
            let (why, told) = (why(on, Allocation::Auto).unwrap(), format!("{on} reserved only"));
            assert!(!os::map::can_bring_in() || why.contains(&told), "{why}");
        }
        assert!(why(FileSystem::THAT_RESERVES, Allocation::Sparse).is_some());
        for on in FileSystem::that_promise_mappings_nothing() {
            let why = why(on, Allocation::Auto).unwrap();
            assert!(!os::map::can_bring_in() || why.starts_with(&on.to_string()), "{why}");
        }
    }

    #[test]
    fn positioned_writes_where_they_are_asked_for_and_where_nothing_can_be_mapped() {
        let named = |total, kind| {
            let (opened, _) = open_at(total, kind).unwrap();
            (opened.storage.name(), opened.fallback, opened.unmapped)
        };
        assert_eq!(named(Some(5 << 20), StorageKind::Pwrite), ("pwrite", None, None));
        let (name, fallback, unmapped) = named(None, StorageKind::Auto);
        assert_eq!((name, fallback), ("pwrite", None));
        assert!(unmapped.unwrap().contains("length"));
        let (_, fallback, _) = named(None, StorageKind::Mmap);
        assert!(fallback.unwrap().contains("length"));
        let (name, fallback, _) = named(Some(LEAST_MAPPED_BYTES - 1), StorageKind::Auto);
        assert_eq!((name, fallback), ("pwrite", None));
    }

    #[test]
    fn empty_object_is_an_empty_file() {
        let (named, file) = scratch();
        file.set_len(77).unwrap();
        let opened =
            open(Arc::clone(&file), named.path(), Some(0), StorageKind::Mmap, Allocation::Auto)
                .unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        opened.storage.sync_data().unwrap();
        assert_eq!(opened.storage.read_at(0, &mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn resumed_file_keeps_its_bytes_and_a_longer_one_is_cut() {
        let (named, file) = scratch();
        os::file::write_all_at(&file, b"kept", 100).unwrap();
        file.set_len(9000).unwrap();
        let opened =
            open(Arc::clone(&file), named.path(), Some(4000), StorageKind::Auto, Allocation::Auto)
                .unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4000);
        let mut bytes = [0; 4];
        assert_eq!(opened.storage.read_at(100, &mut bytes).unwrap(), 4);
        assert_eq!(&bytes, b"kept");
    }

    #[test]
    fn object_that_cannot_fit_is_disk_full_and_leaves_the_length() {
        for total in [1 << 62, u64::MAX] {
            let (named, file) = scratch();
            let unlimited = space::around(&file).unwrap().total_bytes == 0;
            if unlimited && total < u64::MAX {
                continue;
            }
            file.set_len(10).unwrap();
            let error = open(
                Arc::clone(&file),
                named.path(),
                Some(total),
                StorageKind::Auto,
                Allocation::Auto,
            )
            .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DiskFull);
            assert!(error.to_string().contains(&size_words(total)), "{error}");
            assert_eq!(file.metadata().unwrap().len(), 10);
        }
    }

    #[test]
    fn disk_without_room_is_refused_before_any_block_is_taken() {
        let (named, file) = scratch();
        let space = space::around(&file).unwrap();
        let total = space.free_bytes + (64 << 30);
        if !FileSystem::of(&file).unwrap().reports_exactly() || space.total_bytes == 0 {
            return;
        }
        let error =
            open(Arc::clone(&file), named.path(), Some(total), StorageKind::Auto, Allocation::Auto)
                .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiskFull);
        assert!(error.to_string().contains("are free"), "{error}");
        assert_eq!(Facts::of(&file).unwrap().disk_bytes(), 0);
    }

    /// Runs itself again under `ulimit -f`: the limit holds for a whole process,
    /// and a write beyond it would end the process with SIGXFSZ.
    #[test]
    fn file_size_limit_is_an_error_and_no_signal() {
        const BEYOND: u64 = 1 << 30;
        if !os::testing::HAS_FILE_SIZE_LIMIT {
            return;
        }
        if std::env::var_os("HAUL_TEST_LIMITED").is_some() {
            for kind in [StorageKind::Auto, StorageKind::Pwrite] {
                let error = open_at(Some(BEYOND), kind).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::DiskFull);
                assert!(error.hint().unwrap().to_string().contains("ulimit -f"));
            }
            let (opened, _) = open_at(None, StorageKind::Auto).unwrap();
            let mut writer = opened.storage.segment_writer(ByteRange::new(0, u64::MAX)).unwrap();
            let error = writer.write(BEYOND, b"x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
            return;
        }
        let module = module_path!().split_once("::").unwrap().1;
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -f 64 && exec \"$0\" --exact \"$1\""])
            .arg(std::env::current_exe().unwrap())
            .arg(format!("{module}::file_size_limit_is_an_error_and_no_signal"))
            .env("HAUL_TEST_LIMITED", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    }

    #[test]
    fn both_storages_keep_writes_inside_the_segment() {
        for kind in [StorageKind::Mmap, StorageKind::Pwrite] {
            let (opened, _) = open_at(Some(8192), kind).unwrap();
            let segment = ByteRange::new(1024, 2048);
            let mut writer = opened.storage.segment_writer(segment).unwrap();
            for (offset, len) in [(1000, 100), (2000, 100), (3000, 1), (u64::MAX, 2)] {
                let error = writer.write(offset, &vec![1; len]).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            }
            writer.write(1024, &[1; 1024]).unwrap();
            let mut all = vec![0; 8192];
            assert_eq!(opened.storage.read_at(0, &mut all).unwrap(), 8192);
            let written: Vec<usize> = (0..8192).filter(|&i| all[i] != 0).collect();
            assert_eq!(written, (1024..2048).collect::<Vec<_>>());
            let beyond = ByteRange::new(8000, 9000);
            assert!(opened.storage.segment_writer(beyond).is_err());
        }
    }
}
