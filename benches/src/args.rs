//! What can be typed after `race`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::contender::Peer;
use crate::film::peers::FilmPeer;
use crate::links::table::{AGAIN, Congestion, HAUL, Link};
use crate::scenario::python::MODULES;
use crate::size::{GIB, MIB, parse_size};

/// The race's command line.
#[derive(Debug, Parser)]
#[command(
    name = "race",
    version,
    about = "haul against every other downloader found, and against a floor",
    long_about = None
)]
pub struct Args {
    /// Size of the object [default: 1G in plain, tmpfs, tls and memory, 256M where speed is capped]
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    pub size: Option<u64>,

    /// Rounds; everybody runs once in each, in a fresh order
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    /// Peers, with commas: curl, aria2c, axel, wget2, lftp, fd, hf_transfer, in `film` yt-dlp,
    /// streamlink, ffmpeg, and in `hf` and `python-small` huggingface_hub, aiohttp, urllib, fsspec;
    /// or none
    /// [default: all that are found]
    #[arg(long, value_delimiter = ',', value_parser = parse_peer, value_name = "PEER,...")]
    pub peers: Option<Vec<String>>,

    /// Where the object and the downloads lie [default: the target directory's `race`]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// The haul to race [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub haul: Option<PathBuf>,

    /// Connections of the floor
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub floor_connections: u32,

    /// In `memory` and `huge`: end a download to disk after this much was received, 0 for never
    #[arg(long, default_value = "4G", value_parser = parse_size, value_name = "SIZE")]
    pub stop_after: u64,

    /// Seed of the shuffles, to repeat a run's order
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// The report as JSON [default: race.json in the target directory's `race`]
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// The report as Markdown [default: race.md in the target directory's `race`]
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,

    /// The chart [default: race.svg in the target directory's `race`]
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Downloads over real TCP on shaped links instead [default: all that --list names]
    #[arg(
        long,
        num_args = 0..,
        value_delimiter = ',',
        value_parser = Link::named,
        value_name = "LINK",
        conflicts_with_all = ["scenarios", "peers", "size"]
    )]
    pub links: Option<Vec<Link>>,

    /// On links: who runs, with commas: haul, again (haul with what its first run learned), and peers
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = parse_client,
        value_name = "CLIENT,...",
        requires = "links"
    )]
    pub clients: Option<Vec<String>>,

    /// On links: the server's congestion control
    #[arg(long, value_enum, default_value = "cubic", requires = "links")]
    pub cc: Congestion,

    /// On links: also run haul with fixed numbers of connections
    #[arg(long, requires = "links")]
    pub fixed: bool,

    /// Name the scenarios and leave
    #[arg(long)]
    pub list: bool,

    /// Which scenarios [default: all]
    #[arg(value_enum, value_name = "scenario")]
    pub scenarios: Vec<Scenario>,
}

fn parse_peer(text: &str) -> Result<String, String> {
    let known = Peer::ALL
        .map(Peer::name)
        .into_iter()
        .chain(FilmPeer::ALL.map(FilmPeer::name))
        .chain(MODULES);
    let known: Vec<&str> = known.collect();
    if text == "none" || known.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is no peer (write {} or none)", known.join(", ")))
}

fn parse_client(text: &str) -> Result<String, String> {
    let known = [HAUL, AGAIN].into_iter().chain(Peer::ALL.map(Peer::name));
    if known.clone().any(|name| name == text) {
        return Ok(text.to_owned());
    }
    let known: Vec<&str> = known.collect();
    Err(format!("`{text}` is no client (write {})", known.join(", ")))
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One object from nginx to the file system of --dir
    Plain,
    /// The same to /dev/shm
    Tmpfs,
    /// The same over HTTPS, to the file system of --dir
    Tls,
    /// Every connection at 4 MiB/s
    Capped,
    /// Connections of very different speed
    Uneven,
    /// 100 ms away
    Far,
    /// Every connection reset midway
    Lossy,
    /// One connection in five falls silent
    Stalls,
    /// At most 4 connections, 503 beyond
    Limited,
    /// Many small files from a list
    Small,
    /// A file of 1 KiB: how many requests it costs
    Tiny,
    /// A repository of the Hugging Face hub: ten large files over HTTPS
    Hf,
    /// Many small files, fetched from Python
    PythonSmall,
    /// A film in pieces: HLS and DASH in six forms
    Film,
    /// Killed at half, then finished
    Resume,
    /// haul's peak memory for --size and for 64 GiB
    Memory,
    /// haul's memory and cost for each GiB as the object grows
    Huge,
    /// How long `haul --version` takes
    Version,
}

