use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::disk::partial::{Partial, Paths};
use crate::disk::{checkpoint_file, storage};
use crate::model::checkpoint::{SegmentRecord, UrlIdentity};
use crate::model::config::{Allocation, Checksum, Existing, StorageKind};
use crate::model::layout::segment_count;
use crate::model::validator::Validator;

const SEGMENT: u64 = 64 << 10;
const TOTAL: u64 = 10 * SEGMENT + 777;
const BUDGET: usize = 256 << 10;
const PUBLISH: PublishOptions = PublishOptions {
    existing: Existing::Refuse,
    replaces_empty: false,
    sync: true,
    modified_unix: None,
    note: None,
};

fn object(len: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..len).map(|_| random.u8(..)).collect()
}

fn fresh(total: Option<u64>) -> Checkpoint {
    let segments = segment_count(total.unwrap_or(0), SEGMENT);
    Checkpoint {
        identity: UrlIdentity { salt: [1; 16], asked: [2; 32], answered: Some([3; 32]) },
        host: "example.org".to_owned(),
        total,
        validator: Validator::default(),
        encoding: None,
        content_type: None,
        segment_size_bytes: SEGMENT,
        segments: vec![SegmentRecord::Missing; segments as usize],
        prefixes: Vec::new(),
        pid: 0,
        selected: None,
        data_file: None,
        mixed: false,
        adopted: None,
    }
}

struct Download {
    store: KeeperHandle,
    events: UnboundedReceiver<KeeperEvent>,
}

fn paths(dir: &TempDir) -> Paths {
    Paths::of(&dir.path().join("film"))
}

fn open(dir: &TempDir, checkpoint: Checkpoint) -> Download {
    let partial = Partial::acquire_alone(paths(dir)).unwrap();
    open_partial(partial, checkpoint, true, None)
}

fn open_unhashed(dir: &TempDir, checkpoint: Checkpoint) -> Download {
    let partial = Partial::acquire_alone(paths(dir)).unwrap();
    open_partial(partial, checkpoint, false, None)
}

