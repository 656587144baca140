//! Reels: the stretches of a track that one file can hold as they are.
//!
//! A break in a track, where timestamps start over or another initialization begins, ends a reel:
//! its bytes and those of the next cannot simply stand one after the other. Most films have one reel
//! for each track.

use std::ops::Range;

use url::Url;

use crate::model::{Piece, Role, Track};

/// Splits the pieces of a track into reels. Each begins with the initialization that its media
/// needs. The splitter goes on with the pieces that are added later.
pub(crate) fn reels(track: &Track) -> (Vec<Vec<Piece>>, Splitter) {
    let mut reels: Vec<Vec<Piece>> = Vec::new();
    let mut splitter = Splitter::default();
    for piece in &track.pieces {
        match splitter.next(piece) {
            Next::Continue => {
                if let Some(reel) = reels.last_mut() {
                    reel.push(piece.clone());
                }
            }
            Next::Begin(init) => {
                let mut reel: Vec<Piece> = init.into_iter().map(|init| *init).collect();
                reel.push(piece.clone());
                reels.push(reel);
            }
        }
    }
    (reels, splitter)
}

/// Decides for one piece after the other where it belongs.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// The part of the reel, and whether it has media.
    now: Option<(u32, bool)>,
    init: Option<Piece>,
}

/// Where a piece belongs.
#[derive(Debug)]
pub(crate) enum Next {
    /// To the reel that there is.
    Continue,
    /// To a new one, after this initialization.
    Begin(Option<Box<Piece>>),
}

impl Splitter {
    /// One that goes on after a reel of this part.
    pub(crate) fn after(part: u32, has_media: bool, init: Option<Piece>) -> Self {
        Self { now: Some((part, has_media)), init }
    }

    pub(crate) fn next(&mut self, piece: &Piece) -> Next {
        let is_init = piece.role == Role::Init;
        let continues =
            self.now.is_some_and(|(part, has_media)| part == piece.part && !(is_init && has_media));
        let has_media = !is_init || (continues && self.now.is_some_and(|(_, has)| has));
        self.now = Some((piece.part, has_media));
        if is_init {
            self.init = Some(piece.clone());
        }
        if continues {
            return Next::Continue;
        }
        let repeated = self.init.as_ref().filter(|_| !is_init);
        let repeated = repeated.map(|init| Piece {
            sequence: piece.sequence,
            part: piece.part,
            ..init.clone()
        });
        Next::Begin(repeated.map(Box::new))
    }
}

/// An object, or a range of it, that makes up a whole reel. The engine fetches it over as many
/// connections as help, and continues it after a kill, without anything of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) url: Url,
    pub(crate) mirrors: Vec<Url>,
    pub(crate) range: Option<Range<u64>>,
}

impl Object {
    /// What these pieces are together, if that is one object.
    pub(crate) fn of(pieces: &[Piece]) -> Option<Self> {
        let (first, rest) = pieces.split_first()?;
        if pieces.iter().any(|piece| piece.key.is_some() || piece.is_gap || piece.url != first.url)
        {
            return None;
        }
        let mut object = Self {
            url: first.url.clone(),
            mirrors: first.mirrors.clone(),
            range: first.range.clone(),
        };
        for piece in rest {
            let (whole, next) = (object.range.as_mut()?, piece.range.as_ref()?);
            if next.start != whole.end {
                return None;
            }
            whole.end = next.end;
        }
        Some(object)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn piece(name: &str, role: Role, part: u32, range: Option<Range<u64>>) -> Piece {
        Piece {
            url: Url::parse("http://film.example/").unwrap().join(name).unwrap(),
            mirrors: Vec::new(),
            range,
            key: None,
            role,
            sequence: 0,
            part,
            duration: Duration::ZERO,
            is_gap: false,
        }
    }

    fn names(pieces: Vec<Piece>) -> Vec<Vec<String>> {
        let track = Track { pieces, is_complete: true, target_duration: None };
        let name = |piece: &Piece| piece.url.path()[1..].to_owned();
        reels(&track).0.iter().map(|reel| reel.iter().map(name).collect()).collect()
    }

    #[test]
    fn breaks_and_further_initializations_begin_reels() {
        use Role::{Init, Media};
        let pieces = [("a", Media, 0), ("b", Media, 0), ("c", Media, 1), ("d", Media, 1)];
        let pieces = pieces.map(|(name, role, part)| piece(name, role, part, None)).to_vec();
        assert_eq!(names(pieces), [["a", "b"], ["c", "d"]]);
        let pieces = [("i", Init, 0), ("a", Media, 0), ("j", Init, 0), ("b", Media, 0)];
        let pieces = pieces.map(|(name, role, part)| piece(name, role, part, None)).to_vec();
        assert_eq!(names(pieces), [["i", "a"], ["j", "b"]]);
    }

    #[test]
    fn a_reel_after_a_break_begins_with_the_initialization_in_force() {
        use Role::{Init, Media};
        let pieces = [("i", Init, 0), ("a", Media, 0), ("b", Media, 1), ("c", Media, 1)];
        let pieces = pieces.map(|(name, role, part)| piece(name, role, part, None)).to_vec();
        assert_eq!(names(pieces), [vec!["i", "a"], vec!["i", "b", "c"]]);
    }

    #[test]
    fn adjacent_ranges_of_one_file_are_one_object() {
        let ranged = |range| piece("all.ts", Role::Media, 0, Some(range));
        let whole = Object::of(&[ranged(0..5), ranged(5..9), ranged(9..20)]).unwrap();
        assert_eq!(whole.range, Some(0..20));
        assert_eq!(Object::of(&[ranged(0..5), ranged(6..9)]), None);
        assert_eq!(Object::of(&[piece("a", Role::Media, 0, None), ranged(0..4)]), None);
        assert_eq!(Object::of(&[piece("a", Role::Media, 0, None)]).unwrap().range, None);
        assert_eq!(Object::of(&[]), None);
    }
}
