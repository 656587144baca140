//! Idle connections, kept for the next request to the same origin.
//!
//! A [`Connection`] has one owner: the pool while idle, a fetcher while used.
//! Dropping it closes it; only [`Pool::checkin`] keeps it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::SendRequest;

use super::connector::{Connector, Driver, FetchError, Origin};

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
    origin: Origin,
    _driver: Driver,
}

/// Makes connections and keeps idle ones.
#[derive(Debug)]
pub(crate) struct Pool {
    connector: Connector,
    idle: Mutex<HashMap<Origin, Vec<Connection>>>,
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new(connector: Connector) -> Self {
        Self { connector, idle: Mutex::new(HashMap::new()) }
    }

    /// A connection to `origin`: the one used last of the idle ones, or a new
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
        let connected = self.connector.connect(origin).await?;
        Ok(Connection {
            sender: connected.sender,
            reused: false,
            origin: origin.clone(),
            _driver: connected.driver,
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
        let connection = kept.pop();
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
