//! Engine, DownloadBuilder, Download: what a program holds in its hands.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::*;
use crate::error::Error;
use crate::event::*;

/// Cheap to clone; all clones share pools, budget and writer threads.
#[derive(Debug, Clone)]
pub struct Engine {}

impl Engine {
    /// # Errors
    /// `InvalidInput` for an unreadable CA file; `Tls` where no trust store can be had.
    pub fn new(_config: EngineConfig) -> Result<Self, Error> {
        todo!()
    }
    /// Nothing happens until `start` or `plan`.
    pub fn download(&self, _url: &str) -> DownloadBuilder {
        todo!()
    }
}

/// Options of one download.
#[derive(Debug, Clone)]
pub struct DownloadBuilder {}

impl DownloadBuilder {
    /// The output file; default: named by the server, else by the URL.
    pub fn output(self, _path: impl Into<PathBuf>) -> Self { todo!() }
    /// The directory of the output (created); default `.`; a relative `output` is below it.
    pub fn directory(self, _dir: impl Into<PathBuf>) -> Self { todo!() }
    /// How many connections
    pub fn connections(self, _connections: Connections) -> Self { todo!() }
    /// Adds a request header.
    pub fn header(self, _name: &str, _value: &str) -> Self { todo!() }
    /// Basic authentication for the URL's origin only.
    pub fn basic_auth(self, _user: &str, _password: &str) -> Self { todo!() }
    /// see Resume
    pub fn resume(self, _resume: Resume) -> Self { todo!() }
    /// see Existing
    pub fn existing(self, _existing: Existing) -> Self { todo!() }
    /// The digest that the object must have to be published.
    pub fn checksum(self, _checksum: Checksum) -> Self { todo!() }
    /// see RetryPolicy
    pub fn retry(self, _policy: RetryPolicy) -> Self { todo!() }
    /// Without a byte for this long a connection is given up. Default 30 s.
    pub fn stall_timeout(self, _timeout: Duration) -> Self { todo!() }
    /// see StorageKind
    pub fn storage(self, _kind: StorageKind) -> Self { todo!() }
    /// Whether data and directory are synced before the file is published. Default true.
    pub fn sync(self, _sync: bool) -> Self { todo!() }
    /// Whether the file gets the server's Last-Modified as its time. Default true.
    pub fn remote_time(self, _on: bool) -> Self { todo!() }
    /// Redirects followed at most; 0 refuses. Default 20.
    pub fn max_redirects(self, _n: u32) -> Self { todo!() }
    /// Follow a redirect from https to http. Default false.
    pub fn allow_downgrade(self, _on: bool) -> Self { todo!() }
    /// Power of two, at least 1 MiB; default by the object's size.
    pub fn segment_size_bytes(self, _bytes: u64) -> Self { todo!() }
    /// Starts the download on the current tokio runtime.
    ///
    /// # Errors
    /// `InvalidInput` for a URL, header or combination that cannot be used (nothing was done).
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self) -> Result<Download, Error> { todo!() }
    /// One request whose body is dropped: what a download would do.
    pub async fn plan(self) -> Result<Plan, Error> { todo!() }
}

/// A running download. Dropping it stops the work and leaves a resumable state.
#[derive(Debug)]
pub struct Download {}

impl Download {
    /// A cheap snapshot.
    pub fn progress(&self) -> Progress { todo!() }
    /// A bounded stream of events; one consumer, from the beginning. Later calls give an empty stream.
    pub fn events(&mut self) -> Events { todo!() }
    /// Stops, records what was stored (within 1.5 s), and returns where the checkpoint is, if one was kept.
    pub async fn cancel(self) -> Result<Option<PathBuf>, Error> { todo!() }
    /// Waits for the end. Cancel safe (may be used in select! by `&mut`).
    pub async fn wait(&mut self) -> Result<Summary, Error> { todo!() }
}

/// The events of a download.
#[derive(Debug)]
pub struct Events {}
impl Events {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Event> { todo!() }
}

/// The URL without userinfo, query and fragment, escaped for a terminal.
pub fn redact_url(_url: &str) -> String { todo!() }
