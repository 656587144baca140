//! Several hauls with one list in one directory (fault 67 for lists): together they fetch each file
//! once, each of them reports every item as complete, and one that is killed takes nothing along.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use haul_tests::prelude::*;
use serde_json::Value;

const SMALL_BYTES: u64 = 200_000;

/// What is served, and how much of it.
#[derive(Debug, Clone, Copy)]
struct Scale {
    small: u64,
    large: u64,
    large_bytes: u64,
}

impl Scale {
    /// With `HAUL_THOROUGH` as in a job of a real fleet, elsewhere about a tenth of that.
    fn new() -> Self {
        match rounds(10) {
            1 => Self { small: 60, large: 2, large_bytes: 5 * MIB + 7 },
            _ => Self { small: 500, large: 5, large_bytes: 20_000_000 },
        }
    }

    fn count(self) -> u64 {
        self.small + self.large
    }

    fn total_bytes(self) -> u64 {
        self.small * SMALL_BYTES + self.large * self.large_bytes
    }

    /// The first ones are large.
    fn object(self, number: u64, versions: &Versions) -> Object {
        let bytes = if number < self.large { self.large_bytes } else { SMALL_BYTES };
        versions.tell(Object::new(number, bytes))
    }
}

/// What a server tells of the version of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Versions {
    StrongTag,
    WeakTag,
    Date,
    Nothing,
}

const ALL_VERSIONS: [Versions; 4] =
    [Versions::StrongTag, Versions::WeakTag, Versions::Date, Versions::Nothing];

impl Versions {
    fn tell(self, object: Object) -> Object {
        let bare = object.with_etag(None).with_last_modified(None);
        match self {
            Self::StrongTag => bare.with_etag(Some("\"one\"")),
            Self::WeakTag => bare.with_etag(Some("W/\"one\"")),
            Self::Date => bare.with_last_modified(Some(1_600_000_000)),
            Self::Nothing => bare,
        }
    }
}

/// Serves object N under `/fN`, refuses each twentieth request with 503, and is as fast as
/// `throttle` says.
fn origin(scale: Scale, versions: Versions, throttle: Option<Throttle>) -> Origin {
    Origin::start(move |request, context| {
        let number = request.path().strip_prefix("/f").and_then(|it| it.parse().ok());
        let Some(number) = number.filter(|number| *number < scale.count()) else {
            return Response::empty(404);
        };
        if context.index % 20 == 13 {
            return Response::empty(503);
        }
        let response = standard(&scale.object(number, &versions), request);
        match &throttle {
            Some(throttle) => throttle.apply(response),
            None => response,
        }
    })
}

/// A list beside the sandbox's `out`.
fn list(sandbox: &Sandbox, origin: &Origin, scale: Scale) {
    let lines =
        (0..scale.count()).map(|number| format!("{}\n", origin.url(&format!("/f{number}"))));
    sandbox.write("list", lines.collect::<String>());
}

fn command(sandbox: &Sandbox, results: &str) -> Haul {
    let haul = haul!(sandbox, bare).json().args(["-i", "list", "-d", "out", "--results", results]);
    haul.deadline(Duration::from_secs(120))
}

/// The last record of each item, by its URL.
fn records(path: &Path) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(path).unwrap();
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("torn: {line}"));
    let records = text.lines().map(parse);
    records.map(|it: Value| (it["url"].as_str().unwrap().to_owned(), it)).collect()
}

/// Every item is complete in these results, and every file is there, and nothing else.
#[track_caller]
fn assert_all_complete(sandbox: &Sandbox, results: &[&str], scale: Scale, versions: Versions) {
    for name in results {
        let records = records(&sandbox.path(name));
        assert_eq!(records.len() as u64, scale.count(), "{name}");
        for record in records.values() {
            assert_eq!(record["status"], "complete", "{name}: {record}");
        }
    }
    for number in 0..scale.count() {
        let path = sandbox.path(&format!("out/f{number}"));
        assert_eq!(scale.object(number, &versions).compare_file(&path), Ok(()));
    }
    let files = sandbox.files().into_iter().filter(|file| file.starts_with("out/")).count();
    assert_eq!(files as u64, scale.count(), "something else is left");
}

#[test]
fn fault_067_hauls_with_one_list_fetch_each_file_once() {
    let (random, scale) = (Random::new(), Scale::new());
    for round in 0..rounds(20) {
        let mut random = random.part(round);
        let versions = ALL_VERSIONS[random.below(4) as usize];
        let sandbox = Sandbox::new();
        // Half of the time, nobody has made the directory yet.
        if random.below(2) == 0 {
            fs::create_dir(sandbox.path("out")).unwrap();
        }
        let origin = origin(scale, versions, None);
        list(&sandbox, &origin, scale);
        let results = &["a", "b", "c"][..2 + random.below(2) as usize];
        let hauls: Vec<_> = results.iter().map(|name| command(&sandbox, name).start()).collect();
        let mut fetched = 0;
        for haul in hauls {
            let outcome = haul.finish();
            outcome.expect(0);
            let of = |event: &Value| event["fetched_bytes"].as_u64().unwrap();
            fetched += outcome.all("complete").map(of).sum::<u64>();
        }
        assert_all_complete(&sandbox, results, scale, versions);
        let (total, count) = (scale.total_bytes(), results.len());
        assert!(
            fetched <= total * 105 / 100,
            "{count} hauls fetched {fetched} bytes of {total}: {versions:?}"
        );
        // Of large ones the origin also sends what nobody reads, when a response is cut.
        let is_small = |asked: &Record| {
            asked.request.path()[2..].parse().is_ok_and(|it: u64| it >= scale.large)
        };
        let small: u64 =
            origin.requests().iter().filter(|it| is_small(it)).map(Record::sent_bytes).sum();
        assert!(
            small <= scale.small * SMALL_BYTES * 105 / 100,
            "{small} bytes of small files were sent to {count} hauls: {versions:?}"
        );
    }
}

