//! TLS for the floor, without a runtime.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::Failure;

/// Makes connections that trust what `SSL_CERT_FILE` has.
pub(super) struct Client(Arc<ClientConfig>);

impl Client {
    pub(super) fn new() -> Result<Self, Failure> {
        let file = std::env::var_os("SSL_CERT_FILE").ok_or("SSL_CERT_FILE names no CA to trust")?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// TLS with `host`, which may have a port, over `stream`; the handshake comes with the first
    /// byte.
    pub(super) fn over(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, Failure> {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned();
        let client = ClientConnection::new(Arc::clone(&self.0), ServerName::try_from(name)?)?;
        Ok(StreamOwned::new(client, stream))
    }
}
