//! Links that expire: resolved again before they do, and refreshed by a command.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use haul_tests::prelude::*;

use crate::haul;

const SIZE: u64 = 12 * MIB + 4321;

fn honest(request: &Request) -> Response {
    standard(&object(SIZE), request)
}

/// A signed query that is good for so many seconds from now.
fn signed(number: usize, seconds: u64) -> String {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    format!("link={number}&Expires={}&Signature=s3cr3t", unix + seconds)
}

fn link_of(request: &Request) -> Option<usize> {
    let query = request.target.split_once('?')?.1;
    query.split('&').find_map(|pair| pair.strip_prefix("link="))?.parse().ok()
}

/// A command that prints the next link of `origin`, which counts in a file.
fn command(sandbox: &Sandbox, url: &str) -> String {
    let script = format!(
        "test -n \"$HAUL_URL\" || exit 9\n\
         n=$(($(cat count 2>/dev/null || echo 0) + 1))\n\
         echo $n > count\n\
         echo \"{url}?link=$n&Signature=s3\"'cr3t'\n\
         echo not this\n"
    );
    sandbox.write("fresh.sh", script);
    "sh fresh.sh".to_owned()
}

fn refreshed(outcome: &Outcome) -> usize {
    outcome.all("notice").filter(|event| event["code"] == "refreshed").count()
}

#[track_caller]
fn assert_whole(sandbox: &Sandbox, outcome: &Outcome) {
    outcome.expect(0);
    assert_eq!(object(SIZE).compare_file(&sandbox.path("file")), Ok(()));
    assert!(!outcome.has_notice("restarted"), "{outcome}");
    for said in [&outcome.stdout, &outcome.stderr] {
        assert!(!String::from_utf8_lossy(said).contains("s3cr3t"), "{outcome}");
    }
    sandbox.assert_free_of("s3cr3t");
}

#[track_caller]
fn assert_refused(outcome: &Outcome, why: &str) {
    outcome.expect(6);
    let message = outcome.event("error")["message"].as_str().unwrap_or_default();
    assert!(message.contains(why), "{why}: {message}");
}

#[test]
fn fault_034_link_about_to_expire_is_resolved_again_once_for_all() {
    let links = Arc::new(AtomicUsize::new(0));
    let throttle = Throttle::new(300_000);
    let (count, pace) = (Arc::clone(&links), throttle.clone());
    let origin = Origin::start(move |request, _| match request.path() {
        "/start" => {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let location = format!("/signed?{}", signed(number, 4));
            Response::redirect(302, &location)
        }
        _ => {
            // It never refuses: what is shown is that nobody waits for that.
            if link_of(request) != Some(0) {
                pace.lift();
            }
            pace.apply(honest(request))
        }
    });
    let sandbox = Sandbox::new();
    let outcome = haul(&sandbox, &origin.url("/start")).run();
    assert_whole(&sandbox, &outcome);
    let resolved = links.load(Ordering::SeqCst);
    assert!((2..=4).contains(&resolved), "resolved {resolved} times");
}

#[test]
fn fault_034_link_that_expired_is_refreshed_by_the_command() {
    let served = Arc::new(AtomicUsize::new(0));
    let throttle = Throttle::new(300_000);
    // Each link is good for three requests. Those of the first are too slow to bring everything
    // before a fourth one is refused.
    let origin = Origin::start(move |request, _| {
        let number = link_of(request).unwrap_or(0);
        let good = number == served.load(Ordering::SeqCst) / 3;
        if !good || request.is_conditional() {
            return Response::empty(403);
        }
        served.fetch_add(1, Ordering::SeqCst);
        if number > 0 {
            throttle.lift();
        }
        throttle.apply(honest(request))
    });
    let sandbox = Sandbox::new();
    let command = command(&sandbox, &origin.url("/file"));
    let outcome = haul(&sandbox, &origin.url("/file?link=0&Signature=s3cr3t"))
        .args(["--segment-size", "1M", "--refresh-cmd", &command])
        .run();
    outcome.expect(0);
    assert_eq!(object(SIZE).compare_file(&sandbox.path("file")), Ok(()));
    assert!(refreshed(&outcome) >= 1, "{outcome}");
    assert!(!outcome.has_notice("restarted"), "{outcome}");
}

#[test]
fn fault_034_link_that_expired_before_the_start_is_refreshed_too() {
    let origin = Origin::start(|request, _| match link_of(request) {
        Some(1) => honest(request),
        _ => Response::empty(403),
    });
    let sandbox = Sandbox::new();
    let command = command(&sandbox, &origin.url("/file"));
    let outcome = haul(&sandbox, &origin.url("/file?link=0&Signature=s3cr3t"))
        .args(["--refresh-cmd", &command])
        .run();
    assert_whole(&sandbox, &outcome);
    assert_eq!(refreshed(&outcome), 1);
}

