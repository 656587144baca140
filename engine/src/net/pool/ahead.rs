//! Connections that are begun before there is a request for them, so that their handshakes and
//! slow starts run beside the first answer instead of after it.
//!
//! One that is ready is an idle connection like any other. A request that finds none idle while
//! some are on their way waits for the next of those rather than making another.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Made, Pool};
use crate::lock::Lock;
use crate::net::connect::Origin;
use crate::net::transport::Lane;

/// How many origins are remembered.
const MAX_ORIGINS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The connections on their way, by origin: each signals when it is idle or has failed.
    on_their_way: Lock<HashMap<Origin, Vec<oneshot::Receiver<()>>>>,
    /// Origins of many small responses, for which connections were begun already.
    met: Lock<HashSet<Origin>>,
}

impl Ahead {
    fn expect(&self, origin: &Origin, ready: oneshot::Receiver<()>) {
        self.on_their_way.lock().entry(origin.clone()).or_default().push(ready);
    }

    /// Whether `origin` was not met before.
    fn meets(&self, origin: &Origin) -> bool {
        let mut met = self.met.lock();
        if met.len() >= MAX_ORIGINS {
            met.clear();
        }
        met.insert(origin.clone())
    }

    /// Takes one of them; nobody else waits for that one then.
    fn take(&self, origin: &Origin) -> Option<oneshot::Receiver<()>> {
        let mut on_their_way = self.on_their_way.lock();
        let ready = on_their_way.get_mut(origin)?.pop();
        if ready.is_none() {
            on_their_way.remove(origin);
        }
        ready
    }

    /// Waits for the next connection on its way to `origin`; false where there is none.
    pub(super) async fn comes(&self, origin: &Origin) -> bool {
        let Some(ready) = self.take(origin) else { return false };
        // If nothing is sent it failed, and the next look at the idle connections shows that.
        let _ = ready.await;
        true
    }
}

impl Pool {
    /// Begins `count` connections to `origin` that will most likely be wanted. Where hosts are
    /// bounded, only as many as there is room for; with HTTP/2 none for bulk, since requests share
    /// one. Of many small responses, which are requested by one download each, only the first
    /// request begins any.
    pub(crate) fn dial_ahead(self: &Arc<Self>, origin: &Origin, lane: Lane, count: usize) {
        if lane == Lane::Small && !self.ahead.meets(origin) {
            return;
        }
        #[cfg(feature = "http2")]
        if self.streams.has(origin, lane) {
            if lane == Lane::Small && self.gates.of(&origin.host).is_none() {
                (0..count).for_each(|_| self.open_ahead(origin, lane));
            }
            return;
        }
        for _ in 0..count {
            let permit = match self.gates.of(&origin.host).map(|gate| gate.try_pass()) {
                Some(None) => return,
                Some(permit) => permit,
                None => None,
            };
            let (pool, to) = (Arc::clone(self), origin.clone());
            let (ready, told) = oneshot::channel();
            self.ahead.expect(origin, told);
            tokio::spawn(async move {
                match pool.in_time(&to, pool.connect(&to, Lane::Bulk, permit)).await {
                    Ok(Made::Http1(connection)) => pool.checkin(connection),
                    #[cfg(feature = "http2")]
                    Ok(Made::Http2(opened)) => pool.streams.adopt(&to, opened).finish(),
                    // The request that will want this connection tells the user.
                    Err(error) => tracing::debug!(%error, "a connection ahead of its request"),
                }
                let _ = ready.send(());
            });
        }
    }

    /// Opens a connection for streams, or one of HTTP/1.1 if the origin chooses that.
    #[cfg(feature = "http2")]
    fn open_ahead(self: &Arc<Self>, origin: &Origin, lane: Lane) {
        let (pool, to) = (Arc::clone(self), origin.clone());
        tokio::spawn(async move {
            match pool.in_time(&to, pool.checkout_stream(&to, lane, true)).await {
                Ok(Some(connection)) => pool.checkin(connection),
                // It is kept already.
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "a connection ahead of its request"),
            }
        });
    }
}
