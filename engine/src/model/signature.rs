//! What the first bytes of a file show it to be, compared with what its name promises.
//!
//! Servers answer with a page, and status 200, where a login is missing, a quota is
//! used up or the object is gone. Such a file is kept under the name that was asked
//! for, but its owner should be told. There are no false alarms: only kinds of
//! files that never begin like text are known here.

/// Enough bytes to tell, even below a licence in a comment.
pub(crate) const READ_BYTES: u64 = 4096;

/// Extensions of files that begin with a signature of their own, by kind. Not `ts`
/// (TypeScript), nor `doc` and `xls`, which are sometimes pages on purpose.
const KINDS: &[(&str, &[&str])] = &[
    (
        "a film",
        &[
            "3gp", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ogv", "webm",
            "wmv",
        ],
    ),
    ("sound", &["aac", "flac", "m4a", "m4b", "mp3", "oga", "ogg", "opus", "wav", "wma"]),
    (
        "an image",
        &[
            "avif", "bmp", "gif", "heic", "ico", "jpeg", "jpg", "jxl", "png", "psd", "tif", "tiff",
            "webp",
        ],
    ),
    (
        "an archive",
        &[
            "7z", "bz2", "cab", "gz", "jar", "lz4", "rar", "tar", "tbz2", "tgz", "txz", "whl",
            "xz", "zip", "zst",
        ],
    ),
    ("a package", &["apk", "appimage", "crx", "deb", "ipa", "msi", "pkg", "rpm", "xpi"]),
    ("a program", &["dll", "exe"]),
    ("an image of a disk", &["dmg", "img", "iso", "qcow2", "vdi", "vhd", "vhdx", "vmdk"]),
    ("a document", &["docx", "epub", "odp", "ods", "odt", "pdf", "pptx", "xlsx"]),
    ("a model", &["gguf", "safetensors"]),
];

/// Media types whose content never begins like text, except the sound, film and
/// image types of [`KINDS`], which have a top level of their own.
const TYPES: &[(&str, &str)] = &[
    ("application/epub+zip", "a document"),
    ("application/gzip", "an archive"),
    ("application/pdf", "a document"),
    ("application/vnd.debian.binary-package", "a package"),
    ("application/x-7z-compressed", "an archive"),
    ("application/x-bzip2", "an archive"),
    ("application/x-gzip", "an archive"),
    ("application/x-iso9660-image", "an image of a disk"),
    ("application/x-rpm", "a package"),
    ("application/x-tar", "an archive"),
    ("application/x-xz", "an archive"),
    ("application/zip", "an archive"),
    ("application/zstd", "an archive"),
];

/// What a file of this name, or of this media type in lower case, must be; `None`
/// where it may be anything.
pub(crate) fn wanted(name: &str, media_type: Option<&str>) -> Option<&'static str> {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let by_name = extension.and_then(|extension| {
        let has = |extensions: &&[&str]| extensions.contains(&extension.as_str());
        KINDS.iter().find(|(_, extensions)| has(extensions)).map(|(kind, _)| *kind)
    });
    by_name.or_else(|| {
        let media_type = media_type?;
        match media_type.split_once('/')? {
            // These are text.
            ("image", "svg+xml") | ("audio" | "video", "mpegurl" | "x-mpegurl") => None,
            ("audio", "x-scpls") | ("video", "mp2t") => None,
            ("image", _) => Some("an image"),
            ("audio", _) => Some("sound"),
            ("video", _) => Some("a film"),
            _ => TYPES.iter().find(|(of, _)| *of == media_type).map(|(_, kind)| *kind),
        }
    })
}

/// Whether a file of this name, or of this media type in lower case, may be a list of
/// the parts of a film.
pub(crate) fn may_be_playlist(name: &str, media_type: Option<&str>) -> bool {
    const TYPES: [&str; 5] = [
        "application/dash+xml",
        "application/vnd.apple.mpegurl",
        "application/x-mpegurl",
        "audio/mpegurl",
        "audio/x-mpegurl",
    ];
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let by_name = extension.is_some_and(|it| ["m3u8", "m3u", "mpd"].contains(&it.as_str()));
    by_name || media_type.is_some_and(|media_type| TYPES.contains(&media_type))
}

/// Which list of the parts of a film begins with these bytes. A list of songs does not
/// count: only HLS has tags of `#EXT-X-`.
pub(crate) fn playlist(first: &[u8]) -> Option<&'static str> {
    let text = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first).trim_ascii_start();
    let holds = |what: &[u8]| text.windows(what.len()).any(|window| window == what);
    if text.starts_with(b"#EXTM3U") && holds(b"#EXT-X-") {
        return Some("an HLS playlist");
    }
    let root = text.starts_with(b"<MPD")
        || (text.starts_with(b"<?xml") || text.starts_with(b"<!--")) && holds(b"<MPD");
    root.then_some("a DASH manifest")
}

