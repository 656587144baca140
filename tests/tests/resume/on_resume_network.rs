//! Sections C and D of the faults, met by a resume: the first run was killed
//! midway at a good origin, the second one meets the fault.

use std::time::Duration;

use haul_tests::killed::{Killed, SIZE, STORED};
use haul_tests::prelude::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_haul-under-test");

fn killed() -> Killed {
    Killed::new(PROGRAM, &object(SIZE))
}

/// The honest answer to a request for [`object`].
fn honest(request: &Request) -> Response {
    standard(&object(SIZE), request)
}

/// The resume ends well without giving up what was stored.
#[track_caller]
fn continues(
    killed: &Killed,
    script: impl Fn(&Request, &Context) -> Response + Send + Sync + 'static,
) -> (Outcome, Vec<Record>) {
    let (outcome, requests) = killed.meets(script);
    outcome.expect(0);
    killed.sandbox.assert_published("file", &object(SIZE));
    assert!(outcome.resumed_bytes() >= STORED, "{outcome}");
    assert!(outcome.fetched_bytes() <= SIZE - STORED + 4 * MIB, "too much was fetched\n{outcome}");
    assert!(requests.len() < 100, "{} requests", requests.len());
    (outcome, requests)
}

/// The resume is given up with `code`, and what was stored survives it.
#[track_caller]
fn is_given_up(
    killed: &Killed,
    code: i32,
    script: impl Fn(&Request, &Context) -> Response + Send + Sync + 'static,
) -> Outcome {
    let (outcome, requests) = killed.meets(script);
    outcome.expect(code);
    assert_eq!(outcome.event("error")["resumable"], true, "{outcome}");
    assert!(requests.len() < 100, "{} requests", requests.len());
    killed.assert_continues(&object(SIZE));
    outcome
}

#[test]
fn fault_032_head_refused_on_resume() {
    continues(&killed(), |request, _| match request.method.as_str() {
        "GET" => honest(request),
        _ => Response::empty(403),
    });
}

#[test]
fn fault_033_refused_preconditions_on_resume() {
    continues(&killed(), |request, _| {
        if request.is_conditional() { Response::empty(403) } else { honest(request) }
    });
}

#[test]
fn fault_033_changed_without_preconditions_on_resume() {
    let killed = killed();
    let after = Object::new(2, SIZE);
    let served = after.clone();
    let (outcome, _) = killed.meets(move |request, _| {
        if request.is_conditional() { Response::empty(403) } else { standard(&served, request) }
    });
    outcome.expect(0).expect_notice("restarted");
    killed.sandbox.assert_published("file", &after);
}

#[test]
fn fault_034_link_that_expired_on_resume() {
    for status in [401, 403, 410] {
        // Before the first byte, and after some.
        for from in [0, 2] {
            is_given_up(&killed(), 6, move |request, context| match context.index >= from {
                true => Response::empty(status),
                false => honest(request).rate(2 * MIB),
            });
        }
    }
}

#[test]
fn fault_036_redirect_elsewhere_each_time_on_resume() {
    let killed = Killed::from_path(PROGRAM, &object(SIZE), "/start");
    let (_, requests) = continues(&killed, |request, context| match request.path() {
        "/start" => Response::redirect(302, &format!("/edge-{}", context.index)),
        _ => honest(request),
    });
    let paths: Vec<_> = requests.iter().map(|record| record.request.path()).collect();
    assert!(paths[0] == "/start" && paths[1..].iter().all(|path| *path == "/edge-0"), "{paths:?}");
}

#[test]
fn fault_037_redirects_on_resume() {
    continues(&killed(), |request, _| match request.target.as_str() {
        "/file" => Response::redirect(301, "a/1"),
        "/a/1" => Response::redirect(303, "../b"),
        "/b" => Response::redirect(307, "?c"),
        "/b?c" => Response::redirect(308, "/d"),
        _ => honest(request),
    });
    let outcome = is_given_up(&killed(), 7, |request, _| match request.path() {
        "/file" => Response::redirect(302, "/a"),
        _ => Response::redirect(302, "/file"),
    });
    assert!(outcome.text().contains("redirect"), "{outcome}");
}

#[test]
fn fault_038_redirect_from_https_to_http_on_resume() {
    let plain = Origin::serving(&object(SIZE));
    let target = plain.url("/file");
    is_given_up(&Killed::over_tls(PROGRAM, &object(SIZE)), 7, move |_, _| {
        Response::redirect(302, &target)
    });
    assert_eq!(plain.connections(), 0, "not even a connection is made");
}

