//! Names that a file system refuses, and others that it may accept.
//!
//! eCryptfs and some NAS limit names to 143 bytes; FAT, exFAT, NTFS and SMB refuse
//! some characters; others take only UTF-8. None says so before a file is created. Windows opens
//! something else under some names, so that these must never reach it.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use crate::model::error::{Error, ErrorKind};
use crate::model::name::at_most;
use crate::os;
use crate::os::name::Misfit;

/// Names are cut to these lengths in turn. They leave room for `.part` and `.haul`
/// below 255, 143 and some still shorter bounds.
const LENGTHS_BYTES: [usize; 4] = [245, 138, 90, 40];

/// A last dot further from the end than this does not begin an extension.
const LONGEST_EXTENSION_BYTES: usize = 16;

/// The same name without the characters that the system takes in no name.
pub(crate) fn accepted(name: &str) -> String {
    name.replace(os::name::is_refused, "_")
}

/// # Errors
/// [`ErrorKind::InvalidInput`] for a path that the system would take for something else.
pub(crate) fn refuse_unusable(output: &Path) -> Result<(), Error> {
    for component in output.components() {
        let Component::Normal(name) = component else { continue };
        if let Some(why) = os::name::why_refused(name) {
            let shown = at_most(&name.to_string_lossy(), 80);
            let message = format!("no file can have the name `{shown}`: {why}");
            return Err(Error::new(ErrorKind::InvalidInput, message)
                .with_hint("choose another name for the output"));
        }
    }
    Ok(())
}

fn misfit(output: &Path, error: &Error) -> Option<Misfit> {
    os::name::misfit(error.io_error()?, output.file_name().unwrap_or(OsStr::new("")))
}

/// Another name for `output`, where opening it failed with `error` because of its
/// name. `None` where there is no other to try, or something else is wrong.
pub(crate) fn fitting(output: &Path, error: &Error) -> Option<PathBuf> {
    let name = output.file_name()?.to_str()?;
    let other = match misfit(output, error)? {
        Misfit::TooLong => {
            let longest = LENGTHS_BYTES.into_iter().find(|longest| *longest < name.len())?;
            cut(name, longest)
        }
        Misfit::Refused => {
            let plain = name.replace(is_often_refused, "_");
            let plain = plain.trim_end_matches(['.', ' ']).to_owned();
            match plain == name {
                true => name.replace(|it: char| !it.is_ascii(), "_"),
                false => plain,
            }
        }
    };
    (other != name && !other.is_empty()).then(|| output.with_file_name(other))
}

/// Adds a hint to the error about a given name that the file system refuses.
pub(crate) fn with_words(output: &Path, error: Error) -> Error {
    match misfit(output, &error) {
        Some(Misfit::TooLong) => error.with_hint("choose a shorter name for the output"),
        Some(Misfit::Refused) => error.with_hint(
            "the file system may not take this name (FAT, exFAT and SMB refuse : ? * \" < > | \
             and \\): choose another one for the output",
        ),
        None => error,
    }
}

fn is_often_refused(character: char) -> bool {
    character.is_control() || matches!(character, ':' | '?' | '*' | '"' | '<' | '>' | '|' | '\\')
}

/// The beginning of `name`, followed by its extension.
fn cut(name: &str, longest_bytes: usize) -> String {
    let dot = name.rfind('.').filter(|at| *at > 0 && name.len() - at <= LONGEST_EXTENSION_BYTES);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let mut at = longest_bytes.saturating_sub(extension.len()).min(stem.len());
    while !stem.is_char_boundary(at) {
        at -= 1;
    }
    format!("{}{extension}", stem[..at].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(name: &str, error: &str) -> Option<String> {
        let error = crate::os::error::named(error).unwrap();
        let error = Error::io("cannot create", Path::new(name), error);
        let output = fitting(&Path::new("films").join(name), &error)?;
        assert_eq!(output.parent(), Some(Path::new("films")));
        Some(output.file_name().unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn long_names_are_cut_again_and_again() {
        let mut name = format!("{}.mp4", "电".repeat(80));
        for longest in [138, 90, 40] {
            name = tried(&name, "ENAMETOOLONG").unwrap();
            assert!(name.len() <= longest && name.len() > longest - 4, "{name}");
            assert!(name.ends_with("电.mp4"), "{name}");
        }
        assert_eq!(tried(&name, "ENAMETOOLONG"), None);
    }

    #[test]
    fn refused_characters_are_replaced() {
        for error in os::testing::REFUSALS {
            let tried = |name: &str| tried(name, error);
            assert_eq!(tried("Who? 12:30 \"x\".mp4").unwrap(), "Who_ 12_30 _x_.mp4");
            assert_eq!(tried("señor.mp4").unwrap(), "se_or.mp4");
            assert_eq!(tried("film.mp4"), None);
        }
        assert_eq!(super::tests::tried("a:b", "ENOSPC"), None);
    }
}
