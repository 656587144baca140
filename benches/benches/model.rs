//! What the pure parts cost as the number of segments grows, and the bound that
//! planning keeps: under 1 % of one core at 10 GB/s.
//!
//! `cargo bench -p haul-benches` measures each part with criterion and prints
//! at the end what a second of a download at that speed costs. The events of
//! that second are counted, not estimated: a simulated download of the whole
//! object is planned through, with the batches, segments and ticks of the real
//! one and time as an argument.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::print_stdout, reason = "the bound is what this program prints")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group};
use haul_engine::model_bench::{
    Action, ByteRange, Checkpoint, EntityTag, FIRST_RANGE_BYTES, LeaseEnd, LeaseId, Planner,
    Resource, Restored, SegmentMap, SegmentRecord, Settings, UrlIdentity, Validator, Verdict, root,
};
use haul_engine::{Connections, RetryPolicy};

/// The last is the most that there are.
const SEGMENTS: [u64; 3] = [1_000, 4_000, 16_384];

/// The smallest segment of a large object: the most segments a second.
const SEGMENT_BYTES: u64 = 2 << 20;

/// What a fetcher reports at once, at most.
const BATCH_BYTES: u64 = 256 << 10;

const SPEED_BYTES: u64 = 10_000_000_000;
const CONNECTIONS: usize = 16;
const TICK: Duration = Duration::from_millis(100);

/// The part of a core that planning may take.
const BOUND: f64 = 0.01;

fn validator() -> Validator {
    let etag = EntityTag { weak: false, opaque: "v1".into() };
    Validator { etag: Some(etag), last_modified: None }
}

fn resource(total: u64) -> Resource {
    Resource {
        total: Some(total),
        validator: validator(),
        ranges: true,
        encoding: None,
        content_type: None,
        content_disposition: None,
    }
}

/// A download at [`SPEED_BYTES`], planned but not made: each connection gets a
/// batch in its turn, a segment is stored when its last batch came.
struct Simulated {
    planner: Planner,
    resource: Resource,
    fetches: BTreeMap<LeaseId, (u64, u64)>,
    now: Duration,
    next_tick: Duration,
    events: u64,
    cells: usize,
}

impl Simulated {
    fn new(segments: u64) -> Self {
        let settings = Settings {
            connections: Connections::Fixed(CONNECTIONS),
            stall_timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            first_byte_timeout: Duration::from_secs(300),
            first_range_bytes: FIRST_RANGE_BYTES,
            min_split_bytes: 0,
            speed_limited: false,
            ranges_only: false,
            refreshes: false,
            seed: 1,
        };
        Self {
            planner: Planner::new(settings),
            resource: resource(segments * SEGMENT_BYTES),
            fetches: BTreeMap::new(),
            now: Duration::ZERO,
            next_tick: TICK,
            events: 0,
            cells: 0,
        }
    }

    /// Plans until everything is stored, or for so many batches.
    fn run(&mut self, batches: u64) -> bool {
        if self.now.is_zero() {
            self.planner.tick(self.now);
        }
        let batch_time = Duration::from_secs_f64(BATCH_BYTES as f64 / SPEED_BYTES as f64);
        let mut done = 0;
        loop {
            if self.carry_out() {
                return true;
            }
            if done >= batches {
                return false;
            }
            let leases: Vec<LeaseId> = self.fetches.keys().copied().collect();
            assert!(!leases.is_empty(), "nothing is fetched and nothing is finished");
            for lease in leases {
                self.now += batch_time;
                done += 1;
                self.batch(lease);
                if self.now >= self.next_tick {
                    self.next_tick += TICK;
                    self.planner.tick(self.now);
                    self.cells += self.planner.map_cells().len();
                    self.events += 1;
                }
            }
        }
    }

