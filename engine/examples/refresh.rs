//! Downloads from a link that expires. Whenever it does, the program gets a fresh one
//! from a service that signs links.
//!
//! `cargo run -p haul-engine --example refresh -- URL SIGNING_URL FILE`
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use haul_engine::{Engine, EngineConfig, Error};

/// What a service answers is a URL and no more.
const MOST_BYTES: usize = 4096;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, service, file] = &args[..] else { panic!("usage: refresh URL SIGNING_URL FILE") };
    let engine = Engine::new(EngineConfig::default())?;
    let asked = Arc::new(AtomicUsize::new(0));
    let (signer, service, count) = (engine.clone(), service.clone(), Arc::clone(&asked));
    // Called once for all connections; those that still receive go on meanwhile.
    let fresh_link = move |_expired: String| {
        count.fetch_add(1, Ordering::Relaxed);
        let answer = signer.download(&service).bytes(MOST_BYTES);
        async move { Ok::<_, Error>(String::from_utf8_lossy(&answer.await?).trim().to_owned()) }
    };
    let summary = engine.download(url).output(file).refresh(fresh_link).start()?.await?;
    println!("{} bytes with {} fresh links", summary.bytes, asked.load(Ordering::Relaxed));
    Ok(())
}
