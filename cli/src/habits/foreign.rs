//! Flags that haul does not have.

use std::collections::VecDeque;
use std::ffi::OsString;

use super::table::{HABITS, Means, NOT_QUIET};
use super::values::{by_value, is_url};
use super::{Flag, Walk};
use crate::aria2;
use crate::exit::Failure;
use crate::units;

/// What this flag means here, if it belongs to curl, wget or aria2.
pub(super) fn habit(flag: &Flag<'_>) -> Option<&'static Means> {
    let typed = flag.typed();
    HABITS.iter().find(|(names, _)| names.contains(&typed.as_str())).map(|(_, means)| means)
}

/// Whether the word that follows is its value.
pub(super) fn takes_value(means: &Means) -> bool {
    matches!(means, Means::No | Means::Value(_) | Means::ByValue)
}

impl Walk<'_> {
    /// Handles a flag that haul does not have. Returns `false` if no program knows it.
    pub(super) fn foreign(
        &mut self,
        flag: &Flag<'_>,
        value: Option<&str>,
        rest: &mut VecDeque<OsString>,
    ) -> Result<bool, Failure> {
        let typed = flag.typed();
        let Some(means) = habit(flag) else {
            let Flag::Long(name) = flag else { return Ok(false) };
            let Some((wants_value, meaning)) = aria2::plain_meaning(name) else { return Ok(false) };
            let value = match value {
                None if wants_value => rest.pop_front(),
                value => value.map(OsString::from),
            };
            if let (Some(ours), Some(value)) = (meaning, value) {
                self.set(ours, value);
            }
            return Ok(true);
        };
        let value = match value {
            None if takes_value(means) => rest.pop_front(),
            value => value.map(OsString::from),
        };
        let missing = || Failure::usage(format!("{typed} needs a value, and none follows"));
        let is_off = value.as_ref().is_some_and(|value| value == "false");
        match means {
            Means::Nothing | Means::No => {}
            Means::Flags(words) => words.iter().for_each(|word| {
                self.loud |= *word == NOT_QUIET;
                if *word != NOT_QUIET {
                    self.push(*word);
                }
            }),
            Means::Value(flags) => {
                let value = value.ok_or_else(missing)?;
                flags.iter().for_each(|flag| self.set(flag, value.clone()));
            }
            Means::Switch(words) if !is_off => {
                words.iter().for_each(|word| self.push(*word));
            }
            Means::Switch(_) => {}
            Means::Unless(cause, hint) if is_off => {
                return Err(Failure::usage(format!("{typed}=false {cause}")).hint(*hint));
            }
            Means::Unless(..) => {}
            Means::ByValue => {
                let value = value.unwrap_or_default();
                let text = value.to_str().unwrap_or_default();
                let words = by_value(&typed, text)?;
                self.urls += words.iter().filter(|word| is_url(word)).count();
                self.out.extend(words.into_iter().map(OsString::from));
            }
            Means::Never(cause, hint) => {
                return Err(Failure::usage(format!("{typed} {cause}")).hint(*hint));
            }
        }
        Ok(true)
    }

    /// Handles aria2's `-k SIZE`. A `-k` alone is curl's, and no habit may switch certificate
    /// checks off.
    pub(super) fn min_split(
        &mut self,
        behind: &str,
        rest: &mut VecDeque<OsString>,
    ) -> Result<(), Failure> {
        let is_size = |text: &str| units::parse_size(text).is_ok();
        let behind = behind.strip_prefix('=').unwrap_or(behind);
        let next = rest.front().and_then(|word| word.to_str()).unwrap_or_default();
        if is_size(behind) {
            self.push(format!("--min-split-size={behind}"));
        } else if behind.is_empty() && is_size(next) {
            let size = next.to_owned();
            rest.pop_front();
            self.push(format!("--min-split-size={size}"));
        } else {
            return Err(Failure::usage(
                "-k alone has no meaning here, because curl and aria2 give it two",
            )
            .hint(
                "curl's -k is `--insecure`, which accepts any certificate; `--cacert FILE` trusts \
                 one; aria2's -k SIZE is `--min-split-size SIZE`",
            ));
        }
        Ok(())
    }
}
