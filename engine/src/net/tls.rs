//! TLS: which certificates are believed, and which one is shown.
//!
//! Settings are explicit: no process-wide provider is installed, and the platform's
//! trust store is opened only when TLS is first needed.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::Explaining;
use super::connect::Stream;
use crate::model::config::{ClientCertificate, EngineConfig};
use crate::model::error::{Error, ErrorKind};

#[cfg(not(any(feature = "tls-aws-lc", feature = "tls-ring")))]
compile_error!("one of the features `tls-aws-lc` and `tls-ring` is needed");

/// A stream inside TLS, for hyper.
pub(super) type Secured<S> = TokioIo<TlsStream<TokioIo<S>>>;

/// Which versions of HTTP are offered (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    Http1,
    #[cfg(feature = "http2")]
    Http2,
    #[cfg(feature = "http2")]
    Both,
}

impl Offer {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![b"http/1.1".to_vec()],
            #[cfg(feature = "http2")]
            Self::Http2 => vec![b"h2".to_vec()],
            #[cfg(feature = "http2")]
            Self::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Origin,
    /// A proxy is not shown our certificate, which is for origins.
    #[cfg(feature = "proxy")]
    Proxy,
}

/// Why there is no TLS.
#[derive(Debug)]
pub(super) enum TlsError {
    /// It cannot be set up here.
    SetUp(rustls::Error),
    /// The handshake failed.
    Handshake(io::Error),
}

/// TLS according to the engine's settings.
#[derive(Debug)]
pub(super) struct Tls {
    trust: Trust,
    identity: Option<Identity>,
    /// A failed set-up is kept: it would fail the same way again.
    configs: OnceCell<Result<Configs, rustls::Error>>,
}

/// Which certificates are believed.
#[derive(Debug, Clone)]
enum Trust {
    Platform,
    Roots(Arc<Given>),
    Anyone,
}

/// The certificates of a CA file.
#[derive(Debug)]
struct Given {
    roots: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
}

#[derive(Debug)]
struct Identity {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

#[derive(Debug)]
struct Configs {
    anonymous: ClientConfig,
    identified: Option<ClientConfig>,
}

impl Tls {
    /// Reads the files of the settings and opens nothing else.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when a file cannot be read or lacks what it should hold.
    pub(super) fn new(config: &EngineConfig) -> Result<Self, Error> {
        let trust = match (&config.ca_file, config.insecure) {
            (_, true) => Trust::Anyone,
            (Some(path), false) => Trust::Roots(Arc::new(read_given(path)?)),
            (None, false) => Trust::Platform,
        };
        let identity = config.client_certificate.as_ref().map(read_identity).transpose()?;
        if let Some(identity) = &identity {
            // A key that does not fit the certificate is refused now, not by each server.
            client_config(&Trust::Anyone, Some(identity)).map_err(|cause| {
                let error = Error::new(
                    ErrorKind::InvalidInput,
                    format!("the client certificate cannot be used: {cause}"),
                );
                error
                    .with_hint("the key must be the one of the first certificate")
                    .with_source(cause)
            })?;
        }
        Ok(Self { trust, identity, configs: OnceCell::new() })
    }

    /// Does beforehand what the first handshake needs: it takes some milliseconds, in which a
    /// connection can be made. What fails here fails the handshake.
    pub(super) async fn prepare(&self) {
        let _ = self.configs().await;
    }

