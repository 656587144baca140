//! The programs that download films, and their command lines.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::contender::{find_program, look_for, quiet, says};

/// A program that downloads films.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilmPeer {
    /// yt-dlp with sixteen pieces at a time.
    YtDlp,
    /// streamlink with eight threads.
    Streamlink,
    /// ffmpeg, a piece after the other.
    Ffmpeg,
}

/// One that is installed here.
#[derive(Clone, Debug)]
pub struct FoundFilmPeer {
    /// Which.
    pub peer: FilmPeer,
    /// Its path.
    pub program: PathBuf,
}

impl FilmPeer {
    /// All.
    pub const ALL: [Self; 3] = [Self::YtDlp, Self::Streamlink, Self::Ffmpeg];

    /// The name as typed after `--peers`, which is the command's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::YtDlp => "yt-dlp",
            Self::Streamlink => "streamlink",
            Self::Ffmpeg => "ffmpeg",
        }
    }

    /// How to get it. The Python programs age fast: what a distribution has is often too old.
    fn how_to_get(self) -> &'static str {
        match self {
            Self::YtDlp => "pip install yt-dlp",
            Self::Streamlink => "pip install streamlink",
            Self::Ffmpeg => "apt-get install ffmpeg",
        }
    }

    /// The argument that has it tell its version and end.
    #[must_use]
    pub fn version_flag(self) -> &'static str {
        match self {
            Self::YtDlp | Self::Streamlink => "--version",
            Self::Ffmpeg => "-version",
        }
    }

    /// What is of interest on its command line.
    fn flags(self) -> &'static str {
        match self {
            Self::YtDlp => "-N 16",
            Self::Streamlink => "--stream-segment-threads 8",
            Self::Ffmpeg => "-c copy",
        }
    }
}

/// Those that are installed here and, unless `wanted` is `None`, named in it; and a sentence for
/// each that is missing.
#[must_use]
pub fn find_film_peers(wanted: Option<&[String]>) -> (Vec<FoundFilmPeer>, Vec<String>) {
    let known = FilmPeer::ALL.map(|peer| (peer, peer.name(), peer.how_to_get()));
    let (found, missing) = look_for(&known, wanted, |peer| find_program(peer.name()));
    let found = found.into_iter().map(|(peer, program)| FoundFilmPeer { peer, program });
    (found.collect(), missing)
}

impl FoundFilmPeer {
    /// How the tables call it.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.peer.name(), self.peer.flags())
    }

    /// Its version, in its own words.
    #[must_use]
    pub fn version(&self) -> String {
        let said = says(&self.program, &[self.peer.version_flag()]).unwrap_or_default();
        read_version(self.peer.name(), &said)
    }

    /// The command that downloads the film of the manifest at `url` into `directory`, without any
    /// proxy and its user's settings.
    #[must_use]
    pub fn command(&self, url: &str, directory: &Path) -> Command {
        let mut command = quiet(&self.program);
        command.current_dir(directory);
        let flags = self.peer.flags().split(' ');
        match self.peer {
            FilmPeer::YtDlp => {
                command.args(["--ignore-config", "--no-cache-dir", "-q", "--no-progress"]);
                command.args(flags).args(["-o", "download.%(ext)s", url]);
            }
            FilmPeer::Streamlink => {
                let scheme = if url.ends_with(".mpd") { "dash" } else { "hls" };
                command.args(["--no-config", "-l", "error", "-f", "-o", "download.ts"]);
                command.args(flags).arg(format!("{scheme}://{url}")).arg("best");
            }
            FilmPeer::Ffmpeg => {
                command.args(["-nostdin", "-v", "error", "-y", "-i", url]);
                command.args(flags).arg("download.mp4");
            }
        }
        command
    }
}

/// From `2026.10.26`, `streamlink 8.6.3` or `ffmpeg version 5.1.9-0+deb12u1 Copyright ...`.
fn read_version(name: &str, said: &str) -> String {
    let words = said.lines().next().unwrap_or_default().split(' ');
    let version = words.into_iter().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    format!("{name} {}", version.unwrap_or("of unknown version"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_programs_say() {
        for (name, said, version) in [
            ("yt-dlp", "2026.10.26\n", "yt-dlp 2026.10.26"),
            ("streamlink", "streamlink 8.6.3\n", "streamlink 8.6.3"),
            (
                "ffmpeg",
                "ffmpeg version 5.1.9-0+deb12u1 Copyright\nbuilt\n",
                "ffmpeg 5.1.9-0+deb12u1",
            ),
            ("ffmpeg", "", "ffmpeg of unknown version"),
        ] {
            assert_eq!(read_version(name, said), version);
        }
    }
}
