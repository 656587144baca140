//! `race`: haul against its peers. What it measures and why is told in the library beside it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal: results on stdout, talk on stderr"
)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use haul_benches::args::{Args, Scenario};
use haul_benches::contender::{Abilities, find_peers, find_program};
use haul_benches::film::peers::find_film_peers;
use haul_benches::links::table::LINKS;
use haul_benches::origin::Origin;
use haul_benches::report::{Machine, Report};
use haul_benches::scenario::{self, Outcome, Venue};
use haul_benches::{Failure, floor, guard, links, servers};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let result = match arguments.next().as_deref().and_then(|first| first.to_str()) {
        // The modes of the helper processes are not for people and not in the help.
        Some("--floor") => run_floor(floor::fetch, arguments),
        Some("--floor-list") => run_floor(
            |list, directory, connections, sync| {
                floor::fetch_list(Path::new(list), directory, connections, sync)
            },
            arguments,
        ),
        Some("--guard") => guard::run(arguments),
        Some("--serve") => servers::run(arguments),
        Some("--link") => links::mover::run(arguments),
        _ => run_race(&Args::parse()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("race: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Of one URL, or of a list of them.
fn run_floor(
    fetch: fn(&str, &Path, u64, bool) -> Result<(), Failure>,
    arguments: impl Iterator<Item = OsString>,
) -> Result<(), Failure> {
    let arguments: Vec<String> =
        arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let [from, output, connections, rest @ ..] = &arguments[..] else {
        return Err(
            "usage: race --floor URL OUT N [--sync], --floor-list LIST DIR N [--sync]".into()
        );
    };
    let sync = rest.first().is_some_and(|word| word == "--sync");
    fetch(from, Path::new(output), connections.parse()?, sync)
}

fn run_race(args: &Args) -> Result<(), Failure> {
    if args.list {
        for scenario in Scenario::value_variants() {
            println!("{:12} {}", scenario.name(), scenario.about());
        }
        println!("\nafter --links:");
        for link in LINKS {
            println!("{:11} {}", link.name, link.about);
        }
        return Ok(());
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut shuffle = fastrand::Rng::with_seed(seed);
    let myself = std::env::current_exe()?;
    // Beside the build's own directory: target/release/race -> target/race.
    let beside = myself.ancestors().nth(2).unwrap_or(Path::new(".")).join("race");
    let machine = Machine::here();
    let (name, outcomes) = match &args.links {
        Some(chosen) => {
            if let Some(sentence) = links::what_is_missing() {
                eprintln!("note: {sentence}");
                return Ok(());
            }
            let all = if chosen.is_empty() { &LINKS } else { chosen.as_slice() };
            ("links", links::run(all, args, &find_haul(args, &myself)?, &mut shuffle)?)
        }
        None => ("race", run_on_loopback(args, &myself, &beside, &mut shuffle)?),
    };
    let summary = match &args.links {
        Some(_) => links::summary::rows(&outcomes),
        None => Vec::new(),
    };
    let report = Report { v: 2, machine, rounds: args.rounds, seed, outcomes, summary };
    println!("{}", report.text());
    let file = |given: &Option<PathBuf>, extension| {
        given.clone().unwrap_or_else(|| beside.join(name).with_extension(extension))
    };
    let (json, markdown) = (file(&args.json, "json"), file(&args.markdown, "md"));
    let svg = file(&args.svg, "svg");
    report.write(&json, &markdown, &svg)?;
    println!("written: {}, {} and {}", json.display(), markdown.display(), svg.display());
    let failed: Vec<String> = report
        .failures()
        .map(|(outcome, lane)| format!("{} failed in {}", lane.name, outcome.scenario))
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

fn run_on_loopback(
    args: &Args,
    myself: &Path,
    beside: &Path,
    shuffle: &mut fastrand::Rng,
) -> Result<Vec<Outcome>, Failure> {
    let mut scenarios = args.scenarios.clone();
    if scenarios.is_empty() {
        scenarios.extend(Scenario::value_variants());
    }
    let haul = find_haul(args, myself)?;
    let nginx = find_program("nginx").ok_or(
        "nginx is not installed, and nothing runs without it\n\
         hint: apt-get install nginx-light curl aria2 axel wget2 lftp",
    )?;
    let (film, others) = (scenarios.contains(&Scenario::Film), scenarios != [Scenario::Film]);
    let wanted = args.peers.as_deref();
    let (peers, missing) = if others { find_peers(wanted) } else { Default::default() };
    let (film_peers, more) = if film { find_film_peers(wanted) } else { Default::default() };
    for sentence in missing.into_iter().chain(more) {
        eprintln!("note: {sentence}");
    }
    let directory = std::path::absolute(args.dir.as_deref().unwrap_or(beside))?;
    let name = format!("run-{}", std::process::id());
    let work = directory.join(&name);
    std::fs::create_dir_all(&work)?;
    let shm = Path::new("/dev/shm").join(format!("haul-race-{name}"));
    let shm =
        (scenarios.contains(&Scenario::Tmpfs) && std::fs::create_dir(&shm).is_ok()).then_some(shm);
    let tls = scenarios.iter().any(|it| matches!(it, Scenario::Tls | Scenario::Hf));
    let origin = Origin::start(&nginx, &work, shm.as_deref(), tls).inspect_err(|_| {
        // Nobody else cleans up when the guard did not come up.
        for directory in std::iter::once(&work).chain(&shm) {
            let _ = std::fs::remove_dir_all(directory);
        }
    })?;
    let venue = Venue {
        args,
        haul: &haul,
        abilities: Abilities::of(&haul),
        myself,
        origin: &origin,
        work: &work,
        shm: shm.as_deref(),
        peers,
        film_peers,
    };
    let mut outcomes = Vec::new();
    for &scenario in &scenarios {
        outcomes.extend(scenario::run(scenario, &venue, shuffle)?);
    }
    Ok(outcomes)
}

fn find_haul(args: &Args, myself: &Path) -> Result<PathBuf, Failure> {
    let path = args.haul.clone().unwrap_or_else(|| myself.with_file_name("haul"));
    if path.is_file() {
        return Ok(std::path::absolute(path)?);
    }
    Err(format!(
        "there is no haul at {}\nhint: cargo build --release -p haul, or --haul PATH",
        path.display()
    )
    .into())
}
