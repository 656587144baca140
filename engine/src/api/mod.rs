//! The interface for programs that embed the engine.

#[cfg(feature = "blocking")]
pub mod blocking;
pub(crate) mod download;
pub(crate) mod engine;
pub mod guide;
pub(crate) mod handle;
pub(crate) mod parent;
pub(crate) mod reader;
pub(crate) mod remote;
mod setters;
pub mod storage;
pub(crate) mod stream;
pub mod transport;
