use std::ffi::OsString;

use haul_engine::{Existing, Foreign, Resume, StorageKind};

use super::*;
use crate::args::{self, Command};

fn resolve(words: &[&str]) -> Result<GetPlan, Failure> {
    let words = std::iter::once("haul").chain(words.iter().copied()).map(OsString::from);
    match args::parse(words).unwrap() {
        Command::Get(args) => resolve_get(args),
        other => panic!("not a get: {other:?}"),
    }
}

fn refused(words: &[&str]) -> String {
    let failure = resolve(words).unwrap_err();
    assert_eq!(failure.exit, 2, "{words:?}");
    format!("{}\n{}", failure.message, failure.hint.unwrap_or_default())
}

#[test]
fn impossible_combinations_name_both() {
    let two = ["http://h/a", "http://h/b"];
    let text = refused(&[&["-o", "f"], &two[..]].concat());
    assert!(text.contains("--output") && text.contains("several URLs"), "{text}");
    let digest = "ab".repeat(32);
    let text = refused(&[&["--checksum", digest.as_str()], &two[..]].concat());
    assert!(text.contains("--checksum") && text.contains("several URLs"), "{text}");
    let text = refused(&["--json", "--progress", "bar", two[0]]);
    assert!(text.contains("--json") && text.contains("--progress bar"), "{text}");
    let text = refused(&["-q", "--progress=plain", two[0]]);
    assert!(text.contains("--quiet") && text.contains("--progress plain"), "{text}");
}

#[test]
fn words_that_are_no_urls_get_a_hint() {
    let text = refused(&["example.com/file"]);
    assert!(text.contains("not a URL") && text.contains("https://example.com/file"), "{text}");
    assert!(refused(&["localhost:8080/file"]).contains("https://localhost:8080/file"));
    assert!(refused(&["-q", "play"]).contains("haul play"));
    assert!(refused(&["-q", "bench"]).contains("haul bench"));
    assert!(refused(&["ftp://h/f"]).contains("ftp://h"));
    assert!(refused(&["http://"]).contains("not a URL"));
    assert!(refused(&["http://h/a\r\nHost: x"]).contains("control"));
    assert!(resolve(&["HTTP://h/a b"]).is_ok());
}

#[test]
fn what_was_meant_is_in_the_hint() {
    for (text, hint) in [
        ("http:/example.org/x", "write http://example.org/x"),
        ("https:example.org/x", "write https://example.org/x"),
        ("http//example.org", "write http://example.org"),
        ("htp://example.org/x", "write http://example.org/x"),
        ("ttps://example.org/x", "write https://example.org/x"),
        ("HTTPSS://example.org/x", "write https://example.org/x"),
        ("https;//example.org/x", "write https://example.org/x"),
        ("https:\\\\example.org\\x", "write https://example.org/x"),
        ("//example.org/x", "write https://example.org/x"),
        ("http://https://example.org/x", "write https://example.org/x"),
        ("view-source:https://example.org/x", "write https://example.org/x"),
        ("'example.org/x'", "https://'example.org/x'"),
        ("magnet:?xt=urn:btih:hunter2", "aria2c"),
        ("film.torrent", "BitTorrent"),
        ("ftp://example.org/x", "curl"),
        ("sftp://example.org/x", "scp"),
        ("file:///etc/hosts", "cp copies"),
        ("s3://bucket/key", "aws s3 presign"),
        ("blob:https://example.org/hunter2", "network tools"),
        ("-", "haul -i -"),
    ] {
        let said = refused(&[text]);
        assert!(said.contains(hint) && !said.contains("hunter2"), "{text}: {said}");
    }
}

#[test]
fn blanks_and_quotes_around_a_url_are_taken_off_and_told() {
    for text in [" https://h/a ", "'https://h/a'", "\u{201c}https://h/a\u{201d}", "<https://h/a>\n"]
    {
        let plan = resolve(&[text]).unwrap();
        assert_eq!(plan.urls, ["https://h/a"], "{text:?}");
        assert!(plan.warnings[0].contains("taken off"), "{:?}", plan.warnings);
    }
    assert!(resolve(&["https://h/a'b"]).unwrap().warnings.is_empty());
}

