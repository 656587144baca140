//! Fetches one URL into the current directory and shows a line of progress. Ctrl-C stops the
//! download, and the same command continues it.
//!
//! `cargo run -p haul-engine --example fetch -- URL`
#![allow(clippy::print_stdout, clippy::print_stderr)]

use haul_engine::{Engine, EngineConfig, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).expect("usage: fetch URL");
    let engine = Engine::new(EngineConfig::default())?;
    let download = engine
        .download(&url)
        .on_progress(|now| {
            let percent = now.total_bytes.map_or(0, |total| now.bytes * 100 / total.max(1));
            eprint!("\r{percent:3} %, {:.1} MB/s ", now.bytes_per_second / 1e6);
        })
        .start()?;
    let control = download.control();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            control.stop();
        }
    });
    match download.await {
        Ok(summary) => println!("\n{} bytes in {:?}", summary.bytes, summary.elapsed),
        Err(error) if error.is_resumable() => eprintln!("\n{error}: run it again to continue"),
        Err(error) => return Err(error),
    }
    Ok(())
}
