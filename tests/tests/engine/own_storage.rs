//! Downloads into a program's own storage that keeps its checkpoint: continued, and
//! begun anew where that cannot be.

use std::sync::Arc;

use haul_engine::storage::{Checkpoints as _, MemoryStorage, Storage};
use haul_engine::{Connections, DownloadBuilder, Engine, EngineConfig, Event, NoticeCode};
use haul_tests::prelude::*;

const SIZE: u64 = 16 * MIB + 4321;

fn into(memory: &MemoryStorage, origin: &Origin, path: &str) -> DownloadBuilder {
    let engine = Engine::new(EngineConfig::default()).expect("defaults are valid");
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let engine = leaks::watched(engine);
    engine.download(&origin.url(path)).connections(Connections::Fixed(4)).store_in(storage)
}

/// What is left of a download that was cancelled midway.
async fn begun(origin: &Origin, throttle: &Throttle) -> (MemoryStorage, u64) {
    let memory = MemoryStorage::new(1 << 30);
    let running = into(&memory, origin, "/film?signature=secret1").start().unwrap();
    until_bytes(&running, 6 * MIB).await;
    let had = running.progress().bytes;
    let mut events = running.events();
    assert_eq!(running.cancel().await.unwrap(), None, "there is no file of it");
    let last = last_event(&mut events).await;
    assert!(matches!(last, Some(Event::Failed { resumable: true, .. })), "{last:?}");
    assert!(memory.load().unwrap().is_some_and(|bytes| !bytes.is_empty()));
    throttle.lift();
    (memory, had)
}

/// Downloads it, and tells why it was begun anew, if it was.
async fn complete(download: DownloadBuilder) -> (haul_engine::Summary, Option<String>) {
    let running = download.start().unwrap();
    let mut events = running.events();
    let summary = running.wait().await.unwrap();
    let mut why = None;
    while let Some(event) = events.next().await {
        if let Event::Notice(notice) = event
            && notice.code == NoticeCode::Restarted
        {
            why = Some(notice.message);
        }
    }
    (summary, why)
}

#[test]
fn a_download_goes_on_with_what_its_storage_has() {
    leaks::checked(async {
        let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let (memory, had) = begun(&origin, &throttle).await;
        let sent = origin.sent_bytes();
        let (summary, why) = complete(into(&memory, &origin, "/film?signature=secret2")).await;
        assert_eq!(why, None);
        assert!(summary.resumed_bytes >= had, "{} of {had} bytes", summary.resumed_bytes);
        assert_eq!(summary.blake3_hex(), Some(object(SIZE).blake3_hex()));
        let proof = summary.fetched_bytes + summary.resumed_bytes - SIZE;
        assert!(proof <= MIB, "what was missing, and two segments: {proof} bytes");
        let again = origin.sent_bytes() - sent;
        // Besides the proof, what a cut response had under way.
        assert!(again < SIZE - had + 3 * MIB, "{again} bytes were sent again");
        assert_eq!(memory.load().unwrap(), None, "it is complete");
        assert!(memory.take() == object(SIZE).bytes(0..SIZE));
    });
}

#[test]
fn a_checkpoint_of_another_url_goes_on_once_a_segment_proves_it() {
    leaks::checked(async {
        let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let (memory, had) = begun(&origin, &throttle).await;
        let (summary, why) = complete(into(&memory, &origin, "/other")).await;
        assert_eq!(why, None);
        assert!(summary.resumed_bytes >= had, "{} of {had} bytes", summary.resumed_bytes);
        let again = summary.fetched_bytes + summary.resumed_bytes - SIZE;
        assert!(again > 0 && again <= MIB, "{again} bytes for the proof");
        assert_eq!(memory.load().unwrap(), None, "it is complete");
        assert!(memory.take() == object(SIZE).bytes(0..SIZE));
    });
}

