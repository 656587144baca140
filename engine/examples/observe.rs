//! Follows a download with an observer, which receives each event once and in order, and
//! the progress ten times a second.
//!
//!     cargo run -p haul-engine --example observe -- URL [DIRECTORY]
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

use std::sync::{Arc, Mutex};

use haul_engine::{DownloadId, Engine, EngineConfig, Error, Event, Observer, Progress};

/// Writes a log of a download. It is called by the download's own task, so it does
/// nothing that takes time.
#[derive(Debug, Default)]
pub struct Log {
    lines: Mutex<Vec<String>>,
}

impl Observer for Log {
    fn event(&self, _: DownloadId, event: &Event) {
        let line = match event {
            Event::Queued => "waits for its turn".to_owned(),
            Event::Started(started) => {
                format!("started: {:?} bytes, {}", started.total_bytes, started.storage)
            }
            Event::Retry { reason, wait, .. } => format!("tries again in {wait:?}: {reason}"),
            Event::Notice(notice) => notice.message.clone(),
            Event::Completed(summary) => format!("complete: {} bytes", summary.bytes),
            Event::Failed { message, .. } => format!("failed: {message}"),
            other => format!("{other:?}"),
        };
        self.lines.lock().unwrap().push(line);
    }

    fn progress(&self, _: DownloadId, progress: &Progress) {
        const MIB: f64 = 1_048_576.0;
        eprint!(
            "\r{:.1} MiB, {:.1} MiB/s, {} connections ",
            progress.bytes as f64 / MIB,
            progress.bytes_per_second / MIB,
            progress.connections
        );
    }
}

/// Downloads `url` into `directory`, and gives the log of it.
pub async fn run(url: &str, directory: &str) -> Result<Vec<String>, Error> {
    let engine = Engine::new(EngineConfig::default())?;
    let log = Arc::new(Log::default());
    let told = Arc::clone(&log);
    let download = engine
        .download(url)
        .directory(directory)
        .observe(told)
        // A closure is an observer of events.
        .observe(|event: &Event| {
            if let Event::Completed(summary) = event {
                eprintln!("\n{} is there", summary.output.display());
            }
        })
        .start()?;
    download.wait().await?;
    let lines = std::mem::take(&mut *log.lines.lock().unwrap());
    Ok(lines)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let url = args.next().expect("usage: observe URL [DIRECTORY]");
    let directory = args.next().unwrap_or_else(|| ".".to_owned());
    for line in run(&url, &directory).await? {
        println!("{line}");
    }
    Ok(())
}
