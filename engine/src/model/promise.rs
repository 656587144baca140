//! How large an object is likely to be, by its name alone, before any request.

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// A page, a picture, a list: one response is most likely all of it.
    Small,
    /// The name does not tell.
    Unknown,
    /// A film, an archive, an image of a disk.
    Large,
}

/// Extensions of files that are seldom smaller than a few MiB.
const LARGE: [&str; 46] = [
    "7z",
    "aab",
    "apk",
    "appimage",
    "avi",
    "bz2",
    "ckpt",
    "deb",
    "dmg",
    "exe",
    "flac",
    "flv",
    "gguf",
    "gz",
    "h5",
    "img",
    "ipa",
    "iso",
    "jar",
    "m4v",
    "mkv",
    "mov",
    "mp4",
    "mpg",
    "msi",
    "onnx",
    "ova",
    "parquet",
    "pkg",
    "pt",
    "pth",
    "qcow2",
    "rar",
    "rpm",
    "safetensors",
    "tar",
    "tgz",
    "ts",
    "vhdx",
    "vmdk",
    "webm",
    "whl",
    "wmv",
    "xz",
    "zip",
    "zst",
];

/// Extensions of files that are seldom larger than one.
const SMALL: [&str; 36] = [
    "asc", "atom", "css", "gif", "htm", "html", "ico", "jpeg", "jpg", "js", "json", "m3u8", "md",
    "md5", "meta4", "metalink", "mjs", "mpd", "png", "rss", "sha1", "sha256", "sha512", "sig",
    "srt", "svg", "toml", "torrent", "txt", "vtt", "webp", "xhtml", "xml", "yaml", "yml", "zsync",
];

/// What the last component of a URL's path promises.
#[must_use]
pub fn of_path(url_path: &str) -> Promise {
    let name = url_path.rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        return Promise::Small;
    }
    let Some((_, extension)) = name.rsplit_once('.') else { return Promise::Unknown };
    let extension = extension.to_ascii_lowercase();
    match extension.as_str() {
        it if LARGE.contains(&it) => Promise::Large,
        it if SMALL.contains(&it) => Promise::Small,
        _ => Promise::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_promises_what_its_extension_is_used_for() {
        for (path, promise) in [
            ("/film.MP4", Promise::Large),
            ("/a.b/linux-6.1.tar.xz", Promise::Large),
            ("/", Promise::Small),
            ("/docs/", Promise::Small),
            ("/index.html", Promise::Small),
            ("/release-1.2", Promise::Unknown),
            ("/download", Promise::Unknown),
            ("", Promise::Small),
        ] {
            assert_eq!(of_path(path), promise, "{path}");
        }
    }
}
