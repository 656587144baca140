//! The transport of the network: name lookup, TCP and TLS.
//!
//! TLS settings are explicit: no process-wide provider is installed, and the
//! platform's trust store is opened only when the first `https` origin is
//! contacted.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::{Connection, HttpConnector, HttpInfo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::sync::OnceCell;
use tower_service::Service as _;

use super::resolver::Resolver;
use super::transport::{Connecting, Origin, Stream, Transport};
use crate::config::EngineConfig;
use crate::error::{Error, ErrorKind};
use crate::model::name::at_most;

#[cfg(not(any(feature = "tls-aws-lc", feature = "tls-ring")))]
compile_error!("one of the features `tls-aws-lc` and `tls-ring` is needed");

/// Why a request or its body failed. The message names host and port, never
/// path or query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FetchError {
    /// What the caller decides by.
    pub(crate) kind: FetchErrorKind,
    /// One line without a trailing full stop.
    pub(crate) message: String,
}

/// What sort of failure a [`FetchError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FetchErrorKind {
    /// Lookup, TCP connect, or the connection ended before TLS was done.
    Connect,
    /// A certificate or the handshake was refused; again would be the same.
    Tls,
    /// A reset, an early end, any other I/O error.
    Reset,
    /// A response that cannot be parsed, or a head beyond all bounds.
    Protocol,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl FetchError {
    /// A failure while the connection was made.
    pub(crate) fn connecting(origin: &Origin, error: &(dyn StdError + 'static)) -> Self {
        let cause = cause_text(error);
        if chain(error).any(<dyn StdError>::is::<rustls::Error>) {
            return Self {
                kind: FetchErrorKind::Tls,
                message: format!("the TLS handshake with {origin} failed: {cause}"),
            };
        }
        Self {
            kind: FetchErrorKind::Connect,
            message: format!("cannot connect to {origin}: {cause}"),
        }
    }

    /// A failure before the response's head was complete.
    pub(crate) fn before_head(origin: &Origin, error: &hyper::Error) -> Self {
        // With TLS 1.3 a refused client certificate shows only here.
        let refused = chain(error)
            .any(|error| matches!(error.downcast_ref(), Some(rustls::Error::AlertReceived(_))));
        if refused {
            let cause = cause_text(error);
            return Self {
                kind: FetchErrorKind::Tls,
                message: format!("{origin} ended the TLS session: {cause}"),
            };
        }
        Self::receiving(origin, error, "before it answered")
    }

    /// A failure inside the body.
    pub(crate) fn in_body(origin: &Origin, error: &hyper::Error) -> Self {
        Self::receiving(origin, error, "inside the body")
    }

    fn receiving(origin: &Origin, error: &hyper::Error, when: &str) -> Self {
        let cause = cause_text(error);
        if is_unparsable(error) {
            return Self {
                kind: FetchErrorKind::Protocol,
                message: format!("the response of {origin} cannot be read: {cause}"),
            };
        }
        Self {
            kind: FetchErrorKind::Reset,
            message: format!("the connection to {origin} broke {when}: {cause}"),
        }
    }
}

/// hyper reports bad chunk framing as an I/O error of an `Invalid` kind; a
/// damaged TLS record has the same kind, but is an accident of the connection.
fn is_unparsable(error: &hyper::Error) -> bool {
    if chain(error).any(<dyn StdError>::is::<rustls::Error>) {
        return false;
    }
    chain(error).any(|error| {
        error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
            || error.downcast_ref::<io::Error>().is_some_and(|error| {
                // Only what hyper made itself; the system's errors have a code.
                error.raw_os_error().is_none()
                    && matches!(
                        error.kind(),
                        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
                    )
            })
    })
}

/// The error and all below it. `io::Error::source` skips the error it wraps,
/// which is the very one of interest, so that one is taken by `get_ref`.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| {
        let error = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

/// The text of the deepest error: the layers above it only say which layer
/// they are. It may quote the server: all names in its certificate, say.
fn cause_text(error: &(dyn StdError + 'static)) -> String {
    const LONGEST: usize = 500;
    let text = chain(error).last().map(ToString::to_string).unwrap_or_default();
    at_most(text.trim_end_matches('.'), LONGEST)
}

/// Makes connections as the engine's settings say.
#[derive(Debug)]
pub(crate) struct Connector {
    http: HttpConnector<Resolver>,
    resolver: Resolver,
    trust: Trust,
    /// The message of a failed set-up is kept: it would fail the same again.
    https: OnceCell<Result<HttpsConnector<HttpConnector<Resolver>>, String>>,
}

/// Whose certificates are believed.
#[derive(Debug, Clone)]
enum Trust {
    Platform,
    Roots(Arc<RootCertStore>),
    Anyone,
}

impl Connector {
    /// A connector that has opened nothing but `config.ca_file`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the CA file cannot be read or holds no
    /// usable certificate.
    pub(crate) fn new(config: &EngineConfig) -> Result<Self, Error> {
        let resolver = Resolver::new();
        let mut http = HttpConnector::new_with_resolver(resolver.clone());
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(config.connect_timeout));
        let trust = match (&config.ca_file, config.insecure) {
            (_, true) => Trust::Anyone,
            (Some(path), false) => Trust::Roots(Arc::new(read_roots(path)?)),
            (None, false) => Trust::Platform,
        };
        Ok(Self { http, resolver, trust, https: OnceCell::new() })
    }

    async fn open(&self, origin: &Origin) -> Result<Box<dyn Stream>, FetchError> {
        let uri = uri_of(origin).map_err(|error| FetchError::connecting(origin, &error))?;
        if !origin.https {
            let mut http = self.http.clone();
            std::future::poll_fn(|cx| http.poll_ready(cx))
                .await
                .map_err(|error| FetchError::connecting(origin, &error))?;
            let io =
                http.call(uri).await.map_err(|error| FetchError::connecting(origin, &error))?;
            self.remember(origin, &io);
            return Ok(Box::new(io));
        }
        let mut https = self.https(origin).await?;
        std::future::poll_fn(|cx| https.poll_ready(cx))
            .await
            .map_err(|error| FetchError::connecting(origin, &*error))?;
        let io = https.call(uri).await.map_err(|error| FetchError::connecting(origin, &*error))?;
        self.remember(origin, &io);
        Ok(Box::new(io))
    }

    fn remember(&self, origin: &Origin, io: &impl Connection) {
        let mut extensions = http::Extensions::new();
        io.connected().get_extras(&mut extensions);
        if let Some(info) = extensions.get::<HttpInfo>() {
            self.resolver.remember(&origin.host, info.remote_addr().ip());
        }
    }

    async fn https(
        &self,
        origin: &Origin,
    ) -> Result<HttpsConnector<HttpConnector<Resolver>>, FetchError> {
        let https = self
            .https
            .get_or_init(|| async {
                let trust = self.trust.clone();
                // The platform's trust store is many files.
                let tls = tokio::task::spawn_blocking(move || client_config(trust)).await;
                match tls {
                    Ok(Ok(tls)) => Ok(HttpsConnector::from((self.http.clone(), tls))),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await;
        https.clone().map_err(|cause| FetchError {
            kind: FetchErrorKind::Tls,
            message: format!("TLS for {origin} cannot be set up: {cause}"),
        })
    }
}

impl Transport for Connector {
    /// TLS included.
    ///
    /// # Errors
    /// [`FetchErrorKind::Connect`] or [`FetchErrorKind::Tls`].
    fn connect<'a>(&'a self, origin: &'a Origin) -> Connecting<'a> {
        Box::pin(self.open(origin))
    }
}

fn uri_of(origin: &Origin) -> Result<Uri, http::Error> {
    Uri::builder()
        .scheme(if origin.https { "https" } else { "http" })
        .authority(format!("{}:{}", origin.host, origin.port))
        .path_and_query("/")
        .build()
}

fn provider() -> CryptoProvider {
    #[cfg(feature = "tls-aws-lc")]
    return rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
    return rustls::crypto::ring::default_provider();
}

fn client_config(trust: Trust) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match trust {
        Trust::Platform => builder.with_platform_verifier()?,
        Trust::Roots(roots) => builder.with_root_certificates(roots),
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyone { algorithms })),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read_roots(path: &Path) -> Result<RootCertStore, Error> {
    let invalid = |why: &dyn fmt::Display| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("the CA file {} cannot be used: {why}", path.display()),
        )
        .with_hint("give a PEM file with at least one CERTIFICATE block")
    };
    let pem = std::fs::read(path).map_err(|error| invalid(&error).with_source(error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| invalid(&error))?;
        roots.add(certificate).map_err(|error| invalid(&error))?;
    }
    if roots.is_empty() {
        return Err(invalid(&"no certificate is in it"));
    }
    Ok(roots)
}

/// Believes every certificate, but not every signature: the peer must still
/// hold the key of the certificate it shows.
#[derive(Debug)]
struct AcceptAnyone {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
