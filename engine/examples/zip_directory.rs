//! Lists the files in a ZIP archive on a server, and fetches only the archive's directory.
//!
//! `cargo run -p haul-engine --example zip_directory -- URL`
#![allow(clippy::print_stdout)]

use std::io::SeekFrom;

use haul_engine::{Engine, EngineConfig};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// The end of a directory without its comment, which has 64 KiB at most.
const END_BYTES: u64 = 22;

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("give the URL of a ZIP archive")?;
    let engine = Engine::new(EngineConfig::default())?;
    let mut archive = engine.open(&url).await?;

    let end_from = archive.total_bytes().saturating_sub(END_BYTES + (64 << 10));
    archive.seek(SeekFrom::Start(end_from)).await?;
    let mut end = Vec::new();
    archive.read_to_end(&mut end).await?;
    let found = end.windows(4).rposition(|four| four == b"PK\x05\x06");
    let end = end.get(found.ok_or("no ZIP archive")?..).filter(|end| end.len() >= 22);
    let end = end.ok_or("the archive is cut short")?;

    archive.seek(SeekFrom::Start(number(&end[16..20]) as u64)).await?;
    for _ in 0..number(&end[10..12]) {
        let mut head = [0; 46];
        archive.read_exact(&mut head).await?;
        let mut name = vec![0; number(&head[28..30])];
        archive.read_exact(&mut name).await?;
        println!("{:>12} {}", number(&head[24..28]), String::from_utf8_lossy(&name));
        let rest = number(&head[30..32]) + number(&head[32..34]);
        archive.seek(SeekFrom::Current(rest as i64)).await?;
    }
    println!("{} of {} bytes fetched", archive.fetched_bytes(), archive.total_bytes());
    Ok(())
}
