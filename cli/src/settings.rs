//! The user's own defaults: `config.toml` and `HAUL_*` variables.
//!
//! Both say what the command line could say, so both become words of it, placed before the typed
//! ones. There the last one counts, and lists add up. A setting is therefore read, checked and
//! documented exactly as its flag is.
//!
//! A section `[host."NAME"]` has settings for the downloads of one host. Their command line is the
//! general one, with the section's words before the typed ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

use crate::args::{self, WayArgs};
use crate::exit::Failure;
use crate::os;
use crate::render::escape;
use crate::text;

/// Flags that only the command line can give.
const NO_SETTINGS: [&str; 7] =
    ["help", "help-all", "version", "no-config", "output", "from-curl", "head"];

/// A larger file is not a settings file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Flags that apply to the whole run, or to the one way that all its connections take, and so
/// cannot differ for one host.
const OF_THE_RUN: [&str; 29] = [
    "cacert",
    "cert",
    "connect-timeout",
    "dry-run",
    "http-proxy",
    "http1.1",
    "http2",
    "https-proxy",
    "input-file",
    "insecure",
    "interface",
    "ipv4",
    "ipv6",
    "jobs",
    "json",
    "key",
    "max-failures",
    "no-proxy",
    "notify",
    "per-host",
    "progress",
    "proxy",
    "quiet",
    "resolve",
    "results",
    "shard",
    "skip-existing",
    "user-agent",
    "verbose",
];

/// The table that holds the sections of hosts.
const HOSTS: &str = "host";

/// A command line with the settings in it.
#[derive(Debug)]
pub(crate) struct Settled {
    /// Its words, the program's name first.
    pub(crate) words: Vec<OsString>,
    /// The parsed words, if they were parsed already.
    pub(crate) matches: Option<ArgMatches>,
    /// For each section, the command line with that host's settings.
    pub(crate) hosts: Vec<(HostPattern, Vec<OsString>)>,
    /// Where the flags come from that nobody typed.
    pub(crate) places: Places,
    /// Notes for the user.
    pub(crate) notes: Vec<String>,
}

impl Settled {
    fn as_typed(words: Vec<OsString>, matches: Option<ArgMatches>) -> Self {
        Self { words, matches, hosts: Vec::new(), places: Places::default(), notes: Vec::new() }
    }
}

/// Where the settings for the whole run stand, by the id of their flag, so that errors can name the
/// place.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<String, String>);

impl Places {
    fn of<'a>(settings: impl Iterator<Item = &'a Setting>) -> Self {
        // The last setting of a flag counts, as among the words.
        Self(settings.map(|setting| (setting.id.clone(), setting.place.clone())).collect())
    }

    /// Tells the flags about the way to a server where they were set, so that failures name the
    /// place.
    pub(crate) fn tell(&self, ways: &mut WayArgs) {
        ways.proxy_from = self.0.get("proxy").cloned();
    }
}

/// The name of a host, or `*.` and a domain for all names below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPattern(String);

impl HostPattern {
    fn new(text: &str) -> Option<Self> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let parsed = url::Host::parse(name).or_else(|_| url::Host::parse(&format!("[{name}]")));
        let prefix = &text[..text.len() - name.len()];
        parsed.ok().map(|host| Self(format!("{prefix}{host}")))
    }

    /// How well it fits this host, written as in URLs; the name itself fits best.
    pub(crate) fn fit(&self, host: &str) -> Option<usize> {
        match self.0.strip_prefix('*') {
            None => (self.0 == host).then_some(usize::MAX),
            Some(domain) => host.ends_with(domain).then_some(domain.len()),
        }
    }

    /// The pattern's text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The value for the host of this URL, from the pattern that fits it best.
pub(crate) fn best_fit<'a, T>(
    hosts: &'a [(HostPattern, T)],
    url: &str,
) -> Option<(&'a HostPattern, &'a T)> {
    if hosts.is_empty() {
        return None;
    }
    let url = url::Url::parse(url).ok()?;
    let host = url.host_str()?;
    let fitting = hosts.iter().filter_map(|(of, what)| Some((of.fit(host)?, of, what)));
    fitting.max_by_key(|(fit, ..)| *fit).map(|(_, of, what)| (of, what))
}

