//! What keeps a download from being faster, in one sentence with its evidence.

use serde::Serialize;

use super::judge::{PerConnection, Point};
use super::machine::Load;
use crate::units::{plural, rate};

/// Storage counts as slower than the network below this fraction of its speed.
const SLOWER: f64 = 0.9;

/// What limits. The words are those of the engine's `LimitedBy`, and `cpu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Limit {
    /// The server gives each connection so much.
    Connection,
    /// More connections bring no more.
    Link,
    /// The server refuses more connections.
    Server,
    /// The storage takes bytes more slowly than they come.
    Disk,
    /// This machine's processors are busy.
    Cpu,
}

/// What is known once everything was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    /// The speeds without a disk, by number of connections.
    pub(super) network: &'a [Point],
    /// The fastest storage that keeps the bytes.
    pub(super) stored: Option<&'a Point>,
    pub(super) per_connection: Option<PerConnection>,
    /// The fewest connections that are as fast as any.
    pub(super) enough: Option<usize>,
    /// How many connections were left after the server had refused others.
    pub(super) tolerated: Option<usize>,
    pub(super) ranges: bool,
}

/// The limit, if one was found, and a clause that says why.
pub(super) fn limit(seen: &Evidence<'_>) -> (Option<Limit>, String) {
    let found = disk(seen)
        .or_else(|| cpu(seen))
        .or_else(|| server(seen))
        .or_else(|| connection(seen))
        .or_else(|| link(seen));
    match found {
        Some((limit, because)) => (Some(limit), because),
        None => (None, unknown(seen)),
    }
}

type Found = Option<(Limit, String)>;

/// A slow storage shows in its best round, because everything else only slows a round down. It is
/// the disk's fault only if processor time was left over.
fn disk(seen: &Evidence<'_>) -> Found {
    let (stored, network) = (seen.stored?, fastest(seen.network)?);
    let slower = stored.max_bytes_per_second < network.bytes_per_second * SLOWER;
    let idle = |load: &Load| !load.is_disturbed() && !load.is_full();
    stored.load.as_ref().filter(|load| slower && idle(load))?;
    let because = format!(
        "the disk, which took {} of the {} that the network brings",
        rate(stored.max_bytes_per_second),
        rate(network.bytes_per_second)
    );
    Some((Limit::Disk, because))
}

fn server(seen: &Evidence<'_>) -> Found {
    let (tolerated, fastest) = (seen.tolerated?, fastest(seen.network)?);
    // Where fewer were already as fast as any, the refusals cost nothing.
    seen.enough.filter(|&enough| enough >= tolerated)?;
    let because = format!(
        "the server, which refused more than {} and gave them {}",
        plural(tolerated as u64, "connection", "connections"),
        rate(fastest.bytes_per_second)
    );
    Some((Limit::Server, because))
}

fn connection(seen: &Evidence<'_>) -> Found {
    let (cap, most) = (seen.per_connection?, seen.network.last()?);
    let because = format!(
        "the server, which gave each connection about {}, also with {} of them",
        rate(cap.bytes_per_second),
        most.connections
    );
    (cap.up_to == most.connections).then_some((Limit::Connection, because))
}

fn cpu(seen: &Evidence<'_>) -> Found {
    // Processors do not keep the speed in proportion to the number of connections.
    let capped = |cap: PerConnection| seen.enough.is_some_and(|enough| enough <= cap.up_to);
    if seen.per_connection.is_some_and(capped) {
        return None;
    }
    let load = fastest(seen.network)?.load.filter(|load| load.holds_back())?;
    let because = format!(
        "this machine's processors: {:.1} of {} cores were busy, {:.1} of them with haul",
        load.own_cores + load.others_cores,
        load.cores,
        load.own_cores
    );
    Some((Limit::Cpu, because))
}

fn link(seen: &Evidence<'_>) -> Found {
    let most = seen.network.last()?;
    let enough = seen.enough?;
    let chosen = seen.network.iter().find(|point| point.connections == enough)?;
    let compares = enough < most.connections && chosen.steady && most.steady;
    let because = format!(
        "the link, or the server as a whole: {enough} connection{} brought {}, and {} brought {}",
        if enough == 1 { "" } else { "s" },
        rate(chosen.bytes_per_second),
        most.connections,
        rate(most.bytes_per_second)
    );
    compares.then_some((Limit::Link, because))
}

fn unknown(seen: &Evidence<'_>) -> String {
    let most = seen.network.last().map_or(0, |point| point.connections);
    if !seen.ranges {
        "not known, because without byte ranges there is only one connection".to_owned()
    } else if seen.network.len() < 2 {
        "not known, because it takes several numbers of connections to tell, as with -x 1,4,16"
            .to_owned()
    } else if seen.network.iter().any(|point| !point.steady) {
        "not known, because no steady speed was found".to_owned()
    } else {
        format!("not known, because the speed still grew with {most} connections, the most tried")
    }
}

