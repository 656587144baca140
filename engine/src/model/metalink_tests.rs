//! Documents of both versions, and hostile ones.

use super::*;

fn four(inside: &str) -> String {
    format!("<?xml version=\"1.0\"?><metalink xmlns=\"{VERSION_4}\">{inside}</metalink>")
}

fn refused(document: &str) -> String {
    let error = MetalinkFile::parse(document.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.to_string()
}

#[test]
fn a_document_of_version_4_is_read() {
    let digest = "ab".repeat(32);
    let piece = "cd".repeat(20);
    let document = four(&format!(
        "<generator>x</generator>
         <file name=\"pool/a.iso\">
           <identity>a</identity><size>300000</size>
           <hash type=\"md5\">{}</hash>
           <hash type=\"sha-256\"> {digest} </hash>
           <hash type=\"tiger\">00</hash>
           <pieces length=\"262144\" type=\"sha-1\"><hash>{piece}</hash><hash>{piece}</hash></pieces>
           <url location=\"de\" priority=\"2\">http://b/a.iso</url>
           <url priority=\"1\">https://a/a.iso?x=1&amp;y=2</url>
           <url>http://last/a.iso</url>
           <url priority=\"1\">ftp://c/a.iso</url>
           <metaurl mediatype=\"torrent\">http://t/a.torrent</metaurl>
         </file>
         <other xmlns=\"urn:else\"><file name=\"no\"/></other>",
        "00".repeat(16)
    ));
    let files = MetalinkFile::parse(document.as_bytes()).unwrap();
    assert_eq!(files.len(), 1);
    let file = &files[0];
    assert_eq!((file.name.as_str(), file.size_bytes), ("pool/a.iso", Some(300_000)));
    assert_eq!(file.checksum.as_ref().unwrap().to_string(), format!("sha256={digest}"));
    let pieces = file.pieces.as_ref().unwrap();
    assert_eq!((pieces.count(), pieces.piece_bytes()), (2, 262_144));
    assert_eq!(pieces.algorithm(), DigestAlgorithm::Sha1);
    assert_eq!(file.urls, ["https://a/a.iso?x=1&y=2", "http://b/a.iso", "http://last/a.iso"]);
}

#[test]
fn a_document_of_version_3_is_read() {
    let document = format!(
        "<metalink version=\"3.0\" xmlns=\"{VERSION_3}\"><files><file name=\"a\"><size>9</size>
         <verification><hash type=\"sha1\">{}</hash></verification>
         <resources><url type=\"http\" preference=\"10\">http://b/a</url>
         <url type=\"http\" preference=\"90\">http://a/a</url></resources></file></files></metalink>",
        "ab".repeat(20)
    );
    let files = MetalinkFile::parse(document.as_bytes()).unwrap();
    assert_eq!(files[0].urls, ["http://a/a", "http://b/a"]);
    assert_eq!(files[0].checksum.as_ref().unwrap().algorithm(), DigestAlgorithm::Sha1);
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    for name in ["../a", "/etc/passwd", "a/../../b", "", "a/", "a\\b", "a&#10;b", ".."] {
        let document = four(&format!("<file name=\"{name}\"><url>http://a/a</url></file>"));
        assert!(refused(&document).contains("name"), "{name}");
    }
}

#[test]
fn what_is_no_metalink_is_refused_and_says_why() {
    for (document, why) in [
        ("", "no XML"),
        ("<a/>", "root"),
        ("<html><body>login</body></html>", "root"),
        (four("").as_str(), "no file"),
        (four("<file name=\"a\"/>").as_str(), "`a` has no http"),
        (four("<file name=\"a\"><size>x</size><url>http://a/</url></file>").as_str(), "size"),
        (
            four("<file name=\"a\"><pieces length=\"9\" type=\"md5\"/><url>http://a/</url></file>")
                .as_str(),
            "pieces",
        ),
    ] {
        assert!(refused(document).contains(why), "{document}: {}", refused(document));
    }
    assert!(MetalinkFile::parse(b"\xff\xfe").is_err());
    let long = vec![b' '; MAX_METALINK_BYTES + 1];
    assert!(MetalinkFile::parse(&long).unwrap_err().to_string().contains("8 MiB"));
}

#[test]
fn bombs_are_refused_within_bounds() {
    let entities = format!(
        "<!DOCTYPE metalink [<!ENTITY a \"{}\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]>{}",
        "x".repeat(1000),
        "<metalink>&b;</metalink>"
    );
    refused(&entities);
    refused(&four(&"<a/>".repeat(600_000)));
    let deep = format!("{}{}", "<a>".repeat(400_000), "</a>".repeat(400_000));
    refused(&four(&deep));
    refused(&"<a>".repeat(1_000_000));
}
