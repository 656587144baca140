//! A parallel segmented download engine.
//!
//! An object is split into byte ranges that are fetched at once over pooled
//! connections into a preallocated file. A checkpoint beside it remembers which
//! segments are complete, with their hashes and the identity of the object, so
//! that a later run fetches only what is missing, and only while the object is
//! still the same. The final name appears once, complete.
//!
//! ```no_run
//! use haul_engine::{Connections, Engine, EngineConfig};
//!
//! # async fn example() -> Result<(), haul_engine::Error> {
//! let engine = Engine::new(EngineConfig::default())?;
//! let mut download = engine
//!     .download("https://example.org/film.mp4")
//!     .directory("films")
//!     .connections(Connections::Fixed(8))
//!     .start()?;
//! let summary = download.wait().await?;
//! println!("{} bytes in {:?}", summary.bytes, summary.elapsed);
//! # Ok(())
//! # }
//! ```
//!
//! The [`guide`] has the rest: [stopping and continuing](guide::resume), [links that
//! expire](guide::refresh), [reading while it downloads](guide::reading), [parts of
//! your own](guide::own_parts) and [a storage of your own](guide::own_storage),
//! [threads and memory](guide::threads_and_memory), [errors](guide::errors).
#![deny(missing_docs)]

#[cfg(feature = "blocking")]
pub mod blocking;
mod config;
mod contents;
mod control;
mod cookies;
mod download;
mod driver;
mod engine;
mod error;
mod event;
mod fault_point;
#[cfg(any(test, feature = "fault-points"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod guide;
mod handle;
mod io;
mod model;
#[cfg(feature = "model-bench")]
#[doc(hidden)]
pub mod model_bench;
mod observer;
mod partials;
mod reader;
mod refresh;
mod shared;
#[cfg(test)]
mod simulation;
pub mod storage;
mod stream;
pub mod transport;
mod turns;
mod verify;

pub use config::{
    Allocation, Checksum, ClientCertificate, Connections, DigestAlgorithm, EngineConfig, Existing,
    HostAddress, HostCredential, HttpVersion, Interface, IpFamily, Pieces, Resume, RetryPolicy,
    StorageKind,
};
#[cfg(feature = "proxy")]
pub use config::{Proxies, Proxy, ProxyKind};
pub use cookies::CookieJar;
pub use download::DownloadBuilder;
pub use engine::Engine;
pub use error::{Error, ErrorKind};
pub use event::{
    Event, LimitedBy, MapCell, Metadata, Notice, NoticeCode, Plan, Progress, Started, Summary,
    ValidatorKind,
};
pub use handle::{Download, Events, Monitor};
pub use model::metalink::MetalinkFile;
pub use model::selection::Selection;
pub use observer::Observer;
pub use partials::{PartialInfo, PartialState, find_partials, partial_info, remove_partial};
pub use reader::{BlockingReader, Reader};
pub use refresh::{Refresh, Refreshing};
pub use stream::ByteStream;
pub use verify::{BadRange, FileReport, PartialReport, is_partial, verify_file, verify_partial};

/// The URL without userinfo, query and fragment, escaped for a terminal: what
/// may be shown, logged and stored.
#[must_use]
pub fn redact_url(url: &str) -> String {
    model::redact::redact_url(url)
}

/// When a signed URL stops to be good, as its own query tells: seconds since
/// 1970-01-01 00:00 UTC. `None` where it does not tell.
///
/// Read are the fields of AWS (`X-Amz-Expires`, `Expires`), Google
/// (`X-Goog-Expires`), Alibaba (`x-oss-expires`) and Azure (`se`).
#[must_use]
pub fn url_expires_at(url: &str) -> Option<u64> {
    model::expiry::expires_at(&url::Url::parse(url).ok()?)
}
