//! What is in the way for a while and then gone: a captive portal, no network.

use std::fs;

use haul_tests::harness::contains;
use haul_tests::origin::{Context, End, Throttle};
use haul_tests::prelude::*;
use serde_json::Value;

const SIZE: u64 = 16 * MIB + 4321;
const PAGE: &str = "<html><body>Please log in to the network</body></html>";

fn command(sandbox: &Sandbox, url: &str) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file"]).arg(url)
}

fn retries(running: &Running) -> Vec<Value> {
    running.events().into_iter().filter(|event| event["event"] == "retry").collect()
}

/// What a portal answers in place of the origin.
type Portal = fn(&Request, &str) -> Response;

/// The usual portals: a page at once, one without a length, a redirect to one
/// at another host.
const PORTALS: [Portal; 3] = [
    |_, _| Response::text(200, "text/html; charset=utf-8", PAGE),
    |_, _| Response::text(200, "text/html", PAGE).chunked(true),
    |_, elsewhere| Response::redirect(302, elsewhere),
];

/// An origin that answers two requests, then only by `portal` until the gate opens.
fn behind(portal: Portal, elsewhere: String, gone: &Gate) -> Origin {
    let gone = gone.clone();
    Origin::start(move |request, context| match context.index {
        _ if gone.is_open() => standard(&object(SIZE), request),
        // Together they do not bring everything.
        0 | 1 => standard(&object(SIZE), request).rate(4 * MIB).cut(4 * MIB, End::Close),
        _ => portal(request, &elsewhere),
    })
}

fn login_host() -> Origin {
    Origin::start(|_, _| Response::text(200, "text/html", PAGE))
}

#[test]
fn fault_042_captive_portal_that_goes_away() {
    for portal in PORTALS {
        let (login, gone) = (login_host(), Gate::new());
        let origin = behind(portal, login.url("/login"), &gone);
        let sandbox = Sandbox::new();
        let mut running = command(&sandbox, &origin.url("/file")).start();
        running.wait_until("it waits for the portal to go", |r| !retries(r).is_empty());
        gone.open();
        let outcome = running.finish();
        outcome.expect(0);
        sandbox.assert_published("file", &object(SIZE));
        assert_well_asked(&origin);
        assert!(!outcome.has_notice("single-stream"), "what was stored is kept\n{outcome}");
    }
}

#[test]
fn fault_042_captive_portal_that_stays() {
    for portal in PORTALS {
        let login = login_host();
        let origin = behind(portal, login.url("/login"), &Gate::new());
        let sandbox = Sandbox::new();
        let outcome = command(&sandbox, &origin.url("/file")).run();
        outcome.expect(7);
        assert_eq!(outcome.event("error")["resumable"], true, "{outcome}");
        sandbox.assert_kept("file");
        let part = fs::read(sandbox.part("file")).unwrap();
        assert!(!contains(&part, "<html>"), "the page is in the partial");
        let requests = origin.requests().len() + login.requests().len();
        assert!(requests < 100, "{requests} requests");
    }
}

#[test]
fn fault_053_network_that_comes_back_within_the_default_retries() {
    let throttle = Throttle::new(2 * MIB).crawling_after(4 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let port = origin.port();
    let sandbox = Sandbox::new();
    let mut running = haul!(sandbox, bare)
        .json()
        .args(["-x", "4", "-o", "file"])
        .arg(origin.url("/file"))
        .start();
    running.wait_until("some bytes are here", |running| running.bytes() >= 2 * MIB);
    drop(origin);
    // One, two and four seconds: the third round ends in vain, too.
    running.wait_until("it has tried several times", |running| retries(running).len() >= 4);
    let waits: Vec<f64> =
        retries(&running).iter().filter_map(|event| event["wait_s"].as_f64()).collect();
    assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "the waits grow: {waits:?}");
    let attempts: Vec<u64> =
        retries(&running).iter().filter_map(|event| event["attempt"].as_u64()).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);

    throttle.allow(4 * MIB);
    let slow =
        move |request: &Request, _: &Context| throttle.apply(standard(&object(SIZE), request));
    let origin = Origin::builder().port(port).start(slow);
    let had = running.bytes();
    running.wait_until("more bytes are here", |running| running.bytes() >= had + 2 * MIB);
    drop(origin);
    // Progress starts the count again.
    running.wait_until("it has noticed", |running| retries(running).len() >= 5);
    assert_eq!(retries(&running)[4]["attempt"], 1);

    let origin = Origin::builder().port(port).start(|request, _| standard(&object(SIZE), request));
    let outcome = running.finish();
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert!(outcome.fetched_bytes() <= SIZE + 8 * MIB, "it began again\n{outcome}");
    assert_well_asked(&origin);
}
