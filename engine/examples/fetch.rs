//! Fetches one URL into the current directory and shows how it goes.
//!
//! `cargo run -p haul-engine --example fetch -- URL`
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::time::Duration;

use haul_engine::{Engine, EngineConfig, Event};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("give a URL")?;
    let engine = Engine::new(EngineConfig::default())?;
    let download = engine.download(&url).start()?;
    let mut events = download.events();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Started(started)) => println!("to {}", started.output.display()),
                Some(Event::Notice(notice)) => println!("note: {}", notice.message),
                Some(_) => {}
                None => break,
            },
            _ = second.tick() => {
                let progress = download.progress();
                println!("{} bytes, {:.0} a second", progress.bytes, progress.bytes_per_second);
            }
        }
    }
    match download.wait().await {
        Ok(summary) => println!("{} bytes in {:?}", summary.bytes, summary.elapsed),
        Err(error) => {
            eprintln!("{error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
        }
    }
    Ok(())
}
