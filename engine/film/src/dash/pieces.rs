//! Lists the pieces of one track, whichever way the manifest describes them.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use url::Url;

use super::base::Addresses;
use super::manifest::{Period, Representation};
use super::segments::{Levels, Run, Segments, byte_range, too_many};
use super::time::{from_ticks, pieces_until_end};
use super::xml::{Element, quoted};
use crate::model::{ManifestError, Piece, Role, Track};

/// A single attribute can ask for any number of pieces. No real film has this many.
pub(super) const MAX_PIECES: usize = 1_000_000;

/// A long pattern, repeated for every piece, can ask for any amount of memory. The addresses of a
/// real film need less than this.
const MAX_ALL_ADDRESS_BYTES: usize = 512 << 20;

/// What the remaining pieces of a film may use.
#[derive(Debug)]
pub(super) struct Budget {
    pieces: usize,
    address_bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(MAX_PIECES, MAX_ALL_ADDRESS_BYTES)
    }
}

impl Budget {
    pub(super) fn new(pieces: usize, address_bytes: usize) -> Self {
        Self { pieces, address_bytes }
    }
    fn take(&mut self, element: Element<'_>, at: &Addresses) -> Result<(), ManifestError> {
        self.pieces = self.pieces.checked_sub(1).ok_or_else(|| too_many(element))?;
        self.address_bytes = self
            .address_bytes
            .checked_sub(at.bytes())
            .ok_or_else(|| element.error("the addresses of the film take too much memory"))?;
        Ok(())
    }
}

/// Collects the pieces of one track, period by period.
#[derive(Debug)]
pub(super) struct TrackWriter<'b> {
    budget: &'b mut Budget,
    pieces: Vec<Piece>,
    /// How many of the pieces are media.
    sequence: u64,
    part: u32,
    /// Objects of which the track has the whole as one piece.
    whole: HashSet<Url>,
}

impl<'b> TrackWriter<'b> {
    pub(super) fn new(budget: &'b mut Budget) -> Self {
        Self { budget, pieces: Vec::new(), sequence: 0, part: 0, whole: HashSet::new() }
    }

    /// Appends what `representation` has in `period`.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Malformed`] if the manifest does not determine the pieces, or
    /// there are too many.
    pub(super) fn append(
        &mut self,
        representation: &Representation<'_>,
        period: &Period<'_>,
    ) -> Result<(), ManifestError> {
        self.part = period.number;
        match &representation.segments {
            Segments::Template(levels) => self.template(levels, representation, period),
            Segments::List(levels) => self.list(levels, representation, period),
            Segments::Single(levels) => self.single(levels.as_ref(), representation, period),
        }
    }

    /// The track, or `None` if there is nothing in it.
    pub(super) fn finish(self, is_complete: bool) -> Option<Track> {
        let longest = self.pieces.iter().map(|piece| piece.duration).max()?;
        Some(Track {
            pieces: self.pieces,
            is_complete,
            target_duration: Some(longest).filter(|longest| !longest.is_zero()),
        })
    }

    fn template(
        &mut self,
        levels: &Levels<'_>,
        representation: &Representation<'_>,
        period: &Period<'_>,
    ) -> Result<(), ManifestError> {
        let (element, pattern) = levels
            .attribute("media")
            .ok_or_else(|| levels.element().error("it has no pattern for its media"))?;
        let media = representation.pattern(element, pattern)?;
        let timescale = levels.timescale()?;
        let first = levels.number("startNumber")?.map_or(1, |(_, number)| number);
        let last = match levels.number("endNumber")? {
            Some((element, last)) if last < first => {
                return Err(element.error(format!("endNumber {last} is before {first}")));
            }
            last => last.map(|(_, last)| last),
        };
        let runs = match levels.timeline(period, self.budget.pieces)? {
            Some(runs) => runs,
            None if levels.length()?.is_some() => {
                let count = last.map(|last| u128::from(last - first) + 1);
                vec![self.even_run(levels, period, count)?]
            }
            // The number of pieces is unknown, unless the pattern allows only one.
            None if media.varies() => {
                return Err(element.error("it has neither a duration nor a SegmentTimeline"));
            }
            None => vec![Run::new(element, 0, 0, 1, (1, self.budget.pieces))?],
        };
        let count: u64 = runs.iter().map(|run| run.count).sum();
        if count > 1 && !media.varies() {
            let pattern = quoted(pattern);
            return Err(element.error(format!("{pattern} is one address for {count} pieces")));
        }
        if count > 0 {
            self.template_initialization(levels, representation)?;
        }
        let mut rest = match (levels.child("SegmentTimeline"), period.duration) {
            (None, Some(duration)) => duration,
            _ => Duration::MAX,
        };
        let mut number = first;
        for run in &runs {
            number = run.number.unwrap_or(number);
            for index in 0..run.count {
                if last.is_some_and(|last| number > last) {
                    return Ok(());
                }
                let address = media.expand(number, run.start_of(index));
                let at = representation.bases.join(element, &address)?;
                // The last piece of a period is usually shorter than the others.
                let duration = match run.duration(timescale) {
                    Duration::ZERO => period.duration.unwrap_or(Duration::ZERO),
                    duration if rest.is_zero() => duration,
                    duration => duration.min(rest),
                };
                rest = rest.saturating_sub(duration);
                self.push(element, at, None, Role::Media, duration)?;
                number = number
                    .checked_add(1)
                    .ok_or_else(|| run.element.error("the number of a piece is out of range"))?;
            }
        }
        Ok(())
    }

