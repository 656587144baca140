//! The engine: what all downloads of a program share.

use std::sync::Arc;

use http::HeaderValue;

use crate::config::EngineConfig;
use crate::download::DownloadBuilder;
use crate::error::Error;
use crate::io::crew::Crew;
use crate::io::directory_sync::DirectorySyncs;
use crate::io::endings::Endings;
use crate::io::fetcher::RESERVE_BYTES;
use crate::io::hosts::Hosts;
use crate::io::http::HttpTransport;
use crate::io::limiter::Limiter;
use crate::io::unnamed::Directories;
use crate::io::writer::Writers;
use crate::model::admission::Bounds;
use crate::transport::Transport;
use crate::turns::Turns;

/// Each fetcher reserves 256 KiB while it waits for the network; below this
/// budget too few connections could work at once.
const MIN_BUDGET_BYTES: usize = 4 << 20;

pub(crate) struct EngineInner {
    pub(crate) config: EngineConfig,
    budget_bytes: usize,
    /// As a header has it.
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) writers: Writers,
    pub(crate) directories: Arc<DirectorySyncs>,
    pub(crate) unnamed: Arc<Directories>,
    pub(crate) endings: Arc<Endings>,
    pub(crate) limiter: Arc<Limiter>,
    /// Of hosts, in the order in which they count.
    host_limiters: Vec<(String, Arc<Limiter>)>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) hosts: Option<Hosts>,
}

impl EngineInner {
    pub(crate) fn new(config: EngineConfig, transport: Arc<dyn Transport>, crew: Crew) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = config.writer_threads.unwrap_or(if cores > 2 { 2 } else { 1 }).max(1);
        let budget_bytes = config.memory_budget_bytes.max(MIN_BUDGET_BYTES);
        // With a reservation for each, none waits for what another one holds.
        let reservable = budget_bytes / RESERVE_BYTES as usize;
        let bounds = Bounds {
            connections: config.max_connections.map_or(reservable, |most| most.min(reservable)),
            per_host: config.max_connections_per_host,
            active: config.max_active,
        };
        Self {
            transport,
            writers: Writers::new(crew, threads, budget_bytes),
            turns: Arc::new(Turns::new(bounds)),
            directories: Arc::default(),
            unnamed: Arc::default(),
            endings: Arc::default(),
            limiter: Arc::new(Limiter::new(config.limit_rate_bytes_per_second)),
            host_limiters: config
                .host_rates
                .iter()
                .map(|(host, rate)| (host.clone(), Arc::new(Limiter::new(Some(*rate)))))
                .collect(),
            hosts: config.state_directory.clone().map(Hosts::of),
            user_agent: HeaderValue::from_str(&config.user_agent).ok(),
            budget_bytes,
            config,
        }
    }
}

impl EngineInner {
    /// The speed limits of a download of `host`, without its own.
    pub(crate) fn limiters(&self, host: Option<&str>) -> impl Iterator<Item = &Arc<Limiter>> {
        let fits = |of: &str| match (of.strip_prefix('*'), host) {
            (Some(domain), Some(host)) => host.ends_with(domain),
            (None, host) => host == Some(of),
            (Some(_), None) => false,
        };
        let of_host = self.host_limiters.iter().find(move |(of, _)| fits(of));
        std::iter::once(&self.limiter).chain(of_host.map(|(_, limiter)| limiter))
    }

    /// Whether most of the budget waits to be stored, while each connection holds
    /// its reservation.
    pub(crate) fn is_storage_busy(&self) -> bool {
        let reserved = self.turns.connections_in_use() * RESERVE_BYTES as usize;
        let free = self.writers.budget().available_permits() + reserved;
        free < self.budget_bytes / 2
    }
}

impl std::fmt::Debug for EngineInner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

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
        Self::with_transport(config, transport)
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
        DownloadBuilder::new(Arc::clone(&self.inner), url)
    }
}
