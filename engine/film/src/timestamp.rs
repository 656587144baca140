//! When a film begins by its own clock, which the times of its subtitles refer to.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::container::{Container, PACKET_BYTES, SYNC_BYTE};
use crate::mp4;

/// The first picture of a film comes within so many bytes.
const SEARCHED_BYTES: u64 = 4 << 20;

/// The timestamp of the first picture in a transport stream or a fragmented MP4, or of its first
/// sound where it has no pictures, in ticks of 90 kHz. `None` where it is not found.
pub(crate) fn first(path: &Path, container: Container) -> Option<u64> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(SEARCHED_BYTES).read_to_end(&mut bytes)).ok()?;
    match container {
        Container::TransportStream => first_in(&bytes),
        Container::Mp4 => mp4::begins_at(&bytes),
        _ => None,
    }
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
    fn the_first_picture_counts_before_sound() {
        for timestamp in [0, 126_000, (1 << 33) - 1, 0x1_5555_5555] {
            let stream = [packet(0xc0, 7, 0), packet(0xe0, timestamp, 9)].concat();
            assert_eq!(first_in(&stream), Some(timestamp));
        }
        assert_eq!(first_in(&packet(0xc0, 7, 0)), Some(7));
        assert_eq!(first_in(&[0x47; 300]), None);
    }
}
