//! Servers of tests on an async library: connections accepted on a free port of 127.0.0.1, in a
//! runtime of their own, in the clear or inside TLS.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

use crate::origin::ServerIdentity;

/// A connection, whatever is below it.
pub(crate) type Connection = Box<dyn Io>;

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A running server; dropping it ends it with all its connections.
#[derive(Debug)]
pub(crate) struct Loopback {
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Loopback {
    /// Serves each connection, which comes with its number from 0.
    ///
    /// # Panics
    /// When no socket can be had.
    pub(crate) fn start<F: Future<Output = ()> + Send>(
        identity: Option<&ServerIdentity>,
        serve: impl Fn(Connection, usize) -> F + Send + Sync + 'static,
    ) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be had");
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a free port can be had");
        let address = listener.local_addr().expect("a bound socket has an address");
        let acceptor = identity.map(|identity| TlsAcceptor::from(identity.config()));
        let serve = Arc::new(serve);
        runtime.spawn(async move {
            let mut number = 0;
            while let Ok((socket, _)) = listener.accept().await {
                let (serve, acceptor, this) = (Arc::clone(&serve), acceptor.clone(), number);
                number += 1;
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(Box::new(socket), this).await,
                        // An error is one side's going.
                        Some(acceptor) => {
                            if let Ok(socket) = acceptor.accept(socket).await {
                                serve(Box::new(socket), this).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, runtime: Some(runtime) }
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
