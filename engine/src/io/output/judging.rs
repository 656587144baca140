//! Whether what an earlier run left is of the object that is asked for.

use url::Url;

use super::Request;
use crate::config::Resume;
use crate::io::url_proof::Proof;
use crate::model::checkpoint::{Checkpoint, Claim, Match, UrlIdentity};

/// What becomes of an earlier run's checkpoint.
pub(super) enum Sifted {
    /// It is of this object, and names this URL.
    Counts(Box<Checkpoint>),
    /// It is if this holds.
    Prove(Proof),
    /// It is not, for this reason.
    Refused(String),
}

/// Judges the checkpoint of what `what` calls, which may have been `proven` to have
/// the bytes of this URL, or others.
pub(super) fn sift(
    request: &Request,
    mut checkpoint: Checkpoint,
    proven: Option<bool>,
    what: &str,
) -> Sifted {
    match (judge(request, &checkpoint, what), proven) {
        (Ok(true), _) => Sifted::Counts(Box::new(checkpoint)),
        (Ok(false), Some(true)) => {
            checkpoint.identity = identity(request, checkpoint.identity.salt);
            request.url.host_str().unwrap_or_default().clone_into(&mut checkpoint.host);
            Sifted::Counts(Box::new(checkpoint))
        }
        (Ok(false), Some(false)) => {
            Sifted::Refused(format!("{what} is of another URL that has other bytes"))
        }
        // One segment of parts may be of several: they are not fetched for a proof.
        (Ok(false), None) if checkpoint.selected.is_some() => {
            Sifted::Refused(format!("{what} is of another URL"))
        }
        (Ok(false), None) => match Proof::of(&checkpoint) {
            Some(proof) => Sifted::Prove(proof),
            None => {
                Sifted::Refused(format!("{what} is of another URL and has no segment with a hash"))
            }
        },
        (Err(why), _) => Sifted::Refused(why),
    }
}

/// Whether the checkpoint is of this object; `false` where that must be proven.
/// The error says why it is not.
fn judge(request: &Request, checkpoint: &Checkpoint, what: &str) -> Result<bool, String> {
    if !request.resource.ranges {
        return Err("the server gives no byte ranges".to_owned());
    }
    if checkpoint.selected != request.selected {
        return Err(format!("{what} has other bytes of the object"));
    }
    let claim = Claim {
        same_url: is_of(&checkpoint.identity, &request.url),
        digest: request.has_digest,
        always: request.resume == Resume::Always,
    };
    match checkpoint.matches(&request.resource, claim) {
        Match::Same => Ok(true),
        Match::Prove => Ok(false),
        Match::Different(why) => Err(why),
    }
}

pub(super) fn identity(request: &Request, salt: [u8; 16]) -> UrlIdentity {
    let (scheme, host, port, path) = place_of(&request.url);
    UrlIdentity::new(salt, scheme, host, port, path)
}

/// Whether the identity is that of this URL, whatever its query.
pub(crate) fn is_of(identity: &UrlIdentity, url: &Url) -> bool {
    let (scheme, host, port, path) = place_of(url);
    identity.matches(scheme, host, port, path)
}

/// What an identity is made of.
fn place_of(url: &Url) -> (&str, &str, u16, &str) {
    let host = url.host_str().unwrap_or_default();
    (url.scheme(), host, url.port_or_known_default().unwrap_or(0), url.path())
}