#[test]
fn fault_034_own_link_about_to_expire_is_refreshed_before() {
    let throttle = Throttle::new(300_000);
    let pace = throttle.clone();
    let origin = Origin::start(move |request, _| {
        if link_of(request) == Some(1) {
            pace.lift();
        }
        pace.apply(honest(request))
    });
    let sandbox = Sandbox::new();
    let command = command(&sandbox, &origin.url("/file"));
    let outcome = haul(&sandbox, &origin.url(&format!("/file?{}", signed(0, 4))))
        .args(["--refresh-cmd", &command])
        .run();
    assert_whole(&sandbox, &outcome);
    assert_eq!(refreshed(&outcome), 1, "{outcome}");
    assert!(origin.requests().iter().any(|record| link_of(&record.request) == Some(1)));
}

/// Serves the first request, refuses the old link after that.
fn expiring(other: Object) -> Origin {
    Origin::start(move |request, context| match request.path() {
        "/elsewhere" => standard(&other, request),
        _ if context.index == 0 => honest(request).cut(4 * MIB, End::Close),
        _ => Response::empty(403),
    })
}

#[test]
fn fault_035_fresh_link_of_another_path_is_proven_by_a_segment() {
    let origin = expiring(object(SIZE));
    let sandbox = Sandbox::new();
    let command = format!("echo {}", origin.url("/elsewhere?sig=s3cr3t"));
    let url = origin.url("/file?link=0&Signature=s3cr3t");
    let outcome = haul(&sandbox, &url).args(["--refresh-cmd", &command]).run();
    assert_whole(&sandbox, &outcome);
    assert!(outcome.fetched_bytes() < SIZE + 3 * MIB, "{outcome}");
    // The same tag and size, but other bytes.
    let origin = expiring(Object::new(2, SIZE).with_etag(object(SIZE).etag()));
    let sandbox = Sandbox::new();
    let command = format!("echo {}", origin.url("/elsewhere?sig=s3cr3t"));
    let url = origin.url("/file?link=0&Signature=s3cr3t");
    let outcome = haul(&sandbox, &url).args(["--refresh-cmd", &command]).run();
    assert_refused(&outcome, "other bytes");
    sandbox.assert_kept("file");
}

/// The rest is refused before anything is complete.
#[test]
fn fault_035_fresh_link_waits_for_the_first_segment() {
    let origin = Origin::start(|request, context| match request.path() {
        "/elsewhere" => honest(request),
        _ if context.index == 0 => Throttle::new(MIB).apply(honest(request)),
        _ => Response::empty(403),
    });
    let sandbox = Sandbox::new();
    let command = format!("echo {}", origin.url("/elsewhere?sig=s3cr3t"));
    let url = origin.url("/file?link=0&Signature=s3cr3t");
    let outcome = haul(&sandbox, &url).args(["--refresh-cmd", &command]).run();
    assert_whole(&sandbox, &outcome);
}

#[test]
fn what_the_command_does_wrong_is_told_without_secrets_and_the_partial_kept() {
    for (command, why) in [
        ("sh -c 'echo https://u:s3cr3t@h/?s3cr3t denied >&2; exit 3'", "https://h/?… denied"),
        ("true", "printed no URL"),
        ("echo ftp://h/file?s3cr3t", "ftp"),
        ("no-such-command-of-haul", "cannot be run"),
    ] {
        // While the first response goes on, the others are refused over and over, and the command
        // is asked as often as that helps.
        let throttle = Throttle::new(4 * MIB);
        let origin = Origin::start(move |request, context| match context.index {
            0 => throttle.apply(honest(request).cut(4 * MIB, End::Close)),
            _ => Response::empty(403),
        });
        let sandbox = Sandbox::new();
        let url = origin.url("/file?link=0&Signature=s3cr3t");
        let outcome = haul(&sandbox, &url).args(["--refresh-cmd", command]).run();
        assert_refused(&outcome, why);
        assert!(!outcome.event("error").to_string().contains("s3cr3t"), "{outcome}");
        sandbox.assert_kept("file");
    }
}

#[test]
fn without_a_command_it_says_how_to_go_on() {
    let origin = expiring(object(SIZE));
    let sandbox = Sandbox::new();
    let url = origin.url("/file?link=0&Signature=s3cr3t");
    let outcome = haul!(sandbox).args(["-x", "4", "-o", "file"]).arg(&url).run();
    outcome.expect(6);
    let told = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(told.contains("haul -o './file' NEW_URL") && told.contains("--refresh-cmd"), "{told}");
    let outcome = haul(&sandbox, &origin.url("/elsewhere")).run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() >= MIB, "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn a_command_that_cannot_be_split_is_refused() {
    let sandbox = Sandbox::new();
    for command in ["", "sh 'fresh", "a \\"] {
        let outcome = haul!(sandbox).args(["--refresh-cmd", command, "http://127.0.0.1:9/"]).run();
        outcome.expect(2).expect_message("--refresh-cmd");
    }
}
