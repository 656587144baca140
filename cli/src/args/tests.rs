use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use haul_engine::Connections;

use super::*;

fn parse_words(words: &[&str]) -> Result<Command, clap::Error> {
    parse(std::iter::once("haul").chain(words.iter().copied()).map(OsString::from))
}

fn get(words: &[&str]) -> GetArgs {
    match parse_words(words) {
        Ok(Command::Get(args)) => args,
        other => panic!("{words:?}: {other:?}"),
    }
}

#[test]
fn definition_is_sound() {
    definition().debug_assert();
}

#[test]
fn help_is_one_screen_at_80_columns() {
    let help = definition().term_width(80).render_help().to_string();
    let lines: Vec<&str> = help.lines().collect();
    assert!((24..=40).contains(&lines.len()), "{} lines:\n{help}", lines.len());
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{help}");
    assert!(!help.contains("--no-remote-time"));
    let all = definition().term_width(80).render_long_help().to_string();
    for flag in ["--no-remote-time", "--segment-size", "--insecure", "--split", "--tries"] {
        assert!(all.contains(flag), "{flag} is not in\n{all}");
    }
}

#[test]
fn help_of_a_command_says_what_it_does() {
    let mut whole = definition();
    whole.build();
    for (command, about) in [
        ("get", "Download the objects"),
        ("demo", "Show a download"),
        ("bench", "Measure throughput"),
        ("play", "Serve the object"),
        ("page", "Download the films"),
        ("verify", "Check a finished file"),
        ("status", "List partial downloads"),
        ("clean", "Remove partial downloads"),
        ("completions", "Print the completions"),
        ("man", "Print the manual page"),
    ] {
        let command = whole.find_subcommand_mut(command).unwrap();
        let help = command.render_help().to_string();
        assert!(help.starts_with(about), "{help}");
    }
}

#[test]
fn help_flags_print_the_short_and_the_long_screen() {
    let short = parse_words(&["--help"]).unwrap_err();
    let all = parse_words(&["--help-all"]).unwrap_err();
    assert_eq!(short.kind(), ErrorKind::DisplayHelp);
    assert!(all.to_string().lines().count() > 2 * short.to_string().lines().count());
    assert_eq!(short.exit_code(), 0);
    for words in [&["bench", "-h"][..], &["get", "-h"]] {
        assert_eq!(parse_words(words).unwrap_err().kind(), ErrorKind::DisplayHelp);
    }
}

#[test]
fn get_is_the_default_command() {
    let plain = get(&["http://h/a", "-x4", "http://h/b"]);
    let named = get(&["get", "http://h/a", "-x4", "http://h/b"]);
    assert_eq!(plain.urls, named.urls);
    assert_eq!(plain.how.transfer.connections, Some(Connections::Fixed(4)));
    assert_eq!(named.how.transfer.connections, Some(Connections::Fixed(4)));
}

#[test]
fn last_of_a_repeated_flag_counts_and_lists_add() {
    let args = get(&["-x4", "-s", "2", "--split=3", "-H", "A: 1", "-H", "B: 2", "http://h/"]);
    assert_eq!(args.how.transfer.connections, Some(Connections::Fixed(3)));
    assert_eq!(args.how.request.headers, ["A: 1", "B: 2"]);
    let args = get(&["get", "-q", "-q", "--overwrite", "--overwrite", "http://h/"]);
    assert!(args.how.talk.quiet && args.how.output.overwrite);
    let args = get(&["--no-remote-time", "--remote-time", "http://h/"]);
    assert!(args.how.file.remote_time && !args.how.file.no_remote_time);
}

#[test]
fn continue_takes_its_value_only_after_an_equals_sign() {
    let args = get(&["-c", "never", "http://h/"]);
    assert_eq!(args.how.output.r#continue, Some(ContinueArg::Auto));
    assert_eq!(args.urls, ["never", "http://h/"]);
    let args = get(&["-c=never", "http://h/"]);
    assert_eq!(args.how.output.r#continue, Some(ContinueArg::Never));
    let args = get(&["-cx4", "--continue=always", "http://h/"]);
    assert_eq!(args.how.output.r#continue, Some(ContinueArg::Always));
    assert_eq!(args.how.transfer.connections, Some(Connections::Fixed(4)));
}

#[test]
fn curl_and_aria2_spellings_mean_the_same() {
    let args = get(&[
        "-O",
        "-P",
        "dir",
        "-U",
        "agent",
        "-e",
        "http://r/",
        "-t",
        "3",
        "-u",
        "n:p",
        "--stall-timeout",
        "500ms",
        "--connect-timeout",
        "2m",
        "-r",
        "500k",
        "-j2",
        "http://h/",
    ]);
    assert_eq!(args.how.output.dir, Some(PathBuf::from("dir")));
    assert_eq!(args.how.request.user_agent.as_deref(), Some("agent"));
    assert_eq!(args.how.request.patience.retry, Some(3));
    assert_eq!(args.how.request.patience.stall_timeout, Some(Duration::from_millis(500)));
    assert_eq!(args.how.request.patience.connect_timeout, Some(Duration::from_secs(120)));
    assert_eq!(args.how.transfer.limit_rate, Some(512_000));
    assert_eq!(args.how.transfer.jobs, Some(2));
}

#[test]
fn conflicts_name_both_flags_and_exit_2() {
    for pair in [["--overwrite", "--no-clobber"], ["--quiet", "--verbose"]] {
        let error = parse_words(&[pair[0], pair[1], "http://h/"]).unwrap_err();
        let text = error.to_string();
        assert!(pair.iter().all(|flag| text.contains(flag)), "{text}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn bad_values_quote_the_input_and_say_the_grammar() {
    for (flag, value, grammar) in [
        ("--limit-rate", "2MB/s", "500k"),
        ("--stall-timeout", "soon", "500ms"),
        ("--connections", "0", "auto"),
        ("--storage", "disk", "mmap"),
        ("--checksum", "crc=1", "sha256"),
        ("--jobs", "many", "1 or more"),
    ] {
        let error = parse_words(&[flag, value, "http://h/"]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(value) && text.contains(grammar), "{text}");
        assert_eq!(error.exit_code(), 2);
    }
}
