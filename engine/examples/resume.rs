//! Continues all downloads that an earlier process left in a directory. The URL of each
//! file is the base URL with the file's name.
//!
//! `cargo run -p haul-engine --example resume -- DIRECTORY BASE_URL`
#![allow(clippy::print_stdout)]

use std::path::Path;

use haul_engine::{Engine, EngineConfig, find_partials};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (directory, base) = args.next().zip(args.next()).ok_or("give a directory and a URL")?;
    let engine = Engine::new(EngineConfig::default())?;
    for partial in find_partials(Path::new(&directory))? {
        let name = partial.output.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // No URL is kept beside a partial, since it may be secret: the program knows it.
        let url = format!("{base}/{name}");
        let summary = engine.download(&url).output(&partial.output).start()?.await?;
        println!("{name}: {} of {} bytes were here", summary.resumed_bytes, summary.bytes);
    }
    Ok(())
}