#[test]
fn a_proof_that_cannot_be_had_leaves_what_the_storage_has() {
    leaks::checked(async {
        let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let (memory, _) = begun(&origin, &throttle).await;
        drop(origin);
        let had = memory.load().unwrap().expect("a checkpoint");
        // The first response is one, the segment that is asked for next is not to be had.
        let asked = std::sync::atomic::AtomicU32::new(0);
        let origin = Origin::start(move |request, _| {
            match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => standard(&object(SIZE), request),
                _ => Response::new(404).header("Content-Length", "0"),
            }
        });
        let running = into(&memory, &origin, "/other").start().unwrap();
        let error = running.wait().await.unwrap_err();
        assert!(error.to_string().contains("another URL"), "{error}");
        assert!(error.is_resumable() && error.checkpoint().is_none(), "{error:?}");
        assert!(memory.load().unwrap() == Some(had), "nothing was changed");
    });
}

#[test]
fn a_dropped_download_goes_on_too() {
    leaks::checked(async {
        let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let memory = MemoryStorage::new(1 << 30);
        let running = into(&memory, &origin, "/film").start().unwrap();
        let mut events = running.events();
        until_bytes(&running, 6 * MIB).await;
        drop(running);
        let last = last_event(&mut events).await;
        assert!(matches!(last, Some(Event::Failed { resumable: true, .. })), "{last:?}");
        throttle.lift();
        let (summary, why) = complete(into(&memory, &origin, "/film")).await;
        assert!(why.is_none() && summary.resumed_bytes >= 6 * MIB, "{summary:?}");
        assert!(memory.take() == object(SIZE).bytes(0..SIZE));
    });
}

#[test]
fn bytes_that_are_not_what_the_checkpoint_says_are_fetched_again() {
    leaks::checked(async {
        let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let (memory, had) = begun(&origin, &throttle).await;
        // As after a crash that kept the checkpoint and not what was not synced.
        let mut writer = memory
            .segment_writer(haul_engine::storage::ByteRange::new(0, SIZE))
            .expect("a writer of the test's own");
        writer.write(0, &vec![0; usize::try_from(SIZE).unwrap()]).unwrap();
        drop(writer);
        let (summary, _) = complete(into(&memory, &origin, "/film")).await;
        assert_eq!(summary.blake3_hex(), Some(object(SIZE).blake3_hex()));
        assert!(summary.fetched_bytes >= had, "{} bytes", summary.fetched_bytes);
        assert!(memory.take() == object(SIZE).bytes(0..SIZE));
    });
}

#[test]
fn a_damaged_or_foreign_checkpoint_begins_from_zero_and_is_told() {
    leaks::checked(async {
        for (case, expected) in [
            ("damaged", "cannot be believed"),
            ("another URL", "another URL that has other bytes"),
            ("another object", "object changed"),
        ] {
            let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
            let origin = Origin::throttled(&object(SIZE), &throttle);
            let (memory, _) = begun(&origin, &throttle).await;
            let new = match case {
                "damaged" => object(SIZE),
                // nginx's tags are alike for files of equal size and time.
                "another URL" => Object::new(2, SIZE).with_etag(object(SIZE).etag()),
                _ => Object::new(2, SIZE),
            };
            if case == "damaged" {
                let mut bytes = memory.load().unwrap().unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                memory.save(&bytes).unwrap();
            }
            drop(origin);
            let origin = {
                let new = new.clone();
                Origin::start(move |request, _| standard(&new, request))
            };
            let path = if case == "another URL" { "/other" } else { "/film" };
            let (summary, why) = complete(into(&memory, &origin, path)).await;
            let why = why.unwrap_or_else(|| panic!("{case}: nothing was told"));
            assert!(why.contains(expected) && why.contains("from zero"), "{case}: {why}");
            assert_eq!(summary.resumed_bytes, 0, "{case}");
            assert!(memory.take() == new.bytes(0..SIZE), "{case}");
        }
    });
}

#[test]
fn what_is_removed_is_not_continued() {
    leaks::checked(async {
        let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let memory = MemoryStorage::new(1 << 30);
        let running = into(&memory, &origin, "/film").start().unwrap();
        until_bytes(&running, 3 * MIB).await;
        running.cancel_and_remove().await.unwrap();
        assert_eq!(memory.load().unwrap(), None);
    });
}
