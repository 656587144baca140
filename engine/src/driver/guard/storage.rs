//! A storage of the program.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::{Held, Part, call};
use crate::disk::storage::{Checkpoints, SegmentWriter, Storage};
use crate::model::range::ByteRange;

/// Answers as the storage does. A panic in it becomes an I/O error of that call, so that the writer
/// threads, which all downloads of an engine share, live on.
pub(crate) struct GuardedStorage {
    storage: Held<Arc<dyn Storage>>,
    name: &'static str,
}

impl GuardedStorage {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        let name = call(Part::Storage, || storage.name()).unwrap_or("storage");
        Self { storage: Held::new(Part::Storage, storage), name }
    }

    fn call<T>(&self, of: impl FnOnce(&dyn Storage) -> io::Result<T>) -> io::Result<T> {
        self.storage.look(|storage| of(&**storage))?
    }

    /// Calls the storage's checkpoints, which it has.
    fn of_checkpoints<T>(
        &self,
        of: impl FnOnce(&dyn Checkpoints) -> io::Result<T>,
    ) -> io::Result<T> {
        self.call(|storage| match storage.checkpoints() {
            Some(checkpoints) => of(checkpoints),
            None => Err(io::Error::other("the storage has no checkpoint any more")),
        })
    }
}

/// Shows only its name: what a program's own `Debug` shows is nobody's business here.
impl fmt::Debug for GuardedStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Storage").field(&self.name).finish()
    }
}

impl Storage for GuardedStorage {
    fn name(&self) -> &'static str {
        self.name
    }

    fn begin(&self, total_bytes: Option<u64>) -> io::Result<()> {
        self.call(|storage| storage.begin(total_bytes))
    }

    fn segment_writer(&self, segment: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        let writer = self.call(|storage| storage.segment_writer(segment))?;
        Ok(Box::new(GuardedWriter(Held::new(Part::Storage, writer))))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let room = buf.len();
        let read = self.call(|storage| storage.read_at(offset, buf))?;
        if read > room {
            return Err(io::Error::other(format!(
                "the storage says that it read {read} bytes into room for {room}"
            )));
        }
        Ok(read)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(|storage| storage.sync_data())
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.call(|storage| storage.set_len(len_bytes))
    }

    fn checkpoints(&self) -> Option<&dyn Checkpoints> {
        // A storage that panics here is asked again by `load`, which can return an error.
        let has = self.storage.look(|storage| storage.checkpoints().is_some());
        has.unwrap_or(true).then_some(self)
    }
}

impl Checkpoints for GuardedStorage {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        self.of_checkpoints(|checkpoints| checkpoints.load())
    }

    fn save(&self, bytes: &[u8]) -> io::Result<()> {
        self.of_checkpoints(|checkpoints| checkpoints.save(bytes))
    }

    fn remove(&self) -> io::Result<()> {
        self.of_checkpoints(|checkpoints| checkpoints.remove())
    }
}

struct GuardedWriter(Held<Box<dyn SegmentWriter>>);

impl SegmentWriter for GuardedWriter {
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.call(|writer| writer.write(offset, data))?
    }
}
