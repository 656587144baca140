//! A parallel segmented download engine.
//!
//! An object is split into byte ranges that are fetched concurrently over
//! pooled connections into a preallocated file. A checkpoint beside it
//! remembers which segments are complete, with their hashes and the identity of
//! the object, so that a later run fetches only what is missing, and only while
//! the object is still the same. The final name appears only when the file is
//! complete.
//!
//! ```no_run
//! use haul_engine::{Connections, Engine, EngineConfig};
//!
//! # async fn example() -> Result<(), haul_engine::Error> {
//! let engine = Engine::new(EngineConfig::default())?;
//! let download = engine
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

mod api;
mod disk;
mod driver;
mod fault_point;
#[cfg(any(test, feature = "fault-points"))]
#[doc(hidden)]
pub mod fuzzing;
mod lock;
mod model;
#[cfg(feature = "model-bench")]
#[doc(hidden)]
pub mod model_bench;
mod net;
mod os;
#[cfg(feature = "fault-points")]
mod seeded_bugs;
#[cfg(test)]
mod simulation;

#[cfg(feature = "blocking")]
pub use api::blocking;
pub use api::download::DownloadBuilder;
pub use api::engine::{Engine, EngineBuilder};
pub use api::handle::{Control, Download, Events, Monitor};
pub use api::parent::Parent;
pub use api::reader::{BlockingReader, Reader};
pub use api::remote::RemoteReader;
pub use api::stream::ByteStream;
pub use api::{guide, storage, transport};
pub use disk::partials::{PartialInfo, PartialState, find_partials, partial_info, remove_partial};
pub use disk::verify::{
    BadRange, FileReport, PartialReport, is_partial, verify_file, verify_partial,
};
pub use driver::cookies::CookieJar;
pub use driver::observer::Observer;
pub use driver::refresh::{Refresh, Refreshing};
pub use model::config::{
    Allocation, Checksum, ClientCertificate, Connections, DigestAlgorithm, EngineConfig, Existing,
    Foreign, HostAddress, HostCredential, HttpVersion, Interface, IpFamily, Pieces, Resume,
    RetryPolicy, StorageKind,
};
#[cfg(feature = "proxy")]
pub use model::config::{Proxies, Proxy, ProxyKind};
pub use model::error::{Error, ErrorKind};
pub use model::event::{
    DownloadId, Event, LimitedBy, MapCell, Metadata, Notice, NoticeCode, Plan, Progress, Started,
    Summary, ValidatorKind,
};
pub use model::hint::{CertificateHint, Hint, Way};
pub use model::metalink::MetalinkFile;
pub use model::options::DownloadOptions;
pub use model::selection::Selection;

/// The URL without userinfo, query and fragment, escaped for a terminal: safe
/// to show, log and store.
#[must_use]
pub fn redact_url(url: &str) -> String {
    model::redact::redact_url(url)
}

/// A name that somebody else chose as one path component that can be created in any directory, as
/// names from servers are: never empty, `.` or `..`, without separators, control characters or a
/// leading dot or hyphen, and at most 245 bytes.
#[must_use]
pub fn safe_file_name(given: &str) -> String {
    model::name::make_safe(given)
}

/// A size for people, in at most 8 columns: `999 B`, `1.5 MiB`, `300 MiB`. Errors and notices write
/// sizes this way.
#[must_use]
pub fn size_words(bytes: u64) -> String {
    model::size::size_words(bytes)
}

/// When a signed URL expires according to its own query, in seconds since
/// 1970-01-01 00:00 UTC. `None` if the query does not say.
///
/// Reads the fields of AWS (`X-Amz-Expires`, `Expires`), Google
/// (`X-Goog-Expires`), Alibaba (`x-oss-expires`) and Azure (`se`).
#[must_use]
pub fn url_expires_at(url: &str) -> Option<u64> {
    model::expiry::expires_at(&url::Url::parse(url).ok()?)
}
