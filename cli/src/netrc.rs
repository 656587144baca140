//! `--netrc`: logins by host from a file, with the grammar that curl reads.
//!
//! Words are separated by blanks, or enclosed in double quotes with the escapes `\n`, `\r`, `\t`
//! and a backslash before any other character. `#` begins a comment only where a keyword may stand,
//! so a password may begin with it. A macro (`macdef`) ends at an empty line. No message made here
//! contains a word of the file, because they are secrets.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use haul_engine::HostCredential;

use crate::exit::Failure;
use crate::os::{self, places};
use crate::render::escape;
use crate::text;
use crate::units::size;

/// A longer file, such as an endless device, is refused; in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The contents of a netrc.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Netrc {
    /// The logins, in the file's order.
    pub(crate) credentials: Vec<HostCredential>,
    /// The lines, from 1, with something that has no meaning.
    ignored: Vec<usize>,
    /// The faults that cost a login.
    malformed: Vec<Malformed>,
}

/// Why an entry cannot be used.
#[derive(Debug, PartialEq, Eq)]
struct Malformed {
    line: usize,
    what: &'static str,
}

/// Reads the file of `--netrc-file`, or else `$NETRC`, or else the netrc in the user's own directory,
/// and returns warnings about its contents. Only the last of these files may be missing.
///
/// # Errors
/// Exit 3 when the file cannot be read, or when it is malformed and has no usable login.
pub(crate) fn load(file: Option<PathBuf>) -> Result<(Vec<HostCredential>, Vec<String>), Failure> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let Some(path) = file.or_else(|| set("NETRC")) else {
        let Some(home) = places::home() else {
            let why = format!("--netrc: there is no {} to look in", places::HOME);
            return Ok((Vec::new(), vec![why]));
        };
        let paths = places::NETRCS.map(|name| home.join(name));
        return match paths.iter().find(|path| !matches!(path.try_exists(), Ok(false))) {
            Some(path) => read(path),
            None => {
                let shown = paths.map(|path| escape(&path.to_string_lossy())).join(" or ");
                Ok((Vec::new(), vec![format!("--netrc: there is no {shown}")]))
            }
        };
    };
    read(&path)
}

fn read(path: &Path) -> Result<(Vec<HostCredential>, Vec<String>), Failure> {
    let shown = escape(&path.to_string_lossy());
    let unreadable = |error| Failure::local(format!("cannot read the netrc {shown}: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        let most = size(MAX_BYTES);
        return Err(Failure::local(format!("{shown} is longer than {most}, so it is not a netrc")));
    }
    let netrc = parse(&text::decode(&bytes));
    let told = |Malformed { line, what }: &Malformed| format!("line {line} {what}");
    let faults: Vec<String> = netrc.malformed.iter().map(told).collect();
    if !faults.is_empty() && netrc.credentials.is_empty() {
        let faults = faults.join(", ");
        return Err(Failure::local(format!("the netrc {shown} cannot be used: {faults}"))
            .hint("its words are not shown, since they are secrets"));
    }
    let mut warnings = Vec::new();
    if !faults.is_empty() {
        warnings.push(format!("a login in {shown} is left out: {}", faults.join(", ")));
    }
    // curl uses such a file all the same.
    if metadata.is_file() && os::is_open_to_others(&metadata) {
        warnings.push(format!("others can read the passwords in {shown}: chmod 600 prevents it"));
    }
    if !netrc.ignored.is_empty() {
        let lines: Vec<String> = netrc.ignored.iter().map(ToString::to_string).collect();
        warnings.push(format!("{shown} has something unknown in line {}", lines.join(", ")));
    }
    Ok((netrc.credentials, warnings))
}

/// What the next word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Keyword,
    Machine,
    Login,
    Password,
    Account,
    MacroName,
}

/// The words read so far about one machine.
#[derive(Default)]
struct Entry {
    line: usize,
    host: Option<String>,
    login: Option<String>,
    password: Option<String>,
}

