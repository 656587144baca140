//! The elements that describe the pieces of a representation, and how long the pieces are.

use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use super::manifest::Period;
use super::time::{from_ticks, pieces_until_end};
use super::xml::{Element, quoted};
use crate::model::ManifestError;

/// The three elements that can describe pieces, at one level of the manifest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    template: Option<Element<'a>>,
    list: Option<Element<'a>>,
    base: Option<Element<'a>>,
}

impl<'a> Told<'a> {
    pub(super) fn within(element: Element<'a>) -> Self {
        Self {
            template: element.child("SegmentTemplate"),
            list: element.child("SegmentList"),
            base: element.child("SegmentBase"),
        }
    }
}

/// How the manifest describes the pieces of a representation.
#[derive(Debug)]
pub(super) enum Segments<'a> {
    /// An object for each, with an address made from a pattern.
    Template(Levels<'a>),
    /// An element for each.
    List(Levels<'a>),
    /// One object with all of them.
    Single(Option<Levels<'a>>),
}

impl<'a> Segments<'a> {
    /// The lowest level with any of the three elements decides which one counts; elements of the
    /// same name at higher levels supply what it lacks.
    pub(super) fn new(lowest_first: [Told<'a>; 3]) -> Result<Self, ManifestError> {
        let levels = |way: fn(&Told<'a>) -> Option<Element<'a>>| {
            Levels::new(lowest_first.iter().filter_map(way))
        };
        for told in &lowest_first {
            if told.template.is_some() {
                return Ok(levels(|told| told.template)?.map_or(Self::Single(None), Self::Template));
            }
            if told.list.is_some() {
                return Ok(levels(|told| told.list)?.map_or(Self::Single(None), Self::List));
            }
            if told.base.is_some() {
                return Ok(Self::Single(levels(|told| told.base)?));
            }
        }
        Ok(Self::Single(None))
    }
}

/// Elements of one name at several levels. An attribute or child comes from the lowest level that
/// has it.
#[derive(Debug)]
pub(super) struct Levels<'a> {
    lowest: Element<'a>,
    higher: Vec<Element<'a>>,
}

impl<'a> Levels<'a> {
    fn new(
        mut lowest_first: impl Iterator<Item = Element<'a>>,
    ) -> Result<Option<Self>, ManifestError> {
        let Some(lowest) = lowest_first.next() else { return Ok(None) };
        let levels = Self { lowest, higher: lowest_first.collect() };
        levels.iter().try_for_each(Element::require_local)?;
        Ok(Some(levels))
    }

    fn iter(&self) -> impl Iterator<Item = Element<'a>> {
        std::iter::once(self.lowest).chain(self.higher.iter().copied())
    }

    /// The lowest element, for faults of the whole.
    pub(super) fn element(&self) -> Element<'a> {
        self.lowest
    }

    pub(super) fn child(&self, name: &'static str) -> Option<Element<'a>> {
        self.iter().find_map(|level| level.child(name))
    }

    /// The children of the lowest level that has any of this name.
    pub(super) fn children(&self, name: &'static str) -> impl Iterator<Item = Element<'a>> {
        let level = self.iter().find(|level| level.child(name).is_some()).unwrap_or(self.lowest);
        level.children(name)
    }

    /// The value of an attribute, and the element that has it.
    pub(super) fn attribute(&self, name: &str) -> Option<(Element<'a>, &'a str)> {
        self.iter().find_map(|level| Some((level, level.filled(name)?)))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<(Element<'a>, u64)>, ManifestError> {
        let Some((element, _)) = self.attribute(name) else { return Ok(None) };
        Ok(element.number(name)?.map(|number| (element, number)))
    }

    pub(super) fn timescale(&self) -> Result<NonZeroU32, ManifestError> {
        let Some((element, timescale)) = self.number("timescale")? else {
            return Ok(NonZeroU32::MIN);
        };
        u32::try_from(timescale)
            .ok()
            .and_then(NonZeroU32::new)
            .ok_or_else(|| element.error(format!("timescale {timescale} is out of range")))
    }

    /// The attribute `duration`: the length in ticks of every piece.
    pub(super) fn length(&self) -> Result<Option<(Element<'a>, u64)>, ManifestError> {
        match self.number("duration")? {
            Some((element, 0)) => Err(element.error("duration is 0")),
            length => Ok(length),
        }
    }

    /// The pieces that a `SegmentTimeline` lists, if there is one.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Malformed`] if there are more than `most`, or if the end of the last is
    /// unknown or out of range.
    pub(super) fn timeline(
        &self,
        period: &Period<'_>,
        most: usize,
    ) -> Result<Option<Vec<Run<'a>>>, ManifestError> {
        let Some(timeline) = self.child("SegmentTimeline") else { return Ok(None) };
        timeline.require_local()?;
        let timescale = self.timescale()?;
        let origin = self.number("presentationTimeOffset")?.map_or(0, |(_, offset)| offset);
        let mut runs = Vec::new();
        let mut total = 0;
        let mut start = 0;
        let mut entries = timeline.children("S").peekable();
        while let Some(entry) = entries.next() {
            start = entry.number("t")?.unwrap_or(start);
            let length = match entry.number("d")? {
                Some(0) => return Err(entry.error("d is 0")),
                Some(length) => length,
                None => return Err(entry.error("d is missing")),
            };
            let count = match (repeats(entry)?, entries.peek()) {
                (Some(repeats), _) => u128::from(repeats) + 1,
                (None, Some(next)) => {
                    let end = next.number("t")?.ok_or_else(|| {
                        entry.error("a negative r needs a t in the next S, which has none")
                    })?;
                    u128::from(end.saturating_sub(start).div_ceil(length))
                }
                (None, None) if period.is_live => {
                    return Err(
                        entry.error("a live film whose last S repeats until now is not supported")
                    );
                }
                (None, None) => {
                    let end = period.duration.ok_or_else(|| {
                        entry.error("r is negative, and the end of the period is unknown")
                    })?;
                    pieces_until_end(end, origin, start, length, timescale)
                }
            };
            total += count;
            let run = Run::new(entry, start, length, count, (total, most))?;
            start = run.end();
            runs.push(Run { number: entry.number("n")?, ..run });
        }
        Ok(Some(runs))
    }
}

/// How often an S is repeated, or `None` if it fills the time until the next S.
fn repeats(entry: Element<'_>) -> Result<Option<u64>, ManifestError> {
    let Some(value) = entry.attribute("r") else { return Ok(Some(0)) };
    let repeats: i64 = value
        .parse()
        .map_err(|_| entry.error(format!("r {} is not a whole number", quoted(value))))?;
    Ok(u64::try_from(repeats).ok())
}

/// Pieces of equal length, one after another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) element: Element<'a>,
    /// The tick at which the first begins.
    start: u64,
    /// In ticks.
    length: u64,
    pub(super) count: u64,
    /// The number of the first, where it does not follow from the pieces before.
    pub(super) number: Option<u64>,
}

impl<'a> Run<'a> {
    /// Checks that no time in the run is out of range, and that `total`, the number of pieces up to
    /// its end, is at most `most`.
    pub(super) fn new(
        element: Element<'a>,
        start: u64,
        length: u64,
        count: u128,
        (total, most): (u128, usize),
    ) -> Result<Self, ManifestError> {
        if total > most as u128 {
            return Err(too_many(element));
        }
        let count = u64::try_from(count).map_err(|_| too_many(element))?;
        length
            .checked_mul(count)
            .and_then(|all| start.checked_add(all))
            .ok_or_else(|| element.error("a time is out of range"))?;
        Ok(Self { element, start, length, count, number: None })
    }

    /// The tick at which the piece `index` of the run begins.
    pub(super) fn start_of(&self, index: u64) -> u64 {
        self.start + self.length * index
    }

    fn end(&self) -> u64 {
        self.start_of(self.count)
    }

    pub(super) fn duration(&self, timescale: NonZeroU32) -> Duration {
        from_ticks(self.length, timescale)
    }
}

pub(super) fn too_many(element: Element<'_>) -> ManifestError {
    element.error(format!("the film has more than {} pieces", super::pieces::MAX_PIECES))
}

/// The bytes that an attribute names as `first-last`.
pub(super) fn byte_range(
    element: Element<'_>,
    name: &str,
) -> Result<Option<Range<u64>>, ManifestError> {
    let Some(value) = element.filled(name) else { return Ok(None) };
    let range = value.split_once('-').and_then(|(first, last)| {
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        Some(first..last.checked_add(1)?)
    });
    match range {
        Some(range) if !range.is_empty() => Ok(Some(range)),
        _ => Err(element.error(format!("{name} {} is not a range of bytes", quoted(value)))),
    }
}
