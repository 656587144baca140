//! What a run that failed says of the next one: that the same command continues is said where
//! it does, and nowhere else.

use haul_tests::prelude::*;

const SIZE: u64 = 12 * MIB + 4321;
const SAME_COMMAND: &str = "run the same command again to continue";

fn command(sandbox: &Sandbox, origin: &Origin, args: &[&str]) -> Haul {
    let haul = haul!(sandbox, bare).args(["-x", "2", "-o", "file", "--retry", "0"]);
    haul.args(args).arg(origin.url("/file"))
}

/// What the next run, of an honest server, had of this one's.
fn resumed_bytes(sandbox: &Sandbox, origin: &Origin, args: &[&str]) -> u64 {
    let next = command(sandbox, origin, args).json().run();
    next.expect(0);
    next.resumed_bytes()
}

fn without_ranges(object: &Object) -> Response {
    Response::full(object).without("Accept-Ranges")
}

type Answer = fn(&Object, &Request) -> Response;

/// A run that fails after some megabytes.
struct Case {
    name: &'static str,
    object: Object,
    answer: Answer,
    /// What every later request of the failing run is answered with.
    later: fn() -> Response,
    args: Vec<String>,
    exit: i32,
    /// What is said of the next run, if anything is.
    said: Option<&'static str>,
}

#[test]
fn that_the_same_command_continues_is_said_where_it_does() {
    let lost = || Response::hang_up(End::Reset);
    let base = || Case {
        name: "a lost connection",
        object: object(SIZE),
        answer: standard,
        later: lost,
        args: Vec::new(),
        exit: 4,
        said: Some(SAME_COMMAND),
    };
    let untold = || object(SIZE).with_etag(None).with_last_modified(None);
    let words = |args: &[&str]| args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>();
    let digest = format!("blake3={}", object(SIZE).blake3_hex());
    let settled = "once that is settled, the download continues";
    let cases = [
        base(),
        Case {
            name: "no ranges",
            answer: |object, _| without_ranges(object),
            said: None,
            ..base()
        },
        Case { name: "no validator", object: untold(), said: None, ..base() },
        Case {
            name: "no validator, and a digest",
            object: untold(),
            args: words(&["--checksum", &digest]),
            ..base()
        },
        Case {
            name: "no validator, and the user's word",
            object: untold(),
            args: words(&["-c=always"]),
            ..base()
        },
        Case { name: "never", args: words(&["-c=never"]), said: None, ..base() },
        Case {
            name: "an expired link",
            later: || Response::empty(403),
            exit: 6,
            said: Some(settled),
            ..base()
        },
        Case { name: "a server's error", later: || Response::empty(404), exit: 8, ..base() },
    ];
    for case in cases {
        let Case { name, object, answer, later, args, exit, said } = case;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (served, sandbox) = (object.clone(), Sandbox::new());
        let origin = Origin::start(move |request, context| match context.index {
            0 => answer(&served, request).cut(6 * MIB, End::Close),
            _ => later(),
        });
        let failed = command(&sandbox, &origin, &args).run();
        failed.expect(exit);
        let text = failed.text();
        let known = [SAME_COMMAND, settled];
        let found: Vec<&str> = known.into_iter().filter(|hint| text.contains(hint)).collect();
        assert_eq!(found, said.into_iter().collect::<Vec<_>>(), "{name}\n{failed}");
        let port = origin.port();
        drop(origin);
        let origin = Origin::builder().port(port).start(move |request, _| answer(&object, request));
        let resumed = resumed_bytes(&sandbox, &origin, &args);
        assert_eq!(resumed > 0, said.is_some(), "{name}: {resumed} bytes were continued");
    }
}

/// Fails without having stored anything, beside what is there.
#[track_caller]
fn assert_silent(outcome: &Outcome, exit: i32) {
    outcome.expect(exit);
    assert!(!outcome.text().contains(SAME_COMMAND), "{outcome}");
    assert!(!outcome.text().contains("the partial is kept"), "{outcome}");
}

#[test]
fn what_would_end_the_same_way_is_not_to_be_tried_again() {
    let (origin, throttle) = slow(&object(SIZE));
    let sandbox = Sandbox::new();
    // Nothing is here at all.
    let gone = Origin::start(|_, _| Response::empty(404));
    assert_silent(&command(&sandbox, &gone, &[]).run(), 8);

    let mut first = command(&sandbox, &origin, &[]).json().start();
    first.wait_until("something is here", |running| running.bytes() > MIB);
    assert_silent(&command(&sandbox, &origin, &[]).run(), 3);
    // Its output appears before it is complete.
    sandbox.write("file", "somebody else's");
    throttle.lift();
    assert_silent(&first.finish(), 3);
    assert_silent(&command(&sandbox, &origin, &[]).run(), 3);
    std::fs::remove_file(sandbox.path("file")).unwrap();
    // A size that the object has not.
    assert_silent(&command(&sandbox, &origin, &["--expect-size", "5"]).run(), 12);
    std::fs::remove_file(sandbox.checkpoint("file")).unwrap();
    // A partial that nothing tells of.
    assert_silent(&command(&sandbox, &origin, &[]).run(), 3);
}

#[test]
fn a_download_whose_time_is_over_or_that_is_stopped_says_what_the_next_one_has() {
    let no_ranges = |object: &Object, _: &Request| without_ranges(object);
    for (answer, continues) in [(standard as Answer, true), (no_ranges, false)] {
        let throttle = Throttle::new(2 * MIB).crawling_after(5 * MIB);
        let slow = throttle.clone();
        let origin = Origin::start(move |request, _| slow.apply(answer(&object(SIZE), request)));
        let sandbox = Sandbox::new();
        let stopped = interrupt(command(&sandbox, &origin, &[]).json(), 3 * MIB);
        assert_eq!(stopped.text().contains("; continue with"), continues, "{stopped}");
        assert_eq!(stopped.event("error")["resumable"], continues, "{stopped}");
        let late = command(&sandbox, &origin, &["--max-time", "1s"]).run();
        late.expect(12);
        assert_eq!(late.text().contains(SAME_COMMAND), continues, "{late}");
        throttle.lift();
        assert_eq!(resumed_bytes(&sandbox, &origin, &[]) > 0, continues);
    }
}

fn slow(object: &Object) -> (Origin, Throttle) {
    let throttle = Throttle::new(2 * MIB).crawling_after(2 * MIB);
    (Origin::throttled(object, &throttle), throttle)
}
