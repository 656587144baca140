//! When a film begins by its own clock, which the times of its subtitles refer to.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::container::{Container, PACKET_BYTES, SYNC_BYTE};

/// The first picture of a film comes within so many bytes.
const SEARCHED_BYTES: u64 = 4 << 20;

/// The timestamp of the first picture in a transport stream or a fragmented MP4, or of its first
/// sound where it has no pictures, in ticks of 90 kHz. `None` where it is not found.
pub(crate) fn first(path: &Path, container: Container) -> Option<u64> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(SEARCHED_BYTES).read_to_end(&mut bytes)).ok()?;
    match container {
        Container::TransportStream => first_in(&bytes),
        Container::Mp4 => first_in_boxes(&bytes),
        _ => None,
    }
}

/// The decode time of the first fragment (ISO/IEC 14496-12 section 8.8.12).
fn first_in_boxes(film: &[u8]) -> Option<u64> {
    let mut tracks: Vec<(bool, u32, u32)> = Vec::new();
    for track in boxes(inside(film, b"moov")?).filter(|(name, _)| *name == b"trak") {
        let media = inside(track.1, b"mdia")?;
        let is_pictures = inside(media, b"hdlr")?.get(8..12) == Some(b"vide");
        // Two times before them have 64 bits in version 1.
        let after_times =
            |content: &[u8]| number(content, if *content.first()? == 1 { 20 } else { 12 });
        let id = after_times(inside(track.1, b"tkhd")?)?;
        let timescale = after_times(inside(media, b"mdhd")?).filter(|it| *it > 0)?;
        tracks.push((is_pictures, id, timescale));
    }
    let (_, id, timescale) =
        tracks.iter().find(|(is_pictures, ..)| *is_pictures).or(tracks.first())?;
    let fragments = boxes(film).filter(|(name, _)| *name == b"moof");
    let mut runs = fragments.flat_map(|(_, fragment)| boxes(fragment));
    let times = runs.find_map(|(_, run)| {
        let is_of = number(inside(run, b"tfhd")?, 4) == Some(*id);
        inside(run, b"tfdt").filter(|_| is_of)
    })?;
    let time = match *times.first()? {
        1 => u64::from(number(times, 4)?) << 32 | u64::from(number(times, 8)?),
        _ => u64::from(number(times, 4)?),
    };
    u64::try_from(u128::from(time) * 90_000 / u128::from(*timescale)).ok()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The content of the first box of this name.
fn inside<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(found, _)| found == name).map(|(_, content)| content)
}

/// Boxes that stand one after the other: names and contents. The last may be cut.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let name = bytes.get(4..8)?;
        let (head, size) = match number(bytes, 0)? {
            0 => (8, bytes.len()),
            1 => (
                16,
                usize::try_from(u64::from(number(bytes, 8)?) << 32 | u64::from(number(bytes, 12)?))
                    .ok()?,
            ),
            size => (8, usize::try_from(size).ok()?),
        };
        let end = size.min(bytes.len());
        let content = bytes.get(head..end)?;
        bytes = &bytes[end..];
        Some((name, content))
    })
}

fn first_in(stream: &[u8]) -> Option<u64> {
    let all = || stream.chunks_exact(PACKET_BYTES).filter_map(begun);
    let pictures = all().find(|(id, _)| (0xe0..=0xef).contains(id));
    let sound = || all().find(|(id, _)| (0xc0..=0xdf).contains(id) || *id == 0xbd);
    pictures.or_else(sound).map(|(_, timestamp)| timestamp)
}

/// The stream id and the presentation timestamp of what begins in this packet (ISO/IEC 13818-1
/// sections 2.4.3.2 and 2.4.3.6).
fn begun(packet: &[u8]) -> Option<(u8, u64)> {
    let (begins, has_adaptation) = (packet[1] & 0x40 != 0, packet[3] & 0x20 != 0);
    if packet[0] != SYNC_BYTE || !begins || packet[3] & 0x10 == 0 {
        return None;
    }
    let skipped = if has_adaptation { 5 + usize::from(packet[4]) } else { 4 };
    let payload = packet.get(skipped..)?.strip_prefix(&[0, 0, 1])?;
    let (id, flags) = (*payload.first()?, *payload.get(4)?);
    let bytes: [u8; 5] = payload.get(6..11)?.try_into().ok()?;
    let [a, b, c, d, e] = bytes.map(u64::from);
    let timestamp = (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1;
    (flags & 0x80 != 0).then_some((id, timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(id: u8, timestamp: u64, adaptation_bytes: u8) -> Vec<u8> {
        let byte = |shift: u32, mask: u64| u8::try_from(timestamp >> shift & mask).unwrap();
        let mut packet = vec![SYNC_BYTE, 0x41, 0, if adaptation_bytes > 0 { 0x30 } else { 0x10 }];
        if adaptation_bytes > 0 {
            packet.push(adaptation_bytes);
            packet.extend(vec![0xff; adaptation_bytes.into()]);
        }
        packet.extend([0, 0, 1, id, 0, 0, 0x80, 0x80, 5]);
        packet.extend([0x21 | byte(30, 7) << 1, byte(22, 0xff), byte(15, 0x7f) << 1 | 1]);
        packet.extend([byte(7, 0xff), byte(0, 0x7f) << 1 | 1]);
        packet.resize(PACKET_BYTES, 0);
        packet
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
        assert_eq!(first_in_boxes(&film), Some(900_000));
        for cut in 0..film.len() - 17 {
            assert_eq!(first_in_boxes(&film[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn the_first_picture_counts_before_sound() {
        for timestamp in [0, 126_000, (1 << 33) - 1, 0x1_5555_5555] {
            let stream = [packet(0xc0, 7, 0), packet(0xe0, timestamp, 9)].concat();
            assert_eq!(first_in(&stream), Some(timestamp));
        }
        assert_eq!(first_in(&packet(0xc0, 7, 0)), Some(7));
        assert_eq!(first_in(&[0x47; 300]), None);
    }
}
