//! All input and output: connections, storage, checkpoint, publishing.

mod behind;
pub(crate) mod checkpoint_file;
pub(crate) mod conditional;
pub(crate) mod connect;
pub(crate) mod connector;
pub(crate) mod crew;
pub(crate) mod directory_sync;
pub(crate) mod document;
pub(crate) mod endings;
pub(crate) mod fetcher;
pub(crate) mod hasher;
pub(crate) mod hosts;
pub(crate) mod http;
pub(crate) mod keeper;
pub(crate) mod limiter;
mod numbered;
pub(crate) mod output;
pub(crate) mod partial;
mod pieces;
pub(crate) mod place;
pub(crate) mod pool;
pub(crate) mod prove;
#[cfg(feature = "proxy")]
mod proxy;
pub(crate) mod publish;
pub(crate) mod rehash;
mod resolver;
pub(crate) mod storage;
pub(crate) mod store;
pub(crate) mod stored;
mod tls;
pub(crate) mod unnamed;
pub(crate) mod url_proof;
pub(crate) mod writer;
