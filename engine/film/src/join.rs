//! From the files of reels to the output.
//!
//! One reel becomes the output by its name alone. Several, such as pictures and sound, or the parts
//! before and after a break, are put together by ffmpeg without coding anything anew. Where ffmpeg
//! is not there, each track is a file of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::container::{Container, beginning_of};
use crate::error::FilmError;
use crate::film::blocking;
use crate::model::Kind;
use crate::name;
use crate::publish::Ready;
use crate::subtitles;
use crate::timestamp;

const FFMPEG: &str = "ffmpeg";
/// A container costs less than it holds: an output below this part of its tracks is not whole.
const LEAST_KEPT: u64 = 2;
/// The last lines of what ffmpeg says that are told.
const TOLD_LINES: usize = 3;

/// A file of a stretch of a track.
#[derive(Debug, Clone)]
pub(crate) struct Reel {
    pub(crate) path: PathBuf,
    /// If any piece of it came in this run.
    pub(crate) container: Option<Container>,
}

/// What was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) ready: Vec<Ready>,
    pub(crate) notes: Vec<String>,
    /// Where some of the files are.
    pub(crate) scratch: Scratch,
}

type Tracks = Vec<(Kind, Option<String>, Vec<Reel>)>;

/// Makes the output of these tracks, ready to get its name. The directory `scratch` is gone when what
/// is returned is.
///
/// # Errors
/// [`FilmError::Join`] where ffmpeg fails; the files of the reels are still there then.
pub(crate) async fn join(
    output: &Path,
    tracks: Tracks,
    scratch: PathBuf,
) -> Result<Made, FilmError> {
    let scratch = Scratch { directory: scratch, count: 0 };
    let (texts, media): (Tracks, Tracks) =
        tracks.into_iter().partition(|(kind, ..)| *kind == Kind::Subtitles);
    let mut made = Made { ready: Vec::new(), notes: Vec::new(), scratch };
    match &media[..] {
        [] => {}
        [(_, _, reels)] if reels.len() == 1 && fits(reels[0].container()?, output) => {
            made.film(reels[0].path.clone(), output.to_owned());
        }
        _ if has_ffmpeg().await => {
            let joined = with_ffmpeg(output, &media, &mut made.scratch).await?;
            made.film(joined, output.to_owned());
        }
        _ => without_ffmpeg(output, &media, &mut made).await?,
    }
    for (_, language, reels) in texts {
        let is_text = reels.len() == 1 && reels[0].container()? == Container::Text;
        let end =
            reels.first().map(Reel::container).transpose()?.map_or("vtt", Container::extension);
        if !is_text && reels.len() > 1 {
            let why = "the subtitles have breaks, and haul joins none: choose a film without them";
            return Err(FilmError::Unsupported(why.to_owned()));
        }
        // Without pictures the text is the output.
        let is_film = made.ready.is_empty();
        let to = match made.ready.first() {
            Some(film) => {
                name::beside(&film.to, &format!("{}.{end}", name::tag(language.as_deref())))
            }
            None => output.to_owned(),
        };
        let Some(from) = reels.first().map(|reel| reel.path.clone()) else { continue };
        let from = match is_text {
            true => {
                let merged = made.scratch.name();
                let path = merged.clone();
                let film = media.first().and_then(|(.., reels)| reels.first().cloned());
                blocking(move || write_text(&from, film.as_ref(), &path)).await?;
                merged
            }
            false => from,
        };
        made.ready.push(Ready { from, to, is_film });
    }
    Ok(made)
}

impl Made {
    fn film(&mut self, from: PathBuf, to: PathBuf) {
        self.ready.push(Ready { from, to, is_film: true });
    }
}

impl Reel {
    fn container(&self) -> Result<Container, FilmError> {
        if let Some(known) = self.container {
            return Ok(known);
        }
        let beginning = File::open(&self.path)
            .and_then(beginning_of)
            .map_err(|error| FilmError::local("read", &self.path, error))?;
        Container::of_beginning(&beginning)
            .map_err(|why| FilmError::Unsupported(format!("{} {why}", self.path.display())))
    }
}

