use proptest::prelude::*;

use super::*;

/// The name by a field and the path of a URL that did not redirect.
fn file_name(disposition: Option<&str>, content_type: Option<&str>, path: &str) -> SafeName {
    super::file_name(disposition, content_type, path, path)
}

#[test]
fn after_a_redirect_the_name_that_says_more_counts() {
    for (asked, answered, name) in [
        ("/files/tool-1.2.tar.gz/download", "/mirror/tool-1.2.tar.gz", "tool-1.2.tar.gz"),
        ("/dl.php", "/tool.zip", "tool.zip"),
        ("/latest/", "/tool.zip", "tool.zip"),
        ("/", "/tool.zip", "tool.zip"),
        ("/", "/tool", "tool"),
        ("/release-1.2", "/tool.zip", "tool.zip"),
        ("/tool.zip", "/tool-1.2.zip", "tool.zip"),
        ("/tool", "/0a1b2c", "tool"),
        ("/tool", "/view.aspx", "tool"),
        ("/dl.php", "/0a1b2c", "dl.php"),
        ("/a%20film.mkv", "/x.bin", "a film.mkv"),
        ("/get", "/..%2f.bashrc", "_.bashrc"),
        ("/get", "/..%2f.x.mkv", "_.x.mkv"),
        ("/", "/", "download"),
    ] {
        let named = super::file_name(None, None, asked, answered);
        assert_eq!(named.name, name, "{asked} {answered}");
    }
}

#[test]
fn the_url_names_what_has_no_disposition() {
    for (path, name, changed) in [
        ("/a/b.iso", "b.iso", false),
        ("/a/b.iso/", "b.iso", false),
        ("/a%20b.iso", "a b.iso", false),
        ("/100%", "100%", false),
        ("/%zz%4", "%zz%4", false),
        ("/", "download", false),
        ("", "download", false),
        ("/a%2Fb", "b", true),
        ("/%2e%2e%2f", "download", true),
        ("/%2e%2e", "download", true),
        ("/a%5Cb", "b", true),
        ("/%ff.iso", "ÿ.iso", true),
        ("/a%00b", "ab", true),
    ] {
        let expected = SafeName { name: name.to_owned(), changed };
        assert_eq!(file_name(None, None, path), expected, "{path:?}");
    }
}

