//! Many downloads in one run, and one list over many runs: `--jobs`,
//! `--shard`, `--results`, `--max-failures`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use haul_tests::prelude::*;
use serde_json::Value;

fn object(number: u64) -> Object {
    Object::new(number, 10_000 + number)
}

/// Serves object N under `/fN`; `/missing...` is not there.
fn origin() -> Origin {
    Origin::start(|request, _| match request.path().strip_prefix("/f") {
        Some(number) => standard(&object(number.parse().unwrap()), request),
        None => Response::empty(404),
    })
}

/// A list, outside of the sandbox, with a secret in each URL.
fn list(origin: &Origin, names: impl IntoIterator<Item = String>) -> tempfile::NamedTempFile {
    let lines = names.into_iter().map(|name| format!("{}?s={CANARY}\n", origin.url(&name)));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), lines.collect::<String>()).unwrap();
    file
}

fn names(numbers: std::ops::Range<u64>) -> impl Iterator<Item = String> {
    numbers.map(|number| format!("/f{number}"))
}

fn command(sandbox: &Sandbox, list: &Path) -> Haul {
    haul!(sandbox).arg("-i").arg(list).args(["-d", "out", "--retry", "0"]).json()
}

#[track_caller]
fn run(haul: Haul, code: i32) -> Outcome {
    let outcome = haul.run();
    outcome.expect(code);
    outcome.assert_free_of(CANARY);
    outcome.assert_harmless();
    outcome
}

