//! Section C of the faults: refusals, redirects and limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use haul_tests::origin::Gate;
use haul_tests::prelude::*;

const SIZE: u64 = 16 * MIB + 4321;

fn honest(request: &Request) -> Response {
    standard(&object(SIZE), request)
}

fn command(sandbox: &Sandbox, url: &str) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file", "--retry", "2"]).arg(url)
}

fn run(sandbox: &Sandbox, origin: &Origin) -> Outcome {
    let outcome = command(sandbox, &origin.url("/file")).run();
    assert_well_asked(origin);
    outcome
}

#[test]
fn fault_032_head_is_never_needed() {
    let origin = Origin::start(|request, _| match request.method.as_str() {
        "GET" => honest(request),
        _ => Response::empty(403),
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_033_refused_preconditions_are_left_out() {
    let origin = Origin::start(|request, _| {
        if request.is_conditional() { Response::empty(403) } else { honest(request) }
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object(SIZE));
    let refused = origin.requests().iter().filter(|r| r.request.is_conditional()).count();
    assert!(refused <= 8, "{refused} requests were refused before it was understood");
}

#[test]
fn fault_033_without_preconditions_a_change_is_still_seen() {
    let origin = Origin::start(|request, context| {
        if request.is_conditional() {
            return Response::empty(403);
        }
        // Broken off, since one response may bring a whole version.
        let version = Object::new(100 + context.index as u64, SIZE);
        standard(&version, request).cut(2 * MIB, End::Close)
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(10);
    sandbox.assert_unpublished("file");
}

#[test]
fn fault_034_link_that_expires_midway_keeps_the_partial() {
    for status in [401, 403, 410] {
        let origin = Origin::start(move |request, context| match context.index {
            0 => honest(request).cut(4 * MIB, End::Close),
            _ => Response::empty(status),
        });
        let sandbox = Sandbox::new();
        let outcome = run(&sandbox, &origin);
        outcome.expect(6);
        assert_eq!(outcome.event("error")["resumable"], true, "{outcome}");
        sandbox.assert_kept("file");
        assert!(origin.requests().len() <= 20, "{} requests", origin.requests().len());
        let port = origin.port();
        drop(origin);

        let origin = Origin::builder().port(port).start(|request, _| honest(request));
        let outcome = run(&sandbox, &origin);
        outcome.expect(0);
        assert!(outcome.resumed_bytes() >= MIB, "{outcome}");
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_035_fresh_signature_continues() {
    let origin = Origin::start(|request, context| {
        let fresh = request.target.ends_with("?signature=fresh");
        match context.index {
            _ if fresh => honest(request),
            0 => honest(request).cut(4 * MIB, End::Close),
            _ => Response::empty(403),
        }
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin.url("/file?signature=old")).run().expect(6);
    sandbox.assert_kept("file");
    let outcome = command(&sandbox, &origin.url("/file?signature=fresh")).run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() >= MIB, "{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_036_redirect_is_resolved_once_for_all() {
    let throttle = Throttle::new(MIB);
    let origin = Origin::start(move |request, context| match request.path() {
        "/start" => Response::redirect(302, &format!("/edge-{}", context.index)),
        _ => {
            // The first edge response brings not all of it before there is another.
            if context.index > 1 {
                throttle.lift();
            }
            throttle.apply(honest(request))
        }
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin.url("/start")).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
    let requests = origin.requests();
    let paths: Vec<_> = requests.iter().map(|r| r.request.path()).collect();
    assert_eq!(paths[0], "/start");
    assert!(paths.len() > 2 && paths[1..].iter().all(|path| *path == "/edge-0"), "{paths:?}");
}

#[test]
fn fault_037_every_redirect_is_followed() {
    let last = Origin::start(|request, _| honest(request));
    let elsewhere = last.url("/six");
    let origin = Origin::start(move |request, _| match request.target.as_str() {
        "/a/1" => Response::redirect(301, "2"),
        "/a/2" => Response::redirect(302, "../b/3?query"),
        "/b/3?query" => {
            let host = request.header("Host").expect("a host");
            Response::redirect(303, &format!("http://{host}/4"))
        }
        "/4" => Response::redirect(307, "?five"),
        "/4?five" => Response::redirect(308, &elsewhere),
        _ => Response::empty(404),
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin.url("/a/1")).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
    let targets: Vec<_> = origin.requests().iter().map(|r| r.request.target.clone()).collect();
    assert_eq!(targets, ["/a/1", "/a/2", "/b/3?query", "/4", "/4?five"]);
}

#[test]
fn fault_037_loops_and_endless_chains_end() {
    let circle = Origin::start(|request, _| match request.path() {
        "/a" => Response::redirect(302, "/b"),
        _ => Response::redirect(302, "/a"),
    });
    let endless =
        Origin::start(|_, context| Response::redirect(302, &format!("/{}", context.index)));
    for origin in [circle, endless] {
        let sandbox = Sandbox::new();
        command(&sandbox, &origin.url("/a")).run().expect(7);
        sandbox.assert_nothing_left();
        assert!(origin.requests().len() <= 25, "{} requests", origin.requests().len());
    }
}

#[test]
fn fault_038_redirect_from_https_to_http_is_refused() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"], Validity::Current);
    let plain = Origin::start(|request, _| honest(request));
    let target = plain.url("/file");
    let secure =
        Origin::builder().tls(&identity).start(move |_, _| Response::redirect(302, &target));
    let sandbox = Sandbox::new();
    let authority_file = sandbox.root().join("home/ca.pem");
    std::fs::write(&authority_file, authority.pem()).unwrap();

    let cacert = |haul: Haul| haul.arg("--cacert").arg(&authority_file);
    let refused = cacert(command(&sandbox, &secure.url("/file"))).run();
    refused.expect(7);
    assert!(refused.text().contains("hint: --allow-downgrade"), "{refused}");
    assert_eq!(plain.connections(), 0, "not even a connection is made");
    assert_eq!(sandbox.files(), ["../home/ca.pem"]);

    let allowed = cacert(command(&sandbox, &secure.url("/file"))).arg("--allow-downgrade").run();
    allowed.expect(0);
    object(SIZE).compare_file(&sandbox.path("file")).unwrap();
}

#[test]
fn fault_039_retry_after_in_seconds_and_as_a_date() {
    let seconds = Origin::start(|request, context| match context.index {
        0 => Response::empty(429).header("Retry-After", "1"),
        _ => honest(request),
    });
    let dated = Origin::start(|request, context| match context.index {
        0 => {
            let now = date::now_unix();
            Response::empty(503)
                .header("Date", &date::format(now))
                .header("Retry-After", &date::format(now + 1))
        }
        _ => honest(request),
    });
    for origin in [seconds, dated] {
        let sandbox = Sandbox::new();
        let outcome = run(&sandbox, &origin);
        outcome.expect(0);
        sandbox.assert_published("file", &object(SIZE));
        let requests = origin.requests();
        let waited = requests[1].at.saturating_sub(requests[0].at);
        assert!(waited >= Duration::from_millis(950), "asked again after {waited:?}");
        assert!(outcome.all("retry").count() >= 1, "{outcome}");
    }
}

#[test]
fn fault_039_retry_after_is_shared_by_all_connections() {
    let (asked, told) = (AtomicUsize::new(0), Gate::new());
    let waits = told.clone();
    let origin = Origin::start(move |request, context| {
        asked.fetch_add(1, Ordering::AcqRel);
        match context.index {
            2 => {
                // No other request is on its way any more when this one is refused.
                while asked.load(Ordering::Acquire) < 4 {
                    thread::sleep(Duration::from_millis(2));
                }
                Response::empty(503).header("Retry-After", "1")
            }
            // What is under way goes on, and ends within the time.
            0 | 1 | 3 => honest(request).stall(MIB, &waits),
            _ => honest(request),
        }
    });
    let sandbox = Sandbox::new();
    let mut running = command(&sandbox, &origin.url("/file")).start();
    running.wait_until("it has heard so", |running| {
        running.events().iter().any(|event| event["code"] == "connection-limit")
    });
    told.open();
    running.finish().expect(0);
    assert_well_asked(&origin);
    sandbox.assert_published("file", &object(SIZE));
    let requests = origin.requests();
    // It was refused after this, and had heard so before anything more came.
    let refused = requests[..4].iter().map(|it| it.at).max().expect("four requests");
    let hasty: Vec<&Record> =
        requests[4..].iter().filter(|r| r.at < refused + Duration::from_millis(900)).collect();
    assert!(hasty.is_empty(), "asked within the time to stay away: {hasty:?}");
}

#[test]
fn fault_039_absurd_retry_after_is_capped() {
    for absurd in ["99999999", "999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let origin = Origin::start(move |_, _| {
            Response::empty(429)
                .header("Date", &date::format(date::now_unix()))
                .header("Retry-After", absurd)
        });
        let sandbox = Sandbox::new();
        let mut running = command(&sandbox, &origin.url("/file")).start();
        let retries = |events: &[serde_json::Value]| {
            events.iter().filter(|e| e["event"] == "retry").cloned().collect::<Vec<_>>()
        };
        running.wait_until("it waits", |running| !retries(&running.events()).is_empty());
        let wait = retries(&running.events())[0]["wait_s"].as_f64().expect("seconds");
        assert!((60.0..=300.0).contains(&wait), "it waits {wait} s");
        running.signal(Signal::INT);
        running.finish().expect(130);
        sandbox.assert_unpublished("file");
    }
}

#[test]
fn fault_039_refusals_without_end_are_bounded() {
    for status in [429, 503, 500] {
        let origin = Origin::start(move |_, _| Response::empty(status).header("Retry-After", "0"));
        let sandbox = Sandbox::new();
        let outcome =
            haul!(sandbox).args(["--retry", "1", "-o", "file"]).arg(origin.url("/f")).run();
        outcome.expect(8);
        sandbox.assert_unpublished("file");
        let count = origin.requests().len();
        assert!((2..=20).contains(&count), "{count} requests");
    }
}

#[test]
fn fault_040_connection_limit_is_found() {
    for (limit, refusal) in [
        (2, Refusal::Reset),
        (1, Refusal::Reset),
        (2, Refusal::Status(503)),
        (3, Refusal::Status(429)),
    ] {
        let throttle = Throttle::new(MIB);
        let pace = throttle.clone();
        let origin = Origin::builder()
            .limit(limit, refusal)
            .start(move |request, _| pace.apply(honest(request)));
        let sandbox = Sandbox::new();
        let mut running = command(&sandbox, &origin.url("/file")).args(["-x", "8"]).start();
        let is_limit = |event: &serde_json::Value| event["code"] == "connection-limit";
        running.wait_until("the limit is found", |it| it.events().iter().any(is_limit));
        throttle.lift();
        running.finish().expect(0).expect_notice("connection-limit");
        sandbox.assert_published("file", &object(SIZE));
        assert!(origin.most_open() <= limit);
    }
}

#[test]
fn fault_041_refused_at_once_is_no_loop() {
    for status in [401, 403, 407, 410] {
        let origin = Origin::start(move |_, _| {
            Response::empty(status).header("WWW-Authenticate", "Basic realm=\"x\"")
        });
        let sandbox = Sandbox::new();
        run(&sandbox, &origin).expect(6);
        sandbox.assert_nothing_left();
        // A range, a short one and none: any of them may be what is refused.
        assert!(origin.requests().len() <= 3, "{} requests", origin.requests().len());
    }
}

/// The page of a network that wants a login, whatever was asked for.
fn login_page() -> Response {
    Response::text(200, "text/html; charset=utf-8", &"<p>Please log in</p>".repeat(100))
}

#[test]
fn fault_042_captive_portal_is_never_published() {
    let pages: [fn() -> Response; 4] = [
        login_page,
        || login_page().header("ETag", "\"page\""),
        || login_page().header("Content-Encoding", "gzip"),
        || login_page().without("Content-Length").chunked(true).header("ETag", "\"page\""),
    ];
    // Most of the time is waiting before a retry, so all wait at once.
    thread::scope(|scope| {
        for page in pages {
            scope.spawn(move || assert_never_published(page));
        }
    });
}

fn assert_never_published(page: fn() -> Response) {
    let throttle = Throttle::new(4 * MIB).crawling_after(3 * MIB);
    let (limit, portal) = (throttle.clone(), Arc::new(AtomicBool::new(false)));
    let captive = portal.clone();
    let origin = Origin::start(move |request, _| {
        if captive.load(Ordering::Acquire) {
            return page();
        }
        limit.apply(honest(request).cut(MIB, End::Reset))
    });
    let sandbox = Sandbox::new();
    // More lies than are answered with one plain stream.
    let patient = || command(&sandbox, &origin.url("/file")).args(["--retry", "3"]);
    let mut running = patient().start();
    running.wait_until("some bytes are here", |running| running.bytes() >= 2 * MIB);
    portal.store(true, Ordering::Release);
    throttle.lift();
    running.finish().expect(7);
    sandbox.assert_kept("file");

    patient().run().expect(7);
    sandbox.assert_kept("file");

    portal.store(false, Ordering::Release);
    let outcome = patient().run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() >= MIB, "the partial survived\n{outcome}");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_042_captive_portal_that_goes_away_is_waited_for() {
    let origin = Origin::start(|request, context| match context.index {
        0 => honest(request).cut(MIB, End::Reset),
        1..5 => login_page(),
        _ => honest(request),
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin.url("/file")).args(["--retry", "4"]).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_042_captive_portal_elsewhere_is_not_asked_for_the_object() {
    let portal = Origin::start(|_, _| login_page());
    let login = portal.url("/login?from=haul");
    let origin = Origin::start(move |request, context| match context.index {
        0 => honest(request).cut(MIB, End::Reset),
        1..5 => Response::redirect(302, &login),
        _ => honest(request),
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin.url("/file")).args(["--retry", "4"]).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert!(!portal.requests().is_empty());
}

#[test]
fn fault_018_login_page_in_place_of_the_plain_stream_is_not_published() {
    // Ranges that lie lead to one plain stream, which is of the same object.
    let origin = Origin::start(|request, context| match request.start() {
        _ if request.range().is_none() => login_page(),
        start if context.index > 0 => honest(request).content_range(&(start + 7..SIZE), "*"),
        _ => honest(request).cut(MIB, End::Reset),
    });
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &origin);
    outcome.expect(7).expect_notice("single-stream");
    sandbox.assert_unpublished("file");
}

#[test]
fn missing_object_is_another_status() {
    let origin = Origin::start(|_, _| Response::text(404, "text/html", "<h1>Not here</h1>"));
    let sandbox = Sandbox::new();
    let outcome = run(&sandbox, &origin);
    outcome.expect(8);
    assert!(outcome.text().contains("404"), "{outcome}");
    sandbox.assert_nothing_left();
    assert_eq!(origin.requests().len(), 2, "to a range, and without one");
}

#[test]
fn server_error_that_goes_away_is_retried() {
    let origin = Origin::start(|request, context| match context.index {
        0 | 3 => Response::empty(502),
        _ => honest(request),
    });
    let sandbox = Sandbox::new();
    run(&sandbox, &origin).expect(0);
    sandbox.assert_published("file", &object(SIZE));
}
