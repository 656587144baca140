//! How requests are answered: the engine's own HTTP, or a transport of your own.
//!
//! The engine asks a [`Transport`] for ranges of objects and reads the bodies of its answers.
//! [`HttpTransport`] is the one that [`Engine::new`](crate::Engine::new) uses; with
//! [`Engine::with_transport`](crate::Engine::with_transport) a program brings another: one that
//! speaks a protocol of its own, one for tests without a network, or one that wraps
//! [`HttpTransport`] to sign, count or log each request.

pub use crate::net::http::HttpTransport;
pub use crate::net::transport::{
    Answered, Answering, Body, PathChanges, Transport, TransportError, TransportErrorKind, body_of,
};
/// The crates whose types appear in these interfaces, in the matching versions.
pub use {bytes, http};
