use std::ffi::OsString;

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
fn k_tells_which_flag_was_probably_meant() {
    for words in [&["-k", "1M", "http://h/"][..], &["-k20M", "http://h/"]] {
        let text = refused(words);
        assert!(text.contains("--min-split-size"), "{text}");
        assert!(text.find("--min-split-size") < text.find("--insecure"), "{text}");
    }
    for words in [&["-k", "https://h/", "https://h/b"][..], &["https://h/", "-k"]] {
        assert!(refused(words).contains("--insecure"));
    }
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
fn outputs_that_cannot_be_are_refused() {
    assert!(refused(&["-o", "dir/", "http://h/"]).contains("--dir"));
    let text = refused(&["-o", "-", "--json", "http://h/"]);
    assert!(text.contains("--output -") && text.contains("--json"), "{text}");
    let text = refused(&["-o", "/dev/null", "--exec", "true", "http://h/"]);
    assert!(text.contains("/dev/null") && text.contains("--exec"), "{text}");
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
    assert_eq!(plan.output.connections, Connections::Fixed(20));
    assert!(plan.warnings[0].contains("20 connections"));
    assert_eq!(plan.output.resume, Resume::Always);
    assert_eq!(plan.output.existing, Existing::Replace);
    assert_eq!(plan.output.storage, StorageKind::Pwrite);
    assert_eq!(plan.output.segment_size_bytes, Some(4 << 20));
    assert!(!plan.output.sync && !plan.output.digest && !plan.output.remote_time);
    assert_eq!(plan.engine.limit_rate_bytes_per_second, Some(2 << 20));
    for size in ["3M", "512K", "0"] {
        assert!(refused(&["--segment-size", size, "http://h/"]).contains("1M"));
    }
    assert!(resolve(&["-x16", "http://h/"]).unwrap().warnings.is_empty());
    assert_eq!(resolve(&["-r0", "http://h/"]).unwrap().engine.limit_rate_bytes_per_second, None);
}
