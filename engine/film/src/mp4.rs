//! Fragmented MP4 of several tracks as one stream: initializations merged, fragments renumbered.
//!
//! Pictures and sound that come apart are two rows of fragments, each with an initialization of its
//! own and mostly both with track 1. One stream of them needs one `moov` with all tracks, and
//! fragments that say which of them they belong to. Nothing is coded anew and no fragment changes
//! its length, so that places in the stream are known before the fragments are there
//! (ISO/IEC 14496-12 sections 8.2, 8.8 and 8.16).

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// The new number of each track of an initialization.
pub(crate) type Numbers = BTreeMap<u32, u32>;

/// The initializations of several rows of fragments as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merged {
    /// `ftyp` and `moov`.
    pub(crate) bytes: Vec<u8>,
    /// The tracks of each row.
    pub(crate) numbers: Vec<Numbers>,
    /// The units in a second in which the first track counts time.
    pub(crate) timescale: u32,
}

/// A box: its name, and where it and its content lie in the bytes that it was found in.
#[derive(Debug, Clone)]
struct Found {
    name: [u8; 4],
    whole: Range<usize>,
    content: Range<usize>,
}

/// The boxes in this part of the bytes, up to the first that is none.
fn boxes(bytes: &[u8], part: Range<usize>) -> Vec<Found> {
    let mut found = Vec::new();
    let mut at = part.start;
    while let Some(header) = bytes.get(at..at + 8).filter(|_| at + 8 <= part.end) {
        let name = [header[4], header[5], header[6], header[7]];
        let (size, header_bytes) = match number(bytes, at) {
            Some(0) => (part.end - at, 8),
            Some(1) => match long(bytes, at + 8) {
                Some(size) => (usize::try_from(size).unwrap_or(usize::MAX), 16),
                None => break,
            },
            Some(size) => (size as usize, 8),
            None => break,
        };
        let Some(end) = at.checked_add(size).filter(|end| *end <= part.end && size >= header_bytes)
        else {
            break;
        };
        found.push(Found { name, whole: at..end, content: at + header_bytes..end });
        at = end;
    }
    found
}

fn within(bytes: &[u8], outer: &Found) -> Vec<Found> {
    boxes(bytes, outer.content.clone())
}

fn one<'a>(all: &'a [Found], name: &[u8; 4]) -> Option<&'a Found> {
    all.iter().find(|it| it.name == *name)
}

/// The 32-bit number at this place.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

/// The 64-bit number at this place.
fn long(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_be_bytes(eight.try_into().ok()?))
}

fn set(bytes: &mut [u8], at: usize, value: u32) -> Option<()> {
    bytes.get_mut(at..at.checked_add(4)?)?.copy_from_slice(&value.to_be_bytes());
    Some(())
}

fn boxed(name: &[u8; 4], content: &[u8]) -> Option<Vec<u8>> {
    let size = u32::try_from(content.len() + 8).ok()?;
    Some([&size.to_be_bytes()[..], name, content].concat())
}

/// Where a full box (ISO/IEC 14496-12 section 4.2) has the field that follows its two times, which
/// have 64 bits in version 1.
fn after_times(bytes: &[u8], full: &Found) -> Option<usize> {
    let version = *bytes.get(full.content.start)?;
    Some(full.content.start + if version == 1 { 20 } else { 12 })
}

/// The decode time of a track in the first of these fragments that has it
/// (ISO/IEC 14496-12 section 8.8.12).
fn decode_time<'a>(
    bytes: &[u8],
    fragments: impl Iterator<Item = &'a Found>,
    is_of: impl Fn(u32) -> bool,
) -> Option<u64> {
    let mut runs = fragments.flat_map(|fragment| within(bytes, fragment));
    let at = runs.find_map(|run| {
        let parts = within(bytes, &run);
        let id = number(bytes, one(&parts, b"tfhd")?.content.start + 4)?;
        one(&parts, b"tfdt").filter(|_| is_of(id)).map(|it| it.content.start)
    })?;
    match bytes.get(at)? {
        1 => long(bytes, at + 4),
        _ => number(bytes, at + 4).map(u64::from),
    }
}

fn fragments(all: &[Found]) -> impl Iterator<Item = &Found> {
    all.iter().filter(|it| it.name == *b"moof")
}

