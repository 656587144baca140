//! Streams in the simulation: whatever happens, the reader gets one version of the
//! object, or the beginning of one and an error.

use std::time::Duration;

use super::faults::{Fault, Position};
use super::tests::{SEEDS_OF_A_ROW, VERSIONS, any_world, for_seeds, seeds, wish};
use super::world::lock;
use super::*;
use crate::api::handle::launch_stream;
use crate::disk::storage::window::Window;

/// How many seeds a thorough run has.
const SEEDS: u64 = 5_000;

/// What a reader got.
struct Got {
    bytes: Vec<u8>,
    /// How the stream ended; `None` when the reader had enough.
    stream: Option<Result<(), ErrorKind>>,
    download: Result<Summary, Error>,
    /// The most bytes that were in memory.
    most_bytes: u64,
}

/// How a reader reads.
#[derive(Debug, Clone, Copy)]
struct Manner {
    window_segments: u64,
    /// The longest pause after a piece.
    pause: Duration,
    /// The reader goes away after this many bytes.
    enough_bytes: u64,
}

fn read(world: &Shared, wish: &Wish, manner: Manner, seed: u64) -> Got {
    let runtime = simulated_runtime();
    let engine = super::engine(world, EngineConfig::default());
    let builder = DownloadBuilder::new(
        engine,
        "http://origin.test/film.mp4?sig=secret",
        DownloadOptions::default(),
    );
    let builder = wished(builder, wish);
    runtime.block_on(async {
        let window = Arc::new(Window::new(manner.window_segments * SEGMENT_BYTES));
        let target = Target::Stream(Arc::clone(&window));
        let (engine, mut options) = builder.resolve(target).expect("a good wish");
        options.segment_size_bytes = Some(SEGMENT_BYTES);
        options.first_range_bytes = 4 * SEGMENT_BYTES;
        options.seed = wish.seed;
        let (download, mut stream) =
            launch_stream(engine, options, Arc::clone(&window)).expect("an engine that runs");
        let reader = async {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = Vec::new();
            let mut most_bytes = 0;
            loop {
                most_bytes = most_bytes.max(window.held_bytes());
                match stream.next().await {
                    Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                    Ok(None) => return (bytes, Some(Ok(())), most_bytes),
                    Err(error) => return (bytes, Some(Err(error.kind())), most_bytes),
                }
                if bytes.len() as u64 >= manner.enough_bytes {
                    drop(stream);
                    return (bytes, None, most_bytes);
                }
                let pause = manner.pause.mul_f64(random.f64());
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        };
        let both = async { tokio::join!(reader, download.wait()) };
        let Ok(((bytes, stream, most_bytes), download)) = tokio::time::timeout(LONGEST, both).await
        else {
            let (given, log) = (window.given(), lock(world).last_requests());
            panic!("no end after {LONGEST:?}, {given} bytes given, {manner:?}\n    {log}");
        };
        Got { bytes, stream, download, most_bytes }
    })
}

fn any_case(seed: u64) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = any_world(&mut random);
    let mut wish = wish(&mut random);
    let whole = world.current().bytes(0, world.current().len);
    match random.u8(0..6) {
        0 => wish.checksum = format!("blake3={}", blake3::hash(&whole).to_hex()).parse().ok(),
        1 => wish.checksum = sha256(&whole).parse().ok(),
        2 => wish.digest = false,
        _ => {}
    }
    let manner = Manner {
        window_segments: random.u64(1..12),
        pause: Duration::from_millis(match random.u8(0..4) {
            0 => random.u64(0..60_000),
            1 => random.u64(0..1000),
            _ => 0,
        }),
        enough_bytes: if random.u8(..) < 30 { random.u64(1..400_000) } else { u64::MAX },
    };
    if random.bool() {
        world.faults.clear();
    }
    let honest = world.faults.is_empty() && world.link.loss == 0;
    let altered = world.faults.iter().any(|injected| injected.fault == Fault::AlteredBody);
    let world = Arc::new(std::sync::Mutex::new(world));
    let got = read(&world, &wish, manner, seed);
    let world = lock(&world);
    let told = format!(
        "{wish:?} {manner:?}: {} bytes, stream {:?}, download {:?}\n    {}",
        got.bytes.len(),
        got.stream,
        got.download,
        world.last_requests()
    );
    let fail = |why: &str| Err(format!("{why}: {told}"));
    let is_beginning = |of: &[u8]| of.starts_with(&got.bytes);
    let one_version =
        world.versions.iter().chain(&world.mirror).any(|v| is_beginning(&v.bytes(0, v.len)))
            || world.pages.iter().any(|page| is_beginning(page));
    if !one_version && !altered {
        return fail("mixed");
    }
    let most = (manner.window_segments + 1) * SEGMENT_BYTES + 10 * (256 << 10);
    if got.most_bytes > most {
        return fail(&format!("{} bytes were in memory", got.most_bytes));
    }
    match (&got.stream, &got.download) {
        (Some(Ok(())), Ok(summary)) => {
            if !world.holds(&got.bytes) {
                return fail("not the whole object");
            }
            let hashed = wish.digest
                || wish.checksum.as_ref().is_some_and(|it| it.algorithm().as_str() == "blake3");
            if summary.blake3 != hashed.then(|| *blake3::hash(&got.bytes).as_bytes()) {
                return fail("another hash was told");
            }
        }
        (Some(Err(kind)), Err(error)) if *kind == error.kind() => {
            if *kind == ErrorKind::Internal || *kind == ErrorKind::Cancelled {
                return fail("an error of our own");
            }
        }
        (None, Err(error)) if error.kind() == ErrorKind::Cancelled => {}
        // The download had the last byte, or it failed by itself.
        (None, Ok(_)) if world.holds(&got.bytes) => {}
        (None, Err(error)) if error.kind() != ErrorKind::Internal && !honest => {}
        _ => return fail("stream and download disagree"),
    }
    if honest && got.stream.is_some_and(|ended| ended.is_err()) {
        return fail("an honest server is not enough");
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    use crate::model::config::{DigestAlgorithm, hex};
    let mut hasher = crate::disk::hasher::Hasher::new(DigestAlgorithm::Sha256);
    hasher.update(bytes);
    format!("sha256={}", hex(&hasher.finish()))
}

#[test]
fn whatever_happens_a_stream_gives_one_version_or_a_beginning_and_an_error() {
    let failures = for_seeds("a_stream_gives", seeds(SEEDS), any_case);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Row 112: what was given out is all that there is of the object.
#[test]
fn fault_112_a_repeat_of_another_length_ends_the_stream() {
    let case = |http2, position, tells_length, seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = any_world(&mut random);
        world.http2 = http2;
        world.one_request_each = false;
        world.link.loss = 0;
        world.versions[0].len = 20 * SEGMENT_BYTES + random.u64(0..SEGMENT_BYTES);
        world.versions[0].etag = Some("\"v1\"".to_owned());
        world.repeats_other_lengths(position, tells_length);
        // Both lengths begin with the same bytes: a longer repeat goes on beyond the end.
        let longest = world.current().bytes(0, world.current().len.max(world.other_len));
        let wish = wish(&mut random);
        let pause = Duration::from_millis(random.u64(0..1000));
        let manner = Manner { window_segments: 8, pause, enough_bytes: u64::MAX };
        let got = read(&Arc::new(Mutex::new(world)), &wish, manner, seed);
        let (stream, given) = (got.stream, got.bytes.len());
        match (&stream, got.download.map_err(|error| error.kind())) {
            (Some(Err(kind)), Err(same))
                if *kind == same
                    && matches!(kind, ErrorKind::Protocol | ErrorKind::ObjectChanged)
                    && longest.starts_with(&got.bytes) =>
            {
                Ok(())
            }
            (_, download) => Err(format!("{given} bytes, stream {stream:?}, {download:?}")),
        }
    };
    let mut failures = Vec::new();
    for http2 in VERSIONS.iter().copied() {
        for position in Position::ALL {
            for tells_length in [false, true] {
                let failed = for_seeds("fault_112", 0..SEEDS_OF_A_ROW, |seed| {
                    case(http2, position, tells_length, seed)
                        .map_err(|why| format!("{http2}, {position:?}, {tells_length}: {why}"))
                });
                failures.extend(failed.into_iter().take(1));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
