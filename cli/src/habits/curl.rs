//! `--from-curl`: the command that a browser's "Copy as cURL" yields, in haul's words.
//!
//! The text is split as its shell would split it (bash, or Windows' cmd), with nothing expanded.
//! Its flags become haul's. A flag that asks for something other than a download, or that is
//! unknown, is refused by name. No message made here contains a value, because the values are the
//! secrets of somebody's session.

use std::ffi::OsString;
use std::io::Read as _;
use std::iter::Peekable;
use std::str::Chars;

use url::Url;

use crate::exit::Failure;
use crate::render::escape;

/// A longer command is refused; in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Flags that do not affect what is fetched, or that haul obeys anyway.
const NOTHING: &[&str] = &[
    "--compressed",
    "--globoff",
    "--location",
    "--silent",
    "--show-error",
    "--fail",
    "--include",
    "--verbose",
    "--remote-name",
    "--remote-header-name",
    "--no-buffer",
    "--progress-bar",
    "--http1.1",
    "--http2",
    "--http3",
    "--tlsv1.2",
    "--parallel",
    "--no-progress-meter",
    "--path-as-is",
    "--anyauth",
    "--basic",
    "--digest",
    "--create-dirs",
];

/// Flags with a value that haul has as well.
const SAME: &[&str] = &[
    "--referer",
    "--user",
    "--proxy",
    "--max-time",
    "--connect-timeout",
    "--retry",
    "--limit-rate",
    "--cacert",
    "--cert",
    "--key",
    "--interface",
    "--resolve",
    "--noproxy",
    "--output",
    "--output-dir",
    "--max-filesize",
];

/// The long names of short flags.
const LETTERS: &[(char, &str)] = &[
    ('A', "--user-agent"),
    ('b', "--cookie"),
    ('d', "--data"),
    ('e', "--referer"),
    ('f', "--fail"),
    ('F', "--form"),
    ('g', "--globoff"),
    ('G', "--get"),
    ('H', "--header"),
    ('i', "--include"),
    ('I', "--head"),
    ('J', "--remote-header-name"),
    ('k', "--insecure"),
    ('L', "--location"),
    ('m', "--max-time"),
    ('N', "--no-buffer"),
    ('o', "--output"),
    ('O', "--remote-name"),
    ('r', "--range"),
    ('s', "--silent"),
    ('S', "--show-error"),
    ('T', "--upload-file"),
    ('u', "--user"),
    ('v', "--verbose"),
    ('x', "--proxy"),
    ('X', "--request"),
    ('Z', "--parallel"),
    ('#', "--progress-bar"),
    ('E', "--cert"),
];

