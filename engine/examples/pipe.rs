//! Writes an object to stdout while it arrives over several connections, without a file, and
//! then its hash to stderr.
//!
//! `cargo run -p haul-engine --example pipe -- URL | tar t`
#![allow(clippy::print_stderr)]

use haul_engine::{Engine, EngineConfig};
use tokio::io::AsyncWriteExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("give a URL")?;
    let engine = Engine::new(EngineConfig::default())?;
    let (download, mut bytes) = engine.download(&url).stream()?;
    let mut stdout = tokio::io::stdout();
    // A slow reader of stdout slows the download: only a window is in memory.
    while let Some(bytes) = bytes.next().await? {
        stdout.write_all(&bytes).await?;
    }
    stdout.flush().await?;
    let summary = download.await?;
    eprintln!("{} bytes, blake3 {}", summary.bytes, summary.blake3_hex().unwrap_or_default());
    Ok(())
}
