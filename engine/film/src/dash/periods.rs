//! Matches representations across periods to make renditions.
//!
//! Periods need not offer the same representations: an advertisement before the film has only a
//! few, with ids of their own. Therefore the longest period determines the renditions, and each of
//! them continues with the most similar representation of every other period. A language that
//! occurs only in other periods gets a rendition too.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::Duration;

use super::manifest::{Manifest, Period, Representation};
use super::pieces::{Budget, TrackWriter};
use crate::model::{Kind, ManifestError, Rendition, Source};

/// Joins the periods within a budget for the whole film.
///
/// # Errors
///
/// [`ManifestError::Malformed`] if the pieces of a rendition are unknown or too many.
pub(super) fn renditions(
    manifest: &Manifest<'_>,
    mut budget: Budget,
) -> Result<Vec<Rendition>, ManifestError> {
    let mut ids = HashSet::new();
    let mut renditions = Vec::new();
    for (home, seed) in seeds(&manifest.periods) {
        let mut track = TrackWriter::new(&mut budget);
        for (index, period) in manifest.periods.iter().enumerate() {
            let found = if index == home { Some(seed) } else { counterpart(seed, period) };
            if let Some(representation) = found {
                track.append(representation, period)?;
            }
        }
        if let Some(track) = track.finish(!manifest.is_live) {
            renditions.push(Rendition {
                id: unique_id(seed, &mut ids),
                kind: seed.kind,
                bandwidth: seed.bandwidth,
                resolution: seed.resolution,
                codecs: seed.codecs.map(str::to_owned),
                language: seed.language.map(str::to_owned),
                name: seed.name.map(str::to_owned),
                is_default: seed.roles.contains(&"main"),
                group: None,
                audio_group: None,
                subtitles_group: None,
                source: Source::Track(track),
            });
        }
    }
    Ok(renditions)
}

/// The representations that become renditions, in the order of the manifest, and the indices of
/// their periods.
fn seeds<'p, 'a>(periods: &'p [Period<'a>]) -> Vec<(usize, &'p Representation<'a>)> {
    let mut longest_first: Vec<(usize, &Period<'_>)> = periods.iter().enumerate().collect();
    // Only the current period of a live film has no known end.
    longest_first.sort_by_key(|(_, period)| Reverse(period.duration.unwrap_or(Duration::MAX)));
    let mut kinds = HashSet::new();
    let mut languages = HashSet::new();
    let mut seeds = Vec::new();
    for (index, period) in longest_first {
        let from = seeds.len();
        seeds.extend(
            (period.representations.iter())
                .filter(|seed| {
                    let adds_language = seed.kind != Kind::Video
                        && seed.language.is_some()
                        && !languages.contains(&language(seed));
                    !kinds.contains(&seed.kind) || adds_language
                })
                .map(|seed| (index, seed)),
        );
        for (_, seed) in &seeds[from..] {
            kinds.insert(seed.kind);
            languages.insert(language(seed));
        }
    }
    // Stable, so that the order within a period stays.
    seeds.sort_by_key(|&(index, _)| index);
    seeds
}

/// The representation that continues `seed` in another period, or `None` if that period has none of
/// its kind. Sound may continue in another language, which is better than silence; text may not.
fn counterpart<'p, 'a>(
    seed: &Representation<'_>,
    period: &'p Period<'a>,
) -> Option<&'p Representation<'a>> {
    period
        .representations
        .iter()
        .filter(|other| {
            let is_readable = seed.kind != Kind::Subtitles || is_same_language(seed, other);
            other.kind == seed.kind && is_readable
        })
        .min_by_key(|other| distance(seed, other))
}

/// Orders candidates by how much they differ from `seed`, the most noticeable difference first. An
/// id that occurs in both periods says that they belong together, but ids are sometimes mere
/// counters, so language and role come before it.
fn distance(seed: &Representation<'_>, other: &Representation<'_>) -> impl Ord + use<> {
    let height = |of: &Representation<'_>| of.resolution.map_or(0, |(_, height)| height);
    (
        !is_same_language(seed, other),
        (&seed.roles, seed.name) != (&other.roles, other.name),
        seed.id.is_none() || seed.id != other.id,
        // Few players can change the codec within a file.
        codec(seed) != codec(other),
        height(seed).abs_diff(height(other)),
        seed.bandwidth.unwrap_or(0).abs_diff(other.bandwidth.unwrap_or(0)),
    )
}

/// The codec without its profile and level.
fn codec<'a>(of: &Representation<'a>) -> Option<&'a str> {
    of.codecs?.split('.').next()
}

fn is_same_language(a: &Representation<'_>, b: &Representation<'_>) -> bool {
    a.language.unwrap_or_default().eq_ignore_ascii_case(b.language.unwrap_or_default())
}

/// The language of a kind; tags are the same in any case.
fn language(of: &Representation<'_>) -> (Kind, Option<String>) {
    (of.kind, of.language.map(str::to_ascii_lowercase))
}

/// The id of the representation, with a number if the manifest gives it to several.
fn unique_id(seed: &Representation<'_>, taken: &mut HashSet<String>) -> String {
    let id = match (seed.id, seed.kind) {
        (Some(id), _) => id,
        (None, Kind::Video) => "video",
        (None, Kind::Audio) => "audio",
        (None, Kind::Subtitles) => "subtitles",
    };
    let mut unique = id.to_owned();
    let mut number = 2_u64;
    while !taken.insert(unique.clone()) {
        unique = format!("{id}-{number}");
        number += 1;
    }
    unique
}
