//! The engine: what all downloads of a program share.

use std::sync::Arc;

use http::HeaderValue;

use crate::api::download::DownloadBuilder;
use crate::disk::crew::Crew;
use crate::driver::guard::GuardedTransport;
use crate::model::config::EngineConfig;
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
    /// An engine with these settings. Needs no runtime.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for a CA file that cannot be read or
    /// holds no certificate, or a user agent that is no header value.
    pub fn new(config: EngineConfig) -> Result<Self, Error> {
        let transport = Arc::new(HttpTransport::new(&config)?);
        Self::over(config, transport)
    }

    /// The same with a transport of yours. What `config` says of connections is for
    /// [`HttpTransport`], so it has no effect here but for the bounds on their
    /// number.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for a user agent that is no header value.
    pub fn with_transport(
        config: EngineConfig,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, Error> {
        Self::over(config, Arc::new(GuardedTransport::new(transport)))
    }

    fn over(config: EngineConfig, transport: Arc<dyn Transport>) -> Result<Self, Error> {
        if HeaderValue::from_str(&config.user_agent).is_err() {
            return Err(Error::new(
                crate::ErrorKind::InvalidInput,
                format!("the user agent {:?} cannot be sent in a header", config.user_agent),
            ));
        }
        Ok(Self { inner: Arc::new(EngineInner::new(config, transport, Crew::Threads)) })
    }

    /// Whether nothing is held of what downloads share: no connection is in use, and
    /// the whole budget is free. For haul's own tests.
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

    /// The same with options that are set already.
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