/// When a fragmented film begins, in ticks of 90 kHz: the decode time of its first fragment of
/// pictures, or of its first track where it has none.
pub(crate) fn begins_at(film: &[u8]) -> Option<u64> {
    let all = boxes(film, 0..film.len());
    let mut tracks = Vec::new();
    for track in within(film, one(&all, b"moov")?).iter().filter(|it| it.name == *b"trak") {
        let parts = within(film, track);
        let media = within(film, one(&parts, b"mdia")?);
        let handler = one(&media, b"hdlr")?.content.start + 8;
        let is_pictures = film.get(handler..handler + 4) == Some(b"vide");
        let id = number(film, after_times(film, one(&parts, b"tkhd")?)?)?;
        let timescale = number(film, after_times(film, one(&media, b"mdhd")?)?)?;
        tracks.push((is_pictures, id, timescale));
    }
    let pictures = tracks.iter().find(|(is_pictures, ..)| *is_pictures);
    let (_, id, timescale) = *pictures.or(tracks.first())?;
    let time = decode_time(film, fragments(&all), |found| found == id)?;
    u64::try_from((u128::from(time) * 90_000).checked_div(u128::from(timescale))?).ok()
}

/// Merges initializations; `None` where one is none.
pub(crate) fn merge(inits: &[Vec<u8>]) -> Option<Merged> {
    let (mut tracks, mut extends, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut beginning, mut head, mut timescale) = (None, None, None);
    let mut next = 1;
    for init in inits {
        let all = boxes(init, 0..init.len());
        let moov = within(init, one(&all, b"moov")?);
        if head.is_none() {
            beginning = one(&all, b"ftyp").map(|ftyp| init[ftyp.whole.clone()].to_vec());
            head = Some(init[one(&moov, b"mvhd")?.whole.clone()].to_vec());
        }
        let mut of_row = Numbers::new();
        for track in moov.iter().filter(|it| it.name == *b"trak") {
            let parts = within(init, track);
            let id_at = after_times(init, one(&parts, b"tkhd")?)?;
            of_row.insert(number(init, id_at)?, next);
            let mut copy = init[track.whole.clone()].to_vec();
            set(&mut copy, id_at - track.whole.start, next)?;
            tracks.extend(copy);
            if timescale.is_none() {
                let media = within(init, one(&parts, b"mdia")?);
                timescale = number(init, after_times(init, one(&media, b"mdhd")?)?);
            }
            next += 1;
        }
        let extending = within(init, one(&moov, b"mvex")?);
        for each in extending.iter().filter(|it| it.name == *b"trex") {
            let id_at = each.content.start + 4;
            let mut copy = init[each.whole.clone()].to_vec();
            set(&mut copy, id_at - each.whole.start, *of_row.get(&number(init, id_at)?)?)?;
            extends.extend(copy);
        }
        numbers.push(of_row);
    }
    let mut head = head?;
    let next_at = head.len().checked_sub(4)?;
    set(&mut head, next_at, next)?;
    let moov = boxed(b"moov", &[head, tracks, boxed(b"mvex", &extends)?].concat())?;
    Some(Merged {
        bytes: [beginning.unwrap_or_default(), moov].concat(),
        numbers,
        timescale: timescale.filter(|it| *it > 0)?,
    })
}

/// Makes the fragments of a piece those of the merged stream. Its length stays.
pub(crate) fn renumber(piece: &mut [u8], numbers: &Numbers) {
    for outer in boxes(piece, 0..piece.len()) {
        match &outer.name {
            // An index of the piece alone would be wrong here.
            b"sidx" | b"ssix" => piece[outer.whole.start + 4..][..4].copy_from_slice(b"free"),
            b"moof" => {
                for track in within(piece, &outer).iter().filter(|it| it.name == *b"traf") {
                    // A fragment that cannot be read is left as it is.
                    let _ = renumber_track(piece, track, numbers);
                }
            }
            _ => {}
        }
    }
}

/// `tfhd`: its data begins at a place of the file.
const BASE_DATA_OFFSET: u32 = 0x1;
/// `tfhd`: places of data are counted from the fragment.
const DEFAULT_BASE_IS_MOOF: u32 = 0x2_0000;

fn renumber_track(piece: &mut [u8], track: &Found, numbers: &Numbers) -> Option<()> {
    let parts = within(piece, track);
    let head = one(&parts, b"tfhd")?;
    let flags = number(piece, head.content.start)?;
    let id_at = head.content.start + 4;
    if let Some(new) = numbers.get(&number(piece, id_at)?) {
        set(piece, id_at, *new)?;
    }
    let plain = head.content.start == head.whole.start + 8;
    if flags & BASE_DATA_OFFSET != 0 && plain && head.content.len() >= 16 {
        // The place in the file is another one now. It is the fragment's own, which can be said
        // without a number; an empty box takes the room of the number.
        set(piece, head.content.start, flags & !BASE_DATA_OFFSET | DEFAULT_BASE_IS_MOOF)?;
        set(piece, head.whole.start, u32::try_from(head.whole.len() - 8).ok()?)?;
        piece.copy_within(id_at + 12..head.whole.end, id_at + 4);
        set(piece, head.whole.end - 8, 8)?;
        piece[head.whole.end - 4..head.whole.end].copy_from_slice(b"free");
    }
    Some(())
}

