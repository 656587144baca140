use proptest::prelude::*;

use super::super::adoption::FormerName;
use super::super::layout::segment_count;
use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn identity() -> UrlIdentity {
    let asked = url("https://user:secret@example.com/a/b.iso?v=1#part");
    UrlIdentity::new([7; 16], &asked, &url("https://cdn.example.net/b.iso?sig=abc"))
}

/// As the formats before version 4 have it.
fn old_identity() -> UrlIdentity {
    let asked = hash_without_query(&[7; 16], &url("https://example.com/a/b.iso?v=1"));
    UrlIdentity { salt: [7; 16], asked, answered: None }
}

/// As the formats before version 4 can have it.
fn old() -> Checkpoint {
    Checkpoint { identity: old_identity(), data_file: None, mixed: false, ..real() }
}

fn date(unix_seconds: u64, strong: bool) -> Option<LastModified> {
    Some(LastModified {
        text: format!("date {unix_seconds}").into(),
        unix_seconds,
        strong,
        age_seconds: None,
    })
}

fn tag(text: &str) -> Option<EntityTag> {
    Some(EntityTag::parse(text).unwrap())
}

fn real() -> Checkpoint {
    Checkpoint {
        identity: identity(),
        host: "example.com".into(),
        total: Some(4096 * 4 + 100),
        validator: Validator { etag: tag("\"v1\""), last_modified: date(1_000_000, true) },
        encoding: None,
        content_type: Some("application/x-iso9660-image".into()),
        segment_size_bytes: 4096,
        segments: vec![
            SegmentRecord::Durable(Some([1; 32])),
            SegmentRecord::Missing,
            SegmentRecord::Complete(Some([2; 32])),
            SegmentRecord::Missing,
            SegmentRecord::Missing,
        ],
        prefixes: vec![
            Prefix { segment: 1, len_bytes: 4096, hash: [3; 32] },
            Prefix { segment: 4, len_bytes: 100, hash: [4; 32] },
        ],
        pid: 4711,
        selected: None,
        data_file: Some(DataFile { in_place: false, device: 0xfd01, inode: u64::MAX }),
        mixed: true,
        adopted: None,
    }
}

/// What another program began.
fn adopted(former: FormerName) -> Option<Adopted> {
    Some(Adopted { former, len_bytes: 5000, modified: (-1, 999_999_999), mode: 0o644 })
}

/// Bytes with a right trailer, so that only the content is at fault.
fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let hash = blake3::hash(&body);
    body.extend_from_slice(hash.as_bytes());
    body
}

type Change = Box<dyn FnOnce(&mut Checkpoint)>;

fn damaged(change: impl FnOnce(&mut Checkpoint)) -> CheckpointError {
    let mut checkpoint = real();
    change(&mut checkpoint);
    Checkpoint::decode(&checkpoint.encode()).unwrap_err()
}

#[test]
fn a_real_one_comes_back() {
    assert_eq!(Checkpoint::decode(&real().encode()), Ok(real()));
    let mut stream = real();
    stream.total = None;
    stream.segments.clear();
    stream.prefixes.clear();
    stream.validator = Validator::default();
    assert_eq!(Checkpoint::decode(&stream.encode()), Ok(stream));
}

#[test]
fn every_truncation_and_every_flipped_bit_is_an_error() {
    let bytes = real().encode();
    for len in 0..bytes.len() {
        assert!(Checkpoint::decode(&bytes[..len]).is_err(), "cut to {len} bytes");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Checkpoint::decode(&flipped).is_err(), "bit {bit} flipped");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(Checkpoint::decode(&longer).is_err());
}

#[test]
fn parts_of_an_object_are_recorded() {
    let parts = vec![ByteRange::new(50_000, 60_000), ByteRange::new(0, 4096 * 4 + 100 - 10_000)];
    let selected = Selected { object_bytes: 60_000, parts };
    let checkpoint = Checkpoint { selected: Some(selected), ..real() };
    let before = Checkpoint { selected: checkpoint.selected.clone(), ..old() };
    for (checkpoint, version) in [(&checkpoint, 4), (&before, 3)] {
        assert_eq!(checkpoint.encode()[8], version);
        assert_eq!(Checkpoint::decode(&checkpoint.encode()).as_ref(), Ok(checkpoint));
    }
    for parts in [
        vec![ByteRange::new(0, 100)],
        vec![ByteRange::new(60_000 - 4096 * 4, 60_001), ByteRange::new(0, 99)],
    ] {
        let selected = Some(Selected { object_bytes: 60_000, parts });
        let damaged = Checkpoint { selected, ..real() }.encode();
        assert!(matches!(Checkpoint::decode(&damaged), Err(CheckpointError::Damaged(_))));
    }
}