fn open_partial(
    partial: Partial,
    checkpoint: Checkpoint,
    digest: bool,
    expected: Option<DigestAlgorithm>,
) -> Download {
    let names = partial.paths().clone();
    partial.record(&checkpoint.encode(), false).unwrap();
    let file = Arc::clone(partial.file());
    let opened =
        storage::open(file, &names.partial, checkpoint.total, StorageKind::Auto, Allocation::Auto)
            .unwrap();
    let (sender, events) = mpsc::unbounded_channel();
    let store = KeeperHandle::open(KeeperOptions {
        place: Place::Partial(partial),
        storage: opened.storage,
        writers: Writers::new(Crew::Threads, 2, BUDGET),
        window: None,
        readable: Arc::new(Readable::new(checkpoint.layout(), Arc::default())),
        checkpoint,
        sync: true,
        directories: Arc::default(),
        endings: Arc::default(),
        digest,
        expected,
        pieces: None,
        hold: None,
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

fn read_checkpoint(kept: &Kept) -> Checkpoint {
    let Kept::File(path) = kept else { panic!("not in a file") };
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
            KeeperEvent::Stored { segment } => stored.push(segment),
            other => panic!("{other:?}"),
        }
    }
    stored.sort_unstable();
    assert_eq!(stored, (0..11).collect::<Vec<u32>>());
    let sha256 = "sha256=".to_owned()
        + &crate::model::config::hex(&<sha2::Sha256 as sha2::Digest>::digest(&object));
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
    let path = download.store.stop().await.unwrap().unwrap();
    let permit = Arc::clone(sink.budget()).acquire_many_owned(1).await.unwrap();
    let late = sink.store(SEGMENT + 1000, vec![Bytes::from_static(b"x")], permit);
    assert_eq!(late, Err(crate::disk::writer::SinkClosed));

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
            KeeperEvent::Verified { segment, good } => (segment, u64::from(good)),
            KeeperEvent::PrefixVerified { segment, len_bytes } => (segment, len_bytes),
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
async fn without_a_digest_a_stop_leaves_what_was_synced() {
    let (dir, object) = (tempfile::tempdir().unwrap(), object(TOTAL));
    let download = open_unhashed(&dir, fresh(Some(TOTAL)));
    send(&download.store.sink(), &object, 0, SEGMENT + 1000).await;
    send(&download.store.sink(), &object, 4 * SEGMENT, 6 * SEGMENT).await;
    let checkpoint = read_checkpoint(&download.store.stop().await.unwrap().unwrap());
    let durable = |record: &SegmentRecord| *record == SegmentRecord::Durable(None);
    let records: Vec<bool> = checkpoint.segments.iter().map(durable).collect();
    assert_eq!(records.iter().filter(|&&durable| durable).count(), 3);
    assert!(records[0] && records[4] && records[5]);
    assert_eq!(checkpoint.prefixes, []);

    for digest in [false, true] {
        let checkpoint = checkpoint.clone();
        let again = tempfile::tempdir().unwrap();
        fs::copy(&paths(&dir).partial, &paths(&again).partial).unwrap();
        fs::write(&paths(&again).checkpoint, checkpoint.encode()).unwrap();
        let partial = Partial::acquire_alone(paths(&again)).unwrap();
        let download = open_partial(partial, checkpoint, digest, None);
        let sink = download.store.sink();
        send(&sink, &object, SEGMENT, 4 * SEGMENT).await;
        send(&sink, &object, 6 * SEGMENT, TOTAL).await;
        let finished = download.store.finish(PUBLISH, Expected::default()).await.unwrap();
        // What the first run did not hash is read by a later one that hashes.
        let whole = digest.then(|| blake3::hash(&object).into());
        assert_eq!((finished.bytes, finished.blake3), (TOTAL, whole));
        assert_eq!(fs::read(again.path().join("film")).unwrap(), object);
    }
}

#[tokio::test]
async fn without_a_digest_unknown_and_empty_sizes_finish() {
    for (total, len) in [(None, 0), (None, 200_000), (Some(0), 0), (Some(1), 1)] {
        let (dir, object) = (tempfile::tempdir().unwrap(), object(len));
        let download = open_unhashed(&dir, fresh(total));
        send(&download.store.sink(), &object, 0, len).await;
        let finished = download.store.finish(PUBLISH, Expected::default()).await.unwrap();
        assert_eq!((finished.bytes, finished.blake3), (len, None));
        assert_eq!(fs::read(dir.path().join("film")).unwrap(), object);
    }
}

/// Tells how far it was read.
#[derive(Debug)]
struct Watched(Arc<dyn Storage>, std::sync::atomic::AtomicU64);

impl Storage for Watched {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn segment_writer(
        &self,
        segment: crate::model::range::ByteRange,
    ) -> std::io::Result<Box<dyn storage::SegmentWriter>> {
        self.0.segment_writer(segment)
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read_at(offset, buffer)?;
        self.1.fetch_max(offset + read as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(read)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }
    fn set_len(&self, len_bytes: u64) -> std::io::Result<()> {
        self.0.set_len(len_bytes)
    }
}

impl Watched {
    fn wait_until_read(&self, bytes: u64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.1.load(std::sync::atomic::Ordering::Relaxed) < bytes {
            assert!(Instant::now() < deadline, "{bytes} bytes were not read");
            std::thread::yield_now();
        }
    }
}

fn open_watched(
    dir: &TempDir,
    checkpoint: Checkpoint,
    algorithm: DigestAlgorithm,
) -> (Download, Arc<Watched>) {
    let partial = Partial::acquire_alone(paths(dir)).unwrap();
    let file = Arc::clone(partial.file());
    let total = checkpoint.total;
    let opened =
        storage::open(file, &paths(dir).partial, total, StorageKind::Auto, Allocation::Auto)
            .unwrap();
    let watched = Arc::new(Watched(opened.storage, 0.into()));
    let (sender, events) = mpsc::unbounded_channel();
    let store = KeeperHandle::open(KeeperOptions {
        place: Place::Partial(partial),
        storage: Arc::clone(&watched) as Arc<dyn Storage>,
        writers: Writers::new(Crew::Threads, 2, BUDGET),
        window: None,
        readable: Arc::new(Readable::new(checkpoint.layout(), Arc::default())),
        checkpoint,
        sync: true,
        directories: Arc::default(),
        endings: Arc::default(),
        digest: true,
        expected: Some(algorithm),
        pieces: None,
        hold: None,
        events: sender,
    });
    (Download { store: store.unwrap(), events }, watched)
}

fn checksum_of(algorithm: DigestAlgorithm, bytes: &[u8]) -> Checksum {
    let mut hasher = crate::disk::hasher::Hasher::new(algorithm);
    hasher.update(bytes);
    Checksum::new(algorithm, hasher.finish()).unwrap()
}

#[tokio::test]
async fn digest_in_order_is_computed_behind_the_frontier() {
    use DigestAlgorithm::{Md5, Sha1, Sha256, Sha512};
    let object = object(TOTAL);
    for algorithm in [Sha256, Sha512, Sha1, Md5] {
        let dir = tempfile::tempdir().unwrap();
        let (download, watched) = open_watched(&dir, fresh(Some(TOTAL)), algorithm);
        let sink = download.store.sink();
        // Before the download ends, up to the gap and no further.
        send(&sink, &object, 5 * SEGMENT, TOTAL).await;
        send(&sink, &object, 0, 3 * SEGMENT + 100).await;
        watched.wait_until_read(3 * SEGMENT);
        assert_eq!(watched.1.load(std::sync::atomic::Ordering::Relaxed), 3 * SEGMENT);
        send(&sink, &object, 3 * SEGMENT + 100, 5 * SEGMENT).await;
        watched.wait_until_read(TOTAL);
        let checksum = checksum_of(algorithm, &object);
        let verified = Some((algorithm, checksum.digest().to_vec()));
        let finished = download.store.finish(PUBLISH, Expected::given(checksum)).await.unwrap();
        assert_eq!(finished.verified, verified);
    }
}

#[tokio::test]
async fn digest_of_an_unknown_size_is_computed_while_it_comes() {
    let (dir, object) = (tempfile::tempdir().unwrap(), object(200_000));
    let (download, watched) = open_watched(&dir, fresh(None), DigestAlgorithm::Sha256);
    send(&download.store.sink(), &object, 0, 150_000).await;
    watched.wait_until_read(150_000);
    send(&download.store.sink(), &object, 150_000, 200_000).await;
    let checksum = checksum_of(DigestAlgorithm::Sha256, &object);
    let finished = download.store.finish(PUBLISH, Expected::given(checksum)).await.unwrap();
    assert!(finished.verified.is_some());
}

#[tokio::test]
async fn digest_of_a_resumed_download_catches_up_from_the_file() {
    // Also that of BLAKE3 where durable segments were believed: they are read for it.
    for algorithm in [DigestAlgorithm::Sha256, DigestAlgorithm::Blake3] {
        for altered in [false, true] {
            let (dir, object) = (tempfile::tempdir().unwrap(), object(TOTAL));
            let download = open(&dir, fresh(Some(TOTAL)));
            send(&download.store.sink(), &object, 0, 4 * SEGMENT + 1000).await;
            let mut checkpoint = read_checkpoint(&download.store.stop().await.unwrap().unwrap());
            // Verified by hashing again, and believed.
            checkpoint.segments[0].make_durable();
            checkpoint.segments[2].make_durable();
            if altered {
                let mut bytes = fs::read(&paths(&dir).partial).unwrap();
                bytes[9] ^= 1;
                fs::write(&paths(&dir).partial, bytes).unwrap();
            }
            let (mut download, watched) = open_watched(&dir, checkpoint, algorithm);
            let sink = download.store.sink();
            watched.wait_until_read(4 * SEGMENT);
            while !matches!(download.events.recv().await, Some(KeeperEvent::PrefixVerified { .. }))
            {
            }
            send(&sink, &object, 4 * SEGMENT + 1000, TOTAL).await;
            let checksum = checksum_of(algorithm, &object);
            let finished = download.store.finish(PUBLISH, Expected::given(checksum)).await;
            match finished {
                Ok(finished) => assert!(!altered && finished.verified.is_some()),
                Err((error, _)) => {
                    assert!(altered && error.kind() == ErrorKind::DigestMismatch, "{error}");
                }
            }
        }
    }
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
    while !matches!(download.events.recv().await, Some(KeeperEvent::PrefixVerified { .. })) {}
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
        assert!(matches!(event, KeeperEvent::Failed(_)), "{event:?} at {offset}");
        store(100);
        let checkpoint = read_checkpoint(&download.store.stop().await.unwrap().unwrap());
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
    let Place::Partial(partial) = download.store.reset().await.unwrap() else { unreachable!() };
    let error = Partial::acquire_alone(paths(&dir)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let download = open_partial(partial, fresh(Some(TOTAL)), true, None);
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
    while Partial::acquire_alone(paths(&dir)).is_err() {
        assert!(Instant::now() < deadline, "the lock was not released");
        // Where an open file cannot be replaced, asking without a pause would keep the checkpoint
        // open for so long that the last one never takes its place.
        std::thread::sleep(Duration::from_millis(25));
    }
    let checkpoint = read_checkpoint(&Kept::File(paths(&dir).checkpoint));
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
            Err(crate::os::error::named("EIO").unwrap())
        }
        fn set_len(&self, len_bytes: u64) -> std::io::Result<()> {
            self.0.set_len(len_bytes)
        }
    }
    let (dir, object) = (tempfile::tempdir().unwrap(), object(TOTAL));
    let partial = Partial::acquire_alone(paths(&dir)).unwrap();
    let file = Arc::clone(partial.file());
    let opened =
        storage::open(file, &paths(&dir).partial, Some(TOTAL), StorageKind::Auto, Allocation::Auto)
            .unwrap();
    let (events, _events) = mpsc::unbounded_channel();
    let store = KeeperHandle::open(KeeperOptions {
        place: Place::Partial(partial),
        storage: Arc::new(Failing(opened.storage)),
        writers: Writers::new(Crew::Threads, 1, BUDGET),
        window: None,
        readable: Arc::new(Readable::new(fresh(Some(TOTAL)).layout(), Arc::default())),
        checkpoint: fresh(Some(TOTAL)),
        sync: true,
        directories: Arc::default(),
        endings: Arc::default(),
        digest: true,
        expected: None,
        pieces: None,
        hold: None,
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
