//! Reading an object while it downloads.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use haul_engine::{Connections, DownloadBuilder, Error, ErrorKind, Reader};
use haul_tests::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

const SIZE: u64 = 16 * MIB + 4321;

fn download(origin: &Origin, sandbox: &Sandbox) -> DownloadBuilder {
    engine()
        .download(&origin.url("/film.mp4"))
        .directory(sandbox.work())
        .output("film.mp4")
        .connections(Connections::Fixed(4))
}

/// The engine's error in what a reader returned.
fn kind(error: &std::io::Error) -> ErrorKind {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    inner.unwrap_or_else(|| panic!("not an error of the engine: {error:?}")).kind()
}

/// Reads some bytes at a random place and compares them.
async fn read_anywhere(reader: &mut Reader, object: &Object, random: &mut Random) {
    let size = object.size_bytes();
    let position = random.below(size);
    let at_most = (size - position).min(300_000);
    let from = match random.below(3) {
        0 => SeekFrom::Start(position),
        1 => SeekFrom::End(-i64::try_from(size - position).unwrap()),
        _ => SeekFrom::Current(position as i64 - reader.position() as i64),
    };
    assert_eq!(reader.seek(from).await.unwrap(), position);
    let mut bytes = vec![0; random.below(at_most) as usize + 1];
    reader.read_exact(&mut bytes).await.unwrap();
    assert!(bytes == object.bytes(position..position + bytes.len() as u64), "at {position}");
    assert_eq!(reader.position(), position + bytes.len() as u64);
}

#[test]
fn readers_that_seek_at_random_get_the_right_bytes() {
    leaks::checked_in_threads(async {
        let random = Random::new();
        let object = object(SIZE);
        let throttle = Throttle::new(MIB).crawling_after(14 * MIB);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox).start().unwrap();
        let seeking = |number: u64| {
            let (mut reader, object, mut random) =
                (running.reader(), object.clone(), random.part(number));
            tokio::spawn(async move {
                for _ in 0..12 {
                    read_anywhere(&mut reader, &object, &mut random).await;
                }
                reader
            })
        };
        let readers: Vec<_> = (0..3).map(seeking).collect();
        let mut blocking = running.reader().into_blocking();
        let in_order = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            blocking.seek(SeekFrom::End(-300_000)).unwrap();
            blocking.read_to_end(&mut bytes).unwrap();
            assert_eq!(blocking.seek(SeekFrom::Start(1)).unwrap(), 1);
            let mut few = [0; 77];
            blocking.read_exact(&mut few).unwrap();
            (bytes, few)
        });
        let mut ended = Vec::new();
        for reader in readers {
            ended.push(reader.await.unwrap());
        }
        assert!(running.progress().bytes < SIZE, "all this while it downloads");
        throttle.lift();
        let summary = running.wait().await.unwrap();
        assert_eq!(summary.blake3_hex(), Some(object.blake3_hex()));
        sandbox.assert_published("film.mp4", &object);
        let (end, few) = in_order.join().unwrap();
        assert!(end == object.bytes(SIZE - 300_000..SIZE) && few[..] == object.bytes(1..78)[..]);

        // The file is published, its name gone, and the download dropped.
        drop(running);
        std::fs::remove_file(sandbox.path("film.mp4")).unwrap();
        let mut reader = ended.swap_remove(0);
        read_anywhere(&mut reader, &object, &mut random.part(9)).await;
        reader.seek(SeekFrom::Start(SIZE + 10)).await.unwrap();
        assert_eq!(reader.read(&mut [0; 10]).await.unwrap(), 0, "beyond the end there is nothing");
    });
}

#[test]
fn what_is_read_is_requested_before_what_lies_before_it() {
    leaks::checked(async {
        let object = Object::new(3, 64 * MIB);
        let throttle = Throttle::new(MIB / 2);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox)
            .connections(Connections::Fixed(2))
            .segment_size_bytes(2 * MIB)
            .start()
            .unwrap();
        until_bytes(&running, 1).await;
        while origin.requests().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let before = origin.requests().len();
        let position = 64 * MIB / 10 * 8;
        let mut reader = running.reader();
        reader.seek(SeekFrom::Start(position)).await.unwrap();
        let mut bytes = vec![0; 3 * MIB as usize];
        reader.read_exact(&mut bytes).await.unwrap();
        assert!(bytes == object.bytes(position..position + 3 * MIB));

        // By the order in which it connected, whichever request was read first.
        let mut requests = origin.requests();
        requests[before..].sort_by_key(|it| (it.connection, it.request_on_connection));
        let starts: Vec<u64> = requests.iter().map(|it| it.request.start()).collect();
        let segment = position / (2 * MIB) * (2 * MIB);
        assert_eq!(
            starts[before], segment,
            "the segment that is read is asked for next: {starts:?}"
        );
        assert!(
            starts[before..].iter().all(|start| *start >= segment),
            "and what follows it before the front goes on: {starts:?}"
        );
        assert!(running.progress().bytes < 32 * MIB, "long before the front came so far");
        drop(reader);
        throttle.lift();
        let running = running;
        running.wait().await.unwrap();
        sandbox.assert_published("film.mp4", &object);
    });
}