/// The numbers of the files that are here, each compared with its object.
fn here(sandbox: &Sandbox, directory: &str) -> BTreeSet<u64> {
    let number_of = |file: String| {
        let number = file.strip_prefix(&format!("{directory}/f"))?.parse().ok()?;
        assert_eq!(object(number).compare_file(&sandbox.path(&file)), Ok(()));
        Some(number)
    };
    sandbox.files().into_iter().filter_map(number_of).collect()
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn no_more_run_at_once_than_asked_for() {
    let gate = Gate::new();
    let (held, sandbox) = (gate.clone(), Sandbox::new());
    let origin = Origin::start(move |request, _| {
        let number: u64 = request.path()[2..].parse().unwrap();
        standard(&object(number), request).stall(5_000, &held)
    });
    let list = list(&origin, names(0..12));
    let running = command(&sandbox, list.path()).args(["--jobs", "3", "--stall-timeout", "60"]);
    let running = running.start();
    origin.wait_until("three are asked for", |origin| origin.requests().len() == 3);
    // A fourth would have been asked for by the time that the first has begun.
    let mut running = running;
    running.wait_until("three have begun", |running| {
        running.events().iter().filter(|event| event["event"] == "start").count() == 3
    });
    assert_eq!(origin.requests().len(), 3);
    gate.open();
    let outcome = running.finish();
    outcome.expect(0);
    assert_eq!(here(&sandbox, "out").len(), 12);
    let ids: BTreeSet<u64> =
        outcome.all("complete").map(|event| event["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=12).collect());
    assert_well_asked(&origin);
}

/// Small files are made durable together; what the disk fails is told for each of them.
#[test]
fn of_files_that_end_together_those_that_the_disk_took_are_here() {
    for failure in ["sync-data@11=EIO", "publish@11=EIO"] {
        let (origin, sandbox) = (origin(), Sandbox::new());
        let list = list(&origin, names(0..40));
        let outcome = run(command(&sandbox, list.path()).env("HAUL_FAIL_AT", failure), 3);
        assert_eq!(here(&sandbox, "out").len(), 10, "{failure}");
        assert_eq!(sandbox.files().len(), 10, "{failure}: nothing else is left");
        assert_eq!(outcome.all("complete").count(), 10, "{failure}");
        assert_eq!(outcome.all("error").count(), 30, "{failure}");
    }
    // The names are there and may not outlast a power cut, which is no success.
    let (origin, sandbox) = (origin(), Sandbox::new());
    let list = list(&origin, names(0..40));
    let broken = command(&sandbox, list.path()).env("HAUL_FAIL_AT", "sync-output-directory@1=EIO");
    let outcome = run(broken, 3);
    assert_eq!(here(&sandbox, "out").len(), 40);
    assert_eq!(outcome.all("error").count(), 40);
    outcome.expect_message("may not survive a power cut");
}

/// A small file is mostly read in one go. Whatever comes otherwise costs no request more than
/// alone, begins once and ends once.
#[test]
fn a_small_file_that_does_not_come_in_one_go_comes_all_the_same() {
    let late = Duration::from_millis(400);
    let tries = std::sync::Mutex::new(std::collections::HashMap::new());
    let origin = Origin::start(move |request, _| {
        let path = request.path().to_owned();
        let first = {
            let mut tries = tries.lock().unwrap();
            let count: &mut u32 = tries.entry(path.clone()).or_default();
            *count += 1;
            *count == 1
        };
        let Some(number) = path[2..].split('/').next().and_then(|it| it.parse().ok()) else {
            return Response::empty(404);
        };
        let object = if number == 9 { Object::new(9, 0) } else { object(number) };
        let usual = standard(&object, request);
        match number {
            2 => usual.pause(3_000, late),
            3 => usual.delay(late),
            4 => Response::full(&object).chunked(true),
            5 if !path.ends_with('x') => Response::redirect(302, "/f5/x"),
            6 if first => usual.cut(3_000, End::Reset),
            7 if first => Response::empty(503),
            8 => usual.header("Content-Disposition", "attachment; filename=\"f88\""),
            _ => usual,
        }
    });
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("out")).unwrap();
    fs::write(sandbox.path("out/f10"), "mine").unwrap();
    let list = list(&origin, names(1..12));
    // The first one shows that the directory has files without names.
    let outcome = run(command(&sandbox, list.path()).args(["-j", "1", "--retry", "2"]), 3);
    let expected: Vec<_> = (1..12).filter(|number| *number != 10).collect();
    for number in &expected {
        let object = if *number == 9 { Object::new(9, 0) } else { object(*number) };
        let name = if *number == 8 { "out/f88".to_owned() } else { format!("out/f{number}") };
        assert_eq!(object.compare_file(&sandbox.path(&name)), Ok(()), "{name}");
    }
    assert_eq!(fs::read(sandbox.path("out/f10")).unwrap(), b"mine");
    assert_eq!(sandbox.files().len(), 11, "nothing else is left");
    for event in ["start", "complete"] {
        let mut ids: Vec<_> = outcome.all(event).map(|it| it["id"].as_u64().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, expected, "{event}");
    }
    let asked =
        |path: &str| origin.requests().iter().filter(|it| it.request.path() == path).count();
    for (path, times) in [("/f1", 1), ("/f2", 1), ("/f3", 1), ("/f4", 1), ("/f5", 1), ("/f5/x", 1)]
    {
        assert_eq!(asked(path), times, "{path}");
    }
    for (path, times) in [("/f6", 2), ("/f7", 2), ("/f8", 1), ("/f9", 1), ("/f11", 1)] {
        assert_eq!(asked(path), times, "{path}");
    }
}

#[test]
fn hundreds_of_small_files_need_one_request_each() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let list = list(&origin, names(0..400));
    run(command(&sandbox, list.path()).args(["-j", "16"]), 0);
    assert_eq!(here(&sandbox, "out"), (0..400).collect());
    assert_eq!(sandbox.files().len(), 400, "nothing else is left");
    assert_eq!(origin.requests().len(), 400);
    // If the first answers take long, four are begun beside their connections.
    assert!(origin.connections() <= 21, "{} connections", origin.connections());
}

#[test]
fn shards_share_a_list_without_overlap() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let list = list(&origin, names(0..60));
    let mut all = BTreeSet::new();
    let shards: [(&str, &[(&str, &str)]); 3] = [
        ("0/3", &[]),
        ("/3", &[("JOB_COMPLETION_INDEX", "1")]),
        (
            "auto",
            &[
                ("SLURM_ARRAY_TASK_ID", "3"),
                ("SLURM_ARRAY_TASK_MIN", "1"),
                ("SLURM_ARRAY_TASK_COUNT", "3"),
            ],
        ),
    ];
    for (at, (shard, variables)) in shards.into_iter().enumerate() {
        let directory = format!("part{at}");
        let haul = command(&sandbox, list.path()).args(["--shard", shard, "-d", &directory]);
        run(variables.iter().fold(haul, |haul, (name, value)| haul.env(name, value)), 0);
        let here = here(&sandbox, &directory);
        assert!(here.len() > 8, "{} of 60 in one of three shards", here.len());
        assert!(all.is_disjoint(&here));
        all.extend(here);
    }
    assert_eq!(all, (0..60).collect());
}