    fn batch(&mut self, lease: LeaseId) {
        let Some((at, end)) = self.fetches.get_mut(&lease) else { return };
        let from = *at;
        *at = (from + BATCH_BYTES).min(*end);
        let (to, over) = (*at, *at == *end);
        self.planner.on_received(lease, to - from, self.now);
        self.events += 1;
        if to.is_multiple_of(SEGMENT_BYTES) {
            self.planner.on_stored((to / SEGMENT_BYTES) as usize - 1, self.now);
            self.events += 1;
        }
        if over {
            self.fetches.remove(&lease);
            self.planner.on_ended(lease, LeaseEnd::Complete, self.now);
            self.events += 1;
        }
    }

    /// Whether the download is finished.
    fn carry_out(&mut self) -> bool {
        while let Some(action) = self.planner.poll_action() {
            match action {
                Action::Fetch { lease, range, .. } => {
                    let range = range.expect("the object has ranges");
                    let range = ByteRange::new(
                        range.start(),
                        range.end().min(self.resource.total.unwrap_or(0)),
                    );
                    let verdict = Verdict::Partial { range, resource: self.resource.clone() };
                    self.planner.on_verdict(lease, verdict, self.now);
                    self.events += 1;
                }
                Action::Open { .. } => {
                    self.planner.on_opened(SEGMENT_BYTES, &Restored::default(), self.now);
                }
                Action::Store { lease, range } => {
                    self.fetches.insert(lease, (range.start(), range.end()));
                }
                Action::Shrink { lease, end } => {
                    if let Some((_, old)) = self.fetches.get_mut(&lease) {
                        *old = (*old).min(end);
                    }
                    self.planner.on_shrunk(lease, end, self.now);
                }
                Action::Cancel { lease } | Action::Drop { lease } => {
                    self.fetches.remove(&lease);
                    self.planner.on_ended(lease, LeaseEnd::Dropped, self.now);
                }
                Action::Finish => return true,
                Action::Notice(..) => {}
                other => panic!("a clean download has no {other:?}"),
            }
        }
        false
    }
}

fn checkpoint(segments: u64) -> Checkpoint {
    Checkpoint {
        identity: UrlIdentity { salt: [7; 16], asked: [8; 32], answered: Some([9; 32]) },
        host: "example.org".to_owned(),
        total: Some(segments * SEGMENT_BYTES),
        validator: validator(),
        encoding: None,
        content_type: None,
        segment_size_bytes: SEGMENT_BYTES,
        segments: (0..segments).map(|n| SegmentRecord::Complete(Some([n as u8; 32]))).collect(),
        prefixes: Vec::new(),
        selected: None,
        data_file: None,
        mixed: false,
        adopted: None,
        pid: 1,
    }
}

fn planner(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("planner");
    for segments in SEGMENTS {
        group.bench_function(BenchmarkId::new("whole download", segments), |bencher| {
            bencher.iter_batched(
                || Simulated::new(segments),
                |mut simulated| assert!(simulated.run(u64::MAX)),
                BatchSize::SmallInput,
            );
        });
        // In the middle, where nothing is idle yet.
        let mut middle = Simulated::new(segments);
        middle.run(segments * SEGMENT_BYTES / BATCH_BYTES / 2);
        let now = middle.now;
        group.bench_function(BenchmarkId::new("tick", segments), |bencher| {
            bencher.iter(|| middle.planner.tick(black_box(now)));
        });
        group.bench_function(BenchmarkId::new("map_cells", segments), |bencher| {
            bencher.iter(|| black_box(middle.planner.map_cells()));
        });
    }
    group.finish();
}

