//! What can be done about an [`Error`](super::error::Error): data that front ends put into words.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// The next step after a failed download, as plain data.
///
/// `Display` words it for a person, without naming an option of any program: one line without a
/// trailing full stop. A program whose options have names matches the variants instead and names
/// them; variants that it does not know yet it displays.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// An existing file cannot be used or replaced as it is. Each of these is a way out.
    File(&'static [Way]),
    /// The output exists: choose another one, or allow replacing it
    /// ([`Existing::Replace`](crate::Existing::Replace)).
    OutputExists,
    /// The output is a directory. It may be meant as
    /// [`DownloadOptions::directory`](crate::DownloadOptions::directory).
    OutputIsDirectory,
    /// The object is larger than
    /// [`DownloadOptions::max_size_bytes`](crate::DownloadOptions::max_size_bytes).
    TooLarge,
    /// The file system cannot do [`Allocation::Reserve`](crate::Allocation::Reserve).
    CannotReserve,
    /// The bytes repeatedly do not match what the server says about them. A
    /// [`Checksum`](crate::Checksum) from the caller would count instead.
    Altered,
    /// The server's certificate is not accepted.
    Certificate(CertificateHint),
    /// The server refuses the
    /// [`EngineConfig::client_certificate`](crate::EngineConfig::client_certificate), or demands one.
    ClientCertificate,
    /// TLS failed, for a reason that tells no more.
    Tls,
    /// The name of this host has no address. Only a proxy may be able to look it up.
    NoSuchHost {
        /// The host, as URLs have it.
        host: String,
    },
    /// Nothing accepts connections there. More attempts wait for it
    /// ([`RetryPolicy::max_hopeless_attempts`](crate::RetryPolicy::max_hopeless_attempts)), and
    /// perhaps only a proxy leads there.
    ConnectionRefused,
    /// No address can be reached from here. Only a proxy may lead there.
    Unreachable,
    /// The proxy cannot be used.
    Proxy {
        /// Who or what chose it, where that is known (`Proxy::chosen_by`).
        chosen_by: Option<String>,
    },
    /// The server answers [`HttpVersion::Http2`](crate::HttpVersion) in another protocol.
    NoHttp2,
    /// A redirect leads from https to http, which is followed only with
    /// [`DownloadOptions::allow_downgrade`](crate::DownloadOptions::allow_downgrade).
    Downgrade,
    /// The server refuses the login that it was given.
    LoginRefused {
        /// The schemes that it accepts, such as `Basic`, where it tells.
        schemes: Vec<String>,
    },
    /// Access is refused: the link may have expired, or need a login.
    LinkRefused {
        /// The output that was begun, and can be continued with another URL.
        output: Option<PathBuf>,
    },
    /// The server does not understand the request. The URL or a header that was given may be wrong.
    BadRequest,
    /// The server wants fewer requests, or fewer connections.
    AskLess,
    /// The server failed. Another one, a mirror, may not.
    ServerFault,
    /// Advice that concerns no option.
    Other(Cow<'static, str>),
}

/// A way to go on where a file is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Way {
    /// Continue it, if another program began it
    /// ([`Foreign::Continue`](crate::Foreign::Continue)).
    Continue,
    /// Give a [`Checksum`](crate::Checksum) of the object, with which the file is compared.
    GiveDigest,
    /// Let aria2, which began it, complete it.
    LetAria2Complete,
    /// Move the file away.
    MoveAway,
    /// Replace it ([`Existing::Replace`](crate::Existing::Replace)).
    Replace,
    /// Choose another output.
    ChooseOutput,
}