/// The typed words of a download, the program's name first, with those of the settings before them;
/// `definition` defines the command line. A flag that was typed, and each that it excludes, is not
/// taken from the settings.
///
/// # Errors
/// Exit 2 for a setting that is not a flag, or a value that its flag does not take; exit 3 for a
/// file that cannot be read. A value is not quoted if its flag takes secrets.
pub(crate) fn with_settings(
    definition: &mut Command,
    typed: Vec<OsString>,
) -> Result<Settled, Failure> {
    let Ok(all) = definition.try_get_matches_from_mut(&typed) else {
        // The next parser of these words reports what is wrong with them.
        return Ok(Settled::as_typed(typed, None));
    };
    // Only these commands download.
    let named = ["get", "play", "page"].iter().find_map(|name| all.subcommand_matches(name));
    if all.subcommand_name().is_some() && named.is_none() {
        return Ok(Settled::as_typed(typed, Some(all)));
    }
    let matches = named.unwrap_or(&all);
    if matches.get_flag("no_config") {
        return Ok(Settled::as_typed(typed, Some(all)));
    }
    let given: BTreeSet<&str> = definition
        .get_arguments()
        .map(|arg| arg.get_id().as_str())
        .filter(|id| matches.try_contains_id(id).is_ok())
        .filter(|id| matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine))
        .collect();
    let File { mut settings, hosts } = of_file(definition)?;
    let (of_environment, notes) = of_environment(definition, std::env::vars_os())?;
    settings.extend(of_environment);
    if settings.is_empty() && hosts.is_empty() {
        return Ok(Settled { notes, ..Settled::as_typed(typed, Some(all)) });
    }

    let counts = settings.iter().filter(|setting| !setting.is_outdone(definition, &given));
    let places = Places::of(counts);
    let at = (if named.is_some() { 2 } else { 1 }).min(typed.len());
    let with = |sets: &[(&[Setting], &BTreeSet<&str>)]| {
        let kept = |(settings, given): &(&[Setting], &BTreeSet<&str>)| -> Vec<OsString> {
            let kept = settings.iter().filter(|one| !one.is_outdone(definition, given));
            kept.flat_map(|setting| &setting.words).map(OsString::from).collect()
        };
        let (before, rest) = typed.split_at(at);
        let words = sets.iter().flat_map(kept);
        before.iter().cloned().chain(words).chain(rest.iter().cloned()).collect::<Vec<_>>()
    };
    let of_host = |(pattern, own): &(HostPattern, Vec<Setting>)| {
        // A host's settings take precedence over the general ones.
        let mut outdoing = given.clone();
        outdoing.extend(own.iter().map(|setting| setting.id.as_str()));
        (pattern.clone(), with(&[(&settings, &outdoing), (own, &given)]))
    };
    let hosts = hosts.iter().map(of_host).collect();
    Ok(Settled { words: with(&[(&settings, &given)]), matches: None, hosts, places, notes })
}

/// The contents of the file.
#[derive(Debug, Default)]
struct File {
    settings: Vec<Setting>,
    hosts: Vec<(HostPattern, Vec<Setting>)>,
}

/// One flag, with the words that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    id: String,
    /// Where it was set.
    place: String,
    words: Vec<String>,
}

impl Setting {
    /// Whether the typed words override this setting. Lists are never overridden, because they add
    /// up.
    fn is_outdone(&self, definition: &Command, given: &BTreeSet<&str>) -> bool {
        let Some(arg) = definition.get_arguments().find(|arg| arg.get_id() == self.id.as_str())
        else {
            return true;
        };
        let same =
            given.contains(self.id.as_str()) && !matches!(arg.get_action(), ArgAction::Append);
        let excludes = |other: &&Arg| {
            let clashes = |a: &Arg, b: &Arg| {
                definition.get_arg_conflicts_with(a).iter().any(|arg| arg.get_id() == b.get_id())
            };
            clashes(arg, other) || clashes(other, arg)
        };
        same || definition
            .get_arguments()
            .filter(|other| given.contains(other.get_id().as_str()))
            .any(|other| excludes(&other))
    }
}

