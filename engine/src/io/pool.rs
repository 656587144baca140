//! HTTP/1.1 connections, made when needed and kept for the next request to the
//! same origin.
//!
//! Each is a `hyper::client::conn` of its own, so that the engine counts, keeps
//! and closes them itself.
//!
//! A [`Connection`] has one owner: the pool while idle, a fetcher while used.
//! Dropping it closes it; only [`Pool::checkin`] keeps it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::{self, SendRequest};
use tokio::task::AbortHandle;

use super::connector::{FetchError, FetchErrorKind};
use super::transport::{Origin, Stream, Transport};
use crate::config::EngineConfig;

/// What hyper may hold of one connection, in bytes. It bounds a response's
/// head and the largest body frame.
pub(crate) const MAX_BUF_BYTES: usize = 256 << 10;

/// The same under a speed limit: a frame is received whole, so it must not
/// take too many seconds' worth of a small limit.
const MAX_BUF_LIMITED_BYTES: usize = 32 << 10;

/// More fields than this in one response head is an attack or a defect.
const MAX_HEADERS: usize = 256;

/// Idle connections kept, of all origins together.
const MAX_IDLE: usize = 64;

/// How long a connection whose body was read to its end may take to be ready
/// again. It needs one turn of its own task; a new connection costs more.
const READY_WITHIN: Duration = Duration::from_millis(50);

/// A connection and the way back to its place in the pool.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Takes one request at a time.
    pub(crate) sender: SendRequest<Empty<Bytes>>,
    /// Whether a request was answered on it before: the server may have closed
    /// it meanwhile, which then says nothing about the server.
    pub(crate) reused: bool,
    /// What its responses brought in bytes a second, as far as that is known:
    /// the fastest idle connection is used first.
    pub(crate) speed: f64,
    origin: Origin,
    _driver: Driver,
}

/// A response says how fast its connection is from so many bytes and so much
/// time on.
const TELLING: (u64, Duration) = (256 << 10, Duration::from_millis(100));

impl Connection {
    /// A response brought `bytes` in `time`. One that is too short to tell
    /// counts only where nothing else is known.
    pub(crate) fn measured(&mut self, bytes: u64, time: Duration) {
        if self.speed == 0.0 || bytes >= TELLING.0 && time >= TELLING.1 {
            self.speed = bytes as f64 / time.as_secs_f64().max(0.05);
        }
    }
}

/// Closes its connection when dropped.
///
/// hyper's own task can miss that a body was dropped while it waits for the
/// server, and would hold the socket for as long as the server is silent.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes connections and keeps idle ones.
#[derive(Debug)]
pub(crate) struct Pool {
    transport: Box<dyn Transport>,
    connect_timeout: Duration,
    max_buf_bytes: usize,
    idle: Mutex<HashMap<Origin, Vec<Connection>>>,
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new(transport: Box<dyn Transport>, config: &EngineConfig) -> Self {
        let max_buf_bytes = match config.limit_rate_bytes_per_second {
            Some(_) => MAX_BUF_LIMITED_BYTES,
            None => MAX_BUF_BYTES,
        };
        Self {
            transport,
            connect_timeout: config.connect_timeout,
            max_buf_bytes,
            idle: Mutex::new(HashMap::new()),
        }
    }

    /// A connection to `origin`: the fastest of the idle ones, or a new
    /// one when there is none or `fresh` asks for it.
    ///
    /// # Errors
    /// When a new connection cannot be made.
    pub(crate) async fn checkout(
        &self,
        origin: &Origin,
        fresh: bool,
    ) -> Result<Connection, FetchError> {
        if !fresh {
            while let Some(mut connection) = self.pop(origin) {
                let ready = tokio::time::timeout(READY_WITHIN, connection.sender.ready()).await;
                if matches!(ready, Ok(Ok(()))) {
                    connection.reused = true;
                    return Ok(connection);
                }
            }
        }
        match tokio::time::timeout(self.connect_timeout, self.connect(origin)).await {
            Ok(result) => result,
            Err(_) => Err(FetchError {
                kind: FetchErrorKind::Connect,
                message: format!(
                    "cannot connect to {origin}: no connection within {:?}",
                    self.connect_timeout
                ),
            }),
        }
    }

    async fn connect(&self, origin: &Origin) -> Result<Connection, FetchError> {
        let stream: Box<dyn Stream> = self.transport.connect(origin).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(self.max_buf_bytes)
            .max_headers(MAX_HEADERS)
            .handshake(stream)
            .await
            .map_err(|error| FetchError::connecting(origin, &error))?;
        let task = tokio::spawn(async move {
            // What went wrong is told to the request or body that it hit.
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection ended");
            }
        });
        let driver = Driver(task.abort_handle());
        Ok(Connection {
            sender,
            reused: false,
            speed: 0.0,
            origin: origin.clone(),
            _driver: driver,
        })
    }

    /// Keeps a connection whose last body was read to its end. Closed ones,
    /// and those beyond what is kept, are dropped.
    pub(crate) fn checkin(&self, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.lock();
        idle.retain(|_, kept| {
            kept.retain(|connection| !connection.sender.is_closed());
            !kept.is_empty()
        });
        if idle.values().map(Vec::len).sum::<usize>() < MAX_IDLE {
            idle.entry(connection.origin.clone()).or_default().push(connection);
        }
    }

    fn pop(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.lock();
        let kept = idle.get_mut(origin)?;
        // Of equal ones, the one used last.
        let fastest = (0..kept.len()).max_by(|a, b| kept[*a].speed.total_cmp(&kept[*b].speed))?;
        let connection = Some(kept.remove(fastest));
        if kept.is_empty() {
            idle.remove(origin);
        }
        connection
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, Vec<Connection>>> {
        // No invariant spans a panic: each call leaves the map whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
