//! The manual page of `haul-aria2c`, made from the options that it knows.

use clap::{Arg, Command};

use super::{
    AllowOverwrite, CheckCertificate, Checksum, Continue, DryRun, Header, Meaning, MinSplit,
    OPTIONS, Proxy, Quiet, RemoteTime, Rename, Sequential, Split, Tries, Unbounded, Value, Version,
};

const ABOUT: &str = "haul for programs that call aria2c";

const LONG_ABOUT: &str = "\
Downloads like haul, but takes the options of aria2c and returns its exit codes, so that programs \
that call aria2c can use it: yt-dlp --downloader haul-aria2c URL. It is haul under another name; \
any name with `aria2c` in it works.\n\n\
Options of aria2c that have no meaning here are accepted and ignored, unknown ones with a note. \
To aria2c, several URLs are sources of one file, and the first is used. haul's own settings file \
is not read.";

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
        .arg(Arg::new("URL").help("URLs to download").num_args(0..))
}

/// The help of an option; `None` if it has no effect.
fn help(meaning: Meaning) -> Option<String> {
    let text = match meaning {
        Value(flag) => return Some(format!("Same as haul's {flag}")),
        Split => "Maximum number of connections; the smallest of several such options counts",
        Unbounded(flag) => return Some(format!("Same as haul's {flag}; 0 means no limit")),
        Tries => "Same as haul's --retry; 0 means no limit",
        DryRun => "Print what would be fetched, and fetch nothing",
        Proxy("--http-proxy") => "Proxy for http URLs; an empty one means none",
        Proxy("--https-proxy") => "Proxy for https URLs; an empty one means none",
        Proxy(_) => "Same as haul's --proxy; an empty one means none",
        MinSplit => "Same as haul's --min-split-size, 1M or more",
        Rename => "Number the file if its name is taken [true]",
        Continue => {
            "Continue a matching partial, even one that aria2c or a browser left; replace \
             anything else"
        }
        AllowOverwrite => "Replace the file",
        CheckCertificate => "`false` is haul's --insecure [true]",
        RemoteTime => "Give the file the server's modification time [false]",
        Checksum => "Same as haul's --checksum: sha-256=HEX",
        Header => "Same as haul's --header; one without a value is ignored",
        Quiet => "Same as haul's --quiet",
        Sequential => "Treat every URL as a file of its own",
        Version => "Print the version",
        Meaning::None => return None,
    };
    Some(text.to_owned())
}
