use proptest::prelude::*;

use super::*;

/// What aria2 writes, by its manual: nothing here is shared with the reader.
#[derive(Debug, Clone)]
struct Written {
    version: u16,
    little: bool,
    info_hash: Vec<u8>,
    piece: u32,
    total: u64,
    bits: Vec<u8>,
    under_way: Vec<(u32, u32, Vec<u8>)>,
}

impl Written {
    fn of(total: u64, piece: u32, set: &[bool]) -> Self {
        let mut bits = vec![0; total.div_ceil(u64::from(piece)).div_ceil(8) as usize];
        for (at, _) in set.iter().enumerate().filter(|(_, set)| **set) {
            bits[at / 8] |= 0x80 >> (at % 8);
        }
        let (info_hash, under_way) = (Vec::new(), Vec::new());
        Self { version: 1, little: false, info_hash, piece, total, bits, under_way }
    }

    fn bytes(&self) -> Vec<u8> {
        let u32 = |n: u32| if self.little { n.to_le_bytes() } else { n.to_be_bytes() };
        let u64 = |n: u64| if self.little { n.to_le_bytes() } else { n.to_be_bytes() };
        let mut out = self.version.to_be_bytes().to_vec();
        out.extend([0; 4]);
        out.extend(u32(self.info_hash.len() as u32));
        out.extend(&self.info_hash);
        out.extend(u32(self.piece));
        out.extend(u64(self.total));
        out.extend(u64(77));
        out.extend(u32(self.bits.len() as u32));
        out.extend(&self.bits);
        out.extend(u32(self.under_way.len() as u32));
        for (index, len, blocks) in &self.under_way {
            out.extend(u32(*index));
            out.extend(u32(*len));
            out.extend(u32(blocks.len() as u32));
            out.extend(blocks);
        }
        out
    }
}

fn five() -> Written {
    Written::of(4 * 1024 + 100, 1024, &[true, true, false, false, true])
}

#[test]
fn pieces_are_read_in_both_versions_and_orders() {
    let expected = ControlFile {
        total_bytes: 4196,
        piece_bytes: 1024,
        have: vec![ByteRange::new(0, 2048), ByteRange::new(4096, 4196)],
    };
    for (version, little) in [(1, false), (0, true), (0, false)] {
        let written = Written { version, little, ..five() };
        assert_eq!(ControlFile::parse(&written.bytes()), Ok(expected.clone()));
    }
}

/// As aria2 1.36 wrote it, killed while it fetched 4 MiB over two connections.
#[test]
fn pieces_under_way_do_not_count() {
    let blocks = |bytes: u64| vec![0xff; bytes.div_ceil(BLOCK_BYTES).div_ceil(8) as usize];
    let mut written = Written::of(4 << 20, 1 << 20, &[true, false, true, true]);
    written.under_way = vec![(1, 1 << 20, blocks(1 << 20)), (3, 1 << 20, blocks(1 << 20))];
    let control = ControlFile::parse(&written.bytes()).unwrap();
    assert_eq!(control.have, [ByteRange::new(0, 1 << 20), ByteRange::new(2 << 20, 3 << 20)]);
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let refused = |written: Written, why: &str| {
        let error = ControlFile::parse(&written.bytes()).unwrap_err();
        assert!(error.contains(why), "{error}: {written:?}");
    };
    refused(Written { version: 2, ..five() }, "version");
    refused(Written { version: 1, little: true, ..five() }, "");
    refused(Written { info_hash: vec![1; 20], ..five() }, "torrent");
    refused(Written { piece: 0, ..five() }, "pieces are smaller");
    refused(Written { total: 0, ..five() }, "no size");
    refused(Written { total: u64::MAX, ..five() }, "no size");
    refused(Written { bits: vec![0; 2], ..five() }, "a bit for each");
    refused(Written { bits: Vec::new(), ..five() }, "a bit for each");
    refused(Written { bits: vec![0xff], ..five() }, "beyond");
    refused(Written { bits: vec![0b0000_0100], ..five() }, "beyond");
    for under_way in [(5, 1024, vec![0]), (0, 1025, vec![0]), (0, 0, vec![]), (0, 1024, vec![0; 2])]
    {
        refused(Written { under_way: vec![under_way], ..five() }, "under way");
    }
}

#[test]
fn every_truncation_and_what_follows_the_end_is_refused() {
    let mut written = five();
    written.under_way = vec![(2, 1024, vec![0x80])];
    let mut bytes = written.bytes();
    ControlFile::parse(&bytes).unwrap();
    for len in 0..bytes.len() {
        assert!(ControlFile::parse(&bytes[..len]).is_err(), "cut to {len} bytes");
    }
    bytes.push(0);
    assert_eq!(ControlFile::parse(&bytes), Err("it goes on after its end"));
    assert!(ControlFile::parse(&vec![0; MAX_CONTROL_BYTES as usize + 1]).is_err());
    // Counts of what is not there take no memory.
    let mut many = five().bytes();
    let end = many.len();
    many[end - 4..].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(ControlFile::parse(&many).is_err());
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        set in proptest::collection::vec(any::<bool>(), 1..100),
        piece in 1024_u32..5000,
        less in 0_u64..1024,
        version in 0_u16..2,
    ) {
        let total = set.len() as u64 * u64::from(piece) - less;
        let little = version == 0;
        let bytes = Written { version, little, ..Written::of(total, piece, &set) }.bytes();
        let control = ControlFile::parse(&bytes).unwrap();
        prop_assert_eq!((control.total_bytes, control.piece_bytes), (total, u64::from(piece)));
        for (at, set) in set.iter().enumerate() {
            let start = at as u64 * u64::from(piece);
            let end = total.min(start + u64::from(piece));
            for byte in [start, end - 1] {
                prop_assert_eq!(control.have.iter().any(|run| run.contains(byte)), *set);
            }
        }
        prop_assert!(control.have.windows(2).all(|two| two[0].end() < two[1].start()));
    }

    #[test]
    fn anything_else_is_an_error_or_makes_sense(
        change in proptest::collection::vec((0_usize..60, any::<u8>()), 0..6),
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut damaged = Written { under_way: vec![(2, 1024, vec![1])], ..five() }.bytes();
        for (at, byte) in change {
            if let Some(there) = damaged.get_mut(at) {
                *there = byte;
            }
        }
        for bytes in [damaged, bytes] {
            let Ok(control) = ControlFile::parse(&bytes) else { continue };
            prop_assert!(control.total_bytes > 0 && control.total_bytes <= MAX_OBJECT_BYTES);
            let mut before = None;
            for run in &control.have {
                prop_assert!(!run.is_empty() && run.end() <= control.total_bytes);
                prop_assert!(before.is_none_or(|end| end < run.start()));
                before = Some(run.end());
            }
        }
    }
}