#[test]
fn fault_067_after_a_kill_the_same_command_ends_with_all_complete() {
    const BYTES_PER_SECOND: u64 = 12 * MIB;
    let (random, scale) = (Random::new(), Scale::new());
    for round in 0..rounds(20) {
        let mut random = random.part(round);
        let versions = ALL_VERSIONS[random.below(4) as usize];
        let sandbox = Sandbox::new();
        fs::create_dir(sandbox.path("out")).unwrap();
        let origin = origin(scale, versions, Some(Throttle::new(BYTES_PER_SECOND)));
        list(&sandbox, &origin, scale);
        let rivals = 1 + random.below(2) as usize;
        let results = &["a", "b"][..rivals];
        let mut hauls: Vec<_> =
            results.iter().map(|name| command(&sandbox, name).start()).collect();
        let moment = random.below(scale.total_bytes() * 1000 / BYTES_PER_SECOND);
        thread::sleep(Duration::from_millis(moment));
        let mut killed = hauls.remove(0);
        let had_ended = killed.has_ended();
        if !had_ended {
            killed.signal(Signal::KILL);
        }
        killed.finish();
        // It may come back at once, while others have taken over what it left.
        command(&sandbox, "a").run().expect(0);
        for haul in hauls {
            haul.finish().expect(0);
        }
        assert_all_complete(&sandbox, results, scale, versions);
        // Of large ones the origin also sends what nobody reads, when a response is cut.
        let is_small = |asked: &Record| {
            asked.request.path()[2..].parse().is_ok_and(|it: u64| it >= scale.large)
        };
        let small: u64 =
            origin.requests().iter().filter(|it| is_small(it)).map(Record::sent_bytes).sum();
        // Those that were in flight are lost.
        let most = scale.small * SMALL_BYTES * 105 / 100 + 32 * SMALL_BYTES;
        assert!(
            small <= most,
            "{small} bytes of small files were sent, killed after {moment} ms: {versions:?}"
        );
    }
}

/// The killed one may have published files that it did not get to record.
#[test]
fn files_without_a_record_are_complete_whatever_the_server_tells() {
    let scale = Scale { small: 12, large: 1, large_bytes: 2 * MIB + 7 };
    for versions in ALL_VERSIONS {
        for extra in [&[][..], &["--no-remote-time"]] {
            let sandbox = Sandbox::new();
            let origin = origin(scale, versions, None);
            list(&sandbox, &origin, scale);
            command(&sandbox, "first").args(extra).run().expect(0);
            let sent = origin.sent_bytes();
            command(&sandbox, "second").args(extra).run().expect(0);
            assert_all_complete(&sandbox, &["first", "second"], scale, versions);
            let again = origin.sent_bytes() - sent;
            assert!(again <= scale.count(), "{again} bytes were sent to look: {versions:?}");
            let unchanged = |name: &str| {
                let records = records(&sandbox.path(name));
                records.values().filter(|record| record["unchanged"] == true).count() as u64
            };
            assert_eq!((unchanged("first"), unchanged("second")), (0, scale.count()));
            // Somebody else's file is neither believed nor replaced.
            sandbox.write("out/f3", vec![0; SMALL_BYTES as usize]);
            command(&sandbox, "third").args(extra).run().expect(3);
            let third = records(&sandbox.path("third"));
            let refused: Vec<_> =
                third.values().filter(|record| record["error"] == "output-exists").collect();
            assert_eq!(refused.len(), 1, "{refused:?}");
            assert_eq!(fs::read(sandbox.path("out/f3")).unwrap(), vec![0; SMALL_BYTES as usize]);
        }
    }
}

/// A worker's haul ends with it, as at SIGTERM.
#[test]
fn a_haul_whose_parent_is_killed_ends_and_keeps_what_it_has() {
    let object = Object::new(1, 24 * MIB);
    let throttle = Throttle::new(4 * MIB).crawling_after(4 * MIB);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = Sandbox::new();
    let url = origin.url("/file");
    let haul = |parent: &[&str]| {
        let program = env!("CARGO_BIN_EXE_haul-under-test");
        // A shell that has more to do afterwards does not become haul.
        let script = "\"$@\"; exit $?";
        Haul::new("/bin/sh", &sandbox)
            .args(["-c", script, "sh", program, "--progress=json", "-x4", "-o", "file", &url])
            .args(parent)
    };
    let mut running = haul(&["--die-with-parent"]).start();
    running.wait_until("enough bytes are here", |running| running.bytes() > MIB);
    running.signal(Signal::KILL);
    // This waits until nobody has the pipes open any more.
    let outcome = running.finish();
    assert_eq!(outcome.code, 137, "{outcome}");
    sandbox.assert_kept("file");
    throttle.lift();
    haul(&["--die-with-parent"]).run().expect(0);
    sandbox.assert_published("file", &object);
}
