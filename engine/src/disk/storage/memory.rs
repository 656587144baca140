//! An object in memory.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::{Checkpoints, SegmentWriter, Storage, check_inside};
use crate::lock::Lock;
use crate::model::range::ByteRange;
use crate::model::size::differing;

/// The most that [`Buffers`] keep: 4 MiB.
const MAX_BUFFERS: usize = 16;
const MAX_BUFFER_BYTES: usize = 256 << 10;

/// Keeps an object in memory, up to a size that its owner allows.
///
/// Cheap to clone; all clones are the same memory.
#[derive(Clone)]
pub struct MemoryStorage {
    bytes: Arc<RwLock<Buffer>>,
    checkpoint: Arc<Lock<Option<Vec<u8>>>>,
    limit_bytes: usize,
}

/// Shows how much is there, not the bytes.
impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage")
            .field("bytes", &self.read().bytes.len())
            .field("limit_bytes", &self.limit_bytes)
            .finish_non_exhaustive()
    }
}

impl MemoryStorage {
    /// An empty storage, for an object of at most `limit_bytes`. A larger object is
    /// refused with [`crate::ErrorKind::DiskFull`] as soon as its size is known.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { bytes: Arc::default(), checkpoint: Arc::default(), limit_bytes }
    }

    /// The same, with memory that was used before and goes back when the last clone is
    /// dropped.
    pub(crate) fn of(buffers: &Arc<Buffers>, limit_bytes: usize) -> Self {
        let bytes = buffers.0.lock().pop().unwrap_or_default();
        let buffer = Buffer { bytes, back: Some(Arc::clone(buffers)) };
        Self { bytes: Arc::new(RwLock::new(buffer)), ..Self::new(limit_bytes) }
    }

    /// Keeps these bytes and no others.
    pub(crate) fn fill(&self, pieces: &[Bytes]) {
        let bytes = &mut self.write().bytes;
        bytes.clear();
        bytes.reserve_exact(pieces.iter().map(Bytes::len).sum());
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
    }

    /// Calls `look` with the bytes: the whole object once its download is complete, and
    /// before that any part of it among zeros, up to the last byte that was stored.
    /// Storing waits meanwhile.
    pub fn with<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&self.read().bytes)
    }

    /// Takes the bytes out, and leaves the storage empty: nothing continues from it.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        *self.checkpoint.lock() = None;
        std::mem::take(&mut self.write().bytes)
    }

    fn read(&self) -> RwLockReadGuard<'_, Buffer> {
        // No panic can leave the bytes half changed.
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Buffer> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn within_limit(&self, len_bytes: u64) -> io::Result<usize> {
        let len = usize::try_from(len_bytes).ok().filter(|len| *len <= self.limit_bytes);
        len.ok_or_else(|| {
            let (needed, most) = differing(len_bytes, self.limit_bytes as u64);
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it needs {needed} and may have {most}"),
            )
        })
    }
}

impl Storage for MemoryStorage {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn begin(&self, total_bytes: Option<u64>) -> io::Result<()> {
        let len = self.within_limit(total_bytes.unwrap_or(0))?;
        let bytes = &mut self.write().bytes;
        bytes.clear();
        // A lack of memory is an error here and not an abort. Memory that is filled in
        // order is not zeroed first.
        bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    fn segment_writer(&self, segment: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        Ok(Box::new(Writer { memory: self.clone(), segment }))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = &self.read().bytes;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        let len = self.within_limit(len_bytes)?;
        self.write().bytes.resize(len, 0);
        Ok(())
    }

    fn checkpoints(&self) -> Option<&dyn Checkpoints> {
        Some(self)
    }
}

/// Lasts as long as the memory: after a failure or a drop a download continues from it.
impl Checkpoints for MemoryStorage {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.checkpoint.lock().clone())
    }

    fn save(&self, bytes: &[u8]) -> io::Result<()> {
        *self.checkpoint.lock() = Some(bytes.to_owned());
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        *self.checkpoint.lock() = None;
        Ok(())
    }
}

/// The bytes, and where their memory goes when it is no longer needed.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    back: Option<Arc<Buffers>>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(back) = &self.back else { return };
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut kept = back.0.lock();
        if kept.len() < MAX_BUFFERS && (1..=MAX_BUFFER_BYTES).contains(&bytes.capacity()) {
            kept.push(bytes);
        }
    }
}

/// Memory of small objects that are written, for the next ones. If it came from the
/// allocator on one thread and went back on another, thousands of objects would make the
/// two threads wait for its lock.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Lock<Vec<Vec<u8>>>);

struct Writer {
    memory: MemoryStorage,
    segment: ByteRange,
}

impl SegmentWriter for Writer {
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_inside(self.segment, offset, data.len())?;
        let end = self.memory.within_limit(offset.saturating_add(data.len() as u64))?;
        let bytes = &mut self.memory.write().bytes;
        if bytes.len() == end - data.len() {
            bytes.extend_from_slice(data);
            return Ok(());
        }
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[end - data.len()..end].copy_from_slice(data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_taken() {
        let memory = MemoryStorage::new(10);
        memory.begin(Some(10)).unwrap();
        let mut writer = memory.segment_writer(ByteRange::new(4, 10)).unwrap();
        writer.write(4, b"world!").unwrap();
        assert!(writer.write(3, b"x").is_err());
        let mut bytes = [9; 4];
        assert_eq!(memory.read_at(8, &mut bytes).unwrap(), 2);
        assert_eq!(&bytes, b"d!\x09\x09");
        assert_eq!(memory.take(), b"\0\0\0\0world!");
        memory.with(|bytes| assert!(bytes.is_empty()));
    }

    #[test]
    fn an_object_beyond_the_limit_is_refused_with_or_without_a_size() {
        let memory = MemoryStorage::new(10);
        assert_eq!(memory.begin(Some(11)).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        memory.begin(None).unwrap();
        let mut writer = memory.segment_writer(ByteRange::new(0, u64::MAX)).unwrap();
        writer.write(0, &[1; 10]).unwrap();
        assert_eq!(writer.write(10, &[1]).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
