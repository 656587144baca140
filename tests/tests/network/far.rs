//! Servers whose answer takes its time: further connections are begun meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use haul_tests::harness::Running;
use haul_tests::origin::Gate;
use haul_tests::prelude::*;

/// An origin that holds its first answer back until the gate opens.
fn hesitating(object: &Object, gate: &Gate) -> Origin {
    let (object, gate, first) = (object.clone(), gate.clone(), AtomicBool::new(true));
    Origin::start(move |request, _| {
        if first.swap(false, Ordering::AcqRel) {
            while !gate.is_open() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        standard(&object, request)
    })
}

/// Starts a download of `path` and returns once its first request is there.
fn asked(origin: &Origin, sandbox: &Sandbox, arguments: &[&str], path: &str) -> Running {
    let running = haul!(sandbox).args(["-o", "out"]).args(arguments).arg(origin.url(path)).start();
    origin.wait_until("a request", |origin| !origin.requests().is_empty());
    running
}

#[test]
fn further_connections_are_begun_before_a_far_server_answers_and_are_used() {
    let (object, gate, sandbox) = (Object::new(1, 16 * MIB), Gate::new(), Sandbox::new());
    let origin = hesitating(&object, &gate);
    let running = asked(&origin, &sandbox, &["-x", "5"], "/film.mp4");
    origin.wait_until("four further connections", |origin| origin.connections() >= 5);
    assert_eq!(origin.requests().len(), 1, "nothing is asked over them yet");
    gate.open();
    running.finish().expect(0);
    sandbox.assert_published("out", &object);
    // The first response is cut short, which costs its connection.
    assert!(origin.connections() <= 6, "no others are made: {}", origin.connections());
}

#[test]
fn nothing_is_begun_for_what_looks_small_or_may_have_one_connection_only() {
    for (arguments, path) in [
        (&[][..], "/index.html"),
        (&["-x", "1"], "/film.mp4"),
        (&["--limit-rate", "100M"], "/film.mp4"),
        (&["--expect-size", "1024"], "/film.mp4"),
    ] {
        let (object, gate, sandbox) = (Object::new(1, 1024), Gate::new(), Sandbox::new());
        let origin = hesitating(&object, &gate);
        let running = asked(&origin, &sandbox, arguments, path);
        // Many times as long as it takes to begin them.
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(origin.connections(), 1, "{arguments:?} {path}");
        gate.open();
        running.finish().expect(0);
        sandbox.assert_published("out", &object);
        assert_eq!(origin.connections(), 1, "{arguments:?} {path}");
    }
}

#[test]
fn a_small_file_nearby_is_one_request_on_one_connection() {
    let (object, sandbox) = (Object::new(1, 1024), Sandbox::new());
    let origin = Origin::serving(&object);
    haul!(sandbox).args(["-o", "out"]).arg(origin.url("/anything")).run().expect(0);
    sandbox.assert_published("out", &object);
    assert_eq!((origin.requests().len(), origin.connections()), (1, 1));
}
