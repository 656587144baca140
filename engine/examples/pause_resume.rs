//! Pauses a download after a second, goes on slower, and then at full speed.
//!
//! `cargo run -p haul-engine --example pause_resume -- URL FILE`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use haul_engine::{Engine, EngineConfig, Event};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (url, file) = args.next().zip(args.next()).ok_or("give a URL and a file")?;
    let engine = Engine::new(EngineConfig::default())?;
    let mut download = engine.download(&url).output(&file).start()?;
    let mut events = download.events();
    if let Some(object) = download.opened().await {
        println!("{}, {:?} bytes, {:?}", object.name, object.total_bytes, object.content_type);
    }

    tokio::time::sleep(Duration::from_secs(1)).await;
    download.pause();
    // A download that is complete already has no `Paused` before its last event.
    while let Some(event) = events.next().await {
        if matches!(event, Event::Paused) {
            println!("paused at {} bytes", download.progress().bytes);
            break;
        }
    }

    download.set_rate(Some(1 << 20));
    download.resume();
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("{} bytes after a second at 1 MiB/s", download.progress().bytes);
    download.set_rate(None);

    match download.wait().await {
        Ok(summary) => println!("{} bytes in {:?}", summary.bytes, summary.elapsed),
        // What another process needs to go on days later: this place.
        Err(error) => println!("{error}; it continues from {:?}", error.checkpoint()),
    }
    Ok(())
}