fn extension(path: &Path) -> String {
    path.extension().map(|it| it.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// Whether a file of this name may hold this container as it is.
fn fits(container: Container, output: &Path) -> bool {
    let extension = extension(output);
    let is_known = format_of(output).is_some();
    match container {
        Container::TransportStream => {
            matches!(extension.as_str(), "ts" | "m2ts" | "mts") || !is_known
        }
        Container::Mp4 => matches!(extension.as_str(), "mp4" | "m4v" | "m4a" | "mov") || !is_known,
        Container::WebM => matches!(extension.as_str(), "webm" | "mkv") || !is_known,
        Container::PackedAudio => !is_known,
        Container::Text => true,
    }
}

/// ffmpeg's name for what a file of this name holds.
fn format_of(output: &Path) -> Option<&'static str> {
    Some(match extension(output).as_str() {
        "mp4" | "m4v" | "m4a" => "mp4",
        "mov" => "mov",
        "mkv" | "mka" => "matroska",
        "webm" => "webm",
        "ts" | "m2ts" | "mts" => "mpegts",
        _ => return None,
    })
}

async fn has_ffmpeg() -> bool {
    let ran = ffmpeg().arg("-version").stdout(Stdio::null()).status().await;
    ran.is_ok_and(|status| status.success())
}

fn ffmpeg() -> Command {
    let mut command = Command::new(FFMPEG);
    command.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
    command
}

/// The file that ffmpeg makes of these tracks.
async fn with_ffmpeg(
    output: &Path,
    media: &Tracks,
    scratch: &mut Scratch,
) -> Result<PathBuf, FilmError> {
    let Some(format) = format_of(output) else {
        return Err(FilmError::Unsupported(format!(
            "{} is to be made of several tracks, and its name tells no container: end it with \
             .mp4, .mkv or .ts",
            output.display()
        )));
    };
    let kept: Vec<PathBuf> =
        media.iter().flat_map(|(_, _, reels)| reels).map(|reel| reel.path.clone()).collect();
    let mut arguments: Vec<OsString> = Vec::new();
    let mut breaks = false;
    for (_, _, reels) in media {
        match &reels[..] {
            [one] => arguments.extend(input(&one.path, one.container()?)),
            several => {
                breaks = true;
                let list = listed(several, &kept, scratch).await?;
                let concat = ["-protocol_whitelist", "file", "-f", "concat", "-safe", "0", "-i"];
                arguments.extend(concat.map(OsString::from));
                arguments.push(file(&list));
            }
        }
    }
    let wanted = media.iter().enumerate().flat_map(|(input, (kind, ..))| match kind {
        // Pictures may have sound with them.
        Kind::Video => vec![format!("{input}:v"), format!("{input}:a?")],
        _ => vec![format!("{input}:a")],
    });
    arguments.extend(wanted.flat_map(|stream| ["-map".into(), stream.into()]));
    arguments.extend(["-c", "copy"].map(OsString::from));
    if media.len() > 1 && !breaks {
        // Each input alone would be moved to begin at zero, and sound would part from pictures.
        arguments.extend(["-copyts", "-avoid_negative_ts", "make_zero"].map(OsString::from));
    }
    if format == "mp4" || format == "mov" {
        arguments.extend(["-movflags", "+faststart"].map(OsString::from));
    }
    arguments.extend(["-f".into(), format.into()]);
    let joined = scratch.name();
    arguments.push(file(&joined));
    run(arguments, &kept).await?;
    let length = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let (made, whole) = (length(&joined), kept.iter().map(|path| length(path)).sum::<u64>());
    if made < whole / LEAST_KEPT {
        let message = format!("ffmpeg made only {made} bytes of {whole}");
        return Err(FilmError::Join { message, tracks: kept });
    }
    Ok(joined)
}

/// A list of the reels of a track for ffmpeg. Those of MP4 become transport streams first, which
/// carry the description of what follows at each break.
async fn listed(
    reels: &[Reel],
    kept: &[PathBuf],
    scratch: &mut Scratch,
) -> Result<PathBuf, FilmError> {
    let mut text = "ffconcat version 1.0\n".to_owned();
    for reel in reels {
        let mut path = reel.path.clone();
        let container = reel.container()?;
        if container != Container::TransportStream {
            let stream = scratch.name();
            let mut arguments = input(&path, container);
            arguments.extend(["-map", "0", "-c", "copy", "-f", "mpegts"].map(OsString::from));
            arguments.push(file(&stream));
            run(arguments, kept).await?;
            path = stream;
        }
        let path =
            fs::canonicalize(&path).map_err(|error| FilmError::local("find", &path, error))?;
        let Some(name) = path.to_str().filter(|it| !it.contains(char::is_control)) else {
            let why = format!("ffmpeg cannot be given a file of the name {}", path.display());
            return Err(FilmError::Unsupported(why));
        };
        text.push_str(&format!("file '{}'\n", name.replace('\'', r"'\''")));
    }
    let list = scratch.name();
    fs::write(&list, text).map_err(|error| FilmError::local("write", &list, error))?;
    Ok(list)
}

/// An input of ffmpeg, which takes it for what it is: guessing, it would follow a playlist.
fn input(path: &Path, container: Container) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["-protocol_whitelist".into(), "file".into()];
    let format = match container {
        Container::TransportStream => Some("mpegts"),
        Container::Mp4 => Some("mov"),
        Container::WebM => Some("matroska"),
        Container::Text => Some("webvtt"),
        Container::PackedAudio => None,
    };
    arguments.extend(format.into_iter().flat_map(|format| ["-f".into(), format.into()]));
    arguments.extend(["-i".into(), file(path)]);
    arguments
}

