//! `haul-aria2c`: haul for programs that call aria2c, above all yt-dlp, which decides by a
//! downloader's name how to call it.
//!
//! aria2's words are turned into haul's, and haul's exit codes into aria2's. An option without a
//! meaning here is left out: silently if haul does the same anyway or has nothing like it, and with
//! a note if the option is unknown.

mod page;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use crate::exit::{self, End, Failure};
use crate::os;
use crate::render::{escape, to_stderr, to_stdout};
use crate::units::parse_size;

pub(crate) use page::definition;

/// yt-dlp always asks for the smallest part possible, and haul knows better what is too small.
const LEAST_SPLIT_BYTES: u64 = 1 << 20;

/// What an option of aria2 means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// This flag of haul, with the value.
    Value(&'static str),
    /// One of several options that are decided together, once all words are read.
    Split,
    /// A proxy; an empty one means none, whatever the environment says.
    Proxy(&'static str),
    /// A time or a number, where 0 means no limit.
    Unbounded(&'static str),
    /// A number of tries, where 0 means no limit.
    Tries,
    DryRun,
    /// The smallest part, if it is larger than the one haul would choose.
    MinSplit,
    Rename,
    Continue,
    AllowOverwrite,
    CheckCertificate,
    RemoteTime,
    Checksum,
    Header,
    Quiet,
    Sequential,
    Version,
    /// It means nothing here.
    None,
}

use Meaning::{
    AllowOverwrite, CheckCertificate, Checksum, Continue, DryRun, Header, MinSplit, Proxy, Quiet,
    RemoteTime, Rename, Sequential, Split, Tries, Unbounded, Value, Version,
};

/// The long options, each with the letter of the short one, whether a value follows as a word of
/// its own, and the meaning.
const OPTIONS: &[(&str, Option<char>, bool, Meaning)] = &[
    ("all-proxy", None, true, Proxy("--proxy")),
    ("allow-overwrite", None, false, AllowOverwrite),
    ("allow-piece-length-change", None, false, Meaning::None),
    ("always-resume", None, false, Meaning::None),
    ("auto-file-renaming", None, false, Rename),
    ("auto-save-interval", None, true, Meaning::None),
    ("ca-certificate", None, true, Value("--cacert")),
    ("certificate", None, true, Value("--cert")),
    ("check-certificate", None, false, CheckCertificate),
    ("checksum", None, true, Checksum),
    ("conf-path", None, true, Meaning::None),
    ("connect-timeout", None, true, Value("--connect-timeout")),
    ("console-log-level", None, true, Meaning::None),
    ("continue", Some('c'), false, Continue),
    ("dir", Some('d'), true, Value("--dir")),
    ("disable-ipv6", None, false, Meaning::None),
    ("download-result", None, true, Meaning::None),
    ("dry-run", None, false, DryRun),
    ("enable-color", None, false, Meaning::None),
    ("file-allocation", None, true, Meaning::None),
    ("force-save", None, false, Meaning::None),
    ("force-sequential", Some('Z'), false, Sequential),
    ("header", None, true, Header),
    ("http-accept-gzip", None, false, Meaning::None),
    ("http-proxy", None, true, Proxy("--http-proxy")),
    ("https-proxy", None, true, Proxy("--https-proxy")),
    ("input-file", Some('i'), true, Value("--input-file")),
    ("interface", None, true, Value("--interface")),
    ("load-cookies", None, true, Value("--load-cookies")),
    ("log", Some('l'), true, Meaning::None),
    ("log-level", None, true, Meaning::None),
    ("lowest-speed-limit", None, true, Meaning::None),
    ("max-concurrent-downloads", Some('j'), true, Value("--jobs")),
    ("max-connection-per-server", Some('x'), true, Split),
    ("max-download-limit", None, true, Value("--limit-rate")),
    ("max-overall-download-limit", None, true, Value("--limit-rate")),
    ("max-tries", Some('m'), true, Tries),
    ("min-split-size", Some('k'), true, MinSplit),
    ("no-conf", None, false, Meaning::None),
    ("no-netrc", Some('n'), false, Meaning::None),
    ("no-proxy", None, true, Value("--no-proxy")),
    ("out", Some('o'), true, Value("--output")),
    ("piece-length", None, true, Meaning::None),
    ("private-key", None, true, Value("--key")),
    ("quiet", Some('q'), false, Quiet),
    ("referer", None, true, Value("--referer")),
    ("remote-time", Some('R'), false, RemoteTime),
    ("remove-control-file", None, false, Meaning::None),
    ("retry-wait", None, true, Meaning::None),
    ("show-console-readout", None, false, Meaning::None),
    ("split", Some('s'), true, Split),
    ("stop", None, true, Unbounded("--max-time")),
    ("stream-piece-selector", None, true, Meaning::None),
    ("summary-interval", None, true, Meaning::None),
    ("timeout", Some('t'), true, Value("--stall-timeout")),
    ("uri-selector", None, true, Meaning::None),
    ("user-agent", Some('U'), true, Value("--user-agent")),
    ("version", Some('v'), false, Version),
];

/// The meaning of a long option, if it is a simple one: whether a value follows, and the flag of
/// haul that takes the value, if any.
pub(crate) fn plain_meaning(long: &str) -> Option<(bool, Option<&'static str>)> {
    let (_, _, wants_value, meaning) = OPTIONS.iter().find(|(name, ..)| *name == long)?;
    match meaning {
        Value(flag) => Some((*wants_value, Some(flag))),
        Meaning::None => Some((*wants_value, None)),
        _ => None,
    }
}

/// An aria2 command line in haul's words.
#[derive(Debug, Default, PartialEq, Eq)]
struct Translated {
    words: Vec<OsString>,
    /// One line for each.
    notes: Vec<String>,
    version: bool,
}

/// Runs haul as aria2c would be run with these arguments, the program's name first, and returns one
/// of aria2's exit codes.
pub fn run_as_aria2c(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(code_of(args))
}

pub(crate) fn code_of(args: impl IntoIterator<Item = OsString>) -> u8 {
    let translated = match translate(args.into_iter().skip(1)) {
        Ok(translated) => translated,
        Err(failure) => {
            crate::render::tell(&failure);
            return exit_code(End::from(&failure));
        }
    };
    if translated.version {
        // Callers of aria2 look for the version in this place and form.
        to_stdout(&[format!("haul-aria2c version {}", env!("CARGO_PKG_VERSION"))]);
        return exit::OK;
    }
    to_stderr(&translated.notes);
    let words = [OsString::from("haul")].into_iter().chain(translated.words);
    exit_code(crate::run_for_end(words.collect()))
}

/// Whether the program was called by aria2c's name.
pub(crate) fn is_name_of(program: &OsStr) -> bool {
    let name = std::path::Path::new(program).file_name().unwrap_or_default();
    name.as_encoded_bytes().windows(6).any(|part| part == b"aria2c")
}

/// The exit code that aria2 has (its manual, "Exit status") for the way haul ended.
fn exit_code(end: End) -> u8 {
    match (end.word, end.status) {
        (exit::OUTPUT_EXISTS, _) => return 13,
        // Another program is downloading "the same file".
        (exit::LOCKED, _) => return 11,
        (_, Some(404 | 410)) => return 3,
        // "Temporary overloading or maintenance".
        (_, Some(502 | 503)) => return 29,
        _ => {}
    }
    match end.code {
        0 => 0,
        2 => 28,
        // A file that cannot be read or written.
        3 => 17,
        4 | 5 => 6,
        6 => 24,
        7 | 8 => 22,
        9 => 32,
        // Resuming was not possible, and neither was starting over.
        10 => 8,
        11 => 9,
        // The time given by aria2's `--stop` is over.
        12 => 7,
        129 | 130 | 143 => 7,
        _ => 1,
    }
}

/// Decisions that several options contribute to.
#[derive(Debug, Default)]
struct Decisions {
    connections: Option<u32>,
    continues: bool,
    overwrite: bool,
    keeps_name: bool,
    remote_time: bool,
    insecure: bool,
    sequential: bool,
    dry_run: bool,
}

fn translate(words: impl Iterator<Item = OsString>) -> Result<Translated, Failure> {
    let mut out = Translated { words: vec!["--no-config".into()], ..Translated::default() };
    let (mut decisions, mut urls) = (Decisions::default(), Vec::new());
    let mut words = words.peekable();
    let mut only_urls = false;
    while let Some(word) = words.next() {
        let bytes = word.as_encoded_bytes();
        if only_urls || !bytes.starts_with(b"-") || bytes == b"-" {
            urls.push(word);
            continue;
        }
        if bytes == b"--" {
            only_urls = true;
            continue;
        }
        for (name, value) in options_of(&word) {
            let known = OPTIONS.iter().find(|(long, short, ..)| match &name {
                Name::Long(name) => name == long,
                Name::Short(letter) => Some(*letter) == *short,
            });
            let Some((long, _, wants_value, meaning)) = known else {
                out.notes.push(format!("note: {name} is not known here and is left out"));
                // A following word that is neither an option nor a URL is its value.
                let stray =
                    |next: &OsString| !next.as_encoded_bytes().starts_with(b"-") && !is_url(next);
                if value.is_none() {
                    words.next_if(stray);
                }
                continue;
            };
            let value = match value {
                None if *wants_value => Some(words.next().ok_or_else(|| {
                    Failure::usage(format!("--{long} needs a value, and none follows"))
                })?),
                value => value,
            };
            take(*meaning, value.as_deref(), &mut decisions, &mut out)?;
        }
    }
    finish(&decisions, urls, &mut out);
    Ok(out)
}

fn take(
    meaning: Meaning,
    value: Option<&OsStr>,
    decisions: &mut Decisions,
    out: &mut Translated,
) -> Result<(), Failure> {
    let on = value.is_none_or(|value| value != "false");
    match meaning {
        Value(flag) => {
            let mut word = OsString::from(flag);
            word.push("=");
            word.push(value.unwrap_or_default());
            if value.is_some_and(|value| !value.is_empty()) {
                out.words.push(word);
            }
        }
        Proxy(flag) => {
            let mut word = OsString::from(flag);
            word.push("=");
            word.push(value.unwrap_or_default());
            out.words.push(word);
        }
        Unbounded(flag) => {
            // The last of several equal options counts, even if it is 0.
            out.words.retain(|word| !word.as_encoded_bytes().starts_with(flag.as_bytes()));
            if !value.is_some_and(is_zero) {
                take(Value(flag), value, decisions, out)?;
            }
        }
        Tries => {
            let most = u32::MAX.to_string();
            let value = value.map(|value| if is_zero(value) { OsStr::new(&most) } else { value });
            take(Value("--retry"), value, decisions, out)?;
        }
        DryRun => decisions.dry_run = on,
        MinSplit => {
            let text = value.unwrap_or_default().to_string_lossy().into_owned();
            let bytes = parse_size(&text).map_err(|grammar| {
                Failure::usage(format!("--min-split-size: {}", escape(&text))).hint(grammar)
            })?;
            if bytes > LEAST_SPLIT_BYTES {
                out.words.push(format!("--min-split-size={bytes}").into());
            }
        }
        Rename => decisions.keeps_name = !on,
        Split => {
            let text = value.unwrap_or_default().to_string_lossy().into_owned();
            let count: u32 = text.parse().ok().filter(|count| *count > 0).ok_or_else(|| {
                Failure::usage(format!("`{}` is not a number of connections", escape(&text)))
            })?;
            decisions.connections = Some(decisions.connections.map_or(count, |old| old.min(count)));
        }
        Meaning::None => {}
        // aria2 continues whatever file is there by writing into it. haul continues what it can
        // prove, and replaces anything else at the end.
        Continue => {
            decisions.continues |= on;
            decisions.overwrite |= on;
        }
        AllowOverwrite => decisions.overwrite |= on,
        CheckCertificate => decisions.insecure = !on,
        RemoteTime => decisions.remote_time = on,
        Checksum => {
            let text = value.unwrap_or_default().to_string_lossy().into_owned();
            // aria2 writes sha-256 where haul writes sha256.
            let text = text.strip_prefix("sha-").map_or(text.clone(), |rest| format!("sha{rest}"));
            out.words.push(format!("--checksum={text}").into());
        }
        Header => {
            let text = value.unwrap_or_default();
            // A header without a value is not sent.
            let colon = text.as_encoded_bytes().iter().position(|byte| *byte == b':');
            let value = colon.map(|at| text.as_encoded_bytes()[at + 1..].trim_ascii());
            if value.is_some_and(|value| !value.is_empty()) {
                let mut word = OsString::from("--header=");
                word.push(text);
                out.words.push(word);
            }
        }
        Quiet if on => out.words.push("--quiet".into()),
        Quiet => {}
        Sequential => decisions.sequential = on,
        Version => out.version = true,
    }
    Ok(())
}

fn finish(decisions: &Decisions, mut urls: Vec<OsString>, out: &mut Translated) {
    if let Some(count) = decisions.connections {
        out.words.push(format!("--connections={count}").into());
    }
    let flags = [
        ("--continue=foreign", decisions.continues),
        ("--overwrite", decisions.overwrite),
        ("--auto-rename", !decisions.overwrite && !decisions.keeps_name),
        ("--dry-run", decisions.dry_run),
        ("--insecure", decisions.insecure),
        ("--no-remote-time", !decisions.remote_time),
    ];
    out.words.extend(flags.iter().filter(|(_, on)| *on).map(|(flag, _)| flag.into()));
    if urls.len() > 1 && !decisions.sequential {
        // To aria2, several URLs are places of one file.
        out.notes.push(format!("note: {} more URLs of the same file are ignored", urls.len() - 1));
        urls.truncate(1);
    }
    if !urls.is_empty() {
        out.words.push("--".into());
    }
    out.words.append(&mut urls);
}

fn is_zero(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.parse() == Ok(0))
}

fn is_url(word: &OsStr) -> bool {
    word.to_str().is_some_and(|word| word.contains("://"))
}

#[derive(Debug, PartialEq, Eq)]
enum Name {
    Long(String),
    Short(char),
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Long(name) => write!(f, "--{}", escape(name)),
            Self::Short(letter) => write!(f, "-{}", escape(&letter.to_string())),
        }
    }
}