    /// TLS over `stream` with `host`, written as in URLs.
    pub(super) async fn handshake<S: Stream>(
        &self,
        peer: Peer,
        host: &str,
        offer: Offer,
        stream: S,
    ) -> Result<Secured<S>, TlsError> {
        let configs = self.configs().await?;
        let config = match peer {
            Peer::Origin => configs.identified.as_ref().unwrap_or(&configs.anonymous),
            #[cfg(feature = "proxy")]
            Peer::Proxy => &configs.anonymous,
        };
        // The clones share their sessions.
        let mut config = config.clone();
        config.alpn_protocols = offer.protocols();
        let name = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name)
            .map_err(|error| TlsError::Handshake(io::Error::other(error)))?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, TokioIo::new(stream)).await;
        stream.map(TokioIo::new).map_err(TlsError::Handshake)
    }

    async fn configs(&self) -> Result<&Configs, TlsError> {
        let configs = self
            .configs
            .get_or_init(|| async {
                let trust = self.trust.clone();
                // Reading the platform's trust store opens many files.
                let verifying = tokio::task::spawn_blocking(move || {
                    let config = client_config(&trust, None)?;
                    // The first random bytes of a process are the dear ones.
                    config.crypto_provider().secure_random.fill(&mut [0; 32])?;
                    Ok(config)
                })
                .await;
                let anonymous = match verifying {
                    Ok(Ok(config)) => config,
                    Ok(Err(error)) => return Err(error),
                    Err(error) => return Err(rustls::Error::General(error.to_string())),
                };
                let identified = match &self.identity {
                    None => None,
                    Some(identity) => {
                        let mut config = anonymous.clone();
                        let with_identity = client_config(&Trust::Anyone, Some(identity))?;
                        config.client_auth_cert_resolver = with_identity.client_auth_cert_resolver;
                        // Sessions with and without a certificate must not be mixed.
                        config.resumption = with_identity.resumption;
                        Some(config)
                    }
                };
                Ok(Configs { anonymous, identified })
            })
            .await;
        configs.as_ref().map_err(|error| TlsError::SetUp(error.clone()))
    }
}

/// Whether the other end chose HTTP/2.
#[cfg(feature = "http2")]
pub(super) fn chose_http2<S>(stream: &Secured<S>) -> bool {
    stream.inner().get_ref().1.alpn_protocol() == Some(b"h2")
}

fn provider() -> CryptoProvider {
    #[cfg(feature = "tls-aws-lc")]
    return rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
    return rustls::crypto::ring::default_provider();
}

fn client_config(
    trust: &Trust,
    identity: Option<&Identity>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let provider = Arc::clone(builder.crypto_provider());
    let mut given = Vec::new();
    let verifier: Option<Arc<dyn ServerCertVerifier>> = match trust {
        Trust::Platform => Some(Arc::new(Verifier::new(provider)?)),
        Trust::Roots(chosen) => {
            given.clone_from(&chosen.certificates);
            let roots = Arc::clone(&chosen.roots);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            Some(verifier.map_err(|error| rustls::Error::General(error.to_string()))?)
        }
        Trust::Anyone => None,
    };
    let verifier = Arc::new(Explaining { verifier, given, algorithms });
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(Identity { certificates, key }) => {
            builder.with_client_auth_cert(certificates.clone(), key.clone_key())
        }
    }
}

fn read_given(path: &Path) -> Result<Given, Error> {
    let invalid = |why: &dyn fmt::Display| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("the CA file {} cannot be used: {why}", path.display()),
        )
        .with_hint("give a PEM file with at least one CERTIFICATE block")
    };
    let pem = std::fs::read(path).map_err(|error| invalid(&error).with_source(error))?;
    let mut roots = RootCertStore::empty();
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| invalid(&error).with_source(error))?;
        let added = roots.add(certificate.clone());
        added.map_err(|error| invalid(&error).with_source(error))?;
        certificates.push(certificate);
    }
    if roots.is_empty() {
        return Err(invalid(&"no certificate is in it"));
    }
    Ok(Given { roots: Arc::new(roots), certificates })
}

fn read_identity(files: &ClientCertificate) -> Result<Identity, Error> {
    let invalid = |path: &Path, why: &dyn fmt::Display| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("the client certificate's file {} cannot be used: {why}", path.display()),
        )
        .with_hint(
            "PEM files are needed: CERTIFICATE blocks, and a PRIVATE KEY block without a passphrase",
        )
    };
    let path = &files.certificates;
    let pem = std::fs::read(path).map_err(|error| invalid(path, &error).with_source(error))?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(path, &error).with_source(error))?;
    if certificates.is_empty() {
        return Err(invalid(path, &"no certificate is in it"));
    }
    let path = &files.key;
    let pem = std::fs::read(path).map_err(|error| invalid(path, &error).with_source(error))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| invalid(path, &"no private key that can be read is in it"))?;
    Ok(Identity { certificates, key })
}
