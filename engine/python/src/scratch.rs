//! Where an object is kept that is read while it downloads: a file without a name, which goes with
//! its last handle.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use haul_engine::storage::{ByteRange, SegmentWriter, Storage};

/// The file has one place to read and write at, so one thread at a time does either.
#[derive(Debug, Clone)]
pub(crate) struct Scratch(Arc<Mutex<File>>);

impl Scratch {
    /// In the directory for temporary files.
    ///
    /// # Errors
    /// When there can be no file.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(tempfile::tempfile()?))))
    }

    fn at(&self, offset: u64) -> io::Result<MutexGuard<'_, File>> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        Ok(file)
    }
}

impl Storage for Scratch {
    fn name(&self) -> &'static str {
        "scratch"
    }

    fn segment_writer(&self, _: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        Ok(Box::new(self.clone()))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.at(offset)?.read(buffer)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.at(0)?.set_len(len_bytes)
    }
}

impl SegmentWriter for Scratch {
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.at(offset)?.write_all(data)
    }
}