/// The options in one word: one long option, or short ones of which the last may have its value
/// right behind it.
fn options_of(word: &OsStr) -> Vec<(Name, Option<OsString>)> {
    let bytes = word.as_encoded_bytes();
    if let Some(long) = bytes.strip_prefix(b"--") {
        let end = long.iter().position(|byte| *byte == b'=').unwrap_or(long.len());
        let value = long.get(end + 1..).map(os::argument_of_bytes);
        return vec![(Name::Long(String::from_utf8_lossy(&long[..end]).into_owned()), value)];
    }
    let text = String::from_utf8_lossy(&bytes[1..]).into_owned();
    let mut options = Vec::new();
    for (at, letter) in text.char_indices() {
        let wants_value =
            OPTIONS.iter().any(|(_, short, wants, _)| *short == Some(letter) && *wants);
        let rest = &text[at + letter.len_utf8()..];
        if wants_value {
            let value = rest.strip_prefix('=').unwrap_or(rest);
            options.push((Name::Short(letter), (!value.is_empty()).then(|| value.into())));
            break;
        }
        // aria2 reads `-c=false` and `-ctrue` in this way.
        let value = rest.strip_prefix('=').unwrap_or(rest);
        if matches!(value, "true" | "false") {
            options.push((Name::Short(letter), Some(value.into())));
            break;
        }
        options.push((Name::Short(letter), None));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(typed: &[&str]) -> Vec<String> {
        let translated = translate(typed.iter().map(OsString::from)).unwrap();
        let text = |word: OsString| word.into_string().unwrap();
        translated.words.into_iter().map(text).collect()
    }

    #[test]
    fn the_words_of_yt_dlp_become_those_of_haul() {
        let typed = "-c --no-conf --console-log-level=warn --summary-interval=0 \
                     --download-result=hide --http-accept-gzip=true --file-allocation=none -x16 \
                     -j16 -s16 --min-split-size 1M --load-cookies=/tmp/c \
                     --max-overall-download-limit 2M --check-certificate=true --remote-time=true \
                     --show-console-readout=false --auto-file-renaming=false --dir ./films/ --out \
                     ./film.mp4.part";
        let mut typed: Vec<&str> = typed.split_whitespace().collect();
        typed.extend(["--header", "User-Agent: it", "--header", "Empty:", "--", "http://h/f"]);
        assert_eq!(
            words(&typed),
            [
                "--no-config",
                "--jobs=16",
                "--load-cookies=/tmp/c",
                "--limit-rate=2M",
                "--dir=./films/",
                "--output=./film.mp4.part",
                "--header=User-Agent: it",
                "--connections=16",
                "--continue=foreign",
                "--overwrite",
                "--",
                "http://h/f"
            ]
        );
    }

    #[test]
    fn decisions_are_those_of_aria2() {
        let of = |typed: &[&str]| words(typed)[1..].join(" ");
        assert_eq!(of(&["http://h/"]), "--auto-rename --no-remote-time -- http://h/");
        assert_eq!(
            of(&["-x", "4", "-s8", "--check-certificate=false", "--remote-time", "http://h/"]),
            "--connections=4 --auto-rename --insecure -- http://h/"
        );
        assert_eq!(of(&["-c=false", "-R", "-i", "list"]), "--input-file=list --auto-rename");
        assert_eq!(
            of(&["--all-proxy", "", "-k20M", "--auto-file-renaming=false", "-R", "http://h/"]),
            "--proxy= --min-split-size=20971520 -- http://h/",
            "no proxy at all, whatever the environment says"
        );
        assert_eq!(
            of(&["--all-proxy=http://p:1", "--min-split-size", "1M", "-cR", "http://h/"]),
            "--proxy=http://p:1 --continue=foreign --overwrite -- http://h/"
        );
        assert_eq!(
            of(&["--checksum=sha-256=ab", "-R", "http://h/"]),
            "--checksum=sha256=ab --auto-rename -- http://h/"
        );
        assert_eq!(
            of(&["-m0", "--stop=9", "--stop=0", "--dry-run", "-R", "--referer=*", "http://h/"]),
            "--retry=4294967295 --referer=* --auto-rename --dry-run -- http://h/"
        );
        assert_eq!(
            of(&["--http-proxy=p:1", "--https-proxy=", "--header=A: :b", "-R", "http://h/"]),
            "--http-proxy=p:1 --https-proxy= --header=A: :b --auto-rename -- http://h/"
        );
        assert!(translate(["-v"].iter().map(OsString::from)).unwrap().version);
    }

    #[test]
    fn what_is_not_known_is_left_out_and_told() {
        let typed = ["--bt-stop-timeout", "5", "--rpc=1", "-R", "http://h/a", "http://h/b"];
        let translated = translate(typed.iter().map(OsString::from)).unwrap();
        assert_eq!(translated.words, ["--no-config", "--auto-rename", "--", "http://h/a"]);
        let notes = translated.notes.join("\n");
        for part in ["--bt-stop-timeout", "--rpc", "1 more URLs"] {
            assert!(notes.contains(part), "{notes}");
        }
        let failure = translate(["-x", "many"].iter().map(OsString::from)).unwrap_err();
        assert!(failure.message.contains("many") && exit_code(End::from(&failure)) == 28);
    }

    #[test]
    fn the_programs_name_decides() {
        for (name, is) in [("haul-aria2c", true), ("/usr/bin/haul-aria2c", true), ("haul", false)] {
            assert_eq!(is_name_of(OsStr::new(name)), is, "{name}");
        }
    }
}
