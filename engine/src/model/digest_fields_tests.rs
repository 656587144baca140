use http::header::{HeaderName, HeaderValue};

use super::*;

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// Of the object, as `FIELD ALGO`, or nothing.
fn object(fields: &[(&str, &str)], partial: bool) -> String {
    let found = read(&headers(fields), partial).object;
    found.map_or_else(String::new, |digest| {
        format!("{} {}", digest.field, digest.checksum.algorithm())
    })
}

// RFC 9530 appendix A and B: `{"hello": "world"}` and a newline, and a part of it.
const HELLO: &str = "RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=";
const HELLO_HEX: &str = "44aff4ab2d7c3250525675a08f0cfa9591168cffe51791c5f5bbc417c15a6c38";
const WORLD: &str = "jjcgBDWNAtbYUXI37CVG3gRuGOAjaaDRGpIUFsdyepQ=";
const MD5: &str = "sQqNsWTgdUEFt6mb5y4/5Q==";
const SHA1: &str = "Ck1VqNd45QIvq3AZd8XYQLvEhtA=";
const SHA512: &str = "LHT9F+2v2A6ER7DUZ0HuJDt+t03SFJoKsbkkb7MDgvJ+hT2FhXGeDmfL2g2qj1FnEGRhXWRa4nrL\
                      Fb+xRH9Fmw==";

#[test]
fn digests_of_rfc_9530_are_read_as_its_examples_say() {
    let repr = format!("sha-256=:{HELLO}:");
    let found = read(&headers(&[("Repr-Digest", &repr)]), true);
    let digest = found.object.unwrap();
    assert_eq!(digest.to_string(), format!("sha256={HELLO_HEX} in the server's Repr-Digest"));
    assert_eq!((found.part, found.md5), (None, None));

    // Appendix B.3: a part has a digest of its own, the whole keeps its one.
    let content = format!("sha-256=:{WORLD}:");
    let fields = [("Content-Digest", content.as_str()), ("Repr-Digest", &repr)];
    let found = read(&headers(&fields), true);
    assert_eq!(found.object.unwrap().field, "Repr-Digest");
    let part = found.part.unwrap();
    assert_eq!(STANDARD.encode(part.checksum.digest()), WORLD);
    // In a 200 the content is the object.
    let found = read(&headers(&fields[..1]), false);
    assert_eq!(found.object.unwrap().field, "Content-Digest");
    assert_eq!(found.part, None);
}

#[test]
fn strongest_known_algorithm_wins_wherever_it_is() {
    let (sha256, sha512) = (format!("sha-256=:{HELLO}:"), format!("sha-512=:{SHA512}:"));
    let both = format!("unixsum=:AAAA:, {sha256}, {sha512}");
    for (fields, expected) in [
        (vec![("repr-digest", both.as_str())], "Repr-Digest sha512"),
        (vec![("repr-digest", &sha256), ("repr-digest", &sha512)], "Repr-Digest sha512"),
        (vec![("repr-digest", &sha256), ("digest", &format!("SHA-512={SHA512}"))], "Digest sha512"),
        (
            vec![("repr-digest", &sha256), ("digest", &format!("SHA-256={HELLO}"))],
            "Repr-Digest sha256",
        ),
        (vec![("repr-digest", &format!("sha=:{SHA1}:,md5=:{MD5}:"))], "Repr-Digest sha1"),
        (vec![("digest", &format!("md5={MD5}, sha={SHA1},adler32=03da0195"))], "Digest sha1"),
        (
            vec![("x-goog-hash", "crc32c=n03x6A=="), ("x-goog-hash", &format!("md5={MD5}"))],
            "x-goog-hash md5",
        ),
        (vec![("x-goog-hash", &format!("crc32c=n03x6A==,md5={MD5}"))], "x-goog-hash md5"),
        (
            vec![("x-amz-checksum-sha1", SHA1), ("x-amz-checksum-sha256", HELLO)],
            "x-amz-checksum-sha256 sha256",
        ),
        (
            vec![("x-amz-checksum-sha1", SHA1), ("x-amz-checksum-type", "FULL_OBJECT")],
            "x-amz-checksum-sha1 sha1",
        ),
    ] {
        for partial in [true, false] {
            assert_eq!(object(&fields, partial), expected, "{fields:?}");
        }
    }
    assert_eq!(object(&[("content-md5", MD5)], false), "Content-MD5 md5");
    assert_eq!(object(&[("content-md5", MD5)], true), "");
    assert_eq!(read(&headers(&[("content-md5", MD5)]), true).md5.unwrap().field, "Content-MD5");
}