/// The documented hash: of `a` SHA-256 begins with ca978112ca1bbdca, of `b` with
/// 3e23e8160039594a, of `film-0001` with b51613870ce3a946.
#[test]
fn the_shard_of_an_id_is_as_documented() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let line = |id: &str| {
        format!("{{\"id\":\"{id}\",\"url\":\"{}\",\"out\":\"{id}\"}}\n", origin.url("/f1"))
    };
    sandbox.write("list", ["a", "b", "film-0001"].map(line).concat());
    for (shard, files) in
        [("0/5", vec!["0/a", "0/film-0001"]), ("1/5", vec!["1/b"]), ("2/5", vec![])]
    {
        let directory = &shard[..1];
        let command = command(&sandbox, &sandbox.path("list"));
        run(command.args(["--shard", shard, "-d", directory]), 0);
        let mut found = sandbox.files();
        found.retain(|file| file.starts_with(directory));
        assert_eq!(found, files);
    }
}

#[test]
fn bad_shards_are_refused_with_the_grammar() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let list = list(&origin, names(0..1));
    for (value, told) in [("3/3", "count from 0"), ("x", "I/N"), ("/2", "JOB_COMPLETION_INDEX")] {
        let outcome = command(&sandbox, list.path()).args(["--shard", value]).run();
        outcome.expect(2).expect_message(told);
    }
    let outcome = command(&sandbox, list.path()).args(["--max-failures", "x%"]).run();
    outcome.expect(2).expect_message("P%");
    sandbox.assert_nothing_left();
}

#[test]
fn results_have_a_record_for_each_item() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let list = list(&origin, ["/f1".to_owned(), "/missing".to_owned()]);
    run(command(&sandbox, list.path()).args(["--results", "results.jsonl"]), 8);
    let found = records(&sandbox.path("results.jsonl"));
    assert_eq!(found.len(), 2);
    let of = |status: &str| found.iter().find(|record| record["status"] == status).unwrap();
    let complete = of("complete");
    assert_eq!(complete["bytes"], object(1).size_bytes());
    assert_eq!(complete["digest"], format!("blake3:{}", object(1).blake3_hex()));
    assert_eq!(complete["output"], sandbox.path("out/f1").to_str().unwrap());
    assert_eq!(complete["exit"], 0);
    assert!(complete["elapsed_s"].is_number() && complete["error"].is_null());
    let failed = of("failed");
    assert_eq!((&failed["error"], &failed["exit"]), (&"http-status".into(), &8.into()));
    assert!(failed["url"].as_str().unwrap().ends_with("/missing?…"));
}

#[test]
fn a_rerun_fetches_what_is_not_complete_and_still_there() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let mut names: Vec<String> = names(0..8).collect();
    names.push("/missing".to_owned());
    let list = list(&origin, names);
    let again = |code| {
        let before = origin.requests().len();
        let outcome = run(command(&sandbox, list.path()).args(["--results", "r"]), code);
        (origin.requests().len() - before, outcome)
    };
    // The missing one is asked for without a range as well.
    assert_eq!(again(8).0, 8 + 2);
    let (asked, outcome) = again(8);
    assert_eq!(asked, 2, "only the missing one");
    assert!(outcome.text().contains("8 items are complete"), "{outcome}");
    // One was removed, one has another size, and a crash cut a line short.
    fs::remove_file(sandbox.path("out/f2")).unwrap();
    let mut results = fs::read(sandbox.path("r")).unwrap();
    results.extend_from_slice(b"{\"v\":1,\"key\":\"00");
    fs::write(sandbox.path("r"), results).unwrap();
    assert_eq!(again(8).0, 1 + 2);
    assert_eq!(here(&sandbox, "out"), (0..8).collect());
    // What was cut short is gone; all others are whole.
    assert_eq!(records(&sandbox.path("r")).len(), 9 + 1 + 2);
    assert_eq!(again(8).0, 2);
}