/// The path of the file: `haul/config.toml` among the settings of all programs.
fn path() -> Option<PathBuf> {
    Some(os::places::settings()?.join("haul").join("config.toml"))
}

fn of_file(definition: &Command) -> Result<File, Failure> {
    let Some(path) = path() else { return Ok(File::default()) };
    let shown = escape(&path.to_string_lossy());
    let cannot_read =
        |error: io::Error| Failure::local(format!("the settings {shown} cannot be read: {error}"));
    match fs::metadata(&path) {
        Ok(found) if found.is_file() && found.len() <= MAX_FILE_BYTES => {}
        Ok(_) => {
            return Err(Failure::local(format!(
                "the settings {shown} are not a regular file of at most 1 MiB"
            ))
            .hint("--no-config ignores them"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::default()),
        Err(error) => return Err(cannot_read(error).hint("--no-config ignores them")),
    }
    let bytes = fs::read(&path).map_err(cannot_read)?;
    of_text(definition, &text::decode(&bytes), &path)
}

fn of_text(definition: &Command, text: &str, path: &Path) -> Result<File, Failure> {
    let shown = escape(&path.to_string_lossy());
    let mut table = text.parse::<Table>().map_err(|error| {
        // The parser's own message quotes the line, which may contain a password.
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        Failure::usage(format!("{shown}, line {line}: {}", escape(error.message())))
            .hint("a setting is `flag = value`, as in `connections = 8` or `no-sync = true`")
    })?;
    let hosts = table.remove(HOSTS);
    let settings = of_table(definition, &table, &shown)?;
    let sections = match hosts {
        None => Table::new(),
        Some(Value::Table(sections)) => sections,
        Some(_) => return Err(no_section(HOSTS, &shown)),
    };
    let mut hosts = Vec::new();
    for (name, section) in &sections {
        let Value::Table(section) = section else { return Err(no_section(name, &shown)) };
        let place = format!("[host.\"{}\"] of {shown}", escape(name));
        let pattern = HostPattern::new(name)
            .ok_or_else(|| Failure::usage(format!("{place}: this is not the name of a host")))?;
        if let Some(key) = section.keys().find(|key| OF_THE_RUN.contains(&key.as_str())) {
            return Err(Failure::usage(format!("`{key}` in {place} applies to the whole run"))
                .hint("write it above all sections, or on the command line"));
        }
        hosts.push((pattern, of_table(definition, section, &place)?));
    }
    Ok(File { settings, hosts })
}

fn no_section(key: &str, shown: &str) -> Failure {
    Failure::usage(format!("`{}` in {shown} is not a section for a host", escape(key)))
        .hint("a section begins with [host.\"example.org\"], and the settings follow below it")
}

/// The settings in a table; `shown` names its place.
fn of_table(definition: &Command, table: &Table, shown: &str) -> Result<Vec<Setting>, Failure> {
    let place = |key: &str| format!("`{}` in {shown}", escape(key));
    let settings = table.iter().map(|(key, value)| {
        let arg = flag(definition, key, &place(key))?;
        let values = values(value).ok_or_else(|| {
            Failure::usage(format!("{} has a value of a kind that no flag takes", place(key)))
                .hint("write a string, a number, true or false, or a list of these")
        })?;
        setting(arg, &values, &place(key))
    });
    settings.collect()
}

/// The settings in variables: `HAUL_` and a long flag, in capitals with `_` for `-`. A variable
/// that is almost one gets a note, and all others may belong to another program.
fn of_environment(
    definition: &Command,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(Vec<Setting>, Vec<String>), Failure> {
    let (mut settings, mut notes) = (Vec::new(), Vec::new());
    for (name, value) in variables {
        let Some(name_after) = name.to_str().and_then(|name| name.strip_prefix("HAUL_")) else {
            continue;
        };
        let key = name_after.to_ascii_lowercase().replace('_', "-");
        let Ok(arg) = flag(definition, &key, "") else {
            if let Some(near) = nearest(definition, &key) {
                let (shown, near) =
                    (escape(name_after), near.to_ascii_uppercase().replace('-', "_"));
                notes.push(format!(
                    "the variable HAUL_{shown} is not a setting and is ignored: did you mean \
                     HAUL_{near}?"
                ));
            }
            continue;
        };
        let place = format!("the variable {}", name.to_string_lossy());
        let Ok(value) = value.into_string() else {
            return Err(Failure::usage(format!("{place} is not UTF-8")));
        };
        settings.push(setting(arg, &[value], &place)?);
    }
    // The environment has no order of its own.
    settings.sort_by(|a, b| a.id.cmp(&b.id));
    notes.sort();
    Ok((settings, notes))
}

/// The long flag that was probably meant.
fn nearest<'a>(definition: &'a Command, key: &str) -> Option<&'a str> {
    let flags = definition.get_arguments().filter_map(Arg::get_long);
    let flags = flags.filter(|flag| !NO_SETTINGS.contains(flag));
    let near = flags.map(|flag| (distance(flag, key), flag)).min()?;
    (near.0 <= (key.len() / 3).clamp(1, 3)).then_some(near.1)
}

/// The number of letters to insert, remove or change.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, another) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *another);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

fn flag<'a>(definition: &'a Command, key: &str, place: &str) -> Result<&'a Arg, Failure> {
    let named = |arg: &&Arg| arg.get_long() == Some(key) && !NO_SETTINGS.contains(&key);
    definition.get_arguments().find(named).ok_or_else(|| {
        let hint = match nearest(definition, key) {
            Some(near) => format!("did you mean `{near}`? haul --help-all lists all flags"),
            None => {
                "a setting has the name of a long flag without the hyphens; see haul --help-all"
                    .to_owned()
            }
        };
        Failure::usage(format!("{place} is not a setting")).hint(hint)
    })
}

