//! TLS: whose certificates are believed, and the one that is shown.
//!
//! Settings are explicit: no process-wide provider is installed, and the
//! platform's trust store is opened only when TLS is needed first.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
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

/// To whom a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Origin,
    /// It is not shown our certificate, which is for origins.
    #[cfg(feature = "proxy")]
    Proxy,
}

/// Why there is no TLS.
#[derive(Debug)]
pub(super) enum TlsError {
    /// It cannot be set up here.
    SetUp(String),
    /// The handshake failed.
    Handshake(io::Error),
}

/// TLS as the engine's settings say.
#[derive(Debug)]
pub(super) struct Tls {
    trust: Trust,
    identity: Option<Identity>,
    /// The message of a failed set-up is kept: it would fail the same again.
    configs: OnceCell<Result<Configs, String>>,
}

/// Whose certificates are believed.
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
    /// [`ErrorKind::InvalidInput`] when one cannot be read or lacks what it is for.
    pub(super) fn new(config: &EngineConfig) -> Result<Self, Error> {
        let trust = match (&config.ca_file, config.insecure) {
            (_, true) => Trust::Anyone,
            (Some(path), false) => Trust::Roots(Arc::new(read_given(path)?)),
            (None, false) => Trust::Platform,
        };
        let identity = config.client_certificate.as_ref().map(read_identity).transpose()?;
        if let Some(identity) = &identity {
            // A key that is not the certificate's is refused now, not by each server.
            client_config(&Trust::Anyone, Some(identity)).map_err(|error| {
                let error = Error::new(
                    ErrorKind::InvalidInput,
                    format!("the client certificate cannot be used: {error}"),
                );
                error.with_hint("the key must be the one of the first certificate")
            })?;
        }
        Ok(Self { trust, identity, configs: OnceCell::new() })
    }

    /// TLS over `stream` with `host`, which is as URLs have it.
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
        // Sessions are shared by the clones.
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
                // The platform's trust store is many files.
                let verifying =
                    tokio::task::spawn_blocking(move || client_config(&trust, None)).await;
                let anonymous = match verifying {
                    Ok(Ok(config)) => config,
                    Ok(Err(error)) => return Err(error.to_string()),
                    Err(error) => return Err(error.to_string()),
                };
                let identified = match &self.identity {
                    None => None,
                    Some(identity) => {
                        let mut config = anonymous.clone();
                        let with_identity = client_config(&Trust::Anyone, Some(identity))
                            .map_err(|error| error.to_string())?;
                        config.client_auth_cert_resolver = with_identity.client_auth_cert_resolver;
                        // Sessions with and without a certificate are not to be mixed.
                        config.resumption = with_identity.resumption;
                        Some(config)
                    }
                };
                Ok(Configs { anonymous, identified })
            })
            .await;
        configs.as_ref().map_err(|cause| TlsError::SetUp(cause.clone()))
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
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Platform => {
            Arc::new(Explaining { verifier: Arc::new(Verifier::new(provider)?), given: Vec::new() })
        }
        Trust::Roots(given) => {
            let roots = Arc::clone(&given.roots);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            Arc::new(Explaining { verifier, given: given.certificates.clone() })
        }
        Trust::Anyone => Arc::new(AcceptAnyone { algorithms }),
    };
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
        let certificate = certificate.map_err(|error| invalid(&error))?;
        roots.add(certificate.clone()).map_err(|error| invalid(&error))?;
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
        .map_err(|error| invalid(path, &error))?;
    if certificates.is_empty() {
        return Err(invalid(path, &"no certificate is in it"));
    }
    let path = &files.key;
    let pem = std::fs::read(path).map_err(|error| invalid(path, &error).with_source(error))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| invalid(path, &"no private key that can be read is in it"))?;
    Ok(Identity { certificates, key })
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
