//! Certificates that no trusted authority signed, and who signed them as far as they say.
//!
//! The library's error names nobody, and after a failed handshake the certificate is gone.
//! So the verifier is wrapped in one that reads the names while it has them.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

use crate::model::name::at_most;

/// The longest name of an authority that is shown, in bytes.
const LONGEST_NAME: usize = 80;

/// Why a server's certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untrusted {
    /// It has the same name as its signer.
    #[error("it is signed by itself")]
    SelfSigned,
    /// This authority signed it, as far as the certificate says.
    #[error("{} is not trusted here", authority(.0.as_ref()))]
    By(Option<String>),
    /// It is an authority's own (CA:TRUE), shown as a server's.
    #[error("it is an authority's and not a server's")]
    Authority,
}

fn authority(name: Option<&String>) -> String {
    name.map_or_else(|| "its authority".to_owned(), |name| format!("the authority `{name}`"))
}

/// Explains the refusals of `verifier` that are about who signed, and believes certificates that
/// were `given` themselves, byte for byte: what `openssl req -x509` makes for a server is an
/// authority's, and one exported from a server has its authority elsewhere.
///
/// Every signature is verified, even where every certificate is believed: the peer must still hold
/// the key of the one it shows.
#[derive(Debug)]
pub(super) struct Explaining {
    /// Without a verifier every certificate is believed.
    pub(super) verifier: Option<Arc<dyn ServerCertVerifier>>,
    pub(super) given: Vec<CertificateDer<'static>>,
    /// The algorithms that are accepted in signatures.
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Explaining {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(verifier) = &self.verifier else { return Ok(ServerCertVerified::assertion()) };
        let verified =
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let error = match verified {
            // Both are reported only after the dates were found good, so an expired
            // certificate is reported as expired.
            Err(error) if is_unknown_issuer(&error) || is_authority(&error) => error,
            verified => return verified,
        };
        if self.given.iter().any(|given| given == end_entity) {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            verify_server_name(&certificate, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let names = Names::of(end_entity);
        // The last certificate that was shown is the one whose signer is unknown.
        let last = intermediates.last().and_then(|last| Names::of(last));
        let untrusted = match &names {
            Some(names) if names.issuer == names.subject => Untrusted::SelfSigned,
            _ if is_authority(&error) => Untrusted::Authority,
            names => Untrusted::By(
                last.as_ref().or(names.as_ref()).and_then(|names| common_name(names.issuer)),
            ),
        };
        let other = CertificateError::Other(OtherError(Arc::new(untrusted)));
        Err(rustls::Error::InvalidCertificate(other))
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

/// Whether a certificate is refused for being an authority's own (CA:TRUE). The
/// library has no variant for it.
fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    other.0.to_string() == "CaUsedAsEndEntity"
}

/// Whether no trusted authority signed a certificate.
fn is_unknown_issuer(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
}

/// The names in a certificate (RFC 5280 section 4.1), in DER.
struct Names<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
}

const SEQUENCE: u8 = 0x30;
/// The version, which comes first where there is one.
const VERSION: u8 = 0xa0;

impl<'a> Names<'a> {
    fn of(certificate: &'a [u8]) -> Option<Self> {
        let mut outer = Der(Der(certificate).expect(SEQUENCE)?);
        let mut fields = Der(outer.expect(SEQUENCE)?);
        let (tag, _) = fields.next()?;
        if tag == VERSION {
            fields.next()?;
        }
        let _algorithm = fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?;
        let _validity = fields.expect(SEQUENCE)?;
        let subject = fields.expect(SEQUENCE)?;
        Some(Self { issuer, subject })
    }
}

/// The common name in a name, else its organisation.
fn common_name(name: &[u8]) -> Option<String> {
    /// `id-at-commonName` and `id-at-organizationName`.
    const WANTED: [&[u8]; 2] = [&[0x55, 4, 3], &[0x55, 4, 10]];
    WANTED.iter().find_map(|wanted| {
        let mut sets = Der(name);
        std::iter::from_fn(|| sets.next()).find_map(|(_, set)| {
            let mut pair = Der(Der(set).expect(SEQUENCE)?);
            let (_, id) = pair.next()?;
            let (tag, value) = pair.next()?;
            (id == *wanted).then(|| at_most(&text(tag, value), LONGEST_NAME))
        })
    })
}

fn text(tag: u8, value: &[u8]) -> String {
    const BMP_STRING: u8 = 0x1e;
    if tag == BMP_STRING {
        let units: Vec<u16> =
            value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        return String::from_utf16_lossy(&units);
    }
    String::from_utf8_lossy(value).into_owned()
}

/// The rest of a series of DER elements (X.690).
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element's tag and contents.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (len, rest) = match usize::from(*first) {
            short @ ..0x80 => (short, rest),
            // This byte holds the length of the length.
            long => {
                let (digits, rest) = rest.split_at_checked((long - 0x80).min(rest.len()))?;
                if digits.len() > 4 {
                    return None;
                }
                (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
            }
        };
        let (contents, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((*tag, contents))
    }

    /// The contents of the next element, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, contents)| contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
        let len = contents.len();
        let long = [0x82, (len >> 8) as u8, len as u8];
        let len: &[u8] = if len < 0x80 { &[len as u8] } else { &long };
        [&[tag], len, contents].concat()
    }

    fn name(parts: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let set = |(id, tag, text): &(u8, u8, &[u8])| {
            let pair = [element(6, &[0x55, 4, *id]), element(*tag, text)].concat();
            element(0x31, &element(SEQUENCE, &pair))
        };
        element(SEQUENCE, &parts.iter().flat_map(set).collect::<Vec<u8>>())
    }

    fn certificate(version: bool, issuer: &[u8], subject: &[u8]) -> Vec<u8> {
        let version = if version { element(VERSION, &[2, 1, 2]) } else { Vec::new() };
        let (serial, algorithm) = (element(2, &[1]), element(SEQUENCE, &[]));
        let validity = element(SEQUENCE, &[0; 200]);
        let fields = [&version[..], &serial[..], &algorithm[..], issuer, &validity[..], subject];
        element(SEQUENCE, &element(SEQUENCE, &fields.concat()))
    }

    #[test]
    fn the_signer_is_read_from_a_certificate() {
        let issuer = name(&[(10, 0x0c, b"Example Corp"), (3, 0x13, b"Example CA")]);
        let subject = name(&[(3, 0x0c, b"host")]);
        for version in [true, false] {
            let der = certificate(version, &issuer, &subject);
            let names = Names::of(&der).expect("names");
            assert_eq!(common_name(names.issuer).as_deref(), Some("Example CA"));
            assert_ne!(names.issuer, names.subject);
            for cut in 0..der.len() {
                let _ = Names::of(&der[..cut]);
            }
        }
        let organisation = name(&[(10, 0x1e, b"\0C\0A")]);
        let der = certificate(true, &organisation, &subject);
        let names = Names::of(&der).expect("names");
        assert_eq!(common_name(names.issuer).as_deref(), Some("CA"));
    }

    #[test]
    fn lengths_that_lie_are_none() {
        for der in [&[0x30, 0x84, 255, 255, 255, 255][..], &[0x30, 0x80], &[0x30, 0xff], &[0x30]] {
            assert!(Names::of(der).is_none());
        }
    }
}