/// The time at which the first fragment of a piece begins, in the units of the track that is number
/// 1 in the merged stream.
pub(crate) fn begins(piece: &[u8], numbers: &Numbers) -> Option<u64> {
    let all = boxes(piece, 0..piece.len());
    decode_time(piece, fragments(&all).take(1), |id| numbers.get(&id) == Some(&1))
}

/// What the index at the beginning of a file says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Indexed {
    /// Where the initialization ends, and each part with how long it lasts.
    Parts(u64, Vec<(Range<u64>, Duration)>),
    /// It is known with so many bytes of the beginning.
    Needs(u64),
    /// It has none that can be used.
    No,
}

/// Reads the index (`sidx`) behind the initialization of a file that begins with these bytes.
pub(crate) fn indexed(beginning: &[u8]) -> Indexed {
    let mut at = 0u64;
    let mut has_tracks = false;
    // A head of a box that is not here yet is fetched with what may follow it.
    let needs = |end: u64| Indexed::Needs(end.saturating_add(4096));
    loop {
        let Some(header) = usize::try_from(at).ok().and_then(|at| beginning.get(at..at + 8)) else {
            return needs(at);
        };
        let size = u64::from(number(header, 0).unwrap_or(0));
        let end = at.saturating_add(size);
        match &header[4..] {
            b"sidx" if has_tracks && size >= 32 => {
                let Some(index) = usize::try_from(end)
                    .ok()
                    .and_then(|end| beginning.get(usize::try_from(at).ok()? + 8..end))
                else {
                    return needs(end);
                };
                return parts(index, end).map_or(Indexed::No, |parts| Indexed::Parts(at, parts));
            }
            b"ftyp" | b"moov" | b"free" | b"skip" | b"styp" if size >= 8 => {
                has_tracks |= &header[4..] == b"moov";
                at = end;
            }
            _ => return Indexed::No,
        }
    }
}

/// The parts in the content of an index that ends at this place of its file.
fn parts(index: &[u8], index_end: u64) -> Option<Vec<(Range<u64>, Duration)>> {
    let timescale = number(index, 8).filter(|it| *it > 0)?;
    let (first_offset, mut at) = match index.first()? {
        0 => (u64::from(number(index, 16)?), 20),
        _ => (long(index, 20)?, 28),
    };
    let count = number(index, at)? & 0xffff;
    let mut from = index_end.checked_add(first_offset)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        at += 4;
        // The highest bit says that it is another index.
        let bytes = number(index, at).filter(|it| *it > 0 && it >> 31 == 0)?;
        let lasts = Duration::from_secs(number(index, at + 4)?.into()) / timescale;
        let end = from.checked_add(bytes.into())?;
        parts.push((from..end, lasts));
        (from, at) = (end, at + 8);
    }
    Some(parts).filter(|parts| !parts.is_empty())
}

/// The length in bytes of an index of so many parts; `None` where one cannot have so many.
pub(crate) fn index_bytes(parts: usize) -> Option<u64> {
    u16::try_from(parts).ok().map(|parts| 40 + 12 * u64::from(parts))
}

