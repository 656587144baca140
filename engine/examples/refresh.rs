//! Downloads from a link that expires, and gets a fresh one from a service that
//! signs them as often as that happens.
//!
//! `cargo run -p haul-engine --example refresh -- URL SIGNING_URL FILE`
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use haul_engine::{Engine, EngineConfig, Error};

/// What a service answers is a URL and no more.
const MOST_BYTES: usize = 4096;

async fn fetch(url: &str, service: &str, file: &str) -> Result<(), Error> {
    let engine = Engine::new(EngineConfig::default())?;
    let asked = Arc::new(AtomicUsize::new(0));
    let (signer, service, count) = (engine.clone(), service.to_owned(), Arc::clone(&asked));
    // Called once for all connections; those that still receive go on meanwhile.
    let fresh_link = move |_expired: String| {
        count.fetch_add(1, Ordering::Relaxed);
        let (signer, service) = (signer.clone(), service.clone());
        async move {
            let answer = signer.download(&service).bytes(MOST_BYTES).await?;
            Ok::<_, Error>(String::from_utf8_lossy(&answer).trim().to_owned())
        }
    };
    let download = engine.download(url).output(file).refresh(fresh_link).start()?;
    let summary = download.wait().await?;
    println!("{} bytes with {} fresh links", summary.bytes, asked.load(Ordering::Relaxed));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, service, file] = &args[..] else {
        eprintln!("give a URL, the URL of what signs, and a file");
        return ExitCode::from(2);
    };
    match fetch(url, service, file).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
