//! Flags of curl, wget and aria2, typed by habit.
//!
//! Before the command line is parsed, its words pass through here once. A flag that haul does not
//! have is looked up in [`table`] and becomes haul's words, nothing, or a usage error that names
//! haul's flag ([`foreign`]). A flag that haul has is left alone, unless its value can only be
//! meant for the flag of that name in another program ([`ours`]): `-r 0-99` is a range, and `-s`
//! before a word means quiet. [`values`] tells values apart. Words that neither knows are left to
//! the parser. Foreign flags therefore appear in no help text, and no setting can have their names.

mod curl;
mod foreign;
mod ours;
mod table;
mod values;

use std::collections::VecDeque;
use std::ffi::OsString;

use clap::{Arg, Args as _, Command};

use crate::args::PlayArgs;
use crate::exit::Failure;
use foreign::{habit, takes_value};
use values::is_url;

/// Puts the command line, the program's name first, into haul's own words; `definition` defines it.
///
/// # Errors
/// Exit 2 for a flag that means something else here or that haul cannot honour. No value is quoted,
/// because it may be a secret.
pub(crate) fn in_our_words(
    definition: &Command,
    words: Vec<OsString>,
) -> Result<Vec<OsString>, Failure> {
    let is_flag = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
    if !words.iter().skip(1).any(is_flag) {
        return Ok(words);
    }
    let named = words.get(1).and_then(|word| word.to_str());
    let play;
    let (ours, at) = match named.and_then(|name| definition.find_subcommand(name)) {
        // These have the flags of a command line without a command.
        Some(command) if matches!(command.get_name(), "get" | "page") => (definition, 2),
        Some(command) if command.get_name() == "play" => {
            play = PlayArgs::augment_args(Command::new("play"));
            (&play, 2)
        }
        Some(_) => return Ok(words),
        None => (definition, 1),
    };
    let mut rest: VecDeque<OsString> = words.into();
    let at = at.min(rest.len());
    let mut walk = Walk::new(ours, rest.drain(..at).collect());
    walk.insecure = rest.iter().any(|word| word == "--insecure");
    while let Some(word) = rest.pop_front() {
        match word.to_str() {
            Some("--") => {
                walk.out.push(word);
                walk.out.extend(rest.drain(..));
                walk.urls += 1;
            }
            Some(text) if text.len() > 1 && text.starts_with('-') => {
                let text = text.to_owned();
                walk.flag(&text, &mut rest)?;
            }
            text => {
                walk.urls += usize::from(text.is_some_and(is_url));
                walk.bare += 1;
                walk.out.push(word);
            }
        }
    }
    walk.finish()
}

/// The words so far, and the decisions that depend on the whole line.
struct Walk<'a> {
    ours: &'a Command,
    out: Vec<OsString>,
    /// The index at which the flags begin.
    at: usize,
    /// Whether `--insecure` was typed.
    insecure: bool,
    /// How many words are neither flags nor values, and how many of them are URLs.
    bare: usize,
    urls: usize,
    has_list: bool,
    /// The index in `out` of a word that follows `-O` and may be the name of wget's output.
    named: Option<usize>,
    /// A word that follows `-c`, where curl expects its cookie file.
    after_c: bool,
    loud: bool,
    mirrors: bool,
}

/// A flag as it was typed.
enum Flag<'a> {
    Long(&'a str),
    Short(char),
}

impl Flag<'_> {
    fn typed(&self) -> String {
        match self {
            Self::Long(name) => format!("--{name}"),
            Self::Short(letter) => format!("-{letter}"),
        }
    }
}

impl<'a> Walk<'a> {
    fn new(ours: &'a Command, out: Vec<OsString>) -> Self {
        Self {
            ours,
            at: out.len(),
            out,
            insecure: false,
            bare: 0,
            urls: 0,
            has_list: false,
            named: None,
            after_c: false,
            loud: false,
            mirrors: false,
        }
    }

    /// Handles a word that begins with a hyphen, together with the following words that belong to
    /// it.
    fn flag(&mut self, word: &str, rest: &mut VecDeque<OsString>) -> Result<(), Failure> {
        let next = rest.front().and_then(|word| word.to_str());
        let no_value_follows = next.is_none_or(|word| word.starts_with('-') || is_url(word));
        if let Some(long) = word.strip_prefix("--") {
            return self.long(long, word, rest);
        }
        match word {
            "-nc" => self.push("--no-clobber"),
            // wget's flags about directories that it would create; haul creates none.
            "-np" => {}
            "-nd" | "-nH" if no_value_follows => {}
            _ => self.letters(word, rest)?,
        }
        Ok(())
    }