/// Reads the text of a netrc. If a quote does not end on its line or a keyword has no value, its
/// entry is left out, and all others count.
fn parse(text: &str) -> Netrc {
    let mut netrc = Netrc::default();
    let mut entry: Option<Entry> = None;
    let (mut next, mut asked_at, mut in_macro) = (Next::Keyword, 0, false);
    for (line, content) in (1..).zip(text.lines()) {
        if in_macro {
            in_macro = !content.trim().is_empty();
            continue;
        }
        let mut rest = content.trim_start();
        while !rest.is_empty() {
            if next == Next::Keyword && rest.starts_with('#') {
                break;
            }
            let Some((word, after)) = split_word(rest) else {
                netrc.malformed.push(Malformed { line, what: "has a quote that is not closed" });
                // Up to the next machine, it is unknown whom the words belong to.
                (entry, next) = (None, Next::Keyword);
                break;
            };
            rest = after.trim_start();
            let value_of = next;
            next = Next::Keyword;
            match (value_of, &mut entry) {
                (Next::Keyword, _) => match keyword(&word) {
                    Some(Keyword::Default) => {
                        netrc.add(entry.replace(Entry { line, ..Entry::default() }));
                    }
                    Some(Keyword::Value(wanted)) => (next, asked_at) = (wanted, line),
                    None => netrc.ignore(line),
                },
                (Next::Machine, _) => {
                    let host = Some(word);
                    netrc.add(entry.replace(Entry { line, host, ..Entry::default() }));
                }
                (Next::MacroName, _) => {
                    in_macro = true;
                    break;
                }
                (Next::Login, Some(entry)) => entry.login = Some(word),
                (Next::Password, Some(entry)) => entry.password = Some(word),
                (Next::Account, Some(_)) => {}
                (Next::Login | Next::Password | Next::Account, None) => netrc.ignore(line),
            }
        }
    }
    if next == Next::Keyword {
        netrc.add(entry);
    } else {
        let what = "ends with a keyword that has no value";
        netrc.malformed.push(Malformed { line: asked_at, what });
    }
    netrc
}

impl Netrc {
    /// Adds an entry. A machine without a login has nothing to send, and a login with a colon
    /// cannot be sent.
    fn add(&mut self, entry: Option<Entry>) {
        let Some(Entry { line, host, login, password }) = entry else { return };
        match login {
            Some(user) if !user.contains(':') => {
                let password = password.unwrap_or_default();
                self.credentials.push(HostCredential { host, user, password });
            }
            _ => self.ignore(line),
        }
    }

    fn ignore(&mut self, line: usize) {
        if !self.ignored.contains(&line) {
            self.ignored.push(line);
        }
    }
}

enum Keyword {
    Default,
    Value(Next),
}

fn keyword(word: &str) -> Option<Keyword> {
    Some(match word.to_ascii_lowercase().as_str() {
        "default" => Keyword::Default,
        "machine" => Keyword::Value(Next::Machine),
        "login" => Keyword::Value(Next::Login),
        "password" => Keyword::Value(Next::Password),
        "account" => Keyword::Value(Next::Account),
        "macdef" => Keyword::Value(Next::MacroName),
        _ => return None,
    })
}

