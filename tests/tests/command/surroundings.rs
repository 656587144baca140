//! What a process finds around it: a clock that jumps, a stdout that is closed.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use haul_tests::prelude::*;

const SIZE: u64 = 12 * MIB + 4321;

/// The wall clock jumps by years, forth and back, at every look at it.
const JUMPING_CLOCK: &str = r"
#define _GNU_SOURCE
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t jump(time_t now) {
    static atomic_uint looks;
    static const int years[] = {7, -20, 0, 12, -3};
    return now + years[atomic_fetch_add(&looks, 1) % 5] * 31557600L;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec = jump(at->tv_sec);
    return failed;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
";

/// The library that makes the clock jump, below `directory`; `None` without a
/// C compiler.
#[expect(clippy::print_stdout, reason = "the notice of a test that is skipped")]
fn jumping_clock(directory: &Path) -> Option<PathBuf> {
    let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
    fs::write(&source, JUMPING_CLOCK).unwrap();
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output();
    let Ok(compiled) = compiled else {
        println!("skipped: there is no cc to compile the clock with");
        return None;
    };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    // A library that changes nothing would test nothing.
    let year = || {
        let date = Command::new("date").arg("+%Y").env("LD_PRELOAD", &library).output().unwrap();
        String::from_utf8(date.stdout).unwrap().trim().parse::<i64>().unwrap()
    };
    let today = 1970 + i64::try_from(date::now_unix() / 31_557_600).unwrap();
    assert!((year() - today).abs() > 2, "{} is about {today}", year());
    Some(library)
}

#[track_caller]
fn assert_sane_times(outcome: &Outcome) {
    let run_s = outcome.elapsed.as_secs_f64();
    let mut last = 0.0;
    for event in &outcome.events {
        let t = event["t"].as_f64().expect("seconds");
        assert!(t >= last && t <= run_s, "t is {t} after {last} in {run_s} s\n{outcome}");
        last = t;
    }
    for event in outcome.all("progress") {
        let bps = event["bps"].as_f64().expect("bytes a second");
        assert!((0.0..1e11).contains(&bps), "{event}");
        let eta = event["eta_s"].as_f64();
        assert!(eta.is_none_or(|eta| (0.0..100_000.0).contains(&eta)), "{event}");
    }
    for event in outcome.all("retry") {
        let wait = event["wait_s"].as_f64().expect("seconds");
        assert!((0.0..=4.0).contains(&wait), "{event}");
    }
    let elapsed = outcome.event("complete")["elapsed_s"].as_f64().expect("seconds");
    assert!((0.0..=run_s).contains(&elapsed), "{elapsed} s of {run_s} s\n{outcome}");
}

#[test]
fn fault_070_wall_clock_that_jumps_by_years() {
    let directory = tempfile::tempdir().unwrap();
    let Some(library) = jumping_clock(directory.path()) else { return };
    let throttle = Throttle::new(2 * MIB).crawling_after(8 * MIB);
    let limit = throttle.clone();
    // Waits that the server asks for, by its own clock, and a failure.
    let origin = Origin::start(move |request, context| match context.index {
        0 => {
            let now = date::now_unix();
            Response::empty(503)
                .header("Date", &date::format(now))
                .header("Retry-After", &date::format(now + 1))
        }
        3 => standard(&object(SIZE), request).cut(1000, End::Reset),
        _ => limit.apply(standard(&object(SIZE), request)),
    });
    let sandbox = Sandbox::new();
    let jumping = || {
        haul!(sandbox)
            .args(["-x", "2", "-o", "file"])
            .arg(origin.url("/file"))
            .env("LD_PRELOAD", &library)
    };
    // Long enough for checkpoints, stall timers and estimates to rest on time.
    kill(jumping(), 6 * MIB);
    throttle.lift();
    let outcome = jumping().run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() > 0, "the checkpoint was not believed\n{outcome}");
    assert_sane_times(&outcome);
    sandbox.assert_published("file", &object(SIZE));

    let slow = Origin::start(|request, context| match context.index {
        0 => Response::empty(503).header("Retry-After", "1"),
        _ => standard(&object(SIZE), request).rate(4 * MIB),
    });
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox)
        .args(["-x", "2", "-o", "file"])
        .arg(slow.url("/file"))
        .env("LD_PRELOAD", &library)
        .run();
    outcome.expect(0);
    assert_eq!(outcome.all("retry").count(), 1, "{outcome}");
    assert!(outcome.all("progress").count() > 1, "{outcome}");
    assert_sane_times(&outcome);
    sandbox.assert_published("file", &object(SIZE));
}

/// The command behind a shell that closes descriptors by `redirections` first.
fn with_closed(sandbox: &Sandbox, redirections: &str) -> Haul {
    let script = format!("exec \"$0\" \"$@\" {redirections}");
    Haul::new("/bin/sh", sandbox).args(["-c", &script, env!("CARGO_BIN_EXE_haul-under-test")])
}

#[test]
fn fault_074_closed_output_does_not_end_a_download() {
    let origin = Origin::serving(&object(SIZE));
    // The first file that is opened gets the number of a closed descriptor:
    // what is said must not end up in it.
    for redirections in [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"] {
        for args in [&["--json"][..], &["--progress", "plain"], &[]] {
            let sandbox = Sandbox::new();
            let outcome = with_closed(&sandbox, redirections)
                .args(args)
                .args(["-o", "file"])
                .arg(origin.url("/file"))
                .run();
            assert_eq!(outcome.code, 0, "{redirections} {args:?}\n{outcome}");
            sandbox.assert_published("file", &object(SIZE));
            assert!(!outcome.text().contains("panicked"), "{outcome}");
        }
    }
}

#[test]
fn fault_074_reader_that_leaves_does_not_end_a_download() {
    for at_once in [true, false] {
        let throttle = Throttle::new(4 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let (reader, writer) = std::io::pipe().unwrap();
        let mut reader = BufReader::new(reader);
        let running =
            haul!(sandbox).args(["-o", "file"]).arg(origin.url("/file")).stdout(writer).start();
        if !at_once {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert!(line.contains("\"start\""), "{line}");
        }
        drop(reader);
        throttle.lift();
        let outcome = running.finish();
        assert_eq!(outcome.code, 0, "{outcome}");
        assert_eq!(outcome.text(), "", "it should be quiet");
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_074_result_is_told_by_the_exit_code_alone() {
    let origin = Origin::start(|_, _| Response::empty(404));
    let sandbox = Sandbox::new();
    let outcome = with_closed(&sandbox, ">&- 2>&-")
        .args(["--json", "-o", "file"])
        .arg(origin.url("/f"))
        .run();
    assert_eq!(outcome.code, 8, "{outcome}");
    sandbox.assert_nothing_left();
}