#[test]
fn no_secret_is_quoted() {
    let text = refused(&["sftp://me:hunter2@h/f?sig=hunter2"]);
    assert!(!text.contains("hunter2") && text.contains("sftp://h"), "{text}");
    for text in [
        "h/f?sig=hunter2",
        "me:hunter2@h/f",
        "h/?next=http://hunter2/&sig=hunter2",
        "http://me:hunter2#x@h/f",
        "ftp://me:hunter2?x@h/f",
    ] {
        let told = refused(&[text]);
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn an_output_with_a_slash_at_its_end_is_a_directory() {
    for (words, directory) in
        [(&["-o", "a/", "http://h/"][..], "a/"), (&["-o", "a/", "-d", "b", "http://h/"], "b/a/")]
    {
        let plan = resolve(words).unwrap();
        assert_eq!(
            (plan.output.options.output, plan.output.directory),
            (None, Some(directory.into()))
        );
    }
    assert!(resolve(&["-o", "a/", "http://h/a", "http://h/b"]).is_ok());
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let text = refused(&["-o", "-", "--json", "http://h/"]);
    assert!(text.contains("--output -") && text.contains("--json"), "{text}");
    let text = refused(&["-o", "/dev/null", "--exec", "true", "http://h/"]);
    assert!(text.contains("/dev/null") && text.contains("--exec"), "{text}");
}

#[test]
fn what_other_programs_left_is_continued_only_where_that_was_asked_for() {
    for (words, resume, foreign) in [
        (&[][..], Resume::Auto, Foreign::Leave),
        (&["-c"], Resume::Auto, Foreign::Leave),
        (&["-c=foreign"], Resume::Auto, Foreign::Continue),
        (&["-c=always"], Resume::Always, Foreign::Continue),
        (&["-c=never"], Resume::Never, Foreign::Leave),
        (&["-c=always", "--existing=error"], Resume::Always, Foreign::Leave),
        (&["-c=always", "--skip-existing"], Resume::Always, Foreign::Leave),
    ] {
        let plan = resolve(&[words, &["http://h/"]].concat()).unwrap();
        assert_eq!(
            (plan.output.options.resume, plan.output.options.foreign),
            (resume, foreign),
            "{words:?}"
        );
    }
}

#[test]
fn values_reach_the_engines_types() {
    let plan = resolve(&[
        "-x20",
        "-c=always",
        "--overwrite",
        "--storage",
        "pwrite",
        "--segment-size",
        "4M",
        "--no-sync",
        "--no-digest",
        "--no-remote-time",
        "-r",
        "2M",
        "http://h/",
    ])
    .unwrap();
    assert_eq!(plan.output.options.connections, Connections::Fixed(20));
    assert!(plan.warnings[0].contains("20 connections"));
    assert_eq!(plan.output.options.resume, Resume::Always);
    assert_eq!(plan.output.options.foreign, Foreign::Continue);
    assert_eq!(plan.output.options.existing, Existing::Replace);
    assert_eq!(plan.output.options.storage, StorageKind::Pwrite);
    assert_eq!(plan.output.options.segment_size_bytes, Some(4 << 20));
    assert!(
        !plan.output.options.sync
            && !plan.output.options.digest
            && !plan.output.options.remote_time
    );
    assert_eq!(plan.engine.limit_rate_bytes_per_second, Some(2 << 20));
    for size in ["3M", "512K", "0"] {
        assert!(refused(&["--segment-size", size, "http://h/"]).contains("1M"));
    }
    assert!(resolve(&["-x16", "http://h/"]).unwrap().warnings.is_empty());
    assert_eq!(resolve(&["-r0", "http://h/"]).unwrap().engine.limit_rate_bytes_per_second, None);
}
