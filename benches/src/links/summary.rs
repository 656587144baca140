//! One row for each scenario: haul beside the ideal, the best peer, and its own best fixed number
//! of connections.

use crate::scenario::Outcome;
use crate::scenario::bar::fastest_peer;
use crate::track::Lane;

const HEADERS: [&str; 10] = [
    "scenario",
    "ideal s",
    "haul s",
    "again s",
    "best peer s",
    "best fixed s",
    "to ideal",
    "to peer",
    "to fixed",
    "sent",
];

/// The table, its headers first.
#[must_use]
pub fn rows(outcomes: &[Outcome]) -> Vec<Vec<String>> {
    let headers = HEADERS.map(str::to_owned).to_vec();
    std::iter::once(headers).chain(outcomes.iter().map(row)).collect()
}

fn row(outcome: &Outcome) -> Vec<String> {
    let least = |lane: &Lane| lane.wall().map(|wall| wall.min);
    let mut hauls = outcome.lanes.iter().filter(|lane| lane.haul && !lane.fixed);
    let (haul, again) = (hauls.next(), hauls.next());
    let mine = haul.and_then(least);
    let peer = fastest_peer(&outcome.lanes, Lane::wall);
    let peer_name = peer.and_then(|(lane, _)| lane.name.split(' ').next());
    let peer_s = peer.map(|(_, wall)| wall.min);
    let fixed = outcome.best_fixed();
    let fixed_name = fixed.and_then(|(lane, _)| lane.name.rsplit(' ').next());
    let fixed_s = fixed.map(|(_, seconds)| seconds);
    let sent = haul.and_then(Lane::fetched_bytes).map(|bytes| bytes as f64);
    let figure =
        |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.2}"));
    let named = |value: Option<f64>, name: Option<&str>| {
        let name = name.map_or_else(String::new, |name| format!(" ({name})"));
        figure(value) + &name
    };
    let to = |other: Option<f64>| figure(mine.zip(other).map(|(mine, other)| mine / other));
    vec![
        outcome.scenario.to_owned(),
        figure(outcome.limit_s),
        figure(mine),
        figure(again.and_then(least)),
        named(peer_s, peer_name),
        named(fixed_s, fixed_name),
        to(outcome.limit_s),
        to(peer_s),
        to(fixed_s),
        figure(sent.map(|sent| sent / outcome.size_bytes as f64)),
    ]
}
