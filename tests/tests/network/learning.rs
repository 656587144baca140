//! What one run has shown of a server, and the next one starts with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use haul_tests::harness::{Outcome, Running};
use haul_tests::origin::Throttle;
use haul_tests::prelude::*;

const SIZE: u64 = 24 * MIB;

/// Lets it go on at full speed once it has found the server's limit.
fn when_limited(mut running: Running, throttle: &Throttle) -> Outcome {
    running.wait_until("the limit is found", |running| {
        running.events().iter().any(|event| event["code"] == "connection-limit")
    });
    throttle.lift();
    running.finish()
}

#[test]
fn a_servers_limit_is_told_remembered_and_not_run_into_again() {
    let object = Object::new(1, SIZE);
    let (served, throttle) = (object.clone(), Throttle::new(2 * MIB));
    let pace = throttle.clone();
    let origin = Origin::builder()
        .limit(2, Refusal::Status(503))
        .start(move |request, _| pace.apply(standard(&served, request)));
    let sandbox = Sandbox::new();
    let run = |name: &str| {
        let url = origin.url("/private/path?X-Amz-Signature=secret");
        haul!(sandbox).args(["-o", name]).arg(&url).start()
    };
    let first = when_limited(run("first"), &throttle);
    first.expect(0).expect_notice("connection-limit");
    sandbox.assert_published("first", &object);
    let hosts = sandbox.root().join("home/.local/state/haul/hosts");
    let text = fs::read_to_string(&hosts).expect("what was learned");
    assert!(text.contains(" 2 server "), "{text}");
    assert!(!text.contains("secret") && !text.contains("private"), "{text}");
    assert_eq!(fs::metadata(&hosts).unwrap().permissions().mode() & 0o777, 0o600);

    let before = origin.requests().len();
    run("second").finish().expect(0);
    sandbox.assert_only(&[("first", &object), ("second", &object)]);
    assert!(origin.requests().len() > before);
    assert!(origin.most_open() <= 2);

    fs::write(&hosts, b"\xffgarbage").unwrap();
    run("third").finish().expect(0);
    fs::remove_file(&hosts).unwrap();
    run("fourth").finish().expect(0);
    let names = ["first", "fourth", "second", "third"];
    sandbox.assert_only(&names.map(|name| (name, &object)));
}

#[test]
fn what_a_limit_of_ones_own_shows_is_not_laid_to_the_server() {
    let object = Object::new(1, SIZE);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let hosts = sandbox.root().join("home/.local/state/haul/hosts");
    let run = |name: &str, flags: &[&str]| {
        haul!(sandbox).args(["-o", name]).args(flags).arg(origin.url("/file")).run().expect(0);
    };
    run("limited", &["-r", "12M"]);
    assert!(!hosts.exists(), "{:?}", fs::read_to_string(&hosts));
    // What the server refuses is its own word all the same.
    let (served, throttle) = (object.clone(), Throttle::new(2 * MIB));
    let pace = throttle.clone();
    let refusing = Origin::builder()
        .limit(2, Refusal::Status(503))
        .start(move |request, _| pace.apply(standard(&served, request)));
    let limited = haul!(sandbox).args(["-o", "b", "-r", "12M"]).arg(refusing.url("/file"));
    when_limited(limited.start(), &throttle).expect(0);
    let text = fs::read_to_string(&hosts).expect("what was learned");
    assert!(text.contains(" 2 server "), "{text}");
}
