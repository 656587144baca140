//! What can be typed after `race`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::size::{GIB, parse_size};

/// The race's command line.
#[derive(Debug, Parser)]
#[command(name = "race", version, about = "haul against curl, aria2c, axel and a floor", long_about = None)]
pub struct Args {
    /// Size of the object in `plain`, `tmpfs`, `tls` and the first half of `memory`
    #[arg(long, default_value = "1G", value_parser = parse_size, value_name = "SIZE")]
    pub size: u64,

    /// Rounds; everybody runs once in each, in a fresh order
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    /// Where the object and the downloads lie [default: the target directory's `race`]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// The haul to race [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub haul: Option<PathBuf>,

    /// Connections of the floor
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub floor_connections: u32,

    /// In `memory`: end the 64 GiB download after this much was received, 0 for never
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

    /// Name the scenarios and leave
    #[arg(long)]
    pub list: bool,

    /// Which scenarios [default: all]
    #[arg(value_enum, value_name = "scenario")]
    pub scenarios: Vec<Scenario>,
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
    /// A file of 1 KiB: how many requests it costs
    Tiny,
    /// haul's peak memory for --size and for 64 GiB
    Memory,
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
            Self::Tiny => "tiny",
            Self::Memory => "memory",
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
            Self::Tiny => "a file of 1 KiB: how many requests it costs",
            Self::Memory => "haul's peak resident memory for --size and for a sparse 64 GiB",
            Self::Version => "how long `haul --version` takes, the best of 20",
        }
    }
}

/// The object of the second half of `memory`, in bytes.
pub const HUGE_BYTES: u64 = 64 * GIB;
