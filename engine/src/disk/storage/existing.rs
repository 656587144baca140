//! A finished file that already proved to be the object: it is only read.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::{SegmentWriter, Storage};
use crate::disk::conditional::Version;
use crate::model::range::ByteRange;
use crate::os;
use crate::os::file::Facts;

/// See the module's documentation. The first read opens the file, where blocking is
/// allowed, so a download whose file nobody reads need not be able to read it.
#[derive(Debug)]
pub(crate) struct ExistingFile {
    path: PathBuf,
    version: Version,
    file: OnceLock<File>,
}

impl ExistingFile {
    /// The file at `path`, which is this version.
    pub(crate) fn new(path: PathBuf, version: Version) -> Self {
        Self { path, version, file: OnceLock::new() }
    }

    fn file(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let named = |why: &dyn std::fmt::Display| format!("{}: {why}", self.path.display());
        let file = File::open(&self.path).map_err(|e| io::Error::new(e.kind(), named(&e)))?;
        if !self.version.is_of(&Facts::of(&file)?) {
            return Err(io::Error::other(named(
                &"it was changed after it had been found to be the object",
            )));
        }
        Ok(self.file.get_or_init(|| file))
    }
}

impl Storage for ExistingFile {
    fn name(&self) -> &'static str {
        "existing"
    }

    fn segment_writer(&self, _: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        os::file::read_at(self.file()?, buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
