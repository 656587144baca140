//! The command line of this run, for a user who has to type it again.

use haul_engine::redact_url;

/// The flags whose values are secrets, or may be.
const SECRET_FLAGS: [&str; 8] = [
    "--user",
    "--bearer",
    "--oauth2-bearer",
    "--header",
    "--from-curl",
    "--refresh-cmd",
    "--exec",
    "--http-user",
];
/// The flags whose values are cookies, unless they are files.
const COOKIE_FLAGS: [&str; 3] = ["--load-cookies", "--cookies", "--cookie"];
const SECRET_LETTERS: [char; 2] = ['u', 'H'];
/// A longer command is easier to find in the shell's history.
const LONGEST: usize = 400;

/// This process's command line as a shell reads it, unless some of it is, or may be, a secret.
pub(crate) fn command() -> Option<String> {
    let words: Option<Vec<String>> =
        std::env::args_os().map(|word| word.into_string().ok()).collect();
    quoted(&words?)
}

fn quoted(words: &[String]) -> Option<String> {
    let next = |at: usize| words.get(at + 1).map(String::as_str).unwrap_or_default();
    let gives_secret =
        |(at, word): (usize, &String)| is_secret(word) || gives_cookies(word, next(at));
    if words.iter().enumerate().skip(1).any(gives_secret) {
        return None;
    }
    let line = words.iter().map(|word| quote(word)).collect::<Option<Vec<_>>>()?.join(" ");
    (line.len() <= LONGEST).then_some(line)
}

/// Whether a word, or the one after it, contains cookies.
fn gives_cookies(word: &str, next: &str) -> bool {
    match word.split_once('=') {
        None if word.starts_with("--") => COOKIE_FLAGS.contains(&word) && next.contains('='),
        None => word.starts_with('-') && word.ends_with('b') && next.contains('='),
        Some((flag, value)) if flag.starts_with("--") => {
            COOKIE_FLAGS.contains(&flag) && value.contains('=')
        }
        Some((letters, _)) => letters.starts_with('-') && letters.contains('b'),
    }
}

fn is_secret(word: &str) -> bool {
    let flag = word.split('=').next().unwrap_or(word);
    let letters = flag.strip_prefix('-').filter(|letters| !letters.starts_with('-'));
    let url = word.split_once('=').filter(|_| word.starts_with("--")).map_or(word, |(_, url)| url);
    SECRET_FLAGS.contains(&flag)
        || letters.is_some_and(|letters| letters.contains(SECRET_LETTERS))
        || word.contains('@')
        || url.contains("://") && redact_url(url) != url
}

/// Quotes a word for a shell; `None` if it would steer a terminal.
fn quote(word: &str) -> Option<String> {
    if super::escape(word) != word {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Some(word.to_owned());
    }
    Some(format!("'{}'", word.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Option<String> {
        quoted(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_can_be_typed_again() {
        assert_eq!(
            of(&["haul", "-x8", "-o", "a b's", "http://h/f.mp4"]).as_deref(),
            Some(r"haul -x8 -o 'a b'\''s' http://h/f.mp4")
        );
        assert!(of(&["haul", "-b", "cookies.txt", "http://h/"]).is_some());
    }

    #[test]
    fn no_command_with_a_secret_is_shown() {
        for words in [
            &["haul", "-u", "me:hunter2", "http://h/"][..],
            &["haul", "--user=me:hunter2", "http://h/"],
            &["haul", "-qu", "me:hunter2", "http://h/"],
            &["haul", "-HCookie: hunter2", "http://h/"],
            &["haul", "--bearer", "hunter2", "http://h/"],
            &["haul", "http://h/?sig=hunter2"],
            &["haul", "--mirror=http://h/?sig=hunter2", "http://h/"],
            &["haul", "--proxy", "me:hunter2@h:1", "http://h/"],
            &["haul", "http://me:hunter2@h/"],
            &["haul", "-b", "sid=hunter2", "http://h/"],
            &["haul", "-qbsid=hunter2", "http://h/"],
            &["haul", "--cookie=sid=hunter2", "http://h/"],
            &["haul", "--load-cookies", "sid=hunter2", "http://h/"],
            &["haul", "--from-curl", "curl -H 'Cookie: hunter2' http://h/"],
            &["haul", "http://h/a\u{1b}[2J"],
        ] {
            assert_eq!(of(words), None, "{words:?}");
        }
    }
}