    fn long(
        &mut self,
        long: &str,
        word: &str,
        rest: &mut VecDeque<OsString>,
    ) -> Result<(), Failure> {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let flag = Flag::Long(name);
        let Some(arg) = find(self.ours, &flag) else {
            if !self.foreign(&flag, value, rest)? {
                self.push(word);
            }
            return Ok(());
        };
        if !arg.get_action().takes_values() {
            // aria2 writes switches in this way.
            match (value, name) {
                (Some("true"), _) => self.push(format!("--{name}")),
                (Some("false"), "remote-time") => self.push("--no-remote-time"),
                (Some("false"), _) => {}
                _ => self.push(word),
            }
            return Ok(());
        }
        if arg.is_require_equals_set() {
            match value {
                Some("true") => self.push(format!("--{name}=auto")),
                Some("false") => self.push(format!("--{name}=never")),
                _ => self.push(word),
            }
            return Ok(());
        }
        let (value, as_typed) = match value {
            Some(value) => (Some(OsString::from(value)), vec![OsString::from(word)]),
            None => self.with_next(word, rest),
        };
        self.ours(&flag, arg.get_id().as_str(), value, as_typed, rest)
    }

    /// Splits off the following word as the value, and keeps both words.
    fn with_next(
        &self,
        flag: &str,
        rest: &mut VecDeque<OsString>,
    ) -> (Option<OsString>, Vec<OsString>) {
        let value = rest.pop_front();
        let words = [Some(OsString::from(flag)), value.clone()];
        (value, words.into_iter().flatten().collect())
    }

    /// Handles one word of short flags.
    fn letters(&mut self, word: &str, rest: &mut VecDeque<OsString>) -> Result<(), Failure> {
        let letters = &word[1..];
        for (at, letter) in letters.char_indices() {
            let behind = &letters[at + letter.len_utf8()..];
            let flag = Flag::Short(letter);
            let Some(arg) = find(self.ours, &flag) else {
                let value = Some(behind).filter(|behind| !behind.is_empty());
                match habit(&flag) {
                    _ if letter == 'k' => return self.min_split(behind, rest),
                    Some(means) if takes_value(means) => {
                        let value = value.map(|value| value.strip_prefix('=').unwrap_or(value));
                        self.foreign(&flag, value, rest)?;
                        return Ok(());
                    }
                    Some(_) => {
                        self.foreign(&flag, None, rest)?;
                        continue;
                    }
                    None => {
                        // The parser reports it.
                        self.push(format!("-{letter}{behind}"));
                        return Ok(());
                    }
                }
            };
            if letter == 'O' {
                if self.remote_name(behind, rest) {
                    return Ok(());
                }
                continue;
            }
            if letter == 'c' && !behind.starts_with('=') {
                self.push("-c");
                let next = rest.front().and_then(|word| word.to_str());
                let of_haul = |word: &str| ["auto", "always", "never"].contains(&word);
                self.after_c |= behind.is_empty()
                    && next.is_some_and(|word| {
                        !word.starts_with('-') && !is_url(word) && !of_haul(word)
                    });
                continue;
            }
            if arg.is_require_equals_set() || !arg.get_action().takes_values() {
                let all = arg.is_require_equals_set();
                self.push(format!("-{letter}{}", if all { behind } else { "" }));
                if all {
                    return Ok(());
                }
                continue;
            }
            let typed = format!("-{letter}{behind}");
            let (value, as_typed) = match behind {
                "" => self.with_next(&typed, rest),
                behind => {
                    let value = behind.strip_prefix('=').unwrap_or(behind);
                    (Some(OsString::from(value)), vec![OsString::from(typed)])
                }
            };
            return self.ours(&flag, arg.get_id().as_str(), value, as_typed, rest);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<OsString>, Failure> {
        if self.after_c && self.urls > 0 {
            return Err(Failure::usage(
                "-c is --continue here, and the word after it is not a URL",
            )
            .hint(
                "curl's cookie jar has no flag: cookies that servers set are kept for the run, \
                 and -b FILE reads a file",
            ));
        }
        if self.mirrors && self.bare == 0 && self.urls == 0 && !self.has_list {
            return Err(Failure::usage(
                "--mirror takes another URL of the same file, and the first one is missing",
            )
            .hint(
                "haul URL --mirror URL2 fetches one file from both; wget's --mirror fetches whole \
                 sites, which haul does not",
            ));
        }
        if let Some(at) = self.named
            && (self.urls > 0 || self.has_list)
        {
            let mut word = OsString::from("--output=");
            word.push(&self.out[at]);
            self.out[at] = word;
        }
        if self.loud {
            self.out.retain(|word| word != "-q" && word != "--quiet");
        }
        Ok(self.out)
    }

    fn push(&mut self, word: impl Into<OsString>) {
        self.out.push(word.into());
    }

    fn set(&mut self, flag: &str, value: OsString) {
        let mut word = OsString::from(flag);
        word.push("=");
        word.push(value);
        self.out.push(word);
    }
}

/// The flag of haul that has this name.
fn find<'a>(command: &'a Command, flag: &Flag<'_>) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| match flag {
        Flag::Long(name) => {
            arg.get_long() == Some(name)
                || arg.get_all_aliases().is_some_and(|all| all.contains(name))
        }
        Flag::Short(letter) => {
            arg.get_short() == Some(*letter)
                || arg.get_all_short_aliases().is_some_and(|all| all.contains(letter))
        }
    })
}

#[cfg(test)]
mod tests;