/// Fields about the browser's own connection, cache and position in the file. haul sends its own,
/// or none.
const OWN_FIELDS: &[&str] = &[
    "accept-encoding",
    "range",
    "if-range",
    "if-none-match",
    "if-modified-since",
    "if-match",
    "if-unmodified-since",
    "content-length",
    "content-type",
    "connection",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// haul's words for a curl command; `-` reads it from standard input. `insecure` says that the user
/// has typed haul's flag of that name.
pub(super) fn words(given: OsString, insecure: bool) -> Result<Vec<String>, Failure> {
    let text = if given == "-" {
        let mut text = String::new();
        let read = std::io::stdin().take(MAX_BYTES).read_to_string(&mut text);
        read.map_err(|error| {
            Failure::local(format!("cannot read curl's command from standard input: {error}"))
        })?;
        text
    } else {
        given.into_string().map_err(|_| refuse("is not UTF-8"))?
    };
    let mut typed = split(&text)?.into_iter();
    let program = typed.next().unwrap_or_default();
    let name = program.rsplit(['/', '\\']).next().unwrap_or_default();
    if !matches!(name.to_ascii_lowercase().as_str(), "curl" | "curl.exe") {
        return Err(refuse("does not begin with `curl`"));
    }
    translate(typed.collect(), insecure)
}

fn refuse(why: &str) -> Failure {
    Failure::usage(format!("the text of --from-curl {why}")).hint(
        "use Copy as cURL (bash) in the browser's network tools, then --from-curl 'TEXT', or -",
    )
}

fn translate(typed: Vec<String>, insecure: bool) -> Result<Vec<String>, Failure> {
    let (mut words, mut urls, mut fields) = (Vec::new(), Vec::new(), Vec::new());
    let mut typed = typed.into_iter();
    while let Some(word) = typed.next() {
        if word == "--" || word.is_empty() {
            continue;
        }
        if word == "-" || !word.starts_with('-') {
            urls.push(word);
            continue;
        }
        for (flag, value) in flags(&word) {
            let mut value = || value.clone().or_else(|| typed.next());
            let mut wanted = || {
                let missing = || refuse(&format!("has no value after {flag}"));
                value().ok_or_else(missing)
            };
            match flag.as_str() {
                name if NOTHING.contains(&name) => {}
                name if SAME.contains(&name) => words.push(format!("{name}={}", wanted()?)),
                "--ipv4" | "--ipv6" | "--head" => words.push(flag.clone()),
                "--url" => urls.push(wanted()?),
                "--header" => fields.push(wanted()?),
                "--user-agent" => words.push(format!("--user-agent={}", wanted()?)),
                "--oauth2-bearer" => words.push(format!("--bearer={}", wanted()?)),
                "--cookie" => {
                    let cookies = wanted()?;
                    if !cookies.contains('=') {
                        return Err(refuse("reads cookies from a file")
                            .hint("give the file to haul itself: --load-cookies FILE"));
                    }
                    fields.push(format!("Cookie: {cookies}"));
                }
                // It is the range that the browser had reached.
                "--range" => drop(wanted()?),
                "--request" => {
                    let method = wanted()?.to_ascii_uppercase();
                    match method.as_str() {
                        "GET" => {}
                        "HEAD" => words.push("--head".to_owned()),
                        _ => return Err(sends("asks for another method than GET")),
                    }
                }
                "--insecure" if insecure => {}
                "--insecure" => {
                    return Err(refuse("accepts any certificate (--insecure)").hint(
                        "remove it, or type --insecure for haul itself: anyone on the path can \
                         then read and change everything, including the cookies",
                    ));
                }
                name if name.starts_with("--data")
                    || ["--form", "--form-string", "--json", "--upload-file", "--get"]
                        .contains(&name) =>
                {
                    return Err(sends(&format!("sends a body ({name})")));
                }
                name => {
                    let name = escape(name);
                    return Err(refuse(&format!("has {name}, which haul does not support there"))
                        .hint("remove it, or add haul's own flag beside --from-curl"));
                }
            }
        }
    }
    let url = match urls.as_slice() {
        [url] => url.clone(),
        [] => return Err(refuse("has no URL")),
        _ => return Err(refuse("has several URLs").hint("copy the command of one request")),
    };
    for field in fields {
        words.extend(header(&field, &url)?);
    }
    words.push(url);
    Ok(words)
}

fn sends(why: &str) -> Failure {
    refuse(why).hint(
        "haul only fetches (GET): if the answer to that request is a link, give the link to haul; \
         if it is the file itself, curl has to fetch it",
    )
}

/// A field of the browser's request as one of haul's words.
fn header(field: &str, url: &str) -> Result<Option<String>, Failure> {
    if field.starts_with('@') {
        return Err(refuse("reads headers from a file")
            .hint("give the file to haul itself: --header @FILE"));
    }
    let Some((name, value)) = field.split_once(':') else {
        // `Name;` is a field without a value.
        return if field.ends_with(';') {
            Ok(None)
        } else {
            Err(refuse("has a --header without a `:`"))
        };
    };
    let (name, value) = (name.trim(), value.trim());
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let of_url = || {
        let url = Url::parse(url).ok()?;
        let host = url.host_str()?.to_owned();
        Some(url.port().map_or(host.clone(), |port| format!("{host}:{port}")))
    };
    // The pseudo-fields of HTTP/2 begin with a colon.
    if name.is_empty() || value.is_empty() || OWN_FIELDS.iter().any(|own| is(own)) {
        return Ok(None);
    }
    Ok(match () {
        () if is("User-Agent") => Some(format!("--user-agent={value}")),
        () if is("Host") && of_url().is_some_and(|host| host.eq_ignore_ascii_case(value)) => None,
        () => Some(format!("--header={name}: {value}")),
    })
}

/// The flags in a word by their long names, and the value that follows the last one directly.
fn flags(word: &str) -> Vec<(String, Option<String>)> {
    if word.starts_with("--") {
        return match word.split_once('=') {
            Some((name, value)) => vec![(name.to_owned(), Some(value.to_owned()))],
            None => vec![(word.to_owned(), None)],
        };
    }
    let mut found = Vec::new();
    for (at, letter) in word.char_indices().skip(1) {
        let behind = &word[at + letter.len_utf8()..];
        let long = match LETTERS.iter().find(|(short, _)| *short == letter) {
            Some((_, long)) => (*long).to_owned(),
            None => match letter {
                '4' => "--ipv4".to_owned(),
                '6' => "--ipv6".to_owned(),
                other => format!("-{other}"),
            },
        };
        let alone = NOTHING.contains(&long.as_str())
            || matches!(long.as_str(), "--insecure" | "--head" | "--get" | "--ipv4" | "--ipv6");
        if !alone {
            let value = Some(behind).filter(|behind| !behind.is_empty());
            found.push((long, value.map(str::to_owned)));
            break;
        }
        found.push((long, None));
    }
    found
}

/// The words of a command as its shell splits them.
fn split(text: &str) -> Result<Vec<String>, Failure> {
    let text = text.trim();
    let text = text.strip_prefix("$ ").unwrap_or(text);
    if text.contains("^\"") {
        return cmd(&without_carets(text));
    }
    if text.contains("^\n") || text.contains("^\r\n") {
        return cmd(&text.replace("^\r\n", " ").replace("^\n", " "));
    }
    bash(text)
}

/// Undoes the quoting that cmd removes before the program sees its line.
fn without_carets(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().filter(|c| *c != '\r').peekable();
    while let Some(c) = rest.next() {
        if c == '^' {
            plain.extend(rest.next().filter(|c| *c != '\n'));
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Splits words as Windows' C runtime does: quotes hold words together, and a backslash is special
/// only before a quote.
fn cmd(text: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let (mut word, mut quoted): (Option<String>, bool) = (None, false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => {
                let mut count = 1;
                while rest.next_if_eq(&'\\').is_some() {
                    count += 1;
                }
                let word = word.get_or_insert_default();
                if rest.peek() == Some(&'"') {
                    word.extend(std::iter::repeat_n('\\', count / 2));
                    if count % 2 == 1 {
                        word.extend(rest.next());
                    }
                } else {
                    word.extend(std::iter::repeat_n('\\', count));
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    if quoted {
        return Err(refuse("has a quote that is not closed"));
    }
    words.extend(word);
    Ok(words)
}

/// Splits words as bash does, with nothing expanded.
fn bash(text: &str) -> Result<Vec<String>, Failure> {
    let open = || refuse("has a quote that is not closed");
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\\' => match rest.next() {
                Some('\n') => {}
                Some('\r') if rest.next_if_eq(&'\n').is_some() => {}
                other => word.get_or_insert_default().extend(other),
            },
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or_else(open)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            '$' if rest.next_if_eq(&'\'').is_some() => {
                ansi_quoted(&mut rest, word.get_or_insert_default())?;
            }
            '|' | ';' | '&' | '<' | '>' | '(' | ')' | '`' | '$' => {
                return Err(refuse(&format!(
                    "has `{c}` outside of quotes, for which a shell is \
                                            needed"
                ))
                .hint("give it curl's command alone, in its quotes"));
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quoted(rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), Failure> {
    loop {
        match rest.next().ok_or_else(|| refuse("has a quote that is not closed"))? {
            '"' => return Ok(()),
            '\\' => match rest.next() {
                Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                Some('\n') => {}
                other => {
                    word.push('\\');
                    word.extend(other);
                }
            },
            '`' => {
                return Err(refuse("has a command in backticks, for which a shell is needed"));
            }
            '$' if rest.peek().is_some_and(|c| c.is_alphabetic() || "_({".contains(*c)) => {
                return Err(refuse("has a variable, for which a shell is needed"));
            }
            c => word.push(c),
        }
    }
}

/// Reads bash's `$'...'`.
fn ansi_quoted(rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), Failure> {
    let open = || refuse("has a quote that is not closed");
    // The text is collected as bytes, since `\x` yields the bytes of UTF-8 one by one.
    let mut bytes = Vec::new();
    let push = |bytes: &mut Vec<u8>, c: char| {
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    };
    loop {
        match rest.next().ok_or_else(open)? {
            '\'' => break,
            '\\' => match rest.next().ok_or_else(open)? {
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                'a' => bytes.push(7),
                'b' => bytes.push(8),
                'e' | 'E' => bytes.push(27),
                'f' => bytes.push(12),
                'v' => bytes.push(11),
                'x' => bytes.extend(number(rest, 16, 2).and_then(|it| u8::try_from(it).ok())),
                'u' => push(&mut bytes, scalar(rest, 4)),
                'U' => push(&mut bytes, scalar(rest, 8)),
                c @ '0'..='7' => {
                    let mut value = c.to_digit(8).unwrap_or_default();
                    for _ in 0..2 {
                        let Some(digit) = rest.peek().and_then(|c| c.to_digit(8)) else { break };
                        rest.next();
                        value = value * 8 + digit;
                    }
                    bytes.extend(u8::try_from(value).ok());
                }
                c => push(&mut bytes, c),
            },
            c => push(&mut bytes, c),
        }
    }
    word.push_str(&String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8"))?);
    Ok(())
}

fn scalar(rest: &mut Peekable<Chars<'_>>, digits: usize) -> char {
    number(rest, 16, digits).and_then(char::from_u32).unwrap_or('\u{fffd}')
}

/// Reads a number of at most this many digits.
fn number(rest: &mut Peekable<Chars<'_>>, radix: u32, digits: usize) -> Option<u32> {
    let mut number = None;
    for _ in 0..digits {
        let Some(digit) = rest.peek().and_then(|c| c.to_digit(radix)) else { break };
        rest.next();
        number = Some(number.unwrap_or(0) * radix + digit);
    }
    number
}
