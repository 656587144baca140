//! The storage that keeps nothing. Its callers count and hash the bytes as
//! everywhere else, and it forgets them: this shows what a transfer costs
//! without a disk.

use std::io;

use super::{SegmentWriter, Storage, check_inside};
use crate::model::range::ByteRange;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct NullStorage;

impl Storage for NullStorage {
    fn name(&self) -> &'static str {
        "null"
    }

    fn segment_writer(&self, segment: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        Ok(Box::new(NullWriter { segment }))
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "nothing that was received is kept"))
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

struct NullWriter {
    segment: ByteRange,
}

impl SegmentWriter for NullWriter {
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_inside(self.segment, offset, data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_checked_and_nothing_comes_back() {
        let mut writer = NullStorage.segment_writer(ByteRange::new(10, 20)).unwrap();
        writer.write(10, &[1; 10]).unwrap();
        let outside = writer.write(15, &[1; 10]).unwrap_err();
        assert_eq!(outside.kind(), io::ErrorKind::InvalidInput);
        assert!(NullStorage.read_at(10, &mut [0; 4]).is_err());
    }
}