#[test]
fn unknown_and_malformed_digests_are_ignored() {
    let unpadded = HELLO.trim_end_matches('=');
    for value in [
        "",
        ",",
        "=",
        "sha-256",
        "sha-256=",
        "sha-256=::",
        "sha-256=:",
        "sha-999=:AAAA:",
        "sha-256=?1",
        "sha-256=\"x\"",
        "sha-256=(:AAAA:)",
        &format!("sha-256={HELLO}"),
        &format!("sha-256=:{unpadded}:"),
        &format!("sha-256=:{HELLO}"),
        &format!("sha-256=: {HELLO}:"),
        &format!("SHA-256=:{HELLO}:"),
        &format!("sha-512=:{HELLO}:"),
        &format!("sha-256=:{}:", HELLO.replace('/', "_")),
        &format!("sha-256=:{}:", HELLO.replace('K', "*")),
    ] {
        assert_eq!(object(&[("repr-digest", value)], true), "", "{value}");
        assert_eq!(read(&headers(&[("content-digest", value)]), true), FieldDigests::default());
    }
    let later = format!("sha-512=:{HELLO}:, a=\"x, y\", b, sha-256=:{HELLO}:;p=1");
    assert_eq!(object(&[("repr-digest", &later)], true), "Repr-Digest sha256");
    for (field, value) in [
        ("digest", format!("SHA-256=:{HELLO}:")),
        ("digest", format!("SHA-256={unpadded}")),
        ("digest", format!("id-sha-256={HELLO}")),
        ("digest", format!("SHA-256={HELLO_HEX}")),
        ("content-md5", HELLO.to_owned()),
        ("content-md5", "b10a8db164e0754105b7a99be72e3fe5".to_owned()),
        ("x-goog-hash", "crc32c=n03x6A==".to_owned()),
        ("x-amz-checksum-sha256", format!("{HELLO}-3")),
        ("x-amz-checksum-sha256", MD5.to_owned()),
    ] {
        for partial in [true, false] {
            let fields = [(field, value.as_str())];
            assert_eq!(read(&headers(&fields), partial), FieldDigests::default(), "{fields:?}");
        }
    }
    let composite = [("x-amz-checksum-sha256", HELLO), ("x-amz-checksum-type", "COMPOSITE")];
    assert_eq!(object(&composite, false), "");
    let mut twice = headers(&[("content-md5", MD5), ("content-md5", MD5)]);
    assert_eq!(read(&twice, false), FieldDigests::default());
    twice.insert("repr-digest", HeaderValue::from_bytes(b"sha-256=:\xff:").unwrap());
    assert_eq!(read(&twice, false), FieldDigests::default());
}

#[test]
fn last_of_equal_keys_counts() {
    let value = format!("sha-256=:{WORLD}:, sha-256=:{HELLO}:");
    let found = read(&headers(&[("repr-digest", &value)]), true).object.unwrap();
    assert_eq!(STANDARD.encode(found.checksum.digest()), HELLO);
}

#[test]
fn coded_objects_are_held_to_what_is_defined_of_coded_bytes() {
    let repr = format!("sha-256=:{HELLO}:");
    let gzip = ("content-encoding", "gzip");
    assert_eq!(object(&[gzip, ("repr-digest", &repr)], true), "Repr-Digest sha256");
    assert_eq!(object(&[gzip, ("content-digest", &repr)], false), "Content-Digest sha256");
    for (field, value) in [
        ("digest", format!("SHA-256={HELLO}")),
        ("content-md5", MD5.to_owned()),
        ("x-goog-hash", format!("md5={MD5}")),
        ("x-amz-checksum-sha256", HELLO.to_owned()),
    ] {
        assert_eq!(object(&[gzip, (field, &value)], false), "", "{field}");
        let plain = ("content-encoding", "identity");
        assert_ne!(object(&[plain, (field, &value)], false), "", "{field}");
    }
    // Decoded on the way: the hash is of what is stored.
    let goog = format!("md5={MD5}");
    let fields = [("x-goog-stored-content-encoding", "gzip"), ("x-goog-hash", &goog)];
    assert_eq!(object(&fields, false), "");
    let fields = [("x-goog-stored-content-encoding", "identity"), ("x-goog-hash", &goog)];
    assert_eq!(object(&fields, false), "x-goog-hash md5");
}
