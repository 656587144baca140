//! The names that an output may take when its own is taken: `name (1).ext`.

use std::ffi::{OsStr, OsString};
use std::iter;
use std::path::{Path, PathBuf};

use crate::os;

/// With this many files of one name, no further number is tried.
const MOST: u32 = 9_999;

/// What file systems allow, less what is added to a name during the download.
const LONGEST_BYTES: usize = 255 - 5;

/// `output` and then its numbered names, each once.
pub(super) fn names(output: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    let name = output.file_name().unwrap_or_default();
    let rest = (1..=MOST).map(move |number| output.with_file_name(numbered(name, number)));
    iter::once(output.to_owned()).chain(rest)
}

/// `name` with a number before its extension; `.tar.gz` and the like count as
/// one extension. A name that would be too long is cut before the number.
fn numbered(name: &OsStr, number: u32) -> OsString {
    let name = name.as_encoded_bytes();
    let dot = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0);
    let mut at = dot(name).unwrap_or(name.len());
    if let Some(inner) = dot(&name[..at])
        && name[inner..at].eq_ignore_ascii_case(b".tar")
    {
        at = inner;
    }
    let (mut stem, extension) = name.split_at(at);
    let number = format!(" ({number})");
    while stem.len() > 1 && stem.len() + number.len() + extension.len() > LONGEST_BYTES {
        // A UTF-8 character is removed as a whole.
        let cut = stem.iter().rposition(|byte| byte & 0xC0 != 0x80).unwrap_or(0).max(1);
        stem = &stem[..cut];
    }
    os::name::of_bytes([stem, number.as_bytes(), extension].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_before_the_extension() {
        for (name, third) in [
            ("film.mp4", "film (3).mp4"),
            ("film", "film (3)"),
            (".profile", ".profile (3)"),
            ("a.b.c", "a.b (3).c"),
            ("src.tar.gz", "src (3).tar.gz"),
            (".tar.gz", ".tar (3).gz"),
        ] {
            assert_eq!(numbered(OsStr::new(name), 3), third);
        }
        let some: Vec<PathBuf> = names(Path::new("films/f.mp4")).take(3).collect();
        assert_eq!(some, ["films/f.mp4", "films/f (1).mp4", "films/f (2).mp4"].map(PathBuf::from));
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let name = format!("{}.mp4", "é".repeat(123));
        let numbered = numbered(OsStr::new(&name), 17);
        let text = numbered.to_str().expect("UTF-8 as before");
        assert!(text.ends_with("é (17).mp4") && text.len() <= LONGEST_BYTES, "{text}");
        assert!(text.len() > LONGEST_BYTES - 2);
        let all = numbered_is_short(&"x".repeat(255));
        assert!(all, "an extension alone");
    }

    fn numbered_is_short(name: &str) -> bool {
        numbered(OsStr::new(name), MOST).len() <= LONGEST_BYTES
    }
}
