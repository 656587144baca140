//! What `-x auto` costs on simulated servers: its time over that of the fixed number of
//! connections that would have been the best, for each kind of server.
//!
//! `cargo bench -p haul-benches --bench regret -- --scenarios 200 --seed 1`

#![allow(clippy::print_stdout, reason = "the table is what this program prints")]

use clap::Parser;
use haul_engine::Connections;
use haul_engine::model_bench::concurrency::Concurrency;
use haul_engine::model_bench::concurrency::simulation::study::{Cost, Scenario, Summary};
use haul_engine::model_bench::concurrency::simulation::{FAMILIES, Family, Today};

#[derive(Parser)]
struct Args {
    /// Servers of each kind
    #[arg(long, default_value_t = 200)]
    scenarios: u64,
    /// Of the first of them
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kinds of servers [all]
    families: Vec<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

type Contender = (&'static str, fn(&Scenario) -> Cost);

const CONTENDERS: [Contender; 6] = [
    ("before", |on| on.cost(&mut Today::judging_once())),
    ("fixed 16", |on| on.cost(&mut Today::fixed(16))),
    ("fixed 4", |on| on.cost(&mut Today::fixed(4))),
    ("auto", |on| on.cost(&mut Concurrency::new(Connections::Auto))),
    ("auto:64", |on| on.cost(&mut Concurrency::new(Connections::AutoUpTo(64)))),
    ("again", again),
];

/// A second download, which knows what the first has shown.
fn again(on: &Scenario) -> Cost {
    let mut first = Concurrency::new(Connections::AutoUpTo(64));
    on.cost(&mut first);
    let mut second = Concurrency::new(Connections::AutoUpTo(64));
    if let Some(learned) = first.learned() {
        second.remember(learned);
    }
    on.cost(&mut second)
}

fn main() {
    let args = Args::parse();
    let asked = |family: &Family| {
        args.families.is_empty() || args.families.iter().any(|name| name == family.name())
    };
    println!("family   rule      median   p95  worst    n  refused requests over16");
    let mut all: Vec<Vec<Cost>> = vec![Vec::new(); CONTENDERS.len()];
    for family in FAMILIES.into_iter().filter(asked) {
        let seeds = args.seed..args.seed + args.scenarios;
        let scenarios: Vec<Scenario> = seeds.map(|seed| Scenario::new(family, seed)).collect();
        for ((name, rule), all) in CONTENDERS.iter().zip(&mut all) {
            let costs: Vec<Cost> = scenarios.iter().map(rule).collect();
            println!("{}", row(family.name(), name, Summary::of(&costs)));
            all.extend(costs);
        }
    }
    for ((name, _), costs) in CONTENDERS.iter().zip(&all) {
        let summary = Summary::of(costs);
        let mean = summary.log_mean.exp();
        println!("{}  geometric mean {mean:.3}", row("all", name, summary));
    }
}

fn row(family: &str, rule: &str, it: Summary) -> String {
    format!(
        "{family:8} {rule:9} {:6.2} {:5.2} {:6.2} {:4.1}   {:6.2} {:8.0}  {:5.3}",
        it.median, it.p95, it.worst, it.connections, it.refused, it.requests, it.over_16
    )
}