    /// The pieces of a template that all have the same duration: `count`, or enough to fill the
    /// period.
    fn even_run<'a>(
        &self,
        levels: &Levels<'a>,
        period: &Period<'_>,
        count: Option<u128>,
    ) -> Result<Run<'a>, ManifestError> {
        let Some((element, length)) = levels.length()? else {
            return Err(levels.element().error("it has no duration"));
        };
        if period.is_live {
            return Err(element.error(
                "a live film by number, whose pieces depend on the time of day, is not \
                 supported: only live films with a SegmentTimeline are",
            ));
        }
        let count = match (count, period.duration) {
            (Some(count), _) => count,
            (None, Some(period)) => pieces_until_end(period, 0, 0, length, levels.timescale()?),
            (None, None) => {
                return Err(element.error(
                    "the number of pieces is unknown: the MPD gives neither the duration of the \
                     period nor a mediaPresentationDuration",
                ));
            }
        };
        Run::new(element, 0, length, count, (count, self.budget.pieces))
    }

    fn template_initialization(
        &mut self,
        levels: &Levels<'_>,
        representation: &Representation<'_>,
    ) -> Result<(), ManifestError> {
        let Some((element, pattern)) = levels.attribute("initialization") else {
            return self.initialization(levels, representation);
        };
        let initialization = representation.pattern(element, pattern)?;
        if initialization.varies() {
            let pattern = quoted(pattern);
            return Err(element.error(format!("the initialization {pattern} is not one address")));
        }
        let at = representation.bases.join(element, &initialization.expand(0, 0))?;
        self.push(element, at, None, Role::Init, Duration::ZERO)
    }

    fn list(
        &mut self,
        levels: &Levels<'_>,
        representation: &Representation<'_>,
        period: &Period<'_>,
    ) -> Result<(), ManifestError> {
        let timescale = levels.timescale()?;
        let timeline = levels.timeline(period, self.budget.pieces)?.unwrap_or_default();
        let mut timeline =
            timeline.iter().flat_map(|run| (0..run.count).map(|_| run.duration(timescale)));
        let even = levels.length()?.map(|(_, ticks)| from_ticks(ticks, timescale));
        let mut rest = period.duration.unwrap_or(Duration::ZERO);
        for (index, listed) in levels.children("SegmentURL").enumerate() {
            if index == 0 {
                self.initialization(levels, representation)?;
            }
            let duration = match (timeline.next(), even) {
                (Some(duration), _) => duration,
                (None, Some(even)) if rest.is_zero() => even,
                (None, Some(even)) => even.min(rest),
                // A list without durations usually has one piece, which fills the period.
                (None, None) => rest,
            };
            rest = rest.saturating_sub(duration);
            let at = match listed.filled("media") {
                Some(media) => representation.bases.join(listed, media)?,
                None => representation.object(listed)?,
            };
            let range = byte_range(listed, "mediaRange")?;
            self.push(listed, at, range, Role::Media, duration)?;
        }
        Ok(())
    }

    /// One object that holds the initialization, an index and the media. The manifest does not say
    /// where in it each segment is, so the whole object is one piece.
    fn single(
        &mut self,
        levels: Option<&Levels<'_>>,
        representation: &Representation<'_>,
        period: &Period<'_>,
    ) -> Result<(), ManifestError> {
        let element = representation.element;
        let at = representation.object(element)?;
        if !self.whole.insert(at.url.clone()) {
            return Err(element.error(
                "another period uses the same object, of which each shows a part; this is not \
                 supported",
            ));
        }
        if let Some(levels) = levels
            && let Some(initialization) = levels.child("Initialization")
            && let Some(source) = initialization.filled("sourceURL")
            && representation.bases.join(initialization, source)?.url != at.url
        {
            self.initialization(levels, representation)?;
        }
        let duration = period.duration.unwrap_or(Duration::ZERO);
        self.push(element, at, None, Role::Media, duration)
    }

    fn initialization(
        &mut self,
        levels: &Levels<'_>,
        representation: &Representation<'_>,
    ) -> Result<(), ManifestError> {
        let Some(element) = levels.child("Initialization") else { return Ok(()) };
        let at = match element.filled("sourceURL") {
            Some(source) => representation.bases.join(element, source)?,
            None => representation.object(element)?,
        };
        let range = byte_range(element, "range")?;
        self.push(element, at, range, Role::Init, Duration::ZERO)
    }

    fn push(
        &mut self,
        element: Element<'_>,
        at: Addresses,
        range: Option<Range<u64>>,
        role: Role,
        duration: Duration,
    ) -> Result<(), ManifestError> {
        self.budget.take(element, &at)?;
        self.pieces.push(Piece {
            url: at.url,
            mirrors: at.mirrors,
            range,
            key: None,
            role,
            sequence: self.sequence,
            part: self.part,
            duration,
            is_gap: false,
        });
        self.sequence += u64::from(role == Role::Media);
        Ok(())
    }
}
