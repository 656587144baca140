use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::config::{Checksum, StorageKind};
use crate::io::partial::Paths;
use crate::io::{checkpoint_file, storage};
use crate::model::checkpoint::{SegmentRecord, UrlIdentity, segment_count};
use crate::model::validator::Validator;

const SEGMENT: u64 = 64 << 10;
const TOTAL: u64 = 10 * SEGMENT + 777;
const BUDGET: usize = 256 << 10;
const PUBLISH: PublishOptions = PublishOptions { replace: false, sync: true, modified_unix: None };

fn object(len: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..len).map(|_| random.u8(..)).collect()
}

fn fresh(total: Option<u64>) -> Checkpoint {
    let segments = segment_count(total.unwrap_or(0), SEGMENT);
    Checkpoint {
        identity: UrlIdentity { salt: [1; 16], hash: [2; 32] },
        host: "example.org".to_owned(),
        total,
        validator: Validator::default(),
        encoding: None,
        content_type: None,
        segment_size_bytes: SEGMENT,
        segments: vec![SegmentRecord::Missing; segments as usize],
        prefixes: Vec::new(),
        pid: 0,
    }
}

struct Download {
    store: Store,
    events: UnboundedReceiver<StoreEvent>,
}

fn paths(dir: &TempDir) -> Paths {
    Paths::of(&dir.path().join("film"))
}

fn open(dir: &TempDir, checkpoint: Checkpoint) -> Download {
    let partial = Partial::acquire(paths(dir), &|_| None).unwrap();
    open_partial(partial, checkpoint)
}

fn open_partial(partial: Partial, checkpoint: Checkpoint) -> Download {
    let names = partial.paths().clone();
    checkpoint_file::replace(&names.checkpoint, &checkpoint.encode(), false).unwrap();
    let file = Arc::clone(partial.file());
    let opened = storage::open(file, &names.partial, checkpoint.total, StorageKind::Auto).unwrap();
    let (sender, events) = mpsc::unbounded_channel();
    let store = Store::open(StoreOptions {
        partial,
        storage: opened.storage,
        writers: Writers::new(Crew::Threads, 2, BUDGET),
        checkpoint,
        sync: true,
        directories: Arc::default(),
        events: sender,
    });
    Download { store: store.unwrap(), events }
}

/// Sends bytes in pieces of odd sizes that cross the ends of segments.
async fn send(sink: &Sink, object: &[u8], from: u64, to: u64) {
    let mut at = from;
    while at < to {
        let len = (to - at).min(fastrand::u64(1..40_000));
        let permit =
            Arc::clone(sink.budget()).acquire_many_owned(u32::try_from(len).unwrap()).await;
        let cut = at + len / 3;
        let pieces = [(at, cut), (cut, at + len)]
            .map(|(a, b)| Bytes::copy_from_slice(&object[a as usize..b as usize]));
        sink.store(at, pieces.to_vec(), permit.unwrap()).unwrap();
        at += len;
    }
}

fn read_checkpoint(path: &Path) -> Checkpoint {
    Checkpoint::decode(&checkpoint_file::read(path).unwrap().unwrap()).unwrap()
}

fn names(dir: &TempDir) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| name(entry).into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn leases_in_any_order_become_the_object() {
    let (dir, object) = (tempfile::tempdir().unwrap(), object(TOTAL));
    let mut download = open(&dir, fresh(Some(TOTAL)));
    let sink = download.store.sink();
    let (third, two_thirds) = (3 * SEGMENT, 7 * SEGMENT);
    tokio::join!(
        send(&sink, &object, two_thirds, TOTAL),
        send(&sink, &object, third, two_thirds),
        send(&sink, &object, 0, third),
    );
    let mut stored = Vec::new();
    while stored.len() < 11 {
        match download.events.recv().await.unwrap() {
            StoreEvent::Stored { segment } => stored.push(segment),
            other => panic!("{other:?}"),
        }
    }
    stored.sort_unstable();
    assert_eq!(stored, (0..11).collect::<Vec<u32>>());
    let sha256 = "sha256=".to_owned()
        + &crate::config::hex(&<sha2::Sha256 as sha2::Digest>::digest(&object));
    let checksum: Checksum = sha256.parse().unwrap();
    let expected = (DigestAlgorithm::Sha256, checksum.digest().to_vec());
    let finished = download.store.finish(PUBLISH, Expected::given(checksum)).await.unwrap();
    assert_eq!(finished.bytes, TOTAL);
    assert_eq!(finished.blake3, Some(blake3::hash(&object).into()));
    assert_eq!(finished.verified, Some(expected));
    assert_eq!(names(&dir), ["film"]);
    assert_eq!(fs::read(dir.path().join("film")).unwrap(), object);
    assert_eq!(sink.budget().available_permits(), BUDGET, "every permit came back");
}