impl Scenario {
    /// The name as typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tmpfs => "tmpfs",
            Self::Tls => "tls",
            Self::Capped => "capped",
            Self::Uneven => "uneven",
            Self::Far => "far",
            Self::Lossy => "lossy",
            Self::Stalls => "stalls",
            Self::Limited => "limited",
            Self::Small => "small",
            Self::Tiny => "tiny",
            Self::Hf => "hf",
            Self::PythonSmall => "python-small",
            Self::Film => "film",
            Self::Resume => "resume",
            Self::Memory => "memory",
            Self::Huge => "huge",
            Self::Version => "version",
        }
    }

    /// One line of explanation.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Plain => "one object from nginx over loopback to the file system of --dir",
            Self::Tmpfs => "the same to /dev/shm",
            Self::Tls => "the same over HTTPS with a CA made for the run",
            Self::Capped => "every connection gets 4 MiB/s from the race's own server",
            Self::Uneven => "16 slots of 0.1 to 24 MB/s, a connection holds one until it closes",
            Self::Far => "a round trip of 100 ms, 4 MB/s a connection",
            Self::Lossy => "every connection is reset after a random 1 to 8 MiB",
            Self::Stalls => "one connection in five falls silent after 1 MiB",
            Self::Limited => "at most 4 connections are served, 503 beyond",
            Self::Small => "2,000 files of 64 KiB from one list",
            Self::Tiny => "a file of 1 KiB: how many requests it costs",
            Self::Hf => {
                "a repository of the Hugging Face hub: ten files over HTTPS, 1 GiB together"
            }
            Self::PythonSmall => "500 files of 200 KB, fetched from Python",
            Self::Film => "a film as HLS and DASH in six forms, 80 ms away, 2 MB/s a connection",
            Self::Resume => "killed at half, then finished: bytes fetched in all",
            Self::Memory => "haul's peak resident memory for --size and for a sparse 64 GiB",
            Self::Huge => "haul's memory and cost for each GiB at 4, 16 and 64 GiB",
            Self::Version => "how long `haul --version` takes, the best of 20",
        }
    }

    /// The object's size in bytes unless --size says another one.
    #[must_use]
    pub fn usual_size(self) -> u64 {
        match self {
            Self::Plain | Self::Tmpfs | Self::Tls | Self::Memory => GIB,
            _ => 256 * MIB,
        }
    }
}

/// The object of the second half of `memory`, in bytes.
pub const HUGE_BYTES: u64 = 64 * GIB;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_a_list_or_none() {
        let peers = |words: &[&str]| {
            Args::try_parse_from([&["race"], words].concat()).map(|args| args.peers)
        };
        assert_eq!(peers(&[]).expect("none given"), None);
        let two = Some(vec!["curl".to_owned(), "fd".to_owned()]);
        assert_eq!(peers(&["--peers", "curl,fd"]).expect("two"), two);
        assert_eq!(peers(&["--peers", "none"]).expect("none"), Some(vec!["none".to_owned()]));
        let error = peers(&["--peers", "culr"]).expect_err("a typo").to_string();
        assert!(error.contains("`culr` is no peer"), "{error}");
    }

    #[test]
    fn links_are_none_all_or_a_list() {
        let links = |words: &[&str]| {
            let args = Args::try_parse_from([&["race"], words].concat())?;
            let names = |links: Vec<Link>| links.iter().map(|link| link.name).collect::<Vec<_>>();
            Ok::<_, clap::Error>(args.links.map(names))
        };
        assert_eq!(links(&[]).expect("none"), None);
        assert_eq!(links(&["--links", "--rounds", "1"]).expect("all"), Some(vec![]));
        let two = Some(vec!["home100", "wifi50"]);
        assert_eq!(links(&["--links", "home100", "wifi50", "--fixed"]).expect("two"), two);
        assert_eq!(links(&["--links", "home100,wifi50"]).expect("two"), two);
        let error = links(&["--links", "plain"]).expect_err("no link").to_string();
        assert!(error.contains("`plain` is no scenario on a link"), "{error}");
        links(&["--clients", "haul"]).expect_err("clients are for links");
    }
}