fn segment_map(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("segment map");
    for segments in SEGMENTS {
        let total = segments * SEGMENT_BYTES;
        let map = SegmentMap::new(total, SEGMENT_BYTES);
        group.bench_function(BenchmarkId::new("missing_bytes", segments), |bencher| {
            bencher.iter(|| black_box(&map).missing_bytes());
        });
        group.bench_function(
            BenchmarkId::new("lease, receive, complete all", segments),
            |bencher| {
                bencher.iter_batched(
                    || map.clone(),
                    |mut map| {
                        let mut id = 0;
                        while let Some(run) = map.next_run(64 << 20) {
                            id += 1;
                            map.lease(run, id);
                            map.received(id, run.start(), run.end());
                        }
                        (0..map.count()).for_each(|index| map.complete(index));
                        assert!(map.is_complete());
                    },
                    BatchSize::SmallInput,
                );
            },
        );
    }
    group.finish();
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checkpoint");
    for segments in SEGMENTS {
        let checkpoint = checkpoint(segments);
        let bytes = checkpoint.encode();
        group.bench_function(BenchmarkId::new("encode", segments), |bencher| {
            bencher.iter(|| black_box(&checkpoint).encode());
        });
        group.bench_function(BenchmarkId::new("decode", segments), |bencher| {
            bencher.iter(|| Checkpoint::decode(black_box(&bytes)).is_ok());
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("digest tree");
    for segments in SEGMENTS {
        let values: Vec<[u8; 32]> = (0..segments).map(|n| [n as u8; 32]).collect();
        group.bench_function(BenchmarkId::new("root", segments), |bencher| {
            bencher.iter(|| root(segments * SEGMENT_BYTES, SEGMENT_BYTES, black_box(&values)));
        });
    }
    group.finish();
}

/// Plans whole downloads and says what a second of them costs. Returns whether
/// the bound is kept.
fn bound() -> bool {
    println!(
        "\nplanning at {} GB/s with {CONNECTIONS} connections, batches of {} KiB, segments of {} \
         MiB, a tick and the map each {} ms; the bound is {:.1} % of one core",
        SPEED_BYTES / 1_000_000_000,
        BATCH_BYTES >> 10,
        SEGMENT_BYTES >> 20,
        TICK.as_millis(),
        BOUND * 100.0
    );
    println!("segments  events/s  ns/event  planning  checkpoint  root once");
    let mut kept = true;
    for segments in SEGMENTS {
        let (mut best, mut events, mut lasted) = (Duration::MAX, 0, Duration::ZERO);
        // The least is the cost; what is above it is the machine's.
        for _ in 0..20 {
            let mut simulated = Simulated::new(segments);
            let begun = Instant::now();
            assert!(simulated.run(u64::MAX));
            best = best.min(begun.elapsed());
            (events, lasted) = (simulated.events, simulated.now);
        }
        let share = best.as_secs_f64() / lasted.as_secs_f64();
        let record = checkpoint(segments);
        let least = |work: &dyn Fn()| {
            let time = |_| {
                let begun = Instant::now();
                work();
                begun.elapsed()
            };
            (0..20).map(time).min().unwrap_or_default()
        };
        // Once a second, of the keeper's thread.
        let encode = least(&|| drop(black_box(record.encode())));
        let values: Vec<[u8; 32]> = (0..segments).map(|n| [n as u8; 32]).collect();
        let tree = least(&|| {
            black_box(root(segments * SEGMENT_BYTES, SEGMENT_BYTES, &values));
        });
        println!(
            "{segments:>8}  {:>8.0}  {:>8.0}  {:>7.2} %  {:>8.3} %  {:>6.2} ms",
            events as f64 / lasted.as_secs_f64(),
            best.as_nanos() as f64 / events as f64,
            share * 100.0,
            encode.as_secs_f64() * 100.0,
            tree.as_secs_f64() * 1e3
        );
        kept &= share + encode.as_secs_f64() < BOUND;
    }
    println!("the bound is {}", if kept { "kept" } else { "BROKEN" });
    kept
}

criterion_group!(model, planner, segment_map, records);

fn main() -> std::process::ExitCode {
    model();
    Criterion::default().configure_from_args().final_summary();
    // Without `--bench` this is a test run, of a build whose times say nothing.
    let has = |flag: &str| std::env::args().any(|arg| arg == flag);
    if has("--bench") && !has("--test") && !has("--list") && !bound() {
        return std::process::ExitCode::FAILURE;
    }
    std::process::ExitCode::SUCCESS
}
