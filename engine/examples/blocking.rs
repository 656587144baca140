//! Fetches a file without asynchronous code: one thread counts its lines while it
//! arrives, another shows the progress.
//!
//! `cargo run -p haul-engine --features blocking --example blocking -- URL FILE`
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::{BufRead as _, BufReader};
use std::thread;
use std::time::Duration;

use haul_engine::EngineConfig;
use haul_engine::blocking::Engine;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (url, file) = args.next().zip(args.next()).ok_or("give a URL and a file")?;
    let engine = Engine::new(EngineConfig::default())?;
    let download = engine.download(&url).output(&file).start()?;

    let reader = BufReader::new(download.reader());
    let counting = thread::spawn(move || {
        let mut lines = 0_u64;
        for line in reader.split(b'\n') {
            lines += u64::from(line.is_ok());
        }
        lines
    });

    let summary = loop {
        match download.wait_timeout(Duration::from_millis(200)) {
            Some(result) => break result?,
            None => eprintln!("{} bytes", download.progress().bytes),
        }
    };
    let lines = counting.join().map_err(|_| "the counting thread panicked")?;
    println!("{}: {} bytes, {lines} lines", summary.output.display(), summary.bytes);
    Ok(())
}
