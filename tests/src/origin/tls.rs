//! A certificate authority of the tests' own.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// An authority that no trust store knows.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Until when an issued certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// For longer than any test.
    Current,
    /// It ended years ago.
    Expired,
}

impl Authority {
    /// A new authority with a new key.
    ///
    /// # Panics
    /// When the machine has no entropy.
    #[must_use]
    pub fn new() -> Self {
        Self::named(&[], Validity::Current)
    }

    /// The same with names of hosts, which it may serve itself.
    ///
    /// # Panics
    /// When a name is not one.
    #[must_use]
    pub fn named(names: &[&str], validity: Validity) -> Self {
        Self::with("authority of the tests", names, validity)
    }

    /// A new authority of another name.
    ///
    /// # Panics
    /// When the machine has no entropy.
    #[must_use]
    pub fn called(name: &str) -> Self {
        Self::with(name, &[], Validity::Current)
    }

    fn with(name: &str, names: &[&str], validity: Validity) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names of hosts");
        if validity == Validity::Expired {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("a key signs itself"))
    }

    /// The authority's certificate in PEM, for `--cacert`.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The authority's certificate, for a client's trust store.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A server's identity for these host names or addresses.
    ///
    /// # Panics
    /// When a name is not one.
    #[must_use]
    pub fn issue(&self, names: &[&str], validity: Validity) -> ServerIdentity {
        self.issue_to(names, validity, false)
    }

    /// The same, for a server that wants a client's certificate of this authority.
    ///
    /// # Panics
    /// When a name is not one.
    #[must_use]
    pub fn issue_demanding(&self, names: &[&str]) -> ServerIdentity {
        self.issue_to(names, Validity::Current, true)
    }

    /// The authority itself as a server, as what `openssl req -x509` makes is used.
    ///
    /// # Panics
    /// Never: its certificate and key belong together.
    #[must_use]
    pub fn identity(&self) -> ServerIdentity {
        self.serving(self.certificate(), self.0.key(), false)
    }

    fn issue_to(&self, names: &[&str], validity: Validity, demanding: bool) -> ServerIdentity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names of hosts");
        // Equal names of both would make it look signed by itself.
        params.distinguished_name.push(DnType::CommonName, "server of the tests");
        params.use_authority_key_identifier_extension = true;
        if validity == Validity::Expired {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.0).expect("the authority signs");
        self.serving(certificate.der().clone(), &key, demanding)
    }

    fn serving(
        &self,
        certificate: CertificateDer<'static>,
        key: &KeyPair,
        demanding: bool,
    ) -> ServerIdentity {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions");
        let builder = if demanding {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate()).expect("the authority's own certificate");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("there is a root"))
        } else {
            builder.with_no_client_auth()
        };
        let config = builder
            .with_single_cert(vec![certificate], key)
            .expect("certificate and key belong together");
        ServerIdentity(Arc::new(config))
    }
}

impl Authority {
    /// A client's certificate and its key, in PEM.
    ///
    /// # Panics
    /// When the machine has no entropy.
    #[must_use]
    pub fn issue_client(&self) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to be wrong");
        params.distinguished_name.push(DnType::CommonName, "client of the tests");
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.0).expect("the authority signs");
        (certificate.pem(), key.serialize_pem())
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// What an origin needs to speak TLS.
#[derive(Debug, Clone)]
pub struct ServerIdentity(pub(super) Arc<ServerConfig>);

impl ServerIdentity {
    /// As rustls has it, for other servers than the scripted origin.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }

    /// The same identity, which also speaks these protocols (RFC 7301).
    #[must_use]
    pub fn with_protocols(&self, protocols: &[&str]) -> Self {
        let mut config = (*self.0).clone();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }
}