fn fastest(points: &[Point]) -> Option<&Point> {
    points.iter().max_by(|a, b| a.bytes_per_second.total_cmp(&b.bytes_per_second))
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::points;
    use super::super::judge::{advise, per_connection};
    use super::*;

    const IDLE: Load = Load { own_cores: 0.3, others_cores: 0.1, stolen: 0.0, cores: 2 };

    struct Case {
        network: Vec<Point>,
        stored: Option<Point>,
        tolerated: Option<usize>,
        ranges: bool,
    }

    fn a_case(speeds: &[(usize, f64)]) -> Case {
        Case { network: points(speeds), stored: None, tolerated: None, ranges: true }
    }

    impl Case {
        /// The network's speeds were reached, or bytes were stored, under this load.
        fn loaded(mut self, load: Load) -> Self {
            let all = self.network.iter_mut().chain(&mut self.stored);
            all.for_each(|point| point.load = Some(load));
            self
        }

        fn stored(mut self, megabytes_per_second: f64) -> Self {
            self.stored = points(&[(4, megabytes_per_second)]).pop();
            self
        }

        fn found(&self) -> (Option<Limit>, String) {
            let per_connection = per_connection(&self.network);
            let advice = advise(&self.network, self.ranges, per_connection);
            limit(&Evidence {
                network: &self.network,
                stored: self.stored.as_ref(),
                per_connection,
                enough: advice.map(|advice| advice.connections),
                tolerated: self.tolerated,
                ranges: self.ranges,
            })
        }

        fn assert(&self, limit: Option<Limit>, words: &[&str]) {
            let (found, because) = self.found();
            assert_eq!(found, limit, "{because}");
            assert!(words.iter().all(|word| because.contains(word)), "{because}");
        }
    }

    const CAPPED: [(usize, f64); 3] = [(1, 4.0), (4, 16.0), (16, 64.0)];
    const REFUSED: [(usize, f64); 4] = [(1, 4.0), (4, 16.0), (8, 16.0), (16, 16.1)];
    const SHARED: [(usize, f64); 3] = [(1, 60.0), (4, 100.0), (16, 101.0)];

    #[test]
    fn each_limit_is_told_with_its_evidence() {
        a_case(&CAPPED).assert(Some(Limit::Connection), &["3.81 MiB/s", "16 of them"]);
        a_case(&SHARED).assert(Some(Limit::Link), &["4 connections brought 95.4 MiB/s", "and 16"]);
        let refused = Case { tolerated: Some(4), ..a_case(&REFUSED) };
        refused.assert(Some(Limit::Server), &["more than 4 connections"]);
        let full = Load { own_cores: 1.6, others_cores: 0.3, ..IDLE };
        let words = ["1.9 of 2 cores were busy", "1.6 of them with haul"];
        a_case(&SHARED).loaded(full).assert(Some(Limit::Cpu), &words);
        let words = ["took 47.7 MiB/s of the 96.3 MiB/s"];
        a_case(&SHARED).stored(50.0).loaded(IDLE).assert(Some(Limit::Disk), &words);
    }

    #[test]
    fn refusals_of_more_than_are_needed_limit_nothing() {
        Case { tolerated: Some(8), ..a_case(&SHARED) }.assert(Some(Limit::Link), &[]);
    }

    #[test]
    fn busy_machine_does_not_hide_what_the_server_does() {
        let full = Load { own_cores: 0.4, others_cores: 1.6, ..IDLE };
        a_case(&CAPPED).loaded(full).assert(Some(Limit::Connection), &[]);
        let refused = || Case { tolerated: Some(4), ..a_case(&REFUSED) };
        refused().loaded(full).assert(Some(Limit::Server), &[]);
        let elsewhere = Load { own_cores: 0.1, others_cores: 1.9, ..IDLE };
        a_case(&SHARED).loaded(elsewhere).assert(Some(Limit::Link), &[]);
        // Where nothing is in proportion, refusals cost less than a busy machine.
        let refused = || Case { tolerated: Some(4), ..a_case(&SHARED) };
        refused().loaded(full).assert(Some(Limit::Cpu), &[]);
    }

    #[test]
    fn busy_machine_does_not_pass_for_a_slow_disk() {
        for load in [
            Load { own_cores: 0.8, others_cores: 1.2, ..IDLE },
            Load { others_cores: 0.6, ..IDLE },
            Load { stolen: 0.2, ..IDLE },
            Load { own_cores: 1.9, ..IDLE },
        ] {
            let (found, because) = a_case(&SHARED).stored(50.0).loaded(load).found();
            assert_ne!(found, Some(Limit::Disk), "{because}");
        }
        a_case(&SHARED).stored(50.0).assert(Some(Limit::Link), &[]);
        // The best round counts, whatever slowed the others down.
        let mut once = a_case(&SHARED).stored(50.0).loaded(IDLE);
        once.stored.as_mut().unwrap().max_bytes_per_second = 200e6;
        once.assert(Some(Limit::Link), &[]);
    }

    #[test]
    fn what_was_not_found_is_told() {
        a_case(&[(1, 1.0), (4, 2.0), (16, 3.0)]).assert(None, &["still grew with 16"]);
        a_case(&[(4, 1.0)]).assert(None, &["several numbers", "-x"]);
        let mut unsteady = a_case(&SHARED);
        unsteady.network[2].steady = false;
        unsteady.assert(None, &["no steady speed"]);
        Case { ranges: false, ..a_case(&[(1, 1.0)]) }.assert(None, &["byte ranges"]);
        assert_eq!(a_case(&[]).found().0, None);
    }
}
