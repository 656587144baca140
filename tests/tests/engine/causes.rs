//! What the engine's errors come from, and what they say to do.

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use haul_engine::transport::http::Request;
use haul_engine::transport::{Answering, Transport, TransportError, TransportErrorKind};
use haul_engine::{CertificateHint, Engine, EngineConfig, Error, Hint, RetryPolicy};
use haul_tests::prelude::*;

async fn failed(engine: &Engine, url: &str) -> Error {
    let retry = RetryPolicy { max_attempts: 0, ..RetryPolicy::default() };
    let sandbox = Sandbox::new();
    let download = engine.download(url).directory(sandbox.work()).retry(retry).start().unwrap();
    download.wait().await.unwrap_err()
}

/// The first error of this type behind it.
fn source<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[test]
fn a_refused_connection_is_one_of_the_system() {
    leaks::checked(async {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = failed(&engine(), &format!("http://{free}/film")).await;
        let system = source::<io::Error>(&error).map(io::Error::kind);
        assert_eq!(system, Some(io::ErrorKind::ConnectionRefused), "{error:?}");
        assert_eq!(error.hint(), Some(&Hint::ConnectionRefused));
    });
}

#[test]
fn a_name_without_an_address_has_what_the_lookup_said() {
    leaks::checked(async {
        // No host has such a name, so nobody is asked.
        let error = failed(&engine(), "http://-mistyped/film").await;
        assert!(source::<io::Error>(&error).is_some(), "{error:?}");
        assert_eq!(error.hint(), Some(&Hint::NoSuchHost { host: "-mistyped".to_owned() }));
    });
}

#[test]
fn a_certificate_that_nobody_knows_is_an_error_of_tls() {
    leaks::checked(async {
        let identity = Authority::new().issue(&["127.0.0.1"], Validity::Current);
        let script = object(MIB);
        let origin =
            Origin::builder().tls(&identity).start(move |request, _| standard(&script, request));
        let error = failed(&engine(), &origin.url("/film")).await;
        assert!(source::<rustls::Error>(&error).is_some(), "{error:?}");
        assert_eq!(error.hint(), Some(&Hint::Certificate(CertificateHint::UnknownAuthority)));
    });
}

/// Fails with an error of the program's own.
#[derive(Debug)]
struct Vault;

impl Transport for Vault {
    fn send(&self, _: Request<()>) -> Answering<'_> {
        let locked = io::Error::other("locked");
        let error = TransportError::new(TransportErrorKind::Tls, "the vault does not open");
        let error = error.with_hint(Hint::ClientCertificate).with_source(locked);
        Box::pin(async move { Err(error) })
    }
}

#[test]
fn what_a_transport_says_reaches_the_programs_error() {
    leaks::checked(async {
        let engine = Engine::with_transport(EngineConfig::default(), Arc::new(Vault)).unwrap();
        let engine = leaks::watched(engine);
        let error = failed(&engine, "http://example.test/film").await;
        assert_eq!(error.hint(), Some(&Hint::ClientCertificate));
        assert_eq!(source::<io::Error>(&error).unwrap().to_string(), "locked");
        assert!(!error.to_string().contains("locked"), "a source is not told twice: {error}");
    });
}