/// A record speaks of the file as haul left it, and of the object that the list asked for then.
#[test]
fn a_file_that_was_changed_is_in_the_way_and_one_that_haul_wrote_is_not() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let line = |checksum: &str| {
        let url = origin.url("/f1");
        let item = serde_json::json!({"id": "one", "url": url, "out": "f", "digest": checksum});
        format!("{item}\n")
    };
    let again = |checksum: &str, code| {
        sandbox.write("list", line(checksum));
        let before = origin.requests().len();
        run(command(&sandbox, &sandbox.path("list")).args(["--results", "r"]), code);
        (origin.requests().len() - before) as u64
    };
    let right = format!("blake3={}", object(1).blake3_hex());
    // Another file that haul wrote for an earlier version of the list.
    let other = Origin::serving(&Object::new(9, 20_000));
    let earlier = serde_json::json!({"id": "one", "url": other.url("/x"), "out": "f"});
    sandbox.write("list", format!("{earlier}\n"));
    run(command(&sandbox, &sandbox.path("list")).args(["--results", "r"]), 0);
    assert!(again(&right, 0) > 0, "the list asks for another one by now");
    assert_eq!(object(1).compare_file(&sandbox.path("out/f")), Ok(()));
    assert_eq!(again(&right, 0), 0, "it is complete");
    // One of the same size that somebody else wrote.
    let mine = vec![0; object(1).size_bytes() as usize];
    sandbox.write("out/f", &mine);
    again(&right, 3);
    assert_eq!(fs::read(sandbox.path("out/f")).unwrap(), mine);
    let last = records(&sandbox.path("r")).pop().unwrap();
    assert_eq!((&last["status"], &last["error"]), (&"failed".into(), &"output-exists".into()));
    // What is not looked at is told so.
    let skipping = command(&sandbox, &sandbox.path("list")).args(["--results", "r"]);
    run(skipping.arg("--skip-existing"), 0);
    assert_eq!(records(&sandbox.path("r")).pop().unwrap()["status"], "skipped");
}

/// That haul wrote a file says nothing about another one, and that it compared one does not make it
/// haul's own.
#[test]
fn a_file_that_haul_did_not_write_is_in_the_way_whatever_the_results_say() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let again = |id: &str, out: &str, number: u64, code| {
        let digest = format!("blake3={}", object(number).blake3_hex());
        let url = origin.url(&format!("/f{number}"));
        let item = serde_json::json!({"id": id, "url": url, "out": out, "digest": digest});
        sandbox.write("list", format!("{item}\n"));
        run(command(&sandbox, &sandbox.path("list")).args(["--results", "r"]), code);
        records(&sandbox.path("r")).pop().unwrap()
    };
    again("one", "a.mp4", 1, 0);
    let mine = vec![0; object(2).size_bytes() as usize];
    sandbox.write("out/b.mp4", &mine);
    assert_eq!(again("one", "b.mp4", 2, 3)["error"], "output-exists");
    assert_eq!(fs::read(sandbox.path("out/b.mp4")).unwrap(), mine);
    assert_eq!(object(1).compare_file(&sandbox.path("out/a.mp4")), Ok(()));

    sandbox.write("out/c.mp4", object(3).bytes(0..object(3).size_bytes()));
    assert_eq!(again("two", "c.mp4", 3, 0)["unchanged"], true);
    assert_eq!(again("two", "c.mp4", 4, 3)["error"], "output-exists");
    assert_eq!(object(3).compare_file(&sandbox.path("out/c.mp4")), Ok(()));
}

