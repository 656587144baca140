//! How requests are answered: the engine's own HTTP, or something of yours.
//!
//! The engine asks a [`Transport`] for ranges of objects and reads the bodies of
//! its answers. [`HttpTransport`] is the one that [`Engine::new`](crate::Engine::new)
//! takes; with [`Engine::with_transport`](crate::Engine::with_transport) a program
//! brings another: one that speaks a protocol of its own, one for tests without a
//! network, or one that wraps [`HttpTransport`] to sign, count or log each request.

pub use crate::net::http::HttpTransport;
pub use crate::net::transport::{
    Answered, Answering, Body, Transport, TransportError, TransportErrorKind, body_of,
};
/// The crates whose types are in these interfaces, in the versions that fit.
pub use {bytes, http};