#[tokio::test]
async fn unknown_and_empty_sizes_finish() {
    for (total, len) in [(None, 0), (None, 200_000), (Some(0), 0), (Some(1), 1)] {
        let (dir, object) = (tempfile::tempdir().unwrap(), object(len));
        let download = open(&dir, fresh(total));
        send(&download.store.sink(), &object, 0, len).await;
        let finished = download.store.finish(PUBLISH, Expected::default()).await.unwrap();
        assert_eq!((finished.bytes, finished.blake3), (len, Some(blake3::hash(&object).into())));
        assert_eq!(fs::read(dir.path().join("film")).unwrap(), object);
    }
}

#[tokio::test]
async fn stopped_download_is_verified_and_continued() {
    let (dir, object) = (tempfile::tempdir().unwrap(), object(TOTAL));
    let download = open(&dir, fresh(Some(TOTAL)));
    let sink = download.store.sink();
    send(&sink, &object, 0, SEGMENT + 1000).await;
    send(&sink, &object, 4 * SEGMENT, 5 * SEGMENT + 50_000).await;
    let path = download.store.stop().await.unwrap();
    let permit = Arc::clone(sink.budget()).acquire_many_owned(1).await.unwrap();
    let late = sink.store(SEGMENT + 1000, vec![Bytes::from_static(b"x")], permit);
    assert_eq!(late, Err(super::super::writer::StoreClosed));

    // The lock is free although a sink is alive.
    let checkpoint = read_checkpoint(&path);
    assert_eq!(checkpoint.pid, std::process::id());
    let complete = |record: &SegmentRecord| matches!(record, SegmentRecord::Complete(_));
    let records: Vec<bool> = checkpoint.segments.iter().map(complete).collect();
    assert_eq!(records.iter().filter(|&&complete| complete).count(), 2);
    assert!(records[0] && records[4]);
    let prefixes: Vec<_> = checkpoint.prefixes.iter().map(|p| (p.segment, p.len_bytes)).collect();
    assert_eq!(prefixes, [(1, 1000), (5, 50_000)]);

    // One byte of a complete segment and one of a prefix go bad on the disk.
    let mut bytes = fs::read(&paths(&dir).partial).unwrap();
    bytes[(4 * SEGMENT) as usize + 9] ^= 1;
    bytes[SEGMENT as usize + 999] ^= 1;
    fs::write(&paths(&dir).partial, bytes).unwrap();

    let mut download = open(&dir, checkpoint);
    let mut verdicts = Vec::new();
    for _ in 0..4 {
        verdicts.push(match download.events.recv().await.unwrap() {
            StoreEvent::Verified { segment, good } => (segment, u64::from(good)),
            StoreEvent::PrefixVerified { segment, len_bytes } => (segment, len_bytes),
            other => panic!("{other:?}"),
        });
    }
    verdicts.sort_unstable();
    assert_eq!(verdicts, [(0, 1), (1, 0), (4, 0), (5, 50_000)]);
    let sink = download.store.sink();
    send(&sink, &object, SEGMENT, 5 * SEGMENT).await;
    send(&sink, &object, 5 * SEGMENT + 50_000, TOTAL).await;
    let finished = download.store.finish(PUBLISH, Expected::default()).await.unwrap();
    assert_eq!(finished.blake3, Some(blake3::hash(&object).into()));
    assert_eq!(fs::read(dir.path().join("film")).unwrap(), object);
}

#[tokio::test]
async fn wrong_digest_discards_and_publishes_nothing() {
    let (dir, object) = (tempfile::tempdir().unwrap(), object(1000));
    for algorithm in ["blake3", "md5", "sha1", "sha512"] {
        let download = open(&dir, fresh(Some(1000)));
        send(&download.store.sink(), &object, 0, 1000).await;
        let digits = match algorithm {
            "md5" => 32,
            "sha1" => 40,
            "sha512" => 128,
            _ => 64,
        };
        let given = format!("{algorithm}={}", "a".repeat(digits));
        let checksum = given.parse().unwrap();
        let (error, kept) =
            download.store.finish(PUBLISH, Expected::given(checksum)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DigestMismatch);
        assert!(error.to_string().contains(&given), "{error}");
        assert_eq!(error.to_string().matches(&format!("{algorithm}=")).count(), 2, "{error}");
        assert_eq!(kept, None);
        assert!(names(&dir).is_empty());
    }
}