#[test]
fn results_that_cannot_be_kept_start_nothing() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let list = list(&origin, names(0..1));
    let outcome = command(&sandbox, list.path()).args(["--results", "no/where"]).run();
    outcome.expect(3).expect_message("cannot open the results no/where");
    assert!(origin.requests().is_empty());
}

#[test]
fn too_many_failures_end_a_run() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    let missing = (0..20).map(|number| format!("/missing{number}"));
    let list = list(&origin, missing.chain(names(0..20)));
    let haul = command(&sandbox, list.path()).args(["-j", "1", "--max-failures", "2"]);
    let outcome = run(haul, 8);
    assert_eq!(outcome.all("error").count(), 3, "{outcome}");
    assert!(outcome.text().contains("3 of 3 failed, more than --max-failures"), "{outcome}");
    assert!(here(&sandbox, "out").is_empty());
    // Without the flag all are tried.
    run(command(&sandbox, list.path()), 8);
    assert_eq!(here(&sandbox, "out"), (0..20).collect());
}

#[test]
fn an_object_of_another_size_than_the_list_says_is_not_published() {
    let (origin, sandbox) = (origin(), Sandbox::new());
    for chunked in [false, true] {
        let origin = Origin::start(move |request, _| {
            let honest = standard(&object(1), request);
            if chunked { Response::full(&object(1)).chunked(true) } else { honest }
        });
        let line = |size: u64| {
            format!("{{\"url\":\"{}\",\"out\":\"f\",\"size\":{size}}}\n", origin.url("/f1"))
        };
        sandbox.write("list", line(object(1).size_bytes() + 1));
        let outcome = run(command(&sandbox, &sandbox.path("list")), 12);
        assert!(
            outcome.text().contains("(10001 bytes), and 9.77 KiB (10002 bytes) were"),
            "{outcome}"
        );
        assert!(!sandbox.path("out/f").exists());
        sandbox.write("list", line(object(1).size_bytes()));
        run(command(&sandbox, &sandbox.path("list")), 0);
        assert_eq!(object(1).compare_file(&sandbox.path("out/f")), Ok(()));
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
    drop(origin);
}

#[test]
fn an_interrupted_list_goes_on_with_the_same_command() {
    let gate = Gate::new();
    let (held, sandbox) = (gate.clone(), Sandbox::new());
    let origin = Origin::start(move |request, _| {
        let number: u64 = request.path()[2..].parse().unwrap();
        let honest = standard(&object(number), request);
        if number == 5 { honest.stall(5_000, &held) } else { honest }
    });
    let list = list(&origin, names(0..10));
    let command = || {
        let haul = command(&sandbox, list.path()).args(["-j", "1", "--results", "r"]);
        haul.args(["--stall-timeout", "60"])
    };
    let running = command().start();
    origin.wait_until("the sixth is asked for", |origin| origin.requests().len() == 6);
    running.signal(Signal::INT);
    let outcome = running.finish();
    assert_eq!(outcome.code, 130, "{outcome}");
    assert_eq!(here(&sandbox, "out"), (0..5).collect());
    gate.open();
    run(command(), 0);
    assert_eq!(here(&sandbox, "out"), (0..10).collect());
    assert_eq!(sandbox.files().len(), 11, "{:?}", sandbox.files());
}

#[test]
fn a_host_gets_no_more_connections_than_allowed() {
    let sandbox = Sandbox::new();
    let large = |number| Object::new(number, 6 << 20);
    let throttle = haul_tests::origin::Throttle::new(3 << 20);
    let slow = throttle.clone();
    let origin = Origin::start(move |request, _| {
        let number: u64 = request.path()[2..].parse().unwrap();
        slow.apply(standard(&large(number), request))
    });
    let list = list(&origin, names(0..4));
    run(command(&sandbox, list.path()).args(["-x8", "-j4", "--per-host", "3"]), 0);
    assert!(origin.most_open() <= 3, "{} at once", origin.most_open());
    for number in 0..4 {
        assert_eq!(large(number).compare_file(&sandbox.path(&format!("out/f{number}"))), Ok(()));
    }
}