#[test]
fn fault_039_retry_after_on_resume() {
    for dated in [false, true] {
        let (outcome, requests) = continues(&killed(), move |request, context| {
            let now = date::now_unix();
            match (context.index, dated) {
                (0, false) => Response::empty(429).header("Retry-After", "1"),
                (0, true) => Response::empty(503)
                    .header("Date", &date::format(now))
                    .header("Retry-After", &date::format(now + 1)),
                _ => honest(request),
            }
        });
        let waited = requests[1].at.saturating_sub(requests[0].at);
        assert!(waited >= Duration::from_millis(950), "asked again after {waited:?}");
        assert!(outcome.all("retry").count() >= 1, "{outcome}");
    }
}

#[test]
fn fault_039_refusals_without_end_on_resume() {
    for status in [429, 503, 500] {
        is_given_up(&killed(), 8, move |_, _| Response::empty(status).header("Retry-After", "0"));
    }
}

#[test]
fn fault_040_connection_limit_on_resume() {
    for (limit, refusal) in [(1, Refusal::Reset), (2, Refusal::Status(503))] {
        let killed = killed();
        let (outcome, _) = killed.meets_at(
            |builder| builder.limit(limit, refusal),
            |request, _| honest(request).rate(6 * MIB),
        );
        outcome.expect(0);
        killed.sandbox.assert_published("file", &object(SIZE));
        assert!(outcome.resumed_bytes() >= STORED, "{outcome}");
    }
}

#[test]
fn fault_041_refused_at_once_on_resume() {
    for status in [401, 403, 407] {
        let killed = killed();
        let (outcome, requests) = killed.meets(move |_, _| Response::empty(status));
        outcome.expect(6);
        assert!(requests.len() <= 4, "{} requests", requests.len());
        killed.assert_continues(&object(SIZE));
    }
}

#[test]
fn fault_042_captive_portal_on_resume() {
    let page = "<html><body>Pay here</body></html>";
    continues(&killed(), move |request, context| match context.index {
        0 => Response::text(200, "text/html", page),
        _ => honest(request),
    });
    is_given_up(&killed(), 7, move |request, _| match request.path() {
        "/portal" => Response::text(200, "text/html", page),
        _ => Response::redirect(302, "/portal"),
    });
}

#[test]
fn fault_043_stalled_connections_on_resume() {
    for stalled in [&[0][..], &[0, 1, 2]] {
        continues(&killed().impatient(), move |request, context| {
            let honest = honest(request);
            if stalled.contains(&context.index) {
                honest.stall(100_000, &Gate::new())
            } else {
                honest
            }
        });
    }
}

#[test]
fn fault_043_server_that_only_stalls_on_resume() {
    is_given_up(&killed().impatient(), 4, |request, _| honest(request).stall(0, &Gate::new()));
}

#[test]
fn fault_044_crawling_connection_on_resume() {
    for crawling in [0, 1] {
        continues(&killed(), move |request, context| {
            if context.index == crawling {
                honest(request).drip(64 << 10, 1, Duration::from_millis(200))
            } else {
                honest(request)
            }
        });
    }
}

#[test]
fn fault_045_resets_on_resume() {
    for end in [End::Reset, End::Close] {
        continues(&killed(), move |request, context| match context.repeat {
            0 => honest(request).cut(900_000, end),
            _ => honest(request),
        });
    }
}

#[test]
fn fault_045_resets_without_progress_on_resume() {
    is_given_up(&killed(), 4, |request, _| honest(request).cut(0, End::Reset));
}

#[test]
fn fault_046_closed_pooled_connections_on_resume() {
    let (outcome, _) =
        continues(&killed(), |request, context| match context.request_on_connection {
            0 => honest(request),
            _ => Response::hang_up(End::Close),
        });
    assert_eq!(outcome.all("retry").count(), 0, "{outcome}");
}

#[test]
fn fault_049_tls_closed_without_close_notify_on_resume() {
    let (outcome, _) =
        continues(&Killed::over_tls(PROGRAM, &object(SIZE)), |request, _| honest(request).close());
    assert_eq!(outcome.all("retry").count(), 0, "the length decides\n{outcome}");
}

#[test]
fn fault_050_bad_certificate_on_resume() {
    let killed = Killed::over_tls(PROGRAM, &object(SIZE));
    let unknown = Authority::new().issue(&["127.0.0.1"], Validity::Current);
    let (outcome, requests) =
        killed.meets_at(|builder| builder.tls(&unknown), |request, _| honest(request));
    outcome.expect(5);
    assert_eq!(requests.len(), 0, "nothing is said to it");
    killed.assert_continues(&object(SIZE));
}

#[test]
fn fault_052_header_bomb_on_resume() {
    is_given_up(&killed(), 7, |request, _| honest(request).header("X-Bomb", &"x".repeat(1 << 20)));
}

#[test]
fn fault_054_server_restarted_on_resume() {
    // Whatever connection there is breaks, and so do the next ones for a while.
    continues(&killed(), |request, context| match context.index {
        0..=3 => honest(request).cut(300_000, End::Reset),
        4..=6 => Response::hang_up(End::Reset),
        _ => honest(request),
    });
}
