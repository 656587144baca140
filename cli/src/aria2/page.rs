//! The manual page of `haul-aria2c`, made from the options that it knows.

use clap::{Arg, Command};

use super::{
    AllowOverwrite, CheckCertificate, Checksum, Continue, DryRun, Header, Meaning, MinSplit,
    OPTIONS, Proxy, Quiet, RemoteTime, Rename, Sequential, Split, Tries, Unbounded, Value, Version,
};

const ABOUT: &str = "haul for programs that call aria2c";

const LONG_ABOUT: &str = "\
Downloads as haul does, by the words of aria2c and with its exit codes, so that programs that know \
aria2c can use it: yt-dlp --downloader haul-aria2c URL. It is haul called by this name; any \
other one with `aria2c` in it does as well.\n\n\
Options of aria2c without a meaning here are read and left out, unknown ones with a note. Several \
URLs are places of one file to aria2c: the first is taken. haul's own settings file is not read.";

const EXIT_STATUS: &str = "\
The exit codes are those of aria2c: 0 complete, 3 not found, 6 network or TLS, 7 interrupted or out \
of time (the same command continues), 8 cannot resume, 9 disk full, 11 another program downloads it, \
13 the file exists, 17 a local file, 22 HTTP, 24 refused, 28 usage, 29 the server is busy, 32 digest \
mismatch, 1 anything else.";

/// The command for the manual page. It parses nothing.
pub(crate) fn definition() -> Command {
    let options = OPTIONS.iter().filter_map(|(long, short, wants_value, meaning)| {
        let arg = Arg::new(*long).long(*long).help(help(*meaning)?);
        let arg = match short {
            Some(letter) => arg.short(*letter),
            None => arg,
        };
        Some(match (wants_value, meaning) {
            (true, _) => arg.value_name("VALUE"),
            (false, Version) => arg.num_args(0),
            (false, _) => arg.value_name("true|false").num_args(0..=1).require_equals(true),
        })
    });
    Command::new("haul-aria2c")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_help(EXIT_STATUS)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(options)
        .arg(Arg::new("URL").help("What to download").num_args(0..))
}

/// The help of an option; `None` if it has no effect.
fn help(meaning: Meaning) -> Option<String> {
    let text = match meaning {
        Value(flag) => return Some(format!("As haul's {flag}")),
        Split => "At most so many connections; of several such options the smallest",
        Unbounded(flag) => return Some(format!("As haul's {flag}; 0 is no bound")),
        Tries => "As haul's --retry; 0 is no bound",
        DryRun => "Fetch nothing, and print what would be",
        Proxy("--http-proxy") => "The proxy of http URLs; an empty one is none",
        Proxy("--https-proxy") => "The proxy of https URLs; an empty one is none",
        Proxy(_) => "As haul's --proxy; an empty one is none",
        MinSplit => "As haul's --min-split-size, from 1M on",
        Rename => "Number the file where its name is taken [true]",
        Continue => {
            "Continue a partial that belongs to it, also one that aria2c or a browser left; replace anything else"
        }
        AllowOverwrite => "Replace the file",
        CheckCertificate => "`false` is haul's --insecure [true]",
        RemoteTime => "Give the file the time that the server says [false]",
        Checksum => "As haul's --checksum: sha-256=HEX",
        Header => "As haul's --header; one without a value is left out",
        Quiet => "As haul's --quiet",
        Sequential => "Every URL is a file of its own",
        Version => "Print the version",
        Meaning::None => return None,
    };
    Some(text.to_owned())
}
