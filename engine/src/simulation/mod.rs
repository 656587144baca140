//! The whole engine below its public interface, in a simulated network and in
//! simulated time: hours of faults in milliseconds, and each again by its seed.
//!
//! Only the transport and the crew are of the simulation. Planner, driver,
//! fetchers, hyper, writers, keeper and files are the real ones, in one thread.
//!
//! A failing seed prints the command that repeats it.

mod faults;
mod server;
mod streamed;
mod tests;
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::server::Network;
use self::world::{Shared, lock};
use crate::config::{Checksum, Connections, EngineConfig};
use crate::download::DownloadBuilder;
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, NoticeCode, Summary};
use crate::handle::launch;
use crate::io::crew::Crew;
use crate::io::http::HttpTransport;

/// Of all simulated objects, so that small ones have many segments.
const SEGMENT_BYTES: u64 = 16 << 10;

/// No download needs more simulated time than this, whatever is done to it:
/// hundreds of rounds of backoff, and a crawling plain stream.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// What a user asks for.
#[derive(Debug, Clone)]
struct Wish {
    connections: Connections,
    checksum: Option<Checksum>,
    sync: bool,
    digest: bool,
    seed: u64,
}

/// What a life of the process came to.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time")]
enum Life {
    Killed,
    Ended(Result<Summary, Error>, Vec<NoticeCode>),
}

/// An engine whose connections all lead to `world`, and which works on this thread alone.
fn engine(world: &Shared) -> Arc<EngineInner> {
    let config = EngineConfig::default();
    let transport = HttpTransport::over(Box::new(Network(Arc::clone(world))), &config);
    Arc::new(EngineInner::new(config, Arc::new(transport), Crew::Inline))
}

/// Runs the command until it ends, or is killed after `killed_after`.
fn live(world: &Shared, dir: &Path, wish: &Wish, killed_after: Option<Duration>) -> Life {
    {
        let mut world = lock(world);
        (world.requests, world.busy, world.down_until) = (0, 0, None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    let builder =
        DownloadBuilder::new(engine(world), "http://origin.test/film.mp4?X-Amz-Signature=secret")
            .directory(dir)
            .output("film")
            .connections(wish.connections)
            .sync(wish.sync)
            .digest(wish.digest);
    let builder = match &wish.checksum {
        Some(checksum) => builder.checksum(checksum.clone()),
        None => builder,
    };
    // Everything is dropped with the runtime: what a kill leaves is on the disk.
    runtime.block_on(async {
        let (engine, mut options) = builder.resolve().expect("a good wish");
        options.segment_size_bytes = Some(SEGMENT_BYTES);
        options.first_range_bytes = 4 * SEGMENT_BYTES;
        // Its objects stand for large ones: most lives have partials to continue.
        if !wish.seed.is_multiple_of(8) {
            options.small_bytes = 0;
        }
        options.seed = wish.seed;
        let mut download = launch(engine, options);
        let mut events = download.events();
        let limit = killed_after.unwrap_or(LONGEST);
        match tokio::time::timeout(limit, download.wait()).await {
            Ok(result) => {
                let mut notices = Vec::new();
                while let Some(event) = events.next().await {
                    if let Event::Notice(notice) = event {
                        notices.push(notice.code);
                    }
                }
                Life::Ended(result, notices)
            }
            Err(_) if killed_after.is_some() => Life::Killed,
            Err(_) => panic!("no end after {LONGEST:?}\n{}", lock(world).last_requests()),
        }
    })
}

/// The oracle: after an end the final name holds exactly one version, or
/// nothing, and the error is one that a user can act on.
fn judge(
    world: &Shared,
    dir: &Path,
    wish: &Wish,
    result: &Result<Summary, Error>,
) -> Result<(), String> {
    let names = names(dir);
    match result {
        Ok(summary) => {
            let bytes = std::fs::read(dir.join("film")).map_err(|e| format!("no file: {e}"))?;
            if !lock(world).holds(&bytes) {
                return Err(format!("a wrong file of {} bytes was published", bytes.len()));
            }
            // Each checksum here is of BLAKE3, which is computed for it.
            let hashed = wish.digest || wish.checksum.is_some();
            if summary.blake3 != hashed.then(|| *blake3::hash(&bytes).as_bytes()) {
                return Err("the hash that was told is not the file's".to_owned());
            }
            if names != ["film"] {
                return Err(format!("left behind: {names:?}"));
            }
        }
        Err(error) => {
            if names.iter().any(|name| name == "film") {
                return Err(format!("published in spite of {error}"));
            }
            if matches!(
                error.kind(),
                ErrorKind::Internal | ErrorKind::Cancelled | ErrorKind::InvalidInput
            ) {
                return Err(format!("an error of our own: {error}"));
            }
            if error.to_string().contains("secret") {
                return Err(format!("a secret in {error}"));
            }
            if error.checkpoint().is_some_and(|checkpoint| !checkpoint.exists()) {
                return Err("a checkpoint is named that is not there".to_owned());
            }
        }
    }
    Ok(())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("a directory of ours")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("ASCII"))
        .collect();
    names.sort();
    names
}

/// In memory where there is such a place: nothing here is about the disk.
fn scratch() -> tempfile::TempDir {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }
        .expect("a temporary directory")
}
