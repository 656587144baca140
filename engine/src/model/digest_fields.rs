//! Digests in the fields of a response: `Repr-Digest` and `Content-Digest` (RFC
//! 9530), `Digest` (RFC 3230), `Content-MD5` (RFC 1864), and those of two large
//! object stores.
//!
//! A field that cannot be read, or whose algorithm is unknown, counts as
//! missing: it proves nothing, and nothing is refused because of it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use crate::model::config::{Checksum, DigestAlgorithm};

/// A digest from a field of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDigest {
    /// The field's name, as it is usually written.
    pub field: &'static str,
    /// What the bytes must hash to.
    pub checksum: Checksum,
}

impl fmt::Display for FieldDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the server's {}", self.checksum, self.field)
    }
}

/// The digests in the fields of one response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldDigests {
    /// Of the whole object, as it is stored.
    pub object: Option<FieldDigest>,
    /// Of this response's part of it (RFC 9530 section 2).
    pub part: Option<FieldDigest>,
    /// Of this response's part, or, with some servers, of the whole object: that
    /// ambiguity is why HTTP dropped the field (RFC 7231 appendix B).
    pub md5: Option<FieldDigest>,
}

/// Reads the fields of a response that is a 206 (`partial`) or a 200.
///
/// The strongest algorithm counts. For a coded object only the fields of RFC
/// 9530 count, which are defined as digests of the coded bytes; an intermediary
/// that adds a coding leaves the older fields as they were.
#[must_use]
pub fn read(headers: &HeaderMap, partial: bool) -> FieldDigests {
    let coding = all(headers, "content-encoding");
    let coded = coding.as_deref().is_some_and(|coding| {
        coding.split(',').any(|name| !name.trim().eq_ignore_ascii_case("identity"))
    });
    let repr = dictionary(headers, "Repr-Digest");
    let content = dictionary(headers, "Content-Digest");
    let mut object = vec![repr];
    let mut md5 = None;
    if !coded {
        object.extend([instance(headers), amazon(headers), google(headers)]);
        md5 = content_md5(headers);
    }
    if partial {
        return FieldDigests { object: strongest(object), part: content, md5 };
    }
    // The content is the whole object.
    object.extend([content, md5]);
    FieldDigests { object: strongest(object), ..FieldDigests::default() }
}

fn strongest(found: impl IntoIterator<Item = Option<FieldDigest>>) -> Option<FieldDigest> {
    let strength = |digest: &FieldDigest| match digest.checksum.algorithm() {
        DigestAlgorithm::Sha512 => 4,
        DigestAlgorithm::Sha256 | DigestAlgorithm::Blake3 => 3,
        DigestAlgorithm::Sha1 | DigestAlgorithm::GitBlob { .. } => 2,
        DigestAlgorithm::Md5 => 1,
    };
    // The first of the strongest ones; `max_by_key` would take the last.
    found.into_iter().flatten().reduce(
        |best, next| {
            if strength(&next) > strength(&best) { next } else { best }
        },
    )
}

/// A dictionary of byte sequences (RFC 8941 sections 3.2 and 3.3.5), such as
/// `sha-256=:BASE64:`. If a key occurs twice, the last one counts.
fn dictionary(headers: &HeaderMap, field: &'static str) -> Option<FieldDigest> {
    let all = all(headers, field)?;
    let members = all.split(',').rev().map(|member| {
        let (key, value) = member.trim().split_once('=')?;
        let value = value.split_once(';').map_or(value, |(value, _)| value);
        let coded = value.trim_end().strip_prefix(':')?.strip_suffix(':')?;
        decoded(field, algorithm(key)?, coded)
    });
    strongest(members)
}

/// `Digest: SHA-256=BASE64,MD5=BASE64` (RFC 3230 section 4.3.2).
fn instance(headers: &HeaderMap) -> Option<FieldDigest> {
    let all = all(headers, "Digest")?;
    strongest(all.split(',').map(|member| {
        let (name, coded) = member.trim().split_once('=')?;
        decoded("Digest", algorithm(&name.to_ascii_lowercase())?, coded)
    }))
}

fn algorithm(key: &str) -> Option<DigestAlgorithm> {
    Some(match key {
        "sha-512" => DigestAlgorithm::Sha512,
        "sha-256" => DigestAlgorithm::Sha256,
        "sha" => DigestAlgorithm::Sha1,
        "md5" => DigestAlgorithm::Md5,
        _ => return None,
    })
}

/// For an object of several parts these are digests of digests: then they end
/// in `-N`, which is no Base64, or their type says so.
fn amazon(headers: &HeaderMap) -> Option<FieldDigest> {
    if all(headers, "x-amz-checksum-type").is_some_and(|kind| kind.trim() != "FULL_OBJECT") {
        return None;
    }
    let found = |field, algorithm| decoded(field, algorithm, all(headers, field)?.trim());
    strongest([
        found("x-amz-checksum-sha256", DigestAlgorithm::Sha256),
        found("x-amz-checksum-sha1", DigestAlgorithm::Sha1),
    ])
}

/// A digest of the object as it is stored. It was decoded on the way if its
/// stored coding is not the one of the response, or if a field says so.
fn google(headers: &HeaderMap) -> Option<FieldDigest> {
    let stored = all(headers, "x-goog-stored-content-encoding");
    let told = |field| all(headers, field).is_some_and(|told| told.contains("gunzipped"));
    if stored.is_some_and(|stored| stored.trim() != "identity")
        || told("x-guploader-response-body-transformations")
        || told("warning")
    {
        return None;
    }
    let all = all(headers, "x-goog-hash")?;
    strongest(all.split(',').map(|member| {
        let coded = member.trim().strip_prefix("md5=")?;
        decoded("x-goog-hash", DigestAlgorithm::Md5, coded)
    }))
}

fn content_md5(headers: &HeaderMap) -> Option<FieldDigest> {
    decoded("Content-MD5", DigestAlgorithm::Md5, all(headers, "Content-MD5")?.trim())
}

fn decoded(field: &'static str, algorithm: DigestAlgorithm, coded: &str) -> Option<FieldDigest> {
    let digest = STANDARD.decode(coded).ok()?;
    let checksum = Checksum::new(algorithm, digest).ok()?;
    Some(FieldDigest { field, checksum })
}

/// All values of a field, joined; `None` without any, or when one is not text.
fn all(headers: &HeaderMap, field: &str) -> Option<String> {
    let values = headers.get_all(field).iter().map(|value| value.to_str().ok());
    let values: Vec<&str> = values.collect::<Option<_>>()?;
    (!values.is_empty()).then(|| values.join(","))
}

#[cfg(test)]
#[path = "digest_fields_tests.rs"]
mod tests;
