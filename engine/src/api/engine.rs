//! The engine: what all downloads of a program share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::api::download::DownloadBuilder;
use crate::api::remote::RemoteReader;
use crate::api::setters::setters;
use crate::disk::crew::Crew;
use crate::driver::guard::GuardedTransport;
use crate::model::config::{
    ClientCertificate, EngineConfig, HostAddress, HttpVersion, Interface, IpFamily,
};
use crate::model::error::Error;
use crate::model::options::DownloadOptions;
use crate::net::http::HttpTransport;
use crate::net::transport::Transport;

use crate::driver::engine::EngineInner;

/// The engine: connection pool, writer threads, byte budget and rate limit.
/// Cheap to clone; all clones share the same ones.
///
/// It has no global state, installs no crypto provider and no subscriber. Its
/// writer threads end when the last clone and the last download are gone.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<EngineInner>,
}

impl Engine {
    /// Builds an engine from settings that are given one by one.
    ///
    /// ```
    /// use haul_engine::Engine;
    ///
    /// let engine = Engine::builder().max_active(8).limit_rate(100_000_000).build()?;
    /// # Ok::<(), haul_engine::Error>(())
    /// ```
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// An engine with these settings. Needs no runtime.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for a value that is out of range, a CA file that cannot
    /// be read or holds no certificate, or a user agent that is not a valid header value.
    pub fn new(config: EngineConfig) -> Result<Self, Error> {
        let transport = Arc::new(HttpTransport::new(&config)?);
        Self::over(config, transport)
    }

    /// An engine with a transport of your own. What `config` says about connections is for
    /// [`HttpTransport`] and has no effect here, except the bounds on their number.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for a value that is out of range, or a user agent that is
    /// not a valid header value.
    pub fn with_transport(
        config: EngineConfig,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, Error> {
        Self::over(config, Arc::new(GuardedTransport::new(transport)))
    }

    fn over(config: EngineConfig, transport: Arc<dyn Transport>) -> Result<Self, Error> {
        config.check()?;
        if HeaderValue::from_str(&config.user_agent).is_err() {
            return Err(Error::new(
                crate::ErrorKind::InvalidInput,
                format!("the user agent {:?} cannot be sent in a header", config.user_agent),
            ));
        }
        Ok(Self { inner: Arc::new(EngineInner::new(config, transport, Crew::Threads)) })
    }

    /// Shuts down the engine and all its clones: refuses new downloads with
    /// [`crate::ErrorKind::Cancelled`], stops running ones as [`crate::Control::stop`] does, and
    /// returns when each has recorded what it stored. May be called again.
    ///
    /// ```no_run
    /// # async fn example(engine: haul_engine::Engine) -> Result<(), haul_engine::Error> {
    /// let download = engine.download("https://example.org/film.mp4").start()?;
    /// engine.shutdown().await;
    /// assert!(download.await.is_err_and(|error| error.is_resumable()));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self) {
        self.inner.downloads.shut_down().await;
    }

    /// Whether downloads hold no shared resource: no connection is in use, and the whole budget is
    /// free. For haul's own tests.
    #[cfg(feature = "fault-points")]
    #[doc(hidden)]
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let free = self.inner.writers.budget().available_permits();
        self.inner.turns.connections_in_use() == 0 && free == self.inner.budget_bytes
    }

    /// A download of `url`; nothing happens until [`DownloadBuilder::start`]
    /// or [`DownloadBuilder::plan`].
    pub fn download(&self, url: &str) -> DownloadBuilder {
        self.download_with(url, DownloadOptions::default())
    }

    /// Opens the object of `url` for remote reading: only the bytes that are read are fetched, and
    /// nothing is written. To set options, use [`DownloadBuilder::open`].
    ///
    /// # Errors
    /// As [`DownloadBuilder::open`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn open(&self, url: &str) -> Result<RemoteReader, Error> {
        self.download(url).open().await
    }

    /// As [`Self::download`], with options that are already set.
    ///
    /// ```no_run
    /// # async fn example(engine: haul_engine::Engine) -> Result<(), haul_engine::Error> {
    /// let mut options = haul_engine::DownloadOptions::default();
    /// options.directory = "films".into();
    /// for url in ["https://example.org/1.mp4", "https://example.org/2.mp4"] {
    ///     engine.download_with(url, options.clone()).start()?.wait().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn download_with(&self, url: &str, options: DownloadOptions) -> DownloadBuilder {
        DownloadBuilder::new(Arc::clone(&self.inner), url, options)
    }
}

/// Builds an [`Engine`], from [`Engine::builder`].
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is built before build()"]
pub struct EngineBuilder {
    config: EngineConfig,
    transport: Option<Arc<dyn Transport>>,
}

setters! { EngineBuilder, EngineConfig in config:
    connect_timeout(timeout: Duration) => connect_timeout = timeout;
    memory_budget_bytes(bytes: usize) => memory_budget_bytes = bytes;
    max_connections(most: usize) => max_connections = Some(most);
    max_connections_per_host(most: usize) => max_connections_per_host = Some(most);
    max_active(downloads: usize) => max_active = Some(downloads);
    limit_rate(bytes_per_second: u64) => limit_rate_bytes_per_second = Some(bytes_per_second);
    host_rates(rates: Vec<(String, u64)>) => host_rates = rates;
    ca_file(path: impl Into<PathBuf>) => ca_file = Some(path.into());
    insecure(on: bool) => insecure = on;
    client_certificate(files: ClientCertificate) => client_certificate = Some(files);
    http_version(version: HttpVersion) => http_version = version;
    interface(interface: Interface) => interface = Some(interface);
    ip_family(family: IpFamily) => ip_family = Some(family);
    resolve(addresses: Vec<HostAddress>) => resolve = addresses;
    user_agent(agent: impl Into<String>) => user_agent = agent.into();
    state_directory(path: impl Into<PathBuf>) => state_directory = Some(path.into());
    writer_threads(count: usize) => writer_threads = Some(count);
}

#[cfg(feature = "proxy")]
setters! { EngineBuilder, EngineConfig in config:
    proxies(proxies: crate::Proxies) => proxies = proxies;
}

impl EngineBuilder {
    fn inner(&mut self) -> &mut Self {
        self
    }

    /// Uses the program's own transport; see [`Engine::with_transport`].
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Builds the engine. Needs no runtime.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn build(self) -> Result<Engine, Error> {
        match self.transport {
            Some(transport) => Engine::with_transport(self.config, transport),
            None => Engine::new(self.config),
        }
    }
}