fn values(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Float(number) => Some(vec![number.to_string()]),
        Value::Boolean(on) => Some(vec![on.to_string()]),
        Value::Array(items) => {
            let each = items.iter().map(|item| match item {
                Value::Array(_) => None,
                item => values(item)?.pop(),
            });
            each.collect()
        }
        Value::Table(_) | Value::Datetime(_) => None,
    }
}

fn setting(arg: &Arg, values: &[String], place: &str) -> Result<Setting, Failure> {
    let long = arg.get_long().unwrap_or_default();
    let id = arg.get_id().to_string();
    let found = |words| Ok(Setting { id: id.clone(), place: place.to_owned(), words });
    if !arg.get_action().takes_values() {
        let words = match values {
            [on] if on == "true" || on == "1" => vec![format!("--{long}")],
            [off] if off == "false" || off == "0" => Vec::new(),
            _ => {
                return Err(Failure::usage(format!("{place} is neither true nor false"))
                    .hint(format!("`{long} = true` is --{long}")));
            }
        };
        return found(words);
    }
    if values.len() != 1 && !matches!(arg.get_action(), ArgAction::Append) {
        return Err(Failure::usage(format!("{place} is a list, and --{long} takes one value")));
    }
    let words: Vec<String> = values.iter().map(|value| format!("--{long}={value}")).collect();
    let alone = ["haul"].into_iter().chain(words.iter().map(String::as_str)).chain(["http://h/"]);
    match args::parse(alone.map(OsString::from)) {
        Ok(_) => found(words),
        // The flag that it needs may be set elsewhere.
        Err(error) if error.kind() == clap::error::ErrorKind::MissingRequiredArgument => {
            found(words)
        }
        Err(error) => {
            // In clap's message, the grammar follows the last colon, and the value comes before it.
            let said = error.to_string();
            let first = said.lines().next().unwrap_or_default();
            let grammar = first.rsplit_once("': ").map_or("", |(_, grammar)| grammar);
            Err(Failure::usage(format!("{place} has a value that --{long} does not take")).hint(
                if grammar.is_empty() { "haul --help-all says which it takes" } else { grammar },
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<String>, Failure> {
        let file = of_text(&args::definition(), text, Path::new("/c/config.toml"))?;
        Ok(file.settings.into_iter().flat_map(|setting| setting.words).collect())
    }

    #[test]
    fn settings_are_the_words_of_their_flags() {
        assert_eq!(
            words("connections = 8\nno-sync = true\noverwrite = false\nlimit-rate = \"2M\"\n")
                .unwrap(),
            ["--connections=8", "--limit-rate=2M", "--no-sync"]
        );
        assert_eq!(
            words("header = [\"A: b\", \"C: d\"]").unwrap(),
            ["--header=A: b", "--header=C: d"]
        );
        assert_eq!(words("").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, cause) in [
            ("conections = 8", "`conections` in /c/config.toml is not a setting"),
            ("output = \"x\"", "`output` in /c/config.toml is not a setting"),
            ("connections = 0", "`connections` in /c/config.toml has a value"),
            ("connections = [1, 2]", "is a list, and --connections takes one value"),
            ("no-sync = \"maybe\"", "is neither true nor false"),
            ("[connections]\nx = 1", "of a kind that no flag takes"),
            ("a = 1\nb = = 2", "/c/config.toml, line 2"),
        ] {
            let failure = words(text).unwrap_err();
            assert_eq!(failure.exit, 2);
            assert!(failure.message.contains(cause), "{text}: {}", failure.message);
            assert!(failure.hint.is_some() || text.contains('['), "{text}");
        }
        let hint = words("connections = \"x\"").unwrap_err().hint.unwrap();
        assert!(hint.contains("whole number"), "{hint}");
        let failure = words("user = \"hunter2\nx").unwrap_err();
        assert!(!failure.message.contains("hunter2"), "{}", failure.message);
    }

    #[test]
    fn sections_are_of_their_hosts() {
        let text = "jobs = 2\n[host.\"Example.org\"]\nretry = 3\n[host.\"*.b.example\"]\n";
        let file = of_text(&args::definition(), text, Path::new("/c")).unwrap();
        assert_eq!(file.settings[0].words, ["--jobs=2"]);
        let (example, settings) = &file.hosts[1];
        assert_eq!(settings[0].words, ["--retry=3"]);
        assert!(example.fit("example.org") > file.hosts[0].0.fit("a.b.example"));
        assert!(file.hosts[0].0.fit("a.b.example").is_some());
        for host in ["b.example", "ab.example", "example.org"] {
            assert_eq!(file.hosts[0].0.fit(host), None, "{host}");
        }
        for (text, cause) in [
            ("[host.\"a b\"]", "[host.\"a b\"] of /c/config.toml: this is not the name of a host"),
            (
                "[host.h]\njobs = 2",
                "`jobs` in [host.\"h\"] of /c/config.toml applies to the whole run",
            ),
            ("[host.h]\nnope = 2", "`nope` in [host.\"h\"] of /c/config.toml is not a setting"),
            ("[host]\nretry = 2", "`retry` in /c/config.toml is not a section for a host"),
            ("host = 1", "is not a section for a host"),
        ] {
            let failure = words(text).unwrap_err();
            assert!(failure.message.contains(cause), "{text}: {}", failure.message);
        }
    }

    #[test]
    fn variables_are_settings_where_they_name_a_flag() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.into(), value.into()));
            of_environment(&args::definition(), pairs)
        };
        let settings =
            of(&[("HAUL_NO_SYNC", "1"), ("HAUL_LOG", "x"), ("PATH", "/"), ("HAUL_JOBS", "2")]);
        let (settings, notes) = settings.unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        let words: Vec<_> = settings.into_iter().flat_map(|one| one.words).collect();
        assert_eq!(words, ["--jobs=2", "--no-sync"]);
        let (settings, notes) =
            of(&[("HAUL_CONECTIONS", "8"), ("HAUL_URL", "1"), ("HAULAGE", "x")]).unwrap();
        assert!(settings.is_empty());
        let note = "the variable HAUL_CONECTIONS is not a setting and is ignored: did you mean \
                    HAUL_CONNECTIONS?";
        assert_eq!(notes, [note]);
        let failure = of(&[("HAUL_JOBS", "many")]).unwrap_err();
        assert!(failure.message.contains("the variable HAUL_JOBS"), "{}", failure.message);
    }
}
