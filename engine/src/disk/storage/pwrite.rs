//! Positioned writes: the storage that works on every file system.
//!
//! Every failure is an error value: a full disk, a file-size limit, and a
//! partial that another program truncated.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::{
    SegmentWriter, Storage, check_inside, check_not_truncated, check_segment, other_length,
};
use crate::model::range::ByteRange;
use crate::model::size::size_words;
use crate::os;
use crate::os::space::file_size_limit_bytes;

/// The partial file, written with pwrite(2).
#[derive(Debug)]
pub(super) struct PwriteStorage {
    file: Arc<File>,
    /// `None` while the length of the object is unknown.
    total_bytes: Option<u64>,
}

impl PwriteStorage {
    /// `file` has exactly `total_bytes` bytes, where that is known.
    pub(super) fn new(file: Arc<File>, total_bytes: Option<u64>) -> Self {
        Self { file, total_bytes }
    }
}

impl Storage for PwriteStorage {
    fn name(&self) -> &'static str {
        "pwrite"
    }

    fn segment_writer(&self, segment: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        let file = Arc::clone(&self.file);
        match self.total_bytes {
            Some(total) => {
                check_segment(segment, total)?;
                Ok(Box::new(Writer { file, segment, bound: Bound::Total(total) }))
            }
            None => {
                let limit = file_size_limit_bytes().unwrap_or(u64::MAX);
                Ok(Box::new(Writer { file, segment, bound: Bound::Limit(limit) }))
            }
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        os::file::read_at(&self.file, buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.total_bytes.map_or(Ok(()), |total| check_not_truncated(&self.file, total))
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        match self.total_bytes {
            Some(total) if total != len_bytes => Err(other_length(total, len_bytes)),
            _ => self.file.set_len(len_bytes),
        }
    }
}

/// The bound that keeps a write from going where it must not.
enum Bound {
    /// The file has this length.
    Total(u64),
    /// The file grows; a write beyond this many bytes would be a SIGXFSZ.
    Limit(u64),
}

struct Writer {
    file: Arc<File>,
    segment: ByteRange,
    bound: Bound,
}

impl SegmentWriter for Writer {
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_inside(self.segment, offset, data.len())?;
        match self.bound {
            Bound::Total(total) => write_into_length(&self.file, total, offset, data),
            Bound::Limit(limit) if limit.saturating_sub(offset) < data.len() as u64 => {
                Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("this process may write files of at most {}", size_words(limit)),
                ))
            }
            Bound::Limit(_) => os::file::write_all_at(&self.file, data, offset),
        }
    }
}

/// Writes to a file that is to be `total` bytes long. If it is shorter, someone
/// else truncated it, and writing on would restore its length with a hole of
/// zeros in it.
pub(super) fn write_into_length(
    file: &File,
    total: u64,
    offset: u64,
    data: &[u8],
) -> io::Result<()> {
    check_not_truncated(file, total)?;
    os::file::write_all_at(file, data, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_unknown_length_grows_and_is_cut_at_the_end() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let storage = PwriteStorage::new(Arc::clone(&file), None);
        let mut writer = storage.segment_writer(ByteRange::new(0, u64::MAX)).unwrap();
        writer.write(0, b"hello ").unwrap();
        writer.write(6, b"world").unwrap();
        storage.set_len(8).unwrap();
        storage.sync_data().unwrap();
        let mut bytes = [0; 16];
        assert_eq!(storage.read_at(0, &mut bytes).unwrap(), 8);
        assert_eq!(&bytes[..8], b"hello wo");
    }

    #[test]
    fn known_length_cannot_be_changed() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        file.set_len(100).unwrap();
        let storage = PwriteStorage::new(Arc::clone(&file), Some(100));
        assert_eq!(storage.set_len(99).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(file.metadata().unwrap().len(), 100);
    }

    #[test]
    fn truncated_partial_is_an_error_at_the_next_write_and_at_the_sync() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        file.set_len(4096).unwrap();
        let storage = PwriteStorage::new(Arc::clone(&file), Some(4096));
        let mut writer = storage.segment_writer(ByteRange::new(0, 4096)).unwrap();
        writer.write(0, &[1; 1024]).unwrap();
        file.set_len(512).unwrap();
        let error = writer.write(1024, &[1; 1024]).unwrap_err();
        assert!(error.to_string().contains("truncated"), "{error}");
        assert_eq!(file.metadata().unwrap().len(), 512, "no hole was written over the cut");
        assert!(storage.sync_data().unwrap_err().to_string().contains("truncated"));
    }
}
