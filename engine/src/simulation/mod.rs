//! The whole engine below its public interface, in a simulated network and in
//! simulated time: hours of faults take milliseconds, and a seed repeats each run.
//!
//! Only the transport and the crew are simulated. Planner, driver, fetchers, hyper,
//! writers, keeper and files are the real ones, in one thread.
//!
//! A failing seed prints the command that repeats it.
//!
//! Every row of sections A to D is here, over HTTP/1.1 and HTTP/2, except for what lies
//! below a transport or above a download:
//!
//! - Row 50: rustls decides what makes a certificate bad; here the handshake fails as
//!   if that was reported.
//! - Row 51: `HttpConnector` decides over real sockets which address is tried next, and
//!   when; here the connection takes as long as the dead ones before it, never comes, or
//!   is refused.
//! - Row 94 is about a server and not one of its answers: its position is that of the
//!   kill before it. What is remembered of a host is the command's affair.
//! - Row 103: the program provides the jar; here it is as simple as can be.
//! - Row 35: `--refresh-cmd` belongs to the command; here it is a second life with
//!   another URL, as in row 30.

mod answer;
pub(crate) mod disk;
mod faults;
mod http2;
mod server;
mod streamed;
mod tests;
mod world;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use url::Url;

use self::disk::SlowDisk;
use self::server::Network;
use self::world::{Shared, lock};
use crate::api::download::DownloadBuilder;
use crate::api::handle::launch;
use crate::disk::crew::Crew;
use crate::driver::cookies::CookieJar;
use crate::driver::engine::EngineInner;
use crate::driver::options::Target;
use crate::model::config::{Checksum, Connections, EngineConfig, HttpVersion, MIN_BUDGET_BYTES};
use crate::model::error::{Error, ErrorKind};
use crate::model::event::{Event, NoticeCode, Summary};
use crate::model::options::DownloadOptions;
use crate::net::http::HttpTransport;

/// The segment size of all simulated objects, so that small ones have many segments.
const SEGMENT_BYTES: u64 = 16 << 10;

/// No download needs more simulated time than this, whatever is done to it:
/// hundreds of rounds of backoff, and a crawling plain stream.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// The object's URL, the same in every wish.
const URL: &str = "https://origin.test/film.mp4?X-Amz-Signature=secret";

/// What a user asks for.
#[derive(Debug, Clone)]
struct Wish {
    url: &'static str,
    connections: Connections,
    /// The most connections to one host.
    per_host: Option<usize>,
    segment_bytes: u64,
    limit_rate_bytes_per_second: Option<u64>,
    /// The disk's speed in bytes per second, and how many bytes it takes at once before.
    slow_disk: Option<(f64, u64)>,
    checksum: Option<Checksum>,
    sync: bool,
    digest: bool,
    seed: u64,
}

/// How a life of the process ended.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one lives at a time")]
enum Life {
    Killed,
    Ended(Result<Summary, Error>, Vec<NoticeCode>),
}

/// An engine whose connections all lead to `world`, and which works on this thread alone.
fn engine(world: &Shared, config: EngineConfig) -> Arc<EngineInner> {
    let transport = HttpTransport::over(Box::new(Network(Arc::clone(world))), &config);
    Arc::new(EngineInner::new(config, Arc::new(transport), Crew::Inline))
}

/// When a life ends.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// When the download ends.
    Its,
    /// By a kill after this time.
    Time(Duration),
    /// By a kill once this many bytes went out.
    Sent(u64),
}

/// A runtime whose time advances when all of its tasks wait.
fn simulated_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O")
}

/// A jar for one life, as the command has one for a run.
#[derive(Debug, Default)]
struct Jar(Mutex<HashMap<String, String>>);

impl Jar {
    fn host(url: &str) -> String {
        let url = Url::parse(url).expect("a URL of a request");
        url.host_str().expect("a host that was asked").to_owned()
    }
}

impl CookieJar for Jar {
    fn cookies(&self, url: &str) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&Self::host(url)).cloned()
    }

    fn set_cookie(&self, url: &str, field: &str) {
        let pair = field.split(';').next().expect("a pair").to_owned();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(Self::host(url), pair);
    }
}

/// Sets what every simulated download takes from a wish.
fn wished(builder: DownloadBuilder, wish: &Wish) -> DownloadBuilder {
    let builder = builder.connections(wish.connections).digest(wish.digest);
    let builder = builder.cookies(Arc::<Jar>::default());
    match &wish.checksum {
        Some(checksum) => builder.checksum(checksum.clone()),
        None => builder,
    }
}

/// Runs the command until it ends or is killed.
fn live(world: &Shared, dir: &Path, wish: &Wish, until: Until) -> Life {
    lock(world).begin_life();
    let runtime = simulated_runtime();
    // TLS may choose HTTP/2 even where it is not asked for.
    let http2 = lock(world).http2 && wish.seed.is_multiple_of(2);
    let config = EngineConfig {
        http_version: if http2 { HttpVersion::Http2 } else { HttpVersion::Auto },
        limit_rate_bytes_per_second: wish.limit_rate_bytes_per_second,
        max_connections_per_host: wish.per_host,
        // The least that is allowed.
        memory_budget_bytes: MIN_BUDGET_BYTES,
        ..EngineConfig::default()
    };
    let engine = engine(world, config);
    if let Some((bytes_per_second, fast_bytes)) = wish.slow_disk {
        engine.writers.slow_down(SlowDisk::new(world, bytes_per_second, fast_bytes));
    }
    let builder = DownloadBuilder::new(engine, wish.url, DownloadOptions::default())
        .directory(dir)
        .output("film");
    let builder = wished(builder.sync(wish.sync), wish);
    // Everything is dropped with the runtime: a kill leaves only what is on the disk.
    runtime.block_on(async {
        let (engine, mut options) = builder.resolve(Target::Output).expect("a good wish");
        options.segment_size_bytes = Some(wish.segment_bytes);
        options.first_range_bytes = 4 * wish.segment_bytes;
        // The objects stand for large ones, so most lives have partials to continue.
        if !wish.seed.is_multiple_of(8) {
            options.small_bytes = 0;
        }
        options.seed = wish.seed;
        let download = launch(engine, options).expect("an engine that runs");
        let mut events = download.events();
        let killed = async {
            match until {
                Until::Its => {
                    tokio::time::sleep(LONGEST).await;
                    panic!("no end after {LONGEST:?}\n{}", lock(world).last_requests())
                }
                Until::Time(time) => tokio::time::sleep(time).await,
                Until::Sent(bytes) => {
                    while lock(world).sent < bytes {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            result = download.wait() => {
                let mut notices = Vec::new();
                while let Some(event) = events.next().await {
                    if let Event::Notice(notice) = event {
                        notices.push(notice.code);
                    }
                }
                Life::Ended(result, notices)
            }
            () = killed => Life::Killed,
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
    if lock(world).other_methods > 0 {
        return Err("something else than GET was said (fault 32)".to_owned());
    }
    match result {
        Ok(summary) => {
            let bytes = std::fs::read(dir.join("film")).map_err(|e| format!("no file: {e}"))?;
            if !lock(world).holds(&bytes) {
                return Err(format!("a wrong file of {} bytes was published", bytes.len()));
            }
            // Each checksum here is a BLAKE3 one, and the hash is then computed for it.
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

/// A directory in memory where there is such a place: nothing here is about the disk.
fn scratch() -> tempfile::TempDir {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }
        .expect("a temporary directory")
}