/// A path as ffmpeg takes it: a name with a colon would be a protocol, and one with a dash an
/// option.
fn file(path: &Path) -> OsString {
    let mut argument = OsString::from("file:");
    argument.push(path);
    argument
}

async fn run(arguments: Vec<OsString>, kept: &[PathBuf]) -> Result<(), FilmError> {
    let failed = |message: String| FilmError::Join { message, tracks: kept.to_vec() };
    let ran = ffmpeg()
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-n"])
        .args(arguments)
        .output()
        .await
        .map_err(|error| failed(format!("ffmpeg cannot be run: {error}")))?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(TOLD_LINES)..].join(" / ");
    Err(failed(format!("ffmpeg could not make one file ({}): {last}", ran.status)))
}

/// A directory that is gone with all its files when this value is.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: PathBuf,
    count: usize,
}

impl Scratch {
    /// A new name in it, which no other run has: the ffmpeg of one that was killed may still be
    /// about to write its file.
    fn name(&mut self) -> PathBuf {
        self.count += 1;
        self.directory.join(format!("{}-{}", std::process::id(), self.count))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

async fn without_ffmpeg(output: &Path, media: &Tracks, made: &mut Made) -> Result<(), FilmError> {
    let is_stream =
        |reel: &Reel| Ok::<_, FilmError>(reel.container()? == Container::TransportStream);
    if let [(_, _, reels)] = &media[..]
        && reels.len() > 1
        && reels.iter().map(is_stream).collect::<Result<Vec<_>, _>>()?.into_iter().all(|it| it)
    {
        let to = match fits(Container::TransportStream, output) {
            true => output.to_owned(),
            false => name::beside(output, ".ts"),
        };
        let all = reels.clone();
        blocking(move || append(&all)).await?;
        made.film(reels[0].path.clone(), to);
        made.notes.push(
            "timestamps start over within the film, and ffmpeg, which would mend that, is not there"
                .to_owned(),
        );
        return Ok(());
    }
    for (kind, language, reels) in media {
        let language = name::tag(language.as_deref());
        for (index, reel) in reels.iter().enumerate() {
            let number = if reels.len() > 1 { format!(".{}", index + 1) } else { String::new() };
            let end = reel.container()?.extension();
            let name = format!(".{kind}{language}{number}.{end}");
            made.film(reel.path.clone(), name::beside(output, &name));
        }
    }
    made.notes.push(
        "ffmpeg is not there to make one file of these tracks: each is a file of its own"
            .to_owned(),
    );
    Ok(())
}

/// Appends all other reels to the file of the first. A kill meanwhile costs nothing: the next run
/// cuts that file to its length.
fn append(reels: &[Reel]) -> Result<(), FilmError> {
    let Some((first, rest)) = reels.split_first() else { return Ok(()) };
    let mut all = File::options()
        .append(true)
        .open(&first.path)
        .map_err(|error| FilmError::local("open", &first.path, error))?;
    for reel in rest {
        File::open(&reel.path)
            .and_then(|mut file| io::copy(&mut file, &mut all))
            .map_err(|error| FilmError::local("append", &reel.path, error))?;
    }
    Ok(())
}

/// Makes one text of the segments in a file, to go with the film that begins with this reel.
fn write_text(from: &Path, film: Option<&Reel>, to: &Path) -> Result<(), FilmError> {
    let bytes = fs::read(from).map_err(|error| FilmError::local("read", from, error))?;
    let container = film.map(Reel::container).transpose()?;
    let first =
        film.zip(container).and_then(|(it, container)| timestamp::first(&it.path, container));
    fs::write(to, subtitles::merged(&String::from_utf8_lossy(&bytes), first))
        .map_err(|error| FilmError::local("write", to, error))
}
