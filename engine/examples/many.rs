//! Fetches several URLs into a directory, four at a time. They share one speed limit and one
//! memory budget, and one observer reports on all of them.
//!
//! `cargo run -p haul-engine --example many -- DIRECTORY URL...`
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use haul_engine::{DownloadId, Engine, Event, Observer};

#[derive(Debug)]
struct Log;

impl Observer for Log {
    fn event(&self, id: DownloadId, event: &Event) {
        match event {
            Event::Started(started) => println!("{id}: {}", started.output.display()),
            Event::Completed(summary) => println!("{id}: {} bytes", summary.bytes),
            Event::Failed { message, .. } => println!("{id}: {message}"),
            _ => {}
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let directory = args.next().ok_or("give a directory and URLs")?;
    let engine = Engine::builder()
        .max_active(4)
        .memory_budget_bytes(8 << 20)
        .limit_rate(100_000_000)
        .build()?;
    let log = Arc::new(Log);
    // Those beyond the bound wait for their turn, holding nothing.
    let start =
        |url: String| engine.download(&url).directory(&directory).observe(Arc::clone(&log)).start();
    let downloads = args.map(start).collect::<Result<Vec<_>, _>>()?;
    let mut failures = 0;
    for download in downloads {
        failures += u32::from(download.await.is_err());
    }
    if failures > 0 { Err(format!("{failures} failed").into()) } else { Ok(()) }
}