#[test]
fn what_the_server_names_stays_in_the_directory() {
    for (given, name) in [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..\\\\..\\\\boot.ini", "boot.ini"),
        ("C:\\\\x", "x"),
        ("..", "download"),
        (".", "download"),
        ("a/", "download"),
        ("...", "download"),
        (".bashrc", "_.bashrc"),
        ("-rf", "_-rf"),
        (" .x", "_.x"),
        ("\u{202e}.x", "_.x"),
        ("gpj\u{202e}.exe", "gpj.exe"),
        ("a\u{1b}[31mb\u{9b}c", "a[31mbc"),
        ("a. .", "a"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("Com7 .x", "_Com7 .x"),
        ("com10", "com10"),
        ("console", "console"),
        ("x.part", "x.part_"),
        ("x.HAUL", "x.HAUL_"),
        ("x.hau~", "x.hau~_"),
        ("\u{feff}.x", "_.x"),
        ("x.part.", "x.part_"),
        ("x.par\u{7}t", "x.part_"),
    ] {
        let safe = file_name(Some(&format!("attachment; filename=\"{given}\"")), None, "/u");
        assert_eq!(safe.name, name, "{given:?}");
        assert_eq!(safe.changed, name != given, "{given:?}");
    }
}

#[test]
fn a_long_name_is_cut_before_its_extension() {
    let safe = file_name(None, None, &format!("/{}.tar.gz", "é".repeat(200)));
    assert_eq!(safe, SafeName { name: format!("{}.gz", "é".repeat(121)), changed: true });
    let safe = file_name(None, None, &format!("/{}.gzip", "é".repeat(200)));
    assert_eq!(safe.name.len(), 245, "{}", safe.name);
    let safe = file_name(None, None, &format!("/{}.tgz", "é".repeat(200)));
    assert_eq!(safe.name.len(), 244, "no half character");
    let safe = file_name(None, None, &format!("/{}", "x".repeat(246)));
    assert_eq!(safe.name, "x".repeat(245));
    let fits = "y".repeat(245);
    assert_eq!(file_name(None, None, &fits), SafeName { name: fits, changed: false });
    let ours = format!("{}.part{}", "x".repeat(240), "y".repeat(100));
    assert_eq!(file_name(None, None, &ours).name, format!("{}.par_", "x".repeat(240)));
    let device = format!("CON{}x.txt", " ".repeat(300));
    assert_eq!(file_name(None, None, &device).name, "_CON.txt");
}

#[test]
fn terminal_escapes() {
    assert_eq!(escape_for_terminal("na\u{ef}ve \u{1f600}"), "na\u{ef}ve \u{1f600}");
    assert_eq!(escape_for_terminal("\u{1b}]0;x\u{7}\r\n"), "\\u{1b}]0;x\\u{7}\\u{d}\\u{a}");
    assert_eq!(escape_for_terminal("a\u{202e}b\u{2066}\u{9b}"), "a\\u{202e}b\\u{2066}\\u{9b}");
}

#[test]
fn text_in_a_sentence_is_brief() {
    assert_eq!(brief(&"é".repeat(80)), "é".repeat(80));
    assert_eq!(brief(&"é".repeat(81)), format!("{}…", "é".repeat(80)));
    assert_eq!(brief("\u{1b}"), "\\u{1b}");
}

#[test]
fn each_component_of_a_path_is_made_safe() {
    for (given, name) in [
        ("a.iso", "a.iso"),
        ("pool/a.iso", "pool/a.iso"),
        ("./pool//a.iso", "pool/a.iso"),
        (".config/haul/config.toml", "_.config/haul/config.toml"),
        ("a/.bash_profile", "a/_.bash_profile"),
        ("-rf", "_-rf"),
        ("f.bin.part", "f.bin.part_"),
        ("f.haul/f.hau~", "f.haul_/f.hau~_"),
        ("gpj\u{202e}.exe", "gpj.exe"),
        ("\u{202e}/x", "download/x"),
        (" . ./.../x", "download/download/x"),
        ("con/nul.txt", "_con/_nul.txt"),
    ] {
        let expected = SafeName { name: name.to_owned(), changed: name != given };
        assert_eq!(safe_path(given), Some(expected), "{given:?}");
    }
    for given in ["", ".", "./", "/a", "a/", "..", "a/../b", "a/..", "a\\b", "a\nb", "a\0"] {
        assert_eq!(safe_path(given), None, "{given:?}");
    }
}

fn assert_safe(name: &str) {
    assert!(!name.is_empty() && name.len() <= 245, "{name:?}");
    assert!(!name.contains(['/', '\\', '\0']), "{name:?}");
    assert!(!name.starts_with(['.', '-']), "{name:?}");
    assert!(!name.ends_with(['.', ' ']), "{name:?}");
    assert_eq!(escape_for_terminal(name), name);
    let lower = name.to_ascii_lowercase();
    assert!(!lower.ends_with(".part") && !lower.ends_with(".haul"), "{name:?}");
}

proptest! {
    #[test]
    fn any_disposition_gives_a_safe_name(
        value in any::<String>(),
        shape in "(attachment;)? ?filename\\*?=(UTF-8'')?\"?[%2eEfF./\\\\ a-z\"\u{202e}-]{0,300}",
        path in "[/%a-z0-9. -]{0,300}",
    ) {
        assert_safe(&file_name(Some(&value), None, &path).name);
        assert_safe(&file_name(Some(&shape), None, &path).name);
        assert_safe(&file_name(None, None, &path).name);
        assert_safe(&file_name(None, None, &value).name);
    }

    #[test]
    fn a_safe_name_is_left_alone(value in any::<String>()) {
        let once = file_name(None, None, &value.replace('%', "")).name;
        prop_assert_eq!(make_safe(&once), once);
    }
}

#[test]
fn a_name_without_an_extension_gets_that_of_its_type() {
    for (disposition, kind, path, name) in [
        (None, "video/mp4", "/film", "film.mp4"),
        (None, "Video/MP4; codecs=x", "/film/", "film.mp4"),
        (Some("attachment; filename=a"), "application/zip", "/b.c", "a.zip"),
        (None, "video/mp4", "/film.bin", "film.bin"),
        (None, "application/zip", "/release-1.2", "release-1.2"),
        (None, "text/html", "/film", "film"),
        (None, "application/octet-stream", "/film", "film"),
        (None, "video/mp4", "/", "download.mp4"),
    ] {
        let safe = file_name(disposition, Some(kind), path);
        assert_eq!(safe, SafeName { name: name.to_owned(), changed: false });
        if disposition.is_none() {
            assert!(possible_names(path).any(|possible| possible == name), "{path}");
        }
    }
    let long = file_name(None, Some("video/mp4"), &format!("/{}", "x".repeat(245))).name;
    assert!(long.len() <= 245 && long.ends_with("x.mp4"), "{long}");
}