/// The index (`sidx`) of a stream whose parts follow at once, each with its bytes and how long it
/// lasts; `None` where it cannot have one.
pub(crate) fn index(timescale: u32, begins: u64, parts: &[(u64, Duration)]) -> Option<Vec<u8>> {
    let mut content = vec![1, 0, 0, 0];
    content.extend(1u32.to_be_bytes());
    content.extend(timescale.to_be_bytes());
    content.extend(begins.to_be_bytes());
    content.extend(0u64.to_be_bytes());
    content.extend([0, 0]);
    content.extend(u16::try_from(parts.len()).ok()?.to_be_bytes());
    // What is rounded in one part is made up for in the next.
    let units = |until: Duration| (until.as_nanos() * u128::from(timescale)) / 1_000_000_000;
    let mut until = Duration::ZERO;
    for (bytes, lasts) in parts {
        let from = units(until);
        until = until.checked_add(*lasts)?;
        // The highest bit would say that it is another index.
        content.extend(u32::try_from(*bytes).ok().filter(|it| it >> 31 == 0)?.to_be_bytes());
        content.extend(u32::try_from(units(until) - from).ok()?.to_be_bytes());
        // It begins with a picture that needs no other.
        content.extend(0x9000_0000u32.to_be_bytes());
    }
    boxed(b"sidx", &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(name: &[u8; 4], flags: u32, content: &[u8]) -> Vec<u8> {
        boxed(name, &[&flags.to_be_bytes()[..], content].concat()).unwrap()
    }

    fn numbers(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_be_bytes()).collect()
    }

    fn init(id: u32, timescale: u32) -> Vec<u8> {
        let head = full(b"mvhd", 0, &numbers(&[0, 0, 1000, 0, 9, 9, id + 1]));
        let track_head = full(b"tkhd", 3, &numbers(&[0, 0, id, 0, 0]));
        let media = boxed(b"mdia", &full(b"mdhd", 0, &numbers(&[0, 0, timescale, 0]))).unwrap();
        let track = boxed(b"trak", &[track_head, media].concat()).unwrap();
        let extends = boxed(b"mvex", &full(b"trex", 0, &numbers(&[id, 1, 0, 0, 0]))).unwrap();
        let moov = boxed(b"moov", &[head, track, extends].concat()).unwrap();
        [boxed(b"ftyp", b"iso5\0\0\0\0").unwrap(), moov].concat()
    }

    fn fragment(id: u32, flags: u32, rest: &[u8]) -> Vec<u8> {
        let head = full(b"tfhd", flags, &[&numbers(&[id])[..], rest].concat());
        let time = full(b"tfdt", 0x0100_0000, &numbers(&[0, 700]));
        let track = boxed(b"traf", &[head, time].concat()).unwrap();
        let moof = boxed(b"moof", &[full(b"mfhd", 0, &numbers(&[1])), track].concat()).unwrap();
        [full(b"sidx", 0, &[0; 20]), moof, boxed(b"mdat", &[5; 30]).unwrap()].concat()
    }

    /// The numbers of the tracks in a `moov`, by `tkhd` and by `trex`.
    fn tracks(bytes: &[u8]) -> (Vec<u32>, Vec<u32>) {
        let all = boxes(bytes, 0..bytes.len());
        let moov = within(bytes, one(&all, b"moov").unwrap());
        let heads = moov.iter().filter(|it| it.name == *b"trak").map(|track| {
            let head = one(&within(bytes, track), b"tkhd").unwrap().clone();
            number(bytes, after_times(bytes, &head).unwrap()).unwrap()
        });
        let extends = within(bytes, one(&moov, b"mvex").unwrap());
        let extends = extends.iter().map(|it| number(bytes, it.content.start + 4).unwrap());
        (heads.collect(), extends.collect())
    }

    #[test]
    fn the_first_fragment_of_the_pictures_tells_when_an_mp4_begins() {
        let boxed = |name: &[u8; 4], content: &[u8]| -> Vec<u8> {
            let size = u32::try_from(8 + content.len()).unwrap();
            [&size.to_be_bytes()[..], name, content].concat()
        };
        let track = |id: u8, kind: &[u8; 4], timescale: u32| {
            let handler = boxed(b"hdlr", &[&[0; 8][..], kind].concat());
            let header = boxed(b"mdhd", &[&[0; 12][..], &timescale.to_be_bytes()].concat());
            let id = boxed(b"tkhd", &[&[0; 15][..], &[id]].concat());
            boxed(b"trak", &[id, boxed(b"mdia", &[handler, header].concat())].concat())
        };
        let run = |id: u8, times: &[u8]| {
            let head = boxed(b"tfhd", &[0, 0, 0, 0, 0, 0, 0, id]);
            boxed(b"traf", &[head, boxed(b"tfdt", times)].concat())
        };
        let moov = boxed(b"moov", &[track(1, b"soun", 48_000), track(2, b"vide", 1000)].concat());
        let runs = [
            run(1, &[0, 0, 0, 0, 0, 0, 0, 9]),
            run(2, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x27, 0x10]),
        ];
        let film = [moov, boxed(b"moof", &runs.concat()), boxed(b"mdat", &[0; 9])].concat();
        assert_eq!(begins_at(&film), Some(900_000));
        for cut in 0..film.len() - 17 {
            assert_eq!(begins_at(&film[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn two_initializations_of_track_1_become_two_tracks() {
        let merged = merge(&[init(1, 90_000), init(1, 48_000)]).unwrap();
        assert_eq!(tracks(&merged.bytes), (vec![1, 2], vec![1, 2]));
        assert_eq!(merged.timescale, 90_000);
        assert_eq!(merged.numbers, [Numbers::from([(1, 1)]), Numbers::from([(1, 2)])]);
        assert_eq!(merge(&[init(1, 90_000), b"no box".to_vec()]), None);
        assert_eq!(merge(&[init(1, 0)]), None);
    }

    #[test]
    fn a_fragment_gets_its_number_and_keeps_its_length() {
        let piece = fragment(1, DEFAULT_BASE_IS_MOOF, &[]);
        let mut new = piece.clone();
        renumber(&mut new, &Numbers::from([(1, 2)]));
        assert_eq!(new.len(), piece.len());
        assert_eq!(&new[4..8], b"free", "the index of the piece alone is none any more");
        let expected = fragment(2, DEFAULT_BASE_IS_MOOF, &[]);
        assert_eq!(new[8..], expected[8..]);
        assert_eq!(begins(&piece, &Numbers::from([(1, 1)])), Some(700));
        assert_eq!(begins(&piece, &Numbers::from([(2, 1)])), None);
    }

    #[test]
    fn a_place_in_the_file_becomes_the_fragments_own() {
        let offset_and_size = [&7777u64.to_be_bytes()[..], &numbers(&[512])].concat();
        let mut piece = fragment(1, BASE_DATA_OFFSET | 0x10, &offset_and_size);
        let len = piece.len();
        renumber(&mut piece, &Numbers::from([(1, 3)]));
        assert_eq!(piece.len(), len);
        let all = boxes(&piece, 0..len);
        let moof = within(&piece, one(&all, b"moof").unwrap());
        let track = within(&piece, one(&moof, b"traf").unwrap());
        let names: Vec<[u8; 4]> = track.iter().map(|it| it.name).collect();
        assert_eq!(names, [*b"tfhd", *b"free", *b"tfdt"]);
        let head = one(&track, b"tfhd").unwrap();
        assert_eq!(number(&piece, head.content.start), Some(DEFAULT_BASE_IS_MOOF | 0x10));
        assert_eq!(number(&piece, head.content.start + 4), Some(3));
        assert_eq!(number(&piece, head.content.start + 8), Some(512));
    }

    #[test]
    fn an_index_has_its_length_and_no_drift() {
        let third = Duration::from_secs(1) / 3;
        let parts = vec![(1000, third); 3000];
        let index = index(90, 700, &parts).unwrap();
        assert_eq!(Some(index.len() as u64), index_bytes(parts.len()));
        let lasts: u64 =
            (0..3000).map(|at| u64::from(number(&index, 40 + at * 12 + 4).unwrap())).sum();
        assert!((89_999..=90_000).contains(&lasts), "{lasts}");
        assert_eq!(super::index(90, 0, &[(1 << 31, third)]), None);
        assert_eq!(index_bytes(70_000), None);
    }

    #[test]
    fn the_index_of_a_file_tells_its_parts() {
        let second = Duration::from_secs(1);
        let index = index(90, 0, &[(1000, second), (500, second * 2)]).unwrap();
        let file = [init(1, 90), index.clone()].concat();
        let init_end = init(1, 90).len() as u64;
        let from = file.len() as u64;
        let parts = vec![(from..from + 1000, second), (from + 1000..from + 1500, second * 2)];
        assert_eq!(indexed(&file), Indexed::Parts(init_end, parts));
        for cut in 8..file.len() {
            let Indexed::Needs(more) = indexed(&file[..cut]) else { panic!("{cut}") };
            assert!(more as usize > cut);
        }
        assert_eq!(
            indexed(&[init(1, 90), fragment(1, 0, &[])[28..].to_vec()].concat()),
            Indexed::No
        );
        let mut nested = file.clone();
        nested[init_end as usize + 40] = 0x80;
        assert_eq!(indexed(&nested), Indexed::No);
    }

    #[test]
    fn what_is_cut_does_no_harm() {
        let whole = [init(1, 1000), fragment(1, BASE_DATA_OFFSET, &[0; 8])].concat();
        for cut in 0..whole.len() {
            let mut part = whole[..cut].to_vec();
            renumber(&mut part, &Numbers::from([(1, 2)]));
            let _ =
                (merge(&[part.clone()]), indexed(&part), begins(&part, &Numbers::from([(1, 1)])));
        }
    }
}
