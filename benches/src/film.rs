//! A film in many pieces: made, served, fetched by programs that read playlists, and looked at.
//!
//! [`make`] has ffmpeg make the film and the forms in which it is served; [`content`] tells whether
//! a file is that film, by its pictures and its sound, since every program puts the pieces together
//! in a way of its own; [`peers`] are the programs.

pub mod content;
pub mod make;
pub mod peers;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::Failure;
use crate::contender::{find_program, says};

/// ffmpeg and ffprobe, without which there is neither a film nor a way to look at one.
#[derive(Clone, Debug)]
pub struct Ffmpeg {
    encoder: PathBuf,
    prober: PathBuf,
}

impl Ffmpeg {
    /// The installed one, if it can make the film.
    #[must_use]
    pub fn find() -> Option<Self> {
        let (encoder, prober) = (find_program("ffmpeg")?, find_program("ffprobe")?);
        let encoders = says(&encoder, &["-hide_banner", "-encoders"])?;
        encoders.contains(" libx264 ").then_some(Self { encoder, prober })
    }

    /// Runs ffmpeg in `directory` with these arguments and gives what it writes to stdout.
    fn run(
        &self,
        directory: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<String, Failure> {
        let mut command = Command::new(&self.encoder);
        command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]);
        said(command.args(arguments).current_dir(directory))
    }

    /// What ffprobe says of the entries `show` of `file`, as plain values.
    fn probe(&self, file: &Path, show: &str) -> Result<String, Failure> {
        let mut command = Command::new(&self.prober);
        command.args(["-v", "error", "-of", "csv=p=0", "-show_entries", show]);
        said(command.arg(file))
    }
}

fn said(command: &mut Command) -> Result<String, Failure> {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output()?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let words = String::from_utf8_lossy(&stderr);
    Err(format!("{program} failed: {}", words.lines().last().unwrap_or("without a word")).into())
}
