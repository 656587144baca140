//! Fetches several URLs into a directory at once, within one speed limit and one
//! bound of memory, and shows one line for all of them.
//!
//! `cargo run -p haul-engine --example many -- DIRECTORY URL...`
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::time::Duration;

use haul_engine::{Engine, EngineConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let directory = args.next().ok_or("give a directory and URLs")?;

    let mut config = EngineConfig::default();
    config.memory_budget_bytes = 8 << 20;
    config.limit_rate_bytes_per_second = Some(100_000_000);
    let engine = Engine::new(config)?;

    let (mut monitors, mut running) = (Vec::new(), tokio::task::JoinSet::new());
    for url in args {
        // What is wrong with a URL is told before anything is fetched of it.
        let download = engine.download(&url).directory(&directory).start()?;
        monitors.push(download.monitor());
        let url = haul_engine::redact_url(&url);
        running.spawn(async move { (url, download.wait().await) });
    }

    let mut failures = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            ended = running.join_next() => match ended.transpose()? {
                Some((_, Ok(summary))) => {
                    println!("{}: {} bytes", summary.output.display(), summary.bytes);
                }
                Some((url, Err(error))) => {
                    println!("{url}: {error}");
                    failures += 1;
                }
                None => break,
            },
            _ = tick.tick() => {
                let now: Vec<_> = monitors.iter().map(haul_engine::Monitor::progress).collect();
                let bytes: u64 = now.iter().map(|it| it.bytes).sum();
                let speed: f64 = now.iter().map(|it| it.bytes_per_second).sum();
                eprintln!("{bytes} bytes, {:.1} MB/s", speed / 1e6);
            }
        }
    }
    if failures > 0 { Err(format!("{failures} failed").into()) } else { Ok(()) }
}
