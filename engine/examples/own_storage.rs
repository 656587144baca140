//! Downloads into a storage of the program's own, which keeps the object in memory. Only
//! the engine hashes it, and it can be read while it is still arriving.
//!
//!     cargo run -p haul-engine --example own_storage -- URL
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use haul_engine::storage::{ByteRange, SegmentWriter, Storage};
use haul_engine::{Engine, EngineConfig, Error};

/// Keeps each segment as a piece of memory of its own, so that an object may come in
/// any order and needs no room before its bytes are there.
#[derive(Debug, Default)]
pub struct Segments {
    by_start: Mutex<BTreeMap<u64, Arc<Mutex<Vec<u8>>>>>,
}

impl Storage for Segments {
    fn name(&self) -> &'static str {
        "segments"
    }

    fn begin(&self, total_bytes: Option<u64>) -> io::Result<()> {
        // Called again when the object changed: nothing of before counts.
        self.by_start.lock().unwrap().clear();
        match total_bytes {
            Some(total) if total > 1 << 30 => Err(io::ErrorKind::FileTooLarge.into()),
            _ => Ok(()),
        }
    }

    fn segment_writer(&self, segment: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        let mut segments = self.by_start.lock().unwrap();
        // It may be continued by another writer.
        let bytes = Arc::clone(segments.entry(segment.start()).or_default());
        Ok(Box::new(Writer { start: segment.start(), bytes }))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let segments = self.by_start.lock().unwrap();
        let Some((start, bytes)) = segments.range(..=offset).next_back() else { return Ok(0) };
        let bytes = bytes.lock().unwrap();
        let from = usize::try_from(offset - start).unwrap_or(usize::MAX).min(bytes.len());
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(()) // memory is as durable as it gets
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(()) // of an object without a size, what was written is what there is
    }
}

struct Writer {
    start: u64,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl SegmentWriter for Writer {
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap();
        // Without gaps and in order, says the contract; what was begun may be written anew.
        bytes.truncate((offset - self.start) as usize);
        bytes.extend_from_slice(data);
        Ok(())
    }
}

/// Downloads `url` into memory, and gives the whole of it.
pub async fn run(url: &str) -> Result<Vec<u8>, Error> {
    let engine = Engine::new(EngineConfig::default())?;
    let storage = Arc::new(Segments::default());
    let download = engine.download(url).store_in(storage.clone()).start()?;
    let summary = download.wait().await?;
    println!("{} bytes, blake3 {}", summary.bytes, summary.blake3_hex().unwrap_or_default());

    let mut object = vec![0; summary.bytes as usize];
    let mut at = 0;
    while at < object.len() {
        match storage.read_at(at as u64, &mut object[at..]) {
            Ok(len) if len > 0 => at += len,
            _ => break,
        }
    }
    Ok(object)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).expect("usage: own_storage URL");
    let object = run(&url).await?;
    println!("the first bytes: {:02x?}", &object[..object.len().min(16)]);
    Ok(())
}
