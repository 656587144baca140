//! What the files of a film are called.

use std::path::{Path, PathBuf};

use haul_engine::Existing;
use url::Url;

use crate::checkpoint;
use crate::error::FilmError;
use crate::film::FilmOptions;
use crate::model::{Kind, Role};
use crate::source::Selected;

/// Names of manifests that say nothing about the film: the directory's name is taken instead.
const GENERAL: [&str; 12] = [
    "index",
    "master",
    "playlist",
    "manifest",
    "main",
    "prog_index",
    "chunklist",
    "stream",
    "video",
    "media",
    "hls",
    "dash",
];
/// Leaves room for what is added to it.
const MAX_STEM_BYTES: usize = 200;

/// The output of a film whose manifest is at `url`. Where a log is beside it, it may exist: that
/// log tells whether it is the film itself.
///
/// # Errors
/// [`FilmError::Exists`], and [`FilmError::Local`] where the directory cannot be made.
pub(crate) fn output(
    url: &Url,
    options: &FilmOptions,
    selected: &[Selected],
) -> Result<PathBuf, FilmError> {
    let chosen = match &options.output {
        Some(output) => output.clone(),
        None => PathBuf::from(format!("{}.{}", stem_of(url), extension_of(selected))),
    };
    let output = options.directory.join(chosen);
    if let Some(directory) = output.parent().filter(|it| !it.as_os_str().is_empty()) {
        let made = std::fs::create_dir_all(directory);
        made.map_err(|error| FilmError::local("create the directory", directory, error))?;
    }
    // A link that leads nowhere is there, too.
    if output.symlink_metadata().is_err() || has_log(&output) {
        return Ok(output);
    }
    match options.existing {
        Existing::Replace if !output.is_dir() => Ok(output),
        Existing::Rename => Ok(numbered(&output)),
        _ => Err(FilmError::Exists(output)),
    }
}

/// A name beside the output for something that belongs to it: one that is free.
pub(crate) fn beside(output: &Path, suffix: &str) -> PathBuf {
    let known =
        ["mp4", "m4v", "m4a", "mov", "mkv", "webm", "ts", "m2ts", "mts", "aac", "mp3", "ac3"];
    let extension = output.extension().map(|it| it.to_string_lossy().to_ascii_lowercase());
    let stem = match extension.is_some_and(|it| known.contains(&it.as_str())) {
        true => output.with_extension(""),
        false => output.to_owned(),
    };
    let path = with_suffix(&stem, suffix);
    if path.symlink_metadata().is_err() { path } else { numbered(&path) }
}

/// A language tag (RFC 5646) of a server as a part of a name, with a dot before it; nothing where it
/// is none.
pub(crate) fn tag(language: Option<&str>) -> String {
    let is_tag = |tag: &&str| {
        tag.len() <= 35 && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    language
        .filter(is_tag)
        .filter(|it| !it.is_empty())
        .map(|it| format!(".{it}"))
        .unwrap_or_default()
}

/// The first name of its kind that is free.
fn numbered(output: &Path) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = output.extension().map(|it| format!(".{}", it.to_string_lossy()));
    let extension = extension.unwrap_or_default();
    (1_u64..)
        .map(|number| output.with_file_name(format!("{stem} ({number}){extension}")))
        .find(|path| path.symlink_metadata().is_err() || has_log(path))
        .unwrap_or_else(|| output.to_owned())
}

/// Whether the log of a film that was not brought to its end is beside this output.
fn has_log(output: &Path) -> bool {
    checkpoint::path_of(output).symlink_metadata().is_ok()
}

/// The directory for what ffmpeg is given.
pub(crate) fn scratch(output: &Path) -> PathBuf {
    with_suffix(&checkpoint::path_of(output), ".d")
}

/// The file of a reel while the film is not complete.
pub(crate) fn reel(output: &Path, index: usize) -> PathBuf {
    with_suffix(
        output,
        &if index == 0 { ".part".to_owned() } else { format!(".part{}", index + 1) },
    )
}

