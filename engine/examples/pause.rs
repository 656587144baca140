//! Fetches for two seconds, stops, and continues from the checkpoint.
//!
//! `cargo run -p haul-engine --example pause -- URL FILE`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use haul_engine::{Engine, EngineConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (url, file) = args.next().zip(args.next()).ok_or("give a URL and a file")?;
    let engine = Engine::new(EngineConfig::default())?;
    let download = engine.download(&url).output(&file).start()?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    match download.cancel().await? {
        Some(checkpoint) => println!("stopped; the checkpoint is {}", checkpoint.display()),
        None => {
            println!("it was complete before");
            return Ok(());
        }
    }
    // The same could be done by another process, days later.
    let summary = engine.download(&url).output(&file).start()?.wait().await?;
    println!("{} of {} bytes were here already", summary.resumed_bytes, summary.bytes);
    Ok(())
}
