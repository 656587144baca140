//! From the files of reels to the output.
//!
//! One reel becomes the output by its name alone. Several, such as pictures and sound, or the parts
//! before and after a break, are put together by ffmpeg without coding anything anew. Where ffmpeg
//! is not there, each track is a file of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use haul_engine::Existing;
use tokio::process::Command;

use crate::container::{Container, beginning_of};
use crate::error::FilmError;
use crate::film::blocking;
use crate::model::Kind;
use crate::name;
use crate::subtitles;

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
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) outputs: Vec<PathBuf>,
    pub(crate) subtitles: Option<PathBuf>,
    pub(crate) notes: Vec<String>,
}

type Tracks = Vec<(Kind, Option<String>, Vec<Reel>)>;

/// Makes the output of these tracks, whose files are gone afterwards, as is the directory `scratch`.
///
/// # Errors
/// [`FilmError::Join`] where ffmpeg fails; the files of the reels are still there then.
pub(crate) async fn join(
    output: &Path,
    tracks: Tracks,
    existing: Existing,
    sync: bool,
    scratch: PathBuf,
) -> Result<Made, FilmError> {
    let scratch = Scratch { directory: scratch, count: 0 };
    let (texts, media): (Tracks, Tracks) =
        tracks.into_iter().partition(|(kind, ..)| *kind == Kind::Subtitles);
    let mut made = Made::default();
    match &media[..] {
        [] => {}
        [(_, _, reels)] if reels.len() == 1 && fits(reels[0].container()?, output) => {
            let (from, to) = (reels[0].path.clone(), output.to_owned());
            blocking(move || publish(&from, &to, existing, sync)).await?;
            made.outputs.push(output.to_owned());
        }
        _ if has_ffmpeg().await => {
            with_ffmpeg(output, &media, existing, sync, scratch).await?;
            made.outputs.push(output.to_owned());
        }
        _ => without_ffmpeg(output, &media, existing, sync, &mut made).await?,
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
        let to = match made.outputs.first() {
            Some(film) => name::beside(film, &format!("{}.{end}", name::tag(language.as_deref()))),
            None => output.to_owned(),
        };
        let path = to.clone();
        blocking(move || match is_text {
            true => write_text(&reels, &path, existing, sync),
            false => reels.iter().try_for_each(|reel| publish(&reel.path, &path, existing, sync)),
        })
        .await?;
        match made.outputs.is_empty() {
            true => made.outputs.push(to),
            false => made.subtitles = Some(to),
        }
    }
    Ok(made)
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

async fn with_ffmpeg(
    output: &Path,
    media: &Tracks,
    existing: Existing,
    sync: bool,
    mut scratch: Scratch,
) -> Result<(), FilmError> {
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
                let list = listed(several, &kept, &mut scratch).await?;
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
    let to = output.to_owned();
    blocking(move || {
        publish(&joined, &to, existing, sync)?;
        drop(scratch);
        for path in kept {
            fs::remove_file(&path).map_err(|error| FilmError::local("remove", &path, error))?;
        }
        Ok(())
    })
    .await
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
struct Scratch {
    directory: PathBuf,
    count: usize,
}

impl Scratch {
    /// A new name in it.
    fn name(&mut self) -> PathBuf {
        self.count += 1;
        self.directory.join(self.count.to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

async fn without_ffmpeg(
    output: &Path,
    media: &Tracks,
    existing: Existing,
    sync: bool,
    made: &mut Made,
) -> Result<(), FilmError> {
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
        let from = reels.clone();
        made.outputs.push(to.clone());
        blocking(move || {
            append(&from)?;
            publish(&from[0].path, &to, existing, sync)
        })
        .await?;
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
            let (from, to) = (reel.path.clone(), name::beside(output, &name));
            made.outputs.push(to.clone());
            blocking(move || publish(&from, &to, existing, sync)).await?;
        }
    }
    made.notes.push(
        "ffmpeg is not there to make one file of these tracks: each is a file of its own"
            .to_owned(),
    );
    Ok(())
}

/// Puts all reels into the file of the first.
fn append(reels: &[Reel]) -> Result<(), FilmError> {
    let Some((first, rest)) = reels.split_first() else { return Ok(()) };
    let mut all = File::options()
        .append(true)
        .open(&first.path)
        .map_err(|error| FilmError::local("open", &first.path, error))?;
    for reel in rest {
        File::open(&reel.path)
            .and_then(|mut file| io::copy(&mut file, &mut all))
            .and_then(|_| fs::remove_file(&reel.path))
            .map_err(|error| FilmError::local("append", &reel.path, error))?;
    }
    Ok(())
}

fn write_text(reels: &[Reel], to: &Path, existing: Existing, sync: bool) -> Result<(), FilmError> {
    let mut all = String::new();
    for reel in reels {
        let bytes =
            fs::read(&reel.path).map_err(|error| FilmError::local("read", &reel.path, error))?;
        all.push_str(&String::from_utf8_lossy(&bytes));
        all.push('\n');
    }
    let Some(first) = reels.first() else { return Ok(()) };
    File::create(&first.path)
        .and_then(|mut file| file.write_all(subtitles::merged(&all).as_bytes()))
        .map_err(|error| FilmError::local("write", &first.path, error))?;
    publish(&first.path, to, existing, sync)?;
    for reel in &reels[1..] {
        fs::remove_file(&reel.path)
            .map_err(|error| FilmError::local("remove", &reel.path, error))?;
    }
    Ok(())
}

/// Gives a file its final name, which is not taken from another file unless that is wanted.
fn publish(from: &Path, to: &Path, existing: Existing, sync: bool) -> Result<(), FilmError> {
    let cannot = |error| FilmError::local("name", to, error);
    if sync {
        File::open(from).and_then(|file| file.sync_all()).map_err(cannot)?;
    }
    if existing == Existing::Replace {
        fs::rename(from, to).map_err(cannot)?;
        // A kill between the two steps below leaves two names of one file, which renaming keeps.
        let _ = fs::remove_file(from);
    } else {
        match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from).map_err(cannot)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(FilmError::Exists(to.to_owned()));
            }
            // There are no links here. The name is taken by an empty file first.
            Err(_) => {
                match File::create_new(to) {
                    Ok(file) => drop(file),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        return Err(FilmError::Exists(to.to_owned()));
                    }
                    Err(error) => return Err(cannot(error)),
                }
                fs::rename(from, to).map_err(cannot)?;
            }
        }
    }
    let directory = to.parent().filter(|it| !it.as_os_str().is_empty());
    if sync {
        // Not every system opens directories, and none offers more.
        let opened = File::open(directory.unwrap_or(Path::new(".")));
        let _ = opened.and_then(|directory| directory.sync_all());
    }
    Ok(())
}
