//! Slows a download, pauses it, and lets it go on at full speed over more
//! connections.
//!
//! `cargo run -p haul-engine --example steering -- URL FILE`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use haul_engine::{Connections, Download, Engine, EngineConfig, Event};

/// Shows how it stands after `milliseconds`.
async fn after(milliseconds: u64, download: &Download, what: &str) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    let now = download.progress();
    println!("{what}: {} bytes over {} connections", now.bytes, now.connections);
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (url, file) = args.next().zip(args.next()).ok_or("give a URL and a file")?;
    let engine = Engine::new(EngineConfig::default())?;
    let one = Connections::Fixed(1);
    let download =
        engine.download(&url).output(&file).connections(one).limit_rate(1 << 20).start()?;
    let mut events = download.events();
    let object = download.opened().await?;
    println!("{}, {:?} bytes, {:?}", object.name, object.total_bytes, object.content_type);
    after(500, &download, "at 1 MiB/s").await;

    download.pause();
    // One that is complete already has no `Paused` before its last event.
    while let Some(event) = events.next().await {
        if matches!(event, Event::Paused) {
            after(200, &download, "paused").await;
            break;
        }
    }

    download.limit_rate(None);
    download.set_connections(Connections::Fixed(8));
    download.resume();
    let summary = download.wait().await?;
    println!("complete: {} bytes over {} connections", summary.bytes, summary.connections);
    Ok(())
}