/// A name with something after it.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn stem_of(url: &Url) -> String {
    let names: Vec<String> =
        url.path_segments().into_iter().flatten().filter(|it| !it.is_empty()).map(safe).collect();
    let last = names.last().map(|name| stem(name)).unwrap_or_default();
    let is_general = GENERAL.contains(&last.to_ascii_lowercase().as_str()) || last.is_empty();
    let above = names.iter().rev().nth(1).map(|name| stem(name)).filter(|name| !name.is_empty());
    match above.filter(|_| is_general) {
        Some(above) => above,
        None if last.is_empty() => "film".to_owned(),
        None => last,
    }
}

fn stem(name: &str) -> String {
    let known = [".m3u8", ".m3u", ".mpd", ".ism", ".isml", ".smil", ".mp4", ".mkv"];
    let cut = known.iter().find_map(|end| {
        let at = name.len().checked_sub(end.len())?;
        let is_end = name.is_char_boundary(at) && name[at..].eq_ignore_ascii_case(end);
        is_end.then(|| name[..at].to_owned())
    });
    cut.unwrap_or_else(|| name.to_owned())
}

/// A component of a URL as a name that every file system takes and no shell or terminal stumbles
/// over.
fn safe(component: &str) -> String {
    let decoded = percent_decoded(component);
    let clean: String = decoded
        .chars()
        .map(|c| if c.is_control() || "<>:\"/\\|?*".contains(c) { '_' } else { c })
        .collect();
    let mut name = clean.trim_matches(|c: char| c == '.' || c.is_whitespace()).to_owned();
    while name.len() > MAX_STEM_BYTES {
        name.pop();
    }
    let device = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let is_numbered = |begin| {
        device
            .strip_prefix(begin)
            .is_some_and(|rest| rest.len() == 1 && rest.as_bytes()[0].is_ascii_digit())
    };
    if ["CON", "PRN", "AUX", "NUL"].contains(&device.as_str())
        || is_numbered("COM")
        || is_numbered("LPT")
    {
        name.insert(0, '_');
    }
    name
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the pieces' names and initializations say about the container.
fn extension_of(selected: &[Selected]) -> &'static str {
    let pictures = selected.iter().filter(|it| it.kind != Kind::Subtitles).count();
    let Some(first) = selected.first() else { return "ts" };
    let pieces = &first.track.pieces;
    let has_init = pieces.iter().any(|piece| piece.role == Role::Init);
    let of_url = pieces.last().map(|piece| extension_in(&piece.url)).unwrap_or_default();
    match of_url.as_str() {
        "webm" => "webm",
        "aac" | "mp3" | "ac3" | "vtt" if pictures <= 1 => match of_url.as_str() {
            "aac" => "aac",
            "mp3" => "mp3",
            "ac3" => "ac3",
            _ => "vtt",
        },
        "m4a" if pictures == 1 && first.kind == Kind::Audio => "m4a",
        "mp4" | "m4s" | "m4v" | "m4a" | "cmfv" | "cmfa" => "mp4",
        _ if has_init || pictures > 1 => "mp4",
        _ => "ts",
    }
}

fn extension_in(url: &Url) -> String {
    let name = url.path().rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_language_tag_is_no_part_of_a_name() {
        assert_eq!(tag(Some("pt-BR")), ".pt-BR");
        for none in [None, Some(""), Some("x/../y"), Some("a\nb"), Some(&*"e".repeat(36))] {
            assert_eq!(tag(none), "", "{none:?}");
        }
    }

    #[test]
    fn films_are_named_by_what_says_most() {
        for (url, stem) in [
            ("http://a.example/films/Big%20Film.m3u8", "Big Film"),
            ("http://a.example/films/big/master.m3u8?token=1", "big"),
            ("http://a.example/films/big.ism/manifest.mpd", "big"),
            ("http://a.example/index.m3u8", "index"),
            ("http://a.example/", "film"),
            ("http://a.example/a%2F..%2F%00b%3A.m3u8", "a_.._!b_".replace('!', "_").as_str()),
            ("http://a.example/.../nul.m3u8", "_nul"),
        ] {
            assert_eq!(stem_of(&Url::parse(url).unwrap()), stem, "{url}");
        }
    }
}