#[test]
fn what_another_program_began_is_recorded() {
    for former in [
        FormerName::Output,
        FormerName::Controlled,
        FormerName::Part,
        FormerName::Chromium,
        FormerName::Salted(*b"GhX_TAdl"),
    ] {
        let checkpoint = Checkpoint { adopted: adopted(former), ..real() };
        let bytes = checkpoint.encode();
        assert_eq!(bytes[8], 5);
        assert_eq!(Checkpoint::decode(&bytes).as_ref(), Ok(&checkpoint));
        for len in 0..bytes.len() {
            assert!(Checkpoint::decode(&bytes[..len]).is_err(), "cut to {len} bytes");
        }
    }
    assert_eq!(real().encode()[8], 4, "a haul of before reads what it knows");
    let adopted_as = |salt: &[u8; 8]| adopted(FormerName::Salted(*salt));
    for (adopted, data_file) in [
        (adopted_as(b"../../xx"), real().data_file),
        (adopted_as(b"GhX_TAdl"), None),
        (adopted_as(b"GhX_TAdl"), Some(DataFile { in_place: true, device: 1, inode: 2 })),
    ] {
        let damaged = Checkpoint { adopted, data_file, ..real() }.encode();
        assert!(matches!(Checkpoint::decode(&damaged), Err(CheckpointError::Damaged(_))));
    }
}

#[test]
fn a_newer_version_is_told_whatever_follows() {
    let newer = CheckpointError::Newer { version: 258 };
    assert_eq!(Checkpoint::decode(b"HAULCKPT\x02\x01"), Err(newer));
    let mut bytes = real().encode();
    bytes[8..10].copy_from_slice(&[2, 1]);
    assert_eq!(Checkpoint::decode(&bytes), Err(newer));
    assert_eq!(Checkpoint::decode(b"haulckpt\x02\x01"), Err(CheckpointError::NotACheckpoint));
    assert_eq!(Checkpoint::decode(b""), Err(CheckpointError::NotACheckpoint));
    let zero = sealed(b"HAULCKPT\0\0".to_vec());
    assert!(matches!(Checkpoint::decode(&zero), Err(CheckpointError::Damaged(_))));
}

#[test]
fn segments_without_a_hash_are_durable_or_missing() {
    let version = |checkpoint: &Checkpoint| checkpoint.encode()[8];
    let mut checkpoint = old();
    assert_eq!(version(&checkpoint), 1);
    assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint.clone()));
    checkpoint.segments[0] = SegmentRecord::Durable(None);
    assert_eq!(version(&checkpoint), 2);
    assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint.clone()));
    // Version 1 has no such state.
    let mut body = checkpoint.encode();
    body.truncate(body.len() - 32);
    body[8] = 1;
    assert!(matches!(Checkpoint::decode(&sealed(body)), Err(CheckpointError::Damaged(_))));

    let mut unsynced = real();
    unsynced.segments[2] = SegmentRecord::Complete(None);
    assert_eq!(version(&unsynced), 4);
    let read = Checkpoint::decode(&unsynced.encode()).unwrap();
    assert_eq!(read.segments[2], SegmentRecord::Missing);
}

