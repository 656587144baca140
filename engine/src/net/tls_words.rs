//! TLS failures in plain words: the library's own words name its types.

use std::fmt;
use std::time::UNIX_EPOCH;

use rustls::pki_types::UnixTime;
use rustls::{
    AlertDescription as Alert, CertificateError, InvalidMessage, PeerIncompatible as Peer,
};

use super::certificate::Untrusted;
use super::transport::{TransportError, TransportErrorKind};
use crate::model::hint::{CertificateHint, Hint};
use crate::model::name::at_most;

/// How many of a certificate's names are shown.
const MOST_NAMES: usize = 4;
/// The longest host name from a certificate that is shown, in bytes.
const LONGEST_NAME: usize = 80;

/// The handshake with `to` failed.
pub(super) fn failed(to: &dyn fmt::Display, error: &rustls::Error) -> TransportError {
    let (kind, message, hint) = match error {
        rustls::Error::AlertReceived(Alert::NoApplicationProtocol) => {
            let message = format!("{to} speaks no version of HTTP that it was offered");
            (TransportErrorKind::NoHttpVersion, message, None)
        }
        rustls::Error::InvalidCertificate(why) => {
            let (cause, hint) = certificate(why);
            let message = format!("the certificate of {to} is not accepted: {cause}");
            (TransportErrorKind::Tls, message, Some(Hint::Certificate(hint)))
        }
        _ => {
            let message = format!("the TLS handshake with {to} failed: {}", cause(error));
            (TransportErrorKind::Tls, message, Some(hint(error)))
        }
    };
    let failed = TransportError::new(kind, message).with_source(error.clone());
    TransportError { hint, ..failed }
}

/// What to do about a failure that is not about a certificate.
fn hint(error: &rustls::Error) -> Hint {
    match error {
        _ if is_no_tls(error) => "if plain HTTP is spoken there, try http:// instead of https://",
        rustls::Error::AlertReceived(alert) if is_of_our_certificate(*alert) => {
            return Hint::ClientCertificate;
        }
        _ => "its TLS and this one do not fit: update the server, or check what stands between",
    }
    .into()
}

/// Describes any TLS failure in a clause.
pub(super) fn cause(error: &rustls::Error) -> String {
    let words = match error {
        rustls::Error::InvalidCertificate(why) => return certificate(why).0,
        _ if is_no_tls(error) => "what answers there does not speak TLS",
        rustls::Error::AlertReceived(Alert::ProtocolVersion)
        | rustls::Error::PeerIncompatible(
            Peer::ServerTlsVersionIsDisabledByOurConfig
            | Peer::ServerDoesNotSupportTls12Or13
            | Peer::Tls12NotOffered
            | Peer::Tls12NotOfferedOrEnabled,
        ) => "it speaks only old versions of TLS, which are not safe; 1.2 or 1.3 is needed",
        rustls::Error::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity)
        | rustls::Error::PeerIncompatible(
            Peer::NoCipherSuitesInCommon
            | Peer::NoKxGroupsInCommon
            | Peer::EcPointsExtensionRequired,
        ) => {
            "it refuses every cipher and algorithm that it was offered: it has only old ones \
             (without ECDHE and AES-GCM or ChaCha20), or wants a client certificate"
        }
        rustls::Error::AlertReceived(Alert::UnrecognisedName) => "it serves no host of this name",
        rustls::Error::AlertReceived(Alert::CertificateRequired) => {
            "it demands a client certificate"
        }
        rustls::Error::AlertReceived(alert) if is_of_our_certificate(*alert) => {
            "it refuses the client certificate, or demands one"
        }
        rustls::Error::AlertReceived(Alert::InternalError) => "it reports an error of its own",
        rustls::Error::AlertReceived(alert) => {
            return format!("it broke off with alert {} of TLS", u8::from(*alert));
        }
        rustls::Error::NoCertificatesPresented => "it shows no certificate",
        rustls::Error::DecryptError => "what came was damaged on the way",
        rustls::Error::General(text) => return text.clone(),
        _ => "it does not keep to the rules of TLS",
    };
    words.to_owned()
}

fn is_no_tls(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
        )
    )
}

/// Whether a server uses this alert to say that our certificate is wrong or missing.
fn is_of_our_certificate(alert: Alert) -> bool {
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired
    )
}

