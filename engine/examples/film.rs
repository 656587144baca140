//! Fetches a film whose link expires, over as many evenings as it takes.
//!
//! The first run stops by itself at the given percentage. The next run, a new
//! process whose URL has another signature, continues from there. A run also
//! continues after an earlier link has expired.
//!
//! ```text
//! cargo run -p haul-engine --example film -- 'https://host/film.mp4?signature=1' film.mp4 30
//! cargo run -p haul-engine --example film -- 'https://host/film.mp4?signature=2' film.mp4
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use haul_engine::{Engine, EngineConfig, Error, ErrorKind, Event, partial_info};

/// What an earlier run has left of it.
fn tell_what_is_here(file: &str) {
    let Ok(partial) = partial_info(Path::new(file)) else { return };
    if let Ok(state) = partial.state {
        println!("{} bytes are here, from {}", state.stored_bytes, state.host);
    }
}

/// Fetches all of it, or until `percent` of it are here; whether it is complete.
async fn fetch(url: &str, file: &str, percent: u64) -> Result<bool, Error> {
    let engine = Engine::new(EngineConfig::default())?;
    let download = engine.download(url).output(file).start()?;
    let mut events = download.events();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            result = download.wait() => {
                let film = result?;
                println!("complete: {} of {} bytes came today", film.bytes - film.resumed_bytes, film.bytes);
                return Ok(true);
            }
            _ = tick.tick() => {
                let now = download.progress();
                let enough = now.total_bytes.is_some_and(|total| now.bytes >= total / 100 * percent);
                if enough && percent < 100 {
                    break;
                }
            }
        }
    }
    download.pause();
    while let Some(event) = events.next().await {
        if matches!(event, Event::Paused) {
            println!("paused at {} bytes", download.progress().bytes);
            break;
        }
    }
    match download.cancel().await? {
        Some(checkpoint) => println!("the rest another day, from {}", checkpoint.display()),
        None => println!("it was complete before"),
    }
    Ok(false)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(file)) = (args.next(), args.next()) else {
        eprintln!("give a URL, a file, and if you like at how many percent to stop");
        return ExitCode::from(2);
    };
    let percent = args.next().and_then(|percent| percent.parse().ok()).unwrap_or(100);
    tell_what_is_here(&file);
    match fetch(&url, &file, percent).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            if error.kind() == ErrorKind::AccessDenied && error.is_resumable() {
                eprintln!("the link has expired: give a fresh one, what is here is kept");
            }
            ExitCode::FAILURE
        }
    }
}
