//! Downloads into a storage of the program's own: a file with its checkpoint beside it.
//! After a kill, the next run continues, even from another URL.
//!
//!     cargo run -p haul-engine --example own_file -- URL FILE
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use haul_engine::storage::{ByteRange, Checkpoints, SegmentWriter, Storage};
use haul_engine::{Engine, EngineConfig};

/// A file that is written at the offsets of the object, and `FILE.checkpoint`.
#[derive(Debug)]
pub struct OwnFile {
    file: Arc<File>,
    checkpoint: PathBuf,
}

impl OwnFile {
    /// Opens the file or creates it. What is in it stays: it may be continued.
    ///
    /// # Errors
    /// When that cannot be, or another process has it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        // Nothing else keeps two downloads from writing the same file.
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another process downloads into it"),
            TryLockError::Error(error) => error,
        })?;
        let mut checkpoint = path.as_os_str().to_owned();
        checkpoint.push(".checkpoint");
        Ok(Self { file: Arc::new(file), checkpoint: checkpoint.into() })
    }
}

impl Storage for OwnFile {
    fn name(&self) -> &'static str {
        "own file"
    }

    fn begin(&self, total_bytes: Option<u64>) -> io::Result<()> {
        // Called again when the object changed: nothing of before counts.
        self.file.set_len(0)?;
        self.file.set_len(total_bytes.unwrap_or(0))
    }

    fn segment_writer(&self, _: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        // Positioned writes need no state: all segments share the file.
        Ok(Box::new(Writer(Arc::clone(&self.file))))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)
    }

    fn checkpoints(&self) -> Option<&dyn Checkpoints> {
        Some(self)
    }
}

struct Writer(Arc<File>);

impl SegmentWriter for Writer {
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

impl Checkpoints for OwnFile {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.checkpoint) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn save(&self, bytes: &[u8]) -> io::Result<()> {
        // As a whole: whoever is killed meanwhile leaves the one before.
        let new = self.checkpoint.with_extension("checkpoint.new");
        fs::write(&new, bytes)?;
        fs::rename(new, &self.checkpoint)
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.checkpoint) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed?,
        }
        // It must not come back after a crash: the directory has forgotten it.
        let directory = self.checkpoint.parent().filter(|path| !path.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// Downloads `url` into the file at `path`, or what is missing of it.
pub async fn run(url: &str, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::new(EngineConfig::default())?;
    let storage = Arc::new(OwnFile::open(path)?);
    let download = engine.download(url).store_in(storage).start()?;
    let summary = download.wait().await?;
    println!(
        "{} bytes, of which {} were here; blake3 {}",
        summary.bytes,
        summary.resumed_bytes,
        summary.blake3_hex().unwrap_or_default()
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: own_file URL FILE";
    let url = arguments.next().and_then(|url| url.into_string().ok()).expect(usage);
    let path = PathBuf::from(arguments.next().expect(usage));
    run(&url, &path).await
}