#[test]
fn what_contradicts_itself_is_damaged() {
    let all: [Change; 16] = [
        Box::new(|c| c.segment_size_bytes = 0),
        Box::new(|c| c.segment_size_bytes = 512),
        Box::new(|c| c.segment_size_bytes = 4097),
        Box::new(|c| c.segment_size_bytes = 8192),
        Box::new(|c| c.total = None),
        Box::new(|c| c.total = Some(0)),
        Box::new(|c| c.total = Some(u64::MAX)),
        Box::new(|c| c.total = Some(4096 * 4)),
        Box::new(|c| c.segments.push(SegmentRecord::Missing)),
        Box::new(|c| c.segments.truncate(4)),
        Box::new(|c| c.prefixes[0].len_bytes = 4097),
        Box::new(|c| c.prefixes[1].len_bytes = 101),
        Box::new(|c| c.prefixes[1].len_bytes = 0),
        Box::new(|c| c.prefixes[1].segment = 5),
        Box::new(|c| c.prefixes[1].segment = 1),
        Box::new(|c| c.prefixes[0].segment = 0),
    ];
    for (index, change) in all.into_iter().enumerate() {
        let error = damaged(change);
        assert!(matches!(error, CheckpointError::Damaged(_)), "change {index}: {error:?}");
    }
    let too_many = damaged(|c| {
        c.segment_size_bytes = 1024;
        c.total = Some(1024 * (MAX_SEGMENTS + 1));
        c.segments = vec![SegmentRecord::Missing; 16_385];
        c.prefixes.clear();
    });
    assert!(matches!(too_many, CheckpointError::Damaged(_)));
    let swapped = damaged(|c| c.prefixes.swap(0, 1));
    assert!(matches!(swapped, CheckpointError::Damaged(_)));
}

#[test]
fn the_most_segments_fit() {
    let mut checkpoint = real();
    checkpoint.segment_size_bytes = 1024;
    checkpoint.total = Some(1024 * MAX_SEGMENTS);
    checkpoint.segments = vec![SegmentRecord::Durable(Some([9; 32])); 16_384];
    checkpoint.prefixes.clear();
    assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
}

#[test]
fn text_that_is_too_long_is_left_out() {
    let mut checkpoint = real();
    checkpoint.validator.etag = Some(EntityTag { weak: false, opaque: "x".repeat(65_536).into() });
    checkpoint.content_type = Some("y".repeat(65_535));
    let read = Checkpoint::decode(&checkpoint.encode()).unwrap();
    assert_eq!(read.validator.etag, None);
    assert_eq!(read.content_type, checkpoint.content_type);
}

#[test]
fn the_identity_is_of_both_urls_whole() {
    let asked = "https://example.com/a/b.iso?v=1";
    let answered = "https://cdn.example.net/b.iso?sig=abc";
    let matches = |asked, answered| identity().matches(&url(asked), &url(answered));
    assert!(matches(asked, answered));
    assert!(matches(
        "HTTPS://me@Example.com:443/a/b.iso?v=1#x",
        "https://cdn.example.net/b.iso?sig=abc#y"
    ));
    for other in [
        "http://example.com:443/a/b.iso?v=1",
        "https://example.org/a/b.iso?v=1",
        "https://example.com:444/a/b.iso?v=1",
        "https://example.com/A/b.iso?v=1",
        "https://example.com/a/b.iso?v=2",
        "https://example.com/a/b.iso",
    ] {
        assert!(!matches(other, answered), "{other}");
        assert!(!identity().is_of(&url(other)), "{other}");
    }
    for other in ["https://cdn.example.net/b.iso", "https://cdn2.example.net/b.iso?sig=abc"] {
        assert!(!matches(asked, other), "{other}");
    }
    assert!(identity().is_of(&url(asked)));
    let other_salt = UrlIdentity::new([8; 16], &url(asked), &url(answered));
    assert!(other_salt.asked != identity().asked && other_salt.answered != identity().answered);
    let bytes = real().encode();
    for secret in [b"b.iso".as_slice(), b"v=1", b"secret", b"sig", b"cdn"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{secret:?}");
    }
}

#[test]
fn an_identity_of_the_formats_before_is_never_enough() {
    let of_old = url("https://example.com/a/b.iso?v=2");
    assert!(old_identity().is_of(&of_old), "whatever the query");
    assert!(!old_identity().is_of(&url("https://example.com/a/c.iso")));
    assert!(!old_identity().matches(&of_old, &of_old));
    // What the program before wrote for this URL and salt.
    let as_then = "461dfae1";
    let hash: String = old_identity().asked.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(hash.starts_with(as_then), "{hash}");
}