#[tokio::test]
async fn missing_segment_or_existing_output_keeps_the_partial() {
    let (dir, object) = (tempfile::tempdir().unwrap(), object(TOTAL));
    let download = open(&dir, fresh(Some(TOTAL)));
    send(&download.store.sink(), &object, 0, TOTAL - 1).await;
    let (error, kept) = download.store.finish(PUBLISH, Expected::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    let checkpoint = read_checkpoint(&kept.unwrap());
    assert_eq!(checkpoint.prefixes[0].len_bytes, 776);

    let mut download = open(&dir, checkpoint);
    while !matches!(download.events.recv().await, Some(StoreEvent::PrefixVerified { .. })) {}
    send(&download.store.sink(), &object, TOTAL - 1, TOTAL).await;
    fs::write(dir.path().join("film"), "older").unwrap();
    let (error, kept) = download.store.finish(PUBLISH, Expected::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutputExists);
    let checkpoint = read_checkpoint(&kept.unwrap());
    let durable = |record: &SegmentRecord| matches!(record, SegmentRecord::Durable(_));
    assert!(checkpoint.segments.iter().all(durable), "the data was synced");
}

#[tokio::test]
async fn bytes_that_do_not_follow_fail_and_are_not_stored() {
    // All for one writer, so that the first bytes are stored before the failure.
    for offset in [0, 50, 101, 2 * SEGMENT + 1, 12 * SEGMENT] {
        let dir = tempfile::tempdir().unwrap();
        let mut download = open(&dir, fresh(Some(TOTAL)));
        let sink = download.store.sink();
        let store = |offset| {
            let permit = Arc::clone(sink.budget()).try_acquire_many_owned(100).unwrap();
            sink.store(offset, vec![Bytes::from_static(&[7; 100])], permit).unwrap();
        };
        store(0);
        store(offset);
        let event = download.events.recv().await.unwrap();
        assert!(matches!(event, StoreEvent::Failed(_)), "{event:?} at {offset}");
        store(100);
        let checkpoint = read_checkpoint(&download.store.stop().await.unwrap());
        let stored = checkpoint.prefixes.iter().map(|prefix| prefix.len_bytes).sum::<u64>();
        assert_eq!((stored, checkpoint.prefixes[0].segment), (100, 0), "at {offset}");
        assert!(download.events.recv().await.is_none(), "the failure is told once");
        assert_eq!(sink.budget().available_permits(), BUDGET);
    }
}

#[tokio::test]
async fn restart_forgets_and_keeps_the_lock() {
    let (dir, object) = (tempfile::tempdir().unwrap(), object(TOTAL));
    let download = open(&dir, fresh(Some(TOTAL)));
    send(&download.store.sink(), &vec![0; TOTAL as usize], 0, 2 * SEGMENT + 100).await;
    let partial = download.store.reset().await.unwrap();
    let error = Partial::acquire(paths(&dir), &|_| None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let download = open_partial(partial, fresh(Some(TOTAL)));
    send(&download.store.sink(), &object, 0, TOTAL).await;
    download.store.finish(PUBLISH, Expected::default()).await.unwrap();
    assert_eq!(fs::read(dir.path().join("film")).unwrap(), object);
}

#[test]
fn dropped_without_a_runtime_leaves_a_checkpoint_and_no_lock() {
    let (dir, object) = (tempfile::tempdir().unwrap(), object(TOTAL));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let download = open(&dir, fresh(Some(TOTAL)));
    runtime.block_on(send(&download.store.sink(), &object, 0, SEGMENT + 5));
    drop(runtime);
    drop(download);
    let deadline = Instant::now() + Duration::from_secs(60);
    while Partial::acquire(paths(&dir), &|_| None).is_err() {
        assert!(Instant::now() < deadline, "the lock was not released");
        std::thread::yield_now();
    }
    let checkpoint = read_checkpoint(&paths(&dir).checkpoint);
    assert!(matches!(checkpoint.segments[0], SegmentRecord::Complete(_)));
    let prefixes: Vec<_> = checkpoint.prefixes.iter().map(|p| (p.segment, p.len_bytes)).collect();
    assert_eq!(prefixes, [(1, 5)]);
}

#[tokio::test]
async fn failed_sync_leaves_nothing_to_believe() {
    #[derive(Debug)]
    struct Failing(Arc<dyn Storage>);
    impl Storage for Failing {
        fn name(&self) -> &'static str {
            "failing"
        }
        fn segment_writer(
            &self,
            segment: crate::model::range::ByteRange,
        ) -> std::io::Result<Box<dyn storage::SegmentWriter>> {
            self.0.segment_writer(segment)
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read_at(offset, buffer)
        }
        fn sync_data(&self) -> std::io::Result<()> {
            Err(rustix::io::Errno::IO.into())
        }
        fn set_len(&self, len_bytes: u64) -> std::io::Result<()> {
            self.0.set_len(len_bytes)
        }
    }
    let (dir, object) = (tempfile::tempdir().unwrap(), object(TOTAL));
    let partial = Partial::acquire(paths(&dir), &|_| None).unwrap();
    let file = Arc::clone(partial.file());
    let opened = storage::open(file, &paths(&dir).partial, Some(TOTAL), StorageKind::Auto).unwrap();
    let (events, _events) = mpsc::unbounded_channel();
    let store = Store::open(StoreOptions {
        partial,
        storage: Arc::new(Failing(opened.storage)),
        writers: Writers::new(Crew::Threads, 1, BUDGET),
        checkpoint: fresh(Some(TOTAL)),
        sync: true,
        directories: Arc::default(),
        events,
    })
    .unwrap();
    send(&store.sink(), &object, 0, TOTAL).await;
    let (error, kept) = store.finish(PUBLISH, Expected::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LocalFile);
    let checkpoint = read_checkpoint(&kept.unwrap());
    assert_eq!(checkpoint.segments, fresh(Some(TOTAL)).segments);
    assert_eq!(names(&dir), ["film.haul", "film.part"]);
}