/// Why a server's certificate is refused, and what can be done about it.
fn certificate(why: &CertificateError) -> (String, CertificateHint) {
    match why {
        CertificateError::Other(other) => match other.0.downcast_ref() {
            Some(untrusted) => self::untrusted(untrusted),
            // The platform's own words.
            None => (at_most(&other.0.to_string(), 200), CertificateHint::OtherServer),
        },
        CertificateError::UnknownIssuer => untrusted(&Untrusted::By(None)),
        CertificateError::NotValidForNameContext { expected, presented }
            if presented.is_empty() =>
        {
            (
                format!(
                    "it names no host in its subject alternative names, where {} would have to be; a \
                     common name alone no longer counts",
                    expected.to_str()
                ),
                CertificateHint::NamesNoHost,
            )
        }
        CertificateError::NotValidForNameContext { expected, presented } => (
            format!("it is for {}, not for {}", names(presented), expected.to_str()),
            CertificateHint::OtherHost,
        ),
        CertificateError::NotValidForName => {
            ("it is for another host".to_owned(), CertificateHint::OtherHost)
        }
        CertificateError::ExpiredContext { time, not_after } => {
            (format!("it expired on {}", date(*not_after)), of_time(Some(*time)))
        }
        CertificateError::Expired => ("it has expired".to_owned(), of_time(None)),
        CertificateError::NotValidYetContext { time, not_before } => {
            (format!("it is not valid before {}", date(*not_before)), of_time(Some(*time)))
        }
        CertificateError::NotValidYet => ("it is not valid yet".to_owned(), of_time(None)),
        CertificateError::Revoked => {
            ("its authority has revoked it".to_owned(), CertificateHint::OtherServer)
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            ("it is not one for servers".to_owned(), CertificateHint::OtherServer)
        }
        CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension => (
            "it is malformed, or of a kind that is not known".to_owned(),
            CertificateHint::OtherServer,
        ),
        CertificateError::BadSignature => {
            ("its signature is wrong".to_owned(), CertificateHint::OtherServer)
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
            "it is signed in a way that is not known, or not safe".to_owned(),
            CertificateHint::OtherServer,
        ),
        _ => ("whether it was revoked cannot be told".to_owned(), CertificateHint::OtherServer),
    }
}

fn untrusted(why: &Untrusted) -> (String, CertificateHint) {
    let hint = match why {
        Untrusted::SelfSigned => CertificateHint::SelfSigned,
        Untrusted::Authority => CertificateHint::Authority,
        Untrusted::By(_) => CertificateHint::UnknownAuthority,
    };
    let cause = match why {
        Untrusted::Authority => {
            "it is that of an authority (CA:TRUE), and not one for a server, which the authority \
             would have signed"
                .to_owned()
        }
        why => why.to_string(),
    };
    (cause, hint)
}

/// What to do about a certificate that is not valid now.
fn of_time(now: Option<UnixTime>) -> CertificateHint {
    CertificateHint::NotValidNow { clock: now.map(date) }
}

fn date(time: UnixTime) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + std::time::Duration::from_secs(time.as_secs()))
}

/// The names in a certificate, which the library writes as `DnsName("a.example")`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let value = name.split_once('(').map_or(name.as_str(), |(_, value)| value);
        at_most(value.trim_end_matches(')').trim_matches('"'), LONGEST_NAME)
    };
    let mut told: Vec<String> = presented.iter().take(MOST_NAMES).map(bare).collect();
    match presented.len().saturating_sub(told.len()) {
        0 => {}
        more => told.push(format!("{more} more")),
    }
    match told.as_slice() {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        few => few.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_type_is_in_the_words() {
        use rustls::{CertificateError as C, Error, PeerMisbehaved};
        let alerts = (0..=u8::MAX).map(|alert| Error::AlertReceived(Alert::from(alert)));
        let certificates = [
            C::BadEncoding,
            C::Expired,
            C::NotValidYet,
            C::Revoked,
            C::UnhandledCriticalExtension,
            C::UnknownIssuer,
            C::UnknownRevocationStatus,
            C::ExpiredRevocationList,
            C::BadSignature,
            C::NotValidForName,
            C::InvalidPurpose,
            C::InvalidOcspResponse,
            C::ApplicationVerificationFailure,
        ];
        let certificates = certificates.into_iter().map(Error::InvalidCertificate);
        let others = [
            Error::InvalidMessage(InvalidMessage::InvalidContentType),
            Error::InvalidMessage(InvalidMessage::MissingKeyExchange),
            Error::PeerIncompatible(Peer::NoCipherSuitesInCommon),
            Error::PeerMisbehaved(PeerMisbehaved::BadCertChainExtensions),
            Error::NoCertificatesPresented,
            Error::DecryptError,
            Error::FailedToGetCurrentTime,
        ];
        for error in alerts.chain(certificates).chain(others) {
            let TransportError { message, hint, .. } = failed(&"host:443", &error);
            let text =
                format!("{message} {}", hint.map_or_else(String::new, |hint| hint.to_string()));
            let mut words = text.split(|c: char| !c.is_alphanumeric());
            let is_type = |word: &str| {
                word.chars()
                    .zip(word.chars().skip(1))
                    .any(|(a, b)| a.is_lowercase() && b.is_uppercase())
            };
            // ChaCha20 is the name of a cipher.
            let found = words.find(|word| is_type(word) && *word != "ChaCha20");
            assert_eq!(found, None, "{text}");
        }
    }

    #[test]
    fn names_are_told_bare_and_not_all_of_them() {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&all(&["DnsName(\"a.example\")"])), "a.example");
        let two = all(&["DnsName(\"*.a.example\")", "IpAddress(127.0.0.1)"]);
        assert_eq!(names(&two), "*.a.example and 127.0.0.1");
        let many = all(&["DnsName(\"a\")"; 9]);
        assert_eq!(names(&many), "a, a, a, a and 5 more");
    }
}