#[test]
fn matching() {
    const SAME: &str = "same";
    const PROVE: &str = "prove";
    const OTHER: &str = "different";
    let ours = |etag: Option<EntityTag>, last_modified| Validator { etag, last_modified };
    let strong = ours(tag("\"a\""), None);
    let weak = ours(tag("W/\"a\""), None);
    let weak_dated = ours(tag("W/\"a\""), date(5, true));
    let weak_fresh = ours(tag("W/\"a\""), date(5, false));
    let dated = ours(None, date(5, true));
    let fresh = ours(None, date(5, false));
    let bare = |text| ours(EntityTag::from_field(text), None);
    let none = Validator::default();
    // What each kind of claim gives: the same URL, another URL, a digest, `always`.
    let cases = [
        (&strong, strong.clone(), [SAME, PROVE, SAME, SAME]),
        (&strong, ours(tag("\"b\""), date(5, true)), [OTHER; 4]),
        (&strong, none.clone(), [OTHER, OTHER, SAME, SAME]),
        (&strong, dated.clone(), [OTHER, OTHER, SAME, SAME]),
        (&dated, dated.clone(), [SAME, PROVE, SAME, SAME]),
        (&dated, ours(None, date(6, true)), [OTHER; 4]),
        (&dated, ours(None, date(6, false)), [OTHER, OTHER, SAME, SAME]),
        (&fresh, dated.clone(), [OTHER, OTHER, SAME, SAME]),
        (&weak, weak.clone(), [OTHER, OTHER, SAME, SAME]),
        (&weak, ours(tag("W/\"b\""), None), [OTHER, OTHER, SAME, SAME]),
        (&weak_dated, weak_dated.clone(), [SAME, PROVE, SAME, SAME]),
        (&weak_fresh, weak_fresh.clone(), [OTHER, OTHER, SAME, SAME]),
        (&weak_fresh, weak_dated.clone(), [OTHER, OTHER, SAME, SAME]),
        (&weak_dated, ours(tag("\"a\""), date(5, true)), [OTHER, OTHER, SAME, SAME]),
        (&weak_dated, weak.clone(), [OTHER, OTHER, SAME, SAME]),
        (&weak_dated, ours(tag("W/\"a\""), date(6, true)), [OTHER, OTHER, SAME, SAME]),
        (&bare("a"), bare("a"), [PROVE, PROVE, SAME, SAME]),
        (&bare("a"), bare("b"), [OTHER, OTHER, SAME, SAME]),
        (&bare("a"), strong.clone(), [OTHER, OTHER, SAME, SAME]),
        (&strong, bare("a"), [OTHER, OTHER, SAME, SAME]),
        (&none, none.clone(), [OTHER, OTHER, SAME, SAME]),
        (&none, strong.clone(), [OTHER, OTHER, SAME, SAME]),
    ];
    let claims =
        [(true, false, false), (false, false, false), (false, true, false), (true, false, true)]
            .map(|(same_url, digest, always)| Claim { same_url, digest, told: false, always });
    for (ours, theirs, expected) in cases {
        let checkpoint = Checkpoint { validator: ours.clone(), mixed: false, ..real() };
        let seen = Resource {
            total: checkpoint.total,
            validator: theirs.clone(),
            ranges: true,
            encoding: None,
            content_type: None,
            content_disposition: None,
        };
        for (claim, expected) in claims.into_iter().zip(expected) {
            let result = match checkpoint.matches(&seen, claim) {
                Match::Same => SAME,
                Match::Prove => PROVE,
                Match::Different(why) => {
                    assert!(!why.is_empty());
                    OTHER
                }
            };
            assert_eq!(result, expected, "{ours:?} {theirs:?} {claim:?}");
            let mixed = Checkpoint { mixed: true, ..checkpoint.clone() };
            if !claim.digest && !claim.always {
                assert!(matches!(mixed.matches(&seen, claim), Match::Different(_)));
                let told = Claim { told: true, ..claim };
                assert_eq!(mixed.matches(&seen, told), checkpoint.matches(&seen, claim));
            }
            // No claim outweighs another size or coding.
            for other in [
                Resource { total: Some(1), ..seen.clone() },
                Resource { total: None, ..seen.clone() },
                Resource { encoding: Some("gzip".into()), ..seen.clone() },
            ] {
                assert!(matches!(checkpoint.matches(&other, claim), Match::Different(_)));
            }
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,20}"
}

prop_compose! {
    fn any_validator()(
        etag in proptest::option::of((any::<bool>(), text())),
        last_modified in proptest::option::of((text(), any::<u64>(), any::<bool>())),
    ) -> Validator {
        Validator {
            etag: etag.map(|(weak, opaque)| EntityTag { weak, opaque: opaque.into() }),
            last_modified: last_modified.map(|(text, unix_seconds, strong)| {
                LastModified { text: text.into(), unix_seconds, strong, age_seconds: None }
            }),
        }
    }
}

prop_compose! {
    fn any_checkpoint()(
        salt: [u8; 16], asked: [u8; 32], answered: Option<[u8; 32]>, host in text(), validator in any_validator(),
        encoding in proptest::option::of(text()), content_type in proptest::option::of(text()),
        power in 10u32..63, count in 0u64..40, shortfall in 0u64..1024, pid: u32, seed: u64,
        known: bool,
    ) -> Checkpoint {
        let size = 1u64 << power;
        let total = (count * u64::from(known))
            .checked_mul(size)
            .map_or(size, |total| total.saturating_sub(shortfall))
            .min(MAX_OBJECT_BYTES);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut prefixes = Vec::new();
        let segments = (0..segment_count(total, size)).map(|number| {
            let hash = [random.u8(..); 32];
            let segment = u32::try_from(number).unwrap();
            match random.u8(0..5) {
                0 => SegmentRecord::Complete(Some(hash)),
                1 => SegmentRecord::Durable(Some(hash)),
                2 => SegmentRecord::Durable(None),
                3 => SegmentRecord::Missing,
                _ => {
                    let len_bytes = random.u64(1..=size.min(total - number * size));
                    prefixes.push(Prefix { segment, len_bytes, hash });
                    SegmentRecord::Missing
                }
            }
        }).collect();
        let data_file = answered.filter(|_| random.bool()).map(|_| DataFile {
            in_place: random.bool(),
            device: random.u64(..),
            inode: random.u64(..),
        });
        let adopted = data_file.filter(|file| !file.in_place && random.bool()).map(|_| Adopted {
            former: match random.u8(0..5) {
                0 => FormerName::Output,
                1 => FormerName::Controlled,
                2 => FormerName::Part,
                3 => FormerName::Chromium,
                _ => FormerName::Salted([random.alphanumeric() as u8; 8]),
            },
            len_bytes: random.u64(..),
            modified: (random.i64(..), random.u32(..)),
            mode: random.u32(..),
        });
        Checkpoint {
            identity: UrlIdentity { salt, asked, answered }, host, total: known.then_some(total), validator,
            encoding, content_type, segment_size_bytes: size,
            segments, prefixes, pid,
            // From the object's middle, as two parts where it can be cut.
            selected: (known && total > 0 && total < MAX_OBJECT_BYTES / 2 && random.bool()).then(|| {
                let cut = random.u64(0..total);
                let parts = [(cut + 7, total + 7), (0, cut)];
                let parts = parts.iter().filter(|(start, end)| start < end);
                Selected {
                    object_bytes: total + 7,
                    parts: parts.map(|&(start, end)| ByteRange::new(start, end)).collect(),
                }
            }),
            data_file,
            mixed: answered.is_some() && random.bool(),
            adopted,
        }
    }
}

proptest! {
    #[test]
    fn any_checkpoint_comes_back(checkpoint in any_checkpoint()) {
        prop_assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        at in any::<proptest::sample::Index>(), change in 1u8..,
    ) {
        prop_assert!(Checkpoint::decode(&bytes).is_err());
        let behind_magic = [b"HAULCKPT\x02\0".as_slice(), &bytes].concat();
        prop_assert!(Checkpoint::decode(&behind_magic).is_err());
        let _ = Checkpoint::decode(&sealed(behind_magic));
        // A wrong byte under a right hash reaches the parser itself.
        let mut body = real().encode();
        body.truncate(body.len() - 32);
        let at = at.index(body.len());
        body[at] ^= change;
        let _ = Checkpoint::decode(&sealed(body));
    }
}
