//! Publishes a file only if it has the given digest, and afterwards verifies the file on
//! the disk.
//!
//! `cargo run -p haul-engine --example verify -- URL FILE ALGO=HEX`
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::process::ExitCode;

use haul_engine::{Checksum, Engine, EngineConfig, Error, ErrorKind, verify_file};

async fn fetch(url: &str, file: &str, checksum: Checksum) -> Result<(), Error> {
    let engine = Engine::new(EngineConfig::default())?;
    let download = engine.download(url).output(file).checksum(checksum.clone()).start()?;
    let summary = download.wait().await?;
    println!("published with {}", checksum.algorithm());

    // The digest was of the bytes as they came; this reads them from the disk.
    let report = verify_file(Path::new(file), Some(&checksum))?;
    println!("read again: blake3 {}", report.blake3_hex());
    assert_eq!(Some(report.blake3), summary.blake3, "the disk gives back what it got");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, file, checksum] = &args[..] else {
        eprintln!("give a URL, a file and ALGO=HEX");
        return ExitCode::from(2);
    };
    let result = match checksum.parse() {
        Ok(checksum) => fetch(url, file, checksum).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            if error.kind() == ErrorKind::DigestMismatch {
                eprintln!("{file} was not written");
            }
            ExitCode::FAILURE
        }
    }
}