/// The first word of `rest` and what comes after it; `None` for a quote that does not end.
fn split_word(rest: &str) -> Option<(String, &str)> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        return Some((rest[..end].to_owned(), &rest[end..]));
    };
    let mut word = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((word, &quoted[at + 1..])),
            '\\' => word.push(match chars.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            c => word.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(host: &str, user: &str, password: &str) -> HostCredential {
        let host = (host != "default").then(|| host.to_owned());
        HostCredential { host, user: user.to_owned(), password: password.to_owned() }
    }

    #[track_caller]
    fn read_as(text: &str, expected: &[(&str, &str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(h, u, p)| credential(h, u, p)).collect();
        // A credential's `Debug` hides on purpose what differs.
        let found = parse(text);
        assert!(found.credentials == expected, "{text:?}: {found:?}");
        assert_eq!(found.ignored, [0; 0], "{text:?}");
    }

    #[test]
    fn words_may_stand_on_any_lines() {
        read_as("machine h login u password p", &[("h", "u", "p")]);
        read_as("machine\n h\r\n\tlogin\nu password\n\np\n", &[("h", "u", "p")]);
        read_as("MACHINE h Login u pAssword P", &[("h", "u", "P")]);
        read_as("machine h password p account a login u", &[("h", "u", "p")]);
        read_as("machine h login u", &[("h", "u", "")]);
        read_as("", &[]);
    }

    #[test]
    fn entries_keep_their_order() {
        read_as(
            "machine a login 1 password x\nmachine b login 2 password y default login 3 password z",
            &[("a", "1", "x"), ("b", "2", "y"), ("default", "3", "z")],
        );
        read_as("default login 3 password z", &[("default", "3", "z")]);
    }

    #[test]
    fn quotes_and_escapes_are_undone() {
        read_as(
            r#"machine h login "a b" password "\"q\\\n\t\r\x#""#,
            &[("h", "a b", "\"q\\\n\t\rx#")],
        );
        read_as(r#"machine h login "" password a"b"#, &[("h", "", "a\"b")]);
    }

    #[test]
    fn comments_stand_where_keywords_do() {
        read_as(
            "# machine x login y password z\nmachine h # login no\n login u #\n password #p # login v",
            &[("h", "u", "#p")],
        );
    }

    #[test]
    fn macros_are_skipped_to_an_empty_line() {
        read_as(
            "machine a login 1 password x\nmacdef init\nmachine no\nlogin \"no\n\nmachine b login 2 password y",
            &[("a", "1", "x"), ("b", "2", "y")],
        );
        read_as("macdef init machine no login no\npassword no", &[]);
    }

    #[test]
    fn what_means_nothing_is_told_by_its_line() {
        for (text, lines, credentials) in [
            ("login u\nmachine h login u password p", &[1][..], 1),
            ("machine h login u password two words", &[1], 1),
            ("\nmachine h password p\nmachine i login u", &[2], 1),
            ("machine h login a:b password p", &[1], 0),
            ("{\n\"json\": 1 }", &[1, 2], 0),
        ] {
            let netrc = parse(text);
            assert_eq!(
                (&netrc.ignored[..], netrc.credentials.len()),
                (lines, credentials),
                "{text}"
            );
        }
    }

    #[test]
    fn malformed_text_is_told_by_its_line_and_nothing_else() {
        for (text, line) in [
            ("machine h\nlogin u password \"hunter2", 2),
            ("machine h\nlogin u password \"hunter2\\", 2),
            ("machine h login hunter2\npassword\n\n", 2),
            ("machine", 1),
            ("macdef", 1),
        ] {
            let netrc = parse(text);
            assert_eq!(netrc.malformed[0].line, line, "{text}");
            assert!(netrc.credentials.is_empty() && !netrc.malformed[0].what.contains("hunter2"));
        }
    }

    #[test]
    fn a_faulty_line_costs_its_own_login_only() {
        let netrc = parse(
            "machine a login 1 password x\nmachine b login \"2 password y\nlogin 3\n\
             machine c login 4 password z\nmachine d login",
        );
        assert!(netrc.credentials == [credential("a", "1", "x"), credential("c", "4", "z")]);
        let lines: Vec<usize> = netrc.malformed.iter().map(|it| it.line).collect();
        assert_eq!((lines, &netrc.ignored[..]), (vec![2, 5], &[3][..]));
    }

    #[test]
    fn nothing_shows_a_secret() {
        let netrc = parse("machine h login hunter1 password hunter2");
        assert!(!format!("{netrc:?}").contains("hunter"), "{netrc:?}");
    }
}
