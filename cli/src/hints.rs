//! What can be done about a failure, in the words of this command: the engine's hints with the
//! flags that they mean.

use haul_engine::{CertificateHint, Error, Hint, Way};

/// What it costs to accept any certificate.
const INSECURE: &str =
    "the last way is --insecure, with which anybody on the way can read and change everything";

/// The error's hint.
pub(crate) fn of(error: &Error) -> Option<String> {
    error.hint().map(words)
}

fn words(hint: &Hint) -> String {
    let text = match hint {
        Hint::File(ways) => return either(ways),
        Hint::OutputExists => "choose another output or allow replacing it (--overwrite)",
        Hint::OutputIsDirectory => {
            "choose another output, or give it as the directory to write into (--dir)"
        }
        Hint::TooLarge => "allow more (--max-filesize) if it is wanted all the same",
        Hint::CannotReserve => "this file system has no fallocate: use --file-allocation auto",
        Hint::Altered => {
            "the server, or something before it, alters the data or its digest: download from \
             another place, or give the right --checksum, which counts instead"
        }
        Hint::Certificate(hint) => return format!("{}; {INSECURE}", certificate(hint)),
        Hint::ClientCertificate => {
            "the server wants another client certificate: --cert FILE and --key FILE"
        }
        Hint::Tls => {
            "where a certificate is refused: a private authority is trusted with --cacert FILE; do \
             not continue if the certificate is unexpected"
        }
        Hint::NoSuchHost { host } => {
            return format!(
                "check the spelling of {host} and the network; where names are looked up by a \
                 proxy alone, give that with --proxy URL"
            );
        }
        Hint::ConnectionRefused => {
            "check the port, and whether the server runs: --retry N waits for it; where only a \
             proxy leads there, give that with --proxy URL"
        }
        Hint::Unreachable => {
            "check the network; where only a proxy leads there, give that with --proxy URL"
        }
        Hint::Proxy { .. } => return format!("{hint} with --no-proxy HOST"),
        Hint::NoHttp2 => "leave --http2 out: then it is asked in HTTP/1.1",
        Hint::Downgrade => {
            "--allow-downgrade follows it; anybody on the way can then read and change everything"
        }
        Hint::LoginRefused { .. } => return format!("{hint} with -u"),
        Hint::LinkRefused { output: None } => {
            "the link may have expired or need a login: get a fresh URL, or give -u or -H"
        }
        Hint::LinkRefused { output: Some(output) } => {
            return format!(
                "the link may have expired or need a login: continue with a fresh URL, haul -o \
                 '{}' NEW_URL, or have --refresh-cmd print one; or give -u or -H",
                output.display()
            );
        }
        Hint::BadRequest => "check the URL, and the fields that are sent with -H",
        Hint::AskLess => "the server wants to be asked less: try again later, or with -x 1",
        Hint::ServerFault => "the fault is the server's: try again later, or from a --mirror URL",
        plain => return plain.to_string(),
    };
    text.to_owned()
}

/// The ways in a row, each with its flag: "a, b, or c".
fn either(ways: &[Way]) -> String {
    // After the digest, "it" would be that.
    let it = if ways.first() == Some(&Way::GiveDigest) { "the file" } else { "it" };
    let told = |way: &Way| match way {
        Way::Continue => "continue it if another program began it (-c=always)".to_owned(),
        Way::GiveDigest => "give the object's digest (--checksum)".to_owned(),
        Way::MoveAway => format!("move {it} away"),
        Way::Replace => format!("replace {it} (--overwrite)"),
        plain => plain.to_string(),
    };
    let told: Vec<String> = ways.iter().map(told).collect();
    match &*told {
        [all @ .., last] if !all.is_empty() => format!("{}, or {last}", all.join(", ")),
        few => few.concat(),
    }
}

fn certificate(hint: &CertificateHint) -> String {
    match hint {
        CertificateHint::SelfSigned => {
            "if the server is yours, give the certificate with --cacert FILE".to_owned()
        }
        CertificateHint::Authority => {
            "where it is the right one, give it with --cacert FILE".to_owned()
        }
        CertificateHint::UnknownAuthority => {
            "an authority of your own is trusted with --cacert FILE; a server may also leave out \
             the certificates between it and its authority, which its owner has to add"
                .to_owned()
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_have_their_flags() {
        for (ways, told) in [
            (&[Way::GiveDigest][..], "give the object's digest (--checksum)"),
            (
                &[Way::Continue, Way::Replace, Way::ChooseOutput],
                "continue it if another program began it (-c=always), replace it (--overwrite), or \
                 choose another output",
            ),
            (
                &[Way::GiveDigest, Way::Replace, Way::ChooseOutput],
                "give the object's digest (--checksum), replace the file (--overwrite), or choose \
                 another output",
            ),
            (
                &[Way::GiveDigest, Way::MoveAway, Way::ChooseOutput],
                "give the object's digest (--checksum), move the file away, or choose another \
                 output",
            ),
            (
                &[Way::LetAria2Complete, Way::Replace, Way::ChooseOutput],
                "let aria2c complete it, replace it (--overwrite), or choose another output",
            ),
            (&[Way::MoveAway, Way::ChooseOutput], "move it away, or choose another output"),
        ] {
            assert_eq!(words(&Hint::File(ways)), told);
        }
    }

    #[test]
    fn what_follows_the_engines_words_fits_them() {
        let login = |schemes: &[&str]| {
            let schemes = schemes.iter().map(|&scheme| scheme.to_owned()).collect();
            words(&Hint::LoginRefused { schemes })
        };
        assert_eq!(
            login(&[]),
            "the server refuses the login that it was given: give another with -u"
        );
        assert_eq!(
            login(&["Basic", "Digest"]),
            "the server, which takes Basic, Digest, refuses the login that it was given: give \
             another with -u"
        );
        assert_eq!(
            words(&Hint::Proxy { chosen_by: None }),
            "correct it, or leave the proxy out for this host with --no-proxy HOST"
        );
    }
}