#[test]
fn a_seek_elsewhere_is_followed() {
    leaks::checked(async {
        let object = Object::new(3, 64 * MIB);
        let throttle = Throttle::new(MIB / 2);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let running =
            download(&origin, &sandbox).connections(Connections::Fixed(1)).start().unwrap();
        let mut reader = running.reader();
        for position in [50 * MIB, 9 * MIB, 63 * MIB, 20 * MIB] {
            // Given up while it waits: nobody wants those bytes any more.
            reader.seek(SeekFrom::Start(position + 5 * MIB)).await.unwrap();
            let _ = tokio::time::timeout(Duration::from_millis(1), reader.read(&mut [0])).await;
            reader.seek(SeekFrom::Start(position)).await.unwrap();
            assert_eq!(reader.read_u8().await.unwrap(), object.byte_at(position));
        }
        assert!(running.progress().bytes < 16 * MIB);
    });
}

#[test]
fn two_versions_are_never_mixed_in_a_reader() {
    leaks::checked(async {
        let (old, new) = (object(SIZE), Object::new(2, SIZE).with_etag(Some("\"new\"")));
        let changed = Arc::new(AtomicBool::new(false));
        let throttle = Throttle::new(MIB);
        let origin = {
            let (old, new) = (old.clone(), new.clone());
            let (changed, throttle) = (Arc::clone(&changed), throttle.clone());
            Origin::start(move |request, _| {
                if changed.load(Ordering::Acquire) {
                    return standard(&new, request);
                }
                // It breaks off, so that the old version is not to be had whole.
                throttle.apply(standard(&old, request)).cut(3 * MIB, End::Close)
            })
        };
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox).start().unwrap();
        let mut reader = running.reader();
        let mut bytes = vec![0; 100_000];
        reader.read_exact(&mut bytes).await.unwrap();
        assert!(bytes == old.bytes(0..100_000));
        let fresh = running.reader();
        changed.store(true, Ordering::Release);
        throttle.lift();
        running.wait().await.unwrap();
        sandbox.assert_published("film.mp4", &new);

        let mut rest = Vec::new();
        let error = reader.read_to_end(&mut rest).await.unwrap_err();
        assert_eq!(kind(&error), ErrorKind::ObjectChanged);
        assert!(rest == old.bytes(100_000..100_000 + rest.len() as u64), "what it read is of one");
        // One that had read nothing reads the version that is there.
        let mut all = Vec::new();
        fresh.clone().read_to_end(&mut all).await.unwrap();
        assert!(all == new.bytes(0..SIZE));
    });
}

#[test]
fn readers_end_with_the_download() {
    leaks::checked(async {
        let throttle = Throttle::new(MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox).start().unwrap();
        let mut reader = running.reader();
        let waiting = tokio::spawn(async move { reader.read_to_end(&mut Vec::new()).await });
        let mut blocking = running.reader().into_blocking();
        let thread = std::thread::spawn(move || blocking.read_to_end(&mut Vec::new()));
        until_bytes(&running, 1).await;
        let reader = running.reader();
        running.cancel().await.unwrap();
        assert_eq!(kind(&waiting.await.unwrap().unwrap_err()), ErrorKind::Cancelled);
        assert_eq!(kind(&thread.join().unwrap().unwrap_err()), ErrorKind::Cancelled);
        let mut late = reader.clone();
        assert_eq!(kind(&late.read(&mut [0]).await.unwrap_err()), ErrorKind::Cancelled);
    });
}

#[test]
fn readers_end_with_the_runtime() {
    leaks::guarded(|| {
        let origin = Origin::throttled(&object(SIZE), &Throttle::new(MIB));
        let sandbox = Sandbox::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let running = runtime.block_on(async { download(&origin, &sandbox).start().unwrap() });
        let mut reader = running.reader().into_blocking();
        let thread = std::thread::spawn(move || reader.read_to_end(&mut Vec::new()));
        runtime.block_on(until_bytes(&running, 1));
        runtime.shutdown_background();
        assert_eq!(kind(&thread.join().unwrap().unwrap_err()), ErrorKind::Internal);
    });
}

#[test]
fn an_object_without_a_size_is_read_in_order() {
    leaks::checked(async {
        let object = object(SIZE);
        let served = object.clone();
        let origin = Origin::start(move |_, _| {
            haul_tests::origin::Response::full(&served).without("Content-Length").chunked(true)
        });
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox).start().unwrap();
        let mut reader = running.reader();
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        assert!(bytes == object.bytes(0..SIZE));
        running.wait().await.unwrap();
        assert_eq!(reader.seek(SeekFrom::End(0)).await.unwrap(), SIZE);
    });
}

#[test]
fn what_an_earlier_run_stored_is_read_without_a_request() {
    leaks::checked(async {
        let object = object(SIZE);
        let throttle = Throttle::new(4 * MIB).crawling_after(12 * MIB);
        let gate = Gate::new();
        let again = Arc::new(AtomicBool::new(false));
        let origin = {
            let (object, throttle, gate) = (object.clone(), throttle.clone(), gate.clone());
            let again = Arc::clone(&again);
            Origin::start(move |request, _| {
                let response = standard(&object, request);
                if again.load(Ordering::Acquire) {
                    return response.stall(1, &gate);
                }
                throttle.apply(response)
            })
        };
        let sandbox = Sandbox::new();
        let running = download(&origin, &sandbox).start().unwrap();
        until_bytes(&running, 10 * MIB).await;
        running.cancel().await.unwrap().expect("a checkpoint");
        again.store(true, Ordering::Release);
        let before = origin.requests().len();

        let running = download(&origin, &sandbox).start().unwrap();
        let mut reader = running.reader();
        let mut bytes = vec![0; 500_000];
        reader.read_exact(&mut bytes).await.unwrap();
        assert!(bytes == object.bytes(0..500_000));
        assert!(origin.requests()[before..].iter().all(|it| it.request.start() > 500_000));
        gate.open();
        running.wait().await.unwrap();
        sandbox.assert_published("film.mp4", &object);
    });
}