/// Why a server's certificate may not be accepted. Accepting any certificate
/// ([`EngineConfig::insecure`](crate::EngineConfig::insecure)) is always the last way: anybody
/// on the path can then read and change everything.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateHint {
    /// It may be another server than the intended one.
    OtherServer,
    /// The URL's host may be wrong.
    OtherHost,
    /// It names no host, and the server needs a new certificate.
    NamesNoHost,
    /// The server needs a new certificate, unless this machine's clock is wrong.
    NotValidNow {
        /// What the clock says, as HTTP writes dates, where that is known.
        clock: Option<String>,
    },
    /// It is self-signed: if the server is the user's own, the certificate can
    /// be the [`EngineConfig::ca_file`](crate::EngineConfig::ca_file).
    SelfSigned,
    /// It is an authority's, which can be the
    /// [`EngineConfig::ca_file`](crate::EngineConfig::ca_file) if it is the right one.
    Authority,
    /// This machine does not know its authority, which can be the
    /// [`EngineConfig::ca_file`](crate::EngineConfig::ca_file); or the server leaves out the
    /// certificates between its own and its authority's.
    UnknownAuthority,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: &str = match self {
            Self::File(ways) => return either(ways, f),
            Self::OutputExists => "choose another output or allow replacing it",
            Self::OutputIsDirectory => {
                "choose another output, or give it as the directory to write into"
            }
            Self::TooLarge => "allow more if it is wanted all the same",
            Self::CannotReserve => "this file system has no fallocate: do not insist on reserving",
            Self::Altered => {
                "the server, or something before it, alters the data or its digest: download from \
                 another place, or give the right checksum, which counts instead"
            }
            Self::Certificate(hint) => {
                return write!(
                    f,
                    "{hint}; the last way is to accept any certificate, with which anybody on the \
                     way can read and change everything"
                );
            }
            Self::ClientCertificate => {
                "the server wants another client certificate, with its private key"
            }
            Self::Tls => {
                "where a certificate is refused: a private authority has to be given as one to \
                 trust; do not continue if the certificate is unexpected"
            }
            Self::NoSuchHost { host } => {
                return write!(
                    f,
                    "check the spelling of {host} and the network; where names are looked up by a \
                     proxy alone, set that proxy"
                );
            }
            Self::ConnectionRefused => {
                "check the port, and whether the server runs: more attempts wait for it; where \
                 only a proxy leads there, set that proxy"
            }
            Self::Unreachable => {
                "check the network; where only a proxy leads there, set that proxy"
            }
            Self::Proxy { chosen_by } => {
                let correct = chosen_by.as_deref().unwrap_or("it");
                return write!(f, "correct {correct}, or leave the proxy out for this host");
            }
            Self::NoHttp2 => "do not insist on HTTP/2: then it is asked in HTTP/1.1",
            Self::Downgrade => {
                "it can be allowed where anybody on the way may read and change everything"
            }
            Self::LoginRefused { schemes } if schemes.is_empty() => {
                "the server refuses the login that it was given: give another"
            }
            Self::LoginRefused { schemes } => {
                return write!(
                    f,
                    "the server, which takes {}, refuses the login that it was given: give another",
                    schemes.join(", ")
                );
            }
            Self::LinkRefused { output: None } => {
                "the link may have expired or need a login: get a fresh URL, or give a login or \
                 the headers that it needs"
            }
            Self::LinkRefused { output: Some(output) } => {
                return write!(
                    f,
                    "the link may have expired or need a login: continue {} with a fresh URL, or \
                     give a login or the headers that it needs",
                    output.display()
                );
            }
            Self::BadRequest => "check the URL, and the headers that are sent",
            Self::AskLess => {
                "the server wants to be asked less: try again later, or with one connection"
            }
            Self::ServerFault => "the fault is the server's: try again later, or from a mirror",
            Self::Other(text) => text,
        };
        f.write_str(text)
    }
}

/// The ways in a row: "a, b, or c".
fn either(ways: &[Way], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (place, way) in ways.iter().enumerate() {
        match place {
            0 => {}
            _ if place + 1 == ways.len() => f.write_str(", or ")?,
            _ => f.write_str(", ")?,
        }
        // After the digest, "it" would mean the digest.
        let it = if ways[..place].contains(&Way::GiveDigest) { "the file" } else { "it" };
        way.tell(it, f)?;
    }
    Ok(())
}

impl Way {
    /// In words, in which the file is called `it`.
    fn tell(self, it: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => write!(f, "continue {it} if another program began it"),
            Self::GiveDigest => f.write_str("give the object's digest"),
            Self::LetAria2Complete => write!(f, "let aria2c complete {it}"),
            Self::MoveAway => write!(f, "move {it} away"),
            Self::Replace => write!(f, "replace {it}"),
            Self::ChooseOutput => f.write_str("choose another output"),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell("it", f)
    }
}

impl fmt::Display for CertificateHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::OtherServer => "this may be another server than you mean",
            Self::OtherHost => "check the host in the URL",
            Self::NamesNoHost => "the server needs a new certificate",
            Self::NotValidNow { clock: Some(clock) } => {
                return write!(
                    f,
                    "the server needs a new one, unless it is this machine whose clock says {clock}"
                );
            }
            Self::NotValidNow { clock: None } => {
                "the server needs a new one, unless it is this machine and its clock"
            }
            Self::SelfSigned => "if the server is yours, give the certificate as one to trust",
            Self::Authority => "where it is the right one, give it as one to trust",
            Self::UnknownAuthority => {
                "an authority of your own is trusted once it is given; a server may also leave out \
                 the certificates between it and its authority, which its owner has to add"
            }
        };
        f.write_str(text)
    }
}

impl From<&'static str> for Hint {
    fn from(text: &'static str) -> Self {
        Self::Other(Cow::Borrowed(text))
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self::Other(Cow::Owned(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_told_in_a_row() {
        let told = |ways| Hint::File(ways).to_string();
        assert_eq!(told(&[Way::GiveDigest]), "give the object's digest");
        assert_eq!(
            told(&[Way::Replace, Way::ChooseOutput]),
            "replace it, or choose another output"
        );
        assert_eq!(
            told(&[Way::GiveDigest, Way::MoveAway, Way::ChooseOutput]),
            "give the object's digest, move the file away, or choose another output"
        );
    }
}
