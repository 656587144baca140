//! What all downloads of an engine share.

use std::sync::Arc;

use http::HeaderValue;

use crate::disk::claims::Claims;
use crate::disk::crew::Crew;
use crate::disk::directory_sync::DirectorySyncs;
use crate::disk::holds::Holds;
use crate::disk::keeper::Endings;
use crate::disk::unnamed::Directories;
use crate::disk::writer::Writers;
use crate::driver::downloads::Downloads;
use crate::driver::turns::Scheduler;
use crate::model::admission::Bounds;
use crate::model::config::EngineConfig;
use crate::net::fetcher::RESERVE_BYTES;
use crate::net::hosts::Hosts;
use crate::net::limiter::Limiter;
use crate::net::transport::Transport;

pub(crate) struct EngineInner {
    pub(crate) config: EngineConfig,
    pub(crate) budget_bytes: usize,
    /// As a header has it.
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) writers: Writers,
    pub(crate) directories: Arc<DirectorySyncs>,
    pub(crate) unnamed: Arc<Directories>,
    pub(crate) endings: Arc<Endings>,
    pub(crate) holds: Arc<Holds>,
    pub(crate) claims: Claims,
    pub(crate) limiter: Arc<Limiter>,
    /// The limits of hosts, in the order in which they count.
    host_limiters: Vec<(String, Arc<Limiter>)>,
    pub(crate) turns: Arc<Scheduler>,
    pub(crate) hosts: Option<Hosts>,
    pub(crate) downloads: Arc<Downloads>,
}

impl EngineInner {
    pub(crate) fn new(config: EngineConfig, transport: Arc<dyn Transport>, crew: Crew) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = config.writer_threads.unwrap_or(if cores > 2 { 2 } else { 1 });
        let budget_bytes = config.memory_budget_bytes;
        // With a reservation for each, no connection waits for what another one holds.
        let reservable = budget_bytes / RESERVE_BYTES as usize;
        let bounds = Bounds {
            connections: config.max_connections.map_or(reservable, |most| most.min(reservable)),
            per_host: config.max_connections_per_host,
            active: config.max_active,
        };
        Self {
            transport,
            writers: Writers::new(crew, threads, budget_bytes),
            turns: Arc::new(Scheduler::new(bounds)),
            directories: Arc::default(),
            unnamed: Arc::default(),
            endings: Arc::default(),
            holds: Arc::default(),
            claims: Claims::default(),
            limiter: Arc::new(Limiter::new(config.limit_rate_bytes_per_second)),
            host_limiters: config
                .host_rates
                .iter()
                .map(|(host, rate)| (host.clone(), Some(*rate).filter(|rate| *rate > 0)))
                .map(|(host, rate)| (host, Arc::new(Limiter::new(rate))))
                .collect(),
            downloads: Arc::default(),
            hosts: config.state_directory.clone().map(Hosts::of),
            user_agent: HeaderValue::from_str(&config.user_agent).ok(),
            budget_bytes,
            config,
        }
    }
}

impl EngineInner {
    /// The speed limits of a download from `host`, besides its own.
    pub(crate) fn limiters(&self, host: Option<&str>) -> impl Iterator<Item = &Arc<Limiter>> {
        let fit = |of: &str| match (of.strip_prefix('*'), host?) {
            (Some(domain), host) => host.ends_with(domain).then_some(domain.len()),
            (None, host) => (host == of).then_some(usize::MAX),
        };
        let fitting =
            self.host_limiters.iter().filter_map(|(of, limiter)| Some((fit(of)?, limiter)));
        let closest = fitting.max_by_key(|(fit, _)| *fit);
        std::iter::once(&self.limiter).chain(closest.map(|(_, limiter)| limiter))
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
