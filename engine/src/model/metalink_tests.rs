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
fn each_component_of_a_name_is_made_safe() {
    let document = four(
        "<file name=\".config/haul/config.toml\"><url>http://a/a</url></file>
         <file name=\"a.bin\"><url>http://a/a</url></file>",
    );
    let files = MetalinkFile::parse(document.as_bytes()).unwrap();
    assert_eq!(files[0].name, "_.config/haul/config.toml");
    assert!(files[0].notes[0].contains("`.config/haul/config.toml` was made safe"));
    assert_eq!((files[1].name.as_str(), &files[1].notes[..]), ("a.bin", &[][..]));
    // What is made safe may be another one's name, and so may what differs in case alone.
    for (one, two) in [("f.part", "f.part_"), ("a", "./a"), ("a/B", "A/b")] {
        let file = |name| format!("<file name=\"{name}\"><url>http://a/a</url></file>");
        assert!(refused(&four(&(file(one) + &file(two)))).contains("twice"), "{one} {two}");
    }
}

#[test]
fn a_hash_that_cannot_be_checked_is_never_passed_over_in_silence() {
    let of = |inside: &str| {
        let file = format!("<file name=\"a\">{inside}<url>http://a/a</url></file>");
        MetalinkFile::parse(four(&file).as_bytes()).map(|mut files| files.remove(0))
    };
    let (good, short) = ("ab".repeat(32), "ab".repeat(31));
    for bad in [short.as_str(), "", "none", &"xy".repeat(32), &format!("{good} {good}")] {
        let error = of(&format!("<hash type=\"sha-256\">{bad}</hash>")).unwrap_err();
        assert!(error.to_string().contains("no digest of sha256"), "{error}");
    }
    // A weaker one beside a good one is of no use.
    let file = of(&format!("<hash type=\"md5\">?</hash><hash type=\"sha-256\">{good}</hash>"));
    assert!(file.as_ref().unwrap().checksum.is_some() && file.unwrap().notes.is_empty());
    let folded = format!("{}\n {}", &good[..20], &good[20..]);
    assert!(of(&format!("<hash type=\"SHA256\">{folded}</hash>")).unwrap().checksum.is_some());
    let file = of("<hash type=\"sha-384\">00</hash><hash>00</hash>").unwrap();
    assert!(file.notes[0].contains("not verified") && file.notes[0].contains("`sha-384`, `none`"));
    assert!(of("").unwrap().notes.is_empty(), "it promises nothing");
}

#[test]
fn other_encodings_are_read() {
    let text = four("<file name=\"ä\"><url>http://a/a</url></file>");
    let wide: Vec<u8> =
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let narrow: Vec<u8> = text.chars().map(|c| c as u8).collect();
    for bytes in [wide, narrow, format!("\u{feff}{text}").into_bytes()] {
        assert_eq!(MetalinkFile::parse(&bytes).unwrap()[0].name, "ä");
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