/// What a file with these first bytes is, if it is a page, XML, JSON or the like.
pub(crate) fn other_content(first: &[u8]) -> Option<&'static str> {
    // Every second byte of such text in UTF-16 is zero.
    let wide = first.starts_with(&[0xff, 0xfe]) || first.starts_with(&[0xfe, 0xff]);
    let narrow: Vec<u8>;
    let first = if wide {
        narrow = first[2..].iter().copied().filter(|byte| *byte != 0).collect();
        &narrow
    } else {
        first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first)
    };
    let text = first.trim_ascii_start();
    let begins = |with: &str| {
        text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
    };
    let tag = |name: &str| {
        begins(&format!("<{name}"))
            && text.get(name.len() + 1).is_none_or(|next| !next.is_ascii_alphanumeric())
    };
    if text.starts_with(b"<") {
        const PAGES: [&str; 12] = [
            "html", "head", "body", "title", "meta", "script", "style", "div", "p", "h1", "center",
            "table",
        ];
        let holds_page = || {
            let lower = text.to_ascii_lowercase();
            lower.windows(5).any(|window| window == b"<html")
        };
        return if begins("<!doctype html") || PAGES.iter().any(|name| tag(name)) {
            Some("an HTML page")
        } else if begins("<?xml") || begins("<!--") || begins("<!doctype") {
            Some(if holds_page() { "an HTML page" } else { "an XML document" })
        } else if tag("error") {
            Some("an XML document")
        } else {
            None
        };
    }
    if begins("version https://git-lfs.github.com/spec/") {
        return Some("a pointer of Git LFS");
    }
    let inner = text.strip_prefix(b"{").or(text.strip_prefix(b"["))?.trim_ascii_start();
    let opens = inner.first().is_none_or(|byte| b"\"{}[]".contains(byte));
    let is_text = !text.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace());
    (opens && is_text).then_some("JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_the_like_are_known() {
        for (first, found) in [
            (&b"<!DOCTYPE html><html>"[..], "an HTML page"),
            (b"\xef\xbb\xbf \r\n<!doctype HTML PUBLIC", "an HTML page"),
            (b"<html lang=en>", "an HTML page"),
            (b"<HTML>", "an HTML page"),
            (b"<!-- x --><html>", "an HTML page"),
            (b"<?xml version=\"1.0\"?><!DOCTYPE html><html>", "an HTML page"),
            (b"\xff\xfe<\0h\0t\0m\0l\0>\0", "an HTML page"),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied", "an XML document"),
            (b"<Error><Code>", "an XML document"),
            (b"{\"error\": \"denied\"}", "JSON"),
            (b" [ {\"a\":1}]", "JSON"),
            (b"{}", "JSON"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        ] {
            assert_eq!(other_content(first), Some(found), "{}", String::from_utf8_lossy(first));
        }
        for first in [
            &b""[..],
            b"PK\x03\x04",
            b"\x1f\x8b\x08",
            b"\0\0\0\x20ftypisom",
            b"<?",
            b"<hello",
            b"< html",
            b"[\x01\x02",
            b"{\"\x00",
            b"hello",
            b"\xff\xfe",
            b"RIFF",
        ] {
            assert_eq!(other_content(first), None, "{}", String::from_utf8_lossy(first));
        }
    }

    #[test]
    fn lists_of_the_parts_of_a_film_are_known() {
        for (first, found) in [
            (&b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:6"[..], "an HLS playlist"),
            (
                b"\xef\xbb\xbf#EXTM3U\r\n#EXT-X-STREAM-INF:BANDWIDTH=1\r\nlow.m3u8",
                "an HLS playlist",
            ),
            (b"<?xml version=\"1.0\"?>\n<!-- x -->\n<MPD xmlns", "a DASH manifest"),
            (b"<MPD>", "a DASH manifest"),
        ] {
            assert_eq!(playlist(first), Some(found), "{}", String::from_utf8_lossy(first));
        }
        for first in [
            &b"#EXTM3U\n#EXTINF:123,A song\nsong.mp3"[..],
            b"<?xml version=\"1.0\"?><playlist>",
            b"<html><MPD>",
            b"#EXT-X-VERSION:3",
            b"",
        ] {
            assert_eq!(playlist(first), None, "{}", String::from_utf8_lossy(first));
        }
        assert!(
            may_be_playlist("a.M3U8", None) && may_be_playlist("a", Some("application/dash+xml"))
        );
        assert!(
            !may_be_playlist("a.xml", Some("application/xml")) && !may_be_playlist("mpd", None)
        );
    }

    #[test]
    fn only_what_never_begins_like_text_is_wanted() {
        for (name, media_type, kind) in [
            ("a.ISO", None, Some("an image of a disk")),
            ("film.mkv", Some("text/html"), Some("a film")),
            ("a.tar.gz", None, Some("an archive")),
            ("film", Some("video/mp4"), Some("a film")),
            ("a.bin", Some("application/zip"), Some("an archive")),
            ("a.bin", Some("application/octet-stream"), None),
            ("page.html", Some("text/html"), None),
            ("a.svg", Some("image/svg+xml"), None),
            ("list.m3u8", Some("audio/x-mpegurl"), None),
            ("main.ts", Some("video/mp2t"), None),
            ("a.json", Some("application/json"), None),
            ("mp4", None, None),
            ("", None, None),
        ] {
            assert_eq!(wanted(name, media_type), kind, "{name} {media_type:?}");
        }
    }
}
