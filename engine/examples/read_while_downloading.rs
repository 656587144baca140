//! Prints the last and the first bytes of an object long before the rest has arrived.
//!
//! `cargo run -p haul-engine --example read_while_downloading -- URL FILE`
#![allow(clippy::print_stdout)]

use std::io::SeekFrom;

use haul_engine::{Engine, EngineConfig};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (url, file) = args.next().zip(args.next()).ok_or("give a URL and a file")?;
    let engine = Engine::new(EngineConfig::default())?;
    let download = engine.download(&url).output(&file).start()?;

    let mut reader = download.reader();
    let mut few = [0; 16];
    for from in [SeekFrom::End(-16), SeekFrom::Start(0)] {
        let position = reader.seek(from).await?;
        reader.read_exact(&mut few).await?;
        println!("{few:02x?} at {position}, with {} bytes here", download.progress().bytes);
    }

    let summary = download.wait().await?;
    println!("{} bytes, complete", summary.bytes);
    Ok(())
}
